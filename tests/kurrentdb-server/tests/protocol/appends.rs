//! Appending: revisions, conflicts, and which repeated appends are recognised.

use eventstore::{BatchAppendOptions, CurrentRevision, Error, EventData, ReadStreamOptions, StreamState};
use futures::future::join_all;
use kurrentdb_server::{Expected, NewEvent, Rejected, Server, Settings, Write};
use uuid::Uuid;

use crate::support::{append, client, event, events, in_log, read, revisions, server, soon, to_log};

/// What was expected and what was found, of an append that found something else.
#[track_caller]
fn conflict<T: std::fmt::Debug>(result: eventstore::Result<T>) -> (StreamState, Option<u64>) {
    let Err(Error::WrongExpectedVersion { expected, current }) = result else { panic!("no conflict: {result:?}") };
    let CurrentRevision::Current(current) = current else { return (expected, None) };
    (expected, Some(current))
}

#[tokio::test]
async fn revisions_have_no_gap_and_positions_are_offsets() {
    let server = server().await;
    let client = client(&server);
    let first = append(&client, "a", StreamState::NoStream, events(2)).await.unwrap();
    let other = append(&client, "b", StreamState::NoStream, events(1)).await.unwrap();
    let second = append(&client, "a", StreamState::StreamRevision(1), events(3)).await.unwrap();
    assert_eq!([first.next_expected_version, other.next_expected_version, second.next_expected_version], [1, 0, 4]);
    let read = read(&client, "a", ReadStreamOptions::default()).await.unwrap();
    assert_eq!(revisions(&read), [0, 1, 2, 3, 4]);

    let positions = in_log(&server);
    assert!(positions.is_sorted_by(|one, next| one < next));
    assert!(positions.windows(2).all(|pair| pair[1].commit - pair[0].commit > 100), "{positions:?}");
    assert!(positions.iter().all(|position| position.commit > 0 && position.commit == position.prepare));
    assert_eq!(
        [first, other, second].map(|result| to_log(result.position)),
        [positions[1], positions[2], positions[5]]
    );
}

#[tokio::test]
async fn a_conflict_says_what_was_expected_and_what_there_is() {
    let server = server().await;
    let client = client(&server);
    append(&client, "there", StreamState::NoStream, events(3)).await.unwrap();
    for (stream, expected, current) in [
        ("there", StreamState::NoStream, Some(2)),
        ("there", StreamState::StreamRevision(1), Some(2)),
        ("there", StreamState::StreamRevision(3), Some(2)),
        ("not there", StreamState::StreamRevision(0), None),
        ("not there", StreamState::StreamExists, None),
    ] {
        assert_eq!(conflict(append(&client, stream, expected, events(1)).await), (expected, current), "{stream}");
    }
    assert_eq!(server.log().records().len(), 3);
}

#[tokio::test]
async fn a_repeated_append_with_its_old_expectation_is_recognised() {
    let server = server().await;
    let client = client(&server);
    let (first, second) = (events(2), events(2));
    append(&client, "s", StreamState::NoStream, first.clone()).await.unwrap();
    let once = append(&client, "s", StreamState::StreamRevision(1), second.clone()).await.unwrap();
    append(&client, "s", StreamState::StreamRevision(3), events(1)).await.unwrap();

    // Not from memory: a restart does not change it.
    server.restart().await.unwrap();
    let client = crate::support::client(&server);
    let again = append(&client, "s", StreamState::StreamRevision(1), second.clone()).await.unwrap();
    assert_eq!(again.next_expected_version, once.next_expected_version);
    assert_eq!(again.position, once.position);
    let first_again = append(&client, "s", StreamState::NoStream, first.clone()).await.unwrap();
    assert_eq!(first_again.next_expected_version, 1);

    let partly: Vec<EventData> = vec![first[0].clone(), event()];
    assert_eq!(conflict(append(&client, "s", StreamState::NoStream, partly).await).1, Some(4));
    let past_the_end: Vec<EventData> = second.into_iter().chain(events(2)).collect();
    assert_eq!(conflict(append(&client, "s", StreamState::StreamRevision(1), past_the_end).await).1, Some(4));
    assert_eq!(server.log().records().len(), 5);
}

#[tokio::test]
async fn a_repeated_append_with_the_current_revision_is_written_twice() {
    let server = server().await;
    let client = client(&server);
    let events = events(1);
    append(&client, "s", StreamState::NoStream, events.clone()).await.unwrap();
    let again = append(&client, "s", StreamState::StreamRevision(0), events.clone()).await.unwrap();
    assert_eq!(again.next_expected_version, 1);
    let records = server.log().records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].event.id, records[1].event.id);
}

