//! Clients that do not know what became of a command send it again: after crashes, when the answer was cut off, and many at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use access::Scopes;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::clients::Clients;
use crate::support::{Database, Server, soak, token, until, until_so};

/// How often a server dies, how many answers are cut off, and how many races there are; `./soak` has more of each.
const CRASHES: usize = 20;
const CUTS: usize = 200;
const RACES: usize = 200;

/// How many race for one key at each server.
const RIVALS: usize = 3;

/// What counts of an answer: its status, the headers that say something of the command, and its bytes.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    status: u16,
    headers: Vec<Option<String>>,
    body: String,
}

impl Told {
    async fn by(response: Response) -> Self {
        let names = ["content-type", "etag", "location", "storefold-position"];
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, headers) = (response.status().as_u16(), names.map(header).into());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    /// What kind of problem it is; nothing when the command was done.
    fn problem(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        (self.status >= 300).then(|| body["type"].as_str().unwrap().to_owned())
    }
}

async fn send(server: &Server, path: &str, body: &Value, key: &str) -> Told {
    Told::by(server.command(path, body).header("Idempotency-Key", key).send().await.unwrap()).await
}

/// What is told once nobody executes it any more: a command is in the log before its key is let go.
async fn settled(server: &Server, path: &str, body: &Value, key: &str) -> Told {
    until(async || {
        let told = send(server, path, body, key).await;
        (told.problem().as_deref() != Some("/problems/in-flight")).then_some(told)
    })
    .await
}

async fn writer(database: &Database) -> Server {
    Server::start_with(database, &["--roles", "write"]).await
}

#[expect(clippy::print_stdout, reason = "how much was done is worth knowing")]
#[tokio::test]
async fn what_was_acknowledged_outlives_crashes_and_is_there_once() {
    let database = Database::create().await;
    let mut server = writer(&database).await;
    let clients = Arc::new(Clients::default());
    *clients.urls.lock().unwrap() = vec![server.url.clone()];
    let commanding: Vec<_> = (0..8)
        .map(|number| {
            let clients = clients.clone();
            tokio::spawn(async move { clients.command(number * 1_000_000, Duration::from_millis(3)).await })
        })
        .collect();
    let crashes = CRASHES * soak::times();
    for crash in 0..crashes {
        // Somewhere among the next commands.
        let further = database.log_length().await + 1 + (Uuid::new_v4().as_u128() % 97) as i64;
        until_so(async || database.log_length().await >= further).await;
        server.kill().await;
        server = writer(&database).await;
        *clients.urls.lock().unwrap() = vec![server.url.clone()];
        let is_over = crash + 1 == crashes;
        clients.is_over.store(is_over, Relaxed);
    }
    for client in commanding {
        client.await.unwrap();
    }
    // Each command of these clients leads to one event.
    let (commands, orders, received) = {
        let book = clients.book.lock().unwrap();
        (book.commands as i64, book.orders, book.received.clone())
    };
    let there = "select count(*) from log.events where type = 'OrderRecorded'";
    assert_eq!((database.log_length().await, database.number(there).await), (commands, orders));
    for (sku, units) in received {
        let (_, stock) = crate::support::status_and_json(server.get(&format!("/v1/stock/{sku}")).await).await;
        assert_eq!(stock["state"]["on_hand"], json!(units), "{sku}");
    }
    println!("{crashes} crashes, {commands} commands");
}

#[expect(clippy::print_stdout, reason = "how much was done is worth knowing")]
#[tokio::test]
async fn a_command_whose_answer_is_cut_off_is_done_once() {
    let database = Database::create().await;
    let servers = [writer(&database).await, writer(&database).await];
    let cuts = CUTS * soak::times();
    for round in 0..cuts / 8 {
        let before = database.log_length().await;
        let sent: Vec<_> = (0..8)
            .map(|n| {
                // To a new stream, or to one that is there.
                let sku = if n % 2 == 0 { format!("NEW-{round}-{n}") } else { "OLD".to_owned() };
                (format!("/v1/stock/{sku}/receive"), json!({ "quantity": 1 + n }), format!("cut-{round}-{n}"))
            })
            .collect();
        let sockets = sent.iter().map(|(path, body, key)| begin(&servers[0], path, body, key));
        let sockets = futures::future::join_all(sockets).await;
        until_so(async || database.log_length().await == before + 8).await;
        // It is done, and nobody was told.
        drop(sockets);
        for (n, (path, body, key)) in sent.iter().enumerate() {
            let first = settled(&servers[n / 2 % 2], path, body, key).await;
            let is_new = n % 2 == 0;
            assert!(first.status == if is_new { 201 } else { 200 } || (round == 0 && first.status == 201), "{first:?}");
            assert_eq!(first.headers[2].is_some(), first.status == 201, "{first:?}");
            assert_eq!(settled(&servers[1 - n / 2 % 2], path, body, key).await, first);
            let other = send(&servers[n % 2], path, &json!({ "quantity": 99 }), key).await;
            assert_eq!((other.status, other.problem().as_deref()), (422, Some("/problems/key-reused")));
        }
        assert_eq!(database.log_length().await, before + 8, "round {round}");
    }
    println!("{cuts} answers were cut off");
}

