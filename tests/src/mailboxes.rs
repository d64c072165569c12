//! Commands that come to one aggregate at the same time: what waits is carried out together, and each gets its own answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use chrono::Utc;
use domain::ids::{OrderId, Sku};
use domain::inventory::{Command, Refusal, Stock};
use event_store::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Filter, MemoryEventStore, Metadata, Position,
    ReadError, RecordedEvent, StreamName, StreamPage,
};
use futures::future::{join, join_all};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;
use write_side::execute::{MAX_ATTEMPTS, MAX_WAITING};
use write_side::{Answer, Envelope, ExecuteError, Executor, Precondition};

use crate::support::soak;

/// A log that takes an append only when it is let through, and then goes wrong if it is told to.
struct Gated {
    log: MemoryEventStore,
    gate: Semaphore,
    /// How many appends were let through.
    appends: AtomicUsize,
    /// How many of the next ones are written, and their answers lost.
    written_and_lost: AtomicUsize,
    /// How many of the next ones are not written, and nobody says so.
    lost: AtomicUsize,
    /// How many of the next ones meet a stream that has moved on.
    overtaken: AtomicUsize,
    /// How often a stream was read, and how many events that gave.
    reads: AtomicUsize,
    events_read: AtomicUsize,
}

fn one_less(left: &AtomicUsize) -> bool {
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl EventStore for Gated {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.gate.acquire().await.unwrap().forget();
        self.appends.fetch_add(1, Relaxed);
        let lost = || Err(AppendError::Unknown(Arc::new(std::io::Error::from(std::io::ErrorKind::TimedOut))));
        if one_less(&self.lost) {
            return lost();
        }
        if one_less(&self.overtaken) {
            let Append { stream, expected, .. } = append;
            return Err(AppendError::Conflict { stream, expected, actual: None });
        }
        let appended = self.log.append(append).await?;
        if one_less(&self.written_and_lost) { lost() } else { Ok(appended) }
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        // A log takes its time: whoever comes meanwhile waits.
        tokio::task::yield_now().await;
        let page = self.log.read_stream(stream, from, direction, limit).await?;
        self.reads.fetch_add(1, Relaxed);
        self.events_read.fetch_add(page.events.len(), Relaxed);
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

/// A shop with one stock, and as many processes as are wanted.
struct Site {
    store: Arc<Gated>,
    executor: Executor,
    sku: Sku,
}

type Outcome = Result<Answer, ExecuteError<Refusal>>;

impl Site {
    fn open() -> Self {
        let none = AtomicUsize::default;
        let store = Arc::new(Gated {
            log: MemoryEventStore::new(),
            gate: Semaphore::new(0),
            appends: none(),
            written_and_lost: none(),
            lost: none(),
            overtaken: none(),
            reads: none(),
            events_read: none(),
        });
        Self { executor: Executor::new(store.clone()), store, sku: "TEA".parse().unwrap() }
    }

    /// One whose stock has some units and whose process has it in mind.
    async fn with(units: u64) -> Self {
        let site = Self::open();
        site.let_through(1);
        site.send(Uuid::now_v7(), receive(units)).await.unwrap();
        site.store.appends.store(0, Relaxed);
        site
    }

    fn let_through(&self, appends: usize) {
        self.store.gate.add_permits(appends);
    }

    async fn send(&self, id: Uuid, body: Value) -> Outcome {
        self.send_if(id, body, Precondition::None).await
    }

    async fn send_if(&self, id: Uuid, body: Value, precondition: Precondition) -> Outcome {
        let envelope = Envelope { precondition, ..envelope(id, &body) };
        let command: Command = serde_json::from_value(body).unwrap();
        self.executor.execute::<Stock>(&self.sku, command, &envelope).await
    }

    /// Sends commands so that all have come before the first append is let through, and then lets everything through.
    async fn together(&self, bodies: &[(Uuid, Value)]) -> Vec<Outcome> {
        // One after another they are begun; the last one opens the gate.
        let sent = join_all(bodies.iter().map(|(id, body)| self.send(*id, body.clone())));
        join(sent, async { self.let_through(10_000) }).await.0
    }

    /// How often a stream was read, and how many events that gave, since this was asked last.
    fn read(&self) -> (usize, usize) {
        (self.store.reads.swap(0, Relaxed), self.store.events_read.swap(0, Relaxed))
    }

    fn appends(&self) -> usize {
        self.store.appends.load(Relaxed)
    }

    async fn events(&self) -> Vec<RecordedEvent> {
        let stream = StreamName::new(format!("stock-{}", self.sku)).unwrap();
        self.store.read_stream(&stream, None, Direction::Forwards, 100_000).await.unwrap().events
    }

    /// Each answer is what the log has of its command: ids, types, revisions, and where the last one stands.
    async fn check(&self, answers: &[(Uuid, Answer)]) {
        let events = self.events().await;
        for (id, answer) in answers {
            let of_it: Vec<_> = events.iter().filter(|event| command_of(event) == *id).collect();
            let told: Vec<_> = answer.events.iter().map(|event| (event.id, event.revision)).collect();
            assert_eq!(told, of_it.iter().map(|event| (event.id, event.revision)).collect::<Vec<_>>());
            let last = of_it.last().unwrap();
            assert_eq!((answer.revision, answer.position), (Some(last.revision), Some(last.position)));
        }
    }
}

fn command_of(event: &RecordedEvent) -> Uuid {
    Metadata::from_bytes(&event.metadata).unwrap().command_id
}

fn envelope(id: Uuid, body: &Value) -> Envelope {
    Envelope::new(id, write_side::envelope::fingerprint("stock", body), Utc::now())
}

fn receive(units: u64) -> Value {
    json!({ "receive": { "quantity": units } })
}

fn reserve(units: u64) -> Value {
    json!({ "reserve": { "order": OrderId(Uuid::now_v7()), "quantity": units } })
}

fn each(bodies: impl IntoIterator<Item = Value>) -> Vec<(Uuid, Value)> {
    bodies.into_iter().map(|body| (Uuid::now_v7(), body)).collect()
}

#[tokio::test]
async fn what_comes_during_an_append_is_appended_as_one() {
    for site in [Site::open(), Site::with(3).await] {
        let sent = each((1..=40).map(receive));
        let outcomes = site.together(&sent).await;
        assert_eq!(site.appends(), 2, "one of the first, and one of all that waited");
        let answers: Vec<_> = sent.iter().map(|(id, _)| *id).zip(outcomes.into_iter().map(Result::unwrap)).collect();
        site.check(&answers).await;
        let revisions: BTreeSet<_> = answers.iter().map(|(_, answer)| answer.revision).collect();
        assert_eq!(revisions.len(), 40);
        // Whether from memory or by another process, each gets its own answer again.
        let other = Executor::new(site.store.clone());
        for ((id, body), (_, answer)) in sent.iter().zip(&answers) {
            assert_eq!(&site.send(*id, body.clone()).await.unwrap(), answer);
            let command = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(&other.execute::<Stock>(&site.sku, command, &envelope(*id, body)).await.unwrap(), answer);
        }
        assert_eq!(site.events().await.len(), answers.last().unwrap().1.revision.unwrap() as usize + 1);
    }
}

#[tokio::test]
async fn one_that_is_refused_harms_nobody() {
    let site = Site::with(10).await;
    let order = OrderId(Uuid::now_v7());
    let ship = json!({ "ship": { "order": order } });
    let sent = each([
        receive(1),
        json!({ "reserve": { "order": order, "quantity": 4 } }),
        json!({ "reserve": { "order": order, "quantity": 4 } }),
        ship.clone(),
        ship.clone(),
        json!({ "adjust": { "counted": 7, "reason": "a count" } }),
        receive(2),
    ]);
    let outcomes = site.together(&sent).await;
    assert_eq!(site.appends(), 2);
    // Each is decided on what those before it have led to.
    assert!(matches!(&outcomes[2], Err(ExecuteError::Refused(Refusal::AlreadyReserved { .. }))), "{:?}", outcomes[2]);
    assert!(matches!(&outcomes[4], Err(ExecuteError::Refused(Refusal::NoReservation { .. }))), "{:?}", outcomes[4]);
    let told: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|answer| answer.revision)).collect();
    let at = |revision| Some(Some(revision));
    assert_eq!(told, [at(1), at(2), None, at(3), None, at(3), at(4)], "a count that confirms the books is no news");
    let nothing = outcomes[5].as_ref().unwrap();
    assert_eq!((nothing.position, nothing.events.len()), (outcomes[3].as_ref().unwrap().position, 0));
}

