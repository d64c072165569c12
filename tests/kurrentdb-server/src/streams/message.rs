//! What messages of the protocol say, in the words of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::uuid::Uuid;
use bytes::Bytes;
use tonic::Status;

use crate::Settings;
use crate::log::{NewEvent, Position, Record};
use crate::protocol::event_store::client::streams::ReadResp;
use crate::protocol::event_store::client::streams::read_req::options::UuidOption;
use crate::protocol::event_store::client::streams::read_req::options::uuid_option;
use crate::protocol::event_store::client::streams::read_resp::read_event::{self, RecordedEvent};
use crate::protocol::event_store::client::streams::read_resp::{self, Content, ReadEvent};
use crate::protocol::event_store::client::{self, StreamIdentifier, uuid};
use crate::status;

/// A hundred nanoseconds: what the server counts time in.
const TICKS_PER_SECOND: u64 = 10_000_000;

/// The name of a stream.
pub(crate) fn stream_name(identifier: Option<StreamIdentifier>) -> Result<String, Status> {
    let name = identifier.ok_or_else(status::handler_threw)?.stream_name;
    if name.is_empty() { Err(status::handler_threw()) } else { Ok(String::from_utf8_lossy(&name).into_owned()) }
}

pub(crate) fn identifier(stream: &str) -> StreamIdentifier {
    StreamIdentifier { stream_name: Bytes::copy_from_slice(stream.as_bytes()) }
}

/// An id in either of its two forms. One that is missing is nil, which no event may have.
pub(crate) fn id(id: Option<&client::Uuid>) -> Option<Uuid> {
    match id.and_then(|id| id.value.as_ref()) {
        None => Some(Uuid::nil()),
        Some(uuid::Value::String(text)) => text.parse().ok(),
        Some(uuid::Value::Structured(halves)) => {
            Some(Uuid::from_u64_pair(halves.most_significant_bits as u64, halves.least_significant_bits as u64))
        }
    }
}

/// The parts of a proposed message, which the protocol has twice.
pub(crate) struct Proposed {
    pub(crate) id: Option<client::Uuid>,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) custom_metadata: Bytes,
    pub(crate) data: Bytes,
}

/// An event to be written, when it is complete and not too large.
pub(crate) fn event(proposed: Proposed, settings: &Settings) -> Result<NewEvent, Status> {
    let Proposed { id: proposed_id, mut metadata, custom_metadata, data } = proposed;
    let mut required = |name| metadata.remove(name).ok_or_else(|| status::metadata_missing(name));
    let (event_type, content_type) = (required("type")?, required("content-type")?);
    let id = id(proposed_id.as_ref()).filter(|id| !id.is_nil()).ok_or_else(status::handler_threw)?;
    let event = NewEvent { id, event_type, content_type, data, metadata: custom_metadata };
    if event.size() > settings.max_event_bytes {
        return Err(status::event_too_large(&id.to_string(), event.size(), settings.max_event_bytes));
    }
    Ok(event)
}

/// An event for a reader. `positions` says whether the server knows them, which a reader of a stream is not told when
/// events do not commit themselves.
pub(crate) fn read_event(record: &Record, ids: &UuidOption, positions: bool) -> ReadResp {
    let id = match ids.content {
        Some(uuid_option::Content::String(())) => uuid::Value::String(record.event.id.to_string()),
        Some(uuid_option::Content::Structured(())) | None => {
            let (high, low) = record.event.id.as_u64_pair();
            let halves = uuid::Structured { most_significant_bits: high as i64, least_significant_bits: low as i64 };
            uuid::Value::Structured(halves)
        }
    };
    let unknown = Position { commit: u64::MAX, prepare: u64::MAX };
    let Position { commit, prepare } = if positions { record.position } else { unknown };
    let event = RecordedEvent {
        id: Some(client::Uuid { value: Some(id) }),
        stream_identifier: Some(identifier(&record.stream)),
        stream_revision: record.revision,
        prepare_position: prepare,
        commit_position: commit,
        metadata: HashMap::from([
            ("type".to_owned(), record.event.event_type.clone()),
            ("content-type".to_owned(), record.event.content_type.clone()),
            ("created".to_owned(), ticks(record.created).to_string()),
        ]),
        custom_metadata: record.event.metadata.clone(),
        data: record.event.data.clone(),
    };
    let position =
        if positions { read_event::Position::CommitPosition(commit) } else { read_event::Position::NoPosition(()) };
    content(Content::Event(ReadEvent { event: Some(event), link: None, position: Some(position) }))
}

pub(crate) fn content(content: Content) -> ReadResp {
    ReadResp { content: Some(content) }
}

pub(crate) fn position(position: Position) -> read_resp::Position {
    read_resp::Position { commit_position: position.commit, prepare_position: position.prepare }
}

pub(crate) fn now() -> prost_types::Timestamp {
    SystemTime::now().into()
}

fn ticks(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * TICKS_PER_SECOND + u64::from(since.subsec_nanos()) / 100
}

/// Records that are sent one by one.
pub(crate) type Records = Vec<Arc<Record>>;
