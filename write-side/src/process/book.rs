//! What a process manager keeps in Postgres between events: its checkpoint, its instances, and what is held back from
//! those that cannot go on.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::process::Process;
use event_store::{EventStore, EventType, Position, RecordedEvent, StreamName};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::manager::ManagerError;

/// What is kept of one instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance<S> {
    pub(super) state: S,
    /// What it waits for by name, and since when by the log's clock.
    pub(super) waits: Option<(String, DateTime<Utc>)>,
    /// Why it cannot go on, if it cannot.
    pub(super) parked: Option<Stop>,
    /// What it has still to see, in the order of the log; empty while it can go on.
    pub(super) held: BTreeMap<Position, RecordedEvent>,
}

impl<S> Instance<S> {
    /// An instance that has seen nothing.
    pub(super) fn new(state: S) -> Self {
        Self { state, waits: None, parked: None, held: BTreeMap::new() }
    }
}

/// Why an instance cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// The id of the event on which.
    pub(super) event: Uuid,
    pub(super) why: String,
}

/// An instance that cannot go on until somebody has looked at it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, FromRow)]
pub struct Parked {
    /// The process.
    pub process: String,
    /// The instance: for a checkout, the order's id.
    pub instance: String,
    /// The id of the event on which it cannot go on.
    #[sqlx(rename = "parked_on")]
    pub event: Uuid,
    /// Why.
    #[sqlx(rename = "parked_why")]
    pub why: String,
    /// Since when.
    #[sqlx(rename = "parked_at")]
    pub since: DateTime<Utc>,
}

/// Every instance that cannot go on, the oldest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn parked(pool: &PgPool) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = "select process, instance, parked_on, parked_why, parked_at from process.instances
        where parked_on is not null order by parked_at, process, instance";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// What processes still have to do.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Rest {
    /// Instances that are at work, and one more for each process that has not followed the log to its end.
    pub moving: i64,
    /// Instances that wait for goods to leave the house, and for nothing else.
    pub waiting: i64,
    /// Instances that cannot go on.
    pub parked: i64,
    /// Why a process stands still, if one does.
    pub error: Option<String>,
}

/// What these processes still have to do.
///
/// # Errors
/// When the database or the log cannot be read.
pub async fn rest(pool: &PgPool, store: &dyn EventStore, processes: &[&str]) -> Result<Rest, ManagerError> {
    // The log first: what it gets while the book is read is found missing there.
    let head = store.head().await?;
    let sql = "with running as (
            select name, m.commit_position, m.prepare_position, m.error
              from unnest($3::text[]) as wanted (name) left join process.managers m using (name)
        ), open as (
            select i.waits_for, i.parked_on is not null as parked from process.instances i where i.process = any($3)
        )
        select (select count(*) from open where not parked and waits_for is distinct from 'dispatch')
                + (select count(*) from running
                    where (commit_position, prepare_position) is distinct from ($1::bigint, $2::bigint)) as moving,
            (select count(*) from open where not parked and waits_for = 'dispatch') as waiting,
            (select count(*) from open where parked) as parked,
            (select min(name || ': ' || error) from running) as error";
    let query = sqlx::query_as(sql).bind(head.map(commit)).bind(head.map(prepare)).bind(processes);
    Ok(query.fetch_one(pool).await?)
}

/// The book of one process.
pub(super) struct Book {
    pub(super) pool: PgPool,
    process: &'static str,
}

impl Book {
    pub(super) fn of<P: Process>(pool: PgPool) -> Self {
        Self { pool, process: P::NAME }
    }

    /// Enters a process that is not in the book yet.
    pub(super) async fn open(&self, version: i32) -> Result<(), sqlx::Error> {
        let insert = "insert into process.managers (name, version) values ($1, $2) on conflict do nothing";
        sqlx::query(insert).bind(self.process).bind(version).execute(&self.pool).await?;
        Ok(())
    }

    /// The version of the code that folded the states, and how far the log was followed.
    pub(super) async fn checkpoint(&self) -> Result<(i32, Option<Position>), sqlx::Error> {
        let sql = "select version, commit_position, prepare_position from process.managers where name = $1";
        let row = sqlx::query(sql).bind(self.process).fetch_one(&self.pool).await?;
        Ok((row.try_get("version")?, position(&row)?))
    }

    /// Notes why the process stands still, or that it does not.
    pub(super) async fn note(&self, error: Option<&str>) -> Result<(), sqlx::Error> {
        let sql = "update process.managers set error = $2 where name = $1 and error is distinct from $2";
        sqlx::query(sql).bind(self.process).bind(error).execute(&self.pool).await?;
        Ok(())
    }

