//! What is exported is what is there: events, and the rows of read models at one moment; whole, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tokio::process::Command;
use uuid::Uuid;

use crate::docs::{Step, blocks, page, steps};
use crate::history::{History, history};
use crate::import::answers;
use crate::support::{Database, Server, storefold, until_so};

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
    assert_eq!(positions.len(), 9);
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
    assert_eq!((files(folder.path()), expected.len()), (expected, 18));
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
        (&["--read-model", "gold"], "there are orders, products, stock_movements"),
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
        (&["--events", "--format", "parquet"], "name a file with --output"),
        (&["--read-model", "orders", "--output", path(&none)], "is no directory"),
    ];
    for (arguments, told) in cases {
        let format = if arguments.contains(&"--format") { &[][..] } else { &["--format", "ndjson"] };
        let output = database.run(&[&["export"], *arguments, format].concat()).await;
        let complaint = complaint(&output);
        assert!(complaint.contains(told) && output.stdout.is_empty(), "{arguments:?}: {complaint}");
    }
    assert_eq!(fs::read_to_string(there).unwrap(), "old");
    database.run_well(&["export", "--events", "--format", "ndjson", "--output", folder, "--force"]).await;
    assert_eq!(fs::read_to_string(there).unwrap().lines().count() as i64, database.log_length().await);
    assert_eq!(files(Path::new(folder)), ["events.ndjson".to_owned()].into());
}

/// A reader of Parquet that has nothing in common with the writer: DuckDB, for Python, from PyPI. It is installed once, into
/// the folder of what was built. `None` where it cannot be.
struct DuckDb {
    packages: PathBuf,
}

