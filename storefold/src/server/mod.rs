//! Accepting connections, and what clients may take: places, time, memory, requests. See docs/limits.md.

mod admission;
mod answers;
mod edge;
mod line;
mod peers;
mod rates;
mod received;
mod tls;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use access::Gate;
use anyhow::Context as _;
use axum::Router;
use axum::http::{HeaderName, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use metrics::counter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::util::MapResponse;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use write_side::sandbox::Secret;

use self::answers::Answer;
pub(crate) use self::answers::count_turned_away_from_zero;
use self::edge::{Desk, Edge};
use self::line::{Line, Patient, Places};
use self::peers::Crowd;
use self::tls::Tls;
use crate::config::{Http, Origin, TlsFiles};

/// How many files a process opens besides the connections of clients: those to Postgres, to KurrentDB and to the gateway.
const OTHER_FILES: u64 = 256;
/// How long a browser may remember what pages of another origin may do. None remembers it for longer.
const PREFLIGHT: Duration = Duration::from_secs(2 * 60 * 60);

/// What clients find when they connect.
pub(crate) struct Front {
    http: Http,
    tls: Option<Tls>,
    gate: Gate,
    /// What the shop brings when it asks its own gateway.
    own: Option<Secret>,
}

impl Front {
    /// A front with these limits; `gate` tells callers from one another.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub(crate) fn new(http: &Http, tls: Option<&TlsFiles>, gate: Gate) -> anyhow::Result<Self> {
        let tls = tls.map(|files| Tls::read(files.clone())).transpose().context("TLS cannot be spoken")?;
        Ok(Self { http: http.clone(), tls, gate, own: None })
    }

    /// Lets the shop ask its own gateway here as often as it has to: by this secret it is known.
    pub(crate) fn with_gateway(self, secret: Option<&SecretString>) -> Self {
        Self { own: secret.map(Secret::of), ..self }
    }
}

/// Serves until `stop` says so, then lets what is under way end, for at most `drain`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    front: Front,
    stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let Front { http, tls, gate, own } = front;
    let reloading = tls.clone().map(|tls| tokio::spawn(tls.reload(stop.clone())));
    let (desk, encrypted) = (Arc::new(Desk::new(&http, gate, own, tls.is_some())), tls.is_some());
    let edge = move |peer, line| Edge::new(router.clone(), desk.clone(), peer, line);
    let accepting = Accepting { listener, http: Arc::new(http), tls, stop, drain };
    match cors(&accepting.http.cors_origins.0) {
        Some(cors) => {
            // What is allowed is said without the edge, and has the headers of every answer too.
            let secured = move |answer| answers::secured(answer, encrypted);
            accepting.run(move |peer, line| MapResponse::new(cors.layer(edge(peer, line)), secured)).await;
        }
        None => accepting.run(edge).await,
    }
    if let Some(reloading) = reloading {
        reloading.abort();
    }
}

/// What pages of these origins may do: whatever their tokens allow. They bring no cookies, for there are none.
fn cors(origins: &[Origin]) -> Option<CorsLayer> {
    let exposed =
        ["storefold-position", "storefold-as-of", "ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
    let exposed = exposed.into_iter().chain([header::ETAG, header::LOCATION, header::RETRY_AFTER, header::ALLOW]);
    let layer = || {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().map(|origin| origin.0.clone())))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed.collect::<Vec<_>>())
            .max_age(PREFLIGHT)
    };
    (!origins.is_empty()).then(layer)
}

/// What the loop that accepts connections works with.
struct Accepting {
    listener: TcpListener,
    http: Arc<Http>,
    tls: Option<Tls>,
    stop: watch::Receiver<bool>,
    drain: Duration,
}

impl Accepting {
    /// Gives each connection a service of its own.
    async fn run<S>(mut self, service: impl Fn(IpAddr, Arc<Line>) -> S)
    where
        S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        // HTTP/1.1 and nothing else: all limits are those of a connection with one request at a time.
        let mut builder = Builder::new();
        // Both are for the line to see to: it knows a connection that waits from one that is slow.
        builder.header_read_timeout(None).max_buf_size(self.http.header_limit);
        // Each connection keeps one end; that nothing comes any more says that all have ended.
        let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
        let places = Arc::new(Semaphore::new(places(self.http.connections)));
        let crowd = Crowd::new(self.http.connections_per_peer(), self.http.trusted_proxies.0.clone());
        loop {
            let accepted = tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                // The client has gone again. To wait for that would let one of them hold up all.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {
                    continue;
                }
                Err(error) => {
                    // Out of file descriptors, as a rule: those that are open must close first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let peer = peer.ip().to_canonical();
            // Closed at once: whoever has so many open is told nothing by one more answer.
            let Some(guest) = crowd.enter(peer) else {
                counter!("http_connections_turned_away_total").increment(1);
                continue;
            };
            let places = Places { _one_of_its_peer: guest, _one_of_all: place };
            let line = Arc::new(Line::new());
            let service = TowerToHyperService::new(service(peer, line.clone()));
            let (builder, http, stop, open) = (builder.clone(), self.http.clone(), self.stop.clone(), open.clone());
            let tls = self.tls.as_ref().map(Tls::acceptor);
            tokio::spawn(async move {
                // Answers are small and complete; waiting for more to send would only delay them. A client that has gone
                // again does not matter: reading will say so.
                let _ = stream.set_nodelay(true);
                match tls {
                    None => talk(&builder, Patient::new(stream, &http, line, places), service, stop).await,
                    // In the connection's own task: nobody waits for the handshake of another.
                    Some(tls) => match tokio::time::timeout(http.header_timeout, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            talk(&builder, Patient::new(stream, &http, line, places), service, stop).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                        Err(_) => tracing::debug!("a handshake took too long"),
                    },
                }
                drop(open);
            });
        }
        drop((self.listener, open));
        if tokio::time::timeout(self.drain, all_closed.recv()).await.is_err() {
            tracing::warn!(seconds = self.drain.as_secs(), "requests that were still under way were cut off");
        }
    }
}

/// Serves one connection to its end; once it is to `stop`, to the end of the request that is under way.
async fn talk<I, S>(
    builder: &Builder,
    stream: Patient<I>,
    service: TowerToHyperService<S>,
    mut stop: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // With upgrades, for the subscriptions of GraphQL come over WebSockets.
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// How many connections there is room for: as many as are wanted, where the system lets the process have so many.
fn places(wanted: usize) -> usize {
    let files = wanted as u64 + OTHER_FILES;
    let limits = getrlimit(Resource::Nofile);
    // No limit at all is more than anybody wants.
    let (now, most) = (limits.current.unwrap_or(u64::MAX), limits.maximum.unwrap_or(u64::MAX));
    if now >= files {
        return wanted;
    }
    let raised = files.min(most).max(now);
    let had = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limits.maximum }) {
        Ok(()) => raised,
        Err(_) => now,
    };
    if had >= files {
        return wanted;
    }
    let room = usize::try_from(had.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(1);
    tracing::warn!(
        http.connections = wanted,
        room,
        "the system lets this process have {had} files open; raise that (ulimit -n), or lower http.connections"
    );
    room
}
