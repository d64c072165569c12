//! Whoever brings the position of a command along sees what it did, whichever process commands, projects and answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Dice, Server, soak};

/// How many commands are sent, each with a query behind it.
const COMMANDS: usize = 1_000;
/// How many clients send them side by side.
const CLIENTS: u64 = 4;

/// One client: a command to a process that the dice choose, and at once a query with its position to one that they choose too.
/// Nobody else touches what it touches, so it knows what must be seen.
async fn see_own_writes(client: u64, mut dice: Dice, servers: Arc<Vec<(Server, bool)>>, writes: usize) {
    let (mut on_hand, mut movements) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, i64>::new());
    let (mut orders, customer) = (0, Uuid::now_v7());
    for number in 0..writes {
        let writers: Vec<&Server> = servers.iter().filter(|(_, writes)| *writes).map(|(server, _)| server).collect();
        let writer = writers[dice.roll(writers.len() as u64) as usize];
        let reader = &servers[dice.roll(servers.len() as u64) as usize].0;
        let said = format!("client {client}, write {number}");
        if dice.roll(3) > 0 {
            let (sku, quantity) = (format!("S{client}-{}", dice.roll(5)), 1 + dice.roll(9) as i64);
            let path = format!("/v1/stock/{sku}/receive");
            let done = writer.done(&path, json!({ "quantity": quantity })).await;
            *on_hand.entry(sku.clone()).or_default() += quantity;
            *movements.entry(sku.clone()).or_default() += 1;
            let query =
                "query($sku: Sku!) { product(sku: $sku) { onHand stock { movements(first: 1) { totalCount nodes {
                 onHand quantity } } } } }";
            let seen = reader.query(query, json!({ "sku": sku }), done["position"].as_str()).await;
            let last = json!({ "onHand": on_hand[&sku], "quantity": quantity });
            let moved = json!({ "totalCount": movements[&sku], "nodes": [last] });
            let expected = json!({ "onHand": on_hand[&sku], "stock": { "movements": moved } });
            assert_eq!(seen["product"], expected, "{said}: {sku}");
        } else {
            let order = Uuid::now_v7();
            let lines = json!([{ "sku": "S", "quantity": 1, "unit_price_minor": 100 }]);
            let sale = json!({ "country": "EIRE", "currency": "GBP", "customer": customer,
                               "placed_at": "2026-01-01T08:00:00Z", "lines": lines });
            let done = writer.done(&format!("/v1/order/{order}/record"), sale).await;
            orders += 1;
            let query = "query($order: UUID!, $customer: UUID!) {
                 order(id: $order) { status } orders(filter: { customerId: $customer }) { totalCount } }";
            let asked = json!({ "order": order, "customer": customer });
            let seen = reader.query(query, asked, done["position"].as_str()).await;
            let expected = json!({ "order": { "status": "RECORDED" }, "orders": { "totalCount": orders } });
            assert_eq!(seen, expected, "{said}: order {order}");
        }
    }
}

/// Sends commands and queries to these processes, each of which may write or not.
#[expect(clippy::print_stdout, reason = "what the dice start from tells a failure again")]
async fn own_writes_are_seen(servers: Vec<(Server, bool)>, commands: usize) {
    let seed = soak::seed();
    println!("seed {seed}, {commands} commands");
    let servers = Arc::new(servers);
    let clients = (0..CLIENTS).map(|client| {
        let dice = Dice(seed.wrapping_mul(CLIENTS).wrapping_add(client));
        tokio::spawn(see_own_writes(client, dice, servers.clone(), commands / CLIENTS as usize))
    });
    for client in futures::future::join_all(clients).await {
        client.unwrap();
    }
    // None was answered without waiting because of anything but the position: without one, nobody waits.
    let ask = servers[0].0.client.post(format!("{}/graphql", servers[0].0.url));
    let ask = ask.header("Storefold-After", "9000000000000000/9000000000000000").header("Storefold-Wait", "1");
    let answer: Value =
        ask.json(&json!({ "query": "{ orders { totalCount } }" })).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "STALE", "{answer}");
}

#[tokio::test]
async fn an_own_write_is_seen_in_every_process_that_does_everything() {
    let database = Database::create().await;
    let servers = vec![(Server::start_by_hand(&database).await, true), (Server::start_by_hand(&database).await, true)];
    own_writes_are_seen(servers, COMMANDS * soak::times()).await;
}

#[tokio::test]
async fn an_own_write_is_seen_in_processes_that_do_one_thing_each() {
    let database = Database::create().await;
    let serve = async |roles: &str| Server::start_with(&database, &["--roles", roles]).await;
    let projector = serve("project").await;
    let writer = serve("write,read").await;
    let reader = serve("read").await;
    own_writes_are_seen(vec![(writer, true), (reader, false)], COMMANDS * soak::times()).await;
    assert!(projector.stop().await.success());
}
