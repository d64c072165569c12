//! Gateways that fail in every way there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use write_side::gateway::http::{Config, HttpGateway, InvalidConfig};
use write_side::gateway::{Authorisation, BreakerConfig, Fault, GatewayError, PaymentGateway as _, Refund, Voided};

use super::support::{
    Act, PAYMENT, Sandbox, Scripted, attempt, authorised, card, config, gbp, holding, line, payment, problem,
};

async fn authorise(gateway: &HttpGateway) -> Result<Authorisation, GatewayError> {
    gateway.authorise(PAYMENT, gbp(1000), &card("tok_x"), attempt()).await
}

fn reference() -> Authorisation {
    Authorisation::Authorised { reference: line("ref-1") }
}

fn fail() -> Act {
    Act::Say(500, json!({}))
}

fn unknown() -> Act {
    problem(404, "unknown-payment")
}

#[tokio::test]
async fn a_wrong_secret_is_said_once_and_not_tried_again() {
    let sandbox = Sandbox::start().await;
    let config = Config { secret: SecretString::from("sk_wrong"), ..config(&sandbox.url) };
    let gateway = HttpGateway::new(config).unwrap();
    let error = gateway.authorise(payment(), gbp(1000), &card("tok_approved"), attempt()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unauthorised { status: 401 }), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(sandbox.heard.take(), ["POST /payments"]);
    assert!(matches!(gateway.find(payment()).await, Err(GatewayError::Unauthorised { .. })));
}

#[tokio::test]
async fn where_nobody_listens_nothing_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = Config { attempts: 3, ..config(&url) };
    let error = authorise(&HttpGateway::new(config).unwrap()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { fault: Fault::Unreachable(_), .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn the_secret_is_not_sent_where_tls_is_not_spoken() {
    let scripted = Scripted::start([], || Act::Say(201, authorised())).await;
    let config = Config { attempts: 1, ..config(&scripted.url.replace("http://", "https://")) };
    let error = authorise(&HttpGateway::new(config).unwrap()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { fault: Fault::Unreachable(_), .. }), "{error:?}");
    assert_eq!(scripted.heard.take(), [] as [&str; 0]);
}

#[tokio::test]
async fn every_way_to_lose_an_answer_is_looked_into() {
    let ways: [fn() -> Act; 7] = [
        || Act::Cut,
        fail,
        || Act::Say(502, json!({})),
        // Without a word on when to come back it may be a proxy's, which has sent the request on.
        || Act::Say(503, json!({})),
        || Act::Say(504, json!({})),
        || Act::Say(408, json!({})),
        || problem(409, "in-flight"),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        // Done, but the answer was lost.
        let scripted = Scripted::start([way(), Act::Say(200, authorised())], fail).await;
        assert_eq!(authorise(&scripted.gateway(|_| {})).await.unwrap(), reference(), "way {number}");
        assert_eq!(scripted.heard.take(), ["POST /payments", "GET /payments/ID"], "way {number}");
        // Not done, so it is sent again.
        let scripted = Scripted::start([way(), unknown(), Act::Say(201, authorised())], fail).await;
        assert_eq!(authorise(&scripted.gateway(|_| {})).await.unwrap(), reference(), "way {number}");
        let heard = scripted.heard.take();
        assert_eq!(heard, ["POST /payments", "GET /payments/ID", "POST /payments"], "way {number}");
        // Never to be learnt.
        let scripted = Scripted::start([], way).await;
        let error = authorise(&scripted.gateway(|config| config.attempts = 2)).await.unwrap_err();
        assert!(matches!(error, GatewayError::Unknown(_)) && error.is_transient(), "way {number}: {error:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_never_answers_holds_nobody_up() {
    let scripted = Scripted::start([], || Act::Hang).await;
    let gateway = scripted.gateway(|config| {
        config.timeout = Duration::from_millis(250);
        config.deadline = Duration::from_millis(800);
        config.attempts = 1_000;
    });
    let error = authorise(&gateway).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unknown(Fault::TimedOut)), "{error:?}");
    // What is sent once and not answered is only looked up from then on.
    let heard = scripted.heard.take();
    let (asked, looked_up): (Vec<_>, Vec<_>) = heard.iter().partition(|request| *request == "POST /payments");
    assert!(asked.len() <= 1 && looked_up.len() <= 5, "{heard:?}");
}

#[tokio::test]
async fn who_says_when_to_come_back_is_not_looked_into() {
    for status in [503, 429] {
        let busy = Act::SayWith(status, "Retry-After", "0", json!({}));
        let scripted = Scripted::start([busy, Act::Say(201, authorised())], fail).await;
        assert_eq!(authorise(&scripted.gateway(|_| {})).await.unwrap(), reference());
        assert_eq!(scripted.heard.take(), ["POST /payments"; 2]);
    }
}

#[tokio::test]
async fn what_is_lost_stays_unknown_even_if_the_gateway_is_gone_then() {
    // The first request is lost; by the next, the gateway turns everybody away.
    let scripted = Scripted::start([Act::Cut, unknown()], || Act::SayWith(503, "Retry-After", "60", json!({}))).await;
    let error = authorise(&scripted.gateway(|_| {})).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unknown(Fault::Status { status: 503 })), "{error:?}");
    // The same, with a breaker that opens in between.
    let scripted = Scripted::start([Act::Cut], fail).await;
    let gateway = scripted.gateway(|config| config.breaker.failures = 2);
    let error = authorise(&gateway).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unknown(_)), "{error:?}");
    assert!(matches!(authorise(&gateway).await, Err(GatewayError::BreakerOpen { .. })));
}

