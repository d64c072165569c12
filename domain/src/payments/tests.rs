//! Payments by example.

use std::collections::BTreeMap;

use super::*;
use crate::decider::fold;
use crate::fixtures::{card, money, text};
use crate::money::Money;
use crate::testing::{assert_golden, given};

fn gbp(minor: i64) -> Money {
    money(minor, "GBP")
}

fn request(amount: Money) -> Request {
    Request { amount, card: card("tok_visa") }
}

fn record_authorised() -> RecordAuthorised {
    RecordAuthorised { reference: text("auth-1") }
}

fn record_declined() -> RecordDeclined {
    RecordDeclined { reason: text("Insufficient funds") }
}

fn capture(amount: Money) -> Capture {
    Capture { amount }
}

fn record_captured() -> RecordCaptured {
    RecordCaptured { reference: text("capt-1") }
}

fn record_capture_failed() -> RecordCaptureFailed {
    RecordCaptureFailed { reason: text("Try again") }
}

fn void() -> Void {
    Void { reason: text("Out of stock") }
}

fn refund(amount: Money) -> Refund {
    Refund { amount, reason: text("Came back broken") }
}

fn record_refunded(number: u32) -> RecordRefunded {
    RecordRefunded { number }
}

fn record_refund_failed(number: u32) -> RecordRefundFailed {
    RecordRefundFailed { number, reason: text("Card expired") }
}

fn requested() -> Event {
    Requested { amount: gbp(2208), card: card("tok_visa") }.into()
}

fn authorised() -> Event {
    Authorised { amount: gbp(2208), reference: text("auth-1") }.into()
}

fn declined() -> Event {
    Declined { reason: text("Insufficient funds") }.into()
}

fn capture_requested(minor: i64) -> Event {
    CaptureRequested { amount: gbp(minor) }.into()
}

fn captured(minor: i64) -> Event {
    Captured { amount: gbp(minor), reference: text("capt-1") }.into()
}

fn capture_failed() -> Event {
    CaptureFailed { reason: text("Try again") }.into()
}

fn void_requested() -> Event {
    VoidRequested { reason: text("Out of stock") }.into()
}

fn voided() -> Event {
    Voided {}.into()
}

fn refund_requested(number: u32, minor: i64) -> Event {
    RefundRequested { number, amount: gbp(minor), reason: text("Came back broken") }.into()
}

fn refunded(number: u32, minor: i64, left_minor: i64) -> Event {
    Refunded { number, amount: gbp(minor), left_minor }.into()
}

fn refund_failed(number: u32) -> Event {
    RefundFailed { number, reason: text("Card expired") }.into()
}

/// A history for each status there is.
fn histories() -> [(Status, Vec<Event>); 7] {
    [
        (Status::Requested, vec![requested()]),
        (Status::Authorised, vec![requested(), authorised()]),
        (Status::Declined, vec![requested(), declined()]),
        (Status::Capturing, vec![requested(), authorised(), capture_requested(2208)]),
        (Status::Captured, vec![requested(), authorised(), capture_requested(2208), captured(2208)]),
        (Status::Voiding, vec![requested(), authorised(), void_requested()]),
        (Status::Voided, vec![requested(), authorised(), void_requested(), voided()]),
    ]
}

/// What happened to a payment of which all was captured, and then these.
fn captured_and(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let [_, _, _, _, (Status::Captured, captured), ..] = histories() else { panic!("captured is the fifth") };
    captured.into_iter().chain(events).collect()
}

/// Asserts that `command` is granted in the statuses `from`, as `event`, and refused in all others.
#[track_caller]
fn only_from(from: &[Status], command: impl Into<Command>, event: &Event, refusal: impl Fn(Status) -> Refusal) {
    let command = command.into();
    for (status, history) in histories() {
        let decided = given::<Payment>(history).when(command.clone());
        if from.contains(&status) {
            decided.then([event.clone()]);
        } else {
            decided.then_refused(refusal(status));
        }
    }
    given::<Payment>([]).when(command).then_refused(Refusal::NotRequested);
}

