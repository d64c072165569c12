use domain::ids::{OrderId, PaymentId};
use domain::ordering::{Cancelled, Completed, Confirmed, Event, Placed, Recorded, Rejected};
use domain::payments::{self, Refunded};
use proptest::prelude::*;

use super::*;
use crate::histories::any_history;
use crate::shop_event::ShopEvent;
use crate::testing::{given, rows};

fn order<E: Into<Event>>(number: u128, event: E) -> ShopEvent {
    ShopEvent::Ordering(OrderId(Uuid::from_u128(number)), event.into())
}

/// A refund of the order's payment that leaves so much with the shop.
fn refunded(number: u128, left_minor: i64) -> ShopEvent {
    let amount = serde_json::from_str(r#"{"minor": 500, "currency": "GBP"}"#).unwrap();
    let event: payments::Event = Refunded { number: 1, amount, left_minor }.into();
    ShopEvent::Payments(PaymentId(Uuid::from_u128(number)), event)
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

fn sold_of(sku: &str, orders: i64) -> ProductDayRow {
    let (units, revenue_minor) = if sku == "A" { (6, 1240) } else { (1, 500) };
    sold(sku, orders, units * orders, revenue_minor * orders)
}

fn sold(sku: &str, orders: i64, units: i64, revenue_minor: i64) -> ProductDayRow {
    let (currency, day) = ("GBP".to_owned(), "2010-12-01".parse().unwrap());
    ProductDayRow { currency, day, sku: sku.to_owned(), country: "EIRE".to_owned(), orders, units, revenue_minor }
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
fn countries_are_kept_apart() {
    let to_france = SaleMade { country: "France".parse().unwrap(), ..sale() };
    let in_france = |row: ProductDayRow| ProductDayRow { country: "France".to_owned(), ..row };
    let (a, b) = (sold("A", 1, 6, 1240), sold("B", 1, 1, 500));
    days(
        [order(1, Recorded(sale())), order(2, Recorded(to_france))],
        [a.clone(), in_france(a), b.clone(), in_france(b)],
    );
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

#[test]
fn a_sale_whose_payment_is_given_back_is_taken_back_once() {
    let sold = || [order(1, Placed(sale())), order(1, Confirmed {})];
    let after = |events: Vec<ShopEvent>| sold().into_iter().chain(events);
    let undone = || [sold_of("A", 0), sold_of("B", 0)];
    days(after(vec![refunded(1, 1000)]), [sold_of("A", 1), sold_of("B", 1)]);
    days(after(vec![refunded(1, 0)]), undone());
    days(after(vec![refunded(1, 0), order(1, Cancelled { reason: "no".parse().unwrap() })]), undone());
    // Of an order that nobody placed here.
    days([refunded(1, 0)], []);
}

proptest! {
    #[test]
    fn no_history_breaks_the_sales_of_products(history in any_history()) {
        given::<ProductSales>(history.events)
            .then(|tables| rows(&tables.days).into_iter().filter(|row| row.orders < 0).collect(), []);
    }
}
