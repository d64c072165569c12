//! What a payment is, and what may be done with it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::decider::Decider;
use crate::ids::{CardToken, PaymentId};
use crate::money::{Currency, Money, Price};
use crate::payments::{
    Authorised, Capture, CaptureFailed, CaptureRequested, Captured, Command, Declined, Event, RecordAuthorised,
    RecordCaptureFailed, RecordCaptured, RecordDeclined, RecordRefundFailed, RecordRefunded, RecordVoided,
    RefundFailed, RefundRequested, Refunded, Request, Requested, Void, VoidRequested, Voided,
};

/// The aggregate of one payment. Its stream is `payment-{id}`.
pub struct Payment;

/// A payment. All amounts are in minor units of the currency of `amount`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PaymentState {
    /// How far it has come.
    pub status: Status,
    /// What was asked for.
    pub amount: Money,
    /// What is charged.
    pub card: CardToken,
    /// Whether the gateway holds, or held, the amount.
    pub authorised: bool,
    /// What is to be taken, or was.
    pub capture_minor: i64,
    /// What was taken.
    pub captured_minor: i64,
    /// What was given back.
    pub refunded_minor: i64,
    /// Refunds that the gateway has not answered yet, by number.
    pub refunds: BTreeMap<u32, Refund>,
    /// How many refunds there were, whatever became of them.
    pub last_refund: u32,
}

/// A refund that the gateway has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refund {
    /// How much, in minor units of the payment's currency.
    pub minor: i64,
}

/// How far a payment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The gateway is asked to hold the money.
    Requested,
    /// The gateway holds it.
    Authorised,
    /// The gateway does not hold it. Final.
    Declined,
    /// The gateway is asked to take it.
    Capturing,
    /// The gateway took it. Some or all of it may have been given back since.
    Captured,
    /// The gateway is asked to let it go.
    Voiding,
    /// The gateway holds nothing. Final.
    Voided,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Authorised => "authorised",
            Self::Declined => "declined",
            Self::Capturing => "capturing",
            Self::Captured => "captured",
            Self::Voiding => "voiding",
            Self::Voided => "voided",
        })
    }
}

/// Why a command to a payment was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// Nothing is known of the payment; it must be requested first.
    #[error("no payment of this id was requested")]
    NotRequested,
    /// A payment is requested once.
    #[error("the payment was requested already; it is {status}")]
    AlreadyRequested {
        /// Its present status.
        status: Status,
    },
    /// Nothing is no amount to ask for, take or give back.
    #[error("the amount must be more than nothing")]
    NothingToPay,
    /// A payment has one currency.
    #[error("the payment is in {currency}, not in {given}")]
    OtherCurrency {
        /// The payment's currency.
        currency: Currency,
        /// The one that was given.
        given: Currency,
    },
    /// The gateway was not asked to hold the money, or has answered already.
    #[error("the payment is {status}; no authorisation is awaited")]
    NotAwaitingAuthorisation {
        /// Its present status.
        status: Status,
    },
    /// Only what is held can be taken.
    #[error("the payment is {status}; only an authorised one can be captured")]
    CannotCapture {
        /// Its present status.
        status: Status,
    },
    /// More was to be taken than is held.
    #[error("{amount} cannot be captured: {authorised} is authorised")]
    CaptureExceedsAuthorised {
        /// What was to be taken.
        amount: Money,
        /// What is held.
        authorised: Money,
    },
    /// The gateway was not asked to take the money, or has answered already.
    #[error("the payment is {status}; no capture is awaited")]
    NotAwaitingCapture {
        /// Its present status.
        status: Status,
    },
    /// Only what was not taken can be let go; what was taken is refunded.
    #[error("the payment is {status}; only a requested or authorised one can be voided")]
    CannotVoid {
        /// Its present status.
        status: Status,
    },
    /// The gateway was not asked to let the money go, or has answered already.
    #[error("the payment is {status}; no void is awaited")]
    NotAwaitingVoid {
        /// Its present status.
        status: Status,
    },
    /// Only what was taken can be given back.
    #[error("the payment is {status}; only a captured one can be refunded")]
    CannotRefund {
        /// Its present status.
        status: Status,
    },
    /// More was to be given back than is left of what was taken.
    #[error("{amount} cannot be refunded: {refundable} is left of what was captured")]
    RefundExceedsCaptured {
        /// What was to be given back.
        amount: Money,
        /// What was taken and is neither given back nor about to be.
        refundable: Money,
    },
    /// There is no refund of this number that the gateway has not answered.
    #[error("no refund {number} is awaited")]
    NotAwaitingRefund {
        /// The number that was given.
        number: u32,
    },
}

impl Decider for Payment {
    const CATEGORY: &'static str = "payment";

