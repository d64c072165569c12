//! A database that queries are read from. A pool asks each connection that is given back whether it still answers, which is a
//! second way to the database and back after every statement, and a task of its own. So connections go from one statement to
//! the next for a while, and see the pool only now and then.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Either, Execute, Executor as _, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::sql::Row;

/// How long a connection is kept from its pool, which then looks at it, and may find it too old.
const AWAY: Duration = Duration::from_secs(1);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_millis(100);
/// How many of a pool's connections are left to others who take them from the pool itself.
const OF_OTHERS: u32 = 2;

/// A pool, and the connections of it that are kept for the next statement.
#[derive(Clone)]
pub(crate) struct Database(Arc<Shared>);

struct Shared {
    pool: PgPool,
    /// One for each connection that may be used at a time, so that whoever waits is given the first one that is free, kept
    /// or not.
    places: Semaphore,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that was used last is the last: the fewer are in use, the warmer they are.
    connections: Vec<Connection>,
    /// Whether somebody sees to it that what is not used goes back to the pool.
    watched: bool,
}

struct Connection {
    connection: PoolConnection<Postgres>,
    /// When it was taken from the pool.
    taken: Instant,
    /// When it was last used.
    used: Instant,
}

impl Database {
    pub(crate) fn new(pool: PgPool) -> Self {
        let places = pool.options().get_max_connections().saturating_sub(OF_OTHERS).max(1);
        let places = Semaphore::new(usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS));
        Self(Arc::new(Shared { pool, places, kept: Mutex::default() }))
    }

    /// All rows of the answer.
    pub(crate) async fn all<'q, R: Row + 'q>(
        &self,
        query: QueryAs<'q, Postgres, R, PgArguments>,
    ) -> sqlx::Result<Vec<R>> {
        let mut rows = Vec::new();
        let take = |row: &PgRow| {
            rows.push(R::from_row(row)?);
            Ok(())
        };
        self.each(query, take).await?;
        Ok(rows)
    }

    /// Has each row of the answer taken.
    pub(crate) async fn each<'q>(
        &self,
        query: impl Execute<'q, Postgres> + 'q,
        mut take: impl FnMut(&PgRow) -> sqlx::Result<()> + Send,
    ) -> sqlx::Result<()> {
        // When anything goes wrong from here on, or nobody waits any more, the connection goes back to the pool, which sees
        // to what was under way.
        let mut lent = self.lend().await?;
        let mut answer = lent.connection.connection.fetch_many(query);
        while let Some(part) = answer.try_next().await? {
            if let Either::Right(row) = part {
                take(&row)?;
            }
        }
        drop(answer);
        lent.keep();
        Ok(())
    }

    /// The first row of the answer.
    pub(crate) async fn one<'q, R: Row + 'q>(&self, query: QueryAs<'q, Postgres, R, PgArguments>) -> sqlx::Result<R> {
        self.all(query).await?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    async fn lend(&self) -> sqlx::Result<Lent<'_>> {
        let Shared { pool, places, kept } = &*self.0;
        let place = match places.try_acquire() {
            Ok(place) => place,
            Err(_) => {
                let place = tokio::time::timeout(pool.options().get_acquire_timeout(), places.acquire()).await;
                place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?
            }
        };
        let last = lock(kept).connections.pop();
        let connection = match last {
            Some(connection) => connection,
            None => {
                let connection = pool.acquire().await?;
                let now = Instant::now();
                Connection { connection, taken: now, used: now }
            }
        };
        Ok(Lent { shared: &self.0, connection, _place: place })
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.pool.fmt(f)
    }
}

/// A connection that somebody uses. Dropped, it goes back to the pool.
struct Lent<'a> {
    shared: &'a Arc<Shared>,
    connection: Connection,
    _place: SemaphorePermit<'a>,
}

impl Lent<'_> {
    /// Leaves the connection to the next statement, unless it is time that the pool sees it again.
    fn keep(self) {
        let Self { shared, mut connection, _place } = self;
        connection.used = Instant::now();
        if connection.used.duration_since(connection.taken) >= AWAY || shared.pool.is_closed() {
            return;
        }
        let mut kept = lock(&shared.kept);
        kept.connections.push(connection);
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(watch(shared.clone()));
        }
    }
}

/// Gives back what nobody uses, until nothing is left.
async fn watch(shared: Arc<Shared>) {
    loop {
        // A pool that closes waits for its connections.
        let closes = tokio::time::timeout(IDLE, shared.pool.close_event()).await.is_ok();
        let (idle, watched): (Vec<_>, bool) = {
            let mut kept = lock(&shared.kept);
            let idle = kept.connections.extract_if(.., |kept| closes || kept.used.elapsed() >= IDLE).collect();
            kept.watched = !kept.connections.is_empty();
            (idle, kept.watched)
        };
        drop(idle);
        if !watched {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
