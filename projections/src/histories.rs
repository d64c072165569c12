//! Histories for the properties of read models: whatever the deciders allow, however odd, with everybody commanding by
//! hand and nobody seeing a checkout through.

use std::collections::HashMap;
use std::fmt::Display;

use domain::decider::Decider;
use domain::ids::{OrderId, PaymentId, ShipmentId, Sku};
use domain::inventory::{self, Stock};
use domain::ordering::{self, Order, Sale};
use domain::payments::{self, Payment};
use domain::shipping::{self, Shipment};
use domain::supervision::{self, Supervision, Timeout};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop_event::ShopEvent;

/// What came of a history.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) events: Vec<ShopEvent>,
    pub(crate) orders: States<Order>,
    pub(crate) payments: States<Payment>,
    pub(crate) shipments: States<Shipment>,
    pub(crate) supervisions: States<Supervision>,
    pub(crate) stocks: States<Stock>,
}

/// The aggregates of a kind, by their ids as text.
pub(crate) struct States<D: Decider>(pub(crate) HashMap<String, D::State>);

impl<D: Decider> Default for States<D> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<D: Decider> States<D> {
    pub(crate) fn get(&self, id: impl Display) -> D::State {
        self.0.get(&id.to_string()).cloned().unwrap_or_else(D::initial)
    }

    /// What one of these commands leads to, of those that are not refused and change something.
    fn ask<const N: usize>(&mut self, id: &D::Id, commands: [Value; N], pick: usize) -> Vec<D::Event>
    where
        D::Command: DeserializeOwned,
    {
        let state = self.get(id);
        let decide = |command| D::decide(&state, serde_json::from_value(command).unwrap()).unwrap_or_default();
        let mut possible: Vec<_> = commands.into_iter().map(decide).filter(|events| !events.is_empty()).collect();
        let events = if possible.is_empty() { vec![] } else { possible.swap_remove(pick % possible.len()) };
        self.0.insert(id.to_string(), events.iter().fold(state, D::evolve));
        events
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.events).finish()
    }
}

/// A history of a few orders and SKUs.
pub(crate) fn any_history() -> impl Strategy<Value = History> {
    let choice = (0..3_u128, 0..12_u8, 0..1000_usize, 1..12_i64);
    prop::collection::vec(choice, 0..150).prop_map(|choices| {
        let mut history = History::default();
        choices.into_iter().for_each(|(who, kind, pick, many)| history.go_on(who, kind, pick, many));
        history
    })
}

