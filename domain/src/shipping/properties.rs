//! What holds for a shipment whatever is asked of it.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::decider::Decider;
use crate::fixtures::{any_quantity, any_text, lives, sku, survives};

/// Of few SKUs, so that they meet on two lines.
fn any_lines() -> impl Strategy<Value = Vec<ParcelLine>> {
    let any_line = ("[A-H]", any_quantity()).prop_map(|(code, quantity)| ParcelLine { sku: sku(&code), quantity });
    vec(any_line, 0..4)
}

fn any_request() -> impl Strategy<Value = Request> {
    (any_text(), any_lines()).prop_map(|(country, lines)| Request { country, lines })
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => any_request().prop_map(Command::from),
        2 => (any_text(), any_text()).prop_map(|(carrier, tracking)| Dispatch { carrier, tracking }.into()),
        1 => Just(Deliver {}.into()),
        1 => any_text().prop_map(|reason| ReportLost { reason }.into()),
        1 => any_text().prop_map(|reason| Cancel { reason }.into()),
    ]
}

/// Any at all: nothing in the parcel, arrived before it left.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any_text(), any_lines()).prop_map(|(country, lines)| Requested { country, lines }.into()),
        (any_text(), any_text()).prop_map(|(carrier, tracking)| Dispatched { carrier, tracking }.into()),
        Just(Delivered {}.into()),
        any_text().prop_map(|reason| Lost { reason }.into()),
        any_text().prop_map(|reason| Cancelled { reason }.into()),
    ]
}

proptest! {
    #[test]
    fn a_shipment_names_each_sku_once(request in any_request()) {
        let skus: BTreeSet<_> = request.lines.iter().map(|line| line.sku.clone()).collect();
        match Shipment::decide(&None, request.clone().into()).as_deref() {
            Ok([Event::Requested(requested)]) => {
                assert_eq!(requested.lines, request.lines);
                assert!(!skus.is_empty() && skus.len() == request.lines.len());
            }
            Err(Refusal::NoLines) => assert!(request.lines.is_empty()),
            Err(Refusal::RepeatedSku { sku }) => {
                assert!(request.lines.iter().filter(|line| line.sku == *sku).count() > 1);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Requested, perhaps dispatched, and then one end: delivered or lost if it left the house, cancelled if it did not.
    #[test]
    fn a_shipment_ends_once(commands in vec(any_command(), 0..30)) {
        let history = lives::<Shipment>(commands, |before, command, outcome| {
            let status = before.as_ref().map(|shipment| shipment.status);
            let last = matches!(status, Some(Status::Delivered | Status::Lost | Status::Cancelled));
            assert!(!last || outcome.is_err(), "{status:?}: {command:?} was granted {outcome:?}");
        });
        match history.as_slice() {
            []
            | [Event::Requested(_)]
            | [Event::Requested(_), Event::Cancelled(_) | Event::Dispatched(_)]
            | [Event::Requested(_), Event::Dispatched(_), Event::Delivered(_) | Event::Lost(_)] => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..30)) {
        survives::<Shipment>(&events);
    }
}
