//! What clients may take of the server, and what they are told: docs/limits.md, over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::Scopes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Database, Server, client, status_and_json, token, until, until_so};

/// A position that no log has come to.
const NEVER: &str = "9000000000000000/9000000000000000";

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.split_once("://").unwrap().1).await.unwrap()
}

/// The head of a command with a body of so many bytes.
fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n",
        token("tests", Scopes::ALL, None)
    )
}

/// What a server says until it closes the connection.
async fn last_words(mut stream: TcpStream) -> String {
    let mut words = Vec::new();
    // It may close it with what it has not read, and then the connection is reset.
    let _ = stream.read_to_end(&mut words).await;
    String::from_utf8_lossy(&words).into_owned()
}

/// Each of these would be a place that is lost for good. Each ends, and the server says so where there is somebody to say it to.
#[tokio::test]
async fn whoever_is_slow_is_let_go() {
    let database = Database::create().await;
    let second = |name: &'static str| (name, "1");
    let settings = [
        second("STOREFOLD_HTTP_HEADER_TIMEOUT"),
        second("STOREFOLD_HTTP_IDLE_TIMEOUT"),
        second("STOREFOLD_HTTP_BODY_TIMEOUT"),
        second("STOREFOLD_HTTP_WRITE_TIMEOUT"),
    ];
    let server = Server::start_as(&database, &[], &settings).await;

    // Answered when its head would have had to be there: from then on it is idle as any other.
    let mut patient = connect(&server).await;
    let query = json!({ "query": "{ products(first: 1) { nodes { sku } } }" }).to_string();
    let waits = format!("\r\nStorefold-After: {NEVER}\r\nStorefold-Wait: 2000\r\n\r\n{query}");
    patient.write_all((head("/graphql", query.len()).trim_end().to_owned() + &waits).as_bytes()).await.unwrap();

    let silent = connect(&server).await;
    assert_eq!(last_words(silent).await, "");

    let mut half = connect(&server).await;
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.unwrap();
    assert_eq!(last_words(half).await, "");

    let mut idle = connect(&server).await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let words = last_words(idle).await;
    assert!(words.starts_with("HTTP/1.1 200 ") && words.ends_with("alive\n"), "{words}");
    let words = last_words(patient).await;
    assert!(words.starts_with("HTTP/1.1 200 ") && words.contains("errors"), "{words}");

    for path in ["/v1/stock/A/receive", "/graphql"] {
        let mut stuck = connect(&server).await;
        stuck.write_all(format!("{}{{\"quan", head(path, 100)).as_bytes()).await.unwrap();
        let words = last_words(stuck).await;
        assert!(words.starts_with("HTTP/1.1 408 ") && words.contains("/problems/body-too-slow"), "{path}: {words}");
    }

    // A byte now and then is no better.
    let (mut from, mut to) = connect(&server).await.into_split();
    to.write_all(head("/v1/stock/A/receive", 1_000_000).as_bytes()).await.unwrap();
    let trickle = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while to.write_all(b" ").await.is_ok() {
            ticks.tick().await;
        }
    });
    let mut first = [0; 12];
    from.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    trickle.await.unwrap();
    assert_eq!(database.log_length().await, 0);
}

/// How many sockets a server has open.
fn sockets(server: &Server) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.child.id().unwrap())).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[tokio::test]
async fn whoever_reads_no_answer_is_let_go() {
    let database = Database::create().await;
    let server = Server::start_as(&database, &[], &[("STOREFOLD_HTTP_WRITE_TIMEOUT", "1")]).await;
    let mut deaf = connect(&server).await;
    // More than the buffers of both sides hold, in one answer after the other.
    let ask = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
    deaf.write_all(ask.as_bytes()).await.unwrap();
    let port = deaf.local_addr().unwrap().port();
    until_so(async || !is_connected(&server, port)).await;
    assert!(sockets(&server) > 0, "others are served");
    let answers = last_words(deaf).await.matches("HTTP/1.1 200 OK").count();
    assert!((1..500).contains(&answers), "{answers}");
}

