//! The log in Postgres keeps the contract, and stands what only a database can do to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use event_store::contract::Store;
use event_store::{
    Append, AppendError, EventStore, EventType, Expected, Filter, NewEvent, PostgresEventStore, StreamName,
    contract_suite,
};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use uuid::Uuid;

contract_suite!(open());

async fn open() -> Store {
    PostgresEventStore::open(a_database().await).await.unwrap()
}

/// A database of its own for each test, on the server that `DATABASE_URL` names.
async fn a_database() -> PgPool {
    #[expect(clippy::disallowed_methods, reason = "./test says where its Postgres is by the environment")]
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names no Postgres: run the tests with ./test");
    let server: PgConnectOptions = url.parse().unwrap();
    let name = format!("log_{}", Uuid::now_v7().simple());
    let mut admin = server.connect().await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(4).connect_with(server.database(&name)).await.unwrap();
    PostgresEventStore::migrate(&pool).await.unwrap();
    pool
}

fn append(stream: &str, expected: Expected, id: Uuid) -> Append {
    let event_type = EventType::new("Happened").unwrap();
    let event = NewEvent { id, event_type, data: "{}".into(), metadata: "{}".into() };
    Append { stream: StreamName::new(stream).unwrap(), expected, events: vec![event] }
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from log.events").fetch_one(pool).await.unwrap()
}

