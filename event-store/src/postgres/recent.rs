//! What this process appended last: who follows the log here has it without a way to the database.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::{Position, RecordedEvent};

/// How many events are kept, and how many bytes of them.
const KEPT: (usize, usize) = (4_000, 8 << 20);

/// The newest events of the log that this process has appended, by position. Between them stand those of others.
#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Batches may be known to be written in another order than they were written in.
    events: BTreeMap<u64, RecordedEvent>,
    bytes: usize,
}

impl Recent {
    /// Takes in what was appended, once it is durable.
    pub(super) fn add(&self, events: impl IntoIterator<Item = RecordedEvent>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            kept.bytes += size(&event);
            if let Some(before) = kept.events.insert(event.position.commit, event) {
                kept.bytes -= size(&before);
            }
        }
        while (kept.events.len() > KEPT.0 || kept.bytes > KEPT.1)
            && let Some((_, oldest)) = kept.events.pop_first()
        {
            kept.bytes -= size(&oldest);
        }
    }

    /// Forgets all of it, for the log may not have it any more.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// At most `limit` events that stand right behind a position, one after another without a gap.
    pub(super) fn after(&self, after: Option<Position>, limit: usize) -> Vec<RecordedEvent> {
        let first = after.map_or(0, |after| after.commit + 1);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_a_row = kept.events.range(first..).zip(first..).take_while(|((position, _), next)| *position == next);
        in_a_row.take(limit).map(|((_, event), _)| event.clone()).collect()
    }
}

fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventType, StreamName};

    fn event(position: u64, bytes: usize) -> RecordedEvent {
        RecordedEvent {
            stream: StreamName::new("a").unwrap(),
            revision: position,
            position: Position::at(position),
            id: uuid::Uuid::nil(),
            event_type: EventType::new("Happened").unwrap(),
            data: vec![b' '; bytes].into(),
            metadata: "{}".into(),
            recorded_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn positions(recent: &Recent, after: Option<u64>, limit: usize) -> Vec<u64> {
        recent.after(after.map(Position::at), limit).iter().map(|event| event.position.commit).collect()
    }

    #[test]
    fn only_what_stands_right_behind_is_known() {
        let recent = Recent::default();
        recent.add([3, 4, 0, 1, 6].map(|position| event(position, 1)));
        assert_eq!(positions(&recent, None, 9), [0, 1]);
        assert_eq!(positions(&recent, Some(0), 9), [1]);
        // Somebody else has appended what stands at two, and at five.
        assert_eq!(positions(&recent, Some(1), 9), [0; 0]);
        assert_eq!(positions(&recent, Some(2), 9), [3, 4]);
        assert_eq!(positions(&recent, Some(2), 1), [3]);
        assert_eq!(positions(&recent, Some(6), 9), [0; 0]);
    }

    #[test]
    fn it_forgets_the_oldest() {
        let recent = Recent::default();
        recent.add((0..KEPT.0 as u64 + 1).map(|position| event(position, 1)));
        assert_eq!((positions(&recent, None, 1), positions(&recent, Some(0), 1)), (vec![], vec![1]));
        recent.add([event(KEPT.0 as u64 + 1, KEPT.1 - 4)]);
        assert_eq!(positions(&recent, Some(KEPT.0 as u64 - 1), 1), [0; 0]);
        assert_eq!(positions(&recent, Some(KEPT.0 as u64), 9), [KEPT.0 as u64 + 1]);
    }
}
