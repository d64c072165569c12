//! The generations of a read model: which tables there are, which of them readers see, how far each is.

use chrono::{DateTime, Utc};
use event_store::Position;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::{Arguments as _, Connection as _, FromRow, PgExecutor, Row as _};

use super::leases::Lead;
use super::sql::{self, Statement};
use crate::read_model::ReadModel;
use crate::rows::Tables as _;

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Readers see it.
    Live,
    /// A rebuild is filling it.
    Building,
    /// It was live before the one that is, and is kept.
    Retired,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Building => "building",
            Self::Retired => "retired",
        }
    }

    fn parse(text: &str) -> Result<Self, sqlx::Error> {
        match text {
            "live" => Ok(Self::Live),
            "building" => Ok(Self::Building),
            "retired" => Ok(Self::Retired),
            other => Err(sqlx::Error::Decode(format!("a generation's state is {other:?}").into())),
        }
    }
}

/// A set of tables of a read model, and how far the log is folded into it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Generation {
    /// The read model's name.
    pub name: String,
    /// The version of the code that folds into these tables.
    pub version: i32,
    /// Counts the sets of tables that were ever made for this name.
    pub generation: i32,
    /// What it is for.
    pub state: State,
    /// The schema of its tables.
    pub schema_name: String,
    /// How far the log is folded in; `None` before the first event.
    pub checkpoint: Option<Position>,
    /// When the checkpoint last moved.
    pub moved_at: DateTime<Utc>,
    /// Why the projector stands still, if it does.
    pub error: Option<String>,
    /// How many events were folded in.
    pub folded: i64,
    /// Counts how often somebody else than the projector has changed what is parked.
    pub parked_changes: i64,
    /// Where events of a stream are missing; nothing further is folded in.
    pub gap: Option<String>,
}

impl FromRow<'_, PgRow> for Generation {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            generation: row.try_get("generation")?,
            state: State::parse(row.try_get("state")?)?,
            schema_name: row.try_get("schema_name")?,
            checkpoint: position(row)?,
            moved_at: row.try_get("moved_at")?,
            error: row.try_get("error")?,
            folded: row.try_get("folded")?,
            parked_changes: row.try_get("parked_changes")?,
            gap: row.try_get("gap")?,
        })
    }
}

/// Every generation there is, by name and age.
///
/// # Errors
/// When the database cannot be read.
pub async fn generations(database: impl PgExecutor<'_>) -> Result<Vec<Generation>, sqlx::Error> {
    sqlx::query_as("select * from control.generations order by name, generation").fetch_all(database).await
}

/// How a read model stands: what readers see of it, and who sees to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The generation that readers see.
    pub live: Generation,
    /// Whether a running program leads its projector.
    pub led: bool,
    /// How many events are parked.
    pub parked: i64,
}

/// How every read model stands, by name.
///
/// # Errors
/// When the database cannot be read.
pub async fn standings(database: impl PgExecutor<'_>) -> Result<Vec<Standing>, sqlx::Error> {
    let sql = "select g.*,
            exists (select from control.leases l where l.name = g.name and l.leads_until > clock_timestamp()) as led,
            (select count(*) from control.parked p where p.name = g.name and p.generation = g.generation) as parked
          from control.generations g where state = 'live' order by name";
    let standing = |row: &PgRow| {
        Ok(Standing { live: Generation::from_row(row)?, led: row.try_get("led")?, parked: row.try_get("parked")? })
    };
    sqlx::query(sql).fetch_all(database).await?.iter().map(standing).collect()
}

/// The generation that readers see.
pub(super) async fn live(database: impl PgExecutor<'_>, name: &str) -> Result<Option<Generation>, sqlx::Error> {
    sqlx::query_as("select * from control.generations where name = $1 and state = 'live'")
        .bind(name)
        .fetch_optional(database)
        .await
}

/// The live generation, locked: its projector cannot commit until this transaction ends.
pub(super) async fn lock_live(connection: &mut PgConnection, name: &str) -> Result<Option<Generation>, sqlx::Error> {
    let lock = "select * from control.generations where name = $1 and state = 'live' for update";
    match sqlx::query_as(lock).bind(name).fetch_optional(&mut *connection).await? {
        Some(live) => Ok(Some(live)),
        // Another one became live while this statement waited; the next statement sees it.
        None => sqlx::query_as(lock).bind(name).fetch_optional(connection).await,
    }
}

