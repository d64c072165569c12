//! The log in Postgres: one table, appended to in batches under one lock, read in pages.
//!
//! Positions are given under a lock that is held until the commit is visible, so their order is the order of commits
//! and a reader that trusts "position > last" skips nothing, whatever else runs in that server. What the lock costs is
//! shared: the sequencer writes what queued up during one sync as one batch.

mod batch;
mod recent;
mod sequencer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::Row;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgPool, PgRow};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::port::{MAX_PAGE_BYTES, check_limits, ends_of_parts};
use crate::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, EventType, Filter, PastTheEnd, Position, ReadError,
    RecordedEvent, StreamName, StreamPage,
};
use recent::Recent;
use sequencer::{Desk, Job, Written};

/// How often the head is looked up for what other processes appended.
const POLL: Duration = Duration::from_millis(100);
/// After this long a reader looks for itself, whatever it was told.
const FLOOR: Duration = Duration::from_secs(1);

/// A log in Postgres. Any number of processes may have one on the same database.
pub struct PostgresEventStore {
    pool: PgPool,
    desk: Desk,
    end: Arc<End>,
    poller: JoinHandle<()>,
}

/// What this process knows of the end of the log.
struct End {
    head: watch::Sender<Option<Position>>,
    recent: Recent,
}

impl End {
    /// Moves the known head forward, never back.
    fn raise(&self, found: Option<Position>) {
        self.head.send_if_modified(|known| {
            let further = found > *known;
            if further {
                *known = found;
            }
            further
        });
    }

    /// Moves the known head back where the log has lost its end: it is not where it `was`, before it was looked for.
    fn fall(&self, was: Option<Position>, found: Option<Position>) {
        if found >= was {
            return;
        }
        self.recent.clear();
        let fell = self.head.send_if_modified(|known| {
            let is_it = *known == was;
            if is_it {
                *known = found;
            }
            is_it
        });
        if fell {
            tracing::error!(?was, ?found, "the log has lost its end: it was restored, or its standby was behind");
        }
    }

    /// Takes in what this process has appended.
    fn grow(&self, events: Vec<RecordedEvent>) {
        let last = events.iter().map(|event| event.position).max();
        self.recent.add(events);
        self.raise(last);
    }
}

/// The migrations of the log's schema. They keep their own book, so that they can live beside others in one database.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/log");
    migrator.dangerous_set_table_name("_storefold_log_migrations");
    migrator
}

impl PostgresEventStore {
    /// Brings the log's schema up to date. Safe to call from several processes at once.
    ///
    /// # Errors
    /// When the database refuses, or was migrated by a newer release.
    pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
        migrator().run(pool).await
    }

    /// Opens the log. Reads go through `pool`; appends get a connection of their own to the same database. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// When the log's table cannot be read, or the system has no room for a thread.
    pub async fn open(pool: PgPool) -> Result<Arc<Self>, sqlx::Error> {
        let durable: String =
            sqlx::query_scalar("select current_setting('synchronous_commit')").fetch_one(&pool).await?;
        if durable == "off" {
            tracing::warn!("synchronous_commit is off in the log's database: a crash may lose what was acknowledged");
        }
        let head = watch::Sender::new(read_head(&pool).await?);
        let end = Arc::new(End { head, recent: Recent::default() });
        let desk = sequencer::start(pool.connect_options().as_ref().clone(), end.clone()).await?;
        let poller = tokio::spawn(poll_head(pool.clone(), end.clone()));
        Ok(Arc::new(Self { pool, desk, end, poller }))
    }
}

