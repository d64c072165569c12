//! The one task of a process that appends: it hands what comes to the server's batch-append session, without waiting for
//! one answer before the next append is sent.
//!
//! The server is where appends are grouped: it writes what has arrived as one, and syncs once. Sent one by one as calls of
//! their own they would wait for each other's acknowledgements in the network; as frames of one session they do not.
//! Appends to one stream are sent one after another, in the order in which they came; each is decided by the server on
//! its own.
//!
//! # Why an append that is sent again is not written twice
//!
//! Answers get lost: a deadline passes, a node is deposed, a session breaks. (One conflict is enough for the latter: the
//! client closes the session at the first refusal, and forgets the answers that its neighbours wait for.) The append is
//! then sent again, and what was sent first may still be on its way.
//!
//! Let the append have n ≥ 1 events, and let its expected revision be e, or -1 for a stream without events. When the
//! server comes to it, the stream's last revision is c, and there are three cases:
//!
//! - c = e: the events are written as e+1 … e+n. **No id is looked at.**
//! - c > e: nothing is written. If the ids from e+1 on are those of the append, it counts as done before and is answered
//!   with success; otherwise it is refused.
//! - c < e: nothing is written, it is refused.
//!
//! Revisions of a stream only grow, so c = e holds until the first append at e and never after. Of any number of copies
//! with the same e, at most one is therefore written, whenever they arrive, and each copy that arrives after it finds
//! c > e and its own ids. What would break this is *another e*: a copy that was sent with the revision that the stream has
//! meanwhile finds c = e again, and is written a second time. Hence:
//!
//! 1. The expectation of an append and the ids of its events are frozen before it is sent for the first time, and every
//!    further copy is the same.
//! 2. `Any` and `Exists` name no revision (the server would know a copy only as long as its ids are in a cache). The
//!    stream's last revision is read, and the append is made exact. It gets another revision only when it is certain that
//!    no copy of it was or will be written: when the place e+1 is taken by another event.
//! 3. That an event is *not* there proves nothing, for it may come late. A refusal proves that nothing was written only if
//!    no other copy is on its way, or if the place e+1 is taken. Otherwise, and when nobody answers for too long, the
//!    answer is [`AppendError::Unknown`].
//!
//! (Only deletions undo this: a deleted stream can be begun anew. Nothing here deletes.)

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use eventstore::{BatchAppendClient, BatchAppendOptions, EventData};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use metrics::{counter, histogram};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connection::{Chain, Connection, Failure, guarded, within};
use super::convert;
use super::read::{Reader, Tail, raise};
use crate::{Append, AppendError, Appended, Direction, Expected, NewEvent, StreamName};

/// The most appends that are under way or wait in here. More wait in the channel, and then with those who append.
const HELD: usize = 4_096;
/// The most bytes of events that are held. One append is held whatever its size.
const HELD_BYTES: usize = 32_000_000;
/// How many copies of an append may get lost before it is given up.
const COPIES: u32 = 50;
/// How often it is looked at a stream that does not show yet what was decided on it.
const LOOKS: u32 = 10;

/// An append and where its answer goes.
pub(super) struct Job {
    pub(super) append: Append,
    pub(super) reply: oneshot::Sender<Result<Appended, AppendError>>,
}

impl Job {
    fn size(&self) -> usize {
        self.append.events.iter().map(NewEvent::size).sum()
    }
}

/// The appends to one stream, while there are any.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// How many are under way.
    under_way: usize,
    /// The last revision of the stream as far as it is known: it may be higher by now.
    last_revision: Option<u64>,
}

impl Lane {
    /// The next append that may be carried out. One at a time, but those that were overtaken, as far as is known, have
    /// no order among them: what stands in the stream decides them.
    fn next(&mut self) -> Option<Job> {
        let first = self.waiting.front()?.append.expected.first_revision();
        let is_overtaken = first.is_some() && first <= self.last_revision;
        if self.under_way > 0 && !is_overtaken {
            return None;
        }
        self.under_way += 1;
        self.waiting.pop_front()
    }
}

