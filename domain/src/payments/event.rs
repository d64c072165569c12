//! What happens to a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CardToken, Line};
use crate::money::Money;

crate::stored_events! {
    /// What happens to a payment. The payment's id is the id of its stream, and of the order that is paid for.
    pub enum Event {
        /// Money is to be held on a card.
        Requested => "PaymentRequested" schema 1,
        /// The gateway holds the money.
        Authorised => "PaymentAuthorised" schema 1,
        /// The gateway does not hold the money.
        Declined => "PaymentDeclined" schema 1,
        /// Held money is to be taken.
        CaptureRequested => "PaymentCaptureRequested" schema 1,
        /// The gateway took the money.
        Captured => "PaymentCaptured" schema 1,
        /// The gateway did not take the money, and still holds it.
        CaptureFailed => "PaymentCaptureFailed" schema 1,
        /// What is held, or may be, is to be let go.
        VoidRequested => "PaymentVoidRequested" schema 1,
        /// The gateway holds nothing any more, and never will.
        Voided => "PaymentVoided" schema 1,
        /// Taken money is to be given back.
        RefundRequested => "PaymentRefundRequested" schema 1,
        /// The gateway gave money back.
        Refunded => "PaymentRefunded" schema 1,
        /// The gateway did not give money back.
        RefundFailed => "PaymentRefundFailed" schema 1,
    }
}

/// Money is to be held on a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// How much.
    pub amount: Money,
    /// On which card.
    pub card: CardToken,
}

/// The gateway holds the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Authorised {
    /// How much.
    pub amount: Money,
    /// The gateway's own name for it.
    pub reference: Line,
}

/// The gateway does not hold the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Declined {
    /// Why, in the gateway's words.
    pub reason: Line,
}

/// Held money is to be taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureRequested {
    /// How much.
    pub amount: Money,
}

/// The gateway took the money. What it held beyond that is let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Captured {
    /// How much.
    pub amount: Money,
    /// The gateway's own name for it.
    pub reference: Line,
}

/// The gateway did not take the money, and still holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureFailed {
    /// Why, in the gateway's words.
    pub reason: Line,
}

/// What is held, or may be, is to be let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VoidRequested {
    /// Why.
    pub reason: Line,
}

/// The gateway holds nothing any more, and never will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Voided {}

/// Taken money is to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefundRequested {
    /// Which refund of the payment, from 1.
    pub number: u32,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: Line,
}

/// The gateway gave money back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refunded {
    /// Which refund of the payment, from 1.
    pub number: u32,
    /// How much.
    pub amount: Money,
    /// What is left of what was taken after this and all refunds before it, in minor units of the same currency.
    pub left_minor: i64,
}

/// The gateway did not give money back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefundFailed {
    /// Which refund of the payment, from 1.
    pub number: u32,
    /// Why, in the gateway's words.
    pub reason: Line,
}
