//! `Read`, when it does not end: a subscription catches up, says so, and goes on live.
//!
//! It confirms itself first. With a filter it says from time to time how far it has looked, so that who follows it need
//! not start far behind where nothing passes: at each interval of records, and when it has caught up.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use super::message;
use super::read::checkpoint_interval;
use crate::connection::Connection;
use crate::faults::{Interruption, SubscriptionFault};
use crate::filter::Filter;
use crate::log::{Direction, Origin, PAGE, Position, Record, StreamRead};
use crate::node::Node;
use crate::protocol::event_store::client::streams::ReadResp;
use crate::protocol::event_store::client::streams::read_req::options::{FilterOptions, UuidOption};
use crate::protocol::event_store::client::streams::read_resp::{
    CaughtUp, Checkpoint, Content, FellBehind, SubscriptionConfirmation,
};
use crate::status;

/// How many messages may wait for a slow client.
const BUFFER: usize = 16;

/// What is subscribed to, and from past where.
pub(crate) enum Subject {
    Stream { stream: String, from: Origin<u64> },
    All { from: Origin<Position>, filter: Option<(Filter, FilterOptions)> },
}

pub(crate) fn subscribe(
    node: Arc<Node>,
    connection: Connection,
    subject: Subject,
    ids: UuidOption,
) -> Result<BoxStream<'static, Result<ReadResp, Status>>, Status> {
    let fault = node.faults.subscription();
    match &fault {
        Some(SubscriptionFault::NotLeader(leader)) => return Err(status::not_leader(leader)),
        Some(SubscriptionFault::NotReady) => return Err(status::not_ready()),
        Some(SubscriptionFault::After(..) | SubscriptionFault::Slow(_)) | None => {}
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    let cursor = Cursor::new(&node, subject)?;
    let (mut pace, mut planned) = (None, None);
    match fault {
        Some(SubscriptionFault::Slow(each)) => pace = Some(each),
        Some(SubscriptionFault::After(events, interruption)) => planned = Some((events, interruption)),
        _ => {}
    }
    let outlet = Outlet { sender, sent: 0, planned, pace, interruptions: node.faults.interruptions(), connection };
    tokio::spawn(run(node, cursor, outlet, ids));
    Ok(ReceiverStream::new(receiver).boxed())
}

async fn run(node: Arc<Node>, mut cursor: Cursor, mut outlet: Outlet, ids: UuidOption) {
    // Whoever leaves here has said what there was to say, or has nobody to say it to.
    let _ = follow(&node, &mut cursor, &mut outlet, &ids).await;
}

/// The subscription is over.
struct Over;

async fn follow(node: &Node, cursor: &mut Cursor, outlet: &mut Outlet, ids: &UuidOption) -> Result<(), Over> {
    let mut head = node.log.watch();
    let subscription_id = Uuid::new_v4().to_string();
    outlet.say(Content::Confirmation(SubscriptionConfirmation { subscription_id })).await?;
    let mut live = false;
    loop {
        head.borrow_and_update();
        let page = match cursor.page(node) {
            Ok(page) => page,
            Err(status) => return outlet.fail(status).await,
        };
        let at_end = page.len() < PAGE as usize;
        for record in page {
            let passes = cursor.advance(&record);
            if passes {
                let behind = outlet.event(message::read_event(&record, ids, cursor.tells_positions(node))).await?;
                if behind {
                    outlet.say(cursor.fell_behind()).await?;
                    live = false;
                }
            }
            if let Some(checkpoint) = cursor.checkpoint_due() {
                outlet.say(checkpoint).await?;
            }
        }
        if !at_end {
            continue;
        }
        if !live {
            live = true;
            if let Some(checkpoint) = cursor.checkpoint_at_end() {
                outlet.say(checkpoint).await?;
            }
            outlet.say(cursor.caught_up()).await?;
        }
        if outlet.grown(&mut head).await? {
            outlet.say(cursor.fell_behind()).await?;
            live = false;
        }
    }
}

/// How far a subscription is.
enum Cursor {
    Stream { stream: String, next: u64 },
    All { seen: Option<Position>, filter: Option<Checkpoints> },
}

