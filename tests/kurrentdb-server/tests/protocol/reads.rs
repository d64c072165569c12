//! Reading streams and the whole log, and what is hidden from readers.

use std::sync::Arc;

use eventstore::{
    AppendToStreamOptions, DeleteStreamOptions, Error, ReadAllOptions, ReadEvent, ReadStreamOptions,
    StreamMetadataBuilder, StreamMetadataResult, StreamPosition, StreamState, SubscriptionFilter,
    TombstoneStreamOptions,
};
use kurrentdb_server::{Log, LogSettings, Position, Server, Settings};

use crate::support::{
    append, client, event_of, events, happen, in_log, positions, read, read_all, revisions, server, soon, to_client,
};

fn streams(events: &[eventstore::ResolvedEvent]) -> Vec<String> {
    events.iter().map(|event| event.get_original_stream_id().to_owned()).collect()
}

#[tokio::test]
async fn a_stream_is_read_in_both_directions() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(70)).await.unwrap();
    let options = ReadStreamOptions::default;
    let at = StreamPosition::Position;
    for (options, expected) in [
        (options(), (0..70).collect()),
        (options().max_count(2), vec![0, 1]),
        (options().position(at(67)), vec![67, 68, 69]),
        (options().position(at(67)).max_count(1), vec![67]),
        (options().position(at(70)), vec![]),
        (options().position(at(99)), vec![]),
        (options().backwards().position(StreamPosition::End).max_count(2), vec![69, 68]),
        (options().backwards().position(at(2)), vec![2, 1, 0]),
        (options().backwards().position(at(99)).max_count(1), vec![69]),
        // The client turns round at the start and at the end: the direction is said last.
        (options().position(StreamPosition::Start).backwards(), vec![0]),
        (options().position(StreamPosition::End).forwards(), vec![]),
    ] {
        assert_eq!(revisions(&read(&client, "s", options).await.unwrap()), expected);
    }
    assert!(matches!(read(&client, "t", options()).await, Err(Error::ResourceNotFound)));
}

#[tokio::test]
async fn a_read_says_where_the_stream_ends() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(3)).await.unwrap();
    let past_the_end = ReadStreamOptions::default().position(StreamPosition::Position(9));
    let mut stream = soon(client.read_stream("s", &past_the_end)).await.unwrap();
    let first = soon(stream.next_read_event()).await.unwrap();
    assert!(matches!(first, Some(ReadEvent::FirstStreamPosition(3))));
    let last = soon(stream.next_read_event()).await.unwrap();
    assert!(matches!(last, Some(ReadEvent::LastStreamPosition(2))));
    assert!(soon(stream.next_read_event()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_event_is_read_as_it_was_written() {
    let server = server().await;
    let client = client(&server);
    let id = uuid::Uuid::new_v4();
    let event = eventstore::EventData::json("Named", &serde_json::json!({"name": "Ada"})).unwrap().id(id);
    let event = event.metadata_as_json(&serde_json::json!({"$correlationId": "c"})).unwrap();
    append(&client, "s", StreamState::NoStream, vec![event]).await.unwrap();
    let read = read(&client, "s", ReadStreamOptions::default()).await.unwrap();
    let event = read[0].get_original_event();
    assert_eq!((event.id, event.event_type.as_str(), event.stream_id()), (id, "Named", "s"));
    assert_eq!(
        (&event.data[..], &event.custom_metadata[..]),
        (&br#"{"name":"Ada"}"#[..], &br#"{"$correlationId":"c"}"#[..])
    );
    assert!(event.is_json);
    assert!(event.created.timestamp() > 1_700_000_000);
    assert_eq!(positions(&read), in_log(&server));
}

#[tokio::test]
async fn the_log_is_read_from_an_event_on_or_back_from_before_it() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 5).await;
    let all = in_log(&server);
    let from = |place: usize| StreamPosition::Position(to_client(all[place]));
    let options = ReadAllOptions::default;
    for (options, expected) in [
        (options(), all.clone()),
        (options().max_count(2), all[..2].to_vec()),
        (options().position(from(3)), all[3..].to_vec()),
        (options().position(StreamPosition::End).forwards(), vec![]),
        (options().backwards().position(StreamPosition::End).max_count(2), vec![all[4], all[3]]),
        (options().backwards().position(from(2)), vec![all[1], all[0]]),
        (options().position(StreamPosition::Start).backwards(), vec![]),
    ] {
        assert_eq!(positions(&read_all(&client, options).await.unwrap()), expected);
    }
    let past_the_end = Position { commit: all[4].commit + 1_000_000, prepare: all[4].commit + 1_000_000 };
    let options = options().position(StreamPosition::Position(to_client(past_the_end)));
    assert_eq!(positions(&read_all(&client, options).await.unwrap()), []);
}

#[tokio::test]
async fn a_computed_position_is_invalid() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 2).await;
    let Position { commit, prepare } = in_log(&server)[0];
    let next = eventstore::Position { commit: commit + 1, prepare: prepare + 1 };
    let result = read_all(&client, ReadAllOptions::default().position(StreamPosition::Position(next))).await;
    let Err(Error::Grpc { code, .. }) = result else { panic!("it was read: {result:?}") };
    assert_eq!(i32::from(code), 3, "invalid argument");
}

