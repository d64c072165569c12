//! Reading: pages of a stream and of the whole log, and where the log ends.
//!
//! # How a reader knows how far it has read
//!
//! The server leaves out what its filter does not let through and says nothing of how far it looked. That a filtered read
//! came to its end therefore proves nothing by itself: it may have been answered by a node that lags behind the one that
//! said where the log ends. So each read also asks for the stream of one event that is known to stand in the log, the
//! [`Tail`]. When that event comes, everything before it has come too, and the page reaches at least there, whether or not
//! anything passed the filter. When it does not come, the page reaches no further than the last event that did.
//!
//! Where the page starts from a tail that was only heard of (an append of this process, the subscription), it never claims
//! to be at the head of the log; for that the server is asked anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eventstore::{Client, ReadAllOptions, ReadEvent, ReadStream, ReadStreamOptions, StreamPosition};
use tokio::sync::watch;

use super::connection::{Connection, Failure, within};
use super::convert::{self, Foreign};
use crate::port::MAX_PAGE_BYTES;
use crate::{AllPage, Direction, Filter, PastTheEnd, Position, ReadError, RecordedEvent, StreamName, StreamPage};

/// An event that stands in the log, the newest one that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) position: Position,
    pub(super) stream: String,
}

/// Moves the known tail forward, never back.
pub(super) fn raise(tail: &watch::Sender<Option<Tail>>, found: Option<Tail>) {
    let position = |tail: &Option<Tail>| tail.as_ref().map(|tail| tail.position);
    tail.send_if_modified(|known| {
        let further = position(&found) > position(known);
        if further {
            *known = found;
        }
        further
    });
}

/// How many bytes of log a server looks through in a second, at the least, where nothing passes the filter. Positions
/// are places in its files, so that the distance between two is a number of bytes.
const SLOWEST_SEARCH: u64 = 10_000_000;

/// Reads from the server.
pub(super) struct Reader {
    connection: Arc<Connection>,
    /// The newest event of the log, the server's own included, and the newest that is not the server's own.
    seen: Mutex<Option<(Position, Option<Tail>)>>,
}

