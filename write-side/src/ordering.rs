//! Orders as a client sends them: lines without prices get the catalogue's price of this moment.

use std::collections::BTreeMap;

use access::Scope;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::catalog::{Product, Status};
use domain::codec::json_schema_of;
use domain::ids::{CardToken, CustomerId, Line, Quantity, Sku};
use domain::money::{Currency, Price};
use domain::ordering::{CallOff, Cancel, Command, Complete, Confirm, Dispatch, Order, OrderLine, Reject, Sale};
use futures::{StreamExt as _, TryStreamExt as _};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Asks, Endpoint, PrepareError};
use crate::execute::Executor;
use crate::load::stream_of;

/// How many prices are looked up at a time.
const LOOKUPS: usize = 16;

/// How orders look from outside.
pub struct Orders;

/// A command to an order, as a client sends it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderCommand {
    /// Place the order: the shop is to reserve, charge and ship.
    Place(PlaceOrder),
    /// Record an order that was traded elsewhere: complete at once, reserving and charging nothing.
    Record(Sale),
    /// The order is reserved and paid.
    Confirm(Confirm),
    /// The shop cannot take the order.
    Reject(Reject),
    /// The customer calls the order off: at once while it is only placed; a confirmed one if the goods can still be kept.
    Cancel(Cancel),
    /// The goods left the house.
    Dispatch(Dispatch),
    /// The shop calls the order off, having undone what was done for it.
    CallOff(CallOff),
    /// The goods arrived.
    Complete(Complete),
}

/// An order to be placed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The number under which the customer knows the order.
    #[serde(default)]
    pub reference: Option<Line>,
    /// Who buys; absent for a guest.
    #[serde(default)]
    pub customer: Option<CustomerId>,
    /// The country from which is bought.
    pub country: Line,
    /// The currency in which all products are listed and paid.
    pub currency: Currency,
    /// When it was bought; absent for now.
    #[serde(default)]
    pub placed_at: Option<DateTime<Utc>>,
    /// What is bought.
    pub lines: Vec<QuotedLine>,
    /// The payment gateway's token of the card to be charged; absent for an order that costs nothing.
    #[serde(default)]
    pub card: Option<CardToken>,
}

/// A line of an order to be placed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotedLine {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// The price of one unit in minor units of the currency; absent for the catalogue's price of this moment.
    #[serde(default)]
    pub unit_price_minor: Option<Price>,
}

/// Why a line has no price.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, JsonSchema)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum NoPrice {
    /// The catalogue does not list the product.
    #[error("the catalogue does not list {sku}")]
    NotListed {
        /// Which product.
        sku: Sku,
    },
    /// The product is no longer sold.
    #[error("{sku} is no longer sold")]
    Discontinued {
        /// Which product.
        sku: Sku,
    },
    /// The product has its price in another currency.
    #[error("{sku} is sold in {listed}, the order is in {ordered}")]
    OtherCurrency {
        /// Which product.
        sku: Sku,
        /// The currency of its price.
        listed: Currency,
        /// The currency of the order.
        ordered: Currency,
    },
}

#[async_trait]
impl Endpoint for Orders {
    type Decider = Order;
    type Wire = OrderCommand;
    const LOOKS_UP: &'static [&'static str] = &["place"];

    async fn prepare(wire: OrderCommand, executor: &Executor, now: DateTime<Utc>) -> Result<Command, PrepareError> {
        Ok(match wire {
            OrderCommand::Place(order) => Command::Place(priced(order, executor, now).await?),
            OrderCommand::Record(sale) => Command::Record(sale),
            OrderCommand::Confirm(confirm) => Command::Confirm(confirm),
            OrderCommand::Reject(reject) => Command::Reject(reject),
            OrderCommand::Cancel(cancel) => Command::Cancel(cancel),
            OrderCommand::Dispatch(dispatch) => Command::Dispatch(dispatch),
            OrderCommand::CallOff(call_off) => Command::CallOff(call_off),
            OrderCommand::Complete(complete) => Command::Complete(complete),
        })
    }

    fn refusals() -> Vec<Schema> {
        vec![json_schema_of::<NoPrice>()]
    }

    /// Prices and a time of its own are not for everybody who may place an order.
    fn asks(wire: &OrderCommand) -> Asks {
        let OrderCommand::Place(order) = wire else { return Asks::default() };
        let quoted = order.lines.iter().any(|line| line.unit_price_minor.is_some()).then_some(Scope::OrdersQuote);
        let backdated = order.placed_at.is_some().then_some(Scope::OrdersBackdate);
        Asks { scopes: quoted.into_iter().chain(backdated).collect(), buyer: order.customer }
    }
}

async fn priced(order: PlaceOrder, executor: &Executor, now: DateTime<Utc>) -> Result<Sale, PrepareError> {
    let PlaceOrder { reference, customer, country, currency, placed_at, lines, card } = order;
    let unpriced = lines.iter().filter(|line| line.unit_price_minor.is_none()).map(|line| line.sku.clone());
    let unpriced: std::collections::BTreeSet<Sku> = unpriced.collect();
    let prices: BTreeMap<Sku, Price> = futures::stream::iter(unpriced)
        .map(|sku| async move { Ok::<_, PrepareError>((sku.clone(), price(sku, currency, executor).await?)) })
        .buffer_unordered(LOOKUPS)
        .try_collect()
        .await?;
    let line = |QuotedLine { sku, quantity, unit_price_minor }| {
        let unit_price = unit_price_minor.or_else(|| prices.get(&sku).copied());
        let unit_price = unit_price.ok_or_else(|| PrepareError::refused(NoPrice::NotListed { sku: sku.clone() }))?;
        Ok(OrderLine { sku, quantity, unit_price })
    };
    let lines = lines.into_iter().map(line).collect::<Result<_, PrepareError>>()?;
    Ok(Sale { reference, customer, country, currency, placed_at: placed_at.unwrap_or(now), lines, card })
}

/// The catalogue's price of a product, from its own stream.
async fn price(sku: Sku, currency: Currency, executor: &Executor) -> Result<Price, PrepareError> {
    let stream = stream_of::<Product>(&sku)?;
    let product = executor.current::<Product>(&stream).await?;
    let listed = product.state.ok_or_else(|| PrepareError::refused(NoPrice::NotListed { sku: sku.clone() }))?;
    if listed.status == Status::Discontinued {
        return Err(PrepareError::refused(NoPrice::Discontinued { sku }));
    }
    if listed.price.currency != currency {
        return Err(PrepareError::refused(NoPrice::OtherCurrency {
            sku,
            listed: listed.price.currency,
            ordered: currency,
        }));
    }
    Ok(listed.price.minor)
}
