//! `BatchAppend`: a session of appends, each with a correlation id and, under it, one answer.
//!
//! An append that does not happen is an answer too, with a status inside; the session goes on. Only a server that does not
//! lead ends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::message::{self, Proposed};
use crate::connection::Connection;
use crate::log::{Committed, Expected, NewEvent, Position, Rejected, Write};
use crate::node::{Answer, Node};
use crate::protocol::event_store::client;
use crate::protocol::event_store::client::streams::batch_append_req::options::{
    DeadlineOption, ExpectedStreamPosition,
};
use crate::protocol::event_store::client::streams::batch_append_req::{Options, ProposedMessage};
use crate::protocol::event_store::client::streams::batch_append_resp::success::{
    CurrentRevisionOption, PositionOption,
};
use crate::protocol::event_store::client::streams::batch_append_resp::{Result as Outcome, Success};
use crate::protocol::event_store::client::streams::{BatchAppendReq, BatchAppendResp};
use crate::protocol::event_store::client::wrong_expected_version::{
    CurrentStreamRevisionOption, ExpectedStreamPositionOption,
};
use crate::protocol::google::rpc::{self, Code};
use crate::status;

type Answers = UnboundedSender<Result<BatchAppendResp, Status>>;

/// Answers the appends of a session until the client has no more and the last is answered.
pub(crate) fn session(
    node: Arc<Node>,
    connection: Connection,
    messages: Streaming<BatchAppendReq>,
) -> BoxStream<'static, Result<BatchAppendResp, Status>> {
    let (answers, answered) = mpsc::unbounded_channel();
    tokio::spawn(receive(node, connection, messages, answers));
    // The first error is the last thing that a session says.
    let mut over = false;
    UnboundedReceiverStream::new(answered)
        .take_while(move |answer| {
            let goes_on = !over;
            over |= answer.is_err();
            std::future::ready(goes_on)
        })
        .boxed()
}

/// An append that has not all its events yet.
struct Pending {
    /// As the client called it.
    correlation_id: Option<client::Uuid>,
    write: Write,
    size: usize,
}

async fn receive(node: Arc<Node>, connection: Connection, mut messages: Streaming<BatchAppendReq>, answers: Answers) {
    let mut pending: HashMap<Uuid, Pending> = HashMap::new();
    while let Ok(Some(message)) = messages.message().await {
        let BatchAppendReq { correlation_id, options, proposed_messages, is_final } = message;
        let stream = options.as_ref().and_then(|options| options.stream_identifier.clone());
        let Some(id) = message::id(correlation_id.as_ref()) else {
            let error = bad_request("the correlation id is not a UUID");
            let _ = answers.send(Ok(error_answer(correlation_id, stream, error)));
            continue;
        };
        if let (Some(options), Entry::Vacant(entry)) = (options, pending.entry(id)) {
            match begin(options) {
                Ok(write) => entry.insert(Pending { correlation_id: correlation_id.clone(), write, size: 0 }),
                Err(error) => {
                    let _ = answers.send(Ok(error_answer(correlation_id, stream, error)));
                    continue;
                }
            };
        }
        let Some(append) = pending.get_mut(&id) else { continue };
        if let Err(error) = add(append, proposed_messages, &node) {
            let stream = Some(message::identifier(&append.write.stream));
            pending.remove(&id);
            let _ = answers.send(Ok(error_answer(correlation_id, stream, error)));
            continue;
        }
        if is_final && let Some(append) = pending.remove(&id) {
            finish(&node, &connection, append, &answers);
        }
    }
}

/// What an append is to be, without its events.
fn begin(options: Options) -> Result<Write, rpc::Status> {
    let Options { stream_identifier, expected_stream_position, deadline_option } = options;
    let stream =
        message::stream_name(stream_identifier).map_err(|_| bad_request("Required field StreamIdentifier not set."))?;
    if is_over(deadline_option.as_ref()) {
        return Err(detailed(Code::DeadlineExceeded, "Timeout", &client::Timeout {}));
    }
    let expected = match expected_stream_position {
        Some(ExpectedStreamPosition::StreamPosition(revision)) => Expected::Exact(revision),
        Some(ExpectedStreamPosition::NoStream(())) => Expected::NoStream,
        Some(ExpectedStreamPosition::Any(())) => Expected::Any,
        Some(ExpectedStreamPosition::StreamExists(())) => Expected::Exists,
        None => return Err(bad_request("'None' is not a valid expected position")),
    };
    Ok(Write { stream, expected, events: Vec::new() })
}

/// Whether an append comes too late. A deadline is a duration from now on; before 21.10.1 it was a time.
fn is_over(deadline: Option<&DeadlineOption>) -> bool {
    match deadline {
        Some(DeadlineOption::Deadline(duration)) => {
            duration.seconds < 0 || (duration.seconds == 0 && duration.nanos <= 0)
        }
        Some(DeadlineOption::Deadline21100(time)) => {
            SystemTime::try_from(*time).is_ok_and(|time| time <= SystemTime::now())
        }
        None => false,
    }
}