/// Whoever follows something and leaves it unread holds up nobody but itself, and not for long.
#[tokio::test]
async fn whoever_follows_and_reads_nothing_is_let_go() {
    const DESCRIBED: usize = 2_000;
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_WRITE_TIMEOUT", "1")];
    let server = Server::start_as(&database, &["--roles", "write"], &settings).await;
    // More than the buffers of both sides hold.
    let price = json!({ "minor": 250, "currency": "GBP" });
    let list = json!({ "stream": "product-A", "command": "list", "data": { "name": "Tea", "price": price } });
    let describe = |number: usize| {
        let data = json!({ "description": format!("{number:04000}") });
        json!({ "stream": "product-A", "command": "describe", "data": data })
    };
    let lines = std::iter::once(list).chain((0..DESCRIBED).map(describe)).map(|line| format!("{line}\n"));
    let request = server.client.post(format!("{}/v1/commands", server.url));
    let request = request.header("Content-Type", "application/x-ndjson").body(lines.collect::<String>());
    request.send().await.unwrap().text().await.unwrap();
    assert_eq!(database.log_length().await, DESCRIBED as i64 + 1);

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut deaf = socket.connect(address(&server)).await.unwrap();
    let ask = head("/v1/product/A/events?follow&from=0", 0).replacen("POST", "GET", 1);
    deaf.write_all(ask.as_bytes()).await.unwrap();
    let port = deaf.local_addr().unwrap().port();
    until_so(async || is_connected(&server, port)).await;
    until_so(async || !is_connected(&server, port)).await;
    assert_eq!(server.get("/v1/product/A").await.status(), 200, "others are served");
    let words = last_words(deaf).await;
    assert!(words.starts_with("HTTP/1.1 200 ") && words.contains("text/event-stream"), "{:.200}", words);
    let events = words.matches("event: ProductDescribed").count();
    assert!((1..DESCRIBED).contains(&events), "{events}");
}

/// A client that is let in, asks when it is told to, and stays.
struct Guest(TcpStream);

impl Guest {
    /// One who comes from an address of this machine, and waits for its place.
    async fn from(peer: [u8; 4], server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((peer, 0))).unwrap();
        Self(socket.connect(address(server)).await.unwrap())
    }

    async fn ask(&mut self, path: &str) {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    }

    /// Whether it is answered that the server lives; `false` when the connection ends instead.
    async fn is_answered(&mut self) -> bool {
        let mut words = Vec::new();
        while !words.ends_with(b"alive\n") {
            let mut chunk = [0; 1024];
            match self.0.read(&mut chunk).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => words.extend(&chunk[..count]),
            }
        }
        true
    }

    async fn lives(&mut self) -> bool {
        self.ask("/livez").await;
        self.is_answered().await
    }

    /// Whether nothing has come.
    fn has_heard_nothing(&self) -> bool {
        self.0.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

const HERE: [u8; 4] = [127, 0, 0, 1];

#[tokio::test]
async fn who_finds_no_place_waits_until_one_is_free() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_CONNECTIONS", "3"), ("STOREFOLD_HTTP_PEER_CONNECTIONS", "3")];
    let server = Server::start_as(&database, &["--roles", "write,read"], &settings).await;
    let (mut first, mut second) = (Guest::from(HERE, &server).await, Guest::from(HERE, &server).await);
    assert!(first.lives().await && second.lives().await);
    // A connection that was handed over for a WebSocket has its place as well.
    let mut third = Guest::from(HERE, &server).await;
    let upgrade = "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: graphql-transport-ws\r\n";
    let upgrade = format!("{upgrade}Authorization: Bearer {}\r\n\r\n", token("tests", Scopes::ALL, None));
    third.0.write_all(upgrade.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    third.0.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");

    let mut fourth = Guest::from(HERE, &server).await;
    fourth.ask("/livez").await;
    for _ in 0..50 {
        assert!(first.lives().await && second.lives().await);
    }
    assert!(fourth.has_heard_nothing());
    drop(third);
    assert!(fourth.is_answered().await);
    let mut fifth = Guest::from(HERE, &server).await;
    fifth.ask("/livez").await;
    for _ in 0..50 {
        assert!(first.lives().await && fourth.lives().await);
    }
    assert!(fifth.has_heard_nothing());
    drop(second);
    assert!(fifth.is_answered().await);
}

#[tokio::test]
async fn one_peer_has_so_many_connections_and_a_trusted_proxy_any_number() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_PEER_CONNECTIONS", "2"), ("STOREFOLD_HTTP_TRUSTED_PROXIES", "127.0.0.3")];
    let server = Server::start_as(&database, &["--roles", "write"], &settings).await;
    let (mut first, mut second) = (Guest::from(HERE, &server).await, Guest::from(HERE, &server).await);
    assert!(first.lives().await && second.lives().await);
    for _ in 0..3 {
        let third = Guest::from(HERE, &server).await;
        assert_eq!(last_words(third.0).await, "", "it was closed at once");
    }
    assert!(first.lives().await && second.lives().await);
    // From elsewhere one comes in all the same.
    let mut other = Guest::from([127, 0, 0, 2], &server).await;
    assert!(other.lives().await);
    let mut proxied = Vec::new();
    for _ in 0..10 {
        let mut one = Guest::from([127, 0, 0, 3], &server).await;
        assert!(one.lives().await);
        proxied.push(one);
    }
    let ask = head("/metrics", 0).replacen("POST", "GET", 1).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    other.0.write_all(ask.as_bytes()).await.unwrap();
    let figures = last_words(other.0).await;
    assert!(figures.contains("\nhttp_connections_turned_away_total 3\n"), "{figures}");
    drop(first);
    until_so(async || Guest::from(HERE, &server).await.lives().await).await;
}

