//! The read models `sales_daily` and `product_sales`: what was sold.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::connection::{list_cost, page_cost, page_size};
use crate::error::Failure;
use crate::money::Money;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{Currency, Date, Long, Sku};

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

    /// What was sold in a currency, by day, month or country, in the order of the keys. What nothing was sold for is left
    /// out. An order counts as it does in salesSummary.
    #[graphql(complexity = "list_cost(400, child_complexity)")]
    async fn sales_by(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is summed up into one.")] dimension: SalesDimension,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "The first day that counts; from the beginning by default.")] from: Option<Date>,
        #[graphql(desc = "The first day that no longer counts; to the end by default.")] to: Option<Date>,
    ) -> Result<Vec<Sales>, Failure> {
        let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::SalesDaily]).await?;
        let query = sqlx::query_as(dimension.sql()).bind(&currency).bind(from).bind(to);
        let rows: Vec<(String, Long, Long, i64)> = query.fetch_all(pool).await?;
        let sales =
            |(key, orders, units, revenue)| Sales { key, orders, units, revenue: Money::new(revenue, &currency) };
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
        let rows: Vec<(Sku, Option<String>, Long, i64)> = query.fetch_all(pool).await?;
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
    let (orders, lines, units, revenue): (Long, Long, Long, i64) = query.fetch_one(pool).await?;
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

/// What was sold on a day, in a month or to a country.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct Sales {
    /// The day as "2010-12-01", the month as "2010-12", or the country.
    key: String,
    /// How many orders.
    orders: Long,
    /// How many units.
    units: Long,
    /// For how much.
    revenue: Money,
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
    /// By the month in which the orders were placed, in UTC.
    Month,
    /// By the country to which the orders went.
    Country,
}

impl SalesDimension {
    fn sql(self) -> &'static str {
        match self {
            Self::Day => sales_by!("to_char(day, 'YYYY-MM-DD')"),
            Self::Month => sales_by!("to_char(day, 'YYYY-MM')"),
            Self::Country => sales_by!("country"),
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

// Keys are compared byte by byte, as every other program would, not as the database's locale does.
macro_rules! sales_by {
    ($key:literal) => {
        concat!(
            "select ",
            $key,
            " as key, sum(orders)::bigint, sum(units)::bigint, sum(revenue_minor)::bigint from read.sales_daily ",
            "where currency = $1 and ($2::date is null or day >= $2) and ($3::date is null or day < $3) ",
            "group by 1 having sum(orders) > 0 order by ",
            $key,
            " collate \"C\""
        )
    };
}
use sales_by;

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
