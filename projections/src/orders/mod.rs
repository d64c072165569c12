//! Orders with their lines: what was bought, by whom, and what became of it, its payment and its shipment.

#[cfg(test)]
mod tests;
mod timeline;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::ids::OrderId;
use domain::money::Money;
use domain::ordering::{self, Order, SaleMade};
use domain::payments::{self, Payment};
use domain::shipping::{self, Shipment};
use domain::supervision::Supervision;
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::{Appended, Rows};
use crate::shop_event::{Happened, Origin, ShopEvent, order_of};

crate::row! {
    /// An order.
    pub struct OrderRow in "orders", key { order_id: Uuid } {
        reference: Option<String>,
        status: String,
        reason: Option<String>,
        placed_at: DateTime<Utc>,
        customer_id: Option<Uuid>,
        country: String,
        currency: String,
        total_minor: i64,
        line_count: i32,
        units: i64,
        changed_at: DateTime<Utc>,
        revision: i64,
        timeline_entries: i32,
    }
    /// The payment of an order.
    optional payment: PaymentOfOrder {
        payment_status: String,
        payment_currency: String,
        payment_minor: i64,
        authorised_minor: i64,
        captured_minor: i64,
        refunded_minor: i64,
        payment_reference: Option<String>,
        declined_reason: Option<String>,
    }
    /// The shipment of an order.
    optional shipment: ShipmentOfOrder {
        shipment_status: String,
        carrier: Option<String>,
        tracking: Option<String>,
        dispatched_at: Option<DateTime<Utc>>,
        delivered_at: Option<DateTime<Utc>>,
        shipment_reason: Option<String>,
    }
}

crate::row! {
    /// A line of an order. Lines count from 1.
    pub struct LineRow in "order_lines", key { order_id: Uuid, line_no: i32 } {
        sku: String,
        quantity: i64,
        unit_price_minor: i64,
    }
}

crate::row! {
    /// Something that happened to an order, its payment, its shipment or its checkout. Entries count from 1.
    pub struct TimelineRow in "order_timeline", key { order_id: Uuid, entry_no: i32 } {
        at: DateTime<Utc>,
        what: String,
        detail: Option<String>,
        actor: Option<String>,
        correlation_id: Option<Uuid>,
        causation_id: Option<Uuid>,
    }
}

crate::tables! {
    /// The tables of `orders`.
    pub struct Tables {
        /// A row an order.
        orders: Rows<OrderRow>,
        /// A row a line.
        lines: Appended<LineRow>,
        /// A row an event that somebody asks about.
        timeline: Appended<TimelineRow>,
    }
}

/// The read model `orders`.
pub struct Orders;

impl ReadModel for Orders {
    const NAME: &'static str = "orders";
    const VERSION: i32 = 4;
    const CATEGORIES: &'static [&'static str] =
        &[Order::CATEGORY, Payment::CATEGORY, Shipment::CATEGORY, Supervision::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/orders.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/orders.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("orders", "order_id"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        use ordering::Event::{Placed, Recorded};
        let Some(order) = order_of(&happened.event) else { return Ok(()) };
        // An order begins without a look at what is there: most of a large log is orders that were only recorded. Its stream
        // begins with it, so its lines are put once.
        let mut row = match &happened.event {
            ShopEvent::Ordering(_, Placed(_) | Recorded(_)) if happened.revision > 0 => {
                return Err(FoldError::Broken("an order begins a second time".to_owned()));
            }
            ShopEvent::Ordering(_, Placed(placed)) => open(tables, order, &placed.0, "placed", happened)?,
            ShopEvent::Ordering(_, Recorded(recorded)) => open(tables, order, &recorded.0, "recorded", happened)?,
            event => match tables.orders.get(&(order.0,))?.cloned() {
                Some(row) => row,
                None if matches!(event, ShopEvent::Ordering(..)) => return Err(missing("order", order)),
                // A payment or a shipment that somebody asked for by hand, of an order that nobody placed.
                None => return Ok(()),
            },
        };
        match &happened.event {
            ShopEvent::Ordering(_, event) => ordered(&mut row, event, revision(happened)?),
            ShopEvent::Payments(_, event) => paid(&mut row, event)?,
            ShopEvent::Shipping(_, event) => shipped(&mut row, event, happened.at),
            _ => {}
        }
        if let Some((what, detail)) = timeline::entry(&happened.event) {
            let entry_no = row.timeline_entries.checked_add(1).ok_or_else(|| overflow("the timeline of an order"))?;
            row.timeline_entries = entry_no;
            let Origin { actor, correlation_id, causation_id } = happened.origin.clone();
            tables.timeline.put(TimelineRow {
                order_id: order.0,
                entry_no,
                at: happened.at,
                what: what.to_owned(),
                detail,
                actor,
                correlation_id,
                causation_id,
            });
        }
        tables.orders.put(OrderRow { changed_at: happened.at, ..row });
        Ok(())
    }
}

