//! The end of the log, read once for all projectors of a process. Each of them takes its events from here while it keeps up, and
//! from the log itself when it does not.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use event_store::{AllPage, EventStore, Filter, Position, ReadError, RecordedEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::log_event::{LogEvent, LogPage};
use super::read_models;
use crate::read_model::ReadModel;

/// How many events are read at a time.
const PAGE: usize = 2_000;
/// How many events are kept, and how many bytes of them as the log has them; what they say is kept with
/// them.
const KEPT: (usize, usize) = (8_000, 16 << 20);
/// The least time from one read to the next: what comes together under load is read together.
const GATHER: Duration = Duration::from_millis(1);
/// After so long without a look at the log, what is here is not taken for its end: an end that does not move looks like one where
/// nothing happens.
const STALE: Duration = Duration::from_secs(3);
/// How long to wait after the log could not be read.
const BACKOFF: Duration = Duration::from_secs(1);

/// Where the projectors of a process find the tail that one of them has begun.
#[derive(Clone, Default)]
pub(super) struct Tails(Arc<Mutex<Weak<Tail>>>);

impl Tails {
    /// The tail of this process; it begins at the head of the log, and ends with whoever holds it last.
    pub(super) fn of(&self, store: &Arc<dyn EventStore>) -> Arc<Tail> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clone of the context may have been given another log.
        known.upgrade().filter(|tail| Arc::ptr_eq(&tail.store, store)).unwrap_or_else(|| {
            let tail = Tail::follow(store.clone());
            *known = Arc::downgrade(&tail);
            tail
        })
    }
}

/// The newest events of the log.
pub(super) struct Tail {
    store: Arc<dyn EventStore>,
    categories: BTreeSet<&'static str>,
    kept: Arc<RwLock<Kept>>,
    moved: watch::Receiver<()>,
    follower: JoinHandle<()>,
    /// Whether it was said that nobody looks at the end of the log.
    told: AtomicBool,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Every event after one position and up to another; nothing at all while the log cannot be read.
#[derive(Default)]
struct Kept {
    range: Option<(Option<Position>, Option<Position>)>,
    /// When the log was looked at last.
    looked: Option<Instant>,
    events: VecDeque<LogEvent>,
    bytes: usize,
}

impl Kept {
    /// What is here, unless it is too old to be taken for the end of the log.
    fn fresh(&self) -> Option<(Option<Position>, Option<Position>)> {
        self.range.filter(|_| self.looked.is_some_and(|looked| looked.elapsed() < STALE))
    }

    /// Takes in what somebody found who began to look at the log then.
    fn look(&mut self, began: Instant, page: AllPage) {
        self.looked = Some(began);
        let Some((after, to)) = &mut self.range else { return };
        *to = page.read_to.max(*to);
        self.bytes += page.events.iter().map(size).sum::<usize>();
        self.events.extend(page.events.into_iter().map(LogEvent::from));
        while self.events.len() > KEPT.0 || self.bytes > KEPT.1 {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            *after = Some(oldest.position);
        }
    }
}

fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len()
}

impl Tail {
    fn follow(store: Arc<dyn EventStore>) -> Arc<Self> {
        let (kept, (moving, moved)) = (Arc::<RwLock<Kept>>::default(), watch::channel(()));
        let (filling, reading) = (kept.clone(), store.clone());
        let follower = tokio::spawn(async move {
            loop {
                let Err(error) = fill(&*reading, &filling, &moving).await;
                tracing::debug!(%error, "the end of the log cannot be followed");
                *filling.write().unwrap_or_else(PoisonError::into_inner) = Kept::default();
                moving.send_replace(());
                tokio::time::sleep(BACKOFF).await;
            }
        });
        Arc::new(Self { store, categories: categories(), kept, moved, follower, told: AtomicBool::new(false) })
    }

