//! Logs that are copied and moved, and logs that are held against what is expected of one.

use std::process::Stdio;

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::history::{History, history};
use crate::import::answers;
use crate::support::{Database, KurrentDb, Server, canonical_hash, until_so};

/// Runs `copy-log`. Answers what it prints.
async fn copy(database: &Database, arguments: &[&str]) -> Value {
    let printed = database.run_well(&[&["copy-log", "--json"], arguments].concat()).await;
    serde_json::from_str(&printed).unwrap()
}

/// A database with the first orders of a history in its log, and what a correct system answers about them.
async fn a_shop(orders: usize) -> (Database, Value) {
    bring(Database::create_with_its_log().await, orders).await
}

/// Brings in the first orders of a history.
async fn bring(database: Database, orders: usize) -> (Database, Value) {
    let History { ndjson, expected } = history(orders);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, ndjson.as_bytes()).unwrap();
    database.run_well(&["import", "--json", file.path().to_str().unwrap()]).await;
    (database, expected)
}

/// The whole history of a shop goes into KurrentDB and comes out of GraphQL right; its log goes to Postgres and back, however
/// often that is killed.
#[tokio::test]
async fn a_whole_history_goes_into_kurrentdb_and_its_log_to_postgres_and_back() {
    let (mut database, there) = (Database::create_with_its_log().await, KurrentDb::alone().await);
    let log = there.url();
    database.kurrentdb = Some(there);
    let (database, expected) = bring(database, 20_000).await;
    let server = Server::start(&database).await;
    assert_eq!(answers(&server).await, expected);
    let there = database.kurrentdb.as_ref().unwrap();
    let length = there.length();
    let has_all = |copied: &Value| assert_eq!(copied["events"], json!(length), "{copied}");

    let in_postgres = Database::create_with_its_log().await;
    killed(&in_postgres, &[&log, "postgres:"], async || in_postgres.log_length_or_none().await > 0).await;
    let before = in_postgres.log_length().await as usize;
    let first = copy(&in_postgres, &[&log, "postgres:"]).await;
    has_all(&first);
    assert_eq!(first["copied"], json!(length - before));

    let back = KurrentDb::alone().await;
    for part in [1, 2] {
        killed(&in_postgres, &["postgres:", &back.url()], async || back.length() > length * part / 3).await;
    }
    let before = back.length();
    let second = copy(&in_postgres, &["postgres:", &back.url()]).await;
    has_all(&second);
    assert_eq!((&second["copied"], &second["sha256"]), (&json!(length - before), &first["sha256"]));
    let again = copy(&in_postgres, &["postgres:", &back.url()]).await;
    assert_eq!((&again["copied"], &again["sha256"]), (&json!(0), &first["sha256"]));
    // Not only by what copy-log says of itself.
    let contents = |kurrentdb: &KurrentDb| -> Vec<_> {
        let records = kurrentdb.server.log().records();
        records.iter().map(|record| (record.stream.clone(), record.revision, record.event.clone())).collect()
    };
    assert_eq!(contents(&back), contents(there));
}

/// Kills a copy on its way.
async fn killed(database: &Database, arguments: &[&str], far_enough: impl AsyncFn() -> bool) {
    let mut copying = database.command(&[&["copy-log"], arguments].concat()).stdout(Stdio::null()).spawn().unwrap();
    until_so(async || far_enough().await).await;
    assert!(copying.try_wait().unwrap().is_none(), "it was over before it could be killed");
    copying.kill().await.unwrap();
}

