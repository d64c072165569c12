//! What one may ask of a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CardToken, Line};
use crate::money::Money;

/// A command to a payment.
///
/// What needs the gateway is asked for by one command and put on record by another, once the gateway has answered:
/// between the two stands an event that says what is to be asked, which survives any crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Ask for money to be held on a card.
    Request(Request),
    /// The gateway holds the money.
    RecordAuthorised(RecordAuthorised),
    /// The gateway does not hold the money.
    RecordDeclined(RecordDeclined),
    /// Ask for held money to be taken.
    Capture(Capture),
    /// The gateway took the money.
    RecordCaptured(RecordCaptured),
    /// The gateway did not take the money.
    RecordCaptureFailed(RecordCaptureFailed),
    /// Ask for what is held, or may be, to be let go.
    Void(Void),
    /// The gateway holds nothing any more, and never will.
    RecordVoided(RecordVoided),
    /// Ask for taken money to be given back, all or part of it.
    Refund(Refund),
    /// The gateway gave the money back.
    RecordRefunded(RecordRefunded),
    /// The gateway did not give the money back.
    RecordRefundFailed(RecordRefundFailed),
}

crate::decider::payloads_are_commands!(
    Request,
    RecordAuthorised,
    RecordDeclined,
    Capture,
    RecordCaptured,
    RecordCaptureFailed,
    Void,
    RecordVoided,
    Refund,
    RecordRefunded,
    RecordRefundFailed,
);

/// Ask for money to be held on a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How much; more than nothing.
    pub amount: Money,
    /// On which card.
    pub card: CardToken,
}

/// The gateway holds the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordAuthorised {
    /// The gateway's own name for it.
    pub reference: Line,
}

/// The gateway does not hold the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordDeclined {
    /// Why, in the gateway's words.
    pub reason: Line,
}

/// Ask for held money to be taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// How much: more than nothing, and at most what is held. The rest is let go.
    pub amount: Money,
}

/// The gateway took the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordCaptured {
    /// The gateway's own name for it.
    pub reference: Line,
}

/// The gateway did not take the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordCaptureFailed {
    /// Why, in the gateway's words.
    pub reason: Line,
}

/// Ask for what is held, or may be, to be let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// Why.
    pub reason: Line,
}

/// The gateway holds nothing any more, and never will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordVoided {}

/// Ask for taken money to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// How much: more than nothing, and at most what was taken and not given back yet.
    pub amount: Money,
    /// Why.
    pub reason: Line,
}

/// The gateway gave the money back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRefunded {
    /// Which refund of the payment, from 1.
    pub number: u32,
}

/// The gateway did not give the money back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRefundFailed {
    /// Which refund of the payment, from 1.
    pub number: u32,
    /// Why, in the gateway's words.
    pub reason: Line,
}
