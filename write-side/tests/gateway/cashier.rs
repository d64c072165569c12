//! The cashier: what the gateway says is on record with the payment, once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use chrono::Utc;
use domain::ids::{CardToken, Line, PaymentId};
use domain::money::Money;
use domain::payments::{self, Payment, PaymentState, Refusal, Request, Status, Void};
use domain::processes::charging::Call;
use event_store::{Direction, MemoryEventStore, Metadata};
use uuid::Uuid;
use write_side::envelope::Envelope;
use write_side::execute::{ExecuteError, Executor};
use write_side::gateway::{
    Asked, Attempt, Authorisation, Capture, CashierError, Fault, Found, GatewayError, PaymentGateway, Refund, Voided,
    carry_out,
};
use write_side::load::{Loaded, Until, stream_of};
use write_side::sandbox::Card;

use super::support::{Sandbox, card, gbp, line, payment};

/// A shop with payments and nothing else.
struct Shop {
    executor: Executor,
}

impl Shop {
    fn new() -> Self {
        Self { executor: Executor::new(Arc::new(MemoryEventStore::new())) }
    }

    /// A payment on this card that waits for the gateway, and what it waits for.
    async fn requested(&self, token: &str) -> (PaymentId, Call, Asked) {
        let payment = payment();
        let asked = self.ask(payment, Request { amount: gbp(1000), card: card(token) }.into()).await;
        (payment, Call::Authorise { amount: gbp(1000), card: card(token) }, asked)
    }

    /// Sends a payment a command that leads to one event. Answers that event, as what asks for a call.
    async fn ask(&self, payment: PaymentId, command: payments::Command) -> Asked {
        let envelope = Envelope::new(Uuid::now_v7(), "test".to_owned(), Utc::now());
        let answer = self.executor.execute::<Payment>(&payment, command, &envelope).await.unwrap();
        let [event] = &answer.events[..] else { panic!("{answer:?}") };
        let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        Asked { event_id: event.id, at: Utc::now(), correlation_id: envelope.correlation_id, traceparent }
    }

    async fn capture(&self, payment: PaymentId) -> (Call, Asked) {
        let asked = self.ask(payment, payments::Capture { amount: gbp(900) }.into()).await;
        (Call::Capture { amount: gbp(900) }, asked)
    }

    async fn void(&self, payment: PaymentId) -> (Call, Asked) {
        (Call::Void, self.ask(payment, Void { reason: line("given up") }.into()).await)
    }

    async fn refund(&self, payment: PaymentId, number: u32) -> (Call, Asked) {
        let asked = self.ask(payment, payments::Refund { amount: gbp(100), reason: line("broken") }.into()).await;
        (Call::Refund { number, amount: gbp(100) }, asked)
    }

    /// The types of the payment's events, in order.
    async fn history(&self, payment: PaymentId) -> Vec<String> {
        let stream = stream_of::<Payment>(&payment).unwrap();
        let page = self.executor.store().read_stream(&stream, None, Direction::Forwards, 100).await.unwrap();
        page.events.iter().map(|event| event.event_type.to_string()).collect()
    }

    async fn state(&self, payment: PaymentId) -> PaymentState {
        let stream = stream_of::<Payment>(&payment).unwrap();
        let loaded = Loaded::<Payment>::fold(self.executor.store(), &stream, Until::Now).await;
        loaded.unwrap().state.unwrap()
    }

