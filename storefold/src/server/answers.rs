//! Answers on their way out, and those that are given before anybody has worked on a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use http_body::{Frame, SizeHint};
use metrics::counter;
use write_side::http::Problem;

use super::admission::Place;
use super::line::Line;

/// The body of an answer. While it is sent, its request has its place, and the connection is busy.
#[derive(Default)]
pub(super) struct Answer {
    body: Body,
    _place: Option<Place>,
    line: Option<Arc<Line>>,
}

impl Answer {
    pub(super) fn new(body: Body, place: Option<Place>, line: Option<Arc<Line>>) -> Self {
        Self { body, _place: place, line }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.end();
        }
    }
}

/// Why a request is answered before anybody has worked on it, or has done with it.
#[derive(Debug, Clone, Copy)]
enum Reason {
    Overloaded,
    BodyTooSlow,
    BodyTooLarge,
    TimedOut,
    ContentEncoding,
    RateLimited,
    Malformed,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Overloaded,
        Self::BodyTooSlow,
        Self::BodyTooLarge,
        Self::TimedOut,
        Self::ContentEncoding,
        Self::RateLimited,
        Self::Malformed,
    ];

    fn count(self, requests: u64) {
        let reason = match self {
            Self::Overloaded => "overloaded",
            Self::BodyTooSlow => "body-too-slow",
            Self::BodyTooLarge => "body-too-large",
            Self::TimedOut => "timed-out",
            Self::ContentEncoding => "content-encoding",
            Self::RateLimited => "rate-limited",
            Self::Malformed => "malformed",
        };
        counter!("http_requests_turned_away_total", "reason" => reason).increment(requests);
    }
}

/// Has the requests that are turned away counted from zero, for every reason.
pub(crate) fn count_turned_away_from_zero() {
    Reason::ALL.into_iter().for_each(|reason| reason.count(0));
}

/// 503: there is no place for the request, or no memory for its body. Written once: it is given when there is no time.
pub(super) fn overloaded() -> Response<Body> {
    const PROBLEM: &str = r#"{"type":"/problems/overloaded","title":"The server has too much to do","status":503,"detail":"more is asked than can be done at the moment; send the same request again in a second, with the same Idempotency-Key if it is a command"}"#;

    Reason::Overloaded.count(1);
    let mut response = Response::new(Body::from(PROBLEM));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// 408: the body was not here in time.
pub(super) fn too_slow(patience: Duration) -> Response<Body> {
    Reason::BodyTooSlow.count(1);
    let mut response = Problem::too_slow(patience).into_response();
    // What is still to come of the body would be taken for the next request.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 413: the body is so large that it would not even be read over.
pub(super) fn too_large(limit: usize) -> Response<Body> {
    Reason::BodyTooLarge.count(1);
    let mut response = Problem::too_large(limit).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 504: the answer was not here in time.
pub(super) fn timed_out(patience: Duration) -> Response<Body> {
    Reason::TimedOut.count(1);
    Problem::timed_out(patience).into_response()
}

/// 415: the body is compressed.
pub(super) fn encoded() -> Response<Body> {
    Reason::ContentEncoding.count(1);
    let mut response = Problem::encoded().into_response();
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response
}

/// 429: the caller has sent as many requests as it may.
pub(super) fn too_many(seconds: u64) -> Response<Body> {
    Reason::RateLimited.count(1);
    let mut response = Problem::too_many_requests(Duration::from_secs(seconds)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// 400 or 501: HTTP itself forbids the request.
pub(super) fn malformed(problem: Problem) -> Response<Body> {
    Reason::Malformed.count(1);
    problem.into_response()
}

/// Whether an answer is sent for as long as somebody follows it.
pub(super) fn is_followed(response: &Response<Body>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// An answer to a browser that asks what a page may do, which nobody else has seen; others are let through as they are.
pub(super) fn secured(mut answer: Response<Answer>, tls: bool) -> Response<Answer> {
    if !answer.headers().contains_key(header::X_CONTENT_TYPE_OPTIONS) {
        secure(&mut answer, &Method::OPTIONS, tls);
    }
    answer
}

/// Headers that say what may be done with an answer: it is what its type says, it is shown in no frame, its address is told
/// to nobody, and it is kept by nobody unless it says so itself.
pub(super) fn secure<B>(response: &mut Response<B>, method: &Method, tls: bool) {
    const STATIC: [(HeaderName, HeaderValue); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];

    let headers = response.headers_mut();
    headers.reserve(STATIC.len() + 3);
    for (name, value) in STATIC {
        headers.insert(name, value);
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        // What has a tag may be kept by the caller, who asks whether it is still so.
        let tagged = method == Method::GET && headers.contains_key(header::ETAG);
        let keep = if tagged { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    }
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}
