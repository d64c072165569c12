//! What goes wrong, and when: faults that are told beforehand and meet the next requests, one each.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// So long.
    For(Duration),
    /// Until [`Faults::release`] or [`Faults::dismiss`].
    Release,
}

/// What becomes of an append, one by itself or one of a session, or of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendFault {
    /// The connection is cut and nothing is written.
    CutBeforeCommit,
    /// It is written, and the connection is cut without an answer.
    CutAfterCommit,
    /// It is written late, even when nobody waits for it any more.
    DelayCommit(Wait),
    /// It is written at once and answered late.
    DelayAnswer(Wait),
    /// It is written, and the answer says that it took too long: nobody knows.
    TimeOut,
    /// The server says that another one leads.
    NotLeader(Endpoint),
    /// The server says that it is not ready.
    NotReady,
}

/// What becomes of a read that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFault {
    /// The connection is cut when so many messages were sent. The last of them may be lost with it.
    CutAfter(u64),
    /// Each message takes so long.
    Slow(Duration),
    /// It is answered late.
    Delay(Wait),
    /// The server says that another one leads.
    NotLeader(Endpoint),
    /// The server says that it is not ready.
    NotReady,
}

/// How a subscription is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// It ends as if all were well: gRPC status 0.
    End,
    /// It ends with the gRPC status `UNAVAILABLE`.
    Fail,
    /// The connection is cut.
    Cut,
    /// It says nothing any more; the connection stays.
    Silence,
    /// It falls behind, says so, and catches up.
    FallBehind,
}

/// What becomes of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionFault {
    /// It is interrupted when so many events were sent.
    After(u64, Interruption),
    /// Each event takes so long.
    Slow(Duration),
    /// The server says that another one leads.
    NotLeader(Endpoint),
    /// The server says that it is not ready.
    NotReady,
}

/// The faults of a server. Clones tell the same server.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    told: Mutex<Told>,
    /// How many are still to happen.
    pending: watch::Sender<usize>,
    /// How many requests wait for [`Faults::release`] or [`Faults::dismiss`].
    held: watch::Sender<usize>,
    /// Tells those that are held to go on, or not to.
    released: watch::Sender<Held>,
    /// What is to happen to each open subscription.
    interruption: watch::Sender<Option<Interruption>>,
}

#[derive(Debug, Default)]
struct Told {
    appends: VecDeque<AppendFault>,
    reads: VecDeque<ReadFault>,
    subscriptions: VecDeque<SubscriptionFault>,
    /// How many connections are to be closed as soon as they are made.
    connections: usize,
    /// How many appends are let through before all are held.
    gate: Option<usize>,
}

impl Told {
    fn len(&self) -> usize {
        self.appends.len() + self.reads.len() + self.subscriptions.len() + self.connections
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(Shared {
            told: Mutex::default(),
            pending: watch::Sender::new(0),
            held: watch::Sender::new(0),
            released: watch::Sender::new(Held::GoOn),
            interruption: watch::Sender::new(None),
        }))
    }
}

impl Faults {
    /// The next so many appends and deletions meet this fault, after those that were told before.
    pub fn next_appends(&self, times: usize, fault: AppendFault) {
        self.change(|told| told.appends.extend(vec![fault; times]));
    }

    /// The next so many reads meet this fault.
    pub fn next_reads(&self, times: usize, fault: ReadFault) {
        self.change(|told| told.reads.extend(vec![fault; times]));
    }

    /// The next so many subscriptions meet this fault.
    pub fn next_subscriptions(&self, times: usize, fault: SubscriptionFault) {
        self.change(|told| told.subscriptions.extend(vec![fault; times]));
    }

    /// The next so many connections are closed as soon as they are made. To have them refused, stop the server.
    pub fn next_connections(&self, times: usize) {
        self.change(|told| told.connections += times);
    }

    /// Interrupts every subscription that is open.
    pub fn interrupt_subscriptions(&self, interruption: Interruption) {
        self.0.interruption.send_replace(Some(interruption));
    }

    /// Lets so many more appends through that meet no other fault, and holds all that come after them before they are
    /// written, until [`Faults::release`] or [`Faults::dismiss`] opens the gate.
    pub fn shut_gate_after(&self, appends: usize) {
        self.change(|told| told.gate = Some(appends));
    }

    /// Lets the requests go on that are held now, and only those. Opens the gate.
    pub fn release(&self) {
        self.change(|told| told.gate = None);
        self.0.released.send_replace(Held::GoOn);
    }

    /// Has the requests that are held now come to nothing: what was not written is not. Opens the gate.
    pub fn dismiss(&self) {
        self.change(|told| told.gate = None);
        self.0.released.send_replace(Held::Dismissed);
    }

    /// Takes back what was told and has not happened.
    pub fn clear(&self) {
        self.change(|told| *told = Told::default());
    }

    /// Returns when all that was told has happened to a request.
    pub async fn spent(&self) {
        self.reached(&self.0.pending, |pending| pending == 0).await;
    }

    /// Returns when so many requests are held at once.
    pub async fn holds(&self, requests: usize) {
        self.reached(&self.0.held, |held| held >= requests).await;
    }

    pub(crate) fn append(&self) -> Option<AppendFault> {
        self.change(|told| match &mut told.gate {
            _ if !told.appends.is_empty() => told.appends.pop_front(),
            Some(0) => Some(AppendFault::DelayCommit(Wait::Release)),
            Some(open_for) => {
                *open_for -= 1;
                None
            }
            None => None,
        })
    }

    pub(crate) fn read(&self) -> Option<ReadFault> {
        self.change(|told| told.reads.pop_front())
    }

    pub(crate) fn subscription(&self) -> Option<SubscriptionFault> {
        self.change(|told| told.subscriptions.pop_front())
    }

    pub(crate) fn refuses_connection(&self) -> bool {
        self.change(|told| {
            let refuses = told.connections > 0;
            told.connections -= usize::from(refuses);
            refuses
        })
    }

    /// Tells of what happens to open subscriptions from now on.
    pub(crate) fn interruptions(&self) -> watch::Receiver<Option<Interruption>> {
        self.0.interruption.subscribe()
    }

    pub(crate) async fn wait(&self, wait: Wait) -> Held {
        match wait {
            Wait::For(time) => {
                tokio::time::sleep(time).await;
                Held::GoOn
            }
            Wait::Release => {
                let mut released = self.0.released.subscribe();
                let _waiting = Waiting::new(&self.0.held);
                // The sender lives in `self`.
                let _ = released.changed().await;
                *released.borrow()
            }
        }
    }

    async fn reached(&self, count: &watch::Sender<usize>, enough: impl Fn(usize) -> bool) {
        // The sender lives in `self`, so this ends only when it is enough.
        let _ = count.subscribe().wait_for(|count| enough(*count)).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        let mut told: MutexGuard<'_, Told> = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut told);
        self.0.pending.send_replace(told.len());
        result
    }
}

/// What becomes of a request that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    GoOn,
    Dismissed,
}

/// A request that is held, for as long as anybody waits for it.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|held| *held += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}
