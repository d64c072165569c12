//! No event is skipped: the revisions of each stream have to follow one another without a gap.
//!
//! A rebuild begins at the first event of the log, so it knows of every stream what comes next. A projector begins at its
//! checkpoint and learns it from the first event of each stream that it meets. Both remember the streams that they met last,
//! a rebuild more of them: a stream that was forgotten is taken up again at whatever revision it comes back with.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use event_store::Position;

use super::ProjectionError;
use super::log_event::LogEvent;

/// How many streams a projector remembers, at least: twice as many at most.
const REMEMBERED: usize = 1 << 16;
/// The same of a rebuild, all of its parts together.
const REMEMBERED_IN_REBUILD: usize = 1 << 22;

/// The revision that comes next in each stream, as far as it is known. Streams are told apart by a hash of 64 bits.
pub(super) struct Contiguity {
    hasher: RandomState,
    next: HashMap<u64, u64>,
    /// Those that were met before the newest ones.
    older: HashMap<u64, u64>,
    /// How many streams `next` may have.
    most: usize,
    /// Whether every stream that was ever met is remembered: one that is not begins now.
    knows_all: bool,
    /// The generation and the checkpoint that this knowledge reaches to.
    reaches: (i32, Option<Position>),
}

impl Contiguity {
    /// From the beginning of the log on, for one of so many parts of it: every stream begins with revision 0.
    pub(super) fn from_the_beginning(parts: usize) -> Self {
        Self::new(REMEMBERED_IN_REBUILD / parts.max(1), true, (0, None))
    }

    /// From a checkpoint on.
    pub(super) fn from_a_checkpoint(generation: i32, checkpoint: Option<Position>) -> Self {
        // Without a checkpoint that is the beginning of the log.
        Self::new(REMEMBERED, checkpoint.is_none(), (generation, checkpoint))
    }

    fn new(most: usize, knows_all: bool, reaches: (i32, Option<Position>)) -> Self {
        let (next, older) = (HashMap::new(), HashMap::new());
        // Of all in this process: what two of them know can be put together.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self { hasher: HASHER.clone(), next, older, most, knows_all, reaches }
    }

    /// Takes over what is known of other streams.
    pub(super) fn join(&mut self, other: Self) {
        self.older.extend(other.older);
        self.next.extend(other.next);
        self.most += other.most;
        self.knows_all &= other.knows_all;
    }

    /// Whether it was learned up to this checkpoint of this generation.
    pub(super) fn reaches(&self, generation: i32, checkpoint: Option<Position>) -> bool {
        self.reaches == (generation, checkpoint)
    }

    /// Checks the events that come next, without learning from them: they may have to come again.
    ///
    /// # Errors
    /// [`ProjectionError::Gap`].
    pub(super) fn check(&self, name: &str, events: &[LogEvent]) -> Result<(), ProjectionError> {
        let mut within = HashMap::<u64, u64>::new();
        for event in events {
            let stream = self.hasher.hash_one(event.stream.as_str());
            let known = within.get(&stream).copied().or_else(|| self.next_of(stream));
            let expected = known.unwrap_or(if self.knows_all { 0 } else { event.revision });
            if event.revision != expected {
                return Err(ProjectionError::Gap {
                    name: name.to_owned(),
                    stream: event.stream.to_string(),
                    expected,
                    found: event.revision,
                    position: event.position,
                });
            }
            within.insert(stream, event.revision + 1);
        }
        Ok(())
    }

    /// Takes note of events that were folded.
    pub(super) fn learn(&mut self, events: &[LogEvent], generation: i32, checkpoint: Option<Position>) {
        for event in events {
            self.next.insert(self.hasher.hash_one(event.stream.as_str()), event.revision + 1);
        }
        if self.next.len() >= self.most {
            self.knows_all &= self.older.is_empty();
            self.older = std::mem::take(&mut self.next);
        }
        self.reaches = (generation, checkpoint);
    }

    fn next_of(&self, stream: u64) -> Option<u64> {
        self.next.get(&stream).or_else(|| self.older.get(&stream)).copied()
    }
}

#[cfg(test)]
mod tests {
    use event_store::{EventType, RecordedEvent, StreamName};
    use uuid::Uuid;

    use super::*;

    fn event(stream: &str, revision: u64) -> LogEvent {
        let recorded = RecordedEvent {
            stream: StreamName::new(stream).unwrap(),
            revision,
            position: Position::at(7),
            id: Uuid::nil(),
            event_type: EventType::new("Happened").unwrap(),
            data: "{}".into(),
            metadata: "{}".into(),
            recorded_at: chrono::DateTime::UNIX_EPOCH,
        };
        recorded.into()
    }

    fn gap(contiguity: &Contiguity, events: &[LogEvent]) -> Option<(String, u64, u64)> {
        match contiguity.check("orders", events) {
            Ok(()) => None,
            Err(ProjectionError::Gap { stream, expected, found, .. }) => Some((stream, expected, found)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn from_the_beginning_every_stream_begins_at_zero() {
        let mut contiguity = Contiguity::from_the_beginning(1);
        let events = [event("a-1", 0), event("b-1", 0), event("a-1", 1)];
        assert_eq!(gap(&contiguity, &events), None);
        contiguity.learn(&events, 1, None);
        assert_eq!(gap(&contiguity, &[event("a-1", 3)]), Some(("a-1".to_owned(), 2, 3)));
        assert_eq!(gap(&contiguity, &[event("a-1", 1)]), Some(("a-1".to_owned(), 2, 1)), "not twice either");
        assert_eq!(gap(&contiguity, &[event("c-1", 1)]), Some(("c-1".to_owned(), 0, 1)));
        assert_eq!(gap(&contiguity, &[event("c-1", 0), event("c-1", 2)]), Some(("c-1".to_owned(), 1, 2)));
    }

    #[test]
    fn from_a_checkpoint_a_stream_is_taken_up_where_it_is_met() {
        let mut contiguity = Contiguity::from_a_checkpoint(1, Some(Position::at(5)));
        let events = [event("a-1", 4), event("a-1", 5)];
        assert_eq!(gap(&contiguity, &events), None);
        contiguity.learn(&events, 1, Some(Position::at(7)));
        assert_eq!(gap(&contiguity, &[event("a-1", 7)]), Some(("a-1".to_owned(), 6, 7)));
        assert!(contiguity.reaches(1, Some(Position::at(7))) && !contiguity.reaches(2, Some(Position::at(7))));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_is_what_was_met_last() {
        let mut contiguity = Contiguity::from_a_checkpoint(1, None);
        for number in 0..3 * REMEMBERED {
            contiguity.learn(&[event(&format!("a-{number}"), 0)], 1, None);
        }
        assert!(contiguity.next.len() + contiguity.older.len() <= 2 * REMEMBERED);
        let last = format!("a-{}", 3 * REMEMBERED - 1);
        assert_eq!(gap(&contiguity, &[event(&last, 2)]), Some((last, 1, 2)));
        assert_eq!(gap(&contiguity, &[event("a-0", 2)]), None, "forgotten");
    }
}
