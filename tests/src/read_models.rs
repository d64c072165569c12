//! Read models over their life: rebuilt while they are read, folded once whatever crashes, stopped and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Server, canonical_hash};

/// Every table of every read model that a reader sees.
const VIEWS: [&str; 18] = [
    "orders",
    "order_lines",
    "products",
    "stock_movements",
    "stock_levels",
    "customers",
    "customer_spend",
    "customer_orders",
    "sales_daily",
    "sales_daily_orders",
    "product_sales",
    "product_sales_orders",
    "order_timeline",
    "payments",
    "payment_refunds",
    "ledger_entries",
    "checkouts",
    "low_stock",
];

/// Asks something of each read model, to wait for all of them.
const EVERY_READ_MODEL: &str = r#"{
    orders { totalCount } products { totalCount nodes { stock { movements { totalCount } } } } customers { totalCount }
    salesSummary(currency: "GBP") { orders } topProducts(by: UNITS, currency: "GBP") { sku }
    checkouts { totalCount } ledger { totalCount } lowStock { totalCount }
}"#;

pub(crate) async fn hashes(database: &Database) -> Vec<String> {
    let mut hashes = Vec::new();
    for view in VIEWS {
        hashes.push(canonical_hash(database, view).await);
    }
    hashes
}

/// Orders on all their ways, so that every fold has something to take back.
async fn trade(server: &Server, orders: u64) -> String {
    let mut position = String::new();
    for number in 0..orders {
        let order = Uuid::now_v7();
        let country = if number % 2 == 0 { "EIRE" } else { "France" };
        let sale = json!({
            "reference": format!("R{number}"), "country": country, "currency": "GBP", "card": "tok_approved",
            "lines": [
                { "sku": format!("S{}", number % 7), "quantity": 1 + number % 5, "unit_price_minor": 100 + number },
                { "sku": "S0", "quantity": 1, "unit_price_minor": 50 },
            ],
        });
        let placed = server.done(&format!("/v1/order/{order}/place"), sale).await;
        position = placed["position"].as_str().unwrap().to_owned();
        let steps: &[(&str, Value)] = match number % 4 {
            0 => &[("confirm", json!({})), ("dispatch", json!({})), ("complete", json!({}))],
            1 => &[("confirm", json!({})), ("call-off", json!({ "reason": "no more wanted" }))],
            2 => &[("reject", json!({ "reason": "out of stock" }))],
            _ => &[],
        };
        for (step, body) in steps {
            let answer = server.done(&format!("/v1/order/{order}/{step}"), body.clone()).await;
            position = answer["position"].as_str().unwrap().to_owned();
        }
    }
    position
}

