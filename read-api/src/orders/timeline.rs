//! The timeline of an order: what happened to it, its payment, its shipment and its checkout.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Enum, SimpleObject};
use serde_json::Value;
use sqlx::FromRow;

use crate::batch::grouped;
use crate::database::Database;
use crate::error::Failure;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{DateTime, Uuid};
use crate::written::Write::Plain;
use crate::written::{Write, Written};

/// Something that happened to an order.
#[derive(Debug, Clone, FromRow, SimpleObject)]
pub(crate) struct TimelineEntry {
    /// When it was put on record.
    at: DateTime,
    /// What happened.
    what: TimelineEvent,
    /// What else there is to say: the reason, the amount, the carrier with its number, or what was waited for.
    detail: Option<String>,
    // For the shop's own people: who did it is nobody else's business.
    /// Who did it: whom the token of the request names, or what the shop did by itself, such as "process checkout"; null
    /// where nobody said. For the shop's own people.
    actor: Option<String>,
    /// What it has in common with everything that the same request set in motion; null if that is not known.
    correlation_id: Option<Uuid>,
    /// The id of the command or event that led to it; null if that is not known.
    causation_id: Option<Uuid>,
}

impl Written for TimelineEntry {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("at", Plain(|row, json| json.put(&row.at))),
        ("what", Plain(|row, json| json.name(row.what))),
        ("detail", Plain(|row, json| json.put(&row.detail))),
        ("actor", Plain(|row, json| json.put(&row.actor))),
        ("correlationId", Plain(|row, json| json.put(&row.correlation_id))),
        ("causationId", Plain(|row, json| json.put(&row.causation_id))),
    ];
}

/// What can happen to an order, its payment, its shipment and its checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum TimelineEvent {
    /// The customer placed the order.
    OrderPlaced,
    /// The order is reserved and paid.
    OrderConfirmed,
    /// The customer wants the order called off, and the shop tries to.
    OrderCancellationRequested,
    /// The order could not be called off any more: the goods had left the house.
    OrderCancellationDeclined,
    /// The goods left the house.
    OrderDispatched,
    /// The shop could not take the order.
    OrderRejected,
    /// The order was called off.
    OrderCancelled,
    /// The goods arrived.
    OrderCompleted,
    /// Money is to be held on a card.
    PaymentRequested,
    /// The gateway holds the money.
    PaymentAuthorised,
    /// The gateway does not hold the money.
    PaymentDeclined,
    /// Held money is to be taken.
    PaymentCaptureRequested,
    /// The gateway took the money.
    PaymentCaptured,
    /// The gateway did not take the money, and still holds it.
    PaymentCaptureFailed,
    /// What is held is to be let go.
    PaymentVoidRequested,
    /// The gateway holds nothing any more.
    PaymentVoided,
    /// Taken money is to be given back.
    PaymentRefundRequested,
    /// The gateway gave money back.
    PaymentRefunded,
    /// The gateway did not give money back.
    PaymentRefundFailed,
    /// The warehouse is asked to pack and send the goods.
    ShipmentRequested,
    /// The goods went to the carrier.
    ShipmentDispatched,
    /// The carrier delivered the goods.
    ShipmentDelivered,
    /// The goods got lost on the way.
    ShipmentLost,
    /// The goods stay in the house.
    ShipmentCancelled,
    /// The checkout waited too long for something.
    CheckoutTimedOut,
    /// The checkout cannot go on until somebody has looked at it.
    CheckoutParked,
    /// Somebody let the checkout try again.
    CheckoutRetried,
}

/// The timelines of these orders.
pub(super) async fn load(ctx: &Context<'_>, orders: &[Uuid]) -> Result<HashMap<Uuid, Vec<TimelineEntry>>, Failure> {
    let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::Orders]).await?;
    let sql = "select order_id, at, what, detail, actor, correlation_id, causation_id from read.order_timeline \
               where order_id = any($1) order by order_id, entry_no";
    Ok(entries(pool.all(sqlx::query_as(sql).bind(orders)).await?))
}

/// The timeline of an order as a fold of the past has it.
pub(super) async fn of_the_past(pool: &Database, rows: &Value) -> Result<HashMap<Uuid, Vec<TimelineEntry>>, Failure> {
    let sql = "select order_id, at, what, detail, actor, correlation_id, causation_id \
               from jsonb_populate_recordset(null::read.order_timeline, $1) order by entry_no";
    Ok(entries(pool.all(sqlx::query_as(sql).bind(rows)).await?))
}

/// An entry as its table has it: the order, and what is shown.
#[derive(FromRow)]
struct Row {
    order_id: Uuid,
    #[sqlx(flatten)]
    entry: TimelineEntry,
}

fn entries(rows: Vec<Row>) -> HashMap<Uuid, Vec<TimelineEntry>> {
    grouped(rows.into_iter().map(|Row { order_id, entry }| (order_id, entry)))
}
