//! The statements that are put together at run time, all of them. Their text consists of constants of this crate; every
//! value is bound.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{Column as _, Decode, FromRow, Postgres, QueryBuilder, Row as _, Type};

use crate::database::Database;
use crate::error::Failure;
use crate::own_writes;
use crate::position::Position;

/// The rows that a list is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// Its name, with the schema.
    pub(crate) name: &'static str,
    /// What is selected of it.
    pub(crate) columns: &'static str,
    /// The columns that tell its rows apart, and that decide between rows that a sort order finds equal.
    pub(crate) id: &'static [&'static str],
    /// The condition, with a `?` for the customer, under which a row belongs to a customer. Without one, the rows belong to
    /// nobody in particular.
    pub(crate) owner: Option<&'static str>,
}

/// An order of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Sort {
    /// The column that is compared first; `None` when the id alone decides.
    pub(crate) column: Option<&'static str>,
    /// Whether the column may be null. Nulls stand last in the ascending order and first in the descending one, which
    /// is Postgres' own order, so that an index serves both.
    pub(crate) nullable: bool,
    /// Whether the largest comes first, of the column and of the id.
    pub(crate) descending: bool,
}

/// A value that a statement binds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Bind {
    #[serde(rename = "n")]
    Null,
    #[serde(rename = "b")]
    Bool(bool),
    #[serde(rename = "i")]
    Int(i64),
    #[serde(rename = "s")]
    Text(String),
    #[serde(rename = "l")]
    Texts(Vec<String>),
    #[serde(rename = "u")]
    Uuid(uuid::Uuid),
    #[serde(rename = "k")]
    Uuids(Vec<uuid::Uuid>),
    #[serde(rename = "t")]
    Time(DateTime<Utc>),
}

impl Bind {
    /// The names under which the tables keep these values.
    pub(crate) fn names<T>(values: Vec<T>, name: impl Fn(T) -> &'static str) -> Self {
        Self::Texts(values.into_iter().map(|value| name(value).to_owned()).collect())
    }
}

/// Where a row stands in a sort order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// The value of the sort's column, if it has one.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Bind>,
    /// The row's id: a value for each of its columns.
    #[serde(rename = "i")]
    pub(crate) id: Vec<Bind>,
}

/// What the rows must fulfil, all of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Conditions(Vec<Condition>);

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Condition {
    /// SQL in which a `?` stands for the value.
    Is(&'static str, Bind),
    /// At least one of these.
    Any { any: Vec<Conditions> },
    /// Not all of these.
    Not { not: Conditions },
}

/// How many conditions a filter has at most, the filters within it included.
const MOST_CONDITIONS: usize = 100;

impl Conditions {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a condition in which a `?` stands for the value; without a value there is no condition.
    pub(crate) fn and(mut self, sql: &'static str, value: Option<Bind>) -> Self {
        self.0.extend(value.map(|value| Condition::Is(sql, value)));
        self
    }

    /// Adds what other filters say: all of `and`, at least one of `or`, and not `not`.
    pub(crate) fn combined(mut self, and: Option<Vec<Self>>, or: Option<Vec<Self>>, not: Option<Self>) -> Self {
        self.0.extend(and.into_iter().flatten().flat_map(|conditions| conditions.0));
        self.0.extend(or.map(|any| Condition::Any { any }));
        self.0.extend(not.map(|not| Condition::Not { not }));
        self
    }

    /// Refuses more than a statement should have.
    pub(crate) fn bounded(self) -> Result<Self, Failure> {
        match self.count() {
            0..=MOST_CONDITIONS => Ok(self),
            count => Err(Failure::bad_input(format!(
                "The filter has {count} conditions, those within it included; {MOST_CONDITIONS} are the most."
            ))),
        }
    }

    fn count(&self) -> usize {
        let count = |condition: &Condition| match condition {
            Condition::Is(..) => 1,
            // Each counts, though it says nothing.
            Condition::Any { any } => 1 + any.iter().map(|one| 1 + one.count()).sum::<usize>(),
            Condition::Not { not } => 1 + not.count(),
        };
        self.0.iter().map(count).sum()
    }
}

/// The rows of a table that fulfil conditions, as far as they are there for who asks. Only a [`View`](crate::permissions::View)
/// makes one.
#[derive(Debug, Clone)]
pub(crate) struct Visible {
    pub(crate) table: Table,
    pub(crate) conditions: Conditions,
}

/// The part of a list that is read.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) after: Option<Key>,
    pub(crate) before: Option<Key>,
    /// Whether the rows are taken from the end.
    pub(crate) backward: bool,
    /// How many rows are read at most.
    pub(crate) rows: i64,
}

