//! What holds for a payment whatever is asked of it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::decider::{Decider, fold};
use crate::fixtures::{any_card, any_money, any_text, lives, money, survives};
use crate::money::Money;

/// Mostly little, in one currency and now and then nothing, so that parts add up to what is there.
fn any_amount() -> impl Strategy<Value = Money> {
    prop_oneof![9 => (0..=30_i64).prop_map(|minor| money(minor, "GBP")), 1 => any_money()]
}

/// Mostly enough for several parts.
fn any_request() -> impl Strategy<Value = Request> {
    let amount = prop_oneof![3 => (20..=60_i64).prop_map(|minor| money(minor, "GBP")), 1 => any_amount()];
    (amount, any_card()).prop_map(|(amount, card)| Request { amount, card })
}

/// What is asked of a payment, and every so often what the gateway answers.
pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => any_request().prop_map(Command::from),
        6 => any_text().prop_map(|reference| RecordAuthorised { reference }.into()),
        1 => any_text().prop_map(|reason| RecordDeclined { reason }.into()),
        4 => any_amount().prop_map(|amount| Capture { amount }.into()),
        4 => any_text().prop_map(|reference| RecordCaptured { reference }.into()),
        1 => any_text().prop_map(|reason| RecordCaptureFailed { reason }.into()),
        1 => any_text().prop_map(|reason| Void { reason }.into()),
        1 => Just(RecordVoided {}.into()),
        6 => (any_amount(), any_text()).prop_map(|(amount, reason)| Refund { amount, reason }.into()),
        4 => (0..6_u32).prop_map(|number| RecordRefunded { number }.into()),
        2 => (0..6_u32, any_text()).prop_map(|(number, reason)| RecordRefundFailed { number, reason }.into()),
    ]
}

/// Any at all: more given back than was taken, answers without a question, ends without a beginning.
fn any_event() -> impl Strategy<Value = Event> {
    let any_number = || prop_oneof![9 => 0..6_u32, 1 => any::<u32>()];
    prop_oneof![
        (any_money(), any_card()).prop_map(|(amount, card)| Requested { amount, card }.into()),
        (any_money(), any_text()).prop_map(|(amount, reference)| Authorised { amount, reference }.into()),
        any_text().prop_map(|reason| Declined { reason }.into()),
        any_money().prop_map(|amount| CaptureRequested { amount }.into()),
        (any_money(), any_text()).prop_map(|(amount, reference)| Captured { amount, reference }.into()),
        any_text().prop_map(|reason| CaptureFailed { reason }.into()),
        any_text().prop_map(|reason| VoidRequested { reason }.into()),
        Just(Voided {}.into()),
        (any_number(), any_money(), any_text()).prop_map(|(number, amount, reason)| RefundRequested {
            number,
            amount,
            reason
        }
        .into()),
        (any_number(), any_money(), any::<i64>()).prop_map(|(number, amount, left_minor)| Refunded {
            number,
            amount,
            left_minor
        }
        .into()),
        (any_number(), any_text()).prop_map(|(number, reason)| RefundFailed { number, reason }.into()),
    ]
}

/// The money of a payment by its events alone, in minor units of one currency.
#[derive(Default)]
struct Books {
    requested: i64,
    held: i64,
    captured: i64,
    refunded: i64,
    awaited: BTreeMap<u32, i64>,
}

impl Books {
    fn enter(&mut self, event: &Event) {
        match event {
            Event::Requested(Requested { amount, .. }) => self.requested = amount.minor.minor(),
            Event::Authorised(Authorised { amount, .. }) => self.held = amount.minor.minor(),
            Event::Captured(Captured { amount, .. }) => self.captured += amount.minor.minor(),
            Event::RefundRequested(RefundRequested { number, amount, .. }) => {
                assert_eq!(self.awaited.insert(*number, amount.minor.minor()), None);
            }
            Event::Refunded(Refunded { number, amount, left_minor }) => {
                assert_eq!(self.awaited.remove(number), Some(amount.minor.minor()));
                self.refunded += amount.minor.minor();
                assert_eq!(*left_minor, self.captured - self.refunded);
            }
            Event::RefundFailed(RefundFailed { number, .. }) => assert!(self.awaited.remove(number).is_some()),
            _ => {}
        }
    }

    /// What was taken and is neither given back nor about to be.
    fn left(&self) -> i64 {
        self.captured - self.refunded - self.awaited.values().sum::<i64>()
    }
}

