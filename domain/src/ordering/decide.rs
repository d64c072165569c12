//! What an order is, and what may be done with it.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, SubsecRound as _, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::decider::Decider;
use crate::ids::{CustomerId, Line, OrderId, Quantity};
use crate::money::{Money, Price};
use crate::ordering::{
    CallOff, Cancel, CancellationDeclined, CancellationRequested, Cancelled, Command, Complete, Completed, Confirm,
    Confirmed, Dispatch, Dispatched, Event, OrderLine, Placed, Recorded, Reject, Rejected, Sale, SaleMade,
};

/// The aggregate of one order. Its stream is `order-{id}`.
pub struct Order;

impl Order {
    /// The most lines that an order may have.
    pub const MAX_LINES: usize = 10_000;
    /// The largest total that an order may have, in minor units: enough for any order, and so far from the end of `i64` that
    /// the sums of a day or a customer never come near it.
    pub const MAX_TOTAL: i64 = 10_000_000_000_000;
    /// The years in which an order may have been placed: those that every store and calendar can write.
    pub const YEARS: RangeInclusive<i32> = 1..=9_999;
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OrderState {
    /// How far it has come.
    pub status: Status,
    /// Why it was rejected or cancelled, or is to be cancelled; `null` otherwise.
    pub reason: Option<Line>,
    /// The number under which the customer or an older system knows it.
    pub reference: Option<Line>,
    /// Who bought; `null` for a guest.
    pub customer: Option<CustomerId>,
    /// The country from which was bought.
    pub country: Line,
    /// When it was bought.
    pub placed_at: DateTime<Utc>,
    /// What was bought, in the customer's order.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines.
    pub total: Money,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The shop is reserving and charging.
    Placed,
    /// It is reserved and paid.
    Confirmed,
    /// The customer wants it called off; the shop is trying to keep the goods in the house.
    Cancelling,
    /// The goods have left the house.
    Dispatched,
    /// The goods arrived. Final.
    Completed,
    /// The shop could not take it. Final.
    Rejected,
    /// It was called off. Final.
    Cancelled,
    /// It was traded elsewhere and is on record here. Final.
    Recorded,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "placed",
            Self::Confirmed => "confirmed",
            Self::Cancelling => "cancelling",
            Self::Dispatched => "dispatched",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Recorded => "recorded",
        })
    }
}

/// Why a command to an order was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// Nothing is known of the order; it must be placed first.
    #[error("no order of this id was placed")]
    NotPlaced,
    /// An order is placed or recorded once.
    #[error("the order exists already; its status is {status}")]
    AlreadyPlaced {
        /// Its present status.
        status: Status,
    },
    /// An order of nothing is none.
    #[error("an order has at least one line")]
    NoLines,
    /// More lines than [`Order::MAX_LINES`].
    #[error("the order has {lines} lines; at most {max} are allowed")]
    TooManyLines {
        /// How many there are.
        lines: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The sum of the lines is more than [`Order::MAX_TOTAL`] minor units.
    #[error("line {line}, {quantity} units at {unit_price_minor}, takes the total of {subtotal_minor} out of range")]
    TotalOverflow {
        /// The line that does not fit any more, counted from 1.
        line: usize,
        /// How many units it is of.
        quantity: Quantity,
        /// The price of one of them, in minor units.
        unit_price_minor: Price,
        /// The sum of the lines before it, in minor units.
        subtotal_minor: i64,
    },
    /// What costs something is charged to a card.
    #[error("the order costs {total}, and names no card to charge")]
    NoCard {
        /// What it costs.
        total: Money,
    },
    /// What was traded elsewhere was paid elsewhere.
    #[error("an order that is recorded was paid elsewhere; leave the card out")]
    CardOnRecord,
    /// The order was placed in a year outside [`Order::YEARS`].
    #[error("an order is placed in the years {first} to {last}, not at {placed_at}")]
    ImplausibleDate {
        /// When it was said to be placed.
        placed_at: DateTime<Utc>,
        /// The first year that is allowed.
        first: i32,
        /// The last year that is allowed.
        last: i32,
    },
    /// Only a placed order can be confirmed.
    #[error("the order is {status}; only a placed one can be confirmed")]
    CannotConfirm {
        /// Its present status.
        status: Status,
    },
    /// Only a placed order can be rejected.
    #[error("the order is {status}; only a placed one can be rejected")]
    CannotReject {
        /// Its present status.
        status: Status,
    },
    /// Only a placed or a confirmed order can be cancelled; what has left the house is past that.
    #[error("the order is {status}; only a placed or confirmed one can be cancelled")]
    CannotCancel {
        /// Its present status.
        status: Status,
    },
    /// Only the goods of a confirmed order can leave the house.
    #[error("the order is {status}; only a confirmed one can be dispatched")]
    CannotDispatch {
        /// Its present status.
        status: Status,
    },
    /// The shop calls off what it has confirmed; before that it rejects.
    #[error("the order is {status}; only a confirmed or dispatched one can be called off")]
    CannotCallOff {
        /// Its present status.
        status: Status,
    },
    /// Only a dispatched order can be completed.
    #[error("the order is {status}; only a dispatched one can be completed")]
    CannotComplete {
        /// Its present status.
        status: Status,
    },
}

impl Decider for Order {
    const CATEGORY: &'static str = "order";