/// All rows that fulfil the conditions, in no order.
pub(crate) async fn select<R: Row>(pool: &Database, rows: &Visible) -> sqlx::Result<Vec<R>> {
    let Visible { table, conditions } = rows;
    let mut sql = QueryBuilder::new("select ");
    sql.push(table.columns).push(" from ").push(table.name);
    push_conditions(&mut sql, conditions);
    pool.all(sql.build_query_as()).await
}

/// One page of these columns, in the order of the sort.
pub(crate) async fn page<R: Row>(
    pool: &Database,
    rows: &Visible,
    columns: &'static str,
    sort: &Sort,
    window: &Window,
) -> sqlx::Result<Vec<R>> {
    let mut sql = QueryBuilder::new("select ");
    sql.push(columns);
    push_page(&mut sql, rows, sort, window);
    Ok(in_order(pool.all(sql.build_query_as()).await?, window))
}

/// The same, and how far the read model had come of which they are: by the same statement, and so as of the same moment.
/// `None` when there are no rows, for then nobody says it.
pub(crate) async fn page_and_position<R: Row>(
    pool: &Database,
    rows: &Visible,
    columns: &'static str,
    read_model: &'static str,
    sort: &Sort,
    window: &Window,
) -> sqlx::Result<Option<(Vec<R>, Option<Position>)>> {
    let mut sql = QueryBuilder::new("select ");
    sql.push(columns);
    // Postgres reads it once for all rows.
    sql.push(", (select commit_position || '/' || prepare_position from control.generations where state = 'live' and name = '");
    sql.push(read_model).push("')");
    push_page(&mut sql, rows, sort, window);
    let (mut found, mut position) = (Vec::new(), None);
    let take = |row: &PgRow| {
        if found.is_empty() {
            position = row.try_get(row.len() - 1)?;
        }
        found.push(R::from_row(row)?);
        Ok(())
    };
    pool.each(sql.build(), take).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let position = position.map(|text: String| own_writes::stored(&text)).transpose();
    Ok(Some((in_order(found, window), position.map_err(|error| sqlx::Error::Decode(error.into()))?)))
}

fn push_page(sql: &mut QueryBuilder<Postgres>, rows: &Visible, sort: &Sort, window: &Window) {
    let Visible { table, conditions } = rows;
    sql.push(" from ").push(table.name);
    push_conditions(sql, conditions);
    for (key, greater) in [(&window.after, !sort.descending), (&window.before, sort.descending)] {
        if let Some(key) = key {
            sql.push(" and ");
            push_beyond(sql, table, sort, key, greater);
        }
    }
    push_order(sql, table, sort, window.backward);
    // In the text: of a bound limit Postgres cannot know whether the plan for it is any good, and plans anew each time.
    sql.push(" limit ").push(window.rows);
}

