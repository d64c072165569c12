//! The handlers.

use std::sync::Arc;

use access::Caller;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use event_store::{Direction, Metadata, RecordedEvent, StreamName};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::permissions::{Operation, Permit, permit};
use super::{Api, Problem, follow, headers, openapi};
use crate::endpoint::{Aggregate, history as read_history};
use crate::envelope::Envelope;
use crate::execute::Answer;
use crate::load::Until;
use crate::to_its_end::ToItsEnd;

/// How many events a page of history has at most, and where nothing is asked for.
const PAGE: (usize, usize) = (1_000, 100);

/// `POST /v1/{category}/{id}/{command}`
pub(super) async fn command(
    State(api): State<Arc<Api>>,
    place: Result<Path<(String, String, String)>, PathRejection>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let Path(place) = place?;
    let (sent, envelope, stream) = received(&api, &caller, place, request).await?;
    // A client that hangs up must not stop what it has begun.
    let answer = ToItsEnd::new(async move { sent.execute(&api, &envelope).await }).await?;
    Ok(answered(&answer, &stream))
}

/// A command as it was sent, whichever way.
pub(super) struct Sent {
    pub(super) category: String,
    pub(super) id: String,
    pub(super) command: String,
    pub(super) body: bytes::Bytes,
}

impl Sent {
    /// Carries a command out, if its caller may send it.
    pub(super) async fn carried_out(&self, api: &Api, caller: &Caller, envelope: &Envelope) -> Result<Answer, Problem> {
        let Self { category, id, command, .. } = self;
        let aggregate = aggregate_of(api, category)?;
        let permit = permit(&api.registry, caller, aggregate, Operation::Command(command))?;
        permit.own(api, category, id).await?;
        self.wants(&permit, aggregate)?;
        self.execute(api, envelope).await
    }

    /// Wants the permit to be good for what the command says.
    fn wants(&self, permit: &Permit<'_>, aggregate: &dyn Aggregate) -> Result<(), Problem> {
        if permit.depends_on_content() {
            permit.content(&aggregate.check(&self.id, &self.command, &self.body)?)?;
        }
        Ok(())
    }

    async fn execute(&self, api: &Api, envelope: &Envelope) -> Result<Answer, Problem> {
        let Self { category, id, command, body } = self;
        Ok(aggregate_of(api, category)?.execute(&api.executor, id, command, body, envelope).await?)
    }
}

/// Reads a command from a request of its own, if its caller may send it.
pub(super) async fn received(
    api: &Api,
    caller: &Caller,
    (category, id, command): (String, String, String),
    request: Request,
) -> Result<(Sent, Envelope, StreamName), Problem> {
    let (parts, body) = request.into_parts();
    let aggregate = aggregate_of(api, &category)?;
    let permit = permit(&api.registry, caller, aggregate, Operation::Command(&command))?;
    let stream = aggregate.stream(&id)?;
    permit.own(api, &category, &id).await?;
    let body = json_body(&parts.headers, body, api.body_limit).await?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request("invalid-command", format!("the body is not JSON: {error}")))?;
    let sent = Sent { category, id, command, body };
    sent.wants(&permit, aggregate)?;
    let envelope = headers::envelope(caller, &parts.headers, &stream, &sent.command, &value)?;
    Ok((sent, envelope, stream))
}

impl Answer {
    /// The status of an answer by itself.
    pub(super) fn status(&self) -> StatusCode {
        if self.created() { StatusCode::CREATED } else { StatusCode::OK }
    }
}

fn answered(answer: &Answer, stream: &StreamName) -> Response {
    let status = answer.status();
    let mut response = (status, Json(answer)).into_response();
    let fields = response.headers_mut();
    if let Some(revision) = answer.revision {
        fields.insert(header::ETAG, headers::etag(revision));
    }
    if let Some(Ok(position)) = answer.position.map(|position| HeaderValue::from_str(&position.to_string())) {
        fields.insert(headers::POSITION, position);
    }
    let location = format!("/v1/{}/{}", stream.category(), stream.id());
    if let (StatusCode::CREATED, Ok(location)) = (status, HeaderValue::from_str(&location)) {
        fields.insert(header::LOCATION, location);
    }
    response
}