#[test]
fn a_payment_is_requested() {
    given::<Payment>([]).when(request(gbp(2208))).then([requested()]);
}

#[test]
fn a_payment_is_requested_once() {
    for (status, history) in histories() {
        given::<Payment>(history).when(request(gbp(2208))).then_refused(Refusal::AlreadyRequested { status });
    }
}

#[test]
fn nothing_is_no_amount() {
    given::<Payment>([]).when(request(gbp(0))).then_refused(Refusal::NothingToPay);
    given::<Payment>([requested(), authorised()]).when(capture(gbp(0))).then_refused(Refusal::NothingToPay);
    given::<Payment>(captured_and([])).when(refund(gbp(0))).then_refused(Refusal::NothingToPay);
}

#[test]
fn a_payment_has_one_currency() {
    let refused = Refusal::OtherCurrency { currency: gbp(0).currency, given: money(0, "EUR").currency };
    given::<Payment>([requested(), authorised()]).when(capture(money(2208, "EUR"))).then_refused(refused.clone());
    given::<Payment>(captured_and([])).when(refund(money(2208, "EUR"))).then_refused(refused);
}

#[test]
fn an_authorisation_is_put_on_record_while_it_is_awaited() {
    only_from(&[Status::Requested], record_authorised(), &authorised(), |status| Refusal::NotAwaitingAuthorisation {
        status,
    });
    only_from(&[Status::Requested], record_declined(), &declined(), |status| Refusal::NotAwaitingAuthorisation {
        status,
    });
}

#[test]
fn an_authorisation_may_be_answered_after_it_was_given_up() {
    let given_up = [requested(), void_requested()];
    given::<Payment>(given_up.clone()).when(record_authorised()).then([authorised()]);
    given::<Payment>(given_up).when(record_declined()).then([declined()]);
}

#[test]
fn an_answer_after_it_was_given_up_does_not_bring_a_payment_back() {
    let held = [requested(), void_requested(), authorised()];
    let status = Status::Voiding;
    given::<Payment>(held.clone()).when(capture(gbp(2208))).then_refused(Refusal::CannotCapture { status });
    given::<Payment>(held.clone()).when(void()).then_refused(Refusal::CannotVoid { status });
    given::<Payment>(held.clone()).when(RecordVoided {}).then([voided()]);
    // It is answered once all the same.
    let refused = Refusal::NotAwaitingAuthorisation { status };
    given::<Payment>(held.clone()).when(record_authorised()).then_refused(refused.clone());
    given::<Payment>(held).when(record_declined()).then_refused(refused);
}

#[test]
fn what_was_declined_after_it_was_given_up_needs_no_void_any_more() {
    let declined = [requested(), void_requested(), declined()];
    let status = Status::Declined;
    given::<Payment>(declined.clone()).when(RecordVoided {}).then_refused(Refusal::NotAwaitingVoid { status });
    given::<Payment>(declined).when(record_authorised()).then_refused(Refusal::NotAwaitingAuthorisation { status });
}

#[test]
fn an_answer_after_a_void_is_too_late() {
    let voided = [requested(), void_requested(), voided()];
    let refused = Refusal::NotAwaitingAuthorisation { status: Status::Voided };
    given::<Payment>(voided.clone()).when(record_authorised()).then_refused(refused.clone());
    given::<Payment>(voided).when(record_declined()).then_refused(refused);
}

#[test]
fn only_what_is_held_is_captured() {
    let from = [Status::Authorised];
    only_from(&from, capture(gbp(2208)), &capture_requested(2208), |status| Refusal::CannotCapture { status });
}

#[test]
fn all_or_a_part_of_what_is_held_is_captured() {
    let held = [requested(), authorised()];
    given::<Payment>(held.clone()).when(capture(gbp(1))).then([capture_requested(1)]);
    given::<Payment>(held)
        .when(capture(gbp(2209)))
        .then_refused(Refusal::CaptureExceedsAuthorised { amount: gbp(2209), authorised: gbp(2208) });
}

#[test]
fn a_capture_is_put_on_record_while_it_is_awaited() {
    let refused = |status| Refusal::NotAwaitingCapture { status };
    only_from(&[Status::Capturing], record_captured(), &captured(2208), refused);
    only_from(&[Status::Capturing], record_capture_failed(), &capture_failed(), refused);
}

