//! What one may ask of an order.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CardToken, CustomerId, Line, Quantity, Sku};
use crate::money::{Currency, Price};

/// A command to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Place the order: the shop is to reserve, charge and ship.
    Place(Sale),
    /// Record an order that was traded elsewhere: complete at once, reserving and charging nothing.
    Record(Sale),
    /// The order is reserved and paid.
    Confirm(Confirm),
    /// The shop cannot take the order.
    Reject(Reject),
    /// The customer calls the order off: at once while it is only placed; a confirmed one if the goods can still be kept.
    Cancel(Cancel),
    /// The goods left the house.
    Dispatch(Dispatch),
    /// The shop calls the order off, having undone what was done for it.
    CallOff(CallOff),
    /// The goods arrived.
    Complete(Complete),
}

// A `Sale` is no command of its own: it may be placed or recorded.
crate::decider::payloads_are_commands!(Confirm, Reject, Cancel, Dispatch, CallOff, Complete);

/// What is bought, by whom, from where and at which prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sale {
    /// The number under which the customer or an older system knows the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Line>,
    /// Who bought; `null` for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// The country from which was bought.
    pub country: Line,
    /// The one currency of all prices.
    pub currency: Currency,
    /// When it was bought.
    pub placed_at: DateTime<Utc>,
    /// What was bought, in the customer's order. A SKU may stand on several lines.
    pub lines: Vec<OrderLine>,
    /// What is to be charged. An order that costs something needs it to be placed; one that is recorded has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardToken>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// The price of one unit at that moment, in minor units of the order's currency.
    #[serde(rename = "unit_price_minor")]
    pub unit_price: Price,
}

/// The order is reserved and paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {}

/// The shop cannot take the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Why.
    pub reason: Line,
}

/// The customer calls the order off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Why.
    pub reason: Line,
}

/// The goods left the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {}

/// The shop calls the order off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallOff {
    /// Why.
    pub reason: Line,
}

/// The goods arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {}
