//! What goes into one batch: pure planning, apart from the database.
//!
//! A batch holds at most one entry a stream. Appends to the same stream share an entry when each is certain to succeed
//! if the first one does; what is not certain waits for the next batch, where it is decided on what is then there.

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::sequencer::Job;
use crate::{Expected, StreamName};

/// The most events in one batch.
const MAX_EVENTS: usize = 2_000;
/// The most bytes in one batch. The first entry goes in whatever its size.
const MAX_BYTES: usize = 4_000_000;

/// The appends to one stream in a batch. The first decides; the others follow from it.
pub(super) struct Entry {
    pub(super) stream: StreamName,
    pub(super) expected: Expected,
    pub(super) jobs: Vec<Job>,
    /// The last revision after this entry, where the expectation says it.
    revision: Option<u64>,
}

impl Entry {
    pub(super) fn opened_by(job: Job) -> Self {
        let (stream, expected) = (job.append.stream.clone(), job.append.expected);
        let revision = expected.first_revision().map(|first| first.saturating_add(job.append.events.len() as u64 - 1));
        Self { stream, expected, jobs: vec![job], revision }
    }

    /// Whether an append is certain to succeed when this entry does.
    fn carries(&self, expected: Expected) -> bool {
        match expected {
            Expected::Any | Expected::Exists => true,
            Expected::NoStream => false,
            Expected::Exact(revision) => self.revision == Some(revision),
            Expected::After { revision, id } => self.revision == Some(revision) && self.last_id() == Some(id),
        }
    }

    /// The id of the last event after this entry.
    fn last_id(&self) -> Option<Uuid> {
        self.jobs.last().and_then(|job| job.append.events.last()).map(|event| event.id)
    }

    fn take(&mut self, job: Job) {
        self.revision = self.revision.map(|revision| revision.saturating_add(job.append.events.len() as u64));
        self.jobs.push(job);
    }
}

