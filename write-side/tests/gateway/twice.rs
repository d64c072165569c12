//! Nothing takes effect twice, whatever is sent again, at once or by somebody else.

use domain::ids::PaymentId;
use futures::future::join_all;
use write_side::gateway::http::HttpGateway;
use write_side::gateway::{Authorisation, Capture, FoundStatus, GatewayError, PaymentGateway as _, Refund, Voided};

use super::support::{Sandbox, attempt, card, gbp, payment, refused_capture};

/// A payment on this card that is authorised.
async fn authorised(gateway: &HttpGateway, token: &str) -> PaymentId {
    let payment = payment();
    let answer = gateway.authorise(payment, gbp(1000), &card(token), attempt()).await.unwrap();
    assert!(matches!(answer, Authorisation::Authorised { .. }), "{answer:?}");
    payment
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_not_asked_for_again() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_lost_answer").await;
    assert_eq!(sandbox.heard.take(), ["POST /payments", "GET /payments/ID"]);
    assert!(matches!(gateway.capture(payment, gbp(1000), attempt()).await.unwrap(), Capture::Done { .. }));
    assert_eq!(sandbox.heard.take(), ["POST /payments/ID/capture", "GET /payments/ID"]);
    assert_eq!(gateway.refund(payment, 1, gbp(10), attempt()).await.unwrap(), Refund::Done);
    assert_eq!(sandbox.heard.take(), ["POST /payments/ID/refunds", "GET /payments/ID"]);
    let other = authorised(&gateway, "tok_lost_answer").await;
    sandbox.heard.take();
    assert_eq!(gateway.void(other, attempt()).await.unwrap(), Voided);
    assert_eq!(sandbox.heard.take(), ["POST /payments/ID/void", "GET /payments/ID"]);
}

#[tokio::test]
async fn a_request_that_failed_without_effect_is_sent_again_after_a_look() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_error_then_fine").await;
    assert_eq!(sandbox.heard.take(), ["POST /payments", "GET /payments/ID", "POST /payments"]);
    gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
    assert_eq!(sandbox.heard.take(), ["POST /payments/ID/capture", "GET /payments/ID", "POST /payments/ID/capture"]);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn the_same_request_many_times_at_once_has_one_effect_and_one_answer() {
    let sandbox = Sandbox::start().await;
    // Two clients that know nothing of each other, as two processes have.
    let clients = [sandbox.gateway(), sandbox.gateway()];
    let twelve = || clients.iter().cycle().take(12);
    for token in ["tok_approved", "tok_lost_answer", "tok_error_then_fine"] {
        let (payment, card) = (payment(), card(token));
        let ask = attempt();
        let answers = join_all(twelve().map(|client| client.authorise(payment, gbp(1000), &card, ask))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert!(matches!(answers[0], Authorisation::Authorised { .. }), "{token}: {:?}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{token}: {answers:?}");

        let ask = attempt();
        let answers = join_all(twelve().map(|client| client.capture(payment, gbp(900), ask))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert!(matches!(answers[0], Capture::Done { .. }), "{token}: {:?}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{token}: {answers:?}");

        let ask = attempt();
        let answers = join_all(twelve().map(|client| client.refund(payment, 1, gbp(300), ask))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap() == Refund::Done), "{token}");
        let moved = ["hold 1000", "capture 900", "release 100", "refund 300"];
        assert_eq!(sandbox.moved(payment).await, moved, "{token}");
    }
}

#[tokio::test]
async fn different_attempts_to_capture_at_once_take_the_money_once() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_approved").await;
    // Each is a request of its own to the gateway, and each learns that the money was taken.
    let answers = join_all((0..8).map(|_| gateway.capture(payment, gbp(1000), attempt()))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Capture::Done { .. }))), "{answers:?}");
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn refunds_at_once_give_back_no_more_than_was_taken() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_approved").await;
    gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
    let answers = join_all((1..=8).map(|number| gateway.refund(payment, number, gbp(300), attempt()))).await;
    let done = answers.into_iter().map(Result::unwrap).filter(|answer| *answer == Refund::Done).count();
    assert_eq!(done, 3);
    let moved = ["hold 1000", "capture 1000", "refund 300", "refund 300", "refund 300"];
    assert_eq!(sandbox.moved(payment).await, moved);
}