/// Whoever is on this machine, and whomever a proxy on it brings, is nobody in particular to the sandbox's gateway. The shop is.
#[tokio::test]
async fn the_shop_alone_asks_its_own_gateway_as_often_as_it_likes() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_RATE_LIMIT", "4"), ("STOREFOLD_HTTP_RATE_WINDOW", "3600")];
    let server = Server::start_as(&database, &["--fulfil"], &settings).await;
    let payments = format!("{}/sandbox/gateway/payments", server.url);
    let nobody = Client::new();
    for status in [401, 401, 401, 401, 429, 429] {
        assert_eq!(nobody.post(&payments).body("{}").send().await.unwrap().status(), status);
    }
    let price = json!({ "minor": 250, "currency": "GBP" });
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": price })).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 9 })).await;
    let order = uuid::Uuid::now_v7();
    let cart = json!({ "country": "France", "currency": "GBP", "card": "tok_approved",
        "lines": [{ "sku": "A", "quantity": 2 }] });
    server.done(&format!("/v1/order/{order}/place"), cart).await;
    // Authorised and captured, from the address that has sent as much as it may.
    let captured = "select count(*) from log.events where type = 'PaymentCaptured'";
    until_so(async || database.number(captured).await == 1).await;
    assert_eq!(nobody.post(&payments).body("{}").send().await.unwrap().status(), 429);
}

fn address(server: &Server) -> SocketAddr {
    server.url.split_once("://").unwrap().1.parse().unwrap()
}

/// Whether the server still has the connection from a port of this machine.
fn is_connected(server: &Server, from: u16) -> bool {
    let ends = [address(server).port(), from].map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // 01: established.
        columns[1].ends_with(&ends[0]) && columns[2].ends_with(&ends[1]) && columns[3] == "01"
    })
}

#[tokio::test]
async fn heads_and_bodies_have_their_limits_everywhere() {
    let database = Database::create().await;
    let server = Server::start_as(&database, &[], &[("STOREFOLD_HTTP_HEADER_LIMIT", "8192")]).await;
    let large = server.client.get(format!("{}/livez", server.url)).header("X-Large", "x".repeat(20_000));
    assert_eq!(large.send().await.unwrap().status(), 431);
    for path in ["/v1/stock/A/receive", "/graphql"] {
        let post = || server.client.post(format!("{}{path}", server.url)).header("Content-Type", "application/json");
        for encoding in ["gzip", "br", "identity, gzip", "x"] {
            let sent = post().header("Content-Encoding", encoding).body("{}").send().await.unwrap();
            assert_eq!(sent.headers()["accept-encoding"], "identity", "{path} {encoding}");
            let (status, problem) = status_and_json(sent).await;
            assert_eq!(
                (status, &problem["type"]),
                (415, &json!("/problems/unsupported-content-encoding")),
                "{path} {encoding}"
            );
        }
        let (status, _) = status_and_json(post().body("x".repeat(2 << 20)).send().await.unwrap()).await;
        assert_eq!(status, 413, "{path}");
    }
    assert_eq!(database.log_length().await, 0);
}

