//! Subscriptions: what is there first, then what has changed, nothing lost, and clients that do not behave.

use std::time::Duration;

use read_api::Position;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{Shop, id};
use crate::socket::Socket;

const ORDER: &str = "subscription($id: UUID!, $after: Position) {
    orderChanged(id: $id, after: $after) { asOf order { status lines { sku } } } }";
const ORDERS: &str = "subscription($filter: OrderFilter, $first: Int, $after: Position) {
    ordersChanged(filter: $filter, first: $first, after: $after) { kind asOf left orders { id status } } }";

impl Shop {
    /// Something happens to keys at a position, which every read model folds; `sql` is what becomes of it.
    pub(crate) async fn happen(&self, position: u64, keys: &[&str], sql: &str) {
        self.commit(position, keys, sql).await;
        self.wake.send_replace(());
    }

    /// The same in another process, whose projectors wake nobody here.
    async fn commit(&self, position: u64, keys: &[&str], sql: &str) {
        let at = Position { commit: position, prepare: position };
        *self.head.0.lock().unwrap() = Some(at);
        self.head.1.lock().unwrap().extend(keys.iter().map(|key| (position, (*key).to_owned())));
        self.sql(format!(
            "begin; {sql}; update control.generations set commit_position = {position}, prepare_position = {position}; commit"
        ))
        .await;
    }
}

fn insert(number: u64, status: &str) -> String {
    let order = id(number);
    format!(
        "insert into read.orders select '{order}', null, '{status}', null, timestamptz '2011-01-01' + {number} * interval '1 s',
             null, 'France', 'GBP', 100, 1, 1, now(), 0, 0;
         insert into read.order_lines select '{order}', 1, 'LAMP', 1, 100"
    )
}

fn update(number: u64, status: &str) -> String {
    format!("update read.orders set status = '{status}' where order_id = '{}'", id(number))
}

fn key(number: u64) -> String {
    id(number).to_string()
}

#[tokio::test]
async fn an_order_is_sent_as_it_is_and_whenever_something_happened_to_it() {
    let shop = Shop::open().await;
    let mut socket = Socket::open(&shop).await;
    socket.follow("a", ORDER, json!({ "id": id(1) })).await;
    assert_eq!(socket.data("a").await, json!({ "orderChanged": { "asOf": null, "order": null } }));

    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    let order = json!({ "status": "PLACED", "lines": [{ "sku": "LAMP" }] });
    assert_eq!(socket.data("a").await, json!({ "orderChanged": { "asOf": "1/1", "order": order } }));

    // What happens to others is none of its business, and what another process folds is.
    shop.happen(2, &[&key(2)], &insert(2, "placed")).await;
    shop.commit(3, &[&key(1)], &update(1, "confirmed")).await;
    let order = json!({ "status": "CONFIRMED", "lines": [{ "sku": "LAMP" }] });
    assert_eq!(socket.data("a").await, json!({ "orderChanged": { "asOf": "3/3", "order": order } }));

    // The answer says as of what it is in the extensions too.
    socket.follow("b", ORDER, json!({ "id": id(2) })).await;
    let answer = socket.hear().await;
    assert_eq!(answer["payload"]["extensions"]["asOf"]["position"], "3/3", "{answer}");
}

#[tokio::test]
async fn whoever_gives_a_position_is_answered_once_it_is_folded() {
    let shop = Shop::open().await;
    let mut socket = Socket::open(&shop).await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    socket.follow("a", ORDER, json!({ "id": id(1), "after": "2/2" })).await;
    // The server has taken that before it takes this.
    socket.follow("b", "{ __typename }", json!({})).await;
    assert_eq!(socket.data("b").await, json!({ "__typename": "Query" }));
    assert_eq!(socket.hear().await, json!({ "id": "b", "type": "complete" }));
    shop.happen(2, &[&key(1)], &update(1, "confirmed")).await;
    let sent = socket.data("a").await;
    assert_eq!(
        (&sent["orderChanged"]["asOf"], &sent["orderChanged"]["order"]["status"]),
        (&json!("2/2"), &json!("CONFIRMED"))
    );
}

