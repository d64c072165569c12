//! Apache Parquet, row group by row group.
//!
//! The columns are written through the low-level writer: what goes through Arrow would cost the build four times as much,
//! for nothing that is wanted here.

use std::io::Write;
use std::sync::Arc;

use ::parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::Type;

use super::cell::{Cell, Column, Kind};

/// How large a row group may become before it is written: in rows, and in bytes of values. So much is held in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 100_000, bytes: 32 * 1024 * 1024 }
    }
}

/// Writes a table as a Parquet file.
pub(super) struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    limits: Limits,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file that says of itself what `about` says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(
        out: W,
        columns: &[Column],
        about: &[(&str, String)],
        limits: Limits,
    ) -> Result<Self, ParquetError> {
        let fields = columns.iter().map(|column| field(column).map(Arc::new)).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("row").with_fields(fields).build()?;
        let about = about.iter().map(|(key, value)| KeyValue::new(format!("storefold.{key}"), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("storefold {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(about.collect()));
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))?;
        let columns = columns.iter().map(|column| Values::of(column.kind)).collect();
        Ok(Self { file, limits, columns, rows: 0, bytes: 0 })
    }

    /// Takes a row: a cell a column.
    ///
    /// # Errors
    /// When it cannot be written, or a cell is not of its column's kind.
    pub(super) fn row(&mut self, cells: Vec<Cell>) -> Result<(), ParquetError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += column.push(cell)?;
        }
        self.rows += 1;
        if self.rows >= self.limits.rows || self.bytes >= self.limits.bytes { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        for values in &mut self.columns {
            let Some(mut column) = group.next_column()? else { break };
            values.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn end(mut self) -> Result<W, ParquetError> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.into_inner()
    }
}

/// A column as the file describes it. Any may have null.
fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        // What knows UUIDs and JSON as such reads them in different ways; text is text everywhere.
        Kind::Text | Kind::Uuid | Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::Int32 => (Physical::INT32, None),
        Kind::Int64 => (Physical::INT64, None),
        Kind::Date => (Physical::INT32, Some(LogicalType::Date)),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
    };
    let converted = ConvertedType::from(logical.clone());
    Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(converted)
        .with_logical_type(logical)
        .build()
}

/// The values of a column in a row group, and for each row whether there is one.
struct Values {
    some: Vec<i16>,
    of: Typed,
}

enum Typed {
    Bytes(Vec<ByteArray>),
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
}

impl Values {
    fn of(kind: Kind) -> Self {
        let of = match kind {
            Kind::Text | Kind::Uuid | Kind::Json => Typed::Bytes(Vec::new()),
            Kind::Bool => Typed::Bool(Vec::new()),
            Kind::Int32 | Kind::Date => Typed::Int32(Vec::new()),
            Kind::Int64 | Kind::Time => Typed::Int64(Vec::new()),
        };
        Self { some: Vec::new(), of }
    }

    /// Takes a value. Answers how many bytes it has.
    fn push(&mut self, cell: Cell) -> Result<usize, ParquetError> {
        self.some.push(i16::from(!matches!(cell, Cell::Null)));
        let text = |values: &mut Vec<ByteArray>, text: String| {
            let bytes = text.len() + size_of::<ByteArray>();
            values.push(text.into_bytes().into());
            bytes
        };
        Ok(match (&mut self.of, cell) {
            (_, Cell::Null) => size_of::<i16>(),
            (Typed::Bytes(values), Cell::Text(value)) => text(values, value),
            (Typed::Bytes(values), Cell::Uuid(id)) => text(values, id.to_string()),
            (Typed::Bytes(values), Cell::Json(json)) => text(values, json.get().to_owned()),
            (Typed::Bool(values), Cell::Bool(flag)) => pushed(values, flag),
            (Typed::Int32(values), Cell::Int32(number)) => pushed(values, number),
            (Typed::Int32(values), Cell::Date(day)) => pushed(values, day.to_epoch_days()),
            (Typed::Int64(values), Cell::Int64(number)) => pushed(values, number),
            (Typed::Int64(values), Cell::Time(time)) => pushed(values, time.timestamp_micros()),
            (_, cell) => return Err(ParquetError::General(format!("{cell:?} is of another kind than its column"))),
        })
    }

