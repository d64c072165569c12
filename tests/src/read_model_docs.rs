//! What the page for analysts says of tables, columns, keys and queries, held against the database.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

use crate::docs::{Block, blocks, page};
use crate::readers::reader;
use crate::support::{Database, Server, until_so};

fn text() -> String {
    page("read-models.md")
}

/// The columns of each table, with `PK` behind those of the primary key.
type Tables = BTreeMap<String, Vec<String>>;

/// The tables that readers see, with the keys of the live tables behind them.
async fn seen(database: &Database) -> Tables {
    let sql = "select c.table_name::text,
               case udt_name when 'int8' then 'bigint' when 'int4' then 'int' else udt_name end || ' ' || column_name ||
               case when exists (
                    select from control.generations g
                      join pg_class t on t.relnamespace = g.schema_name::regnamespace and t.relname = c.table_name
                      join pg_index i on i.indrelid = t.oid and i.indisprimary
                      join pg_attribute a on a.attrelid = t.oid and a.attnum = any (i.indkey)
                     where g.state = 'live' and a.attname = c.column_name) then ' PK' else '' end
          from information_schema.columns c where table_schema = 'read' order by c.table_name, ordinal_position";
    let mut tables = Tables::new();
    for (table, column) in sqlx::query_as::<_, (String, String)>(sql).fetch_all(&database.pool).await.unwrap() {
        tables.entry(table).or_default().push(column);
    }
    tables
}

/// What the diagram shows: the tables, and the lines between them as table, column, table, column.
fn diagram(page: &str) -> (Tables, Vec<[String; 4]>) {
    let (mut tables, mut lines) = (Tables::new(), Vec::new());
    let block = blocks(page).into_iter().find(|block| block.language() == "mermaid").unwrap();
    let mut text = block.text.lines().map(str::trim).skip(1);
    while let Some(line) = text.next() {
        if let Some(table) = line.strip_suffix(" {") {
            tables.insert(table.to_owned(), text.by_ref().take_while(|line| *line != "}").map(str::to_owned).collect());
            continue;
        }
        let (ends, label) = line.split_once(" : ").expect(line);
        let [left, _, right] = ends.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let label = label.trim_matches('"');
        let (from, to) = label.split_once(" = ").unwrap_or((label, label));
        lines.push([left, from, right, to].map(str::to_owned));
    }
    (tables, lines)
}

/// What the diagram says that is not so.
fn wrong_diagram(page: &str, seen: &Tables) -> Vec<String> {
    let (shown, lines) = diagram(page);
    let columns = |tables: &Tables| -> BTreeSet<String> {
        let column = |(table, columns): (&String, &Vec<String>)| {
            // With their places, so that their order counts.
            let columns = (1..).zip(columns).map(|(place, column)| format!("{table} {place}: {column}"));
            columns.collect::<Vec<_>>()
        };
        tables.iter().flat_map(column).collect()
    };
    let (shown, there) = (columns(&shown), columns(seen));
    let mut wrong: Vec<String> = there.difference(&shown).map(|column| format!("{column} is not shown")).collect();
    wrong.extend(shown.difference(&there).map(|column| format!("{column} is not there")));
    for [left, from, right, to] in lines {
        for (table, column) in [(left, from), (right, to)] {
            let has = |columns: &Vec<String>| columns.iter().any(|known| known.split(' ').nth(1) == Some(&column));
            if !seen.get(&table).is_some_and(has) {
                wrong.push(format!("a line joins on {table}.{column}"));
            }
        }
    }
    wrong
}

/// The tables that the page lists, each with its read model.
fn listed(page: &str) -> BTreeSet<(String, String)> {
    let section = page.split("\n## What there is\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let (mut listed, mut model) = (BTreeSet::new(), String::new());
    for line in section.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if !cells[1].is_empty() {
            model = cells[1].to_owned();
        }
        listed.insert((model.clone(), cells[2].to_owned()));
    }
    listed
}

