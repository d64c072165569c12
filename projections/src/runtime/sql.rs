//! The SQL of any table, made from what its rows say about themselves. All dynamic SQL of this crate is in here: names
//! come from constants of the code, values are always bound.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Executor as _};

use super::{Comparison, ProjectionError};
use crate::rows::{Row, Table};

/// The role that may read the schema `read` and nothing else, where the server has it.
const READER: &str = "storefold_reader";

/// A table's name.
pub fn name<T: Table>() -> &'static str {
    T::Row::TABLE
}

/// Loads the rows that the fold asked for in vain. Says whether there was anything.
pub async fn load<T: Table>(table: &mut T, schema: &str, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let wanted = table.take_wanted();
    if wanted.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "select {columns} from \"{schema}\".{name} join unnest({arrays}) as wanted ({keys}) using ({keys})",
        columns = columns::<T::Row>(),
        name = name::<T>(),
        arrays = arrays(0, &T::Row::COLUMNS[..T::Row::KEY_COLUMNS]),
        keys = keys::<T::Row>(),
    );
    let mut arguments = PgArguments::default();
    T::Row::bind_keys(&mut arguments, &wanted).map_err(sqlx::Error::Encode)?;
    let found = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await?;
    let found = found.iter().map(T::Row::read).collect::<Result<_, _>>()?;
    table.load(wanted, found);
    Ok(true)
}

/// Writes to any number of tables in one statement: one way to the server and back, and all of it or nothing.
#[derive(Default)]
pub struct Statement {
    /// The statements that it is made of.
    parts: Vec<String>,
    arguments: PgArguments,
    is_guarded: bool,
}

impl Statement {
    /// A statement that writes nothing unless another one, an `update` of one row, finds its row. Its parameters are the first.
    pub(super) fn guarded(update: &str, arguments: PgArguments) -> Self {
        Self { parts: vec![format!("guard as ({update} returning 1)")], arguments, is_guarded: true }
    }

    /// Adds what a fold made of a table: each changed row once.
    pub fn write<T: Table>(&mut self, table: &T, schema: &str) -> Result<(), sqlx::Error> {
        let (name, columns, keys) = (name::<T>(), columns::<T::Row>(), keys::<T::Row>());
        let if_guarded =
            |word: &str| if self.is_guarded { format!(" {word} exists (select from guard)") } else { String::new() };
        let written = table.written();
        if !written.is_empty() {
            let mut insert = format!(
                "{name}_written as (insert into \"{schema}\".{name} ({columns}) select * from unnest({arrays}){guard}",
                arrays = arrays(self.arguments.len(), T::Row::COLUMNS),
                guard = if_guarded("where"),
            );
            if T::OVERWRITES {
                let assigned = T::Row::COLUMNS[T::Row::KEY_COLUMNS..].iter();
                let assigned = assigned.map(|(column, _)| format!("{column} = excluded.{column}")).collect::<Vec<_>>();
                insert.push_str(&format!(" on conflict ({keys}) do update set {}", assigned.join(", ")));
            }
            insert.push(')');
            self.parts.push(insert);
            T::Row::bind_rows(&mut self.arguments, &written).map_err(sqlx::Error::Encode)?;
        }
        let removed = table.removed();
        if !removed.is_empty() {
            self.parts.push(format!(
                "{name}_removed as (delete from \"{schema}\".{name} where ({keys}) in (select * from unnest({arrays})){guard})",
                arrays = arrays(self.arguments.len(), &T::Row::COLUMNS[..T::Row::KEY_COLUMNS]),
                guard = if_guarded("and"),
            ));
            T::Row::bind_keys(&mut self.arguments, &removed).map_err(sqlx::Error::Encode)?;
        }
        Ok(())
    }

    /// Runs it. Says whether the guard's row was found; without a guard that is so.
    pub(super) async fn execute(self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let Self { parts, arguments, is_guarded } = self;
        if parts.is_empty() {
            return Ok(true);
        }
        let guard = if is_guarded { " from guard" } else { "" };
        let sql = format!("with {} select{guard}", parts.join(",\n"));
        let done = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(connection).await?;
        Ok(done.rows_affected() == 1)
    }
}

