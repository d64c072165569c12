use std::collections::BTreeMap;

use domain::ids::{OrderId, PaymentId, ShipmentId};
use domain::money::Money;
use domain::ordering::{
    CancellationDeclined, CancellationRequested, Cancelled, Completed, Confirmed, Dispatched, Placed, Recorded,
    Rejected, Status,
};
use domain::payments::{
    Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
    Requested, VoidRequested, Voided,
};
use domain::shipping::{self, Delivered, Lost};
use domain::supervision::{Parked, Retried, TimedOut, Timeout};
use proptest::prelude::*;

use super::*;
use crate::histories::{any_history, is_settled, may_leave, parked};
use crate::testing::{START, given, rows};

const ORDER: Uuid = Uuid::from_u128(1);

fn order<E: Into<ordering::Event>>(event: E) -> ShopEvent {
    ShopEvent::Ordering(OrderId(ORDER), event.into())
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

fn placed() -> ShopEvent {
    order(Placed(sale()))
}

fn sale() -> ordering::SaleMade {
    serde_json::from_str(
        r#"{"country": "EIRE", "currency": "GBP", "placed_at": "2010-12-01T08:26:00Z", "card": "tok_visa",
            "lines": [{"sku": "A", "quantity": 6, "unit_price_minor": 255}], "total_minor": 1530}"#,
    )
    .unwrap()
}

fn requested() -> ShopEvent {
    payment(Requested { amount: pounds(1530), card: "tok_visa".parse().unwrap() })
}

fn authorised() -> ShopEvent {
    payment(Authorised { amount: pounds(1530), reference: line("auth-1") })
}

fn given_up() -> ShopEvent {
    payment(VoidRequested { reason: line("no more wanted") })
}

fn capturing() -> ShopEvent {
    payment(CaptureRequested { amount: pounds(1530) })
}

fn captured() -> ShopEvent {
    payment(Captured { amount: pounds(1530), reference: line("cap-1") })
}

fn refund() -> ShopEvent {
    payment(RefundRequested { number: 1, amount: pounds(1530), reason: line("lost") })
}

fn refunded(minor: i64, left_minor: i64) -> ShopEvent {
    payment(Refunded { number: 1, amount: pounds(minor), left_minor })
}

fn asked_to_ship() -> ShopEvent {
    shipment(shipping::Requested { country: line("EIRE"), lines: vec![] })
}

fn sent() -> ShopEvent {
    shipment(shipping::Dispatched { carrier: line("An Post"), tracking: line("RR1") })
}

fn rejected() -> ShopEvent {
    order(Rejected { reason: line("out of stock") })
}

fn called_off() -> ShopEvent {
    order(Cancelled { reason: line("called off") })
}

/// Everything up to the confirmation.
fn confirmed() -> Vec<ShopEvent> {
    vec![placed(), requested(), authorised(), order(Confirmed {}), asked_to_ship()]
}

/// Everything up to the capture.
fn paid() -> Vec<ShopEvent> {
    let mut events = confirmed();
    events.extend([sent(), order(Dispatched {}), capturing(), captured()]);
    events
}

/// Asserts where a checkout is after `events`: its state, its step and the reason.
#[track_caller]
fn is(events: impl IntoIterator<Item = ShopEvent>, state: &str, step: &str, reason: Option<&str>) {
    let ends = step == "done";
    given::<Checkouts>(events).then(
        |tables| {
            let of = |row: CheckoutRow| (row.state, row.step, row.reason, row.ended_at.is_some());
            rows(&tables.checkouts).into_iter().map(of).collect()
        },
        [(state.to_owned(), step.to_owned(), reason.map(ToOwned::to_owned), ends)],
    );
}

/// As [`is`], after what happened to a checkout that had come so far.
#[track_caller]
fn then_is(before: Vec<ShopEvent>, events: &[ShopEvent], state: &str, step: &str, reason: Option<&str>) {
    is(before.into_iter().chain(events.iter().cloned()), state, step, reason);
}

#[test]
fn a_checkout_begins_with_its_order() {
    given::<Checkouts>([placed()]).then(
        |tables| rows(&tables.checkouts),
        [CheckoutRow {
            order_id: ORDER,
            state: "running".to_owned(),
            step: "reserving".to_owned(),
            reason: None,
            undo_reason: None,
            problem: None,
            parked_reason: None,
            order_status: "placed".to_owned(),
            payment_status: None,
            taken_minor: 0,
            shipment_status: None,
            timed_out: None,
            started_at: START,
            changed_at: START,
            ended_at: None,
        }],
    );
}

