//! All read models are built anew while the shop is open: customers command and ask all the while, and notice nothing.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clients::Clients;
use crate::history::history;
use crate::read_models::hashes;
use crate::support::{Database, Server, soak, until_so};

/// What is asked, one after another; each of it has an answer, whenever it is asked.
const QUESTIONS: [&str; 4] = [
    "{ orders(first: 50) { totalCount nodes { id status lines { sku quantity } } } }",
    r#"{ orders: salesSummary(currency: "GBP") { totalCount: orders revenue { minor } } }"#,
    r#"{ orders(first: 1) { totalCount } topProducts(by: UNITS, currency: "GBP", first: 20) { sku units } }"#,
    r#"{ orders(first: 20) { totalCount nodes { id customer { reference } } } products(first: 20) { nodes { sku onHand } } }"#,
];

/// Asks again and again until it is over. Answers how long each question took. The number of orders never gets smaller.
async fn ask(server: Arc<Server>, is_over: Arc<AtomicBool>, mut orders: i64) -> Vec<Duration> {
    let mut took = Vec::new();
    for question in QUESTIONS.into_iter().cycle() {
        let start = Instant::now();
        let found = server.query(question, json!({}), None).await;
        took.push(start.elapsed());
        let count = found["orders"]["totalCount"].as_i64().unwrap();
        assert!(count >= orders || question == QUESTIONS[1], "{count} orders, after there were {orders}");
        // The sums are a read model of their own, and may be a moment behind.
        assert!(count > 0);
        orders = orders.max(if question == QUESTIONS[1] { 0 } else { count });
        for list in ["orders", "products"].map(|list| &found[list]["nodes"]).into_iter().chain([&found["topProducts"]])
        {
            assert!(list.is_null() || !list.as_array().unwrap().is_empty(), "an empty answer to {question}");
        }
        if is_over.load(Relaxed) {
            break;
        }
    }
    took
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[expect(clippy::print_stdout, reason = "how long it took is worth knowing")]
#[tokio::test]
async fn whoever_asks_and_commands_notices_nothing_of_a_rebuild() {
    let database = Database::create().await;
    let history = history(1_500 * soak::times());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(history.ndjson.as_bytes()).unwrap();
    database.run_well(&["import", "--json", file.path().to_str().unwrap()]).await;
    let server = Arc::new(Server::start_by_hand(&database).await);
    let at_rest = "select count(*) from control.generations
        where state = 'live' and commit_position is distinct from (select max(position) from log.events)";
    let is_at_rest = async || database.number(at_rest).await == 0;
    until_so(is_at_rest).await;
    let orders = history.expected["orders"].as_i64().unwrap();

    let clients = Arc::new(Clients::default());
    clients.urls.lock().unwrap().push(server.url.clone());
    let commanding: Vec<_> = (0..2)
        .map(|number| {
            let clients = clients.clone();
            tokio::spawn(async move { clients.command(number * 1_000_000, Duration::from_millis(25)).await })
        })
        .collect();
    let asking = |is_over: &Arc<AtomicBool>| -> Vec<_> {
        (0..3).map(|_| tokio::spawn(ask(server.clone(), is_over.clone(), orders))).collect()
    };
    let answers = async |asking: Vec<tokio::task::JoinHandle<Vec<Duration>>>, is_over: &AtomicBool| {
        is_over.store(true, Relaxed);
        let mut took = Vec::new();
        for asking in asking {
            took.extend(asking.await.unwrap());
        }
        took
    };
    // For a while as it always is.
    let is_over = Arc::new(AtomicBool::new(false));
    let before = asking(&is_over);
    let commanded = async || clients.book.lock().unwrap().commands;
    until_so(async || commanded().await > 300).await;
    let before = answers(before, &is_over).await;
    // And while everything is built anew.
    let is_over = Arc::new(AtomicBool::new(false));
    let during = asking(&is_over);
    let (start, commands) = (Instant::now(), commanded().await);
    database.run_well(&["rebuild", "--all"]).await;
    let (took, commands) = (start.elapsed(), commanded().await - commands);
    let during = answers(during, &is_over).await;
    clients.is_over.store(true, Relaxed);
    for commanding in commanding {
        commanding.await.unwrap();
    }
    assert!(commands > 0 && before.len() > 100 && during.len() > 10, "{commands}, {}, {}", before.len(), during.len());
    println!("rebuilt in {took:?}, with {commands} commands and {} answers meanwhile", during.len());
    let (before, during) = (p99(before), p99(during));
    println!(
        "99 of 100 answers within {before:?} before, {during:?} meanwhile: {:.2} times",
        during.as_secs_f64() / before.as_secs_f64()
    );

    until_so(is_at_rest).await;
    database.run_well(&["verify", "--all", "--full"]).await;
    let live = hashes(&database).await;
    database.run_well(&["rebuild", "--all"]).await;
    assert_eq!(hashes(&database).await, live);
    let found = server.query("{ orders(first: 1) { totalCount } }", json!({}), None).await;
    assert_eq!(found["orders"]["totalCount"], orders + clients.book.lock().unwrap().orders);
}
