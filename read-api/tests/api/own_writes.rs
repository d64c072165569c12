//! Reading one's own writes: waiting for a position, giving up, and saying how fresh an answer is.

use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::{Shop, send};

const ORDERS: &str = "{ orders { totalCount } }";

trait Headers {
    fn after(self, position: &str) -> Self;
    fn wait(self, milliseconds: u32) -> Self;
}

impl Headers for RequestBuilder {
    fn after(self, position: &str) -> Self {
        self.header("Storefold-After", position)
    }

    fn wait(self, milliseconds: u32) -> Self {
        self.header("Storefold-Wait", milliseconds)
    }
}

#[tokio::test]
async fn an_answer_says_as_of_when_it_is() {
    let shop = Shop::open().await;
    let reply = shop.ask(ORDERS).await;
    assert_eq!(reply.json()["extensions"]["asOf"], json!({ "position": null, "readModels": { "orders": null } }));
    assert_eq!(reply.header("storefold-as-of"), "none");

    shop.fold_all(70).await;
    shop.fold("products", 64).await;
    let reply = shop.ask(ORDERS).await;
    assert_eq!(reply.json()["extensions"]["asOf"], json!({ "position": "70/70", "readModels": { "orders": "70/70" } }));
    assert_eq!(reply.header("storefold-as-of"), "70/70");

    // The lowest of what was read: topProducts takes the names from the products.
    let reply = shop.ask("{ orders { totalCount } topProducts(by: UNITS, currency: \"GBP\") { sku } }").await;
    assert_eq!(
        reply.json()["extensions"]["asOf"],
        json!({ "position": "64/64", "readModels": { "orders": "70/70", "products": "64/64", "product_sales": "70/70" } })
    );
    assert_eq!(reply.header("storefold-as-of"), "64/64");

    shop.sql("update control.generations set commit_position = null where name = 'products'").await;
    let reply = shop.ask("{ orders { totalCount } products { totalCount } }").await;
    assert_eq!(reply.json()["extensions"]["asOf"]["position"], Value::Null);
    assert_eq!(reply.header("storefold-as-of"), "none");

    // What a field below the root reads counts as well, once there is something to read.
    shop.sql("insert into read.customers values (gen_random_uuid(), null, null, null, null, 'open', now(), now())")
        .await;
    let reply = shop.ask("{ customers { nodes { orders { totalCount } } } }").await;
    assert_eq!(reply.json()["extensions"]["asOf"]["readModels"], json!({ "customers": "70/70", "orders": "70/70" }));
    let query = "{ checkouts { totalCount } ledger { totalCount } lowStock { totalCount }
                   ledgerBalances(currency: \"GBP\") { account } }";
    let models = json!({ "checkouts": "70/70", "payments_ledger": "70/70", "low_stock": "70/70" });
    assert_eq!(shop.ask(query).await.json()["extensions"]["asOf"]["readModels"], models);
    let reply = shop.ask("{ __typename }").await;
    assert_eq!(reply.json()["extensions"]["asOf"], json!({ "position": null, "readModels": {} }));
}

#[tokio::test]
async fn only_the_live_generation_counts() {
    let shop = Shop::open().await;
    shop.fold_all(10).await;
    shop.sql(
        "insert into control.generations (name, version, generation, state, schema_name, commit_position, prepare_position)
         values ('orders', 2, 2, 'building', 'orders_v2_g2', 99, 99), ('orders', 0, 0, 'retired', 'orders_v0_g0', 1, 1)",
    )
    .await;
    assert_eq!(shop.ask(ORDERS).await.header("storefold-as-of"), "10/10");
}

#[tokio::test]
async fn a_query_waits_for_the_read_models_it_reads() {
    for woken in [true, false] {
        let shop = Shop::open_with(|config| config.wake = config.wake.take().filter(|_| woken)).await;
        shop.fold_all(10).await;
        let request = shop.request(ORDERS, json!({})).after("20/20").wait(20_000);
        let waiting = tokio::spawn(send(request));
        shop.looked_in_vain().await;
        assert!(!waiting.is_finished());
        shop.fold("orders", 15).await;
        shop.wake.send_replace(());
        shop.looked_in_vain().await;
        assert!(!waiting.is_finished());
        shop.sql(
            "begin;
             insert into read.orders values (gen_random_uuid(), null, 'placed', null, now(), null, 'EIRE', 'EUR', 1, 0, 0, now(), 0, 0);
             update control.generations set commit_position = 20, prepare_position = 20 where name = 'orders';
             commit",
        )
        .await;
        shop.wake.send_replace(());
        let reply = waiting.await.unwrap();
        assert_eq!(reply.json()["data"], json!({ "orders": { "totalCount": 1 } }));
        assert_eq!(reply.header("storefold-as-of"), "20/20");
    }
}

#[tokio::test]
async fn a_query_waits_for_no_other_read_model() {
    let shop = Shop::open().await;
    shop.fold("orders", 20).await;
    let reply = send(shop.request(ORDERS, json!({})).after("20/20").wait(30_000)).await;
    assert_eq!(reply.codes(), [""; 0]);
    // Nor does one that reads none.
    let reply = send(shop.request("{ projections { name } }", json!({})).after("99/99").wait(30_000)).await;
    assert_eq!(reply.codes(), [""; 0]);
}

#[tokio::test]
async fn a_projector_that_went_away_does_not_spin_the_wait() {
    let shop = Shop::open_with(|config| config.wake = Some(tokio::sync::watch::channel(()).1)).await;
    let waiting = tokio::spawn(send(shop.request(ORDERS, json!({})).after("1/1").wait(20_000)));
    shop.looked_in_vain().await;
    shop.fold("orders", 1).await;
    assert_eq!(waiting.await.unwrap().codes(), [""; 0]);
}

#[tokio::test]
async fn a_wait_that_is_in_vain_is_stale() {
    let shop = Shop::open().await;
    shop.fold("orders", 10).await;
    let query = "{ orders { totalCount } products { totalCount } }";
    let began = Instant::now();
    let reply = send(shop.request(ORDERS, json!({})).after("10/11").wait(150)).await;
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.codes(), ["STALE"]);
    let body = reply.json();
    assert_eq!(body["data"], Value::Null);
    assert_eq!(
        body["errors"][0]["extensions"],
        json!({ "code": "STALE", "after": "10/11", "readModels": { "orders": "10/10" } })
    );

    // Without waiting, the stale data is there if it is asked for.
    let request = shop.request(query, json!({})).after("10/11").wait(0).header("Storefold-Stale", "allow");
    let reply = send(request).await;
    assert_eq!(reply.json()["data"], json!({ "orders": { "totalCount": 0 }, "products": { "totalCount": 0 } }));
    assert_eq!(
        reply.json()["extensions"]["asOf"],
        json!({ "position": null, "readModels": { "orders": "10/10", "products": null } })
    );
}

