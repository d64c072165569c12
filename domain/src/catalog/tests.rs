//! The catalogue by example.

use super::*;
use crate::fixtures::{money, text};
use crate::money::Money;
use crate::testing::{assert_golden, assert_snapshot, given};

fn gbp(minor: i64) -> Money {
    money(minor, "GBP")
}

fn list() -> List {
    List { name: text("Lantern"), price: gbp(425) }
}

fn rename(name: &str) -> Rename {
    Rename { name: text(name) }
}

fn describe(description: &str) -> Describe {
    Describe { description: text(description) }
}

fn discontinue() -> Discontinue {
    Discontinue { reason: text("Out of season") }
}

fn listed() -> Event {
    Listed { name: text("Lantern"), price: gbp(425) }.into()
}

fn renamed(name: &str) -> Event {
    Renamed { name: text(name) }.into()
}

fn described(description: &str) -> Event {
    Described { description: text(description) }.into()
}

fn repriced(from: i64, to: i64) -> Event {
    PriceChanged { from: gbp(from), to: gbp(to) }.into()
}

fn discontinued() -> Event {
    Discontinued { reason: text("Out of season") }.into()
}

fn relisted() -> Event {
    Relisted {}.into()
}

#[test]
fn a_product_is_listed() {
    given::<Product>([]).when(list()).then([listed()]);
}

#[test]
fn a_product_is_listed_once() {
    given::<Product>([listed()]).when(list()).then_refused(Refusal::AlreadyListed { status: Status::Listed });
    given::<Product>([listed(), discontinued()])
        .when(list())
        .then_refused(Refusal::AlreadyListed { status: Status::Discontinued });
}

#[test]
fn everything_else_needs_a_listed_product() {
    let others: [Command; 5] = [
        rename("Lamp").into(),
        describe("Red").into(),
        ChangePrice { price: gbp(1) }.into(),
        discontinue().into(),
        Relist {}.into(),
    ];
    for command in others {
        given::<Product>([]).when(command).then_refused(Refusal::NotListed);
    }
}

#[test]
fn a_product_is_renamed() {
    given::<Product>([listed()]).when(rename("Lamp")).then([renamed("Lamp")]);
}

#[test]
fn the_same_name_is_no_news() {
    given::<Product>([listed(), renamed("Lamp")]).when(rename("Lamp")).then_nothing();
}

#[test]
fn a_product_is_described() {
    given::<Product>([listed()]).when(describe("Red")).then([described("Red")]);
}

#[test]
fn the_same_description_is_no_news() {
    given::<Product>([listed(), described("Red")]).when(describe("Red")).then_nothing();
}

#[test]
fn a_price_is_changed() {
    given::<Product>([listed(), repriced(425, 450)]).when(ChangePrice { price: gbp(399) }).then([repriced(450, 399)]);
}

#[test]
fn the_same_price_is_no_news() {
    given::<Product>([listed()]).when(ChangePrice { price: gbp(425) }).then_nothing();
}

#[test]
fn a_price_keeps_its_currency() {
    let price = money(425, "EUR");
    given::<Product>([listed()])
        .when(ChangePrice { price })
        .then_refused(Refusal::CurrencyMismatch { listed: gbp(0).currency, offered: price.currency });
}

#[test]
fn a_product_is_discontinued() {
    given::<Product>([listed()]).when(discontinue()).then([discontinued()]);
}

#[test]
fn a_product_is_discontinued_once() {
    given::<Product>([listed(), discontinued()]).when(discontinue()).then_refused(Refusal::AlreadyDiscontinued);
}

#[test]
fn a_discontinued_product_is_relisted_and_may_be_discontinued_again() {
    given::<Product>([listed(), discontinued()]).when(Relist {}).then([relisted()]);
    given::<Product>([listed(), discontinued(), relisted()]).when(discontinue()).then([discontinued()]);
}

#[test]
fn a_product_on_sale_is_not_relisted() {
    given::<Product>([listed()]).when(Relist {}).then_refused(Refusal::NotDiscontinued);
}

#[test]
fn a_discontinued_product_can_be_put_right() {
    given::<Product>([listed(), discontinued()]).when(rename("Lamp")).then([renamed("Lamp")]);
    given::<Product>([listed(), discontinued()]).when(describe("Red")).then([described("Red")]);
    given::<Product>([listed(), discontinued()]).when(ChangePrice { price: gbp(1) }).then([repriced(425, 1)]);
}

#[test]
fn its_history_makes_a_product() {
    let history = [listed(), renamed("Lamp"), described("Red"), repriced(425, 450), discontinued()];
    given::<Product>(history).then_state(Some(ProductState {
        status: Status::Discontinued,
        name: text("Lamp"),
        description: Some(text("Red")),
        price: gbp(450),
    }));
    given::<Product>([renamed("Lamp"), relisted()]).then_state(None);
}

#[test]
fn a_product_is_shown_with_these_names() {
    let state = crate::decider::fold::<Product>(&[listed()]);
    let shown = serde_json::json!({
        "status": "listed", "name": "Lantern", "description": null, "price": { "minor": 425, "currency": "GBP" }
    });
    assert_eq!(serde_json::to_value(state).unwrap(), shown);
}

#[test]
fn a_refusal_carries_its_figures() {
    let refusal = Refusal::CurrencyMismatch { listed: gbp(0).currency, offered: money(0, "EUR").currency };
    assert_eq!(refusal.to_string(), "the product is priced in GBP, not in EUR");
    let shown = serde_json::json!({ "refusal": "currency-mismatch", "listed": "GBP", "offered": "EUR" });
    assert_eq!(serde_json::to_value(refusal).unwrap(), shown);
}

#[test]
fn snapshots_stay_what_they_are() {
    let history = [listed(), renamed("Lamp"), described("Red"), repriced(425, 450), discontinued(), relisted()];
    assert_snapshot::<Product>(history, concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalog/snapshot.json"));
}

#[test]
fn stored_events_stay_readable() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalog/golden"));
}
