//! Objects by an id that is the same whatever they are, as Relay has it: "Global Object Identification".
//! <https://relay.dev/graphql/objectidentification.htm>

use async_graphql::{Context, ID, Interface, Object};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::checkouts::{self, Checkout};
use crate::connection::{LARGEST_PAGE, list_cost};
use crate::customers::{self, Customer};
use crate::error::Failure;
use crate::orders::{self, Order};
use crate::permissions;
use crate::products::{self, Product};
use crate::scalars::{Sku, Uuid};

/// Whatever has an id of its own among everything.
#[derive(Interface)]
#[graphql(field(
    name = "node_id",
    ty = "ID",
    desc = "What tells it from everything else. It is opaque: the field node takes it, and nothing else."
))]
pub(crate) enum Node {
    Order(Order),
    Product(Product),
    Customer(Customer),
    Checkout(Checkout),
}

/// What an id means. Nothing is proved by it: whoever sends one is told no more than by the field of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeId {
    Order(Uuid),
    Product(Sku),
    Customer(Uuid),
    Checkout(Uuid),
}

impl NodeId {
    pub(crate) fn sealed(&self) -> ID {
        let (kind, id) = match self {
            Self::Order(id) => ("Order", id.0.to_string()),
            Self::Product(sku) => ("Product", sku.0.clone()),
            Self::Customer(id) => ("Customer", id.0.to_string()),
            Self::Checkout(id) => ("Checkout", id.0.to_string()),
        };
        URL_SAFE_NO_PAD.encode(format!("{kind}:{id}")).into()
    }

    /// Reads only what [`NodeId::sealed`] writes, so that nothing has two ids.
    fn open(sealed: &ID) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(sealed.as_str()).ok()?).ok()?;
        let (kind, id) = text.split_once(':')?;
        let uuid = || uuid::Uuid::try_parse(id).ok().map(Uuid);
        let node = match kind {
            "Order" => Self::Order(uuid()?),
            "Product" => Self::Product(Sku(id.to_owned())),
            "Customer" => Self::Customer(uuid()?),
            "Checkout" => Self::Checkout(uuid()?),
            _ => return None,
        };
        // What is no SKU is that of no product, unless Postgres would not even hear of it.
        (node.sealed() == *sealed && !id.contains('\0')).then_some(node)
    }
}

/// The objects of a query by their ids.
#[derive(Default)]
pub(crate) struct NodeQuery;

#[Object]
impl NodeQuery {
    /// The object of a nodeId; null if there is none. It takes the scope that the object's own field does.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The object's nodeId.")] id: ID,
    ) -> Option<Result<Node, Failure>> {
        load(ctx, &[id]).await.pop().flatten()
    }

    /// The objects of these nodeIds, in their order; null for each of which there is none. They take the scopes that the
    /// objects' own fields do.
    #[graphql(complexity = "list_cost(ids.len().max(1), child_complexity)")]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The objects' nodeIds, 200 at most.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Result<Node, Failure>>>, Failure> {
        if ids.len() > LARGEST_PAGE.unsigned_abs() as usize {
            return Err(Failure::bad_input(format!("ids are {LARGEST_PAGE} at most, not {}.", ids.len())));
        }
        Ok(load(ctx, &ids).await)
    }
}

/// Loads the objects of a kind that are among the ids, by one statement, and puts each into its place.
macro_rules! place {
    ($ctx:ident, $ids:ident, $found:ident, $kind:ident, $field:literal, $load:path) => {
        let places = $ids.iter().enumerate().filter_map(|(place, id)| match id {
            Some(NodeId::$kind(id)) => Some((place, id.clone())),
            _ => None,
        });
        let (places, keys): (Vec<_>, Vec<_>) = places.unzip();
        if !keys.is_empty() {
            let loaded = match permissions::demand($ctx, "Query", $field) {
                Ok(()) => $load($ctx, &keys).await,
                Err(denied) => Err(denied),
            };
            for (place, key) in places.into_iter().zip(keys) {
                $found[place] = match &loaded {
                    Ok(loaded) => loaded.get(&key).map(|node| Ok(Node::$kind(node.clone()))),
                    Err(failure) => Some(Err(failure.clone())),
                };
            }
        }
    };
}

async fn load(ctx: &Context<'_>, ids: &[ID]) -> Vec<Option<Result<Node, Failure>>> {
    let ids: Vec<_> = ids.iter().map(NodeId::open).collect();
    let mut found: Vec<Option<Result<Node, Failure>>> = ids.iter().map(|_| None).collect();
    place!(ctx, ids, found, Order, "order", orders::load);
    place!(ctx, ids, found, Product, "product", products::load);
    place!(ctx, ids, found, Customer, "customer", customers::load);
    place!(ctx, ids, found, Checkout, "checkout", checkouts::load);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = Uuid(uuid::Uuid::from_u128(7));
        for node in
            [NodeId::Order(id), NodeId::Customer(id), NodeId::Checkout(id), NodeId::Product(Sku("A:b".to_owned()))]
        {
            assert_eq!(NodeId::open(&node.sealed()), Some(node));
        }
        let seal = |text: &str| ID::from(URL_SAFE_NO_PAD.encode(text));
        let simple = id.0.simple();
        for forged in ["", "Order", "Order:", "order:1", "Payment:1", &format!("Order:{simple}"), "Product:\0"] {
            assert_eq!(NodeId::open(&seal(forged)), None, "{forged}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,60}", inner in "(Order|Product|Customer|Checkout)?:?.{0,50}") {
            for sealed in [ID::from(text), URL_SAFE_NO_PAD.encode(inner).into()] {
                if let Some(node) = NodeId::open(&sealed) {
                    prop_assert_eq!(node.sealed(), sealed);
                }
            }
        }
    }
}
