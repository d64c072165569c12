//! What happens to a shipment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Line;
use crate::shipping::ParcelLine;

crate::stored_events! {
    /// What happens to a shipment. The shipment's id is the id of its stream, and of the order that is shipped.
    pub enum Event {
        /// The warehouse is asked to pack and send goods.
        Requested => "ShipmentRequested" schema 1,
        /// The goods went to the carrier.
        Dispatched => "ShipmentDispatched" schema 1,
        /// The goods arrived.
        Delivered => "ShipmentDelivered" schema 1,
        /// The goods got lost on the way.
        Lost => "ShipmentLost" schema 1,
        /// The goods stay in the house.
        Cancelled => "ShipmentCancelled" schema 1,
    }
}

/// The warehouse is asked to pack and send goods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// To which country.
    pub country: Line,
    /// What; each SKU once.
    pub lines: Vec<ParcelLine>,
}

/// The goods went to the carrier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatched {
    /// Who carries them.
    pub carrier: Line,
    /// The carrier's number for them.
    pub tracking: Line,
}

/// The goods arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delivered {}

/// The goods got lost on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// What is known of it.
    pub reason: Line,
}

/// The goods stay in the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Why.
    pub reason: Line,
}