#[tokio::test]
async fn what_the_protocol_does_not_have_is_no_answer_and_not_tried_again() {
    let amount = json!({ "minor": 1000, "currency": "GBP" });
    let mut other_amount = authorised();
    other_amount["amount"]["minor"] = json!(999);
    let mut other_payment = authorised();
    other_payment["id"] = json!(payment());
    let mut other_currency = authorised();
    other_currency["captured"] = json!({ "minor": 1000, "currency": "EUR" });
    let answers = [
        Act::Say(404, json!("not here")),
        unknown(),
        problem(404, "no-route"),
        problem(409, "something-new"),
        problem(422, "key-reused"),
        Act::Say(400, json!({})),
        Act::SayWith(302, "Location", "/elsewhere", json!({})),
        Act::Say(200, json!("<html>")),
        Act::Say(200, json!({ "id": PAYMENT, "status": "authorised", "amount": amount })),
        Act::Say(200, json!({ "id": PAYMENT, "status": "imagined", "amount": amount })),
        Act::Say(200, other_amount),
        Act::Say(200, other_payment),
        Act::Say(200, other_currency),
        Act::Say(200, json!("x".repeat(300 * 1024))),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let scripted = Scripted::start([answer], fail).await;
        let error = authorise(&scripted.gateway(|_| {})).await.unwrap_err();
        assert!(matches!(error, GatewayError::Protocol { .. }), "answer {number}: {error:?}");
        assert!(!error.is_transient());
        assert_eq!(scripted.heard.take(), ["POST /payments"], "answer {number}");
    }
}

#[tokio::test]
async fn a_yes_that_the_payment_does_not_show_is_no_answer() {
    let scripted = Scripted::start([], || Act::Say(200, authorised())).await;
    let gateway = scripted.gateway(|_| {});
    assert!(matches!(gateway.capture(PAYMENT, gbp(1000), attempt()).await, Err(GatewayError::Protocol { .. })));
    assert!(matches!(gateway.refund(PAYMENT, 1, gbp(1), attempt()).await, Err(GatewayError::Protocol { .. })));
    assert!(matches!(gateway.void(PAYMENT, attempt()).await, Err(GatewayError::Protocol { .. })));
}

#[tokio::test]
async fn what_was_done_under_another_key_is_looked_up() {
    let scripted = Scripted::start([problem(409, "payment-exists"), Act::Say(200, authorised())], fail).await;
    assert_eq!(authorise(&scripted.gateway(|_| {})).await.unwrap(), reference());
    let mut refunded = authorised();
    refunded["status"] = json!("captured");
    refunded["refunds"] = json!([{ "number": 2, "amount": { "minor": 5, "currency": "GBP" }, "status": "done" }]);
    let scripted = Scripted::start([problem(409, "refund-exists"), Act::Say(200, refunded)], fail).await;
    let gateway = scripted.gateway(|_| {});
    assert_eq!(gateway.refund(PAYMENT, 2, gbp(5), attempt()).await.unwrap(), Refund::Done);
    // Who says that it was done and knows nothing of it contradicts itself.
    let scripted = Scripted::start([problem(409, "payment-exists"), unknown()], fail).await;
    assert!(matches!(authorise(&scripted.gateway(|_| {})).await, Err(GatewayError::Protocol { .. })));
}

#[tokio::test]
async fn the_breaker_opens_and_lets_one_call_through_to_see() {
    let scripted = Scripted::start([], fail).await;
    let breaker = |failures, pause| {
        move |config: &mut Config| {
            config.attempts = 1;
            config.breaker = BreakerConfig { failures, pause };
        }
    };
    let gateway = scripted.gateway(breaker(3, Duration::from_secs(3_600)));
    for _ in 0..3 {
        assert!(matches!(authorise(&gateway).await, Err(GatewayError::Unknown(_))));
    }
    assert_eq!(scripted.heard.take().len(), 3);
    for _ in 0..3 {
        let error = authorise(&gateway).await.unwrap_err();
        assert!(matches!(error, GatewayError::BreakerOpen { .. }) && error.is_transient(), "{error:?}");
        assert!(error.retry_after().unwrap() > Duration::from_secs(3_000));
    }
    assert!(matches!(gateway.find(PAYMENT).await, Err(GatewayError::BreakerOpen { .. })));
    assert_eq!(scripted.heard.take(), [] as [&str; 0], "an open breaker lets nothing through");

    // With no pause at all it is half open at once: one call after the other goes and sees, and fails.
    let gateway = scripted.gateway(breaker(3, Duration::ZERO));
    for _ in 0..5 {
        assert!(matches!(authorise(&gateway).await, Err(GatewayError::Unknown(_))));
    }
    assert_eq!(scripted.heard.take().len(), 5);
    // One that finds the gateway well closes it for all.
    scripted.say_henceforth(|| Act::Say(201, authorised()));
    assert_eq!(authorise(&gateway).await.unwrap(), reference());
    let answers = join_all((0..4).map(|_| authorise(&gateway))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == &reference()), "{answers:?}");
}

