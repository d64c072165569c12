//! GraphQL over HTTP: methods, content types, statuses.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::harness::{Reply, Shop, send};

const GRAPHQL: &str = "application/graphql-response+json; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

#[track_caller]
fn assert_problem(reply: &Reply, status: u16, kind: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["type"], format!("/problems/{kind}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
}

#[tokio::test]
async fn the_answer_has_the_type_that_the_client_likes_best() {
    let shop = Shop::open().await;
    let body = json!({ "query": "{ __typename }" });
    for (accept, content_type) in [
        (None, GRAPHQL),
        (Some("*/*"), GRAPHQL),
        (Some("application/*"), GRAPHQL),
        (Some("application/graphql-response+json"), GRAPHQL),
        (Some("APPLICATION/JSON"), JSON),
        (Some("application/json; charset=utf-8"), JSON),
        (Some("application/json, application/graphql-response+json"), GRAPHQL),
        (Some("application/json, application/graphql-response+json;q=0.9"), JSON),
        (Some("application/graphql-response+json;q=0, */*;q=0.1"), JSON),
        (Some("text/html, application/json;q=0.5"), JSON),
    ] {
        let mut request = shop.post().json(&body);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let reply = send(request).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, content_type), "{accept:?}");
        assert_eq!(reply.json()["data"], json!({ "__typename": "Query" }));
    }
    for accept in ["text/html", "image/png", "application/xml", "*/*;q=0", "nonsense"] {
        let reply = send(shop.post().json(&body).header(ACCEPT, accept)).await;
        assert_problem(&reply, 406, "not-acceptable");
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_a_problem() {
    let shop = Shop::open().await;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/graphql", ""]
    {
        let reply = send(shop.post().header(CONTENT_TYPE, content_type).body("{\"query\":\"{ __typename }\"}")).await;
        assert_problem(&reply, 415, "unsupported-media-type");
    }
    let latin = shop.post().header(CONTENT_TYPE, "application/json; charset=latin1").body("{}");
    assert_problem(&send(latin).await, 415, "unsupported-media-type");
    let gzip = shop.post().header("content-encoding", "gzip").json(&json!({ "query": "{ __typename }" }));
    assert_problem(&send(gzip).await, 415, "unsupported-content-encoding");

    for body in [
        "",
        "nonsense",
        "{\"query\":",
        "{}",
        "7",
        "null",
        "{\"qeury\":\"{ __typename }\"}",
        "{\"query\":7}",
        "{\"query\":\"{ __typename }\",\"variables\":[7]}",
        "{\"query\":\"{ __typename }\",\"operationName\":7}",
        "{\"query\":\"{ __typename }\",\"extensions\":7}",
    ] {
        let reply = send(shop.post().header(CONTENT_TYPE, "application/json").body(body)).await;
        assert_problem(&reply, 400, "bad-request");
    }
    for body in ["[]", " \n[{\"query\":\"{ __typename }\"}]"] {
        let reply = send(shop.post().header(CONTENT_TYPE, "application/json").body(body)).await;
        assert_problem(&reply, 400, "batch");
    }
    let large = json!({ "query": "{ __typename }", "extensions": { "x": "x".repeat(1024 * 1024) } });
    assert_problem(&send(shop.post().json(&large)).await, 413, "body-too-large");
    let nulls = json!({ "query": "{ __typename }", "operationName": null, "variables": null, "extensions": null });
    assert_eq!(send(shop.post().json(&nulls)).await.status, 200);
    let utf_8 = shop.post().header(CONTENT_TYPE, "Application/JSON; charset=\"UTF-8\"").body(nulls.to_string());
    assert_eq!(send(utf_8).await.status, 200);
}

#[tokio::test]
async fn the_status_says_what_became_of_a_request() {
    let shop = Shop::open().await;
    for (request, status, code) in [
        (json!({ "query": "{" }), 400, "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "" }), 400, "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "{ nothing }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ order }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ order(id: \"7\") { id } }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ orders(first: \"7\") { nodes { id } } }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ salesSummary(currency: \"XYZ\") { orders } }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (
            json!({ "query": "query($id: UUID!) { order(id: $id) { id } }", "variables": { "id": "7" } }),
            422,
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (json!({ "query": "mutation { nothing }" }), 422, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "subscription { __typename }" }), 422, "SUBSCRIPTIONS_NOT_SUPPORTED"),
        (json!({ "query": "query A { __typename } query B { __typename }" }), 422, "OPERATION_RESOLUTION_FAILURE"),
        (json!({ "query": "query A { __typename }", "operationName": "B" }), 422, "OPERATION_RESOLUTION_FAILURE"),
    ] {
        let reply = send(shop.post().json(&request)).await;
        assert_eq!(reply.status, status, "{request} {}", reply.text);
        assert_eq!(reply.codes()[0], code, "{request}");
        assert_eq!(reply.json().get("data"), None, "nothing was executed: {request}");
        // A client that knows only application/json cannot tell whose status another one would be.
        let reply = send(shop.post().json(&request).header(ACCEPT, "application/json")).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, JSON), "{request}");
        assert_eq!(reply.codes()[0], code, "{request}");
    }
    let named = json!({ "query": "query A { a: __typename } query B { b: __typename }", "operationName": "B" });
    assert_eq!(send(shop.post().json(&named)).await.json()["data"], json!({ "b": "Query" }));
    let unnamed = json!({ "query": "{ __typename }", "operationName": "" });
    assert_eq!(send(shop.post().json(&unnamed)).await.status, 200);
}

