//! The read model `customers`: customers, and what each has bought.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, SimpleObject};
use sqlx::FromRow;

use crate::batch::{Batch, grouped};
use crate::connection::{self, List, Listed, Page, Slice, Total, list_cost, page_cost, page_size};
use crate::error::Failure;
use crate::money::Money;
use crate::node::NodeId;
use crate::orders::{Order, OrderSort};
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{Currency, DateTime, Long, Uuid};
use crate::sql::{self, Bind, Conditions, Key, Sort, Table, Window};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written, each};

/// The customers of a query.
#[derive(Default)]
pub(crate) struct CustomersQuery;

#[Object]
impl CustomersQuery {
    /// The customer of an id; null if there is none.
    async fn customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] id: Uuid,
    ) -> Option<Result<Customer, Failure>> {
        load(ctx, &[id]).await.map(|mut customers| customers.remove(&id)).transpose()
    }

    /// Customers, a page at a time.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which customers; all of them by default.")] filter: Option<CustomerFilter>,
        #[graphql(desc = "In which order.", default)] order_by: CustomerSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<Customer>, Failure> {
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }

    /// The customers who bought most in a currency, over all time. Equal ones are sorted by their reference, those without
    /// one last, and then by their id.
    #[graphql(complexity = "page_cost(Some(first), None, child_complexity)")]
    async fn top_customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "How many at most, up to 200.", default = 10)] first: i32,
    ) -> Result<Vec<TopCustomer>, Failure> {
        let first = page_size("first", first)?;
        let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::Customers]).await?;
        // A spend can stand here before its customer does, and still counts.
        let sql = "select customer_id, orders, revenue_minor from read.customer_spend \
                   left join read.customers using (customer_id) \
                   where currency = $1 and orders > 0 \
                   order by revenue_minor desc, reference nulls last, customer_id limit $2";
        let query = sqlx::query_as(sql).bind(&currency).bind(first);
        let rows: Vec<(Uuid, Long, i64)> = pool.all(query).await?;
        let customers = Arc::new(Batch::new(rows.iter().map(|(id, _, _)| *id)));
        let top = |(customer_id, orders, revenue)| TopCustomer {
            customer_id,
            orders,
            revenue: Money::new(revenue, &currency),
            customers: customers.clone(),
        };
        Ok(rows.into_iter().map(top).collect())
    }
}

/// A customer.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Customer {
    /// The customer's id.
    #[sqlx(rename = "customer_id")]
    id: Uuid,
    /// The number under which an older system knows the customer.
    reference: Option<String>,
    /// The customer's name.
    name: Option<String>,
    /// Where mail goes.
    email: Option<String>,
    /// Where to call.
    phone: Option<String>,
    /// Whether the account is open.
    status: CustomerStatus,
    /// When the customer registered.
    registered_at: DateTime,
    #[graphql(skip)]
    #[sqlx(skip)]
    siblings: Arc<Siblings>,
}

#[ComplexObject]
impl Customer {
    /// What tells it from everything else. It is opaque: the field node takes it, and nothing else.
    pub(crate) async fn node_id(&self) -> ID {
        NodeId::Customer(self.id).sealed()
    }

    /// What the customer has bought: the confirmed and recorded orders, a sum a currency, by the currency's code.
    #[graphql(complexity = "list_cost(2, child_complexity)")]
    async fn spend(&self, ctx: &Context<'_>) -> Result<&[CustomerSpend], Failure> {
        Ok(self.siblings.spend.get(&self.id, |ids| load_spend(ctx, ids)).await?.map_or(&[], Vec::as_slice))
    }

    /// The customer's orders, a page at a time.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "In which order.", default)] order_by: OrderSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<Order>, Failure> {
        let page = Page { first, after, last, before };
        let (id, sort) = (self.id, order_by.sort());
        let conditions = Conditions::default().and("customer_id = ?", Some(Bind::Uuid(id.0)));
        // A cursor belongs to one customer, so there is nothing to load for the others.
        if page.after.is_some() || page.before.is_some() {
            return connection::list(ctx, sort, conditions, page).await;
        }
        let view = ctx.data_unchecked::<Arc<Reads>>().view();
        let scope = connection::scope(ctx, &sort, &view.rows(Order::TABLE, conditions))?;
        let window = page.window(&scope)?;
        let first_pages = self.siblings.first_pages(sort, &window);
        let slice = first_pages.get(&id, |ids| load_orders(ctx, ids, sort, &window)).await?.cloned();
        let slice = slice.unwrap_or_else(|| Slice::cut(Vec::new(), &window));
        let (reads, siblings) = (ctx.data_unchecked::<Arc<Reads>>().clone(), self.siblings.clone());
        let total = Total::new(move || {
            let (reads, siblings) = (reads.clone(), siblings.clone());
            Box::pin(async move {
                let count = siblings.order_counts.get(&id, |ids| load_order_counts(&reads, ids)).await?;
                Ok(count.copied().unwrap_or(0))
            })
        });
        Ok(slice.connection(sort, &window, scope, total))
    }
}

