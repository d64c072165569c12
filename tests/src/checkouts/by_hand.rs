//! One order at a time, with somebody who does something about it.

use std::process::Stdio;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{assert_consistent, orders, place, receive, state, until_at_rest, until_status};
use crate::support::{Database, Server, status_and_json, until_so};

async fn refused(server: &Server, path: &str, body: Value) -> Value {
    let (status, problem) = status_and_json(server.command(path, &body).send().await.unwrap()).await;
    assert_eq!(status, 422, "{path}: {problem}");
    problem
}

/// The goods of an order leave the house.
async fn dispatch(server: &Server, order: Uuid) {
    until_status(server, &format!("shipment/{order}"), "requested").await;
    let by = json!({ "carrier": "An Post", "tracking": "CE123" });
    server.done(&format!("/v1/shipment/{order}/dispatch"), by).await;
    until_status(server, &format!("order/{order}"), "dispatched").await;
}

#[tokio::test]
async fn an_order_is_reserved_paid_shipped_and_completed() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    let seen = server
        .query(
            "query($id: UUID!) { order(id: $id) { status payment { status captured { minor } }
                shipment { status carrier } timeline { what } checkout { state step } } }",
            json!({ "id": order }),
            None,
        )
        .await;
    let order = &seen["order"];
    assert_eq!(order["status"], "COMPLETED");
    assert_eq!(order["payment"], json!({ "status": "CAPTURED", "captured": { "minor": 200 } }));
    assert_eq!((&order["shipment"]["status"], &order["checkout"]["state"]), (&json!("DELIVERED"), &json!("COMPLETED")));
    assert_eq!(state(&server, "stock/TEA").await["on_hand"], 3);
    assert!(order["timeline"].as_array().unwrap().len() >= 10, "{order:#}");
}

#[tokio::test]
async fn a_declined_card_and_an_empty_shelf_undo_the_order() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    receive(&server, "TEA", 5).await;
    let declined = place(&server, "tok_declined", &[("TEA", 2)]).await;
    let too_much = place(&server, "tok_approved", &[("TEA", 2), ("CUP", 1)]).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    for (order, word) in [(declined, ""), (too_much, "CUP")] {
        let order = state(&server, &format!("order/{order}")).await;
        assert_eq!(order["status"], "rejected");
        assert!(order["reason"].as_str().unwrap().contains(word), "{order}");
    }
    assert_eq!(state(&server, "stock/TEA").await["available"], 5);
    assert_eq!(state(&server, &format!("payment/{too_much}")).await, Value::Null);
}

#[tokio::test]
async fn a_gift_is_charged_to_nobody() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    receive(&server, "TEA", 5).await;
    let gift = Uuid::now_v7();
    let line = json!({ "sku": "TEA", "quantity": 1, "unit_price_minor": 0 });
    let body = json!({ "country": "EIRE", "currency": "GBP", "lines": [line] });
    server.done(&format!("/v1/order/{gift}/place"), body).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(orders(&database, "completed").await, 1);
    assert_eq!(database.number("select count(*) from sandbox.payments").await, 0);
    let priced = json!({ "country": "EIRE", "currency": "GBP",
        "lines": [{ "sku": "TEA", "quantity": 1, "unit_price_minor": 5 }] });
    let problem = refused(&server, &format!("/v1/order/{}/place", Uuid::now_v7()), priced).await;
    assert_eq!(problem["type"], "/problems/order/no-card");
}

#[tokio::test]
async fn an_order_that_is_cancelled_before_it_is_paid_costs_nothing() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_slow", &[("TEA", 2)]).await;
    until_status(&server, &format!("payment/{order}"), "requested").await;
    server.done(&format!("/v1/order/{order}/cancel"), json!({ "reason": "changed my mind" })).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(orders(&database, "cancelled").await, 1);
    assert_eq!(state(&server, &format!("payment/{order}")).await["status"], "voided");
    assert_eq!(state(&server, "stock/TEA").await["available"], 5);
}

#[tokio::test]
async fn an_order_that_is_cancelled_after_it_is_paid_gets_its_money_let_go() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    until_status(&server, &format!("shipment/{order}"), "requested").await;
    let answer = server.done(&format!("/v1/order/{order}/cancel"), json!({ "reason": "changed my mind" })).await;
    assert_eq!(answer["events"][0]["type"], "OrderCancellationRequested");
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(state(&server, &format!("order/{order}")).await["reason"], "changed my mind");
    assert_eq!(state(&server, &format!("shipment/{order}")).await["status"], "cancelled");
    assert_eq!(state(&server, &format!("payment/{order}")).await["status"], "voided");
    assert_eq!(state(&server, "stock/TEA").await["available"], 5);
    assert_eq!(database.number("select coalesce(sum(orders), 0)::bigint from read.sales_daily").await, 0);
}

