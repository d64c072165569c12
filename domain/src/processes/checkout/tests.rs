//! The checkout by example.

use std::collections::BTreeSet;

use super::*;
use crate::fixtures::{card, money, order, payment, price, quantity, shipment, sku, text, time};
use crate::ids::Line;
use crate::inventory::{Declined, Received, Release, Released, Reserve, Reserved, Ship, Shipped};
use crate::ordering::{
    CallOff, CancellationDeclined, CancellationRequested, Cancelled, Complete, Completed, Confirm, Confirmed,
    Dispatched, OrderLine, Placed, Recorded, Reject, Rejected, SaleMade,
};
use crate::payments::{
    Authorised, Capture, CaptureFailed, CaptureRequested, Captured, Refund, RefundFailed, RefundRequested, Refunded,
    Void, VoidRequested, Voided,
};
use crate::shipping::ParcelLine;
use crate::supervision::{Parked, Retried, TimedOut};
use crate::testing::{GivenProcess, given_process};

// The words of the stories. All of them are about order 1: two mugs and, on two lines, three plates, for 16.00 GBP.

fn sale(lines: &[(&str, i64, i64)]) -> SaleMade {
    let line = |(name, units, minor): &(&str, i64, i64)| OrderLine {
        sku: sku(name),
        quantity: quantity(*units),
        unit_price: price(*minor),
    };
    SaleMade {
        reference: None,
        customer: None,
        country: text("France"),
        currency: money(0, "GBP").currency,
        placed_at: time("2026-11-21T08:26:00Z"),
        lines: lines.iter().map(line).collect(),
        total_minor: lines.iter().map(|(_, units, minor)| units * minor).sum(),
        card: Some(card("tok_visa")),
    }
}

fn of_order(event: impl Into<ordering::Event>) -> ShopEvent {
    ShopEvent::Ordering(order(1), event.into())
}

fn of_stock(name: &str, event: impl Into<inventory::Event>) -> ShopEvent {
    ShopEvent::Inventory(sku(name), event.into())
}

fn of_payment(event: impl Into<payments::Event>) -> ShopEvent {
    ShopEvent::Payments(payment(1), event.into())
}

fn of_shipment(event: impl Into<shipping::Event>) -> ShopEvent {
    ShopEvent::Shipping(shipment(1), event.into())
}

fn of_checkout(event: impl Into<supervision::Event>) -> ShopEvent {
    ShopEvent::Supervision(order(1), event.into())
}

fn placed() -> ShopEvent {
    of_order(Placed(sale(&[("PLATE", 1, 200), ("MUG", 2, 500), ("PLATE", 2, 200)])))
}

fn reserved(name: &str, units: i64) -> ShopEvent {
    of_stock(name, Reserved { order: order(1), quantity: quantity(units) })
}

fn out_of_stock(name: &str, units: i64, available: i64) -> ShopEvent {
    of_stock(name, Declined { order: order(1), quantity: quantity(units), available })
}

fn released(name: &str, units: i64) -> ShopEvent {
    of_stock(name, Released { order: order(1), quantity: quantity(units) })
}

fn shipped(name: &str, units: i64) -> ShopEvent {
    of_stock(name, Shipped { order: order(1), quantity: quantity(units) })
}

fn payment_requested() -> ShopEvent {
    of_payment(payments::Requested { amount: money(1600, "GBP"), card: card("tok_visa") })
}

fn authorised() -> ShopEvent {
    of_payment(Authorised { amount: money(1600, "GBP"), reference: text("gw-1") })
}

fn payment_declined() -> ShopEvent {
    of_payment(payments::Declined { reason: text("Insufficient funds") })
}

fn capture_requested() -> ShopEvent {
    of_payment(CaptureRequested { amount: money(1600, "GBP") })
}

fn captured() -> ShopEvent {
    of_payment(Captured { amount: money(1600, "GBP"), reference: text("gw-1") })
}

fn capture_failed() -> ShopEvent {
    of_payment(CaptureFailed { reason: text("Expired") })
}

fn void_requested(reason: &str) -> ShopEvent {
    of_payment(VoidRequested { reason: text(reason) })
}

fn voided() -> ShopEvent {
    of_payment(Voided {})
}

fn refund_requested(number: u32, minor: i64) -> ShopEvent {
    of_payment(RefundRequested { number, amount: money(minor, "GBP"), reason: text("Lost at sea") })
}

fn refunded(number: u32, minor: i64, left_minor: i64) -> ShopEvent {
    of_payment(Refunded { number, amount: money(minor, "GBP"), left_minor })
}