    /// Every instance that has something left to do.
    pub(super) async fn all<P: Process>(&self) -> Result<Vec<(P::Id, P::State)>, ManagerError> {
        let sql = "select instance, state from process.instances where process = $1";
        let rows = sqlx::query(sql).bind(self.process).fetch_all(&self.pool).await?;
        let instance = |row: &PgRow| {
            let Json(state) = row.try_get("state")?;
            Ok((row.try_get::<&str, _>("instance")?.parse()?, state))
        };
        rows.iter().map(instance).collect()
    }

    /// These instances, with what is held back from them.
    pub(super) async fn load<P: Process>(
        &self,
        ids: &[P::Id],
    ) -> Result<HashMap<P::Id, Instance<P::State>>, ManagerError> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let sql = "select instance, state, waits_for, waits_since, parked_on, parked_why from process.instances
            where process = $1 and instance = any($2)";
        let rows = sqlx::query(sql).bind(self.process).bind(&names).fetch_all(&self.pool).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let id: P::Id = row.try_get::<&str, _>("instance")?.parse()?;
            let Json(state) = row.try_get("state")?;
            let waits: (Option<String>, Option<DateTime<Utc>>) =
                (row.try_get("waits_for")?, row.try_get("waits_since")?);
            let stop: (Option<Uuid>, Option<String>) = (row.try_get("parked_on")?, row.try_get("parked_why")?);
            let parked = stop.0.zip(stop.1).map(|(event, why)| Stop { event, why });
            let held = if parked.is_some() { self.held(&id.to_string()).await? } else { BTreeMap::new() };
            found.insert(id, Instance { state, waits: waits.0.zip(waits.1), parked, held });
        }
        Ok(found)
    }

    async fn held(&self, instance: &str) -> Result<BTreeMap<Position, RecordedEvent>, sqlx::Error> {
        let sql = "select * from process.held where process = $1 and instance = $2";
        let rows = sqlx::query(sql).bind(self.process).bind(instance).fetch_all(&self.pool).await?;
        rows.iter().map(|row| recorded(row).map(|event| (event.position, event))).collect()
    }

    /// Instances that have waited too long for something, by the database's clock.
    pub(super) async fn overdue<P: Process>(
        &self,
        timeout: P::Timeout,
        limit: Duration,
        most: i64,
    ) -> Result<Vec<P::Id>, ManagerError> {
        let sql = "select instance from process.instances where process = $1 and waits_for = $2
            and waits_since <= clock_timestamp() - $3 * interval '1 millisecond' and parked_on is null
            order by waits_since limit $4";
        let ids: Vec<String> = sqlx::query_scalar(sql)
            .bind(self.process)
            .bind(timeout.to_string())
            .bind(limit.as_millis() as f64)
            .bind(most)
            .fetch_all(&self.pool)
            .await?;
        ids.iter().map(|id| Ok(id.parse()?)).collect()
    }

    /// Moves the checkpoint and writes what became of the instances of a batch, all of it or nothing. `false` when
    /// another program has moved the checkpoint: nothing of this batch may count here.
    pub(super) async fn turn_page<P: Process>(
        &self,
        from: Option<Position>,
        to: Position,
        became: &HashMap<P::Id, Option<Instance<P::State>>>,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let moved = sqlx::query(
            "update process.managers set commit_position = $2, prepare_position = $3, moved_at = now(), error = null
              where name = $1 and commit_position is not distinct from $4 and prepare_position is not distinct from $5",
        )
        .bind(self.process)
        .bind(commit(to))
        .bind(prepare(to))
        .bind(from.map(commit))
        .bind(from.map(prepare))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        self.write::<P>(&mut transaction, became).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn write<P: Process>(
        &self,
        connection: &mut PgConnection,
        became: &HashMap<P::Id, Option<Instance<P::State>>>,
    ) -> Result<(), sqlx::Error> {
        let over: Vec<String> = became.iter().filter(|(_, now)| now.is_none()).map(|(id, _)| id.to_string()).collect();
        let open: Vec<(String, &Instance<P::State>)> =
            became.iter().filter_map(|(id, now)| Some((id.to_string(), now.as_ref()?))).collect();
        if !over.is_empty() {
            let delete = "delete from process.instances where process = $1 and instance = any($2)";
            sqlx::query(delete).bind(self.process).bind(&over).execute(&mut *connection).await?;
        }
        if !open.is_empty() {
            let upsert = "insert into process.instances
                    (process, instance, state, waits_for, waits_since, parked_on, parked_why, parked_at)
                select $1, instance, state, waits_for, waits_since, parked_on, parked_why,
                    case when parked_on is not null then now() end
                  from unnest($2::text[], $3::jsonb[], $4::text[], $5::timestamptz[], $6::uuid[], $7::text[])
                    as t (instance, state, waits_for, waits_since, parked_on, parked_why)
                on conflict (process, instance) do update set state = excluded.state, waits_for = excluded.waits_for,
                    waits_since = excluded.waits_since, parked_on = excluded.parked_on, parked_why = excluded.parked_why,
                    parked_at = case when instances.parked_on is not distinct from excluded.parked_on
                        then instances.parked_at else excluded.parked_at end,
                    moved_at = now()";
            let column = |of: fn(&Instance<P::State>) -> Option<&str>| -> Vec<Option<&str>> {
                open.iter().map(|(_, instance)| of(instance)).collect()
            };
            sqlx::query(upsert)
                .bind(self.process)
                .bind(open.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
                .bind(open.iter().map(|(_, instance)| Json(&instance.state)).collect::<Vec<_>>())
                .bind(column(|instance| instance.waits.as_ref().map(|(what, _)| what.as_str())))
                .bind(open.iter().map(|(_, instance)| instance.waits.as_ref().map(|waits| waits.1)).collect::<Vec<_>>())
                .bind(open.iter().map(|(_, i)| i.parked.as_ref().map(|stop| stop.event)).collect::<Vec<_>>())
                .bind(column(|instance| instance.parked.as_ref().map(|stop| stop.why.as_str())))
                .execute(&mut *connection)
                .await?;
        }
        self.hold(connection, &over, &open).await
    }

    /// Writes what is held back. It is rarely anything, so instances that can go on cost one statement together.
    async fn hold<S>(
        &self,
        connection: &mut PgConnection,
        over: &[String],
        open: &[(String, &Instance<S>)],
    ) -> Result<(), sqlx::Error> {
        let touched: Vec<&str> =
            over.iter().map(String::as_str).chain(open.iter().map(|(id, _)| id.as_str())).collect();
        let delete = "delete from process.held where process = $1 and instance = any($2)";
        sqlx::query(delete).bind(self.process).bind(&touched).execute(&mut *connection).await?;
        for (id, event) in open
            .iter()
            .flat_map(|(id, instance)| instance.held.values().map(move |event| (id, event)))
            .collect::<Vec<_>>()
        {
            let insert = "insert into process.held (process, instance, commit_position, prepare_position, stream, revision,
                event_id, event_type, data, metadata, recorded_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
            sqlx::query(insert)
                .bind(self.process)
                .bind(id)
                .bind(commit(event.position))
                .bind(prepare(event.position))
                .bind(event.stream.as_str())
                .bind(i64::try_from(event.revision).unwrap_or(i64::MAX))
                .bind(event.id)
                .bind(event.event_type.as_str())
                .bind(&*event.data)
                .bind(&*event.metadata)
                .bind(event.recorded_at)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

fn recorded(row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
    let invalid = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    Ok(RecordedEvent {
        stream: StreamName::new(row.try_get::<&str, _>("stream")?).map_err(|error| invalid(error.into()))?,
        revision: row.try_get::<i64, _>("revision")?.cast_unsigned(),
        position: position(row)?.ok_or_else(|| invalid("an event without a position is held".into()))?,
        id: row.try_get("event_id")?,
        event_type: EventType::new(row.try_get::<String, _>("event_type")?).map_err(|error| invalid(error.into()))?,
        data: row.try_get::<Vec<u8>, _>("data")?.into(),
        metadata: row.try_get::<Vec<u8>, _>("metadata")?.into(),
        recorded_at: row.try_get("recorded_at")?,
    })
}

fn position(row: &PgRow) -> Result<Option<Position>, sqlx::Error> {
    let (commit, prepare): (Option<i64>, Option<i64>) =
        (row.try_get("commit_position")?, row.try_get("prepare_position")?);
    Ok(commit
        .zip(prepare)
        .map(|(commit, prepare)| Position { commit: commit.cast_unsigned(), prepare: prepare.cast_unsigned() }))
}

fn commit(position: Position) -> i64 {
    i64::try_from(position.commit).unwrap_or(i64::MAX)
}

fn prepare(position: Position) -> i64 {
    i64::try_from(position.prepare).unwrap_or(i64::MAX)
}
