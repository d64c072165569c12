//! The log in KurrentDB, which was EventStoreDB: appended to over one session, read in pages, by its official client.
//!
//! Nothing of the client is seen outside of this folder, and nothing in here trusts it further than it goes:
//! `connection.rs` replaces clients that have died, `sequencer.rs` sends appends until it is known what became of them,
//! `read.rs` knows how far it has read, `wake.rs` keeps a subscription that may end, fall silent or run wild, and
//! `convert.rs` translates.

mod connection;
mod convert;
mod read;
mod sequencer;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::port::check_limits;
use crate::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Filter, Position, ReadError, StreamName, StreamPage,
};
pub use connection::{ConnectError, masked};
use connection::{Connection, Task};
use read::{Reader, Tail};
use sequencer::Job;

/// How many appends may wait for the sequencer before an appender waits to hand its own in.
const QUEUE: usize = 4_096;

/// How patient a log is with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After this long without an answer a question counts as lost. The server itself gives up a write after 2 s.
    pub answer: Duration,
    /// For how long an append is sent again before it is given up. A copy that is under way then is still waited for.
    pub patience: Duration,
    /// How long to wait before something is tried again.
    pub pause: Duration,
    /// How often the end of the log is looked up, whatever the subscription says.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5),
            patience: Duration::from_secs(15),
            pause: Duration::from_millis(100),
            poll: Duration::from_millis(500),
        }
    }
}

/// A log in KurrentDB. Any number of processes may have one on the same server or cluster.
///
/// Positions are places in the server's files: they order the log, but are not consecutive, and commit and prepare may
/// differ. The server's own events, whose streams or types start with `$`, are left out.
pub struct KurrentEventStore {
    reader: Arc<Reader>,
    /// Whether the leader is asked anyway.
    reads_from_the_leader: bool,
    queue: mpsc::Sender<Job>,
    /// The newest event that is known of.
    tail: watch::Sender<Option<Tail>>,
    poll: Duration,
    _watch: Task<()>,
}

impl KurrentEventStore {
    /// Opens the log that a connection string names: `esdb://…`, `kurrentdb://…`, either with `+discover`, with one host
    /// or several, as the server's manual has them. Must be called within a tokio runtime.
    ///
    /// Appends and reads each have a client of their own: appends go to the leader, reads to the nodes that the connection
    /// string prefers.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection string cannot be read, or the server does not answer within a while.
    pub async fn connect(connection_string: &str) -> Result<Arc<Self>, ConnectError> {
        Self::connect_with(connection_string, Timing::default()).await
    }

    /// The same, with another patience.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect_with(connection_string: &str, timing: Timing) -> Result<Arc<Self>, ConnectError> {
        let settings = connection::settings(connection_string)?;
        let reads_from_the_leader = settings.prefer_the_leader();
        let reader = Arc::new(Reader::new(Arc::new(Connection::new(settings.clone(), timing))));
        let give_up = tokio::time::Instant::now() + timing.patience;
        let found = loop {
            match reader.tail(false).await {
                Ok(found) => break found,
                Err(failure) if failure.is_final() || tokio::time::Instant::now() >= give_up => {
                    return Err(ConnectError::Unreachable(failure.into()));
                }
                // The server may be starting too.
                Err(_) => tokio::time::sleep(timing.pause).await,
            }
        };
        let tail = watch::Sender::new(found);
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(sequencer::run(Arc::new(Connection::new(settings, timing)), jobs, tail.clone()));
        let watch = Task(tokio::spawn(wake::watch_over(reader.clone(), tail.clone())));
        Ok(Arc::new(Self { reader, reads_from_the_leader, queue, tail, poll: timing.poll, _watch: watch }))
    }
}

#[async_trait]
impl EventStore for KurrentEventStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        convert::check_size_on_disk(&append)?;
        let (reply, answer) = oneshot::channel();
        self.queue.send(Job { append, reply }).await.map_err(|_| AppendError::Unavailable(Arc::new(SequencerGone)))?;
        answer.await.map_err(|_| AppendError::Unknown(Arc::new(SequencerGone)))?
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        let page = self.reader.stream(stream, from, direction, limit, false).await?;
        // Who asks for what is further on may know that something is there, which a node that lags behind does not have yet.
        let may_lag = direction == Direction::Forwards && from > Some(0) && page.events.is_empty();
        if may_lag && !self.reads_from_the_leader {
            return Ok(self.reader.stream(stream, from, direction, limit, true).await?);
        }
        Ok(page)
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        self.reader.all(&self.tail, after, filter, limit).await
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.reader.tail(false).await?.map(|tail| tail.position))
    }

    fn events_between(&self, _: Option<Position>, _: Option<Position>) -> Option<u64> {
        // Positions are places in files: how many events lie between two of them cannot be told.
        None
    }

    async fn changed(&self, seen: Option<Position>) {
        let mut tail = self.tail.subscribe();
        let moved = tail.wait_for(|tail| tail.as_ref().map(|tail| tail.position) > seen);
        // Both outcomes mean the same: look again.
        let _ = tokio::time::timeout(2 * self.poll, moved).await;
    }
}

/// The sequencer's task has ended; the process is going down.
#[derive(Debug, thiserror::Error)]
#[error("the log is closed")]
struct SequencerGone;
