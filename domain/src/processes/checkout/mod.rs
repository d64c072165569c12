//! The checkout: it sees an order through, from placed to completed, or undoes what was done for it.
//!
//! placed → every SKU reserved → paid → confirmed → shipment requested → dispatched: the money is taken and the
//! reservations are shipped → delivered → completed.
//!
//! Three rules make every way out of that come to an end:
//!
//! - **It undoes from what it has seen.** What is reserved is released, what is held on the card is let go, what was taken
//!   is given back, and the order is rejected or called off. What comes in later is undone when it comes in: a
//!   reservation that arrives when nobody wants it any more is released then.
//! - **Where the goods are is for the shipment to say.** Once it is requested, only its cancellation lets the checkout
//!   undo; if the goods were faster, they are on their way and so is the order. Goods that have left the house never
//!   come back into stock; only the money does.
//! - **It never asks for what it has seen to be impossible.** A refusal therefore means that something happened which the
//!   checkout has yet to see. Those refusals are [`foreseen`]: the event that is on its way says how to go on. Any other
//!   refusal is for a person to look at.
//!
//! It goes by what happened, not by who did it: a capture, a refund, a void, a cancellation by hand moves it on just as its
//! own do. After a capture or a refund that failed it waits for a person ([`stuck`]).

mod case;
mod turn;

use std::fmt;

use crate::decider::Decider as _;
use crate::ids::{OrderId, PaymentId, ShipmentId, Sku};
use crate::inventory::{self, Stock};
use crate::ordering::{self, Order, Status};
use crate::payments::{self, Payment};
use crate::process::Process;
use crate::shipping::{self, Shipment};
use crate::shop_event::ShopEvent;
use crate::supervision::{self, Supervision, Timeout};

pub use case::Case;
use turn::Turn;

/// The process of checking out, an instance an order.
pub struct Checkout;

/// What the checkout asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Of the order.
    Order(OrderId, ordering::Command),
    /// Of the stock of a SKU.
    Stock(Sku, inventory::Command),
    /// Of the order's payment.
    Payment(PaymentId, payments::Command),
    /// Of the order's shipment.
    Shipment(ShipmentId, shipping::Command),
}

/// Why a command of the checkout was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The order refused it.
    #[error(transparent)]
    Order(#[from] ordering::Refusal),
    /// The stock refused it.
    #[error(transparent)]
    Stock(#[from] inventory::Refusal),
    /// The payment refused it.
    #[error(transparent)]
    Payment(#[from] payments::Refusal),
    /// The shipment refused it.
    #[error(transparent)]
    Shipment(#[from] shipping::Refusal),
}

/// Whether the checkout goes on after a refusal all the same, since an event is on its way to it that says how.
///
/// Each of these is a race that the checkout has lost against somebody else. Any other refusal is nothing that it knows how
/// to go on from.
pub fn foreseen(command: &Command, refusal: &Refusal) -> bool {
    use crate::inventory::{Command as ToStock, Refusal as ByStock};
    use crate::ordering::Refusal as ByOrder;
    use crate::payments::{Command as ToPayment, Refusal as ByPayment};
    use crate::shipping::{Command as ToShipment, Refusal as ByShipment};

    match (command, refusal) {
        // Somebody ended the order, and the event that ended it is on its way: a customer cancels, the shop rejects or
        // calls off by hand.
        (
            Command::Order(..),
            Refusal::Order(
                ByOrder::CannotConfirm { status }
                | ByOrder::CannotReject { status }
                | ByOrder::CannotDispatch { status }
                | ByOrder::CannotCallOff { status }
                | ByOrder::CannotComplete { status },
            ),
        ) => matches!(status, Status::Rejected | Status::Cancelled | Status::Completed),
        // It was released by hand, to put the books right after a count: `Released` is on its way.
        (Command::Stock(_, ToStock::Release(_)), Refusal::Stock(ByStock::NoReservation { .. })) => true,
        // The gateway has declined, or somebody has voided or captured by hand: `Declined`, `VoidRequested` or
        // `CaptureRequested` is on its way.
        (Command::Payment(_, ToPayment::Void(_)), Refusal::Payment(ByPayment::CannotVoid { .. })) => true,
        // Somebody has voided or captured by hand: `VoidRequested` or `CaptureRequested` is on its way.
        (Command::Payment(_, ToPayment::Capture(_)), Refusal::Payment(ByPayment::CannotCapture { .. })) => true,
        // Somebody has refunded by hand: `RefundRequested` is on its way, upon which the rest is asked for.
        (Command::Payment(_, ToPayment::Refund(_)), Refusal::Payment(ByPayment::RefundExceedsCaptured { .. })) => true,
        // The goods have left, or are kept already: `Dispatched` or `Cancelled` is on its way.
        (Command::Shipment(_, ToShipment::Cancel(_)), Refusal::Shipment(ByShipment::CannotCancel { .. })) => true,
        _ => false,
    }
}

/// What the checkout cannot do on its own any more. It goes on when a person has done it by hand, or lets it try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// The goods are gone, and the gateway did not take the money.
    Capture,
    /// The order is called off, and the gateway did not give the money back.
    Refund,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capture => "the goods are gone, and the money could not be taken",
            Self::Refund => "the order is called off, and the money could not be given back",
        })
    }
}

