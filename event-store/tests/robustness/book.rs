//! What appenders were told, and whether the log bears it out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use event_store::{Append, AppendError, Appended, EventStore, EventType, Expected, NewEvent, Position, StreamName};
use kurrentdb_server::Log;
use uuid::Uuid;

use crate::dice;

/// What became of an append, as far as its appender knows.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    /// It is written.
    Written(Appended),
    /// It is not, and never will be. The last revision of the stream goes with it.
    Refused(Option<u64>),
    /// It may be.
    Open,
}

/// Every append of a test, and what its appender was told.
#[derive(Default)]
pub(crate) struct Book(RefCell<Vec<(Append, Word)>>);

impl Book {
    /// Appends as the contract has it: what is not known to be written is asked for again as it was, unless it names no
    /// revision and may be written.
    pub(crate) async fn append(&self, store: &dyn EventStore, append: Append) -> Word {
        let word = insist(store, &append).await;
        self.0.borrow_mut().push((append, word.clone()));
        word
    }

    /// Appends, and gives up when it is not known to be written.
    pub(crate) async fn append_once(&self, store: &dyn EventStore, append: Append) -> Word {
        let word = match store.append(append.clone()).await {
            Ok(appended) => Word::Written(appended),
            Err(AppendError::Conflict { actual, .. }) => Word::Refused(actual),
            // It says that nothing was written, and means it.
            Err(AppendError::Unavailable(_)) => Word::Refused(None),
            Err(AppendError::Unknown(_)) => Word::Open,
            Err(error @ AppendError::Limit { .. }) => panic!("{error}"),
        };
        self.0.borrow_mut().push((append, word.clone()));
        word
    }

    /// How many appends there were, how many of them were written, and how many may be.
    pub(crate) fn count(&self) -> (usize, usize, usize) {
        let entries = self.0.borrow();
        let count = |which: fn(&Word) -> bool| entries.iter().filter(|(_, word)| which(word)).count();
        (entries.len(), count(|word| matches!(word, Word::Written(_))), count(|word| matches!(word, Word::Open)))
    }

    /// Holds the log against the book: what was acknowledged is there once, where it was said to be; what was refused is
    /// not; what nobody knew of is there once or not at all; nothing else is there, and no revision is missing.
    pub(crate) fn check(&self, log: &Log) {
        let mut places: HashMap<Uuid, Vec<(StreamName, u64, Position)>> = HashMap::new();
        let mut lengths: HashMap<StreamName, u64> = HashMap::new();
        for record in log.records() {
            let stream = name(&record.stream);
            let next = lengths.entry(stream.clone()).or_default();
            assert_eq!(record.revision, *next, "{stream} has a gap; {}", seeded());
            *next += 1;
            let kurrentdb_server::Position { commit, prepare } = record.position;
            places.entry(record.event.id).or_default().push((stream, record.revision, Position { commit, prepare }));
        }
        let mut known = HashSet::new();
        for (append, word) in self.0.borrow().iter() {
            let count = append.events.len() as u64;
            let mut there = Vec::new();
            for event in &append.events {
                assert!(known.insert(event.id), "the id {} was given to two appends", event.id);
                let found = places.get(&event.id).map_or(&[][..], Vec::as_slice);
                assert!(found.len() <= 1, "written more than once: {append:?}, {word:?}: {found:?}; {}", seeded());
                there.extend(found.iter().cloned());
            }
            let stands_as_one = there.len() as u64 == count
                && there.iter().all(|(stream, ..)| *stream == append.stream)
                && there.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1)
                && fits(append.expected, there[0].1);
            let right = match word {
                Word::Written(Appended { revision, position }) => {
                    stands_as_one && there.last().is_some_and(|last| (last.1, last.2) == (*revision, *position))
                }
                Word::Refused(_) => there.is_empty(),
                Word::Open => there.is_empty() || stands_as_one,
            };
            assert!(right, "{append:?} was told {word:?}, and the log has {there:?}; {}", seeded());
        }
        let strange = places.keys().filter(|id| !known.contains(id)).count();
        assert_eq!(strange, 0, "nobody appended this; {}", seeded());
    }
}

/// Whether an append with this expectation may begin at this revision.
fn fits(expected: Expected, first: u64) -> bool {
    expected.holds(first.checked_sub(1))
}

/// Asks until there is an answer.
pub(crate) async fn insist(store: &dyn EventStore, append: &Append) -> Word {
    let first = match append.expected {
        Expected::NoStream => Some(0),
        Expected::Exact(revision) | Expected::After { revision, .. } => Some(revision + 1),
        Expected::Any | Expected::Exists => None,
    };
    let mut may_be_written = false;
    loop {
        match store.append(append.clone()).await {
            Ok(appended) => return Word::Written(appended),
            // What was sent before and is still on its way may be written when the stream has grown.
            Err(AppendError::Conflict { actual, .. }) if may_be_written && actual < first => return Word::Open,
            Err(AppendError::Conflict { actual, .. }) => return Word::Refused(actual),
            Err(AppendError::Unknown(_)) if first.is_none() => return Word::Open,
            Err(AppendError::Unknown(_)) => may_be_written = true,
            Err(AppendError::Unavailable(_)) => {}
            Err(error @ AppendError::Limit { .. }) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}

fn seeded() -> String {
    format!("the seed is {}", dice::seed())
}

pub(crate) fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

/// An append of new events.
pub(crate) fn append(stream: &str, expected: Expected, events: usize) -> Append {
    let event_type = EventType::new("Happened").unwrap();
    let event = |_| NewEvent {
        id: Uuid::now_v7(),
        event_type: event_type.clone(),
        data: Bytes::from_static(b"{\"n\":1}"),
        metadata: Bytes::from_static(b"{}"),
    };
    Append { stream: name(stream), expected, events: (0..events).map(event).collect() }
}