#[tokio::test]
async fn orders_of_a_filter_come_and_go() {
    let shop = Shop::open().await;
    shop.happen(1, &[&key(1), &key(2)], &format!("{}; {}", insert(1, "placed"), insert(2, "completed"))).await;
    let mut socket = Socket::open(&shop).await;
    socket.follow("a", ORDERS, json!({ "filter": { "status": ["PLACED"] } })).await;
    let sent = |kind: &str, at: u64, orders: &[u64], left: &[u64]| {
        let orders: Vec<Value> = orders.iter().map(|n| json!({ "id": id(*n), "status": "PLACED" })).collect();
        let left: Vec<Value> = left.iter().map(|n| json!(id(*n))).collect();
        json!({ "ordersChanged": { "kind": kind, "asOf": format!("{at}/{at}"), "orders": orders, "left": left } })
    };
    assert_eq!(socket.data("a").await, sent("PRESENT", 1, &[1], &[]));
    shop.happen(2, &[&key(3)], &insert(3, "placed")).await;
    assert_eq!(socket.data("a").await, sent("CHANGED", 2, &[3], &[]));
    shop.happen(3, &[&key(1)], &update(1, "confirmed")).await;
    assert_eq!(socket.data("a").await, sent("CHANGED", 3, &[], &[1]));

    // One who was cut off after the first of these, and comes back.
    socket.follow("b", ORDERS, json!({ "filter": { "status": ["PLACED"] }, "after": "1/1" })).await;
    assert_eq!(socket.data("b").await, sent("CHANGED", 3, &[3], &[1]));
    // Too much has happened to tell it all.
    let keys: Vec<String> = (100..400).map(key).collect();
    shop.happen(4, &keys.iter().map(String::as_str).collect::<Vec<_>>(), "select").await;
    let mut told = [socket.hear().await, socket.hear().await];
    told.sort_by_key(|message| message["id"].to_string());
    for (message, name) in told.iter().zip(["a", "b"]) {
        assert_eq!(message["id"], name);
        assert_eq!(message["payload"]["data"], sent("MISSED", 4, &[3], &[]));
    }
}

#[tokio::test]
async fn other_tables_and_repaired_parking_are_told_of() {
    let shop = Shop::open().await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    let mut socket = Socket::open(&shop).await;
    socket.follow("a", ORDERS, json!({})).await;
    assert_eq!(socket.data("a").await["ordersChanged"]["kind"], "PRESENT");
    // Events that were parked were folded: no position says so.
    shop.sql(format!(
        "{}; update control.generations set parked_changes = 1 where name = 'orders'",
        update(1, "rejected")
    ))
    .await;
    let sent = socket.data("a").await;
    assert_eq!(
        (&sent["ordersChanged"]["kind"], &sent["ordersChanged"]["orders"][0]["status"]),
        (&json!("MISSED"), &json!("REJECTED"))
    );
    // A rebuild has made new tables.
    shop.sql(format!(
        "{}; update control.generations set generation = 2 where name = 'orders'",
        update(1, "cancelled")
    ))
    .await;
    assert_eq!(socket.data("a").await["ordersChanged"]["orders"][0]["status"], "CANCELLED");
}

#[tokio::test]
async fn stock_sales_and_projections_are_followed() {
    let shop = Shop::open().await;
    let mut socket = Socket::open(&shop).await;
    socket
        .follow("stock", "subscription { stockChanged(sku: \"LAMP\") { asOf product { available } } }", json!({}))
        .await;
    assert_eq!(socket.data("stock").await["stockChanged"], json!({ "asOf": null, "product": null }));
    let lamp =
        "insert into read.products select 'LAMP', null, null, null, null, 'unlisted', 5, 1, 4, null, false, now()";
    shop.happen(1, &["LAMP"], lamp).await;
    assert_eq!(socket.data("stock").await["stockChanged"], json!({ "asOf": "1/1", "product": { "available": 4 } }));
    socket.say(json!({ "id": "stock", "type": "complete" })).await;

    let sales = "subscription { salesChanged(currency: \"GBP\") { asOf sales { orders revenue { amount } } } }";
    socket.follow("sales", sales, json!({})).await;
    assert_eq!(socket.data("sales").await["salesChanged"]["sales"]["orders"], 0);
    // A move that changes no sum is not told.
    shop.happen(2, &[], "select").await;
    shop.happen(3, &[], "insert into read.sales_daily select '2011-01-01', 'France', 'GBP', 1, 2, 3, 450").await;
    let sent = socket.data("sales").await;
    assert_eq!(
        sent["salesChanged"],
        json!({ "asOf": "3/3", "sales": { "orders": 1, "revenue": { "amount": "4.50" } } })
    );
    socket.say(json!({ "id": "sales", "type": "complete" })).await;

    let projections = "subscription { projectionsChanged { asOf projections { name position state } } }";
    socket.follow("p", projections, json!({})).await;
    let of_orders = |sent: &Value| {
        let all = sent["projectionsChanged"]["projections"].as_array().unwrap().clone();
        all.into_iter().find(|projection| projection["name"] == "orders").unwrap()
    };
    assert_eq!(of_orders(&socket.data("p").await)["position"], "3/3");
    shop.sql("update control.generations set error = 'boom' where name = 'orders'").await;
    assert_eq!(of_orders(&socket.data("p").await)["state"], "STOPPED");
}