impl Reader {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, seen: Mutex::default() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The newest event of the log that is not the server's own. The leader is asked where a node that lags behind would
    /// not do.
    pub(super) async fn tail(&self, of_the_leader: bool) -> Result<Option<Tail>, Failure> {
        let Some((newest, is_system)) = self.newest(of_the_leader, false).await? else { return Ok(None) };
        if !is_system {
            return Ok(Some(newest));
        }
        // The server's own events may be many. While the newest stays the same there is no need to look behind it again.
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, tail)) = seen.filter(|(last, _)| *last == newest.position) {
            return Ok(tail);
        }
        let tail = self.newest(of_the_leader, true).await?.map(|(tail, _)| tail);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((newest.position, tail.clone()));
        Ok(tail)
    }

    /// The newest event, and whether it is the server's own.
    async fn newest(&self, of_the_leader: bool, ours: bool) -> Result<Option<(Tail, bool)>, Failure> {
        let options = self.all_options().position(StreamPosition::End).max_count(1).requires_leader(of_the_leader);
        let options = if ours { options.filter(convert::no_system_streams()) } else { options };
        // To find one of ours among the server's own may take a while.
        let time = if ours { 12 * self.connection.timing().answer } else { self.connection.timing().answer };
        let question = move |client: Client| {
            let options = options.clone();
            async move {
                let mut stream = within(time, client.read_all(&options)).await?;
                let Some(event) = next(&mut stream, time).await? else { return Ok(None) };
                let tail = Tail { position: convert::position_of(&event)?, stream: convert::stream_of(&event) };
                let is_system = tail.stream.starts_with('$');
                Ok(Some((tail, is_system)))
            }
        };
        self.connection.ask(question).await
    }

    fn all_options(&self) -> ReadAllOptions {
        let options = ReadAllOptions::default();
        match self.connection.credentials() {
            Some(credentials) => options.authenticated(credentials),
            None => options,
        }
    }

    /// A page of the whole log; see [`EventStore::read_all`](crate::EventStore::read_all).
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) async fn all(
        &self,
        known: &watch::Sender<Option<Tail>>,
        after: Option<Position>,
        filter: &Filter,
        limit: usize,
    ) -> Result<AllPage, ReadError> {
        let heard = known.borrow().clone().filter(|tail| Some(tail.position) > after);
        if let Some(heard) = &heard {
            let page = self.up_to(heard, after, filter, limit).await?;
            if !page.is_lagging || page.read_to > after {
                return Ok(AllPage { events: page.events, read_to: page.read_to, at_head: false });
            }
            // It is not there, although it was: the node lags behind, or somebody deleted it. The leader knows which.
            tokio::time::sleep(self.connection.timing().pause).await;
        }
        let tail = self.tail(heard.is_some()).await?;
        let head = tail.as_ref().map(|tail| tail.position);
        if after > head {
            // A node that lags behind is no reason to call off a reader; what the leader says is.
            let head = self.tail(true).await?.map(|tail| tail.position);
            PastTheEnd::check(head, after)?;
            tokio::time::sleep(self.connection.timing().pause).await;
            return Ok(AllPage { events: Vec::new(), read_to: after, at_head: after == head });
        }
        let Some(tail) = tail.filter(|_| after < head) else {
            return Ok(AllPage { events: Vec::new(), read_to: after, at_head: true });
        };
        let page = self.up_to(&tail, after, filter, limit).await?;
        raise(known, Some(tail));
        if page.is_lagging && page.read_to == after {
            tokio::time::sleep(self.connection.timing().pause).await;
        }
        let at_head = !page.is_lagging && page.read_to >= head;
        Ok(AllPage { events: page.events, read_to: page.read_to, at_head })
    }

    /// Reads on from `after`, at least up to and with `tail` unless the page is full before.
    async fn up_to(
        &self,
        tail: &Tail,
        after: Option<Position>,
        filter: &Filter,
        limit: usize,
    ) -> Result<Stretch, ReadError> {
        let limit = limit.max(1);
        let from =
            after.map_or(StreamPosition::Start, |after| StreamPosition::Position(convert::client_position(after)));
        let options = self.all_options().position(from).filter(convert::server_filter(filter, &tail.stream));
        // The event at `after` comes again.
        let options = options.max_count(limit.saturating_add(usize::from(after.is_some())));
        let distance = tail.position.commit.saturating_sub(after.map_or(0, |after| after.commit));
        let time = self.connection.timing().answer + Duration::from_secs(distance / SLOWEST_SEARCH);
        let (filter, end) = (Arc::new(filter.clone()), tail.position);
        let question = move |client: Client| {
            let (options, filter) = (options.clone(), filter.clone());
            async move {
                let mut stream = within(time, client.read_all(&options)).await?;
                let (mut events, mut looked_at, mut bytes, mut read_to) = (Vec::new(), 0, 0, after);
                let mut is_full = false;
                while !is_full && let Some(event) = next(&mut stream, time).await? {
                    let position = convert::position_of(&event)?;
                    if Some(position) <= after {
                        continue;
                    }
                    (read_to, looked_at) = (Some(position), looked_at + 1);
                    if let Some(event) = wanted(event, &filter)? {
                        bytes += event.data.len() + event.metadata.len();
                        events.push(event);
                    }
                    is_full = looked_at == limit || bytes > MAX_PAGE_BYTES;
                }
                let is_lagging = !is_full && read_to < Some(end);
                Ok(Stretch { events, read_to, is_lagging })
            }
        };
        Ok(self.connection.ask(question).await?)
    }

    /// A page of a stream; see [`EventStore::read_stream`](crate::EventStore::read_stream). The leader is asked where a node that lags behind would not do.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
        of_the_leader: bool,
    ) -> Result<StreamPage, Failure> {
        // The server counts in signed numbers.
        let from = match (from, direction) {
            (Some(from), Direction::Forwards) if i64::try_from(from).is_err() => {
                return Ok(StreamPage { events: Vec::new(), end: true });
            }
            (from, _) => from.filter(|from| i64::try_from(*from).is_ok()),
        };
        let page = self.stretch(stream, from, direction, limit, of_the_leader).await?;
        if direction == Direction::Backwards && from.is_some() && page.events.is_empty() {
            // From past the end: some servers look for the end, and some say that there is nothing.
            let last = self.stretch(stream, None, direction, 1, of_the_leader).await?;
            let last = last.events.first().map(|event| event.revision);
            if let Some(last) = last.filter(|last| from > Some(*last)) {
                return self.stretch(stream, Some(last), direction, limit, of_the_leader).await;
            }
        }
        Ok(page)
    }

    async fn stretch(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
        of_the_leader: bool,
    ) -> Result<StreamPage, Failure> {
        let options = ReadStreamOptions::default().requires_leader(of_the_leader);
        let options = match (direction, from) {
            (Direction::Forwards, None) => options.position(StreamPosition::Start),
            (Direction::Forwards, Some(from)) => options.forwards().position(StreamPosition::Position(from)),
            (Direction::Backwards, None) => options.position(StreamPosition::End),
            (Direction::Backwards, Some(from)) => options.backwards().position(StreamPosition::Position(from)),
        };
        // One more than asked for tells whether there is more.
        let options = options.max_count(limit.saturating_add(1));
        let options = match self.connection.credentials() {
            Some(credentials) => options.authenticated(credentials),
            None => options,
        };
        let (name, time) = (stream.as_str().to_owned(), self.connection.timing().answer);
        let question = move |client: Client| {
            let (options, name) = (options.clone(), name.clone());
            async move {
                let mut stream = match within(time, client.read_stream(name, &options)).await {
                    Ok(stream) => stream,
                    Err(failure) if is_missing(&failure) => return Ok(StreamPage { events: Vec::new(), end: true }),
                    Err(failure) => return Err(failure),
                };
                let (mut events, mut bytes) = (Vec::new(), 0);
                loop {
                    let event = match next(&mut stream, time).await {
                        Ok(Some(event)) => event,
                        Ok(None) => return Ok(StreamPage { events, end: true }),
                        Err(failure) if is_missing(&failure) => return Ok(StreamPage { events, end: true }),
                        Err(failure) => return Err(failure),
                    };
                    if events.len() == limit || bytes > MAX_PAGE_BYTES {
                        return Ok(StreamPage { events, end: false });
                    }
                    let event = convert::recorded(event)?;
                    bytes += event.data.len() + event.metadata.len();
                    events.push(event);
                }
            }
        };
        self.connection.ask(question).await
    }
}