#[tokio::test]
async fn a_broken_database_shows_nothing_of_itself() {
    let shop = Shop::open().await;
    shop.sql("drop view read.orders").await;
    let reply =
        shop.ask("{ orders { nodes { id } } order(id: \"00000000-0000-0000-0000-000000000001\") { id } }").await;
    assert_eq!(reply.status, 200, "it was executed");
    assert_eq!(reply.json()["data"], Value::Null);
    assert!(reply.codes().iter().all(|code| code == "INTERNAL") && !reply.codes().is_empty());
    assert!(!reply.text.contains("relation") && !reply.text.contains("select"), "{}", reply.text);
    // A field that may be null fails alone.
    let query = "{ order(id: \"00000000-0000-0000-0000-000000000001\") { id } products { totalCount } }";
    let reply = shop.ask(query).await;
    assert_eq!(reply.codes(), ["INTERNAL"]);
    assert_eq!(reply.json()["data"], json!({ "order": null, "products": { "totalCount": 0 } }));
    assert_eq!(reply.json()["errors"][0]["path"], json!(["order"]));
}

#[tokio::test]
async fn get_queries_and_nothing_else() {
    let shop = Shop::open().await;
    let query = "query A($s: Sku!) { product(sku: $s) { sku } } query B { __typename }";
    let variables = [("query", query), ("operationName", "A"), ("variables", "{\"s\":\"A1\"}"), ("extensions", "{}")];
    let reply = send(shop.get().query(&variables)).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, GRAPHQL));
    assert_eq!(reply.json()["data"], json!({ "product": null }));

    let reply = send(shop.get().query(&[("query", "mutation { __typename }")])).await;
    assert_problem(&reply, 405, "no-method");
    assert_eq!(reply.header("allow"), "POST");
    assert_problem(&send(shop.get()).await, 400, "bad-request");
    assert_problem(
        &send(shop.get().query(&[("query", "{ __typename }"), ("variables", "[]")])).await,
        400,
        "bad-request",
    );
    assert_problem(
        &send(shop.get().query(&[("query", "{ __typename }"), ("extensions", "7")])).await,
        400,
        "bad-request",
    );
    assert_problem(&send(shop.get().query(&[("query", "a"), ("query", "b")])).await, 400, "bad-request");

    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let reply = send(reqwest::Client::new().request(method, &shop.url)).await;
        assert_problem(&reply, 405, "no-method");
        assert_eq!(reply.header("allow"), "GET, POST");
    }
}

#[tokio::test]
async fn a_browser_gets_graphiql() {
    let shop = Shop::open().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let reply = send(shop.get().header(ACCEPT, browser)).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(reply.text.contains("GraphiQL"));
    let reply = send(shop.get().header(ACCEPT, "text/html;q=0.1, application/json")).await;
    assert_problem(&reply, 400, "bad-request");
}

#[tokio::test]
async fn the_examples_of_graphiql_are_queries() {
    let shop = crate::queries::small_shop().await;
    let page = send(shop.get().header(ACCEPT, "text/html")).await.text;
    let (_, rest) = page.split_once("const defaultQuery = `").unwrap();
    let (examples, _) = rest.split_once("`;").unwrap();
    for name in ["Orders", "Checkouts", "Money", "LowStock", "Sales", "Projections"] {
        let reply = send(shop.post().json(&json!({ "query": examples, "operationName": name }))).await;
        assert_eq!(reply.json().get("errors"), None, "{name}");
    }
}

/// What a client has already is not sent again, by whichever method it asks, as long as nothing behind it has moved.
#[tokio::test]
async fn an_answer_that_is_known_is_not_sent_again() {
    let shop = Shop::open().await;
    shop.fold_all(3).await;
    let query = "{ orders { totalCount } }";
    let by_post = || shop.post().json(&json!({ "query": query }));
    let by_get = || shop.get().query(&[("query", query)]);
    let first = send(by_post()).await;
    let tag = first.header("etag").to_owned();
    assert!(first.status == 200 && tag.len() == 18, "{tag}");
    assert_eq!((first.header("cache-control"), first.header("vary")), ("private, no-cache", "accept, authorization"));
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        for request in [by_post(), by_get()] {
            let reply = send(request.header("if-none-match", &known)).await;
            assert_eq!((reply.status.as_u16(), reply.text.as_str(), reply.header("etag")), (304, "", &*tag), "{known}");
            assert_eq!(reply.header("storefold-as-of"), "3/3");
        }
    }
    let unlike = |reply: &Reply| (reply.status.as_u16(), reply.header("etag") != tag, reply.text.is_empty());
    for known in ["\"other\"", "nonsense", "", &tag[1..17]] {
        assert_eq!(unlike(&send(by_post().header("if-none-match", known)).await), (200, false, false), "{known}");
    }
    // Another type is another answer, and so is one from further on, or of other rows.
    let typed = send(by_post().header("if-none-match", &tag).header(ACCEPT, "application/json")).await;
    assert_eq!(unlike(&typed), (200, true, false));
    shop.fold("customers", 4).await;
    assert_eq!(send(by_post().header("if-none-match", &tag)).await.status, 304);
    shop.fold("orders", 4).await;
    assert_eq!(unlike(&send(by_post().header("if-none-match", &tag)).await), (200, true, false));
    // What failed is not kept.
    for query in [
        "{ order(id: 7) { id } }",
        "{ orders(first: -1) { totalCount } }",
        "mutation { redrive(readModel: \"a\") { folded } }",
    ] {
        let reply = send(shop.post().json(&json!({ "query": query })).header("if-none-match", "*")).await;
        assert!(reply.status != 304 && reply.header("cache-control") == "no-store", "{query}");
        assert_eq!(reply.header("etag"), "", "{query}");
    }
}
