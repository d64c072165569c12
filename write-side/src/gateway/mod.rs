//! The payment gateway as the write side sees it: a port, and what stands behind it.
//!
//! [`PaymentGateway`] is what is asked, [`http`] asks it over the network, and [`cashier`] puts what it answers on
//! record with the payment. What the gateway has to promise in return stands in `docs/gateway.md`.

mod breaker;
pub mod cashier;
pub mod http;
pub(crate) mod protocol;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ids::{CardToken, Line, PaymentId};
use domain::money::Money;
use uuid::Uuid;

pub use breaker::BreakerConfig;
pub use cashier::{Asked, CashierError, carry_out};

/// What holds money on cards, takes it, lets it go and gives it back.
///
/// Every call may be repeated with the same [`Attempt`]: however often it is made, it takes effect once. A call whose
/// future is dropped may have taken effect; calling again says so.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Asks for an amount to be held on a card. A payment is authorised once in its life, whatever the attempt.
    ///
    /// # Errors
    /// [`GatewayError`].
    async fn authorise(
        &self,
        payment: PaymentId,
        amount: Money,
        card: &CardToken,
        attempt: Attempt,
    ) -> Result<Authorisation, GatewayError>;

    /// Asks for held money to be taken; what is held beyond it is let go. A payment is captured once; after a definite
    /// [`Capture::Refused`] another attempt is another question.
    ///
    /// # Errors
    /// [`GatewayError`].
    async fn capture(&self, payment: PaymentId, amount: Money, attempt: Attempt) -> Result<Capture, GatewayError>;

    /// Asks for what is held to be let go, and for nothing to be held for this payment ever after, even if the gateway
    /// has not heard of it yet.
    ///
    /// # Errors
    /// [`GatewayError`]; of money that was taken already, [`GatewayError::Protocol`].
    async fn void(&self, payment: PaymentId, attempt: Attempt) -> Result<Voided, GatewayError>;

    /// Asks for taken money to be given back. The number names the refund within the payment, from 1.
    ///
    /// # Errors
    /// [`GatewayError`].
    async fn refund(
        &self,
        payment: PaymentId,
        number: u32,
        amount: Money,
        attempt: Attempt,
    ) -> Result<Refund, GatewayError>;

    /// What the gateway knows of a payment; `None` when it has never heard of it. Changes nothing.
    ///
    /// # Errors
    /// [`GatewayError`].
    async fn find(&self, payment: PaymentId) -> Result<Option<Found>, GatewayError>;
}

/// One decision to ask the gateway for something, however often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Names the decision: the id of the event that says it.
    pub id: Uuid,
    /// When it was made. The gateway knows an attempt again for a limited time only, and it may have been asked from
    /// here on.
    pub asked_at: DateTime<Utc>,
}

/// What the gateway says to [`PaymentGateway::authorise`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorisation {
    /// It holds the money.
    Authorised {
        /// Its own name for the payment.
        reference: Line,
    },
    /// It does not hold the money. Final for this payment.
    Declined {
        /// Why, in its words.
        reason: Line,
    },
    /// The payment was voided before or since. Nothing is held.
    Voided,
}

/// What the gateway says to [`PaymentGateway::capture`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// It took the money.
    Done {
        /// Its own name for it.
        reference: Line,
    },
    /// It did not take the money, for reasons that sending the same again does not change.
    Refused {
        /// Why, in its words.
        reason: Line,
    },
}

/// What the gateway says to [`PaymentGateway::void`]: it holds nothing for the payment, and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided;

/// What the gateway says to [`PaymentGateway::refund`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refund {
    /// It gave the money back.
    Done,
    /// It did not give the money back, for reasons that sending the same again does not change.
    Refused {
        /// Why, in its words.
        reason: Line,
    },
}

