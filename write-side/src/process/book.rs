//! What a process manager keeps in Postgres between events: its checkpoint, its instances, and what is held back from
//! those that cannot go on.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::process::Process;
use event_store::{EventType, Position, RecordedEvent, StreamName};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::manager::ManagerError;
use crate::envelope::Envelope;

/// What is kept of one instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance<S> {
    pub(super) state: S,
    pub(super) waits: Option<Waits>,
    /// Why it cannot go on, if it cannot.
    pub(super) parked: Option<Stop>,
    /// What it has still to see, in the order of the log, from the event on that it cannot get over.
    pub(super) held: BTreeMap<Position, RecordedEvent>,
}

impl<S> Instance<S> {
    /// An instance that has seen nothing.
    pub(super) fn new(state: S) -> Self {
        Self { state, waits: None, parked: None, held: BTreeMap::new() }
    }
}

/// What an instance waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waits {
    /// The timeout, by name.
    pub(super) what: String,
    /// Since when, by the database's clock; `None` until the book has it. The time in which nobody was there to ask for what
    /// is waited for is none in which it could have been done.
    pub(super) since: Option<DateTime<Utc>>,
}

/// Why an instance cannot go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stop {
    /// The id of the event on which.
    pub(super) event: Uuid,
    pub(super) why: String,
    /// The id of the command that puts it on record.
    pub(super) told_as: Uuid,
    /// What comes with that command; `None` once it is sent.
    pub(super) untold: Option<Envelope>,
}

/// An instance that cannot go on until somebody has looked at it, or a payment that the gateway does not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, FromRow)]
pub struct Parked {
    /// The process.
    pub process: String,
    /// The instance: for a checkout, the order's id; for charging, the payment's.
    pub instance: String,
    /// The id of the event on which it cannot go on; `None` where it goes on trying by itself.
    pub event: Option<Uuid>,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Every instance that somebody has to look at, the oldest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn parked(pool: &PgPool) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = "select process, instance, parked_on as event, coalesce(parked_why, trouble) as why,
            coalesce(parked_at, trouble_at) as since
          from process.instances where parked_on is not null or trouble is not null order by since, process, instance";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// How far a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The process.
    pub process: String,
    /// The version of the code that folded its states.
    pub version: i32,
    /// How far it has followed the log; `None` when it has not begun.
    pub position: Option<Position>,
    /// When it last moved on.
    pub moved_at: DateTime<Utc>,
    /// Whether a running program leads it.
    pub led: bool,
    /// How many instances have something left to do.
    pub open: i64,
    /// How many of them somebody has to look at.
    pub parked: i64,
    /// Why it stands still, if it does.
    pub error: Option<String>,
}

/// How far every process is, by name.
///
/// # Errors
/// When the database cannot be read.
pub async fn progress(pool: &PgPool) -> Result<Vec<Progress>, sqlx::Error> {
    let sql = "select name, version, commit_position, prepare_position, m.moved_at, error,
            exists (select from process.leases l where l.process = name and leads_until > clock_timestamp()) as led,
            count(i.instance) as open,
            count(i.instance) filter (where parked_on is not null or trouble is not null) as parked
          from process.managers m left join process.instances i on i.process = name group by name order by name";
    let progress = |row: &PgRow| {
        Ok(Progress {
            process: row.try_get("name")?,
            version: row.try_get("version")?,
            position: position(row)?,
            moved_at: row.try_get("moved_at")?,
            led: row.try_get("led")?,
            open: row.try_get("open")?,
            parked: row.try_get("parked")?,
            error: row.try_get("error")?,
        })
    };
    sqlx::query(sql).fetch_all(pool).await?.iter().map(progress).collect()
}