/// Takes from the front of the queue what fits into one batch. What must wait keeps its order; so does every append to a
/// stream that is `busy` in another batch.
pub(super) fn plan(queue: &mut VecDeque<Job>, busy: &HashSet<StreamName>) -> Vec<Entry> {
    let (mut entries, mut waiting) = (Vec::<Entry>::new(), VecDeque::new());
    let mut places = HashMap::<StreamName, usize>::new();
    // A stream with a waiting append: those behind it wait too, or they would overtake it.
    let mut blocked = HashSet::<StreamName>::new();
    let (mut events, mut bytes) = (0, 0);
    while let Some(job) = queue.pop_front() {
        let (more_events, more_bytes) = (job.append.events.len(), job.size());
        if events > 0 && (events + more_events > MAX_EVENTS || bytes + more_bytes > MAX_BYTES) {
            queue.push_front(job);
            break;
        }
        let stream = &job.append.stream;
        match places.get(stream) {
            _ if blocked.contains(stream) || busy.contains(stream) => {
                waiting.push_back(job);
                continue;
            }
            Some(&place) if entries[place].carries(job.append.expected) => entries[place].take(job),
            Some(_) => {
                blocked.insert(stream.clone());
                waiting.push_back(job);
                continue;
            }
            None => {
                places.insert(stream.clone(), entries.len());
                entries.push(Entry::opened_by(job));
            }
        }
        events += more_events;
        bytes += more_bytes;
    }
    while let Some(job) = waiting.pop_back() {
        queue.push_front(job);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::sequencer::apart;
    use super::*;
    use crate::{Append, EventType, NewEvent};

    fn job(stream: &str, expected: Expected, events: usize) -> Job {
        let event = |_| NewEvent {
            id: uuid::Uuid::nil(),
            event_type: EventType::new("Happened").unwrap(),
            data: "{}".into(),
            metadata: "{}".into(),
        };
        let append =
            Append { stream: StreamName::new(stream).unwrap(), expected, events: (0..events).map(event).collect() };
        Job { append, reply: tokio::sync::oneshot::channel().0, may_be_written: false }
    }

    /// The plan as (stream, number of jobs), and the streams that are left in the queue.
    fn planned(jobs: Vec<Job>) -> (Vec<(String, usize)>, Vec<String>) {
        planned_beside(&[], jobs)
    }

    /// The same, while these streams are in another batch.
    fn planned_beside(busy: &[&str], jobs: Vec<Job>) -> (Vec<(String, usize)>, Vec<String>) {
        let busy = busy.iter().map(|stream| StreamName::new(stream).unwrap()).collect();
        let mut queue = VecDeque::from(jobs);
        let entries = plan(&mut queue, &busy);
        let name = |stream: &StreamName| stream.to_string();
        (
            entries.iter().map(|entry| (name(&entry.stream), entry.jobs.len())).collect(),
            queue.iter().map(|job| name(&job.append.stream)).collect(),
        )
    }

    fn one(stream: &str, jobs: usize) -> (String, usize) {
        (stream.to_owned(), jobs)
    }

    #[test]
    fn appends_that_follow_from_the_first_share_its_entry() {
        let jobs = vec![job("a", Expected::NoStream, 2), job("a", Expected::Exact(1), 1), job("a", Expected::Any, 1)];
        assert_eq!(planned(jobs), (vec![one("a", 3)], vec![]));
    }

    #[test]
    fn rivals_for_one_revision_wait_for_the_next_batch() {
        let jobs = vec![job("a", Expected::Exact(4), 1), job("a", Expected::Exact(4), 1)];
        assert_eq!(planned(jobs), (vec![one("a", 1)], vec!["a".to_owned()]));
    }

    #[test]
    fn nothing_overtakes_a_waiting_append_to_the_same_stream() {
        let jobs = vec![
            job("a", Expected::Any, 1),
            job("a", Expected::Exact(7), 1),
            job("a", Expected::Any, 1),
            job("b", Expected::NoStream, 1),
        ];
        assert_eq!(planned(jobs), (vec![one("a", 1), one("b", 1)], vec!["a".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn a_stream_is_in_one_batch_at_a_time() {
        let jobs = vec![job("a", Expected::Any, 1), job("b", Expected::NoStream, 1), job("a", Expected::Any, 1)];
        assert_eq!(planned_beside(&["a"], jobs), (vec![one("b", 1)], vec!["a".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn a_batch_is_bounded() {
        let jobs = (0..3).map(|n| job(&format!("s-{n}"), Expected::NoStream, MAX_EVENTS / 2)).collect();
        let (entries, left) = planned(jobs);
        assert_eq!((entries.len(), left), (2, vec!["s-2".to_owned()]));
    }

    #[test]
    fn one_large_append_goes_alone() {
        let (entries, left) = planned(vec![job("a", Expected::Any, MAX_EVENTS + 1), job("b", Expected::Any, 1)]);
        assert_eq!((entries, left), (vec![one("a", 1)], vec!["b".to_owned()]));
    }

    #[test]
    fn after_a_lost_answer_appends_go_again_one_by_one_and_in_order() {
        let jobs = [(Expected::NoStream, 1), (Expected::Exact(0), 2), (Expected::Any, 1), (Expected::Exact(3), 1)];
        let mut queue = jobs.map(|(expected, events)| job("a", expected, events)).into();
        let (entries, mut again) = (plan(&mut queue, &HashSet::new()), VecDeque::new());
        assert_eq!((entries.len(), queue.len()), (1, 0));
        let alone = apart(entries, &mut again, &std::sync::Arc::new(sqlx::Error::WorkerCrashed));
        let of = |job: &Job| (job.append.expected, job.may_be_written);
        assert_eq!(
            alone.iter().flat_map(|entry| &entry.jobs).map(of).collect::<Vec<_>>(),
            [(Expected::NoStream, true)]
        );
        // What expects anything is answered, for the log would not recognise it.
        assert_eq!(again.iter().map(of).collect::<Vec<_>>(), [(Expected::Exact(0), true), (Expected::Exact(3), true)]);
    }
}
