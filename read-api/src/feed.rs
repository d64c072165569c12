//! What subscriptions are woken by. One watcher a process looks how far the read models have come, by one statement for
//! all subscribers, asks the log whom that concerns, and tells those. It runs only while there are subscribers.
//!
//! What a subscriber has not taken yet is kept as a set of keys, not of values: what it reads then is the newest state. So
//! a slow subscriber misses states in between and never the last one, and what is kept for it is bounded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::own_writes::{self, ReadModel};
use crate::position::{LogHead, Position};

/// How long after a commit in another process it is seen at the latest.
const POLL: Duration = Duration::from_millis(75);
/// How long the watcher rests between two looks, whatever happens: commits that come together are told together.
const REST: Duration = Duration::from_millis(5);
/// How long it rests when the database or the log does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// The most keys that are kept for a subscriber; past that it is told that it missed some.
pub(crate) const MOST_KEYS: usize = 200;

/// Tells subscribers what has changed.
pub(crate) struct Feed {
    pool: PgPool,
    log: Arc<dyn LogHead>,
    wake: Option<watch::Receiver<()>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the watcher has seen last, and told; `None` while there is no watcher, or before its first look.
    seen: Option<Arc<Seen>>,
    subscribers: HashMap<u64, Arc<Inbox>>,
    next: u64,
    watching: bool,
}

/// What a subscriber wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That something happened to this key of the read model.
    Key(ReadModel, String),
    /// Which keys of the read model something happened to.
    Keys(ReadModel),
    /// That the read model has moved.
    Moves(ReadModel),
    /// That any of them has moved, or is in another state.
    Standings,
}

impl Interest {
    fn model(&self) -> Option<ReadModel> {
        match self {
            Self::Key(model, _) | Self::Keys(model) | Self::Moves(model) => Some(*model),
            Self::Standings => None,
        }
    }
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something happened to these keys.
    Keys(BTreeSet<String>),
    /// Anything may have changed: too many keys to tell, other tables, or events that were folded later than in order.
    Anything,
}

impl Change {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Keys(mut these), Self::Keys(those)) => {
                these.extend(those);
                if these.len() > MOST_KEYS { Self::Anything } else { Self::Keys(these) }
            }
            _ => Self::Anything,
        }
    }
}

/// How far the read models had come at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen(Vec<Standing>);

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Standing {
    name: String,
    generation: i32,
    state: String,
    stopped: bool,
    /// Counts what was folded, or left out, out of order.
    parked_changes: i64,
    commit_position: Option<i64>,
    prepare_position: Option<i64>,
}

impl Standing {
    fn position(&self) -> Option<Position> {
        own_writes::position(self.commit_position, self.prepare_position)
    }
}

impl Seen {
    async fn look(pool: &PgPool) -> sqlx::Result<Self> {
        let sql = "select name, generation, state, error is not null as stopped, parked_changes, commit_position, \
                   prepare_position from control.generations where state <> 'retired' order by name, generation";
        Ok(Self(sqlx::query_as(sql).fetch_all(pool).await?))
    }

    /// How far the read model had come; `None` before its first event.
    pub(crate) fn position(&self, model: ReadModel) -> Option<Position> {
        self.live(model).and_then(Standing::position)
    }

    /// How far each had come.
    pub(crate) fn positions(&self) -> HashMap<String, Option<Position>> {
        let live = self.0.iter().filter(|standing| standing.state == "live");
        live.map(|standing| (standing.name.clone(), standing.position())).collect()
    }

    fn live(&self, model: ReadModel) -> Option<&Standing> {
        self.0.iter().find(|standing| standing.state == "live" && standing.name == model.name())
    }

    /// Takes back what was seen of a read model.
    fn unsee(&mut self, model: ReadModel, before: &Self) {
        self.0.retain(|standing| standing.name != model.name());
        self.0.extend(before.0.iter().filter(|standing| standing.name == model.name()).cloned());
        self.0.sort_by(|a, b| (&a.name, a.generation).cmp(&(&b.name, b.generation)));
    }
}

/// What waits for one subscriber.
struct Inbox {
    interest: Interest,
    change: Mutex<Option<Change>>,
    bell: Notify,
}

