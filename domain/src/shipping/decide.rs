//! What a shipment is, and what may be done with it.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::decider::Decider;
use crate::ids::{Line, ShipmentId, Sku};
use crate::shipping::{
    Cancel, Cancelled, Command, Deliver, Delivered, Dispatch, Dispatched, Event, Lost, ParcelLine, ReportLost, Request,
    Requested,
};

/// The aggregate of one shipment. Its stream is `shipment-{id}`.
pub struct Shipment;

impl Shipment {
    /// The most kinds of goods in a shipment: as many as an order may have lines.
    pub const MAX_LINES: usize = 10_000;
}

/// A shipment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ShipmentState {
    /// How far it has come.
    pub status: Status,
    /// To which country.
    pub country: Line,
    /// What is in it.
    pub lines: Vec<ParcelLine>,
    /// Who carries it; `null` before it is dispatched.
    pub carrier: Option<Line>,
    /// The carrier's number for it; `null` before it is dispatched.
    pub tracking: Option<Line>,
    /// Why it got lost or stayed in the house; `null` otherwise.
    pub reason: Option<Line>,
}

/// How far a shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The warehouse is to pack and send it.
    Requested,
    /// It is on its way.
    Dispatched,
    /// It arrived. Final.
    Delivered,
    /// It got lost on the way. Final.
    Lost,
    /// It stays in the house. Final.
    Cancelled,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Dispatched => "dispatched",
            Self::Delivered => "delivered",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why a command to a shipment was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// Nothing is known of the shipment; it must be requested first.
    #[error("no shipment of this id was requested")]
    NotRequested,
    /// A shipment is requested once.
    #[error("the shipment was requested already; it is {status}")]
    AlreadyRequested {
        /// Its present status.
        status: Status,
    },
    /// A shipment of nothing is none.
    #[error("a shipment has at least one line")]
    NoLines,
    /// More lines than [`Shipment::MAX_LINES`].
    #[error("the shipment has {lines} lines; at most {max} are allowed")]
    TooManyLines {
        /// How many there are.
        lines: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Each SKU stands on one line.
    #[error("{sku} stands on several lines; add them up")]
    RepeatedSku {
        /// Which.
        sku: Sku,
    },
    /// Only what is still in the house can be dispatched.
    #[error("the shipment is {status}; only a requested one can be dispatched")]
    CannotDispatch {
        /// Its present status.
        status: Status,
    },
    /// Only what is on its way can arrive.
    #[error("the shipment is {status}; only a dispatched one can be delivered")]
    CannotDeliver {
        /// Its present status.
        status: Status,
    },
    /// Only what is on its way can get lost.
    #[error("the shipment is {status}; only a dispatched one can be lost")]
    CannotBeLost {
        /// Its present status.
        status: Status,
    },
    /// Only what is still in the house can stay there.
    #[error("the shipment is {status}; only a requested one can be cancelled")]
    CannotCancel {
        /// Its present status.
        status: Status,
    },
}

impl Decider for Shipment {
    const CATEGORY: &'static str = "shipment";

    type Id = ShipmentId;
    /// `None` until the shipment is requested.
    type State = Option<ShipmentState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        match (state, event) {
            (_, Event::Requested(Requested { country, lines })) => Some(ShipmentState {
                status: Status::Requested,
                country: country.clone(),
                lines: lines.clone(),
                carrier: None,
                tracking: None,
                reason: None,
            }),
            // Without a request there is nothing that the other events could change.
            (None, _) => None,
            (Some(shipment), Event::Dispatched(Dispatched { carrier, tracking })) => Some(ShipmentState {
                status: Status::Dispatched,
                carrier: Some(carrier.clone()),
                tracking: Some(tracking.clone()),
                ..shipment
            }),
            (Some(shipment), Event::Delivered(_)) => Some(ShipmentState { status: Status::Delivered, ..shipment }),
            (Some(shipment), Event::Lost(Lost { reason })) => {
                Some(ShipmentState { status: Status::Lost, reason: Some(reason.clone()), ..shipment })
            }
            (Some(shipment), Event::Cancelled(Cancelled { reason })) => {
                Some(ShipmentState { status: Status::Cancelled, reason: Some(reason.clone()), ..shipment })
            }
        }
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        let event = match (state.as_ref().map(|shipment| shipment.status), command) {
            (None, Command::Request(Request { country, lines })) => Requested { country, lines: packed(lines)? }.into(),
            (None, _) => return Err(Refusal::NotRequested),
            (Some(status), Command::Request(_)) => return Err(Refusal::AlreadyRequested { status }),

            (Some(Status::Requested), Command::Dispatch(Dispatch { carrier, tracking })) => {
                Dispatched { carrier, tracking }.into()
            }
            (Some(status), Command::Dispatch(_)) => return Err(Refusal::CannotDispatch { status }),

            (Some(Status::Dispatched), Command::Deliver(Deliver {})) => Delivered {}.into(),
            (Some(status), Command::Deliver(_)) => return Err(Refusal::CannotDeliver { status }),

            (Some(Status::Dispatched), Command::ReportLost(ReportLost { reason })) => Lost { reason }.into(),
            (Some(status), Command::ReportLost(_)) => return Err(Refusal::CannotBeLost { status }),

            (Some(Status::Requested), Command::Cancel(Cancel { reason })) => Cancelled { reason }.into(),
            (Some(status), Command::Cancel(_)) => return Err(Refusal::CannotCancel { status }),
        };
        Ok(vec![event])
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::Request(_))
    }
}

/// The lines, when they are those of a shipment.
fn packed(lines: Vec<ParcelLine>) -> Result<Vec<ParcelLine>, Refusal> {
    match lines.len() {
        0 => return Err(Refusal::NoLines),
        lines if lines > Shipment::MAX_LINES => {
            return Err(Refusal::TooManyLines { lines, max: Shipment::MAX_LINES });
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    match lines.iter().find(|line| !seen.insert(&line.sku)) {
        Some(repeated) => Err(Refusal::RepeatedSku { sku: repeated.sku.clone() }),
        None => Ok(lines),
    }
}
