//! What one may ask of a customer's account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Line;

/// A command to a customer's account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Open the account.
    Register(Register),
    /// Replace the ways to reach the customer.
    ChangeContact(ChangeContact),
    /// Close the account for good.
    Close(Close),
}

crate::decider::payloads_are_commands!(Register, ChangeContact, Close);

/// How to reach a customer. What is absent is unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The name to address them by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Line>,
    /// An e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Line>,
    /// A telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Line>,
}

/// Open an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The number under which an older system knows the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Line>,
    /// How to reach them.
    #[serde(default)]
    pub contact: Contact,
}

/// Replace the ways to reach a customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeContact {
    /// All of the new ways; what is absent is forgotten.
    pub contact: Contact,
}

/// Close an account for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Line>,
}
