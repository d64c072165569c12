//! The log: what the server keeps, and what outlives a restart of it.
//!
//! One list of records in the order of their positions, and where each stream's events stand in it. A stream's revisions
//! start at 0 and have no gap; what its metadata hides from readers stays in the list, as it does on a disk that was never
//! scavenged.

mod check;
mod recent;
mod retention;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use self::check::Decision;
use self::recent::Recent;
use self::retention::{METASTREAM_PREFIX, Retention, SOFT_DELETED};
use crate::filter::Filter;

/// Where the first record stands. The server writes an epoch record of its own before any event.
const FIRST_OFFSET: u64 = 314;
/// What a record takes on disk besides its names and its payload: framing, flags, ids, numbers, a timestamp.
const RECORD_OVERHEAD: u64 = 99;
/// What a commit record takes.
const COMMIT_RECORD_SIZE: u64 = 61;
/// The revision of the event that ends a stream for ever.
const TOMBSTONE_REVISION: u64 = i64::MAX as u64;
/// How many events the server reads at a time.
pub(crate) const PAGE: u64 = 32;

/// Where a record stands in the log: byte offsets, in the order of `(commit, prepare)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Where it was committed.
    pub commit: u64,
    /// Where it was written.
    pub prepare: u64,
}

/// What a writer expects of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever.
    Any,
    /// It has no event.
    NoStream,
    /// It has an event, or metadata.
    Exists,
    /// Its last event has this revision.
    Exact(u64),
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// By which the server may recognise that it has it already.
    pub id: Uuid,
    /// What the client says it is.
    pub event_type: String,
    /// `application/json` or `application/octet-stream`.
    pub content_type: String,
    /// The payload.
    pub data: Bytes,
    /// What the client says about it.
    pub metadata: Bytes,
}

impl NewEvent {
    /// An event of JSON.
    pub fn json(id: Uuid, event_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        let content_type = "application/json".to_owned();
        Self { id, event_type: event_type.into(), content_type, data: data.into(), metadata: Bytes::new() }
    }

    /// What it counts against the limit of an append, in bytes. The server counts UTF-16 for the type.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.metadata.len() + 2 * self.event_type.len()
    }
}

/// Events for one stream, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// To which stream.
    pub stream: String,
    /// What the writer expects of it.
    pub expected: Expected,
    /// The events, in order.
    pub events: Vec<NewEvent>,
}

/// Where a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The revision of its last event; `None` when the stream has none.
    pub revision: Option<u64>,
    /// The position of its last event; `None` when it wrote none.
    pub position: Option<Position>,
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The stream is not as expected.
    #[error("the stream is not as expected: its last revision is {current:?}")]
    WrongExpectedVersion {
        /// Its last revision; `None` when it has no event.
        current: Option<u64>,
    },
    /// The stream has a tombstone.
    #[error("the stream was deleted for ever")]
    Deleted,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In which stream.
    pub stream: Arc<str>,
    /// As which event of it, from 0.
    pub revision: u64,
    /// Where in the log.
    pub position: Position,
    /// When it was written.
    pub created: SystemTime,
    /// What was written.
    pub event: NewEvent,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forwards,
    Backwards,
}

/// Where to start reading: a stream at a revision, the log at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<T> {
    Start,
    At(T),
    End,
}

/// What a stream has to say to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamRead {
    /// It has no event, or was deleted and may be written again.
    NotFound,
    /// It has a tombstone.
    Deleted,
    /// It has these events.
    Events {
        events: Vec<Arc<Record>>,
        /// Told to a reader whose first page was empty: where it would have to go on.
        first: Option<u64>,
        /// Its last revision.
        last: u64,
    },
}

/// No record starts where the reader wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no record starts at this position")]
pub(crate) struct InvalidPosition;

/// How the log keeps what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// How many event ids it remembers for the appends that expect any revision.
    pub remembered_ids: usize,
    /// Whether an append ends with a commit record, whose offset is the commit position of all its events: commit and
    /// prepare then differ, and who reads a stream is not told positions. Otherwise each event commits itself, and both
    /// are the same, as the server has it since version 20.
    pub commit_records: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        // The server has 8 MiB for them, about a hundred bytes each.
        Self { remembered_ids: 80_000, commit_records: false }
    }
}

