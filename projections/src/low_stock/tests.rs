use domain::ids::OrderId;
use domain::inventory::{
    self, Adjusted, Declined, Depleted, RanLow, Received, Released, Reserved, Shipped, ThresholdSet,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::histories::{any_history, low_at};
use crate::testing::{START, given, rows};

const ORDER: OrderId = OrderId(Uuid::from_u128(1));

fn stock<E: Into<inventory::Event>>(event: E) -> ShopEvent {
    ShopEvent::Inventory("A".parse().unwrap(), event.into())
}

fn units(count: i64) -> domain::ids::Quantity {
    count.try_into().unwrap()
}

/// The row of a stock that ran low with the first event, after so many events.
fn low(available: i64, threshold: i64, events: i64) -> LowRow {
    let changed_at = START + chrono::TimeDelta::seconds(events - 1);
    LowRow { sku: "A".to_owned(), available, threshold, since: START, changed_at }
}

/// Asserts what is low after 3 units were left at a threshold of 5, and `events` happened.
#[track_caller]
fn after(events: impl IntoIterator<Item = ShopEvent>, expected: impl IntoIterator<Item = LowRow>) {
    let ran_low = stock(RanLow { available: 3, threshold: 5 });
    given::<LowStock>([ran_low].into_iter().chain(events)).then(|tables| rows(&tables.low), expected);
}

#[test]
fn a_stock_is_on_the_list_from_when_it_ran_low() {
    after([], [low(3, 5, 1)]);
    after([stock(Reserved { order: ORDER, quantity: units(2) })], [low(1, 5, 2)]);
    after([stock(Received { quantity: units(2) })], [low(5, 5, 2)]);
    after([stock(Adjusted { from: 7, to: 4, reason: "a flood".parse().unwrap() })], [low(0, 5, 2)]);
    // What leaves the house was not available before.
    after([stock(Shipped { order: ORDER, quantity: units(2) }), stock(Depleted {})], [low(3, 5, 1)]);
    after([stock(Declined { order: ORDER, quantity: units(9), available: 3 })], [low(3, 5, 1)]);
}

#[test]
fn a_stock_leaves_the_list_when_there_is_enough_of_it() {
    after([stock(Received { quantity: units(3) })], []);
    after([stock(Released { order: ORDER, quantity: units(3) })], []);
    after([stock(Adjusted { from: 3, to: 6, reason: "found".parse().unwrap() })], []);
    let again = stock(RanLow { available: 5, threshold: 5 });
    let since = START + chrono::TimeDelta::seconds(2);
    after([stock(Received { quantity: units(3) }), again], [LowRow { since, ..low(5, 5, 3) }]);
}

#[test]
fn a_threshold_may_move_past_what_there_is() {
    after([stock(ThresholdSet { units: 3 })], [low(3, 3, 2)]);
    after([stock(ThresholdSet { units: 9 })], [low(3, 9, 2)]);
    after([stock(ThresholdSet { units: 2 })], []);
}

#[test]
fn a_stock_that_is_not_low_is_not_on_the_list() {
    let enough = [stock(ThresholdSet { units: 3 }), stock(Received { quantity: units(9) })];
    given::<LowStock>(enough).then(|tables| rows(&tables.low), []);
}

proptest! {
    #[test]
    fn on_the_list_are_those_that_their_stock_says_are_low(history in any_history()) {
        let stocks = history.stocks.0.iter();
        let mut expected: Vec<_> =
            stocks.filter_map(|(sku, stock)| Some((sku.clone(), stock.available, low_at(stock)?))).collect();
        expected.sort();
        given::<LowStock>(history.events.clone()).then(
            |tables| rows(&tables.low).into_iter().map(|row| (row.sku, row.available, row.threshold)).collect(),
            expected,
        );
    }
}