#[tokio::test]
async fn a_precondition_is_judged_when_its_turn_comes() {
    let site = Site::with(10).await;
    let send = |revision, units| site.send_if(Uuid::now_v7(), receive(units), Precondition::Revision(revision));
    let sent = join_all([send(0, 1), send(1, 2), send(1, 3), send(2, 4)]);
    let (outcomes, ()) = join(sent, async { site.let_through(10) }).await;
    let told = outcomes.iter().map(|outcome| match outcome {
        Ok(answer) => Ok(answer.revision),
        Err(ExecuteError::PreconditionFailed { actual }) => Err(*actual),
        Err(other) => panic!("{other}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [Ok(Some(1)), Ok(Some(2)), Err(Some(2)), Ok(Some(3))]);
    assert_eq!(site.appends(), 2);
}

#[tokio::test]
async fn when_another_process_was_faster_all_are_decided_anew() {
    let site = Site::with(10).await;
    let other = Site { executor: Executor::new(site.store.clone()), ..Site::open() };
    let other = Site { store: site.store.clone(), ..other };
    // The other takes nine of ten. Who wants two of them, and thought to get them, is told how many there are.
    site.let_through(1);
    other.send(Uuid::now_v7(), reserve(9)).await.unwrap();
    let sent = each([reserve(2), reserve(1), reserve(2)]);
    let outcomes = site.together(&sent).await;
    let types: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().events[0].event_type.clone()).collect();
    assert_eq!(types, ["StockReservationDeclined", "StockReserved", "StockReservationDeclined"]);
    // Those who waited go together into a stream that has moved on, time and again.
    site.store.overtaken.store(5, Relaxed);
    let sent = each((1..=6).map(receive));
    let outcomes = site.together(&sent).await;
    let answers = sent.iter().map(|(id, _)| *id).zip(outcomes.into_iter().map(Result::unwrap));
    site.check(&answers.collect::<Vec<_>>()).await;
    // Not for ever.
    site.store.overtaken.store(MAX_ATTEMPTS as usize, Relaxed);
    let outcome = site.send(Uuid::now_v7(), receive(1)).await;
    assert!(matches!(outcome, Err(ExecuteError::Contended)), "{outcome:?}");
}

/// The answer to an append of several commands is lost. Each of them is sent again, alone, in whatever order.
#[tokio::test]
async fn after_a_lost_answer_each_gets_its_own() {
    for round in 0..20 * soak::times() {
        for is_written in [true, false] {
            let site = Site::with(1).await;
            let lost = if is_written { &site.store.written_and_lost } else { &site.store.lost };
            // Of the first, of those who waited for it, or of both.
            lost.store(1 + round % 2, Relaxed);
            let sent = each((1..=7).map(receive));
            let outcomes = site.together(&sent).await;
            let is_lost = |outcome: &Outcome| matches!(outcome, Err(ExecuteError::Log(AppendError::Unknown(_))));
            assert_eq!(outcomes.iter().filter(|outcome| is_lost(outcome)).count(), if round % 2 == 0 { 1 } else { 7 });
            let other =
                Site { executor: Executor::new(site.store.clone()), store: site.store.clone(), sku: site.sku.clone() };
            let mut answers = Vec::new();
            for place in 0..sent.len() {
                let (id, body) = &sent[(place * 3 + round) % sent.len()];
                let process = if (place + round) % 3 == 0 { &other } else { &site };
                answers.push((*id, process.send(*id, body.clone()).await.unwrap()));
            }
            site.check(&answers).await;
            let commands: Vec<_> = site.events().await.iter().map(command_of).collect();
            let distinct: BTreeSet<_> = commands.iter().collect();
            assert_eq!((commands.len(), distinct.len()), (8, 8), "each is done once");
            for (id, answer) in &answers {
                let (_, body) = sent.iter().find(|(sent, _)| sent == id).unwrap();
                assert_eq!(&other.send(*id, body.clone()).await.unwrap(), answer);
            }
        }
    }
}

/// Whoever does not know what became of many commands to one aggregate sends all of them again. They are looked up where they are,
/// together, and the rest of a long stream is not read for them.
#[tokio::test]
async fn commands_that_are_sent_again_are_read_once_and_together() {
    const HISTORY: usize = 5_000;
    let site = Site::with(1).await;
    let mut sent = Vec::new();
    for _ in 0..HISTORY / 1_000 {
        let some = each((0..1_000).map(|_| receive(1)));
        site.together(&some).await.into_iter().for_each(|outcome| assert!(outcome.is_ok(), "{outcome:?}"));
        sent.extend(some);
    }
    site.read();
    // One alone, from the middle of the history.
    site.send(sent[HISTORY / 2].0, receive(1)).await.unwrap();
    let (reads, events) = site.read();
    assert!(reads == 1 && events <= 16, "{events} events in {reads} reads");
    // A thousand that lie in a row: the first has its turn alone, and those that wait are looked up up to 256 at a time.
    let some = &sent[2_000..3_000];
    let outcomes = join_all(some.iter().map(|(id, body)| site.send(*id, body.clone()))).await;
    let answers: Vec<_> = some.iter().map(|(id, _)| *id).zip(outcomes.into_iter().map(Result::unwrap)).collect();
    let (reads, events) = site.read();
    assert!(reads <= 6 && events <= 1_100, "{events} events in {reads} reads for {} commands", some.len());
    site.check(&answers[..10]).await;
    site.check(&answers[990..]).await;
    site.read();
    // Those that lie far apart, one with a key that was used for another body, and one that is new.
    let far: Vec<_> = sent.iter().step_by(500).cloned().collect();
    let mut far: Vec<_> = far.into_iter().chain(each([receive(7)])).collect();
    far[3].1 = receive(2);
    let outcomes = site.together(&far).await;
    let reused: Vec<_> = outcomes.iter().map(|outcome| matches!(outcome, Err(ExecuteError::KeyReused))).collect();
    assert_eq!(reused.iter().position(|reused| *reused), Some(3), "{outcomes:?}");
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((done, outcomes.len()), (far.len() - 1, HISTORY / 500 + 1));
    let (reads, events) = site.read();
    assert!(reads <= far.len() && events <= 16 * far.len(), "{events} events in {reads} reads");
    assert_eq!(site.events().await.len(), HISTORY + 2);
}

#[tokio::test]
async fn a_full_mailbox_takes_no_more_and_is_emptied_all_the_same() {
    let site = Site::with(1).await;
    // One is carried out, the others wait, and three find no place.
    let sent = each((0..MAX_WAITING + 4).map(|_| receive(1)));
    let outcomes = site.together(&sent).await;
    let busy = outcomes.iter().filter(|outcome| matches!(outcome, Err(ExecuteError::Busy))).count();
    assert_eq!((busy, outcomes.iter().filter(|outcome| outcome.is_ok()).count()), (3, MAX_WAITING + 1));
    assert_eq!(site.events().await.len(), MAX_WAITING + 2);
    assert_eq!(site.send(sent[MAX_WAITING + 3].0, receive(1)).await.unwrap().revision, Some(MAX_WAITING as u64 + 2));
}

#[tokio::test]
async fn the_same_command_is_executed_once_at_a_time() {
    let site = Site::with(1).await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let sent = [(first, receive(1)), (second, receive(2)), (first, receive(1)), (second, receive(2))];
    let outcomes = site.together(&sent).await;
    let in_flight: Vec<_> = outcomes.iter().map(|outcome| matches!(outcome, Err(ExecuteError::InFlight))).collect();
    assert_eq!(in_flight, [false, false, true, true]);
    assert_eq!(site.events().await.len(), 3);
}

#[tokio::test]
async fn who_is_cut_off_leaves_the_turn_to_those_who_wait() {
    let site = Site::with(1).await;
    let (mut one, mut other) =
        (Box::pin(site.send(Uuid::now_v7(), receive(1))), Box::pin(site.send(Uuid::now_v7(), receive(2))));
    let third = site.send(Uuid::now_v7(), receive(3));
    assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut other).is_pending());
    let mut third = Box::pin(third);
    assert!(futures::poll!(&mut third).is_pending());
    // The first hangs up while the log has its append, the second while it waits.
    drop((one, other));
    site.let_through(10);
    assert_eq!(third.await.unwrap().events.len(), 1);
    assert_eq!(site.events().await.len(), 2, "what was never carried out left nothing");
}