/// `?at=` of [`state`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    at: Option<String>,
}

/// `GET /v1/{category}/{id}`
pub(super) async fn state(
    State(api): State<Arc<Api>>,
    place: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<At>, QueryRejection>,
    caller: Caller,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let Path((category, id)) = place?;
    let Query(At { at }) = query.map_err(|error| Problem::bad_request("invalid-query", error.body_text()))?;
    let until = at.as_deref().map_or(Ok(Until::Now), until)?;
    let aggregate = aggregate_of(&api, &category)?;
    let permit = permit(&api.registry, &caller, aggregate, Operation::State)?;
    aggregate.stream(&id)?;
    permit.own(&api, &category, &id).await?;
    let found = aggregate.state(&api.executor, &id, until).await?;
    let found = found.ok_or_else(|| Problem::nothing_happened(&category, &id))?;
    let etag = headers::etag(found.revision);
    if until == Until::Now && headers::has_already(&request, found.revision) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let body = json!({
        "stream": format!("{category}-{id}"),
        "revision": found.revision,
        "position": found.position,
        "state": found.state,
    });
    Ok(([(header::ETAG, etag)], Json(body)).into_response())
}

/// A revision or a time.
fn until(at: &str) -> Result<Until, Problem> {
    let time = || at.parse::<DateTime<Utc>>().ok().map(Until::Time);
    at.parse().ok().map(Until::Revision).or_else(time).ok_or_else(|| {
        let detail = format!("at={at:?} is neither a revision such as 7 nor a time such as 2026-01-31T09:30:00Z");
        Problem::bad_request("invalid-query", detail)
    })
}

/// The query of [`history`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    from: Option<u64>,
    limit: Option<usize>,
    direction: Option<Way>,
    follow: Option<Follow>,
}

/// Which way a history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Forwards,
    Backwards,
}

/// `?follow`, with or without `=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Follow {
    #[serde(rename = "", alias = "true")]
    Yes,
    #[serde(rename = "false")]
    No,
}

/// An event as the history shows it.
#[derive(Serialize)]
pub(super) struct EventView<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    pub(super) event_type: &'a str,
    pub(super) revision: u64,
    position: String,
    recorded_at: DateTime<Utc>,
    data: &'a RawValue,
    metadata: Option<Metadata>,
}

/// `GET /v1/{category}/{id}/events`
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    place: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Pages>, QueryRejection>,
    caller: Caller,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let Path((category, id)) = place?;
    let Query(Pages { from, limit, direction, follow }) =
        query.map_err(|error| Problem::bad_request("invalid-query", error.body_text()))?;
    let (is_followed, is_page) = (follow == Some(Follow::Yes), limit.is_some() || direction.is_some());
    if is_followed && is_page {
        let detail = "follow goes on for ever and forwards: it takes no limit and no direction";
        return Err(Problem::bad_request("invalid-query", detail));
    }
    let limit = limit.unwrap_or(PAGE.1);
    if !(1..=PAGE.0).contains(&limit) {
        let detail = format!("limit={limit}: a page has 1 to {} events", PAGE.0);
        return Err(Problem::bad_request("invalid-query", detail));
    }
    let aggregate = aggregate_of(&api, &category)?;
    let permit = permit(&api.registry, &caller, aggregate, Operation::Events)?;
    let stream = aggregate.stream(&id)?;
    permit.own(&api, &category, &id).await?;
    if is_followed {
        let from = headers::after_last_event(&request)?.or(from).unwrap_or(0);
        return follow::respond(&api, &caller, stream, from).await;
    }
    let way = direction.unwrap_or(Way::Forwards);
    let direction = if way == Way::Forwards { Direction::Forwards } else { Direction::Backwards };
    let (events, end) = read_history(&api.executor, &stream, from, direction, limit).await?;
    if events.is_empty() && (from.is_none() || from == Some(0)) {
        return Err(Problem::nothing_happened(&category, &id));
    }
    let last = events.last().filter(|_| !end).map(|last| last.revision);
    let next = last.and_then(|last| match way {
        Way::Forwards => Some(format!("from={}&limit={limit}", last + 1)),
        Way::Backwards => Some(format!("from={}&limit={limit}&direction=backwards", last.checked_sub(1)?)),
    });
    let next = next.map(|query| format!("/v1/{category}/{id}/events?{query}"));
    let events: Result<Vec<_>, _> = events.iter().map(view).collect();
    let events = events.map_err(|error| no_json(&stream, &error))?;
    Ok(Json(json!({ "stream": stream.as_str(), "events": events, "next": next })).into_response())
}

