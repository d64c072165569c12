//! The inventory by example.

use std::collections::BTreeMap;

use super::*;
use crate::decider::fold;
use crate::fixtures::{order, quantity, text};
use crate::ids::OrderId;
use crate::testing::{assert_golden, assert_snapshot, given};

fn receive(units: i64) -> Receive {
    Receive { quantity: quantity(units) }
}

fn adjust(counted: u32) -> Adjust {
    Adjust { counted, reason: text("Stocktaking") }
}

fn reserve(order: OrderId, units: i64) -> Reserve {
    Reserve { order, quantity: quantity(units) }
}

fn release(order: OrderId) -> Release {
    Release { order }
}

fn ship(order: OrderId) -> Ship {
    Ship { order }
}

fn set_threshold(units: u32) -> SetThreshold {
    SetThreshold { units }
}

fn received(units: i64) -> Event {
    Received { quantity: quantity(units) }.into()
}

fn adjusted(from: i64, to: i64) -> Event {
    Adjusted { from, to, reason: text("Stocktaking") }.into()
}

fn reserved(order: OrderId, units: i64) -> Event {
    Reserved { order, quantity: quantity(units) }.into()
}

fn declined(order: OrderId, units: i64, available: i64) -> Event {
    Declined { order, quantity: quantity(units), available }.into()
}

fn released(order: OrderId, units: i64) -> Event {
    Released { order, quantity: quantity(units) }.into()
}

fn shipped(order: OrderId, units: i64) -> Event {
    Shipped { order, quantity: quantity(units) }.into()
}

fn depleted() -> Event {
    Depleted {}.into()
}

fn threshold_set(units: u32) -> Event {
    ThresholdSet { units }.into()
}

fn ran_low(available: i64, threshold: u32) -> Event {
    RanLow { available, threshold }.into()
}

/// Ten units, of which four are too few.
fn enough() -> Vec<Event> {
    vec![received(10), threshold_set(4)]
}

/// Ten units, of which six are reserved for order 1: as few as are too few, and that was told.
fn low() -> Vec<Event> {
    vec![received(10), threshold_set(4), reserved(order(1), 6), ran_low(4, 4)]
}

#[test]
fn units_are_received() {
    given::<Stock>([]).when(receive(10)).then([received(10)]);
}

#[test]
fn the_house_is_never_overfull() {
    let nearly_full = adjusted(0, Stock::MAX_ON_HAND - 10);
    given::<Stock>([nearly_full.clone()]).when(receive(10)).then([received(10)]);
    given::<Stock>([nearly_full]).when(receive(11)).then_refused(Refusal::TooManyOnHand {
        on_hand: Stock::MAX_ON_HAND - 10,
        quantity: quantity(11),
        max: Stock::MAX_ON_HAND,
    });
}

#[test]
fn a_count_puts_the_books_right() {
    given::<Stock>([received(10)]).when(adjust(8)).then([adjusted(10, 8)]);
    given::<Stock>([received(10)]).when(adjust(12)).then([adjusted(10, 12)]);
    given::<Stock>([received(10), reserved(order(1), 4)]).when(adjust(4)).then([adjusted(10, 4)]);
}

#[test]
fn a_count_of_nothing_depletes() {
    given::<Stock>([received(10)]).when(adjust(0)).then([adjusted(10, 0), depleted()]);
}

#[test]
fn a_count_that_confirms_the_books_is_no_news() {
    given::<Stock>([received(10)]).when(adjust(10)).then_nothing();
    given::<Stock>([]).when(adjust(0)).then_nothing();
}

#[test]
fn a_count_leaves_orders_their_goods() {
    given::<Stock>([received(10), reserved(order(1), 4)])
        .when(adjust(3))
        .then_refused(Refusal::CountBelowReserved { counted: 3, reserved: 4 });
}

#[test]
fn units_are_reserved_to_the_last() {
    given::<Stock>([received(10)]).when(reserve(order(1), 10)).then([reserved(order(1), 10)]);
    given::<Stock>([received(10), reserved(order(1), 4)]).when(reserve(order(2), 6)).then([reserved(order(2), 6)]);
}

