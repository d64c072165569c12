//! Between the port's words and the client's: events, positions, expectations, filters.

use chrono::{DateTime, Utc};
use eventstore::{EventData, StreamState, SubscriptionFilter};
use serde_json::value::RawValue;

use crate::{Append, AppendError, EventType, Expected, Filter, NewEvent, Position, RecordedEvent, StreamName};

/// The largest append that every release takes, in bytes as the server counts them: its default before 25.1.
const MAX_BYTES_ON_DISK: usize = 1024 * 1024;

/// An event of the log that this program cannot have written, or an answer that is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Foreign {
    /// It stands where no stream of ours can stand.
    #[error("the event {id} stands in a stream with another kind of name")]
    Stream {
        /// The event.
        id: uuid::Uuid,
        /// What is wrong with the name.
        #[source]
        source: crate::InvalidStreamName,
    },
    /// It has a type that no event of ours can have.
    #[error("the event {stream}@{revision} has another kind of type")]
    Type {
        /// The stream.
        stream: StreamName,
        /// The place in it.
        revision: u64,
        /// What is wrong with the type.
        #[source]
        source: crate::InvalidEventType,
    },
    /// The server says where it stands in its stream, but not where in the log.
    #[error("the server does not say where {stream}@{revision} stands in the whole log; releases before 22.6 do not")]
    NoPosition {
        /// The stream.
        stream: String,
        /// The place in it.
        revision: u64,
    },
}

/// Checks an append against what the server counts, which is not what the port counts: every character of an event's
/// type takes two bytes there.
///
/// # Errors
/// [`AppendError::Limit`].
pub(super) fn check_size_on_disk(append: &Append) -> Result<(), AppendError> {
    let size = |event: &NewEvent| {
        event.data.len() + event.metadata.len() + 2 * event.event_type.as_str().encode_utf16().count()
    };
    let bytes = append.events.iter().map(size).sum();
    if bytes <= MAX_BYTES_ON_DISK { Ok(()) } else { Err(AppendError::Limit { events: append.events.len(), bytes }) }
}

/// An event as the client sends it: the very bytes, under the content type of JSON.
pub(super) fn event_data(event: &NewEvent) -> EventData {
    let event_type = event.event_type.as_str();
    // The client offers no other way to send bytes as JSON but to have JSON written. What is no JSON, or has space around
    // it that would be lost, goes as mere bytes: a wrong label does less harm than another text.
    let json = serde_json::from_slice::<&RawValue>(&event.data).ok();
    let json = json.filter(|json| json.get().len() == event.data.len());
    let data = json.and_then(|json| EventData::json(event_type, &json).ok());
    data.unwrap_or_else(|| EventData::binary(event_type, event.data.clone()))
        .id(event.id)
        .metadata(event.metadata.clone())
}

/// A frozen expectation as the client says it.
pub(super) fn stream_state(expected: Expected) -> StreamState {
    match expected {
        Expected::Any => StreamState::Any,
        Expected::NoStream => StreamState::NoStream,
        Expected::Exists => StreamState::StreamExists,
        Expected::Exact(revision) | Expected::After { revision, .. } => StreamState::StreamRevision(revision),
    }
}

/// A position as the port has it; `None` where the server says that it does not know.
pub(super) fn position(position: eventstore::Position) -> Option<Position> {
    // The server counts in signed numbers; what is past them stands for "none" and "the end".
    let known = |number: u64| i64::try_from(number).is_ok();
    let eventstore::Position { commit, prepare } = position;
    (known(commit) && known(prepare)).then_some(Position { commit, prepare })
}

/// Where an event stands in the whole log.
///
/// # Errors
/// [`Foreign::NoPosition`].
pub(super) fn position_of(event: &eventstore::RecordedEvent) -> Result<Position, Foreign> {
    position(event.position).ok_or_else(|| Foreign::NoPosition { stream: stream_of(event), revision: event.revision })
}

/// A position as the client has it.
pub(super) fn client_position(position: Position) -> eventstore::Position {
    eventstore::Position { commit: position.commit, prepare: position.prepare }
}

/// The name of the stream in which an event stands.
pub(super) fn stream_of(event: &eventstore::RecordedEvent) -> String {
    // The client does not check that the name is text.
    String::from_utf8_lossy(event.stream_id().as_bytes()).into_owned()
}

