//! What is known to be tried against GraphQL servers, and what comes of it here: each with its status and its code, and the
//! server as well afterwards as before.

use access::{Role, Scopes};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::list_and_receive;
use crate::support::{Database, Server, client, status_and_json, token};

/// The status of an answer, and the code of its first error or the kind of its problem.
async fn answer(request: RequestBuilder) -> (u16, String) {
    let (status, answer) = status_and_json(request.send().await.unwrap()).await;
    let code = answer["errors"][0]["extensions"]["code"].as_str();
    let kind = answer["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/"));
    (status, code.or(kind).unwrap_or("none").to_owned())
}

/// So many of something, each with its number.
fn many(count: usize, what: impl Fn(usize) -> String) -> String {
    (0..count).map(what).collect()
}

/// Documents that ask for too much, or for what is not theirs.
fn documents() -> Vec<(&'static str, String, u16, &'static str)> {
    let (parse, valid) = ("GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED");
    let nested = |levels: usize| {
        let (open, close) = ("customer { orders(first: 1) { nodes { ".repeat(levels), "} } } ".repeat(levels));
        format!("{{ orders(first: 1) {{ nodes {{ {open} id {close} }} }} }}")
    };
    let bomb = many(30, |n| format!("fragment F{n} on Query {{ ...F{m} ...F{m} }} ", m = n + 1));
    vec![
        ("deep fields", nested(5), 422, "MAX_DEPTH_LIMIT"),
        ("deep fragments", format!("{{ {} id {} }}", "... { ".repeat(40), "} ".repeat(40)), 422, "MAX_DEPTH_LIMIT"),
        ("deep brackets", format!("{{ orders(filter: {}", "{a:".repeat(20_000)), 400, parse),
        ("deep lists", format!("{{ orders(filter: {}", "[".repeat(60_000)), 400, parse),
        ("a long document", format!("{{ __typename }} # {}", "x".repeat(64 * 1024)), 400, parse),
        ("a list of lists", customers(200), 422, "COST_ESTIMATED_TOO_EXPENSIVE"),
        ("a page past numbers", customers(i32::MAX), 422, "COST_ESTIMATED_TOO_EXPENSIVE"),
        (
            "many aliases",
            format!("{{ projections {{ {} }} }}", many(51, |n| format!("a{n}: name "))),
            422,
            "MAX_ALIASES_LIMIT",
        ),
        ("many roots", format!("{{ {} }}", many(21, |n| format!("a{n}: __typename "))), 422, "MAX_ROOT_FIELDS_LIMIT"),
        ("many fields", format!("{{ projections {{ {} }} }}", "name ".repeat(2_001)), 422, "MAX_FIELDS_LIMIT"),
        (
            "many directives",
            format!("{{ projections {{ {} }} }}", "name @include(if: true) ".repeat(51)),
            422,
            "MAX_DIRECTIVES_LIMIT",
        ),
        (
            "fragments that double",
            format!("{{ ...F0 }} {bomb} fragment F30 on Query {{ __typename }}"),
            422,
            "MAX_ROOT_FIELDS_LIMIT",
        ),
        (
            "fragments in a circle",
            "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }".to_owned(),
            422,
            valid,
        ),
        (
            "many mutations",
            format!("mutation {{ {} }}", many(21, |n| format!("a{n}: {REDRIVE} "))),
            422,
            "MAX_ROOT_FIELDS_LIMIT",
        ),
        ("the schema", "{ __schema { types { name } } }".to_owned(), 422, "INTROSPECTION_DISABLED"),
        (
            "the schema in a fragment",
            "{ ...F } fragment F on Query { __type(name: \"Order\") { name } }".to_owned(),
            422,
            "INTROSPECTION_DISABLED",
        ),
        (
            "a subscription with two fields",
            "subscription { a: projectionsChanged { asOf } b: projectionsChanged { asOf } }".to_owned(),
            422,
            valid,
        ),
        (
            "a cursor that was made up",
            "{ products(after: \"AAAAAAAAAAAAAAAAAAAAAAAAAAAA\") { totalCount } }".to_owned(),
            200,
            "BAD_CURSOR",
        ),
        ("a page that is too large", "{ products(first: 201) { totalCount } }".to_owned(), 200, "BAD_USER_INPUT"),
        ("a page that is negative", "{ products(first: -1) { totalCount } }".to_owned(), 200, "BAD_USER_INPUT"),
        (
            "a zero byte",
            "{ products(filter: { search: \"\\u0000\" }) { totalCount } }".to_owned(),
            200,
            "BAD_USER_INPUT",
        ),
        (
            "SQL in a filter",
            "{ products(filter: { search: \"'; drop table x; --\" }) { totalCount } }".to_owned(),
            200,
            "none",
        ),
        ("SQL in an id", "{ product(sku: \"A' or 1=1\") { name } }".to_owned(), 422, valid),
        ("a number past numbers", format!("{{ products(first: {}) {{ totalCount }} }}", "9".repeat(400)), 400, parse),
    ]
}

