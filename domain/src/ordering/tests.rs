//! Ordering by example.

use super::*;
use crate::codec::StoredEvent as _;
use crate::decider::{Decider as _, fold};
use crate::fixtures::{card, customer, money, price, quantity, sku, text, time};
use crate::testing::{assert_golden, assert_round_trip, given};

fn line(units: i64, unit_price_minor: i64) -> OrderLine {
    OrderLine { sku: sku("85123A"), quantity: quantity(units), unit_price: price(unit_price_minor) }
}

fn sale(lines: Vec<OrderLine>) -> Sale {
    Sale {
        reference: Some(text("536365")),
        customer: Some(customer(7)),
        country: text("United Kingdom"),
        currency: money(0, "GBP").currency,
        placed_at: time("2026-11-21T08:26:00Z"),
        lines,
        card: Some(card("tok_visa")),
    }
}

fn made(lines: Vec<OrderLine>, total_minor: i64) -> SaleMade {
    let Sale { reference, customer, country, currency, placed_at, lines, card } = sale(lines);
    SaleMade { reference, customer, country, currency, placed_at, lines, total_minor, card }
}

/// A sale that was paid elsewhere.
fn traded(lines: Vec<OrderLine>) -> Sale {
    Sale { card: None, ..sale(lines) }
}

fn trade_made(lines: Vec<OrderLine>, total_minor: i64) -> SaleMade {
    SaleMade { card: None, ..made(lines, total_minor) }
}

fn place() -> Command {
    Command::Place(sale(vec![line(6, 255), line(2, 339)]))
}

fn record() -> Command {
    Command::Record(traded(vec![line(6, 255), line(2, 339)]))
}

fn reject() -> Reject {
    Reject { reason: text("Out of stock") }
}

fn cancel() -> Cancel {
    Cancel { reason: text("Changed my mind") }
}

fn call_off() -> CallOff {
    CallOff { reason: text("Lost on the way") }
}

fn placed() -> Event {
    Placed(made(vec![line(6, 255), line(2, 339)], 2208)).into()
}

fn recorded() -> Event {
    Recorded(trade_made(vec![line(6, 255), line(2, 339)], 2208)).into()
}

fn confirmed() -> Event {
    Confirmed {}.into()
}

fn cancellation_requested() -> Event {
    CancellationRequested { reason: text("Changed my mind") }.into()
}

fn cancellation_declined() -> Event {
    CancellationDeclined {}.into()
}

fn dispatched() -> Event {
    Dispatched {}.into()
}

fn rejected() -> Event {
    Rejected { reason: text("Out of stock") }.into()
}

fn cancelled() -> Event {
    Cancelled { reason: text("Changed my mind") }.into()
}

fn called_off() -> Event {
    Cancelled { reason: text("Lost on the way") }.into()
}

fn completed() -> Event {
    Completed {}.into()
}

/// A history for each status there is.
fn histories() -> [(Status, Vec<Event>); 8] {
    [
        (Status::Placed, vec![placed()]),
        (Status::Confirmed, vec![placed(), confirmed()]),
        (Status::Cancelling, vec![placed(), confirmed(), cancellation_requested()]),
        (Status::Dispatched, vec![placed(), confirmed(), dispatched()]),
        (Status::Completed, vec![placed(), confirmed(), dispatched(), completed()]),
        (Status::Rejected, vec![placed(), rejected()]),
        (Status::Cancelled, vec![placed(), cancelled()]),
        (Status::Recorded, vec![recorded()]),
    ]
}

/// Asserts that `command` is granted in these statuses, as these events, and refused in all others.
#[track_caller]
fn only_from(from: &[(Status, &[Event])], command: impl Into<Command>, refusal: impl Fn(Status) -> Refusal) {
    let command = command.into();
    for (status, history) in histories() {
        let decided = given::<Order>(history).when(command.clone());
        match from.iter().find(|(granted, _)| *granted == status) {
            Some((_, events)) => decided.then(events.to_vec()),
            None => decided.then_refused(refusal(status)),
        }
    }
    given::<Order>([]).when(command).then_refused(Refusal::NotPlaced);
}

#[test]
fn an_order_is_placed_with_its_total() {
    given::<Order>([]).when(place()).then([placed()]);
}

#[test]
fn an_order_that_was_traded_elsewhere_is_recorded() {
    given::<Order>([]).when(record()).then([recorded()]);
}

#[test]
fn a_guest_may_buy_and_a_gift_costs_nothing() {
    let guest = Sale { reference: None, customer: None, ..traded(vec![line(1, 0)]) };
    let made = SaleMade { reference: None, customer: None, ..trade_made(vec![line(1, 0)], 0) };
    given::<Order>([]).when(Command::Place(guest)).then([Placed(made).into()]);
}

