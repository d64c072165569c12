//! Batches over real sockets: in order, again, against clients that do not read or hang up; and imports that go by them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use access::{Role, Scope, Scopes};
use futures::stream::{BoxStream, StreamExt as _};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::history::history;
use crate::support::{Database, Dice, Server, client, status_and_json, token, token_for, until_so};

async fn writer(database: &Database) -> Server {
    Server::start_with(database, &["--roles", "write"]).await
}

/// Sends a batch and reads all that is answered.
async fn batch(server: &Server, lines: String) -> String {
    let request = server.client.post(format!("{}/v1/commands", server.url));
    let response = request.header(CONTENT_TYPE, "application/x-ndjson").body(lines).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
        (200, "application/x-ndjson")
    );
    response.text().await.unwrap()
}

fn parsed(answers: &str) -> Vec<Value> {
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn receive(sku: &str, key: impl std::fmt::Display) -> Value {
    json!({ "stream": format!("stock-{sku}"), "command": "receive", "data": { "quantity": 1 }, "key": key.to_string() })
}

/// How many lines a batch has that is large.
const LARGE: usize = 10_000;

#[expect(clippy::print_stdout, reason = "how fast it was is worth knowing")]
#[tokio::test]
async fn a_large_batch_is_answered_in_order_and_the_same_when_it_is_sent_again() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let mut dice = Dice(11);
    let (mut lines, mut expected) = (String::new(), Vec::new());
    for number in 1..=LARGE as u64 {
        let (line, status) = match dice.roll(20) {
            0 => ("{\"stream\": ".to_owned(), 400),
            1 => (json!({ "stream": "stock-A", "command": "steal", "data": {} }).to_string(), 404),
            2 => (json!({ "stream": "gold-A", "command": "receive" }).to_string(), 404),
            3 => (json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": 0 } }).to_string(), 400),
            4 => (json!({ "stream": "stock-A", "command": "ship", "data": { "order": Uuid::nil() } }).to_string(), 422),
            5 => (json!({ "stream": "stock-A", "command": "receive", "data": {}, "colour": 1 }).to_string(), 400),
            6 => ("  ".to_owned(), 0),
            // A hot one among many.
            roll => {
                let sku = if roll <= 10 { "HOT".to_owned() } else { format!("S{}", dice.roll(2_000)) };
                (receive(&sku, number).to_string(), 200)
            }
        };
        lines.push_str(&line);
        // The last one has no end.
        if number < LARGE as u64 {
            lines.push('\n');
        }
        if status > 0 {
            expected.push((number, status));
        }
    }
    let start = Instant::now();
    let first = batch(&server, lines.clone()).await;
    let rate = LARGE as f64 / start.elapsed().as_secs_f64();
    println!("{LARGE} lines, {rate:.0} a second in a debug build");
    let (mut revisions, mut done) = (BTreeMap::<String, u64>::new(), 0);
    let answers = parsed(&first);
    assert_eq!(answers.len(), expected.len());
    for (answer, (number, status)) in answers.iter().zip(&expected) {
        assert_eq!(answer["line"], json!(number), "{answer}");
        if *status != 200 {
            assert_eq!((&answer["status"], &answer["problem"]["status"]), (&json!(status), &json!(status)), "{answer}");
            continue;
        }
        let stream = answer["answer"]["stream"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let revision = revisions.entry(stream.to_owned()).or_default();
        // Those to one stream are done in their order.
        let began = if *revision == 0 { 201 } else { 200 };
        assert_eq!((&answer["answer"]["revision"], &answer["status"]), (&json!(*revision), &json!(began)), "{answer}");
        *revision += 1;
        done += 1;
    }
    assert_eq!(database.log_length().await, done);
    assert_eq!(batch(&server, lines).await, first, "the same answers, byte for byte");
    assert_eq!(database.log_length().await, done);
}

#[tokio::test]
async fn a_line_is_answered_as_a_request_of_its_own_would_be() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let sent = [
        receive("A", "k1"),
        receive("A", "k2"),
        json!({ "stream": "stock-A", "command": "adjust", "data": { "counted": 0, "reason": "a count" }, "if_match": 7 }),
        json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": 1 }, "if_none_match": "*" }),
        json!({ "stream": "stock-B", "command": "receive", "data": { "quantity": 1 }, "if_match": "*" }),
        json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": 2 }, "key": "k1" }),
        json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": -2 } }),
        json!({ "stream": "stock-A/B", "command": "receive", "data": { "quantity": 1 } }),
        json!({ "stream": "stock-A", "command": "ship", "data": { "order": Uuid::nil() } }),
        json!({ "stream": "product-T", "command": "list",
                "data": { "name": "Tea", "price": { "minor": 420, "currency": "GBP" } }, "key": "t" }),
    ];
    let lines: String = sent.iter().map(|line| format!("{line}\n")).collect();
    let answers = parsed(&batch(&server, lines).await);
    for (line, answer) in sent.iter().zip(&answers) {
        let (category, id) = line["stream"].as_str().unwrap().split_once('-').unwrap();
        let path = format!("/v1/{category}/{}/{}", id.replace('/', "%2F"), line["command"].as_str().unwrap());
        let mut request = server.command(&path, &line["data"]);
        let tag = |value: &Value| value.as_str().map_or(format!("\"{value}\""), ToOwned::to_owned);
        for (member, header) in [("if_match", "If-Match"), ("if_none_match", "If-None-Match")] {
            if let Some(value) = line.get(member) {
                request = request.header(header, tag(value));
            }
        }
        if let Some(key) = line["key"].as_str() {
            request = request.header("Idempotency-Key", key);
        }
        let (status, body) = status_and_json(request.send().await.unwrap()).await;
        let told = answer.get("answer").or(answer.get("problem")).unwrap();
        assert_eq!((&answer["status"], told), (&json!(status), &body), "{line}");
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 200, 412, 412, 412, 422, 400, 400, 422, 201]);
}

