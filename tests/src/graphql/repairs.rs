//! What is parked, as the shop's own people see and mend it.

use access::{Role, Scope, Scopes};
use serde_json::{Value, json};
use uuid::Uuid;

use super::list_and_receive;
use crate::support::{Database, Server, client, status_and_json, token};

const PARKED: &str = r#"query ($first: Int, $after: String) {
    parked(readModel: "products", first: $first, after: $after) {
        totalCount
        nodes { readModel key stream revision position event eventType error attempts since }
        pageInfo { endCursor hasNextPage }
    }
}"#;
const REDRIVE: &str = r#"mutation ($model: String = "products", $key: String) {
    redrive(readModel: $model, key: $key) { folded parked failures { event error attempts } }
}"#;
const SKIP: &str = r#"mutation ($model: String = "products", $event: UUID!, $reason: String!) {
    skip(readModel: $model, event: $event, reason: $reason) { folded parked failures { event } }
}"#;

/// The code of the only error of a request, and the scope that it names.
async fn refusal(server: &Server, query: &str, variables: Value) -> (String, Value) {
    let request = server.client.post(format!("{}/graphql", server.url));
    let request = request.json(&json!({ "query": query, "variables": variables }));
    let (status, answer) = status_and_json(request.send().await.unwrap()).await;
    let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{query} {variables}: {status} {answer}"));
    let extensions = &errors[0]["extensions"];
    // What may not be asked for is not executed.
    let expected = if extensions["code"] == "FORBIDDEN" { 403 } else { 200 };
    assert_eq!((status, errors.len()), (expected, 1), "{answer}");
    (extensions["code"].as_str().unwrap().to_owned(), extensions["scope"].clone())
}

#[tokio::test]
async fn what_is_parked_is_seen_tried_again_and_left_out() {
    let database = Database::create().await;
    let mut server = Server::start_by_hand(&database).await;
    list_and_receive(&server, "A").await;
    let bad = database.append_nonsense("product-A").await;
    let last = server.done("/v1/stock/A/receive", json!({ "quantity": 3 })).await["position"].clone();
    let stock = r#"{ product(sku: "A") { onHand } }"#;
    assert_eq!(server.query(stock, json!({}), last.as_str()).await["product"]["onHand"], 10);

    let first = server.query(PARKED, json!({ "first": 1 }), None).await["parked"].clone();
    let found = &first["nodes"][0];
    assert_eq!((&first["totalCount"], &first["pageInfo"]["hasNextPage"]), (&json!(2), &json!(true)));
    for (field, value) in [
        ("readModel", json!("products")),
        ("key", json!("A")),
        ("stream", json!("product-A")),
        ("revision", json!(1)),
        ("event", json!(bad)),
        ("eventType", json!("Nonsense")),
        ("attempts", json!(1)),
    ] {
        assert_eq!(found[field], value, "{found:#}");
    }
    assert!(found["error"].as_str().unwrap().contains("product-A@1") && found["since"].is_string(), "{found:#}");
    let rest = server.query(PARKED, json!({ "after": first["pageInfo"]["endCursor"] }), None).await["parked"].clone();
    let waiting = &rest["nodes"][0];
    assert_eq!((&waiting["stream"], &waiting["error"], &waiting["position"]), (&json!("stock-A"), &Value::Null, &last));
    assert_eq!((rest["nodes"].as_array().unwrap().len(), &waiting["attempts"]), (1, &json!(0)));

    // It cannot be folded, however often, and that is what is told.
    let again = server.query(REDRIVE, json!({ "key": "A" }), None).await["redrive"].clone();
    assert_eq!((&again["folded"], &again["parked"]), (&json!(0), &json!(2)));
    let failures = again["failures"].as_array().unwrap();
    assert_eq!((failures.len(), &failures[0]["event"], &failures[0]["attempts"]), (1, &json!(bad), &json!(2)));
    assert!(failures[0]["error"].as_str().unwrap().contains("product-A@1"), "{again}");
    let all = server.query(REDRIVE, json!({}), None).await["redrive"].clone();
    assert_eq!((&all["parked"], &all["failures"][0]["attempts"]), (&json!(2), &json!(3)));

    let left_out = json!({ "event": bad, "reason": " written by a script " });
    let skipped = server.query(SKIP, left_out.clone(), None).await["skip"].clone();
    assert_eq!(skipped, json!({ "folded": 1, "parked": 0, "failures": [] }));
    assert_eq!(server.query(stock, json!({}), None).await["product"]["onHand"], 13);
    let on_record = "select count(*) from control.skipped where name = 'products' and reason = 'written by a script'";
    assert_eq!(database.number(on_record).await, 1);
    // Once is enough, and everything of nothing is nothing.
    assert_eq!(refusal(&server, SKIP, left_out).await.0, "NOT_PARKED");
    assert_eq!(server.query(REDRIVE, json!({}), None).await["redrive"]["folded"], 0);
    server.client = client(&token("eve", Role::Customer.scopes(), Some(Uuid::now_v7())));
    assert_eq!(server.get("/graphql?query=%7Bparked%7BtotalCount%7D%7D").await.status(), 403);
}

