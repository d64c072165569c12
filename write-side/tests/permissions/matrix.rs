//! Every operation of the registry by every kind of caller.

use std::collections::BTreeSet;

use access::{Scope, Scopes};
use serde_json::{Value, json};
use uuid::Uuid;
use write_side::http::permissions::Operation;
use write_side::registry;

use crate::support::{Answer, Shop, cart};

/// What customers may do, and whose. Everything else is not for them.
const FOR_CUSTOMERS: [(&str, &str); 10] = [
    ("product", "state"),
    ("order", "state"),
    ("order", "place"),
    ("order", "cancel"),
    ("customer", "state"),
    ("customer", "register"),
    ("customer", "change-contact"),
    ("customer", "close"),
    ("payment", "state"),
    ("shipment", "state"),
];

fn is_for_customers(category: &str, name: &str) -> bool {
    FOR_CUSTOMERS.contains(&(category, name))
}

/// How something is done.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// By a request of its own.
    Alone,
    /// As a line of a batch.
    InBatch,
    /// It is only asked what would become of it.
    Explained,
    /// A history is followed, and not read in pages.
    Followed,
}

/// Something that can be done, by category and name.
struct Deed {
    category: &'static str,
    name: String,
    scope: Scope,
    way: Way,
}

/// Everything that can be done, as the registry has it, in every way in which it can.
fn deeds() -> Vec<Deed> {
    let registry = registry();
    let mut deeds = Vec::new();
    for aggregate in registry.iter() {
        let category = aggregate.category();
        let scope = |operation| registry.permission(category, operation).expect("every operation has one").scope;
        for name in aggregate.commands() {
            for way in [Way::Alone, Way::InBatch, Way::Explained] {
                deeds.push(Deed { category, name: name.clone(), scope: scope(Operation::Command(name)), way });
            }
        }
        deeds.push(Deed { category, name: "state".into(), scope: scope(Operation::State), way: Way::Alone });
        for way in [Way::Alone, Way::Followed] {
            deeds.push(Deed { category, name: "events".into(), scope: scope(Operation::Events), way });
        }
    }
    deeds
}

impl Deed {
    async fn done(&self, shop: &Shop, token: Option<&str>, id: &str, body: &Value) -> Answer {
        let Self { category, name, way, .. } = self;
        match (name.as_str(), way) {
            ("state", _) => shop.get(token, &format!("/v1/{category}/{id}")).await,
            (_, Way::Followed) => shop.follow(token, &format!("/v1/{category}/{id}/events?follow")).await,
            ("events", _) => shop.get(token, &format!("/v1/{category}/{id}/events")).await,
            (_, Way::Alone) => shop.post(token, &format!("/v1/{category}/{id}/{name}"), body).await,
            (_, Way::Explained) => shop.post(token, &format!("/v1/{category}/{id}/{name}/explain"), body).await,
            (_, Way::InBatch) => {
                let line = json!({ "stream": format!("{category}-{id}"), "command": name, "data": body });
                shop.line(token, &line).await
            }
        }
    }

    /// What it is done to, where it is about this customer and order.
    fn id(&self, customer: Uuid, order: Uuid) -> String {
        match self.category {
            "product" | "stock" => "MUG-1".to_owned(),
            "customer" => customer.to_string(),
            _ => order.to_string(),
        }
    }

    /// A body that is one, for what customers may send. For the rest it makes no difference to whether it is refused.
    fn body(&self, customer: Option<Uuid>) -> Value {
        match (self.category, self.name.as_str()) {
            ("order", "place") => cart(customer),
            ("order", "cancel" | "reject" | "call-off") => json!({ "reason": "a change of mind" }),
            ("customer", "change-contact") => json!({ "contact": { "name": "A" } }),
            _ => json!({}),
        }
    }
}

