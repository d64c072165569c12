//! Holding what readers see against a second fold of the log, and mending what differs.
//!
//! The second fold shares nothing with the projector but the read model's own fold and the rows in memory: it goes through the log event by event,
//! without batches, rounds or filters of the server, and keeps everything in memory, or in a file what does not fit. Where the rows of a key follow from the
//! streams of that key alone, a key can also be folded by itself, from its streams.

use std::collections::BTreeSet;

use event_store::{Direction, Filter, Position, RecordedEvent, StreamName};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use super::generations::{self, Generation};
use super::sql::Statement;
use super::{Context, ProjectionError, parking};
use crate::read_model::{FoldError, ReadModel};
use crate::rows::Tables;
use crate::shop_event;

/// How many events are read at a time.
const PAGE: usize = if cfg!(test) { 7 } else { 2_000 };

/// How many keys are folded at a time.
const AT_ONCE: usize = 8;

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The primary key, column by column.
    pub key: Vec<(&'static str, String)>,
    /// The columns that differ. All of them where the row is only on one side.
    pub columns: Vec<Column>,
}

/// A column that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What readers see; `None` where there is no such row.
    pub table: Option<String>,
    /// What the log says; `None` where there should be no such row.
    pub log: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key: Vec<String> = self.key.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        write!(f, "{} where {}", self.table, key.join(" and "))?;
        for Column { name, table, log } in &self.columns {
            if let Some(table) = table {
                write!(f, "\n  - {name}: {table}")?;
            }
            if let Some(log) = log {
                write!(f, "\n  + {name}: {log}")?;
            }
        }
        Ok(())
    }
}

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every row.
    Full,
    /// So many keys, chosen at random, where a key can be folded by itself; else every row.
    Sample(u32),
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// As of which position.
    pub position: Option<Position>,
    /// How many rows were compared, those that are only on one side included.
    pub rows: u64,
    /// Those that differ, at most [`MOST_DIFFERENCES`] of them.
    pub differences: Vec<Difference>,
    /// How many differ.
    pub differing: u64,
}

/// How many differences are told one by one.
pub const MOST_DIFFERENCES: usize = 100;

