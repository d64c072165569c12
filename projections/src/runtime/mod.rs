//! What runs a read model: it reads the log, loads the rows that a batch touches, folds in memory, and writes each
//! changed row once, with the checkpoint, in one transaction.

mod batch;
mod contiguity;
mod fold_log;
pub mod followed;
mod generations;
mod leases;
mod load;
mod log_event;
mod parking;
mod projector;
mod rebuild;
#[doc(hidden)]
pub mod sql;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;
use event_store::{EventStore, Position};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::watch;
use uuid::Uuid;

use crate::read_model::ReadModel;
use crate::rows::Tables as _;
use crate::{
    checkouts, customers, low_stock, orders, payments_ledger, product_sales, products, sales_daily, stock_movements,
};

pub use batch::ProjectionError;
pub use generations::{Generation, Standing, State, generations, standings};
pub use leases::Leases;
pub use parking::{Parked, Redriven, parked};
pub use rebuild::{Phase, Progress, Rebuilt, Until};
pub use verify::{Column, Comparison, Difference, Extent, MOST_DIFFERENCES, Verified};

/// Every read model there is: a new one is registered by a line in here.
pub fn read_models() -> Vec<Arc<dyn Projector>> {
    vec![
        runs::<orders::Orders>(),
        runs::<products::Products>(),
        runs::<stock_movements::StockMovements>(),
        runs::<customers::Customers>(),
        runs::<sales_daily::SalesDaily>(),
        runs::<product_sales::ProductSales>(),
        runs::<payments_ledger::PaymentsLedger>(),
        runs::<checkouts::Checkouts>(),
        runs::<low_stock::LowStock>(),
    ]
}

/// What a projector works with.
#[derive(Clone)]
pub struct Context {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The database of the read models; see [`pool`].
    pub pool: PgPool,
    /// Says in this process that a checkpoint has moved.
    pub moved: watch::Sender<()>,
    /// Which projectors this process leads.
    pub leases: Arc<Leases>,
    /// How many bytes of memory the rows of a rebuild or a verification may take, about; more are kept in a file.
    pub memory: usize,
    tails: tail::Tails,
}

impl Context {
    /// The memory of a rebuild when nobody says otherwise: 1 GiB.
    pub const MEMORY: usize = 1 << 30;

    /// What projectors and rebuilds of one process work with.
    pub fn new(store: Arc<dyn EventStore>, pool: PgPool) -> Self {
        let leases = Arc::new(Leases::new(&pool.connect_options()));
        Self { store, pool, moved: watch::Sender::new(()), leases, memory: Self::MEMORY, tails: tail::Tails::default() }
    }

    /// The same, with other room for the rows of a rebuild or a verification, in bytes.
    #[must_use]
    pub fn with_memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }
}

/// A pool for projectors. Their commits do not wait for the disk: a crash loses rows and checkpoint together, and the
/// log has everything that was lost.
///
/// # Errors
/// When the database cannot be reached.
pub async fn pool(options: &PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    let options = options.clone().application_name("storefold projections").options([
        ("synchronous_commit", "off"),
        // A process that is frozen in the middle of a batch must not keep the others from taking over.
        ("idle_in_transaction_session_timeout", "8s"),
        ("client_connection_check_interval", "5s"),
    ]);
    PgPoolOptions::new().max_connections(16).test_before_acquire(false).connect_with(options).await
}

/// The migrations of the runtime's own tables. They keep their own book, so that they can live beside others in one
/// database.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/control");
    migrator.dangerous_set_table_name("_storefold_control_migrations");
    migrator
}

/// Brings the runtime's tables up to date and makes sure that each read model has a live generation for readers to see.
/// Safe to call from several processes at once.
///
/// # Errors
/// When the database refuses, or was migrated by a newer release.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrator().run(pool).await?;
    for model in read_models() {
        model.prepare(pool).await?;
    }
    Ok(())
}