impl Written for Customer {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("id", Plain(|row, json| json.put(&row.id))),
        ("reference", Plain(|row, json| json.put(&row.reference))),
        ("name", Plain(|row, json| json.put(&row.name))),
        ("email", Plain(|row, json| json.put(&row.email))),
        ("phone", Plain(|row, json| json.put(&row.phone))),
        ("status", Plain(|row, json| json.name(row.status))),
        ("registeredAt", Plain(|row, json| json.put(&row.registered_at))),
        ("nodeId", Plain(|row, json| json.put(&NodeId::Customer(row.id).sealed()))),
        (
            "spend",
            Within(|selected| {
                selected.many(Some(each!(spend)), |row: &Self| {
                    row.siblings.spend.loaded(&row.id).map_or(&[], Vec::as_slice)
                })
            }),
        ),
    ];
}

/// What the customers that were read together load together.
#[derive(Debug, Default)]
struct Siblings {
    ids: Vec<Uuid>,
    spend: Batch<Uuid, Vec<CustomerSpend>>,
    order_counts: Batch<Uuid, i64>,
    /// The first pages of orders, by what tells one such list from another: its sort, direction and size.
    orders: Mutex<HashMap<(Sort, bool, i64), FirstPages>>,
}

type FirstPages = Arc<Batch<Uuid, Slice<Order>>>;

impl Siblings {
    fn first_pages(&self, sort: Sort, window: &Window) -> FirstPages {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = orders.entry((sort, window.backward, window.rows));
        batch.or_insert_with(|| Arc::new(Batch::new(self.ids.iter().copied()))).clone()
    }
}

impl Listed for Customer {
    const TABLE: Table = Table {
        name: "read.customers",
        columns: "customer_id, reference, name, email, phone, status, registered_at",
        id: &["customer_id"],
        owner: Some("customer_id = ?"),
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::Customers];

    fn key(&self, sort: &Sort) -> Key {
        let value = match sort.column {
            Some("reference") => self.reference.clone().map_or(Bind::Null, Bind::Text),
            _ => Bind::Time(self.registered_at.0),
        };
        Key { value: Some(value), id: vec![Bind::Uuid(self.id.0)] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let ids: Vec<Uuid> = rows.iter().map(|customer| customer.id).collect();
        let siblings = Arc::new(Siblings {
            spend: Batch::new(ids.iter().copied()),
            order_counts: Batch::new(ids.iter().copied()),
            orders: Mutex::default(),
            ids,
        });
        for customer in rows {
            customer.siblings = siblings.clone();
        }
    }
}

/// What a customer has bought in one currency.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct CustomerSpend {
    /// The currency.
    currency: Currency,
    /// In how many orders.
    orders: Long,
    /// For how much.
    revenue: Money,
}

impl Written for CustomerSpend {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("currency", Plain(|row, json| json.put(&row.currency))),
        ("orders", Plain(|row, json| json.put(&row.orders))),
        ("revenue", Within(|selected| selected.one(None, |row: &Self| Some(&row.revenue)))),
    ];
}

/// A customer among those who bought most.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct TopCustomer {
    /// The customer's id.
    customer_id: Uuid,
    /// In how many orders the customer bought.
    orders: Long,
    /// For how much.
    revenue: Money,
    #[graphql(skip)]
    customers: Arc<Batch<Uuid, Customer>>,
}

#[ComplexObject]
impl TopCustomer {
    /// The customer; null for one who ordered without being registered.
    async fn customer(&self, ctx: &Context<'_>) -> Option<Result<&Customer, Failure>> {
        self.customers.get(&self.customer_id, |ids| load(ctx, ids)).await.transpose()
    }
}

