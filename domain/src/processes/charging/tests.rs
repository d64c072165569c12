//! Charging by example, and held against what a payment awaits.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fixtures::{card, lives, money, order, payment, text};
use crate::ordering::{self, Confirmed};
use crate::payments::properties::any_command;
use crate::payments::{Authorised, CaptureFailed, Captured, Declined, OpenRefund, PaymentState, Status, Voided};
use crate::testing::given_process;

fn gbp(minor: i64) -> Money {
    money(minor, "GBP")
}

fn of_payment(event: impl Into<Event>) -> ShopEvent {
    ShopEvent::Payments(payment(1), event.into())
}

fn requested() -> ShopEvent {
    of_payment(Requested { amount: gbp(2208), card: card("tok_visa") })
}

fn authorised() -> ShopEvent {
    of_payment(Authorised { amount: gbp(2208), reference: text("auth-1") })
}

fn declined() -> ShopEvent {
    of_payment(Declined { reason: text("Insufficient funds") })
}

fn capture_requested() -> ShopEvent {
    of_payment(CaptureRequested { amount: gbp(2000) })
}

fn captured() -> ShopEvent {
    of_payment(Captured { amount: gbp(2000), reference: text("capt-1") })
}

fn capture_failed() -> ShopEvent {
    of_payment(CaptureFailed { reason: text("Try again") })
}

fn void_requested() -> ShopEvent {
    of_payment(VoidRequested { reason: text("Out of stock") })
}

fn voided() -> ShopEvent {
    of_payment(Voided {})
}

fn refund_requested(number: u32, minor: i64) -> ShopEvent {
    of_payment(RefundRequested { number, amount: gbp(minor), reason: text("Came back broken") })
}

fn refunded(number: u32, minor: i64) -> ShopEvent {
    of_payment(Refunded { number, amount: gbp(minor), left_minor: 2000 - minor })
}

fn refund_failed(number: u32) -> ShopEvent {
    of_payment(RefundFailed { number, reason: text("Card expired") })
}

fn authorise() -> Call {
    Call::Authorise { amount: gbp(2208), card: card("tok_visa") }
}

fn capture() -> Call {
    Call::Capture { amount: gbp(2000) }
}

fn refund(number: u32, minor: i64) -> Call {
    Call::Refund { number, amount: gbp(minor) }
}

/// What the gateway is to be asked after these events.
fn calls<'a>(events: impl IntoIterator<Item = &'a ShopEvent>) -> Vec<Call> {
    events.into_iter().fold(Charging::initial(), Charging::evolve)
}

#[test]
fn what_is_asked_for_is_on_the_list_until_it_is_answered() {
    let asked = [requested()];
    assert_eq!(calls(&asked), [authorise()]);
    for answer in [authorised(), declined()] {
        assert_eq!(calls(asked.iter().chain([&answer])), []);
    }

    let asked = [requested(), authorised(), capture_requested()];
    assert_eq!(calls(&asked), [capture()]);
    for answer in [captured(), capture_failed()] {
        assert_eq!(calls(asked.iter().chain([&answer])), []);
    }

    let asked = [requested(), authorised(), void_requested()];
    assert_eq!(calls(&asked), [Call::Void]);
    assert_eq!(calls(asked.iter().chain([&voided()])), []);
}

#[test]
fn several_refunds_are_on_the_list_and_each_leaves_it_for_its_own_answer() {
    let asked = [
        requested(),
        authorised(),
        capture_requested(),
        captured(),
        refund_requested(1, 100),
        refund_requested(2, 200),
        refund_requested(3, 300),
    ];
    assert_eq!(calls(&asked), [refund(1, 100), refund(2, 200), refund(3, 300)]);
    let answered = [refunded(2, 200), refund_failed(1)];
    assert_eq!(calls(asked.iter().chain(&answered)), [refund(3, 300)]);
}

#[test]
fn what_failed_is_asked_again_only_when_it_is_asked_for_again() {
    let failed = [requested(), authorised(), capture_requested(), capture_failed()];
    assert_eq!(calls(&failed), []);
    assert_eq!(calls(failed.iter().chain([&capture_requested()])), [capture()]);
}