    /// Writes the values, and forgets them.
    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match &mut self.of {
            Typed::Bytes(values) => written::<ByteArrayType>(column, values, &self.some)?,
            Typed::Bool(values) => written::<BoolType>(column, values, &self.some)?,
            Typed::Int32(values) => written::<Int32Type>(column, values, &self.some)?,
            Typed::Int64(values) => written::<Int64Type>(column, values, &self.some)?,
        }
        self.some.clear();
        Ok(())
    }
}

fn written<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    some: &[i16],
) -> Result<(), ParquetError> {
    column.typed::<T>().write_batch(values, Some(some), None)?;
    values.clear();
    Ok(())
}

fn pushed<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    size_of::<T>()
}

#[cfg(test)]
mod tests {
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::{Field, RowAccessor as _};
    use bytes::Bytes;
    use chrono::{DateTime, NaiveDate};
    use uuid::Uuid;

    use super::*;

    fn table(rows: usize, limits: Limits) -> SerializedFileReader<Bytes> {
        let kinds = [Kind::Text, Kind::Uuid, Kind::Bool, Kind::Int32, Kind::Int64, Kind::Date, Kind::Time, Kind::Json];
        let columns = kinds.map(|kind| Column { name: format!("{kind:?}").to_lowercase(), kind });
        let about = [("position", "7/7".to_owned())];
        let mut writer = Writer::begin(Vec::new(), &columns, &about, limits).unwrap();
        for number in 0..rows {
            let json = serde_json::value::to_raw_value(&[number]).unwrap();
            let cells: Vec<Cell> = match number % 3 {
                2 => vec![Cell::Null; 8],
                _ => vec![
                    format!("text {number}").into(),
                    Uuid::from_u128(number as u128).into(),
                    (number % 3 == 1).into(),
                    (number as i32).into(),
                    (i64::MAX - number as i64).into(),
                    NaiveDate::from_epoch_days(number as i32 - 1).unwrap().into(),
                    DateTime::from_timestamp_micros(number as i64 - 1).unwrap().into(),
                    json.into(),
                ],
            };
            writer.row(cells).unwrap();
        }
        SerializedFileReader::new(Bytes::from(writer.end().unwrap())).unwrap()
    }

    const WIDE: Limits = Limits { rows: usize::MAX, bytes: usize::MAX };

    #[test]
    fn what_is_written_is_read() {
        let file = table(7, Limits { rows: 3, ..WIDE });
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        assert_eq!(rows.len(), 7);
        for (number, row) in rows.iter().enumerate() {
            if number % 3 == 2 {
                assert!(row.get_column_iter().all(|(_, field)| field.to_string() == "null"), "{row}");
                continue;
            }
            let id = Uuid::from_u128(number as u128).to_string();
            assert_eq!((row.get_string(0).unwrap(), row.get_string(1).unwrap()), (&format!("text {number}"), &id));
            assert_eq!((row.get_bool(2).unwrap(), row.get_int(3).unwrap()), (number % 3 == 1, number as i32));
            assert_eq!(row.get_long(4).unwrap(), i64::MAX - number as i64);
            let day = row.get_column_iter().nth(5).map(|(_, field)| field);
            assert_eq!(day, Some(&Field::Date(number as i32 - 1)));
            assert_eq!(row.get_timestamp_micros(6).unwrap(), number as i64 - 1);
            assert_eq!(row.get_string(7).unwrap(), &format!("[{number}]"));
        }
        let about = file.metadata().file_metadata().key_value_metadata().unwrap();
        assert_eq!((&*about[0].key, about[0].value.as_deref()), ("storefold.position", Some("7/7")));
    }

    #[test]
    fn a_row_group_ends_when_it_has_many_rows_or_bytes() {
        let groups = |rows, limits| table(rows, limits).num_row_groups();
        assert_eq!(groups(0, WIDE), 0);
        assert_eq!(groups(1_000, WIDE), 1);
        assert_eq!(groups(1_000, Limits { rows: 300, ..WIDE }), 4);
        assert!((10..200).contains(&groups(1_000, Limits { bytes: 2_000, ..WIDE })));
    }

    #[test]
    fn a_cell_of_another_kind_is_refused() {
        let column = Column { name: "number".to_owned(), kind: Kind::Int64 };
        let mut writer = Writer::begin(Vec::new(), &[column], &[], WIDE).unwrap();
        assert!(writer.row(vec![Cell::Text("one".to_owned())]).is_err());
    }
}
