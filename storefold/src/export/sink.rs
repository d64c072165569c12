//! What writes events and rows in a format.

use std::io::{BufWriter, Write as _};

use anyhow::Context as _;
use event_store::RecordedEvent;

use super::cell::{Cell, Column, Row};
use super::output::Output;
use super::parquet::{Limits, Writer};
use super::{event, parquet};
use crate::cli::ExportFormat;
use crate::inspect;

/// How many bytes are written at a time.
const BUFFER: usize = 256 * 1024;

/// Writes a table in a format.
pub(super) enum Sink {
    /// A JSON object a line.
    Lines { out: BufWriter<Output>, columns: Vec<Column> },
    /// Apache Parquet.
    Parquet(Box<parquet::Writer<Output>>),
}

impl Sink {
    /// Begins a table. What it is `about` is written into formats that have a place for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(
        format: ExportFormat,
        columns: Vec<Column>,
        about: &[(&str, String)],
        output: Output,
    ) -> anyhow::Result<Self> {
        Ok(match format {
            ExportFormat::Ndjson => Self::Lines { out: BufWriter::with_capacity(BUFFER, output), columns },
            ExportFormat::Parquet => {
                let writer = Writer::begin(output, &columns, about, Limits::default());
                Self::Parquet(Box::new(writer.context(UNWRITTEN)?))
            }
        })
    }

    /// Writes an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn event(&mut self, event: &RecordedEvent) -> anyhow::Result<()> {
        match self {
            Self::Lines { out, .. } => writeln!(out, "{}", inspect::line(event)).context(UNWRITTEN),
            Self::Parquet(writer) => writer.row(event::cells(event)).context(UNWRITTEN),
        }
    }

    /// Writes a row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn row(&mut self, cells: Vec<Cell>) -> anyhow::Result<()> {
        match self {
            Self::Lines { out, columns } => {
                serde_json::to_writer(&mut *out, &Row(columns, &cells)).context(UNWRITTEN)?;
                writeln!(out).context(UNWRITTEN)
            }
            Self::Parquet(writer) => writer.row(cells).context(UNWRITTEN),
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn end(self) -> anyhow::Result<Output> {
        match self {
            Self::Lines { mut out, .. } => {
                out.flush().context(UNWRITTEN)?;
                out.into_inner().map_err(|error| error.into_error()).context(UNWRITTEN)
            }
            Self::Parquet(writer) => writer.end().context(UNWRITTEN),
        }
    }
}

const UNWRITTEN: &str = "the export cannot be written";