fn refund_failed(number: u32) -> ShopEvent {
    of_payment(RefundFailed { number, reason: text("Account closed") })
}

fn confirmed() -> ShopEvent {
    of_order(Confirmed {})
}

fn order_dispatched() -> ShopEvent {
    of_order(Dispatched {})
}

fn completed() -> ShopEvent {
    of_order(Completed {})
}

fn rejected(reason: &str) -> ShopEvent {
    of_order(Rejected { reason: text(reason) })
}

fn cancelled(reason: &str) -> ShopEvent {
    of_order(Cancelled { reason: text(reason) })
}

fn cancellation_requested() -> ShopEvent {
    of_order(CancellationRequested { reason: text("Changed my mind") })
}

fn shipment_requested() -> ShopEvent {
    of_shipment(shipping::Requested { country: text("France"), lines: parcel() })
}

fn dispatched() -> ShopEvent {
    of_shipment(shipping::Dispatched { carrier: text("Royal Mail"), tracking: text("RM-1") })
}

fn delivered() -> ShopEvent {
    of_shipment(shipping::Delivered {})
}

fn lost() -> ShopEvent {
    of_shipment(shipping::Lost { reason: text("Lost at sea") })
}

fn kept(reason: &str) -> ShopEvent {
    of_shipment(shipping::Cancelled { reason: text(reason) })
}

fn timed_out(timeout: Timeout) -> ShopEvent {
    of_checkout(TimedOut { timeout })
}

fn retried() -> ShopEvent {
    of_checkout(Retried {})
}

fn reserve(name: &str, units: i64) -> Command {
    Command::Stock(sku(name), Reserve { order: order(1), quantity: quantity(units) }.into())
}

fn release(name: &str) -> Command {
    Command::Stock(sku(name), Release { order: order(1) }.into())
}

fn ship(name: &str) -> Command {
    Command::Stock(sku(name), Ship { order: order(1) }.into())
}

fn to_order(command: impl Into<ordering::Command>) -> Command {
    Command::Order(order(1), command.into())
}

fn to_payment(command: impl Into<payments::Command>) -> Command {
    Command::Payment(payment(1), command.into())
}

fn to_shipment(command: impl Into<shipping::Command>) -> Command {
    Command::Shipment(shipment(1), command.into())
}

fn request_payment() -> Command {
    to_payment(payments::Request { amount: money(1600, "GBP"), card: card("tok_visa") })
}

fn capture() -> Command {
    to_payment(Capture { amount: money(1600, "GBP") })
}

fn void(reason: &str) -> Command {
    to_payment(Void { reason: text(reason) })
}

fn refund(minor: i64) -> Command {
    to_payment(Refund { amount: money(minor, "GBP"), reason: text("Lost at sea") })
}

fn confirm() -> Command {
    to_order(Confirm {})
}

fn reject(reason: &str) -> Command {
    to_order(Reject { reason: text(reason) })
}

fn call_off(reason: &str) -> Command {
    to_order(CallOff { reason: text(reason) })
}

fn request_shipment() -> Command {
    to_shipment(shipping::Request { country: text("France"), lines: parcel() })
}

fn keep(reason: &str) -> Command {
    to_shipment(shipping::Cancel { reason: text(reason) })
}

fn parcel() -> Vec<ParcelLine> {
    let line = |name, units| ParcelLine { sku: sku(name), quantity: quantity(units) };
    vec![line("MUG", 2), line("PLATE", 3)]
}

// How far the stories go before they part.

type History = Vec<ShopEvent>;

fn after(history: History, events: impl IntoIterator<Item = ShopEvent>) -> History {
    history.into_iter().chain(events).collect()
}

fn that_is_reserved() -> History {
    vec![placed(), reserved("MUG", 2), reserved("PLATE", 3), payment_requested()]
}

fn that_is_paid() -> History {
    after(that_is_reserved(), [authorised()])
}

fn that_is_to_be_shipped() -> History {
    after(that_is_paid(), [confirmed(), shipment_requested()])
}

fn that_is_on_its_way() -> History {
    let follows = [dispatched(), shipped("MUG", 2), shipped("PLATE", 3), order_dispatched(), capture_requested()];
    after(that_is_to_be_shipped(), follows)
}

fn given(history: History) -> GivenProcess<Checkout> {
    given_process::<Checkout>(history)
}

fn state(history: &[ShopEvent]) -> Option<Case> {
    history.iter().fold(Checkout::initial(), Checkout::evolve)
}

