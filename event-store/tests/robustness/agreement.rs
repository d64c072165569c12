//! The logs agree: the same histories get the same answers from the log in memory, in Postgres and in KurrentDB, and from
//! the latter also while things go wrong.

use std::cell::Cell;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_store::kurrentdb::Timing;
use event_store::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Expected, Filter, KurrentEventStore,
    MemoryEventStore, PastTheEnd, Position, PostgresEventStore, ReadError, StreamName, StreamPage,
};
use futures::future::join_all;
use proptest::strategy::ValueTree;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use uuid::Uuid;

use crate::dice::{Dice, seed, soon, times};
use crate::history::{Op, histories, script};
use crate::site::{Fault, Site, hasty};
use crate::transcript::{Transcript, difference, perform};

/// How many histories all logs are asked.
const HISTORIES: usize = 500;
/// How many the log in KurrentDB is asked while things go wrong.
const FAULTY_HISTORIES: usize = 200;
/// In so many places at once.
const PLACES: usize = 50;
/// The same while things go wrong.
const FAULTY_PLACES: usize = 25;
/// In so many databases.
const DATABASES: usize = 5;
/// After how long an append is not waited for any more. Were it less, a busy machine would do nothing any more but make
/// new connections.
const ANSWER: Duration = Duration::from_millis(700);
/// For how long a history that shows a difference is made smaller.
const SHRINKING: Duration = Duration::from_secs(15);

#[tokio::test]
async fn all_logs_give_the_same_answers() {
    all_answer_alike(0).await;
}

#[tokio::test]
async fn all_logs_give_the_same_answers_to_other_histories() {
    all_answer_alike(1).await;
}

#[tokio::test]
async fn the_answers_are_the_same_while_things_go_wrong() {
    answers_stay_the_same(2).await;
}

#[tokio::test]
async fn the_answers_are_the_same_to_other_histories_while_things_go_wrong() {
    answers_stay_the_same(3).await;
}

/// Half of the histories; `number` says which.
async fn all_answer_alike(number: u64) {
    let databases = join_all((0..DATABASES).map(|_| async { tokio::sync::Mutex::new(postgres().await) })).await;
    let places = join_all((0..PLACES).map(|_| async {
        let site = Site::open().await;
        let store = site.connect(hasty()).await;
        (site, store)
    }))
    .await;
    let check = async |place: usize, history: Vec<Op>| {
        let tag = tag();
        let steps = script(&history, &tag).await;
        let memory = perform(&MemoryEventStore::new(), &steps, &tag).await;
        let compare = |log: &str, answers: Transcript| {
            difference(&steps, &memory, &answers).map(|what| format!("memory and {log} differ: {what}"))
        };
        let database = databases[place % DATABASES].lock().await;
        let postgres = compare("Postgres", perform(&**database, &steps, &tag).await);
        drop(database);
        let kurrentdb = compare("KurrentDB", perform(&*places[place].1, &steps, &tag).await);
        postgres.or(kurrentdb)
    };
    check_all(HISTORIES / 2 * times(), number, PLACES, &check).await;
}

/// The same while things go wrong.
async fn answers_stay_the_same(number: u64) {
    let open = async |place: usize| {
        let site = Site::open().await;
        // One that gives up soon leaves more to be found out.
        let patience = if place.is_multiple_of(2) { hasty().patience } else { ANSWER };
        let timing = Timing { answer: ANSWER, patience, ..hasty() };
        let store = site.connect(timing).await;
        Shaky {
            site,
            store,
            dice: Mutex::new(Dice::new(1_000 * number + place as u64)),
            gives_up: !place.is_multiple_of(2),
        }
    };
    let places = join_all((0..FAULTY_PLACES).map(open)).await;
    let check = async |place: usize, history: Vec<Op>| {
        let tag = tag();
        let steps = script(&history, &tag).await;
        let memory = perform(&MemoryEventStore::new(), &steps, &tag).await;
        let shaky = perform(&places[place], &steps, &tag).await;
        difference(&steps, &memory, &shaky).map(|what| format!("memory and KurrentDB differ: {what}"))
    };
    check_all(FAULTY_HISTORIES / 2 * times(), number, FAULTY_PLACES, &check).await;
}

