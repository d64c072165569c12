//! What one may ask of a shipment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Line, Quantity, Sku};

/// A command to a shipment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Ask the warehouse to pack and send goods.
    Request(Request),
    /// The goods went to the carrier.
    Dispatch(Dispatch),
    /// The goods arrived.
    Deliver(Deliver),
    /// The goods got lost on the way.
    ReportLost(ReportLost),
    /// The goods stay in the house.
    Cancel(Cancel),
}

crate::decider::payloads_are_commands!(Request, Dispatch, Deliver, ReportLost, Cancel);

/// Ask the warehouse to pack and send goods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// To which country.
    pub country: Line,
    /// What; each SKU once.
    pub lines: Vec<ParcelLine>,
}

/// Goods of one kind in a shipment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParcelLine {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// The goods went to the carrier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// Who carries them.
    pub carrier: Line,
    /// The carrier's number for them.
    pub tracking: Line,
}

/// The goods arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {}

/// The goods got lost on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportLost {
    /// What is known of it.
    pub reason: Line,
}

/// The goods stay in the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Why.
    pub reason: Line,
}