#[test]
fn a_checkout_goes_its_way() {
    let way = [
        (placed(), "reserving"),
        (requested(), "paying"),
        (authorised(), "confirming"),
        (order(Confirmed {}), "dispatching"),
        (asked_to_ship(), "dispatching"),
        (sent(), "delivering"),
        (order(Dispatched {}), "delivering"),
        (capturing(), "delivering"),
        (captured(), "delivering"),
        (shipment(Delivered {}), "completing"),
    ];
    for end in 1..=way.len() {
        is(way[..end].iter().map(|(event, _)| event.clone()), "running", way[end - 1].1, None);
    }
    let events: Vec<_> = way.into_iter().map(|(event, _)| event).chain([order(Completed {})]).collect();
    let ended_at = START + chrono::TimeDelta::seconds(10);
    is(events.clone(), "completed", "done", None);
    given::<Checkouts>(events).then(
        |tables| rows(&tables.checkouts).into_iter().map(|row| (row.started_at, row.ended_at)).collect(),
        [(START, Some(ended_at))],
    );
}

#[test]
fn an_order_that_costs_nothing_is_not_paid() {
    is([placed(), order(Confirmed {})], "running", "dispatching", None);
    is([placed(), rejected()], "undone", "done", Some("out of stock"));
}

#[test]
fn what_is_declined_is_undone() {
    let declined = [placed(), requested(), payment(Declined { reason: line("no funds") })];
    then_is(declined.to_vec(), &[], "running", "undoing", Some("payment declined: no funds"));
    then_is(declined.to_vec(), &[rejected()], "undone", "done", Some("out of stock"));
}

#[test]
fn a_checkout_is_not_undone_while_money_is_held_or_may_be() {
    let waited = vec![placed(), requested(), checkout(TimedOut { timeout: Timeout::Payment })];
    then_is(waited.clone(), &[], "running", "undoing", Some("timed out waiting for the payment"));
    let undoing = |events: &[ShopEvent]| then_is(waited.clone(), events, "running", "undoing", Some("out of stock"));
    undoing(&[rejected()]);
    undoing(&[rejected(), given_up()]);
    undoing(&[given_up(), rejected(), authorised()]);
    let done = |events: &[ShopEvent]| then_is(waited.clone(), events, "undone", "done", Some("out of stock"));
    done(&[rejected(), given_up(), payment(Voided {})]);
    done(&[given_up(), authorised(), payment(Voided {}), rejected()]);
    done(&[given_up(), payment(Declined { reason: line("no funds") }), rejected()]);
}

#[test]
fn a_checkout_is_not_undone_while_money_is_kept() {
    let lost = || [shipment(Lost { reason: line("a flood") })];
    then_is(paid(), &lost(), "running", "undoing", Some("shipment lost: a flood"));
    let off = [lost().to_vec(), vec![called_off(), refund()]].concat();
    then_is(paid(), &off, "running", "undoing", Some("called off"));
    let failed = [off.clone(), vec![payment(RefundFailed { number: 1, reason: line("card closed") })]].concat();
    then_is(paid(), &failed, "running", "undoing", Some("refund failed: card closed"));
    then_is(paid(), &[failed, vec![refund()]].concat(), "running", "undoing", Some("called off"));
    let part = [off, vec![refunded(30, 1500)]].concat();
    then_is(paid(), &part, "running", "undoing", Some("called off"));
    then_is(paid(), &[part, vec![refunded(1500, 0)]].concat(), "undone", "done", Some("called off"));
}

#[test]
fn a_checkout_is_not_undone_while_its_goods_may_be_sent() {
    let gift = vec![placed(), order(Confirmed {}), asked_to_ship(), called_off()];
    then_is(gift.clone(), &[], "running", "undoing", Some("called off"));
    let kept = shipment(shipping::Cancelled { reason: line("called off") });
    then_is(gift.clone(), &[kept], "undone", "done", Some("called off"));
    then_is(gift, &[sent()], "undone", "done", Some("called off"));
}

#[test]
fn a_cancellation_may_come_too_late() {
    let wanted = [order(CancellationRequested { reason: line("too dear") })];
    then_is(confirmed(), &wanted, "running", "undoing", Some("cancellation requested: too dear"));
    let gone = [wanted.to_vec(), vec![sent(), order(CancellationDeclined {}), order(Dispatched {})]].concat();
    then_is(confirmed(), &gone, "running", "delivering", None);
    let kept = shipment(shipping::Cancelled { reason: line("too dear") });
    let kept = [wanted.to_vec(), vec![kept, given_up(), called_off(), payment(Voided {})]].concat();
    then_is(confirmed(), &kept, "undone", "done", Some("called off"));
}

