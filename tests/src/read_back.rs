//! What a shop tells of its aggregates: what a command would do, their history in pages of either direction, and as it goes on.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Dice, Server, soak, status_and_json, until_so};

async fn writer(database: &Database) -> Server {
    Server::start_with(database, &["--roles", "write"]).await
}

/// How many commands are tried out and then sent.
const TRIED: usize = 300;

/// A command that may do something, do nothing, be refused, or be none.
fn any_command(dice: &mut Dice, orders: &[Uuid]) -> (String, Value) {
    let order = orders[dice.roll(orders.len() as u64) as usize];
    let (sku, quantity) = (format!("S{}", dice.roll(3)), dice.roll(6));
    let price = json!({ "minor": dice.roll(4), "currency": if dice.roll(6) == 0 { "EUR" } else { "GBP" } });
    let reason = json!({ "reason": "a test" });
    let cart = json!({
        "country": "EIRE", "currency": "GBP", "card": "tok", "placed_at": "2026-01-01T08:00:00Z",
        "lines": [{ "sku": sku, "quantity": quantity }],
    });
    let (category, id, command, body) = match dice.roll(13) {
        0 => ("product", sku, "list", json!({ "name": "Tea", "price": price })),
        1 => ("product", sku, "change-price", json!({ "price": price })),
        2 => ("product", sku, "discontinue", reason),
        3 => ("product", sku, "relist", json!({})),
        4 | 5 => ("stock", sku, "receive", json!({ "quantity": quantity })),
        6 => ("stock", sku, "adjust", json!({ "counted": quantity, "reason": "a count" })),
        7 => ("stock", sku, "reserve", json!({ "order": order, "quantity": quantity + 1 })),
        8 => ("stock", sku, "release", json!({ "order": order })),
        9 => ("stock", sku, "ship", json!({ "order": order })),
        10 | 11 => ("order", order.to_string(), "place", cart),
        _ => ("order", order.to_string(), "cancel", reason),
    };
    (format!("/v1/{category}/{id}/{command}"), body)
}

#[tokio::test]
async fn what_is_explained_is_what_then_happens() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let mut dice = Dice(soak::seed());
    let orders: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..TRIED * soak::times() {
        let (path, body) = any_command(&mut dice, &orders);
        // Keys come again, with the same command or another; revisions are right now and then.
        let key = format!("k{}", dice.roll(40));
        let revision = (dice.roll(3) == 0).then(|| format!("\"{}\"", dice.roll(4)));
        let send = async |path: &str| {
            let mut request = server.command(path, &body);
            if key.len() > 2 {
                request = request.header("Idempotency-Key", &key);
            }
            if let Some(revision) = &revision {
                request = request.header("If-Match", revision);
            }
            status_and_json(request.send().await.unwrap()).await
        };
        let head = database.log_length().await;
        let (status, explained) = send(&format!("{path}/explain")).await;
        assert_eq!(database.log_length().await, head, "{path} {body}: it was to be explained");
        let (done, answer) = send(&path).await;
        let shown = format!("{path} {body} {key} {revision:?}: {explained} {answer}");
        if status != 200 {
            // It is no command at all.
            assert_eq!((status, &explained), (done, &answer), "{shown}");
            *seen.entry(format!("{status}")).or_default() += 1;
            continue;
        }
        assert_eq!(explained["status"], json!(done), "{shown}");
        let outcome = explained["outcome"].as_str().unwrap();
        *seen.entry(outcome.to_owned()).or_default() += 1;
        let stream = format!("{}-{}", path.split('/').nth(2).unwrap(), path.split('/').nth(3).unwrap());
        assert_eq!(explained["stream"], json!(stream));
        match outcome {
            "refused" => assert_eq!(explained["problem"], answer, "{shown}"),
            "already-done" => assert_eq!(explained["answer"], answer, "{shown}"),
            "nothing-to-do" => {
                assert_eq!((&answer["events"], &explained["events"]), (&json!([]), &json!([])), "{shown}");
                assert_eq!(explained["revision"], answer["revision"], "{shown}");
            }
            "would-happen" => {
                let first = answer["events"][0]["revision"].as_u64().unwrap();
                let base = path.rsplit_once('/').unwrap().0;
                let (_, page) = status_and_json(server.get(&format!("{base}/events?from={first}")).await).await;
                let happened: Vec<Value> = page["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| {
                        json!({
                            "type": event["type"], "schema": event["metadata"]["schema"], "revision": event["revision"],
                            "data": event["data"],
                        })
                    })
                    .collect();
                assert_eq!(explained["events"], json!(happened), "{shown}");
                assert_eq!(explained["revision"].as_u64(), first.checked_sub(1), "{shown}");
            }
            other => panic!("{other}: {shown}"),
        }
    }
    let outcomes: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(outcomes, ["400", "already-done", "nothing-to-do", "refused", "would-happen"], "{seen:?}");
}

