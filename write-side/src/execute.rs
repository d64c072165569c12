//! Executing a command: load, decide, append exactly; when somebody else was faster, again.
//!
//! A command has one id, and its events have ids that follow from it. The events carry the command's id, so an
//! aggregate's own stream says what it has already done: the same command again gets the first answer again. There is
//! no second store of answers, and nothing to expire.

use std::borrow::Cow;
use std::sync::Arc;

use domain::codec::CodecError;
use domain::decider::Decider;
use event_store::{AppendError, EventStore, InvalidStreamName, Position, StreamName};
use metrics::{counter, histogram};
use uuid::Uuid;

use crate::batch::{self, Letter, Site};
use crate::cache::{Cache, Kept};
use crate::envelope::Envelope;
use crate::load::{LoadError, Loaded, Until, stream_of};
use crate::mailbox::{Entered, Mailboxes};
use crate::snapshots::Snapshots;

/// How often a command is decided anew because another writer was faster.
pub const MAX_ATTEMPTS: u32 = 20;

/// How many commands wait for one aggregate at most. Who comes then is told to come again.
pub const MAX_WAITING: usize = 1_024;

/// How much of the aggregates is kept in memory between commands, in bytes, where nothing else is configured.
pub const ROOM: usize = 32 << 20;

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
    /// Too many commands wait for the aggregate already. The same command is safe to send again, in a moment.
    #[error("{MAX_WAITING} commands wait for this aggregate already")]
    Busy,
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
    mailboxes: Arc<Mailboxes>,
    cache: Arc<Cache>,
    snapshots: Option<Snapshots>,
}

impl Executor {
    /// Executes commands against this log.
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, mailboxes: Arc::default(), cache: Arc::new(Cache::new(ROOM)), snapshots: None }
    }

    /// Keeps about so many bytes of aggregates in memory between commands, judged by their events.
    #[must_use]
    pub fn with_cache(self, bytes: usize) -> Self {
        Self { cache: Arc::new(Cache::new(bytes)), ..self }
    }

    /// Takes snapshots of aggregates with long streams, and uses them.
    #[must_use]
    pub fn with_snapshots(self, snapshots: Snapshots) -> Self {
        Self { snapshots: Some(snapshots), ..self }
    }

    /// An aggregate as it is now, for whoever does not command it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn current<D: Decider>(&self, stream: &StreamName) -> Result<Loaded<D>, LoadError> {
        let known = self.site(stream).restore().await.unwrap_or_else(Kept::nothing);
        known.loaded.on(self.store(), stream, Until::Now).await
    }

    pub(crate) fn site<'a>(&'a self, stream: &'a StreamName) -> Site<'a> {
        Site { store: self.store(), stream, snapshots: self.snapshots.as_ref() }
    }

    /// The log.
    pub fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// The log, for whoever goes on reading it.
    pub(crate) fn shared_store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
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
        let stream = stream_of::<D>(id)?;
        batch::earlier(self.store(), &stream, envelope).await?.transpose()
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
        match Mailboxes::enter::<D>(self, &stream, command, envelope)? {
            Entered::First(command, _turn) => {
                let mut letter = [Letter::<D>::new(command, Cow::Borrowed(envelope))];
                self.carry_out(&stream, &mut letter).await;
                let [letter] = letter;
                letter.outcome()
            }
            Entered::Waits(answer) => {
                // Whoever carried it out was cut off, before or after the log had it.
                let cut_off = || ExecuteError::Log(AppendError::Unknown(Arc::new(CutOff)));
                answer.await.unwrap_or_else(|_| Err(cut_off()))
            }
        }
    }

    /// Carries out what has come to an aggregate while somebody had it.
    pub(crate) async fn serve_waiting<D: Decider>(self, stream: StreamName) {
        // Those who were answered get a moment to hand in their next, so that it is among what is carried out now.
        tokio::task::yield_now().await;
        let (waiting, turn) = Mailboxes::next::<D>(&self, &stream);
        histogram!("mailbox_batch_commands").record(waiting.len() as f64);
        let (mut letters, mut replies) = (Vec::with_capacity(waiting.len()), Vec::with_capacity(waiting.len()));
        for waiting in waiting {
            letters.push(Letter::<D>::new(waiting.command, Cow::Owned(waiting.envelope)));
            replies.push(waiting.reply);
        }
        self.carry_out(&stream, &mut letters).await;
        // First the turn ends, then they are told: who sends the same again at once finds it done.
        drop(turn);
        for (letter, reply) in letters.into_iter().zip(replies) {
            // Who hung up does not need the answer.
            let _ = reply.send(letter.outcome());
        }
    }

    async fn carry_out<D: Decider>(&self, stream: &StreamName, letters: &mut [Letter<'_, D>]) {
        let known = self.cache.take::<D>(stream);
        let result = if known.is_some() { "hit" } else { "miss" };
        counter!("aggregate_cache_total", "category" => D::CATEGORY, "result" => result).increment(1);
        let mut kept = known.unwrap_or_else(Kept::nothing);
        batch::carry_out(self.site(stream), &mut kept, letters).await;
        if let Some(snapshots) = &self.snapshots {
            kept.keep_snapshot(snapshots, stream);
        }
        self.cache.put(stream.clone(), kept);
    }

    pub(crate) fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }
}

/// The task that carried a command out has ended early.
#[derive(Debug, thiserror::Error)]
#[error("what carried the command out was cut off")]
struct CutOff;

fn revision_in_words(revision: Option<u64>) -> String {
    revision.map_or("nothing has happened to it".to_owned(), |revision| format!("its last revision is {revision}"))
}
