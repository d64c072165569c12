//! Charging: what the payment gateway is to be asked, and has not answered yet.
//!
//! A list of things to do, folded from the events of a payment. It commands nothing: whoever runs it asks the gateway and
//! puts the answers on record with the payment, whose events take the calls off the list again.

use serde::{Deserialize, Serialize};

use crate::decider::Decider as _;
use crate::ids::{CardToken, PaymentId};
use crate::money::Money;
use crate::payments::{
    CaptureRequested, Event, Payment, RefundFailed, RefundRequested, Refunded, Requested, VoidRequested,
};
use crate::process::{Never, Process};
use crate::shop_event::ShopEvent;

/// The process of charging, an instance a payment.
pub struct Charging;

/// A call to the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// Hold an amount on a card.
    Authorise {
        /// How much.
        amount: Money,
        /// On which card.
        card: CardToken,
    },
    /// Take what is held.
    Capture {
        /// How much of it.
        amount: Money,
    },
    /// Let go what is held, or may be.
    Void,
    /// Give back what was taken.
    Refund {
        /// Which refund of the payment.
        number: u32,
        /// How much.
        amount: Money,
    },
}

impl Process for Charging {
    const NAME: &'static str = "charging";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Payment::CATEGORY];
    const TIMEOUTS: &'static [Never] = &[];

    type Id = PaymentId;
    /// What the gateway is to be asked, in this order.
    type State = Vec<Call>;
    type Event = ShopEvent;
    type Command = Never;
    type Timeout = Never;

    fn instance(event: &ShopEvent) -> Option<PaymentId> {
        match event {
            ShopEvent::Payments(payment, _) => Some(*payment),
            _ => None,
        }
    }

    fn initial() -> Vec<Call> {
        Vec::new()
    }

    fn evolve(mut calls: Vec<Call>, event: &ShopEvent) -> Vec<Call> {
        let ShopEvent::Payments(_, event) = event else { return calls };
        match event {
            Event::Requested(Requested { amount, card }) => {
                calls.push(Call::Authorise { amount: *amount, card: card.clone() });
            }
            Event::Authorised(_) => calls.retain(|call| !matches!(call, Call::Authorise { .. })),
            // What was declined holds nothing that could be let go.
            Event::Declined(_) => calls.clear(),
            Event::CaptureRequested(CaptureRequested { amount }) => calls.push(Call::Capture { amount: *amount }),
            Event::Captured(_) | Event::CaptureFailed(_) => calls.retain(|call| !matches!(call, Call::Capture { .. })),
            // The gateway keeps a void in mind, so that an authorisation that comes after it finds the door shut: it
            // need not be asked for any more.
            Event::VoidRequested(VoidRequested { .. }) => calls = vec![Call::Void],
            Event::Voided(_) => calls.clear(),
            Event::RefundRequested(RefundRequested { number, amount, .. }) => {
                calls.push(Call::Refund { number: *number, amount: *amount });
            }
            Event::Refunded(Refunded { number: answered, .. })
            | Event::RefundFailed(RefundFailed { number: answered, .. }) => {
                calls.retain(|call| !matches!(call, Call::Refund { number, .. } if number == answered));
            }
        }
        calls
    }

    fn react(_: &Vec<Call>, _: &ShopEvent) -> Vec<Never> {
        Vec::new()
    }

    fn is_over(calls: &Vec<Call>) -> bool {
        calls.is_empty()
    }
}

#[cfg(test)]
mod tests;
