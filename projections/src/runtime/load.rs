//! Filling the tables of a new generation: each by a connection of its own, while the log is still being folded.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ProjectionError, sql};
use crate::read_model::ReadModel;
use crate::rows::Tables as _;

/// How many chunks of rows may wait for a table's connection before the fold waits for it.
const AHEAD: usize = 16;
/// After this long what was copied is committed: a transaction that is open for long keeps the whole server from cleaning up.
const PORTION: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(60) };

/// Tables that are being filled. Dropped, it stops.
pub(super) struct Load {
    sink: Sink,
    tables: JoinSet<Result<u64, sqlx::Error>>,
    /// The keys that belong to no table by their text.
    other_keys: Vec<String>,
}

/// Where the rows of each table go.
#[derive(Clone)]
pub(super) struct Sink(HashMap<&'static str, mpsc::Sender<Vec<u8>>>);

impl Sink {
    /// Hands rows over, and waits while too many of them are under way. Not to be called from a task.
    pub(super) fn send(&self, table: &'static str, rows: Vec<u8>) {
        if let Some(sender) = self.0.get(table) {
            // A table that takes no more rows says at its end why.
            let _ = sender.blocking_send(rows);
        }
    }
}

impl Load {
    /// Begins to fill the tables of a read model in a schema that nobody looks at yet.
    pub(super) fn begin<M: ReadModel>(options: &PgConnectOptions, schema: &str) -> Self {
        let (mut sinks, mut tables) = (HashMap::new(), JoinSet::new());
        let (mut keys, other_keys) = sql::keys_by_table(M::KEYS_SQL, &M::Tables::names());
        for (table, copy) in M::Tables::copies(schema) {
            let (sender, rows) = mpsc::channel(AHEAD);
            sinks.insert(table, sender);
            let (options, schema) = (options.clone(), schema.to_owned());
            let keys = keys.remove(table).unwrap_or_default();
            tables.spawn(async move { fill(&options, &schema, table, &copy, &keys, rows).await });
        }
        Self { sink: Sink(sinks), tables, other_keys }
    }

    /// Where the rows go.
    pub(super) fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Whether all tables still take rows.
    ///
    /// # Errors
    /// Why one of them does not.
    pub(super) fn check(&mut self) -> Result<(), ProjectionError> {
        match self.tables.try_join_next() {
            None => Ok(()),
            Some(ended) => Err(joined(ended).err().unwrap_or(sqlx::Error::WorkerCrashed).into()),
        }
    }

    /// Waits until all rows are in the tables, with their keys. Answers how many they are. No sink may be left.
    pub(super) async fn end(self, connection: &mut PgConnection, schema: &str) -> Result<u64, ProjectionError> {
        let Self { sink, mut tables, other_keys } = self;
        drop(sink);
        let mut rows = 0;
        while let Some(ended) = tables.join_next().await {
            rows += joined(ended)?;
        }
        let mut transaction = connection.begin().await?;
        sql::in_schema(&mut transaction, schema, &other_keys.join(";")).await?;
        transaction.commit().await?;
        Ok(rows)
    }
}

fn joined(ended: Result<Result<u64, sqlx::Error>, tokio::task::JoinError>) -> Result<u64, sqlx::Error> {
    ended.map_err(|error| sqlx::Error::Protocol(format!("filling a table was cut off: {error}")))?
}

/// Fills one table and adds its keys. Answers the number of rows.
async fn fill(
    options: &PgConnectOptions,
    schema: &str,
    table: &str,
    copy: &str,
    keys: &[String],
    mut rows: mpsc::Receiver<Vec<u8>>,
) -> Result<u64, sqlx::Error> {
    let mut next = rows.recv().await;
    let mut connection = PgConnection::connect_with(options).await?;
    let (mut count, mut frozen) = (0, sql::FROZEN);
    while let Some(first) = next {
        let ends = Instant::now() + PORTION;
        let mut transaction = connection.begin().await?;
        // Into a table that was emptied in the same transaction rows are written frozen: nobody has to look at them again.
        if !frozen.is_empty() {
            sql::truncate(&mut transaction, schema, table).await?;
        }
        let mut copying = transaction.copy_in_raw(&format!("{copy} (format binary{frozen})")).await?;
        copying.send(sql::COPY_HEADER).await?;
        copying.send(first).await?;
        // Where there is always a next chunk, the time is not looked at while it is waited for.
        while Instant::now() < ends
            && let Ok(Some(chunk)) = tokio::time::timeout_at(ends, rows.recv()).await
        {
            copying.send(chunk).await?;
        }
        copying.send(sql::COPY_END).await?;
        count += copying.finish().await?;
        transaction.commit().await?;
        (next, frozen) = (rows.recv().await, "");
    }
    for key in keys {
        let mut transaction = connection.begin().await?;
        sql::in_schema(&mut transaction, schema, key).await?;
        transaction.commit().await?;
    }
    sql::analyze(&mut connection, schema, &[table]).await?;
    connection.close().await?;
    Ok(count)
}
