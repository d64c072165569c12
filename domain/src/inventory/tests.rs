//! The inventory by example.

use std::collections::BTreeMap;

use super::*;
use crate::decider::fold;
use crate::fixtures::{order, quantity, text};
use crate::ids::OrderId;
use crate::testing::{assert_golden, given};

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
fn its_history_makes_the_stock() {
    let history = [
        received(10),
        reserved(order(1), 1),
        reserved(order(2), 2),
        reserved(order(3), 3),
        released(order(1), 1),
        shipped(order(2), 2),
        declined(order(4), 20, 5),
        adjusted(8, 7),
    ];
    given::<Stock>(history).then_state(StockState {
        on_hand: 7,
        reserved: 3,
        available: 4,
        reservations: BTreeMap::from([(order(3), quantity(3))]),
    });
}

#[test]
fn the_stock_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "on_hand": 10, "reserved": 4, "available": 6,
        "reservations": { "00000000-0000-0000-0000-000000000001": 4 }
    });
    let state = fold::<Stock>(&[received(10), reserved(order(1), 4)]);
    assert_eq!(serde_json::to_value(state).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::CountBelowReserved { counted: 3, reserved: 4 };
    assert_eq!(refusal.to_string(), "3 units were counted, but 4 are reserved; release reservations first");
    let shown = serde_json::json!({ "refusal": "count-below-reserved", "counted": 3, "reserved": 4 });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/inventory/golden"));
}