#[test]
fn what_costs_something_is_charged_to_a_card() {
    let unpaid = traded(vec![line(6, 255), line(2, 339)]);
    given::<Order>([]).when(Command::Place(unpaid)).then_refused(Refusal::NoCard { total: money(2208, "GBP") });
    given::<Order>([])
        .when(Command::Place(traded(vec![line(1, 1)])))
        .then_refused(Refusal::NoCard { total: money(1, "GBP") });
    // A card that there is nothing to charge to does no harm.
    given::<Order>([]).when(Command::Place(sale(vec![line(1, 0)]))).then([Placed(made(vec![line(1, 0)], 0)).into()]);
}

#[test]
fn what_was_traded_elsewhere_was_paid_elsewhere() {
    given::<Order>([]).when(Command::Record(sale(vec![line(6, 255)]))).then_refused(Refusal::CardOnRecord);
    given::<Order>([]).when(Command::Record(sale(vec![line(1, 0)]))).then_refused(Refusal::CardOnRecord);
}

/// The golden file of a placed order is older than cards, and stays readable for that.
#[test]
fn a_card_is_stored_with_the_order_that_it_pays_and_only_there() {
    let stored = |event: Event| serde_json::from_slice::<serde_json::Value>(&event.encode().unwrap().data).unwrap();
    assert_eq!(stored(placed())["card"], "tok_visa");
    assert_eq!(stored(recorded()).get("card"), None);
    assert_round_trip(&placed());
}

#[test]
fn an_order_begins_once() {
    for (status, history) in histories() {
        given::<Order>(history.clone()).when(place()).then_refused(Refusal::AlreadyPlaced { status });
        given::<Order>(history).when(record()).then_refused(Refusal::AlreadyPlaced { status });
    }
}

#[test]
fn an_order_of_nothing_is_none() {
    given::<Order>([]).when(Command::Place(sale(vec![]))).then_refused(Refusal::NoLines);
    given::<Order>([]).when(Command::Record(traded(vec![]))).then_refused(Refusal::NoLines);
}

#[test]
fn an_order_has_at_most_ten_thousand_lines() {
    let lines = vec![line(1, 1); Order::MAX_LINES];
    given::<Order>([]).when(Command::Place(sale(lines.clone()))).then([Placed(made(lines, 10_000)).into()]);

    let refused = Refusal::TooManyLines { lines: 10_001, max: 10_000 };
    let lines = vec![line(1, 1); Order::MAX_LINES + 1];
    given::<Order>([]).when(Command::Place(sale(lines.clone()))).then_refused(refused.clone());
    given::<Order>([]).when(Command::Record(traded(lines))).then_refused(refused);
}

#[test]
fn a_total_fits_or_is_refused() {
    let most = vec![line(1, Order::MAX_TOTAL - 1), line(1, 1)];
    given::<Order>([]).when(Command::Place(sale(most.clone()))).then([Placed(made(most, Order::MAX_TOTAL)).into()]);

    let sum = Refusal::TotalOverflow {
        line: 2,
        quantity: quantity(2),
        unit_price_minor: price(1),
        subtotal_minor: Order::MAX_TOTAL - 1,
    };
    given::<Order>([]).when(Command::Place(sale(vec![line(1, Order::MAX_TOTAL - 1), line(2, 1)]))).then_refused(sum);

    let product = Refusal::TotalOverflow {
        line: 1,
        quantity: quantity(2),
        unit_price_minor: price(Order::MAX_TOTAL),
        subtotal_minor: 0,
    };
    given::<Order>([]).when(Command::Record(traded(vec![line(2, Order::MAX_TOTAL)]))).then_refused(product);
}

#[test]
fn an_order_is_placed_in_a_year_that_a_calendar_knows() {
    for (placed_at, fits) in [
        ("0001-01-01T00:00:00Z", true),
        ("9999-12-31T23:59:59Z", true),
        ("+10000-01-01T00:00:00Z", false),
        ("-0001-12-31T23:59:59Z", false),
    ] {
        let sale = Sale { placed_at: placed_at.parse().unwrap(), ..traded(vec![line(1, 1)]) };
        let decided = Order::decide(&None, Command::Record(sale.clone()));
        let refused = Err(Refusal::ImplausibleDate { placed_at: sale.placed_at, first: 1, last: 9_999 });
        assert_eq!(decided == refused, !fits, "{placed_at}: {decided:?}");
    }
}

#[test]
fn time_is_kept_to_the_microsecond() {
    let finer = Sale { placed_at: time("1999-12-31T23:59:59.9999995Z"), ..traded(vec![line(1, 1)]) };
    let kept = SaleMade { placed_at: time("1999-12-31T23:59:59.999999Z"), ..trade_made(vec![line(1, 1)], 1) };
    given::<Order>([]).when(Command::Record(finer)).then([Recorded(kept).into()]);
}

#[test]
fn only_a_placed_order_is_confirmed() {
    only_from(&[(Status::Placed, &[confirmed()])], Confirm {}, |status| Refusal::CannotConfirm { status });
}