impl PostgresEventStore {
    async fn write(&self, append: Append) -> Result<Written, AppendError> {
        check_limits(&append)?;
        let (reply, answer) = oneshot::channel();
        let gone = || AppendError::Unknown(Arc::new(SequencerGone));
        let handed_in = self.desk.hand_in(Job { append, reply, may_be_written: false }).await;
        handed_in.map_err(|_| AppendError::Unavailable(Arc::new(SequencerGone)))?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for PostgresEventStore {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

#[async_trait]
impl EventStore for PostgresEventStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.write(append).await.map(|written| written.appended)
    }

    async fn append_together(&self, append: Append, lengths: &[usize]) -> Result<Vec<Appended>, AppendError> {
        let (stream, count) = (append.stream.clone(), append.events.len());
        let Written { appended, side_by_side } = self.write(append).await?;
        if lengths.len() <= 1 {
            return Ok(vec![appended]);
        }
        if !side_by_side {
            return ends_of_parts(self, &stream, count, appended, lengths).await;
        }
        let mut left = count as u64;
        let ends = lengths.iter().map(|&length| {
            left = left.saturating_sub(length as u64);
            let position = Position::at(appended.position.commit.saturating_sub(left));
            Appended { revision: appended.revision.saturating_sub(left), position }
        });
        Ok(ends.collect())
    }

    async fn append_in_order(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        appends.iter().try_for_each(check_limits)?;
        let options = self.pool.connect_options().as_ref().clone();
        // In a task of its own: who hangs up does not leave half a transaction behind.
        let written = tokio::spawn(async move { sequencer::write_in_order(options, &appends).await });
        let written = written.await.map_err(|error| AppendError::Unknown(Arc::new(error)))??;
        self.end.raise(written.last().map(|last| last.position));
        Ok(written)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        let sql = match direction {
            Direction::Forwards => {
                "select position, stream, revision, id, type, data, metadata, recorded_at from log.events
                  where stream = $1 and revision >= $2 order by revision limit $3"
            }
            Direction::Backwards => {
                "select position, stream, revision, id, type, data, metadata, recorded_at from log.events
                  where stream = $1 and revision <= $2 order by revision desc limit $3"
            }
        };
        let start = from.map(|from| i64::try_from(from).unwrap_or(i64::MAX)).unwrap_or(match direction {
            Direction::Forwards => 0,
            Direction::Backwards => i64::MAX,
        });
        // One more than asked for tells whether there is more.
        let one_more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let mut rows = sqlx::query(sql).bind(stream.as_str()).bind(start).bind(one_more).fetch(&self.pool);
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(unreadable)? {
            if events.len() == limit || bytes > MAX_PAGE_BYTES {
                return Ok(StreamPage { events, end: false });
            }
            let event = recorded(&row)?;
            bytes += event.data.len() + event.metadata.len();
            events.push(event);
        }
        Ok(StreamPage { events, end: true })
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        let was = *self.end.head.borrow();
        // A window of positions, which have no gap. The head comes from the same snapshot, in every row and at least
        // in one, so that the end of the page is known even when nothing in the window passes.
        let rows = sqlx::query(
            "select h.head, e.position, e.stream, e.revision, e.id, e.type, e.data, e.metadata, e.recorded_at
               from (select coalesce(max(position), -1) as head from log.events) h
               left join log.events e
                 on e.position > $1 and e.position <= $2
                and (cardinality($3::text[]) = 0 or log.category(e.stream) = any ($3))
                and (cardinality($4::text[]) = 0 or e.type = any ($4))
              order by e.position",
        );
        let start = number(after);
        let end = start.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut rows = rows.bind(start).bind(end).bind(&filter.categories).bind(&filter.types).fetch(&self.pool);
        let (mut events, mut bytes, mut head) = (Vec::new(), 0, -1);
        while let Some(row) = rows.try_next().await.map_err(unreadable)? {
            head = row.try_get("head").map_err(unreadable)?;
            let none_passed = row.try_get::<Option<i64>, _>("position").map_err(unreadable)?.is_none();
            if none_passed {
                break;
            }
            let event = recorded(&row)?;
            bytes += event.data.len() + event.metadata.len();
            let read_to = Some(event.position);
            events.push(event);
            if bytes > MAX_PAGE_BYTES {
                return Ok(AllPage { events, read_to, at_head: false });
            }
        }
        self.end.fall(was, position(head));
        PastTheEnd::check(position(head), after)?;
        Ok(AllPage { events, read_to: position(end.min(head)), at_head: end >= head })
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        let was = *self.end.head.borrow();
        let found = read_head(&self.pool).await.map_err(unreadable)?;
        self.end.fall(was, found);
        Ok(found)
    }

    fn just_appended(&self, after: Option<Position>, limit: usize) -> Vec<RecordedEvent> {
        self.end.recent.after(after, limit)
    }

    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64> {
        u64::try_from(number(to).saturating_sub(number(after)).max(0)).ok()
    }

    async fn changed(&self, seen: Option<Position>) {
        let mut head = self.end.head.subscribe();
        // Both outcomes mean the same: look again.
        let _ = tokio::time::timeout(FLOOR, head.wait_for(|head| *head > seen)).await;
    }
}

/// The sequencer has ended; the process is going down.
#[derive(Debug, thiserror::Error)]
#[error("the log is closed")]
struct SequencerGone;

async fn read_head(pool: &PgPool) -> Result<Option<Position>, sqlx::Error> {
    let head: i64 = sqlx::query_scalar("select coalesce(max(position), -1) from log.events").fetch_one(pool).await?;
    Ok(position(head))
}

/// Notices what other processes append. In this process the sequencer says it at once.
async fn poll_head(pool: PgPool, end: Arc<End>) {
    loop {
        tokio::time::sleep(POLL).await;
        let was = *end.head.borrow();
        match read_head(&pool).await {
            Ok(found) => {
                end.fall(was, found);
                end.raise(found);
            }
            Err(error) => tracing::debug!(%error, "the head of the log could not be read; trying again"),
        }
    }
}

/// A position as the table has it; `-1` stands before the first.
fn number(position: Option<Position>) -> i64 {
    position.map_or(-1, |position| i64::try_from(position.commit).unwrap_or(i64::MAX))
}

fn position(number: i64) -> Option<Position> {
    u64::try_from(number).ok().map(Position::at)
}

fn recorded(row: &PgRow) -> Result<RecordedEvent, ReadError> {
    let read = || -> Result<RecordedEvent, sqlx::Error> {
        let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
        let unsigned = |number: i64| u64::try_from(number).map_err(|error| decode(error.into()));
        Ok(RecordedEvent {
            stream: StreamName::new(row.try_get::<&str, _>("stream")?).map_err(|error| decode(error.into()))?,
            revision: unsigned(row.try_get("revision")?)?,
            position: Position::at(unsigned(row.try_get("position")?)?),
            id: row.try_get("id")?,
            event_type: EventType::new(row.try_get::<String, _>("type")?).map_err(|error| decode(error.into()))?,
            data: Bytes::copy_from_slice(row.try_get("data")?),
            metadata: Bytes::copy_from_slice(row.try_get("metadata")?),
            recorded_at: row.try_get("recorded_at")?,
        })
    };
    read().map_err(unreadable)
}

fn unreadable(error: sqlx::Error) -> ReadError {
    ReadError(Arc::new(error))
}
