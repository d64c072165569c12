//! The code of `docs/adding-an-aggregate.md`, compiled and run.
//!
//! The vouchers of the guide are no part of the shop, so they cannot live in the domain. This module stands where the
//! guide has the crate `domain`: what the guide calls `crate::…` and `src/…` is `crate::adding_an_aggregate::…` and
//! `src/adding_an_aggregate/…` here, and nothing else differs. [`guide`] holds the text to that, [`served`] goes through
//! its steps over HTTP.

mod fixtures;
mod guide;
mod later;
mod served;
#[allow(unreachable_pub, reason = "in the domain it is public")]
pub mod vouchers;

use domain::{codec, money, stored_events, testing};

/// The deciders' module of the domain, with a macro that the domain keeps to itself.
mod decider {
    pub(crate) use domain::decider::{Decider, fold};

    macro_rules! payloads_are_commands {
        ($($payload:ident),* $(,)?) => {
            $( impl From<$payload> for Command {
                fn from(payload: $payload) -> Self { Self::$payload(payload) }
            } )*
        };
    }
    pub(crate) use payloads_are_commands;
}

/// The ids of the domain and one more, made by a macro that the domain keeps to itself.
#[allow(unreachable_pub, reason = "in the domain it is public")]
mod ids {
    use std::fmt;
    use std::str::FromStr;

    use domain::ids::InvalidId;
    pub(crate) use domain::ids::{Line, OrderId, Text};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    macro_rules! uuid_id {
        ($(#[$meta:meta])* $name:ident) => {
            $(#[$meta])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
            #[serde(transparent)]
            pub struct $name(pub Uuid);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl FromStr for $name {
                type Err = InvalidId;
                fn from_str(text: &str) -> Result<Self, InvalidId> {
                    domain::ids::OrderId::from_str(text).map(|id| Self(id.0))
                }
            }
        };
    }

    uuid_id! {
        /// Names a gift voucher.
        VoucherId
    }
}

/// The events of all contexts as one type, as the domain has them.
mod shop_event {
    use domain::codec::StoredEvent;
    use domain::decider::Decider;

    use super::fixtures::money;
    use super::vouchers;

    macro_rules! shop_events {
        ($($(#[$meta:meta])* $context:ident => $aggregate:ty),* $(,)?) => {
            #[derive(Debug, PartialEq)]
            enum ShopEvent {
                $($(#[$meta])* $context(<$aggregate as Decider>::Id, <$aggregate as Decider>::Event),)*
            }

            fn decode(category: &str, id: &str, event_type: &str, schema: u32, data: &[u8]) -> Option<ShopEvent> {
                match category {
                    $(<$aggregate>::CATEGORY => Some(ShopEvent::$context(
                        id.parse().ok()?,
                        StoredEvent::decode(event_type, schema, data).ok()?,
                    )),)*
                    _ => None,
                }
            }
        };
    }

    shop_events! {
        /// To a gift voucher.
        Vouchers => vouchers::Voucher,
        // The list is longer there.
    }

    #[test]
    fn an_event_of_a_voucher_comes_back_from_its_stream() {
        let id = "01996f5e-6c1d-7d4f-9a53-0f2b7c91d0aa";
        let issued = vouchers::Event::from(vouchers::Issued { value: money(5_000, "GBP") });
        let stored = issued.encode().unwrap();
        let decoded = decode("voucher", id, stored.event_type, stored.schema, &stored.data);
        assert_eq!(decoded, Some(ShopEvent::Vouchers(id.parse().unwrap(), issued)));
        assert_eq!(decode("order", id, stored.event_type, stored.schema, &stored.data), None);
    }
}

/// The register of contexts, as it is in the domain.
mod schemas {
    use domain::codec::StoredEvent as _;
    use domain::decider::Decider;
    use domain::schemas::Context;

    use super::vouchers::Voucher;

    const CONTEXTS: &[Context] = &[
        context::<Voucher>("vouchers"),
        // The list is longer there.
    ];

    const fn context<D: Decider>(name: &'static str) -> Context {
        Context { name, category: D::CATEGORY, schemas: <D::Event as domain::codec::StoredEvent>::SCHEMAS }
    }

    /// What the domain asks of every context's README.
    #[test]
    fn the_readme_names_its_streams_and_every_event_type() {
        for context in CONTEXTS {
            let path = format!("{}/src/adding_an_aggregate/{}/README.md", env!("CARGO_MANIFEST_DIR"), context.name);
            let readme = std::fs::read_to_string(&path).expect(&path);
            assert!(readme.contains(&format!("`{}-{{", context.category)), "{path}");
            for event in context.schemas {
                assert!(readme.contains(&format!("`{}`", event.event_type)), "{path}: {}", event.event_type);
            }
        }
        assert_eq!(super::vouchers::Event::SCHEMAS.len(), 3);
    }
}
