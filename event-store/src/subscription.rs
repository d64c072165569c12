//! Following the log: paged reading from one's own position, with the log's wake-ups between pages.
//!
//! There is no moment of handing over from catching up to live that could leave a gap: both are the same reading, and
//! the wake-up only says when to read again.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};

use crate::{EventStore, Filter, Position, ReadError, RecordedEvent};

/// How many events of the log a subscription looks at in one page.
const PAGE: usize = 1_000;

/// An endless stream of what happens.
pub type Subscription = BoxStream<'static, Result<SubscriptionMessage, ReadError>>;

/// What a subscription says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionMessage {
    /// Something happened.
    Event(RecordedEvent),
    /// The log was read up to here, and nothing before this position is still to come.
    Checkpoint(Position),
    /// The head of the log is reached; what follows is live. Said once.
    CaughtUp,
}

/// Follows a log by paged reading. A read error is passed on, and reading is tried again at the next pull.
pub(crate) fn follow<S: EventStore + ?Sized>(store: Arc<S>, after: Option<Position>, filter: Filter) -> Subscription {
    struct Reader<S: ?Sized> {
        store: Arc<S>,
        filter: Filter,
        read_to: Option<Position>,
        at_head: bool,
        caught_up: bool,
    }

    let reader = Reader { store, filter, read_to: after, at_head: false, caught_up: false };
    futures::stream::unfold(reader, |mut reader| async move {
        if reader.at_head {
            reader.store.changed(reader.read_to).await;
        }
        let page = match reader.store.read_all(reader.read_to, &reader.filter, PAGE).await {
            Ok(page) => page,
            Err(error) => return Some((vec![Err(error)], reader)),
        };
        let mut messages: Vec<_> = page.events.into_iter().map(SubscriptionMessage::Event).collect();
        if page.read_to > reader.read_to {
            messages.extend(page.read_to.map(SubscriptionMessage::Checkpoint));
        }
        if page.at_head && !reader.caught_up {
            reader.caught_up = true;
            messages.push(SubscriptionMessage::CaughtUp);
        }
        reader.read_to = page.read_to;
        reader.at_head = page.at_head;
        Some((messages.into_iter().map(Ok).collect(), reader))
    })
    .flat_map(futures::stream::iter)
    .boxed()
}
