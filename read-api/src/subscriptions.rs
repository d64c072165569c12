//! Subscriptions: what queries show, sent again whenever it has changed.
//!
//! Each sends what is there first. Whoever was cut off gives the position of the last message as `after`; nothing that
//! happened meanwhile is lost, though states in between may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_graphql::{Context, Enum, SimpleObject, Subscription};
use futures::stream::{self, BoxStream, StreamExt as _};
use serde::Serialize;

use crate::connection::{DEFAULT_PAGE, LARGEST_PAGE, Listed, list_cost, page_size};
use crate::error::Failure;
use crate::feed::{Change, Feed, Interest, Seen, Stop, Subscriber, Turn};
use crate::orders::{self, Order, OrderFilter};
use crate::own_writes::{ReadModel, Reads};
use crate::permissions::View;
use crate::position::{LogHead, Position};
use crate::products::{self, Product};
use crate::projections::{self, Projection};
use crate::sales::{self, SalesSummary};
use crate::scalars::{Currency, Date, Sku, Uuid};
use crate::shared::Shared;
use crate::sql::Conditions;

/// How far apart messages are at least that everything in the shop changes.
const PACE: Duration = Duration::from_millis(250);

/// The subscriptions.
#[derive(Default)]
pub(crate) struct SubscriptionRoot;

/// What can be followed. Every subscription sends what is there first, and then what has changed, when the read model that
/// it shows has committed it. A client that reads slowly is sent the newest state only; states in between may be left out,
/// and the last one never is. Every message says asOf which position it is: everything up to there is in it. A client that
/// was cut off gives that position as after, and misses nothing.
#[Subscription(name = "Subscription")]
impl SubscriptionRoot {
    /// An order, whenever something happened to it, its payment, its shipment or its checkout.
    #[graphql(complexity = "1 + child_complexity")]
    async fn order_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: Uuid,
        #[graphql(desc = "Begin once the read model has folded this position, such as that of a command.")]
        after: Option<Position>,
    ) -> BoxStream<'static, Result<OrderChanged, Failure>> {
        let interest = Interest::Key(ReadModel::Orders, id.0.to_string());
        let was_absent = Arc::new(AtomicBool::new(false));
        follow(ctx, interest, ReadModel::Orders, after, move |told| {
            let was_absent = was_absent.clone();
            async move {
                let order = told.orders(&[id], &Conditions::default()).await?.pop();
                // That something happens to somebody else's is not told either.
                if was_absent.swap(order.is_none(), Ordering::Relaxed) && order.is_none() {
                    return Ok(None);
                }
                Ok(Some(OrderChanged { order, as_of: told.as_of }))
            }
        })
    }

    /// Orders of a filter: first the newest of them, or with after those to which something has happened since; and then
    /// those to which something happens.
    #[graphql(complexity = "list_cost(LARGEST_PAGE.unsigned_abs() as usize, child_complexity)")]
    async fn orders_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which orders; all of them by default.")] filter: Option<OrderFilter>,
        #[graphql(desc = "How many orders a message has that shows what is there, 20 by default and 200 at most.")]
        first: Option<i32>,
        #[graphql(desc = "Begin with what has changed since this position, the one of the last message.")]
        after: Option<Position>,
    ) -> Result<BoxStream<'static, Result<OrdersChanged, Failure>>, Failure> {
        let first = page_size("first", first.unwrap_or(DEFAULT_PAGE))?;
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        Ok(follow(ctx, Interest::Keys(ReadModel::Orders), ReadModel::Orders, after, move |told| {
            orders_message(told, conditions.clone(), first, after)
        }))
    }

    /// An article, whenever the catalogue's entry or the stock has changed.
    #[graphql(complexity = "1 + child_complexity")]
    async fn stock_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's SKU.")] sku: Sku,
        #[graphql(desc = "Begin once the read model has folded this position, such as that of a command.")]
        after: Option<Position>,
    ) -> BoxStream<'static, Result<StockChanged, Failure>> {
        let interest = Interest::Key(ReadModel::Products, sku.0.clone());
        follow(ctx, interest, ReadModel::Products, after, move |told| {
            let sku = sku.clone();
            async move {
                let product = told.product(&sku).await?;
                Ok(Some(StockChanged { product, as_of: told.as_of }))
            }
        })
    }

    /// What was sold in a currency, whenever that has changed, at most four times a second.
    #[graphql(complexity = "1 + child_complexity")]
    async fn sales_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "The first day that counts; from the beginning by default.")] from: Option<Date>,
        #[graphql(desc = "The first day that no longer counts; to the end by default.")] to: Option<Date>,
        #[graphql(desc = "Begin once the read model has folded this position, such as that of a command.")]
        after: Option<Position>,
    ) -> BoxStream<'static, Result<SalesChanged, Failure>> {
        let last = Arc::new(Mutex::new(None));
        follow(ctx, Interest::Moves(ReadModel::SalesDaily), ReadModel::SalesDaily, after, move |told| {
            let (currency, last) = (currency.clone(), last.clone());
            async move {
                let sales = told.sales(&currency, from, to).await?;
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.as_ref() == Some(&sales) {
                    return Ok(None);
                }
                *last = Some(sales.clone());
                Ok(Some(SalesChanged { sales, as_of: told.as_of }))
            }
        })
    }

    /// How far the read models are, whenever one has moved or does something else, at most four times a second.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn projections_changed(&self, ctx: &Context<'_>) -> BoxStream<'static, Result<ProjectionsChanged, Failure>> {
        let log = ctx.data_unchecked::<Arc<dyn LogHead>>().clone();
        follow(ctx, Interest::Standings, ReadModel::Orders, None, move |told| {
            let log = log.clone();
            async move {
                let projections = projections::load(&*log, &told.reads).await?;
                let as_of = told.seen.positions().into_values().min().flatten();
                Ok(Some(ProjectionsChanged { projections, as_of }))
            }
        })
    }
}