    /// Carries a call out twice, as after a crash.
    async fn carry_out(&self, gateway: &dyn PaymentGateway, payment: PaymentId, call: &Call, asked: Asked) {
        for _ in 0..2 {
            carry_out(gateway, &self.executor, payment, call, asked.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_cards_answers_are_on_record_once() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let gateway = sandbox.gateway();
    for kind in Card::ALL.into_iter().chain([Card::Unknown]) {
        // Those two have no answer in time, and tests of their own.
        if matches!(kind, Card::Unavailable | Card::Slow) {
            continue;
        }
        let token = kind.token().unwrap_or("tok_nobody_knows");
        let (payment, call, asked) = shop.requested(token).await;
        shop.carry_out(&gateway, payment, &call, asked).await;
        let mut history = vec!["PaymentRequested"];
        if matches!(kind, Card::Declined | Card::Unknown) {
            history.push("PaymentDeclined");
            assert_eq!(shop.history(payment).await, history, "{token}");
            assert_eq!(sandbox.moved(payment).await, [] as [&str; 0], "{token}");
            continue;
        }
        history.push("PaymentAuthorised");
        if kind == Card::CaptureRefused {
            let (call, asked) = shop.capture(payment).await;
            shop.carry_out(&gateway, payment, &call, asked).await;
            history.extend(["PaymentCaptureRequested", "PaymentCaptureFailed"]);
        }
        let (call, asked) = shop.capture(payment).await;
        shop.carry_out(&gateway, payment, &call, asked).await;
        history.extend(["PaymentCaptureRequested", "PaymentCaptured"]);
        let (call, asked) = shop.refund(payment, 1).await;
        shop.carry_out(&gateway, payment, &call, asked).await;
        let refunded = kind != Card::RefundRefused;
        let answer = if refunded { "PaymentRefunded" } else { "PaymentRefundFailed" };
        history.extend(["PaymentRefundRequested", answer]);
        assert_eq!(shop.history(payment).await, history, "{token}");
        let moved: &[&str] = &["hold 1000", "capture 900", "release 100", "refund 100"];
        assert_eq!(sandbox.moved(payment).await, moved[..moved.len() - usize::from(!refunded)], "{token}");
    }
}

#[tokio::test]
async fn a_late_repeat_answers_its_own_question_and_no_later_one() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let gateway = sandbox.gateway();
    let (payment, call, asked) = shop.requested("tok_capture_refused").await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    let (first, first_asked) = shop.capture(payment).await;
    shop.carry_out(&gateway, payment, &first, first_asked.clone()).await;
    let (second, second_asked) = shop.capture(payment).await;
    let history = shop.history(payment).await;
    assert_eq!(history.last().unwrap(), "PaymentCaptureRequested");
    // The refusal of the first is said again while the second is awaited.
    shop.carry_out(&gateway, payment, &first, first_asked).await;
    assert_eq!(shop.history(payment).await, history);
    shop.carry_out(&gateway, payment, &second, second_asked).await;
    assert_eq!(shop.history(payment).await.last().unwrap(), "PaymentCaptured");
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "capture 900", "release 100"]);
}

#[tokio::test]
async fn what_is_held_is_let_go_and_what_was_voided_first_is_never_held() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let gateway = sandbox.gateway();
    let (payment, call, asked) = shop.requested("tok_approved").await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    let (call, asked) = shop.void(payment).await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    let history = ["PaymentRequested", "PaymentAuthorised", "PaymentVoidRequested", "PaymentVoided"];
    assert_eq!(shop.history(payment).await, history);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "release 1000"]);

    // The void overtakes the authorisation, which then finds the door shut and has nothing to say.
    let (payment, authorise, authorise_asked) = shop.requested("tok_approved").await;
    let (void, void_asked) = shop.void(payment).await;
    shop.carry_out(&gateway, payment, &void, void_asked).await;
    shop.carry_out(&gateway, payment, &authorise, authorise_asked).await;
    assert_eq!(shop.history(payment).await, ["PaymentRequested", "PaymentVoidRequested", "PaymentVoided"]);
    assert_eq!(sandbox.moved(payment).await, [] as [&str; 0]);

    // The authorisation comes first, but its answer comes when the payment is to be voided: a fact all the same.
    let (payment, authorise, authorise_asked) = shop.requested("tok_approved").await;
    let (void, void_asked) = shop.void(payment).await;
    shop.carry_out(&gateway, payment, &authorise, authorise_asked).await;
    shop.carry_out(&gateway, payment, &void, void_asked).await;
    let history = ["PaymentRequested", "PaymentVoidRequested", "PaymentAuthorised", "PaymentVoided"];
    assert_eq!(shop.history(payment).await, history);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000", "release 1000"]);
}

