//! Many orders at once, and large ones.

use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{assert_consistent, order, orders, receive, until_at_rest};
use crate::history::{History, history};
use crate::import::answers;
use crate::support::{Database, Server, soak};

/// Places orders, so many at a time.
pub(super) async fn place_all(server: &Server, at_once: usize, orders: Vec<Value>) {
    futures::stream::iter(orders)
        .for_each_concurrent(at_once, async |order| {
            server.done(&format!("/v1/order/{}/place", Uuid::now_v7()), order).await;
        })
        .await;
}

#[tokio::test]
async fn a_history_that_is_traded_ends_as_one_that_is_recorded() {
    let database = Database::create().await;
    let History { ndjson, expected } = history(2_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, ndjson.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let printed = database.run_well(&["import", "--json", "--live", "--fulfil", path]).await;
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&summary["faulty"], &summary["checkouts"]["parked"]), (&json!(0), &json!(0)));
    assert_consistent(&database).await;
    assert_eq!(orders(&database, "completed").await, 2_000);
    // The stock lines of a history are exactly what its orders take.
    assert_eq!(database.number("select count(*) from read.products where on_hand <> 0 or reserved <> 0").await, 0);
    let revenue = expected["revenue_minor"].as_i64().unwrap();
    for (what, sql) in [
        ("cash", "select sum(amount_minor)::bigint from read.ledger_entries where account = 'cash'"),
        ("captured", "select sum(captured_minor)::bigint from read.payments"),
        ("bank", "select sum(minor)::bigint from sandbox.movements where kind = 'capture'"),
    ] {
        assert_eq!(database.number(sql).await, revenue, "{what}");
    }
    let server = Server::start(&database).await;
    assert_eq!(answers(&server).await, expected);
    database.run_well(&["verify", "--all"]).await;

    let length = database.log_length().await;
    database.run_well(&["import", "--json", "--live", "--fulfil", path]).await;
    assert_eq!(database.log_length().await, length, "imported again, it changes nothing");
}

#[tokio::test]
async fn an_order_of_1114_lines_completes() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    let skus: Vec<String> = (0..1_100).map(|number| format!("S{number:04}")).collect();
    futures::stream::iter(&skus).for_each_concurrent(32, async |sku| receive(&server, sku, 2).await).await;
    // The last few stand on two lines each.
    let lines: Vec<(&str, i64)> = skus.iter().chain(&skus[..14]).map(|sku| (sku.as_str(), 1)).collect();
    assert_eq!(lines.len(), 1_114);
    place_all(&server, 1, vec![order("tok_approved", &lines)]).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(orders(&database, "completed").await, 1);
    assert_eq!(database.number("select sum(on_hand)::bigint from read.products").await, 2 * 1_100 - 1_114);
}

#[tokio::test]
async fn orders_that_share_a_sku_complete_side_by_side() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    receive(&server, "TEA", 64).await;
    place_all(&server, 64, vec![order("tok_approved", &[("TEA", 1)]); 64]).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(orders(&database, "completed").await, 64);
    assert_eq!(database.number("select on_hand from read.products where sku = 'TEA'").await, 0);
}

/// 64 buyers want the last 10 units of a SKU, one each: 10 get them, 54 are told so.
#[tokio::test]
async fn the_last_units_are_sold_once() {
    last_units(100 * soak::times()).await;
}

async fn last_units(rounds: usize) {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    let skus: Vec<String> = (0..rounds).map(|round| format!("R{round:05}")).collect();
    futures::stream::iter(&skus).for_each_concurrent(32, async |sku| receive(&server, sku, 10).await).await;
    let wanted = skus.iter().flat_map(|sku| vec![order("tok_approved", &[(sku, 1)]); 64]).collect();
    place_all(&server, 64, wanted).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    let wrong = "select count(*) from (select sku, count(*) filter (where status = 'completed') as sold,
            count(*) filter (where status = 'rejected' and reason like sku || ': 1 asked for, 0 available') as told
        from read.order_lines join read.orders using (order_id) group by sku) as round where sold <> 10 or told <> 54";
    assert_eq!(database.number(wrong).await, 0);
    assert_eq!(database.number("select count(distinct sku) from read.order_lines").await, rounds as i64);
}