    type Id = OrderId;
    /// `None` until the order is placed or recorded.
    type State = Option<OrderState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        match (state, event) {
            (_, Event::Placed(Placed(sale))) => Some(OrderState::new(Status::Placed, sale)),
            (_, Event::Recorded(Recorded(sale))) => Some(OrderState::new(Status::Recorded, sale)),
            // Without an order there is nothing that the other events could change.
            (None, _) => None,
            (Some(order), Event::Confirmed(_)) => Some(OrderState { status: Status::Confirmed, ..order }),
            (Some(order), Event::CancellationRequested(CancellationRequested { reason })) => {
                Some(OrderState { status: Status::Cancelling, reason: Some(reason.clone()), ..order })
            }
            (Some(order), Event::CancellationDeclined(_)) => {
                Some(OrderState { status: Status::Confirmed, reason: None, ..order })
            }
            (Some(order), Event::Dispatched(_)) => Some(OrderState { status: Status::Dispatched, ..order }),
            (Some(order), Event::Completed(_)) => Some(OrderState { status: Status::Completed, ..order }),
            (Some(order), Event::Rejected(Rejected { reason })) => {
                Some(OrderState { status: Status::Rejected, reason: Some(reason.clone()), ..order })
            }
            (Some(order), Event::Cancelled(Cancelled { reason })) => {
                Some(OrderState { status: Status::Cancelled, reason: Some(reason.clone()), ..order })
            }
        }
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        let event = match (state.as_ref().map(|order| order.status), command) {
            (None, Command::Place(sale)) => Placed(to_be_paid(made(sale)?)?).into(),
            (None, Command::Record(Sale { card: Some(_), .. })) => return Err(Refusal::CardOnRecord),
            (None, Command::Record(sale)) => Recorded(made(sale)?).into(),
            (None, _) => return Err(Refusal::NotPlaced),
            (Some(status), Command::Place(_) | Command::Record(_)) => return Err(Refusal::AlreadyPlaced { status }),

            (Some(Status::Placed), Command::Confirm(Confirm {})) => Confirmed {}.into(),
            (Some(status), Command::Confirm(_)) => return Err(Refusal::CannotConfirm { status }),

            (Some(Status::Placed), Command::Reject(Reject { reason })) => Rejected { reason }.into(),
            (Some(status), Command::Reject(_)) => return Err(Refusal::CannotReject { status }),

            (Some(Status::Placed), Command::Cancel(Cancel { reason })) => Cancelled { reason }.into(),
            // Whether the goods can still be kept is for the shipment to say.
            (Some(Status::Confirmed), Command::Cancel(Cancel { reason })) => CancellationRequested { reason }.into(),
            (Some(status), Command::Cancel(_)) => return Err(Refusal::CannotCancel { status }),

            (Some(Status::Confirmed), Command::Dispatch(Dispatch {})) => Dispatched {}.into(),
            (Some(Status::Cancelling), Command::Dispatch(Dispatch {})) => {
                return Ok(vec![CancellationDeclined {}.into(), Dispatched {}.into()]);
            }
            (Some(status), Command::Dispatch(_)) => return Err(Refusal::CannotDispatch { status }),

            (
                Some(Status::Confirmed | Status::Cancelling | Status::Dispatched),
                Command::CallOff(CallOff { reason }),
            ) => Cancelled { reason }.into(),
            (Some(status), Command::CallOff(_)) => return Err(Refusal::CannotCallOff { status }),

            (Some(Status::Dispatched), Command::Complete(Complete {})) => Completed {}.into(),
            (Some(status), Command::Complete(_)) => return Err(Refusal::CannotComplete { status }),
        };
        Ok(vec![event])
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::Place(_) | Command::Record(_))
    }
}

impl OrderState {
    fn new(status: Status, sale: &SaleMade) -> Self {
        let SaleMade { reference, customer, country, currency, placed_at, lines, total_minor, card: _ } = sale.clone();
        // No decision makes a total below zero. Should one be on file, the fold still has to say something of it.
        let minor = Price::try_from(total_minor).unwrap_or(Price::ZERO);
        let total = Money { minor, currency };
        Self { status, reason: None, reference, customer, country, placed_at, lines, total }
    }
}

/// The sale with its total, when it is one.
fn made(sale: Sale) -> Result<SaleMade, Refusal> {
    let total_minor = total(&sale.lines)?;
    let Sale { reference, customer, country, currency, placed_at, lines, card } = sale;
    if !Order::YEARS.contains(&placed_at.year()) {
        return Err(Refusal::ImplausibleDate { placed_at, first: *Order::YEARS.start(), last: *Order::YEARS.end() });
    }
    // No table keeps time finer than this, and what is folded twice has to be the same twice.
    let placed_at = placed_at.trunc_subsecs(6);
    Ok(SaleMade { reference, customer, country, currency, placed_at, lines, total_minor, card })
}

/// The sale, when it says what to charge. A gift needs no card.
fn to_be_paid(sale: SaleMade) -> Result<SaleMade, Refusal> {
    match Price::try_from(sale.total_minor) {
        Ok(minor) if minor > Price::ZERO && sale.card.is_none() => {
            Err(Refusal::NoCard { total: Money { minor, currency: sale.currency } })
        }
        _ => Ok(sale),
    }
}

/// The sum of the lines in minor units.
fn total(lines: &[OrderLine]) -> Result<i64, Refusal> {
    match lines.len() {
        0 => return Err(Refusal::NoLines),
        lines if lines > Order::MAX_LINES => return Err(Refusal::TooManyLines { lines, max: Order::MAX_LINES }),
        _ => {}
    }
    (1..).zip(lines).try_fold(0_i64, |subtotal_minor, (line, &OrderLine { quantity, unit_price, .. })| {
        let sum = unit_price.times(quantity).and_then(|amount| subtotal_minor.checked_add(amount));
        sum.filter(|sum| *sum <= Order::MAX_TOTAL).ok_or(Refusal::TotalOverflow {
            line,
            quantity,
            unit_price_minor: unit_price,
            subtotal_minor,
        })
    })
}
