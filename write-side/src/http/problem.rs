//! What goes wrong, as RFC 9457 has it: one type of error for every route.

use std::time::Duration;

use access::Refusal;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::places::Full;
use crate::endpoint::Failure;
use crate::execute::ExecuteError;
use crate::load::LoadError;

/// A problem: `application/problem+json` with a stable `type`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    /// The last part of the problem's type, `/problems/{kind}`.
    kind: String,
    title: &'static str,
    detail: String,
    figures: Map<String, Value>,
    /// Why the caller was turned away, if it was: `WWW-Authenticate` says so too.
    refusal: Option<Refusal>,
}

impl Problem {
    /// A problem of a kind, told in a sentence.
    pub fn new(status: StatusCode, kind: impl Into<String>, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind: kind.into(), title, detail: detail.into(), figures: Map::new(), refusal: None }
    }

    /// Adds a figure that a program can read.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }

    /// 400: the request makes no sense.
    pub fn bad_request(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, "The request makes no sense", detail)
    }

    /// 404: there is nothing here.
    pub fn not_found(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind, "There is nothing here", detail)
    }

    /// 404: nothing has happened to an aggregate, or nothing that the caller may know of: both are told in the same words.
    pub fn nothing_happened(category: &str, id: &str) -> Self {
        Self::not_found("nothing-happened", format!("nothing has happened to {category}-{id}, or not yet by then"))
    }

    /// 403: the caller may not do this.
    pub fn forbidden(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, "The caller may not do this", detail)
    }

    /// 413: the body is too large. `limit` is in bytes.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("a body has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
            .with("limit_bytes", limit)
    }

    /// 408: the body was not here in time.
    pub fn too_slow(patience: Duration) -> Self {
        let detail = format!("the body was not here within {} seconds", patience.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", "The body came too slowly", detail)
    }

    /// 405: what is there is not for this method.
    pub fn no_method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "The method is not for this address", detail)
    }

    /// 415: the body is compressed.
    pub fn encoded() -> Self {
        let detail = "a body is sent as it is; leave Content-Encoding out";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-content-encoding", "The body is encoded", detail)
    }

    /// 501: the body is sent in a way that is not known here.
    pub fn transfer_encoded() -> Self {
        let detail = "a body is sent as it is or in chunks; leave other values of Transfer-Encoding out";
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "unsupported-transfer-encoding",
            "The body is sent in a way that is not known here",
            detail,
        )
    }

    /// 429: the caller has sent as many requests as it may.
    pub fn too_many_requests(wait: Duration) -> Self {
        // Who comes in a part of a second less comes too soon.
        let seconds = wait.as_nanos().div_ceil(1_000_000_000);
        let detail = format!("as many requests were sent as are allowed; send the next one in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests", detail)
            .with("retry_after_seconds", u64::try_from(seconds).unwrap_or(u64::MAX))
    }

    /// 503: there is no place for the request, or no memory for its body.
    pub fn overloaded() -> Self {
        let detail = "more is asked than can be done at the moment; send the same request again in a second, with the \
                      same Idempotency-Key if it is a command";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The server has too much to do", detail)
    }

    /// 504: the answer was not here in time.
    pub fn timed_out(patience: Duration) -> Self {
        let detail = format!(
            "there was no answer within {} seconds; the outcome is unknown: a command may be carried out yet. Send the same \
             request again, with the same Idempotency-Key if it is a command",
            patience.as_secs()
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", "The answer took too long", detail)
    }

    /// 500: what carried a command out has ended early.
    pub(super) fn cut_off() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault", "the command was cut off")
    }

    /// 503: other batches are under way. Nothing of this one was read.
    pub(super) fn too_many_batches(full: Full) -> Self {
        let detail = match full {
            Full::ForAll => {
                "as many batches are under way as this process carries out at a time; send it again in a moment"
            }
            Full::ForCaller => {
                "as many batches of this caller are under way as there are places left for others; send it again when one of \
                 them has ended"
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-batches", "Too many batches are under way", detail)
    }

    /// 503: others follow something.
    pub(super) fn too_many_followers(full: Full) -> Self {
        let detail = match full {
            Full::ForAll => "as many follow a history as this process has places for; come again in a moment",
            Full::ForCaller => {
                "this caller follows as many histories as there are places left for others; come again when it has left one"
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-followers", "Too many follow something", detail)
    }

    /// 503: this process is about to stop. What was not read was not done.
    pub(super) fn stopping() -> Self {
        let detail = "this process is about to stop; what is sent from here on was not read: send it to another";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The server is stopping", detail)
    }

    /// 503: the log cannot be reached. What was sent may be sent again with the same key.
    fn unavailable(error: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let chain: Vec<String> = chain.map(ToString::to_string).collect();
        tracing::error!(error = chain.join(": "), "a command failed");
        Self::log_unavailable()
    }

    /// The same, as it is told.
    pub(super) fn log_unavailable() -> Self {
        let detail = "the event log cannot be reached at the moment; send the same request again, with the same \
                      Idempotency-Key if it is a command";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "log-unavailable", "The log cannot be reached", detail)
    }

    /// 500: a fault of this program. The log has the details.
    fn internal(error: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let chain: Vec<String> = chain.map(ToString::to_string).collect();
        tracing::error!(error = chain.join(": "), "a request failed for a fault of this program");
        Self::fault()
    }

    /// The same, as it is told.
    pub(super) fn fault() -> Self {
        let detail = "the fault is on this side; its details are in the server's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault", detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = Self::new(refusal.status(), refusal.kind(), refusal.title(), refusal.to_string());
        let problem = Self { refusal: Some(refusal), ..problem };
        match refusal.missing_scope() {
            Some(scope) => problem.with("scope", scope.name()),
            None => problem,
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::bad_request("invalid-id", "the address has characters that are no UTF-8")
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        match failure {
            Failure::UnknownCommand { .. } => Self::not_found("unknown-command", detail),
            Failure::Id(_) => Self::bad_request("invalid-id", detail),
            Failure::Wire(_) => Self::bad_request("invalid-command", detail),
            Failure::Refused { category, figures, .. } => {
                let mut figures = figures.as_object().cloned().unwrap_or_default();
                let refusal = figures.remove("refusal");
                let refusal = refusal.as_ref().and_then(Value::as_str).unwrap_or("refused");
                let kind = format!("{category}/{refusal}");
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, "The command was refused", detail);
                Self { figures, ..problem }
            }
            Failure::Execute(error) => Self::from(error),
        }
    }
}

impl From<ExecuteError<std::convert::Infallible>> for Problem {
    fn from(error: ExecuteError<std::convert::Infallible>) -> Self {
        let detail = error.to_string();
        match error {
            ExecuteError::Refused(never) => match never {},
            ExecuteError::PreconditionFailed { actual } => {
                let title = "The aggregate is not as presumed";
                let actual = actual.map_or(Value::Null, Value::from);
                Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title, detail).with("actual", actual)
            }
            ExecuteError::KeyReused => {
                let title = "The key was used for another command";
                let detail = "this Idempotency-Key was sent to this aggregate with another command or body; use a new \
                              key for a new command";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", title, detail)
            }
            ExecuteError::InFlight => {
                let title = "The same command is being executed";
                let detail = "a command with this Idempotency-Key is being executed; send it again for its answer";
                Self::new(StatusCode::CONFLICT, "in-flight", title, detail)
            }
            ExecuteError::Busy => {
                let title = "Too many commands wait for this aggregate";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", title, detail)
            }
            ExecuteError::Contended => {
                Self::new(StatusCode::CONFLICT, "contended", "Other writers were faster", detail)
            }
            ExecuteError::TooLarge { events, bytes } => {
                let title = "The command leads to too much at once";
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", title, detail)
                    .with("events", events)
                    .with("bytes", bytes)
            }
            ExecuteError::Stream(_) => Self::bad_request("invalid-id", detail),
            ExecuteError::Load(error @ LoadError::Read(_)) => Self::unavailable(&error),
            ExecuteError::Load(error @ LoadError::Undecodable { .. }) => Self::internal(&error),
            ExecuteError::Codec(error) => Self::internal(&error),
            ExecuteError::Log(error) => Self::unavailable(&error),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        Self::from(ExecuteError::<std::convert::Infallible>::from(error))
    }
}

impl Problem {
    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The last part of its type.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Its body.
    pub(super) fn body(&self) -> Value {
        let Self { status, kind, title, detail, figures, .. } = self;
        let mut body = json!({
            "type": format!("/problems/{kind}"), "title": title, "status": status.as_u16(), "detail": detail,
        });
        if let Some(body) = body.as_object_mut() {
            // The standard members win over a figure of the same name.
            for (name, value) in figures {
                body.entry(name).or_insert_with(|| value.clone());
            }
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, refusal, .. } = self;
        let mut response = (status, self.body().to_string()).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        if let Some(challenge) = refusal.and_then(Refusal::challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