/// What an instance cannot do without a person's help, if anything.
pub fn stuck(state: &Option<Case>) -> Option<Stuck> {
    state.as_ref()?.progress.stuck()
}

impl Process for Checkout {
    const NAME: &'static str = "checkout";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] =
        &[Order::CATEGORY, Stock::CATEGORY, Payment::CATEGORY, Shipment::CATEGORY, Supervision::CATEGORY];
    const TIMEOUTS: &'static [Timeout] = &[Timeout::Payment, Timeout::Dispatch];

    type Id = OrderId;
    /// `None` before the order is placed, and again once there is nothing left to do for it.
    type State = Option<Case>;
    type Event = ShopEvent;
    type Command = Command;
    type Timeout = Timeout;

    fn instance(event: &ShopEvent) -> Option<OrderId> {
        match event {
            ShopEvent::Ordering(order, _) | ShopEvent::Supervision(order, _) => Some(*order),
            ShopEvent::Payments(payment, _) => Some(payment.order()),
            ShopEvent::Shipping(shipment, _) => Some(shipment.order()),
            ShopEvent::Inventory(_, event) => match event {
                inventory::Event::Reserved(inventory::Reserved { order, .. })
                | inventory::Event::Declined(inventory::Declined { order, .. })
                | inventory::Event::Released(inventory::Released { order, .. })
                | inventory::Event::Shipped(inventory::Shipped { order, .. }) => Some(*order),
                inventory::Event::Received(_)
                | inventory::Event::Adjusted(_)
                | inventory::Event::Depleted(_)
                | inventory::Event::ThresholdSet(_)
                | inventory::Event::RanLow(_) => None,
            },
            ShopEvent::Catalog(..) | ShopEvent::Customers(..) => None,
        }
    }

    fn initial() -> Option<Case> {
        None
    }

    fn evolve(state: Option<Case>, event: &ShopEvent) -> Option<Case> {
        let case = match state {
            None => Turn::open(event)?.0,
            Some(mut case) => {
                case.progress = Turn::take(&case, event).0;
                case.goods.follow(event);
                case
            }
        };
        (!case.progress.is_over()).then_some(case)
    }

    fn react(state: &Option<Case>, event: &ShopEvent) -> Vec<Command> {
        match state {
            None => Turn::open(event).map_or_else(Vec::new, |(_, commands)| commands),
            Some(case) => Turn::take(case, event).1,
        }
    }

    /// For the payment from its request on, not from the order on: before that, nothing is awaited but the shop's own
    /// stock, which always answers; and what times out can be voided, since it was requested.
    fn waits_for(state: &Option<Case>) -> Option<Timeout> {
        state.as_ref()?.progress.waits_for()
    }

    fn stuck(state: &Option<Case>) -> Option<String> {
        stuck(state).map(|stuck| stuck.to_string())
    }

    fn resumes(event: &ShopEvent) -> bool {
        matches!(event, ShopEvent::Supervision(_, supervision::Event::Retried(_)))
    }

    fn is_over(state: &Option<Case>) -> bool {
        state.is_none()
    }
}

#[cfg(test)]
mod exploration;
#[cfg(test)]
mod tests;
