//! The decider: an aggregate as three pure functions.
//!
//! The shape is Jérémie Chassaing's "functional event sourcing decider": an initial state, an `evolve` that folds one
//! event into the state, and a `decide` that turns a command into events or refuses it.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::StoredEvent;
use crate::ids::InvalidId;

/// An aggregate: the unit that decides, and the owner of one stream of events.
///
/// Implementations are pure. Time, ids and prices arrive inside the command; nothing is read from outside.
pub trait Decider: Send + Sync + 'static {
    /// The stream category. The stream of an aggregate is `{CATEGORY}-{id}`; a category holds no `-`, so that the
    /// category of a stream is what stands before its first `-` (EventStoreDB's own rule).
    const CATEGORY: &'static str;

    /// What names one aggregate of this kind within its category.
    type Id: Clone + Debug + Display + FromStr<Err = InvalidId> + Send + Sync;
    /// What the decision needs to know of the past, and no more.
    type State: Clone + Debug + PartialEq + Send + Sync + 'static;
    /// What one may ask for, in the imperative.
    type Command: Clone + Debug + Send + Sync;
    /// What happened, in the past tense.
    type Event: StoredEvent + Clone + Debug + PartialEq + Send + Sync;
    /// Why a command was refused, with the figures behind it.
    type Refusal: std::error::Error + Clone + PartialEq + Send + Sync;

    /// The state of an aggregate of which nothing has happened yet.
    fn initial() -> Self::State;

    /// Folds one event into the state. Total: an event is a fact, so this neither fails nor validates.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// Decides what happens when `command` meets `state`. An empty list means that there is nothing to do.
    ///
    /// # Errors
    /// A refusal: the domain said no, and why.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Whether a command begins an aggregate. Only a hint: whoever runs such a command may try to append to a new stream
    /// before it reads whether there is one.
    fn opens(_command: &Self::Command) -> bool {
        false
    }

    /// How the state is kept in snapshots, where the aggregate's streams get long: thousands of events. `None`: they do not.
    fn snapshots() -> Option<Snapshots<Self::State>> {
        None
    }
}

/// How a state is kept beside the log, so that a long stream need not be folded from its beginning. What is kept can be
/// thrown away at any time.
pub struct Snapshots<S> {
    fold: u32,
    schema: fn() -> String,
    encode: fn(&S) -> Result<Vec<u8>, serde_json::Error>,
    decode: fn(&[u8]) -> Result<S, serde_json::Error>,
}

impl<S: Serialize + DeserializeOwned + JsonSchema> Snapshots<S> {
    /// As JSON. A state of another shape is noticed by its JSON Schema; `fold` is raised when `evolve` makes another state of
    /// the same events without changing its shape.
    pub fn json(fold: u32) -> Self {
        Self {
            fold,
            schema: || schema_for!(S).as_value().to_string(),
            encode: |state| serde_json::to_vec(state),
            decode: |bytes| serde_json::from_slice(bytes),
        }
    }
}

impl<S> Snapshots<S> {
    /// The form of the state: what was kept in another form is no snapshot of it.
    pub fn form(&self) -> String {
        format!("{}\n{}", self.fold, (self.schema)())
    }

    /// The state as it is kept.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn encode(&self, state: &S) -> Result<Vec<u8>, serde_json::Error> {
        (self.encode)(state)
    }

    /// The state that was kept.
    ///
    /// # Errors
    /// When it is not of this form.
    pub fn decode(&self, bytes: &[u8]) -> Result<S, serde_json::Error> {
        (self.decode)(bytes)
    }
}

/// Lets each payload stand for its command where a command is asked for: `Rename { name }.into()`.
macro_rules! payloads_are_commands {
    ($($payload:ident),* $(,)?) => {
        $( impl From<$payload> for Command {
            fn from(payload: $payload) -> Self { Self::$payload(payload) }
        } )*
    };
}
pub(crate) use payloads_are_commands;

/// Folds `events` over the initial state: what an aggregate is after its history.
pub fn fold<'a, D: Decider>(events: impl IntoIterator<Item = &'a D::Event>) -> D::State
where
    D::Event: 'a,
{
    events.into_iter().fold(D::initial(), D::evolve)
}
