//! The port: what a log can do, whichever it is.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::subscription::{self, Subscription};
use crate::{Filter, NewEvent, Position, RecordedEvent, StreamName};

/// The largest append: the sum of [`NewEvent::size`] in bytes. EventStoreDB before 25.1 takes no more, so none does.
pub const MAX_APPEND_BYTES: usize = 1_000_000;
/// The most events in one append.
pub const MAX_APPEND_EVENTS: usize = 10_000;
/// About how many bytes of events a page has at most, whatever the limit of events.
pub(crate) const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// What an appender expects of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Whatever: the append always succeeds.
    Any,
    /// The stream has no event.
    NoStream,
    /// The stream has an event.
    Exists,
    /// The last event of the stream has this revision.
    Exact(u64),
    /// The last event of the stream has this revision, and this id. What was decided on a stream does not hold on another that is
    /// as long: a log that lost its end, for it was restored or its standby was behind, may have other events there by now.
    /// Postgres and memory compare the id. KurrentDB takes it as [`Exact`](Self::Exact): it cannot compare, and does
    /// not lose what a majority of its nodes has.
    After {
        /// The revision of the last event.
        revision: u64,
        /// Its id.
        id: Uuid,
    },
}

impl Expected {
    /// The expectation that a stream is just as it was read: `None` means that it had no event.
    pub fn last(revision: Option<u64>) -> Self {
        revision.map_or(Self::NoStream, Self::Exact)
    }

    /// Whether a stream whose last revision is `actual` (`None`: no event) is as expected, but for the id of the event.
    pub fn holds(self, actual: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::Exists => actual.is_some(),
            Self::Exact(revision) | Self::After { revision, .. } => actual == Some(revision),
        }
    }

    /// The revision that the first event of an append gets, where the expectation says it.
    pub(crate) fn first_revision(self) -> Option<u64> {
        match self {
            Self::NoStream => Some(0),
            Self::Exact(revision) | Self::After { revision, .. } => revision.checked_add(1),
            Self::Any | Self::Exists => None,
        }
    }
}

/// Events for one stream, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// To which stream.
    pub stream: StreamName,
    /// What the appender expects of it.
    pub expected: Expected,
    /// What happened, in order. At least one event.
    pub events: Vec<NewEvent>,
}

/// Where an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The revision of its last event.
    pub revision: u64,
    /// The position of its last event.
    pub position: Position,
}

/// Why an append did not happen, or is not known to have happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The stream is not as expected; nothing was written.
    #[error("the stream {stream} is not as expected: expected {expected:?}, its last revision is {actual:?}")]
    Conflict {
        /// Which stream.
        stream: StreamName,
        /// What was expected.
        expected: Expected,
        /// Its last revision; `None` when it has no event.
        actual: Option<u64>,
    },
    /// The append breaks a limit of the log; nothing was written.
    #[error(
        "an append has 1 to {MAX_APPEND_EVENTS} events and at most {MAX_APPEND_BYTES} bytes: this one has {events} and {bytes}"
    )]
    Limit {
        /// How many events it has.
        events: usize,
        /// How many bytes it has.
        bytes: usize,
    },
    /// The log takes nothing at the moment; nothing was written.
    #[error("the log takes nothing at the moment")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The answer was lost: it may have been written, or still be. The same append with the same ids is safe to repeat
    /// when it expects `NoStream` or an exact revision.
    #[error("the log did not say whether it took the events")]
    Unknown(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Why the log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log could not be read")]
pub struct ReadError(#[source] pub Arc<dyn std::error::Error + Send + Sync>);

/// A reader stands past the end of the log: it has read another log, or this one was restored from before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log ends at {}, but was read up to {after} before: it is another log, or was restored from a backup. What was \
     folded from it has to be rebuilt", .head.map_or("its beginning".to_owned(), |head| head.to_string())
)]
pub struct PastTheEnd {
    /// Where the log ends; `None` when it is empty.
    pub head: Option<Position>,
    /// Where the reader stands.
    pub after: Position,
}

impl PastTheEnd {
    /// Checks that a reader stands within the log.
    pub(crate) fn check(head: Option<Position>, after: Option<Position>) -> Result<(), ReadError> {
        match after {
            Some(after) if Some(after) > head => Err(ReadError(Arc::new(Self { head, after }))),
            _ => Ok(()),
        }
    }
}

/// Which way a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From old to new.
    Forwards,
    /// From new to old.
    Backwards,
}

/// A page of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPage {
    /// The events, in the direction of reading. Empty past the end, or when the stream has none.
    pub events: Vec<RecordedEvent>,
    /// Whether there was nothing more in this direction. A page may also end because it is heavy.
    pub end: bool,
}

/// A page of the whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllPage {
    /// The events that passed the filter, oldest first.
    pub events: Vec<RecordedEvent>,
    /// Up to where the log was read, whether or not anything passed: the checkpoint after this page, and where the next
    /// one starts. `None` when the log is empty.
    pub read_to: Option<Position>,
    /// Whether that was the head of the log.
    pub at_head: bool,
}