fn add(append: &mut Pending, proposed: Vec<ProposedMessage>, node: &Node) -> Result<(), rpc::Status> {
    for ProposedMessage { id, metadata, custom_metadata, data } in proposed {
        let event: NewEvent = message::event(Proposed { id, metadata, custom_metadata, data }, &node.settings)
            .map_err(|status| bad_request(status.message()))?;
        append.size += event.size();
        append.write.events.push(event);
    }
    let limit = node.settings.max_append_bytes;
    if append.size > limit {
        let details = client::MaximumAppendSizeExceeded { max_append_size: u32::try_from(limit).unwrap_or(u32::MAX) };
        return Err(detailed(Code::InvalidArgument, "MaximumAppendSizeExceeded", &details));
    }
    Ok(())
}

/// Has an append made and answered: at once, so that appends keep their order, unless a fault delays it.
fn finish(node: &Node, connection: &Connection, append: Pending, answers: &Answers) {
    let Pending { correlation_id, write, .. } = append;
    let (stream, expected) = (write.stream.clone(), write.expected);
    let respond = move |answer| match outcome(answer, &stream, expected) {
        Ok(outcome) => Some(Ok(BatchAppendResp {
            correlation_id,
            result: Some(outcome),
            stream_identifier: Some(message::identifier(&stream)),
            expected_stream_position: None,
        })),
        Err(status) => status.map(Err),
    };
    let mut change = node.change(connection, move |log| log.write(&write));
    if let Some(answer) = (&mut change).now_or_never() {
        if let Some(response) = respond(answer) {
            let _ = answers.send(response);
        }
        return;
    }
    let answers = answers.clone();
    tokio::spawn(async move {
        if let Some(response) = respond(change.await) {
            let _ = answers.send(response);
        }
    });
}

/// What is said of an append, or what ends the session, if anything can be said at all.
fn outcome(answer: Answer, stream: &str, expected: Expected) -> Result<Outcome, Option<Status>> {
    Ok(match answer {
        Answer::Committed(committed) => Outcome::Success(success(committed)),
        Answer::Rejected(Rejected::WrongExpectedVersion { current }) => {
            let details = wrong_expected_version(expected, current);
            Outcome::Error(detailed(Code::AlreadyExists, "WrongExpectedVersion", &details))
        }
        Answer::Rejected(Rejected::Deleted) => {
            let details = client::StreamDeleted { stream_identifier: Some(message::identifier(stream)) };
            Outcome::Error(detailed(Code::NotFound, "StreamDeleted", &details))
        }
        Answer::TimedOut => Outcome::Error(detailed(Code::DeadlineExceeded, "Timeout", &client::Timeout {})),
        // The server leaves the code as it is by default: 0, which means that all is well.
        Answer::NotReady => {
            let details = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: Vec::new() };
            let message = "Server Is Not Ready".to_owned();
            Outcome::Error(rpc::Status { code: Code::Ok.into(), message, details: Some(details) })
        }
        Answer::NotLeader(leader) => return Err(Some(status::not_leader(&leader))),
        Answer::Cut => return Err(None),
    })
}

fn success(committed: Committed) -> Success {
    let revision =
        committed.revision.map_or(CurrentRevisionOption::NoStream(()), CurrentRevisionOption::CurrentRevision);
    let position = committed.position.map_or(PositionOption::NoPosition(()), |Position { commit, prepare }| {
        PositionOption::Position(client::AllStreamPosition { commit_position: commit, prepare_position: prepare })
    });
    Success { current_revision_option: Some(revision), position_option: Some(position) }
}

fn wrong_expected_version(expected: Expected, current: Option<u64>) -> client::WrongExpectedVersion {
    let current = current
        .map_or(CurrentStreamRevisionOption::CurrentNoStream(()), CurrentStreamRevisionOption::CurrentStreamRevision);
    let expected = match expected {
        Expected::Any => ExpectedStreamPositionOption::ExpectedAny(()),
        Expected::NoStream => ExpectedStreamPositionOption::ExpectedNoStream(()),
        Expected::Exists => ExpectedStreamPositionOption::ExpectedStreamExists(()),
        Expected::Exact(revision) => ExpectedStreamPositionOption::ExpectedStreamPosition(revision),
    };
    client::WrongExpectedVersion {
        current_stream_revision_option: Some(current),
        expected_stream_position_option: Some(expected),
    }
}

fn error_answer(
    correlation_id: Option<client::Uuid>,
    stream_identifier: Option<client::StreamIdentifier>,
    error: rpc::Status,
) -> BatchAppendResp {
    let result = Some(Outcome::Error(error));
    BatchAppendResp { correlation_id, result, stream_identifier, expected_stream_position: None }
}

fn bad_request(message: &str) -> rpc::Status {
    detailed(Code::InvalidArgument, "BadRequest", &client::BadRequest { message: message.to_owned() })
}

/// A status with details, whose type is called as the message says.
fn detailed(code: Code, message: &str, details: &impl Message) -> rpc::Status {
    let type_url = format!("type.googleapis.com/event_store.client.{message}");
    let details = Any { type_url, value: details.encode_to_vec() };
    rpc::Status { code: code.into(), message: message.to_owned(), details: Some(details) }
}
