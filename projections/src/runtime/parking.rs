//! Events that cannot be folded: set aside with what shares their key, tried again, or left out on purpose.
//!
//! What is parked of a generation is changed in two places: by its projector, together with the checkpoint, and in here, under
//! the lock of the generation and with its count of changes raised, so that the projector reads anew what is parked before
//! it folds on.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use event_store::{Direction, Position, StreamName};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{FromRow, PgExecutor, Row as _};
use uuid::Uuid;

use super::generations::{self, Generation, commit, position, prepared};
use super::log_event::LogEvent;
use super::sql::Statement;
use super::{Context, ProjectionError, batch};
use crate::read_model::ReadModel;
use crate::rows::Tables as _;

/// An event of a page that is held back.
pub(super) struct Held {
    /// Its place in the page.
    pub(super) place: usize,
    /// Its key.
    pub(super) key: String,
    /// Why it cannot be folded; `None` when it waits behind one that cannot.
    pub(super) error: Option<String>,
}

/// What is held back of a read model.
#[derive(Default)]
pub(super) struct Parking {
    /// Keys of which an event could not be folded.
    pub(super) keys: HashSet<String>,
    /// Events that are left out.
    pub(super) skipped: HashSet<Uuid>,
}

impl Parking {
    /// What is held back of a generation.
    pub(super) async fn of(pool: &PgPool, generation: &Generation) -> Result<Self, sqlx::Error> {
        let keys = sqlx::query_scalar("select distinct key from control.parked where name = $1 and generation = $2");
        let keys = keys.bind(&generation.name).bind(generation.generation).fetch_all(pool).await?;
        Ok(Self { keys: keys.into_iter().collect(), skipped: skipped(pool, &generation.name).await? })
    }

    /// What is held back at the beginning of a rebuild: what is left out, stays out.
    pub(super) async fn of_a_rebuild(database: impl PgExecutor<'_>, name: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { keys: HashSet::new(), skipped: skipped(database, name).await? })
    }

    /// Takes note of what was held back.
    pub(super) fn hold(&mut self, held: &[Held]) {
        let fresh = held.iter().filter(|held| held.error.is_some());
        self.keys.extend(fresh.map(|held| held.key.clone()));
    }
}

async fn skipped(database: impl PgExecutor<'_>, name: &str) -> Result<HashSet<Uuid>, sqlx::Error> {
    let skipped = sqlx::query_scalar("select event_id from control.skipped where name = $1");
    Ok(skipped.bind(name).fetch_all(database).await?.into_iter().collect())
}

/// Parks what was held back of a page. `attempts` says how often an event has been tried.
pub(super) async fn park(
    connection: &mut PgConnection,
    generation: &Generation,
    events: &[LogEvent],
    held: &[Held],
    attempts: impl Fn(&LogEvent) -> i32,
) -> Result<(), sqlx::Error> {
    if held.is_empty() {
        return Ok(());
    }
    let of = |held: &Held| &events[held.place];
    let insert = "insert into control.parked (name, generation, commit_position, prepare_position, key, stream, revision,
            event_id, event_type, error, attempts)
        select $1, $2, parked.* from unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::uuid[],
            $9::text[], $10::text[], $11::int[]) as parked";
    let tried = |held: &Held| if held.error.is_some() { attempts(of(held)) } else { 0 };
    sqlx::query(insert)
        .bind(&generation.name)
        .bind(generation.generation)
        .bind(held.iter().map(|held| commit(of(held).position)).collect::<Vec<_>>())
        .bind(held.iter().map(|held| prepared(of(held).position)).collect::<Vec<_>>())
        .bind(held.iter().map(|held| &held.key).collect::<Vec<_>>())
        .bind(held.iter().map(|held| of(held).stream.as_str()).collect::<Vec<_>>())
        .bind(held.iter().map(|held| of(held).revision.cast_signed()).collect::<Vec<_>>())
        .bind(held.iter().map(|held| of(held).id).collect::<Vec<_>>())
        .bind(held.iter().map(|held| of(held).event_type.as_str()).collect::<Vec<_>>())
        .bind(held.iter().map(|held| held.error.as_deref()).collect::<Vec<_>>())
        .bind(held.iter().map(tried).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    for held in held.iter().filter(|held| held.error.is_some()) {
        let (event, error) = (of(held), held.error.as_deref());
        tracing::error!(
            read_model = generation.name, key = held.key, stream = %event.stream, event.revision, event.position = %event.position,
            error, "an event cannot be folded; it is parked with its key"
        );
    }
    Ok(())
}