#[tokio::test]
async fn a_line_that_is_no_command_is_told_what_it_lacks() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let with = |member: &str, value: Value| {
        let mut line = receive("A", "k");
        line[member] = value;
        line.to_string()
    };
    let cases = [
        (r#" ["stock-A", "receive", {"quantity": 1}]"#.to_owned(), "no object"),
        ("{".to_owned(), "EOF"),
        ("7".to_owned(), "no object"),
        (with("if_match", json!("3")), "if_match is a revision such as 7, or \"*\""),
        (with("colour", json!("red")), "unknown field `colour`"),
        (with("stream", json!("stock")), "stock-TEA-001"),
    ];
    let lines: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    for ((line, named), answer) in cases.iter().zip(parsed(&batch(&server, lines).await)) {
        let detail = answer["problem"]["detail"].as_str().unwrap();
        assert!(answer["status"] == 400 && detail.contains(named), "{line}: {answer} does not name {named:?}");
    }
    assert_eq!(database.log_length().await, 0);
}

/// Also where a command has to look something up first, and where what belongs to whom follows from the line before.
#[tokio::test]
async fn commands_to_one_stream_keep_their_order() {
    let database = Database::create().await;
    let mut server = writer(&database).await;
    let price = |minor: i64| json!({ "price": { "minor": minor, "currency": "GBP" } });
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": price(420)["price"] })).await;
    let alice = Uuid::now_v7();
    let staff = server.client.clone();
    let customer = client(&token("alice", Role::Customer.scopes(), Some(alice)));
    for (client, by) in [(staff.clone(), "staff"), (customer, "alice")] {
        server.client = client;
        let orders: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();
        let line = |order: &Uuid| {
            let stream = format!("order-{order}");
            let cart = json!({ "customer": alice, "country": "EIRE", "currency": "GBP", "card": "tok",
                "lines": [{ "sku": "A", "quantity": 2 }] });
            let place = json!({ "stream": stream, "command": "place", "data": cart });
            let cancel = json!({ "stream": stream, "command": "cancel", "data": { "reason": "a change of mind" } });
            format!("{place}\n{cancel}\n")
        };
        let answers = parsed(&batch(&server, orders.iter().map(line).collect()).await);
        for (number, answer) in answers.iter().enumerate() {
            let expected = if number % 2 == 0 { (201, "OrderPlaced") } else { (200, "OrderCancelled") };
            let seen = (&answer["status"], &answer["answer"]["events"][0]["type"]);
            assert_eq!(seen, (&json!(expected.0), &json!(expected.1)), "{by}: {answer}");
        }
    }
    // A change of the same product, and the command again within the batch.
    server.client = staff;
    let change = |minor: i64, key: &str| {
        let line = json!({ "stream": "product-A", "command": "change-price", "data": price(minor), "key": key });
        format!("{line}\n")
    };
    let answers = batch(&server, change(1, "a") + &change(2, "b") + &change(1, "a") + &change(3, "a")).await;
    let answers = parsed(&answers);
    assert_eq!(answers[0]["answer"], answers[2]["answer"]);
    assert_eq!(answers[3]["problem"]["type"], "/problems/key-reused");
    let (_, product) = status_and_json(server.get("/v1/product/A").await).await;
    assert_eq!(product["state"]["price"]["minor"], 2);
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole_only_for_what_it_is_as_a_whole() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let url = format!("{}/v1/commands", server.url);
    let line = receive("A", "k").to_string();
    let send = async |name: &'static str, value: &'static str| {
        let request = server.client.post(&url).header(CONTENT_TYPE, "application/x-ndjson");
        let request = if name == "content-type" { server.client.post(&url) } else { request };
        status_and_json(request.header(name, value).body(line.clone()).send().await.unwrap()).await
    };
    for (name, value, status, kind) in [
        ("content-type", "application/json", 415, "not-ndjson"),
        ("content-encoding", "gzip", 415, "unsupported-content-encoding"),
        ("idempotency-key", "k", 400, "invalid-header"),
        ("if-match", "\"1\"", 400, "invalid-header"),
        ("storefold-correlation-id", "seven", 400, "invalid-header"),
    ] {
        let (seen, problem) = send(name, value).await;
        assert_eq!((seen, &problem["type"]), (status, &json!(format!("/problems/{kind}"))), "{name}: {problem}");
    }
    let bare = reqwest::Client::new().post(&url).header(CONTENT_TYPE, "application/x-ndjson").body(line);
    assert_eq!(bare.send().await.unwrap().status(), 401);
    assert_eq!(database.log_length().await, 0);
    // The limit of a body is that of a line.
    let long = format!("{{\"stream\": \"stock-A\", \"command\": \"{}\"}}\n", "x".repeat(1 << 20));
    let answers = parsed(&batch(&server, format!("{}{}", long.repeat(3), receive("A", "k"))).await);
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!(statuses, [413, 413, 413, 201]);
    assert_eq!(batch(&server, "\n \n".to_owned()).await, "");
}

