//! What the server says when it does not do what it was asked: a gRPC status, and in its trailers what it is about.
//!
//! The names of the trailers and the codes are those of the server's `RpcExceptions`.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::faults::Endpoint;
use crate::log::Expected;

/// Another server leads. The client goes there.
pub(crate) fn not_leader(leader: &Endpoint) -> Status {
    let port = leader.port.to_string();
    let trailers =
        [("exception", "not-leader"), ("leader-endpoint-host", &leader.host), ("leader-endpoint-port", &port)];
    with_trailers(Code::NotFound, "Leader info available".to_owned(), &trailers)
}

/// It has just started, or is about to end.
pub(crate) fn not_ready() -> Status {
    Status::unavailable("Server Is Not Ready")
}

/// It was not committed in time, as far as the server knows.
pub(crate) fn timed_out() -> Status {
    Status::aborted("Operation timed out: Commit phase timeout.")
}

/// The stream has a tombstone.
pub(crate) fn stream_deleted(stream: &str) -> Status {
    let trailers = [("exception", "stream-deleted"), ("stream-name", stream)];
    with_trailers(Code::FailedPrecondition, format!("Event stream '{stream}' is deleted."), &trailers)
}

/// A deletion found the stream other than expected. An append says so in its answer.
pub(crate) fn wrong_expected_version(stream: &str, expected: Expected, current: Option<u64>) -> Status {
    let expected = match expected {
        Expected::NoStream => "-1".to_owned(),
        Expected::Any => "-2".to_owned(),
        Expected::Exists => "-4".to_owned(),
        Expected::Exact(revision) => revision.to_string(),
    };
    let actual = current.map_or_else(|| "-1".to_owned(), |current| current.to_string());
    let message = format!(
        "Delete failed due to WrongExpectedVersion. Stream: {stream}, Expected version: {expected}, Actual version: {actual}"
    );
    let trailers = [
        ("exception", "wrong-expected-version"),
        ("stream-name", stream),
        ("expected-version", &expected),
        ("actual-version", &actual),
    ];
    with_trailers(Code::FailedPrecondition, message, &trailers)
}

/// The events of one append are too large together.
pub(crate) fn append_too_large(limit: usize) -> Status {
    let message = format!("Maximum Append Size of {limit} Exceeded.");
    let trailers = [("exception", "maximum-append-size-exceeded"), ("maximum-append-size", &limit.to_string())];
    with_trailers(Code::InvalidArgument, message, &trailers)
}

/// One event is too large.
pub(crate) fn event_too_large(id: &str, size: usize, limit: usize) -> Status {
    let message = format!("Event with Id: {id}, Size: {size}, exceeds Maximum Append Event Size of {limit}.");
    let trailers = [
        ("exception", "maximum-append-event-size-exceeded"),
        ("maximum-append-event-size", &limit.to_string()),
        ("event-id", id),
        ("proposed-append-event-size", &size.to_string()),
    ];
    with_trailers(Code::InvalidArgument, message, &trailers)
}

/// An event came without its type or its content type.
pub(crate) fn metadata_missing(name: &str) -> Status {
    let trailers =
        [("exception", "missing-required-metadata-property"), ("required-metadata-properties", "type,content-type")];
    with_trailers(Code::InvalidArgument, format!("Required Metadata Property '{name}' is missing"), &trailers)
}

/// A position that is no record's, as one that somebody computed.
pub(crate) fn invalid_position() -> Status {
    Status::invalid_argument("Trying to read from an invalid position.")
}

/// The server has not thought of it: a bug of the client's mostly.
pub(crate) fn handler_threw() -> Status {
    Status::unknown("Exception was thrown by handler.")
}

fn with_trailers(code: Code, message: String, trailers: &[(&'static str, &str)]) -> Status {
    let mut metadata = MetadataMap::new();
    for (name, value) in trailers {
        // A trailer is ASCII. The server leaves out what is not, too.
        if let Ok(value) = MetadataValue::try_from(*value) {
            metadata.insert(*name, value);
        }
    }
    Status::with_metadata(code, message, metadata)
}
