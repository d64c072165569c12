//! What goes wrong when it is told to, and what the client makes of it.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, BatchAppendOptions, Client, Error, EventData, ReadAllOptions, ReadStreamOptions,
    RetryOptions, StreamPosition, StreamState, SubscribeToAllOptions, Subscription, WriteResult,
};
use kurrentdb_server::{AppendFault, Interruption, ReadFault, Server, SubscriptionFault, Wait};

use crate::subscriptions::{Said, next, next_many};
use crate::support::{append, client, connect, event, events, happen, in_log, read, read_all, revisions, server, soon};

/// Shorter than anything that is held.
const DEADLINE: Duration = Duration::from_millis(100);

async fn append_in_time(client: &Client, event: EventData) -> eventstore::Result<WriteResult> {
    let options = AppendToStreamOptions::default().stream_state(StreamState::NoStream).deadline(DEADLINE);
    soon(client.append_to_stream("s", &options, event)).await
}

#[tokio::test]
async fn a_connection_is_cut_before_the_commit() {
    let server = server().await;
    let client = client(&server);
    let event = event();
    server.faults().next_appends(2, AppendFault::CutBeforeCommit);
    for _ in 0..2 {
        let result = append(&client, "s", StreamState::NoStream, vec![event.clone()]).await;
        assert!(matches!(result, Err(Error::ServerError(_))), "{result:?}");
    }
    assert_eq!(server.log().head(), None);
    append(&client, "s", StreamState::NoStream, vec![event]).await.unwrap();
    assert_eq!(server.log().records().len(), 1);
}

#[tokio::test]
async fn a_connection_is_cut_after_the_commit() {
    let server = server().await;
    let client = client(&server);
    let event = event();
    server.faults().next_appends(1, AppendFault::CutAfterCommit);
    let result = append(&client, "s", StreamState::NoStream, vec![event.clone()]).await;
    assert!(matches!(result, Err(Error::ServerError(_))), "{result:?}");
    assert_eq!(server.log().records().len(), 1);
    let again = append(&client, "s", StreamState::NoStream, vec![event]).await.unwrap();
    assert_eq!(again.next_expected_version, 0);
    assert_eq!(server.log().records().len(), 1);
}

#[tokio::test]
async fn an_append_lands_after_its_deadline() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(1, AppendFault::DelayCommit(Wait::Release));
    let result = append_in_time(&client, event()).await;
    assert!(matches!(result, Err(Error::DeadlineExceeded)), "{result:?}");
    assert!(matches!(read(&client, "s", ReadStreamOptions::default()).await, Err(Error::ResourceNotFound)));
    server.faults().release();
    soon(server.log().reaches(1)).await;
    assert_eq!(revisions(&read(&client, "s", ReadStreamOptions::default()).await.unwrap()), [0]);
}

#[tokio::test]
async fn appends_are_held_at_a_gate_and_written_or_not() {
    let server = server().await;
    for written in [true, false] {
        let client = client(&server);
        let before = server.log().records().len();
        let append = async || client.append_to_stream("s", &AppendToStreamOptions::default(), event()).await;
        server.faults().shut_gate_after(1);
        append().await.unwrap();
        let (held, ()) = tokio::join!(append(), async {
            server.faults().holds(1).await;
            assert_eq!(server.log().records().len(), before + 1);
            if written { server.faults().release() } else { server.faults().dismiss() }
        });
        assert_eq!(held.is_ok(), written, "{held:?}");
        assert_eq!(server.log().records().len(), before + 1 + usize::from(written));
    }
}

#[tokio::test]
async fn an_append_is_answered_after_its_deadline() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(1, AppendFault::DelayAnswer(Wait::Release));
    let result = append_in_time(&client, event()).await;
    assert!(matches!(result, Err(Error::DeadlineExceeded)), "{result:?}");
    assert_eq!(server.log().records().len(), 1);
}

