//! The money of the shop in double entry: whatever moves leaves one account and arrives in another, so all accounts
//! together hold nothing, at any time; and the payments that it moves for.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::money::Money;
use domain::payments::{Event, Payment};
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::{Appended, Rows};
use crate::shop_event::{Happened, ShopEvent};

crate::row! {
    /// One side of a movement: what an account gained, or with a minus what it lost. Entries of a payment count from 1.
    pub struct EntryRow in "ledger_entries", key { payment_id: Uuid, entry_no: i32 } {
        movement_no: i32,
        movement: String,
        account: String,
        currency: String,
        amount_minor: i64,
        at: DateTime<Utc>,
    }
}

crate::row! {
    /// A payment.
    pub struct PaymentRow in "payments", key { payment_id: Uuid } {
        status: String,
        currency: String,
        amount_minor: i64,
        authorised_minor: i64,
        held_minor: i64,
        captured_minor: i64,
        refunded_minor: i64,
        pending_refund_minor: i64,
        reference: Option<String>,
        capture_reference: Option<String>,
        declined_reason: Option<String>,
        void_reason: Option<String>,
        capture_failure: Option<String>,
        requested_at: DateTime<Utc>,
        authorised_at: Option<DateTime<Utc>>,
        captured_at: Option<DateTime<Utc>>,
        ended_at: Option<DateTime<Utc>>,
        changed_at: DateTime<Utc>,
        revision: i64,
        movements: i32,
    }
}

crate::row! {
    /// A refund of a payment. Refunds of a payment count from 1.
    pub struct RefundRow in "payment_refunds", key { payment_id: Uuid, refund_no: i64 } {
        status: String,
        amount_minor: i64,
        reason: Option<String>,
        failure: Option<String>,
        requested_at: DateTime<Utc>,
        answered_at: Option<DateTime<Utc>>,
    }
}

crate::tables! {
    /// The tables of `payments_ledger`.
    pub struct Tables {
        /// A row a side of a movement.
        entries: Appended<EntryRow>,
        /// A row a payment.
        payments: Rows<PaymentRow>,
        /// A row a refund.
        refunds: Rows<RefundRow>,
    }
}

/// The read model `payments_ledger`.
pub struct PaymentsLedger;

impl ReadModel for PaymentsLedger {
    const NAME: &'static str = "payments_ledger";
    const VERSION: i32 = 2;
    const CATEGORIES: &'static [&'static str] = &[Payment::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/payments_ledger.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/payments_ledger.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("payments", "payment_id"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let ShopEvent::Payments(payment, event) = &happened.event else { return Ok(()) };
        let row = match event {
            Event::Requested(_) if happened.revision > 0 => {
                return Err(FoldError::Broken("a payment is requested a second time".to_owned()));
            }
            Event::Requested(requested) => asked(payment.0, requested.amount, happened.at),
            _ => tables.payments.get(&(payment.0,))?.ok_or_else(|| missing("payment", payment))?.clone(),
        };
        let revision = i64::try_from(happened.revision).map_err(|_| overflow("a revision"))?;
        let row = after(tables, PaymentRow { changed_at: happened.at, revision, ..row }, event)?;
        tables.payments.put(row);
        Ok(())
    }
}

/// A payment of which nothing but its amount is known.
fn asked(payment_id: Uuid, amount: Money, at: DateTime<Utc>) -> PaymentRow {
    PaymentRow {
        payment_id,
        status: "requested".to_owned(),
        currency: amount.currency.to_string(),
        amount_minor: amount.minor.minor(),
        authorised_minor: 0,
        held_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        pending_refund_minor: 0,
        reference: None,
        capture_reference: None,
        declined_reason: None,
        void_reason: None,
        capture_failure: None,
        requested_at: at,
        authorised_at: None,
        captured_at: None,
        ended_at: None,
        changed_at: at,
        revision: 0,
        movements: 0,
    }
}

