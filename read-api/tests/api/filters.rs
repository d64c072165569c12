//! Filters, each against what the rows themselves say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::Shop;
use crate::paging::large_shop;

/// Asserts that a filter lets through exactly those of a list's rows that `expected` does, and some but not all.
async fn check(shop: &Shop, field: &str, fields: &str, filter: &str, expected: impl Fn(&Value) -> bool) {
    let all = rows(shop, field, fields, "first: 200").await;
    let expected: BTreeSet<String> = all.iter().filter(|row| expected(row)).map(Value::to_string).collect();
    assert!(!expected.is_empty() && expected.len() < all.len(), "{filter} tells nothing: {} rows", expected.len());
    let found = rows(shop, field, fields, &format!("first: 200, filter: {filter}")).await;
    assert_eq!(found.iter().map(Value::to_string).collect::<BTreeSet<_>>(), expected, "{filter}");
    let count = shop.data(&format!("{{ {field}(filter: {filter}) {{ totalCount }} }}")).await;
    assert_eq!(count[field]["totalCount"], json!(expected.len()), "{filter}");
}

async fn rows(shop: &Shop, field: &str, fields: &str, arguments: &str) -> Vec<Value> {
    let data = shop.data(&format!("{{ {field}({arguments}) {{ nodes {{ {fields} }} }} }}")).await;
    data[field]["nodes"].as_array().unwrap().clone()
}

#[tokio::test]
async fn orders_are_filtered() {
    let shop = large_shop().await;
    shop.sql("update read.orders set reference = total_minor::text").await;
    let fields = "id reference status placedAt country customer { id } total { minor currency } lines { sku }";
    let check =
        async |filter: &str, expected: &dyn Fn(&Value) -> bool| check(&shop, "orders", fields, filter, expected).await;
    let minor = |row: &Value| row["total"]["minor"].as_i64().unwrap();
    let placed_at = |row: &Value| row["placedAt"].as_str().unwrap().to_owned();

    check("{ status: [PLACED, CANCELLED] }", &|row| row["status"] != "CONFIRMED").await;
    check("{ country: \"EIRE\" }", &|row| row["country"] == "EIRE").await;
    check("{ reference: \"100\" }", &|row| row["reference"] == "100").await;
    let customer = "00000000-0000-0000-0000-0000000003ea";
    check(&format!("{{ customerId: {customer:?} }}"), &|row| row["customer"]["id"] == customer).await;
    check("{ sku: \"SKU7\" }", &|row| row["lines"].as_array().unwrap().contains(&json!({ "sku": "SKU7" }))).await;
    check("{ placedAt: { from: \"2011-01-01T01:00:00Z\" } }", &|row| *placed_at(row) >= *"2011-01-01T01").await;
    // An hour given with another offset is the same hour; the end is not in the range.
    check("{ placedAt: { to: \"2011-01-01T02:00:00+01:00\" } }", &|row| *placed_at(row) < *"2011-01-01T01").await;
    check("{ total: { currency: \"EUR\", minMinor: 300 } }", &|row| {
        row["total"]["currency"] == "EUR" && minor(row) >= 300
    })
    .await;
    check("{ total: { currency: \"GBP\", minMinor: 200, maxMinor: 400 }, status: [PLACED] }", &|row| {
        row["total"]["currency"] == "GBP" && (200..=400).contains(&minor(row)) && row["status"] == "PLACED"
    })
    .await;

    assert!(rows(&shop, "orders", "id", "filter: { status: [] }").await.is_empty());
    assert!(rows(&shop, "orders", "id", "filter: { country: \"' or true --\" }").await.is_empty());
    assert_eq!(rows(&shop, "orders", "id", "first: 200, filter: {}").await.len(), 61);
}

