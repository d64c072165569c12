//! Columns and values as every format gets them.

use chrono::{DateTime, NaiveDate, Utc};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Uuid,
    Json,
    Bool,
    Int32,
    Int64,
    Date,
    Time,
}

/// A column of an exported table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A value of a column. Every column may have null.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Null,
    Text(String),
    Uuid(Uuid),
    Json(Box<RawValue>),
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Date(NaiveDate),
    Time(DateTime<Utc>),
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! cells {
    ($($type:ty => $kind:ident),* $(,)?) => { $(
        impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self::$kind(value)
            }
        }
    )* };
}

cells! {
    String => Text, Uuid => Uuid, Box<RawValue> => Json, bool => Bool, i32 => Int32, i64 => Int64, NaiveDate => Date,
    DateTime<Utc> => Time,
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Text(text) => text.serialize(serializer),
            Self::Uuid(id) => id.serialize(serializer),
            Self::Json(json) => json.serialize(serializer),
            Self::Bool(flag) => flag.serialize(serializer),
            Self::Int32(number) => number.serialize(serializer),
            Self::Int64(number) => number.serialize(serializer),
            Self::Date(day) => day.serialize(serializer),
            Self::Time(time) => time.serialize(serializer),
        }
    }
}

/// A row as an object whose keys are the columns, in their order.
pub(super) struct Row<'a>(pub(super) &'a [Column], pub(super) &'a [Cell]);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (column, cell) in self.0.iter().zip(self.1) {
            object.serialize_entry(&column.name, cell)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_object_in_the_order_of_its_columns() {
        let json = RawValue::from_string("[[\"A\",1,9007199254740993]]".to_owned()).unwrap();
        let cells: [(&str, Kind, Cell); 10] = [
            ("text", Kind::Text, "a \"quoted\" line\n".to_owned().into()),
            ("id", Kind::Uuid, Uuid::from_u128(7).into()),
            ("lines", Kind::Json, json.into()),
            ("counted", Kind::Bool, true.into()),
            ("line_no", Kind::Int32, (-3).into()),
            ("total_minor", Kind::Int64, i64::MAX.into()),
            ("day", Kind::Date, NaiveDate::from_ymd_opt(2011, 1, 31).unwrap().into()),
            ("at", Kind::Time, DateTime::from_timestamp_micros(1_296_432_000_000_000).unwrap().into()),
            ("exactly", Kind::Time, DateTime::from_timestamp_micros(1_296_432_000_000_001).unwrap().into()),
            ("absent", Kind::Time, None::<DateTime<Utc>>.into()),
        ];
        let columns = cells.each_ref().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: *kind });
        let row = serde_json::to_string(&Row(&columns, &cells.map(|(.., cell)| cell))).unwrap();
        assert_eq!(
            row,
            "{\"text\":\"a \\\"quoted\\\" line\\n\",\"id\":\"00000000-0000-0000-0000-000000000007\",\
             \"lines\":[[\"A\",1,9007199254740993]],\"counted\":true,\"line_no\":-3,\"total_minor\":9223372036854775807,\
             \"day\":\"2011-01-31\",\"at\":\"2011-01-31T00:00:00Z\",\"exactly\":\"2011-01-31T00:00:00.000001Z\",\
             \"absent\":null}"
        );
    }
}
