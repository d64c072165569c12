//! The fixtures of the domain that the guide uses. The domain keeps them to its own tests.

use proptest::prelude::*;
use uuid::Uuid;

use super::decider::{Decider, fold};
use super::ids::{OrderId, Text};
use super::money::Money;
use super::testing::assert_round_trip;

pub(super) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    text.parse().unwrap()
}

pub(super) fn money(minor: i64, currency: &str) -> Money {
    Money { minor: minor.try_into().unwrap(), currency: currency.parse().unwrap() }
}

pub(super) fn order(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(super) fn any_text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    prop_oneof![Just("a"), Just("B c"), Just("é – 漢字 🛒")].prop_map(text)
}

pub(super) fn any_money() -> impl Strategy<Value = Money> {
    let minor = prop_oneof![9 => 0..=2_000_i64, 1 => 0..=i64::MAX];
    let currency = prop_oneof![4 => Just("GBP"), 1 => Just("JPY")];
    (minor, currency).prop_map(|(minor, currency)| money(minor, currency))
}

pub(super) fn any_order() -> impl Strategy<Value = OrderId> {
    (0..5_u128).prop_map(order)
}

pub(super) fn lives<D: Decider>(
    commands: Vec<D::Command>,
    mut each: impl FnMut(&D::State, D::Command, &Result<Vec<D::Event>, D::Refusal>),
) -> Vec<D::Event> {
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

pub(super) fn survives<D: Decider>(events: &[D::Event]) {
    assert_eq!(fold::<D>(events), fold::<D>(events));
}
