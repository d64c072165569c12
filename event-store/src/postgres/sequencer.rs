//! The one thread of a process that appends: it writes what queued up as one batch while the next queues up.
//!
//! It is a thread of its own, for every command of the process waits for it: as a task among those of the requests it would
//! have its turn after theirs, each time that the database has answered, and the database would have nothing to do meanwhile.
//!
//! Each append is decided on its own, in the database, under the append lock. When the connection breaks in the middle
//! of a batch nobody knows whether it was written; appends with a frozen expectation are sent again as they were, and
//! the log recognises them by their ids.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use metrics::{counter, histogram};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection as _, Row};
use tokio::runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::batch::{self, Entry};
use super::{End, position};
use crate::{Append, AppendError, Appended, Expected, NewEvent, Position, RecordedEvent, StreamName};

/// For how long a broken connection is mended before the waiting appends fail.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// After this long without an answer a batch counts as lost.
const DEADLINE: Duration = Duration::from_secs(30);

/// An append and where its answer goes.
pub(super) struct Job {
    pub(super) append: Append,
    pub(super) reply: oneshot::Sender<Result<Written, AppendError>>,
    /// Whether it was sent and its answer lost: from then on no refusal says that nothing was written.
    pub(super) may_be_written: bool,
}

/// What became of an append.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) appended: Appended,
    /// Whether it was written now, so that its events stand side by side in the log. What was there before may have been
    /// written one by one.
    pub(super) side_by_side: bool,
}

impl Job {
    pub(super) fn size(&self) -> usize {
        self.append.events.iter().map(NewEvent::size).sum()
    }

    fn answer(self, answer: Result<Written, AppendError>) {
        // Who hung up does not need the answer; what was written stays written.
        let _ = self.reply.send(answer);
    }
}

/// How many batches are under way at a time. They are written one after another, under the lock; but while one syncs the
/// next is at the server already, waiting for the lock and nothing else.
const LANES: usize = 2;
/// How many appends have to wait to be written beside a batch that is under way. Fewer are cheaper with the next: each batch
/// costs the server as much as several of its appends, and a sync.
const BESIDE: usize = 32;
/// How many appends wait in here at most. More wait in the channel, and then with those who append.
const WAITING: usize = 4_096;
/// How many appends wait in the channel at most.
const QUEUE: usize = 4_096;

/// Where appends are handed in.
pub(super) struct Desk {
    jobs: mpsc::Sender<Job>,
    bell: Arc<Bell>,
}

/// Wakes the sequencer while a batch is under way, once enough has come for another. To wake it for each append would cost more
/// than it does to write it.
struct Bell {
    /// How many appends have to wait in the channel.
    enough: AtomicUsize,
    rung: Notify,
}

impl Desk {
    /// Hands an append in.
    ///
    /// # Errors
    /// When the sequencer is gone.
    pub(super) async fn hand_in(&self, job: Job) -> Result<(), mpsc::error::SendError<Job>> {
        self.jobs.send(job).await?;
        // What is missed here is seen when the batch has ended.
        if self.jobs.max_capacity() - self.jobs.capacity() >= self.bell.enough.load(Relaxed) {
            self.bell.rung.notify_one();
        }
        Ok(())
    }
}

/// Starts the sequencer. It ends when the desk is gone and everything that was handed in is done.
///
/// # Errors
/// When the system has no room for a thread, or for what it works with.
pub(super) async fn start(options: PgConnectOptions, end: Arc<End>) -> io::Result<Desk> {
    let (jobs, handed_in) = mpsc::channel(QUEUE);
    let bell = Arc::new(Bell { enough: AtomicUsize::new(usize::MAX), rung: Notify::new() });
    let desk = Desk { jobs, bell: bell.clone() };
    let (started, starting) = oneshot::channel();
    // The runtime is made where it is dropped, for that may block.
    let work = move || {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        // Who opened the log may have gone again; then the desk is gone as well.
        let _ = started.send(Ok(()));
        runtime.block_on(run(options, handed_in, &bell, &end));
    };
    thread::Builder::new().name("log-sequencer".to_owned()).spawn(work)?;
    starting.await.map_err(io::Error::other)??;
    Ok(desk)
}