/// Runs until every sender of `jobs` is gone and the last append is answered.
pub(super) async fn run(connection: Arc<Connection>, mut jobs: mpsc::Receiver<Job>, tail: watch::Sender<Option<Tail>>) {
    let writer = Writer::new(connection, tail);
    let mut lanes = HashMap::<StreamName, Lane>::new();
    let mut under_way = FuturesUnordered::new();
    let (mut held, mut held_bytes) = (0, 0);
    let mut open = true;
    loop {
        tokio::select! {
            job = jobs.recv(), if open && held < HELD && held_bytes < HELD_BYTES => {
                let Some(job) = job else {
                    open = false;
                    continue;
                };
                (held, held_bytes) = (held + 1, held_bytes + job.size());
                let lane = lanes.entry(job.append.stream.clone()).or_default();
                lane.waiting.push_back(job);
                while let Some(job) = lane.next() {
                    under_way.push(writer.carry_out(job, lane.last_revision));
                }
            }
            Some(done) = under_way.next() => {
                let Done { stream, size, last_revision } = done;
                (held, held_bytes) = (held - 1, held_bytes - size);
                let Some(lane) = lanes.get_mut(&stream) else { continue };
                lane.under_way -= 1;
                lane.last_revision = lane.last_revision.max(last_revision);
                while let Some(job) = lane.next() {
                    under_way.push(writer.carry_out(job, lane.last_revision));
                }
                if lane.under_way == 0 {
                    lanes.remove(&stream);
                }
            }
            else => return,
        }
    }
}

/// An append that was answered.
struct Done {
    stream: StreamName,
    size: usize,
    /// The last revision of the stream as far as it is known now.
    last_revision: Option<u64>,
}

/// What the server said of one copy of an append.
enum Verdict {
    /// It is in the log.
    Success(Appended),
    /// It is in the log, but the server does not say where.
    SuccessSomewhere,
    /// The stream is not as expected; this copy wrote nothing.
    Refused,
    /// It is too large for this server; this copy wrote nothing.
    TooLarge,
    /// This copy wrote nothing, and another one would not either.
    Never(Failure),
    /// This copy wrote nothing, but another one may.
    NotNow(Failure),
    /// Nobody knows what became of it.
    Lost(Failure),
}

/// What stands where an append would stand.
enum Place {
    /// The append itself.
    Taken(Appended),
    /// Something else: it can never be written there.
    Lost {
        /// The stream's last revision.
        last: u64,
    },
    /// Nothing, or nothing that was found.
    Free {
        /// The stream's last revision.
        last: Option<u64>,
    },
}

/// Writes appends.
struct Writer {
    reader: Reader,
    tail: watch::Sender<Option<Tail>>,
    /// For what is sent for the first time, and for what is sent again. What is sent again was mostly written before, and
    /// is not refused; on a session of its own it is not disturbed by the refusals of others.
    sessions: [Mutex<Option<Session>>; 2],
}

/// A batch-append session.
#[derive(Clone)]
struct Session {
    appends: Arc<BatchAppendClient>,
    /// Which client it belongs to.
    client: u64,
}

impl Writer {
    fn new(connection: Arc<Connection>, tail: watch::Sender<Option<Tail>>) -> Self {
        Self { reader: Reader::new(connection), tail, sessions: Default::default() }
    }

    fn connection(&self) -> &Connection {
        self.reader.connection()
    }

    /// Carries out an append and answers it. `known` is a revision that the stream has at the least.
    async fn carry_out(&self, job: Job, known: Option<u64>) -> Done {
        let (stream, size) = (job.append.stream.clone(), job.size());
        let answer = self.decide(&job.append, known).await;
        let last_revision = match &answer {
            Ok(appended) => {
                raise(&self.tail, Some(Tail { position: appended.position, stream: stream.to_string() }));
                Some(appended.revision)
            }
            Err(AppendError::Conflict { actual, .. }) => *actual,
            Err(_) => None,
        };
        // Who hung up does not need the answer; what was written stays written.
        let _ = job.reply.send(answer);
        Done { stream, size, last_revision }
    }

