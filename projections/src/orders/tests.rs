use domain::ids::OrderId;
use domain::ordering::{Cancelled, Completed, Confirmed, Event, Placed, Recorded, Rejected};
use uuid::Uuid;

use super::*;
use crate::testing::{START, given, rows};

const ORDER: Uuid = Uuid::from_u128(1);

fn to(events: impl IntoIterator<Item = Event>) -> Vec<ShopEvent> {
    events.into_iter().map(|event| ShopEvent::Ordering(OrderId(ORDER), event)).collect()
}

fn sale() -> SaleMade {
    serde_json::from_str(
        r#"{"reference": "536365", "country": "EIRE", "currency": "GBP", "placed_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": 6, "unit_price_minor": 255}, {"sku": "A", "quantity": 1, "unit_price_minor": 250}],
            "total_minor": 1780}"#,
    )
    .unwrap()
}

fn order(status: &str, revision: i64) -> OrderRow {
    OrderRow {
        order_id: ORDER,
        reference: Some("536365".to_owned()),
        status: status.to_owned(),
        reason: None,
        placed_at: "2010-12-01T08:26:00Z".parse().unwrap(),
        customer_id: None,
        country: "EIRE".to_owned(),
        currency: "GBP".to_owned(),
        total_minor: 1780,
        line_count: 2,
        units: 7,
        changed_at: START + chrono::TimeDelta::seconds(revision),
        revision,
    }
}

#[test]
fn a_placed_order_has_a_row_and_a_row_a_line() {
    let line = |line_no, quantity, unit_price_minor| LineRow {
        order_id: ORDER,
        line_no,
        sku: "A".to_owned(),
        quantity,
        unit_price_minor,
    };
    given::<Orders>(to([Placed(sale()).into()]))
        .then(|tables| rows(&tables.orders), [order("placed", 0)])
        .then(|tables| rows(&tables.lines), [line(1, 6, 255), line(2, 1, 250)]);
}

#[test]
fn a_recorded_order_is_on_record() {
    given::<Orders>(to([Recorded(sale()).into()])).then(|tables| rows(&tables.orders), [order("recorded", 0)]);
}

#[test]
fn an_order_goes_its_way() {
    let way = to([Placed(sale()).into(), Confirmed {}.into(), Completed {}.into()]);
    given::<Orders>(way[..2].to_vec()).then(|tables| rows(&tables.orders), [order("confirmed", 1)]);
    given::<Orders>(way).then(|tables| rows(&tables.orders), [order("completed", 2)]);
}

#[test]
fn the_reason_of_an_end_is_kept() {
    let reason: domain::ids::Line = "out of stock".parse().unwrap();
    let with_reason = |status| OrderRow { reason: Some("out of stock".to_owned()), ..order(status, 1) };
    given::<Orders>(to([Placed(sale()).into(), Rejected { reason: reason.clone() }.into()]))
        .then(|tables| rows(&tables.orders), [with_reason("rejected")]);
    given::<Orders>(to([Placed(sale()).into(), Cancelled { reason }.into()]))
        .then(|tables| rows(&tables.orders), [with_reason("cancelled")]);
}

#[test]
fn an_order_that_was_never_placed_cannot_go_on() {
    given::<Orders>(to([Confirmed {}.into()]))
        .then_broken(&format!("no order {ORDER} is on record, though something happened to it"));
}