/// Whether a customer's account is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum CustomerStatus {
    /// The customer can order.
    Open,
    /// The account was closed.
    Closed,
}

impl CustomerStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// Customers that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct CustomerFilter {
    /// With exactly this reference.
    reference: Option<String>,
    /// With a name that begins so, in upper or lower case.
    name_prefix: Option<String>,
    /// In one of these states.
    status: Option<Vec<CustomerStatus>>,
    /// That fulfil all of these besides.
    and: Option<Vec<CustomerFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<CustomerFilter>>,
    /// That do not fulfil this.
    not: Option<Box<CustomerFilter>>,
}

impl CustomerFilter {
    fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        Conditions::default()
            .combined(and, or, not)
            .and("reference = ?", self.reference.map(Bind::Text))
            .and("starts_with(lower(name), lower(?))", self.name_prefix.map(Bind::Text))
            .and("status = any(?)", self.status.map(|all| Bind::names(all, CustomerStatus::name)))
    }
}

/// How customers are sorted. Equal ones are sorted by their id; a missing reference counts as the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum CustomerSort {
    /// Who registered first comes first.
    #[default]
    RegisteredAtAsc,
    /// Who registered last comes first.
    RegisteredAtDesc,
    /// By reference; those without one come last.
    ReferenceAsc,
    /// By reference, backwards; those without one come first.
    ReferenceDesc,
}

impl CustomerSort {
    fn sort(self) -> Sort {
        let (column, nullable, descending) = match self {
            Self::RegisteredAtAsc => ("registered_at", false, false),
            Self::RegisteredAtDesc => ("registered_at", false, true),
            Self::ReferenceAsc => ("reference", true, false),
            Self::ReferenceDesc => ("reference", true, true),
        };
        Sort { column: Some(column), nullable, descending }
    }
}

/// The customers of these ids, as far as there are any.
pub(crate) async fn load(ctx: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Customer>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>();
    let pool = reads.of(&[ReadModel::Customers]).await?;
    let ids = Bind::Uuids(ids.iter().map(|id| id.0).collect());
    let conditions = Conditions::default().and("customer_id = any(?)", Some(ids));
    let mut rows: Vec<Customer> = sql::select(pool, &reads.view().rows(Customer::TABLE, conditions)).await?;
    Customer::make_siblings(rows.iter_mut().collect());
    Ok(rows.into_iter().map(|customer| (customer.id, customer)).collect())
}

async fn load_spend(ctx: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<CustomerSpend>>, Failure> {
    let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::Customers]).await?;
    let sql = "select customer_id, currency, orders, revenue_minor from read.customer_spend \
               where customer_id = any($1) and orders > 0 order by customer_id, currency";
    let rows: Vec<(Uuid, Currency, Long, i64)> = pool.all(sqlx::query_as(sql).bind(ids)).await?;
    Ok(grouped(rows.into_iter().map(|(customer, currency, orders, revenue)| {
        let revenue = Money::new(revenue, &currency);
        (customer, CustomerSpend { currency, orders, revenue })
    })))
}

async fn load_orders(
    ctx: &Context<'_>,
    ids: &[Uuid],
    sort: Sort,
    window: &Window,
) -> Result<HashMap<Uuid, Slice<Order>>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>();
    let pool = reads.of(&[ReadModel::Orders]).await?;
    let ids = Bind::Uuids(ids.iter().map(|id| id.0).collect());
    let visible = reads.view().rows(Order::TABLE, Conditions::default());
    let rows: Vec<Order> = sql::page_of_each(pool, &visible, &sort, "customer_id", ids, window).await?;
    let pages = grouped(rows.into_iter().filter_map(|order| Some((order.customer_id?, order)))).into_iter();
    let mut pages: HashMap<_, _> = pages.map(|(id, rows)| (id, Slice::cut(rows, window))).collect();
    Order::make_siblings(pages.values_mut().flat_map(|page| &mut page.rows).collect());
    Ok(pages)
}

async fn load_order_counts(reads: &Reads, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, Failure> {
    let pool = reads.of(&[ReadModel::Orders]).await?;
    let sql = "select customer_id, count(*) from read.orders where customer_id = any($1) group by customer_id";
    let rows: Vec<(Uuid, i64)> = pool.all(sqlx::query_as(sql).bind(ids)).await?;
    Ok(rows.into_iter().collect())
}
