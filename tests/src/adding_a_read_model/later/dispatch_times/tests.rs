use chrono::TimeDelta;
use domain::ids::{OrderId, ShipmentId};
use domain::ordering::{Cancelled, Placed};
use domain::shipping::Dispatched;

use super::*;
use crate::adding_a_read_model::testing::{START, given, rows};

fn order(number: u128, event: impl Into<ordering::Event>) -> ShopEvent {
    ShopEvent::Ordering(OrderId(Uuid::from_u128(number)), event.into())
}

fn placed(number: u128) -> ShopEvent {
    let sale = serde_json::json!({
        "country": "France", "currency": "EUR", "placed_at": "2026-01-01T00:00:00Z", "total_minor": 500,
        "lines": [{ "sku": "TEA-1", "quantity": 1, "unit_price_minor": 500 }],
    });
    order(number, Placed(serde_json::from_value(sale).unwrap()))
}

fn dispatched(number: u128) -> ShopEvent {
    let event = Dispatched { carrier: "Post".parse().unwrap(), tracking: "1".parse().unwrap() };
    ShopEvent::Shipping(ShipmentId(Uuid::from_u128(number)), event.into())
}

/// The row of the day on which the given events begin.
fn day(orders: i64, waited_seconds: i64, longest_seconds: i64) -> DayRow {
    DayRow { day: START.date_naive(), country: "France".to_owned(), orders, waited_seconds, longest_seconds }
}

/// The row of an order that was placed so many seconds after the first event.
fn waiting(number: u128, seconds: i64) -> WaitingRow {
    let since = START + TimeDelta::seconds(seconds);
    WaitingRow { order_id: Uuid::from_u128(number), country: "France".to_owned(), since }
}

#[test]
fn an_order_waits_until_its_goods_leave_the_house() {
    given::<DispatchTimes>([placed(1), placed(2)])
        .then(|tables| rows(&tables.days), [])
        .then(|tables| rows(&tables.waiting), [waiting(1, 0), waiting(2, 1)]);
    given::<DispatchTimes>([placed(1), placed(2), dispatched(1)])
        .then(|tables| rows(&tables.days), [day(1, 2, 2)])
        .then(|tables| rows(&tables.waiting), [waiting(2, 1)]);
}

#[test]
fn the_orders_of_a_day_add_up() {
    given::<DispatchTimes>([placed(1), placed(2), dispatched(2), dispatched(1)])
        .then(|tables| rows(&tables.days), [day(2, 1 + 3, 3)])
        .then(|tables| rows(&tables.waiting), []);
}

#[test]
fn an_order_that_comes_to_nothing_waits_no_more() {
    let cancelled = order(1, Cancelled { reason: "no more wanted".parse().unwrap() });
    given::<DispatchTimes>([placed(1), cancelled])
        .then(|tables| rows(&tables.days), [])
        .then(|tables| rows(&tables.waiting), []);
}

#[test]
fn goods_that_nobody_ordered_keep_nobody_waiting() {
    given::<DispatchTimes>([dispatched(1)]).then(|tables| rows(&tables.days), []);
}