/// Runs until the desk is gone and the queue is drained.
async fn run(options: PgConnectOptions, mut jobs: mpsc::Receiver<Job>, bell: &Bell, end: &End) {
    let options = for_appends(options);
    let mut idle: Vec<Link> =
        (0..LANES).map(|_| Link { options: options.clone(), connection: None, doubts: 0 }).collect();
    let mut lanes = FuturesUnordered::new();
    let mut busy = HashSet::new();
    let mut queue = VecDeque::new();
    let mut open = true;
    // How many appends are in the batches that are under way.
    let mut under_way = 0;
    loop {
        while queue.len() < WAITING
            && let Ok(job) = jobs.try_recv()
        {
            queue.push_back(job);
        }
        // Beside a batch that is under way only one that is as large is worth a sync of its own. A smaller one would wait
        // for the lock; it grows in the meantime.
        let enough = if under_way == 0 { 1 } else { BESIDE.max(under_way) };
        let entries =
            if !idle.is_empty() && queue.len() >= enough { batch::plan(&mut queue, &busy) } else { Vec::new() };
        if !entries.is_empty()
            && let Some(mut link) = idle.pop()
        {
            let streams: Vec<StreamName> = entries.iter().map(|entry| entry.stream.clone()).collect();
            let size: usize = entries.iter().map(|entry| entry.jobs.len()).sum();
            busy.extend(streams.iter().cloned());
            under_way += size;
            lanes.push(async move {
                let mut again = VecDeque::new();
                write(&mut link, entries, &mut again, end, Instant::now() + PATIENCE).await;
                (link, streams, size, again)
            });
        }
        let missing =
            if idle.is_empty() { usize::MAX } else { BESIDE.max(under_way).saturating_sub(queue.len()).max(1) };
        bell.enough.store(missing, Relaxed);
        tokio::select! {
            job = jobs.recv(), if open && under_way == 0 => match job {
                Some(job) => queue.push_back(job),
                None => open = false,
            },
            Some((link, streams, size, again)) = lanes.next() => {
                idle.push(link);
                under_way -= size;
                streams.iter().for_each(|stream| { busy.remove(stream); });
                again.into_iter().rev().for_each(|job| queue.push_front(job));
            }
            () = bell.rung.notified(), if under_way > 0 => {}
            else => return,
        }
    }
}

