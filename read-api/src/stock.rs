//! The stock of an article, and the read model `stock_movements`: what has moved it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::{ComplexObject, Context, Enum, ID, SimpleObject};
use sqlx::FromRow;

use crate::batch::{Batch, grouped};
use crate::connection::{self, List, Listed, Page, Slice, Total, page_cost};
use crate::error::Failure;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{DateTime, Long, Sku, Uuid};
use crate::sql::{self, Bind, Conditions, Key, Sort, Table, Window};
use crate::written::Write::Plain;
use crate::written::{Write, Written};

/// The stock of an article.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Stock {
    /// How many units are in the warehouse.
    pub(crate) on_hand: Long,
    /// How many of them are reserved for orders.
    pub(crate) reserved: Long,
    /// How many of them can still be ordered.
    pub(crate) available: Long,
    /// At so many available units or fewer the stock is low; null while nobody has said.
    pub(crate) threshold: Option<Long>,
    /// Whether it is low now.
    pub(crate) low: bool,
    #[graphql(skip)]
    pub(crate) sku: Sku,
    #[graphql(skip)]
    pub(crate) siblings: Arc<Movements>,
}

#[ComplexObject]
impl Stock {
    /// What has moved it, and what it could not give, a page at a time.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn movements(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "In which order.", default)] order_by: StockMovementSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<StockMovement>, Failure> {
        let (page, sort) = (Page { first, after, last, before }, order_by.sort());
        let conditions = Conditions::default().and("sku = ?", Some(Bind::Text(self.sku.0.clone())));
        // A cursor belongs to one article, so there is nothing to load for the others.
        if page.after.is_some() || page.before.is_some() {
            return connection::list(ctx, sort, conditions, page).await;
        }
        let view = ctx.data_unchecked::<Arc<Reads>>().view();
        let scope = connection::scope(ctx, &sort, &view.rows(StockMovement::TABLE, conditions))?;
        let window = page.window(&scope)?;
        let first_pages = self.siblings.first_pages(sort, &window);
        let slice = first_pages.get(&self.sku, |skus| load(ctx, skus, sort, &window)).await?.cloned();
        let slice = slice.unwrap_or_else(|| Slice::cut(Vec::new(), &window));
        let (reads, siblings, sku) =
            (ctx.data_unchecked::<Arc<Reads>>().clone(), self.siblings.clone(), self.sku.clone());
        let total = Total::new(move || {
            let (reads, siblings, sku) = (reads.clone(), siblings.clone(), sku.clone());
            Box::pin(async move {
                let count = siblings.counts.get(&sku, |skus| load_counts(&reads, skus)).await?;
                Ok(count.copied().unwrap_or(0))
            })
        });
        Ok(slice.connection(sort, &window, scope, total))
    }
}

/// What the stocks that were read together load together.
#[derive(Debug, Default)]
pub(crate) struct Movements {
    skus: Vec<Sku>,
    counts: Batch<Sku, i64>,
    /// The first pages, by what tells one such list from another: its sort, direction and size.
    pages: Mutex<HashMap<(Sort, bool, i64), FirstPages>>,
}

type FirstPages = Arc<Batch<Sku, Slice<StockMovement>>>;

impl Movements {
    pub(crate) fn new(skus: impl Iterator<Item = Sku>) -> Self {
        let skus: Vec<Sku> = skus.collect();
        Self { counts: Batch::new(skus.iter().cloned()), pages: Mutex::default(), skus }
    }

    fn first_pages(&self, sort: Sort, window: &Window) -> FirstPages {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = pages.entry((sort, window.backward, window.rows));
        batch.or_insert_with(|| Arc::new(Batch::new(self.skus.iter().cloned()))).clone()
    }
}

impl Written for Stock {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("onHand", Plain(|row, json| json.put(&row.on_hand))),
        ("reserved", Plain(|row, json| json.put(&row.reserved))),
        ("available", Plain(|row, json| json.put(&row.available))),
        ("threshold", Plain(|row, json| json.put(&row.threshold))),
        ("low", Plain(|row, json| json.put(&row.low))),
    ];
}