/// Proxies and caches tell shops by their hosts, and bodies apart by their encodings: what two of them could read in two ways is
/// read by nobody.
#[tokio::test]
async fn what_http_forbids_is_refused() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let command = |headers: &str| {
        let token = token("tests", Scopes::ALL, None);
        format!(
            "POST /v1/stock/A/receive HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{headers}\r\n"
        )
    };
    let body = "f\r\n{\"quantity\": 1}\r\n0\r\n\r\n";
    for (request, status, kind) in [
        ("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 400, "/problems/no-host"),
        (command("Transfer-Encoding: chunked\r\n") + body, 400, "/problems/no-host"),
        (command("Host: a\r\nHost: b\r\nTransfer-Encoding: chunked\r\n") + body, 400, "/problems/no-host"),
        (
            command("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n") + body,
            501,
            "/problems/unsupported-transfer-encoding",
        ),
        (
            command("Host: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n") + body,
            501,
            "/problems/unsupported-transfer-encoding",
        ),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), 200, ""),
        (command("Host: a\r\nTransfer-Encoding: Chunked\r\n") + body, 201, "\"position\""),
    ] {
        let mut stream = connect(&server).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = last_words(stream).await;
        assert_eq!(answer.get(9..12), Some(status.to_string().as_str()), "{request}\n{answer}");
        assert!(answer.contains(kind), "{request}\n{answer}");
    }
    assert_eq!(database.log_length().await, 1);
}

fn is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

#[tokio::test]
async fn every_answer_says_what_may_be_done_with_it() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    for (path, status, keep) in [
        ("/livez", 200, "no-store"),
        ("/openapi.json", 200, "no-store"),
        ("/v1/stock/A", 200, "private, no-cache"),
        ("/v1/stock/B", 404, "no-store"),
        ("/v1/stock/A/events", 200, "no-store"),
        ("/nowhere", 404, "no-store"),
        ("/graphql?query={__typename}", 200, "private, no-cache"),
    ] {
        let answer = server.get(path).await;
        let headers = answer.headers();
        assert_eq!(answer.status(), status, "{path}");
        assert!(is(headers, "cache-control", keep), "{path}: {headers:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "frame-ancestors 'none'"),
        ] {
            assert!(is(headers, name, value), "{path}: {headers:?}");
        }
        assert!(!headers.contains_key("strict-transport-security"), "{path}");
        assert!(!headers.contains_key("ratelimit") && !headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let page = server.get("/docs").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src"), "a page keeps its own policy: {policy}");
}

#[tokio::test]
async fn pages_of_origins_that_are_listed_may_call() {
    let database = Database::create().await;
    let origins = ("STOREFOLD_HTTP_CORS_ORIGINS", "https://shop.example, http://localhost:5173");
    let server = Server::start_as(&database, &[], &[origins]).await;
    let url = format!("{}/v1/stock/A/receive", server.url);
    for (origin, may) in [
        ("https://shop.example", true),
        ("http://localhost:5173", true),
        ("https://shop.example.evil", false),
        ("http://shop.example", false),
        ("null", false),
    ] {
        let ask = Client::new().request(Method::OPTIONS, &url).header("Origin", origin);
        let ask = ask.header("Access-Control-Request-Method", "POST");
        let ask = ask.header("Access-Control-Request-Headers", "authorization,idempotency-key");
        let asked = ask.send().await.unwrap();
        assert_eq!(is(asked.headers(), "access-control-allow-origin", origin), may, "{origin}: {:?}", asked.headers());
        if may {
            assert_eq!(asked.status(), 200);
            let headers = asked.headers();
            assert!(is(headers, "access-control-allow-headers", "authorization,idempotency-key"), "{headers:?}");
            for name in ["x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"] {
                assert!(headers.contains_key(name), "{name} {headers:?}");
            }
        }
        let sent = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("Origin", origin);
        let sent = sent.send().await.unwrap();
        assert_eq!(is(sent.headers(), "access-control-allow-origin", origin), may, "{origin}");
        if may {
            let exposed = sent.headers()["access-control-expose-headers"].to_str().unwrap();
            for name in ["etag", "location", "storefold-position", "ratelimit", "retry-after"] {
                assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name} {exposed}");
            }
        }
    }
    // A refusal is to be read by the page too.
    let refused = server.command("/v1/stock/A/receive", &json!({})).header("Content-Encoding", "gzip");
    let refused = refused.header("Origin", "https://shop.example").send().await.unwrap();
    assert_eq!(refused.status(), 415);
    assert!(is(refused.headers(), "access-control-allow-origin", "https://shop.example"));
}