#[test]
fn goods_that_leave_late_are_on_their_way_all_the_same() {
    let late = [checkout(TimedOut { timeout: Timeout::Dispatch })];
    then_is(confirmed(), &late, "running", "undoing", Some("timed out waiting for the dispatch"));
    then_is(confirmed(), &[late.to_vec(), vec![sent()]].concat(), "running", "delivering", None);
}

#[test]
fn a_timeout_that_fires_too_late_does_not_matter() {
    let paid_for = vec![placed(), requested(), authorised()];
    then_is(paid_for, &[checkout(TimedOut { timeout: Timeout::Payment })], "running", "confirming", None);
    then_is(paid(), &[checkout(TimedOut { timeout: Timeout::Dispatch })], "running", "delivering", None);
    then_is(vec![placed()], &[checkout(TimedOut { timeout: Timeout::Dispatch })], "running", "reserving", None);
}

#[test]
fn what_could_not_be_captured_holds_up_until_it_is_tried_again() {
    let mut gone = confirmed();
    gone.extend([sent(), order(Dispatched {}), capturing()]);
    let failed = payment(CaptureFailed { reason: line("expired") });
    then_is(gone.clone(), std::slice::from_ref(&failed), "running", "delivering", Some("capture failed: expired"));
    then_is(gone.clone(), &[failed.clone(), capturing()], "running", "delivering", None);
    // What has left the house and is let go is waived.
    let waived = [failed, given_up(), payment(Voided {}), shipment(Delivered {})];
    then_is(gone, &waived, "running", "completing", None);
}

#[test]
fn a_parked_checkout_is_parked_until_somebody_lets_it_try_again() {
    let parked = checkout(Parked { event: ORDER, reason: line("no such SKU") });
    then_is(confirmed(), std::slice::from_ref(&parked), "parked", "dispatching", Some("no such SKU"));
    then_is(confirmed(), &[parked.clone(), sent()], "parked", "delivering", Some("no such SKU"));
    then_is(confirmed(), &[parked.clone(), checkout(Retried {})], "running", "dispatching", None);
    let over = [parked, order(Dispatched {}), order(Completed {})];
    then_is(confirmed(), &over, "parked", "done", Some("no such SKU"));
    then_is(confirmed(), &[over.to_vec(), vec![checkout(Retried {})]].concat(), "completed", "done", None);
}

#[test]
fn only_an_order_that_was_placed_has_a_checkout() {
    let nobody_s = [order(Recorded(sale())), requested(), authorised(), sent(), checkout(Retried {})];
    given::<Checkouts>(nobody_s).then(|tables| rows(&tables.checkouts), []);
    given::<Checkouts>([order(Confirmed {})])
        .then_broken(&format!("no checkout {ORDER} is on record, though something happened to it"));
}

proptest! {
    #[test]
    fn a_checkout_is_over_when_everybody_says_so(history in any_history()) {
        let expected: BTreeMap<_, _> = history.placed().map(|(id, status)| {
            // A payment from before the order is not seen, and neither is it the checkout's.
            let payment = history.payments.get(id).filter(|_| since_placed(&history.events, id));
            let settled = is_settled(payment.as_ref()) && !may_leave(history.shipments.get(id).as_ref());
            let state = match (parked(&history.supervisions.get(id)), status) {
                (Some(_), _) => "parked",
                (None, Status::Completed) => "completed",
                (None, Status::Rejected | Status::Cancelled) if settled => "undone",
                _ => "running",
            };
            (id, state.to_owned())
        }).filter(|(id, _)| since_placed(&history.events, *id)).collect();
        given::<Checkouts>(history.events.clone()).then(
            |tables| {
                let of = |row: CheckoutRow| (row.order_id, row.state);
                let known = |row: &(Uuid, String)| since_placed(&history.events, row.0);
                rows(&tables.checkouts).into_iter().map(of).filter(known).collect()
            },
            expected,
        );
    }

    #[test]
    fn a_checkout_has_an_end_exactly_when_nothing_is_left_to_do(history in any_history()) {
        given::<Checkouts>(history.events).then(
            |tables| {
                let odd = |row: &CheckoutRow| (row.step == "done") != row.ended_at.is_some();
                rows(&tables.checkouts).into_iter().filter(odd).collect()
            },
            [],
        );
    }
}

/// Whether everything that happened beside an order happened after it was placed.
fn since_placed(events: &[ShopEvent], id: Uuid) -> bool {
    let first = events.iter().find(|event| order_of(event).is_some_and(|order| order.0 == id));
    matches!(first, Some(ShopEvent::Ordering(..)))
}
