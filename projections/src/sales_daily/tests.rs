use std::collections::BTreeMap;

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

fn sale(placed_at: &str) -> SaleMade {
    let sale = serde_json::json!({
        "country": "EIRE", "currency": "GBP", "placed_at": placed_at, "total_minor": 1500,
        "lines": [{"sku": "A", "quantity": 5, "unit_price_minor": 200}, {"sku": "B", "quantity": 1, "unit_price_minor": 500}],
    });
    serde_json::from_value(sale).unwrap()
}

fn day(day: &str, orders: i64) -> DayRow {
    DayRow {
        currency: "GBP".to_owned(),
        day: day.parse().unwrap(),
        country: "EIRE".to_owned(),
        orders,
        lines: 2 * orders,
        units: 6 * orders,
        revenue_minor: 1500 * orders,
    }
}

#[track_caller]
fn days(events: impl IntoIterator<Item = ShopEvent>, expected: impl IntoIterator<Item = DayRow>) {
    given::<SalesDaily>(events).then(|tables| rows(&tables.days), expected);
}

#[test]
fn a_sale_counts_on_the_day_on_which_it_was_placed_in_utc() {
    let evening = || sale("2010-12-01T23:30:00-02:00");
    days([order(1, Recorded(evening()))], [day("2010-12-02", 1)]);
    days([order(1, Placed(evening()))], []);
    days([order(1, Placed(evening())), order(1, Confirmed {}), order(1, Completed {})], [day("2010-12-02", 1)]);
}

#[test]
fn sales_of_a_day_add_up() {
    let sales = (1..=3).map(|number| order(number, Recorded(sale("2010-12-01T08:00:00Z"))));
    days(sales, [day("2010-12-01", 3)]);
}

#[test]
fn a_sale_that_is_undone_is_taken_back() {
    let reason = || "no".parse().unwrap();
    let placed = || order(1, Placed(sale("2010-12-01T08:00:00Z")));
    days([placed(), order(1, Rejected { reason: reason() })], []);
    let cancelled = order(1, Cancelled { reason: reason() });
    days([placed(), order(1, Confirmed {}), cancelled], [day("2010-12-01", 0)]);
}

#[test]
fn a_sale_that_was_never_placed_cannot_count() {
    given::<SalesDaily>([order(1, Confirmed {})]).then_broken(
        "no open order 00000000-0000-0000-0000-000000000001 is on record, though something happened to it",
    );
}

#[test]
fn a_sale_whose_payment_is_given_back_is_taken_back_once() {
    let reason = || "no".parse().unwrap();
    let sold = || [order(1, Placed(sale("2010-12-01T08:00:00Z"))), order(1, Confirmed {})];
    let after = |events: Vec<ShopEvent>| sold().into_iter().chain(events);
    // A part of it is a discount.
    days(after(vec![refunded(1, 1000)]), [day("2010-12-01", 1)]);
    days(after(vec![refunded(1, 1000), refunded(1, 0)]), [day("2010-12-01", 0)]);
    days(after(vec![refunded(1, 0), order(1, Cancelled { reason: reason() })]), [day("2010-12-01", 0)]);
    days(after(vec![order(1, Cancelled { reason: reason() }), refunded(1, 0)]), [day("2010-12-01", 0)]);
    // What was given back before the order was confirmed does not become a sale by that.
    let placed = order(1, Placed(sale("2010-12-01T08:00:00Z")));
    days([placed, refunded(1, 0), order(1, Confirmed {})], []);
}

#[test]
fn a_payment_of_an_order_that_is_not_open_is_ignored() {
    days([refunded(1, 0)], []);
    // What was recorded was paid elsewhere.
    days([order(1, Recorded(sale("2010-12-01T08:00:00Z"))), refunded(1, 0)], [day("2010-12-01", 1)]);
}

proptest! {
    #[test]
    fn the_days_add_up_to_the_sales_that_stand(history in any_history()) {
        let mut standing = BTreeMap::<Uuid, Option<bool>>::new();
        for event in &history.events {
            match event {
                ShopEvent::Ordering(order, Event::Placed(_)) => drop(standing.insert(order.0, Some(false))),
                ShopEvent::Ordering(order, Event::Recorded(_)) => drop(standing.insert(order.0, Some(true))),
                ShopEvent::Ordering(order, Event::Confirmed(_)) => {
                    standing.entry(order.0).and_modify(|sale| *sale = sale.map(|_| true));
                }
                ShopEvent::Ordering(order, Event::Rejected(_) | Event::Cancelled(_)) => {
                    standing.insert(order.0, None);
                }
                ShopEvent::Payments(payment, payments::Event::Refunded(Refunded { left_minor: 0, .. }))
                    if was_placed(&history.events, payment.0) =>
                {
                    standing.entry(payment.0).and_modify(|sale| *sale = None);
                }
                _ => {}
            }
        }
        let orders = standing.values().filter(|sale| **sale == Some(true)).count();
        given::<SalesDaily>(history.events)
            .then(|tables| vec![rows(&tables.days).iter().map(|day| day.orders).sum::<i64>()], [orders as i64]);
    }
}

fn was_placed(events: &[ShopEvent], id: Uuid) -> bool {
    events.iter().any(|event| matches!(event, ShopEvent::Ordering(order, Event::Placed(_)) if order.0 == id))
}