#[tokio::test]
async fn the_last_state_is_never_lost_however_fast_it_changes() {
    let shop = Shop::open().await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = Socket::open(&shop).await;
        socket.follow("one", ORDER, json!({ "id": id(1) })).await;
        socket.follow("all", ORDERS, json!({})).await;
        sockets.push(socket);
    }
    for at in 2..200 {
        shop.happen(at, &[&key(1)], &update(1, ["placed", "confirmed"][at as usize % 2])).await;
    }
    shop.happen(200, &[&key(1)], &update(1, "completed")).await;
    for socket in &mut sockets {
        let (mut one, mut all) = (false, false);
        let mut last = [0, 0];
        while !(one && all) {
            let message = socket.hear().await;
            let data = &message["payload"]["data"];
            let (slot, body) =
                if message["id"] == "one" { (0, &data["orderChanged"]) } else { (1, &data["ordersChanged"]) };
            let at: u64 = body["asOf"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
            assert!(at >= last[slot], "{message}");
            last[slot] = at;
            one |= at == 200 && body["order"]["status"] == "COMPLETED";
            all |= at == 200 && body["orders"][0]["status"] == "COMPLETED";
        }
    }
}

#[tokio::test]
async fn operations_are_refused_one_by_one() {
    let shop = Shop::open_with(|config| config.subscriptions.per_connection = 2).await;
    let mut socket = Socket::open(&shop).await;
    for (query, code) in [
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { __typename projectionsChanged { asOf } }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "subscription { ...F } fragment F on Subscription { projectionsChanged { asOf } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("subscription { projectionsChanged @skip(if: true) { asOf } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "OPERATION_RESOLUTION_FAILURE"),
        (
            "subscription { ordersChanged { orders { customer { orders(first: 200) { nodes { id } } } } } }",
            "COST_ESTIMATED_TOO_EXPENSIVE",
        ),
    ] {
        socket.follow("x", query, json!({})).await;
        let message = socket.hear().await;
        assert_eq!((&message["id"], &message["type"]), (&json!("x"), &json!("error")), "{query} {message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code, "{query}");
    }
    socket.follow("x", "subscription { ordersChanged(first: 201) { asOf } }", json!({})).await;
    let message = socket.hear().await;
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{message}");
    assert_eq!(socket.hear().await, json!({ "id": "x", "type": "complete" }));

    for name in ["1", "2"] {
        socket.follow(name, ORDER, json!({ "id": id(1) })).await;
        socket.data(name).await;
    }
    socket.follow("3", ORDER, json!({ "id": id(1) })).await;
    let message = socket.hear().await;
    assert_eq!(
        (&message["id"], &message["payload"][0]["extensions"]["code"]),
        (&json!("3"), &json!("TOO_MANY_SUBSCRIPTIONS"))
    );
    // Where one has ended there is room again, under the same id too.
    socket.say(json!({ "id": "2", "type": "complete" })).await;
    socket.follow("2", ORDER, json!({ "id": id(2) })).await;
    socket.data("2").await;
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_so_by_a_code() {
    let shop = Shop::open_with(|config| config.subscriptions.init_timeout = Duration::from_millis(100)).await;
    let init = json!({ "type": "connection_init" });
    let follow = json!({ "id": "a", "type": "subscribe", "payload": { "query": ORDER, "variables": { "id": id(1) } } });
    for (said, code) in [
        (vec![json!("nonsense")], 4400),
        (vec![json!({ "type": "nonsense" })], 4400),
        (vec![json!({ "type": "subscribe" })], 4400),
        (vec![init.clone(), json!({ "id": "a", "type": "subscribe" })], 4400),
        (vec![init.clone(), json!({ "id": "a", "type": "subscribe", "payload": {} })], 4400),
        (vec![follow.clone()], 4401),
        (vec![init.clone(), follow.clone(), follow], 4409),
        (vec![init.clone(), init], 4429),
        (vec![], 4408),
    ] {
        let mut socket = Socket::connect(&shop, "graphql-transport-ws").await;
        for message in &said {
            socket.say(message.clone()).await;
        }
        assert_eq!(socket.closed().await.map(|(code, _)| code), Some(code), "{said:?}");
    }
    let mut socket = Socket::open(&shop).await;
    socket.say_bytes().await;
    assert_eq!(socket.closed().await.map(|(code, _)| code), Some(4400));
    let mut socket = Socket::connect(&shop, "").await;
    assert_eq!(socket.closed().await.map(|(code, _)| code), Some(4406));
    // A message that is too long ends the connection, however it is said.
    let mut socket = Socket::open(&shop).await;
    socket.say_text("x".repeat(1024 * 1024 + 1)).await;
    socket.closed().await;
    let mut socket = Socket::open(&shop).await;
    socket.say(json!({ "type": "ping", "payload": { "a": 1 } })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
}

#[tokio::test]
async fn there_is_room_for_so_many_and_again_when_one_leaves() {
    let shop = Shop::open_with(|config| config.subscriptions.connections = 1).await;
    let socket = Socket::open(&shop).await;
    assert_eq!(Socket::try_connect(&shop, "graphql-transport-ws").await.err(), Some(503));
    let events = shop.post().header("accept", "text/event-stream").json(&json!({ "query": "{ __typename }" }));
    assert_eq!(events.send().await.unwrap().status(), 503);
    drop(socket);
    while Socket::try_connect(&shop, "graphql-transport-ws").await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_the_others_are_not() {
    let shop = Shop::open_with(|config| {
        config.subscriptions.connections = 2;
        config.subscriptions.unread = Duration::from_millis(300);
    })
    .await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    // So large that what the sockets buffer is soon full.
    shop.sql(format!("update read.orders set reason = repeat('x', 1000000) where order_id = '{}'", id(1))).await;
    let query = "subscription($id: UUID!) { orderChanged(id: $id) { asOf order { reason } } }";
    let mut deaf = Socket::open(&shop).await;
    deaf.follow("a", query, json!({ "id": id(1) })).await;
    let mut good = Socket::open(&shop).await;
    good.follow("a", "subscription($id: UUID!) { orderChanged(id: $id) { asOf } }", json!({ "id": id(1) })).await;
    good.data("a").await;
    let mut at = 1;
    // While both hold their places there is none for a third.
    let third = loop {
        at += 1;
        shop.happen(at, &[&key(1)], "select").await;
        while good.data("a").await["orderChanged"]["asOf"] != format!("{at}/{at}") {}
        if let Ok(third) = Socket::try_connect(&shop, "graphql-transport-ws").await {
            break third;
        }
        assert!(at < 20_000, "a client that reads nothing keeps its place");
    };
    drop(third);
    // What is still under way comes, and then nothing more.
    deaf.closed().await;
}

#[tokio::test]
async fn a_stream_of_events_that_is_not_read_says_so_at_its_end() {
    let shop = Shop::open_with(|config| {
        config.subscriptions.connections = 1;
        config.subscriptions.unread = Duration::from_millis(300);
    })
    .await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    shop.sql(format!("update read.orders set reason = repeat('x', 1000000) where order_id = '{}'", id(1))).await;
    let query = "subscription($id: UUID!) { orderChanged(id: $id) { asOf order { reason } } }";
    let request = shop.request(query, json!({ "id": id(1) })).header("accept", "text/event-stream");
    let deaf = request.send().await.unwrap();
    let mut at = 1;
    while Socket::try_connect(&shop, "graphql-transport-ws").await.is_err() {
        at += 1;
        shop.happen(at, &[&key(1)], "select").await;
        assert!(at < 20_000, "a client that reads nothing keeps its place");
    }
    let text = deaf.text().await.unwrap();
    let end = &text[text.len() - 300..];
    assert!(end.contains("SLOW_CONSUMER") && end.ends_with("event: complete\ndata:\n\n"), "{end}");
}

#[tokio::test]
async fn many_operations_of_a_slow_client_all_go_on() {
    let shop = Shop::open_with(|config| config.subscriptions.unread = Duration::from_millis(500)).await;
    shop.happen(1, &[&key(1)], &insert(1, "placed")).await;
    let mut socket = Socket::open(&shop).await;
    for number in 0..50 {
        socket.follow(&number.to_string(), ORDER, json!({ "id": id(1) })).await;
    }
    shop.happen(2, &[&key(1)], &update(1, "completed")).await;
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 50 {
        let message = socket.hear().await;
        assert_eq!(message["type"], "next", "{message}");
        if message["payload"]["data"]["orderChanged"]["order"]["status"] == "COMPLETED" {
            told.insert(message["id"].to_string());
        }
    }
}

#[tokio::test]
async fn what_is_followed_ends_when_the_server_stops() {
    let (stop, stopped) = watch::channel(false);
    let shop = Shop::open_with(|config| config.stop = Some(stopped)).await;
    let mut socket = Socket::open(&shop).await;
    socket.follow("a", ORDER, json!({ "id": id(1) })).await;
    socket.data("a").await;
    let query = json!({ "query": ORDER, "variables": { "id": id(1) } });
    let events = shop.post().header("accept", "text/event-stream").json(&query).send().await.unwrap();
    stop.send_replace(true);
    assert_eq!(socket.closed().await, Some((1001, "the server stops".to_owned())));
    assert!(events.text().await.unwrap().ends_with("event: complete\ndata:\n\n"));
}

#[tokio::test]
async fn events_carry_answers_too() {
    let shop = Shop::open().await;
    let ask = async |request: reqwest::RequestBuilder| {
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response
    };
    let text = ask(shop.request("{ __typename }", json!({}))).await.text().await.unwrap();
    let next = "event: next\ndata: {\"data\":{\"__typename\":\"Query\"},";
    assert!(text.starts_with(next) && text.ends_with("\n\nevent: complete\ndata:\n\n"), "{text}");
    let text = ask(shop.get().query(&[("query", "{ nothing }")])).await.text().await.unwrap();
    assert!(text.contains("GRAPHQL_VALIDATION_FAILED") && text.ends_with("event: complete\ndata:\n\n"), "{text}");

    let variables = json!({ "id": id(1) }).to_string();
    let mut events = ask(shop.get().query(&[("query", ORDER), ("variables", &variables)])).await;
    let mut text = String::new();
    for (at, sql) in [(1, insert(1, "placed")), (2, update(1, "confirmed")), (3, update(1, "completed"))] {
        shop.happen(at, &[&key(1)], &sql).await;
        while !text.contains(&format!("\"asOf\":\"{at}/{at}\"")) {
            let chunk = tokio::time::timeout(Duration::from_secs(30), events.chunk()).await.unwrap().unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
    assert!(text.contains("COMPLETED"), "{text}");
}

#[tokio::test]
async fn nobody_looks_when_nobody_follows() {
    let shop = Shop::open().await;
    let mut socket = Socket::open(&shop).await;
    socket.follow("a", ORDER, json!({ "id": id(1) })).await;
    socket.data("a").await;
    drop(socket);
    // One who comes when the watcher has gone, or is about to, misses nothing.
    for at in 1..20 {
        let mut socket = Socket::open(&shop).await;
        socket.follow("a", ORDER, json!({ "id": id(at) })).await;
        socket.data("a").await;
        shop.commit(at, &[&key(at)], &insert(at, "placed")).await;
        assert_eq!(socket.data("a").await["orderChanged"]["order"]["status"], "PLACED");
    }
}
