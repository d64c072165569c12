//! What happens to a customer's account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::customers::Contact;
use crate::ids::Line;

crate::stored_events! {
    /// What happens to a customer's account. The customer's id is the id of the stream.
    pub enum Event {
        /// The account was opened.
        Registered => "CustomerRegistered" schema 1,
        /// The ways to reach the customer were replaced.
        ContactChanged => "CustomerContactChanged" schema 1,
        /// The account was closed for good.
        Closed => "CustomerClosed" schema 1,
    }
}

/// An account was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The number under which an older system knows the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Line>,
    /// How to reach them.
    pub contact: Contact,
}

/// The ways to reach a customer were replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContactChanged {
    /// All of the new ways.
    pub contact: Contact,
}

/// An account was closed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Closed {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Line>,
}