#[test]
fn more_than_there_is_is_declined() {
    given::<Stock>([received(10)]).when(reserve(order(1), 12)).then([declined(order(1), 12, 10)]);
    given::<Stock>([received(10), reserved(order(1), 4)]).when(reserve(order(2), 7)).then([declined(order(2), 7, 6)]);
    given::<Stock>([]).when(reserve(order(1), 1)).then([declined(order(1), 1, 0)]);
}

#[test]
fn a_declined_order_may_ask_again() {
    given::<Stock>([declined(order(1), 4, 0), received(10)]).when(reserve(order(1), 4)).then([reserved(order(1), 4)]);
}

#[test]
fn an_order_holds_one_reservation_at_a_time() {
    let held = [received(10), reserved(order(1), 4)];
    given::<Stock>(held.clone())
        .when(reserve(order(1), 2))
        .then_refused(Refusal::AlreadyReserved { order: order(1), quantity: quantity(4) });
    given::<Stock>(held.into_iter().chain([released(order(1), 4)]))
        .when(reserve(order(1), 2))
        .then([reserved(order(1), 2)]);
}

#[test]
fn a_reservation_is_released() {
    given::<Stock>([received(10), reserved(order(1), 4)]).when(release(order(1))).then([released(order(1), 4)]);
}

#[test]
fn a_reservation_is_shipped() {
    given::<Stock>([received(10), reserved(order(1), 4)]).when(ship(order(1))).then([shipped(order(1), 4)]);
}

#[test]
fn shipping_the_last_unit_depletes() {
    given::<Stock>([received(4), reserved(order(1), 4)]).when(ship(order(1))).then([shipped(order(1), 4), depleted()]);
}

#[test]
fn a_reservation_is_settled_once() {
    let refused = Refusal::NoReservation { order: order(1) };
    let unsettled = [received(10), reserved(order(1), 4), reserved(order(2), 4)];
    let histories = [
        vec![],
        vec![declined(order(1), 4, 0)],
        unsettled.iter().cloned().chain([released(order(1), 4)]).collect(),
        unsettled.iter().cloned().chain([shipped(order(1), 4)]).collect(),
    ];
    for history in histories {
        given::<Stock>(history.clone()).when(release(order(1))).then_refused(refused.clone());
        given::<Stock>(history).when(ship(order(1))).then_refused(refused.clone());
    }
}

#[test]
fn a_threshold_is_set() {
    given::<Stock>([received(10)]).when(set_threshold(9)).then([threshold_set(9)]);
    given::<Stock>(enough()).when(set_threshold(5)).then([threshold_set(5)]);
}

#[test]
fn the_same_threshold_is_no_news() {
    given::<Stock>(enough()).when(set_threshold(4)).then_nothing();
    given::<Stock>(low()).when(set_threshold(4)).then_nothing();
}

#[test]
fn a_reservation_that_leaves_too_few_is_told() {
    given::<Stock>(enough()).when(reserve(order(1), 5)).then([reserved(order(1), 5)]);
    given::<Stock>(enough()).when(reserve(order(1), 6)).then([reserved(order(1), 6), ran_low(4, 4)]);
    given::<Stock>(enough()).when(reserve(order(1), 10)).then([reserved(order(1), 10), ran_low(0, 4)]);
}

#[test]
fn a_count_that_finds_too_few_is_told() {
    given::<Stock>(enough()).when(adjust(5)).then([adjusted(10, 5)]);
    given::<Stock>(enough()).when(adjust(4)).then([adjusted(10, 4), ran_low(4, 4)]);
    given::<Stock>(enough()).when(adjust(0)).then([adjusted(10, 0), depleted(), ran_low(0, 4)]);
}

#[test]
fn a_threshold_above_what_is_available_is_told() {
    given::<Stock>([received(10)]).when(set_threshold(10)).then([threshold_set(10), ran_low(10, 10)]);
    given::<Stock>([received(10), reserved(order(1), 4)])
        .when(set_threshold(7))
        .then([threshold_set(7), ran_low(6, 7)]);
    given::<Stock>(enough()).when(set_threshold(u32::MAX)).then([threshold_set(u32::MAX), ran_low(10, u32::MAX)]);
    // A SKU that nobody has received has as little as there is.
    given::<Stock>([]).when(set_threshold(0)).then([threshold_set(0), ran_low(0, 0)]);
}

