//! What holds for the stock of a SKU whatever is asked of it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::decider::{Decider, fold};
use crate::fixtures::{any_order, any_quantity, any_text, lives, survives};
use crate::ids::OrderId;

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any_quantity().prop_map(|quantity| Receive { quantity }.into()),
        (prop_oneof![3 => 0..40_u32, 1 => any::<u32>()], any_text()).prop_map(|(counted, reason)| Adjust {
            counted,
            reason
        }
        .into()),
        (any_order(), any_quantity()).prop_map(|(order, quantity)| Reserve { order, quantity }.into()),
        any_order().prop_map(|order| Release { order }.into()),
        any_order().prop_map(|order| Ship { order }.into()),
        any_threshold().prop_map(|units| SetThreshold { units }.into()),
    ]
}

/// Mostly near what is available, and now and then far beyond.
fn any_threshold() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..40_u32, 1 => any::<u32>()]
}

/// Any at all: more shipped than there was, settled without a reservation, books below zero.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_quantity().prop_map(|quantity| Received { quantity }.into()),
        (any::<i64>(), prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN)], any_text())
            .prop_map(|(from, to, reason)| Adjusted { from, to, reason }.into()),
        (any_order(), any_quantity()).prop_map(|(order, quantity)| Reserved { order, quantity }.into()),
        (any_order(), any_quantity(), any::<i64>()).prop_map(|(order, quantity, available)| Declined {
            order,
            quantity,
            available
        }
        .into()),
        (any_order(), any_quantity()).prop_map(|(order, quantity)| Released { order, quantity }.into()),
        (any_order(), any_quantity()).prop_map(|(order, quantity)| Shipped { order, quantity }.into()),
        Just(Depleted {}.into()),
        any_threshold().prop_map(|units| ThresholdSet { units }.into()),
        (any::<i64>(), any_threshold()).prop_map(|(available, threshold)| RanLow { available, threshold }.into()),
    ]
}

/// The sum of the reservations, recomputed.
fn open(state: &StockState) -> i64 {
    state.reservations.values().map(|quantity| quantity.units()).sum()
}

proptest! {
    #[test]
    fn neither_on_hand_nor_available_is_ever_negative(commands in vec(any_command(), 0..60)) {
        lives::<Stock>(commands, |before, command, outcome| {
            let after = outcome.iter().flatten().fold(before.clone(), Stock::evolve);
            assert!((0..=Stock::MAX_ON_HAND).contains(&after.on_hand), "{command:?} made {after:?}");
            assert!(after.available >= 0, "{command:?} made {after:?}");
            assert_eq!((after.reserved, after.available), (open(&after), after.on_hand - after.reserved));
            let depleted = before.on_hand != 0 && after.on_hand == 0;
            assert_eq!(outcome.iter().flatten().any(|event| *event == Depleted {}.into()), depleted);
        });
    }

    #[test]
    fn a_reservation_is_settled_at_most_once(commands in vec(any_command(), 0..60)) {
        let history = lives::<Stock>(commands, |_, _, _| {});
        let mut unsettled: BTreeMap<OrderId, i64> = BTreeMap::new();
        for event in &history {
            match event {
                Event::Reserved(Reserved { order, quantity }) => {
                    assert_eq!(unsettled.insert(*order, quantity.units()), None);
                }
                Event::Released(Released { order, quantity }) | Event::Shipped(Shipped { order, quantity }) => {
                    assert_eq!(unsettled.remove(order), Some(quantity.units()));
                }
                _ => {}
            }
        }
        let sum = |units: fn(&Event) -> i64| history.iter().map(units).sum::<i64>();
        let reserved = sum(|event| if let Event::Reserved(it) = event { it.quantity.units() } else { 0 });
        let released = sum(|event| if let Event::Released(it) = event { it.quantity.units() } else { 0 });
        let shipped = sum(|event| if let Event::Shipped(it) = event { it.quantity.units() } else { 0 });
        assert_eq!(reserved, released + shipped + open(&fold::<Stock>(&history)));
    }

    #[test]
    fn what_is_declined_was_not_there(commands in vec(any_command(), 0..60)) {
        lives::<Stock>(commands, |before, _, outcome| {
            if let Ok([Event::Declined(declined)]) = outcome.as_deref() {
                assert_eq!(declined.available, before.available);
                assert!(declined.quantity.units() > before.available);
            }
        });
    }

    /// At the very decision that takes what is available to the threshold or below it, and at no other.
    #[test]
    fn low_stock_is_told_when_it_becomes_low(commands in vec(any_command(), 0..60)) {
        let is_low = |state: &StockState| state.threshold.is_some_and(|units| state.available <= i64::from(units));
        lives::<Stock>(commands, |before, command, outcome| {
            let events = outcome.as_deref().unwrap_or_default();
            let after = events.iter().fold(before.clone(), Stock::evolve);
            let told: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::RanLow(_))).collect();
            let expected = (!is_low(before) && is_low(&after))
                .then(|| RanLow { available: after.available, threshold: after.threshold.unwrap() }.into());
            assert_eq!(told, expected.iter().collect::<Vec<_>>(), "{command:?} made {after:?} of {before:?}");
        });
    }

    #[test]
    fn any_history_folds_and_can_be_decided_on(events in vec(any_event(), 0..60), command in any_command()) {
        survives::<Stock>(&events);
        let state = fold::<Stock>(&events);
        assert_eq!(state.reserved, open(&state));
        let _ = Stock::decide(&state, command);
    }
}
