//! Commands over HTTP: exact answers, exact retries, and faults that are named and leave nothing behind.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Server, status_and_json};

fn sale(sku: &str) -> Value {
    json!({
        "reference": "R1", "country": "EIRE", "currency": "GBP", "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{ "sku": sku, "quantity": 2, "unit_price_minor": 300 }],
    })
}

#[tokio::test]
async fn an_aggregate_begins_goes_on_and_reads_back() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let listed = server
        .command("/v1/product/TEA-1/list", &json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } }));
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.status(), 201);
    assert_eq!(listed.headers()["location"], "/v1/product/TEA-1");
    assert_eq!(listed.headers()["etag"], "\"0\"");
    let position = listed.headers()["storefold-position"].to_str().unwrap().to_owned();
    let answer: Value = listed.json().await.unwrap();
    assert_eq!((&answer["stream"], &answer["revision"]), (&json!("product-TEA-1"), &json!(0)));
    assert_eq!(answer["position"], json!(position));
    assert_eq!(answer["events"][0]["type"], "ProductListed");

    let renamed = server.done("/v1/product/TEA-1/rename", json!({ "name": "Best tea" })).await;
    assert_eq!(renamed["revision"], 1);
    // A command with nothing to do is done, and leads to no event.
    let again = server.done("/v1/product/TEA-1/rename", json!({ "name": "Best tea" })).await;
    assert_eq!((&again["revision"], &again["events"]), (&json!(1), &json!([])));

    let (status, now) = status_and_json(server.get("/v1/product/TEA-1").await).await;
    assert_eq!((status, &now["state"]["name"], &now["revision"]), (200, &json!("Best tea"), &json!(1)));
    let (_, then) = status_and_json(server.get("/v1/product/TEA-1?at=0").await).await;
    assert_eq!(then["state"]["name"], "Tea");
    let (status, _) = status_and_json(server.get("/v1/product/TEA-1?at=2001-01-01T00:00:00Z").await).await;
    assert_eq!(status, 404);
    let known = server.client.get(format!("{}/v1/product/TEA-1", server.url)).header("If-None-Match", "\"1\"");
    assert_eq!(known.send().await.unwrap().status(), 304);

    let (_, page) = status_and_json(server.get("/v1/product/TEA-1/events?limit=1").await).await;
    assert_eq!(
        (page["events"][0]["type"].as_str(), page["events"].as_array().unwrap().len()),
        (Some("ProductListed"), 1)
    );
    let (_, next) = status_and_json(server.get(page["next"].as_str().unwrap()).await).await;
    assert_eq!((&next["events"][0]["data"]["name"], &next["next"]), (&json!("Best tea"), &Value::Null));
    assert_eq!(next["events"][0]["metadata"]["schema"], 1);
}

#[tokio::test]
async fn the_same_key_is_the_same_command() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let send = async |quantity: i64, key: &str| {
        let request = server.command("/v1/stock/A/receive", &json!({ "quantity": quantity }));
        let response = request.header("Idempotency-Key", key).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let first = send(10, "\"k1\"").await;
    assert_eq!(first.0, 201);
    assert_eq!(send(10, "\"k1\"").await, first, "the same answer, byte for byte");
    assert_eq!(send(10, "k1").await, first, "a bare key is the same key");
    // More has happened since; the first answer stands.
    assert_eq!(send(5, "k2").await.0, 200);
    assert_eq!(send(10, "k1").await, first);
    let (status, body) = send(11, "k1").await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/key-reused")));
    assert_eq!(database.log_length().await, 2);
    // A key counts for its aggregate.
    let other = server.command("/v1/stock/B/receive", &json!({ "quantity": 11 })).header("Idempotency-Key", "k1");
    assert_eq!(other.send().await.unwrap().status(), 201);

    let server_url = server.url.clone();
    server.kill().await;
    let server = Server::start(&database).await;
    assert_ne!(server.url, server_url);
    let request = server.command("/v1/stock/A/receive", &json!({ "quantity": 10 })).header("Idempotency-Key", "k1");
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.bytes().await.unwrap()), first, "also after a restart");
}

