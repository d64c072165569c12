use domain::ids::{OrderId, PaymentId, ShipmentId};
use domain::ordering::{
    CancellationDeclined, CancellationRequested, Cancelled, Completed, Confirmed, Dispatched, Event, Placed, Recorded,
    Rejected,
};
use domain::payments::{
    Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
    Requested, VoidRequested, Voided,
};
use domain::shipping::{self, Delivered, Lost};
use domain::supervision::{self, Parked, Retried, TimedOut, Timeout};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::histories::any_history;
use crate::testing::{START, given, origin, rows};

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
        timeline_entries: if status == "recorded" { 0 } else { i32::try_from(revision).unwrap() + 1 },
        payment: None,
        shipment: None,
    }
}

fn placed() -> ShopEvent {
    ShopEvent::Ordering(OrderId(ORDER), Placed(sale()).into())
}

fn payment<E: Into<payments::Event>>(event: E) -> ShopEvent {
    ShopEvent::Payments(PaymentId(ORDER), event.into())
}

fn shipment<E: Into<shipping::Event>>(event: E) -> ShopEvent {
    ShopEvent::Shipping(ShipmentId(ORDER), event.into())
}

fn checkout<E: Into<supervision::Event>>(event: E) -> ShopEvent {
    ShopEvent::Supervision(OrderId(ORDER), event.into())
}

fn pounds(minor: i64) -> Money {
    Money { minor: minor.try_into().unwrap(), currency: "GBP".parse().unwrap() }
}

fn line(text: &str) -> domain::ids::Line {
    text.parse().unwrap()
}

fn requested() -> ShopEvent {
    payment(Requested { amount: pounds(1780), card: "tok_visa".parse().unwrap() })
}

fn authorised() -> ShopEvent {
    payment(Authorised { amount: pounds(1780), reference: line("auth-1") })
}

/// Asserts what is known of the payment after it was requested and `events` happened, and that the order is as it was.
#[track_caller]
fn payment_after(events: impl IntoIterator<Item = ShopEvent>, expected: PaymentOfOrder) {
    let events: Vec<_> = [placed(), requested()].into_iter().chain(events).collect();
    let changed_at = START + chrono::TimeDelta::seconds(events.len() as i64 - 1);
    let (timeline_entries, payment) = (i32::try_from(events.len()).unwrap(), Some(Box::new(expected)));
    given::<Orders>(events).then(
        |tables| rows(&tables.orders),
        [OrderRow { changed_at, timeline_entries, payment, ..order("placed", 0) }],
    );
}

fn a_payment(status: &str) -> PaymentOfOrder {
    PaymentOfOrder { payment_status: status.to_owned(), ..asked(pounds(1780)) }
}

fn an_authorised_payment(status: &str) -> PaymentOfOrder {
    PaymentOfOrder { authorised_minor: 1780, payment_reference: Some("auth-1".to_owned()), ..a_payment(status) }
}

