//! The handlers.

use access::Caller;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use event_store::{Metadata, RecordedEvent};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::permissions::{Operation, permit};
use super::{Api, Problem, headers, openapi};
use crate::endpoint::{Aggregate, history as read_history};
use crate::execute::Answer;
use crate::load::Until;

/// How many events a page of history has at most, and where nothing is asked for.
const PAGE: (usize, usize) = (1_000, 100);

/// `POST /v1/{category}/{id}/{command}`
pub(super) async fn command(
    State(api): State<Api>,
    Path((category, id, command)): Path<(String, String, String)>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let aggregate = aggregate_of(&api, &category)?;
    let permit = permit(&api.registry, &caller, aggregate, Operation::Command(&command))?;
    let stream = aggregate.stream(&id)?;
    permit.own(&api, &category, &id).await?;
    let bytes = json_body(&parts.headers, body, api.body_limit).await?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request("invalid-command", format!("the body is not JSON: {error}")))?;
    if permit.depends_on_content() {
        permit.content(&aggregate.check(&id, &command, &bytes)?)?;
    }
    let envelope = headers::envelope(&caller, &parts.headers, &stream, &command, &value)?;
    let command_id = envelope.command_id;
    // A client that hangs up must not stop what it has begun.
    let executed = tokio::spawn(async move {
        let aggregate = aggregate_of(&api, &category)?;
        Ok::<_, Problem>(aggregate.execute(&api.executor, &id, &command, &bytes, &envelope).await?)
    });
    let answer = executed.await.map_err(|error| {
        tracing::error!(%error, command.id = %command_id, "a command's task ended early");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault", "the command was cut off")
    })??;
    Ok(answered(&answer, &stream))
}

fn answered(answer: &Answer, stream: &event_store::StreamName) -> Response {
    let status = if answer.created() { StatusCode::CREATED } else { StatusCode::OK };
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
    State(api): State<Api>,
    Path((category, id)): Path<(String, String)>,
    query: Result<Query<At>, axum::extract::rejection::QueryRejection>,
    caller: Caller,
    request: HeaderMap,
) -> Result<Response, Problem> {
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
}

/// An event as the history shows it.
#[derive(Serialize)]
struct EventView<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    event_type: &'a str,
    revision: u64,
    position: String,
    recorded_at: DateTime<Utc>,
    data: &'a RawValue,
    metadata: Option<Metadata>,
}

/// `GET /v1/{category}/{id}/events`
pub(super) async fn history(
    State(api): State<Api>,
    Path((category, id)): Path<(String, String)>,
    query: Result<Query<Pages>, axum::extract::rejection::QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    let Query(Pages { from, limit }) =
        query.map_err(|error| Problem::bad_request("invalid-query", error.body_text()))?;
    let limit = limit.unwrap_or(PAGE.1);
    if !(1..=PAGE.0).contains(&limit) {
        let detail = format!("limit={limit}: a page has 1 to {} events", PAGE.0);
        return Err(Problem::bad_request("invalid-query", detail));
    }
    let from = from.unwrap_or(0);
    let aggregate = aggregate_of(&api, &category)?;
    let permit = permit(&api.registry, &caller, aggregate, Operation::Events)?;
    let stream = aggregate.stream(&id)?;
    permit.own(&api, &category, &id).await?;
    let (events, end) = read_history(&api.executor, &stream, from, limit).await?;
    if events.is_empty() && from == 0 {
        return Err(Problem::nothing_happened(&category, &id));
    }
    let next = (!end).then(|| events.last().map(|last| last.revision + 1)).flatten();
    let next = next.map(|from| format!("/v1/{category}/{id}/events?from={from}&limit={limit}"));
    let events: Result<Vec<_>, _> = events.iter().map(view).collect();
    let events = events.map_err(|error| {
        tracing::error!(%error, stream = %stream, "an event's data is no JSON");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault", "an event is no JSON")
    })?;
    Ok(Json(json!({ "stream": stream.as_str(), "events": events, "next": next })).into_response())
}

fn view(event: &RecordedEvent) -> Result<EventView<'_>, serde_json::Error> {
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
pub(super) async fn openapi(State(api): State<Api>) -> Json<Value> {
    Json(openapi::document(&api.registry))
}

/// Everything that is not there.
pub(super) async fn no_route(uri: Uri) -> Problem {
    let detail = format!("nothing is at {}; see /docs for what there is", uri.path());
    Problem::not_found("no-route", detail)
}

/// Everything that is there, but not so.
pub(super) async fn no_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} takes no {method}; a command is sent by POST, an aggregate is read by GET", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "The method is not for this address", detail)
}

fn aggregate_of<'a>(api: &'a Api, category: &str) -> Result<&'a dyn Aggregate, Problem> {
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