/// That an event's data is no JSON, which this program does not write.
fn no_json(stream: &StreamName, error: &serde_json::Error) -> Problem {
    tracing::error!(%error, stream = %stream, "an event's data is no JSON");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault", "an event is no JSON")
}

/// An event as the history shows it.
pub(super) fn view(event: &RecordedEvent) -> Result<EventView<'_>, serde_json::Error> {
    Ok(EventView {
        id: event.id,
        event_type: event.event_type.as_str(),
        revision: event.revision,
        position: event.position.to_string(),
        recorded_at: event.recorded_at,
        data: serde_json::from_slice(&event.data)?,
        metadata: Metadata::from_bytes(&event.metadata).ok(),
    })
}

/// `GET /openapi.json`
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> impl IntoResponse {
    // It is the same as long as the process runs, and large.
    let document = api.document.get_or_init(|| openapi::document(&api.registry).to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], document.clone())
}

/// Everything that is not there.
pub(super) async fn no_route(uri: Uri) -> Problem {
    let detail = format!("nothing is at {}; see /docs for what there is", uri.path());
    Problem::not_found("no-route", detail)
}

/// Everything that is there, but not so.
pub(super) async fn no_method(method: Method, uri: Uri) -> Problem {
    let path = uri.path();
    Problem::no_method(format!("{path} takes no {method}; a command is sent by POST, an aggregate is read by GET"))
}

/// The aggregate of a category.
pub(super) fn aggregate_of<'a>(api: &'a Api, category: &str) -> Result<&'a dyn Aggregate, Problem> {
    api.registry.get(category).ok_or_else(|| {
        let known: Vec<_> = api.registry.iter().map(Aggregate::category).collect();
        let detail = format!("there is no aggregate of the category {category:?}; there are {}", known.join(", "));
        Problem::not_found("unknown-category", detail)
    })
}

/// The body of a command: JSON, neither encoded nor too large. No body at all is `{}`. That it comes in time is for the server
/// to see to.
async fn json_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    let unsupported = |detail: &str| {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is not JSON by its headers", detail)
    };
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("a command's body is not encoded; leave Content-Encoding out"));
    }
    let bytes = read_whole(body, limit).await?;
    if bytes.is_empty() {
        return Ok(bytes::Bytes::from_static(b"{}"));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("a command's body is sent as Content-Type: application/json"));
    }
    Ok(bytes)
}

/// How much of a body that is too large is read over before it is refused, in bytes. A client that is still sending
/// would otherwise see a broken connection and not the answer.
const READ_OVER: usize = 32 * 1024 * 1024;

async fn read_whole(body: Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    let (mut body, mut whole, mut length) = (body.into_data_stream(), bytes::BytesMut::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::bad_request("body-cut-off", format!("the body could not be read to its end: {error}"))
        })?;
        length += chunk.len();
        if length <= limit {
            whole.extend_from_slice(&chunk);
        } else if length > READ_OVER {
            break;
        }
    }
    if length > limit { Err(Problem::too_large(limit)) } else { Ok(whole.freeze()) }
}