impl DuckDb {
    async fn install() -> Option<Self> {
        let target = storefold().ancestors().nth(2).unwrap().join("tmp");
        let packages = target.join("duckdb");
        if !packages.exists() {
            fs::create_dir_all(&target).unwrap();
            let folder = tempfile::tempdir_in(&target).unwrap();
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "duckdb", "--target"]);
            let installed = pip.arg(folder.path()).output().await;
            if !installed.as_ref().is_ok_and(|installed| installed.status.success()) {
                skipped(&format!("pip cannot install duckdb: {installed:?}"));
                return None;
            }
            // Another test may have been faster.
            if fs::rename(folder.path(), &packages).is_ok() {
                let _moved = folder.keep();
            }
        }
        Some(Self { packages })
    }

    /// The rows that a query gives, each a list. It reads the files of a folder.
    async fn ask(&self, folder: &Path, sql: &str) -> Value {
        self.ask_all(folder, &[sql.to_owned()]).await.remove(0)
    }

    /// The rows that several queries give.
    async fn ask_all(&self, folder: &Path, queries: &[String]) -> Vec<Value> {
        let program = "import duckdb, json, sys; duckdb.sql(\"set timezone = 'UTC'\"); \
            print(json.dumps([duckdb.sql(query).fetchall() for query in sys.argv[1:]], default=str))";
        let mut python = Command::new("python3");
        python.args(["-c", program]).args(queries).env("PYTHONPATH", &self.packages).current_dir(folder);
        let output = python.output().await.unwrap();
        assert!(output.status.success(), "{queries:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[expect(clippy::print_stderr, reason = "who runs the tests has to know what was not tested")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Exports every read model and the log, in Parquet.
async fn export_all(database: &Database, folder: &Path) {
    let export = ["export", "--format", "parquet", "--output", path(folder)];
    for (model, _) in positions(database).await {
        database.run_well(&[&export[..], &["--read-model", &model]].concat()).await;
    }
    database.run_well(&[&export[..], &["--events"]].concat()).await;
}

#[tokio::test]
async fn parquet_says_of_a_history_what_graphql_says() {
    let Some(duckdb) = DuckDb::install().await else { return };
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let History { ndjson, expected } = history(1_000);
    let file = folder.path().join("history.ndjson");
    fs::write(&file, ndjson).unwrap();
    database.run_well(&["import", path(&file)]).await;
    export_all(&database, folder.path()).await;
    let server = Server::start(&database).await;
    let answers = answers(&server).await;
    assert_eq!(answers, expected);

    let ask = async |sql: &str| duckdb.ask(folder.path(), sql).await;
    let totals = ask("select count(*), sum(line_count)::bigint, sum(total_minor)::bigint from 'orders.parquet'").await;
    assert_eq!(totals, json!([[answers["orders"], answers["lines"], answers["revenue_minor"]]]));
    for (table, field) in [("products", "products"), ("customers", "customers"), ("order_lines", "lines")] {
        assert_eq!(ask(&format!("select count(*) from '{table}.parquet'")).await, json!([[answers[field]]]), "{table}");
    }
    let by = |rows: Value| -> Value {
        let row = |row: &Value| (row[0].as_str().unwrap().to_owned(), row[1].clone());
        Value::Object(rows.as_array().unwrap().iter().map(row).collect())
    };
    for (key, field) in [("strftime(day, '%Y-%m')", "revenue_minor_by_month"), ("country", "revenue_minor_by_country")]
    {
        let sql = format!("select {key}, sum(revenue_minor)::bigint from 'sales_daily.parquet' group by 1");
        assert_eq!(by(ask(&sql).await), answers[field], "{field}");
    }
    for (sum, field) in [("units", "top_products_by_units"), ("revenue_minor", "top_products_by_revenue_minor")] {
        let sql = format!(
            "select sku, sum({sum})::bigint from 'product_sales.parquet' group by 1 order by 2 desc, 1 limit 20"
        );
        assert_eq!(ask(&sql).await, answers[field], "{field}");
    }
    let customers = "select reference, revenue_minor from 'customer_spend.parquet' join 'customers.parquet'
        using (customer_id) order by 2 desc, 1 limit 20";
    assert_eq!(ask(customers).await, answers["top_customers_by_revenue_minor"]);

    // And what happened says the same as what was made of it.
    let events = "select count(*), count(distinct id), count(occurred_at), count(data) from 'events.parquet'";
    let length = database.log_length().await;
    assert_eq!(ask(events).await, json!([[length, length, length, length]]));
    let recorded = "select count(*), sum((data->>'total_minor')::bigint)::bigint from 'events.parquet'
        where type = 'OrderRecorded' and category = 'order'";
    assert_eq!(ask(recorded).await, json!([[answers["orders"], answers["revenue_minor"]]]));
}

#[tokio::test]
async fn every_row_in_parquet_is_that_of_its_table_and_has_its_types() {
    let Some(duckdb) = DuckDb::install().await else { return };
    let (database, folder) = (a_shop().await, tempfile::tempdir().unwrap());
    export_all(&database, folder.path()).await;
    let ask = async |sql: &str| duckdb.ask(folder.path(), sql).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (mut tables, mut queries) = (Vec::new(), Vec::new());
    for (model, position) in positions(&database).await {
        for table in tables_of(&database, &model).await {
            // What is JSON in the table is text in the file.
            let columns = if table == "product_sales_orders" { "* replace (lines::json as lines)" } else { "*" };
            queries.push(format!("select to_json(t)::varchar from (select {columns} from '{table}.parquet') t"));
            queries.push(format!(
                "select decode(key), decode(value) from parquet_kv_metadata('{table}.parquet') order by 1"
            ));
            tables.push((model.clone(), position.clone(), table));
        }
    }
    assert_eq!(tables.len(), 18);
    let answers = duckdb.ask_all(folder.path(), &queries).await;
    for ((model, position, table), answers) in tables.iter().zip(answers.chunks(2)) {
        let ndjson: String = answers[0].as_array().unwrap().iter().map(|row| text(&row[0]) + "\n").collect();
        assert_eq!(differences(&database, table, &ndjson).await, 0, "{table}");
        let told =
            json!([["storefold.position", position], ["storefold.read_model", model], ["storefold.table", table],]);
        assert_eq!(answers[1], told);
    }
    let types = "select column_name, column_type from (describe select * from 'sales_daily_orders.parquet')";
    let expected = json!([
        ["order_id", "VARCHAR"],
        ["day", "DATE"],
        ["country", "VARCHAR"],
        ["currency", "VARCHAR"],
        ["lines", "BIGINT"],
        ["units", "BIGINT"],
        ["revenue_minor", "BIGINT"],
        ["counted", "BOOLEAN"],
        ["taken_back", "BOOLEAN"],
    ]);
    assert_eq!(ask(types).await, expected);
    let types = "select column_type from (describe select placed_at, line_count from 'orders.parquet')";
    assert_eq!(ask(types).await, json!([["TIMESTAMP WITH TIME ZONE"], ["INTEGER"]]));

    // The events, against the other format.
    let rows =
        ask("select concat(position_commit, '/', position_prepare), stream, category, revision, id, type, schema,
            epoch_us(occurred_at), epoch_us(recorded_at), correlation_id, causation_id, command_id, actor, data
           from 'events.parquet'");
    let (rows, events) = (rows.await, parsed(&lines(&database, &["--events"]).await));
    let time = |time: &Value| json!(text(time).parse::<DateTime<Utc>>().unwrap().timestamp_micros());
    let of_lines: Value = events
        .iter()
        .map(|event| {
            let metadata = &event["metadata"];
            json!([
                event["position"],
                event["stream"],
                text(&event["stream"]).split('-').next(),
                event["revision"],
                event["id"],
                event["type"],
                metadata["schema"],
                time(&metadata["occurredAt"]),
                time(&event["recordedAt"]),
                metadata["$correlationId"],
                metadata["$causationId"],
                metadata["commandId"],
                metadata["actor"],
                event["data"],
            ])
        })
        .collect();
    let of_file: Value = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row[13] = serde_json::from_str(&text(&row[13])).unwrap();
            row
        })
        .collect();
    assert!(events.len() > 100);
    assert_eq!(of_file, of_lines);
}

/// The tables of a read model, by what it has in its schema.
async fn tables_of(database: &Database, model: &str) -> Vec<String> {
    let tables =
        "select table_name::text from information_schema.tables join control.generations on table_schema = schema_name
        where name = $1 and state = 'live'";
    let tables: Vec<String> = sqlx::query_scalar(tables).bind(model).fetch_all(&database.pool).await.unwrap();
    assert!(!tables.is_empty(), "{model}");
    tables
}

/// What a command of the page prints, without what is another every time: times, and the order in which lines went in.
fn timeless(printed: &str) -> Vec<String> {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut event) => {
            if event["recordedAt"].is_string() {
                (event["recordedAt"], event["position"]) = (Value::Null, Value::Null);
                event["metadata"]["occurredAt"] = Value::Null;
            }
            event.to_string()
        }
        Err(_) => line.to_owned(),
    };
    let mut lines: Vec<String> = printed.lines().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_page_of_exports_shows_what_is_so() {
    let (database, folder) = (Database::create_with_its_log().await, tempfile::tempdir().unwrap());
    for block in blocks(&page("import.md")).iter().filter(|block| block.file() == Some("history.ndjson")) {
        fs::write(folder.path().join("history.ndjson"), &block.text).unwrap();
    }
    let import = database.command(&["import", "history.ndjson"]).current_dir(folder.path()).output().await.unwrap();
    assert!(import.status.success(), "{import:?}");

    let page = page("export.md");
    let steps = steps(&page);
    assert_eq!(steps.len(), 7);
    let programs = storefold().parent().unwrap().to_owned();
    for Step { command, printed } in steps {
        // With the binary under test before everything else.
        let line = format!("PATH=\"$0:$PATH\"; {command}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).arg(&programs).current_dir(folder.path()).env("DATABASE_URL", &database.url);
        let output = shell.env_remove("EVENT_STORE_URL").output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(timeless(std::str::from_utf8(&output.stdout).unwrap()), timeless(&printed), "{command}");
    }
    let Some(duckdb) = DuckDb::install().await else { return };
    let mut asked = 0;
    for block in blocks(&page).iter().filter(|block| block.language() == "sql") {
        let rows = duckdb.ask(folder.path(), &block.text).await;
        assert!(!rows.as_array().unwrap().is_empty(), "{}", block.text);
        asked += 1;
    }
    assert_eq!(asked, 3);
}

/// As `head` does when it has enough. Nothing is wrong then, and nothing is said.
#[tokio::test]
async fn who_reads_no_more_is_told_nothing() {
    let database = Database::create().await;
    Server::start(&database).await.done("/v1/stock/TEA-1/receive", json!({ "quantity": 1 })).await;
    for arguments in [
        &["schema", "openapi"][..],
        &["status"],
        &["stream", "stock-TEA-1"],
        &["export", "--format", "ndjson", "--events"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = database.command(arguments);
        let child = command.env("STOREFOLD_LOG_FILTER", "error").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.as_str()), (Some(141), ""), "{arguments:?}");
    }
}