/// When a filtered subscription says how far it is.
struct Checkpoints {
    filter: Filter,
    interval: u64,
    /// How many records it has looked at since the last.
    looked: u64,
    said: Option<Position>,
}

impl Cursor {
    fn new(node: &Node, subject: Subject) -> Result<Self, Status> {
        match subject {
            Subject::Stream { stream, from } => {
                let next = match from {
                    Origin::Start => 0,
                    Origin::At(revision) => revision.saturating_add(1),
                    Origin::End => match node.log.read_stream(&stream, Origin::End, Direction::Backwards, 1) {
                        StreamRead::Events { last, .. } => last + 1,
                        StreamRead::NotFound | StreamRead::Deleted => 0,
                    },
                };
                Ok(Self::Stream { stream, next })
            }
            Subject::All { from, filter } => {
                let filter = match filter {
                    Some((filter, options)) => {
                        let interval = checkpoint_interval(&options)?;
                        Some(Checkpoints { filter, interval, looked: 0, said: None })
                    }
                    None => None,
                };
                let seen = match from {
                    Origin::Start => None,
                    Origin::At(position) => Some(position),
                    Origin::End => node.log.head(),
                };
                Ok(Self::All { seen, filter })
            }
        }
    }

    /// The next records, whether or not they pass.
    fn page(&self, node: &Node) -> Result<message::Records, Status> {
        match self {
            Self::Stream { stream, next } => {
                match node.log.read_stream(stream, Origin::At(*next), Direction::Forwards, PAGE) {
                    StreamRead::Events { events, .. } => Ok(events),
                    StreamRead::NotFound => Ok(Vec::new()),
                    StreamRead::Deleted => Err(status::stream_deleted(stream)),
                }
            }
            Self::All { seen, .. } => node.log.after(*seen, PAGE as usize).map_err(|_| status::invalid_position()),
        }
    }

    /// Goes past a record; says whether it passes.
    fn advance(&mut self, record: &Record) -> bool {
        match self {
            Self::Stream { next, .. } => {
                *next = record.revision + 1;
                true
            }
            Self::All { seen, filter } => {
                *seen = Some(record.position);
                filter.as_mut().is_none_or(|checkpoints| {
                    checkpoints.looked += 1;
                    checkpoints.filter.passes(record)
                })
            }
        }
    }

    /// A checkpoint, when an interval of records was looked at.
    fn checkpoint_due(&mut self) -> Option<Content> {
        let Self::All { seen, filter: Some(checkpoints) } = self else { return None };
        (checkpoints.looked >= checkpoints.interval).then(|| checkpoints.say(*seen)).flatten()
    }

    /// The checkpoint of one who goes live.
    fn checkpoint_at_end(&mut self) -> Option<Content> {
        let Self::All { seen, filter: Some(checkpoints) } = self else { return None };
        checkpoints.say(*seen)
    }

    fn caught_up(&self) -> Content {
        let (stream_revision, position) = self.here();
        Content::CaughtUp(CaughtUp { timestamp: Some(message::now()), stream_revision, position })
    }

    fn fell_behind(&self) -> Content {
        let (stream_revision, position) = self.here();
        Content::FellBehind(FellBehind { timestamp: Some(message::now()), stream_revision, position })
    }

    fn here(&self) -> (Option<i64>, Option<crate::protocol::event_store::client::streams::read_resp::Position>) {
        match self {
            Self::Stream { next, .. } => (next.checked_sub(1).and_then(|last| i64::try_from(last).ok()), None),
            Self::All { seen, .. } => (None, seen.map(message::position)),
        }
    }

    fn tells_positions(&self, node: &Node) -> bool {
        matches!(self, Self::All { .. }) || !node.log.settings().commit_records
    }
}

impl Checkpoints {
    /// Says a position, unless it was said before.
    fn say(&mut self, seen: Option<Position>) -> Option<Content> {
        self.looked = 0;
        let position = seen.filter(|position| Some(*position) > self.said)?;
        self.said = Some(position);
        let Position { commit, prepare } = position;
        let timestamp = Some(message::now());
        Some(Content::Checkpoint(Checkpoint { commit_position: commit, prepare_position: prepare, timestamp }))
    }
}

