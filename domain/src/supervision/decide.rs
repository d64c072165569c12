//! What is known of a checkout from outside, and what may be done about it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::decider::Decider;
use crate::ids::{Line, OrderId};
use crate::supervision::{Command, Event, Park, Parked, Retried, Retry, TimeOut, TimedOut, Timeout};

/// The aggregate of the supervision of one checkout. Its stream is `checkout-{order}`.
pub struct Supervision;

/// What is known of a checkout from outside.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SupervisionState {
    /// What it has waited for in vain.
    pub timed_out: BTreeSet<Timeout>,
    /// Why it cannot go on; `null` while it can.
    pub parked: Option<Line>,
}

/// Why a command about a checkout was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// Only what cannot go on is let try again.
    #[error("the checkout is not parked")]
    NotParked,
}

impl Decider for Supervision {
    const CATEGORY: &'static str = "checkout";

    type Id = OrderId;
    type State = SupervisionState;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> SupervisionState {
        SupervisionState { timed_out: BTreeSet::new(), parked: None }
    }

    fn evolve(mut state: SupervisionState, event: &Event) -> SupervisionState {
        match event {
            Event::TimedOut(TimedOut { timeout }) => {
                state.timed_out.insert(*timeout);
            }
            Event::Parked(Parked { reason, .. }) => state.parked = Some(reason.clone()),
            Event::Retried(_) => state.parked = None,
        }
        state
    }

    fn decide(state: &SupervisionState, command: Command) -> Result<Vec<Event>, Refusal> {
        Ok(match command {
            // A timeout fires once.
            Command::TimeOut(TimeOut { timeout }) if state.timed_out.contains(&timeout) => vec![],
            Command::TimeOut(TimeOut { timeout }) => vec![TimedOut { timeout }.into()],
            Command::Park(_) if state.parked.is_some() => vec![],
            Command::Park(Park { event, reason }) => vec![Parked { event, reason }.into()],
            Command::Retry(Retry {}) if state.parked.is_none() => return Err(Refusal::NotParked),
            Command::Retry(Retry {}) => vec![Retried {}.into()],
        })
    }
}