/// The log takes a repeat as well, however old, so that it was taken does not prove that what was presumed is the latest.
#[tokio::test]
async fn repeats_that_come_together_get_their_first_answers_from_a_process_that_is_behind() {
    let site = Site::with(5).await;
    let ahead = Executor::new(site.store.clone());
    let order = OrderId(Uuid::now_v7());
    let send = async |executor: &Executor, id: Uuid, body: &Value| {
        let command: Command = serde_json::from_value(body.clone()).unwrap();
        executor.execute::<Stock>(&site.sku, command, &Envelope::new(id, "fingerprint".to_owned(), Utc::now())).await
    };
    let commands = [receive(1), receive(2), receive(3), json!({ "ship": { "order": order } })];
    let ids = [(); 4].map(|()| Uuid::now_v7());
    site.let_through(5);
    let mut first = Vec::new();
    for (id, body) in ids.iter().zip(&commands[..3]) {
        first.push(send(&ahead, *id, body).await.unwrap());
    }
    send(&ahead, Uuid::now_v7(), &json!({ "reserve": { "order": order, "quantity": 1 } })).await.unwrap();
    first.push(send(&ahead, ids[3], &commands[3]).await.unwrap());
    // All are sent again, to the other process: while the first of them is under way the others come together.
    let again = join_all(ids.iter().zip(&commands).map(|(id, body)| send(&site.executor, *id, body)));
    let (again, ()) = join(again, async { site.let_through(4) }).await;
    assert_eq!(again.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), first);
}