#[tokio::test]
async fn a_new_aggregate_begins_once_however_often_it_is_sent() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let path = format!("/v1/order/{}/record", Uuid::now_v7());
    let send = async |sku: &str| {
        let response = server.command(&path, &sale(sku)).header("Idempotency-Key", "k").send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let first = send("A").await;
    assert_eq!((first.0, send("A").await), (201, first.clone()));
    let (status, body) = send("B").await;
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&body).unwrap()["type"].as_str()),
        (422, Some("/problems/key-reused"))
    );
    // Without a key it is another command, and the order is there already.
    let (status, refused) = status_and_json(server.command(&path, &sale("A")).send().await.unwrap()).await;
    assert_eq!((status, refused["type"].as_str()), (422, Some("/problems/order/already-placed")), "{refused}");
    assert_eq!(database.log_length().await, 1);
}

#[tokio::test]
async fn races_on_one_key_execute_once() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    for round in 0..20 {
        let race = (0..8).map(|_| {
            let request = server.command(&format!("/v1/stock/S{round}/receive"), &json!({ "quantity": 3 }));
            request.header("Idempotency-Key", "race").send()
        });
        for response in futures::future::join_all(race).await {
            let (status, body) = status_and_json(response.unwrap()).await;
            let told = status == 201 || (status == 409 && body["type"] == "/problems/in-flight");
            assert!(told, "{status} {body}");
        }
        assert_eq!(database.log_length().await, round + 1);
    }
}

#[tokio::test]
async fn of_two_with_one_revision_one_is_told_to_look_again() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    for round in 0..20 {
        let tag = format!("\"{round}\"");
        let race = (0..2)
            .map(|_| server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("If-Match", &tag).send());
        let mut statuses: Vec<u16> = futures::future::join_all(race)
            .await
            .into_iter()
            .map(|response| response.unwrap().status().as_u16())
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "round {round}");
    }
    let stale = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("If-Match", "\"3\"");
    let (status, problem) = status_and_json(stale.send().await.unwrap()).await;
    assert_eq!((status, &problem["actual"]), (412, &json!(20)));
    let exists = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("If-None-Match", "*");
    assert_eq!(exists.send().await.unwrap().status(), 412);
    let new = server.command("/v1/stock/B/receive", &json!({ "quantity": 1 })).header("If-None-Match", "*");
    assert_eq!(new.send().await.unwrap().status(), 201);
    assert_eq!(database.log_length().await, 22);
}

#[tokio::test]
async fn two_processes_on_one_log_take_turns() {
    let database = Database::create().await;
    let servers = [Server::start(&database).await, Server::start(&database).await];
    let sent = (0..60).map(|n| servers[n % 2].done("/v1/stock/HOT/receive", json!({ "quantity": 1 })));
    futures::future::join_all(sent).await;
    let (_, stock) = status_and_json(servers[0].get("/v1/stock/HOT").await).await;
    assert_eq!((&stock["state"]["on_hand"], &stock["revision"]), (&json!(60), &json!(59)));
}

