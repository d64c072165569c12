//! The limits, each with its code; and what must pass below them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Shop, send};

async fn codes(shop: &Shop, query: &str) -> Vec<String> {
    let reply = shop.ask(query).await;
    let expected = if reply.codes() == ["GRAPHQL_PARSE_FAILED"] { 400 } else { 422 };
    assert_eq!(reply.status, expected, "{}", reply.text);
    assert_eq!(reply.json().get("data"), None);
    reply.codes()
}

#[tokio::test]
async fn depth() {
    let shop = Shop::open().await;
    let nested = |levels: usize| {
        let (open, close) = ("customer { orders(first: 1) { nodes { ".repeat(levels), "} } } ".repeat(levels));
        format!("{{ orders(first: 1) {{ nodes {{ {open} id {close} }} }} }}")
    };
    shop.data(&nested(3)).await;
    assert_eq!(codes(&shop, &nested(5)).await, ["MAX_DEPTH_LIMIT"]);
    let inline = format!("{{ {} __typename {} }}", "... { ".repeat(40), "} ".repeat(40));
    assert_eq!(codes(&shop, &inline).await, ["MAX_DEPTH_LIMIT"]);
    let chain: String = (0..60).map(|n| format!("fragment F{n} on Query {{ ...F{} }} ", n + 1)).collect();
    let chain = format!("{{ ...F0 }} {chain} fragment F60 on Query {{ __typename }}");
    assert_eq!(codes(&shop, &chain).await, ["MAX_DEPTH_LIMIT"]);
}

#[tokio::test]
async fn cost() {
    let shop = Shop::open().await;
    // 200 orders with five fields and their lines.
    shop.data(
        "{ orders(first: 200) { nodes { id reference status placedAt country lines { sku quantity unitPrice { amount } } } } }",
    )
    .await;
    let pages = |size: &str| {
        format!(
            "{{ customers({size}) {{ nodes {{ id orders({size}) {{ nodes {{ id status lines {{ sku }} }} }} }} }} }}"
        )
    };
    shop.data(&pages("first: 20")).await;
    assert_eq!(codes(&shop, &pages("first: 200")).await, ["COST_ESTIMATED_TOO_EXPENSIVE"]);
    assert_eq!(codes(&shop, &pages("last: 200")).await, ["COST_ESTIMATED_TOO_EXPENSIVE"]);
    assert_eq!(codes(&shop, &pages("last: 2147483647")).await, ["COST_ESTIMATED_TOO_EXPENSIVE"]);
    let query =
        "query($n: Int) { customers(first: $n) { nodes { orders(first: $n) { nodes { id lines { sku } } } } } }";
    let reply = send(shop.request(query, json!({ "n": 200 }))).await;
    assert_eq!(reply.codes(), ["COST_ESTIMATED_TOO_EXPENSIVE"]);
    assert_eq!(send(shop.request(query, json!({ "n": 5 }))).await.codes(), [""; 0]);
}

#[tokio::test]
async fn aliases_root_fields_directives_and_fields() {
    let shop = Shop::open().await;
    let many = |count: usize, what: &dyn Fn(usize) -> String| (0..count).map(what).collect::<String>();
    let aliases = |count| format!("{{ projections {{ {} }} }}", many(count, &|n| format!("a{n}: name ")));
    shop.data(&aliases(50)).await;
    assert_eq!(codes(&shop, &aliases(51)).await, ["MAX_ALIASES_LIMIT"]);

    let roots = |count| format!("{{ {} }}", many(count, &|n| format!("a{n}: __typename ")));
    shop.data(&roots(20)).await;
    assert_eq!(codes(&shop, &roots(21)).await, ["MAX_ROOT_FIELDS_LIMIT"]);
    let spread = format!("{{ {} }} fragment F on Query {{ __typename }}", "...F ".repeat(21));
    assert_eq!(codes(&shop, &spread).await, ["MAX_ROOT_FIELDS_LIMIT"]);

    let directives = |count| format!("{{ projections {{ {} }} }}", "name @include(if: true) ".repeat(count));
    shop.data(&directives(50)).await;
    assert_eq!(codes(&shop, &directives(51)).await, ["MAX_DIRECTIVES_LIMIT"]);

    assert_eq!(codes(&shop, &format!("{{ projections {{ {} }} }}", "name ".repeat(2001))).await, ["MAX_FIELDS_LIMIT"]);
}