/// What one read of the log brought.
struct Stretch {
    events: Vec<RecordedEvent>,
    read_to: Option<Position>,
    /// Whether it ended before it came to the tail.
    is_lagging: bool,
}

/// Whether the server says that there is no such stream.
fn is_missing(failure: &Failure) -> bool {
    matches!(failure, Failure::Client(eventstore::Error::ResourceNotFound))
}

/// The next event.
async fn next(stream: &mut ReadStream, time: Duration) -> Result<Option<eventstore::RecordedEvent>, Failure> {
    while let Some(message) = within(time, stream.next_read_event()).await? {
        let ReadEvent::Event(resolved) = message else { continue };
        // Links are not followed, so that a link is an event like any other.
        if let Some(event) = resolved.event.or(resolved.link) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// The event, if it passes the filter and is not the server's own.
fn wanted(event: eventstore::RecordedEvent, filter: &Filter) -> Result<Option<RecordedEvent>, Foreign> {
    if convert::is_system(&event) {
        return Ok(None);
    }
    // Another program's events may be of any shape; only what was asked for has to be readable.
    let category = convert::stream_of(&event);
    let category = category.split_once('-').map_or(&*category, |(category, _)| category);
    let is_other = |list: &[String], name: &str| !list.is_empty() && list.iter().all(|entry| entry != name);
    if is_other(&filter.categories, category) || is_other(&filter.types, &event.event_type) {
        return Ok(None);
    }
    convert::recorded(event).map(Some)
}
