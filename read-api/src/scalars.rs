//! The scalars of the schema. Each refuses a malformed value while the request is validated, before anything is read.

use std::fmt;

use async_graphql::parser::types::{BaseType, Type};
use async_graphql::{InputType, InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{NaiveDate, SecondsFormat, Utc};

use crate::position::Position;

/// A UUID that names an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct Uuid(pub(crate) uuid::Uuid);

/// A UUID in its canonical text form, such as "0198c1a2-7c3e-7f7a-9d53-6a1b2c3d4e5f".
#[Scalar(name = "UUID", specified_by_url = "https://www.rfc-editor.org/rfc/rfc9562")]
impl ScalarType for Uuid {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(uuid::Uuid::try_parse(&text::<Self>(value)?)?))
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A moment, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct DateTime(pub(crate) chrono::DateTime<Utc>);

/// A moment as RFC 3339 writes it. Answers are in UTC with a "Z"; arguments may have any offset.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(chrono::DateTime::parse_from_rfc3339(&text::<Self>(value)?)?.with_timezone(&Utc)))
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, sqlx::Type, serde::Serialize)]
#[sqlx(transparent)]
pub(crate) struct Date(pub(crate) NaiveDate);

/// A day in UTC as the full-date of RFC 3339: "2010-12-01".
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6")]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = text::<Self>(value)?;
        // chrono accepts "2010-1-1" and signed years, which a full-date is not.
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return Err(InputValueError::custom("a day is written YYYY-MM-DD"));
        }
        Ok(Self(text.parse()?))
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// The number of an article.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct Sku(pub(crate) String);

/// The number of an article (stock keeping unit): 1 to 64 letters, digits, "_", "." or "-". Case matters.
#[Scalar]
impl ScalarType for Sku {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = text::<Self>(value)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            true => Ok(Self(text)),
            false => Err(InputValueError::custom("a SKU is 1 to 64 letters, digits, '_', '.' or '-'")),
        }
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// The code of a currency. What comes out of a read model is not checked again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct Currency(pub(crate) String);

/// The three-letter code of a currency in ISO 4217, such as "GBP".
#[Scalar(specified_by_url = "https://www.iso.org/iso-4217-currency-codes.html")]
impl ScalarType for Currency {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = text::<Self>(value)?;
        match iso_currency::Currency::from_code(&text) {
            Some(_) => Ok(Self(text)),
            None => Err(InputValueError::custom("not a currency code of ISO 4217")),
        }
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A whole number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct Long(pub(crate) i64);

/// A whole number of 64 bits, as a JSON number. A client whose numbers are doubles, as JavaScript's are, sees it exactly
/// up to 9,007,199,254,740,991 (2^53 - 1) and must read larger ones with a parser that keeps all digits.
#[Scalar]
impl ScalarType for Long {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => {
                number.as_i64().map(Self).ok_or_else(|| InputValueError::custom("not a whole number of 64 bits"))
            }
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::Number(number) if number.is_i64())
    }

    fn to_value(&self) -> Value {
        Value::from(self.0)
    }
}

/// A position in the log as "commit/prepare", two whole numbers: "1234/1234". A command answers with one, and the header
/// Storefold-After takes one.
#[Scalar]
impl ScalarType for Position {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(text::<Self>(value)?.parse::<Self>()?)
    }

    fn is_valid(value: &Value) -> bool {
        parses::<Self>(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Whether a value of a variable is so plainly one of its type that nothing else need look at it.
pub(crate) fn is_plainly(of: &Type, value: Option<&Value>) -> bool {
    let BaseType::Named(name) = &of.base else { return value.is_none() && of.nullable };
    match (value, name.as_str()) {
        (None | Some(Value::Null), _) => of.nullable,
        (Some(Value::Boolean(_)), "Boolean") | (Some(Value::String(_)), "String") => true,
        (Some(Value::Number(number)), "Int") => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        (Some(value), "UUID") => Uuid::is_valid(value),
        (Some(value), "DateTime") => DateTime::is_valid(value),
        (Some(value), "Date") => Date::is_valid(value),
        (Some(value), "Sku") => Sku::is_valid(value),
        (Some(value), "Currency") => Currency::is_valid(value),
        _ => false,
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn text<T: InputType>(value: Value) -> Result<String, InputValueError<T>> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(InputValueError::expected_type(other)),
    }
}

fn parses<T: ScalarType>(value: &Value) -> bool {
    T::parse(value.clone()).is_ok()
}
