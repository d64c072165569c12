//! Customers by example.

use super::*;
use crate::decider::fold;
use crate::fixtures::text;
use crate::testing::{assert_golden, given};

fn reachable_at(email: &str) -> Contact {
    Contact { email: Some(text(email)), ..Contact::default() }
}

fn register() -> Register {
    Register { reference: Some(text("17850")), contact: reachable_at("ada@example.com") }
}

fn change_contact(email: &str) -> ChangeContact {
    ChangeContact { contact: reachable_at(email) }
}

fn close() -> Close {
    Close { reason: Some(text("Asked for it")) }
}

fn registered() -> Event {
    Registered { reference: Some(text("17850")), contact: reachable_at("ada@example.com") }.into()
}

fn contact_changed(email: &str) -> Event {
    ContactChanged { contact: reachable_at(email) }.into()
}

fn closed() -> Event {
    Closed { reason: Some(text("Asked for it")) }.into()
}

#[test]
fn a_customer_is_registered() {
    given::<Customer>([]).when(register()).then([registered()]);
}

#[test]
fn a_customer_is_registered_once() {
    given::<Customer>([registered()])
        .when(register())
        .then_refused(Refusal::AlreadyRegistered { status: Status::Open });
    given::<Customer>([registered(), closed()])
        .when(register())
        .then_refused(Refusal::AlreadyRegistered { status: Status::Closed });
}

#[test]
fn everything_else_needs_a_registered_customer() {
    given::<Customer>([]).when(change_contact("ada@example.org")).then_refused(Refusal::NotRegistered);
    given::<Customer>([]).when(close()).then_refused(Refusal::NotRegistered);
}

#[test]
fn a_contact_is_changed() {
    given::<Customer>([registered()])
        .when(change_contact("ada@example.org"))
        .then([contact_changed("ada@example.org")]);
}

#[test]
fn the_same_contact_is_no_news() {
    given::<Customer>([registered()]).when(change_contact("ada@example.com")).then_nothing();
    given::<Customer>([registered(), contact_changed("ada@example.org")])
        .when(change_contact("ada@example.org"))
        .then_nothing();
}

#[test]
fn an_account_is_closed() {
    given::<Customer>([registered()]).when(close()).then([closed()]);
}

#[test]
fn nothing_happens_to_a_closed_account() {
    given::<Customer>([registered(), closed()]).when(close()).then_refused(Refusal::AccountClosed);
    // Not even what would change nothing.
    given::<Customer>([registered(), closed()])
        .when(change_contact("ada@example.com"))
        .then_refused(Refusal::AccountClosed);
}

#[test]
fn its_history_makes_a_customer() {
    given::<Customer>([registered(), contact_changed("ada@example.org"), closed()]).then_state(Some(CustomerState {
        status: Status::Closed,
        reference: Some(text("17850")),
        contact: reachable_at("ada@example.org"),
    }));
    given::<Customer>([contact_changed("ada@example.org"), closed()]).then_state(None);
}

#[test]
fn a_customer_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "status": "open", "reference": "17850", "contact": { "email": "ada@example.com" }
    });
    assert_eq!(serde_json::to_value(fold::<Customer>(&[registered()])).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::AlreadyRegistered { status: Status::Closed };
    assert_eq!(refusal.to_string(), "the customer is registered already; the account is closed");
    let shown = serde_json::json!({ "refusal": "already-registered", "status": "closed" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/customers/golden"));
}
