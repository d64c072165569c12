//! The read model `products`: the catalogue and the stock of an article in one row.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, SimpleObject};
use sqlx::FromRow;

use crate::connection::{self, List, Listed, Page, page_cost};
use crate::error::Failure;
use crate::money::Money;
use crate::node::NodeId;
use crate::orders::MoneyRange;
use crate::own_writes::{ReadModel, Reads};
use crate::permissions;
use crate::position::AsOf;
use crate::scalars::{Currency, DateTime, Long, Sku};
use crate::sql::{self, Bind, Conditions, Key, Sort, Table};
use crate::stock::{Movements, Stock};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written};

/// The products of a query.
#[derive(Default)]
pub(crate) struct ProductsQuery;

#[Object]
impl ProductsQuery {
    /// The product of a SKU; null if there is none.
    async fn product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's SKU.")] sku: Sku,
    ) -> Option<Result<Product, Failure>> {
        let found = load(ctx, std::slice::from_ref(&sku)).await;
        found.map(|mut products| products.remove(&sku)).transpose()
    }

    /// Products, a page at a time. To filter or to sort by how many are available needs what to read that needs.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which products; all of them by default.")] filter: Option<ProductFilter>,
        #[graphql(desc = "In which order.", default)] order_by: ProductSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<Product>, Failure> {
        let filter = filter.unwrap_or_default();
        if filter.asks_for_stock() || order_by.asks_for_stock() {
            permissions::demand(ctx, "Product", "available")?;
        }
        let conditions = filter.conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }
}

/// An article: what the catalogue says of it, and what is in stock.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Product {
    /// Its number.
    sku: Sku,
    /// Its name; null while the catalogue does not list it.
    name: Option<String>,
    /// What the catalogue says of it.
    description: Option<String>,
    /// Whether the catalogue offers it.
    status: ProductStatus,
    /// How many units are in the warehouse.
    on_hand: Long,
    /// How many of them are reserved for orders.
    reserved: Long,
    /// How many of them can still be ordered.
    available: Long,
    /// At so many available units or fewer the stock is low; null while nobody has said.
    threshold: Option<Long>,
    /// Whether it is low now. lowStock lists those that are.
    low: bool,
    /// When the catalogue's entry or the stock last changed.
    changed_at: DateTime,
    #[graphql(skip)]
    price_minor: Option<i64>,
    #[graphql(skip)]
    currency: Option<Currency>,
    #[graphql(skip)]
    #[sqlx(skip)]
    movements: Arc<Movements>,
}

#[ComplexObject]
impl Product {
    /// What tells it from everything else. It is opaque: the field node takes it, and nothing else.
    pub(crate) async fn node_id(&self) -> ID {
        NodeId::Product(self.sku.clone()).sealed()
    }

    /// What is in stock of it, and what has moved that.
    async fn stock(&self) -> Stock {
        self.its_stock()
    }

    /// What one unit costs today; null while the catalogue does not list it.
    async fn price(&self) -> Option<Money> {
        Some(Money::new(self.price_minor?, self.currency.as_ref()?))
    }

    /// Whether there is any that can be ordered now. How many there are is for the shop alone.
    async fn in_stock(&self) -> bool {
        self.available.0 > 0
    }
}

impl Product {
    fn its_stock(&self) -> Stock {
        Stock {
            on_hand: self.on_hand,
            reserved: self.reserved,
            available: self.available,
            threshold: self.threshold,
            low: self.low,
            sku: self.sku.clone(),
            siblings: self.movements.clone(),
        }
    }
}

impl Written for Product {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("sku", Plain(|row, json| json.put(&row.sku))),
        ("name", Plain(|row, json| json.put(&row.name))),
        ("description", Plain(|row, json| json.put(&row.description))),
        ("status", Plain(|row, json| json.name(row.status))),
        ("onHand", Plain(|row, json| json.put(&row.on_hand))),
        ("reserved", Plain(|row, json| json.put(&row.reserved))),
        ("available", Plain(|row, json| json.put(&row.available))),
        ("threshold", Plain(|row, json| json.put(&row.threshold))),
        ("low", Plain(|row, json| json.put(&row.low))),
        ("changedAt", Plain(|row, json| json.put(&row.changed_at))),
        ("nodeId", Plain(|row, json| json.put(&NodeId::Product(row.sku.clone()).sealed()))),
        ("inStock", Plain(|row, json| json.put(&(row.available.0 > 0)))),
        ("stock", Within(|selected| selected.made(|row: &Self| Some(row.its_stock())))),
        (
            "price",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.price_minor?, row.currency.as_ref()?)))),
        ),
    ];
}

impl Listed for Product {
    const TABLE: Table = Table {
        name: "read.products",
        columns: "sku, name, description, price_minor, currency, status, on_hand, reserved, available, threshold, low, \
                  changed_at",
        id: &["sku"],
        owner: None,
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::Products];

    fn key(&self, sort: &Sort) -> Key {
        let value = match sort.column {
            Some("name") => Some(self.name.clone().map_or(Bind::Null, Bind::Text)),
            Some("price_minor") => Some(self.price_minor.map_or(Bind::Null, Bind::Int)),
            Some(_) => Some(Bind::Int(self.available.0)),
            None => None,
        };
        Key { value, id: vec![Bind::Text(self.sku.0.clone())] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let movements = Arc::new(Movements::new(rows.iter().map(|product| product.sku.clone())));
        for product in rows {
            product.movements = movements.clone();
        }
    }
}

/// Whether a product can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum ProductStatus {
    /// The catalogue offers it.
    Listed,
    /// The catalogue offered it once.
    Discontinued,
    /// There is stock of it, but no entry in the catalogue.
    Unlisted,
}

