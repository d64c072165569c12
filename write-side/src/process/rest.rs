//! Whether processes have anything left to do for some instances.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::{EventStore, Position};
use sqlx::FromRow;
use sqlx::postgres::PgPool;
use tokio::time::Instant;

use super::book::{commit, prepare};
use super::manager::ManagerError;

/// How often the book is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process may stand still before it is no passing thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is left of some instances once no process has anything more to do for them by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rest {
    /// How many wait for goods to leave the house.
    pub waiting: i64,
    /// How many cannot go on until somebody has looked at them.
    pub parked: i64,
    /// How many wait for something else from outside: for goods to arrive.
    pub open: i64,
}

/// What the book has of some instances at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
struct Moment {
    rows: i64,
    moved_at: Option<DateTime<Utc>>,
    /// Who is being dealt with outside and answers.
    calls: i64,
    waiting: i64,
    parked: i64,
    open: i64,
}

/// Waits until these processes have nothing more to do by themselves for these instances: no call to the gateway is under
/// way, and nothing has changed while they followed the log from where it ended before to there. `tell` hears now and then
/// how many instances have something left.
///
/// # Errors
/// When the database or the log cannot be read, or with [`Stands`] when a process stands still for half a minute.
pub async fn rest(
    pool: &PgPool,
    store: &dyn EventStore,
    processes: &[&str],
    instances: &[String],
    tell: impl Fn(i64),
) -> Result<Result<Rest, Stands>, ManagerError> {
    let mut standing: Option<Instant> = None;
    loop {
        let before = moment(pool, instances).await?;
        tell(before.rows);
        let head = store.head().await?;
        loop {
            let (behind, error) = followed(pool, processes, head).await?;
            match (error, standing) {
                (Some(why), Some(since)) if since.elapsed() > PATIENCE => return Ok(Err(Stands(why))),
                (Some(_), since) => standing = since.or_else(|| Some(Instant::now())),
                (None, _) => standing = None,
            }
            if behind == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let after = moment(pool, instances).await?;
        if after.calls == 0 && before == after {
            let Moment { waiting, parked, open, .. } = after;
            return Ok(Ok(Rest { waiting, parked, open }));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why a process stands still.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a process stands still: {0}")]
pub struct Stands(String);

async fn moment(pool: &PgPool, instances: &[String]) -> Result<Moment, sqlx::Error> {
    let sql = "select count(*) as rows, max(moved_at) as moved_at,
            count(*) filter (where process = 'charging' and trouble is null) as calls,
            count(*) filter (where process = 'checkout' and parked_on is null and waits_for = 'dispatch') as waiting,
            count(*) filter (where parked_on is not null or trouble is not null) as parked,
            count(*) filter (where process = 'checkout' and parked_on is null
                and waits_for is distinct from 'dispatch') as open
          from process.instances where instance = any($1)";
    sqlx::query_as(sql).bind(instances).fetch_one(pool).await
}

/// How many processes have not followed the log up to there, and why one stands still, if one does.
async fn followed(
    pool: &PgPool,
    processes: &[&str],
    head: Option<Position>,
) -> Result<(i64, Option<String>), sqlx::Error> {
    let sql = "select
            count(*) filter (where $1::bigint is not null
                and (coalesce(commit_position, -1), coalesce(prepare_position, -1)) < ($1, $2::bigint)),
            min(name || ': ' || error)
          from unnest($3::text[]) as wanted (name) left join process.managers using (name)";
    sqlx::query_as(sql).bind(head.map(commit)).bind(head.map(prepare)).bind(processes).fetch_one(pool).await
}
