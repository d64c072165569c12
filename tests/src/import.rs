//! A shop's history goes in as commands and comes out of GraphQL right, whatever happens on the way.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::history::{History, history};
use crate::support::{Database, Server, canonical_hash};

const QUESTIONS: &str = r#"{
    summary: salesSummary(currency: "GBP") { orders lines revenue { minor } }
    months: salesBy(dimension: MONTH, currency: "GBP") { key revenue { minor } }
    countries: salesBy(dimension: COUNTRY, currency: "GBP") { key revenue { minor } }
    byUnits: topProducts(by: UNITS, currency: "GBP", first: 20) { sku units }
    byRevenue: topProducts(by: REVENUE, currency: "GBP", first: 20) { sku revenue { minor } }
    customers: topCustomers(currency: "GBP", first: 20) { customer { reference } revenue { minor } }
    productCount: products(first: 1) { totalCount }
    customerCount: customers(first: 1) { totalCount }
    orderCount: orders(first: 1) { totalCount }
}"#;

/// What GraphQL answers, in the form of what is expected.
pub(crate) async fn answers(server: &Server) -> Value {
    let data = server.query(QUESTIONS, json!({}), None).await;
    let pairs = |list: &str, name: &dyn Fn(&Value) -> Value, sum: &dyn Fn(&Value) -> Value| -> Value {
        data[list].as_array().unwrap().iter().map(|row| json!([name(row), sum(row)])).collect()
    };
    let map = |list: &str| -> Value {
        let entry = |row: &Value| (row["key"].as_str().unwrap().to_owned(), row["revenue"]["minor"].clone());
        Value::Object(data[list].as_array().unwrap().iter().map(entry).collect())
    };
    assert_eq!(data["orderCount"]["totalCount"], data["summary"]["orders"]);
    json!({
        "currency": "GBP",
        "orders": data["summary"]["orders"],
        "lines": data["summary"]["lines"],
        "revenue_minor": data["summary"]["revenue"]["minor"],
        "products": data["productCount"]["totalCount"],
        "customers": data["customerCount"]["totalCount"],
        "revenue_minor_by_month": map("months"),
        "revenue_minor_by_country": map("countries"),
        "top_products_by_units": pairs("byUnits", &|row| row["sku"].clone(), &|row| row["units"].clone()),
        "top_products_by_revenue_minor":
            pairs("byRevenue", &|row| row["sku"].clone(), &|row| row["revenue"]["minor"].clone()),
        "top_customers_by_revenue_minor":
            pairs("customers", &|row| row["customer"]["reference"].clone(), &|row| row["revenue"]["minor"].clone()),
    })
}