/// A read model, ready to run. Implemented for every [`ReadModel`].
#[async_trait]
pub trait Projector: Send + Sync {
    /// The read model's name.
    fn name(&self) -> &'static str;
    /// The version of its code.
    fn version(&self) -> i32;
    /// The names of its tables, which are those of its views in the schema `read`.
    fn tables(&self) -> Vec<&'static str>;
    /// The categories of the streams whose events it takes.
    fn categories(&self) -> &'static [&'static str];
    /// The script that adds the keys and indexes to its tables.
    fn keys(&self) -> &'static str;
    /// Makes an empty first generation when there is none.
    async fn prepare(&self, pool: &PgPool) -> Result<(), sqlx::Error>;
    /// Follows the log until `stop` says so. A read model whose tables are of another version is built anew first. What
    /// goes wrong is logged, noted in the database, and tried again.
    async fn run(&self, context: Context, stop: watch::Receiver<bool>);
    /// Folds the log into a shadow of the tables, catches up, and switches readers over, all while they read.
    ///
    /// # Errors
    /// [`ProjectionError`]; what readers see is as it was.
    async fn rebuild(
        &self,
        context: &Context,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Rebuilt, ProjectionError>;
    /// Waits until the live generation has folded what stands at `position`.
    ///
    /// # Errors
    /// When its projector stands still, or the database cannot be read.
    async fn reached(&self, context: &Context, position: Position) -> Result<(), ProjectionError>;
    /// Holds what readers see against a second, plain fold of the log. `progress` is told how far it is: how many events were
    /// folded, or how many rows compared.
    ///
    /// # Errors
    /// [`ProjectionError`], when there is nothing to compare.
    async fn verify(
        &self,
        context: &Context,
        extent: Extent,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Verified, ProjectionError>;
    /// Folds the rows of one key anew and writes them over what readers see. Answers what they differed in.
    ///
    /// # Errors
    /// [`ProjectionError::NotByKey`], or that the database or the log failed; what readers see is as it was.
    async fn repair(&self, context: &Context, key: &str) -> Result<Verified, ProjectionError>;
    /// Goes back to what was live before, which is folded up to where readers are now, and switches them over.
    ///
    /// # Errors
    /// [`ProjectionError::NothingToGoBackTo`], or as a rebuild; what readers see is as it was.
    async fn roll_back(&self, context: &Context) -> Result<Generation, ProjectionError>;
    /// Folds the log up to a point into tables of their own, in a new schema that nothing follows: a copy as of then.
    ///
    /// # Errors
    /// [`ProjectionError`]; there is no such schema then, or it was there before.
    async fn copy_as_of(
        &self,
        context: &Context,
        until: Until,
        schema: &str,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Rebuilt, ProjectionError>;
    /// Folds what is parked of a key, in order, as far as it can be folded now.
    ///
    /// # Errors
    /// [`ProjectionError`]; what is parked is as it was.
    async fn redrive(&self, context: &Context, key: &str) -> Result<Redriven, ProjectionError>;
    /// Leaves an event out that cannot be folded, for a reason that is put on record, and folds what waited behind it.
    ///
    /// # Errors
    /// [`ProjectionError::NotParked`], or that the database or the log failed.
    async fn skip(&self, context: &Context, event: Uuid, reason: &str) -> Result<Redriven, ProjectionError>;
}

/// A read model as a [`Projector`].
struct Runs<M>(std::marker::PhantomData<fn() -> M>);

/// What runs a read model.
pub fn runs<M: ReadModel>() -> Arc<dyn Projector> {
    Arc::new(Runs::<M>(std::marker::PhantomData))
}

#[async_trait]
impl<M: ReadModel> Projector for Runs<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn version(&self) -> i32 {
        M::VERSION
    }

    fn tables(&self) -> Vec<&'static str> {
        M::Tables::names()
    }

    fn categories(&self) -> &'static [&'static str] {
        M::CATEGORIES
    }

    fn keys(&self) -> &'static str {
        M::KEYS_SQL
    }

    async fn prepare(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        generations::prepare::<M>(pool).await
    }

    async fn run(&self, context: Context, stop: watch::Receiver<bool>) {
        projector::run::<M>(context, stop).await;
    }

    async fn rebuild(
        &self,
        context: &Context,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Rebuilt, ProjectionError> {
        rebuild::rebuild::<M>(context, progress).await
    }

    async fn reached(&self, context: &Context, position: Position) -> Result<(), ProjectionError> {
        projector::reached(context, M::NAME, position).await
    }

    async fn verify(
        &self,
        context: &Context,
        extent: Extent,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Verified, ProjectionError> {
        verify::verify::<M>(context, extent, progress).await
    }

    async fn repair(&self, context: &Context, key: &str) -> Result<Verified, ProjectionError> {
        verify::repair::<M>(context, key).await
    }

    async fn roll_back(&self, context: &Context) -> Result<Generation, ProjectionError> {
        rebuild::roll_back::<M>(context).await
    }

    async fn copy_as_of(
        &self,
        context: &Context,
        until: Until,
        schema: &str,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Rebuilt, ProjectionError> {
        rebuild::copy_as_of::<M>(context, until, schema, progress).await
    }

    async fn redrive(&self, context: &Context, key: &str) -> Result<Redriven, ProjectionError> {
        parking::redrive::<M>(context, key).await
    }

    async fn skip(&self, context: &Context, event: Uuid, reason: &str) -> Result<Redriven, ProjectionError> {
        parking::skip::<M>(context, event, reason).await
    }
}