#[tokio::test]
async fn ids_that_commands_bring_along_are_for_the_shop() {
    let database = Database::create().await;
    let mut server = writer(&database).await;
    let (id, cause) = (Uuid::now_v7(), Uuid::now_v7());
    let line = json!({ "stream": "stock-A", "command": "receive", "data": { "quantity": 1 }, "command_id": id,
        "causation_id": cause, "correlation_id": cause });
    let first = batch(&server, line.to_string()).await;
    assert_eq!(batch(&server, line.to_string()).await, first);
    let (_, page) = status_and_json(server.get("/v1/stock/A/events").await).await;
    let metadata = &page["events"][0]["metadata"];
    assert_eq!((&metadata["commandId"], &metadata["$causationId"]), (&json!(id), &json!(cause)), "{metadata}");
    let alice = Uuid::now_v7();
    server.client = client(&token("alice", Scopes::NONE.with(Scope::CustomersWrite), Some(alice)));
    let register = json!({ "stream": format!("customer-{alice}"), "command": "register", "command_id": id });
    let refused = parsed(&batch(&server, register.to_string()).await);
    assert_eq!(refused[0]["problem"]["type"], "/problems/not-for-customers", "{refused:?}");
    assert_eq!(database.log_length().await, 1);
}

/// A batch that is sent bit by bit over a socket of its own.
struct Slow {
    stream: TcpStream,
}

impl Slow {
    async fn begin(server: &Server) -> Self {
        Self::begin_as(server, "tests").await
    }