/// The currency of the amount that an event names, if it names one.
fn currency(event: &Event) -> Option<&'static str> {
    match event {
        Event::Requested(Requested { amount, .. })
        | Event::Authorised(Authorised { amount, .. })
        | Event::CaptureRequested(CaptureRequested { amount })
        | Event::Captured(Captured { amount, .. })
        | Event::RefundRequested(RefundRequested { amount, .. })
        | Event::Refunded(Refunded { amount, .. }) => Some(amount.currency.code()),
        _ => None,
    }
}

proptest! {
    /// Refunds that the gateway has not answered yet count as given back: were they all granted, it would still hold.
    #[test]
    fn captured_less_refunded_is_never_negative_nor_above_what_was_authorised(commands in vec(any_command(), 0..60)) {
        let history = lives::<Payment>(commands, |_, _, _| {});
        let mut books = Books::default();
        for event in &history {
            books.enter(event);
            assert!(books.held <= books.requested, "{history:?}");
            assert!((0..=books.held).contains(&books.left()), "{history:?}");
            assert!((0..=books.held).contains(&(books.captured - books.refunded)), "{history:?}");
        }
        if let Some(payment) = fold::<Payment>(&history) {
            assert_eq!((payment.captured_minor, payment.refunded_minor), (books.captured, books.refunded));
            assert_eq!(payment.refundable_minor(), books.left());
            assert!(history.iter().filter_map(currency).all(|code| code == payment.amount.currency.code()));
        }
    }

    #[test]
    fn the_gateway_answers_a_question_at_most_once(commands in vec(any_command(), 0..60)) {
        let history = lives::<Payment>(commands, |_, _, _| {});
        let (mut authorisation, mut capture, mut void, mut refunds) = (0, 0, 0, 0);
        for event in &history {
            match event {
                Event::Requested(_) => authorisation += 1,
                Event::Authorised(_) | Event::Declined(_) => authorisation -= 1,
                Event::CaptureRequested(_) => capture += 1,
                Event::Captured(_) | Event::CaptureFailed(_) => capture -= 1,
                Event::VoidRequested(_) => void += 1,
                Event::Voided(_) => void -= 1,
                Event::RefundRequested(RefundRequested { number, .. }) => {
                    refunds += 1;
                    assert_eq!(*number, refunds, "{history:?}");
                }
                // The books of the property above hold these against their questions.
                Event::Refunded(_) | Event::RefundFailed(_) => {}
            }
            // At most one question of a kind is open at a time.
            assert!([authorisation, capture, void].iter().all(|open| (0..=1).contains(open)), "{history:?}");
        }
    }

    #[test]
    fn a_payment_begins_once_and_nothing_follows_its_end(commands in vec(any_command(), 0..60)) {
        let history = lives::<Payment>(commands, |before, command, outcome| {
            let status = before.as_ref().map(|payment| payment.status);
            let last = matches!(status, Some(Status::Declined | Status::Voided));
            assert!(!last || outcome.is_err(), "{status:?}: {command:?} was granted {outcome:?}");
        });
        for (nth, event) in history.iter().enumerate() {
            assert_eq!(matches!(event, Event::Requested(_)), nth == 0, "{history:?}");
        }
        // Money is taken or let go, and either once.
        let ends = |event: &&Event| matches!(event, Event::Captured(_) | Event::Voided(_) | Event::Declined(_));
        assert!(history.iter().filter(ends).count() <= 1, "{history:?}");
    }

    /// Whatever the gateway answers: once a payment was given up, nothing is taken any more.
    #[test]
    fn what_was_given_up_is_never_taken(commands in vec(any_command(), 0..60)) {
        let history = lives::<Payment>(commands, |_, _, _| {});
        let after = history.iter().skip_while(|event| !matches!(event, Event::VoidRequested(_))).skip(1);
        let mut answers = after.filter(|event| {
            !matches!(event, Event::Authorised(_) | Event::Declined(_) | Event::Voided(_))
        });
        assert_eq!(answers.next(), None, "{history:?}");
    }

    #[test]
    fn any_history_folds_and_can_be_decided_on(events in vec(any_event(), 0..60), command in any_command()) {
        survives::<Payment>(&events);
        let _ = Payment::decide(&fold::<Payment>(&events), command);
    }
}