/// A new command without a permission can be sent by nobody, and does not come into the shop unseen.
#[test]
fn every_operation_has_its_permission() {
    let registry = registry();
    let mut known = BTreeSet::new();
    for aggregate in registry.iter() {
        let commands = aggregate.commands().iter().map(|name| Operation::Command(name));
        for operation in commands.chain([Operation::State, Operation::Events]) {
            let permission = registry.permission(aggregate.category(), operation);
            assert!(permission.is_some(), "{} {operation:?}: see PERMISSIONS", aggregate.category());
            known.insert((aggregate.category(), format!("{operation:?}")));
        }
    }
    for (category, operation, _) in registry.permissions() {
        assert!(
            known.contains(&(category, format!("{operation:?}"))),
            "{category} {operation:?} is nothing that can be done"
        );
    }
    assert!(known.len() >= 54, "{}", known.len());
}

#[tokio::test]
async fn without_a_token_nobody_does_anything() {
    let shop = Shop::open().await;
    let head = shop.head().await;
    for deed in deeds() {
        for token in [None, Some("nonsense"), Some("a.b.c")] {
            let id = deed.id(shop.customer, shop.order);
            let answer = deed.done(&shop, token, &id, &deed.body(Some(shop.customer))).await;
            assert_eq!(answer.status, 401, "{} {}: {answer:?}", deed.category, deed.name);
            assert!(answer.header("www-authenticate").starts_with("Bearer "), "{answer:?}");
        }
    }
    assert_eq!(shop.head().await, head);
    // What describes the shop is for everybody.
    for path in ["/openapi.json", "/docs"] {
        assert_eq!(shop.get(None, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn staff_does_what_its_scopes_say_and_nothing_else() {
    let shop = Shop::open().await;
    let head = shop.head().await;
    for deed in deeds() {
        let (category, name, scope) = (deed.category, &deed.name, deed.scope);
        let (id, body) = (deed.id(shop.customer, shop.order), deed.body(Some(shop.customer)));
        let token = shop.token("staff", Scopes::ALL.without(scope), None);
        let answer = deed.done(&shop, Some(&token), &id, &body).await;
        assert_eq!((answer.status, answer.kind()), (403, "missing-scope"), "{category} {name}: {answer:?}");
        assert_eq!(answer.body["scope"], scope.name(), "{category} {name}");
        // A line of a batch has no headers.
        let told = answer.header("www-authenticate").contains(&format!("scope=\"{scope}\""));
        assert!(told || deed.way == Way::InBatch, "{answer:?}");
        assert_eq!(shop.head().await, head, "{category} {name}");
    }
    // With that scope alone it may: what then stands in the way is what it sent.
    for deed in deeds() {
        let (id, body) = (deed.id(shop.customer, shop.order), deed.body(Some(shop.customer)));
        let token = shop.token("staff", Scopes::NONE.with(deed.scope), None);
        let answer = deed.done(&shop, Some(&token), &id, &body).await;
        let admitted = ![401, 403].contains(&answer.status) && (answer.status != 404 || deed.category == "checkout");
        assert!(admitted && answer.status < 500, "{} {}: {answer:?}", deed.category, deed.name);
    }
}

#[tokio::test]
async fn a_customer_does_what_is_its_own_affair() {
    for deed in deeds() {
        // Each in a shop of its own, for some of it can be done once.
        let shop = Shop::open().await;
        let (category, name, scope) = (deed.category, &deed.name, deed.scope);
        let new = Uuid::now_v7();
        let order = if name == "place" { new } else { shop.order };
        let (id, body) = (deed.id(shop.customer, order), deed.body(Some(shop.customer)));
        let head = shop.head().await;
        let without = shop.token("alice", Scopes::ALL.without(scope), Some(shop.customer));
        let answer = deed.done(&shop, Some(&without), &id, &body).await;
        assert_eq!((answer.status, answer.kind()), (403, "missing-scope"), "{category} {name}: {answer:?}");

        // Every scope there is makes no staff of a customer.
        let with_all = shop.token("alice", Scopes::ALL, Some(shop.customer));
        let with_it = shop.token("alice", Scopes::NONE.with(scope), Some(shop.customer));
        for token in [with_all, with_it] {
            if is_for_customers(category, name) {
                continue;
            }
            let answer = deed.done(&shop, Some(&token), &id, &body).await;
            assert_eq!((answer.status, answer.kind()), (403, "not-for-customers"), "{category} {name}: {answer:?}");
            assert_eq!(shop.head().await, head, "{category} {name}");
        }
        if is_for_customers(category, name) {
            let token = shop.token("alice", Scopes::NONE.with(scope), Some(shop.customer));
            let answer = deed.done(&shop, Some(&token), &id, &body).await;
            let already_there = (category, name.as_str()) == ("customer", "register");
            let expected = if already_there && deed.way != Way::Explained { 422 } else { 200 };
            assert_eq!(answer.status / 100, expected / 100, "{category} {name}: {answer:?}");
            if deed.way == Way::Explained {
                assert_eq!(shop.head().await, head, "{category} {name}");
            }
        }
    }
}

/// What is somebody else's, a guest's or nobody's is answered in the same words, so that nobody learns what is there.
#[tokio::test]
async fn what_is_somebody_elses_is_as_good_as_absent() {
    let shop = Shop::open().await;
    let token = shop.token("alice", Scopes::ALL, Some(shop.customer));
    let head = shop.head().await;
    let mut compared = 0;
    for deed in deeds().iter().filter(|deed| is_for_customers(deed.category, &deed.name)) {
        let (category, name) = (deed.category, &deed.name);
        if category == "product" {
            continue;
        }
        let body = deed.body(Some(shop.customer));
        let foreign = [deed.id(shop.other, shop.others_order), deed.id(shop.other, shop.guests_order)];
        for id in foreign {
            let answer = deed.done(&shop, Some(&token), &id, &body).await;
            assert_eq!((answer.status, answer.kind()), (404, "nothing-happened"), "{category} {name}: {answer:?}");
            if name == "place" {
                // Of an order that is not there, there is nothing to be told: it can be placed.
                continue;
            }
            let nowhere = Uuid::now_v7();
            let absent = deed.done(&shop, Some(&token), &deed.id(nowhere, nowhere), &body).await;
            let told = |answer: &Answer, id: &str| {
                let body = answer.body.to_string().replace(id, "ID");
                (answer.status, answer.headers.clone(), body)
            };
            assert_eq!(told(&answer, &id), told(&absent, &nowhere.to_string()), "{category} {name}");
            compared += 1;
        }
    }
    assert_eq!(shop.head().await, head);
    assert!(compared >= 14, "{compared}");
    // Neither does a revision, a time, or what a cache knows open it.
    for path in ["?at=0", "?at=2999-01-01T00:00:00Z"] {
        let answer = shop.get(Some(&token), &format!("/v1/order/{}{path}", shop.others_order)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    // Somebody of the shop sees it.
    let staff = shop.token("staff", Scopes::NONE.with(Scope::OrdersRead), None);
    for order in [shop.order, shop.others_order, shop.guests_order] {
        assert_eq!(shop.get(Some(&staff), &format!("/v1/order/{order}")).await.status, 200);
    }
}

/// An id in another spelling is not another way in.
#[tokio::test]
async fn an_id_in_another_spelling_is_refused() {
    let shop = Shop::open().await;
    let token = shop.token("alice", Scopes::ALL, Some(shop.customer));
    for (category, id) in [("order", shop.others_order), ("customer", shop.other), ("order", shop.order)] {
        for spelled in
            [id.to_string().to_uppercase(), id.simple().to_string(), format!("{id}%20"), format!("%7B{id}%7D")]
        {
            let answer = shop.get(Some(&token), &format!("/v1/{category}/{spelled}")).await;
            assert!([400, 404].contains(&answer.status), "{category} {spelled}: {answer:?}");
        }
    }
}
