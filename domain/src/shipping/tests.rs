//! Shipping by example.

use super::*;
use crate::decider::fold;
use crate::fixtures::{quantity, sku, text};
use crate::testing::{assert_golden, given};

fn line(code: &str, units: i64) -> ParcelLine {
    ParcelLine { sku: sku(code), quantity: quantity(units) }
}

fn lines() -> Vec<ParcelLine> {
    vec![line("85123A", 8), line("71053", 6)]
}

fn request(lines: Vec<ParcelLine>) -> Request {
    Request { country: text("United Kingdom"), lines }
}

fn dispatch() -> Dispatch {
    Dispatch { carrier: text("Royal Mail"), tracking: text("RM123456785GB") }
}

fn report_lost() -> ReportLost {
    ReportLost { reason: text("The van burned down") }
}

fn cancel() -> Cancel {
    Cancel { reason: text("Changed my mind") }
}

fn requested(lines: Vec<ParcelLine>) -> Event {
    Requested { country: text("United Kingdom"), lines }.into()
}

fn dispatched() -> Event {
    Dispatched { carrier: text("Royal Mail"), tracking: text("RM123456785GB") }.into()
}

fn delivered() -> Event {
    Delivered {}.into()
}

fn lost() -> Event {
    Lost { reason: text("The van burned down") }.into()
}

fn cancelled() -> Event {
    Cancelled { reason: text("Changed my mind") }.into()
}

/// A history for each status there is.
fn histories() -> [(Status, Vec<Event>); 5] {
    [
        (Status::Requested, vec![requested(lines())]),
        (Status::Dispatched, vec![requested(lines()), dispatched()]),
        (Status::Delivered, vec![requested(lines()), dispatched(), delivered()]),
        (Status::Lost, vec![requested(lines()), dispatched(), lost()]),
        (Status::Cancelled, vec![requested(lines()), cancelled()]),
    ]
}

/// Asserts that `command` is granted in the status `from`, as `event`, and refused in all others.
#[track_caller]
fn only_from(from: Status, command: impl Into<Command>, event: &Event, refusal: impl Fn(Status) -> Refusal) {
    let command = command.into();
    for (status, history) in histories() {
        let decided = given::<Shipment>(history).when(command.clone());
        if status == from {
            decided.then([event.clone()]);
        } else {
            decided.then_refused(refusal(status));
        }
    }
    given::<Shipment>([]).when(command).then_refused(Refusal::NotRequested);
}

#[test]
fn a_shipment_is_requested() {
    given::<Shipment>([]).when(request(lines())).then([requested(lines())]);
}

#[test]
fn a_shipment_is_requested_once() {
    for (status, history) in histories() {
        given::<Shipment>(history).when(request(lines())).then_refused(Refusal::AlreadyRequested { status });
    }
}

#[test]
fn a_shipment_of_nothing_is_none() {
    given::<Shipment>([]).when(request(vec![])).then_refused(Refusal::NoLines);
}

#[test]
fn a_shipment_has_at_most_ten_thousand_lines() {
    let lines = |count| (0..count).map(|nth| line(&format!("SKU-{nth}"), 1)).collect::<Vec<_>>();
    let most = lines(Shipment::MAX_LINES);
    given::<Shipment>([]).when(request(most.clone())).then([requested(most)]);
    given::<Shipment>([])
        .when(request(lines(Shipment::MAX_LINES + 1)))
        .then_refused(Refusal::TooManyLines { lines: 10_001, max: 10_000 });
}

#[test]
fn each_sku_stands_on_one_line() {
    let repeated = vec![line("85123A", 8), line("71053", 6), line("85123A", 1), line("71053", 1)];
    given::<Shipment>([]).when(request(repeated)).then_refused(Refusal::RepeatedSku { sku: sku("85123A") });
    // Upper and lower case are different SKUs.
    let different = vec![line("85123A", 8), line("85123a", 8)];
    given::<Shipment>([]).when(request(different.clone())).then([requested(different)]);
}

#[test]
fn only_what_is_in_the_house_is_dispatched() {
    only_from(Status::Requested, dispatch(), &dispatched(), |status| Refusal::CannotDispatch { status });
}

#[test]
fn only_what_is_on_its_way_is_delivered() {
    only_from(Status::Dispatched, Deliver {}, &delivered(), |status| Refusal::CannotDeliver { status });
}

#[test]
fn only_what_is_on_its_way_is_lost() {
    only_from(Status::Dispatched, report_lost(), &lost(), |status| Refusal::CannotBeLost { status });
}

#[test]
fn only_what_is_in_the_house_stays_there() {
    only_from(Status::Requested, cancel(), &cancelled(), |status| Refusal::CannotCancel { status });
}

#[test]
fn its_history_makes_a_shipment() {
    for (status, history) in histories() {
        let left = !matches!(status, Status::Requested | Status::Cancelled);
        given::<Shipment>(history).then_state(Some(ShipmentState {
            status,
            country: text("United Kingdom"),
            lines: lines(),
            carrier: left.then(|| text("Royal Mail")),
            tracking: left.then(|| text("RM123456785GB")),
            reason: match status {
                Status::Lost => Some(text("The van burned down")),
                Status::Cancelled => Some(text("Changed my mind")),
                _ => None,
            },
        }));
    }
    given::<Shipment>([dispatched(), delivered(), lost(), cancelled()]).then_state(None);
}

#[test]
fn a_shipment_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "status": "lost",
        "country": "United Kingdom",
        "lines": [{ "sku": "85123A", "quantity": 8 }, { "sku": "71053", "quantity": 6 }],
        "carrier": "Royal Mail",
        "tracking": "RM123456785GB",
        "reason": "The van burned down",
    });
    let state = fold::<Shipment>(&[requested(lines()), dispatched(), lost()]);
    assert_eq!(serde_json::to_value(state).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::RepeatedSku { sku: sku("85123A") };
    assert_eq!(refusal.to_string(), "85123A stands on several lines; add them up");
    let shown = serde_json::json!({ "refusal": "repeated-sku", "sku": "85123A" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);

    let refusal = Refusal::CannotBeLost { status: Status::Requested };
    assert_eq!(refusal.to_string(), "the shipment is requested; only a dispatched one can be lost");
    let shown = serde_json::json!({ "refusal": "cannot-be-lost", "status": "requested" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/shipping/golden"));
}
