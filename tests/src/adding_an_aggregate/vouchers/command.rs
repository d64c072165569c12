//! What one may ask of a voucher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adding_an_aggregate::ids::{Line, OrderId};
use crate::adding_an_aggregate::money::Money;

/// A command to a voucher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Sell it.
    Issue(Issue),
    /// Pay for an order with it, or for a part of one.
    Redeem(Redeem),
    /// Take it out of use, with what is left of it.
    Void(Void),
}

crate::adding_an_aggregate::decider::payloads_are_commands!(Issue, Redeem, Void);

/// Sell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issue {
    /// What it is worth.
    pub value: Money,
}

/// Pay for an order with it, or for a part of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redeem {
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
}

/// Take it out of use, with what is left of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// Why.
    pub reason: Line,
}