    async fn begin_as(server: &Server, subject: &str) -> Self {
        let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // As little as possible lies in buffers.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let head = format!(
            "POST /v1/commands HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
            token(subject, Scopes::ALL, None)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream }
    }

    /// One that has a place: its answer has begun.
    async fn admitted(server: &Server, subject: &str) -> Self {
        let mut slow = Self::begin_as(server, subject).await;
        let mut head = [0; 12];
        slow.stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        slow
    }

    async fn send(&mut self, lines: &str) {
        let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
        self.stream.write_all(chunk.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_read_the_answers_is_not_read_either() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let before = server.memory();
    let mut slow = Slow::begin(&server).await;
    // Lines that are refused at once: nothing but the answers holds them up.
    let chunk = "{\"stream\": \"stock-A\", \"command\": \"steal\"}\n".repeat(1_000);
    let (mut sent, most) = (0_usize, 256 << 20);
    // What a write takes longer than this for does not come through.
    while sent < most && tokio::time::timeout(Duration::from_secs(3), slow.send(&chunk)).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < most / 4, "{sent} bytes of lines were taken though no answer was read");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "the server has grown by {grown} bytes");
    // Once they are read, it goes on: a chunk that was cut in the middle goes on too, so no more is sent than counted.
    let mut answers = BufReader::new(slow.stream).lines();
    let (mut last, wanted) = (0, (sent / chunk.len() * 1_000) as u64);
    while last < wanted {
        let line = answers.next_line().await.unwrap().expect("it ended");
        let Some(json) = line.find("{\"line\"").map(|start| &line[start..]) else { continue };
        // A line of an answer may stand on two chunks; those that are whole are in order.
        if let Ok(answer) = serde_json::from_str::<Value>(json) {
            let number = answer["line"].as_u64().unwrap();
            assert!(number > last && answer["status"] == 404, "{answer} behind {last}");
            last = number;
        }
    }
}

#[tokio::test]
async fn what_was_begun_goes_on_when_the_client_hangs_up() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let mut slow = Slow::begin(&server).await;
    let lines: String = (0..50).map(|number| format!("{}\n", receive(&format!("S{}", number % 7), number))).collect();
    // The last one has not come to its end.
    slow.send(&(lines + &receive("LAST", "last").to_string())).await;
    let mut first = [0; 64];
    let count = slow.stream.read(&mut first).await.unwrap();
    assert!(first[..count].starts_with(b"HTTP/1.1 200 OK"));
    until_so(async || database.log_length().await > 0).await;
    drop(slow);
    until_so(async || database.log_length().await == 50).await;
    assert_eq!(server.get("/v1/stock/LAST").await.status(), 404, "half a line is none");
}

/// A batch in which each line waits for the answer to the one before.
struct Talk {
    lines: mpsc::Sender<String>,
    answers: BoxStream<'static, Vec<u8>>,
    text: String,
}

impl Talk {
    async fn begin(server: &Server) -> Self {
        let (lines, mut said) = mpsc::channel::<String>(1);
        let body = futures::stream::poll_fn(move |context| {
            said.poll_recv(context).map(|line| line.map(Ok::<_, std::io::Error>))
        });
        let request = server.client.post(format!("{}/v1/commands", server.url));
        let request = request.header(CONTENT_TYPE, "application/x-ndjson").body(reqwest::Body::wrap_stream(body));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let answers = response.bytes_stream().map(|chunk| chunk.unwrap().to_vec()).boxed();
        Self { lines, answers, text: String::new() }
    }

    async fn say(&self, lines: impl std::fmt::Display) {
        self.lines.send(format!("{lines}\n")).await.unwrap();
    }

    /// The next answer; `None` when there are no more.
    async fn hear(&mut self) -> Option<Value> {
        while !self.text.contains('\n') {
            self.text.push_str(&String::from_utf8(self.answers.next().await?).unwrap());
        }
        let (line, rest) = self.text.split_once('\n').unwrap();
        let answer = serde_json::from_str(line).unwrap();
        self.text = rest.to_owned();
        Some(answer)
    }
}

#[tokio::test]
async fn a_server_that_stops_says_from_which_line_on() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let mut talk = Talk::begin(&server).await;
    talk.say(format!("{}\n", receive("A", 1))).await;
    assert_eq!(talk.hear().await.unwrap()["status"], 201);
    let stopped = tokio::spawn(server.stop());
    let last = talk.hear().await.unwrap();
    assert_eq!((&last["line"], &last["problem"]["type"]), (&json!(3), &json!("/problems/stopping")), "{last}");
    assert_eq!(talk.hear().await, None);
    assert!(stopped.await.unwrap().success());
}

