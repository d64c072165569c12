//! A Postgres cluster of our own, for a shop that runs no database server.
//!
//! It listens on a unix socket only, and belongs to a data directory. Every process that starts it with the same
//! directory shares it; the last one out stops it. Who is in is a matter of file locks, which the kernel gives back
//! however a process ends, so nothing needs to be tidied up after a crash: a server that outlived its processes is
//! found and used again, and one that was killed recovers at the next start.

mod cluster;
mod programs;
mod settings;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::data_dir;
use cluster::{Cluster, Undertaker};

/// The role and the database that a private cluster is made with.
const NAME: &str = "storefold";
/// Makes the role that may read what readers see, and nothing else: whoever looks around as this one breaks nothing. What
/// it may read, the read models say.
const MAKE_READER: &str = "do $do$
begin
    if not exists (select from pg_roles where rolname = 'storefold_reader') then
        create role storefold_reader login;
    end if;
end $do$";
/// How long a server that has come up may refuse connections.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to recover after a crash. It replays up to `max_wal_size`.
const RECOVERED: Duration = Duration::from_secs(15 * 60);

/// A running private cluster, and this process's share in it.
#[derive(Debug)]
pub(crate) struct PrivatePostgres {
    cluster: Cluster,
    /// Taken when the share is given up.
    share: Option<Share>,
}

/// What keeps the server running.
#[derive(Debug)]
enum Share {
    /// One of any number of processes.
    Counted { start_lock: PathBuf, users_lock: PathBuf, users: File },
    /// This process alone: its end is the cluster's, whatever ends it.
    Sole(Undertaker),
}

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    #[error(
        "no Postgres programs of version {} or later were found{found}; install them (Debian: apt-get install \
         postgresql; macOS: brew install postgresql@17), name their directory in `postgres_bin_dir`, or name a server \
         in DATABASE_URL",
        programs::OLDEST
    )]
    NoPrograms { found: String },
    #[error(
        "the cluster in {} was made by Postgres {made_by}, and only {found} was found; install Postgres {made_by} \
         (Debian: apt-get install postgresql-{made_by}) or move the cluster with pg_upgrade", .cluster.display()
    )]
    OtherVersion { cluster: PathBuf, made_by: u32, found: String },
    #[error(
        "Postgres does not run as root, and there is no user `postgres` to run it as; add one (useradd --system postgres)"
    )]
    NoAccount,
    #[error("{} belongs to the user with id {owner}; remove it, or run storefold as that user", .path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} is open to other users; close it (chmod 700)", .path.display())]
    Open { path: PathBuf },
    #[error("cannot {attempt} {}", .path.display())]
    File { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run {}", .program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error("{program} failed:\n{output}")]
    Failed { program: String, output: String },
    #[error("Postgres did not start; the end of its log in {}:\n{log}", .cluster.display())]
    NotStarted { cluster: PathBuf, log: String },
    #[error("Postgres is running but cannot be used; the end of its log in {}:\n{log}", .cluster.display())]
    NotReady { cluster: PathBuf, log: String, source: sqlx::Error },
}

impl PrivatePostgres {
    /// Starts the cluster of a data directory, or joins those who use it already. Makes what is missing.
    ///
    /// # Errors
    /// When the machine has no fitting Postgres programs, or they cannot make or start the cluster. Nothing is left
    /// running that did not run before.
    pub(crate) async fn start(data_dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        let (data_dir, bin_dir) = (data_dir.to_owned(), bin_dir.map(Path::to_owned));
        let (postgres, starting) = blocking(move || {
            let data_dir = data_dir::open(&data_dir).map_err(failed("make", &data_dir))?;
            let start_lock = data_dir.join("postgres.start.lock");
            let starting = locked(&start_lock)?;
            let users_lock = data_dir.join("postgres.users.lock");
            let users = open_lock(&users_lock)?;
            users.lock_shared().map_err(failed("lock", &users_lock))?;
            let cluster = Cluster::of(&data_dir, bin_dir.as_deref())?;
            cluster.start().inspect_err(|_| drop(stop_if_unused(&cluster, &users, &users_lock)))?;
            Ok((Self { cluster, share: Some(Share::Counted { start_lock, users_lock, users }) }, starting))
        })
        .await?;
        let ready = postgres.ready().await;
        // Given back before the share is: whoever leaves takes it.
        drop(starting);
        ready.map(|()| postgres)
    }

