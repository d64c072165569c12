//! Aggregates that are kept in memory between commands, so that a command need not read its stream.
//!
//! What is kept may be behind the log, for other processes append too. That is good enough to append on, since the log
//! checks the expected revision; before a command is refused, or said to have nothing to do, the log is asked.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::decider::Decider;
use event_store::{EventStore, Metadata, Position, RecordedEvent, StreamName};
use hashlink::LinkedHashMap;
use uuid::Uuid;

use crate::load::{LoadError, Loaded, Past, Until};
use crate::snapshots::{EVERY, Pending, Picture, Snapshots, Written};

/// What an event takes beside its data, roughly: its place among the commands and in the table.
const BESIDE: usize = 64;

/// How many commands of an aggregate are kept in memory although a snapshot knows them.
const MANY: usize = 65_536;

/// An aggregate as far as its stream is known, and the commands that led there.
pub(crate) struct Kept<D: Decider> {
    pub(crate) loaded: Loaded<D>,
    /// The commands, and the revision at which the events of each begin.
    commands: HashMap<Uuid, u64>,
    /// The commands up to this revision are not in here: the snapshot that was taken then, or a later one, knows them.
    base: Option<u64>,
    /// The revision of the last snapshot that is there, and the one at which the next is due.
    snapshot: Option<u64>,
    due: u64,
    /// A snapshot that is being written, and what the aggregate took when it was taken.
    pending: Option<(u64, usize, Pending)>,
    /// How much it takes, judged by the events behind it.
    bytes: usize,
}

impl<D: Decider> Kept<D> {
    /// An aggregate to which nothing has happened.
    pub(crate) fn nothing() -> Self {
        Self {
            loaded: Loaded::nothing(),
            commands: HashMap::new(),
            base: None,
            snapshot: None,
            due: EVERY - 1,
            pending: None,
            bytes: 0,
        }
    }

    /// An aggregate as of its snapshot, which knows the commands up to there.
    pub(crate) fn restored(loaded: Loaded<D>, bytes: usize) -> Self {
        let (base, due) = (loaded.revision, loaded.revision.unwrap_or(0) + EVERY);
        Self { loaded, base, snapshot: base, due, bytes, ..Self::nothing() }
    }

    /// Where the events of a command begin, if it is known to have led here.
    pub(crate) fn place_of(&self, command: Uuid) -> Option<u64> {
        self.commands.get(&command).copied()
    }

    /// The snapshot that has to be asked for commands that are not known here; `None` when all are.
    pub(crate) fn base(&self) -> Option<u64> {
        self.base
    }

    /// Folds what has been appended to the stream since, and shows each event to `visit`; all of the stream where the log does
    /// not have what is known.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) async fn advance(
        mut self,
        store: &dyn EventStore,
        stream: &StreamName,
        mut visit: impl FnMut(&RecordedEvent, &Metadata),
    ) -> Result<Self, LoadError> {
        loop {
            let (commands, bytes) = (&mut self.commands, &mut self.bytes);
            let note = |past: &Past<D::Event>| {
                commands.entry(past.metadata.command_id).or_insert(past.recorded.revision);
                *bytes += past.recorded.data.len() + BESIDE;
                visit(&past.recorded, &past.metadata);
            };
            if self.loaded.advance(store, stream, Until::Now, note).await? {
                return Ok(self);
            }
            self = Self::nothing();
        }
    }

    /// Notes a command that led here: where its events begin, and the id of the last one.
    pub(crate) fn note(&mut self, command: Uuid, first: u64, last_event: Uuid) {
        self.commands.insert(command, first);
        self.loaded.last_event = Some(last_event);
    }

    /// Folds in what commands led to: some of it is in the state `ahead` already, where there is one. The log may have had
    /// these events already, for somebody else carried out the same commands; they say the same, for their ids do. `size` is
    /// how many there are and how long their data is, and `end` the revision and the position of the last one.
    pub(crate) fn follow(
        &mut self,
        ahead: Option<D::State>,
        unfolded: &[D::Event],
        size: (usize, usize),
        end: (Option<u64>, Option<Position>),
    ) {
        let state = std::mem::replace(&mut self.loaded.state, D::initial());
        self.loaded.state = unfolded.iter().fold(ahead.unwrap_or(state), D::evolve);
        (self.loaded.revision, self.loaded.position) = end;
        self.bytes += size.1 + size.0 * BESIDE;
    }

    /// Has a snapshot taken if one is due, and leaves to the last one what need not be in memory.
    pub(crate) fn keep_snapshot(&mut self, snapshots: &Snapshots, stream: &StreamName) {
        let Some((revision, last_event)) = self.loaded.revision.zip(self.loaded.last_event) else { return };
        if let Some((taken, before, pending)) = &self.pending {
            let (taken, before, written) = (*taken, *before, *pending.borrow());
            // Whoever wrote it may have been cut off.
            let is_over = written != Written::NotYet || pending.has_changed().is_err();
            if !is_over {
                return;
            }
            if let Written::Done(state) = written {
                (self.snapshot, self.due) = (Some(taken), taken + EVERY);
                if self.commands.len() > MANY {
                    self.commands.retain(|_, first| *first > taken);
                    self.commands.shrink_to_fit();
                    (self.base, self.bytes) = (Some(taken), state + self.bytes.saturating_sub(before));
                }
            } else {
                // The one that it built on may be gone. What is in memory is enough to begin anew.
                (self.snapshot, self.due) = (self.base, revision + EVERY);
            }
            self.pending = None;
        }
        if revision < self.due {
            return;
        }
        let picture = || {
            let is_new = |first: u64| self.snapshot.is_none_or(|snapshot| first > snapshot);
            let commands = self.commands.iter().map(|(command, first)| (*command, *first));
            Picture::<D> {
                stream: stream.clone(),
                revision,
                last_event,
                state: self.loaded.state.clone(),
                base: self.snapshot,
                commands: commands.filter(|(_, first)| is_new(*first)).collect(),
            }
        };
        match snapshots.take(picture, stream) {
            Some(pending) => self.pending = Some((revision, self.bytes, pending)),
            // Not now; there is no hurry.
            None => self.due = revision + EVERY / 10,
        }
    }
}