/// The options of a connection that appends.
fn for_appends(options: PgConnectOptions) -> PgConnectOptions {
    // The plans in here must not depend on how full the table was when they were made.
    options.application_name("storefold log").options([
        ("enable_seqscan", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
        // Whatever the database's defaults are: each statement in log.append has to see what was committed before it.
        ("default_transaction_isolation", "read committed"),
        // The server gives up before this side does, so that no batch waits for the lock when nobody waits for it.
        ("statement_timeout", "25s"),
        // Who holds the lock and says nothing more, frozen or cut off, keeps all others from it.
        ("idle_in_transaction_session_timeout", "25s"),
    ])
}

/// Appends in just this order, in one transaction on a connection of its own: all or nothing.
pub(super) async fn write_in_order(
    options: PgConnectOptions,
    appends: &[Append],
) -> Result<Vec<Appended>, AppendError> {
    let unavailable = |error: sqlx::Error| AppendError::Unavailable(Arc::new(error));
    let mut connection = for_appends(options).connect().await.map_err(unavailable)?;
    let mut transaction = connection.begin().await.map_err(unavailable)?;
    let mut written = Vec::with_capacity(appends.len());
    for wave in waves(appends).into_iter().filter(|wave| !wave.is_empty()) {
        let pieces: Vec<Piece> = wave.iter().map(Piece::of_append).collect();
        let outcomes = append(&mut transaction, true, &pieces).await.map_err(unavailable)?;
        for (append, outcome) in wave.iter().zip(outcomes) {
            let Some(Place { first, .. }) = outcome.written else {
                let (stream, expected) = (append.stream.clone(), append.expected);
                return Err(AppendError::Conflict { stream, expected, actual: outcome.last_revision });
            };
            let further = append.events.len() as u64 - 1;
            let revision = outcome.last_revision.map_or(0, |last| last + 1) + further;
            written.push(Appended { revision, position: Position::at(first + further) });
        }
    }
    transaction.commit().await.map_err(|error| AppendError::Unknown(Arc::new(error)))?;
    // What was asked for is done, however the connection ends.
    let _ = connection.close().await;
    Ok(written)
}

/// Appends in stretches in which each stream occurs once, as `log.append` takes them.
fn waves(appends: &[Append]) -> Vec<&[Append]> {
    let (mut waves, mut begin, mut streams) = (Vec::new(), 0, HashSet::new());
    for (place, append) in appends.iter().enumerate() {
        if !streams.insert(&append.stream) {
            waves.push(&appends[begin..place]);
            begin = place;
            streams = HashSet::from([&append.stream]);
        }
    }
    waves.push(&appends[begin..]);
    waves
}

impl<'a> Piece<'a> {
    fn of_entry(entry: &'a Entry) -> Self {
        let events = entry.jobs.iter().flat_map(|job| &job.append.events).collect();
        Self { stream: entry.stream.as_str(), expected: entry.expected, events }
    }

    fn of_append(append: &'a Append) -> Self {
        Self { stream: append.stream.as_str(), expected: append.expected, events: append.events.iter().collect() }
    }
}

/// What became of an entry.
struct Outcome {
    /// The stream's last revision before the batch.
    last_revision: Option<u64>,
    /// Where its events are; `None` when the expectation failed and nothing was written.
    written: Option<Place>,
}

/// Where the events of an entry stand in the log.
struct Place {
    /// The position of the first; the others follow without a gap.
    first: u64,
    recorded_at: DateTime<Utc>,
}

/// Writes a batch and answers its appends, at the latest soon after `give_up`. What has to be decided anew goes to `again`.
async fn write(link: &mut Link, mut entries: Vec<Entry>, again: &mut VecDeque<Job>, end: &End, give_up: Instant) {
    while !entries.is_empty() {
        let sent = Instant::now();
        let error = match link.send(&entries).await {
            Ok(outcomes) => {
                histogram!("log_append_seconds").record(sent.elapsed());
                let (mut events, mut answers, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
                for (entry, outcome) in entries.into_iter().zip(outcomes) {
                    match outcome.written {
                        Some(place) => answers.extend(written(entry, outcome.last_revision, place, &mut events)),
                        None => left_out.push((entry, outcome.last_revision)),
                    }
                }
                histogram!("log_append_events").record(events.len() as f64);
                // Whoever is answered finds that the log has moved.
                end.grow(events);
                for (reply, written) in answers {
                    // Who hung up does not need the answer; what was written stays written.
                    let _ = reply.send(Ok(written));
                }
                for (entry, actual) in left_out {
                    look(link, entry, actual, again).await;
                }
                return;
            }
            Err(Failure::Refused(error)) if entries.len() > 1 && !was_cancelled(&error) => {
                // One entry may be at fault; its neighbours are not to suffer.
                tracing::warn!(error = %error, entries = entries.len(), "a batch was refused; writing its entries one by one");
                for entry in entries {
                    Box::pin(write(link, vec![entry], again, end, give_up)).await;
                }
                return;
            }
            Err(Failure::Refused(error)) => return fail(entries, error),
            Err(Failure::NotSent(error)) => error,
            Err(Failure::Lost(error)) => {
                entries = apart(entries, again, &error);
                error
            }
        };
        // Another server may take over, which does not have all that this one said it had.
        end.recent.clear();
        if Instant::now() >= give_up {
            return fail(entries, error);
        }
        tracing::warn!(error = %error, "the connection to the log broke; mending it");
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Answers that a batch could not be written, or is not known to be.
fn fail(entries: Vec<Entry>, error: Arc<sqlx::Error>) {
    counter!("log_append_failures_total").increment(1);
    for job in entries.into_iter().flat_map(|entry| entry.jobs) {
        let failure = if job.may_be_written { AppendError::Unknown } else { AppendError::Unavailable };
        job.answer(Err(failure(error.clone())));
    }
}

/// What of a batch whose answer was lost is sent again: each append on its own, for a shared entry stands for its first
/// append only, and only those that the log recognises when it has them, by a frozen expectation. The rest is answered.
pub(super) fn apart(entries: Vec<Entry>, again: &mut VecDeque<Job>, error: &Arc<sqlx::Error>) -> Vec<Entry> {
    let mut alone = Vec::new();
    for entry in entries {
        let frozen = |job: &Job| job.append.expected.first_revision().is_some();
        let (frozen, unknown): (Vec<Job>, Vec<Job>) = entry.jobs.into_iter().partition(frozen);
        unknown.into_iter().for_each(|job| job.answer(Err(AppendError::Unknown(error.clone()))));
        let mut frozen = frozen.into_iter().map(|job| Job { may_be_written: true, ..job });
        alone.extend(frozen.next().map(Entry::opened_by));
        again.extend(frozen);
    }
    alone
}

/// Where an append's answer goes, and the answer.
type Answer = (oneshot::Sender<Result<Written, AppendError>>, Written);

/// Takes an entry that was written apart: into its events, as the log has them, and the answers to its appends.
fn written(entry: Entry, last_revision: Option<u64>, place: Place, events: &mut Vec<RecordedEvent>) -> Vec<Answer> {
    let mut revision = last_revision.map_or(0, |last| last + 1);
    let mut position = place.first;
    let stream = entry.stream;
    let answered = entry.jobs.into_iter().map(|job| {
        for event in job.append.events {
            let NewEvent { id, event_type, data, metadata } = event;
            let (stream, recorded_at) = (stream.clone(), place.recorded_at);
            let at = Position::at(position);
            events.push(RecordedEvent { stream, revision, position: at, id, event_type, data, metadata, recorded_at });
            (revision, position) = (revision + 1, position + 1);
        }
        let appended = Appended { revision: revision - 1, position: Position::at(position - 1) };
        (job.reply, Written { appended, side_by_side: true })
    });
    answered.collect()
}

/// Answers the appends of an entry that was left out: the stream is not as its first append expects it.
async fn look(link: &mut Link, entry: Entry, actual: Option<u64>, again: &mut VecDeque<Job>) {
    let Entry { stream, jobs, .. } = entry;
    let mut jobs = jobs.into_iter();
    if let Some(job) = jobs.next() {
        let looked = tokio::time::timeout(DEADLINE, link.earlier(&job.append)).await;
        let answer = match looked.unwrap_or_else(|_| Err(timed_out())) {
            Ok(Some(appended)) => Ok(Written { appended, side_by_side: false }),
            Ok(None) => Err(AppendError::Conflict { stream, expected: job.append.expected, actual }),
            Err(error) => {
                // Whatever is left of its answer must not be taken for another's.
                link.connection = None;
                Err(AppendError::Unknown(Arc::new(error)))
            }
        };
        job.answer(answer);
    }
    // The others stood on the first. They are decided on what is there.
    again.extend(jobs);
}

/// Why a batch has no outcome.
enum Failure {
    /// There was no connection; nothing was written.
    NotSent(Arc<sqlx::Error>),
    /// The database said no; nothing was written.
    Refused(Arc<sqlx::Error>),
    /// The connection broke while the answer was awaited; it may have been written.
    Lost(Arc<sqlx::Error>),
}

/// The sequencer's own connection, mended when it is used.
struct Link {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// In how many batches from here on streams that are expected to be new are looked for first.
    doubts: u32,
}

/// After a stream was not as new as expected, so many batches look first: repeats come in swarms.
const DOUBTS: u32 = 32;

impl Link {
    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => tokio::time::timeout(CONNECT, self.options.connect()).await.unwrap_or_else(|_| Err(timed_out()))?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>, Failure> {
        let pieces: Vec<Piece> = entries.iter().map(Piece::of_entry).collect();
        let error = loop {
            let look_for_new = self.doubts > 0;
            self.doubts = self.doubts.saturating_sub(1);
            let connection = self.connection().await.map_err(|error| Failure::NotSent(Arc::new(error)))?;
            match tokio::time::timeout(DEADLINE, append(connection, look_for_new, &pieces)).await {
                Ok(Ok(outcomes)) => return Ok(outcomes),
                Ok(Err(error)) if !look_for_new && is_taken(&error) => self.doubts = DOUBTS,
                Ok(Err(error)) => break error,
                Err(_) => break timed_out(),
            }
        };
        // An error rolls the transaction back. A fatal one ends the backend, and may come after the commit.
        let refused = matches!(&error, sqlx::Error::Database(answer) if is_plain(answer.as_ref()));
        if refused {
            return Err(Failure::Refused(Arc::new(error)));
        }
        self.connection = None;
        Err(Failure::Lost(Arc::new(error)))
    }

    /// Where an append ended when it was sent before, if it was.
    async fn earlier(&mut self, append: &Append) -> Result<Option<Appended>, sqlx::Error> {
        let Some(first) = append.expected.first_revision().and_then(|first| i64::try_from(first).ok()) else {
            return Ok(None);
        };
        // It stands behind the event that it expects, if it expects one: the same command may be done on another past.
        let before = last_id(append.expected);
        let further = before.iter().len() as i64;
        let rows = sqlx::query(
            "select id, revision, position from log.events where stream = $1 and revision >= $2
              order by revision limit $3",
        )
        .bind(append.stream.as_str())
        .bind(first - further)
        .bind(append.events.len() as i64 + further)
        .fetch_all(self.connection().await?)
        .await?;
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<Uuid>, _>>()?;
        let same = ids.iter().eq(before.iter().chain(append.events.iter().map(|event| &event.id)));
        let Some(last) = rows.last().filter(|_| same) else { return Ok(None) };
        let (revision, place): (i64, i64) = (last.try_get("revision")?, last.try_get("position")?);
        Ok(u64::try_from(revision)
            .ok()
            .zip(position(place))
            .map(|(revision, position)| Appended { revision, position }))
    }
}

/// Whether a revision was there already: a stream was not as new as expected. Nothing was written.
fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(answer) if answer.is_unique_violation())
}

/// Whether a batch took too long, or somebody has stopped it. That is no entry's fault: one by one each would wait as long again.
fn was_cancelled(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some("57014")
}

/// Whether the server said no and goes on.
fn is_plain(answer: &dyn sqlx::error::DatabaseError) -> bool {
    let severity = answer.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Error))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Events for one stream.
struct Piece<'a> {
    stream: &'a str,
    expected: Expected,
    events: Vec<&'a NewEvent>,
}

