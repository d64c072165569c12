//! How many statements a query costs: one a level, however many rows there are. And how often a failure is logged.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::harness::{Reply, Shop};
use crate::paging::large_shop;

/// Writes down a field of the events of a target on this thread, which is where all of a test runs.
#[derive(Clone)]
struct Events {
    target: &'static str,
    field: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Field<'a>(&'a str, &'a mut Vec<String>);
        impl tracing::field::Visit for Field<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                if field.name() == self.0 {
                    self.1.push(format!("{value:?}"));
                }
            }
        }
        if event.metadata().target() == self.target {
            event.record(&mut Field(self.field, &mut self.seen.lock().unwrap()));
        }
    }
}

async fn events(target: &'static str, field: &'static str, shop: &Shop, query: &str) -> (Reply, Vec<String>) {
    let events = Events { target, field, seen: Arc::default() };
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    tracing::callsite::rebuild_interest_cache();
    let reply = shop.ask(query).await;
    let seen = events.seen.lock().unwrap().clone();
    (reply, seen)
}

async fn statements(shop: &Shop, query: &str) -> Vec<String> {
    let (reply, statements) = events("sqlx::query", "summary", shop, query).await;
    assert_eq!(reply.json().get("errors"), None);
    statements
}

#[tokio::test]
async fn a_page_of_orders_costs_one_statement_a_level() {
    let shop = large_shop().await;
    // The checkpoints, the orders, their lines, the lines' products, the customers, their spend.
    let query =
        "{ orders(first: 100) { nodes { id lines { sku product { name } } customer { name spend { orders } } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 6, "{ran:#?}");
    // Aliases of the same thing share what is loaded.
    let query = "{ orders(first: 100) { nodes { id a: lines { sku } b: lines { quantity } x: customer { id } y: customer { name } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 4, "{ran:#?}");
}

#[tokio::test]
async fn what_surrounds_a_page_of_orders_costs_one_statement_each() {
    let shop = large_shop().await;
    // The checkpoints, the orders with payments and shipments, their timelines, their checkouts.
    let query = "{ orders(first: 100) { nodes { id payment { status } shipment { status } timeline { what }
                   checkout { step } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 4, "{ran:#?}");
    // The checkpoints, the checkouts, their orders, the orders' timelines.
    let query = "{ checkouts(first: 100) { nodes { state order { status timeline { what } } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 4, "{ran:#?}");
    // The checkpoints, the payments, their refunds, their orders.
    let query = "{ payments(first: 100) { nodes { status refunds { status } order { reference } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 4, "{ran:#?}");
    // The checkpoints, the low stocks, their products.
    let ran = statements(&shop, "{ lowStock(first: 100) { nodes { sku product { name } } } }").await;
    assert_eq!(ran.len(), 3, "{ran:#?}");
}

#[tokio::test]
async fn the_orders_of_a_page_of_customers_cost_one_statement() {
    let shop = large_shop().await;
    // The checkpoints, the customers, their orders, the orders' counts, the orders' lines.
    let query = "{ customers(first: 50) { nodes { id orders(first: 3) { totalCount nodes { id lines { sku } } } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 5, "{ran:#?}");
}

#[tokio::test]
async fn the_movements_of_a_page_of_products_cost_one_statement() {
    let shop = large_shop().await;
    // The checkpoints, the products, their movements, the movements' counts.
    let query =
        "{ products(first: 100) { nodes { sku stock { onHand movements(first: 5) { totalCount nodes { what } } } } } }";
    let ran = statements(&shop, query).await;
    assert_eq!(ran.len(), 4, "{ran:#?}");
}

#[tokio::test]
async fn a_total_is_counted_only_when_it_is_selected() {
    let shop = large_shop().await;
    // Each page says itself how far its read model had come.
    let ran = statements(&shop, "{ orders { nodes { id } } products { nodes { sku } } }").await;
    assert_eq!(ran.len(), 2, "{ran:#?}");
    assert!(ran.iter().all(|sql| !sql.contains("count")), "{ran:#?}");
    let ran = statements(&shop, "{ orders { totalCount } }").await;
    assert_eq!(ran.len(), 2, "{ran:#?}");
    // What is filtered may be empty, and then nobody would say it.
    let ran = statements(&shop, "{ orders(filter: { country: \"Nowhere\" }) { nodes { id } } }").await;
    assert_eq!(ran.len(), 2, "{ran:#?}");
}

#[tokio::test]
async fn top_customers_cost_two_statements() {
    let shop = large_shop().await;
    let ran = statements(&shop, "{ topCustomers(currency: \"GBP\", first: 20) { orders customer { name } } }").await;
    assert_eq!(ran.len(), 3, "{ran:#?}");
}

#[tokio::test]
async fn a_failure_of_many_rows_is_logged_once_with_its_cause() {
    let shop = large_shop().await;
    shop.sql("drop view read.customers").await;
    let query = "{ orders(first: 100) { nodes { id customer { name } } } }";
    let (reply, logged) = events("read_api::error", "error.chain", &shop, query).await;
    assert_eq!(logged.len(), 1, "{logged:#?}");
    assert!(logged[0].contains("relation \\\"read.customers\\\" does not exist"), "{logged:#?}");
    // Every order has its error, and its own data.
    assert!(reply.codes().len() > 40 && reply.codes().iter().all(|code| code == "INTERNAL"));
    assert_eq!(reply.json()["data"]["orders"]["nodes"].as_array().unwrap().len(), 61);
}