/// Makes an empty first generation when there is none.
pub(super) async fn prepare<M: ReadModel>(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock_name(&mut transaction, M::NAME).await?;
    if live(&mut *transaction, M::NAME).await?.is_none() {
        let generation = add::<M>(&mut transaction, State::Live).await?;
        sql::create_tables(&mut transaction, &generation.schema_name, M::TABLES_SQL).await?;
        sql::in_schema(&mut transaction, &generation.schema_name, M::KEYS_SQL).await?;
        sql::point_views(&mut transaction, &generation.schema_name, &M::Tables::names(), false).await?;
    }
    transaction.commit().await
}

/// Adds a generation to the book, into which nothing is folded yet.
pub(super) async fn add<M: ReadModel>(connection: &mut PgConnection, state: State) -> Result<Generation, sqlx::Error> {
    // Those that were made before numbers were kept count too.
    let next = "with next as (
            insert into control.generation_numbers as numbers (name, last)
            select $1, coalesce(max(generation), 0) + 1 from control.generations where name = $1
            on conflict (name) do update set last = greatest(numbers.last + 1, excluded.last)
            returning last as generation
        )
        insert into control.generations (name, version, generation, state, schema_name)
        select $1, $2, generation, $3, format('%s_v%s_g%s', $1, $2, generation) from next
        returning *";
    sqlx::query_as(next).bind(M::NAME).bind(M::VERSION).bind(state.name()).fetch_one(connection).await
}

/// A statement that moves the checkpoint of a generation, if it still is where this process thinks and in the same state,
/// nobody else has changed its rows or what is parked, and the lead is still this process's. Otherwise nothing is written with
/// it.
pub(super) fn advance(
    generation: &Generation,
    lead: Option<Lead>,
    to: Position,
    events: usize,
) -> Result<Statement, sqlx::Error> {
    let bind = || {
        let mut arguments = PgArguments::default();
        arguments.add(&generation.name)?;
        arguments.add(generation.generation)?;
        arguments.add(commit(to))?;
        arguments.add(prepared(to))?;
        arguments.add(generation.checkpoint.map(commit))?;
        arguments.add(generation.checkpoint.map(prepared))?;
        arguments.add(generation.state.name())?;
        arguments.add(events as i64)?;
        arguments.add(generation.parked_changes)?;
        arguments.add(lead.map(|lead| lead.leader))?;
        arguments.add(lead.map(|lead| lead.term))?;
        Ok(arguments)
    };
    let update =
        "update control.generations set commit_position = $3, prepare_position = $4, moved_at = now(), error = null,
                folded = folded + $8
          where name = $1 and generation = $2
            and commit_position is not distinct from $5 and prepare_position is not distinct from $6
            and state = $7 and parked_changes = $9
            and ($10::uuid is null or exists (select from control.leases l
                where l.name = $1 and l.leader = $10 and l.term = $11 and l.leads_until > clock_timestamp()))";
    Ok(Statement::guarded(update, bind().map_err(sqlx::Error::Encode)?))
}

/// Lets the projector of a generation know that somebody else has changed its rows or what is parked.
pub(super) async fn changed(connection: &mut PgConnection, generation: &Generation) -> Result<(), sqlx::Error> {
    let count =
        "update control.generations set parked_changes = parked_changes + 1 where name = $1 and generation = $2";
    sqlx::query(count).bind(&generation.name).bind(generation.generation).execute(connection).await.map(drop)
}

/// Takes back why the projector of a generation stood still, as it does no more.
pub(super) async fn clear_error(pool: &PgPool, generation: &Generation) -> Result<(), sqlx::Error> {
    let clear = "update control.generations set error = null where name = $1 and generation = $2 and gap is null";
    sqlx::query(clear).bind(&generation.name).bind(generation.generation).execute(pool).await.map(drop)
}

/// Notes how far the log is folded into a generation that was filled, and how many events that were.
pub(super) async fn fill(
    connection: &mut PgConnection,
    generation: &mut Generation,
    checkpoint: Option<Position>,
    events: u64,
) -> Result<(), sqlx::Error> {
    (generation.checkpoint, generation.folded) = (checkpoint, events.cast_signed());
    let fill =
        "update control.generations set commit_position = $3, prepare_position = $4, folded = $5, moved_at = now()
          where name = $1 and generation = $2";
    sqlx::query(fill)
        .bind(&generation.name)
        .bind(generation.generation)
        .bind(checkpoint.map(commit))
        .bind(checkpoint.map(prepared))
        .bind(generation.folded)
        .execute(connection)
        .await
        .map(drop)
}

