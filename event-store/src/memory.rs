//! The log in memory, for tests: gone with the process.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::watch;

use crate::port::check_limits;
use crate::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Expected, Filter, NewEvent, PastTheEnd, Position,
    ReadError, RecordedEvent, StreamName, StreamPage,
};

/// After this long a reader looks for itself, whatever it was told.
const FLOOR: Duration = Duration::from_secs(1);

/// A log in memory.
pub struct MemoryEventStore {
    log: RwLock<Log>,
    head: watch::Sender<Option<Position>>,
}

#[derive(Default)]
struct Log {
    events: Vec<RecordedEvent>,
    /// Where the events of a stream stand in `events`, by revision.
    streams: HashMap<StreamName, Vec<usize>>,
}

impl MemoryEventStore {
    /// An empty log.
    pub fn new() -> Self {
        Self { log: RwLock::default(), head: watch::Sender::new(None) }
    }
}

impl Default for MemoryEventStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let Append { stream, expected, events } = append;
        let actual = self.streams.get(&stream).and_then(|places| places.len().checked_sub(1)).map(|last| last as u64);
        let stands = self.has_the_expected(&stream, expected);
        if !expected.holds(actual) || !stands {
            let first = expected.first_revision().filter(|_| stands);
            let written = first.and_then(|first| self.earlier(&stream, first, &events));
            return written.ok_or(AppendError::Conflict { stream, expected, actual });
        }
        let places = self.streams.entry(stream.clone()).or_default();
        let mut appended = Appended { revision: 0, position: Position::at(0) };
        for event in events {
            let NewEvent { id, event_type, data, metadata } = event;
            let position = Position::at(self.events.len() as u64);
            let revision = places.len() as u64;
            appended = Appended { revision, position };
            places.push(self.events.len());
            let stream = stream.clone();
            let recorded_at = Utc::now();
            self.events.push(RecordedEvent { stream, revision, position, id, event_type, data, metadata, recorded_at });
        }
        Ok(appended)
    }

    /// Whether the event that is expected, if one is, stands at its revision.
    fn has_the_expected(&self, stream: &StreamName, expected: Expected) -> bool {
        let Expected::After { revision, id } = expected else { return true };
        let places = self.streams.get(stream).zip(usize::try_from(revision).ok());
        let place = places.and_then(|(places, revision)| places.get(revision));
        place.is_some_and(|&place| self.events[place].id == id)
    }

    /// Where these events ended when they were appended before, from the revision `first` on.
    fn earlier(&self, stream: &StreamName, first: u64, events: &[NewEvent]) -> Option<Appended> {
        let places = self.streams.get(stream)?.get(usize::try_from(first).ok()?..)?;
        let there = places.get(..events.len())?;
        let same = there.iter().zip(events).all(|(&place, event)| self.events[place].id == event.id);
        let last = &self.events[*there.last()?];
        same.then_some(Appended { revision: last.revision, position: last.position })
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        let appended = log.append(append)?;
        self.head.send_replace(log.events.last().map(|event| event.position));
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let places = log.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let from = from.map(|revision| usize::try_from(revision).unwrap_or(usize::MAX));
        let wanted: Box<dyn Iterator<Item = &usize> + Send> = match direction {
            Direction::Forwards => Box::new(places.iter().skip(from.unwrap_or(0))),
            Direction::Backwards => {
                let end = from.map_or(places.len(), |from| from.saturating_add(1).min(places.len()));
                Box::new(places[..end].iter().rev())
            }
        };
        let mut wanted = wanted.map(|&place| log.events[place].clone());
        let events: Vec<_> = wanted.by_ref().take(limit).collect();
        let end = wanted.next().is_none();
        Ok(StreamPage { events, end })
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        PastTheEnd::check(log.events.last().map(|event| event.position), after)?;
        let start = after.map_or(0, |after| after.commit.saturating_add(1));
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(log.events.len());
        let page = &log.events[start..start.saturating_add(limit).min(log.events.len())];
        let passing = page.iter().filter(|event| filter.passes(&event.stream, &event.event_type));
        Ok(AllPage {
            events: passing.cloned().collect(),
            read_to: page.last().map(|event| event.position).or(after),
            at_head: start + page.len() == log.events.len(),
        })
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(*self.head.borrow())
    }

    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64> {
        let count = |position: Option<Position>| position.map_or(0, |position| position.commit + 1);
        Some(count(to).saturating_sub(count(after)))
    }

    async fn changed(&self, seen: Option<Position>) {
        let mut head = self.head.subscribe();
        // Either way the caller looks again.
        let _ = tokio::time::timeout(FLOOR, head.wait_for(|head| *head > seen)).await;
    }
}
