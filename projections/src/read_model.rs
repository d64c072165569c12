//! What a read model is: a name, a version, tables, and a pure fold.

use event_store::StreamName;

use crate::rows::{NotLoaded, Tables};
use crate::shop_event::Happened;

/// A read model.
pub trait ReadModel: Send + Sync + 'static {
    /// Its name: lower case and `_`; part of the names of its schemas.
    const NAME: &'static str;
    /// The version of the tables and the fold. Whoever changes either counts it up; the new version is built from the
    /// log beside the old one and takes its place.
    const VERSION: i32;
    /// The categories of the streams whose events it takes.
    const CATEGORIES: &'static [&'static str];
    /// Creates the tables, without keys. Runs with the search path at the schema of one generation.
    const TABLES_SQL: &'static str;
    /// Adds the keys and indexes.
    const KEYS_SQL: &'static str;
    /// Its tables.
    type Tables: Tables;
    /// What becomes of an event that cannot be decoded or folded.
    const POISON: Poison = Poison::Park;

    /// A table and a column of it with the key, where every row of this read model stands in a table with that column and
    /// follows from the events of its key alone. Such a read model can be verified by samples, and repaired key by key.
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = None;

    /// What an event of this stream is about. When one event cannot be folded, the later ones of its key wait behind it, in
    /// order, and all others go on. So what shares a key is all that has to be folded in the order of the log; by default
    /// that is what shares an id: a product and its stock; an order, its payment and its shipment.
    fn key(stream: &StreamName) -> &str {
        stream.id()
    }

    /// Folds one event into the tables. Pure: it reads and writes rows and nothing else, and an event that means
    /// nothing to this read model changes nothing.
    ///
    /// # Errors
    /// [`FoldError::NotLoaded`] asks for a row, and the fold of this event starts again when it is there;
    /// [`FoldError::Broken`] says that the event cannot be.
    fn fold(tables: &mut Self::Tables, happened: &Happened) -> Result<(), FoldError>;
}

/// What becomes of an event that cannot be decoded or folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// It is set aside with its key, and everything else goes on.
    Park,
    /// Nothing further is folded until it can be.
    Stop,
}

/// Why an event could not be folded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FoldError {
    /// A row has to be loaded first.
    #[error("a row has to be loaded first")]
    NotLoaded,
    /// The event contradicts what came before it.
    #[error("{0}")]
    Broken(String),
}

impl From<NotLoaded> for FoldError {
    fn from(_: NotLoaded) -> Self {
        Self::NotLoaded
    }
}

/// The error of a fold that finds no row for an event that follows from another.
pub fn missing(what: &str, key: impl std::fmt::Display) -> FoldError {
    FoldError::Broken(format!("no {what} {key} is on record, though something happened to it"))
}

/// The error of a sum that left its range.
pub fn overflow(what: &str) -> FoldError {
    FoldError::Broken(format!("{what} is past what the table can hold"))
}
