//! Executing a command: load, decide, append exactly; when somebody else was faster, again.
//!
//! A command has one id, and its events have ids that follow from it. The events carry the command's id, so an
//! aggregate's own stream says what it has already done: the same command again gets the first answer again. There is
//! no second store of answers, and nothing to expire.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::codec::CodecError;
use domain::decider::Decider;
use event_store::{
    Append, AppendError, Appended, EventStore, EventType, Expected, InvalidStreamName, Metadata, NewEvent, Position,
    StreamName,
};
use uuid::Uuid;

use crate::cache::{Cache, Kept};
use crate::envelope::Envelope;
use crate::load::{LoadError, Loaded, Past, Until, stream_of};

/// How often a command is decided anew because another writer was faster.
pub const MAX_ATTEMPTS: u32 = 20;

/// How much of the aggregates is kept in memory between commands, in bytes.
const ROOM: usize = 32 << 20;

/// What a command led to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Answer {
    /// The aggregate's stream.
    pub stream: String,
    /// The revision of the stream's last event as of this command; `null` when there was nothing to do and nothing there.
    pub revision: Option<u64>,
    /// The position of that event in the log, to be given back as `Storefold-After`.
    #[schemars(with = "Option<String>")]
    pub position: Option<Position>,
    /// The events that the command led to; none when there was nothing to do.
    pub events: Vec<EventRef>,
}

impl Answer {
    /// Whether the command began the aggregate.
    pub fn created(&self) -> bool {
        self.events.first().is_some_and(|event| event.revision == 0)
    }
}

/// An event, by name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct EventRef {
    /// The event's id.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its place in the stream.
    pub revision: u64,
}