/// Whether an event is the server's own: its streams and types start with `$`.
pub(super) fn is_system(event: &eventstore::RecordedEvent) -> bool {
    event.stream_id().as_bytes().starts_with(b"$") || event.event_type.starts_with('$')
}

/// An event as the port has it.
///
/// # Errors
/// [`Foreign`] when it is none that can have come through the port.
pub(super) fn recorded(event: eventstore::RecordedEvent) -> Result<RecordedEvent, Foreign> {
    let stream = StreamName::new(stream_of(&event)).map_err(|source| Foreign::Stream { id: event.id, source })?;
    let revision = event.revision;
    let position = position_of(&event)?;
    let recorded_at = recorded_at(&event);
    let event_type = match EventType::new(event.event_type) {
        Ok(event_type) => event_type,
        Err(source) => return Err(Foreign::Type { stream, revision, source }),
    };
    Ok(RecordedEvent {
        stream,
        revision,
        position,
        id: event.id,
        event_type,
        data: event.data,
        metadata: event.custom_metadata,
        recorded_at,
    })
}

/// When the server took an event. The client rounds it down to a second; the server tells it in ticks of 100 ns.
fn recorded_at(event: &eventstore::RecordedEvent) -> DateTime<Utc> {
    let ticks = event.metadata.get("created").and_then(|ticks| ticks.parse::<i64>().ok());
    ticks.and_then(|ticks| Some(DateTime::from_timestamp_nanos(ticks.checked_mul(100)?))).unwrap_or(event.created)
}

/// What the server is asked to leave out. It leaves out less than the filter does, never more: what comes has to pass
/// [`Filter::passes`] as well. The streams that start with `also` come in any case.
///
/// A category is asked for as the prefix `{category}-`; a stream whose name is nothing but a category is not found by it.
pub(super) fn server_filter(filter: &Filter, also: &str) -> SubscriptionFilter {
    if filter.categories.is_empty() {
        return no_system_streams();
    }
    let named = SubscriptionFilter::on_stream_name().max(SEARCH_WINDOW).add_prefix(also);
    filter.categories.iter().fold(named, |named, category| named.add_prefix(format!("{category}-")))
}

/// Everything but the server's own streams.
pub(super) fn no_system_streams() -> SubscriptionFilter {
    SubscriptionFilter::on_stream_name().max(SEARCH_WINDOW).exclude_system_events()
}

/// How many events the server looks at in one go where it filters. Left alone it takes 32.
const SEARCH_WINDOW: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, data: &'static str) -> NewEvent {
        let event_type = EventType::new(event_type.to_owned()).unwrap();
        NewEvent { id: uuid::Uuid::now_v7(), event_type, data: data.into(), metadata: "{}".into() }
    }

    #[test]
    fn json_goes_as_json_byte_for_byte() {
        let sent = format!("{:?}", event_data(&event("Happened", "{ \"a\" :  1.0e0, \"a\": [ ] }")));
        assert!(sent.contains("application/json"), "{sent}");
        assert!(sent.contains(r#"{ \"a\" :  1.0e0, \"a\": [ ] }"#), "{sent}");
    }

    #[test]
    fn what_would_be_changed_as_json_goes_as_bytes() {
        for text in [" {}", "{}\n", "no json", ""] {
            let sent = format!("{:?}", event_data(&event("Happened", text)));
            assert!(sent.contains("application/octet-stream"), "{text:?}: {sent}");
        }
    }

    #[test]
    fn the_server_counts_a_type_twice() {
        let append = |count: usize| Append {
            stream: StreamName::new("a-1").unwrap(),
            expected: Expected::Any,
            events: vec![event(&"T".repeat(100), ""); count],
        };
        // 100 characters of type and 2 bytes of metadata: 202 bytes there, 102 here.
        assert!(check_size_on_disk(&append(MAX_BYTES_ON_DISK / 202)).is_ok());
        let refused = check_size_on_disk(&append(MAX_BYTES_ON_DISK / 202 + 1));
        assert!(matches!(refused, Err(AppendError::Limit { events: 5_191, bytes: 1_048_582 })), "{refused:?}");
    }

    #[test]
    fn a_position_that_is_none_is_not_taken_for_one() {
        assert_eq!(position(eventstore::Position { commit: 7, prepare: 5 }), Some(Position { commit: 7, prepare: 5 }));
        assert_eq!(position(eventstore::Position::end()), None);
        assert_eq!(position(eventstore::Position { commit: 7, prepare: u64::MAX }), None);
    }
}
