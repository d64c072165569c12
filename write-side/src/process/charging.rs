//! Carrying out what the gateway is to be asked: a desk a payment, which asks one thing after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::ids::PaymentId;
use domain::payments::{Event, Payment};
use domain::process::{Never, Process as _};
use domain::processes::charging::{Call, Charging};
use domain::shop_event::ShopEvent;
use event_store::{Direction, ReadError};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::book::Book;
use super::{Conduct, ManagerError, Seen, Setback, chain, see};
use crate::envelope::Envelope;
use crate::execute::Executor;
use crate::gateway::{Asked, PaymentGateway, carry_out};
use crate::load::stream_of;

/// How long a desk waits before it asks again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long it waits where somebody has to look at it.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// How many of a payment's events are read at a time to find the one that asked.
const PAGE: usize = 100;

/// Conducts charging: for every payment that waits for the gateway there is a task that asks it.
pub struct Charges {
    office: Arc<Office>,
    /// The gateway, by a name that stays.
    with: String,
    desks: Mutex<HashMap<PaymentId, Desk>>,
}

/// What all desks work with.
struct Office {
    gateway: Arc<dyn PaymentGateway>,
    executor: Executor,
    book: Book,
}

/// The task of one payment. It ends when nobody holds the desk any more.
struct Desk {
    calls: watch::Sender<Vec<Call>>,
    task: AbortHandle,
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The gateway and the payment both know a call again, so a task may be stopped anywhere.
        self.task.abort();
    }
}

impl Charges {
    /// Asks this gateway, and puts its answers on record by this executor. `with` names the gateway: its address, or whatever
    /// does not change as long as it is the same. `pool` is the database of the processes.
    pub fn new(gateway: Arc<dyn PaymentGateway>, with: String, executor: Executor, pool: PgPool) -> Self {
        let book = Book::of::<Charging>(pool);
        Self { office: Arc::new(Office { gateway, executor, book }), with, desks: Mutex::default() }
    }

    /// Has the shop deal with this gateway from now on, whatever it dealt with before.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn move_to(pool: &PgPool, with: &str) -> Result<(), sqlx::Error> {
        Book::of::<Charging>(pool.clone()).deal_with(Charging::VERSION, with).await
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<PaymentId, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Conduct for Charges {
    type Process = Charging;

    fn see(&self, seen: &Seen) -> ShopEvent {
        seen.event.clone()
    }

    async fn send(&self, _: &PaymentId, command: &Never, _: Envelope) -> Result<(), Setback> {
        match *command {}
    }

    fn limit(&self, timeout: Never) -> Duration {
        match timeout {}
    }

    async fn time_out(&self, _: &PaymentId, timeout: Never, _: Envelope) -> Result<(), Setback> {
        match timeout {}
    }

    /// Nothing is ever sent by a reaction, so nothing is parked.
    async fn park(&self, _: &PaymentId, _: Uuid, _: &str, _: Envelope) -> Result<(), Setback> {
        Ok(())
    }

    fn deals_with(&self) -> Option<&str> {
        Some(&self.with)
    }

    const WATCHES: bool = true;

    fn moved(&self, payment: &PaymentId, calls: Option<&Vec<Call>>) {
        let mut desks = self.desks();
        match (calls, desks.get(payment)) {
            (None, _) => drop(desks.remove(payment)),
            (Some(calls), Some(desk)) => drop(desk.calls.send_if_modified(|known| {
                let news = known != calls;
                known.clone_from(calls);
                news
            })),
            (Some(calls), None) => {
                let (sender, receiver) = watch::channel(calls.clone());
                let task = tokio::spawn(work(self.office.clone(), *payment, receiver)).abort_handle();
                desks.insert(*payment, Desk { calls: sender, task });
            }
        }
    }

    fn resigned(&self) {
        self.desks().clear();
    }
}

/// Asks for the first call on the list until it is off the list; then for the next. A new list stops what is under way:
/// a void overtakes an authorisation that the gateway has not answered.
async fn work(office: Arc<Office>, payment: PaymentId, mut calls: watch::Receiver<Vec<Call>>) {
    loop {
        let call = calls.borrow_and_update().first().cloned();
        let asking = async {
            match call {
                Some(call) => persist(&office, payment, &call).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = calls.changed() => if changed.is_err() { return },
            // Done and on record; its event takes it off the list.
            () = asking => if calls.changed().await.is_err() { return },
        }
    }
}

/// Asks for a call until the answer is on record.
async fn persist(office: &Office, payment: PaymentId, call: &Call) {
    let mut pause = PAUSE.0;
    loop {
        let wait = match ask(office, payment, call).await {
            Ok(()) => return,
            Err(Unanswered { why, wait: Some(least) }) => {
                tracing::warn!(payment.id = %payment, why, "the gateway's answer is not on record yet; asking again");
                pause.max(least)
            }
            Err(Unanswered { why, wait: None }) => {
                tracing::error!(payment.id = %payment, why, "somebody has to look at this payment and its gateway");
                if let Err(error) = office.book.trouble(&payment.to_string(), &why).await {
                    tracing::warn!(payment.id = %payment, %error, "that somebody has to look at it could not be noted");
                }
                LONG_PAUSE
            }
        };
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Why a call is not answered yet.
struct Unanswered {
    why: String,
    /// How long to wait at least; `None` where waiting alone does not help.
    wait: Option<Duration>,
}

async fn ask(office: &Office, payment: PaymentId, call: &Call) -> Result<(), Unanswered> {
    let asked = asked(office, payment, call).await.map_err(|error| {
        let wait = matches!(error, ManagerError::Log(_)).then_some(Duration::ZERO);
        Unanswered { why: chain(&error), wait }
    })?;
    // What nobody asked for is not asked: another list is on its way.
    let Some(asked) = asked else { return Ok(()) };
    carry_out(&*office.gateway, &office.executor, payment, call, asked).await.map_err(|error| {
        let wait = error.is_transient().then(|| error.retry_after().unwrap_or_default());
        Unanswered { why: chain(&error), wait }
    })
}

/// The newest event of a payment that asks for a call, if it asks for just that: an older list may have another amount.
async fn asked(office: &Office, payment: PaymentId, call: &Call) -> Result<Option<Asked>, ManagerError> {
    let impossible = |error: event_store::InvalidStreamName| ReadError(Arc::new(error));
    let stream = stream_of::<Payment>(&payment).map_err(impossible)?;
    let mut from = None;
    loop {
        let page = office.executor.store().read_stream(&stream, from, Direction::Backwards, PAGE).await?;
        from = page.events.last().and_then(|last| last.revision.checked_sub(1));
        for recorded in page.events {
            let Seen { event, recorded, metadata } = see(recorded)?;
            let asks = match (&event, call) {
                (ShopEvent::Payments(_, Event::Requested(_)), Call::Authorise { .. }) => true,
                (ShopEvent::Payments(_, Event::CaptureRequested(asked)), Call::Capture { amount }) => {
                    if asked.amount != *amount {
                        return Ok(None);
                    }
                    true
                }
                (ShopEvent::Payments(_, Event::VoidRequested(_)), Call::Void) => true,
                (ShopEvent::Payments(_, Event::RefundRequested(asked)), Call::Refund { number, .. }) => {
                    asked.number == *number
                }
                _ => false,
            };
            if asks {
                return Ok(Some(Asked {
                    event_id: recorded.id,
                    at: metadata.occurred_at,
                    correlation_id: metadata.correlation_id,
                    traceparent: metadata.traceparent,
                }));
            }
        }
        if page.end || from.is_none() {
            return Ok(None);
        }
    }
}