/// Lets one event after the other happen, each of which leads to nothing, and asserts that only the last ends it.
#[track_caller]
fn is_over_after(history: History, events: impl IntoIterator<Item = ShopEvent>) {
    let mut history = history;
    for event in events {
        assert!(!Checkout::is_over(&state(&history)), "over too early: {:?}", state(&history));
        given(history.clone()).when(event.clone()).then_nothing();
        history.push(event);
    }
    assert!(Checkout::is_over(&state(&history)), "not over: {:?}", state(&history));
}

#[track_caller]
fn waits_for(history: &[ShopEvent], expected: Option<Timeout>) {
    assert_eq!(Checkout::waits_for(&state(history)), expected);
}

#[track_caller]
fn is_stuck(history: &[ShopEvent], expected: Option<Stuck>) {
    assert_eq!(stuck(&state(history)), expected);
}

// All goes well.

#[test]
fn what_was_placed_is_reserved_each_sku_once() {
    given(vec![]).when(placed()).then([reserve("MUG", 2), reserve("PLATE", 3)]);
    waits_for(&[placed()], None);
}

#[test]
fn the_payment_is_requested_once_everything_is_reserved() {
    given(vec![placed()]).when(reserved("PLATE", 3)).then_nothing();
    given(vec![placed(), reserved("PLATE", 3)]).when(reserved("MUG", 2)).then([request_payment()]);
    waits_for(&[placed(), reserved("PLATE", 3), reserved("MUG", 2)], Some(Timeout::Payment));
}

#[test]
fn the_order_is_confirmed_once_it_is_paid() {
    given(that_is_reserved()).when(authorised()).then([confirm()]);
    waits_for(&that_is_paid(), None);
}

#[test]
fn the_shipment_is_requested_once_the_order_is_confirmed() {
    given(that_is_paid()).when(confirmed()).then([request_shipment()]);
    waits_for(&that_is_to_be_shipped(), Some(Timeout::Dispatch));
}

#[test]
fn the_money_is_taken_once_the_goods_have_left() {
    given(that_is_to_be_shipped()).when(dispatched()).then([
        ship("MUG"),
        ship("PLATE"),
        to_order(ordering::Dispatch {}),
        capture(),
    ]);
    waits_for(&that_is_on_its_way(), None);
}

#[test]
fn the_order_is_completed_once_it_is_delivered_paid_and_shipped_whatever_comes_last() {
    let on_its_way = after(that_is_to_be_shipped(), [dispatched()]);
    let rest = [shipped("MUG", 2), shipped("PLATE", 3), captured(), delivered()];
    for last in 0..rest.len() {
        let mut others = rest.to_vec();
        let last = others.remove(last);
        for count in 0..others.len() {
            let so_far = after(on_its_way.clone(), others[..count].to_vec());
            given(so_far).when(others[count].clone()).then_nothing();
        }
        let completing = after(on_its_way.clone(), others);
        given(completing.clone()).when(last.clone()).then([to_order(Complete {})]);
        is_over_after(after(completing, [last]), [completed()]);
    }
}

#[test]
fn completion_is_asked_for_once() {
    let completing = after(that_is_on_its_way(), [captured(), delivered()]);
    is_over_after(completing, [refund_requested(1, 300), refunded(1, 300, 1300), completed()]);
}

#[test]
fn a_part_that_is_given_back_by_hand_changes_nothing() {
    let given_back = after(that_is_on_its_way(), [captured(), refund_requested(1, 300), refunded(1, 300, 1300)]);
    given(given_back.clone()).when(delivered()).then([to_order(Complete {})]);
    is_over_after(after(given_back, [delivered()]), [completed()]);
}

#[test]
fn what_costs_nothing_is_not_paid() {
    for card in [None, Some(card("tok_visa"))] {
        let gift = of_order(Placed(SaleMade { card, ..sale(&[("MUG", 1, 0)]) }));
        let line = ParcelLine { sku: sku("MUG"), quantity: quantity(1) };
        let request = shipping::Request { country: text("France"), lines: vec![line] };
        given(vec![gift.clone()]).when(reserved("MUG", 1)).then([confirm()]);
        let confirming = vec![gift, reserved("MUG", 1)];
        waits_for(&confirming, None);
        given(confirming.clone()).when(confirmed()).then([to_shipment(request)]);
        let to_be_shipped = after(confirming, [confirmed()]);
        given(to_be_shipped.clone()).when(dispatched()).then([ship("MUG"), to_order(ordering::Dispatch {})]);
        let delivered = after(to_be_shipped, [dispatched(), shipped("MUG", 1), delivered()]);
        is_over_after(delivered, [completed()]);
    }
}