#[tokio::test]
async fn a_history_is_read_in_pages_from_either_end() {
    let database = Database::create().await;
    let server = writer(&database).await;
    for quantity in 1..=7 {
        server.done("/v1/stock/A/receive", json!({ "quantity": quantity })).await;
    }
    let walk = async |query: &str| {
        let (mut pages, mut next) = (Vec::new(), Some(format!("/v1/stock/A/events?{query}")));
        while let Some(path) = next {
            let (status, page) = status_and_json(server.get(&path).await).await;
            assert_eq!(status, 200, "{path}: {page}");
            let revisions = page["events"].as_array().unwrap().iter().map(|event| event["revision"].as_u64().unwrap());
            pages.push(revisions.collect::<Vec<_>>());
            next = page["next"].as_str().map(ToOwned::to_owned);
        }
        pages
    };
    assert_eq!(walk("limit=3").await, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    assert_eq!(walk("limit=7").await, [vec![0, 1, 2, 3, 4, 5, 6]]);
    assert_eq!(walk("from=5").await, [vec![5, 6]]);
    assert_eq!(walk("from=7").await, [Vec::<u64>::new()]);
    assert_eq!(walk("direction=backwards&limit=3").await, [vec![6, 5, 4], vec![3, 2, 1], vec![0]]);
    assert_eq!(walk("direction=backwards&limit=7").await, [vec![6, 5, 4, 3, 2, 1, 0]]);
    assert_eq!(walk("direction=backwards&from=1").await, [vec![1, 0]]);
    for (query, status) in [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("direction=sideways", 400),
        ("from=-1", 400),
        ("page=2", 400),
        ("follow&limit=1", 400),
        ("follow=perhaps", 400),
        ("follow=false", 200),
    ] {
        assert_eq!(server.get(&format!("/v1/stock/A/events?{query}")).await.status(), status, "{query}");
    }
    for query in ["", "?direction=backwards"] {
        assert_eq!(server.get(&format!("/v1/stock/NONE/events{query}")).await.status(), 404, "{query}");
    }
}

/// What is followed.
struct Followed {
    chunks: futures::stream::BoxStream<'static, Vec<u8>>,
    text: String,
}

impl Followed {
    async fn of(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut request = server.client.get(format!("{}{path}", server.url));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response: Response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        let chunks = response.bytes_stream().map(|chunk| chunk.unwrap_or_default().to_vec()).boxed();
        Self { chunks, text: String::new() }
    }

    /// The next event: its id, its name and its data; `None` when it has ended.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event == ":" {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                return Some((field("id: "), field("event: "), serde_json::from_str(&field("data: ")).unwrap()));
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.chunks.next()).await;
            self.text.push_str(std::str::from_utf8(&chunk.expect("nothing comes")?).unwrap());
        }
    }

    async fn revisions(&mut self, count: u64) -> Vec<u64> {
        let mut revisions = Vec::new();
        for _ in 0..count {
            let (id, name, data) = self.next().await.expect("it ended");
            assert_eq!((name.as_str(), data["type"].as_str()), ("StockReceived", Some("StockReceived")));
            assert_eq!(data["revision"].to_string(), id);
            revisions.push(id.parse().unwrap());
        }
        revisions
    }
}

#[tokio::test]
async fn each_event_is_seen_once_also_when_the_connection_breaks() {
    let database = Database::create().await;
    let (server, other) = (writer(&database).await, writer(&database).await);
    let receive = async |server: &Server, sku: &str, times: usize| {
        for _ in 0..times {
            server.done(&format!("/v1/stock/{sku}/receive"), json!({ "quantity": 1 })).await;
        }
    };
    let path = "/v1/stock/A/events?follow";
    // Also of what has not begun.
    let mut first = Followed::of(&server, path, None).await;
    receive(&server, "A", 3).await;
    receive(&server, "B", 3).await;
    assert_eq!(first.revisions(3).await, [0, 1, 2]);
    // What another process has appended is told too.
    receive(&other, "A", 2).await;
    assert_eq!(first.revisions(2).await, [3, 4]);
    let mut late = Followed::of(&server, "/v1/stock/A/events?follow=true&from=3", None).await;
    assert_eq!(late.revisions(2).await, [3, 4]);
    drop(first);
    receive(&other, "A", 2).await;
    // The last one that was seen wins over what the address says, as browsers come again.
    let mut again = Followed::of(&other, path, Some("4")).await;
    receive(&server, "A", 1).await;
    assert_eq!(again.revisions(3).await, [5, 6, 7]);
    assert_eq!(late.revisions(3).await, [5, 6, 7]);
    // Cut off and resumed again and again while somebody writes.
    let writing = receive(&server, "A", 200);
    let reading = async {
        let (mut seen, mut last) = (Vec::new(), "7".to_owned());
        while seen.len() < 200 {
            let mut followed = Followed::of(&other, path, Some(&last)).await;
            for _ in 0..(200 - seen.len()).min(13) {
                let (id, ..) = followed.next().await.expect("it ended");
                seen.push(id.parse::<u64>().unwrap());
                last = id;
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_eq!(seen, (8..208).collect::<Vec<_>>());
    let wrong = server.client.get(format!("{}{path}", server.url)).header("Last-Event-ID", "x").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn what_is_followed_ends_when_the_server_stops() {
    let database = Database::create().await;
    let server = writer(&database).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    let mut followed = Followed::of(&server, "/v1/stock/A/events?follow", None).await;
    assert_eq!(followed.revisions(1).await, [0]);
    let stopped = tokio::spawn(server.stop());
    assert_eq!(followed.next().await, None);
    assert!(stopped.await.unwrap().success());
}

/// Many who do not read, and one who does.
#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let path = "/v1/stock/A/events?follow";
    let mut deaf = Vec::new();
    for _ in 0..50 {
        deaf.push(server.get(path).await);
    }
    let mut followed = Followed::of(&server, path, None).await;
    let before = server.memory();
    let receive = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 }));
    // So many at once may be too much for a busy machine; who is told so has done nothing.
    let sent = (0..300).map(|_| until_so(async || receive.try_clone().unwrap().send().await.unwrap().status() != 503));
    futures::future::join_all(sent).await;
    assert_eq!(followed.revisions(300).await, (0..300).collect::<Vec<_>>());
    assert!(server.memory().saturating_sub(before) < 64 << 20);
    drop(deaf);
    until_so(async || server.get("/readyz").await.status() == 200).await;
}
