//! The events of the shop as a fold takes them: decoded, with what the log knows about them.

use chrono::{DateTime, SubsecRound as _, Utc};
use domain::ids::OrderId;
pub use domain::shop_event::{NotOfTheShop, ShopEvent};
use event_store::RecordedEvent;
use serde::Deserialize;
use uuid::Uuid;

/// An event with its place in its stream and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// What happened.
    pub event: ShopEvent,
    /// Its place in its stream.
    pub revision: u64,
    /// When it was decided, to the microsecond. Not when the log took it: a log that is moved keeps its events and not that.
    pub at: DateTime<Utc>,
    /// Who or what brought it about.
    pub origin: Origin,
}

/// Who or what brought an event about, as far as its metadata say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Whom the token of the request names, or what the shop did by itself, such as `process checkout`.
    pub actor: Option<String>,
    /// What it has in common with everything that the same request set in motion.
    pub correlation_id: Option<Uuid>,
    /// The command or event that led to it.
    pub causation_id: Option<Uuid>,
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
        actor: Option<String>,
        #[serde(rename = "$correlationId")]
        correlation_id: Option<Uuid>,
        #[serde(rename = "$causationId")]
        causation_id: Option<Uuid>,
    }
    let Known { schema, occurred_at, actor, correlation_id, causation_id } =
        serde_json::from_slice(&recorded.metadata).map_err(Undecodable::Metadata)?;
    let (stream, event_type) = (&recorded.stream, recorded.event_type.as_str());
    let event = ShopEvent::decode(stream.category(), stream.id(), event_type, schema, &recorded.data)?;
    let origin = Origin { actor, correlation_id, causation_id };
    Ok(Happened { event, revision: recorded.revision, at: occurred_at.trunc_subsecs(6), origin })
}