/// An append-only log of streams.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Appends events to a stream, all or none, and returns when they are durable.
    ///
    /// An append that expects `NoStream` or a revision and finds its own events there, ids and all, was sent
    /// before: it writes nothing and answers as the first time. One that expects an event by its id finds them behind that.
    ///
    /// # Errors
    /// [`AppendError`].
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// Appends events of several commands to one stream as one append, all or none, and says where each part of them ended.
    /// `lengths` is how many events each part has; together they are all.
    ///
    /// # Errors
    /// [`AppendError`].
    async fn append_together(&self, append: Append, lengths: &[usize]) -> Result<Vec<Appended>, AppendError> {
        if lengths.len() <= 1 {
            return Ok(vec![self.append(append).await?]);
        }
        let (stream, count) = (append.stream.clone(), append.events.len());
        let last = self.append(append).await?;
        ends_of_parts(self, &stream, count, last, lengths).await
    }

    /// Appends to several streams in just this order: each append stands behind the one before it in the whole log, and
    /// when one fails, none behind it is written. Those before it may be written all the same.
    ///
    /// Appends that are made one beside the other have no order among streams. This is for who copies a log. An append that
    /// was made before may be a conflict here.
    ///
    /// # Errors
    /// [`AppendError`] of the first append that fails.
    async fn append_in_order(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut appended = Vec::with_capacity(appends.len());
        for append in appends {
            appended.push(self.append(append).await?);
        }
        Ok(appended)
    }

    /// Reads at most `limit` events of a stream, from the revision `from` on (that one included); `None` is the
    /// beginning, or, backwards, the end.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read. A stream without events is not an error.
    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError>;

    /// Looks at about `limit` events of the whole log past the position `after` (`None`: from the beginning) and
    /// returns those that pass the filter. A page also ends when it is heavy, so that it fits into memory.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read, or ends before `after` ([`PastTheEnd`]).
    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError>;

    /// What this process has appended right behind a position, one event after another, as far as it is still in memory: what
    /// [`read_all`](Self::read_all) would find there, at most `limit` of it, without a way to the log. That there is nothing here
    /// says nothing about the log.
    fn just_appended(&self, after: Option<Position>, limit: usize) -> Vec<RecordedEvent> {
        let _ = (after, limit);
        Vec::new()
    }

    /// The position of the newest event; `None` when there is none.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read.
    async fn head(&self) -> Result<Option<Position>, ReadError>;

    /// How many events stand past `after` up to and including `to`, where the log can tell without reading them.
    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64>;

    /// Returns when the log may have grown since `seen` was its head, or after a moment. Never late by more than that
    /// moment, and not a promise that there is something.
    async fn changed(&self, seen: Option<Position>);

    /// Follows the log from past `after`: catches up in pages, says so, then goes on live, without a gap between the two.
    fn subscribe_all(self: Arc<Self>, after: Option<Position>, filter: Filter) -> Subscription {
        subscription::follow(self, after, filter)
    }
}

/// How often it is looked at a stream that does not show yet what was appended to it.
const LOOKS: u32 = 10;

/// Where each part of an append ended, from what the log has of it. `count` is how many events the append has, and `last`
/// where it ended.
pub(crate) async fn ends_of_parts<S: EventStore + ?Sized>(
    store: &S,
    stream: &StreamName,
    count: usize,
    last: Appended,
    lengths: &[usize],
) -> Result<Vec<Appended>, AppendError> {
    let first = (last.revision + 1).saturating_sub(count as u64);
    for _ in 0..LOOKS {
        let mut positions = Vec::with_capacity(count);
        while positions.len() < count {
            let from = first + positions.len() as u64;
            let page = store.read_stream(stream, Some(from), Direction::Forwards, count - positions.len()).await;
            // They are there, but nobody says where.
            let page = page.map_err(|error| AppendError::Unknown(Arc::new(error)))?;
            let is_short = page.end || page.events.is_empty();
            positions.extend(page.events.iter().map(|event| event.position));
            if is_short {
                break;
            }
        }
        if positions.len() < count {
            continue;
        }
        let mut end = 0;
        let ends = lengths.iter().filter_map(|length| {
            end += length;
            let position = *positions.get(end.checked_sub(1)?)?;
            Some(Appended { revision: first + end as u64 - 1, position })
        });
        return Ok(ends.collect());
    }
    Err(AppendError::Unknown(Arc::new(NotShown)))
}

/// A log does not show what it has taken.
#[derive(Debug, thiserror::Error)]
#[error("the log does not show the events that it has taken")]
struct NotShown;

/// Checks an append against the limits that hold for every log.
pub(crate) fn check_limits(append: &Append) -> Result<(), AppendError> {
    let (events, bytes) = (append.events.len(), append.events.iter().map(NewEvent::size).sum());
    if (1..=MAX_APPEND_EVENTS).contains(&events) && bytes <= MAX_APPEND_BYTES {
        Ok(())
    } else {
        Err(AppendError::Limit { events, bytes })
    }
}
