//! The same query, asked by many at the same time: executed once for those who are told the same, and for nobody else.

use std::collections::BTreeMap;

use access::{Role, Scope, Scopes};
use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{list_and_receive, order};
use crate::support::{Database, Server, client, status_and_json, token, until_so};

/// How many ask at the same time, of each kind.
const MANY: usize = 8;

/// How many statements have read the orders, as told by connections that are closed.
const READS: &str = "select coalesce(sum(seq_scan + idx_scan), 0)::bigint from pg_stat_all_tables
    where relname = 'orders' and schemaname like 'orders\\_v%'";
const CONNECTED: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'storefold%'";
const WAITING: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like 'select %from read.orders%'";

/// Ends a server, and counts what its connections have read until then.
async fn reads_in_the_end(database: &Database, server: Server) -> i64 {
    assert!(server.stop().await.success());
    until_so(async || database.number(CONNECTED).await == 0).await;
    database.number(READS).await
}

/// How many requests a server works on, the one that asks not counted.
async fn in_flight(server: &Server) -> usize {
    let figures = server.get("/metrics").await.text().await.unwrap();
    let figure = figures.lines().find_map(|line| line.strip_prefix("http_requests_in_flight "));
    figure.unwrap().parse::<usize>().unwrap() - 1
}

#[tokio::test]
async fn who_asks_the_same_is_answered_with_others_who_may_see_the_same() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    list_and_receive(&server, "TEA").await;
    let customers = [Uuid::now_v7(), Uuid::now_v7()];
    let mut placed = BTreeMap::new();
    let mut last = Value::Null;
    for customer in customers {
        let (id, mut cart) = (Uuid::now_v7(), order("TEA"));
        cart["customer"] = json!(customer);
        last = server.done(&format!("/v1/order/{id}/place"), cart).await["position"].clone();
        placed.insert(customer, id);
    }
    server.query("{ orders { totalCount } }", json!({}), last.as_str()).await;
    let before = reads_in_the_end(&database, server).await;

    // Nobody else touches the tables now.
    let server = Server::start_with(&database, &["--roles", "read"]).await;
    let all: Vec<Value> = placed.values().map(|id| json!({ "id": id })).collect();
    let mut asking = vec![(client(&token("one", Scopes::ALL, None)), all.clone())];
    // Another one, who may do less, and sees the same all the same.
    asking.push((client(&token("two", Scopes::default().with(Scope::OrdersRead), None)), all));
    for customer in customers {
        let own = token("customer", Role::Customer.scopes(), Some(customer));
        asking.push((client(&own), vec![json!({ "id": placed[&customer] })]));
    }
    let kinds = asking.len();

    // They are all under way before the first of them has read anything.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("lock table read.orders in access exclusive mode").execute(&mut *lock).await.unwrap();
    let ask = |(client, _): &(reqwest::Client, Vec<Value>)| {
        let body = json!({ "query": "query Same { orders(orderBy: PLACED_AT_ASC) { nodes { id } } }" });
        let request = client.post(format!("{}/graphql", server.url)).json(&body);
        async move { status_and_json(request.send().await.unwrap()).await }
    };
    let asked = (0..MANY).flat_map(|_| asking.iter().map(ask).collect::<Vec<_>>());
    let opened = async {
        until_so(async || in_flight(&server).await == MANY * kinds).await;
        until_so(async || database.number(WAITING).await == kinds as i64).await;
        lock.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(asked), opened);
    for ((status, answer), (_, expected)) in answers.iter().zip(asking.iter().cycle()) {
        assert_eq!((*status, &answer["data"]["orders"]["nodes"]), (200, &json!(expected)), "{answer}");
    }

    // The first of each kind was on its way when the others came, and they were answered together. One that had still not
    // come so far may have been late for that.
    let reads = usize::try_from(reads_in_the_end(&database, server).await - before).unwrap();
    assert!((2 * kinds..=3 * kinds).contains(&reads), "{reads} executions for {} queries", MANY * kinds);
}
