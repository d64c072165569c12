//! Answers as server-sent events, by the "distinct connections mode" of graphql-sse: a request has a stream of its own, of
//! events `next` with an answer each and one event `complete`.
//! <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::ServerError;
use axum::body::Body as HttpBody;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::response::Response;
use futures::stream::{self, Stream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::live::{self, Frame};
use super::media::Media;
use super::problem::Problem;
use super::{Body, Endpoint, Prepared};
use crate::error::{Code, request_error};
use crate::feed::Turn;

/// Answers by a stream.
pub(super) fn respond(
    endpoint: Arc<Endpoint>,
    prepared: Result<Prepared, ServerError>,
    expiry: Option<Instant>,
) -> Result<Response, Problem> {
    let place = endpoint.connections.clone().try_acquire_owned().map_err(|_| Problem::too_many_connections())?;
    let (out, frames) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    let limits = endpoint.limits;
    // It has the stream for itself.
    let turn = Turn::new(Arc::new(Semaphore::new(1)));
    // The place is free again when the operation has ended, also while nobody reads the rest of the stream.
    live::start(endpoint, prepared, (), out, stopped, Some(limits.unread), turn, Some(place));
    let answers = Answers { frames, ping: limits.ping, expiry, ended: false, _stop: stop };
    let mut response = Response::new(HttpBody::from_stream(answers.events()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Events.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept, authorization"));
    // A proxy that buffers would keep the events to itself.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What the stream holds on to; when it is dropped, the operation ends.
struct Answers {
    frames: mpsc::Receiver<((), Frame)>,
    ping: Duration,
    /// When the client's token expires.
    expiry: Option<Instant>,
    ended: bool,
    _stop: watch::Sender<bool>,
}

/// A comment, which clients skip. That it cannot be sent says that the client is gone.
const PING: &str = ":\n\n";
/// Browsers drop an event without data.
const COMPLETE: &str = "event: complete\ndata:\n\n";

impl Answers {
    fn events(self) -> impl Stream<Item = Result<String, Infallible>> {
        stream::unfold(self, |mut answers| async move {
            if answers.ended {
                return None;
            }
            let frame = tokio::select! {
                frame = tokio::time::timeout(answers.ping, answers.frames.recv()) => frame,
                () = live::expired(answers.expiry) => {
                    answers.ended = true;
                    let expired = request_error(Code::Unauthenticated, "The token has expired. Ask again with another.");
                    return Some((Ok(refused(vec![expired])), answers));
                }
            };
            let events = match frame {
                Err(_) => PING.to_owned(),
                Ok(Some(((), Frame::Next(json)))) => next(&json),
                Ok(last) => {
                    answers.ended = true;
                    match last {
                        Some(((), Frame::Refused(errors))) => refused(errors),
                        // The operation gave up waiting for this stream to be read.
                        None => {
                            let message =
                                "What was sent was not read in time. Ask again, with the last position as after.";
                            refused(vec![request_error(Code::SlowConsumer, message)])
                        }
                        Some(_) => COMPLETE.to_owned(),
                    }
                }
            };
            Some((Ok(events), answers))
        })
    }
}

/// JSON has no line breaks of its own.
fn next(json: &str) -> String {
    format!("event: next\ndata: {json}\n\n")
}

fn refused(errors: Vec<ServerError>) -> String {
    next(&Body::of_errors(errors).text().unwrap_or_default()) + COMPLETE
}