#[tokio::test]
async fn the_log_is_filtered() {
    let server = server().await;
    let client = client(&server);
    for (stream, event_type) in
        [("order-1", "OrderPlaced"), ("$stats-1", "$statsCollected"), ("payment-1", "Paid"), ("order-2", "Paid")]
    {
        append(&client, stream, StreamState::NoStream, vec![event_of(event_type)]).await.unwrap();
    }
    let (on_stream, on_type) = (SubscriptionFilter::on_stream_name, SubscriptionFilter::on_event_type);
    for (filter, expected) in [
        (on_stream().add_prefix("order-"), vec!["order-1", "order-2"]),
        (on_stream().add_prefix("$").add_prefix("pay"), vec!["$stats-1", "payment-1"]),
        (on_stream().regex("-1$"), vec!["order-1", "$stats-1", "payment-1"]),
        (on_type().add_prefix("Paid"), vec!["payment-1", "order-2"]),
        (on_type().regex("^[A-Z].*d$"), vec!["order-1", "payment-1", "order-2"]),
        (on_type().exclude_system_events(), vec!["order-1", "payment-1", "order-2"]),
        (on_type().regex("^Order").add_prefix("Paid"), vec!["order-1"]),
    ] {
        let read = read_all(&client, ReadAllOptions::default().filter(filter)).await.unwrap();
        assert_eq!(streams(&read), expected);
    }
    let last = ReadAllOptions::default().backwards().position(StreamPosition::End).max_count(1);
    let read = read_all(&client, last.filter(on_stream().add_prefix("payment"))).await.unwrap();
    assert_eq!(streams(&read), ["payment-1"], "the count is of what passes");
    let unknown = ReadAllOptions::default().filter(on_stream().regex("(?!look)ahead"));
    assert!(matches!(read_all(&client, unknown).await, Err(Error::Grpc { .. })));
}

#[tokio::test]
async fn metadata_hides_events_from_readers_of_the_stream() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(40)).await.unwrap();
    let builder = StreamMetadataBuilder::new;
    for (metadata, visible) in [
        (builder().max_count(3).build(), 37..40),
        (builder().truncate_before(35).build(), 35..40),
        (builder().max_count(10).truncate_before(38).build(), 38..40),
        (builder().max_age(std::time::Duration::from_secs(3600)).build(), 0..40),
        (builder().max_age(std::time::Duration::ZERO).build(), 0..0),
    ] {
        let any = AppendToStreamOptions::default();
        soon(client.set_stream_metadata("s", &any, &metadata)).await.unwrap();
        let read = read(&client, "s", ReadStreamOptions::default()).await.unwrap();
        assert_eq!(revisions(&read), visible.clone().collect::<Vec<_>>());
        let backwards = ReadStreamOptions::default().backwards().position(StreamPosition::End);
        let read = crate::support::read(&client, "s", backwards).await.unwrap();
        assert_eq!(revisions(&read), visible.rev().collect::<Vec<_>>());
    }
    let all = read_all(&client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(all.len(), 45, "nothing is hidden from who reads the log");
    let StreamMetadataResult::Success(last) =
        soon(client.get_stream_metadata("s", &ReadStreamOptions::default())).await.unwrap()
    else {
        panic!("there is no metadata");
    };
    assert_eq!(last.version(), 4, "of metadata, the last is seen");
}

#[tokio::test]
async fn a_deleted_stream_goes_on_where_it_ended() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(2)).await.unwrap();
    let wrong = DeleteStreamOptions::default().stream_state(StreamState::StreamRevision(0));
    assert!(matches!(soon(client.delete_stream("s", &wrong)).await, Err(Error::Grpc { .. })));
    let position = soon(client.delete_stream("s", &DeleteStreamOptions::default())).await.unwrap();
    assert_eq!(position.map(crate::support::to_log), server.log().head());
    assert!(matches!(read(&client, "s", ReadStreamOptions::default()).await, Err(Error::ResourceNotFound)));
    let exists = append(&client, "s", StreamState::StreamExists, events(1)).await;
    assert!(matches!(exists, Err(Error::WrongExpectedVersion { .. })));
    let result = append(&client, "s", StreamState::NoStream, events(1)).await.unwrap();
    assert_eq!(result.next_expected_version, 2);
    assert_eq!(revisions(&read(&client, "s", ReadStreamOptions::default()).await.unwrap()), [2]);
}

#[tokio::test]
async fn a_tombstone_is_for_ever() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(2)).await.unwrap();
    soon(client.tombstone_stream("s", &TombstoneStreamOptions::default())).await.unwrap();
    assert!(matches!(read(&client, "s", ReadStreamOptions::default()).await, Err(Error::ResourceDeleted)));
    assert!(matches!(append(&client, "s", StreamState::Any, events(1)).await, Err(Error::ResourceDeleted)));
    let all = read_all(&client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(all[2].get_original_event().event_type, "$streamDeleted");
}

#[tokio::test]
async fn with_commit_records_an_append_has_one_commit_and_many_prepares() {
    let log = Arc::new(Log::new(LogSettings { commit_records: true, ..LogSettings::default() }));
    let server = Server::start_with(Settings::default(), log).await.unwrap();
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(3)).await.unwrap();
    let positions = in_log(&server);
    assert!(positions.iter().all(|position| position.commit == positions[0].commit));
    assert!(positions.is_sorted_by(|one, next| one.prepare < next.prepare && next.prepare < next.commit));
    let from_second = ReadAllOptions::default().position(StreamPosition::Position(to_client(positions[1])));
    assert_eq!(crate::support::positions(&read_all(&client, from_second).await.unwrap()), positions[1..]);
    let read = read(&client, "s", ReadStreamOptions::default()).await.unwrap();
    assert_eq!(read[0].commit_position, None, "who reads a stream is not told");
}