#[tokio::test]
async fn a_rebuild_shows_the_same_rows_and_no_reader_notices() {
    let database = Database::create().await;
    database.run_well(&["demo"]).await;
    let server = Server::start_by_hand(&database).await;
    let position = trade(&server, 40).await;
    let count =
        "{ orders(first: 5) { totalCount nodes { id lines { sku } } } salesSummary(currency: \"GBP\") { orders } }";
    let before = (server.query(count, json!({}), Some(&position)).await, hashes(&database).await);
    assert_eq!(before.0["orders"]["totalCount"], 440);

    let server = Arc::new(server);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = tokio::spawn({
        let (server, stop, asked) = (server.clone(), stop.clone(), asked.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let found = server.query(count, json!({}), None).await;
                assert_eq!(found["orders"]["totalCount"], 440, "{found}");
                assert!(!found["orders"]["nodes"][0]["lines"].as_array().unwrap().is_empty());
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..3 {
        database.run_well(&["rebuild", "orders"]).await;
        database.run_well(&["rebuild", "--all"]).await;
    }
    stop.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert!(asked.load(Ordering::Relaxed) > 10, "the reader hardly asked");
    assert_eq!((server.query(count, json!({}), None).await, hashes(&database).await), before);
    // One generation is live and one is kept, of each read model.
    let kept = "select count(*) from control.generations where state in ('live', 'retired')";
    assert_eq!(
        (database.number(kept).await, database.number("select count(*) from control.generations").await),
        (18, 18)
    );
}

#[tokio::test]
async fn a_rebuild_while_the_shop_trades_misses_nothing() {
    let database = Database::create().await;
    let server = Arc::new(Server::start_by_hand(&database).await);
    trade(&server, 20).await;
    let trading = tokio::spawn({
        let server = server.clone();
        async move { trade(&server, 60).await }
    });
    let reading = tokio::spawn({
        let server = server.clone();
        async move {
            let mut seen = 0;
            while seen < 80 {
                let found = server.query("{ orders { totalCount } }", json!({}), None).await;
                let count = found["orders"]["totalCount"].as_i64().unwrap();
                assert!(count >= seen, "a reader saw {seen} orders, and then {count}");
                seen = count;
            }
        }
    });
    while !trading.is_finished() {
        database.run_well(&["rebuild", "--all"]).await;
    }
    reading.await.unwrap();
    let position = trading.await.unwrap();
    server.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
    let live = hashes(&database).await;
    database.run_well(&["rebuild", "--all"]).await;
    assert_eq!(hashes(&database).await, live);
    assert_eq!(database.number("select count(*) from read.orders").await, 80);
}

#[tokio::test]
async fn projectors_killed_at_any_moment_fold_every_event_once() {
    let database = Database::create().await;
    let mut server = Server::start_by_hand(&database).await;
    let mut position = String::new();
    for _ in 0..6 {
        position = trade(&server, 10).await;
        // Right after the last answer: the projectors are in the middle of it.
        server.kill().await;
        server = Server::start_by_hand(&database).await;
    }
    server.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
    let live = hashes(&database).await;
    database.run_well(&["rebuild", "--all"]).await;
    assert_eq!(hashes(&database).await, live);
}

#[tokio::test]
async fn two_processes_project_as_one() {
    let database = Database::create().await;
    let servers = [Server::start_by_hand(&database).await, Server::start_by_hand(&database).await];
    // Both trade at once and both project all of it.
    let (_, position) = tokio::join!(trade(&servers[0], 60), trade(&servers[1], 60));
    for server in &servers {
        let found = server.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
        assert!(found["orders"]["totalCount"].as_i64().unwrap() >= 60);
    }
    let [first, second] = servers;
    first.kill().await;
    // The other one goes on alone.
    let position = trade(&second, 5).await;
    let found = second.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
    assert_eq!(found["orders"]["totalCount"], 125);
    // What two have folded is what one folds.
    let live = hashes(&database).await;
    database.run_well(&["rebuild", "--all"]).await;
    assert_eq!(hashes(&database).await, live);
}

#[tokio::test]
async fn status_says_how_far_each_read_model_is() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let position = trade(&server, 4).await;
    server.query("{ orders { totalCount } }", json!({}), Some(&position)).await;
    let status: Value = serde_json::from_str(&database.run_well(&["status", "--json"]).await).unwrap();
    let orders = status["read_models"].as_array().unwrap().iter().find(|row| row["name"] == "orders").unwrap();
    assert_eq!(
        (&orders["lag_events"], &orders["position"], &status["head"]),
        (&json!(0), &json!(position), &json!(position))
    );
    let table = database.run_well(&["status"]).await;
    assert!(table.contains("sales_daily"), "{table}");
}

#[tokio::test]
async fn a_server_stops_politely() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    assert!(server.stop().await.success());
    let printed = database.run_well(&["stream", "stock-A", "--json"]).await;
    let event: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["data"]["quantity"]), (&json!("StockReceived"), &json!(1)));
}

