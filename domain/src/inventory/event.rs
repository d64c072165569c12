//! What happens to the stock of a SKU.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Line, OrderId, Quantity};

crate::stored_events! {
    /// What happens to the stock of a SKU. The SKU is the id of the stream.
    pub enum Event {
        /// Units came in.
        Received => "StockReceived" schema 1,
        /// A count put the number on hand right.
        Adjusted => "StockAdjusted" schema 1,
        /// Units were set aside for an order.
        Reserved => "StockReserved" schema 1,
        /// An order asked for more than was available: lost demand.
        Declined => "StockReservationDeclined" schema 1,
        /// A reservation was given up.
        Released => "StockReservationReleased" schema 1,
        /// Reserved units left the house.
        Shipped => "StockReservationShipped" schema 1,
        /// The last unit on hand went.
        Depleted => "StockDepleted" schema 1,
        /// It was said how few available units are too few.
        ThresholdSet => "StockThresholdSet" schema 1,
        /// What is available fell to the threshold or below.
        RanLow => "StockRanLow" schema 1,
    }
}

/// Units came in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// How many.
    pub quantity: Quantity,
}

/// A count put the number on hand right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adjusted {
    /// Units on hand by the books.
    pub from: i64,
    /// Units on hand by the count.
    pub to: i64,
    /// Why the books were off.
    pub reason: Line,
}

/// Units were set aside for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reserved {
    /// For which order.
    pub order: OrderId,
    /// How many.
    pub quantity: Quantity,
}

/// An order asked for more than was available.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Declined {
    /// Which order.
    pub order: OrderId,
    /// How many it asked for.
    pub quantity: Quantity,
    /// How many there were.
    pub available: i64,
}

/// A reservation was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Whose reservation.
    pub order: OrderId,
    /// How many units became available again.
    pub quantity: Quantity,
}

/// Reserved units left the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shipped {
    /// Whose reservation.
    pub order: OrderId,
    /// How many units left.
    pub quantity: Quantity,
}

/// The last unit on hand went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Depleted {}

/// It was said how few available units are too few.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThresholdSet {
    /// At so many or fewer the stock is low.
    pub units: u32,
}

/// What is available fell to the threshold or below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RanLow {
    /// Units that can still be reserved.
    pub available: i64,
    /// At so many or fewer the stock is low.
    pub threshold: u32,
}
