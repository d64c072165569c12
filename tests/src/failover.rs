//! Projectors whose leader dies in the middle of its work, or loses its sessions: another one leads soon, and every event
//! counts once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clients::Clients;
use crate::support::{Database, Server, soak, until, until_so};

/// How many leaders die; `./soak` has more of them die.
const DEATHS: usize = 10;

/// How many read models there are that are followed up to a position at least.
const AS_FAR_AS: &str = "select count(*) from control.generations where state = 'live' and commit_position >= $1";

/// Waits until one program leads every projector: the one that is left.
async fn one_leads(database: &Database) {
    let led = "select count(*) filter (where leads_until > clock_timestamp()) * (count(distinct leader) = 1)::int
          from control.leases";
    until_so(async || database.number(led).await == 9).await;
}

async fn head(database: &Database) -> i64 {
    database.number("select coalesce(max(position), -1) from log.events").await
}

/// How long it takes from now on until every read model has something that comes after now.
async fn takeover(database: &Database) -> Duration {
    let (start, before) = (Instant::now(), head(database).await);
    let later = until(async || Some(head(database).await).filter(|head| *head > before)).await;
    until_so(async || {
        let count: i64 = sqlx::query_scalar(AS_FAR_AS).bind(later).fetch_one(&database.pool).await.unwrap();
        count == 9
    })
    .await;
    start.elapsed()
}

#[expect(clippy::print_stdout, reason = "how long it took is worth knowing")]
#[tokio::test]
async fn another_process_leads_soon_and_every_event_counts_once() {
    let database = Database::create().await;
    let mut leader = Server::start_by_hand(&database).await;
    let clients = Arc::new(Clients::default());
    clients.urls.lock().unwrap().push(leader.url.clone());
    let commanding: Vec<_> = (0..4)
        .map(|number| {
            let clients = clients.clone();
            tokio::spawn(async move { clients.command(number * 1_000_000, Duration::from_millis(10)).await })
        })
        .collect();
    let mut took = Vec::new();
    for death in 0..DEATHS * soak::times() {
        one_leads(&database).await;
        let standby = Server::start_by_hand(&database).await;
        clients.urls.lock().unwrap().push(standby.url.clone());
        if death % 2 == 0 {
            leader.kill().await;
            clients.urls.lock().unwrap().remove(0);
            took.push(takeover(&database).await);
        } else {
            let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()
                  and application_name in ('storefold leases', 'storefold projections')";
            assert!(database.number(end).await > 1, "there were no sessions to end");
            took.push(takeover(&database).await);
            // Either may lead now. The new one goes on alone.
            clients.urls.lock().unwrap().remove(0);
            assert!(leader.stop().await.success());
        }
        leader = standby;
    }
    clients.is_over.store(true, Relaxed);
    for commanding in commanding {
        commanding.await.unwrap();
    }
    println!("took over within {took:?}");
    assert!(took.iter().all(|took| *took < Duration::from_secs(10)), "{took:?}");

    let last = head(&database).await;
    until_so(async || {
        let count: i64 = sqlx::query_scalar(AS_FAR_AS).bind(last).fetch_one(&database.pool).await.unwrap();
        count == 9
    })
    .await;
    let printed = database.run_well(&["verify", "--all", "--full", "--json"]).await;
    assert_eq!(printed.lines().count(), 9, "{printed}");
    // Nothing that was acknowledged is lost, and nothing is there twice.
    let found =
        leader.query("{ orders { totalCount } products(first: 20) { nodes { sku onHand } } }", json!({}), None).await;
    let book = clients.book.lock().unwrap();
    println!("{} commands", book.commands);
    assert!(book.commands > 100 && found["orders"]["totalCount"] == book.orders, "{} orders: {found}", book.orders);
    let products = found["products"]["nodes"].as_array().unwrap().iter();
    let on_hand =
        products.map(|product| (product["sku"].as_str().unwrap().to_owned(), product["onHand"].as_i64().unwrap()));
    assert_eq!(on_hand.collect::<BTreeMap<_, _>>(), book.received);
}
