//! What holds for the supervision of a checkout whatever is asked of it.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::fixtures::{any_text, lives, survives};

fn any_timeout() -> impl Strategy<Value = Timeout> {
    prop_oneof![Just(Timeout::Payment), Just(Timeout::Dispatch)]
}

fn any_event_id() -> impl Strategy<Value = Uuid> {
    (0..5_u128).prop_map(Uuid::from_u128)
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any_timeout().prop_map(|timeout| TimeOut { timeout }.into()),
        (any_event_id(), any_text()).prop_map(|(event, reason)| Park { event, reason }.into()),
        Just(Retry {}.into()),
    ]
}

/// Any at all: timed out twice, retried and never parked.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_timeout().prop_map(|timeout| TimedOut { timeout }.into()),
        (any_event_id(), any_text()).prop_map(|(event, reason)| Parked { event, reason }.into()),
        Just(Retried {}.into()),
    ]
}

proptest! {
    #[test]
    fn each_timeout_fires_at_most_once(commands in vec(any_command(), 0..40)) {
        let history = lives::<Supervision>(commands, |_, _, outcome| {
            assert!(matches!(outcome, Ok(_) | Err(Refusal::NotParked)), "{outcome:?}");
        });
        let mut fired = BTreeSet::new();
        for event in &history {
            if let Event::TimedOut(TimedOut { timeout }) = event {
                assert!(fired.insert(*timeout), "{history:?}");
            }
        }
    }

    #[test]
    fn parked_and_retried_take_turns(commands in vec(any_command(), 0..40)) {
        let history = lives::<Supervision>(commands, |_, _, _| {});
        let turns = history.iter().filter(|event| !matches!(event, Event::TimedOut(_)));
        for (nth, event) in turns.enumerate() {
            assert_eq!(matches!(event, Event::Parked(_)), nth % 2 == 0, "{history:?}");
        }
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..40)) {
        survives::<Supervision>(&events);
    }
}
