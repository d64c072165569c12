//! Many who follow what happens while much does: each is told all of it, soon; and one who does not listen is dropped, and
//! costs little until then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::sockets::Socket;
use crate::support::{Database, Server};

/// How many follow all orders, and how many a stock each.
const OF_ORDERS: usize = 100;
const OF_STOCKS: usize = 100;
/// How many stocks there are.
const STOCKS: usize = 20;
/// How many changes there are, and how far apart.
const CHANGES: usize = 240;
const APART: Duration = Duration::from_millis(20);

const ORDERS: &str = "subscription { ordersChanged { kind left orders { id status } } }";
const STOCK: &str = "subscription($sku: Sku!) { stockChanged(sku: $sku) { product { onHand } } }";

/// When each change was answered, by the order's id or by the stock and how many are on hand since.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;
/// What one was told, and when.
type Told = Vec<(String, Instant)>;

/// Changes the shop at a steady pace, however long each change takes. Answers how much of each stock there is in the end.
async fn change(server: &Arc<Server>, answered: &Answered) -> BTreeMap<String, i64> {
    let mut pace = tokio::time::interval(APART);
    let (mut on_hand, mut changes) = (BTreeMap::<String, i64>::new(), Vec::new());
    for number in 0..CHANGES {
        pace.tick().await;
        let (server, answered) = (server.clone(), answered.clone());
        let (path, body, name) = if number.is_multiple_of(2) {
            let order = Uuid::now_v7();
            let line = json!({ "sku": "S0", "quantity": 1, "unit_price_minor": 100 });
            let sale =
                json!({ "country": "EIRE", "currency": "GBP", "placed_at": "2026-01-01T08:00:00Z", "lines": [line] });
            (format!("/v1/order/{order}/record"), sale, order.to_string())
        } else {
            let sku = format!("S{}", number / 2 % STOCKS);
            let now = on_hand.entry(sku.clone()).or_default();
            *now += 1;
            (format!("/v1/stock/{sku}/receive"), json!({ "quantity": 1 }), format!("{sku} {now}"))
        };
        changes.push(tokio::spawn(async move {
            server.done(&path, body).await;
            answered.lock().unwrap().insert(name, Instant::now());
        }));
    }
    for change in changes {
        change.await.unwrap();
    }
    on_hand
}

/// Follows all orders until it has been told of all that are recorded.
async fn follow_orders(mut socket: Socket) -> Told {
    let mut told: HashMap<String, Instant> = HashMap::new();
    while told.len() < CHANGES / 2 {
        let message = socket.hear().await.unwrap();
        let now = Instant::now();
        let changed = &message["payload"]["data"]["ordersChanged"];
        assert_eq!(changed["kind"], "CHANGED", "{message}");
        assert_eq!(changed["left"], json!([]), "{message}");
        for order in changed["orders"].as_array().unwrap() {
            assert_eq!(order["status"], "RECORDED");
            told.entry(order["id"].as_str().unwrap().to_owned()).or_insert(now);
        }
    }
    told.into_iter().collect()
}