#[test]
fn what_was_traded_elsewhere_is_none_of_its_business() {
    let recorded = of_order(Recorded(sale(&[("MUG", 2, 500)])));
    given(vec![]).when(recorded.clone()).then_nothing();
    assert!(Checkout::is_over(&state(&[recorded])));
}

// The order cannot be taken.

fn is_rejected_at_once(sale: SaleMade, reason: &str) {
    let placed = of_order(Placed(sale));
    given(vec![]).when(placed.clone()).then([reject(reason)]);
    waits_for(std::slice::from_ref(&placed), None);
    is_over_after(vec![placed.clone()], [rejected(reason)]);
    is_over_after(vec![placed], [cancelled("Changed my mind")]);
}

#[test]
fn more_of_a_sku_than_can_be_reserved_is_rejected() {
    let reason = "MUG: a quantity is a whole number from 1 to 1000000000, not 1000000001";
    is_rejected_at_once(sale(&[("MUG", 1_000_000_000, 0), ("PLATE", 1, 500), ("MUG", 1, 0)]), reason);
}

#[test]
fn what_costs_something_without_a_card_is_rejected() {
    is_rejected_at_once(SaleMade { card: None, ..sale(&[("MUG", 2, 500)]) }, "there is no card to charge");
}

#[test]
fn what_no_decision_ever_made_is_rejected() {
    is_rejected_at_once(sale(&[]), "nothing was ordered");
    let negative = SaleMade { total_minor: -1, ..sale(&[("MUG", 2, 500)]) };
    is_rejected_at_once(negative, "a price is not negative: -1");
}

// The stock declines.

const NO_PLATES: &str = "PLATE: 3 asked for, 1 available";

#[test]
fn what_is_out_of_stock_is_rejected_and_the_rest_released_at_once() {
    let history = vec![placed(), reserved("MUG", 2)];
    let declined = out_of_stock("PLATE", 3, 1);
    given(history.clone()).when(declined.clone()).then([release("MUG"), reject(NO_PLATES)]);
    is_over_after(after(history, [declined]), [released("MUG", 2), rejected(NO_PLATES)]);
}

#[test]
fn what_is_reserved_later_is_released_then() {
    let declined = out_of_stock("PLATE", 3, 1);
    given(vec![placed()]).when(declined.clone()).then([reject(NO_PLATES)]);
    let rejecting = vec![placed(), declined, rejected(NO_PLATES)];
    assert!(!Checkout::is_over(&state(&rejecting)));
    given(rejecting.clone()).when(reserved("MUG", 2)).then([release("MUG")]);
    is_over_after(after(rejecting, [reserved("MUG", 2)]), [released("MUG", 2)]);
}

#[test]
fn what_is_out_of_stock_twice_is_rejected_once() {
    let history = vec![placed(), out_of_stock("PLATE", 3, 1)];
    is_over_after(history, [out_of_stock("MUG", 2, 0), rejected(NO_PLATES)]);
}

// The payment fails.

#[test]
fn what_the_gateway_declines_is_rejected() {
    let reason = "Insufficient funds";
    let undone = [release("MUG"), release("PLATE"), reject(reason)];
    given(that_is_reserved()).when(payment_declined()).then(undone);
    let history = after(that_is_reserved(), [payment_declined()]);
    waits_for(&history, None);
    is_over_after(history, [released("PLATE", 3), rejected(reason), released("MUG", 2)]);
}

const NOT_ANSWERED: &str = "the payment was not answered in time";

#[test]
fn what_the_gateway_does_not_answer_is_voided_and_rejected() {
    let timed_out = timed_out(Timeout::Payment);
    let undone = [release("MUG"), release("PLATE"), void(NOT_ANSWERED), reject(NOT_ANSWERED)];
    given(that_is_reserved()).when(timed_out.clone()).then(undone);
    let history = after(that_is_reserved(), [timed_out]);
    waits_for(&history, None);
    let undone = [released("MUG", 2), released("PLATE", 3), rejected(NOT_ANSWERED), void_requested(NOT_ANSWERED)];
    // The answer comes after all.
    is_over_after(after(history.clone(), undone.clone()), [payment_declined()]);
    is_over_after(after(history, undone), [authorised(), voided()]);
}

#[test]
fn what_is_not_waited_for_does_not_time_out() {
    for history in [vec![placed()], that_is_paid(), that_is_to_be_shipped(), that_is_on_its_way()] {
        given(history).when(timed_out(Timeout::Payment)).then_nothing();
    }
    let stopping = after(that_is_to_be_shipped(), [cancellation_requested()]);
    for history in [vec![placed()], that_is_reserved(), that_is_paid(), stopping, that_is_on_its_way()] {
        given(history).when(timed_out(Timeout::Dispatch)).then_nothing();
    }
}