#[tokio::test]
async fn a_wait_does_not_count_as_the_query_s_own_time() {
    let shop = Shop::open_with(|config| config.time_limit = Duration::from_millis(300)).await;
    let waiting = tokio::spawn(send(shop.request(ORDERS, json!({})).after("1/1").wait(10_000)));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(700) {
        shop.looked_in_vain().await;
    }
    shop.fold("orders", 1).await;
    shop.wake.send_replace(());
    assert_eq!(waiting.await.unwrap().codes(), [""; 0]);
}

#[tokio::test]
async fn headers_are_read_strictly() {
    let shop = Shop::open().await;
    for (name, value) in [
        ("Storefold-After", "12"),
        ("Storefold-After", "1/2/3"),
        ("Storefold-After", "+1/1"),
        ("Storefold-After", "none"),
        ("Storefold-After", ""),
        ("Storefold-Wait", "-1"),
        ("Storefold-Wait", "1.5"),
        ("Storefold-Wait", "30001"),
        ("Storefold-Wait", "soon"),
        ("Storefold-Stale", "yes"),
    ] {
        let reply = send(shop.request(ORDERS, json!({})).header(name, value)).await;
        assert_eq!(reply.status, 400, "{name}: {value}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(reply.json()["detail"].as_str().unwrap().contains(name), "{}", reply.text);
    }
}