/// Why a command led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R: std::error::Error + 'static> {
    /// The aggregate said no.
    #[error(transparent)]
    Refused(R),
    /// The aggregate is not as the sender presumed.
    #[error("the aggregate is not as presumed: {}", revision_in_words(*.actual))]
    PreconditionFailed {
        /// Its last revision; `None` when nothing has happened to it.
        actual: Option<u64>,
    },
    /// The command's id was used for a command that says something else.
    #[error("this key was used for another command to this aggregate")]
    KeyReused,
    /// The same command is being executed at this moment.
    #[error("the same command is being executed at this moment")]
    InFlight,
    /// Other writers were faster every time.
    #[error("other writers were faster {MAX_ATTEMPTS} times in a row")]
    Contended,
    /// The events are more than one append can take.
    #[error("the command leads to {events} events of {bytes} bytes in all, more than the log takes at once")]
    TooLarge {
        /// How many events.
        events: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// The aggregate's id makes no stream name.
    #[error(transparent)]
    Stream(#[from] InvalidStreamName),
    /// The aggregate cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An event cannot be written down.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The log takes nothing at the moment, or did not say whether it took it. The same command with the same id is
    /// safe to send again.
    #[error("the log failed; send the same command with the same key again")]
    Log(#[source] AppendError),
}

/// Executes commands against a log. Cheap to clone; clones know of each other's running commands.
#[derive(Clone)]
pub struct Executor {
    store: Arc<dyn EventStore>,
    running: Arc<Mutex<Running>>,
    cache: Arc<Cache>,
}

/// What is being executed in this process.
#[derive(Default)]
struct Running {
    commands: HashSet<(StreamName, Uuid)>,
    /// The commands to an aggregate take turns: within a process they would only get into each other's way. An entry
    /// lives as long as somebody has or waits for the turn.
    turns: HashMap<StreamName, Arc<tokio::sync::Mutex<()>>>,
}

impl Executor {
    /// Executes commands against this log.
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, running: Arc::default(), cache: Arc::new(Cache::new(ROOM)) }
    }

    /// The log.
    pub fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// What this command led to, if it was executed before.
    ///
    /// # Errors
    /// [`ExecuteError::KeyReused`], or that the stream cannot be read.
    pub async fn earlier<D: Decider>(
        &self,
        id: &D::Id,
        envelope: &Envelope,
    ) -> Result<Option<Answer>, ExecuteError<D::Refusal>> {
        let mut earlier = Earlier::new(envelope);
        let stream = stream_of::<D>(id)?;
        Loaded::<D>::nothing().advance(self.store(), &stream, Until::Now, |past| earlier.look_at(past)).await?;
        earlier.answer()
    }

    /// Executes a command and answers when its events are durable.
    ///
    /// # Errors
    /// [`ExecuteError`]. Unless it is [`ExecuteError::Log`], nothing was appended.
    pub async fn execute<D: Decider>(
        &self,
        id: &D::Id,
        command: D::Command,
        envelope: &Envelope,
    ) -> Result<Answer, ExecuteError<D::Refusal>> {
        let stream = stream_of::<D>(id)?;
        let place = Place::take(self, &stream, envelope.command_id).ok_or(ExecuteError::InFlight)?;
        let _turn = place.turn().await;
        let mut kept = self.cache.take::<D>(&stream).unwrap_or_else(Kept::nothing);
        let done = self.decide_and_append(&stream, &mut kept, command, envelope).await;
        self.cache.put(stream, kept);
        done
    }

    /// Executes a command on what is kept of its aggregate, and on what the log says where that is not enough.
    async fn decide_and_append<D: Decider>(
        &self,
        stream: &StreamName,
        kept: &mut Kept<D>,
        command: D::Command,
        envelope: &Envelope,
    ) -> Result<Answer, ExecuteError<D::Refusal>> {
        if kept.may_know(envelope.command_id) {
            *kept = Kept::nothing();
        }
        // What is kept, and that there is nothing yet where a command begins an aggregate, is presumed without reading:
        // the log says when it is not so.
        let is_known = kept.loaded.revision.is_some() || D::opens(&command);
        let mut presumed = is_known && envelope.precondition.holds(kept.loaded.revision);
        for attempt in 0..MAX_ATTEMPTS {
            if !presumed {
                let mut earlier = Earlier::new(envelope);
                let known = std::mem::replace(kept, Kept::nothing());
                *kept = known.advance(self.store(), stream, |past| earlier.look_at(past)).await?;
                if let Some(answer) = earlier.answer()? {
                    return Ok(answer);
                }
                if !envelope.precondition.holds(kept.loaded.revision) {
                    return Err(ExecuteError::PreconditionFailed { actual: kept.loaded.revision });
                }
            }
            let decided = match D::decide(&kept.loaded.state, command.clone()) {
                Ok(events) => events,
                // What was presumed may be wrong; the stream is asked before the answer is no.
                Err(_) if std::mem::take(&mut presumed) => continue,
                Err(refusal) => return Err(ExecuteError::Refused(refusal)),
            };
            if decided.is_empty() {
                // Before it is said that nothing is to be done, the stream is asked.
                if std::mem::take(&mut presumed) {
                    continue;
                }
                let Loaded { revision, position, .. } = kept.loaded;
                return Ok(Answer { stream: stream.to_string(), revision, position, events: Vec::new() });
            }
            let events = decided.iter().enumerate().map(|(index, event)| to_store(event, index, envelope));
            let events = events.collect::<Result<Vec<_>, _>>()?;
            let names: Vec<_> = events.iter().map(|event| (event.id, event.event_type.to_string())).collect();
            let bytes = events.iter().map(|event| event.data.len()).sum();
            let expected = Expected::last(kept.loaded.revision);
            match self.store.append(Append { stream: stream.clone(), expected, events }).await {
                Ok(appended) => {
                    kept.follow(envelope.command_id, &decided, bytes, &appended);
                    return Ok(answer(stream, appended, names));
                }
                Err(AppendError::Conflict { .. }) => {
                    presumed = false;
                    // Another process is at the same aggregate. A moment of random length, and they miss each other.
                    tokio::time::sleep(pause(attempt)).await;
                }
                Err(AppendError::Limit { events, bytes }) => return Err(ExecuteError::TooLarge { events, bytes }),
                Err(error) => return Err(ExecuteError::Log(error)),
            }
        }
        Err(ExecuteError::Contended)
    }
}