#[test]
fn what_is_captured_is_what_was_asked_for() {
    given::<Payment>([requested(), authorised(), capture_requested(2000)])
        .when(record_captured())
        .then([captured(2000)]);
}

#[test]
fn after_a_failed_capture_the_money_is_still_held() {
    let failed = [requested(), authorised(), capture_requested(2000), capture_failed()];
    given::<Payment>(failed.clone()).when(capture(gbp(2208))).then([capture_requested(2208)]);
    given::<Payment>(failed).when(void()).then([void_requested()]);
}

#[test]
fn only_what_was_not_taken_is_voided() {
    let from = [Status::Requested, Status::Authorised];
    only_from(&from, void(), &void_requested(), |status| Refusal::CannotVoid { status });
}

#[test]
fn a_void_is_put_on_record_while_it_is_awaited() {
    only_from(&[Status::Voiding], RecordVoided {}, &voided(), |status| Refusal::NotAwaitingVoid { status });
    given::<Payment>([requested(), void_requested()]).when(RecordVoided {}).then([voided()]);
}

#[test]
fn only_what_was_taken_is_refunded() {
    only_from(&[Status::Captured], refund(gbp(2208)), &refund_requested(1, 2208), |status| Refusal::CannotRefund {
        status,
    });
}

#[test]
fn money_is_refunded_in_parts() {
    given::<Payment>(captured_and([refund_requested(1, 1000)]))
        .when(refund(gbp(1208)))
        .then([refund_requested(2, 1208)]);
    given::<Payment>(captured_and([refund_requested(1, 1000), refunded(1, 1000, 1208)]))
        .when(refund(gbp(1208)))
        .then([refund_requested(2, 1208)]);
}

#[test]
fn no_more_is_refunded_than_was_taken() {
    let too_much = |history: Vec<Event>, minor, left| {
        given::<Payment>(history)
            .when(refund(gbp(minor)))
            .then_refused(Refusal::RefundExceedsCaptured { amount: gbp(minor), refundable: gbp(left) });
    };
    too_much(captured_and([]), 2209, 2208);
    // Less was taken than was held.
    too_much(vec![requested(), authorised(), capture_requested(2000), captured(2000)], 2001, 2000);
    // What the gateway has not answered yet is as good as gone,
    too_much(captured_and([refund_requested(1, 1000)]), 1209, 1208);
    too_much(captured_and([refund_requested(1, 1000), refund_requested(2, 1208)]), 1, 0);
    // as is what it has given back.
    too_much(captured_and([refund_requested(1, 1000), refunded(1, 1000, 1208)]), 1209, 1208);
}

#[test]
fn what_could_not_be_refunded_can_be_asked_for_again() {
    given::<Payment>(captured_and([refund_requested(1, 2208), refund_failed(1)]))
        .when(refund(gbp(2208)))
        .then([refund_requested(2, 2208)]);
}

#[test]
fn refunds_are_answered_in_any_order_and_say_what_is_left() {
    let asked = [refund_requested(1, 1000), refund_requested(2, 1208)];
    given::<Payment>(captured_and(asked.clone())).when(record_refunded(2)).then([refunded(2, 1208, 1000)]);
    given::<Payment>(captured_and(asked.clone())).when(record_refund_failed(2)).then([refund_failed(2)]);
    given::<Payment>(captured_and(asked.clone().into_iter().chain([refunded(2, 1208, 1000)])))
        .when(record_refunded(1))
        .then([refunded(1, 1000, 0)]);
    given::<Payment>(captured_and(asked.into_iter().chain([refund_failed(2)])))
        .when(record_refunded(1))
        .then([refunded(1, 1000, 1208)]);
}

