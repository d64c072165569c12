//! The log in KurrentDB keeps the contract over the real protocol, and stands what a server and its client can do to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use event_store::contract::Store;
use event_store::kurrentdb::{ConnectError, Timing};
use event_store::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, EventType, Expected, Filter, KurrentEventStore,
    NewEvent, Position, StreamName, contract_suite,
};
use kurrentdb_server::{
    AppendFault, Interruption, Log, LogSettings, Member, ReadFault, Role, Server, Settings, SubscriptionFault, Wait,
    Write,
};
use uuid::Uuid;

contract_suite!(open());

/// The server goes on for as long as the test does.
async fn open() -> Store {
    let server = Box::leak(Box::new(a_server().await));
    connect(server).await
}

async fn a_server() -> Server {
    Server::start(Settings::default()).await.unwrap()
}

/// A server that recognises no repeat of an append that names no revision, as any server does not after a while.
async fn a_forgetful_server() -> Server {
    let log = Arc::new(Log::new(LogSettings { remembered_ids: 0, ..LogSettings::default() }));
    Server::start_with(Settings::default(), log).await.unwrap()
}

async fn connect(server: &Server) -> Arc<KurrentEventStore> {
    KurrentEventStore::connect_with(&server.url(), hasty()).await.unwrap()
}

/// As patient as a test can afford, and not so hasty that a busy machine is taken for a dead server.
fn hasty() -> Timing {
    Timing {
        answer: Duration::from_secs(10),
        patience: Duration::from_secs(20),
        pause: Duration::from_millis(10),
        poll: Duration::from_millis(20),
    }
}

/// What is waited for comes within a while.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it did not happen within 30 s")
}

fn event(event_type: &str) -> NewEvent {
    let event_type = EventType::new(event_type.to_owned()).unwrap();
    NewEvent { id: Uuid::now_v7(), event_type, data: "{}".into(), metadata: "{}".into() }
}

fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

fn append(stream: &str, expected: Expected) -> Append {
    Append { stream: name(stream), expected, events: vec![event("Happened")] }
}

/// Writes an event as another program would, past the adapter.
fn elsewhere(server: &Server, stream: &str) {
    write_elsewhere(server.log(), stream, 1);
}

fn write_elsewhere(log: &Log, stream: &str, events: usize) {
    let event = |_| kurrentdb_server::NewEvent::json(Uuid::now_v7(), "Elsewhere", "{}");
    let events = (0..events).map(event).collect();
    log.write(&Write { stream: stream.to_owned(), expected: kurrentdb_server::Expected::Any, events }).unwrap();
}

/// The ids in a stream, as the server has them.
fn ids(server: &Server, stream: &str) -> Vec<Uuid> {
    server.log().records().iter().filter(|record| *record.stream == *stream).map(|record| record.event.id).collect()
}

/// Waits until the reader finds something after `seen`, as those who follow the log do.
async fn news(store: &KurrentEventStore, seen: Option<Position>) -> AllPage {
    loop {
        let page = store.read_all(seen, &Filter::all(), 100).await.unwrap();
        if !page.events.is_empty() {
            return page;
        }
        store.changed(page.read_to).await;
    }
}

/// What is ready to run has run: for a runtime of one thread.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

// Appending

#[tokio::test]
async fn the_same_append_of_two_processes_is_written_once() {
    let server = a_server().await;
    let (one, other) = (connect(&server).await, connect(&server).await);
    let append = append("twin-1", Expected::NoStream);
    let answers = futures::future::join(one.append(append.clone()), other.append(append)).await;
    let (first, second) = (answers.0.unwrap(), answers.1.unwrap());
    assert_eq!(first, second);
    assert_eq!(ids(&server, "twin-1").len(), 1);
}

#[tokio::test]
async fn a_lost_acknowledgement_is_asked_for_again() {
    let server = a_server().await;
    let store = connect(&server).await;
    for (n, fault) in
        [AppendFault::CutAfterCommit, AppendFault::TimeOut, AppendFault::CutBeforeCommit].into_iter().enumerate()
    {
        server.faults().next_appends(1, fault);
        let appended = soon(store.append(append(&format!("lost-{n}"), Expected::NoStream))).await.unwrap();
        assert_eq!(appended.revision, 0);
        assert_eq!(ids(&server, &format!("lost-{n}")).len(), 1);
    }
    // The same for what expects no revision by itself.
    for (revision, expected) in [(1, Expected::Exact(0)), (2, Expected::Exists), (3, Expected::Any)] {
        server.faults().next_appends(1, AppendFault::CutAfterCommit);
        let appended = soon(store.append(append("lost-0", expected))).await.unwrap();
        assert_eq!(appended.revision, revision);
        assert_eq!(ids(&server, "lost-0").len() as u64, revision + 1);
    }
}