#[tokio::test]
async fn callers_have_a_rate_each() {
    let database = Database::create().await;
    let settings = [
        ("STOREFOLD_HTTP_RATE_LIMIT", "3"),
        ("STOREFOLD_HTTP_RATE_WINDOW", "3600"),
        ("STOREFOLD_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = Server::start_as(&database, &[], &settings).await;
    let ask = async |caller: &Client, from: &str| {
        let asked = caller.get(format!("{}/v1/stock/A", server.url)).header("X-Forwarded-For", from);
        asked.send().await.unwrap()
    };
    let [alice, bob] = ["alice", "bob"].map(|name| client(&token(name, Scopes::ALL, None)));
    for left in [2, 1, 0] {
        let answer = ask(&alice, "198.51.100.1").await;
        assert_eq!(answer.status(), 404);
        assert!(is(answer.headers(), "ratelimit-policy", "\"default\";q=3;w=3600"), "{:?}", answer.headers());
        let told = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(told.starts_with(&format!("\"default\";r={left};t=")), "{told}");
    }
    // Wherever she asks from.
    let refused = ask(&alice, "198.51.100.2").await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    let (_, problem) = status_and_json(refused).await;
    assert_eq!(problem["type"], "/problems/rate-limited");
    assert_eq!(ask(&bob, "198.51.100.1").await.status(), 404);

    // Who has no token, or one that is none, is where the proxy says; what a client makes up stands before it.
    let nobody = Client::new();
    let liar = client(&format!("{}x", token("alice", Scopes::ALL, None)));
    for (caller, from) in [(&nobody, "198.51.100.7"), (&liar, "1.1.1.1, 198.51.100.7"), (&nobody, "198.51.100.7:80")] {
        assert_eq!(ask(caller, from).await.status(), 401);
    }
    assert_eq!(ask(&nobody, "1.2.3.4, 198.51.100.7").await.status(), 429);
    assert_eq!(ask(&nobody, "198.51.100.8").await.status(), 401);
    for number in 0..4 {
        let status = if number < 3 { 401 } else { 429 };
        assert_eq!(ask(&nobody, &format!("2001:db8::{number}")).await.status(), status, "one /64 is one caller");
    }
    // Probes are for whoever watches the server.
    for _ in 0..10 {
        assert_eq!(nobody.get(format!("{}/livez", server.url)).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_says_where_a_client_is() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_RATE_LIMIT", "2"), ("STOREFOLD_HTTP_TRUSTED_PROXIES", "192.0.2.1")];
    let server = Server::start_as(&database, &[], &settings).await;
    for (from, status) in [("198.51.100.1", 401), ("198.51.100.2", 401), ("198.51.100.3", 429)] {
        let asked = Client::new().get(format!("{}/v1/stock/A", server.url)).header("X-Forwarded-For", from);
        let asked = asked.header("Forwarded", format!("for={from}"));
        assert_eq!(asked.send().await.unwrap().status(), status, "{from}");
    }
}

/// Asks for what will never be there, and waits for it.
async fn wait(server: Arc<Server>) {
    let query = json!({ "query": "{ orders(first: 1) { nodes { id } } }" });
    let ask = server.client.post(format!("{}/graphql", server.url)).header("Storefold-After", NEVER);
    let ask = ask.header("Storefold-Wait", "30000").json(&query);
    // A command may have the place at this moment.
    while ask.try_clone().unwrap().send().await.unwrap().status() == 503 {}
}

/// Whoever waits does nothing, and might keep out all others at no cost.
#[tokio::test]
async fn those_who_wait_leave_half_of_the_places_to_others() {
    let database = Database::create().await;
    let server = Arc::new(Server::start_as(&database, &[], &[("STOREFOLD_HTTP_IN_FLIGHT", "4")]).await);
    let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(wait(server.clone()))).collect();
    let ask = || server.client.post(format!("{}/graphql", server.url)).json(&json!({ "query": "{ __typename }" }));
    // Two of them have a place; whoever else would wait is told so.
    until_so(async || ask().header("Storefold-After", NEVER).send().await.unwrap().status() == 503).await;
    for n in 1..=50 {
        let done = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).send().await.unwrap();
        assert!(done.status().is_success(), "{n}: {}", done.status());
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A batch whose client is gone is still worked on, and takes memory.
#[tokio::test]
async fn who_hangs_up_keeps_the_places_of_its_batches_until_the_commands_are_done() {
    let database = Database::create_with_its_log().await;
    let server = Server::start(&database).await;
    let mut other = database.pool.begin().await.unwrap();
    // That of `log.append`: nothing is appended meanwhile, and everything is read.
    other.execute("select pg_advisory_xact_lock(7310868735017247840)").await.unwrap();
    let mut batches = Vec::new();
    for _ in 0..32 {
        let mut batch = connect(&server).await;
        let head = head("/v1/commands", 0).replace("application/json", "application/x-ndjson");
        let head = head.replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let line = json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": 1 } });
        let line = format!("{line}\n");
        batch.write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        batches.push(batch);
    }
    // One has the stock's turn.
    until_so(async || server.get("/metrics").await.text().await.unwrap().contains("mailbox_waiting 31")).await;
    let ports: Vec<_> = batches.iter().map(|batch| batch.local_addr().unwrap().port()).collect();
    drop(batches);
    until_so(async || ports.iter().all(|port| !is_connected(&server, *port))).await;
    let send = async || {
        let batch = server.client.post(format!("{}/v1/commands", server.url));
        batch.header("Content-Type", "application/x-ndjson").body("").send().await.unwrap().status()
    };
    assert_eq!(send().await, 503, "those who hung up have made room for more");
    other.rollback().await.unwrap();
    until_so(async || database.log_length().await == 32).await;
    until_so(async || send().await == 200).await;
}

/// A connection has one request at a time; HTTP/2 would have hundreds, and windows of its own.
#[tokio::test]
async fn http_2_is_not_spoken() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let words = last_words(stream).await;
    assert!(words.starts_with("HTTP/1.1 4") || words.starts_with("HTTP/1.1 5") || words.is_empty(), "{words:?}");
}

/// When all places are taken, whoever comes is told so at once, and probes are answered.
#[tokio::test]
async fn whoever_is_too_much_is_sent_away_at_once() {
    let database = Database::create().await;
    let server = Arc::new(Server::start_as(&database, &[], &[("STOREFOLD_HTTP_IN_FLIGHT", "1")]).await);
    let waiting = tokio::spawn(wait(server.clone()));
    let refused = until(async || {
        let answer = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).send().await.unwrap();
        (answer.status() == 503).then_some(answer)
    })
    .await;
    assert!(is(refused.headers(), "retry-after", "1") && is(refused.headers(), "x-content-type-options", "nosniff"));
    let (_, problem) = status_and_json(refused).await;
    assert_eq!(problem["type"], "/problems/overloaded");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(server.get(probe).await.status(), 200, "{probe}");
    }
    // Before its body is read: a server that would read it first could be kept busy with bodies.
    let mut stream = connect(&server).await;
    stream.write_all(head("/v1/stock/A/receive", 1_000).as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 503");
    // Who hangs up leaves its place to nobody before its work is done.
    waiting.abort();
    let done = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).send().await.unwrap();
    assert_eq!(done.status(), 503);
}

/// A client that is told that its command takes too long sends it again, and it is done once.
#[tokio::test]
async fn what_takes_too_long_goes_on_and_is_done_once() {
    let database = Database::create_with_its_log().await;
    let server = Server::start_as(&database, &[], &[("STOREFOLD_HTTP_REQUEST_TIMEOUT", "1")]).await;
    let send = async |key: &str| {
        let command = server.command("/v1/stock/A/receive", &json!({ "quantity": 7 }));
        status_and_json(command.header("Idempotency-Key", key).send().await.unwrap()).await
    };
    // On a machine that has much to do, this may take a second too; and what is in the log may still be in flight.
    let send_until_done =
        async |key: &str| until(async || Some(send(key).await).filter(|sent| ![504, 409].contains(&sent.0))).await;
    send_until_done("first").await;
    let mut other = database.pool.begin().await.unwrap();
    other.execute(AssertSqlSafe("lock table log.events in access exclusive mode")).await.unwrap();
    let (status, problem) = send("slow").await;
    assert_eq!((status, &problem["type"]), (504, &json!("/problems/timed-out")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("outcome is unknown") && detail.contains("Idempotency-Key"), "{detail}");
    other.rollback().await.unwrap();
    until_so(async || database.log_length().await == 2).await;
    let (status, answer) = send_until_done("slow").await;
    assert_eq!((status, &answer["revision"]), (200, &json!(1)), "{answer}");
    assert_eq!(database.log_length().await, 2);

    // What is followed is not cut off: it has begun to answer.
    let query = json!({ "query": "subscription { ordersChanged { left } }" });
    let follow = server.client.post(format!("{}/graphql", server.url)).header("Accept", "text/event-stream");
    let mut followed = follow.json(&query).send().await.unwrap();
    assert_eq!(followed.status(), 200);
    let cut =
        tokio::time::timeout(Duration::from_millis(2500), async { while let Ok(Some(_)) = followed.chunk().await {} });
    assert!(cut.await.is_err(), "it ended, though nobody has ended it");
}

/// A certificate for this machine, in files of a folder.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    made.cert.into()
}

/// A connection that trusts one certificate.
async fn encrypted(server: &Server, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(server).await).await
}