/// The shop is moved, and goes on: its read models are not folded again, and its open orders are seen through.
#[tokio::test]
async fn a_shop_moves_to_another_log_and_goes_on() {
    let (mut database, expected) = a_shop(200).await;
    let by_hand = Server::start(&database).await;
    by_hand.done("/v1/stock/TEA/receive", json!({ "quantity": 5 })).await;
    let order = "/v1/order/0191f0f0-0000-7000-8000-000000000001";
    let line = json!({ "sku": "TEA", "quantity": 2, "unit_price_minor": 100 });
    let sale = json!({ "country": "EIRE", "currency": "GBP", "card": "tok_approved", "lines": [line] });
    by_hand.done(&format!("{order}/place"), sale).await;
    until_so(async || database.number("select count(*) from read.orders where status = 'confirmed'").await == 1).await;
    assert!(by_hand.stop().await.success());
    let before = canonical_hash(&database, "orders").await;

    let kurrentdb = KurrentDb::alone().await;
    let moved = copy(&database, &["postgres:", &kurrentdb.url(), "--move"]).await;
    assert!(moved["places_moved"].as_u64().unwrap() > 8, "{moved}");
    let again = copy(&database, &["postgres:", &kurrentdb.url(), "--move"]).await;
    assert_eq!(again["places_moved"], 0, "what was moved is not moved again");
    // Every place there is was moved.
    let places = "select count(distinct table_schema || table_name) from information_schema.columns
        where column_name = 'commit_position' and table_schema in ('control', 'process', 'sandbox')";
    assert_eq!(database.number(places).await, 5, "a table with places is not known to copy-log");

    // The old log is no longer this database's.
    let refused = database.run(&["status"]).await;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaint.contains("follow another log"), "{complaint}");

    let generations = "select max(generation)::bigint from control.generations";
    database.kurrentdb = Some(kurrentdb);
    let server = Server::start_with(&database, &["--fulfil"]).await;
    until_so(async || database.number("select count(*) from read.orders where status = 'completed'").await == 1).await;
    assert_eq!(database.number(generations).await, 1, "a read model was folded again");
    assert_ne!(canonical_hash(&database, "orders").await, before);
    let stock = server.query("{ product(sku: \"TEA\") { onHand } }", json!({}), None).await;
    assert_eq!(stock["product"]["onHand"], 3);
    assert!(server.stop().await.success());

    // And back, with what has happened there.
    let home = Database::create_with_its_log().await;
    let there = database.kurrentdb.as_ref().unwrap().url();
    copy(&database, &[&there, &home.url, "--move"]).await;
    database.kurrentdb = None;
    let server = Server::start_as(&database, &[], &[("EVENT_STORE_URL", &home.url)]).await;
    server.done("/v1/stock/TEA/receive", json!({ "quantity": 1 })).await;
    until_so(async || database.number("select on_hand from read.products where sku = 'TEA'").await == 4).await;
    let mut sales = answers(&server).await;
    for field in ["orders", "lines", "revenue_minor", "products"] {
        sales[field] = expected[field].clone();
    }
    assert_eq!(sales["top_customers_by_revenue_minor"], expected["top_customers_by_revenue_minor"]);
    assert_eq!(database.number(generations).await, 1, "a read model was folded again");
}

#[tokio::test]
async fn what_cannot_be_copied_is_told() {
    let (database, _) = a_shop(20).await;
    let other = Database::create_with_its_log().await;
    other.run_well(&["demo"]).await;
    let complaint = async |database: &Database, arguments: &[&str]| {
        let output = database.run(&[&["copy-log"], arguments].concat()).await;
        assert!(!output.status.success(), "{arguments:?} was done");
        String::from_utf8(output.stderr).unwrap()
    };
    let (lengths, refused) = (async || (database.log_length().await, other.log_length().await), &complaint);
    let before = lengths().await;
    let told = refused(&database, &["postgres:", &other.url]).await;
    assert!(told.contains("no copy of the source"), "{told}");
    let told = refused(&database, &["postgres:", "postgres:"]).await;
    assert!(told.contains("one and the same"), "{told}");
    let told = refused(&database, &["mysql://x/y", "postgres:"]).await;
    assert!(told.contains("mysql"), "{told}");
    let longer = Database::create_with_its_log().await;
    copy(&database, &["postgres:", &longer.url]).await;
    let server = Server::start(&longer).await;
    server.done("/v1/stock/TEA/receive", json!({ "quantity": 1 })).await;
    let told = refused(&database, &["postgres:", &longer.url]).await;
    assert!(told.contains("more events than the source"), "{told}");
    // A shop at work is not moved under its feet.
    let told = refused(&longer, &["postgres:", &KurrentDb::alone().await.url(), "--move"]).await;
    assert!(told.contains("at work"), "{told}");
    assert_eq!(lengths().await, before);
}

#[tokio::test]
async fn each_log_passes_every_check_and_a_broken_one_does_not() {
    let database = Database::create_with_its_log().await;
    let kurrentdb = KurrentDb::alone().await;
    for url in ["postgres:", "memory:", &kurrentdb.url()] {
        let printed = database.run_well(&["check-store", url]).await;
        assert!(printed.contains("ok") && printed.ends_with(" checks passed, 0 failed\n"), "{url}: {printed}");
        assert_eq!(printed.lines().count(), event_store::contract::CHECKS.len() + 1);
    }
    // It may be held against the log of a shop, whose read models take nothing of it.
    let server = Server::start(&database).await;
    server.done("/v1/stock/TEA/receive", json!({ "quantity": 1 })).await;

    // A log that takes no more than one event of a stream.
    database
        .pool
        .execute("alter table log.events add constraint broken check (stream not like 'contract-%' or revision < 1) not valid")
        .await
        .unwrap();
    let output = database.run(&["check-store", "--json", "postgres:"]).await;
    let checked: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let failed: Vec<_> = checked.iter().filter(|checked| checked["passed"] == false).collect();
    assert!(!output.status.success() && !failed.is_empty() && failed.len() < checked.len(), "{checked:?}");
    assert!(failed.iter().all(|failed| failed["problem"].is_string()), "{failed:?}");
}
