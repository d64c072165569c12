//! The read model `orders`: orders with their lines, payment, shipment and timeline.

mod payment;
mod shipment;
mod timeline;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, SimpleObject};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::batch::{Batch, grouped};
use crate::checkouts::{self, Checkout};
use crate::connection::{self, List, Listed, Page, list_cost, page_cost};
use crate::customers::{self, Customer};
use crate::error::Failure;
use crate::money::Money;
use crate::node::NodeId;
pub(crate) use crate::orders::payment::PaymentStatus;
use crate::orders::payment::{Payment, PaymentColumns, payment_columns};
use crate::orders::shipment::{Shipment, ShipmentColumns, shipment_columns};
use crate::orders::timeline::TimelineEntry;
use crate::own_writes::{ReadModel, Reads};
use crate::position::AsOf;
use crate::products::{self, Product};
use crate::scalars::{Currency, DateTime, Long, Sku, Uuid};
use crate::sql::{self, Bind, Conditions, InOrder, Key, Sort, Table, Window};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written, each};

/// The orders of a query.
#[derive(Default)]
pub(crate) struct OrdersQuery;

#[Object]
impl OrdersQuery {
    /// The order of an id; null if there is none.
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: Uuid,
    ) -> Option<Result<Order, Failure>> {
        load(ctx, &[id]).await.map(|mut orders| orders.remove(&id)).transpose()
    }

    /// Orders, a page at a time.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which orders; all of them by default.")] filter: Option<OrderFilter>,
        #[graphql(desc = "In which order.", default)] order_by: OrderSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<Order>, Failure> {
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }
}

/// An order.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Order {
    /// The order's id.
    pub(crate) id: Uuid,
    /// The number under which the customer or an older system knows the order.
    reference: Option<String>,
    /// How far the order has come.
    status: OrderStatus,
    /// Why the order was rejected or cancelled, or is to be.
    reason: Option<String>,
    /// When the customer placed it.
    placed_at: DateTime,
    /// The country it is delivered to.
    country: String,
    /// The currency of all its prices.
    currency: Currency,
    /// How many lines it has.
    line_count: i32,
    /// How many units its lines have together.
    units: Long,
    /// When the order, its payment, its shipment or its checkout last changed.
    changed_at: DateTime,
    /// The revision of the order's stream, which commands take as the expected one.
    revision: Long,
    #[graphql(skip)]
    pub(crate) customer_id: Option<Uuid>,
    #[graphql(skip)]
    total_minor: i64,
    #[graphql(skip)]
    payment: Option<Box<PaymentColumns>>,
    #[graphql(skip)]
    shipment: Option<Box<ShipmentColumns>>,
    #[graphql(skip)]
    siblings: Arc<Siblings>,
}

#[ComplexObject]
impl Order {
    /// What tells it from everything else. It is opaque: the field node takes it, and nothing else.
    pub(crate) async fn node_id(&self) -> ID {
        NodeId::Order(self.id).sealed()
    }

    /// What its lines cost together.
    async fn total(&self) -> Money {
        Money::new(self.total_minor, &self.currency)
    }

    /// Its lines, in the customer's order.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn lines(&self, ctx: &Context<'_>) -> Result<&[OrderLine], Failure> {
        let load = |ids| load_lines(ctx, ids, &self.siblings.currencies);
        Ok(self.siblings.lines.get(&self.id, load).await?.map_or(&[], Vec::as_slice))
    }

    /// Who placed it; null for a guest, and for a customer that the read model of customers does not have.
    async fn customer(&self, ctx: &Context<'_>) -> Option<Result<&Customer, Failure>> {
        self.its_customer(ctx).await.transpose()
    }

    /// What is or was paid for it; null while nothing was asked for, and for an order that was paid elsewhere.
    async fn payment(&self) -> Option<Payment> {
        self.payment.as_ref()?.payment()
    }

    /// How its goods get to the customer; null while nothing was asked for.
    async fn shipment(&self) -> Option<Shipment> {
        self.shipment.as_ref()?.shipment()
    }

    /// What happened to it, its payment, its shipment and its checkout, the oldest first. An order that was only
    /// recorded here was over before, and has nothing to tell.
    #[graphql(complexity = "list_cost(12, child_complexity)")]
    async fn timeline(&self, ctx: &Context<'_>) -> Result<&[TimelineEntry], Failure> {
        let timeline = self.siblings.timelines.get(&self.id, |ids| timeline::load(ctx, ids)).await?;
        Ok(timeline.map_or(&[], Vec::as_slice))
    }

    /// How far its checkout is; null for an order that was only recorded here.
    async fn checkout(&self, ctx: &Context<'_>) -> Option<Result<&Checkout, Failure>> {
        self.its_checkout(ctx).await.transpose()
    }
}

