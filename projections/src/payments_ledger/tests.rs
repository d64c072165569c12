use std::collections::BTreeMap;

use domain::ids::PaymentId;
use domain::payments::{
    Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
    Requested, VoidRequested, Voided,
};
use proptest::prelude::*;

use super::*;
use crate::histories::any_history;
use crate::testing::{START, given, rows};

const PAYMENT: Uuid = Uuid::from_u128(1);

fn to<E: Into<Event>>(event: E) -> ShopEvent {
    ShopEvent::Payments(PaymentId(PAYMENT), event.into())
}

fn pounds(minor: i64) -> Money {
    Money { minor: minor.try_into().unwrap(), currency: "GBP".parse().unwrap() }
}

fn line(text: &str) -> domain::ids::Line {
    text.parse().unwrap()
}

fn requested() -> ShopEvent {
    to(Requested { amount: pounds(1000), card: "tok_visa".parse().unwrap() })
}

fn authorised() -> ShopEvent {
    to(Authorised { amount: pounds(1000), reference: line("auth-1") })
}

fn capturing(minor: i64) -> [ShopEvent; 4] {
    let captured = Captured { amount: pounds(minor), reference: line("cap-1") };
    [requested(), authorised(), to(CaptureRequested { amount: pounds(minor) }), to(captured)]
}

fn refund(number: u32, minor: i64) -> ShopEvent {
    to(RefundRequested { number, amount: pounds(minor), reason: line("a scratch") })
}

fn refunded(number: u32, minor: i64, left_minor: i64) -> ShopEvent {
    to(Refunded { number, amount: pounds(minor), left_minor })
}

/// When the event of this revision was recorded.
fn at(revision: i64) -> DateTime<Utc> {
    START + chrono::TimeDelta::seconds(revision)
}

/// The payment after its request, as the event of `revision` left it.
fn payment(status: &str, revision: i64) -> PaymentRow {
    PaymentRow { status: status.to_owned(), revision, changed_at: at(revision), ..asked(PAYMENT, pounds(1000), START) }
}

/// The payment after it was authorised.
fn held(status: &str, revision: i64) -> PaymentRow {
    PaymentRow {
        authorised_minor: 1000,
        held_minor: 1000,
        reference: Some("auth-1".to_owned()),
        authorised_at: Some(at(1)),
        movements: 1,
        ..payment(status, revision)
    }
}

/// The payment after its capture.
fn taken(captured_minor: i64, revision: i64) -> PaymentRow {
    PaymentRow {
        held_minor: 0,
        captured_minor,
        capture_reference: Some("cap-1".to_owned()),
        captured_at: Some(at(3)),
        movements: 3,
        ..held("captured", revision)
    }
}

#[track_caller]
fn leads_to(events: impl IntoIterator<Item = ShopEvent>, expected: PaymentRow) {
    given::<PaymentsLedger>(events).then(|tables| rows(&tables.payments), [expected]);
}

/// Asserts what moved: the movement with its debit and its credit, and how much.
#[track_caller]
fn moves(events: impl IntoIterator<Item = ShopEvent>, expected: &[(Movement, i64)]) {
    let entries = (1..).zip(expected).flat_map(|(movement_no, ((movement, debit, credit), minor))| {
        let entry = move |(side, account, amount_minor): (i32, &'static str, i64)| {
            (2 * (movement_no - 1) + side, movement_no, *movement, account, amount_minor)
        };
        [(1, *debit, *minor), (2, *credit, -*minor)].map(entry)
    });
    let entries: Vec<_> = entries
        .map(|(no, movement_no, movement, account, minor)| {
            (no, movement_no, movement.to_owned(), account.to_owned(), minor)
        })
        .collect();
    given::<PaymentsLedger>(events).then(
        |tables| {
            let seen = |row: EntryRow| (row.entry_no, row.movement_no, row.movement, row.account, row.amount_minor);
            rows(&tables.entries).into_iter().map(seen).collect()
        },
        entries,
    );
}

