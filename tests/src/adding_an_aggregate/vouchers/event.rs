//! What happens to a voucher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adding_an_aggregate::ids::{Line, OrderId};
use crate::adding_an_aggregate::money::Money;

crate::adding_an_aggregate::stored_events! {
    /// What happens to a voucher. The voucher's id is the id of its stream.
    pub enum Event {
        /// It was sold.
        Issued => "VoucherIssued" schema 1,
        /// An order, or a part of one, was paid with it.
        Redeemed => "VoucherRedeemed" schema 1,
        /// It was taken out of use.
        Voided => "VoucherVoided" schema 1,
    }
}

/// A voucher was sold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// What it is worth.
    pub value: Money,
}

/// An order, or a part of one, was paid with a voucher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Redeemed {
    /// Which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
}

/// A voucher was taken out of use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Voided {
    /// What was left of it, and is lost.
    pub left: Money,
    /// Why.
    pub reason: Line,
}