const REDRIVE: &str = "redrive(readModel: \"orders\") { folded }";

fn customers(size: i32) -> String {
    format!(
        "{{ customers(first: {size}) {{ nodes {{ id orders(first: {size}) {{ nodes {{ id lines {{ sku }} }} }} }} }} }}"
    )
}

#[tokio::test]
async fn what_is_known_to_be_tried_is_refused_by_its_code() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    list_and_receive(&server, "A").await;
    // From here on the read model has it.
    let last = server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await["position"].clone();
    server.query("{ products { totalCount } }", json!({}), last.as_str()).await;
    let url = format!("{}/graphql", server.url);
    let well = json!({ "query": "{ products { totalCount } }" });
    let orders = json!({ "query": "{ orders { totalCount } }" });
    let sales = json!({ "query": "{ salesSummary(currency: \"GBP\") { orders } }" });
    let post = |body: &Value| server.client.post(&url).json(body);
    let mut otherwise = Vec::new();
    for (name, document, status, code) in documents() {
        let came = answer(post(&json!({ "query": document }))).await;
        if came != (status, code.to_owned()) {
            otherwise.push((name, came));
        }
    }

    let raw = |kind: &str, body: &str| server.client.post(&url).header("content-type", kind).body(body.to_owned());
    let get = |query: &str| server.client.get(&url).query(&[("query", query)]);
    let as_whom = |token: &str| client(token).post(&url).json(&well);
    let (mutation, hash) = (format!("mutation {{ {REDRIVE} }}"), "0".repeat(64));
    let persisted = |hash: &str| json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let customer = token("eve", Role::Customer.scopes(), Some(Uuid::now_v7()));
    let nobody = token("bob", Scopes::NONE, None);
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.";
    for (name, request, status, code) in [
        ("a batch", post(&json!([well, well])), 400, "batch"),
        ("a form of another site", raw("text/plain", &well.to_string()), 415, "unsupported-media-type"),
        ("a file", raw("multipart/form-data; boundary=a", "--a--"), 415, "unsupported-media-type"),
        (
            "a packed body",
            raw("application/json", "").header("content-encoding", "gzip"),
            415,
            "unsupported-content-encoding",
        ),
        ("deep JSON", raw("application/json", &"[".repeat(100_000)), 400, "bad-request"),
        (
            "deep variables",
            raw(
                "application/json",
                &format!("{{\"query\":\"{{ __typename }}\",\"variables\":{{\"a\":{}", "[".repeat(100_000)),
            ),
            400,
            "bad-request",
        ),
        ("a mutation by a link", get(&mutation), 405, "no-method"),
        ("another method", server.client.delete(&url), 405, "no-method"),
        ("a hash that is none", post(&json!({ "extensions": persisted("../../etc") })), 422, "BAD_USER_INPUT"),
        (
            "another document's hash",
            post(&json!({ "query": "{ __typename }", "extensions": persisted(&hash) })),
            422,
            "BAD_USER_INPUT",
        ),
        ("a hash alone", post(&json!({ "documentId": hash })), 422, "PERSISTED_QUERY_NOT_FOUND"),
        ("a wait past all", post(&well).header("storefold-wait", "999999999"), 400, "bad-request"),
        ("a position past all", post(&well).header("storefold-after", "99999999999999999999/1"), 400, "bad-request"),
        ("no token", Client::new().post(&url).json(&orders), 401, "UNAUTHENTICATED"),
        ("an unsigned token", as_whom(unsigned), 401, "invalid-token"),
        ("a customer's token", client(&customer).post(&url).json(&sales), 403, "FORBIDDEN"),
        (
            "a mutation without the scope",
            client(&nobody).post(&url).json(&json!({ "query": mutation })),
            403,
            "FORBIDDEN",
        ),
    ] {
        let came = answer(request).await;
        if came != (status, code.to_owned()) {
            otherwise.push((name, came));
        }
    }
    assert_eq!(otherwise, []);
    // A name that is nearly right is not set right where the schema is not shown.
    let (_, refused) =
        status_and_json(post(&json!({ "query": "{ ordrs { totalCount } }" })).send().await.unwrap()).await;
    assert!(!refused.to_string().contains("orders"), "{refused}");
    assert_eq!(server.query("{ products { totalCount } }", json!({}), None).await["products"]["totalCount"], 1);
}