impl Order {
    async fn its_customer(&self, ctx: &Context<'_>) -> Result<Option<&Customer>, Failure> {
        let Some(id) = self.customer_id else { return Ok(None) };
        self.siblings.customers.get(&id, |ids| customers::load(ctx, ids)).await
    }

    async fn its_checkout(&self, ctx: &Context<'_>) -> Result<Option<&Checkout>, Failure> {
        self.siblings.checkouts.get(&self.id, |ids| checkouts::load(ctx, ids)).await
    }
}

impl Written for Order {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("id", Plain(|row, json| json.put(&row.id))),
        ("reference", Plain(|row, json| json.put(&row.reference))),
        ("status", Plain(|row, json| json.name(row.status))),
        ("reason", Plain(|row, json| json.put(&row.reason))),
        ("placedAt", Plain(|row, json| json.put(&row.placed_at))),
        ("country", Plain(|row, json| json.put(&row.country))),
        ("currency", Plain(|row, json| json.put(&row.currency))),
        ("lineCount", Plain(|row, json| json.put(&row.line_count))),
        ("units", Plain(|row, json| json.put(&row.units))),
        ("changedAt", Plain(|row, json| json.put(&row.changed_at))),
        ("revision", Plain(|row, json| json.put(&row.revision))),
        ("nodeId", Plain(|row, json| json.put(&NodeId::Order(row.id).sealed()))),
        ("total", Within(|selected| selected.made(|row: &Self| Some(Money::new(row.total_minor, &row.currency))))),
        ("payment", Within(|selected| selected.made(|row: &Self| row.payment.as_ref()?.payment()))),
        ("shipment", Within(|selected| selected.made(|row: &Self| row.shipment.as_ref()?.shipment()))),
        (
            "lines",
            Within(|selected| {
                selected.many(Some(each!(lines)), |row: &Self| {
                    row.siblings.lines.loaded(&row.id).map_or(&[], Vec::as_slice)
                })
            }),
        ),
        (
            "timeline",
            Within(|selected| {
                selected.many(Some(each!(timeline)), |row: &Self| {
                    row.siblings.timelines.loaded(&row.id).map_or(&[], Vec::as_slice)
                })
            }),
        ),
        (
            "customer",
            Within(|selected| {
                selected.one(Some(each!(its_customer)), |row: &Self| row.siblings.customers.loaded(&row.customer_id?))
            }),
        ),
        (
            "checkout",
            Within(|selected| {
                selected.one(Some(each!(its_checkout)), |row: &Self| row.siblings.checkouts.loaded(&row.id))
            }),
        ),
    ];
}

/// What the orders that were read together load together.
#[derive(Debug, Default)]
struct Siblings {
    currencies: Vec<(Uuid, Currency)>,
    lines: Batch<Uuid, Vec<OrderLine>>,
    customers: Batch<Uuid, Customer>,
    timelines: Batch<Uuid, Vec<TimelineEntry>>,
    checkouts: Batch<Uuid, Checkout>,
}

/// Every set of columns that a list reads, by whether the sums, the rest, the payment and the shipment are among them.
/// What most lists show is in each. There are few sets, for each is a statement of its own, and a connection keeps a hundred.
static COLUMN_SETS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let set = |set: usize| {
        let parts = PARTS.iter().enumerate().filter(|(part, _)| set & (1 << part) > 0);
        parts.fold(ALWAYS.to_owned(), |columns, (_, (part, _))| columns + ", " + part)
    };
    (0..1 << PARTS.len()).map(set).collect()
});

macro_rules! always {
    () => {
        "order_id, reference, status, placed_at, country, currency"
    };
}
macro_rules! sums {
    () => {
        "total_minor, line_count, units"
    };
}
macro_rules! rest {
    () => {
        "reason, customer_id, changed_at, revision"
    };
}
const ALWAYS: &str = always!();
/// The other columns, in the order in which they are read, and the fields that are made of them.
const PARTS: [(&str, &[&str]); 4] = [
    (sums!(), &["total", "lineCount", "units"]),
    (rest!(), &["reason", "customer", "changedAt", "revision"]),
    (payment_columns!(), &["payment"]),
    (shipment_columns!(), &["shipment"]),
];

/// What a row has until it is told of the others.
static NONE: LazyLock<Arc<Siblings>> = LazyLock::new(Arc::default);

