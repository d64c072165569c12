//! What names a stream.

use std::fmt;
use std::sync::Arc;

/// The name of a stream: `{category}-{id}`, at most 200 bytes, without control characters.
///
/// Names that start with `$` belong to the log itself and are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// Why a text names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} names no stream: 1 to {} bytes, no control character, not starting with '$'", StreamName::MAX_BYTES)]
pub struct InvalidStreamName {
    /// The first characters of what was given.
    pub name: String,
}

impl StreamName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidStreamName`] when it is empty, too long, has a control character or starts with `$`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidStreamName> {
        let name = name.as_ref();
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        if fits && !name.starts_with('$') && !name.chars().any(char::is_control) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidStreamName { name: name.chars().take(80).collect() })
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `-`; the whole name when there is none.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }

    /// What stands after the first `-`; empty when there is none.
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