/// A log in memory. Share it between servers that run after each other, or beside each other as a cluster.
#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    head: watch::Sender<Option<Position>>,
    settings: LogSettings,
}

#[derive(Debug)]
struct State {
    records: Vec<Arc<Record>>,
    streams: HashMap<Arc<str>, Stream>,
    /// The offset of the next record.
    end: u64,
    recent: Recent,
}

#[derive(Debug, Default)]
struct Stream {
    /// Where its events stand in the list of records, by revision.
    places: Vec<usize>,
    tombstone: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(LogSettings::default())
    }
}

impl Log {
    /// An empty log.
    pub fn new(settings: LogSettings) -> Self {
        let recent = Recent::new(settings.remembered_ids);
        let state = State { records: Vec::new(), streams: HashMap::new(), end: FIRST_OFFSET, recent };
        Self { state: Mutex::new(state), head: watch::Sender::new(None), settings }
    }

    /// Writes events as a client would, without one.
    ///
    /// # Errors
    /// [`Rejected`] when nothing was written.
    pub fn write(&self, write: &Write) -> Result<Committed, Rejected> {
        self.change(|state, settings| state.write(write, settings))
    }

    /// All records, in order, with those that no reader of a stream sees any more.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.state().records.clone()
    }

    /// The records from this one on, in the order of [`Self::records`].
    pub fn records_from(&self, first: usize) -> Vec<Arc<Record>> {
        self.state().records.get(first..).unwrap_or_default().to_vec()
    }

    /// The position of the last record; `None` when there is none.
    pub fn head(&self) -> Option<Position> {
        *self.head.borrow()
    }

    /// Returns when the log has at least so many records. It may have them already.
    pub async fn reaches(&self, records: usize) {
        let mut head = self.head.subscribe();
        // The sender lives in `self`, so this ends only when there are enough.
        let _ = head.wait_for(|_| self.state().records.len() >= records).await;
    }

    /// Tells of each change of the head.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Position>> {
        self.head.subscribe()
    }

    pub(crate) fn settings(&self) -> LogSettings {
        self.settings
    }

    /// Forgets the ids that it remembers for appends that expect any revision: the server's memory of them ends with it.
    pub(crate) fn forget_ids(&self) {
        self.state().recent = Recent::new(self.settings.remembered_ids);
    }

    /// Deletes a stream: for ever (`hard`), or until it is written to again.
    pub(crate) fn delete(&self, stream: &str, expected: Expected, hard: bool) -> Result<Committed, Rejected> {
        self.change(|state, settings| state.delete(stream, expected, hard, settings))
    }

    pub(crate) fn read_stream(&self, stream: &str, from: Origin<u64>, direction: Direction, limit: u64) -> StreamRead {
        self.state().read_stream(stream, from, direction, limit)
    }

    /// At most `limit` records of the whole log that pass: forwards from a position (that one included), backwards from
    /// before it.
    pub(crate) fn read_all(
        &self,
        from: Origin<Position>,
        direction: Direction,
        filter: Option<&Filter>,
        limit: u64,
    ) -> Result<Vec<Arc<Record>>, InvalidPosition> {
        let state = self.state();
        let place = match from {
            Origin::Start => 0,
            Origin::End => state.records.len(),
            Origin::At(position) => state.place(position)?,
        };
        let passes = |record: &&Arc<Record>| filter.is_none_or(|filter| filter.passes(record));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(match direction {
            Direction::Forwards => state.records[place..].iter().filter(passes).take(limit).cloned().collect(),
            Direction::Backwards => state.records[..place].iter().rev().filter(passes).take(limit).cloned().collect(),
        })
    }

    /// At most `limit` records past a position, whether or not they pass a filter.
    pub(crate) fn after(&self, position: Option<Position>, limit: usize) -> Result<Vec<Arc<Record>>, InvalidPosition> {
        let state = self.state();
        let mut place = 0;
        if let Some(position) = position {
            state.place(position)?;
            place = state.records.partition_point(|record| record.position <= position);
        }
        Ok(state.records[place..].iter().take(limit).cloned().collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, LogSettings) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state, self.settings);
        let head = state.records.last().map(|record| record.position);
        drop(state);
        // Two writers may come here in the other order: the head never goes back.
        self.head.send_if_modified(|seen| {
            let grown = head > *seen;
            *seen = head.max(*seen);
            grown
        });
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, write: &Write, settings: LogSettings) -> Result<Committed, Rejected> {
        let Write { stream, expected, events } = write;
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        match self.check(stream, *expected, &ids) {
            Decision::Rejected(rejected) => Err(rejected),
            Decision::Repeated { last } => {
                Ok(Committed { revision: Some(last), position: self.position(stream, last) })
            }
            Decision::Write => {
                let undelete = self.is_soft_deleted(stream).then(|| self.last(stream).map_or(0, |last| last + 1));
                let position = self.append(stream, events.iter().cloned(), settings);
                let revision = self.last(stream);
                if let Some(first) = undelete {
                    self.truncate(stream, first, settings);
                }
                Ok(Committed { revision, position })
            }
        }
    }

    fn delete(
        &mut self,
        stream: &str,
        expected: Expected,
        hard: bool,
        settings: LogSettings,
    ) -> Result<Committed, Rejected> {
        let id = Uuid::new_v4();
        if let Decision::Rejected(rejected) = self.check(stream, expected, &[id]) {
            return Err(rejected);
        }
        let revision = self.last(stream);
        if !hard {
            let position = self.truncate(stream, SOFT_DELETED, settings);
            return Ok(Committed { revision, position });
        }
        let event = NewEvent::json(id, "$streamDeleted", "");
        let prepare = self.reserve(stream, &event);
        let commit = if settings.commit_records { self.reserve_commit() } else { prepare };
        let name = self.name(stream);
        let position = Position { commit, prepare };
        let created = SystemTime::now();
        let record = Record { stream: name.clone(), revision: TOMBSTONE_REVISION, position, created, event };
        self.records.push(Arc::new(record));
        self.streams.entry(name).or_default().tombstone = true;
        Ok(Committed { revision, position: Some(position) })
    }

    /// Writes to a stream's metadata that it starts at a revision.
    fn truncate(&mut self, stream: &str, first: u64, settings: LogSettings) -> Option<Position> {
        let metastream = format!("{METASTREAM_PREFIX}{stream}");
        let mut metadata = self.metadata(stream).unwrap_or_else(|| json!({}));
        if let Some(members) = metadata.as_object_mut() {
            members.insert("$tb".to_owned(), json!(first));
        }
        let event = NewEvent::json(Uuid::new_v4(), "$metadata", metadata.to_string());
        self.append(&metastream, [event], settings)
    }

    /// Puts events at the end of a stream, and returns the position of the last.
    fn append(
        &mut self,
        stream: &str,
        events: impl IntoIterator<Item = NewEvent>,
        settings: LogSettings,
    ) -> Option<Position> {
        let name = self.name(stream);
        let created = SystemTime::now();
        let prepared: Vec<(u64, NewEvent)> =
            events.into_iter().map(|event| (self.reserve(stream, &event), event)).collect();
        let commit = (settings.commit_records && !prepared.is_empty()).then(|| self.reserve_commit());
        let mut last = None;
        for (prepare, event) in prepared {
            let position = Position { commit: commit.unwrap_or(prepare), prepare };
            let places = &mut self.streams.entry(name.clone()).or_default().places;
            let revision = places.len() as u64;
            places.push(self.records.len());
            self.recent.remember(event.id, name.clone(), revision);
            let stream = name.clone();
            self.records.push(Arc::new(Record { stream, revision, position, created, event }));
            last = Some(position);
        }
        last
    }

    /// Takes room for a record, and returns its offset.
    fn reserve(&mut self, stream: &str, event: &NewEvent) -> u64 {
        let payload = stream.len() + event.event_type.len() + event.data.len() + event.metadata.len();
        let offset = self.end;
        self.end += RECORD_OVERHEAD + payload as u64;
        offset
    }

    fn reserve_commit(&mut self) -> u64 {
        let offset = self.end;
        self.end += COMMIT_RECORD_SIZE;
        offset
    }

    fn name(&self, stream: &str) -> Arc<str> {
        self.streams.get_key_value(stream).map_or_else(|| stream.into(), |(name, _)| name.clone())
    }

    /// The last revision of a stream; `None` when it has no event.
    fn last(&self, stream: &str) -> Option<u64> {
        self.streams.get(stream)?.places.len().checked_sub(1).map(|last| last as u64)
    }

    fn record(&self, stream: &str, revision: u64) -> Option<&Arc<Record>> {
        let place = self.streams.get(stream)?.places.get(usize::try_from(revision).ok()?)?;
        self.records.get(*place)
    }

    fn position(&self, stream: &str, revision: u64) -> Option<Position> {
        self.record(stream, revision).map(|record| record.position)
    }

    /// Whether a stream, or the one that it is the metadata of, has a tombstone.
    fn has_tombstone(&self, stream: &str) -> bool {
        let has = |stream: &str| self.streams.get(stream).is_some_and(|stream| stream.tombstone);
        has(stream) || stream.strip_prefix(METASTREAM_PREFIX).is_some_and(has)
    }

    fn read_stream(&self, stream: &str, from: Origin<u64>, direction: Direction, limit: u64) -> StreamRead {
        if self.has_tombstone(stream) {
            return StreamRead::Deleted;
        }
        let retention = self.retention(stream);
        let Some(last) = self.last(stream).filter(|_| !retention.is_soft_deleted()) else {
            return StreamRead::NotFound;
        };
        let places = self.streams.get(stream).map_or(&[][..], |stream| &stream.places);
        let hidden = retention.hidden(last);
        let now = SystemTime::now();
        let seen = |revision: usize| {
            let record = self.records.get(*places.get(revision)?)?;
            (!retention.is_too_old(record.created, now)).then(|| record.clone())
        };
        let (hidden_places, end) = (to_place(hidden).min(places.len()), places.len());
        let limit_places = usize::try_from(limit).unwrap_or(usize::MAX);
        let (events, first) = match direction {
            Direction::Forwards => {
                let from = match from {
                    Origin::Start => 0,
                    Origin::At(revision) => revision,
                    Origin::End => last + 1,
                };
                let start = to_place(from).max(hidden_places).min(end);
                // The first page has nothing: it lies past the end, or all of it is hidden.
                let empty = from > last || from.saturating_add(limit.min(PAGE)) <= hidden;
                let next = if from > last { last + 1 } else { hidden.min(last + 1) };
                let first = (empty && next != from).then_some(next);
                ((start..end).filter_map(seen).take(limit_places).collect(), first)
            }
            Direction::Backwards => {
                let end = match from {
                    Origin::Start => 1,
                    Origin::At(revision) => to_place(revision).saturating_add(1).min(end),
                    Origin::End => end,
                };
                ((hidden_places.min(end)..end).rev().filter_map(seen).take(limit_places).collect(), None)
            }
        };
        StreamRead::Events { events, first, last }
    }

    /// How many records stand before a position, when a record starts there or it lies past the end.
    fn place(&self, position: Position) -> Result<usize, InvalidPosition> {
        let place = self.records.partition_point(|record| record.position < position);
        let starts =
            |place: usize| self.records.get(place).is_some_and(|record| record.position.commit == position.commit);
        let valid = position.commit < FIRST_OFFSET
            || position.commit >= self.end
            || starts(place)
            || place.checked_sub(1).is_some_and(starts);
        valid.then_some(place).ok_or(InvalidPosition)
    }

    fn is_soft_deleted(&self, stream: &str) -> bool {
        self.retention(stream).is_soft_deleted()
    }

    fn retention(&self, stream: &str) -> Retention {
        if stream.starts_with(METASTREAM_PREFIX) {
            return Retention::of_metastream();
        }
        self.metadata(stream).map_or_else(Retention::default, |metadata| Retention::parse(&metadata))
    }

    /// What was last written to the metadata of a stream, if it is JSON.
    fn metadata(&self, stream: &str) -> Option<serde_json::Value> {
        let metastream = format!("{METASTREAM_PREFIX}{stream}");
        let record = self.record(&metastream, self.last(&metastream)?)?;
        serde_json::from_slice(&record.event.data).ok()
    }
}

fn to_place(revision: u64) -> usize {
    usize::try_from(revision).unwrap_or(usize::MAX)
}
