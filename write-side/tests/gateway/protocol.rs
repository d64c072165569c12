//! The protocol as it goes over the wire, byte for byte where it matters: what `docs/gateway.md` says.

use domain::ids::PaymentId;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use write_side::sandbox::{Card, Totals};

use super::support::{SECRET, Sandbox, payment};

const CONTRACT: &str = include_str!("../../../docs/gateway.md");

/// A request with the secret.
fn request(sandbox: &Sandbox, method: Method, path: &str) -> RequestBuilder {
    Client::new().request(method, format!("{}{path}", sandbox.url)).bearer_auth(SECRET)
}

async fn answered(request: RequestBuilder) -> (u16, String, Value) {
    let response = request.send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.json().await.unwrap())
}

async fn post(sandbox: &Sandbox, path: &str, key: &str, body: Value) -> (u16, String, Value) {
    answered(request(sandbox, Method::POST, path).header("Idempotency-Key", format!("\"{key}\"")).json(&body)).await
}

/// Posts what must be refused with this problem.
async fn refused(sandbox: &Sandbox, path: &str, key: &str, body: Value, status: u16, kind: &str) {
    let (answered, content_type, problem) = post(sandbox, path, key, body.clone()).await;
    assert_eq!(answered, status, "{path} {body}: {problem}");
    assert_eq!(content_type, "application/problem+json");
    assert_eq!(problem["type"], format!("/problems/{kind}"), "{path} {body}");
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].is_string() && problem["title"].is_string(), "{problem}");
}

fn gbp(minor: i64) -> Value {
    json!({ "minor": minor, "currency": "GBP" })
}

fn authorise(payment: PaymentId) -> Value {
    json!({ "id": payment, "amount": gbp(1000), "card": "tok_approved" })
}

#[tokio::test]
async fn a_payments_life_over_the_wire() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let (status, kind, held) = post(&sandbox, "/payments", &format!("{id}"), authorise(id)).await;
    assert_eq!((status, kind.as_str()), (201, "application/json"));
    let shown = json!({
        "id": id, "status": "authorised", "amount": gbp(1000), "captured": gbp(0), "refunded": gbp(0),
        "reference": "hold-1", "capture_reference": null, "declined_reason": null, "refunds": [],
    });
    assert_eq!(held, shown);

    let (status, _, taken) =
        post(&sandbox, &format!("/payments/{id}/capture"), &format!("{id}-capture-1"), json!({ "amount": gbp(900) }))
            .await;
    let mut shown = shown;
    shown["status"] = json!("captured");
    shown["captured"] = gbp(900);
    shown["capture_reference"] = json!("capture-2");
    assert_eq!((status, &taken), (200, &shown));

    let refund = json!({ "number": 1, "amount": gbp(300) });
    let (status, _, given) =
        post(&sandbox, &format!("/payments/{id}/refunds"), &format!("{id}-refund-1"), refund).await;
    shown["refunded"] = gbp(300);
    shown["refunds"] = json!([{ "number": 1, "amount": gbp(300), "status": "done", "reason": null }]);
    assert_eq!((status, &given), (200, &shown));
    let found = answered(request(&sandbox, Method::GET, &format!("/payments/{id}"))).await;
    assert_eq!(found, (200, "application/json".to_owned(), shown.clone()));
    // This is the example of the contract.
    let (_, example) = CONTRACT.split_once("```json\n").unwrap();
    let mut example: Value = serde_json::from_str(example.split_once("```").unwrap().0).unwrap();
    example["id"] = json!(id);
    assert_eq!(example, shown);

    let other = payment();
    let (status, _, voided) =
        post(&sandbox, &format!("/payments/{other}/void"), &format!("{other}-void"), json!({})).await;
    let nothing = json!({
        "id": other, "status": "voided", "amount": null, "captured": null, "refunded": null, "reference": null,
        "capture_reference": null, "declined_reason": null, "refunds": [],
    });
    assert_eq!((status, voided), (200, nothing));
}