#[test]
fn only_a_placed_order_is_rejected() {
    only_from(&[(Status::Placed, &[rejected()])], reject(), |status| Refusal::CannotReject { status });
}

#[test]
fn a_placed_order_is_cancelled_at_once_and_a_confirmed_one_if_the_goods_can_be_kept() {
    let from: [(Status, &[Event]); 2] =
        [(Status::Placed, &[cancelled()]), (Status::Confirmed, &[cancellation_requested()])];
    only_from(&from, cancel(), |status| Refusal::CannotCancel { status });
}

#[test]
fn goods_that_leave_the_house_decline_a_cancellation() {
    let from: [(Status, &[Event]); 2] =
        [(Status::Confirmed, &[dispatched()]), (Status::Cancelling, &[cancellation_declined(), dispatched()])];
    only_from(&from, Dispatch {}, |status| Refusal::CannotDispatch { status });
}

#[test]
fn the_shop_calls_off_what_it_has_confirmed() {
    let called_off: &[Event] = &[called_off()];
    let from = [Status::Confirmed, Status::Cancelling, Status::Dispatched].map(|status| (status, called_off));
    only_from(&from, call_off(), |status| Refusal::CannotCallOff { status });
}

#[test]
fn only_a_dispatched_order_is_completed() {
    only_from(&[(Status::Dispatched, &[completed()])], Complete {}, |status| Refusal::CannotComplete { status });
}

#[test]
fn its_history_makes_an_order() {
    let order = OrderState {
        status: Status::Placed,
        reason: None,
        reference: Some(text("536365")),
        customer: Some(customer(7)),
        country: text("United Kingdom"),
        placed_at: time("2026-11-21T08:26:00Z"),
        lines: vec![line(6, 255), line(2, 339)],
        total: money(2208, "GBP"),
    };
    for (status, history) in histories() {
        let reason = match status {
            Status::Rejected => Some(text("Out of stock")),
            Status::Cancelling | Status::Cancelled => Some(text("Changed my mind")),
            _ => None,
        };
        given::<Order>(history).then_state(Some(OrderState { status, reason, ..order.clone() }));
    }
    given::<Order>([confirmed(), completed(), rejected(), cancelled()]).then_state(None);
    given::<Order>([cancellation_requested(), cancellation_declined(), dispatched()]).then_state(None);
}

#[test]
fn a_declined_cancellation_leaves_no_reason_behind() {
    let declined = [placed(), confirmed(), cancellation_requested(), cancellation_declined()];
    let state = fold::<Order>(&declined).unwrap();
    assert_eq!((state.status, state.reason), (Status::Confirmed, None));

    let state = fold::<Order>(declined.iter().chain([&dispatched()])).unwrap();
    assert_eq!((state.status, state.reason), (Status::Dispatched, None));
}

#[test]
fn an_order_that_is_called_off_says_why_and_not_what_the_customer_said_before() {
    let history = [placed(), confirmed(), cancellation_requested(), called_off()];
    let state = fold::<Order>(&history).unwrap();
    assert_eq!((state.status, state.reason), (Status::Cancelled, Some(text("Lost on the way"))));
}

#[test]
fn an_order_is_shown_with_these_names() {
    let shown = serde_json::json!({
        "status": "cancelled",
        "reason": "Changed my mind",
        "reference": "536365",
        "customer": "00000000-0000-0000-0000-000000000007",
        "country": "United Kingdom",
        "placed_at": "2026-11-21T08:26:00Z",
        "lines": [
            { "sku": "85123A", "quantity": 6, "unit_price_minor": 255 },
            { "sku": "85123A", "quantity": 2, "unit_price_minor": 339 },
        ],
        "total": { "minor": 2208, "currency": "GBP" },
    });
    assert_eq!(serde_json::to_value(fold::<Order>(&[placed(), cancelled()])).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal =
        Refusal::TotalOverflow { line: 2, quantity: quantity(2), unit_price_minor: price(9), subtotal_minor: 8 };
    assert_eq!(refusal.to_string(), "line 2, 2 units at 9, takes the total of 8 out of range");
    let shown = serde_json::json!({
        "refusal": "total-overflow", "line": 2, "quantity": 2, "unit_price_minor": 9, "subtotal_minor": 8
    });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);

    let refusal = Refusal::NoCard { total: money(2208, "GBP") };
    assert_eq!(refusal.to_string(), "the order costs 22.08 GBP, and names no card to charge");
    let shown = serde_json::json!({ "refusal": "no-card", "total": { "minor": 2208, "currency": "GBP" } });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);

    let refusal = Refusal::CannotDispatch { status: Status::Cancelled };
    assert_eq!(refusal.to_string(), "the order is cancelled; only a confirmed one can be dispatched");
    let shown = serde_json::json!({ "refusal": "cannot-dispatch", "status": "cancelled" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ordering/golden"));
}
