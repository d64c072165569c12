//! Waking readers: a subscription that is not trusted, and a poll beneath it.
//!
//! A reader always reads from its own position; what is heard here only tells it when. So nothing is lost when a
//! subscription loses something, and the one question is how late a reader is told. Three things tell it: the sequencer of
//! this process at once, the subscription within the time of a message, and the poll at the latest.
//!
//! The client's subscription cannot be left alone:
//!
//! - When the server ends it in good order, the client asks the ended stream again and again without ever giving way: the
//!   thread is lost, and neither a timeout nor an abort reaches it. In that loop it does nothing that could be got hold of
//!   but to log a warning. So the subscription runs under a log subscriber of its own, [`Tripwire`], which ends the task at
//!   that warning.
//! - When it falls silent, the poll finds events that the subscription did not bring. It is dropped, and made anew.
//! - When it fails, it is made anew at the next poll.
//!
//! Should the client ever spin in another way, the aborted task does not end. Then there is no further subscription, or
//! they would take one thread after the other; the poll goes on.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use eventstore::{Client, StreamPosition, SubscribeToAllOptions, SubscriptionEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::instrument::WithSubscriber as _;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use super::connection::{Chain, Failure, panicked};
use super::convert;
use super::read::{Reader, Tail, raise};
use crate::Position;

/// How long an aborted subscription may take to end.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Keeps the known tail up to date, until it is dropped.
pub(super) async fn watch_over(reader: Arc<Reader>, tail: watch::Sender<Option<Tail>>) {
    let poll = reader.connection().timing().poll;
    // Without its warning the client's endless loop cannot be ended.
    let mut may_listen = STATIC_MAX_LEVEL >= LevelFilter::WARN;
    let mut listener: Option<Listener> = None;
    loop {
        if may_listen && listener.is_none() {
            listener = Listener::start(&reader, &tail).await;
        }
        tokio::time::sleep(poll).await;
        let found = match reader.tail(false).await {
            Ok(found) => found,
            Err(failure) => {
                tracing::debug!(error = %Chain(&failure), "the end of the log could not be looked up; trying again");
                continue;
            }
        };
        let position = found.as_ref().map(|tail| tail.position);
        raise(&tail, found);
        let Some(mut current) = listener.take() else { continue };
        if current.is_over() {
            let failure = current.failure().await;
            tracing::debug!(error = %Chain(&failure), "the subscription to the log ended; making another");
        } else if current.missed(position) {
            tracing::debug!("the subscription to the log fell silent; making another");
            may_listen = current.stop().await;
        } else {
            listener = Some(current);
        }
    }
}

/// A subscription in a task of its own.
struct Listener {
    task: JoinHandle<Failure>,
    /// Up to where it was heard of the log.
    heard: watch::Receiver<Option<Position>>,
    /// What the poll found that had not been heard of yet.
    owed: Option<Position>,
}

impl Listener {
    /// Starts from what is known, not from the end: what happens meanwhile is heard of too.
    async fn start(reader: &Reader, tail: &watch::Sender<Option<Tail>>) -> Option<Self> {
        let (_, client) = reader.connection().client().await.ok()?;
        let from = tail.borrow().as_ref().map(|tail| tail.position);
        let start = from.map_or(StreamPosition::Start, |from| StreamPosition::Position(convert::client_position(from)));
        let options = SubscribeToAllOptions::default().position(start).filter(convert::no_system_streams());
        let options = match reader.connection().credentials() {
            Some(credentials) => options.authenticated(credentials),
            None => options,
        };
        let (say, heard) = watch::channel(from);
        let listening = listen(client, options, tail.clone(), say).with_subscriber(tripwire());
        Some(Self { task: tokio::spawn(listening), heard, owed: None })
    }

    fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Why it is over.
    async fn failure(&mut self) -> Failure {
        (&mut self.task).await.unwrap_or_else(panicked)
    }

    /// Whether it did not bring what the poll before this one found already.
    fn missed(&mut self, found: Option<Position>) -> bool {
        let heard = *self.heard.borrow();
        let missed = self.owed > heard;
        self.owed = found;
        missed
    }

    /// Ends it; says whether it did.
    async fn stop(mut self) -> bool {
        self.task.abort();
        let ended = tokio::time::timeout(LAST_WORD, &mut self.task).await.is_ok();
        if !ended {
            tracing::error!("the client's subscription does not end; from here on the log is only polled");
        }
        ended
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    client: Client,
    options: SubscribeToAllOptions,
    tail: watch::Sender<Option<Tail>>,
    heard: watch::Sender<Option<Position>>,
) -> Failure {
    let mut subscription = client.subscribe_to_all(&options).await;
    loop {
        let event = match subscription.next_subscription_event().await {
            Ok(SubscriptionEvent::EventAppeared(resolved)) => resolved.event.or(resolved.link),
            // A checkpoint may stand where no event of ours does, and must not be waited for.
            Ok(_) => None,
            Err(error) => return Failure::from(error),
        };
        let Some(event) = event else { continue };
        match convert::position_of(&event) {
            Ok(position) => {
                heard.send_replace(Some(position));
                raise(&tail, Some(Tail { position, stream: convert::stream_of(&event) }));
            }
            Err(foreign) => return Failure::from(foreign),
        }
    }
}

/// A log subscriber for the subscription's task alone, which ends it when the client says that a message was empty. In
/// the release that is used here, this is the only warning in the module that runs the subscription, and it means that
/// the stream is over, or that the server says something that the client does not know. What else is logged in there is
/// lost.
struct Tripwire;

/// What is thrown at the tripwire.
const OVER: &str = "the server ended the subscription, or said something unknown";

fn tripwire() -> Dispatch {
    static TRIPWIRE: OnceLock<Dispatch> = OnceLock::new();
    TRIPWIRE.get_or_init(|| Dispatch::new(Tripwire)).clone()
}

impl Tripwire {
    fn watches(metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "kurrentdb::commands"
    }
}

impl Subscriber for Tripwire {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::watches(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::watches(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        if Self::watches(event.metadata()) {
            // Not a panic that anybody is to be told of: the task ends, and with it the subscription.
            std::panic::resume_unwind(Box::new(OVER));
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