#[tokio::test]
async fn fragments_that_explode_are_refused_at_once() {
    let shop = Shop::open().await;
    let bomb: String = (0..30).map(|n| format!("fragment F{n} on Query {{ ...F{m} ...F{m} }} ", m = n + 1)).collect();
    let bomb = format!("{bomb} fragment F30 on Query {{ __typename }}");
    for query in [format!("{{ ...F0 }} {bomb}"), format!("{{ __typename }} {bomb}")] {
        let refused = tokio::time::timeout(Duration::from_secs(5), codes(&shop, &query)).await.unwrap();
        assert!(["MAX_ROOT_FIELDS_LIMIT", "MAX_FIELDS_LIMIT"].contains(&refused[0].as_str()), "{refused:?}");
    }
    let cycle = "{ ...A } fragment A on Query { ...B ...B } fragment B on Query { ...A ...A }";
    assert_eq!(codes(&shop, cycle).await, ["GRAPHQL_VALIDATION_FAILED"]);
}

#[tokio::test]
async fn documents_that_are_too_much_for_the_parser() {
    let shop = Shop::open().await;
    let long = format!("{{ __typename }} # {}", "x".repeat(64 * 1024));
    assert_eq!(codes(&shop, &long).await, ["GRAPHQL_PARSE_FAILED"]);
    for deep in [
        format!("{{ orders(filter: {}", "[".repeat(60_000)),
        format!("{{ orders(filter: {}", "{a:".repeat(20_000)),
        "{a".repeat(30_000),
        // Brackets in strings and comments close nothing.
        format!("{{ a(b: \"{}\" c: {}", "]".repeat(1000), "[".repeat(900)),
        format!("{{ a(b: \"\"\"{}\\\"\"\" \"\"\" c: {}", "]".repeat(1000), "[".repeat(900)),
        format!("{{ # {}\n a(c: {}", "]".repeat(1000), "[".repeat(900)),
    ] {
        assert_eq!(codes(&shop, &deep).await, ["GRAPHQL_PARSE_FAILED"]);
    }
    // And open none.
    let product = format!("{{ products(filter: {{ search: \"{}\" }}) {{ totalCount }} }} # {0}", "[".repeat(100));
    shop.data(&product).await;
}

#[tokio::test]
async fn time() {
    let shop = Shop::open_with(|config| config.time_limit = Duration::from_millis(200)).await;
    let mut lock = shop.pool.begin().await.unwrap();
    sqlx::query("lock table orders_v1_g1.orders in access exclusive mode").execute(&mut *lock).await.unwrap();
    let reply = shop.ask("{ orders { nodes { id } } }").await;
    assert_eq!(reply.status, 504);
    assert_eq!(reply.codes(), ["TIMEOUT"]);
    let request = shop.request("{ orders { nodes { id } } }", json!({}));
    let reply = send(request.header("accept", "application/json")).await;
    assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec!["TIMEOUT".to_owned()]));
    lock.rollback().await.unwrap();
    shop.data("{ orders { nodes { id } } }").await;
}

#[tokio::test]
async fn a_statement_that_postgres_gave_up_is_a_timeout() {
    let shop = Shop::open_with(|config| {
        let options = (*config.pool.connect_options()).clone().options([("statement_timeout", "50ms")]);
        config.pool = sqlx::PgPool::connect_lazy_with(options);
    })
    .await;
    let slow = "create or replace view read.orders as select orders.* from orders_v1_g1.orders, pg_sleep(5)";
    shop.sql(slow).await;
    assert_eq!(shop.ask("{ orders { totalCount } }").await.codes(), ["TIMEOUT"]);
}