    type Id = PaymentId;
    /// `None` until the payment is requested.
    type State = Option<PaymentState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        if let Event::Requested(Requested { amount, card }) = event {
            return Some(PaymentState::new(*amount, card.clone()));
        }
        // Without a request there is nothing that the other events could change.
        let mut payment = state?;
        match event {
            Event::Requested(_) => {}
            Event::Authorised(_) => {
                payment.authorised = true;
                // An answer that comes after the payment was given up does not bring it back.
                if payment.status == Status::Requested {
                    payment.status = Status::Authorised;
                }
            }
            Event::Declined(_) => payment.status = Status::Declined,
            Event::CaptureRequested(CaptureRequested { amount }) => {
                payment.status = Status::Capturing;
                payment.capture_minor = amount.minor.minor();
            }
            Event::Captured(Captured { amount, .. }) => {
                payment.status = Status::Captured;
                payment.captured_minor = amount.minor.minor();
            }
            Event::CaptureFailed(_) => {
                payment.status = Status::Authorised;
                payment.capture_minor = 0;
            }
            Event::VoidRequested(_) => payment.status = Status::Voiding,
            Event::Voided(_) => payment.status = Status::Voided,
            Event::RefundRequested(RefundRequested { number, amount, .. }) => {
                payment.refunds.insert(*number, Refund { minor: amount.minor.minor() });
                payment.last_refund = *number;
            }
            Event::Refunded(Refunded { number, amount, .. }) => {
                payment.refunds.remove(number);
                payment.refunded_minor = payment.refunded_minor.saturating_add(amount.minor.minor());
            }
            Event::RefundFailed(RefundFailed { number, .. }) => {
                payment.refunds.remove(number);
            }
        }
        Some(payment)
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        match (state, command) {
            (None, Command::Request(Request { amount, card })) => {
                Ok(vec![Requested { amount: something(amount)?, card }.into()])
            }
            (None, _) => Err(Refusal::NotRequested),
            (Some(payment), command) => payment.decide(command).map(|event| vec![event]),
        }
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::Request(_))
    }
}

impl PaymentState {
    fn new(amount: Money, card: CardToken) -> Self {
        Self {
            status: Status::Requested,
            amount,
            card,
            authorised: false,
            capture_minor: 0,
            captured_minor: 0,
            refunded_minor: 0,
            refunds: BTreeMap::new(),
            last_refund: 0,
        }
    }

    /// What was taken and is neither given back nor about to be, in minor units.
    pub fn refundable_minor(&self) -> i64 {
        let asked = self.refunds.values().fold(0_i64, |sum, refund| sum.saturating_add(refund.minor));
        self.captured_minor.saturating_sub(self.refunded_minor).saturating_sub(asked).max(0)
    }

    fn decide(&self, command: Command) -> Result<Event, Refusal> {
        let status = self.status;
        Ok(match (status, command) {
            (_, Command::Request(_)) => return Err(Refusal::AlreadyRequested { status }),

            // An answer that comes after the payment was given up is a fact all the same, if it is the first.
            (Status::Requested | Status::Voiding, Command::RecordAuthorised(RecordAuthorised { reference }))
                if !self.authorised =>
            {
                Authorised { amount: self.amount, reference }.into()
            }
            (Status::Requested | Status::Voiding, Command::RecordDeclined(RecordDeclined { reason }))
                if !self.authorised =>
            {
                Declined { reason }.into()
            }
            (_, Command::RecordAuthorised(_) | Command::RecordDeclined(_)) => {
                return Err(Refusal::NotAwaitingAuthorisation { status });
            }

            (Status::Authorised, Command::Capture(Capture { amount })) => {
                let amount = self.in_currency(something(amount)?)?;
                if amount.minor > self.amount.minor {
                    return Err(Refusal::CaptureExceedsAuthorised { amount, authorised: self.amount });
                }
                CaptureRequested { amount }.into()
            }
            (_, Command::Capture(_)) => return Err(Refusal::CannotCapture { status }),
            (Status::Capturing, Command::RecordCaptured(RecordCaptured { reference })) => {
                Captured { amount: self.money(self.capture_minor), reference }.into()
            }
            (Status::Capturing, Command::RecordCaptureFailed(RecordCaptureFailed { reason })) => {
                CaptureFailed { reason }.into()
            }
            (_, Command::RecordCaptured(_) | Command::RecordCaptureFailed(_)) => {
                return Err(Refusal::NotAwaitingCapture { status });
            }

            (Status::Requested | Status::Authorised, Command::Void(Void { reason })) => VoidRequested { reason }.into(),
            (_, Command::Void(_)) => return Err(Refusal::CannotVoid { status }),
            (Status::Voiding, Command::RecordVoided(RecordVoided {})) => Voided {}.into(),
            (_, Command::RecordVoided(_)) => return Err(Refusal::NotAwaitingVoid { status }),

            (Status::Captured, Command::Refund(crate::payments::Refund { amount, reason })) => {
                let amount = self.in_currency(something(amount)?)?;
                let refundable = self.money(self.refundable_minor());
                if amount.minor > refundable.minor {
                    return Err(Refusal::RefundExceedsCaptured { amount, refundable });
                }
                RefundRequested { number: self.last_refund.saturating_add(1), amount, reason }.into()
            }
            (_, Command::Refund(_)) => return Err(Refusal::CannotRefund { status }),
            (_, Command::RecordRefunded(RecordRefunded { number })) => {
                let Refund { minor } = self.awaited(number)?;
                let left_minor = self.captured_minor.saturating_sub(self.refunded_minor).saturating_sub(minor);
                Refunded { number, amount: self.money(minor), left_minor }.into()
            }
            (_, Command::RecordRefundFailed(RecordRefundFailed { number, reason })) => {
                self.awaited(number)?;
                RefundFailed { number, reason }.into()
            }
        })
    }

    fn awaited(&self, number: u32) -> Result<Refund, Refusal> {
        self.refunds.get(&number).copied().ok_or(Refusal::NotAwaitingRefund { number })
    }

    fn in_currency(&self, amount: Money) -> Result<Money, Refusal> {
        let (currency, given) = (self.amount.currency, amount.currency);
        if given == currency { Ok(amount) } else { Err(Refusal::OtherCurrency { currency, given }) }
    }

    fn money(&self, minor: i64) -> Money {
        // No decision makes an amount below zero. Should one be on file, the fold still has to say something of it.
        Money { minor: Price::try_from(minor).unwrap_or(Price::ZERO), currency: self.amount.currency }
    }
}

fn something(amount: Money) -> Result<Money, Refusal> {
    if amount.minor > Price::ZERO { Ok(amount) } else { Err(Refusal::NothingToPay) }
}