fn file(ndjson: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ndjson.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

async fn import(database: &Database, arguments: &[&str]) -> Value {
    let printed = database.run_well(&[&["import", "--json"], arguments].concat()).await;
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test]
async fn the_history_comes_out_as_it_went_in_and_importing_it_again_changes_nothing() {
    let database = Database::create().await;
    let History { ndjson, expected } = history(1_000);
    let file = file(&ndjson);
    let summary = import(&database, &[path(&file)]).await;
    assert_eq!((&summary["faulty"], &summary["lines"]), (&json!(0), &json!(ndjson.lines().count())));
    let server = Server::start(&database).await;
    assert_eq!(answers(&server).await, expected);

    let length = database.log_length().await;
    let again = import(&database, &[path(&file)]).await;
    assert_eq!(again["done"], summary["done"]);
    assert_eq!(database.log_length().await, length);
    assert_eq!(answers(&server).await, expected);
}

#[tokio::test]
async fn an_import_killed_anywhere_goes_on_where_it_was() {
    let database = Database::create().await;
    let History { ndjson, expected } = history(1_000);
    let file = file(&ndjson);
    let whole = ndjson.lines().count() as i64;
    // Killed at a third and at two thirds of the lines.
    for part in [1, 2] {
        let mut child = database.command(&["import", "--log", "error", path(&file)]).spawn().unwrap();
        while database.log_length_or_none().await < whole * part / 3 {
            assert!(child.try_wait().unwrap().is_none(), "the import ended before it could be killed");
            tokio::task::yield_now().await;
        }
        child.kill().await.unwrap();
    }
    let summary = import(&database, &[path(&file)]).await;
    assert_eq!((&summary["faulty"], &summary["done"]), (&json!(0), &json!(whole)));
    let server = Server::start(&database).await;
    assert_eq!(answers(&server).await, expected);
    // No command took effect twice: every event id stands once, and revisions have no gap.
    assert_eq!(database.number("select count(*) - count(distinct id) from log.events").await, 0);
    let gaps = "select count(*) from (select count(*) - 1 - max(revision) as gap from log.events group by stream) s where gap <> 0";
    assert_eq!(database.number(gaps).await, 0);
}

#[tokio::test]
async fn a_faulty_line_is_told_by_its_number_and_harms_no_other() {
    let database = Database::create().await;
    let order = |reference: &str, line: &str| {
        format!(
            r#"{{"kind":"order","ref":"{reference}","placed_at":"2010-12-01T08:26:00Z","customer_ref":null,"country":"EIRE","currency":"GBP","lines":[{line}]}}"#
        )
    };
    let good = r#"{"sku":"A","quantity":2,"unit_price_minor":300}"#;
    let lines = [
        r#"{"kind":"product","sku":"A","name":"Tea","price_minor":300,"currency":"GBP"}"#.to_owned(),
        "{ no json".to_owned(),
        order("1", good),
        order("2", r#"{"sku":"A","quantity":-1,"unit_price_minor":300}"#),
        order("3", ""),
        r#"{"kind":"stock","sku":"A/B","quantity":1}"#.to_owned(),
        String::new(),
        order("1", r#"{"sku":"A","quantity":9,"unit_price_minor":300}"#),
        r#"{"kind":"product","sku":"B","name":"Tea","price_minor":300,"currency":"XXQ"}"#.to_owned(),
        order("4", good),
        // Neither half of these is done: the order has no line, the customer's name is blank.
        order("5", "").replace("\"customer_ref\":null", "\"customer_ref\":\"C1\""),
        order("6", good).replace("\"customer_ref\":null", "\"customer_ref\":\" \""),
    ];
    let file = file(&lines.join("\n"));
    // One at a time, so that it is certain which of the two orders "1" comes first.
    let summary = import(&database, &[path(&file), "--in-flight", "1"]).await;
    let told: Vec<(u64, &str)> = summary["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["line"].as_u64().unwrap(), fault["problem"].as_str().unwrap()))
        .collect();
    let expected = [
        (2, "not a line of a history"),
        (4, "quantity"),
        (5, "line"),
        (6, "A/B"),
        (8, "another command"),
        (9, "XXQ"),
        (11, "line"),
        (12, "reference"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((line, problem), (number, word)) in told.iter().zip(expected) {
        assert_eq!(*line, number);
        assert!(problem.contains(word), "line {line}: {problem:?} does not name {word:?}");
    }
    assert_eq!((&summary["done"], &summary["lines"]), (&json!(3), &json!(11)));
    assert_eq!(database.log_length().await, 3);
}

#[tokio::test]
async fn strict_stops_at_the_first_fault_and_says_so() {
    let database = Database::create().await;
    let file = file(
        "{\"kind\":\"stock\",\"sku\":\"A\",\"quantity\":1}\nnonsense\n{\"kind\":\"stock\",\"sku\":\"B\",\"quantity\":1}\n",
    );
    let output = database.run(&["import", "--strict", "--in-flight", "1", path(&file)]).await;
    assert_eq!(output.status.code(), Some(3));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("line 2: not a line of a history"), "{printed}");
    assert_eq!(database.log_length().await, 1);
}

#[tokio::test]
async fn equal_deliveries_count_each() {
    let database = Database::create().await;
    let file = file(&"{\"kind\":\"stock\",\"sku\":\"A\",\"quantity\":5}\n".repeat(3));
    for _ in 0..2 {
        import(&database, &[path(&file)]).await;
    }
    assert_eq!(database.number("select on_hand from read.products where sku = 'A'").await, 15);
}

#[tokio::test]
async fn the_made_up_shop_is_brought_once() {
    let database = Database::create().await;
    database.run_well(&["demo"]).await;
    let (length, hash) = (database.log_length().await, canonical_hash(&database, "orders").await);
    database.run_well(&["demo"]).await;
    assert_eq!((database.log_length().await, canonical_hash(&database, "orders").await), (length, hash));
    assert_eq!(database.number("select count(*) from read.orders").await, 400);
}
