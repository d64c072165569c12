//! What is told in sums and in steps says the same: sales by any dimensions, and the movements of a stock.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{list_and_receive, order};
use crate::support::{Database, Server, token, until};

const DIMENSIONS: [&str; 5] = ["DAY", "WEEK", "MONTH", "COUNTRY", "PRODUCT"];

/// What rows of sales come to: orders, units and revenue.
fn sum(rows: &Value) -> [i64; 3] {
    rows.as_array().unwrap().iter().fold([0; 3], |[orders, units, revenue], row| {
        let number = |value: &Value| value.as_i64().unwrap();
        [orders + number(&row["orders"]), units + number(&row["units"]), revenue + number(&row["revenue"]["minor"])]
    })
}

#[tokio::test]
async fn sales_by_any_dimensions_come_to_the_same() {
    let database = Database::create().await;
    database.run_well(&["demo"]).await;
    let server = Server::start_by_hand(&database).await;
    // Sales of today, one of which is taken back.
    let mut position = Value::Null;
    for number in 0..6 {
        let id = Uuid::now_v7();
        let lines = json!([{ "sku": "A", "quantity": 1 + number, "unit_price_minor": 7 },
                           { "sku": "B", "quantity": 2, "unit_price_minor": 11 }]);
        let country = if number % 2 == 0 { "EIRE" } else { "Norway" };
        let sale = json!({ "country": country, "currency": "GBP", "card": "tok_approved", "lines": lines });
        server.done(&format!("/v1/order/{id}/place"), sale).await;
        position = server.done(&format!("/v1/order/{id}/confirm"), json!({})).await["position"].clone();
        if number == 3 {
            let call_off = json!({ "reason": "no more wanted" });
            let called_off = server.done(&format!("/v1/order/{id}/call-off"), call_off).await;
            position = called_off["position"].clone();
        }
    }
    // The past orders of the demo begin with 2026, a Thursday: its first week is all of 2025-12-29 to 2026-01-04.
    let days = ["", ", from: \"2026-01-03\"", ", to: \"2026-01-06\"", ", from: \"2026-01-02\", to: \"2026-01-05\""];
    for days in days {
        let total = format!("{{ salesSummary(currency: \"GBP\"{days}) {{ orders units revenue {{ minor }} }} }}");
        let total = server.query(&total, json!({}), position.as_str()).await["salesSummary"].clone();
        let total = sum(&json!([total]));
        assert!(total[0] > 5, "{total:?} says little of {days:?}");
        let by = async |dimensions: String| {
            let query = format!(
                "{{ salesBy(currency: \"GBP\", {dimensions}{days}) {{ key andKey orders units revenue {{ minor }} }} }}"
            );
            let rows = server.query(&query, json!({}), position.as_str()).await["salesBy"].clone();
            let keys: Vec<(String, String)> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| {
                    (row["key"].as_str().unwrap().to_owned(), row["andKey"].as_str().unwrap_or_default().to_owned())
                })
                .collect();
            assert!(keys.is_sorted_by(|one, other| one < other), "{dimensions}: {keys:?}");
            let [orders, units, revenue] = sum(&rows);
            assert_eq!([units, revenue], [total[1], total[2]], "{dimensions}{days}");
            // An order of several products stands with each of them.
            if dimensions.contains("PRODUCT") {
                assert!(orders > total[0], "{dimensions}{days}: {orders} orders of {}", total[0]);
            } else {
                assert_eq!(orders, total[0], "{dimensions}{days}");
            }
        };
        for one in DIMENSIONS {
            by(format!("dimension: {one}")).await;
            for other in DIMENSIONS.into_iter().filter(|other| *other != one) {
                by(format!("dimension: {one}, and: {other}")).await;
            }
        }
    }
}

#[tokio::test]
async fn the_movements_of_a_stock_and_the_timeline_say_who_did_it_and_why() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    list_and_receive(&server, "TEA").await;
    let counted = json!({ "counted": 8, "reason": "two are broken" });
    let alice = crate::support::client(&token("alice", access::Scopes::ALL, None));
    let adjusted = alice.post(format!("{}/v1/stock/TEA/adjust", server.url)).json(&counted).send().await.unwrap();
    assert!(adjusted.status().is_success());
    let id = Uuid::now_v7();
    server.done(&format!("/v1/order/{id}/place"), order("TEA")).await;
    let query = "query($id: UUID!) {
        order(id: $id) { status timeline { what actor correlationId causationId } }
        product(sku: \"TEA\") { onHand available stock { onHand available reserved movements(orderBy: NUMBER_ASC) { nodes {
            movementNo what quantity onHand available orderId reason actor correlationId causationId } } } } }";
    let seen = until(async || {
        let seen = server.query(query, json!({ "id": id }), None).await;
        let moved = seen["product"]["stock"]["movements"]["nodes"].as_array().unwrap().len();
        (seen["order"]["status"] == "COMPLETED" && moved == 4).then_some(seen)
    })
    .await;
    let movements = seen["product"]["stock"]["movements"]["nodes"].as_array().unwrap();
    let told = |row: &Value| {
        json!([
            row["what"],
            row["quantity"],
            row["onHand"],
            row["available"],
            row["orderId"],
            row["reason"],
            row["actor"]
        ])
    };
    assert_eq!(
        movements.iter().map(told).collect::<Vec<_>>(),
        [
            json!(["RECEIVED", 10, 10, 10, null, null, "tests"]),
            json!(["ADJUSTED", -2, 8, 8, null, "two are broken", "alice"]),
            json!(["RESERVED", 2, 8, 6, id, null, "process checkout"]),
            json!(["SHIPPED", 2, 6, 6, id, null, "process checkout"]),
        ]
    );
    assert_eq!(seen["product"]["stock"]["onHand"], 6);
    let timeline = seen["order"]["timeline"].as_array().unwrap();
    assert_eq!((&timeline[0]["what"], &timeline[0]["actor"]), (&json!("ORDER_PLACED"), &json!("tests")));
    // All of it was set in motion by one request, and each of it by something.
    let correlation = &timeline[0]["correlationId"];
    assert!(timeline.iter().chain(&movements[2..]).all(|one| one["correlationId"] == *correlation), "{seen:#}");
    assert!(timeline.iter().chain(movements).all(|one| one["causationId"].is_string()), "{seen:#}");
    // The reservation is what the order led to.
    assert_ne!(movements[2]["causationId"], movements[2]["correlationId"]);
    // And what is told of then is what is told of now.
    let as_of = "query($id: UUID!) { order(id: $id) { timeline { what actor causationId } }
        orderAsOf(id: $id, at: { time: \"2100-01-01T00:00:00Z\" }) { timeline { what actor causationId } } }";
    let seen = server.query(as_of, json!({ "id": id }), None).await;
    assert_eq!(seen["order"], seen["orderAsOf"]);
    for model in ["stock_movements", "orders", "product_sales"] {
        database.run_well(&["verify", model, "--full"]).await;
    }
}
