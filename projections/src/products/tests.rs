use domain::catalog::{Described, Discontinued, Listed, PriceChanged, Relisted, Renamed};
use domain::ids::{OrderId, Quantity};
use domain::inventory::{Adjusted, Declined, Depleted, RanLow, Received, Released, Reserved, Shipped, ThresholdSet};
use domain::money::Money;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::histories::{any_history, low_at};
use crate::testing::{START, given, rows};

fn sku() -> Sku {
    "A".parse().unwrap()
}

fn catalogue<E: Into<catalog::Event>>(event: E) -> ShopEvent {
    ShopEvent::Catalog(sku(), event.into())
}

fn stock<E: Into<inventory::Event>>(event: E) -> ShopEvent {
    ShopEvent::Inventory(sku(), event.into())
}

fn price(minor: i64) -> Money {
    Money { minor: minor.try_into().unwrap(), currency: "GBP".parse().unwrap() }
}

fn units(count: i64) -> Quantity {
    count.try_into().unwrap()
}

fn listed() -> ShopEvent {
    catalogue(Listed { name: "Tea".parse().unwrap(), price: price(420) })
}

fn received(count: i64) -> ShopEvent {
    stock(Received { quantity: units(count) })
}

/// The row after so many events.
fn row(events: i64) -> ProductRow {
    ProductRow {
        name: Some("Tea".to_owned()),
        price_minor: Some(420),
        currency: Some("GBP".to_owned()),
        status: "listed".to_owned(),
        changed_at: START + chrono::TimeDelta::seconds(events - 1),
        ..unlisted(&sku())
    }
}

fn counts(row: ProductRow, on_hand: i64, reserved: i64) -> ProductRow {
    ProductRow { on_hand, reserved, available: on_hand - reserved, ..row }
}

#[track_caller]
fn leads_to(events: impl IntoIterator<Item = ShopEvent>, expected: ProductRow) {
    given::<Products>(events).then(|tables| rows(&tables.products), [expected]);
}

#[test]
fn the_catalogue_says_what_a_product_is() {
    leads_to([listed()], row(1));
    let name = Some("Best tea".to_owned());
    leads_to([listed(), catalogue(Renamed { name: "Best tea".parse().unwrap() })], ProductRow { name, ..row(2) });
    let description = Some("Leaves".to_owned());
    let described = catalogue(Described { description: "Leaves".parse().unwrap() });
    leads_to([listed(), described], ProductRow { description, ..row(2) });
    let dearer = catalogue(PriceChanged { from: price(420), to: price(440) });
    leads_to([listed(), dearer], ProductRow { price_minor: Some(440), ..row(2) });
    let discontinued = || catalogue(Discontinued { reason: "no more leaves".parse().unwrap() });
    leads_to([listed(), discontinued()], ProductRow { status: "discontinued".to_owned(), ..row(2) });
    leads_to([listed(), discontinued(), catalogue(Relisted {})], row(3));
}

#[test]
fn the_stock_counts_in_the_same_row() {
    let order = OrderId(Uuid::from_u128(1));
    let reserved = || stock(Reserved { order, quantity: units(4) });
    leads_to([listed(), received(10)], counts(row(2), 10, 0));
    leads_to([listed(), received(10), reserved()], counts(row(3), 10, 4));
    let released = stock(Released { order, quantity: units(4) });
    leads_to([listed(), received(10), reserved(), released], counts(row(4), 10, 0));
    let shipped = stock(Shipped { order, quantity: units(4) });
    leads_to([listed(), received(10), reserved(), shipped], counts(row(4), 6, 0));
    let declined = stock(Declined { order, quantity: units(11), available: 10 });
    leads_to([listed(), received(10), declined], counts(row(3), 10, 0));
    let adjusted = stock(Adjusted { from: 10, to: 0, reason: "a flood".parse().unwrap() });
    leads_to([listed(), received(10), adjusted, stock(Depleted {})], counts(row(4), 0, 0));
}

#[test]
fn a_product_is_low_while_no_more_is_available_than_its_threshold() {
    let order = OrderId(Uuid::from_u128(1));
    let at = |row: ProductRow, low| ProductRow { threshold: Some(6), low, ..row };
    let threshold = || stock(ThresholdSet { units: 6 });
    let reserved = || stock(Reserved { order, quantity: units(4) });
    let ran_low = || stock(RanLow { available: 6, threshold: 6 });
    leads_to([listed(), received(10), threshold()], at(counts(row(3), 10, 0), false));
    leads_to([listed(), received(10), threshold(), reserved(), ran_low()], at(counts(row(5), 10, 4), true));
    let more = received(1);
    leads_to([listed(), received(10), threshold(), reserved(), ran_low(), more], at(counts(row(6), 11, 4), false));
    leads_to([listed(), threshold(), stock(RanLow { available: 0, threshold: 6 })], at(counts(row(3), 0, 0), true));
}

#[test]
fn stock_may_come_before_the_catalogue_knows_it() {
    let found = ProductRow { changed_at: START, ..counts(unlisted(&sku()), 3, 0) };
    leads_to([received(3)], found);
    leads_to([received(3), listed()], counts(row(2), 3, 0));
}

#[test]
fn what_is_not_listed_cannot_change() {
    given::<Products>([catalogue(Relisted {})])
        .then_broken("no product A is on record, though something happened to it");
}

proptest! {
    #[test]
    fn a_product_says_what_its_stock_says(history in any_history()) {
        let of = |row: ProductRow| (row.sku, row.on_hand, row.reserved, row.available, row.threshold, row.low);
        let mut stocks: Vec<_> = history.stocks.0.iter().map(|(sku, stock)| {
            let threshold = stock.threshold.map(i64::from);
            (sku.clone(), stock.on_hand, stock.reserved, stock.available, threshold, low_at(stock).is_some())
        }).collect();
        // Of a stock to which nothing happened there is nothing to say.
        let of_something = |sku: &String| history.events.iter().any(|event| {
            matches!(event, ShopEvent::Inventory(of, _) if of.as_str() == sku)
        });
        stocks.retain(|stock| of_something(&stock.0));
        stocks.sort();
        given::<Products>(history.events.clone())
            .then(|tables| rows(&tables.products).into_iter().map(of).collect(), stocks);
    }
}
