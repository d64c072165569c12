//! The tables of a read model, as they were at one moment.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use event_store::Position;
use futures::TryStreamExt as _;
use indicatif::ProgressBar;
use projections::Projector;
use projections::runtime::{self, Generation, State};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _,
};

use super::cell::{Cell, Column, Kind};
use super::sink::Sink;
use crate::shop::Shop;

/// How many rows are written between two words about it.
const TOLD: u64 = 1_000;

/// The tables of a read model that are exported.
pub(super) struct Tables {
    pub(super) model: Arc<dyn Projector>,
    pub(super) names: Vec<&'static str>,
}

impl Tables {
    /// All tables of a read model, or one.
    ///
    /// # Errors
    /// When there is no such read model or table.
    pub(super) fn of(name: &str, table: Option<&str>) -> anyhow::Result<Self> {
        let models = projections::read_models();
        let known = models.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
        let model = models.into_iter().find(|model| model.name() == name);
        let model = model.with_context(|| format!("there is no read model {name:?}; there are {known}"))?;
        let mut names = model.tables();
        let known = names.join(", ");
        names.retain(|name| table.is_none_or(|table| table == *name));
        ensure!(!names.is_empty(), "{name} has no table {:?}; it has {known}", table.unwrap_or_default());
        Ok(Self { model, names })
    }
}

/// The tables of a read model at one moment, however long it takes to read them.
pub(super) struct Snapshot {
    connection: PgConnection,
    /// Up to where the log is folded into them.
    pub(super) position: Option<Position>,
}

impl Snapshot {
    /// Opens the tables.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) async fn of(shop: &Shop, tables: &Tables) -> anyhow::Result<Self> {
        // A connection of its own: who is slow to take what is exported must not have it cut off.
        let options = shop.projections.pool.connect_options().as_ref().clone();
        let options = options
            .application_name("storefold export")
            .options([("idle_in_transaction_session_timeout", "0"), ("statement_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute("begin isolation level repeatable read read only").await?;
        // Before the first query, which makes the snapshot: from now on no rebuild can point the views at other tables, of
        // which the snapshot would see something else.
        let views: Vec<String> = tables.names.iter().map(|table| format!("read.{table}")).collect();
        let lock = format!("lock table {} in access share mode", views.join(", "));
        let locked = connection.execute(AssertSqlSafe(lock)).await;
        let name = tables.model.name();
        locked.with_context(|| format!("the tables of {name} are not there; `storefold rebuild {name}` makes them"))?;
        let mut generations = runtime::generations(&mut connection).await?.into_iter();
        let is_live = |generation: &Generation| generation.name == name && generation.state == State::Live;
        let live = generations.find(is_live).with_context(|| format!("{name} has no tables"))?;
        Ok(Self { connection, position: live.checkpoint })
    }

    /// The columns of a table.
    ///
    /// # Errors
    /// When the table cannot be read, or has a column of a type that cannot be exported.
    pub(super) async fn columns(&mut self, table: &str) -> anyhow::Result<Vec<Column>> {
        let statement = self.connection.prepare(AssertSqlSafe(select(table)).into_sql_str()).await?;
        let columns = statement.columns().iter();
        columns.map(|column| Ok(Column { name: column.name().to_owned(), kind: kind(column)? })).collect()
    }

    /// Exports the rows of a table. Answers how many.
    ///
    /// # Errors
    /// When the table cannot be read, or the export not be written.
    pub(super) async fn export(
        &mut self,
        table: &str,
        columns: &[Column],
        sink: &mut Sink,
        bar: &ProgressBar,
    ) -> anyhow::Result<u64> {
        let mut rows = sqlx::query(AssertSqlSafe(select(table))).fetch(&mut self.connection);
        let mut exported = 0;
        while let Some(row) = rows.try_next().await.with_context(|| format!("{table} cannot be read on"))? {
            let cells = columns.iter().enumerate().map(|(index, column)| cell(&row, index, column.kind));
            sink.row(cells.collect::<Result<_, _>>()?)?;
            exported += 1;
            if exported % TOLD == 0 {
                bar.set_position(exported);
            }
        }
        Ok(exported)
    }

    /// Lets the tables go.
    ///
    /// # Errors
    /// When the database has gone.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        self.connection.execute("commit").await?;
        Ok(self.connection.close().await?)
    }
}

/// The names of tables are constants of the read models.
fn select(table: &str) -> String {
    format!("select * from read.{table}")
}

fn kind(column: &sqlx::postgres::PgColumn) -> anyhow::Result<Kind> {
    Ok(match column.type_info().name() {
        "TEXT" => Kind::Text,
        "UUID" => Kind::Uuid,
        "JSONB" => Kind::Json,
        "BOOL" => Kind::Bool,
        "INT4" => Kind::Int32,
        "INT8" => Kind::Int64,
        "DATE" => Kind::Date,
        "TIMESTAMPTZ" => Kind::Time,
        other => bail!("the column {} is of the type {other}, which cannot be exported", column.name()),
    })
}

fn cell(row: &PgRow, index: usize, kind: Kind) -> Result<Cell, sqlx::Error> {
    Ok(match kind {
        Kind::Text => row.try_get::<Option<String>, _>(index)?.into(),
        Kind::Uuid => row.try_get::<Option<uuid::Uuid>, _>(index)?.into(),
        Kind::Json => {
            row.try_get::<Option<Json<Box<serde_json::value::RawValue>>>, _>(index)?.map(|Json(json)| json).into()
        }
        Kind::Bool => row.try_get::<Option<bool>, _>(index)?.into(),
        Kind::Int32 => row.try_get::<Option<i32>, _>(index)?.into(),
        Kind::Int64 => row.try_get::<Option<i64>, _>(index)?.into(),
        Kind::Date => row.try_get::<Option<chrono::NaiveDate>, _>(index)?.into(),
        Kind::Time => row.try_get::<Option<chrono::DateTime<chrono::Utc>>, _>(index)?.into(),
    })
}
