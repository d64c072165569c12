//! What the gateway may have forgotten is looked up, and not sent again.

use chrono::{TimeDelta, Utc};
use uuid::Uuid;
use write_side::gateway::http::HttpGateway;
use write_side::gateway::{Attempt, Authorisation, Capture, GatewayError, PaymentGateway as _, Refund, Voided};

use super::support::{Act, PAYMENT, Sandbox, Scripted, attempt, authorised, card, config, gbp, payment};

/// A decision that is older than the gateway's memory.
fn long_ago() -> Attempt {
    Attempt { id: Uuid::now_v7(), asked_at: Utc::now() - TimeDelta::hours(25) }
}

fn is_expired<T: std::fmt::Debug>(answer: Result<T, GatewayError>, attempt: Attempt) {
    match answer {
        Err(error @ GatewayError::Expired { asked_at }) => {
            assert_eq!(asked_at, attempt.asked_at);
            assert!(!error.is_transient());
        }
        other => panic!("not expired: {other:?}"),
    }
}

#[tokio::test]
async fn what_does_not_stand_in_the_books_needs_a_human() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let (payment, old) = (payment(), long_ago());
    is_expired(gateway.authorise(payment, gbp(1000), &card("tok_approved"), old).await, old);
    assert_eq!(sandbox.heard.take(), ["GET /payments/ID"]);
    gateway.authorise(payment, gbp(1000), &card("tok_approved"), attempt()).await.unwrap();
    sandbox.heard.take();

    is_expired(gateway.capture(payment, gbp(1000), old).await, old);
    assert_eq!(sandbox.heard.take(), ["GET /payments/ID"]);
    gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
    sandbox.heard.take();

    is_expired(gateway.refund(payment, 1, gbp(10), old).await, old);
    assert_eq!(sandbox.heard.take(), ["GET /payments/ID"]);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn what_stands_in_the_books_is_the_answer() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let (payment, card) = (payment(), card("tok_approved"));
    let authorised = gateway.authorise(payment, gbp(1000), &card, attempt()).await.unwrap();
    let captured = gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
    gateway.refund(payment, 1, gbp(10), attempt()).await.unwrap();
    let too_much = gateway.refund(payment, 2, gbp(1000), attempt()).await.unwrap();
    sandbox.heard.take();
    assert_eq!(gateway.authorise(payment, gbp(1000), &card, long_ago()).await.unwrap(), authorised);
    assert_eq!(gateway.capture(payment, gbp(1000), long_ago()).await.unwrap(), captured);
    assert_eq!(gateway.refund(payment, 1, gbp(10), long_ago()).await.unwrap(), Refund::Done);
    assert_eq!(gateway.refund(payment, 2, gbp(1000), long_ago()).await.unwrap(), too_much);
    assert_eq!(sandbox.heard.take(), ["GET /payments/ID"; 4]);
}

#[tokio::test]
async fn what_is_final_is_the_answer_too() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let (declined, voided) = (payment(), payment());
    let broke = card("tok_declined");
    let answer = gateway.authorise(declined, gbp(1000), &broke, attempt()).await.unwrap();
    gateway.void(voided, attempt()).await.unwrap();
    sandbox.heard.take();
    assert_eq!(gateway.authorise(declined, gbp(1000), &broke, long_ago()).await.unwrap(), answer);
    assert_eq!(gateway.authorise(voided, gbp(1000), &broke, long_ago()).await.unwrap(), Authorisation::Voided);
    for payment in [declined, voided] {
        let taken = gateway.capture(payment, gbp(1000), long_ago()).await.unwrap();
        assert!(matches!(taken, Capture::Refused { .. }), "{taken:?}");
    }
    assert_eq!(sandbox.heard.take(), ["GET /payments/ID"; 4]);
}

#[tokio::test]
async fn letting_go_is_never_too_late() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = payment();
    gateway.authorise(payment, gbp(1000), &card("tok_approved"), attempt()).await.unwrap();
    assert_eq!(gateway.void(payment, long_ago()).await.unwrap(), Voided);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "release 1000"]);
}

#[tokio::test]
async fn a_call_that_could_end_past_the_keys_life_is_not_begun() {
    let sandbox = Sandbox::start().await;
    let config = config(&sandbox.url);
    let margin = TimeDelta::from_std(config.key_life - config.deadline).unwrap();
    let gateway = HttpGateway::new(config).unwrap();
    let (payment, card) = (payment(), card("tok_approved"));
    let just_too_old = Attempt { id: Uuid::now_v7(), asked_at: Utc::now() - margin };
    is_expired(gateway.authorise(payment, gbp(1000), &card, just_too_old).await, just_too_old);
    let young_enough = Attempt { id: Uuid::now_v7(), asked_at: Utc::now() - margin + TimeDelta::minutes(1) };
    let answer = gateway.authorise(payment, gbp(1000), &card, young_enough).await.unwrap();
    assert!(matches!(answer, Authorisation::Authorised { .. }), "{answer:?}");
}

#[tokio::test]
async fn books_that_cannot_be_read_are_asked_for_again() {
    let unavailable = || Act::SayWith(503, "Retry-After", "0", serde_json::json!({}));
    let scripted = Scripted::start([Act::Cut, unavailable(), Act::Say(500, serde_json::json!({}))], || {
        Act::Say(200, authorised())
    })
    .await;
    let gateway = scripted.gateway(|_| {});
    let answer = gateway.authorise(PAYMENT, gbp(1000), &card("tok_x"), long_ago()).await.unwrap();
    assert!(matches!(answer, Authorisation::Authorised { .. }), "{answer:?}");
    assert_eq!(scripted.heard.take(), ["GET /payments/ID"; 4]);

    scripted.say_henceforth(|| Act::Cut);
    let error = gateway.authorise(PAYMENT, gbp(1000), &card("tok_x"), long_ago()).await.unwrap_err();
    assert!(error.is_transient() && !matches!(error, GatewayError::Expired { .. }), "{error:?}");
    assert!(scripted.heard.take().iter().all(|request| request.starts_with("GET")));
}