impl History {
    /// Adds what one command leads to. The likely ones stand several times.
    fn go_on(&mut self, who: u128, kind: u8, pick: usize, many: i64) {
        let id = Uuid::from_u128(who);
        let reason = || json!({ "reason": "so it is" });
        let events: Vec<_> = match kind {
            0..3 => {
                let order = OrderId(id);
                let commands = [
                    json!({ "place": sale(many) }),
                    json!({ "place": sale(many) }),
                    json!({ "record": Sale { card: None, ..sale(many) } }),
                    json!({ "confirm": {} }),
                    json!({ "confirm": {} }),
                    json!({ "reject": reason() }),
                    json!({ "cancel": reason() }),
                    json!({ "dispatch": {} }),
                    json!({ "dispatch": {} }),
                    json!({ "call-off": reason() }),
                    json!({ "complete": {} }),
                ];
                let events = self.orders.ask(&order, commands, pick).into_iter();
                events.map(|event| ShopEvent::Ordering(order, event)).collect()
            }
            3..7 => {
                let payment = PaymentId(id);
                let money = |minor: i64| json!({ "minor": minor, "currency": "GBP" });
                let left = self.payments.get(payment).map_or(0, |payment| payment.refundable_minor());
                let refund = |minor| json!({ "refund": { "amount": money(minor), "reason": "so it is" } });
                let refunded = |number| json!({ "record-refunded": { "number": number } });
                let failed = json!({ "record-refund-failed": { "number": many % 3 + 1, "reason": "so it is" } });
                let commands = [
                    json!({ "request": { "amount": money(100 * many), "card": "tok" } }),
                    json!({ "record-authorised": { "reference": "a" } }),
                    json!({ "record-authorised": { "reference": "a" } }),
                    json!({ "record-declined": reason() }),
                    json!({ "capture": { "amount": money(100 * many) } }),
                    json!({ "capture": { "amount": money(100) } }),
                    json!({ "record-captured": { "reference": "c" } }),
                    json!({ "record-captured": { "reference": "c" } }),
                    json!({ "record-capture-failed": reason() }),
                    json!({ "void": reason() }),
                    json!({ "record-voided": {} }),
                    refund(left),
                    refund(10 * many),
                    refunded(1),
                    refunded(2),
                    refunded(3),
                    failed,
                ];
                let events = self.payments.ask(&payment, commands, pick).into_iter();
                events.map(|event| ShopEvent::Payments(payment, event)).collect()
            }
            7..9 => {
                let shipment = ShipmentId(id);
                let commands = [
                    json!({ "request": { "country": "EIRE", "lines": [{ "sku": "S0", "quantity": many }] } }),
                    json!({ "dispatch": { "carrier": "Post", "tracking": "1" } }),
                    json!({ "dispatch": { "carrier": "Post", "tracking": "1" } }),
                    json!({ "deliver": {} }),
                    json!({ "report-lost": reason() }),
                    json!({ "cancel": reason() }),
                ];
                let events = self.shipments.ask(&shipment, commands, pick).into_iter();
                events.map(|event| ShopEvent::Shipping(shipment, event)).collect()
            }
            9 => {
                let order = OrderId(id);
                let commands = [
                    json!({ "time-out": { "timeout": Timeout::Payment } }),
                    json!({ "time-out": { "timeout": Timeout::Dispatch } }),
                    json!({ "park": { "event": id, "reason": "so it is" } }),
                    json!({ "retry": {} }),
                    json!({ "retry": {} }),
                ];
                let events = self.supervisions.ask(&order, commands, pick).into_iter();
                events.map(|event| ShopEvent::Supervision(order, event)).collect()
            }
            _ => {
                let sku: Sku = format!("S{who}").parse().unwrap();
                let order = OrderId(Uuid::from_u128(u128::from(many.unsigned_abs()) % 3));
                let commands = [
                    json!({ "receive": { "quantity": many } }),
                    json!({ "adjust": { "counted": many, "reason": "so it is" } }),
                    json!({ "reserve": { "order": order, "quantity": many / 2 + 1 } }),
                    json!({ "reserve": { "order": order, "quantity": many / 2 + 1 } }),
                    json!({ "release": { "order": order } }),
                    json!({ "ship": { "order": order } }),
                    json!({ "set-threshold": { "units": many } }),
                ];
                let events = self.stocks.ask(&sku, commands, pick).into_iter();
                events.map(|event| ShopEvent::Inventory(sku.clone(), event)).collect()
            }
        };
        self.events.extend(events);
    }

    /// The orders that were placed, by their status.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (Uuid, ordering::Status)> + '_ {
        self.events.iter().filter_map(|event| match event {
            ShopEvent::Ordering(order, ordering::Event::Placed(_)) => {
                Some((order.0, self.orders.get(order).unwrap().status))
            }
            _ => None,
        })
    }
}

fn sale(units: i64) -> Sale {
    let sale = json!({
        "country": "EIRE", "currency": "GBP", "placed_at": "2026-01-01T08:00:00Z", "card": "tok",
        "customer": (units % 2 == 0).then_some(Uuid::from_u128(7)),
        "lines": [
            { "sku": "S0", "quantity": units, "unit_price_minor": 100 },
            { "sku": "S1", "quantity": 1, "unit_price_minor": 5 },
        ],
    });
    serde_json::from_value(sale).unwrap()
}

/// Whether a payment can still move money of the customer's.
pub(crate) fn is_settled(payment: Option<&payments::PaymentState>) -> bool {
    payment.is_none_or(|payment| match payment.status {
        payments::Status::Declined | payments::Status::Voided => true,
        payments::Status::Captured => payment.captured_minor == payment.refunded_minor,
        _ => false,
    })
}

/// Whether a shipment may still leave the house.
pub(crate) fn may_leave(shipment: Option<&shipping::ShipmentState>) -> bool {
    shipment.is_some_and(|shipment| shipment.status == shipping::Status::Requested)
}

/// The threshold of a stock that is low.
pub(crate) fn low_at(stock: &inventory::StockState) -> Option<i64> {
    stock.threshold.map(i64::from).filter(|threshold| stock.available <= *threshold)
}

/// Why a checkout cannot go on.
pub(crate) fn parked(state: &supervision::SupervisionState) -> Option<String> {
    state.parked.as_ref().map(ToString::to_string)
}
