//! What one may ask of a product.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Line, Text};
use crate::money::Money;

/// A product's description: up to 4,000 characters on one line.
pub type Description = Text<4_000>;

/// A command to a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Enter the product into the catalogue.
    List(List),
    /// Give it another name.
    Rename(Rename),
    /// Describe it.
    Describe(Describe),
    /// Give it another price, in the currency in which it is listed.
    ChangePrice(ChangePrice),
    /// Take it off sale.
    Discontinue(Discontinue),
    /// Put a discontinued product on sale again.
    Relist(Relist),
}

crate::decider::payloads_are_commands!(List, Rename, Describe, ChangePrice, Discontinue, Relist);

/// Enter a product into the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The name that customers see.
    pub name: Line,
    /// The price of one unit.
    pub price: Money,
}

/// Give a product another name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name.
    pub name: Line,
}

/// Describe a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// The new description.
    pub description: Description,
}

/// Give a product another price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePrice {
    /// The new price of one unit.
    pub price: Money,
}

/// Take a product off sale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discontinue {
    /// Why.
    pub reason: Line,
}

/// Put a discontinued product on sale again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relist {}