/// What begins and ends rows in the binary format of `copy`: the format's signature, its flags, and the length of its
/// extension, which is none; and a row without a number of columns.
pub(super) const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(super) const COPY_END: &[u8] = &(-1_i16).to_be_bytes();
/// The option of `copy` for a table that no other transaction can see yet.
pub(super) const FROZEN: &str = ", freeze true";

/// The statement that copies rows into a table, without its options.
pub fn copy<T: Table>(schema: &str) -> String {
    format!("copy \"{schema}\".{} ({}) from stdin", name::<T>(), columns::<T::Row>())
}

/// Empties a table that nobody sees.
pub(super) async fn truncate(connection: &mut PgConnection, schema: &str, table: &str) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("truncate \"{schema}\".{table}"))).await.map(drop)
}

/// Deals out the statements of a script that adds keys and indexes, so that each table can get its own when it is full: by the
/// table that a statement names after `alter table` or `on`. Also answers those that name none of these.
pub(super) fn keys_by_table(
    script: &str,
    tables: &[&'static str],
) -> (HashMap<&'static str, Vec<String>>, Vec<String>) {
    let (mut by_table, mut others) = (HashMap::<_, Vec<String>>::new(), Vec::new());
    let code: Vec<&str> = script.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    for statement in code.join("\n").split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let named = words.windows(2).find(|pair| matches!(pair[0], "on" | "table")).map(|pair| pair[1]);
        let keys = match tables.iter().find(|table| Some(**table) == named) {
            Some(table) => by_table.entry(*table).or_default(),
            None => &mut others,
        };
        if !words.is_empty() {
            keys.push(statement.trim().to_owned());
        }
    }
    (by_table, others)
}

/// Compares the rows that were put with those in a table: all of them, or those that have a value, as text, in a column.
pub async fn compare<T: Table>(
    expected: &mut T,
    schema: &str,
    connection: &mut PgConnection,
    only: Option<(&'static str, &str)>,
    comparison: &mut Comparison,
) -> Result<(), sqlx::Error> {
    let condition = match only {
        Some((column, _)) => has_key::<T::Row>(column),
        None => "$1::text is null".to_owned(),
    };
    let sql = format!("select {} from \"{schema}\".{} where {condition}", columns::<T::Row>(), name::<T>());
    let mut found = sqlx::query(AssertSqlSafe(sql)).bind(only.map(|(_, key)| key)).fetch(connection);
    while let Some(row) = found.try_next().await? {
        let row = T::Row::read(&row)?;
        let expected = expected.take(&row.key())?;
        comparison.add(Some(&row), expected.as_ref());
    }
    expected.rest(&mut |row| comparison.add(None, Some(&row)))?;
    Ok(())
}

/// Deletes the rows that have a value, as text, in a column.
pub async fn delete_key<T: Table>(
    schema: &str,
    connection: &mut PgConnection,
    column: &'static str,
    key: &str,
) -> Result<(), sqlx::Error> {
    let sql = format!("delete from \"{schema}\".{} where {}", name::<T>(), has_key::<T::Row>(column));
    sqlx::query(AssertSqlSafe(sql)).bind(key).execute(connection).await.map(drop)
}

/// That a column has a value that is given as text. The text is cast, not the column, so that an index can find the rows.
fn has_key<R: Row>(column: &'static str) -> String {
    let kind = R::COLUMNS.iter().find(|(name, _)| *name == column).map_or("text", |(_, kind)| kind);
    format!("{column} = $1::text::{kind}")
}

/// Creates the schema of a generation with its tables.
pub(super) async fn create_tables(connection: &mut PgConnection, schema: &str, ddl: &str) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("create schema \"{schema}\""))).await?;
    in_schema(connection, schema, ddl).await
}

/// Runs DDL with the search path at a schema, until the end of the transaction.
pub(super) async fn in_schema(connection: &mut PgConnection, schema: &str, ddl: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("set local search_path to \"{schema}\"; {ddl}")))
        .execute(&mut *connection)
        .await?;
    sqlx::raw_sql("reset search_path").execute(connection).await?;
    Ok(())
}

/// Tells the planner what is in the tables, so that the first queries find good plans.
pub(super) async fn analyze(connection: &mut PgConnection, schema: &str, tables: &[&str]) -> Result<(), sqlx::Error> {
    for table in tables {
        connection.execute(AssertSqlSafe(format!("analyze \"{schema}\".{table}"))).await?;
    }
    Ok(())
}

