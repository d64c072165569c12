//! What is exported is what is there: events, and the rows of read models at one moment; whole, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{Database, Server, until_so};

/// A shop with orders that were put on record and orders that were traded, some of which came to nothing.
async fn a_shop() -> Database {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("history.ndjson");
    let order = |kind: &str, number: u64| {
        // More than there are, of every third.
        let quantity = if number % 3 == 2 { 900 } else { 1 + number % 7 };
        let line =
            |sku: u64| json!({ "sku": format!("TEA-{sku}"), "quantity": quantity, "unit_price_minor": 250 + sku });
        json!({
            "kind": "order", "ref": format!("{kind} {number}"), "country": "EIRE", "currency": "GBP",
            "placed_at": format!("2010-12-{:02}T10:15:00Z", 1 + number % 28), "customer_ref": format!("C{}", number % 5),
            "lines": (0..=number % 4).map(line).collect::<Vec<_>>(),
        })
    };
    let products = (0..4).map(|number| {
        let sku = format!("TEA-{number}");
        json!({ "kind": "product", "sku": sku, "name": format!("Tea \"{number}\""), "price_minor": 250, "currency": "GBP" })
    });
    let stock = (0..4).map(|number| json!({ "kind": "stock", "sku": format!("TEA-{number}"), "quantity": 200 }));
    let import = async |lines: Vec<Value>, more: &[&str]| {
        fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        database.run_well(&[&["import", path(&file)], more].concat()).await;
    };
    import(products.chain(stock).chain((0..40).map(|number| order("recorded", number))).collect(), &[]).await;
    import((0..12).map(|number| order("live", number)).collect(), &["--live", "--fulfil"]).await;
    database
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exports to standard output. Answers the lines.
async fn lines(database: &Database, arguments: &[&str]) -> Vec<String> {
    let printed = database.run_well(&[&["export", "--format", "ndjson"], arguments].concat()).await;
    assert!(printed.is_empty() || printed.ends_with('\n'));
    printed.lines().map(str::to_owned).collect()
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of what is in a folder, hidden files too.
fn files(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What a run that went wrong says.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it went well: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn every_event_comes_out_once_in_the_order_of_the_log() {
    let database = a_shop().await;
    let all = lines(&database, &["--events"]).await;
    assert_eq!(all.len() as i64, database.log_length().await);
    let rows = database.pool.fetch_all("select position, stream, revision, id, type from log.events order by position");
    let (rows, events) = (rows.await.unwrap(), parsed(&all));
    for (row, event) in rows.iter().zip(&events) {
        let commit = event["position"].as_str().unwrap().split('/').next().unwrap().parse::<i64>().unwrap();
        assert_eq!((commit, row.get::<&str, _>("stream")), (row.get("position"), event["stream"].as_str().unwrap()));
        assert_eq!(event["revision"], row.get::<i64, _>("revision"));
        assert_eq!(
            (&event["id"], &event["type"]),
            (&json!(row.get::<Uuid, _>("id")), &json!(row.get::<&str, _>("type")))
        );
    }
    // In the form in which a stream is printed, data and metadata with it.
    let stream = events.iter().find(|event| event["type"] == "PaymentCaptured").unwrap()["stream"].as_str().unwrap();
    let printed = database.run_well(&["stream", stream, "--json"]).await;
    let of_the_stream: Vec<&str> =
        all.iter().zip(&events).filter(|(_, event)| event["stream"] == stream).map(|(line, _)| &**line).collect();
    assert!(of_the_stream.len() > 3);
    assert_eq!(of_the_stream, printed.lines().collect::<Vec<_>>());
    assert_eq!(lines(&database, &["--events", "--stream", stream]).await, of_the_stream);
}

#[tokio::test]
async fn only_the_events_that_are_asked_for_come_out() {
    let database = a_shop().await;
    let all = lines(&database, &["--events"]).await;
    let events = parsed(&all);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    let category = |event: &Value| text(event, "stream").split('-').next().unwrap().to_owned();
    let position = |event: &Value| {
        let (commit, prepare) = event["position"].as_str().unwrap().split_once('/').unwrap();
        (commit.parse::<u64>().unwrap(), prepare.parse::<u64>().unwrap())
    };
    let occurred = |event: &Value| -> DateTime<Utc> { text(&event["metadata"], "occurredAt").parse().unwrap() };
    let orders: Vec<&Value> = events.iter().filter(|event| category(event) == "order").collect();
    let (third, two_thirds) = (orders[orders.len() / 3], orders[orders.len() * 2 / 3]);
    let (low, high) = (text(third, "position"), text(two_thirds, "position"));
    let (early, late) = (text(&third["metadata"], "occurredAt"), text(&two_thirds["metadata"], "occurredAt"));
    let (early, late) = if occurred(third) < occurred(two_thirds) { (early, late) } else { (late, early) };
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let stock = text(events.iter().find(|event| event["type"] == "StockReserved").unwrap(), "stream");

    type Passes<'a> = &'a dyn Fn(&Value) -> bool;
    let cases: &[(&[&str], Passes)] = &[
        (&["--category", "order"], &|event| category(event) == "order"),
        (&["--category", "order", "--category", "stock"], &|event| ["order", "stock"].contains(&&*category(event))),
        (&["--type", "OrderPlaced"], &|event| event["type"] == "OrderPlaced"),
        (&["--category", "stock", "--type", "StockReserved", "--type", "OrderPlaced"], &|event| {
            event["type"] == "StockReserved"
        }),
        (&["--stream", &stock], &|event| event["stream"] == stock),
        (&["--stream", &stock, "--type", "StockReserved"], &|event| {
            event["stream"] == stock && event["type"] == "StockReserved"
        }),
        (&["--stream", &stock, "--from", &low], &|event| event["stream"] == stock && position(event) > position(third)),
        (&["--from", &low], &|event| position(event) > position(third)),
        (&["--until", &low], &|event| position(event) <= position(third)),
        (&["--from", &low, "--until", &high], &|event| {
            position(event) > position(third) && position(event) <= position(two_thirds)
        }),
        (&["--from", &low, "--until", &low], &|_| false),
        (&["--from", &early], &|event| occurred(event) > time(&early)),
        (&["--until", &early], &|event| occurred(event) <= time(&early)),
        (&["--from", &early, "--until", &late, "--category", "order"], &|event| {
            category(event) == "order" && occurred(event) > time(&early) && occurred(event) <= time(&late)
        }),
        (&["--from", &low, "--until", &late], &|event| {
            position(event) > position(third) && occurred(event) <= time(&late)
        }),
    ];
    for (arguments, passes) in cases {
        let expected: Vec<&String> =
            all.iter().zip(&events).filter(|(_, event)| passes(event)).map(|(line, _)| line).collect();
        let found = lines(&database, &[&["--events"], *arguments].concat()).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{arguments:?}");
        let chosen = expected.len() > 1 && expected.len() < all.len();
        assert!(chosen || arguments == &["--from", &low, "--until", &low], "{arguments:?} says little");
    }
    // At the end of the log there is nothing, and nothing wrong.
    let end = text(events.last().unwrap(), "position");
    assert_eq!(lines(&database, &["--events", "--from", &end]).await, [""; 0]);
}

/// The rows of a table that are in a file and not in the database, or the other way round.
async fn differences(database: &Database, table: &str, ndjson: &str) -> i64 {
    let rows: Value = ndjson.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    let sql = format!(
        "with exported as (select * from jsonb_populate_recordset(null::read.{table}, $1))
         select (select count(*) from (select * from exported except all select * from read.{table}) a)
              + (select count(*) from (select * from read.{table} except all select * from exported) b)"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(rows).fetch_one(&database.pool).await.unwrap()
}

/// How far each read model is, by its name.
async fn positions(database: &Database) -> Vec<(String, String)> {
    let status: Value = serde_json::from_str(&database.run_well(&["status", "--json"]).await).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let models = status["read_models"].as_array().unwrap();
    models.iter().map(|model| (text(&model["name"]), text(&model["position"]))).collect()
}

/// What is logged, in the order in which it is.
fn logged(output: &Output) -> Vec<Value> {
    let lines = std::str::from_utf8(&output.stderr).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn every_table_of_every_read_model_comes_out_as_it_is() {
    let (database, folder) = (a_shop().await, tempfile::tempdir().unwrap());
    let positions = positions(&database).await;
    assert_eq!(positions.len(), 8);
    for (model, position) in &positions {
        let mut export =
            database.command(&["export", "--read-model", model, "--format", "ndjson", "--log-format", "json"]);
        let output = export.arg("--output").arg(folder.path()).output().await.unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let first = logged(&output).into_iter().find(|line| line.to_string().contains("as of this position")).unwrap();
        assert!(first.to_string().contains(&format!("\"position\":\"{position}\"")), "{first}");
    }
    let views = "select table_name::text from information_schema.views where table_schema = 'read'";
    let views: Vec<String> = sqlx::query_scalar(views).fetch_all(&database.pool).await.unwrap();
    let expected: BTreeSet<String> = views.iter().map(|view| format!("{view}.ndjson")).collect();
    assert_eq!((files(folder.path()), expected.len()), (expected, 16));
    let mut rows = 0;
    for view in &views {
        let ndjson = fs::read_to_string(folder.path().join(format!("{view}.ndjson"))).unwrap();
        assert_eq!(differences(&database, view, &ndjson).await, 0, "{view}");
        rows += ndjson.lines().count();
        // And the check can fail.
        if let Some((_, rest)) = ndjson.split_once('\n') {
            assert_eq!(differences(&database, view, rest).await, 1, "{view}");
        }
    }
    assert!(rows > 300, "{rows} rows say little");
    // What a reader of JSON sees.
    let of = |table: &str| fs::read_to_string(folder.path().join(format!("{table}.ndjson"))).unwrap();
    let order = of("orders").lines().find(|line| line.contains("\"completed\"")).unwrap().to_owned();
    assert!(order.starts_with("{\"order_id\":\"") && order.contains("T10:15:00Z\""), "{order}");
    let order: Value = serde_json::from_str(&order).unwrap();
    assert!(order["total_minor"].is_i64() && order["reason"].is_null(), "{order}");
    let open: Value = serde_json::from_str(of("product_sales_orders").lines().next().unwrap()).unwrap();
    assert!(
        open["lines"][0][1].is_i64()
            && open["day"].as_str().unwrap().starts_with("2010-12-")
            && open["counted"].is_boolean(),
        "{open}"
    );

    let spend = lines(&database, &["--read-model", "customers", "--table", "customer_spend"]).await;
    assert_eq!(spend.join("\n") + "\n", of("customer_spend"));
}

/// The tables of one export belong together, whatever is sold and rebuilt meanwhile.
#[tokio::test]
async fn the_tables_of_an_export_are_of_one_moment() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let server = Arc::new(Server::start_by_hand(&database).await);
    let trade = async |server: &Server, orders: u64| {
        for number in 0..orders {
            let line = json!({ "sku": "TEA", "quantity": 1, "unit_price_minor": 100 + number });
            let lines: Vec<Value> = (0..=number % 4).map(|_| line.clone()).collect();
            let sale = json!({ "country": "EIRE", "currency": "GBP", "card": "tok_approved", "lines": lines });
            let order = format!("/v1/order/{}", Uuid::now_v7());
            server.done(&format!("{order}/place"), sale).await;
            server.done(&format!("{order}/confirm"), json!({})).await;
        }
    };
    trade(&server, 10).await;
    let trading = tokio::spawn({
        let server = server.clone();
        async move { trade(&server, 150).await }
    });
    let mut seen = BTreeSet::new();
    while !trading.is_finished() {
        let export =
            ["export", "--read-model", "orders", "--format", "ndjson", "--force", "--output", path(folder.path())];
        let (exported, rebuilt) = tokio::join!(database.run_well(&export), database.run(&["rebuild", "orders"]));
        assert!(exported.is_empty() && rebuilt.status.success(), "{rebuilt:?}");
        let read = |table: &str| {
            let text = fs::read_to_string(folder.path().join(format!("{table}.ndjson"))).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        let (orders, lines, timeline) = (read("orders"), read("order_lines"), read("order_timeline"));
        let sum = |field: &str| orders.iter().map(|order| order[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("line_count"), sum("timeline_entries")), (lines.len() as u64, timeline.len() as u64));
        seen.insert(orders.len());
    }
    trading.await.unwrap();
    assert!(seen.len() > 2 && seen.first() >= Some(&1), "{seen:?}: nothing was sold meanwhile");
}

/// The second of three tables cannot be read to its end until the test lets it be.
async fn with_a_table_that_waits(database: &Database) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut gate = database.pool.begin().await.unwrap();
    gate.execute("select pg_advisory_xact_lock(42)").await.unwrap();
    let live = "select schema_name from control.generations where name = 'orders' and state = 'live'";
    let schema: String = sqlx::query_scalar(live).fetch_one(&database.pool).await.unwrap();
    let view = format!(
        "create or replace view read.order_lines as select t.* from \"{schema}\".order_lines t
            cross join (select pg_advisory_xact_lock_shared(42) offset 0) gate"
    );
    database.pool.execute(AssertSqlSafe(view)).await.unwrap();
    gate
}

#[tokio::test]
async fn an_export_that_is_interrupted_leaves_nothing() {
    let (database, folder) = (a_shop().await, tempfile::tempdir().unwrap());
    let gate = with_a_table_that_waits(&database).await;
    fs::write(folder.path().join("order_lines.ndjson"), "old").unwrap();
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database())";
    let hang_up = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and application_name = 'storefold export'";
    for signal in ["-INT", "-TERM", "-KILL"] {
        let arguments = ["export", "--read-model", "orders", "--format", "ndjson", "--force", "--output"];
        let mut command = database.command(&arguments);
        let exporting = command.arg(folder.path()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        until_so(async || database.number(waits).await == 1).await;
        let under_way = files(folder.path());
        assert!(under_way.iter().any(|file| file.starts_with(".orders.ndjson.")), "{under_way:?}");
        assert!(!under_way.contains("orders.ndjson"), "{under_way:?}");
        let pid = exporting.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let output = exporting.wait_with_output().await.unwrap();
        let told = complaint(&output);
        let left: BTreeSet<String> = files(folder.path());
        // Who is killed cannot clear up, but nothing has its name.
        if signal == "-KILL" {
            assert!(!left.contains("orders.ndjson"), "{left:?}");
        } else {
            assert!(told.contains("stopped; no file was written"), "{told}");
            assert_eq!(left, ["order_lines.ndjson".to_owned()].into());
        }
        assert_eq!(fs::read_to_string(folder.path().join("order_lines.ndjson")).unwrap(), "old");
        // The server may not have noticed yet that nobody waits any more.
        database.number(hang_up).await;
        until_so(async || database.number(waits).await == 0).await;
    }
    drop(gate);
    let all = ["export", "--read-model", "orders", "--format", "ndjson", "--force", "--output", path(folder.path())];
    database.run_well(&all).await;
    let ndjson = fs::read_to_string(folder.path().join("order_lines.ndjson")).unwrap();
    assert_eq!(differences(&database, "order_lines", &ndjson).await, 0);
}

#[tokio::test]
async fn what_cannot_be_exported_says_what_to_do() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    database.run_well(&["demo"]).await;
    let there = folder.path().join("events.ndjson");
    fs::write(&there, "old").unwrap();
    let (there, folder, none) = (path(&there), path(folder.path()), folder.path().join("none/x.ndjson"));
    let end = database.number("select max(position) from log.events").await;
    let past = format!("{0}/{0}", end + 1);
    let cases: &[(&[&str], &str)] = &[
        (&["--read-model", "gold"], "there are orders, products, customers"),
        (&["--read-model", "orders", "--table", "gold"], "it has orders, order_lines, order_timeline"),
        (&["--read-model", "orders"], "name one with --table"),
        (&["--events", "--category", "ordr"], "there are checkout"),
        (&["--events", "--type", "OrderPlacd"], "OrderPlaced"),
        (&["--events", "--stream", "stock-NONE"], "there is no event in the stream stock-NONE"),
        (&["--events", "--stream", ""], "names no stream"),
        (&["--events", "--from", "yesterday"], "neither a position, such as 1234/1234, nor a time in RFC 3339"),
        (&["--events", "--from", &past], "the log ends at"),
        (&["--events", "--from", "5/5", "--until", "3/3"], "exchange them"),
        (&["--events", "--output", there], "replace it with --force"),
        (&["--events", "--output", folder], "replace it with --force"),
        (&["--events", "--output", path(&none)], "make it first"),
        (&["--events", "--output", "/dev/null"], "is no file"),
        (&["--read-model", "orders", "--output", path(&none)], "is no directory"),
    ];
    for (arguments, told) in cases {
        let output = database.run(&[&["export", "--format", "ndjson"], *arguments].concat()).await;
        let complaint = complaint(&output);
        assert!(complaint.contains(told) && output.stdout.is_empty(), "{arguments:?}: {complaint}");
    }
    assert_eq!(fs::read_to_string(there).unwrap(), "old");
    database.run_well(&["export", "--events", "--format", "ndjson", "--output", folder, "--force"]).await;
    assert_eq!(fs::read_to_string(there).unwrap().lines().count() as i64, database.log_length().await);
    assert_eq!(files(Path::new(folder)), ["events.ndjson".to_owned()].into());
}