/// A parked event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Parked {
    /// The read model.
    #[serde(rename = "read_model")]
    pub name: String,
    /// What it is about: everything of this key waits.
    pub key: String,
    /// The event's place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: String,
    /// Its place in there.
    pub revision: i64,
    /// Its id.
    pub event: Uuid,
    /// Its type.
    pub event_type: String,
    /// Why it cannot be folded; `None` when it waits behind one that cannot.
    pub error: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Parked {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            key: row.try_get("key")?,
            position: position(row)?.ok_or_else(|| sqlx::Error::Decode("a parked event has no position".into()))?,
            stream: row.try_get("stream")?,
            revision: row.try_get("revision")?,
            event: row.try_get("event_id")?,
            event_type: row.try_get("event_type")?,
            error: row.try_get("error")?,
            attempts: row.try_get("attempts")?,
            since: row.try_get("parked_at")?,
        })
    }
}

/// Everything that is parked of what readers see, by read model and in the order of the log.
///
/// # Errors
/// When the database cannot be read.
pub async fn parked(pool: &PgPool) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = "select p.* from control.parked p join control.generations g using (name, generation)
        where g.state = 'live' order by p.name, p.commit_position, p.prepare_position";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// What came of trying a key again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Redriven {
    /// How many events were folded.
    pub folded: usize,
    /// How many are still parked.
    pub parked: usize,
}

/// Folds what is parked of a key, in order, as far as it can be folded now.
pub(super) async fn redrive<M: ReadModel>(context: &Context, key: &str) -> Result<Redriven, ProjectionError> {
    // Most of them are read before the projector is held.
    let mut known = HashMap::new();
    for parked in parked(&context.pool).await?.iter().filter(|parked| parked.name == M::NAME && parked.key == key) {
        known.insert(parked.event, recorded(context, parked).await?);
    }
    let mut transaction = context.pool.begin().await?;
    let live = lock::<M>(&mut transaction).await?;
    let redriven = refold::<M>(context, &mut transaction, &live, key, known).await?;
    generations::changed(&mut transaction, &live).await?;
    transaction.commit().await?;
    context.moved.send_replace(());
    Ok(redriven)
}

/// Folds what is parked of a key of a generation as far as it can be folded now. `known` are events that were read before.
async fn refold<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    generation: &Generation,
    key: &str,
    mut known: HashMap<Uuid, LogEvent>,
) -> Result<Redriven, ProjectionError> {
    let sql = "select * from control.parked where name = $1 and generation = $2 and key = $3
        order by commit_position, prepare_position";
    let query = sqlx::query_as(sql).bind(M::NAME).bind(generation.generation).bind(key);
    let waiting: Vec<Parked> = query.fetch_all(&mut *connection).await?;
    let mut events = Vec::with_capacity(waiting.len());
    for parked in &waiting {
        events.push(match known.remove(&parked.event) {
            Some(event) => event,
            None => recorded(context, parked).await?,
        });
    }
    let parking = Parking::of_a_rebuild(&mut *connection, M::NAME).await?;
    let (tables, held) = batch::fold_from::<M>(connection, generation, &parking, &events).await?;
    let mut statement = Statement::default();
    tables.write(&generation.schema_name, &mut statement)?;
    statement.execute(connection).await?;
    let delete = "delete from control.parked where name = $1 and generation = $2 and key = $3";
    sqlx::query(delete).bind(M::NAME).bind(generation.generation).bind(key).execute(&mut *connection).await?;
    let attempts: HashMap<Uuid, i32> = waiting.iter().map(|parked| (parked.event, parked.attempts)).collect();
    let tried = |event: &LogEvent| attempts.get(&event.id).map_or(1, |attempts| attempts.saturating_add(1));
    park(connection, generation, &events, &held, tried).await?;
    Ok(Redriven { folded: events.len() - held.len(), parked: held.len() })
}

