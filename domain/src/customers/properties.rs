//! What holds for a customer's account whatever is asked of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{any_text, lives, survives};

fn any_contact() -> impl Strategy<Value = Contact> {
    (option::of(any_text()), option::of(any_text()), option::of(any_text())).prop_map(|(name, email, phone)| Contact {
        name,
        email,
        phone,
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => (option::of(any_text()), any_contact())
            .prop_map(|(reference, contact)| Register { reference, contact }.into()),
        4 => any_contact().prop_map(|contact| ChangeContact { contact }.into()),
        1 => option::of(any_text()).prop_map(|reason| Close { reason }.into()),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (option::of(any_text()), any_contact())
            .prop_map(|(reference, contact)| Registered { reference, contact }.into()),
        any_contact().prop_map(|contact| ContactChanged { contact }.into()),
        option::of(any_text()).prop_map(|reason| Closed { reason }.into()),
    ]
}

proptest! {
    #[test]
    fn an_account_begins_once_and_ends_once(commands in vec(any_command(), 0..40)) {
        let history = lives::<Customer>(commands, |_, _, _| {});
        for (nth, event) in history.iter().enumerate() {
            assert_eq!(matches!(event, Event::Registered(_)), nth == 0, "{history:?}");
            assert!(!matches!(event, Event::Closed(_)) || nth + 1 == history.len(), "{history:?}");
        }
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..40)) {
        survives::<Customer>(&events);
    }
}