/// An order as it is now.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct OrderChanged {
    /// The order; null while there is none of this id.
    order: Option<Order>,
    /// The position up to which everything is in it; null before the first.
    as_of: Option<Position>,
}

/// Orders as they are now.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct OrdersChanged {
    /// What is in the message.
    kind: OrdersChangeKind,
    /// The orders of the filter.
    orders: Vec<Order>,
    /// The ids of orders to which something happened and that are not orders of the filter, now or ever: whoever shows one
    /// of them takes it away.
    left: Vec<Uuid>,
    /// The position up to which everything is in it; null before the first.
    as_of: Option<Position>,
}

/// What is in a message about orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum OrdersChangeKind {
    /// The newest orders of the filter, as they are.
    Present,
    /// The orders to which something has happened.
    Changed,
    /// More has changed than a message can tell. It has the newest orders of the filter, as they are; whoever shows others
    /// has to query them again.
    Missed,
}

/// An article as it is now.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct StockChanged {
    /// The article; null while there is none of this SKU.
    product: Option<Product>,
    /// The position up to which everything is in it; null before the first.
    as_of: Option<Position>,
}

/// What was sold until now.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct SalesChanged {
    /// The sums.
    sales: SalesSummary,
    /// The position up to which everything is in them; null before the first.
    as_of: Option<Position>,
}

/// How far the read models are now.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct ProjectionsChanged {
    /// The read models, live ones and those being built, by name.
    projections: Vec<Projection>,
    /// The position that all live ones have come up to; null before the first.
    as_of: Option<Position>,
}

async fn orders_message(
    mut told: Told,
    conditions: Conditions,
    first: i32,
    after: Option<Position>,
) -> Result<Option<OrdersChanged>, Failure> {
    let (as_of, change) = (told.as_of, told.change.take());
    let present = async |kind| {
        let orders = told.newest_orders(&conditions, first).await?;
        Ok(Some(OrdersChanged { kind, orders, left: Vec::new(), as_of }))
    };
    let change = match (change, after, as_of) {
        (Some(change), _, _) => change,
        (None, None, _) => return present(OrdersChangeKind::Present).await,
        (None, Some(_), None) => Change::Anything,
        (None, Some(after), Some(to)) => {
            let changed = told.feed.changed_since(ReadModel::Orders, Some(after), to).await;
            changed.map_err(|error| Failure::internal(&*error))?
        }
    };
    let Change::Keys(keys) = change else { return present(OrdersChangeKind::Missed).await };
    // What has no UUID for an id is no order's.
    let mut left: Vec<Uuid> = keys.iter().filter_map(|key| uuid::Uuid::try_parse(key).ok().map(Uuid)).collect();
    if told.reads.view() != View::Everything {
        // Neither the ids of other people's orders are told, nor when something happens to them.
        left = told.orders(&left, &Conditions::default()).await?.iter().map(|order| order.id).collect();
        if left.is_empty() && told.begun {
            return Ok(None);
        }
    }
    let orders = told.orders(&left, &conditions).await?;
    left.retain(|id| orders.iter().all(|order| order.id != *id));
    Ok(Some(OrdersChanged { kind: OrdersChangeKind::Changed, orders, left, as_of }))
}

/// What subscriptions read together: of a thousand that are told of the same change, one asks the database.
#[derive(Default)]
pub(crate) struct Together {
    orders: Shared<Uuid, Vec<Order>>,
    newest_orders: Shared<(), Vec<Order>>,
    products: Shared<Sku, HashMap<Sku, Product>>,
    sales: Shared<(), SalesSummary>,
}

/// What a message is made of.
struct Told {
    reads: Arc<Reads>,
    feed: Arc<Feed>,
    together: Arc<Together>,
    seen: Arc<Seen>,
    /// What has changed; `None` in the first message.
    change: Option<Change>,
    /// Whether it is not the first message.
    begun: bool,
    as_of: Option<Position>,
}

impl Told {
    /// The orders of these ids that fulfil `conditions`.
    async fn orders(&self, ids: &[Uuid], conditions: &Conditions) -> Result<Vec<Order>, Failure> {
        // Each says itself what it reads, for what its answers are as of.
        self.reads.of(&[ReadModel::Orders]).await?;
        let load = |ids: Vec<Uuid>| async move { orders::load_those(&self.reads, &ids, conditions.clone()).await };
        let loaded = self.together.orders.get(&self.kind(conditions)?, ids.iter().copied(), load).await?;
        Ok(own(loaded.iter().filter(|order| ids.contains(&order.id))))
    }

