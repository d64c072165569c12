//! The read models `sales_daily` and `product_sales`: what was sold.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, Object, SimpleObject};

use crate::connection::{list_cost, page_cost, page_size};
use crate::cursor::{CursorKey, Scope};
use crate::error::Failure;
use crate::money::Money;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{Currency, Date, Long, Sku};
use crate::sql::{self, Bind, Key, Sums};

/// The most rows of sales that are answered at once.
const MOST_SALES: i32 = 5_000;

/// The sales of a query.
#[derive(Default)]
pub(crate) struct SalesQuery;

#[Object]
impl SalesQuery {
    /// What was sold in a currency. An order counts from its confirmation (or its recording) on, for the day on which it
    /// was placed, in UTC; it no longer counts once it is cancelled, or all of its payment was given back.
    async fn sales_summary(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "The first day that counts; from the beginning by default.")] from: Option<Date>,
        #[graphql(desc = "The first day that no longer counts; to the end by default.")] to: Option<Date>,
    ) -> Result<SalesSummary, Failure> {
        summary(ctx.data_unchecked::<Arc<Reads>>(), &currency, from, to).await
    }

    /// What was sold in a currency, by one dimension or two, in the order of the keys. What nothing was sold for is left
    /// out. An order counts as it does in salesSummary, and units and revenue add up to what that says; so do the orders,
    /// unless a product is among the dimensions: an order of several products stands with each of them. Where there are
    /// more than 5,000 rows, say first, and page through them.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(
        complexity = "list_cost(first.map_or(400, |first| first.clamp(1, MOST_SALES).unsigned_abs() as usize), child_complexity)"
    )]
    async fn sales_by(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is summed up into one.")] dimension: SalesDimension,
        #[graphql(desc = "Another one, by which the sums are split further.")] and: Option<SalesDimension>,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "The first day that counts; from the beginning by default.")] from: Option<Date>,
        #[graphql(desc = "The first day that no longer counts; to the end by default.")] to: Option<Date>,
        #[graphql(desc = "How many rows at most, up to 5,000; all of them by default.")] first: Option<i32>,
        #[graphql(desc = "The cursor of the row after which the others begin.")] after: Option<String>,
    ) -> Result<Vec<Sales>, Failure> {
        if and == Some(dimension) {
            return Err(Failure::bad_input("The two dimensions are the same one."));
        }
        if let Some(first) = first.filter(|first| !(0..=MOST_SALES).contains(first)) {
            return Err(Failure::bad_input(format!("first is 0 to {MOST_SALES}, not {first}.")));
        }
        let scope = Scope::new(
            ctx.data_unchecked::<CursorKey>(),
            &("salesBy", dimension.sql(), and.map(SalesDimension::sql), &currency.0, from, to),
        )?;
        let after = after.map(|cursor| scope.open(&cursor)).transpose()?;
        let (model, table) = match (dimension, and) {
            (SalesDimension::Product, _) | (_, Some(SalesDimension::Product)) => {
                (ReadModel::ProductSales, "read.product_sales")
            }
            _ => (ReadModel::SalesDaily, "read.sales_daily"),
        };
        let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[model]).await?;
        let (key, and_key) = (dimension.sql(), and.map(SalesDimension::sql));
        let (from, to) = (from.map(|day| day.0), to.map(|day| day.0));
        let sums = Sums { table, key, and_key, currency: &currency.0, from, to };
        // One more tells whether these are all.
        let most = first.map_or(i64::from(MOST_SALES) + 1, i64::from);
        let rows: Vec<(String, Option<String>, Long, Long, i64)> = sql::sums(pool, &sums, after.as_ref(), most).await?;
        if first.is_none() && i64::try_from(rows.len()).is_ok_and(|count| count == most) {
            let message =
                format!("There are more than {MOST_SALES} rows. Say first, and page through them with after.");
            return Err(Failure::bad_input(message));
        }
        let scope = Arc::new(scope);
        let sales = |(key, and_key, orders, units, revenue)| Sales {
            key,
            and_key,
            orders,
            units,
            revenue: Money::new(revenue, &currency),
            scope: scope.clone(),
        };
        Ok(rows.into_iter().map(sales).collect())
    }

    /// The articles that sold best in a currency. Equal ones stand by their SKU. An order counts as it does in
    /// salesSummary.
    #[graphql(complexity = "page_cost(Some(first), None, child_complexity)")]
    async fn top_products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is compared.")] by: TopBy,
        #[graphql(desc = "The currency in which they were sold.")] currency: Currency,
        #[graphql(desc = "The first day that counts; from the beginning by default.")] from: Option<Date>,
        #[graphql(desc = "The first day that no longer counts; to the end by default.")] to: Option<Date>,
        #[graphql(desc = "How many at most, up to 200.", default = 10)] first: i32,
    ) -> Result<Vec<TopProduct>, Failure> {
        let first = page_size("first", first)?;
        let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::ProductSales, ReadModel::Products]).await?;
        let query = sqlx::query_as(by.sql()).bind(&currency).bind(from).bind(to).bind(first);
        let rows: Vec<(Sku, Option<String>, Long, i64)> = pool.all(query).await?;
        let top =
            |(sku, name, units, revenue)| TopProduct { sku, name, units, revenue: Money::new(revenue, &currency) };
        Ok(rows.into_iter().map(top).collect())
    }
}

