//! A shop in memory behind a gate, with two customers and what they have bought.

use std::sync::Arc;
use std::time::Duration;

use access::{CustomerId, Expected, Gate, Grant, Keys, Scopes, Signer, guard};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use axum::response::Response;
use event_store::{EventStore as _, MemoryEventStore, Position};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;
use write_side::{Executor, http, registry};

/// An answer: its status, its headers but those that are another every time, and its body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Answer {
    /// The last part of a problem's type.
    pub(crate) fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

pub(crate) struct Shop {
    router: Router,
    store: Arc<MemoryEventStore>,
    signer: Signer,
    /// A customer, who has bought `order`; everything that happened to it is there: payment, shipment, checkout.
    pub(crate) customer: Uuid,
    pub(crate) order: Uuid,
    /// Another one, with an order of its own.
    pub(crate) other: Uuid,
    pub(crate) others_order: Uuid,
    /// Of a guest.
    pub(crate) guests_order: Uuid,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let store = Arc::new(MemoryEventStore::new());
        let signer = Signer::of(&Signer::new_pem().unwrap()).unwrap();
        let expected = Expected { issuer: "issuer".into(), audience: "shop".into(), leeway: Duration::ZERO };
        let gate = Gate::new(Keys::new(vec![signer.verifier().unwrap()], None).unwrap(), expected);
        let router = http::router(Executor::new(store.clone()), registry(), http::BODY_LIMIT);
        let [customer, other, order, others_order, guests_order] = [(); 5].map(|()| Uuid::now_v7());
        let router = guard(router, &gate);
        let shop = Self { router, store, signer, customer, order, other, others_order, guests_order };
        shop.fill().await;
        shop
    }

    async fn fill(&self) {
        let operator = self.token("operator", Scopes::ALL, None);
        let done = async |path: String, body: Value| {
            let answer = self.post(Some(&operator), &path, &body).await;
            assert!(answer.status < 300, "{path}: {answer:?}");
        };
        let price = json!({ "minor": 950, "currency": "GBP" });
        done("/v1/product/MUG-1/list".into(), json!({ "name": "Mug", "price": price })).await;
        done("/v1/stock/MUG-1/receive".into(), json!({ "quantity": 100 })).await;
        for customer in [self.customer, self.other] {
            done(format!("/v1/customer/{customer}/register"), json!({})).await;
        }
        for (order, customer) in
            [(self.order, Some(self.customer)), (self.others_order, Some(self.other)), (self.guests_order, None)]
        {
            done(format!("/v1/order/{order}/place"), cart(customer)).await;
            let money = json!({ "amount": { "minor": 950, "currency": "GBP" }, "card": "tok_approved" });
            done(format!("/v1/payment/{order}/request"), money).await;
            let parcel = json!({ "country": "France", "lines": [{ "sku": "MUG-1", "quantity": 1 }] });
            done(format!("/v1/shipment/{order}/request"), parcel).await;
        }
    }

    pub(crate) fn token(&self, subject: &str, scopes: Scopes, customer: Option<Uuid>) -> String {
        let (issuer, audience, lifetime) = ("issuer".into(), "shop".into(), Duration::from_secs(600));
        let (subject, customer) = (subject.to_owned(), customer.map(CustomerId));
        self.signer.token(&Grant { issuer, audience, subject, scopes, customer, lifetime }).unwrap()
    }

    pub(crate) async fn get(&self, token: Option<&str>, path: &str) -> Answer {
        self.send(Method::GET, token, path, None, None).await
    }

    pub(crate) async fn post(&self, token: Option<&str>, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, token, path, Some(body), None).await
    }

    pub(crate) async fn post_with_key(&self, token: &str, path: &str, body: &Value, key: &str) -> Answer {
        self.send(Method::POST, Some(token), path, Some(body), Some(key)).await
    }

    /// Sends a batch of one line. Answers what the line is answered, or the batch where it is refused as a whole.
    pub(crate) async fn line(&self, token: Option<&str>, line: &Value) -> Answer {
        let mut request = Request::post("/v1/commands").header(header::CONTENT_TYPE, "application/x-ndjson");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::from(line.to_string())).unwrap();
        let answer = answered(self.router.clone().oneshot(request).await.unwrap()).await;
        if answer.status != 200 {
            return answer;
        }
        assert_eq!(answer.body["line"], 1, "{answer:?}");
        let body = ["answer", "problem"].into_iter().find_map(|body| answer.body.get(body)).unwrap().clone();
        let status = u16::try_from(answer.body["status"].as_u64().unwrap()).unwrap();
        Answer { status, headers: Vec::new(), body }
    }

    /// Follows something, and hangs up as soon as it is answered.
    pub(crate) async fn follow(&self, token: Option<&str>, path: &str) -> Answer {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        if response.status() != 200 {
            return answered(response).await;
        }
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(kind, "text/event-stream");
        Answer { status: 200, headers: vec![("content-type".to_owned(), kind)], body: Value::Null }
    }

    async fn send(
        &self,
        method: Method,
        token: Option<&str>,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(body.map_or(Body::empty(), |body| Body::from(body.to_string()))).unwrap();
        answered(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// How far the log is.
    pub(crate) async fn head(&self) -> Option<Position> {
        self.store.head().await.unwrap()
    }
}

async fn answered(response: Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
}

/// An order to be placed.
pub(crate) fn cart(customer: Option<Uuid>) -> Value {
    json!({
        "customer": customer, "country": "France", "currency": "GBP", "card": "tok_approved",
        "lines": [{ "sku": "MUG-1", "quantity": 1 }],
    })
}