#[tokio::test]
async fn an_order_that_has_left_the_house_cannot_be_cancelled() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    dispatch(&server, order).await;
    let problem = refused(&server, &format!("/v1/order/{order}/cancel"), json!({ "reason": "too late" })).await;
    assert_eq!((&problem["type"], &problem["status"]), (&json!("/problems/order/cannot-cancel"), &json!(422)));
    assert!(problem["detail"].as_str().unwrap().contains("dispatched"), "{problem}");
    server.done(&format!("/v1/shipment/{order}/deliver"), json!({})).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(
        (orders(&database, "completed").await, state(&server, "stock/TEA").await["on_hand"].clone()),
        (1, json!(3))
    );
}

#[tokio::test]
async fn a_lost_parcel_is_paid_back() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    dispatch(&server, order).await;
    server.done(&format!("/v1/shipment/{order}/report-lost"), json!({ "reason": "fell into the sea" })).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(state(&server, &format!("order/{order}")).await["reason"], "fell into the sea");
    assert_eq!(state(&server, &format!("payment/{order}")).await["refunded_minor"], 200);
    assert_eq!(state(&server, "stock/TEA").await["on_hand"], 3);
}

#[tokio::test]
async fn no_more_is_refunded_than_was_captured() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    receive(&server, "TEA", 10).await;
    let order = place(&server, "tok_approved", &[("TEA", 10)]).await;
    until_at_rest(&database).await;
    let part = json!({ "amount": { "minor": 400, "currency": "GBP" }, "reason": "chipped" });
    let refund = format!("/v1/payment/{order}/refund");
    // The second is asked for before the gateway has answered the first.
    server.done(&refund, part.clone()).await;
    server.done(&refund, part.clone()).await;
    let problem = refused(&server, &refund, part.clone()).await;
    assert_eq!(problem["type"], "/problems/payment/refund-exceeds-captured");
    assert_eq!(problem["refundable"], json!({ "minor": 200, "currency": "GBP" }));
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    refused(&server, &refund, part).await;
    assert_eq!(database.number("select sum(minor)::bigint from sandbox.movements where kind = 'refund'").await, 800);
    // A sale that is paid back in part is still a sale; paid back in full it is none.
    assert_eq!(database.number("select sum(orders)::bigint from read.sales_daily").await, 1);
    let rest = json!({ "amount": { "minor": 200, "currency": "GBP" }, "reason": "all broken" });
    server.done(&refund, rest).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(database.number("select sum(orders)::bigint from read.sales_daily").await, 0);
}

#[tokio::test]
async fn a_capture_that_the_bank_refuses_waits_until_somebody_tries_again() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let by_hand = place(&server, "tok_capture_refused", &[("TEA", 2)]).await;
    let by_itself = place(&server, "tok_capture_refused", &[("TEA", 2)]).await;
    for order in [by_hand, by_itself] {
        dispatch(&server, order).await;
        server.done(&format!("/v1/shipment/{order}/deliver"), json!({})).await;
    }
    let is_parked = "select count(*) from read.checkouts where state = 'parked'";
    until_so(async || database.number(is_parked).await == 2).await;
    let parked: Vec<Value> = serde_json::from_str(&database.run_well(&["parked", "--json"]).await).unwrap();
    let gone = "the goods are gone, and the money could not be taken";
    assert!(parked.len() == 2 && parked.iter().all(|parked| parked["why"] == gone), "{parked:?}");
    let amount = json!({ "amount": { "minor": 200, "currency": "GBP" } });
    server.done(&format!("/v1/payment/{by_hand}/capture"), amount).await;
    database.run_well(&["retry", &by_itself.to_string()]).await;
    for order in [by_hand, by_itself] {
        until_status(&server, &format!("order/{order}"), "completed").await;
    }
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(database.run_well(&["parked", "--json"]).await.trim(), "[]");
    let retried = database.run(&["retry", &by_hand.to_string()]).await;
    assert!(
        !retried.status.success() && String::from_utf8_lossy(&retried.stderr).contains("not parked"),
        "{retried:?}"
    );
}

