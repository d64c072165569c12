//! What a stream's metadata hides from its readers.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What the name of a stream's metadata starts with.
pub(super) const METASTREAM_PREFIX: &str = "$$";
/// As `$tb`: the stream was deleted, until it is written to again.
pub(super) const SOFT_DELETED: u64 = i64::MAX as u64;

/// Which of a stream's events readers see: those that no rule hides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Retention {
    /// `$maxCount`: the last so many.
    max_count: Option<u64>,
    /// `$maxAge`, in seconds: the ones that are not older.
    max_age: Option<Duration>,
    /// `$tb`: the ones from this revision on.
    truncate_before: u64,
}

impl Retention {
    pub(super) fn parse(metadata: &Value) -> Self {
        let number = |name: &str| metadata.get(name).and_then(Value::as_u64);
        Self {
            max_count: number("$maxCount"),
            max_age: number("$maxAge").map(Duration::from_secs),
            truncate_before: number("$tb").unwrap_or(0),
        }
    }

    /// Of metadata, only the last is seen.
    pub(super) fn of_metastream() -> Self {
        Self { max_count: Some(1), ..Self::default() }
    }

    pub(super) fn is_soft_deleted(&self) -> bool {
        self.truncate_before == SOFT_DELETED
    }

    /// How many events at the beginning of a stream with this last revision are hidden, whatever their age.
    pub(super) fn hidden(&self, last: u64) -> u64 {
        let count = last.saturating_add(1);
        self.truncate_before.max(self.max_count.map_or(0, |max| count.saturating_sub(max)))
    }

    pub(super) fn is_too_old(&self, created: SystemTime, now: SystemTime) -> bool {
        self.max_age.is_some_and(|max| now.duration_since(created).is_ok_and(|age| age >= max))
    }
}
