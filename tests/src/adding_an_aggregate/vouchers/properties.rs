//! What holds for a voucher whatever is asked of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::adding_an_aggregate::decider::fold;
use crate::adding_an_aggregate::fixtures::{any_money, any_order, any_text, lives, survives};

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => any_money().prop_map(|value| Issue { value }.into()),
        8 => (any_order(), any_money()).prop_map(|(order, amount)| Redeem { order, amount }.into()),
        1 => any_text().prop_map(|reason| Void { reason }.into()),
    ]
}

/// Any at all: redeemed before it was issued, and for more than it was worth.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_money().prop_map(|value| Issued { value }.into()),
        (any_order(), any_money()).prop_map(|(order, amount)| Redeemed { order, amount }.into()),
        (any_money(), any_text()).prop_map(|(left, reason)| Voided { left, reason }.into()),
    ]
}

proptest! {
    #[test]
    fn what_was_redeemed_and_what_is_left_is_what_it_was_worth(commands in vec(any_command(), 0..60)) {
        let history = lives::<Voucher>(commands, |_, _, _| {});
        let Some(voucher) = fold::<Voucher>(&history) else { return Ok(()) };
        let lost = history.iter().find_map(|event| match event {
            Event::Voided(Voided { left, .. }) => Some(left.minor.minor()),
            _ => None,
        });
        let redeemed = voucher.redeemed.values().try_fold(0_i64, |sum, paid| sum.checked_add(paid.minor.minor()));
        let accounted = redeemed.and_then(|sum| sum.checked_add(voucher.left.minor.minor() + lost.unwrap_or(0)));
        prop_assert_eq!(accounted, Some(voucher.value.minor.minor()));
        prop_assert!(voucher.redeemed.values().all(|paid| paid.currency == voucher.value.currency));
    }

    #[test]
    fn a_fold_never_fails(events in vec(any_event(), 0..60)) {
        survives::<Voucher>(&events);
    }
}