/// A command's place among those that are being executed in this process, until it is dropped.
struct Place<'a> {
    executor: &'a Executor,
    key: (StreamName, Uuid),
    turns: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Place<'a> {
    /// A place for a command; `None` when the same command has one already.
    fn take(executor: &'a Executor, stream: &StreamName, command: Uuid) -> Option<Self> {
        let key = (stream.clone(), command);
        let mut running = executor.running();
        running.commands.insert(key.clone()).then(|| {
            let turns = running.turns.entry(stream.clone()).or_default().clone();
            Self { executor, key, turns }
        })
    }

    /// Waits until it is this command's turn at its aggregate; first come, first served.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut running = self.executor.running();
        running.commands.remove(&self.key);
        // Two: the one in the table, and this one's own.
        if Arc::strong_count(&self.turns) == 2 {
            running.turns.remove(&self.key.0);
        }
    }
}

impl Executor {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks among the events of a stream for those of the command that is to be executed.
struct Earlier<'a> {
    envelope: &'a Envelope,
    found: Option<Answer>,
    reused: bool,
}

impl<'a> Earlier<'a> {
    fn new(envelope: &'a Envelope) -> Self {
        Self { envelope, found: None, reused: false }
    }

    fn look_at<E>(&mut self, past: &Past<E>) {
        let Past { recorded, metadata, .. } = past;
        if metadata.command_id != self.envelope.command_id {
            return;
        }
        self.reused |= metadata.command_hash != self.envelope.fingerprint;
        let answer = self.found.get_or_insert_with(|| Answer {
            stream: recorded.stream.to_string(),
            revision: None,
            position: None,
            events: Vec::new(),
        });
        (answer.revision, answer.position) = (Some(recorded.revision), Some(recorded.position));
        answer.events.push(EventRef {
            id: recorded.id,
            event_type: recorded.event_type.to_string(),
            revision: recorded.revision,
        });
    }

    fn answer<R: std::error::Error>(self) -> Result<Option<Answer>, ExecuteError<R>> {
        if self.reused { Err(ExecuteError::KeyReused) } else { Ok(self.found) }
    }
}

fn revision_in_words(revision: Option<u64>) -> String {
    revision.map_or("nothing has happened to it".to_owned(), |revision| format!("its last revision is {revision}"))
}

/// How long to wait after a conflict: nothing after the first, then at random up to 2 ms, 4 ms, … 32 ms.
fn pause(attempt: u32) -> Duration {
    let longest = if attempt == 0 { 0 } else { 1_000_u64 << attempt.min(5) };
    // The low bits of a fresh UUID are as random as any, and no other source of chance is needed here.
    let chance = Uuid::new_v4().as_u128() as u64;
    Duration::from_micros(chance.checked_rem(longest).unwrap_or(0))
}

fn to_store<E: domain::codec::StoredEvent>(
    event: &E,
    index: usize,
    envelope: &Envelope,
) -> Result<NewEvent, CodecError> {
    let encoded = event.encode()?;
    let (id, event_type) = (envelope.event_id(index, &encoded), encoded.event_type);
    let metadata = Metadata {
        correlation_id: envelope.correlation_id,
        causation_id: envelope.causation_id,
        schema: encoded.schema,
        command_id: envelope.command_id,
        command_hash: envelope.fingerprint.clone(),
        actor: envelope.actor.clone(),
        tenant: None,
        traceparent: envelope.traceparent.clone(),
        occurred_at: envelope.now,
    };
    Ok(NewEvent {
        id,
        event_type: EventType::new(event_type)
            .map_err(|_| CodecError::UnknownType { event_type: event_type.to_owned() })?,
        data: encoded.data.into(),
        metadata: metadata.to_bytes().map_err(|source| CodecError::Encode { event_type, source })?,
    })
}

fn answer(stream: &StreamName, appended: Appended, names: Vec<(Uuid, String)>) -> Answer {
    let first = appended.revision + 1 - names.len() as u64;
    let events = (first..).zip(names).map(|(revision, (id, event_type))| EventRef { id, event_type, revision });
    Answer {
        stream: stream.to_string(),
        revision: Some(appended.revision),
        position: Some(appended.position),
        events: events.collect(),
    }
}
