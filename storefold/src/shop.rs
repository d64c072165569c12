//! The composition root: what a process works with, opened once and closed in order.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use event_store::EventStore;
use projections::runtime;
use projections::runtime::followed::{self, Landmark};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use write_side::snapshots::{self, Snapshots};
use write_side::{Executor, Registry, process, registry};

use crate::config::Config;
use crate::history;
use crate::logs::{self, Database};

/// How often it is looked whether there is something in a new log, at most.
const NOTE: Duration = Duration::from_millis(200);

/// How long a query waits for a connection to the replica, before it turns to the database itself.
const REPLICA: Duration = Duration::from_secs(1);

/// How long what panicked rests.
const RESTART: Duration = Duration::from_secs(5);

/// What a process works with.
pub(crate) struct Shop {
    /// The log.
    pub(crate) store: Arc<dyn EventStore>,
    /// The database of the read models, for reading.
    pub(crate) read_pool: PgPool,
    /// A replica of it, if one is configured.
    pub(crate) replica: Option<PgPool>,
    /// What projectors and rebuilds work with.
    pub(crate) projections: runtime::Context,
    /// Executes commands against the log. One for all of this process, so that its commands know of each other.
    executor: Executor,
    database: Database,
}

impl Shop {
    /// Opens the databases and brings their schemas up to date. With no database configured it starts a private one.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let replica = config.read_database_url.as_ref().map(replica).transpose()?;
        let database = Database::open(config).await?;
        match Self::connect(config, &database.options).await {
            Ok((store, read_pool, projections)) => {
                let snapshots = Snapshots::new(projections.pool.clone());
                let executor = Executor::new(store.clone()).with_cache(config.cache_bytes).with_snapshots(snapshots);
                Ok(Self { store, read_pool, replica, projections, executor, database })
            }
            Err(error) => {
                database.close().await?;
                Err(error)
            }
        }
    }

    async fn connect(
        config: &Config,
        options: &PgConnectOptions,
    ) -> anyhow::Result<(Arc<dyn EventStore>, PgPool, runtime::Context)> {
        let pools = async {
            let read_pool = queries().acquire_timeout(logs::CONNECT).connect_with(limited(options)).await?;
            Ok::<_, sqlx::Error>((read_pool, runtime::pool(options).await?))
        };
        let (read_pool, projection_pool) = pools.await.context(logs::UNREACHABLE)?;
        prepare(&projection_pool).await?;
        let store = logs::open(&config.event_store, Some(options)).await?;
        followed::check(&*store, &projection_pool).await?;
        let projections = runtime::Context::new(store.clone(), projection_pool);
        Ok((store, read_pool, projections))
    }

    /// Executes commands against the log.
    pub(crate) fn executor(&self) -> Executor {
        self.executor.clone()
    }

    /// Every aggregate.
    pub(crate) fn registry(&self) -> Registry {
        registry()
    }

    /// Starts every projector. They end when `stop` says so.
    pub(crate) fn project(&self, stop: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut projectors = JoinSet::new();
        projectors.spawn(note_the_log(self.projections.clone(), stop.clone()));
        for model in projections::read_models() {
            let (context, stop) = (self.projections.clone(), stop.clone());
            let name = model.name();
            projectors.spawn(supervise(name, stop.clone(), move || {
                let (model, context, stop) = (model.clone(), context.clone(), stop.clone());
                async move { model.run(context, stop).await }
            }));
        }
        projectors
    }

    /// Closes everything, the private Postgres last.
    ///
    /// # Errors
    /// When the private Postgres does not stop.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let Self { store, read_pool, replica, projections, executor, database } = self;
        // If this was the first time that there was something in it.
        if matches!(Landmark::followed(&projections.pool).await, Ok(None))
            && let Err(error) = followed::check(&*store, &projections.pool).await
        {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "which log was followed is not noted");
        }
        drop((store, executor));
        read_pool.close().await;
        if let Some(replica) = replica {
            replica.close().await;
        }
        projections.pool.close().await;
        drop(projections);
        database.close().await
    }
}

/// What answers queries.
fn queries() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(16).test_before_acquire(false)
}

fn limited(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().application_name("storefold").options([("statement_timeout", "30s")])
}

/// A replica, which is connected to when it is first asked: a shop opens without it as well.
fn replica(url: &SecretString) -> anyhow::Result<PgPool> {
    let options =
        PgConnectOptions::from_str(url.expose_secret()).context("read_database_url is not a postgres:// URL")?;
    Ok(queries().acquire_timeout(REPLICA).connect_lazy_with(limited(&options)))
}

/// Notes which log is followed as soon as there is something in it.
async fn note_the_log(context: runtime::Context, mut stop: watch::Receiver<bool>) {
    let noted = async {
        while !matches!(Landmark::followed(&context.pool).await, Ok(Some(_))) {
            if let Err(error) = followed::check(&*context.store, &context.pool).await {
                tracing::debug!(%error, "which log is followed could not be noted; trying again");
            }
            context.store.changed(None).await;
            // A log that has something in it says so at once, also when the database does not take the note.
            tokio::time::sleep(NOTE).await;
        }
    };
    tokio::select! {
        () = noted => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Brings the schemas of the read models, of the processes and of the snapshots up to date.
///
/// # Errors
/// When the database refuses, or was migrated by a newer release.
pub(crate) async fn prepare(pool: &PgPool) -> anyhow::Result<()> {
    runtime::migrate(pool).await.context("the schema of the read models cannot be brought up to date")?;
    process::migrator().run(pool).await.context("the schema of the processes cannot be brought up to date")?;
    snapshots::migrator().run(pool).await.context("the schema of the snapshots cannot be brought up to date")
}

/// Runs something that ends when `stop` says so, and runs it again should it panic: a fault in one of them is no reason to
/// stop it unseen.
pub(crate) async fn supervise<F>(name: &'static str, mut stop: watch::Receiver<bool>, run: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // Aborted with the task that waits for it.
    let mut running = JoinSet::new();
    loop {
        running.spawn(run());
        let Some(Err(error)) = running.join_next().await else { return };
        tracing::error!(name, %error, "it panicked; running it again");
        if tokio::time::timeout(RESTART, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// The log's head, as the read API asks for it.
pub(crate) struct Head(pub(crate) Arc<dyn EventStore>);

#[async_trait]
impl read_api::LogHead for Head {
    async fn head(&self) -> Result<Option<read_api::Position>, read_api::LogError> {
        let head = self.0.head().await?;
        Ok(head.map(|event_store::Position { commit, prepare }| read_api::Position { commit, prepare }))
    }

    async fn events_between(&self, from: Option<read_api::Position>, to: Option<read_api::Position>) -> Option<u64> {
        let position = |read_api::Position { commit, prepare }| event_store::Position { commit, prepare };
        self.0.events_between(from.map(position), to.map(position))
    }

    async fn keys_between(
        &self,
        read_model: &str,
        from: Option<read_api::Position>,
        to: read_api::Position,
        most: usize,
    ) -> Result<Option<BTreeSet<String>>, read_api::LogError> {
        history::keys_between(&*self.0, read_model, from, to, most).await
    }
}