#[test]
fn the_contract_lists_every_card() {
    let listed: Vec<_> = CONTRACT.lines().filter_map(|line| line.strip_prefix("| `tok_")?.split_once('`')).collect();
    let listed: Vec<_> = listed.iter().map(|(token, _)| format!("tok_{token}")).collect();
    assert_eq!(listed, Card::ALL.map(|card| card.token().unwrap()));
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_another_request_with_it_none() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let first = post(&sandbox, "/payments", "key-1", authorise(id)).await;
    post(&sandbox, &format!("/payments/{id}/capture"), "key-2", json!({ "amount": gbp(1000) })).await;
    // Much has happened since, and the answer is still the first one.
    assert_eq!(post(&sandbox, "/payments", "key-1", authorise(id)).await, first);
    // With or without quotes it is the same key.
    let bare = request(&sandbox, Method::POST, "/payments").header("Idempotency-Key", "key-1").json(&authorise(id));
    assert_eq!(answered(bare).await, first);

    let mut other = authorise(id);
    other["amount"]["minor"] = json!(1001);
    refused(&sandbox, "/payments", "key-1", other, 422, "key-reused").await;
    refused(&sandbox, "/payments", "key-1", authorise(payment()), 422, "key-reused").await;
    refused(&sandbox, &format!("/payments/{id}/void"), "key-1", json!({}), 422, "key-reused").await;
    // A mistake with a key does not spoil it.
    assert_eq!(post(&sandbox, "/payments", "key-1", authorise(id)).await, first);
    assert_eq!(sandbox.moved(id).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn a_refusal_is_kept_under_its_key_and_ignorance_is_not() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let capture = format!("/payments/{id}/capture");
    refused(&sandbox, &capture, "early", json!({ "amount": gbp(1) }), 404, "unknown-payment").await;
    post(&sandbox, "/payments", "hold", authorise(id)).await;
    refused(&sandbox, &capture, "much", json!({ "amount": gbp(1001) }), 422, "exceeds-held").await;
    refused(
        &sandbox,
        &format!("/payments/{id}/refunds"),
        "refund",
        json!({ "number": 1, "amount": gbp(1) }),
        409,
        "not-captured",
    )
    .await;
    assert_eq!(post(&sandbox, &capture, "early", json!({ "amount": gbp(1) })).await.0, 200);
    refused(&sandbox, &capture, "much", json!({ "amount": gbp(1001) }), 422, "exceeds-held").await;
    refused(
        &sandbox,
        &format!("/payments/{id}/refunds"),
        "refund",
        json!({ "number": 1, "amount": gbp(1) }),
        409,
        "not-captured",
    )
    .await;
}

#[tokio::test]
async fn a_name_is_taken_once_whatever_the_key() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let (capture, void, refunds) =
        (format!("/payments/{id}/capture"), format!("/payments/{id}/void"), format!("/payments/{id}/refunds"));
    post(&sandbox, "/payments", "1", authorise(id)).await;
    refused(&sandbox, "/payments", "2", authorise(id), 409, "payment-exists").await;
    post(&sandbox, &capture, "3", json!({ "amount": gbp(1000) })).await;
    refused(&sandbox, &capture, "4", json!({ "amount": gbp(1000) }), 409, "already-captured").await;
    refused(&sandbox, &void, "5", json!({}), 409, "already-captured").await;
    post(&sandbox, &refunds, "6", json!({ "number": 1, "amount": gbp(10) })).await;
    refused(&sandbox, &refunds, "7", json!({ "number": 1, "amount": gbp(10) }), 409, "refund-exists").await;
    let euros = json!({ "number": 2, "amount": { "minor": 10, "currency": "EUR" } });
    refused(&sandbox, &refunds, "8", euros, 422, "other-currency").await;
    assert_eq!(sandbox.moved(id).await, ["hold 1000", "capture 1000", "refund 10"]);
}

#[tokio::test]
async fn what_is_not_of_the_protocol_is_refused_and_counts_for_nothing() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let with = |name: &str, value: Value| {
        let mut body = authorise(id);
        body[name] = value;
        body
    };
    let bodies = [
        json!({}),
        json!([1]),
        with("amount", gbp(0)),
        with("amount", gbp(-1)),
        with("amount", json!({ "minor": 10.5, "currency": "GBP" })),
        with("amount", json!({ "minor": 10, "currency": "QQQ" })),
        with("card", json!("")),
        with("id", json!("not-a-uuid")),
        with("more", json!(1)),
    ];
    for body in bodies {
        refused(&sandbox, "/payments", "key", body, 400, "invalid-request").await;
    }
    refused(&sandbox, "/payments/nobody/void", "key", json!({}), 400, "invalid-request").await;
    let refunds = format!("/payments/{id}/refunds");
    refused(&sandbox, &refunds, "key", json!({ "number": 0, "amount": gbp(1) }), 400, "invalid-request").await;
    for key in [None, Some(""), Some("\"\""), Some("a\"b")] {
        let mut request = request(&sandbox, Method::POST, "/payments").json(&authorise(id));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let (status, _, problem) = answered(request).await;
        assert_eq!((status, &problem["type"]), (400, &json!("/problems/invalid-request")), "{key:?}");
    }
    let (status, _, problem) = answered(request(&sandbox, Method::GET, "/elsewhere")).await;
    assert_eq!((status, &problem["type"]), (404, &json!("/problems/no-route")));
    let (status, _, problem) = answered(request(&sandbox, Method::DELETE, &format!("/payments/{id}"))).await;
    assert_eq!((status, &problem["type"]), (405, &json!("/problems/no-method")));
    // The key of all this is still fresh.
    assert_eq!(post(&sandbox, "/payments", "key", authorise(id)).await.0, 201);
}