/// Points the views of the schema `read` at the tables of a generation, with their comments, for whoever may read them.
/// When the tables may have other columns than the views had, what does not fit any more is made anew or goes.
///
/// # Errors
/// When a view would have to go on which something else depends; the error names both.
pub(super) async fn point_views(
    connection: &mut PgConnection,
    schema: &str,
    tables: &[&str],
    same_columns: bool,
) -> Result<(), sqlx::Error> {
    if !same_columns {
        connection.execute(AssertSqlSafe(drop_misfits(schema, tables))).await?;
    }
    for table in tables {
        let view = format!("create or replace view read.{table} as select * from \"{schema}\".{table}");
        connection.execute(AssertSqlSafe(view)).await?;
    }
    connection.execute(AssertSqlSafe(copy_comments(schema, tables))).await?;
    connection.execute(AssertSqlSafe(let_reader_read(tables))).await?;
    Ok(())
}

/// Drops the views of this read model that cannot be replaced. A view can be replaced when its columns are the first of
/// the table's: what depends on it then goes on. Of a view whose table is gone for good nothing but old rows would be left.
fn drop_misfits(schema: &str, tables: &[&str]) -> String {
    let tables = names(tables);
    format!(
        "do $do$
        declare
            misfit     name;
            dependents text;
        begin
            for misfit in
                select v.relname from pg_class v
                 where v.relnamespace = 'read'::regnamespace and v.relkind = 'v'
                   and (v.relname = any ({tables}) or exists (
                        select from pg_rewrite rule
                          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = rule.oid
                                          and d.refclassid = 'pg_class'::regclass
                          join pg_class seen on seen.oid = d.refobjid
                          join pg_namespace n on n.oid = seen.relnamespace
                          join control.generations g on g.schema_name = n.nspname
                          join control.generations mine on mine.name = g.name and mine.schema_name = '{schema}'
                         where rule.ev_class = v.oid))
                   and exists (
                        select from pg_attribute had
                          left join pg_attribute has on has.attnum = had.attnum
                               and has.attrelid = to_regclass(format('%I.%I', '{schema}', v.relname))
                         where had.attrelid = v.oid and had.attnum > 0
                           and (had.attname, had.atttypid, had.atttypmod, had.attcollation)
                               is distinct from (has.attname, has.atttypid, has.atttypmod, has.attcollation))
                 order by v.relname
            loop
                begin
                    execute format('drop view read.%I', misfit);
                exception when dependent_objects_still_exist then
                    get stacked diagnostics dependents = pg_exception_detail;
                    raise exception using
                        errcode = 'dependent_objects_still_exist',
                        message = format(
                            'the view read.%s has other columns from this version on, or is there no more, and %s; '
                            'drop what depends on it, and make it again when this version is live',
                            misfit, replace(dependents, e'\\n', ', '));
                end;
            end loop;
        end $do$"
    )
}

/// Gives the views the comments of their tables and columns, where they have others.
fn copy_comments(schema: &str, tables: &[&str]) -> String {
    let tables = names(tables);
    format!(
        "do $do$
        declare
            change text;
        begin
            for change in
                with said as (
                    select t.relname, 0 as attnum, null as attname, obj_description(t.oid, 'pg_class') as wanted,
                           obj_description(v.oid, 'pg_class') as had
                      from pg_class t join pg_class v using (relname)
                     where t.relnamespace = '\"{schema}\"'::regnamespace and v.relnamespace = 'read'::regnamespace
                       and relname = any ({tables})
                    union all
                    select t.relname, a.attnum, a.attname, col_description(t.oid, a.attnum),
                           col_description(v.oid, a.attnum)
                      from pg_class t join pg_class v using (relname) join pg_attribute a on a.attrelid = t.oid
                     where t.relnamespace = '\"{schema}\"'::regnamespace and v.relnamespace = 'read'::regnamespace
                       and relname = any ({tables}) and a.attnum > 0
                )
                select case attnum
                       when 0 then format('comment on view read.%I is %L', relname, wanted)
                       else format('comment on column read.%I.%I is %L', relname, attname, wanted)
                       end
                  from said where wanted is distinct from had
            loop
                execute change;
            end loop;
        end $do$"
    )
}

