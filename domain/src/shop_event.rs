//! The events of all contexts as one type, for whoever follows the whole log.

use crate::codec::{CodecError, StoredEvent};
use crate::decider::Decider;
use crate::ids::InvalidId;
use crate::{catalog, customers, inventory, ordering, payments, shipping, supervision};

/// Why an event of the log is none of the shop's.
#[derive(Debug, thiserror::Error)]
pub enum NotOfTheShop {
    /// No context has streams of this category.
    #[error("no context has streams of the category {category:?}")]
    Category {
        /// What stands before the first `-` of the stream's name.
        category: String,
    },
    /// The stream's name does not end in an id of its category.
    #[error("the stream's name does not end in an id of its category")]
    Id(#[from] InvalidId),
    /// The data is not what its type and schema say.
    #[error("the data is not what its type and schema say")]
    Data(#[from] CodecError),
}

/// Declares [`ShopEvent`] from the aggregates of the contexts.
macro_rules! shop_events {
    ($($(#[$meta:meta])* $context:ident => $aggregate:ty),* $(,)?) => {
        /// What happened, and to whom.
        #[derive(Debug, Clone, PartialEq)]
        pub enum ShopEvent {
            $($(#[$meta])* $context(<$aggregate as Decider>::Id, <$aggregate as Decider>::Event),)*
        }

        impl ShopEvent {
            /// The event that stands in the stream `{category}-{id}` as `data` of this type and schema.
            ///
            /// # Errors
            /// [`NotOfTheShop`], when it was written by another program or a newer release.
            pub fn decode(
                category: &str,
                id: &str,
                event_type: &str,
                schema: u32,
                data: &[u8],
            ) -> Result<Self, NotOfTheShop> {
                match category {
                    $(<$aggregate>::CATEGORY => Ok(Self::$context(
                        id.parse()?,
                        StoredEvent::decode(event_type, schema, data)?,
                    )),)*
                    _ => Err(NotOfTheShop::Category { category: category.to_owned() }),
                }
            }

            /// The name of the stream in which the event stands.
            pub fn stream(&self) -> String {
                match self {
                    $(Self::$context(id, _) => format!("{}-{id}", <$aggregate>::CATEGORY),)*
                }
            }
        }
    };
}

shop_events! {
    /// To a product.
    Catalog => catalog::Product,
    /// To the stock of a SKU.
    Inventory => inventory::Stock,
    /// To an order.
    Ordering => ordering::Order,
    /// To a customer's account.
    Customers => customers::Customer,
    /// To the payment of an order.
    Payments => payments::Payment,
    /// To the shipment of an order.
    Shipping => shipping::Shipment,
    /// To the checkout of an order, beside all of these.
    Supervision => supervision::Supervision,
}

#[cfg(test)]
mod tests;