/// Follows a stock until it has been told of the last change. States in between may be left out, and never go back.
async fn follow_stock(mut socket: Socket, sku: String, last: i64) -> Told {
    let (mut told, mut before) = (Vec::new(), 0);
    while before < last {
        let message = socket.hear().await.unwrap();
        let on_hand = message["payload"]["data"]["stockChanged"]["product"]["onHand"].as_i64().unwrap_or_default();
        assert!(on_hand >= before, "{sku} had {before} on hand, and then {message}");
        // One that is told at once tells of those before it too.
        told.extend((before + 1..=on_hand).map(|state| (format!("{sku} {state}"), Instant::now())));
        before = on_hand;
    }
    told
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[expect(clippy::print_stdout, reason = "how long it took is worth knowing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_follow_are_told_all_of_it_soon() {
    let database = Database::create().await;
    let server = Arc::new(Server::start_by_hand(&database).await);
    let answered = Answered::default();
    let mut orders = Vec::new();
    for _ in 0..OF_ORDERS {
        let mut socket = Socket::open(&server).await;
        socket.follow("o", ORDERS, json!({})).await;
        let first = socket.hear().await.unwrap();
        assert_eq!(first["payload"]["data"]["ordersChanged"]["kind"], "PRESENT", "{first}");
        orders.push(tokio::spawn(follow_orders(socket)));
    }
    let mut stocks = Vec::new();
    for number in 0..OF_STOCKS {
        let (mut socket, sku) = (Socket::open(&server).await, format!("S{}", number % STOCKS));
        socket.follow("s", STOCK, json!({ "sku": sku })).await;
        let first = socket.hear().await.unwrap();
        assert_eq!(first["payload"]["data"]["stockChanged"]["product"], Value::Null, "{first}");
        let last = (CHANGES / 2 / STOCKS) as i64;
        stocks.push(tokio::spawn(follow_stock(socket, sku, last)));
    }
    let on_hand = change(&server, &answered).await;
    assert!(on_hand.values().all(|on_hand| *on_hand == (CHANGES / 2 / STOCKS) as i64), "{on_hand:?}");
    let mut took = Vec::new();
    for told in orders.into_iter().chain(stocks) {
        let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("one is not told all").unwrap();
        let answered = answered.lock().unwrap();
        took.extend(told.iter().map(|(name, at)| at.saturating_duration_since(answered[name])));
    }
    let expected = OF_ORDERS * CHANGES / 2 + OF_STOCKS * CHANGES / 2 / STOCKS;
    assert_eq!(took.len(), expected, "each is told each change once");
    let most = p99(took);
    println!("{expected} deliveries to {} clients, 99 of 100 within {most:?} of the answer", OF_ORDERS + OF_STOCKS);
    assert!(most < Duration::from_secs(10), "{most:?}");
}

/// What is sent of each order, so that it soon comes to much.
fn at_length() -> String {
    let fields: String = (0..45).map(|number| format!(" a{number}: country")).collect();
    format!("subscription {{ ordersChanged(first: 50) {{ orders {{ id{fields} }} }} }}")
}

#[expect(clippy::print_stdout, reason = "how much it took is worth knowing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_does_not_listen_is_dropped_and_costs_little_until_then() {
    const DEAF: usize = 10;
    let database = Database::create().await;
    let server = Arc::new(Server::start_by_hand(&database).await);
    let country = "Far away ".repeat(20);
    let record = async || {
        let line = json!({ "sku": "S0", "quantity": 1, "unit_price_minor": 100 });
        let sale = json!({ "country": country.trim(), "currency": "GBP", "placed_at": "2026-01-01T08:00:00Z", "lines": [line] });
        let order = Uuid::now_v7();
        server.done(&format!("/v1/order/{order}/record"), sale).await;
        order.to_string()
    };
    for _ in 0..60 {
        record().await;
    }
    let mut good = Socket::open(&server).await;
    good.follow("o", ORDERS, json!({})).await;
    good.hear().await.unwrap();
    let before = server.memory();
    // Each follows as much as it may, and reads none of it.
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let mut socket = Socket::open(&server).await;
        for number in 0..50 {
            socket.follow(&number.to_string(), &at_length(), json!({})).await;
        }
        deaf.push(socket);
    }
    let mut most = before;
    assert!(deaf.iter().all(Socket::is_held));
    while deaf.iter().any(Socket::is_held) {
        let order = record().await;
        // And who listens is told meanwhile.
        loop {
            let message = good.hear().await.unwrap();
            let orders = message["payload"]["data"]["ordersChanged"]["orders"].as_array().unwrap().clone();
            if orders.iter().any(|told| told["id"] == order.as_str()) {
                break;
            }
        }
        most = most.max(server.memory());
    }
    let grown = (most - before) / 1024 / 1024 / DEAF as u64;
    println!("{} MiB before, {} MiB at most: {grown} MiB for each that does not read", before >> 20, most >> 20);
    // Of the 50 answers that it asked for, each of some MiB while it is made, only a few are made.
    assert!(grown <= 24, "{grown} MiB");
    // What was under way may be there still; then it ends.
    for mut socket in deaf {
        let mut messages = 0;
        while socket.hears().await {
            messages += 1;
        }
        assert!(messages < 50_000, "{messages}");
    }
    // Nobody else is dropped.
    let order = record().await;
    while !good.hear().await.unwrap().to_string().contains(&order) {}
}
