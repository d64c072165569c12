//! Vouchers by example.

use std::collections::BTreeMap;

use super::*;
use crate::adding_an_aggregate::fixtures::{money, order, text};
use crate::adding_an_aggregate::ids::OrderId;
use crate::adding_an_aggregate::testing::{assert_golden, given};

fn issue(minor: i64) -> Issue {
    Issue { value: money(minor, "GBP") }
}

fn redeem(order: OrderId, minor: i64) -> Redeem {
    Redeem { order, amount: money(minor, "GBP") }
}

fn void() -> Void {
    Void { reason: text("Reported stolen") }
}

fn issued(minor: i64) -> Event {
    Issued { value: money(minor, "GBP") }.into()
}

fn redeemed(order: OrderId, minor: i64) -> Event {
    Redeemed { order, amount: money(minor, "GBP") }.into()
}

fn voided(left: i64) -> Event {
    Voided { left: money(left, "GBP"), reason: text("Reported stolen") }.into()
}

#[test]
fn a_voucher_is_issued() {
    given::<Voucher>([]).when(issue(5_000)).then([issued(5_000)]);
}

#[test]
fn a_voucher_is_issued_once() {
    given::<Voucher>([issued(5_000)])
        .when(issue(5_000))
        .then_refused(Refusal::AlreadyIssued { value: money(5_000, "GBP") });
}

#[test]
fn a_voucher_is_worth_something() {
    given::<Voucher>([]).when(issue(0)).then_refused(Refusal::NoAmount);
}

#[test]
fn everything_else_needs_a_voucher() {
    given::<Voucher>([]).when(redeem(order(1), 100)).then_refused(Refusal::NotIssued);
    given::<Voucher>([]).when(void()).then_refused(Refusal::NotIssued);
}

#[test]
fn a_voucher_is_redeemed_in_parts_to_the_last_penny() {
    given::<Voucher>([issued(5_000)]).when(redeem(order(1), 3_000)).then([redeemed(order(1), 3_000)]);
    given::<Voucher>([issued(5_000), redeemed(order(1), 3_000)])
        .when(redeem(order(2), 2_000))
        .then([redeemed(order(2), 2_000)]);
}

#[test]
fn no_more_is_redeemed_than_is_left() {
    given::<Voucher>([issued(5_000), redeemed(order(1), 3_000)])
        .when(redeem(order(2), 2_001))
        .then_refused(Refusal::NotEnough { left: money(2_000, "GBP"), asked: money(2_001, "GBP") });
    given::<Voucher>([issued(5_000)])
        .when(redeem(order(1), i64::MAX))
        .then_refused(Refusal::NotEnough { left: money(5_000, "GBP"), asked: money(i64::MAX, "GBP") });
}

#[test]
fn something_is_redeemed() {
    given::<Voucher>([issued(5_000)]).when(redeem(order(1), 0)).then_refused(Refusal::NoAmount);
}

#[test]
fn a_voucher_pays_in_its_own_currency() {
    let (voucher, asked) = (money(5_000, "GBP"), money(100, "EUR"));
    given::<Voucher>([issued(5_000)])
        .when(Redeem { order: order(1), amount: asked })
        .then_refused(Refusal::OtherCurrency { voucher: voucher.currency, asked: asked.currency });
}

#[test]
fn the_same_payment_again_is_no_news() {
    let paid = [issued(5_000), redeemed(order(1), 3_000)];
    given::<Voucher>(paid.clone()).when(redeem(order(1), 3_000)).then_nothing();
    given::<Voucher>(paid.into_iter().chain([voided(2_000)])).when(redeem(order(1), 3_000)).then_nothing();
}

#[test]
fn an_order_is_paid_for_once() {
    given::<Voucher>([issued(5_000), redeemed(order(1), 3_000)])
        .when(redeem(order(1), 500))
        .then_refused(Refusal::AlreadyRedeemed { order: order(1), amount: money(3_000, "GBP") });
}

#[test]
fn a_voucher_is_taken_out_of_use_with_what_is_left_of_it() {
    given::<Voucher>([issued(5_000), redeemed(order(1), 3_000)]).when(void()).then([voided(2_000)]);
}

#[test]
fn a_voucher_that_is_out_of_use_stays_so() {
    let void_already = [issued(5_000), voided(5_000)];
    given::<Voucher>(void_already.clone()).when(void()).then_nothing();
    given::<Voucher>(void_already)
        .when(redeem(order(1), 100))
        .then_refused(Refusal::IsVoid { reason: text("Reported stolen") });
}

#[test]
fn its_history_makes_a_voucher() {
    given::<Voucher>([issued(5_000), redeemed(order(1), 3_000), voided(2_000)]).then_state(Some(VoucherState {
        value: money(5_000, "GBP"),
        left: money(0, "GBP"),
        redeemed: BTreeMap::from([(order(1), money(3_000, "GBP"))]),
        voided: Some(text("Reported stolen")),
    }));
    given::<Voucher>([redeemed(order(1), 3_000)]).then_state(None);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::NotEnough { left: money(2_000, "GBP"), asked: money(2_001, "GBP") };
    assert_eq!(refusal.to_string(), "20.01 GBP were asked for, 20.00 GBP are left");
    let shown = serde_json::json!({
        "refusal": "not-enough",
        "left": { "minor": 2_000, "currency": "GBP" },
        "asked": { "minor": 2_001, "currency": "GBP" },
    });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/adding_an_aggregate/vouchers/golden"));
}