/// Verifies what readers see of a read model, as of its checkpoint, while it goes on being followed.
pub(super) async fn verify<M: ReadModel>(
    context: &Context,
    extent: Extent,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verified, ProjectionError> {
    // Between two statements the log may be folded for long; nobody waits for this transaction.
    let options = context.pool.connect_options().as_ref().clone();
    let options = options.options([("idle_in_transaction_session_timeout", "0")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let mut snapshot = connection.begin_with("begin isolation level repeatable read, read only").await?;
    let live = generations::live(&mut *snapshot, M::NAME).await?;
    let live = live.ok_or_else(|| ProjectionError::NotPrepared { name: M::NAME.to_owned() })?;
    let verified = verify_generation::<M>(context, &mut snapshot, &live, extent, progress).await?;
    snapshot.rollback().await?;
    connection.close().await?;
    Ok(verified)
}

/// Verifies a generation, whoever sees it.
pub(super) async fn verify_generation<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    generation: &Generation,
    extent: Extent,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verified, ProjectionError> {
    if generation.version != M::VERSION {
        let (live, known) = (generation.version, M::VERSION);
        return Err(ProjectionError::Outdated { name: M::NAME.to_owned(), live, known });
    }
    let left_out = left_out(connection, generation).await?;
    let mut comparison = Comparison::default();
    match (extent, M::ROWS_OF_A_KEY) {
        (Extent::Sample(keys), Some((table, column))) => {
            let keys = some_keys(connection, generation, table, column, keys).await?;
            let (until, left_out) = (generation.checkpoint, &left_out);
            let fold = |key: String| {
                let fold = async move {
                    let events = events_of_key::<M>(context, until, left_out, &key).await?;
                    fold_all::<M>(&events).map(|tables| (key, tables))
                };
                fold.boxed()
            };
            let folds: Vec<_> = keys.into_iter().map(fold).collect();
            let mut folds = futures::stream::iter(folds).buffered(AT_ONCE);
            while let Some((key, mut tables)) = folds.try_next().await? {
                let only = Some((column, key.as_str()));
                tables.compare(&generation.schema_name, connection, only, &mut comparison).await?;
                progress(comparison.rows);
            }
        }
        _ => {
            let mut tables = fold_plainly::<M>(context, generation.checkpoint, &left_out, progress).await?;
            tables.compare(&generation.schema_name, connection, None, &mut comparison).await?;
        }
    }
    let Comparison { rows, differing, differences } = comparison;
    Ok(Verified { position: generation.checkpoint, rows, differences, differing })
}

/// What was compared so far.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How many rows.
    pub rows: u64,
    /// How many of them differ.
    pub differing: u64,
    /// Those that differ, the first of them.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Takes note of a row as readers see it and as the log has it.
    pub fn add<R: crate::rows::Row>(&mut self, table: Option<&R>, log: Option<&R>) {
        self.rows += 1;
        if table == log {
            return;
        }
        self.differing += 1;
        if self.differences.len() == MOST_DIFFERENCES {
            return;
        }
        let (table, log) = (table.map(R::shown), log.map(R::shown));
        let value =
            |row: &Option<Vec<(&'static str, String)>>, place: usize| row.as_ref().map(|row| row[place].1.clone());
        let key = table.as_ref().or(log.as_ref()).map(|row| row[..R::KEY_COLUMNS].to_vec()).unwrap_or_default();
        let columns = (R::KEY_COLUMNS..R::COLUMNS.len())
            .map(|place| Column { name: R::COLUMNS[place].0, table: value(&table, place), log: value(&log, place) })
            .filter(|column| column.table != column.log);
        self.differences.push(Difference { table: R::TABLE, key, columns: columns.collect() });
    }
}

/// Folds the rows of one key anew and writes them over what readers see. Answers how many rows were not as they are now.
pub(super) async fn repair<M: ReadModel>(context: &Context, key: &str) -> Result<Verified, ProjectionError> {
    let Some((_, column)) = M::ROWS_OF_A_KEY else {
        return Err(ProjectionError::NotByKey { name: M::NAME.to_owned() });
    };
    let mut transaction = context.pool.begin().await?;
    let live = parking::lock::<M>(&mut transaction).await?;
    let left_out = left_out(&mut transaction, &live).await?;
    let events = events_of_key::<M>(context, live.checkpoint, &left_out, key).await?;
    let mut comparison = Comparison::default();
    let mut expected = fold_all::<M>(&events)?;
    let compared = expected.compare(&live.schema_name, &mut transaction, Some((column, key)), &mut comparison).await;
    if let Err(sqlx::Error::Database(error)) = &compared
        && error.code().is_some_and(|code| code == "22P02")
    {
        return Err(ProjectionError::NotAKey { name: M::NAME.to_owned(), key: key.to_owned() });
    }
    compared?;
    M::Tables::delete_key(&live.schema_name, &mut transaction, column, key).await?;
    let mut statement = Statement::default();
    fold_all::<M>(&events)?.write(&live.schema_name, &mut statement)?;
    statement.execute(&mut transaction).await?;
    generations::changed(&mut transaction, &live).await?;
    transaction.commit().await?;
    context.moved.send_replace(());
    let Comparison { rows, differing, differences } = comparison;
    Ok(Verified { position: live.checkpoint, rows, differences, differing })
}

/// The events that are not folded into a generation: those that are parked, and those that were left out.
async fn left_out(connection: &mut PgConnection, generation: &Generation) -> Result<BTreeSet<Uuid>, sqlx::Error> {
    let sql = "select event_id from control.parked where name = $1 and generation = $2
        union select event_id from control.skipped where name = $1";
    let ids = sqlx::query_scalar(sql).bind(&generation.name).bind(generation.generation);
    Ok(ids.fetch_all(connection).await?.into_iter().collect())
}

/// Some keys of which there are rows.
async fn some_keys(
    connection: &mut PgConnection,
    generation: &Generation,
    table: &str,
    column: &str,
    keys: u32,
) -> Result<Vec<String>, sqlx::Error> {
    let schema = &generation.schema_name;
    let sql = format!("select {column}::text from \"{schema}\".{table} order by random() limit $1");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(keys)).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The whole log up to a position, event by event.
async fn fold_plainly<M: ReadModel>(
    context: &Context,
    until: Option<Position>,
    left_out: &BTreeSet<Uuid>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<M::Tables, ProjectionError> {
    let mut tables = M::Tables::new(true);
    tables.limit(context.memory);
    let (mut after, mut events) = (None, 0);
    while after < until {
        let page = context.store.read_all(after, &Filter::all(), PAGE).await?;
        for event in &page.events {
            if Some(event.position) > until {
                return Ok(tables);
            }
            if M::CATEGORIES.contains(&event.stream.category()) && !left_out.contains(&event.id) {
                let folded = fold_one::<M>(&mut tables, event);
                tables.failed().map_or(folded, |error| Err(ProjectionError::Scratch(error)))?;
            }
            events += 1;
        }
        tables.settle().map_err(ProjectionError::Scratch)?;
        progress(events);
        after = page.read_to;
        if page.at_head {
            break;
        }
    }
    Ok(tables)
}

/// The streams of one key up to a position, stream by stream, put in order.
async fn events_of_key<M: ReadModel>(
    context: &Context,
    until: Option<Position>,
    left_out: &BTreeSet<Uuid>,
    key: &str,
) -> Result<Vec<RecordedEvent>, ProjectionError> {
    let mut events = Vec::new();
    for category in M::CATEGORIES {
        // A key that makes no name has no stream.
        let Ok(stream) = StreamName::new(format!("{category}-{key}")) else { continue };
        let mut from = 0;
        loop {
            let page = context.store.read_stream(&stream, Some(from), Direction::Forwards, PAGE).await?;
            from += page.events.len() as u64;
            events.extend(page.events);
            if page.end {
                break;
            }
        }
    }
    events.retain(|event| Some(event.position) <= until && !left_out.contains(&event.id));
    events.sort_unstable_by_key(|event| event.position);
    Ok(events)
}

/// These events and no others, one after another.
fn fold_all<M: ReadModel>(events: &[RecordedEvent]) -> Result<M::Tables, ProjectionError> {
    let mut tables = M::Tables::new(true);
    events.iter().try_for_each(|event| fold_one::<M>(&mut tables, event))?;
    Ok(tables)
}

fn fold_one<M: ReadModel>(tables: &mut M::Tables, event: &RecordedEvent) -> Result<(), ProjectionError> {
    let (stream, revision, position) = (event.stream.to_string(), event.revision, event.position);
    let happened = match shop_event::decode(event) {
        Ok(happened) => happened,
        Err(source) => return Err(ProjectionError::Undecodable { stream, revision, position, source: source.into() }),
    };
    tables.begin();
    M::fold(tables, &happened).map_err(|source: FoldError| ProjectionError::Unfoldable {
        stream,
        revision,
        position,
        source,
    })
}