fn a_captured_payment(captured_minor: i64, refunded_minor: i64) -> PaymentOfOrder {
    PaymentOfOrder { captured_minor, refunded_minor, ..an_authorised_payment("captured") }
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

#[test]
fn a_cancellation_may_be_declined() {
    let wanted =
        to([Placed(sale()).into(), Confirmed {}.into(), CancellationRequested { reason: line("too late") }.into()]);
    let cancelling = OrderRow { reason: Some("too late".to_owned()), ..order("cancelling", 2) };
    given::<Orders>(wanted.clone()).then(|tables| rows(&tables.orders), [cancelling]);
    let declined = wanted.into_iter().chain(to([CancellationDeclined {}.into()]));
    given::<Orders>(declined.clone()).then(|tables| rows(&tables.orders), [order("confirmed", 3)]);
    let dispatched = declined.chain(to([Dispatched {}.into()]));
    given::<Orders>(dispatched).then(|tables| rows(&tables.orders), [order("dispatched", 4)]);
}

#[test]
fn the_payment_stands_with_its_order() {
    payment_after([], a_payment("requested"));
    payment_after([authorised()], an_authorised_payment("authorised"));
    let declined = payment(Declined { reason: line("no funds") });
    payment_after([declined], PaymentOfOrder { declined_reason: Some("no funds".to_owned()), ..a_payment("declined") });

    let capture = || payment(CaptureRequested { amount: pounds(1500) });
    payment_after([authorised(), capture()], an_authorised_payment("capturing"));
    let failed = payment(CaptureFailed { reason: line("expired") });
    payment_after([authorised(), capture(), failed], an_authorised_payment("authorised"));
    let captured = || payment(Captured { amount: pounds(1500), reference: line("cap-1") });
    payment_after([authorised(), capture(), captured()], a_captured_payment(1500, 0));

    let refund = |number| payment(RefundRequested { number, amount: pounds(500), reason: line("a scratch") });
    let refunded = |number, left_minor| payment(Refunded { number, amount: pounds(500), left_minor });
    payment_after([authorised(), capture(), captured(), refund(1)], a_captured_payment(1500, 0));
    let twice = [authorised(), capture(), captured(), refund(1), refund(2), refunded(2, 1000), refunded(1, 500)];
    payment_after(twice, a_captured_payment(1500, 1000));
    let failed = payment(RefundFailed { number: 1, reason: line("card closed") });
    payment_after([authorised(), capture(), captured(), refund(1), failed], a_captured_payment(1500, 0));
}

#[test]
fn an_authorisation_that_comes_too_late_does_not_bring_a_payment_back() {
    let given_up = || payment(VoidRequested { reason: line("timed out") });
    payment_after([given_up()], a_payment("voiding"));
    payment_after([given_up(), authorised()], an_authorised_payment("voiding"));
    payment_after([given_up(), authorised(), payment(Voided {})], an_authorised_payment("voided"));
}

#[test]
fn a_payment_from_before_its_order_is_known_from_its_next_amount_on() {
    let early = [requested(), placed(), payment(VoidRequested { reason: line("why not") })];
    given::<Orders>(early).then(|tables| rows(&tables.orders).into_iter().map(|row| row.payment).collect(), [None]);
    given::<Orders>([requested(), placed(), authorised()]).then(
        |tables| rows(&tables.orders).into_iter().map(|row| row.payment).collect(),
        [Some(Box::new(an_authorised_payment("authorised")))],
    );
}

#[test]
fn the_shipment_stands_with_its_order() {
    let second = |number| Some(START + chrono::TimeDelta::seconds(number));
    let asked = || shipment(shipping::Requested { country: line("EIRE"), lines: vec![] });
    let sent = || shipment(shipping::Dispatched { carrier: line("An Post"), tracking: line("RR1") });
    let of = |status: &str| ShipmentOfOrder {
        shipment_status: status.to_owned(),
        carrier: None,
        tracking: None,
        dispatched_at: None,
        delivered_at: None,
        shipment_reason: None,
    };
    let on_its_way = |status: &str| ShipmentOfOrder {
        carrier: Some("An Post".to_owned()),
        tracking: Some("RR1".to_owned()),
        dispatched_at: second(2),
        ..of(status)
    };
    let reason = |reason: &str| Some(reason.to_owned());
    for (events, expected) in [
        (vec![], of("requested")),
        (vec![sent()], on_its_way("dispatched")),
        (vec![sent(), shipment(Delivered {})], ShipmentOfOrder { delivered_at: second(3), ..on_its_way("delivered") }),
        (
            vec![sent(), shipment(Lost { reason: line("a flood") })],
            ShipmentOfOrder { shipment_reason: reason("a flood"), ..on_its_way("lost") },
        ),
        (
            vec![shipment(shipping::Cancelled { reason: line("called off") })],
            ShipmentOfOrder { shipment_reason: reason("called off"), ..of("cancelled") },
        ),
    ] {
        given::<Orders>([placed(), asked()].into_iter().chain(events)).then(
            |tables| rows(&tables.orders).into_iter().map(|row| row.shipment).collect(),
            [Some(Box::new(expected))],
        );
    }
}

#[test]
fn the_timeline_tells_what_happened_in_the_order_of_the_log() {
    let entry = |entry_no: i32, what: &str, detail: Option<&str>| TimelineRow {
        order_id: ORDER,
        entry_no,
        at: START + chrono::TimeDelta::seconds(i64::from(entry_no) - 1),
        what: what.to_owned(),
        detail: detail.map(ToOwned::to_owned),
        actor: origin().actor,
        correlation_id: origin().correlation_id,
        causation_id: origin().causation_id,
    };
    let parked = Parked { event: ORDER, reason: line("nobody answers") };
    let events = [
        placed(),
        requested(),
        checkout(TimedOut { timeout: Timeout::Payment }),
        checkout(parked),
        checkout(Retried {}),
        authorised(),
        payment(RefundRequested { number: 1, amount: pounds(5), reason: line("a scratch") }),
        shipment(shipping::Dispatched { carrier: line("An Post"), tracking: line("RR1") }),
        ShopEvent::Ordering(OrderId(ORDER), Completed {}.into()),
    ];
    given::<Orders>(events).then(
        |tables| rows(&tables.timeline),
        [
            entry(1, "order_placed", None),
            entry(2, "payment_requested", Some("17.80 GBP")),
            entry(3, "checkout_timed_out", Some("payment")),
            entry(4, "checkout_parked", Some("nobody answers")),
            entry(5, "checkout_retried", None),
            entry(6, "payment_authorised", Some("17.80 GBP")),
            entry(7, "payment_refund_requested", Some("0.05 GBP: a scratch")),
            entry(8, "shipment_dispatched", Some("An Post RR1")),
            entry(9, "order_completed", None),
        ],
    );
}

#[test]
fn what_was_only_recorded_has_no_timeline_until_something_happens() {
    let recorded = || ShopEvent::Ordering(OrderId(ORDER), Recorded(sale()).into());
    given::<Orders>([recorded()]).then(|tables| rows(&tables.timeline), []);
    given::<Orders>([recorded(), requested()]).then(
        |tables| rows(&tables.timeline).into_iter().map(|row| row.what).collect(),
        ["payment_requested".to_owned()],
    );
}

#[test]
fn what_is_done_by_hand_for_an_order_that_nobody_placed_is_ignored() {
    let delivered = shipment(Delivered {});
    given::<Orders>([requested(), authorised(), delivered, checkout(Retried {})])
        .then(|tables| rows(&tables.orders), [])
        .then(|tables| rows(&tables.timeline), []);
}

proptest! {
    #[test]
    fn no_history_breaks_the_orders(history in any_history()) {
        let timeline = |tables: &Tables| {
            let mut entries = std::collections::BTreeMap::<Uuid, Vec<i32>>::new();
            for row in rows(&tables.timeline) {
                entries.entry(row.order_id).or_default().push(row.entry_no);
            }
            rows(&tables.orders)
                .into_iter()
                .map(|row| (row.timeline_entries, entries.remove(&row.order_id).unwrap_or_default()))
                .filter(|(count, numbers)| *numbers != (1..=*count).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        given::<Orders>(history.events.clone())
            .then(timeline, [])
            .then(
                |tables| {
                    let status = |row: OrderRow| (row.order_id, row.status);
                    rows(&tables.orders).into_iter().map(status).collect()
                },
                history.orders.0.iter().filter_map(|(id, state)| {
                    Some((id.parse::<Uuid>().unwrap(), state.as_ref()?.status.to_string()))
                }).collect::<std::collections::BTreeMap<_, _>>(),
            );
    }
}