#[tokio::test]
async fn what_nobody_foresaw_is_parked_shown_and_let_try_again() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_slow", &[("TEA", 2)]).await;
    until_status(&server, &format!("payment/{order}"), "requested").await;
    // Somebody confirms it who should not: the checkout will find that it cannot.
    server.done(&format!("/v1/order/{order}/confirm"), json!({})).await;
    let other = place(&server, "tok_approved", &[("TEA", 1)]).await;
    let is_parked = "select count(*) from process.instances where parked_on is not null";
    until_so(async || database.number(is_parked).await == 1).await;
    let printed = database.run_well(&["parked", "--json"]).await;
    let parked: Vec<Value> = serde_json::from_str(&printed).unwrap();
    assert_eq!((parked.len(), &parked[0]["instance"]), (1, &json!(order)));
    assert!(parked[0]["why"].as_str().unwrap().contains("the order is confirmed"), "{parked:?}");
    // The other one goes on meanwhile.
    until_status(&server, &format!("shipment/{other}"), "requested").await;
    until_at_rest(&database).await;
    let shown = "query($id: UUID!) { checkout(orderId: $id) { state reason } }";
    let seen = server.query(shown, json!({ "id": order }), None).await;
    assert_eq!(seen["checkout"]["state"], "PARKED");
    // Tried again as it is, it is parked again; what happens meanwhile waits.
    let retry = format!("/v1/checkout/{order}/retry");
    server.done(&retry, json!({})).await;
    let times = "select count(*) from log.events where type = 'CheckoutParked'";
    until_so(async || database.number(times).await == 2).await;
    until_at_rest(&database).await;
    // Somebody ends the order by hand. Let try again, the checkout sees that and undoes the rest.
    server.done(&format!("/v1/order/{order}/call-off"), json!({ "reason": "a muddle" })).await;
    until_at_rest(&database).await;
    let retried = database.command(&["retry", "--all"]).stdout(Stdio::piped()).output().await.unwrap();
    assert!(String::from_utf8(retried.stdout).unwrap().contains(&order.to_string()));
    until_status(&server, &format!("payment/{order}"), "voided").await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    let seen = server.query(shown, json!({ "id": order }), None).await;
    assert_eq!(seen["checkout"], json!({ "state": "UNDONE", "reason": "a muddle" }));
    assert_eq!(state(&server, "stock/TEA").await["reserved"], 1);
    let problem = refused(&server, &retry, json!({})).await;
    assert_eq!(problem["type"], "/problems/checkout/not-parked");
}

#[tokio::test]
async fn a_gateway_elsewhere_is_a_url_and_a_secret() {
    let (bank, shop) = (Database::create().await, Database::create().await);
    let secret = "a-secret-that-both-know";
    let other = Server::start_as(&bank, &[], &[("STOREFOLD_SANDBOX_SECRET", secret)]).await;
    let url = format!("{}/sandbox/gateway", other.url);
    let settings = [("STOREFOLD_GATEWAY_URL", url.as_str()), ("STOREFOLD_GATEWAY_SECRET", secret)];
    let server = Server::start_as(&shop, &["--fulfil"], &settings).await;
    receive(&server, "TEA", 5).await;
    place(&server, "tok_approved", &[("TEA", 2)]).await;
    until_at_rest(&shop).await;
    assert_eq!(orders(&shop, "completed").await, 1);
    assert_eq!(bank.number("select sum(minor)::bigint from sandbox.movements where kind = 'capture'").await, 200);
}

/// What one gateway holds another knows nothing of.
#[tokio::test]
async fn a_shop_that_deals_with_one_gateway_is_not_led_to_another_by_mistake() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    until_status(&server, &format!("shipment/{order}"), "requested").await;
    server.kill_alone(&database).await;
    let elsewhere = [("STOREFOLD_GATEWAY_URL", "http://127.0.0.1:9/pay"), ("STOREFOLD_GATEWAY_SECRET", "unknown")];
    let server = Server::start_as(&database, &[], &elsewhere).await;
    let error = "select count(*) from process.managers where error like '%deals with the sandbox%--move-gateway%'";
    until_so(async || database.number(error).await == 1).await;
    assert!(database.run_well(&["status"]).await.contains("deals with the sandbox"));
    // What has nothing to do with the gateway goes on, and the one that has waits for the right one.
    dispatch(&server, order).await;
    server.kill_alone(&database).await;
    let server = Server::start(&database).await;
    until_status(&server, &format!("payment/{order}"), "captured").await;
    server.done(&format!("/v1/shipment/{order}/deliver"), json!({})).await;
    until_status(&server, &format!("order/{order}"), "completed").await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(database.number("select count(*) from process.managers where error is not null").await, 0);
    server.kill_alone(&database).await;
    let _moved = Server::start_as(&database, &["--move-gateway"], &elsewhere).await;
    let moved = "select count(*) from process.managers where deals_with = 'http://127.0.0.1:9/pay'";
    until_so(async || database.number(moved).await == 1).await;
}

