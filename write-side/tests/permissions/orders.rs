//! What an order says decides who may place it; and what a caller has to do with keys and with history.

use access::{Role, Scope, Scopes};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Shop, cart};

#[tokio::test]
async fn prices_and_times_of_its_own_are_for_those_who_may() {
    let shop = Shop::open().await;
    let place = Scopes::NONE.with(Scope::OrdersPlace);
    let (mut quoted, mut backdated) = (cart(None), cart(None));
    quoted["lines"][0]["unit_price_minor"] = json!(1);
    backdated["placed_at"] = json!("2010-12-01T08:26:00Z");
    let mut both = quoted.clone();
    both["placed_at"] = backdated["placed_at"].clone();
    let (quote, backdate) = (Scope::OrdersQuote, Scope::OrdersBackdate);
    for (scopes, body, missing) in [
        (place, &cart(None), None),
        (place, &quoted, Some(quote)),
        (place, &backdated, Some(backdate)),
        (place.with(quote), &both, Some(backdate)),
        (place.with(backdate), &both, Some(quote)),
        (place.with(quote), &quoted, None),
        (place.with(backdate), &backdated, None),
        (place.with(quote).with(backdate), &both, None),
        // They are nothing by themselves.
        (Scopes::NONE.with(quote).with(backdate), &both, Some(Scope::OrdersPlace)),
        (Role::Staff.scopes(), &quoted, Some(quote)),
        (Role::Operator.scopes(), &both, None),
    ] {
        let token = shop.token("staff", scopes, None);
        let answer = shop.post(Some(&token), &format!("/v1/order/{}/place", Uuid::now_v7()), body).await;
        match missing {
            None => assert_eq!(answer.status, 201, "{scopes} {body}: {answer:?}"),
            Some(scope) => {
                assert_eq!((answer.status, &answer.body["scope"]), (403, &json!(scope.name())), "{scopes} {body}");
            }
        }
    }
    // A customer never names its price, whatever its token says.
    let token = shop.token("alice", Scopes::ALL, Some(shop.customer));
    for (member, value) in [("unit_price_minor", json!(1)), ("placed_at", json!("2010-12-01T08:26:00Z"))] {
        let mut body = cart(Some(shop.customer));
        if member == "placed_at" {
            body[member] = value
        } else {
            body["lines"][0][member] = value
        }
        let answer = shop.post(Some(&token), &format!("/v1/order/{}/place", Uuid::now_v7()), &body).await;
        assert_eq!((answer.status, answer.kind()), (403, "not-for-customers"), "{member}: {answer:?}");
    }
}

#[tokio::test]
async fn a_customer_orders_for_itself_alone() {
    let shop = Shop::open().await;
    let token = shop.token("alice", Role::Customer.scopes(), Some(shop.customer));
    let head = shop.head().await;
    for buyer in [None, Some(shop.other), Some(Uuid::now_v7())] {
        let answer = shop.post(Some(&token), &format!("/v1/order/{}/place", Uuid::now_v7()), &cart(buyer)).await;
        assert_eq!((answer.status, answer.kind()), (403, "not-for-others"), "{buyer:?}: {answer:?}");
    }
    assert_eq!(shop.head().await, head);
    let path = format!("/v1/order/{}/place", Uuid::now_v7());
    let first = shop.post_with_key(&token, &path, &cart(Some(shop.customer)), "k").await;
    assert_eq!(first.status, 201);
    assert_eq!(shop.post_with_key(&token, &path, &cart(Some(shop.customer)), "k").await, first, "sent again");
    let again = shop.post(Some(&token), &path, &cart(Some(shop.customer))).await;
    assert_eq!((again.status, again.kind()), (422, "order/already-placed"), "its own, which it knows of");
    // The order is there now, and for nobody else.
    let other = shop.token("bob", Role::Customer.scopes(), Some(shop.other));
    let answer = shop.post_with_key(&other, &path, &cart(Some(shop.other)), "k").await;
    assert_eq!((answer.status, answer.kind()), (404, "nothing-happened"), "{answer:?}");
}

/// One caller's key gives another caller nothing: neither the answer nor a conflict.
#[tokio::test]
async fn a_key_counts_for_its_caller() {
    let shop = Shop::open().await;
    let scopes = Scopes::NONE.with(Scope::StockWrite);
    let [alice, bob] = ["alice", "bob"].map(|name| shop.token(name, scopes, None));
    let receive = async |token: &str, quantity: u32| {
        shop.post_with_key(token, "/v1/stock/CUP-1/receive", &json!({ "quantity": quantity }), "k").await
    };
    let first = receive(&alice, 1).await;
    assert_eq!((first.status, receive(&alice, 1).await), (201, first.clone()));
    let others = receive(&bob, 2).await;
    assert_eq!((others.status, &others.body["revision"]), (200, &json!(1)), "{others:?}");
    assert_eq!(receive(&bob, 2).await, others);
    assert_eq!(receive(&alice, 2).await.kind(), "key-reused");
    // Another token of the same caller is the same caller.
    let again = shop.token("alice", Scopes::ALL, None);
    assert_eq!(receive(&again, 1).await, first);
}

#[tokio::test]
async fn history_says_who_did_it() {
    let shop = Shop::open().await;
    let token = shop.token("carol of the warehouse", Scopes::ALL, None);
    shop.post(Some(&token), "/v1/stock/CUP-1/receive", &json!({ "quantity": 1 })).await;
    let history = shop.get(Some(&token), "/v1/stock/CUP-1/events").await;
    assert_eq!(history.body["events"][0]["metadata"]["actor"], "carol of the warehouse", "{history:?}");
}

/// A router that nobody put a gate before serves nobody.
#[tokio::test]
async fn without_a_gate_nobody_may() {
    use tower::ServiceExt as _;

    let store = std::sync::Arc::new(event_store::MemoryEventStore::new());
    let router = write_side::http::router(write_side::Executor::new(store), write_side::registry(), 1024);
    let request = axum::http::Request::get("/v1/stock/MUG-1").body(axum::body::Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 401);
}
