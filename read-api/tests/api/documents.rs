//! Documents by their hash, lists of trusted ones, and a schema that is not shown.

use read_api::TrustedDocuments;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Reply, Shop, send};

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(shop: &Shop, body: Value) -> Reply {
    send(shop.post().json(&body)).await
}

fn persisted(hash: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

#[tokio::test]
async fn a_document_can_be_asked_for_by_its_hash_once_it_was_sent() {
    let shop = Shop::open().await;
    let (text, other) = ("{ __typename }", "{ orders { totalCount } }");
    let unknown = ask(&shop, json!({ "extensions": persisted(&hash(text)) })).await;
    assert_eq!((unknown.status.as_u16(), unknown.codes()), (422, vec!["PERSISTED_QUERY_NOT_FOUND".to_owned()]));
    let wrong = ask(&shop, json!({ "query": other, "extensions": persisted(&hash(text)) })).await;
    assert_eq!((wrong.status.as_u16(), wrong.codes()), (422, vec!["BAD_USER_INPUT".to_owned()]));
    let unknown = ask(&shop, json!({ "extensions": persisted(&hash(text)) })).await;
    assert_eq!(unknown.codes(), ["PERSISTED_QUERY_NOT_FOUND"]);
    let sent = ask(&shop, json!({ "query": text, "extensions": persisted(&hash(text)) })).await;
    assert_eq!((sent.status.as_u16(), sent.codes()), (200, vec![]));
    for by_hash in
        [json!({ "extensions": persisted(&hash(text)) }), json!({ "documentId": format!("sha256:{}", hash(text)) })]
    {
        let answer = ask(&shop, by_hash).await;
        assert_eq!(answer.json()["data"], json!({ "__typename": "Query" }));
    }
    let extensions = persisted(&hash(text)).to_string();
    let answer = send(shop.get().query(&[("extensions", &extensions)])).await;
    assert_eq!(answer.json()["data"], json!({ "__typename": "Query" }));

    for extensions in [json!({ "persistedQuery": 7 }), json!({ "persistedQuery": { "version": 2, "sha256Hash": "a" } })]
    {
        assert_eq!(ask(&shop, json!({ "extensions": extensions })).await.status, 400);
    }
    assert_eq!(ask(&shop, json!({ "documentId": "nonsense" })).await.codes(), ["BAD_USER_INPUT"]);
    // What is no document, or too much of one, is not kept either.
    for bad in ["{", "{ a { b { c { d { e { f { g { h { i { j { k { l { m { n { o { p } } } } } } } } } } } } } } } }"]
    {
        assert_ne!(ask(&shop, json!({ "query": bad, "extensions": persisted(&hash(bad)) })).await.status, 200);
        assert_eq!(
            ask(&shop, json!({ "extensions": persisted(&hash(bad)) })).await.codes(),
            ["PERSISTED_QUERY_NOT_FOUND"]
        );
    }
}

#[tokio::test]
async fn where_documents_are_trusted_no_others_are_answered() {
    let trusted = "query Names { products { nodes { name } } }";
    let list = json!({ hash(trusted): trusted }).to_string();
    let shop = Shop::open_with(|config| config.trusted = Some(TrustedDocuments::parse(&list).unwrap())).await;
    for body in [
        json!({ "query": trusted }),
        json!({ "documentId": hash(trusted) }),
        json!({ "extensions": persisted(&hash(trusted)) }),
    ] {
        assert_eq!(ask(&shop, body).await.json()["data"], json!({ "products": { "nodes": [] } }));
    }
    for body in [
        json!({ "query": "{ __typename }" }),
        json!({ "query": format!("{trusted} ") }),
        json!({ "query": "{ __typename }", "extensions": persisted(&hash("{ __typename }")) }),
        json!({ "documentId": hash("{ __typename }") }),
        json!({ "query": "{" }),
    ] {
        let refused = ask(&shop, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.codes()),
            (422, vec!["PERSISTED_QUERY_NOT_IN_LIST".to_owned()]),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_schema_that_is_not_shown_is_not_suggested_either() {
    let open = Shop::open().await;
    let shut = Shop::open_with(|config| config.introspection = false).await;
    assert!(open.ask("{ order { id } ordrs { nodes { id } } }").await.text.contains("orders"), "no suggestion");
    let reply = shut.ask("{ ordrs { nodes { id } } }").await;
    assert!(reply.codes() == ["GRAPHQL_VALIDATION_FAILED"] && !reply.text.contains("orders"), "{}", reply.text);
    for query in [
        "{ __schema { types { name } } }",
        "{ __type(name: \"Order\") { name } }",
        "{ a: __schema { types { name } } }",
        "{ ... { __schema { types { name } } } }",
        "{ ...F } fragment F on Query { __schema { types { name } } }",
        "query A { __typename } query B { __schema { types { name } } }",
    ] {
        let reply = send(
            shut.post().json(&json!({ "query": query, "operationName": query.starts_with("query A").then_some("A") })),
        )
        .await;
        assert_eq!((reply.status.as_u16(), reply.codes()), (422, vec!["INTROSPECTION_DISABLED".to_owned()]), "{query}");
    }
    assert_eq!(shut.ask("{ __typename }").await.status, 200);
}
