//! The process: a saga (process manager) as pure functions.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ids::InvalidId;

/// A process manager: follows the events of several aggregates and reacts with commands.
///
/// Pure, as a [`Decider`](crate::decider::Decider) is: commands and timeouts come out as data, and whoever runs the
/// process sends them. There is one instance of the process for each thing that it sees through (an order, a payment).
/// An instance sees its events in the order of the log, and the commands of a reaction are done before it sees the next
/// event; among each other they may be done in any order. A process is run at least once per event: whoever runs it gives
/// its commands ids that follow from the event, so that what was done before is not done again.
pub trait Process: Send + Sync + 'static {
    /// Its name: lower case, part of the ids of its commands, so it stays.
    const NAME: &'static str;
    /// The version of the state. Whoever changes what [`evolve`](Self::evolve) makes of the same events counts it up; the
    /// states of the instances are then folded anew from the log.
    const VERSION: i32;
    /// The categories of the streams that it follows.
    const CATEGORIES: &'static [&'static str];
    /// What it may wait for in vain.
    const TIMEOUTS: &'static [Self::Timeout];

    /// What names an instance.
    type Id: Clone + Debug + Display + FromStr<Err = InvalidId> + Eq + Hash + Ord + Send + Sync + 'static;
    /// What an instance remembers of what it has seen. Kept between events as JSON.
    type State: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the process listens to.
    type Event: Clone + Debug + PartialEq + Send + Sync;
    /// What the process asks for.
    type Command: Clone + Debug + PartialEq + Send + Sync;
    /// A thing to wait for, with a time limit that is configured elsewhere. Its text names it.
    type Timeout: Copy + Debug + Display + PartialEq + Send + Sync;

    /// The instance that an event concerns; `None` when it concerns none.
    fn instance(event: &Self::Event) -> Option<Self::Id>;

    /// The state of an instance that has seen nothing.
    fn initial() -> Self::State;

    /// Folds one event into the state. Total: it neither fails nor validates.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// What to do about `event`, seen from the state *before* it.
    fn react(state: &Self::State, event: &Self::Event) -> Vec<Self::Command>;

    /// What an instance waits for. The time limit counts from when it began to wait for this.
    fn waits_for(_state: &Self::State) -> Option<Self::Timeout> {
        None
    }

    /// What an instance cannot do without a person's help, if anything. It sees its events all the same.
    fn stuck(_state: &Self::State) -> Option<String> {
        None
    }

    /// Whether an event lets an instance try again that could not go on.
    fn resumes(_event: &Self::Event) -> bool {
        false
    }

    /// Whether an instance has nothing left to do, and its state may be forgotten. Another event begins it anew, from
    /// [`initial`](Self::initial).
    fn is_over(state: &Self::State) -> bool;
}

/// What stands in for [`Process::Timeout`] in a process that never waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

impl Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}
