//! The read model `low_stock`: what should be ordered anew.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, Object, SimpleObject};
use sqlx::FromRow;

use crate::batch::Batch;
use crate::connection::{self, List, Listed, Page, page_cost};
use crate::error::Failure;
use crate::own_writes::ReadModel;
use crate::products::{self, Product};
use crate::scalars::{DateTime, Long, Sku};
use crate::sql::{Bind, Conditions, Key, Sort, Table};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written, each};

/// The low stocks of a query.
#[derive(Default)]
pub(crate) struct LowStockQuery;

#[Object]
impl LowStockQuery {
    /// The articles of which no more is available than their threshold says, a page at a time.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn low_stock(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "In which order.", default)] order_by: LowStockSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<LowStock>, Failure> {
        let page = Page { first, after, last, before };
        connection::list(ctx, order_by.sort(), Conditions::default(), page).await
    }
}

/// An article of which there is too little.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct LowStock {
    /// The article.
    sku: Sku,
    /// How many units can still be ordered.
    available: Long,
    /// At so many or fewer the stock is low.
    threshold: Long,
    /// Since when it is low.
    since: DateTime,
    #[graphql(skip)]
    #[sqlx(skip)]
    products: Arc<Batch<Sku, Product>>,
}

#[ComplexObject]
impl LowStock {
    /// The article with its name and price; null if the read model of products does not have it.
    async fn product(&self, ctx: &Context<'_>) -> Option<Result<&Product, Failure>> {
        self.its_product(ctx).await.transpose()
    }
}

impl LowStock {
    async fn its_product(&self, ctx: &Context<'_>) -> Result<Option<&Product>, Failure> {
        self.products.get(&self.sku, |skus| products::load(ctx, skus)).await
    }
}

impl Written for LowStock {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("sku", Plain(|row, json| json.put(&row.sku))),
        ("available", Plain(|row, json| json.put(&row.available))),
        ("threshold", Plain(|row, json| json.put(&row.threshold))),
        ("since", Plain(|row, json| json.put(&row.since))),
        (
            "product",
            Within(|selected| selected.one(Some(each!(its_product)), |row: &Self| row.products.loaded(&row.sku))),
        ),
    ];
}

impl Listed for LowStock {
    const TABLE: Table =
        Table { name: "read.low_stock", columns: "sku, available, threshold, since", id: &["sku"], owner: None };
    const MODELS: &'static [ReadModel] = &[ReadModel::LowStock];

    fn key(&self, sort: &Sort) -> Key {
        let value = match sort.column {
            Some("since") => Some(Bind::Time(self.since.0)),
            Some(_) => Some(Bind::Int(self.available.0)),
            None => None,
        };
        Key { value, id: vec![Bind::Text(self.sku.0.clone())] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let products = Arc::new(Batch::new(rows.iter().map(|low| low.sku.clone())));
        for low in rows {
            low.products = products.clone();
        }
    }
}

/// How low stocks are sorted. Equal ones are sorted by their SKU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum LowStockSort {
    /// By SKU.
    SkuAsc,
    /// By SKU, backwards.
    SkuDesc,
    /// The fewest available units first.
    #[default]
    AvailableAsc,
    /// The most available units first.
    AvailableDesc,
    /// Those first that have been low for longest.
    SinceAsc,
    /// Those first that ran low last.
    SinceDesc,
}

impl LowStockSort {
    fn sort(self) -> Sort {
        let (column, descending) = match self {
            Self::SkuAsc => (None, false),
            Self::SkuDesc => (None, true),
            Self::AvailableAsc => (Some("available"), false),
            Self::AvailableDesc => (Some("available"), true),
            Self::SinceAsc => (Some("since"), false),
            Self::SinceDesc => (Some("since"), true),
        };
        Sort { column, nullable: false, descending }
    }
}