#[test]
fn an_authorisation_holds_money() {
    leads_to([requested()], payment("requested", 0));
    moves([requested()], &[]);
    leads_to([requested(), authorised()], held("authorised", 1));
    let entry = |entry_no, account: &str, amount_minor| EntryRow {
        payment_id: PAYMENT,
        entry_no,
        movement_no: 1,
        movement: "hold".to_owned(),
        account: account.to_owned(),
        currency: "GBP".to_owned(),
        amount_minor,
        at: at(1),
    };
    given::<PaymentsLedger>([requested(), authorised()])
        .then(|tables| rows(&tables.entries), [entry(1, "holds", 1000), entry(2, "holds_contra", -1000)]);
}

#[test]
fn what_is_declined_moves_nothing() {
    let declined = || [requested(), to(Declined { reason: line("no funds") })];
    let declined_reason = Some("no funds".to_owned());
    leads_to(declined(), PaymentRow { declined_reason, ended_at: Some(at(1)), ..payment("declined", 1) });
    moves(declined(), &[]);
}

#[test]
fn a_capture_releases_the_hold_and_takes_the_money() {
    leads_to(capturing(1000), taken(1000, 3));
    moves(capturing(1000), &[(HOLD, 1000), (RELEASE, 1000), (CAPTURE, 1000)]);
    // Taking a part lets all of the hold go.
    leads_to(capturing(400), taken(400, 3));
    moves(capturing(400), &[(HOLD, 1000), (RELEASE, 1000), (CAPTURE, 400)]);
}

#[test]
fn a_capture_that_fails_leaves_the_hold() {
    let asked = || [requested(), authorised(), to(CaptureRequested { amount: pounds(1000) })];
    leads_to(asked(), held("capturing", 2));
    let failed = || asked().into_iter().chain([to(CaptureFailed { reason: line("expired") })]);
    let capture_failure = Some("expired".to_owned());
    leads_to(failed(), PaymentRow { capture_failure, ..held("authorised", 3) });
    moves(failed(), &[(HOLD, 1000)]);
    let again = failed().chain([to(CaptureRequested { amount: pounds(1000) })]);
    leads_to(again, held("capturing", 4));
}

#[test]
fn what_is_voided_is_let_go_if_it_was_held() {
    let void = || to(VoidRequested { reason: line("called off") });
    let given_up = |row| PaymentRow { void_reason: Some("called off".to_owned()), ..row };
    leads_to([requested(), void()], given_up(payment("voiding", 1)));
    let never_held = || [requested(), void(), to(Voided {})];
    leads_to(never_held(), PaymentRow { ended_at: Some(at(2)), ..given_up(payment("voided", 2)) });
    moves(never_held(), &[]);

    let let_go = || [requested(), authorised(), void(), to(Voided {})];
    let row = PaymentRow { held_minor: 0, ended_at: Some(at(3)), movements: 2, ..given_up(held("voided", 3)) };
    leads_to(let_go(), row);
    moves(let_go(), &[(HOLD, 1000), (RELEASE, 1000)]);
}

#[test]
fn money_that_is_held_after_the_payment_was_given_up_is_held_until_it_is_let_go() {
    let late = || [requested(), to(VoidRequested { reason: line("too slow") }), authorised()];
    let row = PaymentRow { void_reason: Some("too slow".to_owned()), authorised_at: Some(at(2)), ..held("voiding", 2) };
    leads_to(late(), row);
    moves(late().into_iter().chain([to(Voided {})]), &[(HOLD, 1000), (RELEASE, 1000)]);
}

