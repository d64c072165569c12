//! Analysts, who read the schema `read` with SQL: what they are told of it, what they may, and what becomes of their own
//! views when a new version changes what they stand on.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::support::Database;

/// A connection as the role that may read the schema `read`. The role is one of the whole server: it is made when it is
/// not there yet, and stays.
pub(crate) async fn reader(database: &Database) -> PgConnection {
    let mut connection = database.url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let make = "do $do$ begin
            create role storefold_reader login;
        exception when duplicate_object or unique_violation then null;
        end $do$";
    connection.execute(make).await.unwrap();
    connection.execute("set role storefold_reader").await.unwrap();
    connection
}

/// A database with the demo's shop in it, and a reader. The role is there before the views are.
async fn shop() -> (Database, PgConnection) {
    let database = Database::create().await;
    let reader = reader(&database).await;
    database.run_well(&["demo"]).await;
    database.run_well(&["rebuild", "--all"]).await;
    (database, reader)
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Why a statement fails.
async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    match connection.execute(AssertSqlSafe(sql)).await {
        Ok(_) => panic!("{sql} was not refused"),
        Err(error) => error.to_string(),
    }
}

/// The schema of the live tables of `orders`.
async fn orders_schema(database: &Database) -> String {
    let schema = "select schema_name from control.generations where name = 'orders' and state = 'live'";
    sqlx::query_scalar(schema).fetch_one(&database.pool).await.unwrap()
}