#[tokio::test]
async fn what_is_put_on_record_says_what_led_to_it() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let (payment, call, asked) = shop.requested("tok_approved").await;
    shop.carry_out(&sandbox.gateway(), payment, &call, asked.clone()).await;
    let stream = stream_of::<Payment>(&payment).unwrap();
    let page = shop.executor.store().read_stream(&stream, Some(1), Direction::Forwards, 1).await.unwrap();
    let metadata = Metadata::from_bytes(&page.events[0].metadata).unwrap();
    assert_eq!(metadata.correlation_id, asked.correlation_id);
    assert_eq!(metadata.causation_id, asked.event_id);
    assert_eq!(metadata.traceparent, asked.traceparent);
    assert_eq!(metadata.actor.as_deref(), Some("charging"));
}

/// A waker that is not needed: what is polled by hand is polled again by hand.
fn poll_by_hand<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn dropped_anywhere_and_carried_out_again_it_is_one_charge() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let gateway = sandbox.gateway();
    let mut drops = 0;
    for token in ["tok_approved", "tok_lost_answer"] {
        // Each payment is dropped one step later than the one before, until there is no step left to drop it at.
        for steps in 0..1_000 {
            let (payment, call, asked) = shop.requested(token).await;
            let finished = {
                let mut first = pin!(carry_out(&gateway, &shop.executor, payment, &call, asked.clone()));
                let mut finished = false;
                for _ in 0..steps {
                    if let Poll::Ready(result) = poll_by_hand(first.as_mut()) {
                        result.unwrap();
                        finished = true;
                        break;
                    }
                    // The other side gets a turn, so that the next step finds something new.
                    let heard = gateway.find(PaymentId(Uuid::nil())).await.unwrap();
                    assert_eq!(heard, None);
                }
                finished
            };
            shop.carry_out(&gateway, payment, &call, asked).await;
            assert_eq!(shop.history(payment).await, ["PaymentRequested", "PaymentAuthorised"], "{token}, {steps}");
            assert_eq!(sandbox.moved(payment).await, ["hold 1000"], "{token}, {steps}");
            if finished {
                break;
            }
            drops += 1;
        }
    }
    assert!(drops >= 4, "it was dropped {drops} times only");
}

#[tokio::test]
async fn several_cashiers_at_once_leave_one_answer_on_record() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let gateway = sandbox.gateway();
    let (payment, call, asked) = shop.requested("tok_lost_answer").await;
    // Two processes that share a log, and nothing else.
    let store: Arc<dyn event_store::EventStore> = Arc::new(MemoryEventStore::new());
    let executors = [Executor::new(store.clone()), Executor::new(store)];
    let request = Request { amount: gbp(1000), card: card("tok_lost_answer") };
    let envelope = Envelope::new(Uuid::now_v7(), "test".to_owned(), Utc::now());
    executors[0].execute::<Payment>(&payment, request.into(), &envelope).await.unwrap();
    let calls = executors.iter().map(|executor| carry_out(&gateway, executor, payment, &call, asked.clone()));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    let stream = stream_of::<Payment>(&payment).unwrap();
    let page = executors[0].store().read_stream(&stream, None, Direction::Forwards, 10).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert_eq!(sandbox.moved(payment).await, ["hold 1000"]);
}

/// A gateway that says yes to everything, in other words each time.
#[derive(Default)]
struct Chatty(AtomicU32);