#[tokio::test]
async fn nobody_gets_in_without_the_secret() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    let paths = [
        (Method::POST, "/payments".to_owned()),
        (Method::GET, format!("/payments/{id}")),
        (Method::POST, format!("/payments/{id}/capture")),
        (Method::POST, format!("/payments/{id}/void")),
        (Method::POST, format!("/payments/{id}/refunds")),
        (Method::GET, "/movements".to_owned()),
        (Method::GET, "/elsewhere".to_owned()),
    ];
    for (method, path) in paths {
        for given in [None, Some("Bearer"), Some("Bearer "), Some("Bearer sk_wrong"), Some("Basic c2s6"), Some(SECRET)]
        {
            let mut request = Client::new().request(method.clone(), format!("{}{path}", sandbox.url));
            request = request.header("Idempotency-Key", "key").json(&authorise(id));
            if let Some(given) = given {
                request = request.header("Authorization", given);
            }
            let (status, _, problem) = answered(request).await;
            assert_eq!((status, &problem["type"]), (401, &json!("/problems/unauthorised")), "{path} {given:?}");
        }
    }
    assert_eq!(sandbox.ledger.payments(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn the_movements_can_be_listed_page_by_page() {
    let sandbox = Sandbox::start().await;
    let (one, other) = (payment(), payment());
    post(&sandbox, "/payments", "1", authorise(one)).await;
    post(&sandbox, "/payments", "2", authorise(other)).await;
    post(&sandbox, &format!("/payments/{one}/capture"), "3", json!({ "amount": gbp(600) })).await;
    post(&sandbox, &format!("/payments/{one}/refunds"), "4", json!({ "number": 1, "amount": gbp(5) })).await;
    let mut seen = Vec::new();
    let mut after = json!(0);
    while !after.is_null() {
        let path = format!("/movements?after={after}&limit=2");
        let (status, _, page) = answered(request(&sandbox, Method::GET, &path)).await;
        assert_eq!(status, 200, "{page}");
        let movements = page["movements"].as_array().unwrap();
        assert!(movements.len() <= 2);
        seen.extend(movements.iter().map(|movement| {
            assert!(movement["at"].is_string());
            (movement["payment"].clone(), format!("{} {}", movement["kind"].as_str().unwrap(), movement["amount"]))
        }));
        after = page["next_after"].clone();
    }
    let line = |payment: PaymentId, kind: &str, minor: i64| (json!(payment), format!("{kind} {}", gbp(minor)));
    let expected = [
        line(one, "hold", 1000),
        line(other, "hold", 1000),
        line(one, "capture", 600),
        line(one, "release", 400),
        line(one, "refund", 5),
    ];
    assert_eq!(seen, expected);
    let (status, _, _) = answered(request(&sandbox, Method::GET, "/movements?before=1")).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_ledger_adds_up_by_currency_and_by_payment() {
    let sandbox = Sandbox::start().await;
    let (one, other, third) = (payment(), payment(), payment());
    let yen = |minor: i64| json!({ "minor": minor, "currency": "JPY" });
    post(&sandbox, "/payments", "1", authorise(one)).await;
    post(&sandbox, &format!("/payments/{one}/capture"), "2", json!({ "amount": gbp(600) })).await;
    post(&sandbox, &format!("/payments/{one}/refunds"), "3", json!({ "number": 1, "amount": gbp(50) })).await;
    post(&sandbox, "/payments", "4", authorise(other)).await;
    post(&sandbox, "/payments", "5", json!({ "id": third, "amount": yen(7000), "card": "tok_approved" })).await;
    let totals =
        |currency: &str, held, captured, refunded| Totals { currency: currency.to_owned(), held, captured, refunded };
    assert_eq!(sandbox.ledger.totals().await.unwrap(), [totals("GBP", 1000, 600, 50), totals("JPY", 7000, 0, 0)]);

    let first = sandbox.ledger.payments(None, 2).await.unwrap();
    let last = first.last().map(|row| PaymentId(row.id));
    let rest = sandbox.ledger.payments(last, 2).await.unwrap();
    let rows: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|row| (row.id, row.status.as_str(), row.held, row.captured, row.refunded))
        .collect();
    let expected =
        [(one.0, "captured", 0, 600, 50), (other.0, "authorised", 1000, 0, 0), (third.0, "authorised", 7000, 0, 0)];
    assert_eq!((first.len(), rows), (2, expected.to_vec()));
}

#[tokio::test]
async fn the_ledger_itself_refuses_to_forget_and_to_charge_twice() {
    let sandbox = Sandbox::start().await;
    let id = payment();
    post(&sandbox, "/payments", "1", authorise(id)).await;
    for sql in [
        "update sandbox.movements set minor = 1",
        "delete from sandbox.movements",
        "truncate sandbox.movements",
        "insert into sandbox.movements (payment, kind, minor, currency)
             select payment, kind, minor, currency from sandbox.movements",
        "insert into sandbox.movements (payment, kind, minor, currency)
             select payment, 'capture', 0, currency from sandbox.movements",
    ] {
        assert!(sqlx::query(sql).execute(&sandbox.pool).await.is_err(), "{sql}");
    }
    assert_eq!(sandbox.moved(id).await, ["hold 1000"]);
}
