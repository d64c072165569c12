//! Answers as server-sent events, by the "distinct connections mode" of graphql-sse: a request has a stream of its own, of
//! events `next` with an answer each and one event `complete`.
//! <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>

use std::convert::Infallible;
use std::sync::Arc;

use async_graphql::ServerError;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::live::{self, Frame};
use super::problem::Problem;
use super::{Body, Endpoint, Prepared};
use crate::error::{Code, request_error};

/// Answers by a stream.
pub(super) fn respond(endpoint: Arc<Endpoint>, prepared: Result<Prepared, ServerError>) -> Result<Response, Problem> {
    let place = endpoint.connections.clone().try_acquire_owned().map_err(|_| Problem::too_many_connections())?;
    let (out, frames) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    let ping = endpoint.limits.ping;
    live::start(endpoint, prepared, (), out, stopped);
    let answers = Answers { frames, ended: false, _stop: stop, _place: place };
    let mut response = Sse::new(answers.events()).keep_alive(KeepAlive::new().interval(ping)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that buffers would keep the events to itself.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What the stream holds on to; when it is dropped, the operation ends.
struct Answers {
    frames: mpsc::Receiver<((), Frame)>,
    ended: bool,
    _stop: watch::Sender<bool>,
    _place: OwnedSemaphorePermit,
}

impl Answers {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let events = stream::unfold(self, |mut answers| async move {
            if answers.ended {
                return None;
            }
            let events = match answers.frames.recv().await {
                Some(((), Frame::Next(json))) => vec![next(json)],
                Some(((), Frame::Complete)) => vec![complete()],
                Some(((), Frame::Refused(errors))) => vec![next_of(errors), complete()],
                // The operation gave up waiting for this stream to be read.
                None => {
                    let message = "What was sent was not read in time. Ask again, with the last position as after.";
                    vec![next_of(vec![request_error(Code::SlowConsumer, message)]), complete()]
                }
            };
            answers.ended = events.iter().any(|(_, last)| *last);
            Some((stream::iter(events.into_iter().map(|(event, _)| Ok(event))), answers))
        });
        futures::StreamExt::flatten(events)
    }
}

/// An event, and whether it is the last.
type Sent = (Event, bool);

fn next(json: String) -> Sent {
    (Event::default().event("next").data(json), false)
}

fn next_of(errors: Vec<ServerError>) -> Sent {
    next(serde_json::to_string(&Body::of_errors(errors)).unwrap_or_default())
}

fn complete() -> Sent {
    // Browsers drop an event without data.
    (Event::default().event("complete").data(""), true)
}
