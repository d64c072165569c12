//! A client, events, and waiting with a deadline.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, EventData, ReadAllOptions, ReadStream, ReadStreamOptions, ResolvedEvent,
    StreamState, WriteResult,
};
use kurrentdb_server::{Position, Server, Settings};
use uuid::Uuid;

pub(crate) async fn server() -> Server {
    Server::start(Settings::default()).await.unwrap()
}

pub(crate) fn client(server: &Server) -> Client {
    connect(&server.url())
}

pub(crate) fn connect(url: &str) -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The client waits so long, in milliseconds, before it connects for the first time.
    Client::new(format!("{url}&discoveryInterval=10").parse().unwrap()).unwrap()
}

/// What a future gives, which takes a moment at most.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let waiting = tokio::time::timeout(Duration::from_secs(20), future);
    async { waiting.await.expect("it takes too long") }
}

pub(crate) fn event() -> EventData {
    event_of("Happened")
}

pub(crate) fn event_of(event_type: &str) -> EventData {
    EventData::binary(event_type, "{}".into()).id(Uuid::new_v4())
}

pub(crate) fn events(count: usize) -> Vec<EventData> {
    (0..count).map(|_| event()).collect()
}

pub(crate) async fn append(
    client: &Client,
    stream: &str,
    state: StreamState,
    events: Vec<EventData>,
) -> eventstore::Result<WriteResult> {
    soon(client.append_to_stream(stream, &AppendToStreamOptions::default().stream_state(state), events)).await
}

/// Appends events of this type, one at a time, and whatever the stream's revision.
pub(crate) async fn happen(client: &Client, stream: &str, event_type: &str, times: usize) {
    for _ in 0..times {
        append(client, stream, StreamState::Any, vec![event_of(event_type)]).await.unwrap();
    }
}

pub(crate) async fn read(
    client: &Client,
    stream: &str,
    options: ReadStreamOptions,
) -> eventstore::Result<Vec<ResolvedEvent>> {
    collect(soon(client.read_stream(stream, &options)).await?).await
}

pub(crate) async fn read_all(client: &Client, options: ReadAllOptions) -> eventstore::Result<Vec<ResolvedEvent>> {
    collect(soon(client.read_all(&options)).await?).await
}

async fn collect(mut stream: ReadStream) -> eventstore::Result<Vec<ResolvedEvent>> {
    let mut events = Vec::new();
    while let Some(event) = soon(stream.next()).await? {
        events.push(event);
    }
    Ok(events)
}

pub(crate) fn revisions(events: &[ResolvedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.get_original_event().revision).collect()
}

/// The positions of what was read, as the log has them.
pub(crate) fn positions(events: &[ResolvedEvent]) -> Vec<Position> {
    events.iter().map(|event| to_log(event.get_original_event().position)).collect()
}

pub(crate) fn to_log(position: eventstore::Position) -> Position {
    Position { commit: position.commit, prepare: position.prepare }
}

pub(crate) fn to_client(position: Position) -> eventstore::Position {
    eventstore::Position { commit: position.commit, prepare: position.prepare }
}

/// The positions of all records.
pub(crate) fn in_log(server: &Server) -> Vec<Position> {
    server.log().records().iter().map(|record| record.position).collect()
}