/// The first page of each of several owners: the rows of one owner are those whose column `owner` has its id. A row
/// must carry its owner, for the pages come mixed; within an owner they are in the order of the sort.
pub(crate) async fn page_of_each<R: Row>(
    pool: &Database,
    rows: &Visible,
    sort: &Sort,
    owner: &'static str,
    owners: Bind,
    window: &Window,
) -> sqlx::Result<Vec<R>> {
    let Visible { table, conditions } = rows;
    let mut sql = QueryBuilder::new("select page.* from unnest(");
    push_value(&mut sql, &owners);
    sql.push(") as owners (owner_id) cross join lateral (select ").push(table.columns);
    sql.push(" from ").push(table.name);
    push_conditions(&mut sql, conditions);
    sql.push(" and ").push(owner).push(" = owner_id");
    push_order(&mut sql, table, sort, window.backward);
    sql.push(" limit ").push(window.rows).push(") as page");
    push_order(&mut sql, table, sort, window.backward);
    Ok(in_order(pool.all(sql.build_query_as()).await?, window))
}

/// Rows that are not in the table, but are given as JSON with its columns.
pub(crate) async fn of_json<R: Row>(pool: &Database, table: &Table, rows: &serde_json::Value) -> sqlx::Result<Vec<R>> {
    let mut sql = QueryBuilder::new("select ");
    sql.push(table.columns).push(" from jsonb_populate_recordset(null::").push(table.name).push(", ");
    sql.push_bind(rows.clone()).push(")");
    pool.all(sql.build_query_as()).await
}

/// How many rows fulfil the conditions.
pub(crate) async fn count(pool: &Database, rows: &Visible) -> sqlx::Result<i64> {
    let Visible { table, conditions } = rows;
    let mut sql = QueryBuilder::new("select count(*) from ");
    sql.push(table.name);
    push_conditions(&mut sql, conditions);
    let (count,) = pool.one(sql.build_query_as()).await?;
    Ok(count)
}

/// Sales that are summed up by one key or two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// The table of sales, with the schema.
    pub(crate) table: &'static str,
    /// The key of a row of it.
    pub(crate) key: &'static str,
    /// The other key of the row.
    pub(crate) and_key: Option<&'static str>,
    pub(crate) currency: &'a str,
    /// The first day that counts.
    pub(crate) from: Option<NaiveDate>,
    /// The first day that no longer counts.
    pub(crate) to: Option<NaiveDate>,
}

/// The sums, in the order of their keys, after one of them and at most so many: both keys, orders, units and revenue.
pub(crate) async fn sums<R: Row>(
    pool: &Database,
    sums: &Sums<'_>,
    after: Option<&Key>,
    most: i64,
) -> sqlx::Result<Vec<R>> {
    // Keys are compared byte by byte, as every other program would, not as the database's locale does.
    let mut sql = QueryBuilder::new("select * from (select ");
    sql.push(sums.key).push(" collate \"C\" as key, ");
    sql.push(sums.and_key.unwrap_or("null::text")).push(" collate \"C\" as and_key, ");
    sql.push("sum(orders)::bigint as orders, sum(units)::bigint as units, sum(revenue_minor)::bigint as revenue from ");
    sql.push(sums.table).push(" where currency = ").push_bind(sums.currency);
    if let Some(from) = sums.from {
        sql.push(" and day >= ").push_bind(from);
    }
    if let Some(to) = sums.to {
        sql.push(" and day < ").push_bind(to);
    }
    sql.push(" group by 1, 2 having sum(orders) > 0) as sums");
    let keys = if sums.and_key.is_some() { "key, and_key" } else { "key" };
    if let Some(after) = after {
        sql.push(" where (").push(keys).push(") > (");
        push_values(&mut sql, &after.id);
        sql.push(")");
    }
    sql.push(" order by ").push(keys).push(" limit ").push_bind(most);
    pool.all(sql.build_query_as()).await
}

/// A row that can be read from any thread.
pub(crate) trait Row: for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<R: for<'r> FromRow<'r, PgRow> + Send + Unpin> Row for R {}

/// A row's columns one after another, which costs a fraction of looking each of them up by its name.
pub(crate) struct InOrder<'r> {
    row: &'r PgRow,
    at: usize,
}

impl<'r> InOrder<'r> {
    pub(crate) fn of(row: &'r PgRow) -> Self {
        Self { row, at: 0 }
    }

