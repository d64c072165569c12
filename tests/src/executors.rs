//! Commands of several processes to one log, which each keep aggregates in mind, and whose answers get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use chrono::Utc;
use domain::decider::Decider as _;
use domain::ids::{OrderId, Sku};
use domain::inventory::{Command, Stock};
use event_store::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Filter, MemoryEventStore, Position,
    PostgresEventStore, ReadError, StreamName, StreamPage,
};
use serde_json::{Value, json};
use sqlx::Executor as _;
use uuid::Uuid;
use write_side::{Envelope, ExecuteError, Executor};

use crate::support::{Database, soak};

fn command(command: Value) -> Command {
    serde_json::from_value(command).unwrap()
}

fn envelope(id: Uuid) -> Envelope {
    Envelope::new(id, "fingerprint".to_owned(), Utc::now())
}

/// How many events of a type a stock has.
async fn count(store: &dyn EventStore, sku: &Sku, event_type: &str) -> usize {
    let stream = StreamName::new(format!("{}-{sku}", Stock::CATEGORY)).unwrap();
    let page = store.read_stream(&stream, None, Direction::Forwards, 100).await.unwrap();
    page.events.iter().filter(|event| event.event_type.as_str() == event_type).count()
}

/// Each of two processes has seen the last unit.
#[tokio::test]
async fn the_last_unit_is_sold_once_though_two_processes_have_it_in_mind() {
    for round in 0..100 * soak::times() {
        let store = Arc::new(MemoryEventStore::new());
        let [one, other] = [Executor::new(store.clone()), Executor::new(store.clone())];
        let sku: Sku = format!("S{round}").parse().unwrap();
        let send = async |executor: &Executor, body: Value| {
            executor.execute::<Stock>(&sku, command(body), &envelope(Uuid::now_v7())).await
        };
        send(&one, json!({ "receive": { "quantity": 1 } })).await.unwrap();
        send(&other, json!({ "set-threshold": { "units": 0 } })).await.unwrap();
        let reserve = || json!({ "reserve": { "order": OrderId(Uuid::now_v7()), "quantity": 1 } });
        // Whether the other one is refused or told so by an event, the unit is set aside once.
        let _ = tokio::join!(send(&one, reserve()), send(&other, reserve()));
        assert_eq!(count(&*store, &sku, "StockReserved").await, 1, "round {round}");
    }
}

/// A log that was restored while processes ran, or whose standby has taken over without its latest events: what they have in mind
/// has not happened, whether or not others have come to stand in its place.
#[tokio::test]
async fn what_the_log_has_lost_is_out_of_mind() {
    for is_refilled in [false, true] {
        let database = Database::create().await;
        PostgresEventStore::migrate(&database.pool).await.unwrap();
        let store = PostgresEventStore::open(database.pool.clone()).await.unwrap();
        let [one, other] = [Executor::new(store.clone()), Executor::new(store.clone())];
        let sku: Sku = "TEA".parse().unwrap();
        let send = async |executor: &Executor, id: Uuid, body: Value| {
            executor.execute::<Stock>(&sku, command(body), &envelope(id)).await.unwrap()
        };
        let (lost, order) = (Uuid::now_v7(), OrderId(Uuid::now_v7()));
        let reserve = |quantity: u32| json!({ "reserve": { "order": order, "quantity": quantity } });
        send(&one, Uuid::now_v7(), json!({ "receive": { "quantity": 5 } })).await;
        send(&one, lost, json!({ "receive": { "quantity": 95 } })).await;
        database.pool.execute("delete from log.events where position = 1").await.unwrap();
        if is_refilled {
            send(&other, Uuid::now_v7(), json!({ "receive": { "quantity": 1 } })).await;
        }
        send(&one, Uuid::now_v7(), reserve(50)).await;
        assert_eq!(count(&*store, &sku, "StockReserved").await, 0, "of what is not there; refilled: {is_refilled}");
        send(&one, Uuid::now_v7(), reserve(5)).await;
        assert_eq!(count(&*store, &sku, "StockReserved").await, 1, "refilled: {is_refilled}");
        // Who sends again what was lost has it done.
        let before = count(&*store, &sku, "StockReceived").await;
        send(&one, lost, json!({ "receive": { "quantity": 95 } })).await;
        assert_eq!(count(&*store, &sku, "StockReceived").await, before + 1);
    }
}

/// A log whose answers get lost: of what it took, or of what it did not.
struct Forgetful {
    log: MemoryEventStore,
    asked: AtomicUsize,
}

#[async_trait]
impl EventStore for Forgetful {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let lost = || Err(AppendError::Unknown(Arc::new(std::io::Error::from(std::io::ErrorKind::TimedOut))));
        match self.asked.fetch_add(1, Relaxed) % 3 {
            0 => self.log.append(append).await.and_then(|_| lost()),
            1 => lost(),
            _ => self.log.append(append).await,
        }
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        self.log.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        self.log.read_all(after, filter, limit).await
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.log.head().await
    }

    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64> {
        self.log.events_between(after, to)
    }

    async fn changed(&self, seen: Option<Position>) {
        self.log.changed(seen).await;
    }
}

/// Who gets no answer sends the same again, to whichever process.
#[tokio::test]
async fn a_command_whose_answer_was_lost_is_done_once() {
    let store = Arc::new(Forgetful { log: MemoryEventStore::new(), asked: AtomicUsize::new(0) });
    let executors = [Executor::new(store.clone()), Executor::new(store.clone())];
    let sku: Sku = "TEA".parse().unwrap();
    let (mut sent, rounds) = (0, 30);
    for round in 1..=rounds {
        let id = Uuid::now_v7();
        let answer = loop {
            sent += 1;
            let receive = command(json!({ "receive": { "quantity": 1 } }));
            match executors[sent % 2].execute::<Stock>(&sku, receive, &envelope(id)).await {
                Ok(answer) => break answer,
                Err(ExecuteError::Log(AppendError::Unknown(_))) => {}
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!((answer.events.len(), answer.revision), (1, Some(round - 1)));
        assert_eq!(count(&*store, &sku, "StockReceived").await as u64, round);
    }
    assert!(sent as u64 > rounds, "no answer was lost");
}