/// Each process keeps aggregates in memory. What the other has appended since counts all the same.
#[tokio::test]
async fn what_a_process_keeps_in_mind_is_asked_for_before_it_says_no() {
    let database = Database::create().await;
    let (one, other) = (Server::start(&database).await, Server::start(&database).await);
    let send = async |server: &Server, path: &str, body: &Value, key: &str| {
        let request = server.command(path, body).header("Idempotency-Key", key);
        status_and_json(request.send().await.unwrap()).await
    };
    one.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    let (order, path) = (Uuid::now_v7(), "/v1/stock/A/reserve");
    let reserve = json!({ "order": order, "quantity": 1 });
    // The first keeps a stock of one, of which there are eleven by now.
    other.done("/v1/stock/A/receive", json!({ "quantity": 10 })).await;
    let ship = json!({ "order": order });
    let (status, reserved) = send(&other, path, &reserve, "reserve").await;
    assert_eq!((status, reserved["revision"].clone()), (200, json!(2)), "{reserved}");
    let (status, shipped) = send(&one, "/v1/stock/A/ship", &ship, "ship").await;
    assert_eq!((status, shipped["revision"].clone()), (200, json!(3)), "{shipped}");
    let (status, stale) = status_and_json(
        one.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("If-Match", "\"2\"").send().await.unwrap(),
    )
    .await;
    assert_eq!((status, stale["actual"].clone()), (412, json!(3)), "{stale}");
    // What one has done, the other knows by its key; also when it has done something else since.
    assert_eq!(send(&one, path, &reserve, "reserve").await, (200, reserved));
    other.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
    assert_eq!(send(&other, "/v1/stock/A/ship", &ship, "ship").await, (200, shipped));
    let (status, problem) = send(&one, path, &json!({ "order": order, "quantity": 2 }), "reserve").await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("/problems/key-reused")), "{problem}");
    let (_, stock) = status_and_json(one.get("/v1/stock/A").await).await;
    assert_eq!((&stock["state"]["on_hand"], &stock["revision"]), (&json!(11), &json!(4)));
}

