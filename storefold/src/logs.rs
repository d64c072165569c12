//! The logs that there are, and how each is opened.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use event_store::{EventStore, KurrentEventStore, MemoryEventStore, PostgresEventStore};
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;

use crate::config;
use crate::postgres::PrivatePostgres;

/// How long a start waits for a database that is not there yet.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// The database that is configured, or a private one.
pub(crate) struct Database {
    /// How to connect to it.
    pub(crate) options: PgConnectOptions,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Waits until the configured database answers; with none configured it starts a private one.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) async fn open(config: &config::Config) -> anyhow::Result<Self> {
        let private = match &config.database_url {
            Some(_) => None,
            None => Some(PrivatePostgres::start(&config.data_dir, config.postgres_bin_dir.as_deref()).await?),
        };
        let url = match (&config.database_url, &private) {
            (Some(url), _) => url.expose_secret().to_owned(),
            (None, private) => private.as_ref().map(PrivatePostgres::url).unwrap_or_default(),
        };
        let options = PgConnectOptions::from_str(&url).context("DATABASE_URL is not a postgres:// URL");
        let answered = async {
            let options = options?;
            answers(&options).await.context(UNREACHABLE)?;
            Ok(options)
        };
        match answered.await {
            Ok(options) => Ok(Self { options, private }),
            Err(error) => {
                if let Some(private) = private {
                    private.stop().await?;
                }
                Err(error)
            }
        }
    }

    /// Stops the private one.
    ///
    /// # Errors
    /// When it does not stop.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.private {
            Some(private) => Ok(private.stop().await?),
            None => Ok(()),
        }
    }
}

/// What to do when the database cannot be reached.
pub(crate) const UNREACHABLE: &str =
    "the database cannot be reached; check DATABASE_URL, or leave it out to have a private one";

/// Opens a log. One that is beside the read models is in `database`.
///
/// # Errors
/// When it cannot be reached or read.
pub(crate) async fn open(
    log: &config::EventStore,
    database: Option<&PgConnectOptions>,
) -> anyhow::Result<Arc<dyn EventStore>> {
    let options = match (log, database) {
        (config::EventStore::Postgres(Some(url)), _) => PgConnectOptions::from_str(url.expose_secret())?,
        (config::EventStore::Postgres(None), Some(database)) => database.clone(),
        (config::EventStore::Postgres(None), None) => anyhow::bail!("no database is configured for the log"),
        (config::EventStore::Kurrent(url), _) => {
            let opened = KurrentEventStore::connect(url.expose_secret()).await;
            return Ok(
                opened.context("the log in KurrentDB cannot be reached; check its URL, such as EVENT_STORE_URL")?
            );
        }
        (config::EventStore::Memory, _) => {
            tracing::warn!("the log is in memory: everything is gone when this process ends");
            return Ok(Arc::new(MemoryEventStore::new()));
        }
    };
    answers(&options).await.context("the log's database cannot be reached; check its URL, such as EVENT_STORE_URL")?;
    let options = options.application_name("storefold log reader");
    let pool = PgPoolOptions::new().max_connections(24).acquire_timeout(CONNECT).test_before_acquire(false);
    let pool = pool.connect_with(options).await.context("the log's database cannot be reached")?;
    PostgresEventStore::migrate(&pool).await.context("the schema of the log cannot be brought up to date")?;
    Ok(PostgresEventStore::open(pool).await.context("the log cannot be read")?)
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