/// Sends a command and reads nothing. Answers the socket.
async fn begin(server: &Server, path: &str, body: &Value, key: &str) -> TcpStream {
    let host = server.url.strip_prefix("http://").unwrap();
    let (token, body) = (token("tests", Scopes::ALL, None), body.to_string());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Rivals for one key at two servers, with one body or with two: one of the bodies is executed, once.
#[expect(clippy::print_stdout, reason = "how much was done is worth knowing")]
#[tokio::test]
async fn races_for_one_key_at_two_servers_execute_once() {
    let database = Database::create().await;
    let servers = [writer(&database).await, writer(&database).await];
    servers[0].done("/v1/stock/OLD/receive", json!({ "quantity": 1 })).await;
    let (races, mut in_flight) = (RACES * soak::times(), 0);
    for race in 0..races {
        let before = database.log_length().await;
        let (is_new, has_two) = (race % 2 == 0, race % 4 >= 2);
        let path = if is_new { format!("/v1/stock/NEW-{race}/receive") } else { "/v1/stock/OLD/receive".to_owned() };
        let (key, path) = (&format!("race-{race}"), &path);
        let bodies = [json!({ "quantity": 1 }), json!({ "quantity": if has_two { 2 } else { 1 } })];
        let rivals = (0..2 * RIVALS).map(|n| send(&servers[n % 2], path, &bodies[n / 2 % 2], key));
        let told = futures::future::join_all(rivals).await;
        assert_eq!(database.log_length().await, before + 1, "race {race}: {told:?}");
        let done: Vec<_> = told.iter().filter(|told| told.status < 300).collect();
        assert!(!done.is_empty() && done.iter().all(|told| *told == done[0]), "race {race}: {told:?}");
        assert_eq!(done[0].status, if is_new { 201 } else { 200 });
        for problem in told.iter().filter_map(|told| told.problem().map(|problem| (told.status, problem))) {
            match (problem.0, problem.1.as_str()) {
                (409, "/problems/in-flight") => in_flight += 1,
                (422, "/problems/key-reused") if has_two => {}
                other => panic!("race {race}: {other:?}"),
            }
        }
        // What was executed is answered so by both, and the other body is refused by both.
        let mut again = Vec::new();
        for server in &servers {
            for body in &bodies {
                again.push(send(server, path, body, key).await);
            }
        }
        let reused = again.iter().filter(|told| told.problem().as_deref() == Some("/problems/key-reused")).count();
        let first = again.iter().filter(|told| *told == done[0]).count();
        assert_eq!((first, reused), if has_two { (2, 2) } else { (4, 0) }, "race {race}: {again:?}");
    }
    assert!(in_flight > 0, "nobody ever met another");
    println!("{races} races, {in_flight} times in flight");
}

/// A refusal leaves nothing behind: sent again, the command is decided on what is then there.
#[tokio::test]
async fn a_refused_command_is_decided_again() {
    let database = Database::create().await;
    let servers = [writer(&database).await, writer(&database).await];
    let order = Uuid::now_v7();
    let (path, body) = ("/v1/stock/A/ship", json!({ "order": order }));
    for server in [&servers[0], &servers[1], &servers[0]] {
        let refused = send(server, path, &body, "ship").await;
        assert_eq!((refused.status, refused.problem().as_deref()), (422, Some("/problems/stock/no-reservation")));
    }
    assert_eq!(database.log_length().await, 0);
    servers[0].done("/v1/stock/A/receive", json!({ "quantity": 3 })).await;
    servers[0].done("/v1/stock/A/reserve", json!({ "order": order, "quantity": 2 })).await;
    let shipped = send(&servers[1], path, &body, "ship").await;
    assert_eq!(shipped.status, 200);
    // From then on it is done, though nothing is reserved any more.
    assert_eq!(send(&servers[0], path, &body, "ship").await, shipped);
    // Who wants a refusal to stand says which revision it is about.
    let stale = servers[0].command(path, &body).header("Idempotency-Key", "other").header("If-Match", "\"1\"");
    assert_eq!(stale.send().await.unwrap().status(), 412);
}
