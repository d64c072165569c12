//! The shipment of an order, as the row of the order has it.

use async_graphql::{Enum, SimpleObject};

use crate::scalars::DateTime;
use crate::sql::InOrder;
use crate::written::Write::Plain;
use crate::written::{Write, Written};

/// The shipment of an order.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct Shipment {
    /// How far it has come.
    status: ShipmentStatus,
    /// Who carries it; null before it is dispatched.
    carrier: Option<String>,
    /// The carrier's number for it; null before it is dispatched.
    tracking: Option<String>,
    /// When it left the house.
    dispatched_at: Option<DateTime>,
    /// When it arrived.
    delivered_at: Option<DateTime>,
    /// Why it got lost or stayed in the house, if so.
    reason: Option<String>,
}

impl Written for Shipment {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("status", Plain(|row, json| json.name(row.status))),
        ("carrier", Plain(|row, json| json.put(&row.carrier))),
        ("tracking", Plain(|row, json| json.put(&row.tracking))),
        ("dispatchedAt", Plain(|row, json| json.put(&row.dispatched_at))),
        ("deliveredAt", Plain(|row, json| json.put(&row.delivered_at))),
        ("reason", Plain(|row, json| json.put(&row.reason))),
    ];
}

/// How far a shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum ShipmentStatus {
    /// The warehouse is to pack and send it.
    Requested,
    /// It is on its way.
    Dispatched,
    /// It arrived.
    Delivered,
    /// It got lost on the way.
    Lost,
    /// It stays in the house.
    Cancelled,
}

/// The columns of an order that are about its shipment: all null while there is none.
#[derive(Debug, Clone)]
pub(crate) struct ShipmentColumns {
    shipment_status: Option<ShipmentStatus>,
    carrier: Option<String>,
    tracking: Option<String>,
    dispatched_at: Option<DateTime>,
    delivered_at: Option<DateTime>,
    shipment_reason: Option<String>,
}

/// Their names, in the order in which they are read.
macro_rules! shipment_columns {
    () => {
        "shipment_status, carrier, tracking, dispatched_at, delivered_at, shipment_reason"
    };
}
pub(super) use shipment_columns;

impl ShipmentColumns {
    pub(super) fn read(row: &mut InOrder<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            shipment_status: row.next("shipment_status")?,
            carrier: row.next("carrier")?,
            tracking: row.next("tracking")?,
            dispatched_at: row.next("dispatched_at")?,
            delivered_at: row.next("delivered_at")?,
            shipment_reason: row.next("shipment_reason")?,
        })
    }

    pub(crate) fn shipment(&self) -> Option<Shipment> {
        Some(Shipment {
            status: self.shipment_status?,
            carrier: self.carrier.clone(),
            tracking: self.tracking.clone(),
            dispatched_at: self.dispatched_at,
            delivered_at: self.delivered_at,
            reason: self.shipment_reason.clone(),
        })
    }
}
