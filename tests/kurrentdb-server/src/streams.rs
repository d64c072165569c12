//! The service of streams: appending, reading, subscribing, deleting.

mod append;
mod batch;
mod delete;
mod message;
mod read;
mod subscribe;

use std::sync::Arc;

use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::node::{Node, connection};
use crate::protocol::event_store::client::streams::streams_server::{self, StreamsServer};
use crate::protocol::event_store::client::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp, TombstoneReq,
    TombstoneResp,
};

/// What a message may have besides the events of an append, in bytes.
const SLACK: usize = 1024 * 1024;

/// The service, for a server.
pub(crate) fn service(node: Arc<Node>) -> StreamsServer<Streams> {
    let largest = node.settings.max_append_bytes.saturating_add(SLACK);
    StreamsServer::new(Streams { node }).max_decoding_message_size(largest).max_encoding_message_size(usize::MAX)
}

#[derive(Debug)]
pub(crate) struct Streams {
    node: Arc<Node>,
}

#[tonic::async_trait]
impl streams_server::Streams for Streams {
    type ReadStream = BoxStream<'static, Result<ReadResp, Status>>;
    type BatchAppendStream = BoxStream<'static, Result<BatchAppendResp, Status>>;

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        let connection = connection(&request);
        append::append(&self.node, &connection, request.into_inner()).await.map(Response::new)
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let connection = connection(&request);
        Ok(Response::new(batch::session(self.node.clone(), connection, request.into_inner())))
    }

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let (connection, deadline) = (connection(&request), read::deadline(request.metadata()));
        read::read(&self.node, connection, deadline, request.into_inner()).await.map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        let connection = connection(&request);
        delete::delete(&self.node, &connection, request.into_inner()).await.map(Response::new)
    }

    async fn tombstone(&self, request: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        let connection = connection(&request);
        delete::tombstone(&self.node, &connection, request.into_inner()).await.map(Response::new)
    }
}