/// What was sold in a currency from one day up to another.
pub(crate) async fn summary(
    reads: &Reads,
    currency: &Currency,
    from: Option<Date>,
    to: Option<Date>,
) -> Result<SalesSummary, Failure> {
    let pool = reads.of(&[ReadModel::SalesDaily]).await?;
    let sql = "select coalesce(sum(orders), 0)::bigint, coalesce(sum(lines), 0)::bigint, \
               coalesce(sum(units), 0)::bigint, coalesce(sum(revenue_minor), 0)::bigint from read.sales_daily \
               where currency = $1 and ($2::date is null or day >= $2) and ($3::date is null or day < $3)";
    let query = sqlx::query_as(sql).bind(currency).bind(from).bind(to);
    let (orders, lines, units, revenue): (Long, Long, Long, i64) = pool.one(query).await?;
    Ok(SalesSummary { orders, lines, units, revenue: Money::new(revenue, currency) })
}

/// What was sold, summed up.
#[derive(Debug, Clone, PartialEq, SimpleObject)]
pub(crate) struct SalesSummary {
    /// How many orders.
    orders: Long,
    /// How many lines they have together.
    lines: Long,
    /// How many units.
    units: Long,
    /// For how much.
    revenue: Money,
}

/// What was sold on a day, in a week, in a month, to a country or of a product, or where two of these meet.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Sales {
    /// The day as "2010-12-01", the week as "2010-W48", the month as "2010-12", the country, or the product's SKU.
    key: String,
    /// The same of the other dimension; null where there is one dimension.
    and_key: Option<String>,
    /// How many orders.
    orders: Long,
    /// How many units.
    units: Long,
    /// For how much.
    revenue: Money,
    #[graphql(skip)]
    scope: Arc<Scope>,
}

#[ComplexObject]
impl Sales {
    /// Where it stands, for the argument after of the same query.
    async fn cursor(&self) -> Result<String, Failure> {
        let id = [Some(&self.key), self.and_key.as_ref()].into_iter().flatten().cloned().map(Bind::Text).collect();
        self.scope.seal(&Key { value: None, id })
    }
}

/// An article among those that sold best.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct TopProduct {
    /// The article.
    sku: Sku,
    /// Its name today; null while the catalogue does not list it.
    name: Option<String>,
    /// How many units were sold.
    units: Long,
    /// For how much.
    revenue: Money,
}

/// What sales are summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum SalesDimension {
    /// By the day on which the orders were placed, in UTC.
    Day,
    /// By the week in which the orders were placed, in UTC. It is one of ISO 8601: it begins on a Monday, and belongs to
    /// the year that has most of its days.
    Week,
    /// By the month in which the orders were placed, in UTC.
    Month,
    /// By the country to which the orders went.
    Country,
    /// By the product.
    Product,
}

impl SalesDimension {
    /// The key of a row of the tables, as SQL.
    fn sql(self) -> &'static str {
        match self {
            Self::Day => "to_char(day, 'YYYY-MM-DD')",
            Self::Week => "to_char(day, 'IYYY-\"W\"IW')",
            Self::Month => "to_char(day, 'YYYY-MM')",
            Self::Country => "country",
            Self::Product => "sku",
        }
    }
}

/// What makes an article sell better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum TopBy {
    /// More units.
    Units,
    /// More revenue.
    Revenue,
}

impl TopBy {
    fn sql(self) -> &'static str {
        match self {
            Self::Units => top_products!("units"),
            Self::Revenue => top_products!("revenue"),
        }
    }
}

macro_rules! top_products {
    ($by:literal) => {
        concat!(
            "with top as (select sku, sum(units)::bigint as units, sum(revenue_minor)::bigint as revenue ",
            "from read.product_sales ",
            "where currency = $1 and ($2::date is null or day >= $2) and ($3::date is null or day < $3) ",
            "group by sku having sum(orders) > 0 order by ",
            $by,
            " desc, sku limit $4) ",
            "select sku, name, units, revenue from top left join read.products using (sku) order by ",
            $by,
            " desc, sku"
        )
    };
}
use top_products;