/// A wrong secret is for a person to see to; the call is made all the same, and goes through once it is right.
#[tokio::test]
async fn a_call_that_the_gateway_does_not_take_is_shown() {
    let (bank, shop) = (Database::create().await, Database::create().await);
    let other = Server::start_as(&bank, &[], &[("STOREFOLD_SANDBOX_SECRET", "right")]).await;
    let url = format!("{}/sandbox/gateway", other.url);
    let gateway = |secret| [("STOREFOLD_GATEWAY_URL", url.as_str()), ("STOREFOLD_GATEWAY_SECRET", secret)];
    let server = Server::start_as(&shop, &["--fulfil"], &gateway("wrong")).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    let trouble = "select count(*) from process.instances where trouble is not null";
    until_so(async || shop.number(trouble).await == 1).await;
    let parked: Vec<Value> = serde_json::from_str(&shop.run_well(&["parked", "--json"]).await).unwrap();
    assert_eq!((parked.len(), &parked[0]["process"], &parked[0]["instance"]), (1, &json!("charging"), &json!(order)));
    assert!(parked[0]["why"].as_str().unwrap().contains("401"), "{parked:?}");
    server.kill_alone(&shop).await;
    let _server = Server::start_as(&shop, &["--fulfil"], &gateway("right")).await;
    until_at_rest(&shop).await;
    assert_eq!((orders(&shop, "completed").await, shop.number(trouble).await), (1, 0));
}

/// The time in which nobody could ask the gateway is none in which it did not answer.
#[tokio::test]
async fn a_checkout_waits_from_when_it_has_asked() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    place(&server, "tok_slow", &[("TEA", 2)]).await;
    let since = "select count(*) from process.instances where waits_since >=
        (select recorded_at from log.events where type = 'PaymentRequested')";
    let waits = "select count(*) from process.instances where waits_for = 'payment'";
    until_so(async || database.number(waits).await == 1).await;
    assert_eq!(database.number(since).await, 1);
}

/// Another release may have folded the states.
#[tokio::test]
async fn states_of_an_older_release_are_folded_anew_and_those_of_a_newer_one_left_alone() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    receive(&server, "TEA", 5).await;
    let order = place(&server, "tok_approved", &[("TEA", 2)]).await;
    let parked = place(&server, "tok_slow", &[("TEA", 1)]).await;
    until_status(&server, &format!("payment/{parked}"), "requested").await;
    server.done(&format!("/v1/order/{parked}/confirm"), json!({})).await;
    until_status(&server, &format!("shipment/{order}"), "requested").await;
    until_at_rest(&database).await;
    let states = "select md5(string_agg(instance || state::text || coalesce(waits_for || waits_since, '')
        || coalesce(parked_on || parked_why, ''), ',' order by process, instance)) from process.instances";
    let before: String = sqlx::query_scalar(states).fetch_one(&database.pool).await.unwrap();
    server.kill_alone(&database).await;
    for older in ["update process.managers set version = 0", "update process.instances set state = '{\"older\": true}'"]
    {
        sqlx::query(older).execute(&database.pool).await.unwrap();
    }
    let server = Server::start(&database).await;
    until_so(async || database.number("select count(*) from process.managers where version = 0").await == 0).await;
    let after: String = sqlx::query_scalar(states).fetch_one(&database.pool).await.unwrap();
    assert_eq!(after, before);
    dispatch(&server, order).await;
    until_status(&server, &format!("payment/{order}"), "captured").await;
    server.kill_alone(&database).await;

    sqlx::query("update process.managers set version = 9").execute(&database.pool).await.unwrap();
    let server = Server::start(&database).await;
    server.done(&format!("/v1/shipment/{order}/deliver"), json!({})).await;
    let newer = "select count(*) from process.managers where error like '%run the newer release%'";
    until_so(async || database.number(newer).await == 2).await;
    // It does not keep a newer release from leading.
    until_so(async || database.number("select count(*) from process.leases").await == 0).await;
    sqlx::query("update process.managers set version = 1").execute(&database.pool).await.unwrap();
    until_status(&server, &format!("order/{order}"), "completed").await;
}

#[tokio::test]
async fn low_stock_is_told_until_there_is_more() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--fulfil"]).await;
    server.done("/v1/stock/TEA/set-threshold", json!({ "units": 3 })).await;
    receive(&server, "TEA", 5).await;
    receive(&server, "CUP", 1).await;
    let low = "{ lowStock(first: 10) { nodes { sku available threshold } } }";
    let ask = async || {
        until_at_rest(&database).await;
        server.query(low, json!({}), None).await["lowStock"]["nodes"].clone()
    };
    assert_eq!(ask().await, json!([]));
    place(&server, "tok_approved", &[("TEA", 2)]).await;
    assert_eq!(ask().await, json!([{ "sku": "TEA", "available": 3, "threshold": 3 }]));
    receive(&server, "TEA", 1).await;
    assert_eq!(ask().await, json!([]));
    let told = "select count(*) from log.events where type = 'StockRanLow'";
    assert_eq!(database.number(told).await, 2);
}