/// An order with its lines, of which nothing but its beginning is known.
fn open(
    tables: &mut Tables,
    order: OrderId,
    sale: &SaleMade,
    status: &str,
    happened: &Happened,
) -> Result<OrderRow, FoldError> {
    let mut units = 0_i64;
    for (line_no, line) in (1..).zip(&sale.lines) {
        let quantity = line.quantity.units();
        units = units.checked_add(quantity).ok_or_else(|| overflow("the number of units of an order"))?;
        tables.lines.put(LineRow {
            order_id: order.0,
            line_no,
            sku: line.sku.to_string(),
            quantity,
            unit_price_minor: line.unit_price.minor(),
        });
    }
    Ok(OrderRow {
        order_id: order.0,
        reference: sale.reference.as_ref().map(ToString::to_string),
        status: status.to_owned(),
        reason: None,
        placed_at: sale.placed_at,
        customer_id: sale.customer.map(|customer| customer.0),
        country: sale.country.to_string(),
        currency: sale.currency.to_string(),
        total_minor: sale.total_minor,
        line_count: i32::try_from(sale.lines.len()).map_err(|_| overflow("the number of lines of an order"))?,
        units,
        changed_at: happened.at,
        revision: revision(happened)?,
        timeline_entries: 0,
        payment: None,
        shipment: None,
    })
}

fn ordered(row: &mut OrderRow, event: &ordering::Event, revision: i64) {
    use ordering::Event::{
        CancellationDeclined, CancellationRequested, Cancelled, Completed, Confirmed, Dispatched, Placed, Recorded,
        Rejected,
    };
    row.revision = revision;
    let (status, reason) = match event {
        Placed(_) | Recorded(_) => return,
        Confirmed(_) | CancellationDeclined(_) => ("confirmed", None),
        CancellationRequested(requested) => ("cancelling", Some(requested.reason.to_string())),
        Dispatched(_) => ("dispatched", None),
        Rejected(rejected) => ("rejected", Some(rejected.reason.to_string())),
        Cancelled(cancelled) => ("cancelled", Some(cancelled.reason.to_string())),
        Completed(_) => ("completed", None),
    };
    (row.status, row.reason) = (status.to_owned(), reason);
}

fn paid(row: &mut OrderRow, event: &payments::Event) -> Result<(), FoldError> {
    use payments::Event::{
        Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
        Requested, VoidRequested, Voided,
    };
    // A payment that was requested before its order was placed is known from the next of these on.
    if let Requested(payments::Requested { amount, .. })
    | Authorised(payments::Authorised { amount, .. })
    | CaptureRequested(payments::CaptureRequested { amount })
    | Captured(payments::Captured { amount, .. }) = event
    {
        row.payment.get_or_insert_with(|| Box::new(asked(*amount)));
    }
    let Some(payment) = row.payment.as_deref_mut() else { return Ok(()) };
    let status = match event {
        Requested(_) => "requested",
        Authorised(authorised) => {
            payment.authorised_minor = authorised.amount.minor.minor();
            payment.payment_reference = Some(authorised.reference.to_string());
            // An answer that comes after the payment was given up does not bring it back.
            if payment.payment_status != "requested" {
                return Ok(());
            }
            "authorised"
        }
        Declined(declined) => {
            payment.declined_reason = Some(declined.reason.to_string());
            "declined"
        }
        CaptureRequested(_) => "capturing",
        Captured(captured) => {
            payment.captured_minor = captured.amount.minor.minor();
            "captured"
        }
        CaptureFailed(_) => "authorised",
        VoidRequested(_) => "voiding",
        Voided(_) => "voided",
        Refunded(refunded) => {
            let sum = payment.refunded_minor.checked_add(refunded.amount.minor.minor());
            payment.refunded_minor = sum.ok_or_else(|| overflow("what was refunded of a payment"))?;
            return Ok(());
        }
        RefundRequested(_) | RefundFailed(_) => return Ok(()),
    };
    status.clone_into(&mut payment.payment_status);
    Ok(())
}

/// A payment of which nothing but its amount is known.
fn asked(amount: Money) -> PaymentOfOrder {
    PaymentOfOrder {
        payment_status: "requested".to_owned(),
        payment_currency: amount.currency.to_string(),
        payment_minor: amount.minor.minor(),
        authorised_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        payment_reference: None,
        declined_reason: None,
    }
}

fn shipped(row: &mut OrderRow, event: &shipping::Event, at: DateTime<Utc>) {
    use shipping::Event::{Cancelled, Delivered, Dispatched, Lost, Requested};
    let status = match event {
        Requested(_) => "requested",
        Dispatched(_) => "dispatched",
        Delivered(_) => "delivered",
        Lost(_) => "lost",
        Cancelled(_) => "cancelled",
    };
    let mut shipment = row.shipment.take().unwrap_or_else(|| {
        Box::new(ShipmentOfOrder {
            shipment_status: String::new(),
            carrier: None,
            tracking: None,
            dispatched_at: None,
            delivered_at: None,
            shipment_reason: None,
        })
    });
    status.clone_into(&mut shipment.shipment_status);
    match event {
        Requested(_) => {}
        Dispatched(dispatched) => {
            shipment.carrier = Some(dispatched.carrier.to_string());
            shipment.tracking = Some(dispatched.tracking.to_string());
            shipment.dispatched_at = Some(at);
        }
        Delivered(_) => shipment.delivered_at = Some(at),
        Lost(shipping::Lost { reason }) | Cancelled(shipping::Cancelled { reason }) => {
            shipment.shipment_reason = Some(reason.to_string());
        }
    }
    row.shipment = Some(shipment);
}

fn revision(happened: &Happened) -> Result<i64, FoldError> {
    i64::try_from(happened.revision).map_err(|_| overflow("a revision"))
}
