//! What happens to every request before anybody works on it, and to its answer afterwards. One service, so that what is not
//! configured costs nothing.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use access::Gate;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, Method, Request, Response, Version, header};
use axum::{BoxError, Router};
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};
use write_side::http::{Meter, Problem};
use write_side::sandbox::Secret;
use write_side::to_its_end::ToItsEnd;

use super::admission::{Admission, Place};
use super::answers::{self, Answer};
use super::line::Line;
use super::peers::Proxies;
use super::rates::{Account, Rates, Sender};
use super::received::{Fault, Receipt, Received};
use crate::config::Http;
use crate::trade::SANDBOX;

/// Where batches are sent.
const BATCHES: &str = "/v1/commands";

/// What proxies add to what they pass on.
const PASSED_ON: [HeaderName; 4] =
    [header::FORWARDED, header::VIA, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

/// However large a body may be that is refused, no more of it is read over than this, in bytes.
const READ_OVER: u64 = 32 * 1024 * 1024;

/// What all connections share.
pub(super) struct Desk {
    admission: Arc<Admission>,
    rates: Option<Arc<Rates>>,
    proxies: Proxies,
    gate: Gate,
    /// What the shop brings when it asks its own gateway.
    own: Option<Secret>,
    body_timeout: Duration,
    request_timeout: Duration,
    /// What is kept of a body at most, in bytes.
    body_limit: usize,
    tls: bool,
}

impl Desk {
    pub(super) fn new(http: &Http, gate: Gate, own: Option<Secret>, tls: bool) -> Self {
        Self {
            admission: Arc::new(Admission::new(http.in_flight, http.body_memory)),
            rates: http.rate.map(Rates::new).map(Arc::new),
            proxies: Proxies::new(http.trusted_proxies.0.clone(), http.forwarded_by),
            gate,
            own,
            body_timeout: http.body_timeout,
            request_timeout: http.request_timeout,
            body_limit: http.body_limit,
            tls,
        }
    }
}

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Edge {
    router: Router,
    desk: Arc<Desk>,
    peer: IpAddr,
    line: Arc<Line>,
}

impl Edge {
    pub(super) fn new(router: Router, desk: Arc<Desk>, peer: IpAddr, line: Arc<Line>) -> Self {
        Self { router, desk, peer, line }
    }

    /// Answers a request: what is said of it, and the place that it has while that is sent.
    async fn answer<B>(&self, mut request: Request<B>) -> (Response<Body>, Option<Place>)
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        if let Some(problem) = malformed(&request) {
            return (answers::malformed(problem), None);
        }
        if is_exempt(&request, self.desk.own) {
            return (self.work(request.map(Body::new)).await, None);
        }
        let Some(rates) = &self.desk.rates else { return self.admit(request).await };
        let account = self.account(rates, request.headers()).await;
        let standing = rates.count(account);
        let (mut response, place) = if standing.allowed {
            if request.uri().path() == BATCHES {
                // Each command counts, however many come in a request.
                let rates = rates.clone();
                request.extensions_mut().insert(Meter::new(move || rates.count_another(account)));
            }
            self.admit(request).await
        } else {
            (answers::too_many(standing.wait), None)
        };
        rates.tell(standing, response.headers_mut());
        (response, place)
    }

    /// What the caller's requests are counted under: of whoever has a token that is accepted its name, of others where they
    /// are. A name that was made up would count for somebody else.
    async fn account(&self, rates: &Rates, headers: &HeaderMap) -> Account {
        let caller = self.desk.gate.caller(headers).await;
        match caller.ok().flatten().and_then(|caller| caller.subject) {
            Some(subject) => rates.account(Sender::Subject(&subject)),
            None => rates.account(Sender::Peer(self.desk.proxies.client(self.peer, headers))),
        }
    }

    async fn admit<B>(&self, request: Request<B>) -> (Response<Body>, Option<Place>)
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let desk = &self.desk;
        if desk.admission.is_full() {
            desk.admission.turn_away().await;
            return (answers::overloaded(), None);
        }
        let encodings = request.headers().get_all(header::CONTENT_ENCODING);
        if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return (answers::encoded(), None);
        }
        // A batch is read while its answers are, and never kept: it may be of any size and take any time, and how many there
        // are at a time is bounded where they are carried out.
        if request.uri().path() == BATCHES {
            return (self.work(request.map(Body::new)).await, None);
        }
        // One that says how large it is is refused before it is sent. Others are read over for a while, so that the client
        // sees the answer and not a broken connection.
        if request.body().size_hint().lower() > READ_OVER {
            return (answers::too_large(desk.body_limit), None);
        }
        let begun = Instant::now();
        let receipt = Arc::new(Receipt::new(desk.admission.clone(), desk.body_limit));
        let mut waiting = None;
        if request.headers().contains_key("storefold-after") {
            waiting = desk.admission.wait();
            if waiting.is_none() {
                desk.admission.turn_away().await;
                return (answers::overloaded(), None);
            }
        }
        let until = begun + desk.body_timeout;
        let request = if request.body().is_end_stream() {
            if receipt.arrived().is_err() {
                desk.admission.turn_away().await;
                return (answers::overloaded(), None);
            }
            request.map(|_| Body::empty())
        } else {
            request.map(|body| Body::new(Received::new(body, until, receipt.clone())))
        };
        // To its end, with its place: a client that hangs up, or that was told that it takes too long, must not
        // cut off what a connection to the database is busy with, nor have others believe that there is room.
        let (edge, kept) = (self.clone(), receipt.clone());
        let work = async move {
            let response = edge.work(request).await;
            let place = kept.place();
            if let Some(place) = place.as_ref().filter(|_| waiting.is_none()) {
                place.worked();
            }
            drop(waiting);
            (response, place)
        };
        let answered = tokio::time::timeout_at(begun + desk.request_timeout, ToItsEnd::new(work)).await;
        let (response, place) = answered.unwrap_or_else(|_| (answers::timed_out(desk.request_timeout), None));
        match receipt.fault() {
            None if answers::is_followed(&response) => (response, None),
            None => (response, place),
            Some(Fault::TooSlow) => (answers::too_slow(desk.body_timeout), None),
            Some(Fault::NoMemory | Fault::NoPlace) => {
                desk.admission.turn_away().await;
                (answers::overloaded(), None)
            }
        }
    }

    async fn work(&self, request: Request<Body>) -> Response<Body> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// What HTTP/1.1 has a server refuse (RFC 9112, 3.2 and 6.1), and hyper lets pass: a request that does not say which host it is
