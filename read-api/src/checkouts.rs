//! The read model `checkouts`: how far each placed order is on its way.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, SimpleObject};
use sqlx::FromRow;

use crate::batch::Batch;
use crate::connection::{self, List, Listed, Page, page_cost};
use crate::error::Failure;
use crate::node::NodeId;
use crate::orders::{self, Order, TimeRange};
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{DateTime, Uuid};
use crate::sql::{self, Bind, Conditions, Key, Sort, Table};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written, each};

/// The checkouts of a query.
#[derive(Default)]
pub(crate) struct CheckoutsQuery;

#[Object]
impl CheckoutsQuery {
    /// The checkout of an order; null if there is none.
    async fn checkout(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] order_id: Uuid,
    ) -> Option<Result<Checkout, Failure>> {
        load(ctx, &[order_id]).await.map(|mut checkouts| checkouts.remove(&order_id)).transpose()
    }

    /// Checkouts, a page at a time.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn checkouts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which checkouts; all of them by default.")] filter: Option<CheckoutFilter>,
        #[graphql(desc = "In which order.", default)] order_by: CheckoutSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<Checkout>, Failure> {
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }
}

/// The way of a placed order from being placed to being done or undone.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Checkout {
    /// The order's id.
    pub(crate) order_id: Uuid,
    /// Whether it is on its way, at its end, or stuck.
    state: CheckoutState,
    /// What it does or waits for; of one that is stuck, where it stands.
    step: CheckoutStep,
    /// Why it is stuck, else what failed last and is to be tried again, else why it is undone; null when all is well.
    reason: Option<String>,
    /// Whether it is stuck, or something failed that is to be tried again.
    in_trouble: bool,
    /// What failed last and is to be tried again; null if nothing did.
    problem: Option<String>,
    /// Why it is stuck; null if it is not.
    parked_reason: Option<String>,
    /// Why it is undone; null if it is not.
    undo_reason: Option<String>,
    /// When the order was placed with this shop.
    started_at: DateTime,
    /// When something last happened to it.
    changed_at: DateTime,
    /// When it was completed or undone; null before.
    ended_at: Option<DateTime>,
    /// How many seconds it has taken so far, or took until its end.
    age_seconds: f64,
    #[graphql(skip)]
    #[sqlx(skip)]
    orders: Arc<Batch<Uuid, Order>>,
}

#[ComplexObject]
impl Checkout {
    /// What tells it from everything else. It is opaque: the field node takes it, and nothing else.
    pub(crate) async fn node_id(&self) -> ID {
        NodeId::Checkout(self.order_id).sealed()
    }

    /// The order; null while the read model of orders does not have it yet.
    async fn order(&self, ctx: &Context<'_>) -> Option<Result<&Order, Failure>> {
        self.its_order(ctx).await.transpose()
    }
}

impl Checkout {
    async fn its_order(&self, ctx: &Context<'_>) -> Result<Option<&Order>, Failure> {
        self.orders.get(&self.order_id, |ids| orders::load(ctx, ids)).await
    }
}

impl Written for Checkout {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("orderId", Plain(|row, json| json.put(&row.order_id))),
        ("state", Plain(|row, json| json.name(row.state))),
        ("step", Plain(|row, json| json.name(row.step))),
        ("reason", Plain(|row, json| json.put(&row.reason))),
        ("inTrouble", Plain(|row, json| json.put(&row.in_trouble))),
        ("problem", Plain(|row, json| json.put(&row.problem))),
        ("parkedReason", Plain(|row, json| json.put(&row.parked_reason))),
        ("undoReason", Plain(|row, json| json.put(&row.undo_reason))),
        ("startedAt", Plain(|row, json| json.put(&row.started_at))),
        ("changedAt", Plain(|row, json| json.put(&row.changed_at))),
        ("endedAt", Plain(|row, json| json.put(&row.ended_at))),
        ("ageSeconds", Plain(|row, json| json.put(&row.age_seconds))),
        ("nodeId", Plain(|row, json| json.put(&NodeId::Checkout(row.order_id).sealed()))),
        (
            "order",
            Within(|selected| selected.one(Some(each!(its_order)), |row: &Self| row.orders.loaded(&row.order_id))),
        ),
    ];
}

impl Listed for Checkout {
    const TABLE: Table = Table {
        name: "read.checkouts",
        columns: "order_id, state, step, reason, problem, parked_reason, undo_reason, \
                  state = 'parked' or problem is not null as in_trouble, started_at, changed_at, ended_at, \
                  greatest(extract(epoch from coalesce(ended_at, now()) - started_at), 0)::float8 as age_seconds",
        id: &["order_id"],
        owner: Some(
            "order_id = any(array(select owned.order_id from read.orders as owned where owned.customer_id = ?))",
        ),
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::Checkouts];

