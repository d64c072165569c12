//! What happens to an order.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CardToken, CustomerId, Line};
use crate::money::Currency;
use crate::ordering::OrderLine;

crate::stored_events! {
    /// What happens to an order. The order's id is the id of its stream.
    pub enum Event {
        /// It was placed with the shop.
        Placed => "OrderPlaced" schema 1,
        /// It was traded elsewhere and is on record here, complete.
        Recorded => "OrderRecorded" schema 1,
        /// It is reserved and paid.
        Confirmed => "OrderConfirmed" schema 1,
        /// The customer wants it called off, and the shop tries to.
        CancellationRequested => "OrderCancellationRequested" schema 1,
        /// It could not be called off any more: the goods had left the house.
        CancellationDeclined => "OrderCancellationDeclined" schema 1,
        /// The goods left the house.
        Dispatched => "OrderDispatched" schema 1,
        /// The shop could not take it.
        Rejected => "OrderRejected" schema 1,
        /// It was called off.
        Cancelled => "OrderCancelled" schema 1,
        /// The goods arrived.
        Completed => "OrderCompleted" schema 1,
    }
}

/// An order was placed with the shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Placed(pub SaleMade);

/// An order that was traded elsewhere is on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Recorded(pub SaleMade);

/// What was bought, by whom, from where and at which prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SaleMade {
    /// The number under which the customer or an older system knows the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Line>,
    /// Who bought; absent for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// The country from which was bought.
    pub country: Line,
    /// The one currency of all prices.
    pub currency: Currency,
    /// When it was bought.
    pub placed_at: DateTime<Utc>,
    /// What was bought, in the customer's order.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines, in minor units of the currency.
    pub total_minor: i64,
    /// What is charged; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardToken>,
}

/// An order is reserved and paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {}

/// A customer wants a confirmed order called off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancellationRequested {
    /// Why.
    pub reason: Line,
}

/// An order could not be called off any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancellationDeclined {}

/// The goods of an order left the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatched {}

/// The shop could not take an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// Why.
    pub reason: Line,
}

/// An order was called off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Why.
    pub reason: Line,
}

/// The goods of an order arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completed {}
