//! `Append`: the events of one append, each in a message of its own.
//!
//! That the stream is not as expected is an answer and no error: gRPC status 0, with the wrong version inside.

use tonic::{Status, Streaming};

use super::message::{self, Proposed};
use crate::connection::Connection;
use crate::log::{Committed, Expected, Rejected, Write};
use crate::node::{Node, status_of};
use crate::protocol::event_store::client::streams::append_req::options::ExpectedStreamRevision;
use crate::protocol::event_store::client::streams::append_req::{Content, Options, ProposedMessage};
use crate::protocol::event_store::client::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use crate::protocol::event_store::client::streams::append_resp::wrong_expected_version::{
    CurrentRevisionOption as Current, CurrentRevisionOption2060 as Current2060, ExpectedRevisionOption,
    ExpectedRevisionOption2060,
};
use crate::protocol::event_store::client::streams::append_resp::{
    Position, Result as Outcome, Success, WrongExpectedVersion,
};
use crate::protocol::event_store::client::streams::{AppendReq, AppendResp};
use crate::status;

pub(crate) async fn append(
    node: &Node,
    connection: &Connection,
    mut messages: Streaming<AppendReq>,
) -> Result<AppendResp, Status> {
    let Some(AppendReq { content: Some(Content::Options(options)) }) = messages.message().await? else {
        return Err(status::handler_threw());
    };
    let Options { stream_identifier, expected_stream_revision } = options;
    let stream = message::stream_name(stream_identifier)?;
    let expected = match expected_stream_revision {
        Some(ExpectedStreamRevision::Revision(revision)) => Expected::Exact(revision),
        Some(ExpectedStreamRevision::NoStream(())) => Expected::NoStream,
        Some(ExpectedStreamRevision::Any(())) => Expected::Any,
        Some(ExpectedStreamRevision::StreamExists(())) => Expected::Exists,
        None => return Err(Status::invalid_argument("'None' is not a valid expected revision")),
    };
    let (mut events, mut size) = (Vec::new(), 0);
    while let Some(AppendReq { content }) = messages.message().await? {
        let Some(Content::ProposedMessage(proposed)) = content else { return Err(status::handler_threw()) };
        let ProposedMessage { id, metadata, custom_metadata, data } = proposed;
        let event = message::event(Proposed { id, metadata, custom_metadata, data }, &node.settings)?;
        size += event.size();
        if size > node.settings.max_append_bytes {
            return Err(status::append_too_large(node.settings.max_append_bytes));
        }
        events.push(event);
    }
    let write = Write { stream: stream.clone(), expected, events };
    let outcome = match status_of(node.change(connection, move |log| log.write(&write)).await)? {
        Ok(committed) => Outcome::Success(success(committed)),
        Err(Rejected::WrongExpectedVersion { current }) => {
            Outcome::WrongExpectedVersion(wrong_expected_version(expected, current))
        }
        Err(Rejected::Deleted) => return Err(status::stream_deleted(&stream)),
    };
    Ok(AppendResp { result: Some(outcome) })
}

fn success(committed: Committed) -> Success {
    let revision =
        committed.revision.map_or(CurrentRevisionOption::NoStream(()), CurrentRevisionOption::CurrentRevision);
    let position = committed.position.map_or(PositionOption::NoPosition(()), |position| {
        PositionOption::Position(Position { commit_position: position.commit, prepare_position: position.prepare })
    });
    Success { current_revision_option: Some(revision), position_option: Some(position) }
}

/// Says it twice: once as clients before 20.6.1 understand it, where -1 stands for no stream.
fn wrong_expected_version(expected: Expected, current: Option<u64>) -> WrongExpectedVersion {
    let (expected, expected_2060) = match expected {
        Expected::Any => (ExpectedRevisionOption::ExpectedAny(()), ExpectedRevisionOption2060::Any2060(())),
        Expected::Exists => {
            (ExpectedRevisionOption::ExpectedStreamExists(()), ExpectedRevisionOption2060::StreamExists2060(()))
        }
        Expected::NoStream => {
            (ExpectedRevisionOption::ExpectedNoStream(()), ExpectedRevisionOption2060::ExpectedRevision2060(u64::MAX))
        }
        Expected::Exact(revision) => (
            ExpectedRevisionOption::ExpectedRevision(revision),
            ExpectedRevisionOption2060::ExpectedRevision2060(revision),
        ),
    };
    let (current, current_2060) = current.map_or_else(
        || (Current::CurrentNoStream(()), Current2060::NoStream2060(())),
        |current| (Current::CurrentRevision(current), Current2060::CurrentRevision2060(current)),
    );
    WrongExpectedVersion {
        current_revision_option_20_6_0: Some(current_2060),
        expected_revision_option_20_6_0: Some(expected_2060),
        current_revision_option: Some(current),
        expected_revision_option: Some(expected),
    }
}