    fn key(&self, sort: &Sort) -> Key {
        let value = match sort.column {
            Some("changed_at") => self.changed_at,
            _ => self.started_at,
        };
        Key { value: Some(Bind::Time(value.0)), id: vec![Bind::Uuid(self.order_id.0)] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let orders = Arc::new(Batch::new(rows.iter().map(|checkout| checkout.order_id)));
        for checkout in rows {
            checkout.orders = orders.clone();
        }
    }
}

/// Whether a checkout is on its way, at its end, or stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum CheckoutState {
    /// It is on its way, forwards or backwards.
    Running,
    /// The order is completed.
    Completed,
    /// The order is rejected or cancelled, and no money of the customer's is held or kept.
    Undone,
    /// It cannot go on until somebody has looked at it and lets it try again.
    Parked,
}

impl CheckoutState {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Undone => "undone",
            Self::Parked => "parked",
        }
    }
}

/// What a checkout does or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum CheckoutStep {
    /// Goods are being reserved.
    Reserving,
    /// The payment gateway is asked to hold the money.
    Paying,
    /// The money is held; the order is about to be confirmed.
    Confirming,
    /// The order is confirmed, and the goods are to leave the house.
    Dispatching,
    /// The goods are on their way, and the money is being taken.
    Delivering,
    /// The goods arrived; the order is about to be completed.
    Completing,
    /// What was done for the order is taken back.
    Undoing,
    /// Nothing is left to do.
    Done,
}

impl CheckoutStep {
    fn name(self) -> &'static str {
        match self {
            Self::Reserving => "reserving",
            Self::Paying => "paying",
            Self::Confirming => "confirming",
            Self::Dispatching => "dispatching",
            Self::Delivering => "delivering",
            Self::Completing => "completing",
            Self::Undoing => "undoing",
            Self::Done => "done",
        }
    }
}

/// Checkouts that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct CheckoutFilter {
    /// In one of these states.
    state: Option<Vec<CheckoutState>>,
    /// Whether they are stuck, or something failed that is to be tried again.
    in_trouble: Option<bool>,
    /// At one of these steps.
    step: Option<Vec<CheckoutStep>>,
    /// Begun more than so many seconds ago, whether ended since or not.
    older_than_seconds: Option<i32>,
    /// Begun in this time.
    started_at: Option<TimeRange>,
    /// That fulfil all of these besides.
    and: Option<Vec<CheckoutFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<CheckoutFilter>>,
    /// That do not fulfil this.
    not: Option<Box<CheckoutFilter>>,
}

impl CheckoutFilter {
    fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        let started_at = self.started_at.unwrap_or_default();
        let seconds = self.older_than_seconds.map(|seconds| Bind::Int(i64::from(seconds)));
        Conditions::default()
            .combined(and, or, not)
            .and("state = any(?)", self.state.map(|all| Bind::names(all, CheckoutState::name)))
            .and("(state = 'parked' or problem is not null) = ?", self.in_trouble.map(Bind::Bool))
            .and("step = any(?)", self.step.map(|all| Bind::names(all, CheckoutStep::name)))
            .and("started_at < now() - ? * interval '1 second'", seconds)
            .and("started_at >= ?", started_at.from.map(|time| Bind::Time(time.0)))
            .and("started_at < ?", started_at.to.map(|time| Bind::Time(time.0)))
    }
}

/// How checkouts are sorted. Equal ones are sorted by their order's id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum CheckoutSort {
    /// The oldest first.
    StartedAtAsc,
    /// The newest first.
    #[default]
    StartedAtDesc,
    /// Those first to which nothing has happened for longest.
    ChangedAtAsc,
    /// Those first to which something happened last.
    ChangedAtDesc,
}

impl CheckoutSort {
    fn sort(self) -> Sort {
        let (column, descending) = match self {
            Self::StartedAtAsc => ("started_at", false),
            Self::StartedAtDesc => ("started_at", true),
            Self::ChangedAtAsc => ("changed_at", false),
            Self::ChangedAtDesc => ("changed_at", true),
        };
        Sort { column: Some(column), nullable: false, descending }
    }
}

/// The checkouts of these orders, as far as there are any.
pub(crate) async fn load(ctx: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Checkout>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>();
    let pool = reads.of(&[ReadModel::Checkouts]).await?;
    let ids = Bind::Uuids(ids.iter().map(|id| id.0).collect());
    let conditions = Conditions::default().and("order_id = any(?)", Some(ids));
    let mut rows: Vec<Checkout> = sql::select(pool, &reads.view().rows(Checkout::TABLE, conditions)).await?;
    Checkout::make_siblings(rows.iter_mut().collect());
    Ok(rows.into_iter().map(|checkout| (checkout.order_id, checkout)).collect())
}