impl Inbox {
    fn put(&self, change: Change) {
        let mut waiting = lock(&self.change);
        *waiting = Some(match waiting.take() {
            Some(before) => before.and(change),
            None => change,
        });
        drop(waiting);
        self.bell.notify_one();
    }
}

/// Ends the subscriptions of a client: they end by themselves once this says so or is gone, after what they are at.
pub(crate) type Stop = watch::Receiver<bool>;

/// Returns when `stop` says so or is gone.
pub(crate) async fn stopped(stop: &mut Stop) {
    // An error says that nobody is there any more who would take anything.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A place among the few answers that are made for a connection at a time. An operation takes one before it makes an answer,
/// and keeps it until that is taken: so a client that follows much and reads nothing does not pile up answers.
#[derive(Clone)]
pub(crate) struct Turn {
    turns: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Turn {
    /// That of an operation of a connection with these turns.
    pub(crate) fn new(turns: Arc<Semaphore>) -> Self {
        Self { turns, held: Arc::default() }
    }

    /// Waits for a place.
    pub(crate) async fn take(&self) {
        // Nobody closes them.
        if let Ok(place) = self.turns.clone().acquire_owned().await {
            *lock(&self.held) = Some(place);
        }
    }

    /// Gives the place back, if there is one.
    pub(crate) fn give_back(&self) {
        lock(&self.held).take();
    }
}

/// One who is told. It is forgotten when it is dropped.
pub(crate) struct Subscriber {
    feed: Arc<Feed>,
    number: u64,
    inbox: Arc<Inbox>,
    stop: Stop,
}

impl Feed {
    pub(crate) fn new(pool: PgPool, log: Arc<dyn LogHead>, wake: Option<watch::Receiver<()>>) -> Arc<Self> {
        Arc::new(Self { pool, log, wake, state: Mutex::default() })
    }

    /// Tells of everything that changes from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, interest: Interest, stop: Stop) -> Subscriber {
        let inbox = Arc::new(Inbox { interest, change: Mutex::default(), bell: Notify::new() });
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.subscribers.insert(number, inbox.clone());
        if !state.watching {
            state.watching = true;
            tokio::spawn(self.clone().watch());
        }
        drop(state);
        Subscriber { feed: self.clone(), number, inbox, stop }
    }

    async fn watch(self: Arc<Self>) {
        let mut wake = self.wake.clone();
        loop {
            let rest = match self.look_and_tell().await {
                Ok(()) => REST,
                Err(error) => {
                    tracing::warn!(error = &*error, "subscribers are told later: it cannot be seen what has changed");
                    RETRY
                }
            };
            {
                let mut state = lock(&self.state);
                if state.subscribers.is_empty() {
                    *state = State { next: state.next, ..State::default() };
                    return;
                }
            }
            tokio::time::sleep(rest).await;
            let woken = async {
                let Some(moved) = &mut wake else { return std::future::pending().await };
                if moved.changed().await.is_err() {
                    // The projectors are gone; from now on only time wakes.
                    std::future::pending().await
                }
            };
            // That time is up is as good a reason to look.
            let _ = tokio::time::timeout(POLL.saturating_sub(rest), woken).await;
        }
    }

    async fn look_and_tell(&self) -> Result<(), crate::position::LogError> {
        let mut now = Seen::look(&self.pool).await?;
        let (before, models) = {
            let state = lock(&self.state);
            let by_key = |inbox: &Arc<Inbox>| match inbox.interest {
                Interest::Key(model, _) | Interest::Keys(model) => Some(model),
                Interest::Moves(_) | Interest::Standings => None,
            };
            (state.seen.clone(), state.subscribers.values().filter_map(by_key).collect::<BTreeSet<_>>())
        };
        let Some(before) = before else {
            // The first look: whoever waits for it begins here.
            let mut state = lock(&self.state);
            state.seen = Some(Arc::new(now));
            state.subscribers.values().for_each(|inbox| inbox.bell.notify_one());
            return Ok(());
        };
        if *before == now {
            return Ok(());
        }
        let mut changes = HashMap::new();
        let mut failed = Ok(());
        for model in models {
            if before.live(model) == now.live(model) {
                continue;
            }
            match self.change(model, &before, &now).await {
                Ok(change) => drop(changes.insert(model, change)),
                Err(error) => {
                    now.unsee(model, &before);
                    failed = Err(error);
                }
            }
        }
        self.tell(&before, now, &changes);
        failed
    }

    /// What has changed in a read model.
    async fn change(&self, model: ReadModel, before: &Seen, now: &Seen) -> Result<Change, crate::position::LogError> {
        let (Some(before), Some(now)) = (before.live(model), now.live(model)) else { return Ok(Change::Anything) };
        if (before.generation, before.parked_changes) != (now.generation, now.parked_changes) {
            return Ok(Change::Anything);
        }
        match now.position() {
            Some(to) => self.changed_since(model, before.position(), to).await,
            None => Ok(Change::Anything),
        }
    }

    /// What events between two positions are about.
    pub(crate) async fn changed_since(
        &self,
        model: ReadModel,
        from: Option<Position>,
        to: Position,
    ) -> Result<Change, crate::position::LogError> {
        if from >= Some(to) {
            return Ok(Change::Keys(BTreeSet::new()));
        }
        let keys = self.log.keys_between(model.name(), from, to, MOST_KEYS).await?;
        Ok(keys.map_or(Change::Anything, Change::Keys))
    }

    fn tell(&self, before: &Seen, now: Seen, changes: &HashMap<ReadModel, Change>) {
        let mut state = lock(&self.state);
        for inbox in state.subscribers.values() {
            let has_moved = inbox.interest.model().is_none_or(|model| before.live(model) != now.live(model));
            if !has_moved {
                continue;
            }
            // Who came while the log was asked is told that anything may have changed.
            let change = |model| changes.get(model).cloned().unwrap_or(Change::Anything);
            let told = match &inbox.interest {
                Interest::Key(model, key) => match change(model) {
                    Change::Keys(keys) if !keys.contains(key) => None,
                    change => Some(change),
                },
                Interest::Keys(model) => Some(change(model)).filter(|change| *change != Change::Keys(BTreeSet::new())),
                Interest::Moves(_) | Interest::Standings => Some(Change::Anything),
            };
            if let Some(change) = told {
                inbox.put(change);
            }
        }
        state.seen = Some(Arc::new(now));
    }
}

impl Subscriber {
    /// How far the read models are, as of which everything is told from now on. `None` when the client is gone.
    pub(crate) async fn begin(&mut self) -> Option<Arc<Seen>> {
        loop {
            let seen = {
                let state = lock(&self.feed.state);
                let seen = state.seen.clone();
                if seen.is_some() {
                    // What was told up to there is in what is read from now on.
                    *lock(&self.inbox.change) = None;
                }
                seen
            };
            if seen.is_some() {
                return seen;
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return None,
                () = self.inbox.bell.notified() => {}
            }
        }
    }

    /// Waits until the read model has come as far as `position`, and begins there.
    pub(crate) async fn begin_at(&mut self, model: ReadModel, position: Option<Position>) -> Option<Arc<Seen>> {
        loop {
            let seen = self.begin().await?;
            if seen.position(model) >= position {
                return Some(seen);
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return None,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Waits until something has changed, which goes on being gathered. Whether the client is still there.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            if lock(&self.inbox.change).is_some() {
                return true;
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return false,
                () = self.inbox.bell.notified() => {}
            }
        }
    }

    /// Waits for a turn. Whether the client is still there.
    pub(crate) async fn take(&mut self, turn: &Turn) -> bool {
        tokio::select! {
            () = stopped(&mut self.stop) => false,
            () = turn.take() => true,
        }
    }

    /// What has changed since this was asked last, and how far the read models are now. `None` when the client is gone.
    pub(crate) async fn next(&mut self) -> Option<(Change, Arc<Seen>)> {
        loop {
            {
                let state = lock(&self.feed.state);
                if let (Some(change), Some(seen)) = (lock(&self.inbox.change).take(), &state.seen) {
                    return Some((change, seen.clone()));
                }
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return None,
                () = self.inbox.bell.notified() => {}
            }
        }
    }

    /// Lets some time pass. Whether the client is still there.
    pub(crate) async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = stopped(&mut self.stop) => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        lock(&self.feed.state).subscribers.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