// The customer cancels.

const CHANGED: &str = "Changed my mind";

#[test]
fn what_is_cancelled_while_it_is_reserved_is_released() {
    let history = vec![placed(), reserved("MUG", 2)];
    given(history.clone()).when(cancelled(CHANGED)).then([release("MUG")]);
    let history = after(history, [cancelled(CHANGED)]);
    given(history.clone()).when(reserved("PLATE", 3)).then([release("PLATE")]);
    is_over_after(after(history.clone(), [reserved("PLATE", 3)]), [released("MUG", 2), released("PLATE", 3)]);
    is_over_after(history, [released("MUG", 2), out_of_stock("PLATE", 3, 1)]);
}

#[test]
fn what_is_cancelled_while_it_is_paid_is_voided_and_released() {
    let undone = [release("MUG"), release("PLATE"), void(CHANGED)];
    given(that_is_reserved()).when(cancelled(CHANGED)).then(undone.clone());
    let history = after(that_is_reserved(), [cancelled(CHANGED)]);
    waits_for(&history, None);
    let undoing = [released("MUG", 2), released("PLATE", 3), void_requested(CHANGED)];
    is_over_after(after(history.clone(), undoing.clone()), [voided()]);
    is_over_after(after(history, undoing), [payment_declined()]);
    // The order is to be confirmed already, and refuses.
    given(that_is_paid()).when(cancelled(CHANGED)).then(undone);
}

#[test]
fn what_is_confirmed_is_called_off_if_the_goods_can_be_kept() {
    let confirmed = that_is_to_be_shipped();
    given(confirmed.clone()).when(cancellation_requested()).then([keep(CHANGED)]);
    let stopping = after(confirmed, [cancellation_requested()]);
    waits_for(&stopping, None);
    let undone = [release("MUG"), release("PLATE"), void(CHANGED), call_off(CHANGED)];
    given(stopping.clone()).when(kept(CHANGED)).then(undone);
    is_over_after(
        after(stopping, [kept(CHANGED), void_requested(CHANGED)]),
        [released("MUG", 2), released("PLATE", 3), cancelled(CHANGED), voided()],
    );
}

#[test]
fn what_has_left_before_it_could_be_kept_goes_on() {
    let stopping = after(that_is_to_be_shipped(), [cancellation_requested()]);
    let goes_on = [ship("MUG"), ship("PLATE"), to_order(ordering::Dispatch {}), capture()];
    given(stopping.clone()).when(dispatched()).then(goes_on);
    let on_its_way = after(stopping, [dispatched(), of_order(CancellationDeclined {}), order_dispatched()]);
    let arrived = after(on_its_way, [shipped("MUG", 2), shipped("PLATE", 3), captured(), delivered()]);
    is_over_after(arrived, [completed()]);
}

#[test]
fn what_is_cancelled_after_it_has_left_goes_on() {
    let on_its_way = after(that_is_to_be_shipped(), [dispatched()]);
    given(on_its_way).when(cancellation_requested()).then_nothing();
}

// The warehouse does not send.

const BROKEN: &str = "Broken";

#[test]
fn what_the_warehouse_keeps_is_called_off() {
    let undone = [release("MUG"), release("PLATE"), void(BROKEN), call_off(BROKEN)];
    given(that_is_to_be_shipped()).when(kept(BROKEN)).then(undone);
    let history = after(that_is_to_be_shipped(), [kept(BROKEN)]);
    waits_for(&history, None);
    let undone = [cancelled(BROKEN), void_requested(BROKEN), voided(), released("PLATE", 3), released("MUG", 2)];
    is_over_after(history, undone);
}

#[test]
fn what_is_not_sent_in_time_is_kept() {
    let reason = "the goods did not leave the house in time";
    given(that_is_to_be_shipped()).when(timed_out(Timeout::Dispatch)).then([keep(reason)]);
    let stopping = after(that_is_to_be_shipped(), [timed_out(Timeout::Dispatch)]);
    waits_for(&stopping, None);
    let undone = [release("MUG"), release("PLATE"), void(reason), call_off(reason)];
    given(stopping).when(kept(reason)).then(undone);
}

#[test]
fn what_is_to_be_kept_is_asked_for_once() {
    let stopping = after(that_is_to_be_shipped(), [timed_out(Timeout::Dispatch)]);
    given(stopping).when(cancellation_requested()).then_nothing();
}

// The goods get lost.

const LOST: &str = "Lost at sea";

