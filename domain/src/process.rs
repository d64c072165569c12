//! The process: a saga (process manager) as pure functions.

use std::fmt::Debug;

/// A process manager: follows the events of several aggregates and reacts with commands.
///
/// Pure, as a [`Decider`](crate::decider::Decider) is: commands and timeouts come out as data, and whoever runs the
/// process sends them. A process is run at least once per event, so what it asks for must bear repetition.
pub trait Process: Send + Sync + 'static {
    /// What the process remembers of what it has seen.
    type State: Clone + Debug + PartialEq + Send + Sync;
    /// What the process listens to.
    type Event: Clone + Debug + PartialEq + Send + Sync;
    /// What the process asks for.
    type Command: Clone + Debug + PartialEq + Send + Sync;

    /// The state of a process that has seen nothing.
    fn initial() -> Self::State;

    /// Folds one event into the state. Total: it neither fails nor validates.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// What to do about `event`, seen from the state *before* it.
    fn react(state: &Self::State, event: &Self::Event) -> Vec<Self::Command>;
}