/// for, or says it twice, and a body in an encoding that only says how it is sent.
fn malformed<B>(request: &Request<B>) -> Option<Problem> {
    let headers = request.headers();
    if request.version() == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return Some(Problem::bad_request("no-host", "a request has one Host header"));
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")).then(Problem::transfer_encoded)
}

/// Whether no limit holds for a request: whoever asks whether the server lives has to be told, and the shop asks its own
/// gateway, where it is the sandbox's. It is known by the secret, and by coming straight here: whatever a proxy passes on, of
/// whomever, is not the shop's.
fn is_exempt<B>(request: &Request<B>, own: Option<Secret>) -> bool {
    let (path, headers) = (request.uri().path(), request.headers());
    let probe =
        matches!(path, "/livez" | "/readyz" | "/metrics") && matches!(*request.method(), Method::GET | Method::HEAD);
    let passed_on = || PASSED_ON.iter().any(|name| headers.contains_key(name));
    probe || path.starts_with(SANDBOX) && own.is_some_and(|own| !passed_on() && own.is_brought(headers))
}

impl<B> Service<Request<B>> for Edge
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.line.begin();
        let edge = self.clone();
        Box::pin(async move {
            let method = request.method().clone();
            let (mut response, place) = edge.answer(request).await;
            answers::secure(&mut response, &method, edge.desk.tls);
            // A connection that was handed over is busy for good: nobody waits for requests on it.
            let upgraded = response.status() == axum::http::StatusCode::SWITCHING_PROTOCOLS;
            let line = (!upgraded).then_some(edge.line);
            Ok(response.map(|body| Answer::new(body, place, line)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_hold_for_all_but_probes_and_the_shop_at_its_own_gateway() {
        let own = Some(Secret::of(&"our-own".to_owned().into()));
        let exempt = |own, method: &str, path: &str, headers: &[(&str, &str)]| {
            let request = Request::builder().method(method).uri(path);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            is_exempt(&request.body(()).unwrap(), own)
        };
        for (method, path, is_so) in [
            ("GET", "/livez", true),
            ("HEAD", "/readyz", true),
            ("GET", "/metrics", true),
            ("POST", "/livez", false),
            ("GET", "/livez/more", false),
            ("POST", "/v1/stock/A/receive", false),
            ("POST", "/sandbox/gateway/payments", false),
        ] {
            assert_eq!(exempt(own, method, path, &[]), is_so, "{method} {path}");
        }
        let (path, ours) = ("/sandbox/gateway/payments", ("authorization", "Bearer our-own"));
        assert!(exempt(own, "POST", path, &[ours]));
        assert!(!exempt(None, "POST", path, &[ours]), "where there is no sandbox, it has no secret");
        assert!(!exempt(own, "POST", path, &[("authorization", "Bearer guessed")]));
        assert!(!exempt(own, "POST", "/v1/stock/A/receive", &[ours]), "elsewhere it is no token");
        for passed_on in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert!(!exempt(own, "POST", path, &[ours, (passed_on, "127.0.0.1")]), "{passed_on}");
        }
    }
}