/// A payment after an event, whose movements are posted.
fn after(tables: &mut Tables, mut row: PaymentRow, event: &Event) -> Result<PaymentRow, FoldError> {
    let at = row.changed_at;
    let status = match event {
        Event::Requested(_) => "requested",
        Event::Authorised(authorised) => {
            let minor = authorised.amount.minor.minor();
            row.authorised_minor = minor;
            row.held_minor = sum(row.held_minor, minor)?;
            row.reference = Some(authorised.reference.to_string());
            row.authorised_at = Some(at);
            post(tables, &mut row, HOLD, minor)?;
            // An answer that comes after the payment was given up does not bring it back; what it holds, it holds.
            if row.status != "requested" {
                return Ok(row);
            }
            "authorised"
        }
        Event::Declined(declined) => {
            row.declined_reason = Some(declined.reason.to_string());
            row.ended_at = Some(at);
            "declined"
        }
        Event::CaptureRequested(_) => {
            row.capture_failure = None;
            "capturing"
        }
        Event::Captured(captured) => {
            let minor = captured.amount.minor.minor();
            release(tables, &mut row)?;
            row.captured_minor = sum(row.captured_minor, minor)?;
            row.capture_reference = Some(captured.reference.to_string());
            row.captured_at = Some(at);
            post(tables, &mut row, CAPTURE, minor)?;
            "captured"
        }
        Event::CaptureFailed(failed) => {
            row.capture_failure = Some(failed.reason.to_string());
            "authorised"
        }
        Event::VoidRequested(requested) => {
            row.void_reason = Some(requested.reason.to_string());
            "voiding"
        }
        Event::Voided(_) => {
            release(tables, &mut row)?;
            row.ended_at = Some(at);
            "voided"
        }
        Event::RefundRequested(requested) => {
            let minor = requested.amount.minor.minor();
            row.pending_refund_minor = sum(row.pending_refund_minor, minor)?;
            tables.refunds.put(RefundRow {
                payment_id: row.payment_id,
                refund_no: i64::from(requested.number),
                status: "requested".to_owned(),
                amount_minor: minor,
                reason: Some(requested.reason.to_string()),
                failure: None,
                requested_at: at,
                answered_at: None,
            });
            return Ok(row);
        }
        Event::Refunded(refunded) => {
            let minor = refunded.amount.minor.minor();
            answer(tables, &mut row, refunded.number, "refunded", Some(minor), None)?;
            row.refunded_minor = sum(row.refunded_minor, minor)?;
            if refunded.left_minor <= 0 {
                row.ended_at = Some(at);
            }
            post(tables, &mut row, REFUND, minor)?;
            return Ok(row);
        }
        Event::RefundFailed(failed) => {
            answer(tables, &mut row, failed.number, "failed", None, Some(failed.reason.to_string()))?;
            return Ok(row);
        }
    };
    status.clone_into(&mut row.status);
    Ok(row)
}

/// Notes what the gateway said to a refund.
fn answer(
    tables: &mut Tables,
    row: &mut PaymentRow,
    number: u32,
    status: &str,
    minor: Option<i64>,
    failure: Option<String>,
) -> Result<(), FoldError> {
    let asked = tables.refunds.get(&(row.payment_id, i64::from(number)))?.cloned();
    if let Some(open) = asked.as_ref().filter(|refund| refund.status == "requested") {
        row.pending_refund_minor = sum(row.pending_refund_minor, -open.amount_minor)?;
    }
    // An answer to a refund that nobody asked for is on record all the same.
    let refund = asked.unwrap_or(RefundRow {
        payment_id: row.payment_id,
        refund_no: i64::from(number),
        status: String::new(),
        amount_minor: 0,
        reason: None,
        failure: None,
        requested_at: row.changed_at,
        answered_at: None,
    });
    tables.refunds.put(RefundRow {
        status: status.to_owned(),
        amount_minor: minor.unwrap_or(refund.amount_minor),
        failure,
        answered_at: Some(row.changed_at),
        ..refund
    });
    Ok(())
}

/// A kind of movement: its name, the account that gains (the debit), and the one that loses (the credit).
type Movement = (&'static str, &'static str, &'static str);

const HOLD: Movement = ("hold", "holds", "holds_contra");
const RELEASE: Movement = ("release", "holds_contra", "holds");
const CAPTURE: Movement = ("capture", "cash", "sales");
const REFUND: Movement = ("refund", "refunds", "cash");

/// Lets all go that is held. Taking a part of it does that as well.
fn release(tables: &mut Tables, row: &mut PaymentRow) -> Result<(), FoldError> {
    let held = std::mem::take(&mut row.held_minor);
    post(tables, row, RELEASE, held)
}

/// Posts both sides of a movement. Nothing moves nothing.
fn post(
    tables: &mut Tables,
    row: &mut PaymentRow,
    (movement, debit, credit): Movement,
    minor: i64,
) -> Result<(), FoldError> {
    if minor == 0 {
        return Ok(());
    }
    let many = || overflow("the movements of a payment");
    let entries = row.movements.checked_mul(2).ok_or_else(many)?;
    row.movements = row.movements.checked_add(1).ok_or_else(many)?;
    for (side, account, amount_minor) in [(1, debit, minor), (2, credit, -minor)] {
        tables.entries.put(EntryRow {
            payment_id: row.payment_id,
            entry_no: entries.checked_add(side).ok_or_else(many)?,
            movement_no: row.movements,
            movement: movement.to_owned(),
            account: account.to_owned(),
            currency: row.currency.clone(),
            amount_minor,
            at: row.changed_at,
        });
    }
    Ok(())
}

fn sum(minor: i64, more: i64) -> Result<i64, FoldError> {
    minor.checked_add(more).ok_or_else(|| overflow("an amount of a payment"))
}