impl<'r> FromRow<'r, PgRow> for Order {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let mut row = InOrder::of(row);
        let mut order = Self {
            id: row.next("order_id")?,
            reference: row.next("reference")?,
            status: row.next("status")?,
            placed_at: row.next("placed_at")?,
            country: row.next("country")?,
            currency: row.next("currency")?,
            total_minor: 0,
            line_count: 0,
            units: Long(0),
            reason: None,
            customer_id: None,
            changed_at: DateTime(chrono::DateTime::UNIX_EPOCH),
            revision: Long(0),
            payment: None,
            shipment: None,
            siblings: NONE.clone(),
        };
        // What was not read is not shown: see `Listed::columns`.
        if row.comes("total_minor") {
            order.total_minor = row.next("total_minor")?;
            order.line_count = row.next("line_count")?;
            order.units = row.next("units")?;
        }
        if row.comes("reason") {
            order.reason = row.next("reason")?;
            order.customer_id = row.next("customer_id")?;
            order.changed_at = row.next("changed_at")?;
            order.revision = row.next("revision")?;
        }
        if row.comes("payment_status") {
            order.payment = Some(Box::new(PaymentColumns::read(&mut row)?));
        }
        if row.comes("shipment_status") {
            order.shipment = Some(Box::new(ShipmentColumns::read(&mut row)?));
        }
        Ok(order)
    }
}

impl Listed for Order {
    const TABLE: Table = Table {
        name: "read.orders",
        columns: concat!(always!(), ", ", sums!(), ", ", rest!(), ", ", payment_columns!(), ", ", shipment_columns!()),
        id: &["order_id"],
        owner: Some("customer_id = ?"),
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::Orders];

    fn columns(fields: &[&str], sort: &Sort) -> &'static str {
        // A cursor has the value of the sort's column.
        let sorted = |columns: &str| sort.column.is_some_and(|column| columns.split(", ").any(|other| other == column));
        let read = |(part, (columns, of)): (usize, &(&str, &[&str]))| {
            let is_read = sorted(columns) || of.iter().any(|field| fields.contains(field));
            usize::from(is_read) << part
        };
        &COLUMN_SETS[PARTS.iter().enumerate().map(read).sum::<usize>()]
    }

    fn key(&self, sort: &Sort) -> Key {
        let value = match sort.column {
            Some("total_minor") => Bind::Int(self.total_minor),
            _ => Bind::Time(self.placed_at.0),
        };
        Key { value: Some(value), id: vec![Bind::Uuid(self.id.0)] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let lines = Batch::new(rows.iter().map(|order| order.id));
        let siblings = Arc::new(Siblings {
            currencies: rows.iter().map(|order| (order.id, order.currency.clone())).collect(),
            customers: Batch::new(rows.iter().filter_map(|order| order.customer_id)),
            timelines: lines.of_the_same(),
            checkouts: lines.of_the_same(),
            lines,
        });
        for order in rows {
            order.siblings = siblings.clone();
        }
    }
}

/// A line of an order.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct OrderLine {
    /// Its number within the order, from 1.
    line_no: i32,
    /// The article.
    sku: Sku,
    /// How many units were ordered.
    quantity: Long,
    #[graphql(skip)]
    unit_price_minor: i64,
    #[graphql(skip)]
    currency: Currency,
    #[graphql(skip)]
    products: Arc<Batch<Sku, Product>>,
}

#[ComplexObject]
impl OrderLine {
    /// The price of one unit when the order was placed.
    async fn unit_price(&self) -> Money {
        Money::new(self.unit_price_minor, &self.currency)
    }

    /// What the line costs.
    async fn total(&self) -> Result<Money, Failure> {
        // The write side refuses such a line, so this is a read model that was tampered with.
        self.cost().ok_or_else(|| Failure::internal(&LineOverflow))
    }

    /// The article as it is today; null if the read model of products does not have it.
    async fn product(&self, ctx: &Context<'_>) -> Option<Result<&Product, Failure>> {
        self.its_product(ctx).await.transpose()
    }
}

impl OrderLine {
    fn cost(&self) -> Option<Money> {
        Some(Money::new(self.unit_price_minor.checked_mul(self.quantity.0)?, &self.currency))
    }

    async fn its_product(&self, ctx: &Context<'_>) -> Result<Option<&Product>, Failure> {
        self.products.get(&self.sku, |skus| products::load(ctx, skus)).await
    }
}

