//! Aggregates that are kept in memory between commands, so that a command need not read its stream.
//!
//! What is kept may be behind the log, for other processes append too. That is good enough to append on, since the log
//! checks the expected revision; before a command is refused, or said to have nothing to do, the log is asked.

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use domain::decider::Decider;
use event_store::{EventStore, Metadata, Position, RecordedEvent, StreamName};
use hashlink::LinkedHashMap;
use uuid::Uuid;

use crate::load::{LoadError, Loaded, Past, Until};

/// What an event takes beside its data, roughly: its place among the commands and in the table.
const BESIDE: usize = 64;

/// An aggregate as far as its stream is known, and the commands that led there.
pub(crate) struct Kept<D: Decider> {
    pub(crate) loaded: Loaded<D>,
    /// The lower half of each command's id. Two ids with one lower half cost a look at the stream.
    commands: HashSet<u64>,
    /// How much it takes, judged by the events behind it.
    bytes: usize,
}

impl<D: Decider> Kept<D> {
    /// An aggregate to which nothing has happened.
    pub(crate) fn nothing() -> Self {
        Self { loaded: Loaded::nothing(), commands: HashSet::new(), bytes: 0 }
    }

    /// Whether the command may be among those that led here. If not, it certainly is not.
    pub(crate) fn may_know(&self, command: Uuid) -> bool {
        self.commands.contains(&lower_half(command))
    }

    /// Folds what has been appended to the stream since, and shows each event to `visit`.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) async fn advance(
        self,
        store: &dyn EventStore,
        stream: &StreamName,
        mut visit: impl FnMut(&RecordedEvent, &Metadata),
    ) -> Result<Self, LoadError> {
        let Self { loaded, mut commands, mut bytes } = self;
        let note = |past: &Past<D::Event>| {
            commands.insert(lower_half(past.metadata.command_id));
            bytes += past.recorded.data.len() + BESIDE;
            visit(&past.recorded, &past.metadata);
        };
        let loaded = loaded.advance(store, stream, Until::Now, note).await?;
        Ok(Self { loaded, commands, bytes })
    }

    /// Notes a command that led here.
    pub(crate) fn note(&mut self, command: Uuid) {
        self.commands.insert(lower_half(command));
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
}

fn lower_half(id: Uuid) -> u64 {
    id.as_u64_pair().1
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
        kept.note(Uuid::from_u128(7));
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
        assert!(kept.may_know(Uuid::from_u128(7)) && !kept.may_know(Uuid::from_u128(8)));
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