/// Calls `log.append`. A stream may be in one piece only.
async fn append(
    connection: &mut PgConnection,
    look_for_new: bool,
    pieces: &[Piece<'_>],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let streams: Vec<&str> = pieces.iter().map(|piece| piece.stream).collect();
    let expected: Vec<i64> = pieces.iter().map(|piece| code(piece.expected)).collect();
    let last_ids: Vec<Option<Uuid>> = pieces.iter().map(|piece| last_id(piece.expected)).collect();
    let last_ids = Some(last_ids).filter(|ids| ids.iter().any(Option::is_some));
    let count = pieces.iter().map(|piece| piece.events.len()).sum();
    let (mut slots, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut event_streams, mut ids) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut types, mut datas) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut metadatas = Vec::with_capacity(count);
    for (slot, piece) in (1_i32..).zip(pieces) {
        for (place, event) in (1_i64..).zip(&piece.events) {
            slots.push(slot);
            places.push(place);
            event_streams.push(piece.stream);
            ids.push(event.id);
            types.push(event.event_type.as_str());
            datas.push(&event.data[..]);
            metadatas.push(&event.metadata[..]);
        }
    }
    let row = sqlx::query(
        "select last_revisions, accepted, head, recorded_at
           from log.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(look_for_new)
    .bind(streams)
    .bind(expected)
    .bind(last_ids)
    .bind(slots)
    .bind(places)
    .bind(event_streams)
    .bind(ids)
    .bind(types)
    .bind(datas)
    .bind(metadatas)
    .fetch_one(connection)
    .await?;
    let (last_revisions, accepted): (Vec<i64>, Vec<bool>) = (row.try_get(0)?, row.try_get(1)?);
    if last_revisions.len() != pieces.len() || accepted.len() != pieces.len() {
        return Err(sqlx::Error::Protocol("log.append answered for another number of entries".to_owned()));
    }
    let (mut next, recorded_at) = (row.try_get::<i64, _>(2)? + 1, row.try_get(3)?);
    let mut outcomes = Vec::with_capacity(pieces.len());
    for ((piece, last), accepted) in pieces.iter().zip(last_revisions).zip(accepted) {
        let first = accepted.then_some(next).and_then(|first| u64::try_from(first).ok());
        let written = first.map(|first| Place { first, recorded_at });
        outcomes.push(Outcome { last_revision: u64::try_from(last).ok(), written });
        if accepted {
            next += piece.events.len() as i64;
        }
    }
    Ok(outcomes)
}

/// The id that the last event of a stream is expected to have, if one is.
fn last_id(expected: Expected) -> Option<Uuid> {
    if let Expected::After { id, .. } = expected { Some(id) } else { None }
}

/// An expectation as `log.append` reads it, but for the id.
fn code(expected: Expected) -> i64 {
    match expected {
        Expected::Exact(revision) | Expected::After { revision, .. } => i64::try_from(revision).unwrap_or(i64::MAX),
        Expected::NoStream => -1,
        Expected::Any => -2,
        Expected::Exists => -4,
    }
}
