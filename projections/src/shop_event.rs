//! The events of the shop as a fold takes them: decoded, with what the log knows about them.

use chrono::{DateTime, SubsecRound as _, Utc};
use domain::ids::OrderId;
pub use domain::shop_event::{NotOfTheShop, ShopEvent};
use event_store::RecordedEvent;
use serde::Deserialize;

/// An event with its place in its stream and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// What happened.
    pub event: ShopEvent,
    /// Its place in its stream.
    pub revision: u64,
    /// When it was decided, to the microsecond. Not when the log took it: a log that is moved keeps its events and not that.
    pub at: DateTime<Utc>,
}

/// The order that an event is about: it happened to the order itself, its payment, its shipment or its checkout.
pub(crate) fn order_of(event: &ShopEvent) -> Option<OrderId> {
    match event {
        ShopEvent::Ordering(order, _) | ShopEvent::Supervision(order, _) => Some(*order),
        ShopEvent::Payments(payment, _) => Some(payment.order()),
        ShopEvent::Shipping(shipment, _) => Some(shipment.order()),
        _ => None,
    }
}

/// Why an event of the log cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// It is none of the shop's, or of a newer release.
    #[error(transparent)]
    Event(#[from] NotOfTheShop),
    /// The metadata does not say which schema the data has, or when the event was decided.
    #[error("the metadata does not say which schema the data has, or when the event was decided")]
    Metadata(#[source] serde_json::Error),
}

/// Decodes an event of the log.
///
/// # Errors
/// [`Undecodable`], when it was written by another program or a newer release.
pub fn decode(recorded: &RecordedEvent) -> Result<Happened, Undecodable> {
    /// What of the metadata is needed.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Known {
        schema: u32,
        occurred_at: DateTime<Utc>,
    }
    let Known { schema, occurred_at } = serde_json::from_slice(&recorded.metadata).map_err(Undecodable::Metadata)?;
    let (stream, event_type) = (&recorded.stream, recorded.event_type.as_str());
    let event = ShopEvent::decode(stream.category(), stream.id(), event_type, schema, &recorded.data)?;
    Ok(Happened { event, revision: recorded.revision, at: occurred_at.trunc_subsecs(6) })
}
