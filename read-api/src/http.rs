//! GraphQL over HTTP, by the draft of that name: <https://graphql.github.io/graphql-over-http/draft/>.
//!
//! A request that is none is answered by a problem (RFC 9457). A request that is one is answered by GraphQL: with the
//! status of what became of it as `application/graphql-response+json`, and always with 200 as `application/json`.

mod media;
mod problem;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Response as Answer, ServerError, Value};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use sqlx::PgPool;
use tokio::sync::watch;
use tracing::Instrument;

use self::media::Media;
use self::problem::Problem;
use self::request::{Parameters, Request, check_content, demand};
use crate::error::{Code, TIMED_OUT, request_error, with_code};
use crate::limits;
use crate::own_writes::{Demand, Reads};
use crate::query::Schema;

/// What the handlers share.
pub(crate) struct Endpoint {
    pub(crate) schema: Schema,
    pub(crate) pool: PgPool,
    pub(crate) wake: Option<watch::Receiver<()>>,
    pub(crate) time_limit: Duration,
}

pub(crate) fn router(endpoint: Endpoint) -> Router {
    let method = get(by_get).post(by_post).fallback(|| async { Problem::method("Send GET or POST.") });
    Router::new().route("/graphql", method).layer(DefaultBodyLimit::max(LARGEST_BODY)).with_state(Arc::new(endpoint))
}

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 1024 * 1024;

const AS_OF: HeaderName = HeaderName::from_static("storefold-as-of");

async fn by_post(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let media = Media::negotiate(&headers, &[Media::GraphQl, Media::Json])?;
    check_content(&headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(413, "body-too-large", "The body has more than 1 MiB."),
        _ => Problem::bad_request("The body broke off."),
    })?;
    let request = Request::parse(&body)?;
    endpoint.answer(request, demand(&headers)?, media, Method::Post).await
}

async fn by_get(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let media = Media::negotiate(&headers, &[Media::GraphQl, Media::Json, Media::Html])?;
    if media == Media::Html {
        return Ok(([(VARY, "accept")], Html(include_str!("http/graphiql.html"))).into_response());
    }
    let Query(parameters) = parameters.map_err(|_| Problem::bad_request("The query string is malformed."))?;
    endpoint.answer(parameters.request()?, demand(&headers)?, media, Method::Get).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
}

impl Endpoint {
    async fn answer(
        &self,
        request: Request,
        demand: Demand,
        media: Media,
        method: Method,
    ) -> Result<Response, Problem> {
        let reads = Arc::new(Reads::new(self.pool.clone(), self.wake.clone(), demand));
        let document = match limits::parse(&request.query) {
            Ok(document) => document,
            Err(error) => return Ok(refused(vec![error], &reads, media)),
        };
        match limits::operation(&document, request.operation_name.as_deref()) {
            Ok(operation) if method == Method::Get && operation.ty != OperationType::Query => {
                return Err(Problem::method("GET only queries.").allow("POST"));
            }
            Ok(_) => {}
            Err(error) => return Ok(refused(vec![error], &reads, media)),
        }
        let mut prepared = async_graphql::Request::new(request.query).variables(request.variables).data(reads.clone());
        prepared.operation_name = request.operation_name;
        prepared.set_parsed_query(document);

        let time_limit = if demand.after.is_some() { self.time_limit + demand.wait } else { self.time_limit };
        let schema = self.schema.clone();
        // In a task of its own, for a client that hangs up must not drop a statement that a connection is busy with.
        let execution = async move { tokio::time::timeout(time_limit, schema.execute(prepared)).await };
        let task = tokio::spawn(execution.in_current_span());
        Ok(match task.await {
            Ok(Ok(answer)) => answered(answer, &reads, media),
            Ok(Err(_)) => refused(vec![request_error(Code::Timeout, TIMED_OUT)], &reads, media),
            Err(panic) => {
                tracing::error!(error = %panic, "a query panicked");
                let message = "The server could not answer this. The reason is in its log.";
                refused(vec![request_error(Code::Internal, message)], &reads, media)
            }
        })
    }
}

/// Answers what was executed, or what the validation refused.
fn answered(answer: Answer, reads: &Reads, media: Media) -> Response {
    // Errors of the execution have the path of their field; those of the validation have none, and no data beside them.
    if answer.data == Value::Null && answer.errors.iter().all(|error| error.path.is_empty()) {
        return refused(answer.errors.into_iter().map(limits::code_of_validation).collect(), reads, media);
    }
    // What resolvers report has its code; what is left is arguments that async-graphql could not make sense of.
    let errors = answer.errors.into_iter().map(|error| with_code(error, Code::BadUserInput)).collect();
    respond(StatusCode::OK, Some(answer.data), errors, reads, media)
}

/// Answers a request that was not executed.
fn refused(errors: Vec<ServerError>, reads: &Reads, media: Media) -> Response {
    let is = |code: Code| errors.iter().any(|error| crate::error::has_code(error, code));
    let status = match () {
        () if is(Code::ParseFailed) => StatusCode::BAD_REQUEST,
        () if is(Code::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        () if is(Code::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        () => StatusCode::UNPROCESSABLE_ENTITY,
    };
    respond(status, None, errors, reads, media)
}

fn respond(status: StatusCode, data: Option<Value>, errors: Vec<ServerError>, reads: &Reads, media: Media) -> Response {
    #[derive(serde::Serialize)]
    struct Body {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<ServerError>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
        extensions: BTreeMap<&'static str, Value>,
    }
    let (as_of, as_of_header) = reads.as_of();
    let body = serde_json::to_vec(&Body { errors, data, extensions: BTreeMap::from([("asOf", as_of)]) });
    let Ok(body) = body else {
        return Problem::new(500, "internal", "The answer could not be written.").into_response();
    };
    let status = if media == Media::Json { StatusCode::OK } else { status };
    let mut response = (status, [(CONTENT_TYPE, media.content_type())], body).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Ok(value) = HeaderValue::try_from(as_of_header) {
        headers.insert(AS_OF, value);
    }
    response
}