    /// Whether the next column has this name.
    pub(crate) fn comes(&self, name: &str) -> bool {
        self.row.columns().get(self.at).is_some_and(|column| column.name() == name)
    }

    /// The next column, which has this name.
    pub(crate) fn next<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self, name: &str) -> sqlx::Result<T> {
        debug_assert_eq!(self.row.column(self.at).name(), name, "the columns are read in another order");
        let value = self.row.try_get(self.at);
        self.at += 1;
        value
    }
}

fn push_conditions(sql: &mut QueryBuilder<Postgres>, conditions: &Conditions) {
    sql.push(" where ");
    push_all(sql, conditions);
}

/// All of the conditions, as one that needs no brackets beside an `and`.
fn push_all(sql: &mut QueryBuilder<Postgres>, conditions: &Conditions) {
    sql.push("true");
    for condition in &conditions.0 {
        sql.push(" and ");
        match condition {
            Condition::Is(condition, value) => {
                let (before, after) = condition.split_once('?').unwrap_or((condition, ""));
                sql.push(before);
                push_value(sql, value);
                sql.push(after);
            }
            Condition::Any { any } => {
                sql.push("(false");
                for one in any {
                    sql.push(" or (");
                    push_all(sql, one);
                    sql.push(")");
                }
                sql.push(")");
            }
            // What is neither true nor false, for a column is null, is not true.
            Condition::Not { not } => {
                sql.push("(");
                push_all(sql, not);
                sql.push(") is not true");
            }
        }
    }
}

/// The rows that stand on one side of a key: beyond it in the ascending order, if `greater`, else before it. The key may
/// be that of a row which is gone.
fn push_beyond(sql: &mut QueryBuilder<Postgres>, table: &Table, sort: &Sort, key: &Key, greater: bool) {
    let (id, than) = (table.id.join(", "), if greater { ") > (" } else { ") < (" });
    match (sort.column, &key.value) {
        (Some(column), Some(Bind::Null)) => {
            let null_side = if greater { "is null and" } else { "is not null or" };
            sql.push(format_args!("({column} {null_side} ({id}{than}"));
            push_values(sql, &key.id);
        }
        (Some(column), Some(value)) => {
            sql.push(format_args!("(({column}, {id}{than}"));
            push_value(sql, value);
            sql.push(", ");
            push_values(sql, &key.id);
            if sort.nullable && greater {
                sql.push(format_args!(") or ({column} is null"));
            }
        }
        _ => {
            sql.push(format_args!("(({id}{than}"));
            push_values(sql, &key.id);
        }
    }
    sql.push("))");
}

fn push_order(sql: &mut QueryBuilder<Postgres>, table: &Table, sort: &Sort, backward: bool) {
    let direction = if sort.descending != backward { "desc" } else { "asc" };
    let columns = sort.column.iter().chain(table.id).map(|column| format!("{column} {direction}"));
    sql.push(" order by ").push(columns.collect::<Vec<_>>().join(", "));
}

fn push_values(sql: &mut QueryBuilder<Postgres>, values: &[Bind]) {
    for (number, value) in values.iter().enumerate() {
        if number > 0 {
            sql.push(", ");
        }
        push_value(sql, value);
    }
}

fn push_value(sql: &mut QueryBuilder<Postgres>, value: &Bind) {
    match value {
        Bind::Null => sql.push("null"),
        Bind::Bool(value) => sql.push_bind(*value),
        Bind::Int(value) => sql.push_bind(*value),
        Bind::Text(value) => sql.push_bind(value.clone()),
        Bind::Texts(value) => sql.push_bind(value.clone()),
        Bind::Uuid(value) => sql.push_bind(*value),
        Bind::Uuids(value) => sql.push_bind(value.clone()),
        Bind::Time(value) => sql.push_bind(*value),
    };
}

fn in_order<R>(mut rows: Vec<R>, window: &Window) -> Vec<R> {
    if window.backward {
        rows.reverse();
    }
    rows
}