#[tokio::test]
async fn a_bad_event_holds_up_its_key_alone_until_it_is_left_out() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let list = async |sku: &str| {
        let product = json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } });
        server.done(&format!("/v1/product/{sku}/list"), product).await;
    };
    list("A").await;
    let bad = database.append_nonsense("product-A").await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 3 })).await;
    list("B").await;
    let position = server.done("/v1/stock/B/receive", json!({ "quantity": 5 })).await["position"].clone();
    let stock =
        r#"{ a: product(sku: "A") { onHand } b: product(sku: "B") { onHand } projections { name parked state } }"#;
    let found = server.query(stock, json!({}), position.as_str()).await;
    assert_eq!((&found["a"]["onHand"], &found["b"]["onHand"]), (&json!(0), &json!(5)), "{found}");
    let products = found["projections"].as_array().unwrap().iter().find(|one| one["name"] == "products").unwrap();
    assert_eq!((&products["parked"], &products["state"]), (&json!(2), &json!("LIVE")));

    let parked: Value = serde_json::from_str(&database.run_well(&["parked", "--json"]).await).unwrap();
    let of_products: Vec<&Value> =
        parked.as_array().unwrap().iter().filter(|parked| parked["read_model"] == "products").collect();
    assert_eq!((&of_products[0]["event"], &of_products[0]["key"]), (&json!(bad), &json!("A")));
    assert!(of_products[0]["error"].as_str().unwrap().contains("product-A@1"), "{parked}");
    assert_eq!((&of_products[1]["stream"], &of_products[1]["error"]), (&json!("stock-A"), &Value::Null));
    let status: Value = serde_json::from_str(&database.run_well(&["status", "--json"]).await).unwrap();
    let products = status["read_models"].as_array().unwrap().iter().find(|one| one["name"] == "products").unwrap();
    assert_eq!((&products["parked"], &products["led"]), (&json!(2), &json!(true)));

    // It cannot be folded, however often.
    let again = database.run(&["redrive", "products", "--key", "A"]).await;
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("still parked"));
    let waiting = of_products[1]["event"].as_str().unwrap();
    let refused = database.run(&["skip", "products", waiting, "--reason", "in the way"]).await;
    assert!(!refused.status.success(), "what only waits is no reason to leave anything out");
    let bad = bad.to_string();
    let printed = database.run_well(&["skip", "products", &bad, "--reason", "written by a script"]).await;
    assert!(printed.contains("1 events folded, 0 still parked"), "{printed}");
    let found = server.query(stock, json!({}), None).await;
    assert_eq!(found["a"]["onHand"], 3);
    // The server goes on with the key, and a rebuild leaves out what was left out.
    let position = server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await["position"].clone();
    database.run_well(&["rebuild", "products"]).await;
    let found = server.query(stock, json!({}), position.as_str()).await;
    assert_eq!(found["a"]["onHand"], 4);
    let nothing = database.run(&["redrive", "products"]).await;
    assert!(!nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("nothing of the kind"));
}

/// The schema of the tables that readers see of a read model.
async fn live_schema(database: &Database, name: &str) -> String {
    let sql = "select schema_name from control.generations where name = $1 and state = 'live'";
    sqlx::query_scalar(sql).bind(name).fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn what_differs_from_the_log_is_found_shown_and_mended() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let position = trade(&server, 40).await;
    server.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
    let printed = database.run_well(&["verify", "--all", "--json"]).await;
    let found: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 9);
    let rows = |name: &str| found.iter().find(|one| one["read_model"] == name).unwrap()["rows"].as_u64().unwrap();
    // 40 orders with two lines each, and what happened to them.
    assert!(rows("orders") > 120 && rows("sales_daily") > 0, "{printed}");
    let before = hashes(&database).await;

    let schema = live_schema(&database, "orders").await;
    let mut ids = Vec::new();
    for sql in [
        "update %.orders set total_minor = total_minor + 7 where reference = 'R1' returning order_id",
        "delete from %.order_lines where line_no = 2 and order_id = (select order_id from %.orders where reference = 'R2')
            returning order_id",
        "insert into %.order_lines (order_id, line_no, sku, quantity, unit_price_minor)
            select order_id, 9, 'GHOST', 1, 1 from %.orders where reference = 'R3' returning order_id",
    ] {
        let sql = sqlx::AssertSqlSafe(sql.replace('%', &schema));
        ids.push(sqlx::query_scalar::<_, Uuid>(sql).fetch_one(&database.pool).await.unwrap().to_string());
    }
    for arguments in
        [&["verify", "orders"][..], &["verify", "orders", "--full"], &["verify", "orders", "--sample", "1000"]]
    {
        let output = database.run(arguments).await;
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(4), "{printed}");
        for line in ["  - total_minor: ", "  + total_minor: ", "  + sku: \"S0\"", "  - sku: \"GHOST\"", " 3 differ "] {
            assert!(printed.contains(line), "no {line:?} in {printed}");
        }
        assert!(ids.iter().all(|id| printed.contains(id.as_str())), "{printed}");
    }
    for id in &ids {
        let printed = database.run_well(&["repair", "orders", id]).await;
        assert!(printed.contains("mended: 1 rows"), "{printed}");
    }
    assert_eq!(hashes(&database).await, before);
    database.run_well(&["verify", "--all"]).await;
    // The projector goes on as if nothing had been.
    let position = trade(&server, 4).await;
    server.query(EVERY_READ_MODEL, json!({}), Some(&position)).await;
    database.run_well(&["verify", "--all"]).await;
    let refused = database.run(&["repair", "sales_daily", "2026-01-01"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("storefold rebuild sales_daily"));
}

