//! Values for tests: short names for examples, generators for properties, and what holds for every decider.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use crate::codec::StoredEvent;
use crate::decider::{Decider, fold};
use crate::ids::{CardToken, CustomerId, OrderId, PaymentId, Quantity, ShipmentId, Sku, Text};
use crate::money::{Currency, Money, Price};
use crate::testing::assert_round_trip;

pub(crate) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    text.parse().unwrap()
}

pub(crate) fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

pub(crate) fn quantity(units: i64) -> Quantity {
    units.try_into().unwrap()
}

pub(crate) fn price(minor: i64) -> Price {
    minor.try_into().unwrap()
}

pub(crate) fn money(minor: i64, currency: &str) -> Money {
    Money { minor: price(minor), currency: currency.parse().unwrap() }
}

pub(crate) fn order(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(crate) fn customer(number: u128) -> CustomerId {
    CustomerId(Uuid::from_u128(number))
}

pub(crate) fn payment(number: u128) -> PaymentId {
    PaymentId::of(order(number))
}

pub(crate) fn shipment(number: u128) -> ShipmentId {
    ShipmentId::of(order(number))
}

pub(crate) fn card(token: &str) -> CardToken {
    token.parse().unwrap()
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn any_text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    // Few enough that what is set is often what was there before.
    prop_oneof![Just("a"), Just("B c"), Just("é – 漢字 🛒")].prop_map(text)
}

pub(crate) fn any_card() -> impl Strategy<Value = CardToken> {
    prop_oneof![Just("tok_visa"), Just("tok_declined")].prop_map(card)
}

pub(crate) fn any_sku() -> impl Strategy<Value = Sku> {
    "[A-Za-z0-9_.-]{1,64}".prop_map(|text| sku(&text))
}

/// Mostly small, and now and then up to the largest.
pub(crate) fn any_quantity() -> impl Strategy<Value = Quantity> {
    prop_oneof![9 => 1..=20_i64, 1 => 1..=Quantity::MAX].prop_map(quantity)
}

/// Mostly small, and now and then up to the largest.
pub(crate) fn any_price() -> impl Strategy<Value = Price> {
    prop_oneof![9 => 0..=2_000_i64, 1 => 0..=i64::MAX].prop_map(price)
}

pub(crate) fn any_currency() -> impl Strategy<Value = Currency> {
    // With 2, 0, 3 and 4 digits behind the point.
    prop_oneof![4 => Just("GBP"), 1 => Just("JPY"), 1 => Just("BHD"), 1 => Just("CLF")]
        .prop_map(|code| code.parse().unwrap())
}

pub(crate) fn any_money() -> impl Strategy<Value = Money> {
    (any_price(), any_currency()).prop_map(|(minor, currency)| Money { minor, currency })
}

/// One of few orders, so that they meet again.
pub(crate) fn any_order() -> impl Strategy<Value = OrderId> {
    (0..5_u128).prop_map(order)
}

pub(crate) fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    (0..4_000_000_000_000_i64).prop_map(|millis| DateTime::from_timestamp_millis(millis).unwrap())
}

/// Gives an aggregate one command after the other, and returns its history.
///
/// On the way it asserts what holds for every decider: it decides the same twice, every event comes back from the store
/// as it was, and `each` of what a command met, asked and got.
pub(crate) fn lives<D: Decider>(
    commands: Vec<D::Command>,
    mut each: impl FnMut(&D::State, D::Command, &Result<Vec<D::Event>, D::Refusal>),
) -> Vec<D::Event>
where
    D::Event: Debug,
{
    let (mut state, mut history) = (D::initial(), Vec::new());
    for command in commands {
        let outcome = D::decide(&state, command.clone());
        assert_eq!(outcome, D::decide(&state, command.clone()), "the same command in the same state");
        each(&state, command, &outcome);
        for event in outcome.into_iter().flatten() {
            assert_round_trip(&event);
            state = D::evolve(state, &event);
            history.push(event);
        }
    }
    assert_eq!(state, fold::<D>(&history), "folded at once, and step by step");
    history
}

/// Asserts that a fold of any events, in any order, ends, twice in the same state.
pub(crate) fn survives<D: Decider>(events: &[D::Event])
where
    D::Event: StoredEvent,
{
    assert_eq!(fold::<D>(events), fold::<D>(events));
}