/// Something that moved the stock of an article, or that it could not give.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct StockMovement {
    /// Its number within the article, from 1, in the order of the log.
    movement_no: i32,
    /// When it was put on record.
    at: DateTime,
    /// What happened.
    what: StockMovementKind,
    /// How many units it is about. When the books were put right: how many more there are than they said, negative if
    /// there are fewer.
    quantity: Long,
    /// How many units were in the warehouse afterwards.
    on_hand: Long,
    /// How many of them could still be ordered afterwards.
    available: Long,
    /// The order that it was for; null if it was for none.
    order_id: Option<Uuid>,
    /// Why the books were off; null if they were not put right.
    reason: Option<String>,
    // For the shop's own people: who did it is nobody else's business.
    /// Who did it: whom the token of the request names, or what the shop did by itself, such as "process checkout"; null
    /// where nobody said. For the shop's own people.
    actor: Option<String>,
    /// What it has in common with everything that the same request set in motion; null if that is not known.
    correlation_id: Option<Uuid>,
    /// The id of the command or event that led to it; null if that is not known.
    causation_id: Option<Uuid>,
    #[graphql(skip)]
    sku: Sku,
}

#[ComplexObject]
impl StockMovement {
    /// What tells it from all other movements.
    async fn id(&self) -> ID {
        self.name()
    }
}

impl StockMovement {
    fn name(&self) -> ID {
        format!("{}/{}", self.sku.0, self.movement_no).into()
    }
}

impl Written for StockMovement {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("movementNo", Plain(|row, json| json.put(&row.movement_no))),
        ("at", Plain(|row, json| json.put(&row.at))),
        ("what", Plain(|row, json| json.name(row.what))),
        ("quantity", Plain(|row, json| json.put(&row.quantity))),
        ("onHand", Plain(|row, json| json.put(&row.on_hand))),
        ("available", Plain(|row, json| json.put(&row.available))),
        ("orderId", Plain(|row, json| json.put(&row.order_id))),
        ("reason", Plain(|row, json| json.put(&row.reason))),
        ("actor", Plain(|row, json| json.put(&row.actor))),
        ("correlationId", Plain(|row, json| json.put(&row.correlation_id))),
        ("causationId", Plain(|row, json| json.put(&row.causation_id))),
        ("id", Plain(|row, json| json.put(&row.name()))),
    ];
}

impl Listed for StockMovement {
    const TABLE: Table = Table {
        name: "read.stock_movements",
        columns: "sku, movement_no, at, what, quantity, on_hand, available, order_id, reason, actor, correlation_id, \
                  causation_id",
        id: &["sku", "movement_no"],
        owner: None,
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::StockMovements];

    fn key(&self, _: &Sort) -> Key {
        Key { value: None, id: vec![Bind::Text(self.sku.0.clone()), Bind::Int(i64::from(self.movement_no))] }
    }
}

/// A kind of movement of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum StockMovementKind {
    /// Units came in.
    Received,
    /// A count put the books right.
    Adjusted,
    /// Units were set aside for an order.
    Reserved,
    /// An order asked for more than was available, and got nothing.
    Declined,
    /// A reservation was given up.
    Released,
    /// Reserved units left the house.
    Shipped,
}

/// How the movements of a stock are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum StockMovementSort {
    /// The first one first.
    NumberAsc,
    /// The last one first.
    #[default]
    NumberDesc,
}

impl StockMovementSort {
    fn sort(self) -> Sort {
        Sort { column: None, nullable: false, descending: self == Self::NumberDesc }
    }
}

async fn load(
    ctx: &Context<'_>,
    skus: &[Sku],
    sort: Sort,
    window: &Window,
) -> Result<HashMap<Sku, Slice<StockMovement>>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>();
    let pool = reads.of(StockMovement::MODELS).await?;
    let skus = Bind::Texts(skus.iter().map(|sku| sku.0.clone()).collect());
    let visible = reads.view().rows(StockMovement::TABLE, Conditions::default());
    let rows: Vec<StockMovement> = sql::page_of_each(pool, &visible, &sort, "sku", skus, window).await?;
    let pages = grouped(rows.into_iter().map(|movement| (movement.sku.clone(), movement))).into_iter();
    Ok(pages.map(|(sku, rows)| (sku, Slice::cut(rows, window))).collect())
}

async fn load_counts(reads: &Reads, skus: &[Sku]) -> Result<HashMap<Sku, i64>, Failure> {
    let pool = reads.of(StockMovement::MODELS).await?;
    let sql = "select sku, count(*) from read.stock_movements where sku = any($1) group by sku";
    let rows: Vec<(Sku, i64)> = pool.all(sqlx::query_as(sql).bind(skus)).await?;
    Ok(rows.into_iter().collect())
}
