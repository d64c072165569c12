//! Everything that can happen in a small world, in whatever order.
//!
//! The deciders, the checkout and the charging are the real ones. Around them stand a process manager that executes the
//! commands of a reaction in any order, crashes between any two of them and repeats what it had not saved; a gateway whose
//! answers come late or twice; a warehouse; and people who do what they are allowed to at any moment. Each world is small,
//! and every moment of it is visited.
//!
//! At every moment: no more is taken than the order costs, nor given back than was taken; no goods are sent that nobody
//! pays for; no refusal is unforeseen, and behind a foreseen one there is an event on its way. At rest: every checkout is
//! over, or waits for a person after a capture or a refund that failed; every order has ended; nothing stays set aside; the
//! books of the stock are right; the money is with the shop if the goods arrived, else with the customer. And from
//! everywhere some way leads to where everything is over.

mod checks;
mod lab;
mod search;
mod world;

use search::{Report, explore};
use world::{Item, May, World};

use crate::fixtures::{money, order, payment, shipment, sku, text};
use crate::ids::OrderId;
use crate::inventory::Release;
use crate::ordering::{CallOff, Cancel, Complete, Reject};
use crate::payments::{Capture, Void};
use crate::processes::checkout::Command;
use crate::shipping;

/// An order of two mugs for ten pounds.
fn mugs(number: u128) -> (OrderId, Vec<Item>) {
    (order(number), vec![("MUG", 2, 500)])
}

/// An order of a mug and a plate for ten pounds.
fn mug_and_plate(number: u128) -> (OrderId, Vec<Item>) {
    (order(number), vec![("MUG", 1, 400), ("PLATE", 1, 600)])
}

/// A customer cancels.
fn cancel(number: u128) -> Command {
    Command::Order(order(number), Cancel { reason: text("Changed my mind") }.into())
}

/// The warehouse keeps what it was to send.
fn keep(number: u128) -> Command {
    Command::Shipment(shipment(number), shipping::Cancel { reason: text("Broken") }.into())
}

/// The shop rejects by hand.
fn reject(number: u128) -> Command {
    Command::Order(order(number), Reject { reason: text("Fraud") }.into())
}

/// The shop calls off by hand.
fn call_off(number: u128) -> Command {
    Command::Order(order(number), CallOff { reason: text("Fraud") }.into())
}

/// The shop completes by hand.
fn complete(number: u128) -> Command {
    Command::Order(order(number), Complete {}.into())
}

/// Somebody has the money taken by hand.
fn capture(number: u128) -> Command {
    Command::Payment(payment(number), Capture { amount: money(1000, "GBP") }.into())
}

/// Somebody lets the money go by hand.
fn void(number: u128) -> Command {
    Command::Payment(payment(number), Void { reason: text("Never mind") }.into())
}

/// Somebody gives the goods of an order free by hand.
fn release(number: u128) -> Command {
    Command::Stock(sku("MUG"), Release { order: order(number) }.into())
}

impl Report {
    /// Asserts how the orders end, and which races a checkout loses on the way.
    #[track_caller]
    fn has(&self, ends: &[&str], races: &[&str]) {
        assert_eq!(self.ends.iter().collect::<Vec<_>>(), ends, "how it ends");
        assert_eq!(self.races.iter().map(|race| &**race).collect::<Vec<_>>(), races, "the races that are lost");
        assert!(self.nodes < 70_000, "{} moments: a smaller world says as much", self.nodes);
    }
}

#[test]
fn a_gateway_that_declines_or_does_not_answer_in_time() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        declines: true,
        times_out: true,
        people: vec![cancel(1)],
        may: May { repeat: 1, ..May::default() },
        ..World::default()
    });
    report.has(
        &["cancelled", "completed", "rejected"],
        &[
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "confirm: cannot-confirm cancelled",
            "reject: cannot-reject cancelled",
            "void: cannot-void declined",
        ],
    );
}

#[test]
fn goods_that_stay_or_get_lost() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        times_out: true,
        loses: true,
        people: vec![cancel(1), keep(1)],
        ..World::default()
    });
    report.has(
        &["cancelled", "completed", "rejected"],
        &[
            "cancel: cannot-cancel cancelled",
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "cancel: cannot-cancel lost",
            "confirm: cannot-confirm cancelled",
            "reject: cannot-reject cancelled",
        ],
    );
}

#[test]
fn money_that_is_neither_taken_nor_given_back_at_first() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        loses: true,
        helps: true,
        may: May { fail_capture: 2, fail_refund: 2, refund: 1, ..May::default() },
        ..World::default()
    });
    report.has(&["cancelled", "completed"], &["refund: refund-exceeds-captured"]);
}

#[test]
fn money_that_people_take_let_go_and_give_back_by_hand() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        loses: true,
        people: vec![capture(1), void(1)],
        may: May { fail_capture: 1, refund: 1, ..May::default() },
        ..World::default()
    });
    report.has(
        &["cancelled", "completed", "rejected"],
        &[
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "cancel: cannot-cancel lost",
            "capture: cannot-capture captured",
            "capture: cannot-capture capturing",
            "capture: cannot-capture voided",
            "capture: cannot-capture voiding",
            "refund: refund-exceeds-captured",
            "void: cannot-void captured",
            "void: cannot-void capturing",
            "void: cannot-void voided",
            "void: cannot-void voiding",
        ],
    );
}

