//! The payment of an order, as the row of the order has it.

use async_graphql::{Enum, SimpleObject};

use crate::money::Money;
use crate::scalars::Currency;
use crate::sql::InOrder;
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written};

/// The payment of an order.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct Payment {
    /// How far it has come.
    status: PaymentStatus,
    /// What was asked for.
    amount: Money,
    /// What the payment gateway agreed to hold; it may have been taken or let go since.
    authorised: Money,
    /// What was taken; part or all of it may have been given back since.
    captured: Money,
    /// What was given back.
    refunded: Money,
    /// The gateway's own name for the authorisation.
    reference: Option<String>,
    /// Why the gateway would not hold the money, if so.
    declined_reason: Option<String>,
}

impl Written for Payment {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("status", Plain(|row, json| json.name(row.status))),
        ("reference", Plain(|row, json| json.put(&row.reference))),
        ("declinedReason", Plain(|row, json| json.put(&row.declined_reason))),
        ("amount", Within(|selected| selected.one(None, |row: &Self| Some(&row.amount)))),
        ("authorised", Within(|selected| selected.one(None, |row: &Self| Some(&row.authorised)))),
        ("captured", Within(|selected| selected.one(None, |row: &Self| Some(&row.captured)))),
        ("refunded", Within(|selected| selected.one(None, |row: &Self| Some(&row.refunded)))),
    ];
}

/// How far a payment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum PaymentStatus {
    /// The gateway is asked to hold the money.
    Requested,
    /// The gateway holds it.
    Authorised,
    /// The gateway does not hold it.
    Declined,
    /// The gateway is asked to take it.
    Capturing,
    /// The gateway took it. Part or all of it may have been given back since.
    Captured,
    /// The gateway is asked to let it go.
    Voiding,
    /// The gateway holds nothing any more.
    Voided,
}

impl PaymentStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Authorised => "authorised",
            Self::Declined => "declined",
            Self::Capturing => "capturing",
            Self::Captured => "captured",
            Self::Voiding => "voiding",
            Self::Voided => "voided",
        }
    }
}

/// The columns of an order that are about its payment: all null while there is none.
#[derive(Debug, Clone)]
pub(crate) struct PaymentColumns {
    payment_status: Option<PaymentStatus>,
    payment_currency: Option<Currency>,
    payment_minor: Option<i64>,
    authorised_minor: Option<i64>,
    captured_minor: Option<i64>,
    refunded_minor: Option<i64>,
    payment_reference: Option<String>,
    declined_reason: Option<String>,
}

/// Their names, in the order in which they are read.
macro_rules! payment_columns {
    () => {
        "payment_status, payment_currency, payment_minor, authorised_minor, captured_minor, refunded_minor, \
         payment_reference, declined_reason"
    };
}
pub(super) use payment_columns;

impl PaymentColumns {
    pub(super) fn read(row: &mut InOrder<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            payment_status: row.next("payment_status")?,
            payment_currency: row.next("payment_currency")?,
            payment_minor: row.next("payment_minor")?,
            authorised_minor: row.next("authorised_minor")?,
            captured_minor: row.next("captured_minor")?,
            refunded_minor: row.next("refunded_minor")?,
            payment_reference: row.next("payment_reference")?,
            declined_reason: row.next("declined_reason")?,
        })
    }

    pub(crate) fn payment(&self) -> Option<Payment> {
        let currency = self.payment_currency.as_ref()?;
        Some(Payment {
            status: self.payment_status?,
            amount: Money::new(self.payment_minor?, currency),
            authorised: Money::new(self.authorised_minor?, currency),
            captured: Money::new(self.captured_minor?, currency),
            refunded: Money::new(self.refunded_minor?, currency),
            reference: self.payment_reference.clone(),
            declined_reason: self.declined_reason.clone(),
        })
    }
}