/// What is wrong, and what the problem must name.
#[tokio::test]
async fn a_fault_is_named_and_leaves_the_log_as_it_was() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let order = format!("/v1/order/{}/record", Uuid::now_v7());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = sale("A");
        change(&mut body);
        body.to_string()
    };
    let large = format!(r#"{{"quantity": 1, "padding": "{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let cases: Vec<(&str, String, u16, &str)> = vec![
        ("/v1/stock/A/receive", r#"{"quantity": 1, "colour": "red"}"#.into(), 400, "unknown field `colour`"),
        ("/v1/stock/A/receive", r#"{"quantity": -4}"#.into(), 400, "quantity"),
        ("/v1/stock/A/receive", r#"{"quantity": 0}"#.into(), 400, "quantity"),
        ("/v1/stock/A/receive", r#"{"quantity": 1.5}"#.into(), 400, "quantity"),
        ("/v1/stock/A/receive", "{}".into(), 400, "missing field `quantity`"),
        ("/v1/stock/A/receive", "{".into(), 400, "not JSON"),
        ("/v1/stock/A/receive", "[7]".into(), 400, "object"),
        ("/v1/stock/A/receive", large, 413, "1048576"),
        (
            &order,
            with(&|body| body["lines"][0]["unit_price_minor"] = json!(9_223_372_036_854_775_808_u64)),
            400,
            "lines[0].unit_price_minor",
        ),
        (&order, with(&|body| body["lines"][0]["quantity"] = json!(-1)), 400, "lines[0].quantity"),
        (&order, with(&|body| body["currency"] = json!("XXQ")), 400, "XXQ"),
        (&order, with(&|body| body["placed_at"] = json!("yesterday")), 400, "placed_at"),
        (&order, with(&|body| body["lines"] = json!([])), 422, "line"),
        (
            &order,
            with(&|body| {
                body["lines"][0] = json!({ "sku": "A", "quantity": 1_000_000_000, "unit_price_minor": i64::MAX });
            }),
            422,
            "total",
        ),
        ("/v1/stock/A%2FB/receive", r#"{"quantity": 1}"#.into(), 400, "A/B"),
        ("/v1/stock/$A/receive", r#"{"quantity": 1}"#.into(), 400, "$A"),
        ("/v1/stock/%ff/receive", r#"{"quantity": 1}"#.into(), 400, "UTF-8"),
        ("/metrics", "{}".into(), 405, "POST"),
        ("/livez", "{}".into(), 405, "POST"),
        ("/v1/order/not-a-uuid/record", sale("A").to_string(), 400, "not-a-uuid"),
        ("/v1/stock/A/steal", "{}".into(), 404, "steal"),
        ("/v1/gold/A/receive", "{}".into(), 404, "gold"),
        ("/v1/stock/A/receive/more", "{}".into(), 404, "/v1/stock/A/receive/more"),
        ("/v1/stock/A", "{}".into(), 405, "POST"),
        ("/v1/stock/A/ship", json!({ "order": Uuid::nil() }).to_string(), 422, "reservation"),
        ("/v1/product/A/rename", r#"{"name": " "}"#.into(), 400, "name"),
    ];
    for (path, body, expected, named) in cases {
        let shown: String = body.chars().take(80).collect();
        let request =
            server.client.post(format!("{}{path}", server.url)).header(CONTENT_TYPE, "application/json").body(body);
        let response = request.send().await.unwrap();
        let kind = response.headers()[CONTENT_TYPE].clone();
        let (status, problem) = status_and_json(response).await;
        assert_eq!(status, expected, "{path} {shown}: {problem}");
        assert_eq!(kind, "application/problem+json", "{path} {shown}");
        assert!(
            problem["detail"].as_str().unwrap().contains(named),
            "{path} {shown}: {problem} does not name {named:?}"
        );
        assert_eq!(
            (&problem["status"], problem["type"].as_str().unwrap().starts_with("/problems/")),
            (&json!(expected), true)
        );
    }
    let plain = server.client.post(format!("{}/v1/stock/A/receive", server.url)).body(r#"{"quantity": 1}"#);
    assert_eq!(plain.send().await.unwrap().status(), 415);
    let key = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("Idempotency-Key", "\"\"");
    assert_eq!(key.send().await.unwrap().status(), 400);
    let tag = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header("If-Match", "seven");
    assert_eq!(tag.send().await.unwrap().status(), 400);
    assert_eq!(database.log_length().await, 0);
}

#[tokio::test]
async fn a_refusal_carries_its_figures() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let order = Uuid::now_v7();
    server.done("/v1/stock/A/receive", json!({ "quantity": 10 })).await;
    // Lost demand is a fact, not a refusal.
    let declined = server.done("/v1/stock/A/reserve", json!({ "order": order, "quantity": 12 })).await;
    assert_eq!(declined["events"][0]["type"], "StockReservationDeclined");
    server.done("/v1/stock/A/reserve", json!({ "order": order, "quantity": 7 })).await;
    let adjust =
        server.command("/v1/stock/A/adjust", &json!({ "counted": 3, "reason": "a count" })).send().await.unwrap();
    let (status, problem) = status_and_json(adjust).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("/problems/stock/count-below-reserved")));
    assert_eq!((&problem["counted"], &problem["reserved"]), (&json!(3), &json!(7)));
}

#[tokio::test]
async fn an_order_gets_the_price_of_the_catalogue() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } })).await;
    let order = Uuid::now_v7();
    let place = |sku: &str, currency: &str| json!({ "country": "EIRE", "currency": currency, "card": "tok_approved", "lines": [{ "sku": sku, "quantity": 2 }] });
    let placed = server.done(&format!("/v1/order/{order}/place"), place("A", "GBP")).await;
    let query =
        "query ($id: UUID!) { order(id: $id) { status total { amount minor } lines { sku unitPrice { minor } } } }";
    let found = server.query(query, json!({ "id": order }), placed["position"].as_str()).await;
    let expected = json!({
        "status": "PLACED", "total": { "amount": "8.40", "minor": 840 },
        "lines": [{ "sku": "A", "unitPrice": { "minor": 420 } }],
    });
    assert_eq!(found["order"], expected);
    for (body, kind) in [(place("B", "GBP"), "not-listed"), (place("A", "EUR"), "other-currency")] {
        let request = server.command(&format!("/v1/order/{}/place", Uuid::now_v7()), &body);
        let (status, problem) = status_and_json(request.send().await.unwrap()).await;
        assert_eq!((status, problem["type"].clone()), (422, json!(format!("/problems/order/{kind}"))), "{problem}");
    }
}