/// Keeps aggregates of all kinds; where room runs out, those that were used last.
pub(crate) struct Cache {
    shelf: Mutex<Shelf>,
    room: usize,
}

#[derive(Default)]
struct Shelf {
    /// The one that was used last stands last.
    aggregates: LinkedHashMap<StreamName, (Box<dyn Any + Send>, usize)>,
    bytes: usize,
}

impl Cache {
    /// A cache that keeps about so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self { shelf: Mutex::default(), room }
    }

    /// Takes an aggregate out of the cache, if it is there.
    pub(crate) fn take<D: Decider>(&self, stream: &StreamName) -> Option<Kept<D>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let (aggregate, bytes) = shelf.aggregates.remove(stream)?;
        shelf.bytes -= bytes;
        aggregate.downcast().ok().map(|kept| *kept)
    }

    /// Puts an aggregate in, and others out where there is no room for it.
    pub(crate) fn put<D: Decider>(&self, stream: StreamName, kept: Kept<D>) {
        let bytes = kept.bytes;
        if kept.loaded.revision.is_none() || bytes > self.room {
            return;
        }
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = shelf.aggregates.insert(stream, (Box::new(kept), bytes)) {
            shelf.bytes -= before;
        }
        shelf.bytes += bytes;
        while shelf.bytes > self.room {
            let Some((_, (_, oldest))) = shelf.aggregates.pop_front() else { break };
            shelf.bytes -= oldest;
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Quantity;
    use domain::inventory::{Event, Received, Stock};

    use super::*;

    fn received(units: i64) -> Vec<Event> {
        vec![Received { quantity: Quantity::try_from(units).unwrap() }.into()]
    }

    /// A stock whose events take about so many bytes.
    fn stock(bytes: usize) -> Kept<Stock> {
        let mut kept = Kept::nothing();
        kept.note(Uuid::from_u128(7), 0, Uuid::from_u128(70));
        kept.follow(None, &received(3), (1, bytes - BESIDE), (Some(0), Some(Position::at(0))));
        kept
    }

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    #[test]
    fn what_a_command_led_to_is_folded_in() {
        let kept = stock(100);
        assert_eq!((kept.loaded.revision, kept.loaded.state.on_hand), (Some(0), 3));
        assert_eq!([7, 8].map(|id| kept.place_of(Uuid::from_u128(id))), [Some(0), None]);
    }

    #[test]
    fn who_was_not_used_for_longest_makes_room() {
        let cache = Cache::new(250);
        for name in ["stock-A", "stock-B"] {
            cache.put(stream(name), stock(100));
        }
        let a = cache.take::<Stock>(&stream("stock-A")).unwrap();
        cache.put(stream("stock-A"), a);
        cache.put(stream("stock-C"), stock(100));
        cache.put(stream("stock-D"), stock(251));
        let is_kept = |name| cache.take::<Stock>(&stream(name)).is_some();
        assert_eq!(["stock-A", "stock-B", "stock-C", "stock-D"].map(is_kept), [true, false, true, false]);
        assert_eq!(cache.shelf.lock().unwrap().bytes, 0);
    }
}
