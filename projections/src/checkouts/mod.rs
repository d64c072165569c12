//! Checkouts: how far each placed order is on its way from being placed to being done or undone, and what holds it up.
//!
//! It listens to the order, its payment, its shipment and its supervision, notes what each of them said last, and
//! derives from that where the checkout is. Stock is left out: between being placed and asking for money an order is
//! reserving, whatever the stock of each of its lines says meanwhile.

mod stage;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::ordering::{self, Order};
use domain::payments::{self, Payment};
use domain::shipping::{self, Shipment};
use domain::supervision::{self, Supervision};
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing};
use crate::rows::Rows;
use crate::shop_event::{Happened, ShopEvent, order_of};

crate::row! {
    /// The checkout of an order.
    pub struct CheckoutRow in "checkouts", key { order_id: Uuid } {
        state: String,
        step: String,
        reason: Option<String>,
        undo_reason: Option<String>,
        problem: Option<String>,
        parked_reason: Option<String>,
        order_status: String,
        payment_status: Option<String>,
        taken_minor: i64,
        shipment_status: Option<String>,
        timed_out: Option<String>,
        started_at: DateTime<Utc>,
        changed_at: DateTime<Utc>,
        ended_at: Option<DateTime<Utc>>,
    }
}

crate::tables! {
    /// The tables of `checkouts`.
    pub struct Tables {
        /// A row a checkout.
        checkouts: Rows<CheckoutRow>,
    }
}

/// The read model `checkouts`.
pub struct Checkouts;

impl ReadModel for Checkouts {
    const NAME: &'static str = "checkouts";
    const VERSION: i32 = 2;
    const CATEGORIES: &'static [&'static str] =
        &[Order::CATEGORY, Payment::CATEGORY, Shipment::CATEGORY, Supervision::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/checkouts.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/checkouts.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("checkouts", "order_id"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        use ordering::Event::{Placed, Recorded};
        let Some(order) = order_of(&happened.event) else { return Ok(()) };
        let mut row = match &happened.event {
            // What was traded elsewhere is not checked out here.
            ShopEvent::Ordering(_, Recorded(_)) => return Ok(()),
            ShopEvent::Ordering(_, Placed(_)) => placed(order.0, happened.at),
            event => match tables.checkouts.get(&(order.0,))?.cloned() {
                Some(row) => row,
                None if matches!(event, ShopEvent::Ordering(..)) => return Err(missing("checkout", order)),
                // A payment or a shipment that somebody asked for by hand, of an order that nobody placed.
                None => return Ok(()),
            },
        };
        match &happened.event {
            ShopEvent::Ordering(_, event) => ordered(&mut row, event),
            ShopEvent::Payments(_, event) => paid(&mut row, event),
            ShopEvent::Shipping(_, event) => shipped(&mut row, event),
            ShopEvent::Supervision(_, event) => supervised(&mut row, event),
            _ => {}
        }
        tables.checkouts.put(stage::derived(CheckoutRow { changed_at: happened.at, ..row }));
        Ok(())
    }
}

fn placed(order_id: Uuid, at: DateTime<Utc>) -> CheckoutRow {
    CheckoutRow {
        order_id,
        state: String::new(),
        step: String::new(),
        reason: None,
        undo_reason: None,
        problem: None,
        parked_reason: None,
        order_status: "placed".to_owned(),
        payment_status: None,
        taken_minor: 0,
        shipment_status: None,
        timed_out: None,
        started_at: at,
        changed_at: at,
        ended_at: None,
    }
}

fn ordered(row: &mut CheckoutRow, event: &ordering::Event) {
    use ordering::Event::{
        CancellationDeclined, CancellationRequested, Cancelled, Completed, Confirmed, Dispatched, Placed, Recorded,
        Rejected,
    };
    let (status, undo_reason) = match event {
        Placed(_) | Recorded(_) => return,
        Confirmed(_) | CancellationDeclined(_) => ("confirmed", None),
        CancellationRequested(requested) => {
            ("cancelling", Some(format!("cancellation requested: {}", requested.reason)))
        }
        Dispatched(_) => ("dispatched", None),
        Rejected(rejected) => ("rejected", Some(rejected.reason.to_string())),
        Cancelled(cancelled) => ("cancelled", Some(cancelled.reason.to_string())),
        Completed(_) => ("completed", None),
    };
    status.clone_into(&mut row.order_status);
    // An order that goes on waits no more for what made it late.
    if undo_reason.is_none() {
        row.timed_out = None;
    }
    // The order has the last word on why it came to nothing.
    row.undo_reason = undo_reason.or_else(|| row.undo_reason.take());
}

fn paid(row: &mut CheckoutRow, event: &payments::Event) {
    use payments::Event::{
        Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
        Requested, VoidRequested, Voided,
    };
    // Whatever else happens to the payment, the last thing that failed was taken up or does not matter any more.
    row.problem = match event {
        CaptureFailed(failed) => Some(format!("capture failed: {}", failed.reason)),
        RefundFailed(failed) => Some(format!("refund failed: {}", failed.reason)),
        _ => None,
    };
    let status = match event {
        Requested(_) => "requested",
        // An answer that comes after the payment was given up does not bring it back.
        Authorised(_) if row.payment_status.as_deref() == Some("voiding") => "voiding",
        Authorised(_) | CaptureFailed(_) => "authorised",
        Declined(declined) => {
            give_up(row, format!("payment declined: {}", declined.reason));
            "declined"
        }
        CaptureRequested(_) => "capturing",
        Captured(captured) => {
            row.taken_minor = captured.amount.minor.minor();
            "captured"
        }
        VoidRequested(requested) => {
            give_up(row, format!("payment given up: {}", requested.reason));
            "voiding"
        }
        Voided(_) => "voided",
        Refunded(refunded) => {
            row.taken_minor = refunded.left_minor;
            return;
        }
        RefundRequested(_) | RefundFailed(_) => return,
    };
    row.payment_status = Some(status.to_owned());
}

fn shipped(row: &mut CheckoutRow, event: &shipping::Event) {
    use shipping::Event::{Cancelled, Delivered, Dispatched, Lost, Requested};
    let status = match event {
        Requested(_) => "requested",
        Dispatched(_) => {
            // They left after all.
            row.timed_out = None;
            "dispatched"
        }
        Delivered(_) => "delivered",
        Lost(lost) => {
            give_up(row, format!("shipment lost: {}", lost.reason));
            "lost"
        }
        Cancelled(cancelled) => {
            give_up(row, format!("shipment cancelled: {}", cancelled.reason));
            "cancelled"
        }
    };
    row.shipment_status = Some(status.to_owned());
}

fn supervised(row: &mut CheckoutRow, event: &supervision::Event) {
    use supervision::Event::{Parked, Retried, TimedOut};
    match event {
        // One that fires just when what it waited for arrives is too late to matter.
        TimedOut(timed_out) if stage::waits_for(row, timed_out.timeout) => {
            row.timed_out = Some(timed_out.timeout.to_string());
            give_up(row, format!("timed out waiting for the {}", timed_out.timeout));
        }
        TimedOut(_) => {}
        Parked(parked) => row.parked_reason = Some(parked.reason.to_string()),
        Retried(_) => row.parked_reason = None,
    }
}

/// Notes why the checkout is undone. The first reason is the cause; the others only follow from it.
fn give_up(row: &mut CheckoutRow, reason: String) {
    row.undo_reason.get_or_insert(reason);
}