    /// Starts an empty cluster for tests: fast, nothing of it survives a crash, and it is deleted when it is stopped or
    /// when this process ends, however it ends.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`].
    pub(crate) async fn throw_away(bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        let bin_dir = bin_dir.map(Path::to_owned);
        let postgres = blocking(move || {
            let cluster = Cluster::throw_away(bin_dir.as_deref())?;
            let undertaker = cluster.undertaker()?;
            cluster.start()?;
            Ok(Self { cluster, share: Some(Share::Sole(undertaker)) })
        })
        .await?;
        postgres.ready().await?;
        Ok(postgres)
    }

    /// The `postgres://` URL of the database, over the unix socket.
    pub(crate) fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// Gives up this process's share, and stops the server when it was the last. Returns when that is done.
    ///
    /// # Errors
    /// When the server does not stop.
    pub(crate) async fn stop(mut self) -> Result<(), PostgresError> {
        blocking(move || self.leave()).await
    }

    fn url_of(&self, database: &str) -> String {
        // The port stands here so that PGPORT has no say.
        format!(
            "postgres://{NAME}@localhost:{}/{database}?host={}",
            settings::PORT,
            self.cluster.socket_dir().display()
        )
    }

    /// Waits until the database can be used, and readers have their role. Makes what is missing in a cluster that is new.
    async fn ready(&self) -> Result<(), PostgresError> {
        let started = Instant::now();
        loop {
            let error = match make_reader(&self.url()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
            let patience = match code.as_str() {
                CANNOT_CONNECT_NOW => RECOVERED,
                _ => READY,
            };
            let result = match code.as_str() {
                NO_SUCH_DATABASE => self.create_database().await,
                _ => Err(error),
            };
            match result {
                Err(source) if started.elapsed() >= patience => {
                    let (cluster, log) = (self.cluster.directory().to_owned(), self.cluster.log_tail());
                    return Err(PostgresError::NotReady { cluster, log, source });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(()) => {}
            }
        }
    }

    async fn create_database(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.url_of("postgres").parse::<PgConnectOptions>()?.connect().await?;
        connection.execute(sqlx::AssertSqlSafe(format!("create database {NAME}"))).await?;
        connection.close().await
    }

    fn leave(&mut self) -> Result<(), PostgresError> {
        match self.share.take() {
            None => Ok(()),
            Some(Share::Sole(undertaker)) => undertaker.release(),
            Some(Share::Counted { start_lock, users_lock, users }) => {
                let _starting = locked(&start_lock)?;
                stop_if_unused(&self.cluster, &users, &users_lock)
            }
        }
    }
}

impl Drop for PrivatePostgres {
    /// A last resort, for errors and panics: it blocks. An orderly end calls [`PrivatePostgres::stop`].
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!(error = %error, "the private Postgres was left running");
        }
    }
}

/// SQLSTATE `cannot_connect_now`: the server starts, recovers or stops.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// SQLSTATE `invalid_catalog_name`.
const NO_SUCH_DATABASE: &str = "3D000";

async fn make_reader(url: &str) -> Result<(), sqlx::Error> {
    let mut connection = url.parse::<PgConnectOptions>()?.connect().await?;
    connection.execute(MAKE_READER).await?;
    connection.close().await
}

/// Gives up the share and stops the server, unless somebody else has one. Nobody joins meanwhile: the caller holds the
/// lock for starting.
fn stop_if_unused(cluster: &Cluster, users: &File, users_lock: &Path) -> Result<(), PostgresError> {
    users.unlock().map_err(failed("unlock", users_lock))?;
    match users.try_lock() {
        Ok(()) => cluster.stop(),
        Err(fs::TryLockError::WouldBlock) => Ok(()),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", users_lock)(error)),
    }
}

fn open_lock(path: &Path) -> Result<File, PostgresError> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    opened.map_err(failed("open", path))
}

/// Takes a lock. The wait is bounded by what its holder does: one start or one stop.
fn locked(path: &Path) -> Result<File, PostgresError> {
    let file = open_lock(path)?;
    file.lock().map_err(failed("lock", path))?;
    Ok(file)
}

/// The error of a file operation.
fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::File { attempt, path, source }
}

/// Runs what blocks, on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(failed("wait for", Path::new("a thread of the runtime"))(cancelled.into())),
        },
    }
}
