//! What a customer's account is, and what may be done with it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::customers::{ChangeContact, Close, Closed, Command, Contact, ContactChanged, Event, Register, Registered};
use crate::decider::Decider;
use crate::ids::{CustomerId, Line};

/// The aggregate of one customer's account. Its stream is `customer-{id}`.
pub struct Customer;

/// A customer's account.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CustomerState {
    /// Whether it is open.
    pub status: Status,
    /// The number under which an older system knows the customer.
    pub reference: Option<Line>,
    /// How to reach them.
    pub contact: Contact,
}

/// Whether an account is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is open.
    Open,
    /// It is closed for good.
    Closed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}

/// Why a command to a customer's account was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// An account is opened once, and a closed one stays closed.
    #[error("the customer is registered already; the account is {status}")]
    AlreadyRegistered {
        /// Its present status.
        status: Status,
    },
    /// Nothing is known of the customer; they must be registered first.
    #[error("no customer of this id is registered")]
    NotRegistered,
    /// Nothing happens to an account after its end.
    #[error("the account is closed for good")]
    AccountClosed,
}

impl Decider for Customer {
    const CATEGORY: &'static str = "customer";

    type Id = CustomerId;
    /// `None` until the customer is registered.
    type State = Option<CustomerState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        match (state, event) {
            (_, Event::Registered(Registered { reference, contact })) => {
                let (reference, contact) = (reference.clone(), contact.clone());
                Some(CustomerState { status: Status::Open, reference, contact })
            }
            // Without an account there is nothing that the other events could change.
            (None, _) => None,
            (Some(customer), Event::ContactChanged(ContactChanged { contact })) => {
                Some(CustomerState { contact: contact.clone(), ..customer })
            }
            (Some(customer), Event::Closed(_)) => Some(CustomerState { status: Status::Closed, ..customer }),
        }
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        match (state, command) {
            (None, Command::Register(Register { reference, contact })) => {
                Ok(vec![Registered { reference, contact }.into()])
            }
            (None, _) => Err(Refusal::NotRegistered),
            (Some(customer), Command::Register(_)) => Err(Refusal::AlreadyRegistered { status: customer.status }),
            (Some(CustomerState { status: Status::Closed, .. }), _) => Err(Refusal::AccountClosed),
            (Some(customer), Command::ChangeContact(ChangeContact { contact })) => {
                // What is known already is no news.
                if contact == customer.contact { Ok(vec![]) } else { Ok(vec![ContactChanged { contact }.into()]) }
            }
            (Some(_), Command::Close(Close { reason })) => Ok(vec![Closed { reason }.into()]),
        }
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::Register(_))
    }
}
