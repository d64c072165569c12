//! The events of the shop as a fold takes them: decoded, with what the log knows about them.

use chrono::{DateTime, Utc};
use domain::codec::{CodecError, StoredEvent};
use domain::decider::Decider;
use domain::ids::{CustomerId, InvalidId, OrderId, Sku};
use domain::{catalog, customers, inventory, ordering};
use event_store::RecordedEvent;
use serde::Deserialize;

/// What happened, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub enum ShopEvent {
    /// To a product.
    Catalog(Sku, catalog::Event),
    /// To the stock of a SKU.
    Inventory(Sku, inventory::Event),
    /// To an order.
    Ordering(OrderId, ordering::Event),
    /// To a customer's account.
    Customers(CustomerId, customers::Event),
}

/// An event with its place in its stream and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// What happened.
    pub event: ShopEvent,
    /// Its place in its stream.
    pub revision: u64,
    /// When the log took it.
    pub at: DateTime<Utc>,
}

/// Why an event of the log cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// No context has streams of this category.
    #[error("no context has streams of the category {category:?}")]
    Category {
        /// What stands before the first `-` of the stream's name.
        category: String,
    },
    /// The stream's name does not end in an id of its category.
    #[error("the stream's name does not end in an id of its category")]
    Id(#[from] InvalidId),
    /// The metadata does not say which schema the data has.
    #[error("the metadata does not say which schema the data has")]
    Metadata(#[source] serde_json::Error),
    /// The data is not what its type and schema say.
    #[error("the data is not what its type and schema say")]
    Data(#[from] CodecError),
}

/// Decodes an event of the log.
///
/// # Errors
/// [`Undecodable`], when it was written by another program or a newer release.
pub fn decode(recorded: &RecordedEvent) -> Result<Happened, Undecodable> {
    let stream = &recorded.stream;
    let event = match stream.category() {
        catalog::Product::CATEGORY => ShopEvent::Catalog(stream.id().parse()?, payload(recorded)?),
        inventory::Stock::CATEGORY => ShopEvent::Inventory(stream.id().parse()?, payload(recorded)?),
        ordering::Order::CATEGORY => ShopEvent::Ordering(stream.id().parse()?, payload(recorded)?),
        customers::Customer::CATEGORY => ShopEvent::Customers(stream.id().parse()?, payload(recorded)?),
        category => return Err(Undecodable::Category { category: category.to_owned() }),
    };
    Ok(Happened { event, revision: recorded.revision, at: recorded.recorded_at })
}

fn payload<E: StoredEvent>(recorded: &RecordedEvent) -> Result<E, Undecodable> {
    /// The one field of the metadata that decoding needs.
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Schema { schema } = serde_json::from_slice(&recorded.metadata).map_err(Undecodable::Metadata)?;
    Ok(E::decode(recorded.event_type.as_str(), schema, &recorded.data)?)
}
