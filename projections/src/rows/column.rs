//! The types that a column can have, and their binary form in Postgres's `copy`.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::types::Json;
use uuid::Uuid;

/// A type that a column can have.
pub trait Column: Sized {
    /// Its name in SQL.
    const SQL: &'static str;
    /// Appends the value in the binary format of `copy`: its length in bytes, then its bytes.
    fn copy(&self, out: &mut Vec<u8>);
    /// Reads what [`copy`](Self::copy) has written after the length; there are no bytes for null. `None` when these bytes are
    /// no such value.
    fn parse(bytes: Option<&[u8]>) -> Option<Self>;
}

/// Implements [`Column`] for a type by the bytes of its binary form.
macro_rules! column {
    ($($type:ty, $sql:literal, |$value:ident| $bytes:expr, |$read:ident| $parsed:expr;)*) => { $(
        impl Column for $type {
            const SQL: &'static str = $sql;
            fn copy(&self, out: &mut Vec<u8>) {
                let $value = self;
                sized(out, $bytes.as_ref());
            }
            fn parse(bytes: Option<&[u8]>) -> Option<Self> {
                let $read = bytes?;
                $parsed
            }
        }
    )* };
}

// Postgres counts microseconds, and days, from the start of 2000.
const MICROS_TO_2000: i64 = 946_684_800_000_000;
const DAYS_TO_2000: i32 = 10_957;

column! {
    Uuid, "uuid", |id| id.as_bytes(), |bytes| Self::from_slice(bytes).ok();
    String, "text", |text| text.as_bytes(), |bytes| Some(std::str::from_utf8(bytes).ok()?.to_owned());
    i32, "int4", |number| number.to_be_bytes(), |bytes| Some(Self::from_be_bytes(bytes.try_into().ok()?));
    i64, "int8", |number| number.to_be_bytes(), |bytes| Some(Self::from_be_bytes(bytes.try_into().ok()?));
    bool, "bool", |flag| [u8::from(*flag)], |bytes| Some(*bytes.first()? != 0);
    DateTime<Utc>, "timestamptz", |time| (time.timestamp_micros() - MICROS_TO_2000).to_be_bytes(),
        |bytes| Self::from_timestamp_micros(i64::parse(Some(bytes))?.checked_add(MICROS_TO_2000)?);
    NaiveDate, "date", |day| (day.to_epoch_days() - DAYS_TO_2000).to_be_bytes(),
        |bytes| Self::from_epoch_days(i32::parse(Some(bytes))?.checked_add(DAYS_TO_2000)?);
}

impl<T: Column> Column for Option<T> {
    const SQL: &'static str = T::SQL;
    fn copy(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.copy(out),
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    fn parse(bytes: Option<&[u8]>) -> Option<Self> {
        match bytes {
            Some(bytes) => T::parse(Some(bytes)).map(Some),
            None => Some(None),
        }
    }
}

impl<T: serde::Serialize + serde::de::DeserializeOwned> Column for Json<T> {
    const SQL: &'static str = "jsonb";
    fn copy(&self, out: &mut Vec<u8>) {
        // The first byte is the version of the format. A value without a JSON form is null, as sqlx has it.
        let mut bytes = vec![1];
        if serde_json::to_writer(&mut bytes, &self.0).is_err() {
            bytes.truncate(1);
            bytes.extend(b"null");
        }
        sized(out, &bytes);
    }
    fn parse(bytes: Option<&[u8]>) -> Option<Self> {
        serde_json::from_slice(bytes?.get(1..)?).ok().map(Self)
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // A value past 2 GiB does not fit into a row anyway; the server refuses the length.
    out.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// The values of a row that was written column by column.
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The values of a row as [`Row::copy`](super::Row::copy) has written it.
    pub fn of(row: &'a [u8]) -> Option<Self> {
        // Every row says first how many columns follow.
        row.get(2..).map(Self)
    }

    /// The next value; `None` when it is no such value, or there is none.
    #[expect(clippy::should_implement_trait, reason = "each value is of another type")]
    pub fn next<C: Column>(&mut self) -> Option<C> {
        let (length, rest) = self.0.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.0 = rest;
            return C::parse(None);
        };
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        C::parse(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comes_back<C: Column + PartialEq + std::fmt::Debug>(value: &C) {
        let mut row = 1_i16.to_be_bytes().to_vec();
        value.copy(&mut row);
        let mut fields = Fields::of(&row).unwrap();
        assert_eq!(fields.next::<C>().as_ref(), Some(value));
        assert_eq!(fields.next::<C>(), None, "there is no second one");
        // What broke off is no value.
        let short = Fields::of(&row[..row.len() - 1]).and_then(|mut fields| fields.next::<C>());
        assert_ne!(short.as_ref(), Some(value));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            number: i64, small: i32, flag: bool, text: Option<String>, id: [u8; 16],
            micros in -60_000_000_000_000_000_i64..200_000_000_000_000_000, days in -700_000_i32..2_000_000,
        ) {
            comes_back(&number);
            comes_back(&small);
            comes_back(&flag);
            comes_back(&text);
            comes_back(&Uuid::from_bytes(id));
            comes_back(&DateTime::from_timestamp_micros(micros).unwrap());
            comes_back(&NaiveDate::from_epoch_days(days).unwrap());
            comes_back(&Json(vec![(text.unwrap_or_default(), number, i64::from(small))]));
        }
    }
}