#[test]
fn refunds_give_money_back_one_by_one() {
    let captured = [(HOLD, 1000), (RELEASE, 1000), (CAPTURE, 1000)];
    let both_asked = || capturing(1000).into_iter().chain([refund(1, 300), refund(2, 700)]);
    leads_to(both_asked(), PaymentRow { pending_refund_minor: 1000, ..taken(1000, 5) });
    moves(both_asked(), &captured);

    let one = || both_asked().chain([refunded(2, 700, 300)]);
    leads_to(one(), PaymentRow { pending_refund_minor: 300, refunded_minor: 700, movements: 4, ..taken(1000, 6) });
    moves(one(), &[&captured[..], &[(REFUND, 700)]].concat());

    let failed = || one().chain([to(RefundFailed { number: 1, reason: line("card closed") })]);
    leads_to(failed(), PaymentRow { refunded_minor: 700, movements: 4, ..taken(1000, 7) });
    let refund_row = |refund_no, status: &str, amount_minor, failure: Option<&str>, answered| RefundRow {
        payment_id: PAYMENT,
        refund_no,
        status: status.to_owned(),
        amount_minor,
        reason: Some("a scratch".to_owned()),
        failure: failure.map(ToOwned::to_owned),
        requested_at: at(3 + refund_no),
        answered_at: Some(at(answered)),
    };
    given::<PaymentsLedger>(failed()).then(
        |tables| rows(&tables.refunds),
        [refund_row(1, "failed", 300, Some("card closed"), 7), refund_row(2, "refunded", 700, None, 6)],
    );

    let all = one().chain([refunded(1, 300, 0)]);
    leads_to(all, PaymentRow { refunded_minor: 1000, ended_at: Some(at(7)), movements: 5, ..taken(1000, 7) });
}

#[test]
fn a_payment_that_was_never_requested_cannot_go_on() {
    given::<PaymentsLedger>([authorised()])
        .then_broken(&format!("no payment {PAYMENT} is on record, though something happened to it"));
}

proptest! {
    #[test]
    fn every_movement_is_balanced(history in any_history()) {
        given::<PaymentsLedger>(history.events).then(
            |tables| {
                let mut movements = BTreeMap::<_, (usize, i64)>::new();
                for row in rows(&tables.entries) {
                    let (sides, sum) = movements.entry((row.payment_id, row.movement_no)).or_default();
                    (*sides, *sum) = (*sides + 1, *sum + row.amount_minor);
                }
                movements.into_iter().filter(|(_, balance)| *balance != (2, 0)).collect()
            },
            [],
        );
    }

    #[test]
    fn a_payment_says_what_its_aggregate_says(history in any_history()) {
        let mut expected: Vec<_> = history.payments.0.iter().filter_map(|(id, payment)| {
            let payment = payment.as_ref()?;
            let pending: i64 = payment.refunds.values().map(|refund| refund.minor).sum();
            let figures = (payment.captured_minor, payment.refunded_minor, pending);
            Some((id.parse::<Uuid>().unwrap(), payment.status.to_string(), figures))
        }).collect();
        expected.sort();
        given::<PaymentsLedger>(history.events.clone()).then(
            |tables| {
                let of = |row: PaymentRow| {
                    (row.payment_id, row.status, (row.captured_minor, row.refunded_minor, row.pending_refund_minor))
                };
                rows(&tables.payments).into_iter().map(of).collect()
            },
            expected,
        );
    }

    #[test]
    fn the_accounts_hold_what_the_payments_say(history in any_history()) {
        given::<PaymentsLedger>(history.events).then(
            |tables| {
                let mut accounts = BTreeMap::<String, i64>::new();
                for row in rows(&tables.entries) {
                    *accounts.entry(row.account).or_default() += row.amount_minor;
                }
                let mut payments = BTreeMap::<&str, i64>::new();
                for row in rows(&tables.payments) {
                    for (account, minor) in [
                        ("holds", row.held_minor),
                        ("holds_contra", -row.held_minor),
                        ("cash", row.captured_minor - row.refunded_minor),
                        ("sales", -row.captured_minor),
                        ("refunds", row.refunded_minor),
                    ] {
                        *payments.entry(account).or_default() += minor;
                    }
                }
                payments.retain(|account, sum| accounts.get(*account).copied().unwrap_or(0) != *sum);
                payments.into_keys().map(ToOwned::to_owned).collect()
            },
            [],
        );
    }
}
