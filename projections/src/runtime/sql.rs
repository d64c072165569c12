//! The SQL of any table, made from what its rows say about themselves. All dynamic SQL of this crate is in here: names
//! come from constants of the code, values are always bound.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use super::Comparison;
use crate::rows::{Row, Rows};

/// How many bytes go to the server at a time while copying.
const COPY_CHUNK: usize = 256 * 1024;
/// The role that may read the schema `read` and nothing else, where the server has it.
const READER: &str = "storefold_reader";

/// Loads the rows that the fold asked for in vain. Says whether there was anything.
pub async fn load<R: Row>(
    rows: &mut Rows<R>,
    schema: &str,
    connection: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let wanted = rows.take_wanted();
    if wanted.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "select {columns} from \"{schema}\".{table} join unnest({arrays}) as wanted ({keys}) using ({keys})",
        columns = columns::<R>(),
        table = R::TABLE,
        arrays = arrays(&R::COLUMNS[..R::KEY_COLUMNS]),
        keys = keys::<R>(),
    );
    let found = R::bind_keys(sqlx::query(AssertSqlSafe(sql)), &wanted).fetch_all(connection).await?;
    let found = found.iter().map(R::read).collect::<Result<_, _>>()?;
    rows.load(wanted, found);
    Ok(true)
}

/// Writes what the fold made: each changed row once.
pub async fn write<R: Row>(rows: &Rows<R>, schema: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let written = rows.written();
    if !written.is_empty() {
        let assignments =
            R::COLUMNS[R::KEY_COLUMNS..].iter().map(|(column, _)| format!("{column} = excluded.{column}"));
        let sql = format!(
            "insert into \"{schema}\".{table} ({columns}) select * from unnest({arrays})
             on conflict ({keys}) do update set {assignments}",
            table = R::TABLE,
            columns = columns::<R>(),
            arrays = arrays(R::COLUMNS),
            keys = keys::<R>(),
            assignments = assignments.collect::<Vec<_>>().join(", "),
        );
        R::bind_rows(sqlx::query(AssertSqlSafe(sql)), &written).execute(&mut *connection).await?;
    }
    let removed = rows.removed();
    if !removed.is_empty() {
        let sql = format!(
            "delete from \"{schema}\".{table} where ({keys}) in (select * from unnest({arrays}))",
            table = R::TABLE,
            keys = keys::<R>(),
            arrays = arrays(&R::COLUMNS[..R::KEY_COLUMNS]),
        );
        R::bind_keys(sqlx::query(AssertSqlSafe(sql)), &removed).execute(connection).await?;
    }
    Ok(())
}

/// Copies every row that was put into a table that was made in this transaction: the rows are written frozen, as no
/// other transaction can see the table yet.
pub async fn copy<R: Row>(rows: &Rows<R>, schema: &str, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let statement = format!(
        "copy \"{schema}\".{table} ({columns}) from stdin (format binary, freeze true)",
        table = R::TABLE,
        columns = columns::<R>(),
    );
    let mut sink = connection.copy_in_raw(&statement).await?;
    // The format's signature, its flags, and the length of its extension: none.
    let mut buffer = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows.written() {
        row.copy(&mut buffer);
        if buffer.len() >= COPY_CHUNK {
            sink.send(std::mem::take(&mut buffer)).await?;
        }
    }
    buffer.extend((-1_i16).to_be_bytes());
    sink.send(buffer).await?;
    sink.finish().await
}

/// Compares the rows that were put with those in a table: all of them, or those that have a value, as text, in a column.
pub async fn compare<R: Row>(
    rows: &Rows<R>,
    schema: &str,
    connection: &mut PgConnection,
    only: Option<(&'static str, &str)>,
    comparison: &mut Comparison,
) -> Result<(), sqlx::Error> {
    let mut expected: HashMap<R::Key, &R> = rows.written().into_iter().map(|row| (row.key(), row)).collect();
    let column = only.map_or("", |(column, _)| column);
    let condition = if column.is_empty() { "$1::text is null".to_owned() } else { format!("{column}::text = $1") };
    let sql = format!("select {} from \"{schema}\".{} where {condition}", columns::<R>(), R::TABLE);
    let mut found = sqlx::query(AssertSqlSafe(sql)).bind(only.map(|(_, key)| key)).fetch(connection);
    while let Some(row) = found.try_next().await? {
        let row = R::read(&row)?;
        comparison.add(Some(&row), expected.remove(&row.key()));
    }
    let mut missing: Vec<&R> = expected.into_values().collect();
    missing.sort_unstable_by_key(|row| row.key());
    missing.into_iter().for_each(|row| comparison.add(None, Some(row)));
    Ok(())
}

/// Deletes the rows that have a value, as text, in a column.
pub(super) async fn delete_key(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    column: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    let sql = format!("delete from \"{schema}\".{table} where {column}::text = $1");
    sqlx::query(AssertSqlSafe(sql)).bind(key).execute(connection).await.map(drop)
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

/// One array parameter a column: `$1::uuid[], $2::int4[]`.
fn arrays(columns: &[(&str, &str)]) -> String {
    let parameters = (1..).zip(columns).map(|(number, (_, kind))| format!("${number}::{kind}[]"));
    parameters.collect::<Vec<_>>().join(", ")
}