/// Makes the live tables of `orders` look like an older version's, of which readers see these columns.
async fn age(database: &Database, columns: &str) {
    let schema = orders_schema(database).await;
    let sql = format!(
        "update control.generations set version = version - 1 where name = 'orders' and state = 'live';
         drop view read.orders;
         create view read.orders as select {columns} from {schema}.orders;
         grant select on read.orders to storefold_reader;
         create schema reports authorization storefold_reader"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
}

/// Everything that readers see and that says nothing of itself.
async fn silent(database: &Database) -> Vec<String> {
    let sql = "select v.relname || coalesce('.' || a.attname, '') as place
          from pg_class v left join lateral (
               select null::name as attname, 0 as attnum
               union all
               select attname, attnum from pg_attribute where attrelid = v.oid and attnum > 0) a on true
         where v.relnamespace = 'read'::regnamespace
           and coalesce(case a.attnum when 0 then obj_description(v.oid, 'pg_class')
                        else col_description(v.oid, a.attnum) end, '') = ''
         order by place";
    sqlx::query_scalar(sql).fetch_all(&database.pool).await.unwrap()
}

#[tokio::test]
async fn nothing_that_readers_see_is_without_a_comment() {
    let database = Database::create().await;
    database.run_well(&["migrate"]).await;
    let seen = "select count(*) from information_schema.columns where table_schema = 'read'";
    assert!(database.number(seen).await > 130);
    assert_eq!(silent(&database).await, [""; 0]);
    // And the check can fail.
    let hush = "comment on view read.low_stock is null; comment on column read.orders.reason is null";
    sqlx::raw_sql(hush).execute(&database.pool).await.unwrap();
    assert_eq!(silent(&database).await, ["low_stock", "orders.reason"]);
    database.run_well(&["rebuild", "orders"]).await;
    assert_eq!(silent(&database).await, ["low_stock"]);
}

#[tokio::test]
async fn the_reader_may_read_what_readers_see_and_nothing_else() {
    let (database, mut reader) = shop().await;
    let views = "select count(*) from pg_class where relnamespace = 'read'::regnamespace";
    let readable = "select count(*) from pg_class where relnamespace = 'read'::regnamespace
        and has_table_privilege(oid, 'select')";
    let views = number(&mut reader, views).await;
    assert!(views >= 16);
    assert_eq!(number(&mut reader, readable).await, views);
    assert_eq!(number(&mut reader, "select count(*) from read.orders").await, 400);
    let tables = format!("select * from {}.orders", orders_schema(&database).await);
    for sql in [
        &tables,
        "select * from log.events",
        "select * from control.generations",
        "select * from control.followed_log",
        "select * from process.instances",
        "insert into read.low_stock values ('A', 1, 1, now(), now())",
        "update read.orders set status = 'completed'",
        "delete from read.orders",
        "drop view read.orders",
        "create view read.mine as select 1",
        "create schema mine",
        "create or replace view read.orders as select 1",
    ] {
        let refusal = refusal(&mut reader, sql).await;
        assert!(refusal.contains("permission denied") || refusal.contains("must be owner"), "{sql}: {refusal}");
    }
    assert_eq!(number(&mut reader, "select count(*) from read.orders where status = 'recorded'").await, 400);
}

#[tokio::test]
async fn the_readers_own_view_goes_on_when_columns_are_added() {
    let (database, mut reader) = shop().await;
    age(&database, "order_id, reference, status").await;
    reader.execute("create view reports.orders as select * from read.orders").await.unwrap();
    database.run_well(&["rebuild", "orders"]).await;
    assert_eq!(number(&mut reader, "select count(*) from reports.orders where status = 'recorded'").await, 400);
    // The new columns, with what they hold.
    assert_eq!(number(&mut reader, "select count(*) from read.orders where total_minor > 0").await, 400);
    assert_eq!(silent(&database).await, [""; 0]);
    // As the live tables are the new ones.
    let old = "select count(*) from pg_depend d join pg_class t on t.oid = d.refobjid join control.generations g
         on g.schema_name::regnamespace = t.relnamespace and g.state <> 'live'
         join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass";
    assert_eq!(database.number(old).await, 0);
}

#[tokio::test]
async fn no_view_goes_under_the_readers_own() {
    let (database, mut reader) = shop().await;
    age(&database, "order_id, status as state").await;
    reader.execute("create view reports.states as select state, count(*) from read.orders group by 1").await.unwrap();
    reader.execute("create materialized view reports.kept as select * from reports.states").await.unwrap();
    let output = database.run(&["rebuild", "orders"]).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for named in ["the view read.orders", "reports.states", "reports.kept", "make it again"] {
        assert!(complaint.contains(named), "{named}: {complaint}");
    }
    // Everything is as it was.
    assert_eq!(number(&mut reader, "select count(*) from read.orders where state = 'recorded'").await, 400);
    assert_eq!(number(&mut reader, "select count from reports.states").await, 400);

    reader.execute("drop materialized view reports.kept; drop view reports.states").await.unwrap();
    database.run_well(&["rebuild", "orders"]).await;
    // The view was made anew, and the reader may read this one too.
    assert_eq!(number(&mut reader, "select count(*) from read.orders where status = 'recorded'").await, 400);
    assert_eq!(silent(&database).await, [""; 0]);
}

#[tokio::test]
async fn the_view_of_a_table_that_is_no_more_goes_unless_something_depends_on_it() {
    let (database, mut reader) = shop().await;
    age(&database, "order_id").await;
    let schema = orders_schema(&database).await;
    let older = format!(
        "create table {schema}.order_notes (note text);
         create view read.order_notes as select * from {schema}.order_notes;
         create view reports.notes as select * from read.order_notes"
    );
    sqlx::raw_sql(AssertSqlSafe(older)).execute(&database.pool).await.unwrap();
    let output = database.run(&["rebuild", "orders"]).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && complaint.contains("view reports.notes depends on"), "{complaint}");
    sqlx::raw_sql("drop view reports.notes").execute(&database.pool).await.unwrap();
    database.run_well(&["rebuild", "orders"]).await;
    let gone = refusal(&mut reader, "select * from read.order_notes").await;
    assert!(gone.contains("does not exist"), "{gone}");
    assert_eq!(number(&mut reader, "select count(*) from read.orders where total_minor > 0").await, 400);
}