/// Lets the role `storefold_reader` read these views, if the server has it. A view that is made anew has lost its grants.
///
/// Each read model sees to its own views and to nothing else: two that are taken live at the same time must not grant on
/// the same thing, which Postgres answers with an error. So the schema is granted on once, by one at a time.
fn let_reader_read(tables: &[&str]) -> String {
    let views = tables.iter().map(|table| format!("read.{table}")).collect::<Vec<_>>().join(", ");
    let may_look = format!(
        "exists (select from pg_namespace, aclexplode(nspacl)
                  where nspname = 'read' and grantee = '{READER}'::regrole and privilege_type = 'USAGE')"
    );
    format!(
        "do $do$
        begin
            if not exists (select from pg_roles where rolname = '{READER}') then
                return;
            end if;
            if not {may_look} then
                perform pg_advisory_xact_lock(hashtextextended('{READER}', 0));
            end if;
            if not {may_look} then
                grant usage on schema read to {READER};
            end if;
            grant select on {views} to {READER};
        end $do$"
    )
}

/// Names as an array in SQL.
fn names(tables: &[&str]) -> String {
    format!("'{{{}}}'::name[]", tables.join(","))
}

/// Sees that there is no such schema.
pub(super) async fn check_free(connection: &mut PgConnection, schema: &str) -> Result<(), ProjectionError> {
    let there: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await?;
    if there { Err(ProjectionError::SchemaExists { schema: schema.to_owned() }) } else { Ok(()) }
}

/// Drops what copies that were not finished have left, and marks the name of one that is begun: with this session goes the mark.
pub(super) async fn sweep_unfinished(connection: &mut PgConnection, begun: &str) -> Result<(), sqlx::Error> {
    let mark = "pg_try_advisory_lock(hashtextextended('storefold copy ' || $1, 0))";
    let is_free = |schema: String| sqlx::query_scalar::<_, bool>(AssertSqlSafe(format!("select {mark}"))).bind(schema);
    let left = sqlx::query_scalar("select nspname::text from pg_namespace where nspname ~ '^unfinished_[0-9a-f]{32}$'");
    let left: Vec<String> = left.fetch_all(&mut *connection).await?;
    for schema in left {
        if is_free(schema.clone()).fetch_one(&mut *connection).await? {
            drop_tables(connection, &schema).await?;
        }
    }
    is_free(begun.to_owned()).fetch_one(connection).await.map(drop)
}

/// Gives a schema another name.
pub(super) async fn rename_schema(connection: &mut PgConnection, from: &str, to: &str) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("alter schema \"{from}\" rename to \"{to}\""))).await.map(drop)
}

/// Drops the tables of a generation.
pub(super) async fn drop_tables(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("drop schema if exists \"{schema}\" cascade"))).await?;
    Ok(())
}

fn columns<R: Row>() -> String {
    R::COLUMNS.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ")
}

fn keys<R: Row>() -> String {
    R::COLUMNS[..R::KEY_COLUMNS].iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ")
}

/// One array parameter a column, behind those that there are: `$1::uuid[], $2::int4[]`.
fn arrays(behind: usize, columns: &[(&str, &str)]) -> String {
    let parameters = (behind + 1..).zip(columns).map(|(number, (_, kind))| format!("${number}::{kind}[]"));
    parameters.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_gets_its_keys() {
        for model in super::super::read_models() {
            let (tables, script) = (model.tables(), model.keys());
            let (by_table, others) = keys_by_table(script, &tables);
            let count = |text: &str| text.matches("alter table").count() + text.matches("create index").count();
            let dealt: usize = by_table.values().map(Vec::len).sum();
            assert_eq!((dealt, others.len()), (count(script), 0), "{}", model.name());
            for table in tables {
                assert!(
                    by_table[table][0].starts_with(&format!("alter table {table} add")),
                    "{table} has no primary key"
                );
            }
        }
    }

    #[test]
    fn what_names_no_table_is_kept() {
        let (by_table, others) =
            keys_by_table("-- a; b\nanalyze;\nalter table a add b; create index c\non a (d)", &["a"]);
        assert_eq!(by_table["a"], ["alter table a add b", "create index c\non a (d)"]);
        assert_eq!(others, ["analyze"]);
    }
}
