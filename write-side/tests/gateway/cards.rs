//! Every card, and every operation on it.

use domain::ids::PaymentId;
use write_side::gateway::{
    Authorisation, Capture, Fault, FoundStatus, GatewayError, PaymentGateway as _, Refund, Voided,
};
use write_side::sandbox::{Card, Totals};

use super::support::{Sandbox, attempt, card, config, gbp, line, payment, refused_capture, refused_refund};

/// What is to come of a card, operation by operation.
struct Expected {
    token: &'static str,
    authorise: Result<(), &'static str>,
    /// Of the first attempt and of a second one, should the first be refused.
    capture: Result<(), &'static str>,
    capture_again: Result<(), &'static str>,
    refund: Result<(), &'static str>,
}

fn expected(card: Card) -> Expected {
    let token = card.token().unwrap_or("tok_nobody_knows");
    let fine = Expected { token, authorise: Ok(()), capture: Ok(()), capture_again: Ok(()), refund: Ok(()) };
    let nothing_held = Err("the payment was declined, so nothing is held");
    let nothing_taken = Err("nothing was taken, so nothing can be given back");
    let declined = |reason| Expected {
        authorise: Err(reason),
        capture: nothing_held,
        capture_again: nothing_held,
        refund: nothing_taken,
        ..expected(Card::Approved)
    };
    match card {
        Card::Approved | Card::Slow | Card::LostAnswer | Card::ErrorThenFine | Card::CaptureLostAnswer => fine,
        Card::Declined => Expected { token, ..declined("insufficient funds") },
        Card::Unknown => Expected { token, ..declined("unknown card") },
        Card::CaptureRefused => Expected { capture: Err("the bank does not release the money today"), ..fine },
        Card::RefundRefused => Expected { refund: Err("the card was closed"), ..fine },
        Card::Unavailable => panic!("it has a test of its own"),
    }
}

fn every_card() -> impl Iterator<Item = Card> {
    Card::ALL.into_iter().chain([Card::Unknown]).filter(|card| *card != Card::Unavailable)
}

/// A sandbox whose slow answers never come in time, with a client that soon sees that they do not.
async fn impatient(sandbox: &Sandbox) -> write_side::gateway::http::HttpGateway {
    let config =
        write_side::gateway::http::Config { timeout: std::time::Duration::from_millis(500), ..config(&sandbox.url) };
    write_side::gateway::http::HttpGateway::new(config).unwrap()
}

#[tokio::test]
async fn every_card_is_charged_once_and_paid_back_once() {
    let sandbox = Sandbox::start().await;
    let gateway = impatient(&sandbox).await;
    for kind in every_card() {
        let Expected { token, authorise, capture, capture_again, refund } = expected(kind);
        let payment = payment();

        let authorised = match authorise {
            Ok(()) => None,
            Err(reason) => Some(Authorisation::Declined { reason: line(reason) }),
        };
        // Asked twice, it says the same twice.
        for _ in 0..2 {
            let answer = gateway.authorise(payment, gbp(1000), &card(token), attempt()).await.unwrap();
            match &authorised {
                Some(declined) => assert_eq!(answer, *declined, "{token}"),
                None => assert!(matches!(answer, Authorisation::Authorised { .. }), "{token}: {answer:?}"),
            }
        }
        for expected in [capture, capture_again] {
            let attempt = attempt();
            for _ in 0..2 {
                let answer = gateway.capture(payment, gbp(900), attempt).await.unwrap();
                match expected {
                    Ok(()) => assert!(matches!(answer, Capture::Done { .. }), "{token}: {answer:?}"),
                    Err(reason) => assert_eq!(answer, refused_capture(reason), "{token}"),
                }
            }
        }
        for number in [1, 2] {
            let attempt = attempt();
            for _ in 0..2 {
                let answer = gateway.refund(payment, number, gbp(200), attempt).await.unwrap();
                match refund {
                    Ok(()) => assert_eq!(answer, Refund::Done, "{token}"),
                    Err(reason) => assert_eq!(answer, refused_refund(reason), "{token}"),
                }
            }
        }

        let mut moved = Vec::new();
        if authorise.is_ok() {
            moved.extend(["hold 1000", "capture 900", "release 100"]);
        }
        if refund.is_ok() {
            moved.extend(["refund 200", "refund 200"]);
        }
        assert_eq!(sandbox.moved(payment).await, moved, "{token}");
    }
    let totals = sandbox.ledger.totals().await.unwrap();
    let gbp = |held, captured, refunded| Totals { currency: "GBP".to_owned(), held, captured, refunded };
    // Seven cards are captured, and all but one of them paid back in part.
    assert_eq!(totals, [gbp(0, 7 * 900, 6 * 400)]);
}