    /// The newest orders that fulfil `conditions`, at most so many.
    async fn newest_orders(&self, conditions: &Conditions, most: i32) -> Result<Vec<Order>, Failure> {
        self.reads.of(&[ReadModel::Orders]).await?;
        let load = |_| async move { orders::load_newest(&self.reads, conditions, most).await };
        let loaded = self.together.newest_orders.get(&self.kind(&(conditions, most))?, [], load).await?;
        Ok(own(loaded.iter()))
    }

    /// What tells one kind of reads from another: what is read, and for whom.
    fn kind(&self, query: &impl Serialize) -> Result<String, Failure> {
        serde_json::to_string(&(self.reads.view(), query)).map_err(|error| Failure::internal(&error))
    }

    async fn product(&self, sku: &Sku) -> Result<Option<Product>, Failure> {
        self.reads.of(&[ReadModel::Products]).await?;
        let load = |skus: Vec<Sku>| async move { products::load_those(&self.reads, &skus).await };
        let loaded = self.together.products.get(&self.kind(&())?, [sku.clone()], load).await?;
        Ok(own(loaded.get(sku).into_iter()).pop())
    }

    async fn sales(&self, currency: &Currency, from: Option<Date>, to: Option<Date>) -> Result<SalesSummary, Failure> {
        self.reads.of(&[ReadModel::SalesDaily]).await?;
        let load = |_| async move { sales::summary(&self.reads, currency, from, to).await };
        let loaded = self.together.sales.get(&self.kind(&(&currency.0, from, to))?, [], load).await?;
        Ok(SalesSummary::clone(&loaded))
    }
}

/// Copies of rows that others have too. What is loaded for them besides is each one's own matter.
fn own<'a, Node: Listed + Clone + 'a>(rows: impl Iterator<Item = &'a Node>) -> Vec<Node> {
    let mut rows: Vec<Node> = rows.cloned().collect();
    Node::make_siblings(rows.iter_mut().collect());
    rows
}

/// The messages of a subscription: one to begin with, and one whenever what it is interested in has changed. The first
/// failure ends it: after a state that could not be sent there may be nothing new for long.
fn follow<T, F, Fut>(
    ctx: &Context<'_>,
    interest: Interest,
    model: ReadModel,
    after: Option<Position>,
    message: F,
) -> BoxStream<'static, Result<T, Failure>>
where
    T: Send + 'static,
    F: Fn(Told) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<T>, Failure>> + Send + 'static,
{
    let is_paced = matches!(interest, Interest::Moves(_) | Interest::Standings);
    let reads = ctx.data_unchecked::<Arc<Reads>>().clone();
    let feed = ctx.data_unchecked::<Arc<Feed>>().clone();
    let subscriber = feed.subscribe(interest, ctx.data_unchecked::<Stop>().clone());
    let together = ctx.data_unchecked::<Arc<Together>>().clone();
    let turn = ctx.data_unchecked::<Turn>().clone();
    let messages =
        Messages { subscriber, reads, together, turn, model, after, pace: is_paced.then_some(PACE), begun: false };
    stream::unfold(Some((messages, message)), |messages| async {
        let (mut messages, message) = messages?;
        loop {
            let told = messages.next().await?;
            match message(told).await {
                Ok(None) => {}
                Ok(Some(sent)) => return Some((Ok(sent), Some((messages, message)))),
                Err(failure) => return Some((Err(failure), None)),
            }
        }
    })
    .boxed()
}

/// What tells a subscription when to send a message, and as of when.
struct Messages {
    subscriber: Subscriber,
    reads: Arc<Reads>,
    together: Arc<Together>,
    turn: Turn,
    model: ReadModel,
    after: Option<Position>,
    pace: Option<Duration>,
    begun: bool,
}

impl Messages {
    /// Waits until there is something to tell, and it is this operation's turn to tell it. `None` when the client is gone.
    async fn next(&mut self) -> Option<Told> {
        // What had nothing to tell after all has no answer that is waited for.
        self.turn.give_back();
        let (change, seen) = if self.begun {
            if let Some(pace) = self.pace
                && !self.subscriber.pause(pace).await
            {
                return None;
            }
            // What changes while others have their turn is told with it.
            if !self.subscriber.changed().await || !self.subscriber.take(&self.turn).await {
                return None;
            }
            let (change, seen) = self.subscriber.next().await?;
            (Some(change), seen)
        } else {
            let seen = self.subscriber.begin_at(self.model, self.after).await?;
            if !self.subscriber.take(&self.turn).await {
                return None;
            }
            (None, seen)
        };
        let begun = std::mem::replace(&mut self.begun, true);
        // The read models were looked at before anything is read for this message.
        self.reads.renew(seen.positions()).await;
        let as_of = seen.position(self.model);
        let (reads, together) = (self.reads.clone(), self.together.clone());
        Some(Told { reads, feed: self.subscriber.feed().clone(), together, seen, change, begun, as_of })
    }
}