#[tokio::test]
async fn filters_combine() {
    let shop = large_shop().await;
    shop.sql("update read.orders set reference = total_minor::text where total_minor > 300").await;
    let fields = "id reference status country total { minor }";
    let check =
        async |filter: &str, expected: &dyn Fn(&Value) -> bool| check(&shop, "orders", fields, filter, expected).await;
    let is = |row: &Value, status: &str, country: &str| row["status"] == status && row["country"] == country;
    check("{ or: [{ status: [PLACED], country: \"EIRE\" }, { status: [CANCELLED], country: \"France\" }] }", &|row| {
        is(row, "PLACED", "EIRE") || is(row, "CANCELLED", "France")
    })
    .await;
    // A row without a reference has not that one.
    check("{ not: { reference: \"400\" } }", &|row| row["reference"] != "400").await;
    check(
        "{ and: [{ status: [PLACED, CONFIRMED] }, { status: [CONFIRMED, CANCELLED] }], country: \"EIRE\" }",
        &|row| is(row, "CONFIRMED", "EIRE"),
    )
    .await;
    check("{ not: { or: [{ status: [PLACED] }, { not: { country: \"EIRE\" } }] } }", &|row| {
        row["status"] != "PLACED" && row["country"] == "EIRE"
    })
    .await;
    assert!(rows(&shop, "orders", "id", "filter: { or: [] }").await.is_empty());
    assert!(rows(&shop, "orders", "id", "filter: { not: {} }").await.is_empty());
    assert_eq!(rows(&shop, "orders", "id", "first: 200, filter: { or: [{}], and: [{}] }").await.len(), 61);

    for (field, filter) in [
        ("products", "{ or: [{ status: [LISTED] }, { namePrefix: \"z\" }] }"),
        ("customers", "{ not: { status: [OPEN] }, and: [{ namePrefix: \"customer 1\" }] }"),
        ("checkouts", "{ or: [{ state: [PARKED] }, { step: [DONE] }] }"),
        ("ledger", "{ not: { account: [CASH] } }"),
    ] {
        let all = shop.data(&format!("{{ {field} {{ totalCount }} }}")).await[field]["totalCount"].as_i64().unwrap();
        let some = shop.data(&format!("{{ {field}(filter: {filter}) {{ totalCount }} }}")).await;
        assert!((1..all).contains(&some[field]["totalCount"].as_i64().unwrap()), "{field} {filter} {some}");
    }

    // A cursor of one combination is none of another.
    let page = |filter: &str, after: &str| {
        format!("{{ orders(first: 1, filter: {filter}{after}) {{ pageInfo {{ endCursor }} }} }}")
    };
    let data = shop.data(&page("{ or: [{ country: \"EIRE\" }] }", "")).await;
    let after = format!(", after: {}", data["orders"]["pageInfo"]["endCursor"]);
    shop.data(&page("{ or: [{ country: \"EIRE\" }] }", &after)).await;
    for other in ["{ country: \"EIRE\" }", "{ not: { country: \"EIRE\" } }", "{ or: [{ not: { country: \"EIRE\" } }] }"]
    {
        assert_eq!(shop.ask(&page(other, &after)).await.codes(), ["BAD_CURSOR"], "{other}");
    }
    let many = format!("{{ or: [{}] }}", "{ country: \"EIRE\" }".repeat(60));
    assert_eq!(shop.ask(&page(&many, "")).await.codes(), ["BAD_USER_INPUT"]);
}

#[tokio::test]
async fn products_are_filtered() {
    let shop = large_shop().await;
    shop.sql("update read.products set name = '100% Wool_' where sku = 'SKU60'").await;
    let fields = "sku name status available price { minor currency }";
    let check = async |filter: &str, expected: &dyn Fn(&Value) -> bool| {
        check(&shop, "products", fields, filter, expected).await
    };
    let name = |row: &Value| row["name"].as_str().unwrap_or_default().to_lowercase();

    check("{ status: [UNLISTED] }", &|row| row["status"] == "UNLISTED").await;
    check("{ skuPrefix: \"SKU2\" }", &|row| row["sku"].as_str().unwrap().starts_with("SKU2")).await;
    check("{ namePrefix: \"LA\" }", &|row| name(row).starts_with("la")).await;
    check("{ namePrefix: \"É\" }", &|row| name(row).starts_with('é')).await;
    check("{ search: \"OO\" }", &|row| name(row).contains("oo")).await;
    check("{ available: { min: 2, max: 3 } }", &|row| (2..=3).contains(&row["available"].as_i64().unwrap())).await;
    check("{ available: { min: 5 } }", &|row| row["available"].as_i64().unwrap() >= 5).await;
    check("{ price: { currency: \"GBP\", maxMinor: 100 } }", &|row| {
        row["price"]["minor"].as_i64().is_some_and(|minor| minor <= 100)
    })
    .await;
    // What a pattern would read as a wildcard is a letter like others.
    check("{ search: \"% wool_\" }", &|row| row["sku"] == "SKU60").await;
    assert!(rows(&shop, "products", "sku", "filter: { namePrefix: \"_\" }").await.is_empty());
    assert!(rows(&shop, "products", "sku", "filter: { price: { currency: \"EUR\" } }").await.is_empty());
}

#[tokio::test]
async fn customers_are_filtered() {
    let shop = large_shop().await;
    let check = async |filter: &str, expected: &dyn Fn(&Value) -> bool| {
        check(&shop, "customers", "id reference status", filter, expected).await
    };
    check("{ reference: \"5\" }", &|row| row["reference"] == "5").await;
    check("{ status: [CLOSED] }", &|row| row["status"] == "CLOSED").await;
    check("{ status: [OPEN], reference: \"1\" }", &|row| row["status"] == "OPEN" && row["reference"] == "1").await;
}