#[tokio::test]
async fn nothing_is_mended_without_the_scope_or_against_the_rules() {
    let database = Database::create().await;
    let mut server = Server::start_by_hand(&database).await;
    list_and_receive(&server, "A").await;
    let bad = database.append_nonsense("product-A").await;
    let last = server.done("/v1/stock/A/receive", json!({ "quantity": 3 })).await["position"].clone();
    // What is parked waits for no position, so a read model is asked first.
    server.query("{ products { totalCount } }", json!({}), last.as_str()).await;
    let parked = server.query(PARKED, json!({}), None).await["parked"]["nodes"].clone();
    let skip = |event: &Value, reason: &str| json!({ "event": event, "reason": reason });
    let bad = json!(bad);
    for (query, variables, code) in [
        (REDRIVE, json!({ "model": "prodcuts" }), "BAD_USER_INPUT"),
        (REDRIVE, json!({ "key": "B" }), "NOT_PARKED"),
        (REDRIVE, json!({ "model": "customers", "key": "\u{0}" }), "NOT_PARKED"),
        (PARKED.replace("\"products\"", "\"\\u0000\"").as_str(), json!({}), "BAD_USER_INPUT"),
        (PARKED, json!({ "after": "AAAA" }), "BAD_CURSOR"),
        (SKIP, skip(&bad, ""), "BAD_USER_INPUT"),
        (SKIP, skip(&bad, " \t "), "BAD_USER_INPUT"),
        (SKIP, skip(&bad, "two\nlines"), "BAD_USER_INPUT"),
        (SKIP, skip(&bad, "\u{0}"), "BAD_USER_INPUT"),
        (SKIP, skip(&bad, &"ö".repeat(1_001)), "BAD_USER_INPUT"),
        (SKIP, skip(&json!(Uuid::now_v7()), "no such event"), "NOT_PARKED"),
        (SKIP, skip(&parked[1]["event"], "it only waits"), "NOT_PARKED"),
        (SKIP, json!({ "model": "orders", "event": bad, "reason": "it is parked elsewhere" }), "NOT_PARKED"),
    ] {
        assert_eq!(refusal(&server, query, variables.clone()).await, (code.to_owned(), Value::Null), "{variables}");
    }
    let by_get = server.get("/graphql?query=mutation%7Bredrive(readModel:%22products%22)%7Bfolded%7D%7D").await;
    assert_eq!((by_get.status().as_u16(), &by_get.headers()["allow"]), (405, &"POST".parse().unwrap()));

    for (scope, query, variables) in [
        (Scope::OperationsRead, PARKED, json!({})),
        (Scope::OperationsRepair, REDRIVE, json!({ "key": "A" })),
        (Scope::OperationsRepair, SKIP, skip(&bad, "in the way")),
    ] {
        server.client = client(&token("bob", Scopes::ALL.without(scope), None));
        assert_eq!(refusal(&server, query, variables).await, ("FORBIDDEN".to_owned(), json!(scope.name())), "{query}");
    }
    server.client = client(&token("alice", Scopes::ALL, None));
    assert_eq!(server.query(PARKED, json!({}), None).await["parked"]["nodes"], parked, "nothing was tried");
    assert_eq!(database.number("select count(*) from control.skipped").await, 0);
}
