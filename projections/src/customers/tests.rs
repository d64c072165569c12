use domain::customers::{Closed, ContactChanged, Registered};
use domain::ids::{CustomerId, OrderId, PaymentId};
use domain::ordering::{self, Cancelled, Completed, Confirmed, Placed, Recorded, Rejected};
use domain::payments::{self, Refunded};
use proptest::prelude::*;

use super::*;
use crate::histories::any_history;
use crate::testing::{START, given, rows};

const CUSTOMER: Uuid = Uuid::from_u128(7);
const ORDER: Uuid = Uuid::from_u128(1);

fn account<E: Into<Event>>(event: E) -> ShopEvent {
    ShopEvent::Customers(CustomerId(CUSTOMER), event.into())
}

fn order<E: Into<ordering::Event>>(event: E) -> ShopEvent {
    ShopEvent::Ordering(OrderId(ORDER), event.into())
}

fn registered() -> ShopEvent {
    account(Registered { reference: Some("17850".parse().unwrap()), contact: Contact::default() })
}

fn sale(customer: Option<Uuid>) -> SaleMade {
    let sale = serde_json::json!({
        "customer": customer, "country": "EIRE", "currency": "GBP", "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{"sku": "A", "quantity": 5, "unit_price_minor": 300}], "total_minor": 1500,
    });
    serde_json::from_value(sale).unwrap()
}

fn customer() -> CustomerRow {
    CustomerRow {
        customer_id: CUSTOMER,
        reference: Some("17850".to_owned()),
        name: None,
        email: None,
        phone: None,
        status: "open".to_owned(),
        registered_at: START,
        changed_at: START,
    }
}

fn spent(orders: i64, revenue_minor: i64) -> SpendRow {
    SpendRow { customer_id: CUSTOMER, currency: "GBP".to_owned(), orders, revenue_minor }
}

#[track_caller]
fn spend(events: impl IntoIterator<Item = ShopEvent>, expected: impl IntoIterator<Item = SpendRow>) {
    given::<Customers>(events).then(|tables| rows(&tables.spend), expected);
}

#[test]
fn an_account_is_opened_changed_and_closed() {
    given::<Customers>([registered()]).then(|tables| rows(&tables.customers), [customer()]);
    let changed_at = START + chrono::TimeDelta::seconds(1);
    let contact = Contact { email: Some("a@example.org".parse().unwrap()), ..Contact::default() };
    let email = Some("a@example.org".to_owned());
    given::<Customers>([registered(), account(ContactChanged { contact })])
        .then(|tables| rows(&tables.customers), [CustomerRow { email, changed_at, ..customer() }]);
    let status = "closed".to_owned();
    given::<Customers>([registered(), account(Closed { reason: None })])
        .then(|tables| rows(&tables.customers), [CustomerRow { status, changed_at, ..customer() }]);
}

#[test]
fn a_purchase_counts_when_it_is_confirmed_or_recorded() {
    let placed = || order(Placed(sale(Some(CUSTOMER))));
    spend([placed()], []);
    spend([placed(), order(Confirmed {})], [spent(1, 1500)]);
    spend([placed(), order(Confirmed {}), order(Completed {})], [spent(1, 1500)]);
    spend([order(Recorded(sale(Some(CUSTOMER))))], [spent(1, 1500)]);
}

#[test]
fn a_purchase_that_is_undone_is_taken_back() {
    let reason = || "no".parse().unwrap();
    let placed = || order(Placed(sale(Some(CUSTOMER))));
    spend([placed(), order(Rejected { reason: reason() })], []);
    spend([placed(), order(Confirmed {}), order(Cancelled { reason: reason() })], [spent(0, 0)]);
}

#[test]
fn a_guest_has_no_account() {
    spend([order(Placed(sale(None))), order(Confirmed {}), order(Recorded(sale(None)))], []);
}

#[test]
fn an_account_that_was_never_opened_cannot_be_closed() {
    given::<Customers>([account(Closed { reason: None })])
        .then_broken(&format!("no customer {CUSTOMER} is on record, though something happened to it"));
}

#[test]
fn a_purchase_whose_payment_is_given_back_is_taken_back_once() {
    let refunded = |left_minor| {
        let amount = serde_json::from_str(r#"{"minor": 500, "currency": "GBP"}"#).unwrap();
        let event: payments::Event = Refunded { number: 1, amount, left_minor }.into();
        ShopEvent::Payments(PaymentId(ORDER), event)
    };
    let sold = || [order(Placed(sale(Some(CUSTOMER)))), order(Confirmed {})];
    spend(sold().into_iter().chain([refunded(1000)]), [spent(1, 1500)]);
    spend(sold().into_iter().chain([refunded(1000), refunded(0)]), [spent(0, 0)]);
    spend(sold().into_iter().chain([refunded(0), order(Cancelled { reason: "no".parse().unwrap() })]), [spent(0, 0)]);
    // Of an order that nobody placed here.
    spend([refunded(0)], []);
}

proptest! {
    #[test]
    fn no_history_breaks_the_customers(history in any_history()) {
        given::<Customers>(history.events)
            .then(|tables| rows(&tables.spend).into_iter().filter(|row| row.orders < 0).collect(), []);
    }
}
