//! What names things: ids, codes, quantities and short texts, each a type of its own that is valid by construction.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the id it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a UUID.
    #[error("{text:?} is not a UUID such as 0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2")]
    NotAUuid {
        /// What was given.
        text: String,
    },
    /// Not a stock keeping unit.
    #[error("{text:?} is no SKU: 1 to {} letters, digits, '_', '.' or '-'", Sku::MAX_LEN)]
    NotASku {
        /// What was given.
        text: String,
    },
}

/// Declares a newtype over a UUID.
macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            /// Only the hyphenated form in lower case names a stream; another spelling would name another stream.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text)
                    .ok()
                    .filter(|id| id.as_hyphenated().to_string() == text)
                    .map(Self)
                    .ok_or_else(|| InvalidId::NotAUuid { text: text.chars().take(80).collect() })
            }
        }
    };
}

uuid_id! {
    /// Names an order.
    OrderId
}
uuid_id! {
    /// Names a customer.
    CustomerId
}
uuid_id! {
    /// Names a payment. An order has one payment, which has the order's id: see [`PaymentId::of`].
    PaymentId
}
uuid_id! {
    /// Names a shipment. An order has one shipment, which has the order's id: see [`ShipmentId::of`].
    ShipmentId
}

impl PaymentId {
    /// The payment of an order.
    pub fn of(order: OrderId) -> Self {
        Self(order.0)
    }

    /// The order that is paid for.
    pub fn order(self) -> OrderId {
        OrderId(self.0)
    }
}

impl ShipmentId {
    /// The shipment of an order.
    pub fn of(order: OrderId) -> Self {
        Self(order.0)
    }

    /// The order that is shipped.
    pub fn order(self) -> OrderId {
        OrderId(self.0)
    }
}

/// A stock keeping unit: 1 to 64 ASCII letters, digits, `_`, `.` or `-`. Upper and lower case are different SKUs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[A-Za-z0-9_.-]{1,64}$"))]
pub struct Sku(String);

impl Sku {
    /// The longest SKU, in characters.
    pub const MAX_LEN: usize = 64;

    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidId::NotASku { text: text.chars().take(80).collect() })
        }
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> String {
        sku.0
    }
}

impl FromStr for Sku {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a number is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a quantity is a whole number from 1 to {}, not {given}", Quantity::MAX)]
pub struct InvalidQuantity {
    /// What was given.
    pub given: i64,
}

/// How many units: a whole number from 1 to a billion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(extend("minimum" = 1, "maximum" = Quantity::MAX))]
pub struct Quantity(i64);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Quantity {
    /// The largest quantity.
    pub const MAX: i64 = 1_000_000_000;

    /// The number of units.
    pub fn units(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = InvalidQuantity;
    fn try_from(given: i64) -> Result<Self, InvalidQuantity> {
        if (1..=Self::MAX).contains(&given) { Ok(Self(given)) } else { Err(InvalidQuantity { given }) }
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> i64 {
        quantity.0
    }
}

/// A text that is not one of 1 to `max` printable characters. It is not repeated: it may be about a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}; a text here has 1 to {max} characters, no control characters and no blanks at its ends")]
pub struct InvalidText {
    /// What is wrong with it.
    pub fault: TextFault,
    /// The most characters that are allowed.
    pub max: usize,
}

/// What can be wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// It has no characters.
    #[error("the text is empty")]
    Empty,
    /// It has too many characters.
    #[error("the text has {length} characters")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// It has a line break, a tab or the like in it.
    #[error("the text has a control character in it")]
    ControlCharacter,
    /// It begins or ends with a blank.
    #[error("the text begins or ends with a blank")]
    BlankEnds,
}

/// A text of 1 to `MAX` characters, without control characters and without blanks at its ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

/// A name, a reference, a country, a reason: one line of at most 200 characters.
pub type Line = Text<200>;

/// What a payment gateway knows a card by: not the card's number, and still nothing for a log file, so it is not shown in
/// debug output.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CardToken(Line);

impl CardToken {
    /// The token itself, for the gateway.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for CardToken {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for CardToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardToken(…)")
    }
}

impl<const MAX: usize> Text<MAX> {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of a text as fits: control characters become blanks, and what is too long is cut off. Nothing becomes `-`.
    pub fn clipped(text: impl fmt::Display) -> Self {
        let text = text.to_string().replace(char::is_control, " ");
        let clipped: String = text.trim().chars().take(MAX).collect();
        match clipped.trim_end() {
            "" => Self("-".to_owned()),
            text => Self(text.to_owned()),
        }
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = InvalidText;
    fn try_from(text: String) -> Result<Self, InvalidText> {
        let fault = match text.chars().count() {
            0 => TextFault::Empty,
            length if length > MAX => TextFault::TooLong { length },
            _ if text.chars().any(char::is_control) => TextFault::ControlCharacter,
            _ if text.trim() != text => TextFault::BlankEnds,
            _ => return Ok(Self(text)),
        };
        Err(InvalidText { fault, max: MAX })
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> String {
        text.0
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        Self::try_from(text.to_owned())
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Text{MAX}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": MAX,
            "description": "Without control characters, and without blanks at its ends."
        })
    }
}

#[cfg(test)]
mod tests;