#[tokio::test]
async fn every_card_is_let_go_once() {
    let sandbox = Sandbox::start().await;
    let gateway = impatient(&sandbox).await;
    for kind in every_card() {
        let Expected { token, authorise, .. } = expected(kind);
        let payment = payment();
        gateway.authorise(payment, gbp(1000), &card(token), attempt()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(gateway.void(payment, attempt()).await.unwrap(), Voided, "{token}");
        }
        let moved: &[&str] = if authorise.is_ok() { &["hold 1000", "release 1000"] } else { &[] };
        assert_eq!(sandbox.moved(payment).await, moved, "{token}");
        let status = gateway.find(payment).await.unwrap().unwrap().status;
        assert_eq!(status, if authorise.is_ok() { FoundStatus::Voided } else { FoundStatus::Declined }, "{token}");
        if authorise.is_ok() {
            let taken = gateway.capture(payment, gbp(1000), attempt()).await.unwrap();
            // In the gateway's words, or in ours where its answer was lost and its books said it.
            assert!(matches!(taken, Capture::Refused { .. }), "{token}: {taken:?}");
        }
        let given = gateway.refund(payment, 1, gbp(1), attempt()).await.unwrap();
        assert_eq!(given, refused_refund("nothing was taken, so nothing can be given back"), "{token}");
        assert_eq!(sandbox.moved(payment).await, moved, "{token}");
    }
}

#[tokio::test]
async fn what_is_too_busy_is_left_alone_for_as_long_as_it_says() {
    let sandbox = Sandbox::start().await;
    let mut config = config(&sandbox.url);
    config.deadline = std::time::Duration::from_millis(900);
    let gateway = write_side::gateway::http::HttpGateway::new(config).unwrap();
    let payment = payment();
    let error = gateway.authorise(payment, gbp(1000), &card("tok_unavailable"), attempt()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { fault: Fault::Status { status: 503 }, .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(1)));
    assert!(error.is_transient());
    // A second is longer than this call may last, so it is not sent again.
    assert_eq!(sandbox.heard.take(), ["POST /payments"]);
    assert_eq!(gateway.find(payment).await.unwrap(), None);
    assert_eq!(gateway.void(payment, attempt()).await.unwrap(), Voided);
    assert_eq!(sandbox.moved(payment).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_payment_is_found_as_it_is() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = payment();
    assert_eq!(gateway.find(payment).await.unwrap(), None);
    let authorised = gateway.authorise(payment, gbp(1000), &card("tok_refund_refused"), attempt()).await.unwrap();
    let captured = gateway.capture(payment, gbp(600), attempt()).await.unwrap();
    gateway.refund(payment, 1, gbp(50), attempt()).await.unwrap();
    let found = gateway.find(payment).await.unwrap().unwrap();
    assert_eq!(found.status, FoundStatus::Captured);
    assert_eq!((found.amount, found.captured_minor, found.refunded_minor), (Some(gbp(1000)), 600, 0));
    assert_eq!(authorised, Authorisation::Authorised { reference: found.reference.unwrap() });
    assert_eq!(captured, Capture::Done { reference: found.capture_reference.unwrap() });
    let [refund] = &found.refunds[..] else { panic!("{:?}", found.refunds) };
    assert_eq!((refund.number, refund.amount), (1, gbp(50)));
    assert_eq!(refund.outcome, refused_refund("the card was closed"));
}

#[tokio::test]
async fn no_more_is_given_back_than_was_taken() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = payment();
    gateway.authorise(payment, gbp(1000), &card("tok_approved"), attempt()).await.unwrap();
    gateway.capture(payment, gbp(600), attempt()).await.unwrap();
    let all_and_more = gateway.refund(payment, 1, gbp(601), attempt()).await.unwrap();
    assert_eq!(all_and_more, refused_refund("6.01 GBP is more than the 6.00 GBP that are left of what was taken"));
    assert_eq!(gateway.refund(payment, 2, gbp(400), attempt()).await.unwrap(), Refund::Done);
    let rest_and_more = gateway.refund(payment, 3, gbp(201), attempt()).await.unwrap();
    assert_eq!(rest_and_more, refused_refund("2.01 GBP is more than the 2.00 GBP that are left of what was taken"));
    assert_eq!(gateway.refund(payment, 4, gbp(200), attempt()).await.unwrap(), Refund::Done);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 600", "release 400", "refund 400", "refund 200"]);
}

#[tokio::test]
async fn no_more_is_taken_than_is_held_and_in_no_other_currency() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let payment = payment();
    gateway.authorise(payment, gbp(1000), &card("tok_approved"), attempt()).await.unwrap();
    let more = gateway.capture(payment, gbp(1001), attempt()).await.unwrap();
    assert_eq!(more, refused_capture("10.01 GBP is more than the 10.00 GBP that are held"));
    let euros = domain::money::Money { currency: "EUR".parse().unwrap(), ..gbp(1000) };
    let other = gateway.capture(payment, euros, attempt()).await.unwrap();
    assert_eq!(other, refused_capture("the payment is in GBP"));
    assert_eq!(sandbox.moved(payment).await, ["hold 1000"]);
}

#[tokio::test]
async fn the_shop_asking_for_what_the_gateway_never_heard_of_is_no_answer() {
    let sandbox = Sandbox::start().await;
    let gateway = sandbox.gateway();
    let unknown = async |payment: PaymentId| gateway.capture(payment, gbp(1), attempt()).await.unwrap_err();
    let error = unknown(payment()).await;
    assert!(matches!(&error, GatewayError::Protocol { what } if what.contains("unknown-payment")), "{error:?}");
    assert!(!error.is_transient());
}