/// Where a subscription's messages go, and what interrupts them.
struct Outlet {
    sender: Sender<Result<ReadResp, Status>>,
    /// How many events were sent.
    sent: u64,
    planned: Option<(u64, Interruption)>,
    pace: Option<Duration>,
    interruptions: watch::Receiver<Option<Interruption>>,
    connection: Connection,
}

impl Outlet {
    /// Sends an event; says whether the subscription falls behind after it.
    async fn event(&mut self, event: ReadResp) -> Result<bool, Over> {
        if let Some(pace) = self.pace {
            tokio::time::sleep(pace).await;
        }
        let behind = self.interrupted_as_planned().await?;
        self.send(Ok(event)).await?;
        self.sent += 1;
        Ok(behind || self.interrupted_as_planned().await?)
    }

    async fn say(&mut self, content: Content) -> Result<(), Over> {
        self.send(Ok(message::content(content))).await
    }

    async fn fail(&mut self, status: Status) -> Result<(), Over> {
        self.send(Err(status)).await?;
        Err(Over)
    }

    async fn send(&mut self, message: Result<ReadResp, Status>) -> Result<(), Over> {
        self.sender.send(message).await.map_err(|_| Over)
    }

    /// Waits until the log has grown; says whether the subscription falls behind instead.
    async fn grown(&mut self, head: &mut watch::Receiver<Option<Position>>) -> Result<bool, Over> {
        if self.interrupted_as_planned().await? {
            return Ok(true);
        }
        tokio::select! {
            () = self.sender.closed() => Err(Over),
            changed = self.interruptions.changed() => {
                let interruption = *self.interruptions.borrow_and_update();
                match (changed, interruption) {
                    (Ok(()), Some(interruption)) => self.interrupt(interruption).await,
                    _ => Err(Over),
                }
            }
            changed = head.changed() => changed.map(|()| false).map_err(|_| Over),
        }
    }

    async fn interrupted_as_planned(&mut self) -> Result<bool, Over> {
        match self.planned {
            Some((events, interruption)) if self.sent >= events => {
                self.planned = None;
                self.interrupt(interruption).await
            }
            _ => Ok(false),
        }
    }

    /// Interrupts the subscription; says whether it falls behind, which it outlives.
    async fn interrupt(&mut self, interruption: Interruption) -> Result<bool, Over> {
        match interruption {
            Interruption::FallBehind => return Ok(true),
            Interruption::End => {}
            Interruption::Fail => self.send(Err(Status::unavailable("Subscription was dropped."))).await?,
            Interruption::Cut => {
                // What was sent gets a chance to leave.
                tokio::task::yield_now().await;
                self.connection.cut();
            }
            Interruption::Silence => self.sender.closed().await,
        }
        Err(Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Expected, NewEvent, Write};
    use crate::protocol::event_store::client::streams::read_resp::ReadEvent;

    /// The official client cannot be shown this: it asks a subscription that has ended for more, for ever.
    #[tokio::test]
    async fn a_subscription_ends_as_if_all_were_well() {
        let node = Arc::new(Node::default());
        let events = (0..3).map(|_| NewEvent::json(Uuid::new_v4(), "Happened", "{}")).collect();
        node.log.write(&Write { stream: "s".to_owned(), expected: Expected::Any, events }).unwrap();
        node.faults.next_subscriptions(1, SubscriptionFault::After(2, Interruption::End));
        let subject = Subject::All { from: Origin::Start, filter: None };
        let said = subscribe(node, Connection::default(), subject, UuidOption::default()).unwrap();
        let said: Vec<_> = said.map(|message| message.unwrap().content.unwrap()).collect().await;
        let [Content::Confirmation(_), Content::Event(one), Content::Event(two)] = &said[..] else {
            panic!("it said {said:?}");
        };
        let revision = |event: &ReadEvent| event.event.as_ref().map(|event| event.stream_revision);
        assert_eq!([revision(one), revision(two)], [Some(0), Some(1)]);
    }
}
