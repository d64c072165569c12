//! Following the history of an aggregate by server-sent events.
//!
//! Every follower reads its own stream, and waits until there is more. One task reads the end of the log for all of them
//! and says whose stream has grown, so that a busy shop does not keep those busy who follow something quiet. It runs as long
//! as somebody follows something.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use access::Caller;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use event_store::{Direction, EventStore, Filter, Position, ReadError, RecordedEvent, StreamName};
use futures::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::routes::view;
use super::{Api, Problem};
use crate::load::LoadError;

/// How many events a follower is sent at once.
const PAGE: usize = 100;
/// How many follow something at a time.
pub(super) const FOLLOWERS: usize = 4_096;
/// How many events of the log are looked at in one go for those whose stream has grown.
const LOOK: usize = 1_000;
/// How long a follower hears nothing before it is told that nothing has happened. It is then looked into its stream, too.
const QUIET: Duration = Duration::from_secs(15);
/// How long is waited before a log is read again that could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// A comment, which clients pass over.
const NOTHING: &str = ":\n\n";

/// Those who follow something.
#[derive(Clone, Default)]
pub(super) struct Followers {
    followed: Arc<Mutex<Followed>>,
    /// Held while somebody comes, so that there is one who reads the end of the log.
    coming: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Followed {
    /// Says that a stream has grown.
    streams: HashMap<StreamName, watch::Sender<()>>,
    /// Whether the end of the log is read.
    is_read: bool,
}

impl Followers {
    /// Follows a stream: from now on it is told that it has grown.
    async fn follow(&self, store: &Arc<dyn EventStore>, stream: StreamName) -> Result<Follower, ReadError> {
        let _coming = self.coming.lock().await;
        let begin = || self.lock().streams.entry(stream.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        let mut grown = begin();
        if !self.lock().is_read {
            // What is appended from here on is told; what was before, the follower reads.
            let head = match store.head().await {
                Ok(head) => head,
                Err(error) => {
                    drop(Follower { grown, stream, followers: self.clone() });
                    return Err(error);
                }
            };
            self.lock().is_read = true;
            tokio::spawn(self.clone().read_end(store.clone(), head));
        }
        grown.mark_unchanged();
        Ok(Follower { grown, stream, followers: self.clone() })
    }

    /// Reads the end of the log and tells whose stream has grown, until nobody follows anything.
    async fn read_end(self, store: Arc<dyn EventStore>, mut read_to: Option<Position>) {
        loop {
            store.changed(read_to).await;
            {
                let mut followed = self.lock();
                if followed.streams.is_empty() {
                    followed.is_read = false;
                    return;
                }
            }
            match store.read_all(read_to, &Filter::all(), LOOK).await {
                Ok(page) => {
                    let followed = self.lock();
                    for stream in page.events.iter().filter_map(|event| followed.streams.get(&event.stream)) {
                        stream.send_replace(());
                    }
                    read_to = page.read_to.or(read_to);
                }
                Err(error) => {
                    tracing::warn!(%error, "the end of the log could not be read for those who follow it; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who follows a stream, until it is dropped.
struct Follower {
    grown: watch::Receiver<()>,
    stream: StreamName,
    followers: Followers,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.followers.lock();
        // This one's own is among them.
        if followed.streams.get(&self.stream).is_some_and(|grown| grown.receiver_count() <= 1) {
            followed.streams.remove(&self.stream);
        }
    }
}

/// Answers with what has happened to an aggregate from a revision on, and with what happens to it.
pub(super) async fn respond(
    api: &Arc<Api>,
    caller: &Caller,
    stream: StreamName,
    from: u64,
) -> Result<Response, Problem> {
    let place = api.following.take(caller).map_err(Problem::too_many_followers)?;
    let store = api.executor.shared_store();
    let follower = api.followers.follow(&store, stream).await.map_err(LoadError::from)?;
    let (out, chunks) = mpsc::channel(1);
    let (api, expiry) = (api.clone(), expiry(caller));
    tokio::spawn(async move {
        let closed = out.clone();
        tokio::select! {
            () = send(&*store, follower, from, &out, api.patience.unread) => {}
            () = api.stopped() => {}
            () = expired(expiry) => {}
            () = closed.closed() => {}
        }
        drop(place);
    });
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        let chunk: String = chunks.recv().await?;
        Some((Ok::<_, Infallible>(chunk), chunks))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::VARY, HeaderValue::from_static("authorization"));
    // A proxy that buffers would keep the events to itself.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// When the token of a caller expires; `None`: never.
fn expiry(caller: &Caller) -> Option<Instant> {
    let left = caller.until?.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

async fn expired(expiry: Option<Instant>) {
    match expiry {
        Some(expiry) => tokio::time::sleep_until(expiry).await,
        None => std::future::pending().await,
    }
}

/// Sends what there is from a revision on, and then what comes, until it is left unread for so long or cannot be read.
async fn send(
    store: &dyn EventStore,
    mut follower: Follower,
    mut from: u64,
    out: &mpsc::Sender<String>,
    unread: Duration,
) {
    // At once, so that whoever follows something quiet knows that it is followed.
    if out.send_timeout(NOTHING.to_owned(), unread).await.is_err() {
        return;
    }
    loop {
        // Before it is read, so that what comes meanwhile is not missed.
        follower.grown.borrow_and_update();
        let page = match store.read_stream(&follower.stream, Some(from), Direction::Forwards, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                // The client comes again by itself, with the last event that it has.
                tracing::warn!(%error, stream = %follower.stream, "a stream that is followed could not be read");
                return;
            }
        };
        if let Some(last) = page.events.last() {
            from = last.revision + 1;
            let Some(text) = events(&page.events) else { return };
            if out.send_timeout(text, unread).await.is_err() {
                return;
            }
        }
        if page.end && tokio::time::timeout(QUIET, follower.grown.changed()).await.is_err() {
            // That it cannot be sent says that the client is gone.
            if out.send_timeout(NOTHING.to_owned(), unread).await.is_err() {
                return;
            }
        }
    }
}

/// Events as they are sent; `None` where one has no JSON form.
fn events(events: &[RecordedEvent]) -> Option<String> {
    let mut text = String::new();
    for event in events {
        let shown = view(event).and_then(|view| serde_json::to_string(&view));
        let shown =
            shown.inspect_err(|error| tracing::error!(%error, stream = %event.stream, "an event's data is no JSON"));
        let shown = shown.ok()?;
        text.push_str(&format!("id: {}\nevent: {}\n", event.revision, event.event_type));
        // What others have stored may be written on several lines.
        for line in shown.lines() {
            text.push_str(&format!("data: {line}\n"));
        }
        text.push('\n');
    }
    Some(text)
}
