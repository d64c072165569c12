//! More is asked than can be done: what is let in is served, the rest is told to come again, and memory stays within the bound
//! of docs/limits.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;

use crate::hostile::percentile;
use crate::support::{Database, Server, soak};

/// How many clients keep the server as busy as it can be.
const BUSY: usize = 64;
/// How many times as many come then.
const TIMES: usize = 10;
/// How long each takes. `./soak` makes it a minute.
const LASTS: Duration = Duration::from_secs(6);

/// What was answered.
#[derive(Default)]
struct Answered {
    done: AtomicUsize,
    turned_away: AtomicUsize,
    /// Numbers the aggregates, so that each command is the first of its own.
    next: AtomicUsize,
}

/// So many clients send commands and queries for so long, each the next one as soon as it has an answer. Answers how long
/// those took that were let in.
async fn load(server: &Arc<Server>, clients: usize, lasts: Duration, answered: &Arc<Answered>) -> Vec<Duration> {
    let until = Instant::now() + lasts;
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (server, answered) = (server.clone(), answered.clone());
        all.spawn(async move {
            let client = server.client.clone();
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                if ask(&client, &server.url, &answered).await {
                    took.push(begun.elapsed());
                }
            }
            took
        });
    }
    let mut took = Vec::new();
    while let Some(some) = all.join_next().await {
        took.extend(some.unwrap());
    }
    took
}

/// Whether a request was let in. It is done then, or else told when to come again.
async fn ask(client: &Client, url: &str, answered: &Answered) -> bool {
    let number = answered.next.fetch_add(1, Relaxed);
    let is_command = !number.is_multiple_of(4);
    let request = match is_command {
        true => client.post(format!("{url}/v1/stock/S-{number}/receive")).json(&json!({ "quantity": 1 })),
        false => {
            client.post(format!("{url}/graphql")).json(&json!({ "query": "{ products(first: 20) { nodes { sku } } }" }))
        }
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let retry = answer.headers().get("retry-after").cloned();
    answer.bytes().await.unwrap();
    match status {
        503 => {
            assert_eq!(retry.unwrap(), "1");
            answered.turned_away.fetch_add(1, Relaxed);
            false
        }
        200 | 201 => {
            answered.done.fetch_add(usize::from(is_command), Relaxed);
            true
        }
        _ => panic!("{status}"),
    }
}

/// A figure of the server's process, by the name that the system gives it.
fn figure(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The most memory that a server has had, in bytes.
fn peak(server: &Server) -> u64 {
    figure(server, "VmHWM") * 1024
}

/// Whoever touches a huge page first waits until it is cleared, and with it every command of its thread.
#[tokio::test]
async fn no_command_waits_for_a_huge_page() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    assert_eq!(figure(&server, "THP_enabled"), 0);
}

/// The bound that the page states, for the defaults.
fn bound() -> u64 {
    let page = crate::docs::page("limits.md");
    assert!(page.contains(
        "> 256 MiB + `cache_bytes` + `http.body_memory` + `http.connections` × 16 KiB + `http.in_flight` × 64 KiB"
    ));
    let bound = (256 << 20) + 33_554_432 + 67_108_864 + 10_000 * (16 << 10) + 2_048 * (64 << 10);
    assert!(page.contains(&format!("which is {} MiB with the defaults", bound >> 20)), "{}", bound >> 20);
    bound
}

/// That those who are let in hardly notice is a target and printed. That nothing is lost, that memory stays within what the
/// page says, and that the server is its old self afterwards, is what the test holds the server to.
#[expect(clippy::print_stdout, reason = "how fast those were served that were let in is worth knowing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_in_bulk_is_shed_within_the_stated_memory() {
    let database = Database::create().await;
    let server = Arc::new(Server::start(&database).await);
    let lasts = LASTS * soak::times() as u32;
    let answered = Arc::new(Answered::default());
    load(&server, BUSY, LASTS / 3, &answered).await;
    let mut usual = load(&server, BUSY, LASTS, &answered).await;
    let before = answered.turned_away.load(Relaxed);
    let mut under = load(&server, BUSY * TIMES, lasts, &answered).await;
    let turned_away = answered.turned_away.load(Relaxed) - before;
    let [usually, then] = [&mut usual, &mut under].map(|took| percentile(took, 99));
    println!(
        "{BUSY} clients: {} a second, p99 {usually:?}; {}: {} a second, p99 {then:?}, {:.2} times, {turned_away} sent away; \
         at most {} MiB of {}",
        usual.len() as u64 / LASTS.as_secs(),
        BUSY * TIMES,
        under.len() as u64 / lasts.as_secs(),
        then.as_secs_f64() / usually.as_secs_f64(),
        peak(&server) >> 20,
        bound() >> 20,
    );
    assert!(turned_away > 0, "that was no overload");
    assert!(peak(&server) < bound(), "{} MiB", peak(&server) >> 20);

    // Whatever was said to be done was done, and nothing else was.
    assert_eq!(database.log_length().await, answered.done.load(Relaxed) as i64);
    let after = join_all((0..BUSY).map(|_| ask(&server.client, &server.url, &answered))).await;
    assert!(after.into_iter().all(|let_in| let_in), "the overload is over");
}
