//! What holds for a product whatever is asked of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{any_money, any_text, lives, survives};

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any_text(), any_money()).prop_map(|(name, price)| List { name, price }.into()),
        any_text().prop_map(|name| Rename { name }.into()),
        any_text().prop_map(|description| Describe { description }.into()),
        any_money().prop_map(|price| ChangePrice { price }.into()),
        any_text().prop_map(|reason| Discontinue { reason }.into()),
        Just(Relist {}.into()),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any_text(), any_money()).prop_map(|(name, price)| Listed { name, price }.into()),
        any_text().prop_map(|name| Renamed { name }.into()),
        any_text().prop_map(|description| Described { description }.into()),
        (any_money(), any_money()).prop_map(|(from, to)| PriceChanged { from, to }.into()),
        any_text().prop_map(|reason| Discontinued { reason }.into()),
        Just(Relisted {}.into()),
    ]
}

proptest! {
    /// The first event lists it, and no later one does; the currency stays; a granted command changes something.
    #[test]
    fn a_product_is_listed_once_in_one_currency(commands in vec(any_command(), 0..40)) {
        let history = lives::<Product>(commands, |before, _, outcome| {
            if let Ok([event]) = outcome.as_deref() {
                assert_ne!(&<Product as crate::decider::Decider>::evolve(before.clone(), event), before);
            }
        });
        let mut currencies = Vec::new();
        for (nth, event) in history.iter().enumerate() {
            match event {
                Event::Listed(Listed { price, .. }) => {
                    assert_eq!(nth, 0);
                    currencies.push(price.currency);
                }
                Event::PriceChanged(PriceChanged { from, to }) => currencies.extend([from.currency, to.currency]),
                _ => assert_ne!(nth, 0),
            }
        }
        currencies.dedup();
        assert!(currencies.len() <= 1, "{currencies:?}");
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..40)) {
        survives::<Product>(&events);
    }
}
