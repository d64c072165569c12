//! What a product is, and what may be done with it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{
    ChangePrice, Command, Describe, Described, Description, Discontinue, Discontinued, Event, List, Listed,
    PriceChanged, Relist, Relisted, Rename, Renamed,
};
use crate::decider::{Decider, Snapshots};
use crate::ids::{Line, Sku};
use crate::money::{Currency, Money};

/// The aggregate of one product. Its stream is `product-{sku}`.
pub struct Product;

/// A product in the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProductState {
    /// Whether it is on sale.
    pub status: Status,
    /// The name that customers see.
    pub name: Line,
    /// What customers read about it; `null` until it is described.
    pub description: Option<Description>,
    /// The price of one unit.
    pub price: Money,
}

/// Whether a product is on sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is on sale.
    Listed,
    /// It was taken off sale, and may return.
    Discontinued,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::Discontinued => "discontinued",
        })
    }
}

/// Why a command to a product was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// A product enters the catalogue once. One that was discontinued is relisted.
    #[error("the product is in the catalogue already; its status is {status}")]
    AlreadyListed {
        /// Its present status.
        status: Status,
    },
    /// Nothing is known of the product; it must be listed first.
    #[error("no product of this SKU is in the catalogue; list it first")]
    NotListed,
    /// A product keeps the currency in which it was listed.
    #[error("the product is priced in {listed}, not in {offered}")]
    CurrencyMismatch {
        /// The currency in which it is listed.
        listed: Currency,
        /// The currency of the new price.
        offered: Currency,
    },
    /// What is off sale cannot be taken off sale.
    #[error("the product is discontinued already")]
    AlreadyDiscontinued,
    /// What is on sale needs no relisting.
    #[error("the product is on sale; only a discontinued one can be relisted")]
    NotDiscontinued,
}

impl Decider for Product {
    const CATEGORY: &'static str = "product";

    type Id = Sku;
    /// `None` until the product is listed.
    type State = Option<ProductState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        match (state, event) {
            (_, Event::Listed(Listed { name, price })) => {
                let (name, price) = (name.clone(), *price);
                Some(ProductState { status: Status::Listed, name, description: None, price })
            }
            // Without a listing there is nothing that the other events could change.
            (None, _) => None,
            (Some(product), Event::Renamed(Renamed { name })) => Some(ProductState { name: name.clone(), ..product }),
            (Some(product), Event::Described(Described { description })) => {
                Some(ProductState { description: Some(description.clone()), ..product })
            }
            (Some(product), Event::PriceChanged(PriceChanged { to, .. })) => {
                Some(ProductState { price: *to, ..product })
            }
            (Some(product), Event::Discontinued(_)) => Some(ProductState { status: Status::Discontinued, ..product }),
            (Some(product), Event::Relisted(_)) => Some(ProductState { status: Status::Listed, ..product }),
        }
    }

    /// A discontinued product may still be renamed, described and priced: it stands in old orders and on pages that
    /// people visit, and it is put right before it is relisted.
    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        let Some(product) = state else {
            return match command {
                Command::List(List { name, price }) => Ok(vec![Listed { name, price }.into()]),
                _ => Err(Refusal::NotListed),
            };
        };
        match command {
            Command::List(_) => Err(Refusal::AlreadyListed { status: product.status }),
            Command::Rename(Rename { name }) => Ok(unless(name == product.name, || Renamed { name })),
            Command::Describe(Describe { description }) => {
                let known = product.description.as_ref() == Some(&description);
                Ok(unless(known, || Described { description }))
            }
            Command::ChangePrice(ChangePrice { price }) => {
                let (listed, offered) = (product.price.currency, price.currency);
                if listed != offered {
                    return Err(Refusal::CurrencyMismatch { listed, offered });
                }
                Ok(unless(price == product.price, || PriceChanged { from: product.price, to: price }))
            }
            Command::Discontinue(Discontinue { reason }) => match product.status {
                Status::Listed => Ok(vec![Discontinued { reason }.into()]),
                Status::Discontinued => Err(Refusal::AlreadyDiscontinued),
            },
            Command::Relist(Relist {}) => match product.status {
                Status::Discontinued => Ok(vec![Relisted {}.into()]),
                Status::Listed => Err(Refusal::NotDiscontinued),
            },
        }
    }

    fn snapshots() -> Option<Snapshots<Self::State>> {
        Some(Snapshots::json(1))
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::List(_))
    }
}

/// The event, unless the product is as it would make it: a repetition is no news.
fn unless<E: Into<Event>>(so_already: bool, event: impl FnOnce() -> E) -> Vec<Event> {
    if so_already { vec![] } else { vec![event().into()] }
}