#[tokio::test]
async fn an_append_that_expects_anything_is_not_doubled_though_the_server_forgets_its_ids() {
    let server = a_forgetful_server().await;
    let store = connect(&server).await;
    elsewhere(&server, "any-1");
    for _ in 0..5 {
        server.faults().next_appends(2, AppendFault::CutAfterCommit);
        soon(store.append(append("any-1", Expected::Any))).await.unwrap();
        server.faults().next_appends(1, AppendFault::TimeOut);
        soon(store.append(append("any-1", Expected::Exists))).await.unwrap();
    }
    assert_eq!(ids(&server, "any-1").len(), 11);
}

#[tokio::test]
async fn an_append_that_expects_anything_goes_behind_what_came_between() {
    let server = a_forgetful_server().await;
    let store = connect(&server).await;
    elsewhere(&server, "between-1");
    // The first copy is held back. By the time the second one comes, another program has taken its place.
    server.faults().next_appends(1, AppendFault::DelayCommit(Wait::Release));
    let append = append("between-1", Expected::Any);
    let appending = tokio::spawn({
        let (store, append) = (store.clone(), append.clone());
        async move { store.append(append).await }
    });
    soon(server.faults().holds(1)).await;
    elsewhere(&server, "between-1");
    server.cut_connections();
    let appended = soon(appending).await.unwrap().unwrap();
    assert_eq!(appended.revision, 2);
    // The first copy comes late, and finds its place taken.
    server.faults().release();
    settle().await;
    assert_eq!(ids(&server, "between-1")[2..], [append.events[0].id]);
}

#[tokio::test]
async fn a_late_write_is_not_a_second_one() {
    let server = a_server().await;
    let store = connect(&server).await;
    server.faults().next_appends(1, AppendFault::DelayCommit(Wait::Release));
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.append(append("late-1", Expected::NoStream)).await }
    });
    soon(server.faults().holds(1)).await;
    server.cut_connections();
    soon(appending).await.unwrap().unwrap();
    server.faults().release();
    settle().await;
    assert_eq!(ids(&server, "late-1").len(), 1);
}

#[tokio::test]
async fn an_append_that_stays_unanswered_is_unknown_and_safe_to_repeat() {
    let server = a_server().await;
    let timing = Timing { answer: Duration::from_millis(200), patience: Duration::from_millis(300), ..hasty() };
    let store = KurrentEventStore::connect_with(&server.url(), timing).await.unwrap();
    let append = append("unknown-1", Expected::NoStream);
    server.faults().next_appends(100, AppendFault::DelayCommit(Wait::Release));
    let answer = soon(store.append(append.clone())).await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    // It was not there when it was given up, and comes all the same.
    assert_eq!(ids(&server, "unknown-1").len(), 0);
    server.faults().clear();
    server.faults().release();
    soon(server.log().reaches(1)).await;
    let repeated = soon(store.append(append)).await.unwrap();
    assert_eq!((repeated.revision, ids(&server, "unknown-1").len()), (0, 1));
}

#[tokio::test]
async fn a_refusal_is_no_proof_while_a_copy_is_under_way() {
    let server = a_server().await;
    let store = connect(&server).await;
    elsewhere(&server, "early-1");
    // The stream is shorter than expected. The copy that is held back will be written once it has grown, so that
    // "nothing was written" would be too much said.
    let append = append("early-1", Expected::Exact(1));
    server.faults().next_appends(1, AppendFault::DelayCommit(Wait::Release));
    let appending = tokio::spawn({
        let (store, append) = (store.clone(), append.clone());
        async move { store.append(append).await }
    });
    soon(server.faults().holds(1)).await;
    server.cut_connections();
    let answer = soon(appending).await.unwrap();
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    elsewhere(&server, "early-1");
    server.faults().release();
    soon(server.log().reaches(3)).await;
    assert_eq!(ids(&server, "early-1")[2..], [append.events[0].id]);
}