#[tokio::test]
async fn an_answer_is_held_until_it_is_released() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(2, AppendFault::DelayAnswer(Wait::Release));
    let both = async {
        tokio::join!(
            append(&client, "a", StreamState::NoStream, events(1)),
            append(&client, "b", StreamState::NoStream, events(1))
        )
    };
    let release = async {
        soon(server.faults().holds(2)).await;
        assert_eq!(server.log().records().len(), 2);
        server.faults().release();
    };
    let ((a, b), ()) = tokio::join!(both, release);
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn the_server_may_not_know_or_not_be_ready() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(1, AppendFault::TimeOut);
    server.faults().next_appends(1, AppendFault::NotReady);
    let unknown = append(&client, "s", StreamState::NoStream, events(1)).await;
    let Err(Error::Grpc { code, .. }) = unknown else { panic!("it knows: {unknown:?}") };
    assert_eq!(i32::from(code), 10, "aborted");
    assert_eq!(server.log().records().len(), 1);
    let not_ready = append(&client, "s", StreamState::Any, events(1)).await;
    assert!(matches!(not_ready, Err(Error::ServerError(_))), "{not_ready:?}");
    assert_eq!(server.log().records().len(), 1);
    append(&client, "s", StreamState::StreamRevision(0), events(1)).await.unwrap();
}

#[tokio::test]
async fn in_a_session_not_to_be_ready_has_the_code_of_success() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(1, AppendFault::NotReady);
    server.faults().next_appends(1, AppendFault::TimeOut);
    for expected in [(0, "Server Is Not Ready"), (4, "Timeout")] {
        let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
        let result = soon(session.append_to_stream("s", StreamState::NoStream, events(1))).await;
        let Err(Error::Grpc { code, message }) = result else { panic!("it is well: {result:?}") };
        assert_eq!((i32::from(code), message.as_str()), expected);
    }
    assert_eq!(server.log().records().len(), 1, "the one whose answer says that it took too long");
}

#[tokio::test]
async fn a_session_is_cut_after_a_commit() {
    let server = server().await;
    let client = client(&server);
    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    soon(session.append_to_stream("s", StreamState::NoStream, events(1))).await.unwrap();
    server.faults().next_appends(1, AppendFault::CutAfterCommit);
    let event = event();
    let lost = soon(session.append_to_stream("s", StreamState::StreamRevision(0), vec![event.clone()])).await;
    assert!(matches!(lost, Err(Error::ServerError(_))), "{lost:?}");
    let closed = soon(session.append_to_stream("s", StreamState::StreamRevision(1), events(1))).await;
    assert!(matches!(closed, Err(Error::ServerError(_))), "{closed:?}");

    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    let again = soon(session.append_to_stream("s", StreamState::StreamRevision(0), vec![event])).await.unwrap();
    assert_eq!(again.current_revision(), Some(1));
    assert_eq!(server.log().records().len(), 2);
}

#[tokio::test]
async fn a_delayed_append_of_a_session_holds_up_no_other() {
    let server = server().await;
    let client = client(&server);
    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    server.faults().next_appends(1, AppendFault::DelayAnswer(Wait::Release));
    let held = session.append_to_stream("held", StreamState::NoStream, events(1));
    let other = async {
        soon(server.faults().holds(1)).await;
        soon(session.append_to_stream("other", StreamState::NoStream, events(1))).await.unwrap();
        server.faults().release();
    };
    let (held, ()) = tokio::join!(soon(held), other);
    assert_eq!(held.unwrap().current_revision(), Some(0));
}

#[tokio::test]
async fn a_session_ends_when_another_server_leads() {
    let (one, two) = (server().await, server().await);
    let session = soon(client(&one).batch_append(&BatchAppendOptions::default())).await.unwrap();
    one.faults().next_appends(1, AppendFault::NotLeader(two.endpoint()));
    let refused = soon(session.append_to_stream("s", StreamState::NoStream, events(1))).await;
    assert!(matches!(refused, Err(Error::NotLeaderException(_))), "{refused:?}");
}

#[tokio::test]
async fn a_read_is_cut() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 5).await;
    server.faults().next_reads(1, ReadFault::CutAfter(2));
    let cut = read(&client, "s", ReadStreamOptions::default()).await;
    assert!(matches!(cut, Err(Error::ServerError(_))), "{cut:?}");
    assert_eq!(read(&client, "s", ReadStreamOptions::default()).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_read_takes_longer_than_its_deadline() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(100)).await.unwrap();
    let in_time = || ReadStreamOptions::default().deadline(DEADLINE);
    server.faults().next_reads(1, ReadFault::Slow(DEADLINE / 5));
    let slow = read(&client, "s", in_time()).await;
    assert!(matches!(slow, Err(Error::DeadlineExceeded)), "{:?}", slow.map(|events| events.len()));
    server.faults().next_reads(1, ReadFault::Delay(Wait::Release));
    let held = read(&client, "s", in_time()).await;
    assert!(matches!(held, Err(Error::DeadlineExceeded)), "{:?}", held.map(|events| events.len()));
    assert_eq!(read(&client, "s", ReadStreamOptions::default()).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_read_meets_a_server_that_does_not_lead_or_is_not_ready() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_reads(1, ReadFault::NotReady);
    server.faults().next_reads(1, ReadFault::NotLeader(server.endpoint()));
    let not_ready = read_all(&client, ReadAllOptions::default()).await;
    assert!(matches!(not_ready, Err(Error::ServerError(_))), "{not_ready:?}");
    let not_leader = read_all(&client, ReadAllOptions::default()).await;
    assert!(matches!(not_leader, Err(Error::NotLeaderException(_))), "{not_leader:?}");
    assert!(read_all(&client, ReadAllOptions::default()).await.unwrap().is_empty());
}

