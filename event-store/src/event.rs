//! An event before and after it is appended.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Position, StreamName};

/// The name of an event's type: at most 100 bytes, without control characters, not starting with `$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Cow<'static, str>);

/// Why a text names no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} names no event type: 1 to {} bytes, no control character, not starting with '$'",
    EventType::MAX_BYTES
)]
pub struct InvalidEventType {
    /// The first characters of what was given.
    pub name: String,
}

impl EventType {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 100;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidEventType`] when it is empty, too long, has a control character or starts with `$`.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Result<Self, InvalidEventType> {
        let name = name.into();
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        if fits && !name.starts_with('$') && !name.chars().any(char::is_control) {
            Ok(Self(name))
        } else {
            Err(InvalidEventType { name: name.chars().take(80).collect() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Names the event. An append that is tried again carries the same ids, so that the log knows it.
    pub id: Uuid,
    /// What happened.
    pub event_type: EventType,
    /// The event as UTF-8 JSON.
    pub data: Bytes,
    /// Where it came from, as UTF-8 JSON; see [`Metadata`](crate::Metadata).
    pub metadata: Bytes,
}

impl NewEvent {
    /// How much of an append's size limit the event takes, in bytes.
    pub fn size(&self) -> usize {
        self.data.len() + self.metadata.len() + self.event_type.as_str().len()
    }
}

/// An event as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// In which stream it stands.
    pub stream: StreamName,
    /// Its place in the stream, from 0, without a gap.
    pub revision: u64,
    /// Its place in the whole log.
    pub position: Position,
    /// Names the event.
    pub id: Uuid,
    /// What happened.
    pub event_type: EventType,
    /// The event as UTF-8 JSON.
    pub data: Bytes,
    /// Where it came from, as UTF-8 JSON.
    pub metadata: Bytes,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
}