#[tokio::test]
async fn a_conflict_tells_the_revision_that_the_stream_has() {
    let server = a_server().await;
    let store = connect(&server).await;
    write_elsewhere(server.log(), "conflict-1", 5);
    for expected in [Expected::NoStream, Expected::Exact(2), Expected::Exact(9), Expected::Exact(i64::MAX as u64)] {
        let answer = soon(store.append(append("conflict-1", expected))).await;
        let told =
            matches!(&answer, Err(AppendError::Conflict { actual: Some(4), expected: told, .. }) if *told == expected);
        assert!(told, "{expected:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_leader_is_found() {
    let log = Arc::<Log>::default();
    let leader = Server::start_with(Settings::default(), log.clone()).await.unwrap();
    let follower = Server::start_with(Settings::default(), log).await.unwrap();
    let store = connect(&follower).await;
    follower.faults().next_appends(1, AppendFault::NotLeader(leader.endpoint()));
    soon(store.append(append("leader-1", Expected::NoStream))).await.unwrap();
    // From here on it is asked at once: what the follower would do wrong does not matter.
    follower.faults().next_appends(1, AppendFault::CutBeforeCommit);
    soon(store.append(append("leader-2", Expected::NoStream))).await.unwrap();
    assert_eq!((ids(&leader, "leader-1").len(), ids(&leader, "leader-2").len()), (1, 1));
    follower.faults().clear();
}

#[tokio::test]
async fn a_leader_that_is_not_there_is_not_the_end() {
    let server = a_server().await;
    let store = connect(&server).await;
    let gone = a_server().await;
    gone.stop().await;
    server.faults().next_appends(1, AppendFault::NotLeader(gone.endpoint()));
    soon(store.append(append("gone-1", Expected::NoStream))).await.unwrap();
    server.faults().next_reads(1, ReadFault::NotLeader(gone.endpoint()));
    assert!(soon(store.head()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_cluster_is_asked_who_leads() {
    let log = Arc::<Log>::default();
    let nodes = [
        Server::start_with(Settings::default(), log.clone()).await.unwrap(),
        Server::start_with(Settings::default(), log).await.unwrap(),
    ];
    let announce = |leader: usize, alive: [bool; 2]| {
        let member = |n: usize| Member {
            endpoint: nodes[n].endpoint(),
            role: if n == leader { Role::Leader } else { Role::Follower },
            alive: alive[n],
        };
        nodes.iter().for_each(|node| node.announce(vec![member(0), member(1)]));
    };
    announce(0, [true, true]);
    let url = format!("esdb://{},{}?tls=false", nodes[0].address(), nodes[1].address());
    let store = KurrentEventStore::connect_with(&url, hasty()).await.unwrap();
    soon(store.append(append("cluster-1", Expected::NoStream))).await.unwrap();
    // The leader goes down, and the other one takes over. The client by itself would stay with the one that is down.
    nodes[0].stop().await;
    announce(1, [false, true]);
    soon(store.append(append("cluster-1", Expected::Exact(0)))).await.unwrap();
    let page = soon(store.read_stream(&name("cluster-1"), None, Direction::Forwards, 10)).await.unwrap();
    assert_eq!(page.events.len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_waited_for() {
    let server = a_server().await;
    let store = connect(&server).await;
    server.faults().next_appends(3, AppendFault::NotReady);
    server.faults().next_reads(2, ReadFault::NotReady);
    soon(store.append(append("ready-1", Expected::NoStream))).await.unwrap();
    assert_eq!(ids(&server, "ready-1").len(), 1);
}

#[tokio::test]
async fn a_server_that_stays_away_takes_nothing() {
    let server = a_server().await;
    let timing = Timing { patience: Duration::from_millis(100), ..hasty() };
    let store = KurrentEventStore::connect_with(&server.url(), timing).await.unwrap();
    server.stop().await;
    // The first goes into the session that was cut, the second finds none.
    let _ = soon(store.append(append("away-1", Expected::NoStream))).await;
    let answer = soon(store.append(append("away-2", Expected::NoStream))).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    server.restart().await.unwrap();
    soon(async { while store.append(append("away-3", Expected::Any)).await.is_err() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_under_load_loses_and_doubles_nothing() {
    let server = a_server().await;
    let store = connect(&server).await;
    let writers = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut last = None;
            for _ in 0..30 {
                let appended = store.append(append(&format!("restart-{n}"), Expected::last(last))).await.unwrap();
                assert_eq!(Some(appended.revision), last.map_or(Some(0), |last: u64| Some(last + 1)));
                last = Some(appended.revision);
            }
        })
    });
    let writers = futures::future::join_all(writers);
    tokio::pin!(writers);
    for goal in [40, 90, 140, 190] {
        soon(server.log().reaches(goal)).await;
        server.restart().await.unwrap();
    }
    soon(&mut writers).await.into_iter().for_each(|writer| writer.unwrap());
    assert_eq!(server.log().records().len(), 8 * 30);
}

#[tokio::test]
async fn what_the_server_would_not_take_is_not_sent() {
    let server = a_server().await;
    let store = connect(&server).await;
    // A type of 90 characters takes 90 bytes here and 180 there; 4 more are data and metadata.
    let events = vec![event(&"T".repeat(90)); 10_000];
    let answer = store.append(Append { stream: name("limit-1"), expected: Expected::Any, events }).await;
    assert!(matches!(answer, Err(AppendError::Limit { events: 10_000, bytes: 1_840_000 })), "{answer:?}");
    assert!(server.log().records().is_empty());
}

#[tokio::test]
async fn a_server_with_a_lower_limit_is_understood() {
    let server = Server::start(Settings { max_append_bytes: 500, ..Settings::default() }).await.unwrap();
    let store = connect(&server).await;
    let large = Append { events: vec![event("Happened"); 100], ..append("limit-1", Expected::NoStream) };
    let answer = soon(store.append(large)).await;
    assert!(matches!(answer, Err(AppendError::Limit { events: 100, .. })), "{answer:?}");
    soon(store.append(append("limit-1", Expected::NoStream))).await.unwrap();
}

// Connecting

#[tokio::test]
async fn a_refused_first_connection_is_not_the_last() {
    let server = a_server().await;
    let store = connect(&server).await;
    server.stop().await;
    soon(async { while store.head().await.is_ok() {} }).await;
    // Every client from here on is refused at its first connection, and is dead for good.
    for _ in 0..3 {
        soon(store.head()).await.unwrap_err();
    }
    server.restart().await.unwrap();
    soon(store.append(append("refused-1", Expected::NoStream))).await.unwrap();
    assert!(soon(store.head()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_may_start_after_its_clients() {
    let server = a_server().await;
    server.stop().await;
    let connecting = tokio::spawn({
        let url = server.url();
        async move { KurrentEventStore::connect_with(&url, hasty()).await }
    });
    settle().await;
    server.restart().await.unwrap();
    soon(connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_are_closed_at_once_are_made_again() {
    let server = a_server().await;
    server.faults().next_connections(3);
    let store = soon(connect(&server)).await;
    server.faults().next_connections(3);
    server.cut_connections();
    soon(store.append(append("closed-1", Expected::NoStream))).await.unwrap();
    assert!(soon(store.head()).await.unwrap().is_some());
}

#[tokio::test]
async fn nobody_there_is_an_error_after_a_while() {
    let server = a_server().await;
    server.stop().await;
    let timing = Timing { patience: Duration::from_millis(200), ..hasty() };
    let refused = soon(KurrentEventStore::connect_with(&server.url(), timing)).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Unreachable(_)), "{refused:?}");
    let refused = KurrentEventStore::connect("esdb://nobody:secret@?tls=maybe").await.err().unwrap();
    assert!(matches!(refused, ConnectError::ConnectionString { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_network_that_loses_everything_is_noticed() {
    let server = a_server().await;
    let timing = Timing { answer: Duration::from_millis(200), patience: Duration::from_secs(20), ..hasty() };
    let store = KurrentEventStore::connect_with(&server.url(), timing).await.unwrap();
    server.freeze();
    let unread = soon(store.head()).await;
    assert!(unread.is_err(), "{unread:?}");
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.append(append("frozen-1", Expected::NoStream)).await }
    });
    settle().await;
    server.thaw();
    soon(appending).await.unwrap().unwrap();
    assert_eq!(ids(&server, "frozen-1").len(), 1);
}

// Reading

#[tokio::test]
async fn commit_and_prepare_are_both_kept() {
    // Each append ends with a commit record: its events have one commit position and different prepare positions.
    let log = Arc::new(Log::new(LogSettings { commit_records: true, ..LogSettings::default() }));
    for _ in 0..3 {
        write_elsewhere(&log, "split-1", 4);
    }
    let server = Server::start_with(Settings::default(), log).await.unwrap();
    let store = connect(&server).await;
    let (mut after, mut positions) = (None, Vec::new());
    loop {
        let page = store.read_all(after, &Filter::all(), 1).await.unwrap();
        positions.extend(page.events.iter().map(|event| event.position));
        after = page.read_to;
        if page.at_head {
            break;
        }
    }
    let there = server.log().records().into_iter().map(|record| {
        let kurrentdb_server::Position { commit, prepare } = record.position;
        Position { commit, prepare }
    });
    assert_eq!(positions, there.collect::<Vec<_>>());
    assert!(positions.windows(2).any(|pair| pair[0].commit == pair[1].commit));
    // Such a server does not say where the events of a stream stand in the whole log, and the port has to.
    assert!(store.read_stream(&name("split-1"), None, Direction::Forwards, 1).await.is_err());
}

#[tokio::test]
async fn the_servers_own_events_are_left_out() {
    let server = a_server().await;
    let store = connect(&server).await;
    elsewhere(&server, "$stats");
    assert_eq!(store.head().await.unwrap(), None);
    let page = store.read_all(None, &Filter::all(), 10).await.unwrap();
    assert_eq!(page, AllPage { events: Vec::new(), read_to: None, at_head: true });

    let appended = store.append(append("own-1", Expected::NoStream)).await.unwrap();
    write_elsewhere(server.log(), "$stats", 200);
    for _ in 0..2 {
        assert_eq!(store.head().await.unwrap(), Some(appended.position));
    }
    for filter in [Filter::all(), Filter::categories(["own"]), Filter::categories(["none"])] {
        let mut page = store.read_all(None, &filter, 10).await.unwrap();
        while !page.at_head {
            page = store.read_all(page.read_to, &filter, 10).await.unwrap();
        }
        assert_eq!(page.read_to, Some(appended.position));
    }
}

#[tokio::test]
async fn what_others_append_is_at_the_head_at_once() {
    let server = a_server().await;
    // No poll and no subscription will tell.
    let timing = Timing { poll: Duration::from_secs(3_600), ..hasty() };
    server.faults().next_subscriptions(1, SubscriptionFault::After(0, Interruption::Silence));
    let store = KurrentEventStore::connect_with(&server.url(), timing).await.unwrap();
    let appended = store.append(append("mine-1", Expected::NoStream)).await.unwrap();
    elsewhere(&server, "others-1");
    elsewhere(&server, "others-2");
    let (mut after, mut found) = (None, 0);
    loop {
        let page = store.read_all(after, &Filter::categories(["others"]), 10).await.unwrap();
        found += page.events.len();
        after = page.read_to;
        if page.at_head {
            break;
        }
    }
    assert_eq!(found, 2);
    assert!(after > Some(appended.position));
}

#[tokio::test]
async fn a_read_that_is_cut_is_made_again() {
    let server = a_server().await;
    let store = connect(&server).await;
    write_elsewhere(server.log(), "cut-1", 50);
    for after in [0, 1, 20] {
        server.faults().next_reads(1, ReadFault::CutAfter(after));
        let page = soon(store.read_stream(&name("cut-1"), None, Direction::Forwards, 100)).await.unwrap();
        assert_eq!(page.events.len(), 50);
    }
}

#[tokio::test]
async fn a_node_that_lags_behind_hides_nothing_from_a_reader() {
    let streams = ["lag-1", "other-1", "lag-2", "lag-3", "other-2"];
    let server = a_server().await;
    streams.iter().for_each(|stream| elsewhere(&server, stream));
    let store = connect(&server).await;
    // The one that said where the log ends is not the one that is read from.
    let behind = a_server().await;
    streams[..2].iter().for_each(|stream| elsewhere(&behind, stream));
    assert_eq!(behind.log().head(), Some(server.log().records()[1].position));
    server.faults().next_reads(1, ReadFault::NotLeader(behind.endpoint()));
    let filter = Filter::categories(["lag"]);
    let page = soon(store.read_all(None, &filter, 100)).await.unwrap();
    server.faults().clear();
    let mut found: Vec<_> = page.events.iter().map(|event| event.stream.to_string()).collect();
    let mut after = page.read_to;
    // It catches up.
    streams[2..].iter().for_each(|stream| elsewhere(&behind, stream));
    loop {
        let page = soon(store.read_all(after, &filter, 100)).await.unwrap();
        found.extend(page.events.iter().map(|event| event.stream.to_string()));
        after = page.read_to;
        if page.at_head {
            break;
        }
    }
    assert_eq!(found, ["lag-1", "lag-2", "lag-3"]);
    assert_eq!(after, store.head().await.unwrap());
}

#[tokio::test]
async fn a_category_is_not_another_that_starts_alike() {
    let server = a_server().await;
    let store = connect(&server).await;
    for stream in ["order-1", "orders-1", "order", "reorder-1", "order-1-2"] {
        elsewhere(&server, stream);
    }
    let page = store.read_all(None, &Filter::categories(["order"]), 10).await.unwrap();
    let streams: Vec<_> = page.events.iter().map(|event| event.stream.as_str()).collect();
    assert_eq!(streams, ["order-1", "order-1-2"]);
}

#[tokio::test]
async fn how_many_events_lie_between_is_not_known() {
    let server = a_server().await;
    let store = connect(&server).await;
    let Appended { position, .. } = store.append(append("count-1", Expected::NoStream)).await.unwrap();
    assert_eq!(store.events_between(None, Some(position)), None);
}

// Waking. One thread: a subscription that runs wild would hold up everything.

#[tokio::test]
async fn the_subscription_wakes_a_reader() {
    let server = a_server().await;
    // Neither the poll nor the floor beneath it comes before the test is over.
    let timing = Timing { poll: Duration::from_secs(3_600), ..hasty() };
    let store = KurrentEventStore::connect_with(&server.url(), timing).await.unwrap();
    elsewhere(&server, "wake-1");
    soon(store.changed(None)).await;
    assert_eq!(soon(news(&store, None)).await.events.len(), 1);
}

#[tokio::test]
async fn a_subscription_that_ends_is_made_anew() {
    for interruption in [Interruption::End, Interruption::Fail, Interruption::Cut, Interruption::FallBehind] {
        let server = a_server().await;
        let faults = server.faults();
        faults.next_subscriptions(1, SubscriptionFault::After(0, interruption));
        let store = connect(&server).await;
        soon(faults.spent()).await;
        elsewhere(&server, "ended-1");
        assert_eq!(soon(news(&store, None)).await.events.len(), 1, "{interruption:?}");
        if interruption != Interruption::FallBehind {
            // Each of these is another subscription.
            faults.next_subscriptions(3, SubscriptionFault::After(1, interruption));
            let mut seen = store.head().await.unwrap();
            faults.interrupt_subscriptions(interruption);
            let spending = faults.spent();
            tokio::pin!(spending);
            // They end with the first event that they bring.
            soon(async {
                for n in 0.. {
                    elsewhere(&server, "ended-2");
                    seen = news(&store, seen).await.read_to;
                    let done = futures::future::poll_immediate(&mut spending).await.is_some();
                    if done {
                        return;
                    }
                    assert!(n < 100_000);
                }
            })
            .await;
        }
    }
}

/// The processor time that this process has taken: a test is a process of its own under the runner.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in brackets, may have blanks. Behind it come the state and, as numbers 12 and 13, ticks of 10 ms.
    let behind: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = behind[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// The client asks a subscription that has ended again and again, without giving way: a thread of its runtime would be busy
/// for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_ends_takes_no_processor_with_it() {
    let server = a_server().await;
    server.faults().next_subscriptions(3, SubscriptionFault::After(0, Interruption::End));
    let store = KurrentEventStore::connect(&server.url()).await.unwrap();
    soon(server.faults().spent()).await;
    elsewhere(&server, "ended-1");
    let told = tokio::time::timeout(Duration::from_secs(5), news(&store, None)).await;
    let news = told.expect("a reader was not told within 5 s");
    let (start, before) = (std::time::Instant::now(), processor_time());
    while start.elapsed() < Duration::from_secs(4) {
        // Returns within a second, whatever happens.
        store.changed(news.read_to).await;
    }
    let (taken, passed) = (processor_time() - before, start.elapsed());
    assert!(taken < passed / 5, "{taken:?} of {passed:?}");
}

#[tokio::test]
async fn a_subscription_that_falls_silent_is_made_anew() {
    let server = a_server().await;
    let faults = server.faults();
    faults.next_subscriptions(1, SubscriptionFault::After(0, Interruption::Silence));
    let store = connect(&server).await;
    soon(faults.spent()).await;
    // Told for the next one: when it has met somebody, there was a next one.
    faults.next_subscriptions(1, SubscriptionFault::Slow(Duration::ZERO));
    elsewhere(&server, "silent-1");
    assert_eq!(soon(news(&store, None)).await.events.len(), 1);
    soon(faults.spent()).await;
}

#[tokio::test]
async fn a_server_without_subscriptions_is_polled() {
    let server = a_server().await;
    server.faults().next_subscriptions(100_000, SubscriptionFault::NotReady);
    let store = connect(&server).await;
    let mut seen = None;
    for n in 0..5 {
        elsewhere(&server, &format!("polled-{n}"));
        seen = soon(news(&store, seen)).await.read_to;
    }
    assert_eq!(seen, store.head().await.unwrap());
}
