use domain::ids::OrderId;
use domain::ordering::{Cancelled, Completed, Confirmed, Event, Placed, Recorded, Rejected};

use super::*;
use crate::testing::{given, rows};

fn order<E: Into<Event>>(number: u128, event: E) -> ShopEvent {
    ShopEvent::Ordering(OrderId(Uuid::from_u128(number)), event.into())
}

fn sale() -> SaleMade {
    let sale = serde_json::json!({
        "country": "EIRE", "currency": "GBP", "placed_at": "2010-12-01T08:00:00Z", "total_minor": 1740,
        "lines": [
            {"sku": "A", "quantity": 5, "unit_price_minor": 200},
            {"sku": "B", "quantity": 1, "unit_price_minor": 500},
            {"sku": "A", "quantity": 1, "unit_price_minor": 240},
        ],
    });
    serde_json::from_value(sale).unwrap()
}

fn sold(sku: &str, orders: i64, units: i64, revenue_minor: i64) -> ProductDayRow {
    let (currency, day) = ("GBP".to_owned(), "2010-12-01".parse().unwrap());
    ProductDayRow { currency, day, sku: sku.to_owned(), orders, units, revenue_minor }
}

#[track_caller]
fn days(events: impl IntoIterator<Item = ShopEvent>, expected: impl IntoIterator<Item = ProductDayRow>) {
    given::<ProductSales>(events).then(|tables| rows(&tables.days), expected);
}

#[test]
fn the_lines_of_a_sku_count_as_one_order() {
    days([order(1, Recorded(sale()))], [sold("A", 1, 6, 1240), sold("B", 1, 1, 500)]);
}

#[test]
fn sales_of_a_day_add_up() {
    days([order(1, Recorded(sale())), order(2, Recorded(sale()))], [sold("A", 2, 12, 2480), sold("B", 2, 2, 1000)]);
}

#[test]
fn a_sale_counts_when_it_is_confirmed_and_no_more_when_it_is_undone() {
    let reason = || "no".parse().unwrap();
    let placed = || order(1, Placed(sale()));
    days([placed()], []);
    let counted = [sold("A", 1, 6, 1240), sold("B", 1, 1, 500)];
    days([placed(), order(1, Confirmed {}), order(1, Completed {})], counted);
    days([placed(), order(1, Rejected { reason: reason() })], []);
    let undone = [sold("A", 0, 0, 0), sold("B", 0, 0, 0)];
    days([placed(), order(1, Confirmed {}), order(1, Cancelled { reason: reason() })], undone);
}

#[test]
fn a_sale_that_was_never_placed_cannot_count() {
    given::<ProductSales>([order(1, Confirmed {})]).then_broken(
        "no open order 00000000-0000-0000-0000-000000000001 is on record, though something happened to it",
    );
}