impl ProductStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Discontinued => "discontinued",
            Self::Unlisted => "unlisted",
        }
    }
}

/// Products that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct ProductFilter {
    /// In one of these states.
    status: Option<Vec<ProductStatus>>,
    /// With a SKU that begins so.
    sku_prefix: Option<String>,
    /// With a name that begins so, in upper or lower case.
    name_prefix: Option<String>,
    /// With a name that contains this, in upper or lower case.
    search: Option<String>,
    /// With so many units to be ordered.
    available: Option<LongRange>,
    /// Of which there is any that can be ordered now, or is not.
    in_stock: Option<bool>,
    /// With a price in this range.
    price: Option<MoneyRange>,
    /// That fulfil all of these besides.
    and: Option<Vec<ProductFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<ProductFilter>>,
    /// That do not fulfil this.
    not: Option<Box<ProductFilter>>,
}

impl ProductFilter {
    /// Whether the answer would tell how much is in stock.
    fn asks_for_stock(&self) -> bool {
        let lists = self.and.iter().chain(&self.or).flatten();
        self.available.is_some() || lists.chain(self.not.as_deref()).any(Self::asks_for_stock)
    }

    fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        let available = self.available.unwrap_or_default();
        // starts_with and strpos take their argument as it is; like would read its "%" and "_" as wildcards.
        let conditions = Conditions::default()
            .combined(and, or, not)
            .and("status = any(?)", self.status.map(|all| Bind::names(all, ProductStatus::name)))
            .and("starts_with(sku, ?)", self.sku_prefix.map(Bind::Text))
            .and("starts_with(lower(name), lower(?))", self.name_prefix.map(Bind::Text))
            .and("strpos(lower(name), lower(?)) > 0", self.search.map(Bind::Text))
            .and("(available > 0) = ?", self.in_stock.map(Bind::Bool))
            .and("available >= ?", available.min.map(|units| Bind::Int(units.0)))
            .and("available <= ?", available.max.map(|units| Bind::Int(units.0)));
        match self.price {
            None => conditions,
            Some(MoneyRange { currency, min_minor, max_minor }) => conditions
                .and("currency = ?", Some(Bind::Text(currency.0)))
                .and("price_minor >= ?", min_minor.map(|minor| Bind::Int(minor.0)))
                .and("price_minor <= ?", max_minor.map(|minor| Bind::Int(minor.0))),
        }
    }
}

/// A range of whole numbers, both ends included.
#[derive(Debug, Default, InputObject)]
pub(crate) struct LongRange {
    /// At least this.
    min: Option<Long>,
    /// At most this.
    max: Option<Long>,
}

/// How products are sorted. Equal ones are sorted by their SKU; a missing name or price counts as the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum ProductSort {
    /// By SKU.
    #[default]
    SkuAsc,
    /// By SKU, backwards.
    SkuDesc,
    /// By name; those without one come last.
    NameAsc,
    /// By name, backwards; those without one come first.
    NameDesc,
    /// The fewest available units first.
    AvailableAsc,
    /// The most available units first.
    AvailableDesc,
    /// The lowest price first, whatever its currency; those without one come last.
    PriceAsc,
    /// The highest price first, whatever its currency; those without one come before all.
    PriceDesc,
}

impl ProductSort {
    /// Whether the answer would tell how much is in stock.
    fn asks_for_stock(self) -> bool {
        matches!(self, Self::AvailableAsc | Self::AvailableDesc)
    }

    fn sort(self) -> Sort {
        let (column, nullable, descending) = match self {
            Self::SkuAsc => (None, false, false),
            Self::SkuDesc => (None, false, true),
            Self::NameAsc => (Some("name"), true, false),
            Self::NameDesc => (Some("name"), true, true),
            Self::AvailableAsc => (Some("available"), false, false),
            Self::AvailableDesc => (Some("available"), false, true),
            Self::PriceAsc => (Some("price_minor"), true, false),
            Self::PriceDesc => (Some("price_minor"), true, true),
        };
        Sort { column, nullable, descending }
    }
}

/// The products of these SKUs, as far as there are any.
pub(crate) async fn load(ctx: &Context<'_>, skus: &[Sku]) -> Result<HashMap<Sku, Product>, Failure> {
    load_those(ctx.data_unchecked::<Arc<Reads>>(), skus).await
}

/// The same, for who has no context of a field.
pub(crate) async fn load_those(reads: &Reads, skus: &[Sku]) -> Result<HashMap<Sku, Product>, Failure> {
    let pool = reads.of(&[ReadModel::Products]).await?;
    let skus = Bind::Texts(skus.iter().map(|sku| sku.0.clone()).collect());
    let conditions = Conditions::default().and("sku = any(?)", Some(skus));
    let mut rows: Vec<Product> = sql::select(pool, &reads.view().rows(Product::TABLE, conditions)).await?;
    Product::make_siblings(rows.iter_mut().collect());
    Ok(rows.into_iter().map(|product| (product.sku.clone(), product)).collect())
}

/// A product as a fold of the past has it.
pub(crate) async fn of_the_past(reads: &Reads, fold: &AsOf) -> Result<Option<Product>, Failure> {
    let mut product: Option<Product> =
        sql::of_json(reads.control(), &Product::TABLE, &fold.rows("products")).await?.pop();
    Product::make_siblings(product.iter_mut().collect());
    Ok(product)
}