/// Ends the sequencer's backends, and says how many there were.
async fn cut(pool: &PgPool) -> i64 {
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                  where application_name = 'storefold log' and datname = current_database()";
    sqlx::query_scalar(ended).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn migrating_twice_and_at_once_is_safe() {
    let pool = a_database().await;
    let at_once = (0..4).map(|_| PostgresEventStore::migrate(&pool));
    for migrated in futures::future::join_all(at_once).await {
        migrated.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_have_no_gap_when_several_processes_append() {
    let pool = a_database().await;
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(PostgresEventStore::open(pool.clone()).await.unwrap());
    }
    // A transaction that stays open in the same server must not hold the log back.
    let mut bystander = pool.begin().await.unwrap();
    bystander.execute("create table bystander (); select txid_current()").await.unwrap();
    let writers = (0..24).map(|n: usize| {
        let store = stores[n % 3].clone();
        tokio::spawn(async move {
            for m in 0..20 {
                store.append(append(&format!("gap-{n}-{m}"), Expected::NoStream, Uuid::now_v7())).await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let page = stores[0].read_all(None, &Filter::all(), 1_000).await.unwrap();
    let positions: Vec<u64> = page.events.iter().map(|event| event.position.commit).collect();
    assert_eq!(positions, (0..480).collect::<Vec<_>>());
}

#[tokio::test]
async fn appends_that_queue_up_are_at_the_server_before_the_batch_ahead_of_them_is_written() {
    const MANY: usize = 40;
    let pool = a_database().await;
    let store = PostgresEventStore::open(pool.clone()).await.unwrap();
    let hand_in = |n: usize| {
        let (store, stream) = (store.clone(), format!("beside-{n}"));
        tokio::spawn(async move { store.append(append(&stream, Expected::NoStream, Uuid::now_v7())).await })
    };
    let mut keeper = pool.begin().await.unwrap();
    keeper.execute("select pg_advisory_xact_lock(7310868735017247840)").await.unwrap();
    let mut handed_in = vec![hand_in(0)];
    until_batches_wait(&pool, 1).await;
    handed_in.extend((1..=MANY).map(hand_in));
    until_batches_wait(&pool, 2).await;
    keeper.rollback().await.unwrap();
    for appended in futures::future::join_all(handed_in).await {
        appended.unwrap().unwrap();
    }
    assert_eq!(count(&pool).await, MANY as i64 + 1);
}

/// It took too long as a whole, for it had to wait; nothing of it was written, and that is said of all of it at once.
#[tokio::test]
async fn a_batch_that_is_cancelled_is_not_tried_one_by_one() {
    let pool = a_database().await;
    let store = PostgresEventStore::open(pool.clone()).await.unwrap();
    let hand_in = |n: usize| {
        let (store, stream) = (store.clone(), format!("cancelled-{n}"));
        tokio::spawn(async move { store.append(append(&stream, Expected::NoStream, Uuid::now_v7())).await })
    };
    let mut keeper = pool.begin().await.unwrap();
    keeper.execute("select pg_advisory_xact_lock(7310868735017247840)").await.unwrap();
    let mut handed_in = vec![hand_in(0)];
    until_batches_wait(&pool, 1).await;
    handed_in.extend((1..=40).map(hand_in));
    until_batches_wait(&pool, 2).await;
    let cancel = "select count(pg_cancel_backend(pid)) from pg_locks join pg_database on pg_database.oid = database
                   where locktype = 'advisory' and not granted and datname = current_database()";
    assert_eq!(sqlx::query_scalar::<_, i64>(cancel).fetch_one(&pool).await.unwrap(), 2);
    for appended in futures::future::join_all(handed_in).await {
        assert!(matches!(appended.unwrap(), Err(AppendError::Unavailable(_))));
    }
    keeper.rollback().await.unwrap();
    assert_eq!(count(&pool).await, 0);
}

/// Waits until so many batches are at the server and wait for the lock.
async fn until_batches_wait(pool: &PgPool, batches: i64) {
    let waiting = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                    where locktype = 'advisory' and not granted and datname = current_database()";
    let seen = async { while sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() < batches {} };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("no batch came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_nothing() {
    let pool = a_database().await;
    let store = PostgresEventStore::open(pool.clone()).await.unwrap();
    let writers = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for m in 0..60 {
                store.append(append(&format!("cut-{n}-{m}"), Expected::NoStream, Uuid::now_v7())).await.unwrap();
            }
        })
    });
    let writers = futures::future::join_all(writers);
    tokio::pin!(writers);
    let mut cuts = 0;
    loop {
        tokio::select! {
            biased;
            ended = cut(&pool) => cuts += ended,
            finished = &mut writers => {
                finished.into_iter().for_each(|writer| writer.unwrap());
                break;
            }
        }
        tokio::task::yield_now().await;
        if cuts >= 12 {
            (&mut writers).await.into_iter().for_each(|writer| writer.unwrap());
            break;
        }
    }
    assert!(cuts > 0, "the connection was never cut");
    assert_eq!(count(&pool).await, 16 * 60);
}

#[tokio::test]
async fn a_lost_answer_is_found_by_the_retry_of_the_caller() {
    let pool = a_database().await;
    let store = PostgresEventStore::open(pool.clone()).await.unwrap();
    let sent = append("retry-1", Expected::NoStream, Uuid::now_v7());
    // The caller hangs up while its append is under way, and asks again.
    let first = tokio::spawn({
        let (store, sent) = (store.clone(), sent.clone());
        async move { store.append(sent).await }
    });
    first.abort();
    let _ = first.await;
    let again = store.append(sent).await.unwrap();
    assert_eq!((again.revision, count(&pool).await), (0, 1));
}

#[tokio::test]
async fn another_process_sees_what_was_appended() {
    let pool = a_database().await;
    let (one, other): (Arc<dyn EventStore>, Arc<dyn EventStore>) =
        (PostgresEventStore::open(pool.clone()).await.unwrap(), PostgresEventStore::open(pool).await.unwrap());
    let seen = other.head().await.unwrap();
    let appended = one.append(append("other-1", Expected::NoStream, Uuid::now_v7())).await.unwrap();
    while other.head().await.unwrap() < Some(appended.position) {
        other.changed(seen).await;
    }
    let page = other.read_all(seen, &Filter::all(), 10).await.unwrap();
    assert_eq!((page.events.len(), page.at_head), (1, true));
}

#[tokio::test]
async fn its_own_appends_are_known_until_somebody_elses_stand_between() {
    let pool = a_database().await;
    let (one, other): (Arc<dyn EventStore>, Arc<dyn EventStore>) =
        (PostgresEventStore::open(pool.clone()).await.unwrap(), PostgresEventStore::open(pool).await.unwrap());
    for (place, store) in [&one, &one, &other, &one, &one].into_iter().enumerate() {
        store.append(append(&format!("own-{place}"), Expected::NoStream, Uuid::now_v7())).await.unwrap();
    }
    let log = one.read_all(None, &Filter::all(), 10).await.unwrap().events;
    let after = |events: usize| events.checked_sub(1).map(|last| log[last].position);
    assert_eq!(one.just_appended(after(0), 10), log[..2]);
    assert_eq!(one.just_appended(after(0), 1), log[..1]);
    assert_eq!(one.just_appended(after(2), 10), []);
    assert_eq!(one.just_appended(after(3), 10), log[3..]);
    assert_eq!(one.just_appended(after(5), 10), []);
    assert_eq!(other.just_appended(after(2), 10), log[2..3]);
}

/// Another event at the revision may be there when the log was restored, or a standby that was behind has taken over.
#[tokio::test]
async fn another_event_than_the_expected_one_is_a_conflict() {
    let store = open().await;
    let (last, same) = (Uuid::now_v7(), Uuid::now_v7());
    store.append(append("restored-1", Expected::NoStream, last)).await.unwrap();
    let other = append("restored-1", Expected::After { revision: 0, id: Uuid::now_v7() }, Uuid::now_v7());
    let neighbour = append("restored-2", Expected::NoStream, Uuid::now_v7());
    let (conflict, written) = tokio::join!(store.append(other), store.append(neighbour));
    assert!(matches!(conflict, Err(AppendError::Conflict { actual: Some(0), .. })), "{conflict:?}");
    assert_eq!(written.unwrap().revision, 0);
    let right = append("restored-1", Expected::After { revision: 0, id: last }, same);
    assert_eq!(store.append(right.clone()).await.unwrap().revision, 1);
    assert_eq!(store.append(right).await.unwrap().revision, 1, "it is known by its id");
    // The same command may have been done on another past: that is no answer to it on this one.
    let same = append("restored-1", Expected::After { revision: 0, id: Uuid::now_v7() }, same);
    let answer = store.append(same).await;
    assert!(matches!(answer, Err(AppendError::Conflict { actual: Some(1), .. })), "{answer:?}");
}

#[tokio::test]
async fn what_the_log_has_lost_is_not_told() {
    let pool = a_database().await;
    let store = PostgresEventStore::open(pool.clone()).await.unwrap();
    for place in 0..3 {
        store.append(append(&format!("lost-{place}"), Expected::NoStream, Uuid::now_v7())).await.unwrap();
    }
    assert_eq!(store.just_appended(None, 10).len(), 3);
    pool.execute("delete from log.events where position > 0").await.unwrap();
    let forgotten = async {
        while !store.just_appended(None, 10).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it is told still");
    let next = store.append(append("lost-1", Expected::NoStream, Uuid::now_v7())).await.unwrap();
    assert_eq!((next.revision, next.position.commit), (0, 1));
}