/// Checks histories, in several places at once. Of one that shows a difference the smallest that still does is told.
async fn check_all<C: Future<Output = Option<String>>>(
    count: usize,
    number: u64,
    places: usize,
    check: &impl Fn(usize, Vec<Op>) -> C,
) {
    let mut histories = histories(count, number);
    let all: Vec<Vec<Op>> = histories.iter().map(ValueTree::current).collect();
    let found = Cell::new(false);
    let in_place = async |place: usize| {
        for (n, history) in all.iter().enumerate().skip(place).step_by(places) {
            // One difference is enough.
            if found.get() {
                break;
            }
            if let Some(difference) = check(place, history.clone()).await {
                found.set(true);
                return Some((n, difference));
            }
        }
        None
    };
    let differences = soon(join_all((0..places).map(in_place))).await;
    let Some((n, mut told)) = differences.into_iter().flatten().next() else { return };
    let (history, mut smallest) = (&mut histories[n], all[n].clone());
    // The tree starts at the history itself, which is known to show a difference.
    let mut goes_on = history.simplify();
    let enough = Instant::now() + SHRINKING;
    while goes_on && Instant::now() < enough {
        let smaller = history.current();
        goes_on = match check(0, smaller.clone()).await {
            Some(difference) => {
                (told, smallest) = (difference, smaller);
                history.simplify()
            }
            None => history.complicate(),
        };
    }
    panic!("history {n} of the seed {} and {number}: {told}\nin {smallest:#?}", seed());
}

/// What the categories of a history start with.
fn tag() -> String {
    format!("h{}", Uuid::now_v7().simple())
}

/// A log in a database of its own, on the server that `DATABASE_URL` names.
async fn postgres() -> Arc<PostgresEventStore> {
    #[expect(clippy::disallowed_methods, reason = "./test says where its Postgres is by the environment")]
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names no Postgres: run the tests with ./test");
    let server: PgConnectOptions = url.parse().unwrap();
    let name = format!("log_{}", Uuid::now_v7().simple());
    let mut admin = server.connect().await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(2).connect_with(server.database(&name)).await.unwrap();
    PostgresEventStore::migrate(&pool).await.unwrap();
    PostgresEventStore::open(pool).await.unwrap()
}

/// A log in KurrentDB at which things go wrong, behind somebody who asks until there is an answer, and who can look at the
/// server itself where the port cannot tell.
struct Shaky {
    site: Site,
    store: Arc<KurrentEventStore>,
    dice: Mutex<Dice>,
    gives_up: bool,
}

impl Shaky {
    fn chance(&self) -> Option<Fault> {
        let mut dice = self.dice.lock().unwrap();
        if dice.below(16) == 0 {
            self.site.tell_readers(&mut dice);
        }
        if dice.below(4) > 0 {
            None
        } else if self.gives_up && dice.below(8) == 0 {
            Some(Fault::Unanswered)
        } else {
            Some(dice.pick(&Fault::UNDER_LOAD))
        }
    }

    /// Reads while something goes wrong, and once more when that showed.
    async fn read<T, R>(&self, read: impl Fn() -> R) -> Result<T, ReadError>
    where
        R: Future<Output = Result<T, ReadError>>,
    {
        {
            let mut dice = self.dice.lock().unwrap();
            match dice.below(40) {
                0 => self.site.cut(),
                1..5 => self.site.tell_readers(&mut dice),
                _ => {}
            }
        }
        loop {
            match read().await {
                Err(error) if !error.0.is::<PastTheEnd>() => self.site.forget(),
                answer => return answer,
            }
        }
    }
}

#[async_trait]
impl EventStore for Shaky {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let before = self.site.log().records().len();
        let appending = self.store.append(append.clone());
        let mut answer = match self.chance() {
            Some(fault) => self.site.meeting(fault, &self.store, appending).await.0,
            None => appending.await,
        };
        let mut was_unknown = false;
        while let Err(AppendError::Unavailable(_) | AppendError::Unknown(_)) = &answer {
            was_unknown |= matches!(answer, Err(AppendError::Unknown(_)));
            // Whatever is still on its way does not arrive; what arrived has been decided.
            self.site.cut();
            self.site.mend().await;
            let records = self.site.log().records();
            if records.len() > before {
                // Of several calls, an earlier one that nobody knew of may have written it.
                assert!(was_unknown, "it was written, and told {answer:?}");
                if let (Expected::Any | Expected::Exists, Some(last)) = (append.expected, records.last()) {
                    let kurrentdb_server::Position { commit, prepare } = last.position;
                    return Ok(Appended { revision: last.revision, position: Position { commit, prepare } });
                }
            }
            answer = self.store.append(append.clone()).await;
        }
        answer
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        self.read(|| self.store.read_stream(stream, from, direction, limit)).await
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        self.read(|| self.store.read_all(after, filter, limit)).await
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.read(|| self.store.head()).await
    }

    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64> {
        self.store.events_between(after, to)
    }

    async fn changed(&self, seen: Option<Position>) {
        self.store.changed(seen).await;
    }
}