#[tokio::test]
async fn tls_is_spoken_and_has_a_new_certificate_when_there_is_one() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let old = certify(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let settings = [("STOREFOLD_TLS_CERTIFICATE_FILE", &*certificate), ("STOREFOLD_TLS_KEY_FILE", &*key)];
    let server = Server::start_as(&database, &[], &settings).await;
    assert!(server.url.starts_with("https://"), "{}", server.url);

    // Nobody waits for those who begin a handshake and leave it at that.
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(connect(&server).await);
    }
    let mut stream = encrypted(&server, &old).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let body = r#"{"quantity": 3}"#;
    let command = head("/v1/stock/A/receive", body.len()).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{command}{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("strict-transport-security: max-age="), "{answer}");

    // What speaks in the clear is no client.
    let mut clear = connect(&server).await;
    clear.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(!last_words(clear).await.contains("alive"));

    let hangup = async || {
        let pid = server.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().await.unwrap().success());
    };
    // Half a new one is none.
    std::fs::write(&certificate, "-----BEGIN").unwrap();
    hangup().await;
    assert!(encrypted(&server, &old).await.is_ok());
    let new = certify(folder.path());
    hangup().await;
    until_so(async || encrypted(&server, &new).await.is_ok()).await;
    assert!(encrypted(&server, &old).await.is_err());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    certify(folder.path());
    let (good, bad) = (folder.path().join("certificate.pem"), folder.path().join("none.pem"));
    std::fs::write(&bad, "hunter2").unwrap();
    let key = folder.path().join("key.pem");
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    for (certificate, key, told) in [
        (&bad, &key, "no certificate in PEM"),
        (&good, &bad, "no private key in PEM"),
        (&good, &other.path().join("key.pem"), "do not belong together"),
        (&good, &folder.path().join("gone.pem"), "gone.pem cannot be read"),
    ] {
        let mut command = database.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(folder.path()).env("STOREFOLD_TLS_CERTIFICATE_FILE", certificate);
        let output = command.env("STOREFOLD_TLS_KEY_FILE", key).output().await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains(told), "{told}: {complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }
}

/// The kinds of problems that the page tells are those that were seen here.
#[test]
fn the_page_tells_the_problems() {
    let page = crate::docs::page("limits.md");
    for kind in [
        "overloaded",
        "timed-out",
        "rate-limited",
        "unsupported-content-encoding",
        "unsupported-transfer-encoding",
        "no-host",
        "body-too-slow",
        "body-too-large",
    ] {
        assert!(page.contains(&format!("`/problems/{kind}`")), "{kind}");
    }
}