/// A batch may outlive its token. What comes after that is not done, and is told so line by line.
#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_a_batch_counts_no_more() {
    let database = Database::create().await;
    let mut server = Server::start_as(&database, &["--roles", "write"], &[("STOREFOLD_TOKEN_LEEWAY", "0")]).await;
    server.client = client(&token_for("alice", Scopes::ALL, None, Duration::from_secs(3)));
    let mut talk = Talk::begin(&server).await;
    let (mut done, mut pace) = (0, tokio::time::interval(Duration::from_millis(20)));
    let refused = loop {
        pace.tick().await;
        talk.say(receive("A", done)).await;
        let answer = talk.hear().await.unwrap();
        if answer["status"] == 401 {
            break answer;
        }
        assert_eq!(answer["answer"]["revision"], json!(done), "{answer}");
        done += 1;
    };
    assert!(done > 0);
    assert_eq!((&refused["line"], &refused["problem"]["type"]), (&json!(done + 1), &json!("/problems/invalid-token")));
    // Neither is another one, nor one that was done before.
    for line in [receive("B", "b"), receive("A", 0)] {
        talk.say(line).await;
        assert_eq!(talk.hear().await.unwrap()["problem"]["type"], "/problems/invalid-token");
    }
    drop(talk.lines);
    assert!(talk.answers.next().await.is_none());
    assert_eq!(database.log_length().await, done);
}

#[tokio::test]
async fn a_batch_of_which_nothing_comes_any_more_ends_and_says_where() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_BATCH_TIMEOUT", "2"), ("STOREFOLD_HTTP_BODY_TIMEOUT", "1")];
    let server = Server::start_as(&database, &["--roles", "write"], &settings).await;
    let mut talk = Talk::begin(&server).await;
    // As long as something comes, it may take longer than any body: a part of a line is something.
    let mut pace = tokio::time::interval(Duration::from_millis(400));
    for part in receive("A", "slow").to_string().as_bytes().chunks(16) {
        pace.tick().await;
        talk.lines.send(std::str::from_utf8(part).unwrap().to_owned()).await.unwrap();
    }
    talk.say("").await;
    assert_eq!(talk.hear().await.unwrap()["status"], 201);
    talk.lines.send(r#"{"stream":"stock-A","comm"#.to_owned()).await.unwrap();
    let last = talk.hear().await.unwrap();
    assert_eq!((&last["line"], &last["status"]), (&json!(2), &json!(408)), "{last}");
    assert_eq!(last["problem"]["type"], "/problems/body-too-slow");
    assert_eq!(talk.hear().await, None);
    assert_eq!(database.log_length().await, 1);
}