/// Notes that events are missing: nothing further is folded into this generation, whoever leads.
pub(super) async fn note_gap(
    database: impl PgExecutor<'_>,
    generation: &Generation,
    gap: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("update control.generations set gap = $3, error = $3 where name = $1 and generation = $2")
        .bind(&generation.name)
        .bind(generation.generation)
        .bind(gap)
        .execute(database)
        .await?;
    Ok(())
}

/// Notes why the projector of a generation stands still.
pub(super) async fn note_error(pool: &PgPool, generation: &Generation, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update control.generations set error = $3 where name = $1 and generation = $2")
        .bind(&generation.name)
        .bind(generation.generation)
        .bind(error)
        .execute(pool)
        .await?;
    Ok(())
}

/// Makes a built generation the live one and retires the one that was. Runs in the transaction that holds the lock of
/// the live generation.
pub(super) async fn switch<M: ReadModel>(
    connection: &mut PgConnection,
    from: &Generation,
    to: &Generation,
) -> Result<(), sqlx::Error> {
    let set =
        "update control.generations set state = $3, error = null, moved_at = now() where name = $1 and generation = $2";
    for (generation, state) in [(from, "retired"), (to, "live")] {
        let update = sqlx::query(set).bind(&generation.name).bind(generation.generation).bind(state);
        update.execute(&mut *connection).await?;
    }
    // Who followed it before, when it was live the last time, has other rows in memory.
    changed(connection, to).await?;
    sql::point_views(connection, &to.schema_name, &M::Tables::names(), from.version == to.version).await
}

/// Drops what a rebuild that did not finish has left, and with `retired` what was live before, all but the newest.
pub(super) async fn sweep(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let old: Vec<Generation> = sqlx::query_as(
        "select * from control.generations g where name = $1 and (state = 'building' or (state = 'retired'
            and moved_at < (select max(moved_at) from control.generations where name = $1 and state = 'retired')))",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    for generation in old {
        let mut transaction = connection.begin().await?;
        // An analyst's long query on old tables must not hold up this one; the next rebuild tries again.
        sqlx::query("set local lock_timeout = '2s'").execute(&mut *transaction).await?;
        let dropped = sql::drop_tables(&mut transaction, &generation.schema_name).await;
        if let Err(error) = dropped {
            tracing::warn!(schema = generation.schema_name, %error, "old tables could not be dropped yet");
            transaction.rollback().await?;
            continue;
        }
        sqlx::query("delete from control.generations where name = $1 and generation = $2")
            .bind(&generation.name)
            .bind(generation.generation)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// One process at a time makes generations of a read model; held until the end of the transaction.
async fn lock_name(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('storefold generations ' || $1, 0))")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the right to rebuild a read model, for as long as the connection lives. `false` when somebody else has it.
pub(super) async fn claim_rebuild(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('storefold rebuild ' || $1, 0))")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Gives the right to rebuild a read model back. The server would do so as well, some time after the connection is closed.
pub(super) async fn end_claim(mut connection: PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_unlock(hashtextextended('storefold rebuild ' || $1, 0))")
        .bind(name)
        .execute(&mut connection)
        .await?;
    connection.close().await
}

/// The position in a row, if there is one.
pub(super) fn position(row: &PgRow) -> Result<Option<Position>, sqlx::Error> {
    let unsigned = |column: &str| -> Result<Option<u64>, sqlx::Error> {
        let number: Option<i64> = row.try_get(column)?;
        number.map(u64::try_from).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
    };
    let (commit, prepare) = (unsigned("commit_position")?, unsigned("prepare_position")?);
    Ok(commit.zip(prepare).map(|(commit, prepare)| Position { commit, prepare }))
}

pub(super) fn commit(position: Position) -> i64 {
    i64::try_from(position.commit).unwrap_or(i64::MAX)
}

pub(super) fn prepared(position: Position) -> i64 {
    i64::try_from(position.prepare).unwrap_or(i64::MAX)
}