#[test]
fn what_is_given_up_is_let_go_and_not_held_first() {
    assert_eq!(calls(&[requested(), void_requested()]), [Call::Void]);
    // An answer that was under way says that something is held: it is to be let go as before.
    assert_eq!(calls(&[requested(), void_requested(), authorised()]), [Call::Void]);
    assert_eq!(calls(&[requested(), void_requested(), authorised(), voided()]), []);
    // And this one says that there is nothing to let go.
    assert_eq!(calls(&[requested(), void_requested(), declined()]), []);
}

#[test]
fn an_instance_is_a_payment() {
    assert_eq!(Charging::instance(&requested()), Some(payment(1)));
    let elsewhere = ShopEvent::Ordering(order(1), Confirmed {}.into());
    assert_eq!(Charging::instance(&elsewhere), None);
    assert_eq!(calls(&[requested(), elsewhere]), [authorise()]);
    assert_eq!(Charging::CATEGORIES, ["payment"]);
}

#[test]
fn it_is_over_when_the_gateway_has_nothing_to_be_asked() {
    assert!(Charging::is_over(&Charging::initial()));
    assert!(!Charging::is_over(&calls(&[requested()])));
    assert!(Charging::is_over(&calls(&[requested(), authorised()])));
}

#[test]
fn it_commands_nothing_and_waits_for_nothing() {
    given_process::<Charging>([]).when(requested()).then_nothing();
    given_process::<Charging>([requested()]).when(authorised()).then_nothing();
    given_process::<Charging>([requested()]).when(void_requested()).then_nothing();
    given_process::<Charging>([]).when(ShopEvent::Ordering(order(1), ordering::Confirmed {}.into())).then_nothing();
    assert_eq!(Charging::waits_for(&calls(&[requested()])), None);
    assert!(!Charging::resumes(&requested()));
}

/// The list is kept between events, perhaps from one release to the next.
#[test]
fn the_list_is_kept_under_these_names() {
    let all = vec![authorise(), capture(), Call::Void, refund(1, 100)];
    let kept = json!([
        { "call": "authorise", "amount": { "minor": 2208, "currency": "GBP" }, "card": "tok_visa" },
        { "call": "capture", "amount": { "minor": 2000, "currency": "GBP" } },
        { "call": "void" },
        { "call": "refund", "number": 1, "amount": { "minor": 100, "currency": "GBP" } },
    ]);
    assert_eq!(serde_json::to_value(&all).unwrap(), kept);
    assert_eq!(serde_json::from_value::<Vec<Call>>(kept).unwrap(), all);
}

/// What a payment awaits of the gateway, as its own state tells it.
fn awaited(payment: &PaymentState) -> Vec<Call> {
    let in_currency = |minor| money(minor, payment.amount.currency.code());
    match payment.status {
        Status::Requested => vec![Call::Authorise { amount: payment.amount, card: payment.card.clone() }],
        Status::Capturing => vec![Call::Capture { amount: in_currency(payment.capture_minor) }],
        Status::Voiding => vec![Call::Void],
        Status::Authorised | Status::Declined | Status::Captured | Status::Voided => {
            let open = payment.refunds.iter();
            open.map(|(&number, &OpenRefund { minor })| Call::Refund { number, amount: in_currency(minor) }).collect()
        }
    }
}

proptest! {
    /// Neither is a call forgotten, nor is the gateway asked what nobody waits for.
    #[test]
    fn the_list_is_what_the_payment_awaits(commands in vec(any_command(), 0..60)) {
        let history = lives::<Payment>(commands, |_, _, _| {});
        let (mut state, mut list) = (Payment::initial(), Charging::initial());
        for event in history {
            state = Payment::evolve(state, &event);
            list = Charging::evolve(list, &of_payment(event));
            assert_eq!(list, state.as_ref().map(awaited).unwrap_or_default(), "{state:?}");
        }
    }
}