/// A payment as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How far it has come.
    pub status: FoundStatus,
    /// What was asked for; `None` for a payment that was voided before it was asked for.
    pub amount: Option<Money>,
    /// What was taken, in minor units of the currency of `amount`.
    pub captured_minor: i64,
    /// What was given back, in minor units of the currency of `amount`.
    pub refunded_minor: i64,
    /// The gateway's own name for it.
    pub reference: Option<Line>,
    /// The gateway's own name for what it took.
    pub capture_reference: Option<Line>,
    /// Why it was declined, in the gateway's words.
    pub declined_reason: Option<Line>,
    /// Its refunds, by number.
    pub refunds: Vec<FoundRefund>,
}

/// How far a payment has come, by the gateway's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundStatus {
    /// The money is held.
    Authorised,
    /// Nothing was held.
    Declined,
    /// The money was taken. Some or all of it may have been given back since.
    Captured,
    /// Nothing is held, and never will be.
    Voided,
}

/// A refund as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRefund {
    /// Which refund of the payment, from 1.
    pub number: u32,
    /// How much was to be given back.
    pub amount: Money,
    /// What became of it.
    pub outcome: Refund,
}

/// Why the gateway gave no answer that can be put on record.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It may have happened, or may yet. Asking again with the same [`Attempt`] says.
    #[error("the gateway may or may not have done it; ask again")]
    Unknown(#[source] Fault),
    /// Nothing came of this call: it was not sent, or the gateway turned it away unread. What an earlier call with the
    /// same [`Attempt`] did is another matter. Ask again.
    #[error("the gateway cannot be asked at the moment; nothing came of this call")]
    Unavailable {
        /// What went wrong.
        #[source]
        fault: Fault,
        /// How long the gateway asked to be left alone, if it said.
        retry_after: Option<Duration>,
    },
    /// The gateway failed several times in a row and is left alone for a while; nothing was sent. Ask again then.
    #[error("the gateway failed several times in a row and is not asked before {retry_in:?} have passed")]
    BreakerOpen {
        /// How long it is still left alone.
        retry_in: Duration,
    },
    /// The gateway does not take the secret. Asking again changes nothing until the configuration does.
    #[error("the gateway does not take the secret it was given (status {status})")]
    Unauthorised {
        /// The status it answered with.
        status: u16,
    },
    /// The gateway answers something that the protocol does not have, or that contradicts what was asked: it is another
    /// program, another account, or wrong. It may have done what it was asked for. This needs a human.
    #[error("the gateway does not keep to the protocol: {what}")]
    Protocol {
        /// What it answered, without anything that is about a person.
        what: String,
    },
    /// This was asked for so long ago that the gateway may have forgotten whether it did it, and its books do not show
    /// that it did. Sending it again could charge twice. This needs a human.
    #[error("this was asked for at {asked_at}, too long ago to be sent again, and the gateway's books do not show it")]
    Expired {
        /// When it was asked for.
        asked_at: DateTime<Utc>,
    },
}

impl GatewayError {
    /// Whether asking again later, all else being equal, may bring an answer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Unavailable { .. } | Self::BreakerOpen { .. } => true,
            Self::Unauthorised { .. } | Self::Protocol { .. } | Self::Expired { .. } => false,
        }
    }

    /// How long to wait at least before asking again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::BreakerOpen { retry_in } => Some(*retry_in),
            _ => None,
        }
    }
}

/// What went wrong on the way to the gateway or back.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no connection to it.
    #[error("the gateway cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its answer was not here in time, or there was no time left to ask.
    #[error("the gateway's answer was not here in time")]
    TimedOut,
    /// The connection broke before its answer was here.
    #[error("the connection to the gateway broke before its answer was here")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says itself that it failed, or that it is too busy.
    #[error("the gateway answered with status {status}")]
    Status {
        /// The status it answered with.
        status: u16,
    },
    /// As many calls are in flight as may be.
    #[error("too many calls to the gateway are in flight")]
    Busy,
    /// It failed several times in a row in the course of this and other calls, and is left alone for a while.
    #[error("the gateway failed several times in a row and is left alone for a while")]
    LeftAlone,
}