#[tokio::test]
async fn a_repeated_append_of_any_revision_is_recognised_while_its_ids_are_remembered() {
    let server = server().await;
    let client = client(&server);
    let events = events(2);
    for state in [StreamState::Any, StreamState::Any, StreamState::StreamExists] {
        let result = append(&client, "s", state, events.clone()).await.unwrap();
        assert_eq!(result.next_expected_version, 1);
    }
    assert_eq!(server.log().records().len(), 2);
    let partly: Vec<EventData> = vec![events[0].clone(), event()];
    assert_eq!(conflict(append(&client, "s", StreamState::Any, partly).await).1, Some(1));

    server.restart().await.unwrap();
    let client = crate::support::client(&server);
    let result = append(&client, "s", StreamState::Any, events).await.unwrap();
    assert_eq!(result.next_expected_version, 3, "what the server remembered ended with it");
}

#[tokio::test]
async fn an_append_that_is_too_large_is_refused() {
    let settings = Settings { max_append_bytes: 1_000, max_event_bytes: 600, ..Settings::default() };
    let server = Server::start(settings).await.unwrap();
    let client = client(&server);
    let of_size = |bytes: usize| EventData::binary("t", vec![b'x'; bytes - 2].into()).id(Uuid::new_v4());
    append(&client, "s", StreamState::NoStream, vec![of_size(600), of_size(400)]).await.unwrap();
    for (too_large, message) in [
        (vec![of_size(600), of_size(401)], "Maximum Append Size of 1000 Exceeded."),
        (vec![of_size(601)], "Size: 601, exceeds Maximum Append Event Size of 600."),
    ] {
        let result = append(&client, "s", StreamState::Any, too_large).await;
        let Err(Error::Grpc { code, message: said }) = result else { panic!("it was taken: {result:?}") };
        assert_eq!(i32::from(code), 3, "invalid argument");
        assert!(said.contains(message), "{said}");
    }
    assert_eq!(server.log().records().len(), 2);
}

#[tokio::test]
async fn a_session_answers_each_of_its_appends() {
    let server = server().await;
    let client = client(&server);
    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    let appends = (0..20).map(|number| {
        let state = if number < 2 { StreamState::NoStream } else { StreamState::StreamRevision(number / 2 - 1) };
        session.append_to_stream(if number % 2 == 0 { "even" } else { "odd" }, state, events(1))
    });
    for (number, result) in soon(join_all(appends)).await.into_iter().enumerate() {
        let result = result.unwrap();
        assert_eq!(result.current_revision(), Some(number as u64 / 2));
        assert_eq!(result.stream_name(), if number % 2 == 0 { "even" } else { "odd" });
        assert_eq!(to_log(result.current_position().unwrap()), in_log(&server)[number], "they keep their order");
    }
}

#[tokio::test]
async fn a_conflict_in_a_session_is_an_answer_and_the_session_goes_on() {
    let server = server().await;
    let client = client(&server);
    let session = soon(client.batch_append(&BatchAppendOptions::default())).await.unwrap();
    let appends = [
        session.append_to_stream("s", StreamState::NoStream, events(1)),
        session.append_to_stream("s", StreamState::NoStream, events(1)),
        session.append_to_stream("s", StreamState::StreamRevision(0), events(1)),
    ];
    let results = soon(join_all(appends)).await;
    assert_eq!(results[0].as_ref().unwrap().current_revision(), Some(0));
    let Err(Error::Grpc { code, message }) = &results[1] else { panic!("no conflict: {:?}", results[1]) };
    assert_eq!((i32::from(*code), message.as_str()), (6, "WrongExpectedVersion"), "already exists");
    // The server has it, though the client no longer listens.
    soon(server.log().reaches(2)).await;
    assert_eq!(server.log().records()[1].revision, 1);
}

#[tokio::test]
async fn an_append_of_a_session_may_be_too_large() {
    let settings = Settings { max_append_bytes: 1_000, ..Settings::default() };
    let server = Server::start(settings).await.unwrap();
    let session = soon(client(&server).batch_append(&BatchAppendOptions::default())).await.unwrap();
    let too_large = EventData::binary("t", vec![b'x'; 999].into()).id(Uuid::new_v4());
    let result = soon(session.append_to_stream("s", StreamState::Any, vec![too_large])).await;
    let Err(Error::Grpc { code, message }) = result else { panic!("it was taken: {result:?}") };
    assert_eq!((i32::from(code), message.as_str()), (3, "MaximumAppendSizeExceeded"));
}

#[tokio::test]
async fn a_test_may_write_without_a_client() {
    let server = server().await;
    let events = vec![NewEvent::json(Uuid::new_v4(), "$system", "{}")];
    let write = Write { stream: "$stats".to_owned(), expected: Expected::NoStream, events };
    let committed = server.log().write(&write).unwrap();
    assert_eq!(committed.position, server.log().head());
    let other = Write { events: vec![NewEvent::json(Uuid::new_v4(), "$system", "{}")], ..write };
    assert_eq!(server.log().write(&other), Err(Rejected::WrongExpectedVersion { current: Some(0) }));
    let read = read(&client(&server), "$stats", ReadStreamOptions::default()).await.unwrap();
    assert_eq!(revisions(&read), [0]);
}
