//! The mailboxes: within a process one has an aggregate at a time, and who comes meanwhile waits in its mailbox.
//!
//! A command that finds nobody at its aggregate is carried out at once, where it is: no task, no queue. What has come
//! meanwhile is then carried out together, in the order in which it came, by a task that ends with it; see
//! [`batch`](crate::batch). So the more commands an aggregate gets, the more of them share an append.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::decider::Decider;
use event_store::StreamName;
use metrics::gauge;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::batch::Outcome;
use crate::envelope::Envelope;
use crate::execute::{ExecuteError, Executor, MAX_WAITING};

/// How many commands are carried out together at most. A full mailbox of one aggregate takes no more of a batch of the log
/// than this, so that it keeps nobody else waiting.
const TOGETHER: usize = 256;

/// The mailboxes of the aggregates that somebody has at this moment.
#[derive(Default)]
pub(crate) struct Mailboxes(Mutex<HashMap<StreamName, Mailbox>>);

/// Lives as long as somebody has the aggregate or waits for it.
struct Mailbox {
    /// The commands that are being carried out, and those that wait.
    commands: Vec<Uuid>,
    /// How many wait.
    waits: usize,
    /// Those who wait, as a `VecDeque<Waiting<D>>`, once there was one.
    queue: Option<Box<dyn Any + Send>>,
}

/// A command that waits for its aggregate.
pub(crate) struct Waiting<D: Decider> {
    pub(crate) command: D::Command,
    pub(crate) envelope: Envelope,
    pub(crate) reply: oneshot::Sender<Outcome<D>>,
}

/// How a command gets its turn.
pub(crate) enum Entered<'a, D: Decider> {
    /// Nobody has the aggregate: it is this command's turn.
    First(D::Command, Turn<'a, D>),
    /// Somebody else carries it out, and says what became of it.
    Waits(oneshot::Receiver<Outcome<D>>),
}

impl Mailboxes {
    /// Brings a command to its aggregate.
    ///
    /// # Errors
    /// [`ExecuteError::InFlight`] and [`ExecuteError::Busy`].
    pub(crate) fn enter<'a, D: Decider>(
        executor: &'a Executor,
        stream: &'a StreamName,
        command: D::Command,
        envelope: &Envelope,
    ) -> Result<Entered<'a, D>, ExecuteError<D::Refusal>> {
        let id = envelope.command_id;
        let mut boxes = executor.mailboxes().lock();
        let Some(mailbox) = boxes.get_mut(stream) else {
            boxes.insert(stream.clone(), Mailbox { commands: vec![id], waits: 0, queue: None });
            return Ok(Entered::First(command, Turn::new(executor, stream, vec![id])));
        };
        if mailbox.commands.contains(&id) {
            return Err(ExecuteError::InFlight);
        }
        let queue = mailbox.queue.get_or_insert_with(|| Box::new(VecDeque::<Waiting<D>>::new()));
        // Of another type it would be if another aggregate had the same category: who comes second is not let in.
        let queue = queue.downcast_mut::<VecDeque<Waiting<D>>>().filter(|queue| queue.len() < MAX_WAITING);
        let queue = queue.ok_or(ExecuteError::Busy)?;
        let (reply, answer) = oneshot::channel();
        queue.push_back(Waiting { command, envelope: envelope.clone(), reply });
        gauge!("mailbox_waiting").increment(1);
        (mailbox.waits, _) = (queue.len(), mailbox.commands.push(id));
        Ok(Entered::Waits(answer))
    }

    /// Those whose turn it is next, in the order in which they came. Who has hung up meanwhile is left out.
    pub(crate) fn next<'a, D: Decider>(
        executor: &'a Executor,
        stream: &'a StreamName,
    ) -> (Vec<Waiting<D>>, Turn<'a, D>) {
        let mut boxes = executor.mailboxes().lock();
        let mut next = Vec::new();
        if let Some(mailbox) = boxes.get_mut(stream) {
            let queue = mailbox.queue.as_mut().and_then(|queue| queue.downcast_mut::<VecDeque<Waiting<D>>>());
            if let Some(queue) = queue {
                next.extend(queue.drain(..queue.len().min(TOGETHER)));
                gauge!("mailbox_waiting").decrement(next.len() as f64);
                mailbox.waits = queue.len();
            }
        }
        drop(boxes);
        let turn = Turn::new(executor, stream, next.iter().map(|waiting| waiting.envelope.command_id).collect());
        next.retain(|waiting| !waiting.reply.is_closed());
        (next, turn)
    }

    /// Notes that these commands are done. Says whether others wait.
    fn done(&self, stream: &StreamName, commands: &[Uuid]) -> bool {
        let mut boxes = self.lock();
        let Some(mailbox) = boxes.get_mut(stream) else { return false };
        if mailbox.waits == 0 {
            boxes.remove(stream);
            return false;
        }
        mailbox.commands.retain(|command| !commands.contains(command));
        true
    }

    /// Sends everybody at an aggregate away, for nobody is there to carry anything out.
    fn clear(&self, stream: &StreamName) {
        self.lock().remove(stream);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamName, Mailbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of some commands at their aggregate, until it is dropped: then it is the turn of those who have come
/// meanwhile, also when this one was cut off.
pub(crate) struct Turn<'a, D: Decider> {
    executor: &'a Executor,
    stream: &'a StreamName,
    commands: Vec<Uuid>,
    decider: PhantomData<fn() -> D>,
}

impl<'a, D: Decider> Turn<'a, D> {
    fn new(executor: &'a Executor, stream: &'a StreamName, commands: Vec<Uuid>) -> Self {
        Self { executor, stream, commands, decider: PhantomData }
    }
}

impl<D: Decider> Drop for Turn<'_, D> {
    fn drop(&mut self) {
        if !self.executor.mailboxes().done(self.stream, &self.commands) {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(self.executor.clone().serve_waiting::<D>(self.stream.clone()))),
            // The process is going down.
            Err(_) => self.executor.mailboxes().clear(self.stream),
        }
    }
}