#[test]
fn what_is_lost_is_given_back_and_called_off() {
    let paid = after(that_is_on_its_way(), [captured()]);
    given(paid.clone()).when(lost()).then([refund(1600), call_off(LOST)]);
    let undone = [cancelled(LOST), refund_requested(1, 1600), refunded(1, 1600, 0)];
    is_over_after(after(paid, [lost()]), undone);
}

#[test]
fn what_is_lost_before_it_is_paid_is_given_back_then() {
    given(that_is_on_its_way()).when(lost()).then([call_off(LOST)]);
    let undoing = after(that_is_on_its_way(), [lost(), cancelled(LOST)]);
    given(undoing.clone()).when(captured()).then([refund(1600)]);
    is_over_after(after(undoing, [captured()]), [refund_requested(1, 1600), refunded(1, 1600, 0)]);
}

#[test]
fn what_is_lost_and_cannot_be_paid_is_voided() {
    let undoing = after(that_is_on_its_way(), [lost(), cancelled(LOST)]);
    given(undoing.clone()).when(capture_failed()).then([void(LOST)]);
    is_over_after(after(undoing, [capture_failed()]), [void_requested(LOST), voided()]);
    let unpaid = after(that_is_on_its_way(), [capture_failed()]);
    given(unpaid.clone()).when(lost()).then([void(LOST), call_off(LOST)]);
    is_over_after(after(unpaid, [lost()]), [cancelled(LOST), void_requested(LOST), voided()]);
}

#[test]
fn what_is_lost_stays_shipped() {
    let paid = after(that_is_to_be_shipped(), [dispatched(), captured(), lost()]);
    let undone = [cancelled(LOST), refund_requested(1, 1600), refunded(1, 1600, 0)];
    is_over_after(after(paid, undone), [shipped("MUG", 2), shipped("PLATE", 3)]);
}

#[test]
fn never_more_is_given_back_than_is_left() {
    let paid = after(that_is_on_its_way(), [captured(), refund_requested(1, 300)]);
    given(paid.clone()).when(lost()).then([refund(1300), call_off(LOST)]);
    given(after(paid.clone(), [refunded(1, 300, 1300)])).when(lost()).then([refund(1300), call_off(LOST)]);
    given(after(paid.clone(), [refund_failed(1)])).when(lost()).then([refund(1600), call_off(LOST)]);
    let by_hand = after(that_is_on_its_way(), [captured(), refund_requested(1, 1600)]);
    given(by_hand.clone()).when(lost()).then([call_off(LOST)]);
    is_over_after(after(by_hand.clone(), [lost(), cancelled(LOST)]), [refunded(1, 1600, 0)]);
    is_over_after(after(by_hand, [refunded(1, 1600, 0), lost()]), [cancelled(LOST)]);
}

#[test]
fn what_was_asked_for_by_hand_meanwhile_leaves_the_rest_to_be_given_back() {
    // The refund of everything was refused, since this one was faster.
    let undoing = after(that_is_on_its_way(), [captured(), lost(), cancelled(LOST)]);
    given(undoing.clone()).when(refund_requested(1, 300)).then([refund(1300)]);
    let undoing = after(undoing, [refund_requested(1, 300)]);
    is_over_after(undoing, [refunded(1, 300, 1300), refund_requested(2, 1300), refunded(2, 1300, 0)]);
}

// The gateway fails.

#[test]
fn money_that_was_not_taken_waits_for_a_person() {
    let failed = after(that_is_on_its_way(), [capture_failed()]);
    given(that_is_on_its_way()).when(capture_failed()).then_nothing();
    given(failed.clone()).when(delivered()).then_nothing();
    is_stuck(&that_is_on_its_way(), None);
    is_stuck(&failed, Some(Stuck::Capture));
    is_stuck(&after(failed, [delivered()]), Some(Stuck::Capture));
}

#[test]
fn money_that_was_not_taken_is_tried_again() {
    let failed = after(that_is_on_its_way(), [capture_failed(), delivered()]);
    given(failed.clone()).when(retried()).then([capture()]);
    let again = after(failed, [retried()]);
    is_stuck(&again, None);
    given(again.clone()).when(capture_failed()).then_nothing();
    is_stuck(&after(again.clone(), [capture_failed()]), Some(Stuck::Capture));
    given(after(again, [capture_requested()])).when(captured()).then([to_order(Complete {})]);
}

#[test]
fn money_that_was_not_taken_may_be_taken_or_waived_by_hand() {
    let failed = after(that_is_on_its_way(), [capture_failed(), delivered()]);
    given(failed.clone()).when(capture_requested()).then_nothing();
    is_stuck(&after(failed.clone(), [capture_requested()]), None);
    given(after(failed.clone(), [capture_requested()])).when(captured()).then([to_order(Complete {})]);
    given(failed.clone()).when(void_requested("Never mind")).then_nothing();
    let waived = after(failed, [void_requested("Never mind")]);
    given(waived.clone()).when(voided()).then([to_order(Complete {})]);
    is_over_after(after(waived, [voided()]), [completed()]);
}

