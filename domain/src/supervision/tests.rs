//! Supervision by example.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::decider::fold;
use crate::fixtures::text;
use crate::testing::{assert_golden, given};

fn time_out(timeout: Timeout) -> TimeOut {
    TimeOut { timeout }
}

fn park(event: u128, reason: &str) -> Park {
    Park { event: Uuid::from_u128(event), reason: text(reason) }
}

fn timed_out(timeout: Timeout) -> Event {
    TimedOut { timeout }.into()
}

fn parked(event: u128, reason: &str) -> Event {
    Parked { event: Uuid::from_u128(event), reason: text(reason) }.into()
}

fn retried() -> Event {
    Retried {}.into()
}

#[test]
fn a_timeout_fires() {
    given::<Supervision>([]).when(time_out(Timeout::Payment)).then([timed_out(Timeout::Payment)]);
    given::<Supervision>([timed_out(Timeout::Payment)])
        .when(time_out(Timeout::Dispatch))
        .then([timed_out(Timeout::Dispatch)]);
}

#[test]
fn a_timeout_fires_once() {
    let fired = [timed_out(Timeout::Payment), timed_out(Timeout::Dispatch)];
    given::<Supervision>(fired.clone()).when(time_out(Timeout::Payment)).then_nothing();
    given::<Supervision>(fired).when(time_out(Timeout::Dispatch)).then_nothing();
    // Not even after somebody let the checkout try again.
    given::<Supervision>([timed_out(Timeout::Payment), parked(1, "No such SKU"), retried()])
        .when(time_out(Timeout::Payment))
        .then_nothing();
}

#[test]
fn a_timeout_fires_for_what_is_parked_too() {
    given::<Supervision>([parked(1, "No such SKU")])
        .when(time_out(Timeout::Payment))
        .then([timed_out(Timeout::Payment)]);
}

#[test]
fn what_cannot_go_on_is_parked() {
    given::<Supervision>([]).when(park(1, "No such SKU")).then([parked(1, "No such SKU")]);
    given::<Supervision>([timed_out(Timeout::Payment)]).when(park(1, "No such SKU")).then([parked(1, "No such SKU")]);
}

#[test]
fn what_is_parked_stays_so_for_its_first_reason() {
    given::<Supervision>([parked(1, "No such SKU")]).when(park(1, "No such SKU")).then_nothing();
    given::<Supervision>([parked(1, "No such SKU")]).when(park(2, "Another reason")).then_nothing();
}

#[test]
fn what_is_parked_is_let_try_again() {
    given::<Supervision>([parked(1, "No such SKU")]).when(Retry {}).then([retried()]);
}

#[test]
fn what_tried_again_in_vain_is_parked_again() {
    given::<Supervision>([parked(1, "No such SKU"), retried()])
        .when(park(1, "No such SKU"))
        .then([parked(1, "No such SKU")]);
}

#[test]
fn only_what_is_parked_is_let_try_again() {
    let histories = [vec![], vec![timed_out(Timeout::Payment)], vec![parked(1, "No such SKU"), retried()]];
    for history in histories {
        given::<Supervision>(history).when(Retry {}).then_refused(Refusal::NotParked);
    }
}

#[test]
fn its_history_makes_the_supervision() {
    given::<Supervision>([]).then_state(SupervisionState { timed_out: BTreeSet::new(), parked: None });

    let history = [timed_out(Timeout::Dispatch), parked(1, "No such SKU"), timed_out(Timeout::Payment)];
    let timed_out = BTreeSet::from([Timeout::Payment, Timeout::Dispatch]);
    given::<Supervision>(history.clone())
        .then_state(SupervisionState { timed_out: timed_out.clone(), parked: Some(text("No such SKU")) });
    given::<Supervision>(history.into_iter().chain([retried()]))
        .then_state(SupervisionState { timed_out, parked: None });
}

#[test]
fn the_supervision_is_shown_with_these_names() {
    let shown = serde_json::json!({ "timed_out": ["payment"], "parked": "No such SKU" });
    let state = fold::<Supervision>(&[timed_out(Timeout::Payment), parked(1, "No such SKU")]);
    assert_eq!(serde_json::to_value(state).unwrap(), shown);
    let nothing = serde_json::json!({ "timed_out": [], "parked": null });
    assert_eq!(serde_json::to_value(fold::<Supervision>(&[])).unwrap(), nothing);
}

#[test]
fn a_timeout_is_called_what_it_is_stored_as() {
    for timeout in [Timeout::Payment, Timeout::Dispatch] {
        assert_eq!(timeout.to_string(), timeout.name());
        assert_eq!(serde_json::to_value(timeout).unwrap(), timeout.name());
    }
}

#[test]
fn a_refusal_says_what_is_so() {
    assert_eq!(Refusal::NotParked.to_string(), "the checkout is not parked");
    assert_eq!(serde_json::to_value(Refusal::NotParked).unwrap(), serde_json::json!({ "refusal": "not-parked" }));
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/supervision/golden"));
}
