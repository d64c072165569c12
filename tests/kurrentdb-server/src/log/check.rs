//! Whether the server writes: as its `IndexWriter.CheckCommit` decides.

use uuid::Uuid;

use super::retention::METASTREAM_PREFIX;
use super::{Expected, Rejected, State};

/// What is to become of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes to the end of the stream.
    Write,
    /// It was written before, and ended at this revision.
    Repeated { last: u64 },
    /// It does not happen.
    Rejected(Rejected),
}

impl State {
    /// Decides on a write of these events.
    ///
    /// A repeated write is recognised in two ways only. When it expects a revision before the last one, the ids that stand
    /// in the stream from there on are compared with its own. When it expects any revision, or any event, its ids are
    /// looked up among those that are remembered. A write that expects the very last revision is never compared with
    /// anything: sent again with a new expectation, it is written again.
    pub(super) fn check(&self, stream: &str, expected: Expected, ids: &[Uuid]) -> Decision {
        if self.has_tombstone(stream) {
            return Decision::Rejected(Rejected::Deleted);
        }
        let current = self.last(stream);
        let wrong = Decision::Rejected(Rejected::WrongExpectedVersion { current });
        let count = ids.len() as u64;
        match expected {
            Expected::Exists if self.is_soft_deleted(stream) || !self.exists(stream) => wrong,
            Expected::Any | Expected::Exists => self.check_remembered(stream, ids).unwrap_or(wrong),
            Expected::NoStream if current.is_none() => Decision::Write,
            Expected::Exact(revision) if current == Some(revision) => Decision::Write,
            Expected::Exact(revision) if current < Some(revision) => wrong,
            Expected::NoStream | Expected::Exact(_) => {
                let first = if let Expected::Exact(revision) = expected { revision + 1 } else { 0 };
                let written = |(offset, id): (u64, &Uuid)| {
                    self.record(stream, first + offset).is_some_and(|record| record.event.id == *id)
                };
                match (0..).zip(ids).take_while(|&event| written(event)).count() as u64 {
                    0 if expected == Expected::NoStream && self.is_soft_deleted(stream) => Decision::Write,
                    0 => wrong,
                    same if same == count => Decision::Repeated { last: first + count - 1 },
                    // Some of it is there and the rest is not: it is another write.
                    _ => wrong,
                }
            }
        }
    }

    /// Decides on a write to a stream of whatever revision; `None` when only a part of it is remembered.
    fn check_remembered(&self, stream: &str, ids: &[Uuid]) -> Option<Decision> {
        let mut last = None;
        for id in ids {
            match (self.recent.revision(id, stream), last) {
                (Some(revision), _) => last = Some(revision),
                (None, None) => return Some(Decision::Write),
                (None, Some(_)) => return None,
            }
        }
        Some(last.map_or(Decision::Write, |last| Decision::Repeated { last }))
    }

    /// Whether a stream has an event, or at least metadata.
    fn exists(&self, stream: &str) -> bool {
        self.last(stream).is_some() || self.last(&format!("{METASTREAM_PREFIX}{stream}")).is_some()
    }
}