impl Written for OrderLine {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("lineNo", Plain(|row, json| json.put(&row.line_no))),
        ("sku", Plain(|row, json| json.put(&row.sku))),
        ("quantity", Plain(|row, json| json.put(&row.quantity))),
        (
            "unitPrice",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.unit_price_minor, &row.currency)))),
        ),
        ("total", Within(|selected| selected.tried(OrderLine::cost))),
        (
            "product",
            Within(|selected| selected.one(Some(each!(its_product)), |row: &Self| row.products.loaded(&row.sku))),
        ),
    ];
}

#[derive(Debug, thiserror::Error)]
#[error("quantity times price of an order line is past the range of an i64")]
struct LineOverflow;

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum OrderStatus {
    /// It was placed; stock and payment are being arranged.
    Placed,
    /// It is paid for and will be delivered.
    Confirmed,
    /// The customer wants it called off; the shop is trying to keep the goods in the house.
    Cancelling,
    /// The goods have left the house.
    Dispatched,
    /// It could not be accepted.
    Rejected,
    /// It was called off after it had been placed.
    Cancelled,
    /// It was delivered and paid.
    Completed,
    /// It was traded elsewhere and only written down here.
    Recorded,
}

impl OrderStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Confirmed => "confirmed",
            Self::Cancelling => "cancelling",
            Self::Dispatched => "dispatched",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Recorded => "recorded",
        }
    }
}

/// Orders that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct OrderFilter {
    /// In one of these states.
    status: Option<Vec<OrderStatus>>,
    /// Placed by this customer.
    customer_id: Option<Uuid>,
    /// Delivered to this country, written exactly so.
    country: Option<String>,
    /// With exactly this reference.
    reference: Option<String>,
    /// Placed in this time.
    placed_at: Option<TimeRange>,
    /// With a total in this range.
    total: Option<MoneyRange>,
    /// With a line of this article.
    sku: Option<Sku>,
    /// That fulfil all of these besides.
    and: Option<Vec<OrderFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<OrderFilter>>,
    /// That do not fulfil this.
    not: Option<Box<OrderFilter>>,
}

impl OrderFilter {
    pub(crate) fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        let placed_at = self.placed_at.unwrap_or_default();
        let conditions = Conditions::default()
            .combined(and, or, not)
            .and("status = any(?)", self.status.map(|all| Bind::names(all, OrderStatus::name)))
            .and("customer_id = ?", self.customer_id.map(|id| Bind::Uuid(id.0)))
            .and("country = ?", self.country.map(Bind::Text))
            .and("reference = ?", self.reference.map(Bind::Text))
            .and("placed_at >= ?", placed_at.from.map(|time| Bind::Time(time.0)))
            .and("placed_at < ?", placed_at.to.map(|time| Bind::Time(time.0)))
            .and(
                "exists (select from read.order_lines as line where line.order_id = orders.order_id and line.sku = ?)",
                self.sku.map(|sku| Bind::Text(sku.0)),
            );
        match self.total {
            None => conditions,
            Some(MoneyRange { currency, min_minor, max_minor }) => conditions
                .and("currency = ?", Some(Bind::Text(currency.0)))
                .and("total_minor >= ?", min_minor.map(|minor| Bind::Int(minor.0)))
                .and("total_minor <= ?", max_minor.map(|minor| Bind::Int(minor.0))),
        }
    }
}

/// A span of time.
#[derive(Debug, Default, InputObject)]
pub(crate) struct TimeRange {
    /// Not before this moment.
    pub(crate) from: Option<DateTime>,
    /// Before this moment, which is itself no longer in the range.
    pub(crate) to: Option<DateTime>,
}

/// A range of amounts in one currency, both ends included.
#[derive(Debug, InputObject)]
pub(crate) struct MoneyRange {
    /// The currency; amounts in another one are not in the range.
    pub(crate) currency: Currency,
    /// At least this much, in the currency's smallest unit.
    pub(crate) min_minor: Option<Long>,
    /// At most this much, in the currency's smallest unit.
    pub(crate) max_minor: Option<Long>,
}

/// How orders are sorted. Equal ones are sorted by their id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum OrderSort {
    /// The oldest first.
    PlacedAtAsc,
    /// The newest first.
    #[default]
    PlacedAtDesc,
    /// The smallest amount first, whatever its currency: filter by one to compare like with like.
    TotalAsc,
    /// The largest amount first, whatever its currency: filter by one to compare like with like.
    TotalDesc,
}

