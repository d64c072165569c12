//! Positions in the log, and what the log says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// Where an event stands in the log. Positions order the whole log: by commit, then by prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Where the transaction of the event was committed.
    pub commit: u64,
    /// Where the event itself was written.
    pub prepare: u64,
}

impl fmt::Display for Position {
    /// `commit/prepare`, as `Storefold-After` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.commit, self.prepare)
    }
}

/// A text that is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is two whole numbers as commit/prepare, such as 1234/1234")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    /// Reads only what [`Position`]'s `Display` writes: no sign, no blank, no leading zero.
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (commit, prepare) = text.split_once('/').ok_or(NotAPosition)?;
        Ok(Self { commit: whole_number(commit)?, prepare: whole_number(prepare)? })
    }
}

fn whole_number(text: &str) -> Result<u64, NotAPosition> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| NotAPosition) } else { Err(NotAPosition) }
}

/// What went wrong when the log was asked.
pub type LogError = Box<dyn std::error::Error + Send + Sync>;

/// What the log says of itself: where it ends, and whom its events are about.
#[async_trait]
pub trait LogHead: Send + Sync {
    /// The position of the last event; `None` while the log is empty.
    async fn head(&self) -> Result<Option<Position>, LogError>;

    /// How many events stand after `from` (from the beginning, if `None`) up to and including `to`. `None` when the log
    /// cannot tell without reading them.
    async fn events_between(&self, from: Option<Position>, to: Option<Position>) -> Option<u64>;

    /// The keys of a read model (ids of orders, SKUs) that events after `from` up to and including `to` are about. `None`
    /// when there are more than `most` of them, or when it would take too long to find out.
    ///
    /// # Errors
    /// When the log cannot be read.
    async fn keys_between(
        &self,
        read_model: &str,
        from: Option<Position>,
        to: Position,
        most: usize,
    ) -> Result<Option<BTreeSet<String>>, LogError>;
}

/// A moment in the life of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Everything counts up to the last event that was decided then or before.
    Time(DateTime<Utc>),
    /// Everything counts up to the event of this revision in the thing's own stream.
    Revision(u64),
}

/// The rows of one key as they were at a moment: by table, each row with its columns as the table has them. No rows: there
/// was no such thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AsOf {
    /// The rows.
    pub tables: BTreeMap<String, Vec<Map<String, Value>>>,
}

impl AsOf {
    /// The rows of a table, as a JSON array.
    pub(crate) fn rows(&self, table: &str) -> Value {
        let rows = self.tables.get(table).into_iter().flatten();
        rows.cloned().map(Value::Object).collect::<Vec<_>>().into()
    }
}

/// What happened to something is too much to fold, or cannot be folded; the log can be read all the same.
#[derive(Debug, thiserror::Error)]
#[error("what happened to it cannot be folded")]
pub struct NotFoldable(#[source] pub LogError);

/// How things were, from the log.
#[async_trait]
pub trait History: Send + Sync {
    /// The rows of a key of a read model as they were at a moment.
    ///
    /// # Errors
    /// When the log cannot be read; [`NotFoldable`] when the events are too many or cannot be folded.
    async fn as_of(&self, read_model: &str, key: &str, at: Moment) -> Result<AsOf, LogError>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_text_is_a_position() {
        assert_eq!("0/0".parse(), Ok(Position { commit: 0, prepare: 0 }));
        assert_eq!("18446744073709551615/7".parse(), Ok(Position { commit: u64::MAX, prepare: 7 }));
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "+1/1", "-1/1", " 1/1", "1/1 ", "01/1", "1/1.0", "a/b", "none"]
        {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text:?}");
        }
        assert_eq!("18446744073709551616/0".parse::<Position>(), Err(NotAPosition));
    }

    proptest! {
        #[test]
        fn a_position_reads_back(commit: u64, prepare: u64) {
            let position = Position { commit, prepare };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