/// Has a generation that is about to go live know what was redriven and skipped while it was built, or was not live. The live
/// generation is locked. `skipped` is what it has left out.
///
/// # Errors
/// [`ProjectionError::SkippedMeanwhile`], when it has folded what is left out by now.
pub(super) async fn bring_up_to_date<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    generation: &Generation,
    skipped: &HashSet<Uuid>,
) -> Result<(), ProjectionError> {
    let sql = "select event_id, key from control.parked where name = $1 and generation = $2";
    let parked = sqlx::query_as(sql).bind(M::NAME).bind(generation.generation);
    let parked: Vec<(Uuid, String)> = parked.fetch_all(&mut *connection).await?;
    let now = self::skipped(&mut *connection, M::NAME).await?;
    let is_folded = |event: &&Uuid| !skipped.contains(event) && parked.iter().all(|(parked, _)| parked != *event);
    if generation.state == generations::State::Building && now.iter().any(|event| is_folded(&event)) {
        return Err(ProjectionError::SkippedMeanwhile { name: M::NAME.to_owned() });
    }
    for key in parked.into_iter().map(|(_, key)| key).collect::<HashSet<_>>() {
        refold::<M>(context, connection, generation, &key, HashMap::new()).await?;
    }
    Ok(())
}

/// Leaves an event out that cannot be folded, and folds what waited behind it.
pub(super) async fn skip<M: ReadModel>(
    context: &Context,
    event: Uuid,
    reason: &str,
) -> Result<Redriven, ProjectionError> {
    let mut transaction = context.pool.begin().await?;
    let live = lock::<M>(&mut transaction).await?;
    let delete =
        "delete from control.parked where name = $1 and generation = $2 and event_id = $3 and error is not null
        returning *";
    let query = sqlx::query_as::<_, Parked>(delete).bind(M::NAME).bind(live.generation).bind(event);
    let Some(parked) = query.fetch_optional(&mut *transaction).await? else {
        return Err(ProjectionError::NotParked { name: M::NAME.to_owned(), event });
    };
    let insert = "insert into control.skipped (name, event_id, stream, revision, event_type, error, reason)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict (name, event_id) do update set reason = excluded.reason";
    sqlx::query(insert)
        .bind(M::NAME)
        .bind(event)
        .bind(&parked.stream)
        .bind(parked.revision)
        .bind(&parked.event_type)
        .bind(&parked.error)
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
    let redriven = refold::<M>(context, &mut transaction, &live, &parked.key, HashMap::new()).await?;
    generations::changed(&mut transaction, &live).await?;
    transaction.commit().await?;
    context.moved.send_replace(());
    Ok(redriven)
}

/// The live generation, with its projector held at its checkpoint until the transaction ends.
pub(super) async fn lock<M: ReadModel>(connection: &mut PgConnection) -> Result<Generation, ProjectionError> {
    let live = generations::lock_live(connection, M::NAME).await?;
    let live = live.ok_or_else(|| ProjectionError::NotPrepared { name: M::NAME.to_owned() })?;
    match live.version {
        version if version == M::VERSION => Ok(live),
        live => Err(ProjectionError::Outdated { name: M::NAME.to_owned(), live, known: M::VERSION }),
    }
}

/// A parked event as the log has it.
async fn recorded(context: &Context, parked: &Parked) -> Result<LogEvent, ProjectionError> {
    let gone =
        || ProjectionError::ParkedAndGone { stream: parked.stream.clone(), revision: parked.revision.cast_unsigned() };
    let stream = StreamName::new(parked.stream.as_str()).map_err(|_| gone())?;
    let from = Some(parked.revision.cast_unsigned());
    let page = context.store.read_stream(&stream, from, Direction::Forwards, 1).await?;
    page.events.into_iter().find(|event| event.id == parked.event).map(LogEvent::from).ok_or_else(gone)
}
