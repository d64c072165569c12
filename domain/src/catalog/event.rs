//! What happens to a product.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::Description;
use crate::ids::Line;
use crate::money::Money;

crate::stored_events! {
    /// What happens to a product. The product's SKU is the id of its stream.
    pub enum Event {
        /// It entered the catalogue.
        Listed => "ProductListed" schema 1,
        /// It got another name.
        Renamed => "ProductRenamed" schema 1,
        /// It was described.
        Described => "ProductDescribed" schema 1,
        /// It got another price.
        PriceChanged => "ProductPriceChanged" schema 1,
        /// It was taken off sale.
        Discontinued => "ProductDiscontinued" schema 1,
        /// It was put on sale again.
        Relisted => "ProductRelisted" schema 1,
    }
}

/// A product entered the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// The name that customers see.
    pub name: Line,
    /// The price of one unit.
    pub price: Money,
}

/// A product got another name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Renamed {
    /// The new name.
    pub name: Line,
}

/// A product was described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Described {
    /// The new description.
    pub description: Description,
}

/// A product got another price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceChanged {
    /// What one unit cost until then.
    pub from: Money,
    /// What one unit costs from then on.
    pub to: Money,
}

/// A product was taken off sale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Discontinued {
    /// Why.
    pub reason: Line,
}

/// A discontinued product was put on sale again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Relisted {}