async fn subscribe(client: &Client) -> Subscription {
    client.subscribe_to_all(&SubscribeToAllOptions::default()).await
}

#[tokio::test]
async fn a_subscription_fails_or_is_cut_after_some_events() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 3).await;
    let positions = in_log(&server);
    server.faults().next_subscriptions(1, SubscriptionFault::After(1, Interruption::Fail));
    let mut subscription = subscribe(&client).await;
    assert_eq!(next_many(&mut subscription, 2).await, [Said::Confirmed, Said::Event(0, positions[0])]);
    assert!(matches!(next(&mut subscription).await, Err(Error::ServerError(_))));

    server.faults().next_subscriptions(1, SubscriptionFault::After(2, Interruption::Cut));
    let mut subscription = subscribe(&client).await;
    let mut heard = 0;
    let error = loop {
        match next(&mut subscription).await {
            Ok(said) => heard += usize::from(matches!(said, Said::Event(..))),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::ServerError(_)), "{error:?}");
    assert!(heard <= 2);
    assert_eq!(next_many(&mut subscribe(&client).await, 5).await.len(), 5);
}

#[tokio::test]
async fn a_client_that_retries_goes_on_past_the_last_event() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 3).await;
    let positions = in_log(&server);
    server.faults().next_subscriptions(1, SubscriptionFault::After(2, Interruption::Fail));
    let options = SubscribeToAllOptions::default().retry_options(RetryOptions::default());
    let mut subscription = client.subscribe_to_all(&options).await;
    assert_eq!(
        next_many(&mut subscription, 6).await,
        [
            Said::Confirmed,
            Said::Event(0, positions[0]),
            Said::Event(1, positions[1]),
            Said::Confirmed,
            Said::Event(2, positions[2]),
            Said::CaughtUp(None, Some(positions[2]))
        ]
    );
}

#[tokio::test]
async fn a_silent_subscription_misses_what_happens() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_subscriptions(1, SubscriptionFault::After(1, Interruption::Silence));
    let mut silent = subscribe(&client).await;
    let mut other = subscribe(&client).await;
    let caught_up = [Said::Confirmed, Said::CaughtUp(None, None)];
    // The first to subscribe meets the fault.
    assert_eq!(next_many(&mut silent, 2).await, caught_up);
    assert_eq!(next_many(&mut other, 2).await, caught_up);
    happen(&client, "s", "Happened", 2).await;
    let positions = in_log(&server);
    let both = [Said::Event(0, positions[0]), Said::Event(1, positions[1])];
    assert_eq!(next_many(&mut other, 2).await, both);
    assert_eq!(next(&mut silent).await.unwrap(), both[0]);
    let nothing = tokio::time::timeout(DEADLINE, silent.next_subscription_event()).await;
    assert!(nothing.is_err(), "it said {nothing:?}");
}

#[tokio::test]
async fn a_subscription_is_slow_or_meets_a_server_that_does_not_lead_or_is_not_ready() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 1).await;
    server.faults().next_subscriptions(1, SubscriptionFault::NotReady);
    server.faults().next_subscriptions(1, SubscriptionFault::NotLeader(server.endpoint()));
    server.faults().next_subscriptions(1, SubscriptionFault::Slow(Duration::from_secs(3600)));
    assert!(matches!(next(&mut subscribe(&client).await).await, Err(Error::ServerError(_))));
    assert!(matches!(next(&mut subscribe(&client).await).await, Err(Error::NotLeaderException(_))));
    let mut slow = subscribe(&client).await;
    assert_eq!(next(&mut slow).await.unwrap(), Said::Confirmed);
    let nothing = tokio::time::timeout(DEADLINE, slow.next_subscription_event()).await;
    assert!(nothing.is_err(), "it said {nothing:?}");
}

