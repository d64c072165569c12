//! Operations over transports that send several answers: a subscription has many, a query one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::Caller;
use async_graphql::ServerError;
use async_graphql::parser::types::OperationType;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Body, Endpoint, Outcome, Prepared, body, refusal};
use crate::error::{Code, request_error};
use crate::feed::{Stop, Turn, stopped};

/// What a transport sends for one operation.
#[derive(Debug)]
pub(super) enum Frame {
    /// An answer, as JSON.
    Next(String),
    /// The operation is refused; nothing follows.
    Refused(Vec<ServerError>),
    /// There are no more answers.
    Complete,
}

/// When the token of a caller expires; `None`: never.
pub(super) fn expiry(caller: &Caller) -> Option<Instant> {
    let left = caller.until?.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// Returns when a token has expired.
pub(super) async fn expired(expiry: Option<Instant>) {
    match expiry {
        Some(expiry) => tokio::time::sleep_until(expiry).await,
        None => std::future::pending().await,
    }
}

/// Executes an operation in a task of its own and sends what there is to send, each with `tag`. It ends when all is sent;
/// soon after `stop` says so or nobody takes anything any more; or when something was not taken within `patience`, if there
/// is such a limit. It takes its `turn` for each answer, and holds on to `place` until the end.
#[expect(clippy::too_many_arguments, reason = "it is all that an operation has")]
pub(super) fn start<T: Copy + Send + Sync + 'static>(
    endpoint: Arc<Endpoint>,
    prepared: Result<Prepared, ServerError>,
    tag: T,
    out: mpsc::Sender<(T, Frame)>,
    mut stop: Stop,
    patience: Option<Duration>,
    turn: Turn,
    place: Option<OwnedSemaphorePermit>,
) {
    let operation = async move {
        let mut end = endpoint.stop.clone();
        let (ending, ended) = watch::channel(false);
        let mut running = std::pin::pin!(run(&endpoint, prepared, tag, &out, ended, patience, turn));
        let server_stops = async {
            match &mut end {
                Some(end) => stopped(end).await,
                None => std::future::pending().await,
            }
        };
        // What is under way ends by itself: a statement that a connection is busy with must not be dropped.
        tokio::select! {
            () = &mut running => return,
            () = stopped(&mut stop) => {}
            () = out.closed() => {}
            () = server_stops => {}
        }
        ending.send_replace(true);
        running.await;
    };
    let operation = async move {
        operation.await;
        drop(place);
    };
    tokio::spawn(operation.in_current_span());
}

async fn run<T: Copy + Send + Sync>(
    endpoint: &Endpoint,
    prepared: Result<Prepared, ServerError>,
    tag: T,
    out: &mpsc::Sender<(T, Frame)>,
    mut ended: Stop,
    patience: Option<Duration>,
    turn: Turn,
) {
    // Whether the client has taken it.
    let send = |frame| async move {
        match patience {
            Some(patience) => out.send_timeout((tag, frame), patience).await.is_ok(),
            None => out.send((tag, frame)).await.is_ok(),
        }
    };
    let last = match prepared {
        Err(error) => Frame::Refused(vec![error]),
        Ok(prepared) if prepared.kind == OperationType::Subscription => {
            let reads = endpoint.reads(&prepared);
            let request = prepared.request(&reads).data(ended).data(turn.clone());
            let mut answers = endpoint.schema.execute_stream(request);
            loop {
                let Some(answer) = answers.next().await else { break Frame::Complete };
                let answer = match refusal(answer) {
                    Ok(errors) => break Frame::Refused(errors),
                    Err(answer) => answer,
                };
                if !send(next(&body(*answer, reads.as_of().0))).await {
                    return;
                }
                turn.give_back();
            }
        }
        Ok(prepared) => {
            tokio::select! {
                () = stopped(&mut ended) => return,
                () = turn.take() => {}
            }
            match endpoint.execute(prepared).await {
                Outcome::Refused(errors) => Frame::Refused(errors),
                Outcome::Answered(answer, reads) => {
                    if !send(next(&body(*answer, reads.as_of().0))).await {
                        return;
                    }
                    Frame::Complete
                }
            }
        }
    };
    send(last).await;
}

fn next(body: &Body) -> Frame {
    match body.text() {
        Ok(json) => Frame::Next(json),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Frame::Refused(vec![request_error(Code::Internal, "The answer could not be written.")])
        }
    }
}
