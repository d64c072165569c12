//! The composition root: what a process works with, opened once and closed in order.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use event_store::{EventStore, KurrentEventStore, MemoryEventStore, PostgresEventStore};
use projections::runtime;
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use write_side::{Executor, Registry, process, registry};

use crate::config::{self, Config};
use crate::postgres::PrivatePostgres;

/// How long a start waits for a database that is not there yet.
const CONNECT: Duration = Duration::from_secs(10);

/// How long what panicked rests.
const RESTART: Duration = Duration::from_secs(5);

/// What a process works with.
pub(crate) struct Shop {
    /// The log.
    pub(crate) store: Arc<dyn EventStore>,
    /// The database of the read models, for reading.
    pub(crate) read_pool: PgPool,
    /// What projectors and rebuilds work with.
    pub(crate) projections: runtime::Context,
    /// Executes commands against the log. One for all of this process, so that its commands know of each other.
    executor: Executor,
    /// The private Postgres, where no other is configured.
    postgres: Option<PrivatePostgres>,
}

impl Shop {
    /// Opens the databases and brings their schemas up to date. With no database configured it starts a private one.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let postgres = match &config.database_url {
            Some(_) => None,
            None => Some(PrivatePostgres::start(&config.data_dir, config.postgres_bin_dir.as_deref()).await?),
        };
        let opened = Self::connect(config, postgres.as_ref()).await;
        match opened {
            Ok((store, read_pool, projections)) => {
                let executor = Executor::new(store.clone());
                Ok(Self { store, read_pool, projections, executor, postgres })
            }
            Err(error) => {
                if let Some(postgres) = postgres {
                    postgres.stop().await?;
                }
                Err(error)
            }
        }
    }

    async fn connect(
        config: &Config,
        postgres: Option<&PrivatePostgres>,
    ) -> anyhow::Result<(Arc<dyn EventStore>, PgPool, runtime::Context)> {
        let url = match (&config.database_url, postgres) {
            (Some(url), _) => url.expose_secret().to_owned(),
            (None, Some(postgres)) => postgres.url(),
            (None, None) => bail!("no database is configured"),
        };
        let options = PgConnectOptions::from_str(&url).context("DATABASE_URL is not a postgres:// URL")?;
        let unreachable = "the database cannot be reached; check DATABASE_URL, or leave it out to have a private one";
        answers(&options).await.context(unreachable)?;
        let pools = async {
            let limited = options.clone().application_name("storefold").options([("statement_timeout", "30s")]);
            let read_pool = PgPoolOptions::new()
                .max_connections(16)
                .acquire_timeout(CONNECT)
                .test_before_acquire(false)
                .connect_with(limited)
                .await?;
            Ok::<_, sqlx::Error>((read_pool, runtime::pool(&options).await?))
        };
        let (read_pool, projection_pool) = pools.await.context(unreachable)?;
        runtime::migrate(&projection_pool)
            .await
            .context("the schema of the read models cannot be brought up to date")?;
        process::migrator()
            .run(&projection_pool)
            .await
            .context("the schema of the processes cannot be brought up to date")?;
        let store = open_log(config, &options).await?;
        let projections =
            runtime::Context { store: store.clone(), pool: projection_pool, moved: watch::Sender::new(()) };
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
        let Self { store, read_pool, projections, executor, postgres } = self;
        drop((store, executor));
        read_pool.close().await;
        projections.pool.close().await;
        drop(projections);
        match postgres {
            Some(postgres) => Ok(postgres.stop().await?),
            None => Ok(()),
        }
    }
}

/// Waits until a database answers, and says why it does not: a pool would only say that it timed out.
async fn answers(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let give_up = Instant::now() + CONNECT;
    loop {
        let connected = tokio::time::timeout_at(give_up, options.connect()).await;
        match connected.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
            Ok(connection) => return connection.close().await,
            // A server that starts refuses connections, or says so; anything else will not get better.
            Err(error) if Instant::now() >= give_up || !may_pass(&error) => return Err(error),
            Err(error) => tracing::info!(%error, "the database does not answer yet; waiting"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(answer) => answer.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
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

/// Opens the log that the configuration names.
async fn open_log(config: &Config, database: &PgConnectOptions) -> anyhow::Result<Arc<dyn EventStore>> {
    let options = match &config.event_store {
        config::EventStore::Postgres(None) => database.clone(),
        config::EventStore::Postgres(Some(url)) => PgConnectOptions::from_str(url.expose_secret())?,
        config::EventStore::Kurrent(url) => {
            let opened = KurrentEventStore::connect(url.expose_secret()).await;
            return Ok(opened.context("the log cannot be reached; check EVENT_STORE_URL")?);
        }
        config::EventStore::Memory => {
            tracing::warn!("the log is in memory: everything is gone when this process ends");
            return Ok(Arc::new(MemoryEventStore::new()));
        }
    };
    answers(&options).await.context("the log's database cannot be reached; check EVENT_STORE_URL")?;
    let options = options.application_name("storefold log reader");
    let pool = PgPoolOptions::new().max_connections(24).acquire_timeout(CONNECT).test_before_acquire(false);
    let pool = pool.connect_with(options).await.context("the log's database cannot be reached")?;
    PostgresEventStore::migrate(&pool).await.context("the schema of the log cannot be brought up to date")?;
    Ok(PostgresEventStore::open(pool).await.context("the log cannot be read")?)
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
}