#[test]
fn money_that_was_not_given_back_waits_for_a_person() {
    let undoing = after(that_is_on_its_way(), [captured(), lost(), cancelled(LOST), refund_requested(1, 1600)]);
    given(undoing.clone()).when(refund_failed(1)).then_nothing();
    is_stuck(&undoing, None);
    is_stuck(&after(undoing, [refund_failed(1)]), Some(Stuck::Refund));
}

#[test]
fn money_that_was_not_given_back_is_tried_again() {
    let undoing = [captured(), lost(), cancelled(LOST), refund_requested(1, 1600), refund_failed(1)];
    let failed = after(that_is_on_its_way(), undoing);
    given(failed.clone()).when(retried()).then([refund(1600)]);
    is_stuck(&after(failed.clone(), [retried()]), None);
    is_over_after(after(failed, [retried()]), [refund_requested(2, 1600), refunded(2, 1600, 0)]);
}

#[test]
fn money_that_was_not_given_back_may_be_given_back_by_hand() {
    let undoing = [captured(), lost(), cancelled(LOST), refund_requested(1, 1600), refund_failed(1)];
    let failed = after(that_is_on_its_way(), undoing);
    is_over_after(failed.clone(), [refund_requested(2, 1600), refunded(2, 1600, 0)]);
    // Only a part of it: the checkout sees to the rest.
    given(failed).when(refund_requested(2, 300)).then([refund(1300)]);
}

#[test]
fn trying_again_changes_nothing_where_nothing_failed() {
    for history in [vec![], vec![placed()], that_is_reserved(), that_is_paid(), that_is_to_be_shipped()] {
        given(history).when(retried()).then_nothing();
    }
    let parked = Parked { event: uuid::Uuid::nil(), reason: text("No reservation") };
    for history in [that_is_on_its_way(), after(that_is_on_its_way(), [captured()])] {
        given(history.clone()).when(retried()).then_nothing();
        given(history).when(of_checkout(parked.clone())).then_nothing();
    }
}

// People do by hand what the checkout does.

#[test]
fn what_is_rejected_by_hand_is_undone() {
    given(that_is_reserved()).when(rejected("Fraud")).then([release("MUG"), release("PLATE"), void("Fraud")]);
}

#[test]
fn what_is_called_off_by_hand_is_undone_once_the_goods_are_kept() {
    given(that_is_to_be_shipped()).when(cancelled("Fraud")).then([keep("Fraud")]);
    let stopping = after(that_is_to_be_shipped(), [cancelled("Fraud")]);
    given(stopping).when(kept("Fraud")).then([release("MUG"), release("PLATE"), void("Fraud")]);
}

#[test]
fn what_is_called_off_by_hand_and_leaves_all_the_same_is_not_charged() {
    let reason = "the goods left the house after the order was called off";
    let stopping = after(that_is_to_be_shipped(), [cancelled("Fraud")]);
    given(stopping.clone()).when(dispatched()).then([ship("MUG"), ship("PLATE"), void(reason)]);
    let undoing = after(stopping, [dispatched(), void_requested(reason)]);
    is_over_after(undoing, [shipped("MUG", 2), shipped("PLATE", 3), voided()]);
}

#[test]
fn what_is_called_off_by_hand_after_it_has_left_is_given_back() {
    let paid = after(that_is_on_its_way(), [captured(), delivered()]);
    given(paid.clone()).when(cancelled(LOST)).then([refund(1600)]);
    is_over_after(after(paid, [cancelled(LOST)]), [refund_requested(1, 1600), refunded(1, 1600, 0)]);
    given(that_is_on_its_way()).when(cancelled(LOST)).then_nothing();
    given(after(that_is_on_its_way(), [cancelled(LOST)])).when(captured()).then([refund(1600)]);
}

#[test]
fn what_is_voided_by_hand_is_not_sent() {
    let undone = [release("MUG"), release("PLATE"), reject("Never mind")];
    given(that_is_reserved()).when(void_requested("Never mind")).then(undone);
    let undone = [release("MUG"), release("PLATE"), call_off("Never mind")];
    given(that_is_paid()).when(void_requested("Never mind")).then(undone);
    given(that_is_to_be_shipped()).when(void_requested("Never mind")).then([keep("Never mind")]);
}