    async fn decide(&self, append: &Append, known: Option<u64>) -> Result<Appended, AppendError> {
        let give_up = Instant::now() + self.connection().timing().patience;
        let data: Vec<EventData> = append.events.iter().map(convert::event_data).collect();
        let mut copies = Copies { lost: 0, may_be_written: false };
        let mut known = known;
        loop {
            let frozen = self.freeze(append, known.take()).await?;
            let frozen = match frozen {
                Frozen::ToBeSent(expected) => expected,
                Frozen::Decided(answer) => return *answer,
            };
            let answer = self.send_until_decided(append, frozen, &data, &mut copies, give_up).await;
            match answer {
                // It was made exact here, and the stream has moved on. By now it is certain that no copy was written.
                Err(AppendError::Conflict { .. }) if matches!(append.expected, Expected::Any | Expected::Exists) => {
                    if Instant::now() >= give_up {
                        let error = Arc::new(Outpaced { stream: append.stream.clone() });
                        return Err(AppendError::Unavailable(error));
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Makes an expectation exact. One that was already overtaken, as far as is known, is decided without being sent:
    /// each refusal costs a session.
    async fn freeze(&self, append: &Append, known: Option<u64>) -> Result<Frozen, AppendError> {
        let expected = append.expected;
        if let Some(first) = expected.first_revision().filter(|first| known >= Some(*first)) {
            return Ok(match self.place(append, first, known).await {
                Ok(Place::Taken(appended)) => Frozen::Decided(Box::new(Ok(appended))),
                Ok(Place::Lost { last }) => Frozen::Decided(Box::new(Err(conflict(append, Some(last))))),
                // The server is to say what that means.
                Ok(Place::Free { .. }) | Err(_) => Frozen::ToBeSent(expected),
            });
        }
        // The server counts in signed numbers. No stream has a revision past them, and it does not take one as expected.
        let is_real = expected.first_revision().is_some_and(|first| i64::try_from(first).is_ok());
        if is_real {
            return Ok(Frozen::ToBeSent(expected));
        }
        match self.last_revision(&append.stream).await {
            Ok(last) if expected.holds(last) => Ok(Frozen::ToBeSent(Expected::last(last))),
            Ok(last) => Ok(Frozen::Decided(Box::new(Err(conflict(append, last))))),
            Err(failure) => Err(AppendError::Unavailable(Arc::new(failure))),
        }
    }

    /// Sends an append, the same bytes each time, until it is known what became of it.
    async fn send_until_decided(
        &self,
        append: &Append,
        frozen: Expected,
        data: &[EventData],
        copies: &mut Copies,
        give_up: Instant,
    ) -> Result<Appended, AppendError> {
        loop {
            let failure = match self.send(append, frozen, data, copies.lost > 0).await {
                Verdict::Success(appended) => return Ok(appended),
                Verdict::SuccessSomewhere => match self.look(append, frozen).await {
                    Ok(Place::Taken(appended)) => return Ok(appended),
                    Ok(_) => return Err(AppendError::Unknown(Arc::new(Nowhere))),
                    Err(failure) => return Err(AppendError::Unknown(Arc::new(failure))),
                },
                Verdict::Refused => return self.refused(append, frozen, copies).await,
                Verdict::TooLarge => {
                    let bytes = append.events.iter().map(NewEvent::size).sum();
                    return Err(AppendError::Limit { events: append.events.len(), bytes });
                }
                Verdict::Never(failure) => return Err(copies.failed(failure)),
                Verdict::NotNow(failure) => failure,
                Verdict::Lost(failure) => {
                    copies.may_be_written = true;
                    copies.lost += 1;
                    failure
                }
            };
            if copies.lost >= COPIES || Instant::now() >= give_up {
                return Err(copies.failed(failure));
            }
            tracing::debug!(
                error = %Chain(&failure), stream = %append.stream, copies = copies.lost,
                "an append was not answered; sending the same again"
            );
            // The first time at once: mostly it was a neighbour's conflict that closed the session.
            if copies.lost != 1 {
                tokio::time::sleep(self.connection().timing().pause).await;
            }
        }
    }

    /// What a refusal means, given what stands in the stream and what was sent before.
    async fn refused(&self, append: &Append, frozen: Expected, copies: &mut Copies) -> Result<Appended, AppendError> {
        let mut looks = 0;
        loop {
            match self.look(append, frozen).await {
                Ok(Place::Taken(appended)) => return Ok(appended),
                Ok(Place::Lost { last }) => {
                    copies.may_be_written = false;
                    return Err(conflict(append, Some(last)));
                }
                // Nothing is there, although the stream is as expected or longer, and it was refused: what is read lags behind
                // what was decided.
                Ok(Place::Free { last })
                    if looks < LOOKS && (frozen.holds(last) || last >= frozen.first_revision()) =>
                {
                    looks += 1;
                }
                // The stream is shorter than expected. A copy that is still on its way could be written when it has grown.
                Ok(Place::Free { .. }) if copies.may_be_written => return Err(AppendError::Unknown(Arc::new(Nowhere))),
                Ok(Place::Free { last }) => return Err(conflict(append, last)),
                // It was refused, that much is known; but the port wants to be told the revision.
                Err(failure) => return Err(copies.failed(failure)),
            }
            tokio::time::sleep(self.connection().timing().pause).await;
        }
    }

    async fn look(&self, append: &Append, frozen: Expected) -> Result<Place, Failure> {
        match frozen.first_revision() {
            Some(first) => self.place(append, first, None).await,
            None => Ok(Place::Free { last: self.last_revision(&append.stream).await? }),
        }
    }

    /// What stands in the stream from `first` on, where the append would stand. `known` is a revision that the stream has at
    /// the least, where one is known.
    async fn place(&self, append: &Append, first: u64, known: Option<u64>) -> Result<Place, Failure> {
        let mut there = Vec::with_capacity(append.events.len());
        // A page may be cut short by its size.
        while there.len() < append.events.len() {
            let (from, count) = (first.saturating_add(there.len() as u64), append.events.len() - there.len());
            let page = self.reader.stream(&append.stream, Some(from), Direction::Forwards, count, true).await?;
            let end = page.end || page.events.is_empty();
            there.extend(page.events.into_iter().map(|event| (event.id, event.revision, event.position)));
            if end {
                break;
            }
        }
        let is_there = there.iter().map(|(id, ..)| id).eq(append.events.iter().map(|event| &event.id));
        if let Some(&(_, revision, position)) = there.last().filter(|_| is_there) {
            return Ok(Place::Taken(Appended { revision, position }));
        }
        let seen = there.last().map(|&(_, revision, _)| revision);
        let is_taken = there.first().is_some_and(|&(_, revision, _)| revision == first);
        let last = match known {
            Some(_) if is_taken => known.max(seen),
            _ => self.last_revision(&append.stream).await?.max(seen),
        };
        Ok(if is_taken { Place::Lost { last: last.unwrap_or(first) } } else { Place::Free { last } })
    }

    async fn last_revision(&self, stream: &StreamName) -> Result<Option<u64>, Failure> {
        let page = self.reader.stream(stream, None, Direction::Backwards, 1, true).await?;
        Ok(page.events.first().map(|event| event.revision))
    }

    /// Sends one copy of an append, and waits for the answer.
    async fn send(&self, append: &Append, frozen: Expected, data: &[EventData], again: bool) -> Verdict {
        let slot = &self.sessions[usize::from(again)];
        let session = match self.session(slot).await {
            Ok(session) => session,
            Err(failure) => return Verdict::NotNow(failure),
        };
        let answer =
            session.appends.append_to_stream(append.stream.as_str(), convert::stream_state(frozen), data.to_vec());
        let sent = Instant::now();
        let failure = match within(self.connection().timing().answer, answer).await {
            Ok(written) => {
                histogram!("log_append_seconds").record(sent.elapsed());
                histogram!("log_append_events").record(data.len() as f64);
                let position = written.current_position().and_then(convert::position);
                return match (written.current_revision(), position) {
                    (Some(revision), Some(position)) => Verdict::Success(Appended { revision, position }),
                    _ => Verdict::SuccessSomewhere,
                };
            }
            Err(failure) => failure,
        };
        // Whatever was wrong, the session is over: the client closes it at the first error.
        self.close(slot, &session).await;
        let verdict = judge(failure);
        if let Verdict::NotNow(failure) | Verdict::Lost(failure) = &verdict
            && failure.breaks_the_client()
            && !is_of_a_neighbour(failure)
        {
            self.connection().replace(session.client).await;
        }
        verdict
    }

    async fn session(&self, slot: &Mutex<Option<Session>>) -> Result<Session, Failure> {
        let mut slot = slot.lock().await;
        if let Some(session) = &*slot {
            return Ok(session.clone());
        }
        let (number, client) = self.connection().client().await?;
        let options = BatchAppendOptions::default().requires_leader(true);
        let options = match self.connection().credentials() {
            Some(credentials) => options.authenticated(credentials),
            None => options,
        };
        let time = self.connection().timing().answer;
        // To open one is also to connect, if the client is new.
        match guarded(async move { within(time, client.batch_append(&options)).await }).await {
            Ok(appends) => Ok(slot.insert(Session { appends: Arc::new(appends), client: number }).clone()),
            Err(failure) => {
                if failure.breaks_the_client() {
                    self.connection().replace(number).await;
                }
                Err(failure)
            }
        }
    }

    /// Has the next append open another session, unless one has already.
    async fn close(&self, slot: &Mutex<Option<Session>>, session: &Session) {
        let mut slot = slot.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(&current.appends, &session.appends)) {
            *slot = None;
        }
    }
}

/// An expectation, made exact.
enum Frozen {
    ToBeSent(Expected),
    /// What stands in the stream decides it already.
    Decided(Box<Result<Appended, AppendError>>),
}

/// What is known of the copies of an append that were sent.
struct Copies {
    /// How many were not answered.
    lost: u32,
    /// Whether one of them may have been written, or may yet be.
    may_be_written: bool,
}

impl Copies {
    fn failed(&self, failure: Failure) -> AppendError {
        counter!("log_append_failures_total").increment(1);
        let failure = Arc::new(failure);
        if self.may_be_written { AppendError::Unknown(failure) } else { AppendError::Unavailable(failure) }
    }
}

/// What an error that the client reports for an append means.
fn judge(failure: Failure) -> Verdict {
    use eventstore::Error;
    let Failure::Client(error) = &failure else { return Verdict::Lost(failure) };
    // These come from the server in answer to this very append. Codes are named by number here, for the client does not
    // export their type: they are those of gRPC.
    if let Error::Grpc { code, message } = error {
        return match i32::from(*code) {
            // Not an error: "not ready", "too busy", "no leader".
            0 => Verdict::NotNow(failure),
            6 => Verdict::Refused,
            3 if message.starts_with("MaximumAppend") => Verdict::TooLarge,
            // Malformed, deleted for good, not allowed.
            3 | 5 | 7 | 16 => Verdict::Never(failure),
            _ => Verdict::Lost(failure),
        };
    }
    match error {
        Error::WrongExpectedVersion { .. } => Verdict::Refused,
        Error::UnsupportedFeature => Verdict::Never(failure),
        _ => Verdict::Lost(failure),
    }
}

/// Whether a session was closed by the client because another append of it was refused.
fn is_of_a_neighbour(failure: &Failure) -> bool {
    matches!(failure, Failure::Client(eventstore::Error::ServerError(text)) if text.contains("Batch-append stream"))
}

fn conflict(append: &Append, actual: Option<u64>) -> AppendError {
    AppendError::Conflict { stream: append.stream.clone(), expected: append.expected, actual }
}

/// Others append to a stream faster than its last revision can be read.
#[derive(Debug, thiserror::Error)]
#[error("the stream {stream} moves on faster than an append can be made exact")]
struct Outpaced {
    stream: StreamName,
}

/// The log says that it took an append, or may have, and has it not.
#[derive(Debug, thiserror::Error)]
#[error("the events are not where they would be")]
struct Nowhere;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventType;

    /// How many of the waiting appends may start, and how many go on waiting.
    fn started(under_way: usize, last_revision: Option<u64>, waiting: &[Expected]) -> (usize, usize) {
        let event = NewEvent {
            id: uuid::Uuid::nil(),
            event_type: EventType::new("Happened").unwrap(),
            data: "{}".into(),
            metadata: "{}".into(),
        };
        let job = |&expected: &Expected| Job {
            append: Append { stream: StreamName::new("a-1").unwrap(), expected, events: vec![event.clone()] },
            reply: oneshot::channel().0,
        };
        let mut lane = Lane { waiting: waiting.iter().map(job).collect(), under_way, last_revision };
        (std::iter::from_fn(|| lane.next()).count(), lane.waiting.len())
    }

    #[test]
    fn appends_to_one_stream_go_one_after_another() {
        use Expected::{Any, Exact, NoStream};
        assert_eq!(started(0, None, &[NoStream, Exact(0), Any]), (1, 2));
        assert_eq!(started(1, Some(4), &[Exact(4), Any]), (0, 2));
    }

    #[test]
    fn what_was_overtaken_is_decided_at_once_and_overtakes_nothing() {
        use Expected::{Any, Exact, NoStream};
        assert_eq!(started(0, Some(4), &[NoStream, Exact(3), Exact(0)]), (3, 0));
        assert_eq!(started(1, Some(4), &[Exact(3), Exact(4), Exact(3)]), (1, 2));
        assert_eq!(started(1, Some(4), &[Any, Exact(3)]), (0, 2));
    }

    fn of_the_server(code: i32, message: &str) -> Verdict {
        judge(Failure::Client(eventstore::Error::Grpc { code: code.into(), message: message.to_owned() }))
    }

    #[test]
    fn what_the_server_says_of_an_append_is_understood() {
        assert!(matches!(of_the_server(6, "WrongExpectedVersion"), Verdict::Refused));
        assert!(matches!(of_the_server(0, "Server Is Busy"), Verdict::NotNow(_)));
        assert!(matches!(of_the_server(4, "Timeout"), Verdict::Lost(_)));
        assert!(matches!(of_the_server(2, "Unknown"), Verdict::Lost(_)));
        assert!(matches!(of_the_server(3, "MaximumAppendSizeExceeded"), Verdict::TooLarge));
        assert!(matches!(of_the_server(3, "MaximumAppendEventSizeExceeded"), Verdict::TooLarge));
        assert!(matches!(of_the_server(3, "BadRequest"), Verdict::Never(_)));
        assert!(matches!(of_the_server(7, "AccessDenied"), Verdict::Never(_)));
        assert!(matches!(of_the_server(5, "StreamDeleted"), Verdict::Never(_)));
    }

    #[test]
    fn a_session_that_ends_leaves_its_appends_unknown() {
        use eventstore::{Endpoint, Error};
        let leader = Endpoint { host: "node".to_owned(), port: 2113 };
        for error in [
            Error::NotLeaderException(leader),
            Error::DeadlineExceeded,
            Error::ConnectionClosed,
            Error::AccessDenied,
            Error::ServerError("unavailable".to_owned()),
        ] {
            assert!(matches!(judge(Failure::Client(error)), Verdict::Lost(_)));
        }
    }
}
