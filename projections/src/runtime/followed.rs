//! Which log a database follows.
//!
//! A checkpoint is a place in one log. In another log, be it a copy of the first, the same events stand elsewhere: who went
//! on from there would skip events, or fold some twice. So the database remembers the first event of its log, and where
//! that stands.

use event_store::{EventStore, Filter, Position, ReadError};
use sqlx::Row as _;
use sqlx::postgres::{PgExecutor, PgPool};
use uuid::Uuid;

use super::ProjectionError;
use super::generations::{commit, position, prepared};

/// What tells a log from another: its first event, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landmark {
    /// The event's id.
    pub id: Uuid,
    /// Its place in the log.
    pub position: Position,
}

impl Landmark {
    /// That of a log; `None` while it is empty.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn of(store: &dyn EventStore) -> Result<Option<Self>, ReadError> {
        let mut after = None;
        loop {
            let page = store.read_all(after, &Filter::all(), 1).await?;
            if let Some(first) = page.events.first() {
                return Ok(Some(Self { id: first.id, position: first.position }));
            }
            if page.at_head {
                return Ok(None);
            }
            after = page.read_to;
        }
    }

    /// That of the log which a database follows; `None` when it has not followed any yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn followed(database: impl PgExecutor<'_>) -> Result<Option<Self>, sqlx::Error> {
        let sql = "select event_id, commit_position, prepare_position from control.followed_log";
        let Some(row) = sqlx::query(sql).fetch_optional(database).await? else { return Ok(None) };
        let position = position(&row)?.ok_or_else(|| sqlx::Error::Decode("the landmark has no position".into()))?;
        Ok(Some(Self { id: row.try_get("event_id")?, position }))
    }

    /// Notes that a database follows the log with this landmark, whatever it followed before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn follow(self, database: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        let sql = "insert into control.followed_log (event_id, commit_position, prepare_position) values ($1, $2, $3)
            on conflict (one) do update set event_id = excluded.event_id,
                commit_position = excluded.commit_position, prepare_position = excluded.prepare_position";
        self.note(sql, database).await
    }

    /// Notes it, unless the database follows a log already.
    async fn follow_first(self, database: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        let sql = "insert into control.followed_log (event_id, commit_position, prepare_position) values ($1, $2, $3)
            on conflict (one) do nothing";
        self.note(sql, database).await
    }

    async fn note(self, sql: &'static str, database: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(sql).bind(self.id).bind(commit(self.position)).bind(prepared(self.position));
        insert.execute(database).await.map(drop)
    }
}

/// Makes sure that a database follows this log and no other. A database that has followed none yet follows this one from
/// now on, if there is anything in it.
///
/// # Errors
/// [`ProjectionError::AnotherLog`], or that one of the two cannot be read.
pub async fn check(store: &dyn EventStore, pool: &PgPool) -> Result<(), ProjectionError> {
    let mut followed = Landmark::followed(pool).await?;
    // Looked for afterwards: what somebody has noted before stands in the log by now.
    let here = Landmark::of(store).await?;
    if let (None, Some(here)) = (followed, here) {
        here.follow_first(pool).await?;
        // Another program may have noted another log meanwhile.
        followed = Landmark::followed(pool).await?;
    }
    if followed.is_some() && followed != here { Err(ProjectionError::AnotherLog) } else { Ok(()) }
}