/// Where a caller may send so many commands in a time, a batch is no way around it: it is slowed down, in its order.
#[tokio::test]
async fn a_batch_goes_as_fast_as_its_caller_may_send() {
    let database = Database::create().await;
    let settings = [("STOREFOLD_HTTP_RATE_LIMIT", "20"), ("STOREFOLD_HTTP_RATE_WINDOW", "2")];
    let server = Server::start_as(&database, &["--roles", "write"], &settings).await;
    let begun = Instant::now();
    let answers = parsed(&batch(&server, (0..40).map(|number| format!("{}\n", receive("A", number))).collect()).await);
    // Twenty at once, and then ten a second.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_950), "{took:?}");
    let revisions: Vec<_> = answers.iter().map(|answer| answer["answer"]["revision"].as_u64()).collect();
    assert_eq!(revisions, (0..40).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_that_would_have_to_wait_for_too_long_ends_and_says_where() {
    let database = Database::create().await;
    let settings = [
        ("STOREFOLD_HTTP_RATE_LIMIT", "3"),
        ("STOREFOLD_HTTP_RATE_WINDOW", "3600"),
        ("STOREFOLD_HTTP_BATCH_TIMEOUT", "1"),
    ];
    let mut server = Server::start_as(&database, &["--roles", "write"], &settings).await;
    let lines = || (0..5).map(|number| format!("\n{}\n", receive("A", number))).collect::<String>();
    let answers = parsed(&batch(&server, lines()).await);
    let told: Vec<_> = answers.iter().map(|answer| (answer["line"].as_u64(), answer["status"].as_u64())).collect();
    assert_eq!(told, [(2, 201), (4, 200), (6, 200), (8, 429)].map(|(line, status)| (Some(line), Some(status))));
    let problem = &answers[3]["problem"];
    assert_eq!(problem["type"], "/problems/rate-limited");
    let wait = problem["retry_after_seconds"].as_u64().unwrap();
    assert!((1_000..=1_200).contains(&wait), "{problem}");
    assert_eq!(database.log_length().await, 3);
    // Its caller has sent as much as it may, one way or the other; nobody else has.
    assert_eq!(server.get("/v1/stock/A").await.status(), 429);
    let request =
        server.client.post(format!("{}/v1/commands", server.url)).header(CONTENT_TYPE, "application/x-ndjson");
    assert_eq!(request.body(lines()).send().await.unwrap().status(), 429);
    server.client = client(&token("bob", Scopes::ALL, None));
    let request =
        server.client.post(format!("{}/v1/commands", server.url)).header(CONTENT_TYPE, "application/x-ndjson");
    let response = request.body(receive("B", 1).to_string()).send().await.unwrap();
    let told = response.headers()["ratelimit"].to_str().unwrap().to_owned();
    assert!(told.starts_with("\"default\";r=2;"), "a batch of one line counts as one request: {told}");
    assert_eq!(parsed(&response.text().await.unwrap())[0]["status"], 201);
}

/// Every event by its place, in short.
const EVENTS: &str = "select ('x' || substr(md5(string_agg(stream || '@' || revision || '=' || id, ',' order by stream, revision)), 1, 15))
    ::bit(60)::bigint from log.events";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[expect(clippy::print_stdout, reason = "how fast it was is worth knowing")]
#[tokio::test]
async fn an_import_elsewhere_leads_to_the_same_events() {
    let (here, there) = (Database::create().await, Database::create().await);
    let history = history(300).ndjson;
    let faulty = format!("{history}\nnonsense\n{{\"kind\":\"stock\",\"sku\":\"A/B\",\"quantity\":1}}\n");
    let (history, faulty) = (file(&history), file(&faulty));
    let [history, faulty] = [&history, &faulty].map(|file| file.path().to_str().unwrap());
    here.run_well(&["import", history]).await;

    let server = writer(&there).await;
    let token = file(&token("importer", Scopes::ALL, None));
    let token = token.path().to_str().unwrap();
    let import = async |file: &str, arguments: &[&str]| {
        let url = ["import", "--json", file, "--url", &server.url, "--token-file", token];
        // It needs no database of its own.
        let mut command = there.command(&[&url, arguments].concat());
        let output = command.env("DATABASE_URL", "postgres://localhost:1/none").output().await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{complaint}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let summary = import(history, &[]).await;
    let commands = summary["commands"].as_u64().unwrap();
    println!("{:.0} commands a second in a debug build", commands as f64 / summary["seconds"].as_f64().unwrap());
    assert_eq!(summary["faulty"], 0, "{summary}");
    let length = there.log_length().await;
    assert_eq!((here.log_length().await, here.number(EVENTS).await), (length, there.number(EVENTS).await));
    assert_eq!(commands, length as u64);
    // Again, either way, nothing happens; a fault is told by its line.
    let again = import(faulty, &["--in-flight", "7"]).await;
    let lines: Vec<_> = again["faults"].as_array().unwrap().iter().map(|fault| fault["line"].clone()).collect();
    assert_eq!((&again["done"], again["faulty"].as_u64()), (&summary["done"], Some(2)), "{again}");
    assert_eq!(lines[1].as_u64().unwrap(), lines[0].as_u64().unwrap() + 1);
    there.run_well(&["import", history]).await;
    assert_eq!(there.log_length().await, length);
}

#[tokio::test]
async fn an_import_elsewhere_goes_on_where_it_was_and_says_why_it_cannot() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let history = history(300).ndjson;
    let whole = history.lines().count() as i64;
    let history = file(&history);
    let history = history.path().to_str().unwrap();
    let token = file(&token("importer", Scopes::ALL, None));
    let token = token.path().to_str().unwrap();
    let arguments = ["import", history, "--url", &server.url, "--token-file", token];
    let mut child = database.command(&arguments).spawn().unwrap();
    until_so(async || database.log_length_or_none().await >= whole / 3).await;
    child.kill().await.unwrap();
    let printed = database.run_well(&arguments).await;
    assert!(printed.contains(" commands, ") && printed.contains("the log has it up to "), "{printed}");
    assert_eq!(database.number("select count(*) - count(distinct id) from log.events").await, 0);
    let length = database.log_length().await;
    database.run_well(&arguments).await;
    assert_eq!(database.log_length().await, length);

    for (arguments, told) in [
        (&["import", history, "--url", "nowhere"][..], "--url"),
        (&["import", history, "--url", &server.url, "--token-file", "/no/such/file"], "/no/such/file"),
        (&["import", history, "--url", &server.url, "--token-file", token, "--live"], "--card"),
    ] {
        let output = database.run(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains(told), "{arguments:?}: {complaint}");
    }

    // On the shop's own machine the key is there that it signs with. One that is not the shop's signs nothing that counts.
    database.run_well(&["import", history, "--url", &server.url]).await;
    assert_eq!(database.log_length().await, length);
    let folder = tempfile::tempdir().unwrap();
    for key in [None, Some(r#"{"kty":"oct","kid":"others","k":"HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#)] {
        let mut command = database.command(&["import", history, "--url", &server.url, "--data-dir"]);
        command.arg(folder.path()).env_remove("STOREFOLD_TOKEN_KEY").envs(key.map(|key| ("STOREFOLD_TOKEN_KEY", key)));
        let output = command.output().await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains("--token-file"), "{complaint}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a key was made for nothing");
    }
}

/// When it is over, the read models have it, as after an import into one's own log; where they cannot be asked, that is told.
#[tokio::test]
async fn an_import_elsewhere_waits_for_the_read_models() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let history = history(120);
    let lines = file(&history.ndjson);
    let lines = lines.path().to_str().unwrap();
    let import = ["import", "--json", lines, "--url", &server.url];
    let summary: Value = serde_json::from_str(&database.run_well(&import).await).unwrap();
    assert!(summary["fold_seconds"].is_f64() && summary.get("unfolded").is_none(), "{summary}");
    let read = server.query("{ orders { totalCount } projections { position } }", json!({}), None).await;
    assert_eq!(read["orders"]["totalCount"], history.expected["orders"]);
    let place = |position: &Value| {
        let (commit, prepare) = position.as_str().unwrap().split_once('/').unwrap();
        [commit, prepare].map(|number| number.parse::<u64>().unwrap())
    };
    let models = read["projections"].as_array().unwrap();
    assert!(models.len() > 5 && models.iter().all(|model| place(&model["position"]) >= place(&summary["position"])));
    let printed = database.run_well(&["import", lines, "--url", &server.url]).await;
    assert!(printed.contains("the read models had caught up "), "{printed}");

    // A token for the commands alone may not ask how far they are; a process that only writes cannot say.
    let scopes = [Scope::OrdersRecord, Scope::CatalogWrite, Scope::StockWrite, Scope::CustomersWrite];
    let scopes = scopes.into_iter().fold(Scopes::NONE, Scopes::with);
    let short = file(&token("importer", scopes, None));
    let short = short.path().to_str().unwrap();
    let printed = database.run_well(&["import", lines, "--url", &server.url, "--token-file", short]).await;
    assert!(
        printed.contains("the read models were not waited for: ") && printed.contains("operations:read"),
        "{printed}"
    );
    let write_only = writer(&database).await;
    let import = ["import", "--json", lines, "--url", &write_only.url];
    let summary: Value = serde_json::from_str(&database.run_well(&import).await).unwrap();
    assert!(summary["unfolded"].as_str().is_some_and(|why| why.contains("404")), "{summary}");
}

#[tokio::test]
async fn there_are_only_so_many_batches_at_a_time() {
    let database = Database::create().await;
    let server = writer(&database).await;
    let (mut greedy, mut others) = (Vec::new(), Vec::new());
    for _ in 0..32 {
        greedy.push(Slow::admitted(&server, "greedy").await);
    }
    let send = async |subject: &str| {
        let request = server.client.post(format!("{}/v1/commands", server.url));
        let request = request.bearer_auth(token(subject, Scopes::ALL, None));
        request.header(CONTENT_TYPE, "application/x-ndjson").body(receive("A", 1).to_string()).send().await.unwrap()
    };
    let refused = async |subject: &str, why: &str| {
        let answer = send(subject).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    };
    // Half of the places are not for one caller. Whoever has none still finds one, until all are taken.
    refused("greedy", "of this caller").await;
    for other in 0..32 {
        others.push(Slow::admitted(&server, &format!("other-{other}")).await);
    }
    refused("late", "as this process carries out").await;
    assert_eq!(database.log_length().await, 0);
    // A place is free as soon as somebody leaves.
    others.pop();
    until_so(async || send("late").await.status() == 200).await;
}
