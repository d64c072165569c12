//! Aggregates with long streams: their snapshots are as good as their streams, and whoever does not trust one reads the stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use chrono::Utc;
use domain::ids::Sku;
use domain::inventory::{Command, Stock};
use event_store::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Filter, MemoryEventStore, Position, ReadError,
    StreamName, StreamPage,
};
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use uuid::Uuid;
use write_side::snapshots::{EVERY, Snapshots, migrator};
use write_side::{Answer, Envelope, ExecuteError, Executor};

use crate::support::{Database, until_so};

/// A log that counts the events that are read.
#[derive(Default)]
struct Counted {
    log: MemoryEventStore,
    read: AtomicU64,
}

#[async_trait]
impl EventStore for Counted {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.log.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        let page = self.log.read_stream(stream, from, direction, limit).await?;
        self.read.fetch_add(page.events.len() as u64, Relaxed);
        Ok(page)
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

struct Site {
    database: Database,
    store: Arc<Counted>,
    sku: Sku,
    /// What was sent, and what was answered.
    answers: BTreeMap<Uuid, (u64, Answer)>,
}

type Outcome = Result<Answer, ExecuteError<domain::inventory::Refusal>>;

impl Site {
    async fn open() -> Self {
        let database = Database::create().await;
        migrator().run(&database.pool).await.unwrap();
        Self { database, store: Arc::default(), sku: "LONG".parse().unwrap(), answers: BTreeMap::new() }
    }

    fn pool(&self) -> PgPool {
        self.database.pool.clone()
    }

    /// A process that has nothing in mind.
    fn process(&self) -> Executor {
        Executor::new(self.store.clone()).with_snapshots(Snapshots::new(self.pool()))
    }

    async fn send(&self, process: &Executor, id: Uuid, units: u64) -> Outcome {
        let body = json!({ "receive": { "quantity": units } });
        let envelope = Envelope::new(id, write_side::envelope::fingerprint("receive", &body), Utc::now());
        process.execute::<Stock>(&self.sku, serde_json::from_value::<Command>(body).unwrap(), &envelope).await
    }

    /// Sends so many commands, and then one after another until the snapshot is there that they make due.
    async fn grow(&mut self, process: &Executor, commands: u64) {
        let taken = "select coalesce(max(revision), -1) from snapshots.aggregates";
        for number in 0.. {
            let is_due = self.answers.len() as u64 >= EVERY;
            let oldest = self.answers.len() as i64 - EVERY as i64;
            if number >= commands && (!is_due || self.database.number(taken).await >= oldest) {
                return;
            }
            let (id, units) = (Uuid::now_v7(), 1 + number % 3);
            let answer = self.send(process, id, units).await.unwrap();
            self.answers.insert(id, (units, answer));
        }
    }

    /// How many events a process reads that has nothing in mind and is sent a new command.
    async fn cost(&mut self) -> u64 {
        let (process, id) = (self.process(), Uuid::now_v7());
        self.store.read.store(0, Relaxed);
        let answer = self.send(&process, id, 1).await.unwrap();
        let cost = self.store.read.load(Relaxed);
        assert_eq!(answer.revision, Some(self.answers.len() as u64));
        self.answers.insert(id, (1, answer));
        let state: Value = serde_json::to_value(&self.stock().await).unwrap();
        let units: u64 = self.answers.values().map(|(units, _)| units).sum();
        assert_eq!(state["on_hand"], json!(units));
        cost
    }

    async fn stock(&self) -> domain::inventory::StockState {
        let stream = StreamName::new(format!("stock-{}", self.sku)).unwrap();
        self.process().current::<Stock>(&stream).await.unwrap().state
    }

    /// Every command that was ever sent gets its first answer again, from a process that has nothing in mind and from this
    /// one, and the same key with another command is refused.
    async fn check_retries(&self, process: &Executor, step: usize) {
        let cold = self.process();
        for (id, (units, answer)) in self.answers.iter().step_by(step) {
            for process in [process, &cold] {
                assert_eq!(&self.send(process, *id, *units).await.unwrap(), answer);
                let other = self.send(process, *id, units + 1).await;
                assert!(matches!(other, Err(ExecuteError::KeyReused)), "{other:?}");
            }
        }
        let length = self.store.log.head().await.unwrap().unwrap().commit + 1;
        assert_eq!(length, self.answers.len() as u64, "a retry left something behind");
    }
}

#[tokio::test]
async fn a_long_stream_is_read_from_its_snapshot_on_and_old_commands_are_known() {
    let mut site = Site::open().await;
    let process = site.process();
    site.grow(&process, EVERY / 2).await;
    assert_eq!(site.database.number("select count(*) from snapshots.aggregates").await, 0, "it is short");
    site.grow(&process, 2 * EVERY).await;
    let cost = site.cost().await;
    assert!(cost <= EVERY + 2, "{cost} events were read");
    site.check_retries(&process, 7).await;
    // The next snapshot builds on the last one, also in another process.
    let other = site.process();
    site.grow(&other, 2 * EVERY + 1).await;
    let cost = site.cost().await;
    assert!(cost <= EVERY + 2, "{cost} events were read");
    site.check_retries(&other, 11).await;
    site.check_retries(&process, 13).await;
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_passed_over_and_replaced() {
    let mut site = Site::open().await;
    let process = site.process();
    site.grow(&process, 2 * EVERY + 10).await;
    drop(process);
    let spoilt = [
        "update snapshots.aggregates set version = 'older'",
        "update snapshots.aggregates set state = 'nonsense'::bytea",
        "update snapshots.aggregates set checksum = 'nonsense'::bytea",
        "update snapshots.aggregates set revision = revision - 1",
        "update snapshots.aggregates set last_event = gen_random_uuid()",
        "truncate snapshots.aggregates cascade",
    ];
    for spoil in spoilt {
        assert!(site.cost().await <= EVERY + 2, "before {spoil}");
        sqlx::query(spoil).execute(&site.pool()).await.unwrap();
        let before = site.answers.len() as u64;
        assert!(site.cost().await >= before, "{spoil}: it was trusted");
        let is_replaced = "select count(*) from snapshots.aggregates where version <> 'older' and length(checksum) = 32
            and revision >= 2000 and state <> 'nonsense'::bytea";
        until_so(async || site.database.number(is_replaced).await == 1).await;
        // Whoever writes it lets go of the stream a moment later.
        site.check_retries(&site.process(), 211).await;
        until_so(async || {
            let process = site.process();
            site.store.read.store(0, Relaxed);
            let stream = StreamName::new(format!("stock-{}", site.sku)).unwrap();
            process.current::<Stock>(&stream).await.unwrap();
            site.store.read.load(Relaxed) <= EVERY + 2
        })
        .await;
    }
}

/// What a process has in mind builds on a snapshot that somebody takes away: no command is done a second time.
#[tokio::test]
async fn a_snapshot_that_is_taken_away_is_missed() {
    let mut site = Site::open().await;
    let first = site.process();
    site.grow(&first, EVERY + 10).await;
    drop(first);
    let process = site.process();
    let id = Uuid::now_v7();
    let answer = site.send(&process, id, 1).await.unwrap();
    site.answers.insert(id, (1, answer));
    sqlx::query("delete from snapshots.aggregates").execute(&site.pool()).await.unwrap();
    site.check_retries(&process, 101).await;
}
