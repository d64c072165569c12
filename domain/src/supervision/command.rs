//! What one may ask about a checkout.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::Line;

/// A command to the supervision of a checkout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// It waited too long for something.
    TimeOut(TimeOut),
    /// It cannot go on.
    Park(Park),
    /// Let it try again.
    Retry(Retry),
}

crate::decider::payloads_are_commands!(TimeOut, Park, Retry);

/// What a checkout can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Timeout {
    /// That the payment is authorised or declined.
    Payment,
    /// That the goods leave the house.
    Dispatch,
}

impl Timeout {
    /// The name under which it is stored and configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Dispatch => "dispatch",
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// It waited too long for something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeOut {
    /// For what.
    pub timeout: Timeout,
}

/// It cannot go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Park {
    /// The id of the event on which it cannot go on.
    pub event: Uuid,
    /// Why.
    pub reason: Line,
}

/// Let it try again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {}
