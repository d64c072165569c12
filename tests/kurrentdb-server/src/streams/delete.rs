//! `Delete` and `Tombstone`: until it is written to again, and for ever.

use tonic::Status;

use super::message;
use crate::connection::Connection;
use crate::log::{Expected, Position, Rejected};
use crate::node::{Node, status_of};
use crate::protocol::event_store::client::StreamIdentifier;
use crate::protocol::event_store::client::streams::{
    DeleteReq, DeleteResp, TombstoneReq, TombstoneResp, delete_req, delete_resp, tombstone_req, tombstone_resp,
};
use crate::status;

pub(crate) async fn delete(node: &Node, connection: &Connection, request: DeleteReq) -> Result<DeleteResp, Status> {
    use delete_req::options::ExpectedStreamRevision;
    use delete_resp::PositionOption;

    let options = request.options.ok_or_else(status::handler_threw)?;
    let expected = match options.expected_stream_revision {
        Some(ExpectedStreamRevision::Revision(revision)) => Expected::Exact(revision),
        Some(ExpectedStreamRevision::NoStream(())) => Expected::NoStream,
        Some(ExpectedStreamRevision::Any(())) => Expected::Any,
        Some(ExpectedStreamRevision::StreamExists(())) => Expected::Exists,
        None => return Err(no_expectation()),
    };
    let position = end(node, connection, options.stream_identifier, expected, false).await?;
    let position = position.map_or(PositionOption::NoPosition(()), |Position { commit, prepare }| {
        PositionOption::Position(delete_resp::Position { commit_position: commit, prepare_position: prepare })
    });
    Ok(DeleteResp { position_option: Some(position) })
}

pub(crate) async fn tombstone(
    node: &Node,
    connection: &Connection,
    request: TombstoneReq,
) -> Result<TombstoneResp, Status> {
    use tombstone_req::options::ExpectedStreamRevision;
    use tombstone_resp::PositionOption;

    let options = request.options.ok_or_else(status::handler_threw)?;
    let expected = match options.expected_stream_revision {
        Some(ExpectedStreamRevision::Revision(revision)) => Expected::Exact(revision),
        Some(ExpectedStreamRevision::NoStream(())) => Expected::NoStream,
        Some(ExpectedStreamRevision::Any(())) => Expected::Any,
        Some(ExpectedStreamRevision::StreamExists(())) => Expected::Exists,
        None => return Err(no_expectation()),
    };
    let position = end(node, connection, options.stream_identifier, expected, true).await?;
    let position = position.map_or(PositionOption::NoPosition(()), |Position { commit, prepare }| {
        PositionOption::Position(tombstone_resp::Position { commit_position: commit, prepare_position: prepare })
    });
    Ok(TombstoneResp { position_option: Some(position) })
}

async fn end(
    node: &Node,
    connection: &Connection,
    stream: Option<StreamIdentifier>,
    expected: Expected,
    hard: bool,
) -> Result<Option<Position>, Status> {
    let stream = message::stream_name(stream)?;
    let name = stream.clone();
    match status_of(node.change(connection, move |log| log.delete(&name, expected, hard)).await)? {
        Ok(committed) => Ok(committed.position),
        Err(Rejected::WrongExpectedVersion { current }) => {
            Err(status::wrong_expected_version(&stream, expected, current))
        }
        Err(Rejected::Deleted) => Err(status::stream_deleted(&stream)),
    }
}

fn no_expectation() -> Status {
    Status::invalid_argument("'None' is not a valid expected revision")
}