#[test]
fn without_a_threshold_nothing_is_too_few() {
    given::<Stock>([received(10)]).when(reserve(order(1), 10)).then([reserved(order(1), 10)]);
}

#[test]
fn what_takes_nothing_from_what_is_available_tells_nothing() {
    let asked_for_more = reserve(order(2), 11);
    given::<Stock>(enough()).when(asked_for_more).then([declined(order(2), 11, 10)]);
    let reserved = [received(10), threshold_set(4), reserved(order(1), 5)];
    given::<Stock>(reserved).when(ship(order(1))).then([shipped(order(1), 5)]);
}

#[test]
fn low_stock_is_told_once() {
    given::<Stock>(low()).when(reserve(order(2), 1)).then([reserved(order(2), 1)]);
    given::<Stock>(low()).when(adjust(8)).then([adjusted(10, 8)]);
    given::<Stock>(low()).when(set_threshold(5)).then([threshold_set(5)]);
    given::<Stock>(low()).when(ship(order(1))).then([shipped(order(1), 6)]);
    // Nor when there is a little more, and still too little.
    let lower = [reserved(order(2), 3), released(order(2), 3)];
    given::<Stock>(low().into_iter().chain(lower)).when(reserve(order(3), 2)).then([reserved(order(3), 2)]);
}

#[test]
fn stock_that_was_enough_in_between_runs_low_again() {
    let recovered = |event: Event| given::<Stock>(low().into_iter().chain([event]));
    recovered(received(1)).when(reserve(order(2), 1)).then([reserved(order(2), 1), ran_low(4, 4)]);
    recovered(released(order(1), 6)).when(reserve(order(2), 7)).then([reserved(order(2), 7), ran_low(3, 4)]);
    recovered(adjusted(10, 12)).when(adjust(9)).then([adjusted(12, 9), ran_low(3, 4)]);
    recovered(threshold_set(3)).when(reserve(order(2), 1)).then([reserved(order(2), 1), ran_low(3, 3)]);
    recovered(threshold_set(3)).when(set_threshold(4)).then([threshold_set(4), ran_low(4, 4)]);
}

/// A history with every event.
fn history() -> [Event; 12] {
    [
        received(10),
        reserved(order(1), 1),
        reserved(order(2), 2),
        reserved(order(3), 3),
        released(order(1), 1),
        shipped(order(2), 2),
        declined(order(4), 20, 5),
        adjusted(8, 7),
        threshold_set(2),
        threshold_set(4),
        ran_low(4, 4),
        depleted(),
    ]
}

#[test]
fn its_history_makes_the_stock() {
    given::<Stock>(history()).then_state(StockState {
        on_hand: 7,
        reserved: 3,
        available: 4,
        reservations: BTreeMap::from([(order(3), quantity(3))]),
        threshold: Some(4),
    });
}

#[test]
fn the_stock_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "on_hand": 10, "reserved": 4, "available": 6,
        "reservations": { "00000000-0000-0000-0000-000000000001": 4 },
        "threshold": null
    });
    let state = fold::<Stock>(&[received(10), reserved(order(1), 4)]);
    assert_eq!(serde_json::to_value(state).unwrap(), shown);
    assert_eq!(serde_json::to_value(fold::<Stock>(&low())).unwrap()["threshold"], 4);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::CountBelowReserved { counted: 3, reserved: 4 };
    assert_eq!(refusal.to_string(), "3 units were counted, but 4 are reserved; release reservations first");
    let shown = serde_json::json!({ "refusal": "count-below-reserved", "counted": 3, "reserved": 4 });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn snapshots_stay_what_they_are() {
    assert_snapshot::<Stock>(history(), concat!(env!("CARGO_MANIFEST_DIR"), "/src/inventory/snapshot.json"));
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/inventory/golden"));
}