impl OrderSort {
    pub(crate) fn sort(self) -> Sort {
        let (column, descending) = match self {
            Self::PlacedAtAsc => ("placed_at", false),
            Self::PlacedAtDesc => ("placed_at", true),
            Self::TotalAsc => ("total_minor", false),
            Self::TotalDesc => ("total_minor", true),
        };
        Sort { column: Some(column), nullable: false, descending }
    }
}

/// The orders of these ids, as far as there are any.
pub(crate) async fn load(ctx: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Order>, Failure> {
    let orders = load_those(ctx.data_unchecked::<Arc<Reads>>(), ids, Conditions::default()).await?;
    Ok(orders.into_iter().map(|order| (order.id, order)).collect())
}

/// The orders of these ids that fulfil `conditions` besides, in no order.
pub(crate) async fn load_those(reads: &Reads, ids: &[Uuid], conditions: Conditions) -> Result<Vec<Order>, Failure> {
    let pool = reads.of(&[ReadModel::Orders]).await?;
    let ids = Bind::Uuids(ids.iter().map(|id| id.0).collect());
    let visible = reads.view().rows(Order::TABLE, conditions.and("order_id = any(?)", Some(ids)));
    let mut rows: Vec<Order> = sql::select(pool, &visible).await?;
    Order::make_siblings(rows.iter_mut().collect());
    Ok(rows)
}

/// The newest orders that fulfil `conditions`, at most so many.
pub(crate) async fn load_newest(reads: &Reads, conditions: &Conditions, most: i32) -> Result<Vec<Order>, Failure> {
    let pool = reads.of(&[ReadModel::Orders]).await?;
    let window = Window { after: None, before: None, backward: false, rows: i64::from(most) };
    let sort = OrderSort::PlacedAtDesc.sort();
    let visible = reads.view().rows(Order::TABLE, conditions.clone());
    let mut rows: Vec<Order> = sql::page(pool, &visible, Order::TABLE.columns, &sort, &window).await?;
    Order::make_siblings(rows.iter_mut().collect());
    Ok(rows)
}

async fn load_lines(
    ctx: &Context<'_>,
    orders: &[Uuid],
    currencies: &[(Uuid, Currency)],
) -> Result<HashMap<Uuid, Vec<OrderLine>>, Failure> {
    let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::Orders]).await?;
    let sql = "select order_id, line_no, sku, quantity, unit_price_minor from read.order_lines \
               where order_id = any($1) order by order_id, line_no";
    let rows = pool.all(sqlx::query_as(sql).bind(orders)).await?;
    Ok(lines(rows, currencies))
}

/// A line as its table has it: the order, the number, the article, the quantity and the price.
type LineRow = (Uuid, i32, Sku, Long, i64);

fn lines(rows: Vec<LineRow>, currencies: &[(Uuid, Currency)]) -> HashMap<Uuid, Vec<OrderLine>> {
    let products = Arc::new(Batch::new(rows.iter().map(|(_, _, sku, _, _)| sku.clone())));
    let currencies: HashMap<Uuid, &Currency> = currencies.iter().map(|(order, currency)| (*order, currency)).collect();
    grouped(rows.into_iter().filter_map(|(order, line_no, sku, quantity, unit_price_minor)| {
        let currency = Currency::clone(currencies.get(&order)?);
        Some((order, OrderLine { line_no, sku, quantity, unit_price_minor, currency, products: products.clone() }))
    }))
}

/// An order as a fold of the past has it, if it is there for who asks. Postgres itself reads the rows as those of its tables.
pub(crate) async fn of_the_past(reads: &Reads, fold: &AsOf) -> Result<Option<Order>, Failure> {
    let pool = reads.control();
    let Some(mut order) = sql::of_json::<Order>(pool, &Order::TABLE, &fold.rows("orders")).await?.pop() else {
        return Ok(None);
    };
    // Whose it is was said by its own first event.
    if !reads.view().sees(order.customer_id.map(|customer| customer.0)) {
        return Ok(None);
    }
    let sql = "select order_id, line_no, sku, quantity, unit_price_minor \
               from jsonb_populate_recordset(null::read.order_lines, $1) order by line_no";
    let rows: Vec<LineRow> = pool.all(sqlx::query_as(sql).bind(fold.rows("order_lines"))).await?;
    Order::make_siblings(vec![&mut order]);
    if let Some(siblings) = Arc::get_mut(&mut order.siblings) {
        siblings.lines = Batch::of(lines(rows, &siblings.currencies));
        siblings.timelines = Batch::of(timeline::of_the_past(pool, &fold.rows("order_timeline")).await?);
    }
    Ok(Some(order))
}