    /// What comes after a position for a read model, of at most `limit` events that are looked at; `None` when that has to be
    /// asked of the log.
    pub(super) fn read<M: ReadModel>(&self, after: Option<Position>, limit: usize) -> Option<LogPage> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = kept.fresh()?;
        let is_kept = M::CATEGORIES.iter().all(|category| self.categories.contains(category));
        if !is_kept || after < from || after > to {
            return None;
        }
        let first = kept.events.partition_point(|event| Some(event.position) <= after);
        let end = kept.events.len().min(first + limit);
        let looked_at = kept.events.range(first..end);
        let events = looked_at.filter(|event| M::CATEGORIES.contains(&event.stream.category())).cloned().collect();
        let at_head = end == kept.events.len();
        let read_to = if at_head { to } else { kept.events.get(end - 1).map(|last| last.position) };
        Some(LogPage { events, read_to, at_head })
    }

    /// Waits until there is something after a position, or it has to be asked of the log.
    pub(super) async fn changed(&self, seen: Option<Position>) {
        let is_news = || {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            kept.fresh().is_none_or(|(from, to)| seen < from || seen < to)
        };
        // It ends with the tail, which whoever waits here holds.
        let looked = self.kept.read().unwrap_or_else(PoisonError::into_inner).looked;
        let stale = looked.unwrap_or_else(Instant::now) + STALE;
        let _ = tokio::time::timeout_at(stale, self.moved.clone().wait_for(|()| is_news())).await;
        if !self.is_fresh() {
            self.store.changed(seen).await;
        }
    }

    /// Whether this may be taken for the end of the log. That it no longer may is said once.
    fn is_fresh(&self) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = kept.fresh().is_some();
        if is_fresh {
            self.told.store(false, Ordering::Relaxed);
        } else if kept.looked.is_some() && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seconds = STALE.as_secs(),
                "nobody has looked at the end of the log for so long; each projector reads it for itself"
            );
        }
        is_fresh
    }
}

/// The log has not answered for long.
#[derive(Debug, thiserror::Error)]
#[error("the log has not answered for {} s", STALE.as_secs())]
struct NoAnswer;

/// Of which categories events are kept: those that any read model takes.
fn categories() -> BTreeSet<&'static str> {
    read_models().iter().flat_map(|model| model.categories()).copied().collect()
}

/// Keeps the newest events until the log cannot be read.
async fn fill(
    store: &dyn EventStore,
    kept: &RwLock<Kept>,
    moving: &watch::Sender<()>,
) -> Result<std::convert::Infallible, ReadError> {
    let filter = Filter::categories(categories());
    let mut to = store.head().await?;
    kept.write().unwrap_or_else(PoisonError::into_inner).range = Some((to, to));
    loop {
        let began = Instant::now();
        let ours = just_appended(store, to, &filter);
        let is_ours = ours.is_some();
        let page = match ours {
            Some(page) => page,
            None => {
                let read = tokio::time::timeout(STALE, store.read_all(to, &filter, PAGE)).await;
                read.map_err(|_| ReadError(Arc::new(NoAnswer)))??
            }
        };
        let (at_head, is_news) = (page.at_head, page.read_to > to);
        to = page.read_to.max(to);
        kept.write().unwrap_or_else(PoisonError::into_inner).look(began, page);
        if is_news {
            moving.send_replace(());
        }
        if at_head {
            store.changed(to).await;
            if !is_ours {
                tokio::time::sleep_until(began + GATHER).await;
            }
        }
    }
}

/// The next events, where this process has appended them itself. What others append meanwhile is waited for as at the head of
/// the log: the next events of ours do not stand right behind these then, and the log is read.
fn just_appended(store: &dyn EventStore, to: Option<Position>, filter: &Filter) -> Option<AllPage> {
    let mut events = store.just_appended(to, PAGE);
    let read_to = Some(events.last()?.position);
    events.retain(|event| filter.passes(&event.stream, &event.event_type));
    Some(AllPage { events, read_to, at_head: true })
}