#[tokio::test]
async fn all_connections_are_cut() {
    let server = server().await;
    let client = client(&server);
    let mut subscription = subscribe(&client).await;
    next_many(&mut subscription, 2).await;
    server.cut_connections();
    assert!(matches!(next(&mut subscription).await, Err(Error::ServerError(_))));
    append(&client, "s", StreamState::NoStream, events(1)).await.unwrap();
}

#[tokio::test]
async fn a_subscription_falls_behind_and_catches_up() {
    let server = server().await;
    let client = client(&server);
    let mut subscription = subscribe(&client).await;
    assert_eq!(next_many(&mut subscription, 2).await, [Said::Confirmed, Said::CaughtUp(None, None)]);
    server.faults().interrupt_subscriptions(Interruption::FallBehind);
    assert_eq!(next_many(&mut subscription, 2).await, [Said::FellBehind, Said::CaughtUp(None, None)]);
    happen(&client, "s", "Happened", 1).await;
    assert_eq!(next(&mut subscription).await.unwrap(), Said::Event(0, in_log(&server)[0]));
}

#[tokio::test]
async fn open_subscriptions_are_interrupted() {
    let server = server().await;
    let client = client(&server);
    let (mut one, mut two) = (subscribe(&client).await, subscribe(&client).await);
    next_many(&mut one, 2).await;
    next_many(&mut two, 2).await;
    server.faults().interrupt_subscriptions(Interruption::Fail);
    assert!(next(&mut one).await.is_err());
    assert!(next(&mut two).await.is_err());
    assert_eq!(next(&mut subscribe(&client).await).await.unwrap(), Said::Confirmed, "later ones are not");
}

#[tokio::test]
async fn a_refused_client_is_dead_and_another_is_not() {
    let server = server().await;
    let refused = client(&server);
    server.faults().next_connections(1);
    let options = ReadAllOptions::default();
    assert!(matches!(read_all(&refused, options.clone()).await, Err(Error::GrpcConnectionError(_))));
    soon(server.faults().spent()).await;
    assert!(matches!(read_all(&refused, options.clone()).await, Err(Error::ConnectionClosed)));
    assert!(read_all(&client(&server), options).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stopped_server_refuses_and_a_restarted_one_has_its_data() {
    let server = server().await;
    let client = client(&server);
    let address = server.address();
    append(&client, "s", StreamState::NoStream, events(2)).await.unwrap();
    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    soon(session.append_to_stream("t", StreamState::NoStream, events(1))).await.unwrap();
    server.stop().await;
    assert!(read_all(&client, ReadAllOptions::default()).await.is_err());
    assert!(soon(session.append_to_stream("t", StreamState::Any, events(1))).await.is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");

    server.restart().await.unwrap();
    assert_eq!(server.address(), address);
    let after = append(&client, "s", StreamState::StreamRevision(1), events(1)).await.unwrap();
    assert_eq!(after.next_expected_version, 2, "the client goes on by itself");
    assert_eq!(read_all(&connect(&server.url()), ReadAllOptions::default()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_log_outlives_its_server() {
    let one = server().await;
    append(&client(&one), "s", StreamState::NoStream, events(2)).await.unwrap();
    let log = one.log().clone();
    drop(one);
    let two = Server::start_with(kurrentdb_server::Settings::default(), log).await.unwrap();
    assert_eq!(revisions(&read(&client(&two), "s", ReadStreamOptions::default()).await.unwrap()), [0, 1]);
}

#[tokio::test]
async fn nothing_passes_a_frozen_network() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 1).await;
    server.freeze();
    let late = append(&client, "s", StreamState::StreamRevision(0), events(1));
    tokio::pin!(late);
    let nothing = tokio::time::timeout(DEADLINE, &mut late).await;
    assert!(nothing.is_err(), "it said {nothing:?}");
    assert_eq!(server.log().records().len(), 1);
    server.thaw();
    assert_eq!(late.await.unwrap().next_expected_version, 1);
}

#[tokio::test]
async fn faults_that_have_not_happened_are_taken_back() {
    let server = server().await;
    let client = client(&server);
    server.faults().next_appends(3, AppendFault::NotReady);
    server.faults().next_reads(1, ReadFault::NotReady);
    server.faults().clear();
    append(&client, "s", StreamState::NoStream, events(1)).await.unwrap();
    let from_start = ReadAllOptions::default().position(StreamPosition::Start);
    assert_eq!(read_all(&client, from_start).await.unwrap().len(), 1);
}