#[test]
fn orders_that_people_end_by_hand() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        declines: true,
        loses: true,
        people: vec![reject(1), call_off(1), complete(1), keep(1), void(1), release(1)],
        ..World::default()
    });
    report.has(
        &["cancelled", "completed", "rejected"],
        &[
            "call-off: cannot-call-off cancelled",
            "call-off: cannot-call-off completed",
            "call-off: cannot-call-off rejected",
            "cancel: cannot-cancel cancelled",
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "cancel: cannot-cancel lost",
            "capture: cannot-capture voided",
            "capture: cannot-capture voiding",
            "complete: cannot-complete cancelled",
            "complete: cannot-complete completed",
            "confirm: cannot-confirm rejected",
            "dispatch: cannot-dispatch cancelled",
            "reject: cannot-reject rejected",
            "release: no-reservation",
            "void: cannot-void declined",
            "void: cannot-void voided",
            "void: cannot-void voiding",
        ],
    );
}

#[test]
fn two_kinds_of_goods() {
    let report = explore(World {
        orders: vec![mug_and_plate(1)],
        stock: vec![("MUG", 1), ("PLATE", 1)],
        loses: true,
        people: vec![cancel(1)],
        ..World::default()
    });
    report.has(
        &["cancelled", "completed"],
        &[
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "cancel: cannot-cancel lost",
            "confirm: cannot-confirm cancelled",
        ],
    );
}

#[test]
fn crashes_with_two_kinds_of_goods() {
    let report = explore(World {
        orders: vec![mug_and_plate(1)],
        stock: vec![("MUG", 1), ("PLATE", 1)],
        loses: true,
        people: vec![keep(1)],
        may: May { crash: 1, ..May::default() },
        ..World::default()
    });
    report.has(&["cancelled", "completed"], &[]);
}

#[test]
fn two_kinds_of_goods_of_which_one_is_out_of_stock() {
    let report = explore(World {
        orders: vec![mug_and_plate(1)],
        stock: vec![("MUG", 1), ("PLATE", 0)],
        people: vec![cancel(1), release(1)],
        may: May { crash: 2, ..May::default() },
        ..World::default()
    });
    report.has(&["cancelled", "rejected"], &["reject: cannot-reject cancelled", "release: no-reservation"]);
}

#[test]
fn two_orders_for_goods_that_are_enough_for_one() {
    let report =
        explore(World { orders: vec![mugs(1), mugs(2)], stock: vec![("MUG", 3)], declines: true, ..World::default() });
    report.has(&["completed, rejected", "rejected, completed", "rejected, rejected"], &[]);
}

#[test]
fn two_orders_that_get_into_each_others_way() {
    let report = explore(World {
        orders: vec![mug_and_plate(1), mug_and_plate(2)],
        stock: vec![("MUG", 1), ("PLATE", 1)],
        ..World::default()
    });
    report.has(&["completed, rejected", "rejected, completed", "rejected, rejected"], &[]);
}

#[test]
fn crashes_before_the_goods_have_left() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        declines: true,
        times_out: true,
        people: vec![cancel(1)],
        may: May { crash: 1, ..May::default() },
        ..World::default()
    });
    report.has(
        &["cancelled", "completed", "rejected"],
        &[
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "confirm: cannot-confirm cancelled",
            "reject: cannot-reject cancelled",
            "void: cannot-void declined",
        ],
    );
}

#[test]
fn crashes_after_the_goods_have_left() {
    let report = explore(World {
        orders: vec![mugs(1)],
        stock: vec![("MUG", 2)],
        loses: true,
        helps: true,
        may: May { crash: 1, fail_capture: 1, fail_refund: 1, refund: 1, ..May::default() },
        ..World::default()
    });
    report.has(&["cancelled", "completed"], &["refund: refund-exceeds-captured"]);
}

#[test]
fn an_order_that_costs_nothing() {
    let report = explore(World {
        orders: vec![(order(1), vec![("MUG", 1, 0), ("PLATE", 1, 0)])],
        stock: vec![("MUG", 1), ("PLATE", 1)],
        times_out: true,
        loses: true,
        people: vec![cancel(1)],
        may: May { crash: 1, ..May::default() },
        ..World::default()
    });
    report.has(
        &["cancelled", "completed"],
        &[
            "cancel: cannot-cancel delivered",
            "cancel: cannot-cancel dispatched",
            "cancel: cannot-cancel lost",
            "confirm: cannot-confirm cancelled",
        ],
    );
}

#[test]
fn an_order_that_cannot_be_taken() {
    let report = explore(World {
        orders: vec![(order(1), vec![("MUG", 1_000_000_000, 0), ("MUG", 1, 0)])],
        stock: vec![("MUG", 1)],
        people: vec![cancel(1)],
        may: May { crash: 1, ..May::default() },
        ..World::default()
    });
    report.has(&["cancelled", "rejected"], &["reject: cannot-reject cancelled"]);
}
