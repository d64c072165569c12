//! Money in minor units of an ISO 4217 currency. Every sum is checked.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Quantity;

/// A text that is not the code of a currency in ISO 4217.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?} is not an ISO 4217 currency code such as GBP")]
pub struct UnknownCurrency {
    /// What was given.
    pub code: String,
}

/// A currency of ISO 4217, written as its three-letter code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The three-letter code.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimal digits the minor unit has: 2 for GBP, 0 for JPY, 3 for BHD. A currency without a minor unit
    /// (gold, XAU) counts as 0.
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;
    fn from_str(code: &str) -> Result<Self, UnknownCurrency> {
        let unknown = || UnknownCurrency { code: code.chars().take(16).collect() };
        iso_currency::Currency::from_code(code).map(Self).ok_or_else(unknown)
    }
}

impl TryFrom<String> for Currency {
    type Error = UnknownCurrency;
    fn try_from(code: String) -> Result<Self, UnknownCurrency> {
        code.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[A-Z]{3}$", "description": "A currency code of ISO 4217.", "examples": ["GBP"]
        })
    }
}

/// A price that is below zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a price is not negative: {given}")]
pub struct NegativePrice {
    /// What was given, in minor units.
    pub given: i64,
}

/// The price of one unit in minor units of a currency that stands elsewhere. Never negative; zero is a gift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(extend("minimum" = 0))]
pub struct Price(i64);

impl Price {
    /// Nothing to pay.
    pub const ZERO: Self = Self(0);

    /// The price in minor units.
    pub fn minor(self) -> i64 {
        self.0
    }

    /// What `quantity` units cost, in minor units; `None` past the range of `i64`.
    pub fn times(self, quantity: Quantity) -> Option<i64> {
        self.0.checked_mul(quantity.units())
    }
}

impl fmt::Display for Price {
    /// As a number of minor units; [`Money`] knows how they are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<i64> for Price {
    type Error = NegativePrice;
    fn try_from(given: i64) -> Result<Self, NegativePrice> {
        if given >= 0 { Ok(Self(given)) } else { Err(NegativePrice { given }) }
    }
}

impl From<Price> for i64 {
    fn from(price: Price) -> i64 {
        price.0
    }
}

/// An amount of money that is not negative, with its currency: `{"minor": 1250, "currency": "GBP"}` is £12.50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// The amount in minor units of the currency.
    pub minor: Price,
    /// The currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    /// As a decimal with the currency behind it: `12.50 GBP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.exponent();
        let unit = 10_i64.pow(digits);
        let (whole, rest) = (self.minor.0 / unit, self.minor.0 % unit);
        match digits {
            0 => write!(f, "{whole} {}", self.currency),
            _ => write!(f, "{whole}.{rest:0width$} {}", self.currency, width = digits as usize),
        }
    }
}

#[cfg(test)]
mod tests;
