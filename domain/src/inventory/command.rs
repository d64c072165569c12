//! What one may ask of the stock of a SKU.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Line, OrderId, Quantity};

/// A command to the stock of a SKU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Take units in.
    Receive(Receive),
    /// Set the number on hand to what was counted.
    Adjust(Adjust),
    /// Set units aside for an order; declined, as a fact, when there are too few.
    Reserve(Reserve),
    /// Give up an order's reservation.
    Release(Release),
    /// Hand an order's reserved units to the carrier.
    Ship(Ship),
    /// Say how few available units are too few.
    SetThreshold(SetThreshold),
}

crate::decider::payloads_are_commands!(Receive, Adjust, Reserve, Release, Ship, SetThreshold);

/// Take units in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// How many.
    pub quantity: Quantity,
}

/// Set the number on hand to what was counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjust {
    /// Units counted on the shelf, reserved ones included.
    pub counted: u32,
    /// Why the books were off.
    pub reason: Line,
}

/// Set units aside for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// For which order.
    pub order: OrderId,
    /// How many.
    pub quantity: Quantity,
}

/// Give up an order's reservation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Whose reservation.
    pub order: OrderId,
}

/// Hand an order's reserved units to the carrier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// Whose reservation.
    pub order: OrderId,
}

/// Say how few available units are too few.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetThreshold {
    /// At so many or fewer the stock is low.
    pub units: u32,
}