impl Chatty {
    fn words(&self) -> Line {
        line(&format!("yes, for the {}. time", self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

#[async_trait]
impl PaymentGateway for Chatty {
    async fn authorise(
        &self,
        _: PaymentId,
        _: Money,
        _: &CardToken,
        _: Attempt,
    ) -> Result<Authorisation, GatewayError> {
        Ok(Authorisation::Authorised { reference: self.words() })
    }

    async fn capture(&self, _: PaymentId, _: Money, _: Attempt) -> Result<Capture, GatewayError> {
        Ok(Capture::Done { reference: self.words() })
    }

    async fn void(&self, _: PaymentId, _: Attempt) -> Result<Voided, GatewayError> {
        Ok(Voided)
    }

    async fn refund(&self, _: PaymentId, _: u32, _: Money, _: Attempt) -> Result<Refund, GatewayError> {
        Ok(Refund::Refused { reason: self.words() })
    }

    async fn find(&self, _: PaymentId) -> Result<Option<Found>, GatewayError> {
        Err(GatewayError::Unavailable { fault: Fault::Busy, retry_after: None })
    }
}

#[tokio::test]
async fn a_repeat_in_other_words_is_the_same_answer() {
    let (gateway, shop) = (Chatty::default(), Shop::new());
    let (payment, call, asked) = shop.requested("tok_x").await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    let (call, asked) = shop.capture(payment).await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    let (call, asked) = shop.refund(payment, 1).await;
    shop.carry_out(&gateway, payment, &call, asked).await;
    assert_eq!(gateway.0.load(Ordering::SeqCst), 6, "it was asked twice each time");
    let history = [
        "PaymentRequested",
        "PaymentAuthorised",
        "PaymentCaptureRequested",
        "PaymentCaptured",
        "PaymentRefundRequested",
        "PaymentRefundFailed",
    ];
    assert_eq!(shop.history(payment).await, history);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_done_with() {
    let (gateway, shop) = (Chatty::default(), Shop::new());
    let (payment, authorise, asked) = shop.requested("tok_x").await;
    shop.carry_out(&gateway, payment, &authorise, asked).await;
    let (void, asked) = shop.void(payment).await;
    shop.carry_out(&gateway, payment, &void, asked.clone()).await;
    // Each of these was asked for by some other event, and answered by somebody else meanwhile.
    let calls = [authorise, Call::Capture { amount: gbp(1) }, void, Call::Refund { number: 1, amount: gbp(1) }];
    for call in calls {
        let asked = Asked { event_id: Uuid::now_v7(), ..asked.clone() };
        shop.carry_out(&gateway, payment, &call, asked).await;
    }
    assert_eq!(shop.state(payment).await.status, Status::Voided);
    assert_eq!(shop.history(payment).await.len(), 4);
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_an_error() {
    let (gateway, shop) = (Chatty::default(), Shop::new());
    let asked = Asked { event_id: Uuid::now_v7(), at: Utc::now(), correlation_id: Uuid::now_v7(), traceparent: None };
    let error = carry_out(&gateway, &shop.executor, payment(), &Call::Void, asked).await.unwrap_err();
    let refused = matches!(&error, CashierError::Record(ExecuteError::Refused(Refusal::NotRequested)));
    assert!(refused && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn without_an_answer_nothing_is_on_record() {
    let (sandbox, shop) = (Sandbox::start().await, Shop::new());
    let mut config = super::support::config(&sandbox.url);
    config.deadline = std::time::Duration::from_millis(900);
    let gateway = write_side::gateway::http::HttpGateway::new(config).unwrap();
    let (payment, call, asked) = shop.requested("tok_unavailable").await;
    let error = carry_out(&gateway, &shop.executor, payment, &call, asked).await.unwrap_err();
    assert!(matches!(&error, CashierError::Gateway(GatewayError::Unavailable { .. })), "{error:?}");
    assert!(error.is_transient());
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(1)));
    assert_eq!(shop.history(payment).await, ["PaymentRequested"]);
}