#[tokio::test]
async fn checkouts_are_filtered() {
    let shop = large_shop().await;
    shop.sql("update read.checkouts set started_at = now() - interval '1 minute' where state = 'parked'").await;
    let check = async |filter: &str, expected: &dyn Fn(&Value) -> bool| {
        check(&shop, "checkouts", "orderId state step startedAt", filter, expected).await
    };
    let started_at = |row: &Value| row["startedAt"].as_str().unwrap().to_owned();
    check("{ state: [PARKED] }", &|row| row["state"] == "PARKED").await;
    check("{ state: [RUNNING, COMPLETED], step: [DONE] }", &|row| row["state"] != "PARKED" && row["step"] == "DONE")
        .await;
    check("{ olderThanSeconds: 3600 }", &|row| row["state"] != "PARKED").await;
    shop.sql("update read.checkouts set problem = 'the gateway is away' where state = 'running' and step = 'paying'")
        .await;
    let check = async |filter: &str, expected: &dyn Fn(&Value) -> bool| {
        let fields = "orderId state step startedAt problem inTrouble";
        self::check(&shop, "checkouts", fields, filter, expected).await
    };
    let is_in_trouble = |row: &Value| row["state"] == "PARKED" || !row["problem"].is_null();
    check("{ inTrouble: true }", &|row| is_in_trouble(row) && row["inTrouble"] == true).await;
    check("{ inTrouble: false }", &|row| !is_in_trouble(row) && row["inTrouble"] == false).await;
    check("{ startedAt: { to: \"2011-01-01T01:00:00Z\" } }", &|row| *started_at(row) < *"2011-01-01T01").await;
    assert_eq!(rows(&shop, "checkouts", "orderId", "first: 200, filter: { olderThanSeconds: 30 }").await.len(), 61);
    for seconds in [i32::MIN, i32::MAX] {
        rows(&shop, "checkouts", "orderId", &format!("filter: {{ olderThanSeconds: {seconds} }}")).await;
    }
}

#[tokio::test]
async fn the_ledger_is_filtered() {
    let shop = large_shop().await;
    let fields = "id paymentId account movement amount { currency } at";
    let check =
        async |filter: &str, expected: &dyn Fn(&Value) -> bool| check(&shop, "ledger", fields, filter, expected).await;
    let at = |row: &Value| row["at"].as_str().unwrap().to_owned();
    let payment = "00000000-0000-0000-0000-000000000003";
    check(&format!("{{ paymentId: {payment:?} }}"), &|row| row["paymentId"] == payment).await;
    check("{ account: [HOLDS, HOLDS_CONTRA] }", &|row| row["account"] != "CASH").await;
    check("{ movement: [CAPTURE] }", &|row| row["movement"] == "CAPTURE").await;
    check("{ currency: \"EUR\" }", &|row| row["amount"]["currency"] == "EUR").await;
    check("{ at: { from: \"2011-01-01T01:00:00Z\", to: \"2011-01-01T02:00:00Z\" } }", &|row| {
        at(row).starts_with("2011-01-01T01")
    })
    .await;
    check("{ account: [HOLDS], at: { to: \"2011-01-01T02:00:00Z\" }, currency: \"GBP\" }", &|row| {
        row["account"] == "HOLDS" && *at(row) < *"2011-01-01T02" && row["amount"]["currency"] == "GBP"
    })
    .await;
}

#[tokio::test]
async fn payments_are_filtered() {
    let shop = large_shop().await;
    let fields =
        "paymentId status inTrouble captureFailure amount { currency } requestedAt changedAt refunds { status }";
    let check = async |filter: &str, expected: &dyn Fn(&Value) -> bool| {
        check(&shop, "payments", fields, filter, expected).await
    };
    let failed = |row: &Value| row["refunds"].as_array().unwrap().iter().any(|refund| refund["status"] == "FAILED");
    let in_trouble = |row: &Value| !row["captureFailure"].is_null() || failed(row);
    check("{ status: [REQUESTED, CAPTURED] }", &|row| row["status"] == "REQUESTED" || row["status"] == "CAPTURED")
        .await;
    check("{ inTrouble: true }", &|row| in_trouble(row) && row["inTrouble"] == true).await;
    check("{ inTrouble: false }", &|row| !in_trouble(row) && row["inTrouble"] == false).await;
    check("{ currency: \"EUR\" }", &|row| row["amount"]["currency"] == "EUR").await;
    check("{ requestedAt: { from: \"2011-01-01T01:00:00Z\" } }", &|row| {
        row["requestedAt"].as_str().unwrap() >= "2011-01-01T01"
    })
    .await;
    // What was answered waits for nothing; what was asked just now does not wait for long.
    check("{ unansweredForSeconds: 60 }", &|row| {
        row["status"] == "REQUESTED" && row["changedAt"].as_str() < Some("2012")
    })
    .await;
}

#[tokio::test]
async fn a_text_that_postgres_cannot_keep_is_bad_input() {
    let shop = Shop::open().await;
    let reply = shop.ask("{ orders(filter: { country: \"\\u0000\" }) { totalCount } }").await;
    assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
}