#[tokio::test]
async fn a_retry_gets_its_answer_though_the_product_is_gone() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } })).await;
    let path = format!("/v1/order/{}/place", Uuid::now_v7());
    let send = async || {
        let body =
            json!({ "country": "EIRE", "currency": "GBP", "card": "tok", "lines": [{ "sku": "A", "quantity": 2 }] });
        let response = server.command(&path, &body).header("Idempotency-Key", "k").send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let first = send().await;
    assert_eq!(first.0, 201);
    // Neither another price nor no price at all changes what was answered.
    server.done("/v1/product/A/change-price", json!({ "price": { "minor": 500, "currency": "GBP" } })).await;
    assert_eq!(send().await, first);
    server.done("/v1/product/A/discontinue", json!({ "reason": "no more leaves" })).await;
    assert_eq!(send().await, first);
    assert_eq!(database.number("select count(*) from log.events where type = 'OrderPlaced'").await, 1);
}

#[tokio::test]
async fn a_command_with_nothing_to_do_is_done_at_once() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let adjusted = server.done("/v1/stock/NEW/adjust", json!({ "counted": 0, "reason": "a count" })).await;
    assert_eq!(adjusted, json!({ "stream": "stock-NEW", "revision": null, "position": null, "events": [] }));
    assert_eq!(database.log_length().await, 0);
}

#[tokio::test]
async fn no_order_is_so_large_or_so_old_that_a_read_model_stops() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let record = async |price: i64, placed_at: &str| {
        let mut body = sale("A");
        body["lines"] = json!([{ "sku": "A", "quantity": 1, "unit_price_minor": price }]);
        body["placed_at"] = json!(placed_at);
        status_and_json(server.command(&format!("/v1/order/{}/record", Uuid::now_v7()), &body).send().await.unwrap())
            .await
    };
    for (price, placed_at, kind) in [
        (i64::MAX, "2010-12-01T08:26:00Z", "total-overflow"),
        (10_000_000_000_001, "2010-12-01T08:26:00Z", "total-overflow"),
        (1, "-5000-01-01T00:00:00Z", "implausible-date"),
    ] {
        let (status, problem) = record(price, placed_at).await;
        assert_eq!((status, problem["type"].clone()), (422, json!(format!("/problems/order/{kind}"))), "{problem}");
    }
    // The largest and the oldest there are, several times on one day.
    let mut last = Value::Null;
    for _ in 0..5 {
        let (status, answer) = record(10_000_000_000_000, "0001-01-01T00:00:00Z").await;
        assert_eq!(status, 201, "{answer}");
        last = answer["position"].clone();
    }
    let query = r#"{ salesSummary(currency: "GBP") { revenue { minor } } topProducts(by: REVENUE, currency: "GBP") { revenue { minor } } orders { totalCount } }"#;
    let found = server.query(query, json!({}), last.as_str()).await;
    assert_eq!(found["salesSummary"]["revenue"]["minor"], json!(50_000_000_000_000_i64));
    assert_eq!(
        (&found["topProducts"][0]["revenue"], &found["orders"]["totalCount"]),
        (&found["salesSummary"]["revenue"], &json!(5))
    );
}

#[tokio::test]
async fn a_command_and_then_a_query_see_the_same_shop() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    for units in 1..=30 {
        let received = server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await;
        let query = r#"{ product(sku: "A") { onHand } }"#;
        let found = server.query(query, json!({}), received["position"].as_str()).await;
        assert_eq!(found["product"]["onHand"], units);
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_command_the_shop() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--tokens", "none"]).await;
    for (name, value) in [("Host", "evil.example:8080"), ("Origin", "https://evil.example"), ("Origin", "null")] {
        let request = server.command("/v1/stock/A/receive", &json!({ "quantity": 1 })).header(name, value);
        let (status, problem) = status_and_json(request.send().await.unwrap()).await;
        assert_eq!((status, problem["type"].as_str()), (403, Some("/problems/not-local")), "{name}: {value}");
    }
    assert_eq!(database.log_length().await, 0);
}

#[tokio::test]
async fn the_documents_describe_what_is_served() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let (_, api) = status_and_json(server.get("/openapi.json").await).await;
    assert_eq!(api["openapi"], "3.1.0");
    let body = &api["paths"]["/v1/stock/{id}/receive"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert!(body.to_string().contains("quantity") || body["$ref"].is_string(), "{body}");
    assert!(server.get("/docs").await.text().await.unwrap().contains("/openapi.json"));
    assert_eq!(server.get("/livez").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 200);
}
