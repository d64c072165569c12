use domain::ids::OrderId;
use domain::ordering::{Cancelled, Completed, Confirmed, Event, Placed, Recorded, Rejected};

use super::*;
use crate::testing::{given, rows};

fn order<E: Into<Event>>(number: u128, event: E) -> ShopEvent {
    ShopEvent::Ordering(OrderId(Uuid::from_u128(number)), event.into())
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
