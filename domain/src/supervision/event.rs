//! What happens to a checkout beside what its order, payment and shipment say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::Line;
use crate::supervision::Timeout;

crate::stored_events! {
    /// What happens to a checkout. The id of its stream is the order's.
    pub enum Event {
        /// It waited too long for something.
        TimedOut => "CheckoutTimedOut" schema 1,
        /// It cannot go on until somebody has looked at it.
        Parked => "CheckoutParked" schema 1,
        /// Somebody let it try again.
        Retried => "CheckoutRetried" schema 1,
    }
}

/// It waited too long for something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimedOut {
    /// For what.
    pub timeout: Timeout,
}

/// It cannot go on until somebody has looked at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    /// The id of the event on which it cannot go on.
    pub event: Uuid,
    /// Why.
    pub reason: Line,
}

/// Somebody let it try again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Retried {}