#[test]
fn a_refund_is_answered_once() {
    let refused = |history: Vec<Event>, number| {
        let refused = Refusal::NotAwaitingRefund { number };
        given::<Payment>(history.clone()).when(record_refunded(number)).then_refused(refused.clone());
        given::<Payment>(history).when(record_refund_failed(number)).then_refused(refused);
    };
    for (_, history) in histories() {
        refused(history, 1);
    }
    refused(captured_and([refund_requested(1, 1000)]), 0);
    refused(captured_and([refund_requested(1, 1000)]), 2);
    refused(captured_and([refund_requested(1, 1000), refunded(1, 1000, 1208)]), 1);
    refused(captured_and([refund_requested(1, 1000), refund_failed(1)]), 1);
    given::<Payment>([]).when(record_refunded(1)).then_refused(Refusal::NotRequested);
    given::<Payment>([]).when(record_refund_failed(1)).then_refused(Refusal::NotRequested);
}

#[test]
fn its_history_makes_a_payment() {
    let payment = PaymentState {
        status: Status::Requested,
        amount: gbp(2208),
        card: card("tok_visa"),
        authorised: false,
        capture_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        refunds: BTreeMap::new(),
        last_refund: 0,
    };
    for (status, history) in histories() {
        let authorised = !matches!(status, Status::Requested | Status::Declined);
        let capture_minor = if matches!(status, Status::Capturing | Status::Captured) { 2208 } else { 0 };
        let captured_minor = if status == Status::Captured { 2208 } else { 0 };
        let expected = PaymentState { status, authorised, capture_minor, captured_minor, ..payment.clone() };
        given::<Payment>(history).then_state(Some(expected));
    }

    let failed = [requested(), authorised(), capture_requested(2000), capture_failed()];
    given::<Payment>(failed).then_state(Some(PaymentState {
        status: Status::Authorised,
        authorised: true,
        ..payment.clone()
    }));

    let given_up = [requested(), void_requested(), authorised()];
    given::<Payment>(given_up).then_state(Some(PaymentState {
        status: Status::Voiding,
        authorised: true,
        ..payment.clone()
    }));

    let given_back = [
        refund_requested(1, 200),
        refund_requested(2, 300),
        refund_requested(3, 400),
        refunded(2, 300, 1908),
        refund_failed(1),
    ];
    given::<Payment>(captured_and(given_back)).then_state(Some(PaymentState {
        status: Status::Captured,
        authorised: true,
        capture_minor: 2208,
        captured_minor: 2208,
        refunded_minor: 300,
        refunds: BTreeMap::from([(3, OpenRefund { minor: 400 })]),
        last_refund: 3,
        ..payment
    }));

    given::<Payment>([authorised(), captured(2208), refunded(1, 1000, 1208), voided()]).then_state(None);
}

#[test]
fn a_payment_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "status": "captured",
        "amount": { "minor": 2208, "currency": "GBP" },
        "card": "tok_visa",
        "authorised": true,
        "capture_minor": 2208,
        "captured_minor": 2208,
        "refunded_minor": 300,
        "refunds": { "2": { "minor": 400 } },
        "last_refund": 2,
    });
    let history = captured_and([refund_requested(1, 300), refunded(1, 300, 1908), refund_requested(2, 400)]);
    assert_eq!(serde_json::to_value(fold::<Payment>(&history)).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::RefundExceedsCaptured { amount: gbp(2209), refundable: gbp(1208) };
    assert_eq!(refusal.to_string(), "22.09 GBP cannot be refunded: 12.08 GBP is left of what was captured");
    let shown = serde_json::json!({
        "refusal": "refund-exceeds-captured",
        "amount": { "minor": 2209, "currency": "GBP" },
        "refundable": { "minor": 1208, "currency": "GBP" },
    });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);

    let refusal = Refusal::OtherCurrency { currency: gbp(0).currency, given: money(0, "EUR").currency };
    assert_eq!(refusal.to_string(), "the payment is in GBP, not in EUR");
    let shown = serde_json::json!({ "refusal": "other-currency", "currency": "GBP", "given": "EUR" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);

    let refusal = Refusal::CannotVoid { status: Status::Capturing };
    assert_eq!(refusal.to_string(), "the payment is capturing; only a requested or authorised one can be voided");
    let shown = serde_json::json!({ "refusal": "cannot-void", "status": "capturing" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/payments/golden"));
}