#[tokio::test]
async fn the_page_shows_every_table_and_column_and_what_joins_to_what() {
    let (database, page) = (Database::create().await, text());
    database.run_well(&["migrate"]).await;
    let seen = seen(&database).await;
    assert!(seen.len() >= 18, "{seen:?}");
    assert_eq!(wrong_diagram(&page, &seen), [""; 0]);
    let tables = "select g.name, t.relname::text from control.generations g
          join pg_class t on t.relnamespace = g.schema_name::regnamespace and t.relkind = 'r' where g.state = 'live'";
    let tables: Vec<(String, String)> = sqlx::query_as(tables).fetch_all(&database.pool).await.unwrap();
    assert_eq!(listed(&page), tables.into_iter().collect());

    // And the check can fail.
    for (from, to, wrong) in [
        ("timestamptz delivered_at\n        text shipment_reason\n", "timestamptz delivered_at\n", 1),
        ("uuid order_id PK\n        text reference\n", "uuid order_id\n        text reference\n", 2),
        ("timestamptz since\n", "date since\n", 2),
        ("orders |o--o| payments : \"order_id = payment_id\"", "orders |o--o| payments : \"order_id\"", 1),
        ("products ||--o| low_stock : \"sku\"", "products ||--o| lowstock : \"sku\"", 1),
    ] {
        assert!(page.contains(from), "{from}");
        let found = wrong_diagram(&page.replacen(from, to, 1), &seen);
        assert_eq!(found.len(), wrong, "{from}: {found:?}");
    }
}

/// A shop that has seen everything that the page asks about: past orders, one that went well and was refunded in part, and
/// one that came to nothing.
async fn shop(database: &Database) {
    database.run_well(&["demo"]).await;
    let server = Server::start_with(database, &["--fulfil"]).await;
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    server.done("/v1/stock/MUG-1/adjust", json!({ "counted": 9, "reason": "one is broken" })).await;
    let (well, declined) = (Uuid::now_v7(), Uuid::now_v7());
    for (order, card) in [(well, "tok_approved"), (declined, "tok_declined")] {
        let line = json!({ "sku": "MUG-1", "quantity": 2, "unit_price_minor": 950 });
        let body = json!({ "country": "France", "currency": "GBP", "card": card, "lines": [line] });
        server.done(&format!("/v1/order/{order}/place"), body).await;
    }
    let over = "select count(*) from read.checkouts where state in ('completed', 'undone')";
    until_so(async || database.number(over).await == 2).await;
    let part = json!({ "amount": { "minor": 400, "currency": "GBP" }, "reason": "chipped" });
    server.done(&format!("/v1/payment/{well}/refund"), part).await;
    let refunded = "select count(*) from read.payment_refunds where status = 'refunded'";
    until_so(async || database.number(refunded).await == 1).await;
    until_so(async || database.number("select count(*) from read.orders where delivered_at is not null").await == 1)
        .await;
}

/// Runs a block, and answers how many rows came.
async fn rows(block: &Block, connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    Ok(sqlx::raw_sql(AssertSqlSafe(block.text.as_str())).fetch_all(connection).await?.len())
}

#[tokio::test]
async fn what_the_page_asks_is_answered() {
    let (database, page) = (Database::create().await, text());
    let mut reader = reader(&database).await;
    shop(&database).await;
    // As in a shop that was there before the role.
    let revoke = "revoke select on all tables in schema read from storefold_reader;
        revoke usage on schema read from storefold_reader";
    sqlx::raw_sql(revoke).execute(&database.pool).await.unwrap();
    assert!(reader.execute("select * from read.orders").await.is_err());
    let (mut owners, mut asked) = (0, 0);
    for block in blocks(&page).iter().filter(|block| block.language() == "sql") {
        // The others are an analyst's.
        if ["grant ", "create schema "].iter().any(|start| block.text.starts_with(start)) {
            rows(block, &mut database.pool.acquire().await.unwrap()).await.unwrap();
            owners += 1;
        } else {
            let came = rows(block, &mut reader).await.unwrap_or_else(|error| panic!("{error}: {}", block.text));
            assert!(came > 0, "no rows came of {}", block.text);
            asked += 1;
        }
    }
    assert_eq!((owners, asked), (2, 8));
    // What the page says that is told when a view would be taken away.
    let age = "update control.generations set version = version - 1 where name = 'orders' and state = 'live';
        drop view read.orders cascade;
        create view read.orders as select 1 as other;
        create view reports.refunds as select * from read.orders";
    sqlx::raw_sql(age).execute(&database.pool).await.unwrap();
    let output = database.run(&["rebuild", "orders"]).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = page.lines().filter_map(|line| line.strip_prefix("> ")).collect::<Vec<_>>().join(" ");
    assert!(told.len() > 100 && complaint.contains(&told), "{told}\n{complaint}");
}