#[tokio::test]
async fn while_one_call_sees_whether_the_gateway_is_back_no_other_goes() {
    let (server, gate) = holding(Some(500)).await;
    let change = |config: &mut Config| {
        config.attempts = 1;
        config.breaker = BreakerConfig { failures: 1, pause: Duration::ZERO };
    };
    let gateway = Arc::new(server.gateway(change));
    gate.open(1);
    assert!(matches!(authorise(&gateway).await, Err(GatewayError::Unknown(_))));
    let probe = tokio::spawn({
        let gateway = gateway.clone();
        async move { authorise(&gateway).await }
    });
    gate.arrived(1).await;
    assert!(matches!(authorise(&gateway).await, Err(GatewayError::BreakerOpen { .. })));
    // A probe that is given up makes room for the next.
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    // One for it, and one in case the gateway has not noticed yet that the probe is gone.
    gate.open(2);
    assert!(matches!(authorise(&gateway).await, Err(GatewayError::Unknown(_))));
}

#[tokio::test]
async fn refusals_do_not_open_the_breaker() {
    let scripted = Scripted::start([], || problem(402, "declined")).await;
    let gateway = scripted.gateway(|config| config.breaker.failures = 1);
    for _ in 0..3 {
        let declined = Authorisation::Declined { reason: line("so it is") };
        assert_eq!(authorise(&gateway).await.unwrap(), declined);
    }
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_may_be() {
    for in_flight in [2, 5] {
        let (server, gate) = holding(None).await;
        let gateway = Arc::new(server.gateway(|config| config.in_flight = in_flight));
        let done = Arc::new(AtomicUsize::new(0));
        let calls = (0..8).map(|_| {
            let (gateway, done) = (gateway.clone(), done.clone());
            tokio::spawn(async move {
                authorise(&gateway).await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            })
        });
        let calls: Vec<_> = calls.collect();
        // As many as may be are there, and nobody is let go before.
        gate.arrived(in_flight).await;
        assert_eq!(done.load(Ordering::SeqCst), 0);
        gate.open(8);
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(gate.most(), in_flight);
    }
}

#[tokio::test]
async fn who_does_not_get_a_place_in_time_has_done_nothing() {
    let (server, gate) = holding(None).await;
    let change = |config: &mut Config| {
        config.in_flight = 1;
        config.deadline = Duration::from_millis(500);
    };
    let gateway = Arc::new(server.gateway(change));
    let first = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.void(PAYMENT, attempt()).await }
    });
    gate.arrived(1).await;
    let error = authorise(&gateway).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { fault: Fault::Busy, .. }), "{error:?}");
    assert!(first.await.unwrap().is_err(), "it was held up longer than it waits");
    assert_eq!(server.heard.take().iter().filter(|request| *request == "POST /payments").count(), 0);
}

#[tokio::test]
async fn a_declined_payment_need_not_be_voided() {
    let mut declined = authorised();
    declined["status"] = json!("declined");
    let scripted = Scripted::start([Act::Say(200, declined)], fail).await;
    assert_eq!(scripted.gateway(|_| {}).void(PAYMENT, attempt()).await.unwrap(), Voided);
}

#[test]
fn a_configuration_that_makes_no_gateway_is_refused() {
    let secret = || SecretString::from("sk");
    let refused = |config: Config| HttpGateway::new(config).err().expect("it is refused");
    for url in ["", "pay.example.com", "ftp://pay.example.com", "https://me:pass@pay.example.com", "https://a?b=c"] {
        assert!(matches!(refused(Config::new(url, secret())), InvalidConfig::Url), "{url}");
    }
    for secret in ["", "a b", "über", "line\nbreak"] {
        let config = Config::new("https://pay.example.com", SecretString::from(secret));
        assert!(matches!(refused(config), InvalidConfig::Secret), "{secret}");
    }
    let none = Config { in_flight: 0, ..Config::new("https://pay.example.com", secret()) };
    assert!(matches!(refused(none), InvalidConfig::Zero { setting: "in_flight" }));
    assert!(HttpGateway::new(Config::new("https://pay.example.com/v1/", secret())).is_ok());
}