/// The book of one process.
#[derive(Clone)]
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

    /// The version of the code that folded the states.
    pub(super) async fn version(&self) -> Result<i32, sqlx::Error> {
        let sql = "select version from process.managers where name = $1";
        sqlx::query_scalar(sql).bind(self.process).fetch_one(&self.pool).await
    }

    /// How far the log was followed.
    pub(super) async fn checkpoint(&self) -> Result<Option<Position>, sqlx::Error> {
        let sql = "select commit_position, prepare_position from process.managers where name = $1";
        position(&sqlx::query(sql).bind(self.process).fetch_one(&self.pool).await?)
    }

    /// With whom outside the shop the process deals. The first that is named stays.
    pub(super) async fn deals_with(&self, wanted: &str) -> Result<String, sqlx::Error> {
        let sql =
            "update process.managers set deals_with = coalesce(deals_with, $2) where name = $1 returning deals_with";
        sqlx::query_scalar(sql).bind(self.process).bind(wanted).fetch_one(&self.pool).await
    }

    /// Has the process deal with this one from now on.
    pub(super) async fn deal_with(&self, version: i32, wanted: &str) -> Result<(), sqlx::Error> {
        self.open(version).await?;
        let update = "update process.managers set deals_with = $2 where name = $1";
        sqlx::query(update).bind(self.process).bind(wanted).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes why the process stands still, or that it does not.
    pub(super) async fn note(&self, error: Option<&str>) -> Result<(), sqlx::Error> {
        let sql = "update process.managers set error = $2 where name = $1 and error is distinct from $2";
        sqlx::query(sql).bind(self.process).bind(error).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes what somebody has to look at, though the instance goes on trying.
    pub(super) async fn trouble(&self, instance: &str, trouble: &str) -> Result<(), sqlx::Error> {
        let update = "update process.instances set trouble = $3, trouble_at = coalesce(trouble_at, now())
            where process = $1 and instance = $2 and trouble is distinct from $3";
        sqlx::query(update).bind(self.process).bind(instance).bind(trouble).execute(&self.pool).await?;
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

    /// Every instance that cannot go on: the event on which, why, and the id of the command that puts it on record.
    pub(super) async fn all_parked<P: Process>(&self) -> Result<Vec<(P::Id, Uuid, String, Uuid)>, ManagerError> {
        let sql = "select instance, parked_on, parked_why, parked_as from process.instances
            where process = $1 and parked_on is not null";
        let rows = sqlx::query_as(sql).bind(self.process).fetch_all(&self.pool).await?;
        let stop = |(id, event, why, told_as): (String, _, _, _)| Ok((id.parse()?, event, why, told_as));
        rows.into_iter().map(stop).collect()
    }

    /// These instances, with what is held back from them.
    pub(super) async fn load<P: Process>(
        &self,
        ids: &[P::Id],
    ) -> Result<HashMap<P::Id, Instance<P::State>>, ManagerError> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let sql =
            "select instance, state, waits_for, waits_since, parked_on, parked_why, parked_as from process.instances
            where process = $1 and instance = any($2)";
        let rows = sqlx::query(sql).bind(self.process).bind(&names).fetch_all(&self.pool).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let id: P::Id = row.try_get::<&str, _>("instance")?.parse()?;
            let Json(state) = row.try_get("state")?;
            let waits = row.try_get::<Option<String>, _>("waits_for")?;
            let since = row.try_get("waits_since")?;
            let waits = waits.map(|what| Waits { what, since });
            let parked = match row.try_get("parked_on")? {
                Some(event) => {
                    let (why, told_as) = (row.try_get("parked_why")?, row.try_get("parked_as")?);
                    Some(Stop { event, why, told_as, untold: None })
                }
                None => None,
            };
            let held = if parked.is_some() { self.held(&id.to_string()).await? } else { BTreeMap::new() };
            found.insert(id, Instance { state, waits, parked, held });
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
                    (process, instance, state, waits_for, waits_since, parked_on, parked_why, parked_as, parked_at)
                select $1, instance, state, waits_for,
                    case when waits_for is not null then coalesce(waits_since, clock_timestamp()) end,
                    parked_on, parked_why, parked_as, case when parked_on is not null then now() end
                  from unnest($2::text[], $3::jsonb[], $4::text[], $5::timestamptz[], $6::uuid[], $7::text[], $8::uuid[])
                    as t (instance, state, waits_for, waits_since, parked_on, parked_why, parked_as)
                on conflict (process, instance) do update set state = excluded.state, waits_for = excluded.waits_for,
                    waits_since = excluded.waits_since, parked_on = excluded.parked_on, parked_why = excluded.parked_why,
                    parked_as = excluded.parked_as,
                    parked_at = case when instances.parked_as is not distinct from excluded.parked_as
                        then instances.parked_at else excluded.parked_at end,
                    trouble = null, trouble_at = null, moved_at = now()";
            let column = |of: fn(&Instance<P::State>) -> Option<&str>| -> Vec<Option<&str>> {
                open.iter().map(|(_, instance)| of(instance)).collect()
            };
            let stop = |of: fn(&Stop) -> Option<Uuid>| -> Vec<Option<Uuid>> {
                open.iter().map(|(_, instance)| instance.parked.as_ref().and_then(of)).collect()
            };
            let since = open.iter().map(|(_, instance)| instance.waits.as_ref().and_then(|waits| waits.since));
            sqlx::query(upsert)
                .bind(self.process)
                .bind(open.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
                .bind(open.iter().map(|(_, instance)| Json(&instance.state)).collect::<Vec<_>>())
                .bind(column(|instance| instance.waits.as_ref().map(|waits| waits.what.as_str())))
                .bind(since.collect::<Vec<_>>())
                .bind(stop(|stop| Some(stop.event)))
                .bind(column(|instance| instance.parked.as_ref().map(|stop| stop.why.as_str())))
                .bind(stop(|stop| Some(stop.told_as)))
                .execute(&mut *connection)
                .await?;
        }
        self.hold(connection, &over, &open).await
    }

    /// Writes what is held back. It is rarely anything.
    async fn hold<S>(
        &self,
        connection: &mut PgConnection,
        over: &[String],
        open: &[(String, &Instance<S>)],
    ) -> Result<(), sqlx::Error> {
        let touched: Vec<&str> =
            over.iter().map(String::as_str).chain(open.iter().map(|(id, _)| id.as_str())).collect();
        let held: Vec<(&str, &RecordedEvent)> = open
            .iter()
            .flat_map(|(id, instance)| instance.held.values().map(move |event| (id.as_str(), event)))
            .collect();
        let names: Vec<&str> = held.iter().map(|(id, _)| *id).collect();
        let commits: Vec<i64> = held.iter().map(|(_, event)| commit(event.position)).collect();
        let delete = "delete from process.held where process = $1 and instance = any($2)
            and (instance, commit_position) not in (select * from unnest($3::text[], $4::bigint[]))";
        sqlx::query(delete)
            .bind(self.process)
            .bind(&touched)
            .bind(&names)
            .bind(&commits)
            .execute(&mut *connection)
            .await?;
        if held.is_empty() {
            return Ok(());
        }
        let insert = "insert into process.held (process, instance, commit_position, prepare_position, stream, revision,
                event_id, event_type, data, metadata, recorded_at)
            select $1, * from unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::uuid[],
                $8::text[], $9::bytea[], $10::bytea[], $11::timestamptz[])
            on conflict do nothing";
        let events = || held.iter().map(|(_, event)| *event);
        let revision = |event: &RecordedEvent| i64::try_from(event.revision).unwrap_or(i64::MAX);
        sqlx::query(insert)
            .bind(self.process)
            .bind(&names)
            .bind(&commits)
            .bind(events().map(|event| prepare(event.position)).collect::<Vec<_>>())
            .bind(events().map(|event| event.stream.as_str()).collect::<Vec<_>>())
            .bind(events().map(revision).collect::<Vec<_>>())
            .bind(events().map(|event| event.id).collect::<Vec<_>>())
            .bind(events().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
            .bind(events().map(|event| &*event.data).collect::<Vec<&[u8]>>())
            .bind(events().map(|event| &*event.metadata).collect::<Vec<&[u8]>>())
            .bind(events().map(|event| event.recorded_at).collect::<Vec<_>>())
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Writes the states anew that another version of the code folded, all of them or none. `false` when somebody else was
    /// faster. Whoever waits goes on waiting since then.
    pub(super) async fn refold<P: Process>(
        &self,
        from: i32,
        states: &[(P::Id, P::State)],
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let update = "update process.managers set version = $3 where name = $1 and version = $2";
        let update = sqlx::query(update).bind(self.process).bind(from).bind(P::VERSION);
        if update.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let names: Vec<String> = states.iter().map(|(id, _)| id.to_string()).collect();
        let waits: Vec<Option<String>> =
            states.iter().map(|(_, state)| P::waits_for(state).map(|timeout| timeout.to_string())).collect();
        let delete = "delete from process.instances where process = $1 and instance <> all($2)";
        sqlx::query(delete).bind(self.process).bind(&names).execute(&mut *transaction).await?;
        let upsert = "insert into process.instances (process, instance, state, waits_for, waits_since)
            select $1, instance, state, waits_for, case when waits_for is not null then clock_timestamp() end
              from unnest($2::text[], $3::jsonb[], $4::text[]) as t (instance, state, waits_for)
            on conflict (process, instance) do update set state = excluded.state, waits_for = excluded.waits_for,
                waits_since = case when instances.waits_for is not distinct from excluded.waits_for
                    then instances.waits_since else excluded.waits_since end";
        sqlx::query(upsert)
            .bind(self.process)
            .bind(&names)
            .bind(states.iter().map(|(_, state)| Json(state)).collect::<Vec<_>>())
            .bind(&waits)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// From where on each parked instance has still to see what happened.
    pub(super) async fn holding<P: Process>(&self) -> Result<HashMap<P::Id, Position>, ManagerError> {
        let sql = "select distinct on (instance) instance, commit_position, prepare_position from process.held
            where process = $1 order by instance, commit_position";
        let rows = sqlx::query(sql).bind(self.process).fetch_all(&self.pool).await?;
        let first = |row: &PgRow| {
            let from = position(row)?.unwrap_or_else(|| Position::at(0));
            Ok((row.try_get::<&str, _>("instance")?.parse()?, from))
        };
        rows.iter().map(first).collect()
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

pub(super) fn commit(position: Position) -> i64 {
    i64::try_from(position.commit).unwrap_or(i64::MAX)
}

pub(super) fn prepare(position: Position) -> i64 {
    i64::try_from(position.prepare).unwrap_or(i64::MAX)
}
