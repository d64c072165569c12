//! What is to be seen of a request: a span, from which log lines have their trace, and figures by route.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, gauge, histogram};
use tracing::{Instrument as _, Span, field};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Follows a request from its handler's beginning to the beginning of its answer. Where traces are collected, whoever works on
/// it finds this span's name in `traceparent`, and passes it on as it would the client's.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let under_way = UnderWay::begin();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = known(request.method());
    let sent = request.headers().get(&TRACEPARENT).and_then(|sent| sent.to_str().ok());
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        trace_id = field::Empty,
    );
    if let Some(sent) = sent {
        telemetry::go_on(&span, sent);
    }
    let ours = telemetry::traceparent(&span);
    if let Some(trace) = ours.as_deref().or(sent).and_then(telemetry::trace_id) {
        span.record("trace_id", trace);
    }
    if let Some(Ok(ours)) = ours.map(HeaderValue::try_from) {
        request.headers_mut().insert(TRACEPARENT, ours);
    }
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    note_status(&span, status);
    drop(under_way);
    let labels = [("method", method.to_owned()), ("route", route)];
    histogram!("http_request_duration_seconds", &labels).record(begun.elapsed());
    let [method, route] = labels;
    counter!("http_requests_total", &[method, route, ("status", status.as_str().to_owned())]).increment(1);
    response
}

fn note_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A method that is known by its name: clients make up others, and each would be a figure of its own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "_OTHER",
    }
}

/// A request that is worked on; also when it is cut off it ends.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        gauge!("http_requests_in_flight").increment(1);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        gauge!("http_requests_in_flight").decrement(1);
    }
}