#[tokio::test]
async fn after_a_refused_capture_only_another_attempt_is_another_question() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_capture_refused").await;
    let (first, second) = (attempt(), attempt());
    let refused = refused_capture("the bank does not release the money today");
    assert_eq!(gateway.capture(payment, gbp(1000), first).await.unwrap(), refused);
    assert_eq!(gateway.capture(payment, gbp(1000), first).await.unwrap(), refused);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000"]);
    assert!(matches!(gateway.capture(payment, gbp(1000), second).await.unwrap(), Capture::Done { .. }));
    assert_eq!(gateway.capture(payment, gbp(1000), first).await.unwrap(), refused);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn another_amount_by_the_same_name_is_no_answer_and_has_no_effect() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_approved").await;
    let capture = attempt();
    gateway.capture(payment, gbp(900), capture).await.unwrap();
    gateway.refund(payment, 1, gbp(10), attempt()).await.unwrap();
    let before = sandbox.moved(payment).await;
    let errors = [
        gateway.authorise(payment, gbp(1001), &card("tok_approved"), attempt()).await.unwrap_err(),
        gateway.authorise(payment, gbp(1000), &card("tok_slow"), attempt()).await.unwrap_err(),
        gateway.capture(payment, gbp(901), capture).await.unwrap_err(),
        gateway.refund(payment, 1, gbp(11), attempt()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, GatewayError::Protocol { what } if what.contains("key-reused")), "{error:?}");
        assert!(!error.is_transient());
    }
    // With a key of its own it is still another amount than was taken.
    let error = gateway.capture(payment, gbp(901), attempt()).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Protocol { what } if what.contains("another amount")), "{error:?}");
    assert_eq!(sandbox.moved(payment).await, before);
}

#[tokio::test]
async fn a_void_that_comes_first_shuts_the_door() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    for token in ["tok_approved", "tok_declined", "tok_lost_answer"] {
        let payment = payment();
        assert_eq!(gateway.void(payment, attempt()).await.unwrap(), Voided);
        let found = gateway.find(payment).await.unwrap().unwrap();
        assert_eq!((found.status, found.amount), (FoundStatus::Voided, None));
        let answer = gateway.authorise(payment, gbp(1000), &card(token), attempt()).await.unwrap();
        assert_eq!(answer, Authorisation::Voided, "{token}");
        assert_eq!(gateway.void(payment, attempt()).await.unwrap(), Voided);
        assert_eq!(sandbox.moved(payment).await, [] as [&str; 0], "{token}");
    }
}

#[tokio::test]
async fn a_void_and_an_authorisation_at_once_leave_nothing_held() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let (slow, lost) = (card("tok_approved"), card("tok_lost_answer"));
    for token in [&slow, &lost].into_iter().cycle().take(20) {
        let payment = payment();
        let (authorised, voided) =
            tokio::join!(gateway.authorise(payment, gbp(1000), token, attempt()), gateway.void(payment, attempt()));
        assert_eq!(voided.unwrap(), Voided);
        let moved = sandbox.moved(payment).await;
        match authorised.unwrap() {
            Authorisation::Authorised { .. } => assert_eq!(moved, ["hold 1000", "release 1000"]),
            // The void came first, or before the answer was looked up.
            Authorisation::Voided => assert!(moved.is_empty() || moved == ["hold 1000", "release 1000"], "{moved:?}"),
            Authorisation::Declined { reason } => panic!("declined: {reason}"),
        }
    }
    assert_eq!(sandbox.ledger.totals().await.unwrap().iter().map(|totals| totals.held).sum::<i64>(), 0);
}

#[tokio::test]
async fn what_was_taken_is_not_voided() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = authorised(&gateway, "tok_approved").await;
    gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
    let error = gateway.void(payment, attempt()).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Protocol { what } if what.contains("already-captured")), "{error:?}");
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 1000"]);
}

#[tokio::test]
async fn a_card_fails_the_first_time_only_even_if_the_gateway_is_started_anew() {
    let before = Sandbox::start().await;
    let gateway = before.gateway();
    let payment = authorised(&gateway, "tok_error_then_fine").await;
    let raw = |url: &str| {
        let request = reqwest::Client::new().post(format!("{url}/payments/{payment}/capture"));
        let request = request.bearer_auth(super::support::SECRET).header("Idempotency-Key", "\"a-key\"");
        request.json(&serde_json::json!({ "amount": gbp(1000) })).send()
    };
    assert_eq!(raw(&before.url).await.unwrap().status(), 500);
    let after = Sandbox::start_on(before.pool.clone()).await;
    drop(before);
    assert_eq!(raw(&after.url).await.unwrap().status(), 200);
    assert_eq!(after.moved(payment).await, ["hold 1000", "capture 1000"]);
}