#[tokio::test]
async fn an_older_generation_is_gone_back_to_without_a_step_back() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    trade(&server, 8).await;
    let refused = database.run(&["rebuild", "orders", "--rollback"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no older generation"));
    let first = live_schema(&database, "orders").await;
    database.run_well(&["rebuild", "orders"]).await;
    let second = live_schema(&database, "orders").await;
    let position = trade(&server, 8).await;
    server.query("{ orders { totalCount } }", json!({}), Some(&position)).await;
    let before = canonical_hash(&database, "orders").await;
    database.run_well(&["rebuild", "orders", "--rollback"]).await;
    assert_eq!(live_schema(&database, "orders").await, first);
    assert_eq!(canonical_hash(&database, "orders").await, before);
    let position = trade(&server, 4).await;
    let found = server.query("{ orders { totalCount } }", json!({}), Some(&position)).await;
    assert_eq!(found["orders"]["totalCount"], 20);
    database.run_well(&["rebuild", "orders", "--rollback"]).await;
    assert_eq!(live_schema(&database, "orders").await, second);
    database.run_well(&["verify", "orders"]).await;
}

#[tokio::test]
async fn a_copy_as_of_then_is_what_readers_saw_then() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let position = trade(&server, 12).await;
    server.query("{ orders { totalCount } }", json!({}), Some(&position)).await;
    let (then, now) = (canonical_hash(&database, "orders").await, chrono::Utc::now());
    let later = trade(&server, 5).await;
    server.query("{ orders { totalCount } }", json!({}), Some(&later)).await;
    let live = canonical_hash(&database, "orders").await;
    let time = now.to_rfc3339();
    for (until, schema) in [(position.as_str(), "as_of_position"), (&time, "as_of_time")] {
        let copy = ["rebuild", "orders", "--until", until, "--keep-shadow", schema];
        let printed = database.run_well(&[&copy[..], &["--json"]].concat()).await;
        let told: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&told[0]["phase"], &told.last().unwrap()["done"]["schema"]), (&json!("folding"), &json!(schema)));
        let hash =
            format!("select md5(string_agg(t::text, e'\\n' order by t::text collate \"C\")) from {schema}.orders t");
        let hash = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(hash)).fetch_one(&database.pool).await.unwrap();
        assert_eq!(hash, then, "{schema}");
        assert!(!database.run(&copy).await.status.success(), "a schema that is there is not written over");
    }
    assert_eq!(canonical_hash(&database, "orders").await, live);
    for wrong in ["read", "pg_copy", "Copy", "a;b"] {
        let refused = database.run(&["rebuild", "orders", "--until", &position, "--keep-shadow", wrong]).await;
        assert!(String::from_utf8_lossy(&refused.stderr).contains("no name for a copy"), "{wrong}");
    }
    let refused = database.run(&["rebuild", "orders", "--until", "yesterday", "--keep-shadow", "copy"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("neither a position"));
}

#[tokio::test]
async fn what_cannot_be_done_says_what_to_do() {
    let database = Database::create().await;
    database.run_well(&["migrate"]).await;
    for (arguments, named) in [
        (&["rebuild", "gold"][..], "orders, products, stock_movements"),
        (&["stream", "stock-NONE"], "stock-NONE"),
        (&["import", "/no/such/file"], "/no/such/file"),
        (&["serve", "--tokens", "none", "--listen", "0.0.0.0:0"], "loopback"),
        (&["serve", "--event-store-url", "esdb://localhost:port"], "esdb://node:2113"),
        (&["serve", "--event-store-url", "mysql://localhost/log"], "kurrentdb://"),
        (&["serve", "--database-url", "postgres://nobody@127.0.0.1:1/none"], "cannot be reached"),
    ] {
        let output = database.run(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains(named), "{arguments:?}: {complaint}");
    }
}