#[test]
fn what_is_captured_by_hand_is_not_captured_again() {
    let taken = after(that_is_to_be_shipped(), [capture_requested(), captured()]);
    let goes_on = [ship("MUG"), ship("PLATE"), to_order(ordering::Dispatch {})];
    given(taken.clone()).when(dispatched()).then(goes_on);
    // And is given back, if the goods are kept.
    given(taken).when(kept(LOST)).then([release("MUG"), release("PLATE"), refund(1600), call_off(LOST)]);
}

#[test]
fn what_is_completed_by_hand_is_over_once_it_is_paid_and_shipped() {
    let on_its_way = after(that_is_to_be_shipped(), [dispatched(), order_dispatched(), completed()]);
    is_over_after(on_its_way, [shipped("MUG", 2), captured(), shipped("PLATE", 3)]);
}

#[test]
fn what_is_released_by_hand_is_not_released_again() {
    let history = after(that_is_reserved(), [released("MUG", 2)]);
    given(history).when(payment_declined()).then([release("PLATE"), reject("Insufficient funds")]);
}

#[test]
fn goods_that_leave_without_a_reservation_are_for_a_person_to_look_at() {
    let history = after(that_is_to_be_shipped(), [released("MUG", 2)]);
    let goes_on = [ship("MUG"), ship("PLATE"), to_order(ordering::Dispatch {}), capture()];
    given(history).when(dispatched()).then(goes_on);
    let no_reservation = inventory::Refusal::NoReservation { order: order(1) };
    assert!(!foreseen(&ship("MUG"), &no_reservation.into()));
}

// And whatever comes in when it is over.

#[test]
fn nothing_follows_from_what_comes_before_or_after_it() {
    let everything = [
        reserved("MUG", 2),
        out_of_stock("MUG", 2, 1),
        released("MUG", 2),
        shipped("MUG", 2),
        payment_requested(),
        authorised(),
        payment_declined(),
        capture_requested(),
        captured(),
        capture_failed(),
        void_requested(CHANGED),
        voided(),
        refund_requested(1, 300),
        refunded(1, 300, 1300),
        refund_failed(1),
        confirmed(),
        order_dispatched(),
        completed(),
        rejected(CHANGED),
        cancelled(CHANGED),
        cancellation_requested(),
        of_order(CancellationDeclined {}),
        shipment_requested(),
        dispatched(),
        delivered(),
        lost(),
        kept(CHANGED),
        timed_out(Timeout::Payment),
        timed_out(Timeout::Dispatch),
        retried(),
    ];
    for event in everything {
        given(vec![]).when(event.clone()).then_nothing();
        assert_eq!(state(&[event]), Checkout::initial());
    }
}

#[test]
fn an_event_finds_its_order() {
    let of_another = of_stock("MUG", Received { quantity: quantity(2) });
    assert_eq!(Checkout::instance(&of_another), None);
    let events = [
        placed(),
        reserved("MUG", 2),
        out_of_stock("MUG", 2, 1),
        released("MUG", 2),
        shipped("MUG", 2),
        authorised(),
        dispatched(),
        retried(),
    ];
    let found: BTreeSet<_> = events.iter().map(Checkout::instance).collect();
    assert_eq!(found, BTreeSet::from([Some(order(1))]));
}

#[test]
fn only_a_person_lets_it_go_on() {
    assert!(Checkout::resumes(&retried()));
    assert!(!Checkout::resumes(&timed_out(Timeout::Payment)));
    assert!(!Checkout::resumes(&placed()));
}

#[test]
fn ten_thousand_lines_are_followed_one_by_one() {
    let names: Vec<String> = (0..10_000).map(|number| format!("SKU-{number}")).collect();
    let lines: Vec<(&str, i64, i64)> = names.iter().map(|name| (name.as_str(), 1, 1)).collect();
    let mut state = Checkout::evolve(Checkout::initial(), &of_order(Placed(sale(&lines))));
    let mut asked = Vec::new();
    for name in &names {
        let event = reserved(name, 1);
        asked.extend(Checkout::react(&state, &event));
        state = Checkout::evolve(state, &event);
    }
    assert_eq!(asked, [to_payment(payments::Request { amount: money(10_000, "GBP"), card: card("tok_visa") })]);
}

#[test]
fn a_reason_fits_whatever_the_stock_says() {
    let declined = of_stock("MUG", Declined { order: order(1), quantity: quantity(2), available: i64::MIN });
    let reason = Line::clipped(format!("MUG: 2 asked for, {} available", i64::MIN));
    given(vec![placed()]).when(declined).then([to_order(Reject { reason })]);
}
