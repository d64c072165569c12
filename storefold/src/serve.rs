//! `storefold serve`: the roles of one process, from start to drain.

use std::io::Write as _;
use std::net::IpAddr;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use write_side::http::{Patience, Problem};

use crate::config::{Config, Role};
use crate::history::Past;
use crate::repairs::Mender;
use crate::server::Front;
use crate::shop::{Head, Shop};
use crate::tokens::{self, Demanded};
use crate::trade::{self, Counter};
use crate::{cli, demo, metrics, observed, server, signals};

/// Serves until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// When something is missing at the start, with what to do about it.
pub(crate) async fn serve(config: &Config, flags: &cli::ServeFlags) -> anyhow::Result<()> {
    // Before anything is started, so that no signal finds the process without a handler.
    let stop = signals::stop()?;
    small_pages();
    let figures = metrics::keep()?;
    let shop = Shop::open(config).await?;
    let served = run(config, &shop, flags, stop, figures).await;
    let closed = shop.close().await;
    served.and(closed)
}

/// Has memory come in pages of 4 KiB. The allocator asks for pages of 2 MiB, and whoever touches one first waits until all of it
/// is cleared: milliseconds on a virtual machine, in which every command that this thread works on waits as well.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the system does not let huge pages be turned off");
    }
}

async fn run(
    config: &Config,
    shop: &Shop,
    flags: &cli::ServeFlags,
    stop: watch::Receiver<bool>,
    figures: PrometheusHandle,
) -> anyhow::Result<()> {
    let plays = |role| config.roles.contains(role);
    let demanded = tokens::demanded(config)?;
    let figures = access::guard(metrics::router(figures, shop), &demanded.gate);
    let looks = probes(shop.read_pool.clone(), stop.clone()).merge(figures);
    let mut router = looks.method_not_allowed_fallback(async |method: Method, uri: Uri| {
        Problem::no_method(format!("{} takes no {method}: it is read by GET", uri.path()))
    });
    if plays(Role::Write) {
        let patience = Patience { silence: config.http.batch_timeout, unread: config.http.write_timeout };
        let (executor, registry) = (shop.executor(), shop.registry());
        let commands = write_side::http::router_until(executor, registry, config.body_limit, patience, stop.clone());
        router = router.merge(access::guard(commands, &demanded.gate));
    }
    if flags.move_gateway {
        trade::move_gateway(config, shop).await?;
    }
    let counter = if plays(Role::Process) { Some(Counter::open(config, shop).await?) } else { None };
    // Behind TLS the shop would have to know its own certificate to reach its own gateway.
    let own_gateway = config.tls.is_none();
    if let Some(counter) = counter.as_ref().filter(|_| own_gateway) {
        router = router.merge(counter.router());
    }
    if plays(Role::Read) {
        let queries = read_api(config, shop, &stop, &demanded)?;
        router = router.merge(access::guard(queries, &demanded.gate));
    }
    if !plays(Role::Write) {
        router =
            router.fallback(async || Problem::not_found("no-route", "nothing is here; this process takes no commands"));
    }
    // A page of another site must not command the shop through the browser of somebody on this machine.
    if demanded.local {
        router = router.layer(axum::middleware::from_fn(local_only));
    }
    // What nobody handles is a problem too; a panic is answered, logged, and harms only its own request.
    let router = router
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(axum::middleware::from_fn(observed::observe));
    let front = Front::new(&config.http, config.tls.as_ref(), demanded.gate.clone())?;
    let front = front.with_gateway(counter.as_ref().filter(|_| own_gateway).and_then(Counter::secret));
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", config.listen))?;
    let address = listener.local_addr()?;
    let mut projectors = if plays(Role::Project) { shop.project(&stop) } else { Default::default() };
    let mut processes = match &counter {
        Some(counter) if own_gateway => {
            trade::start(config, shop, counter.gateway(config, address)?, config.sandbox_fulfil, &stop)
        }
        Some(counter) => {
            let (gateway, mut serving) = counter.alone(config, stop.clone()).await?;
            let mut processes = trade::start(config, shop, gateway, config.sandbox_fulfil, &stop);
            processes.spawn(async move { while serving.join_next().await.is_some() {} });
            processes
        }
        None => Default::default(),
    };
    welcome(config, address, &demanded)?;
    let bring = async { if flags.demo { demo::bring(shop).await } else { Ok(()) } };
    let serving = server::serve(listener, router, front, stop.clone(), config.drain_timeout);
    let (brought, ()) = tokio::join!(
        async {
            let mut stop = stop.clone();
            tokio::select! {
                brought = bring => brought,
                _ = stop.wait_for(|stop| *stop) => Ok(()),
            }
        },
        serving
    );
    while processes.join_next().await.is_some() {}
    while projectors.join_next().await.is_some() {}
    tracing::info!("stopped");
    brought
}

/// Refuses requests that a browser sends for a page from elsewhere: those that name another host, as after DNS rebinding,
/// or another origin. Where no tokens are needed, that somebody is on this machine is all the proof there is.
async fn local_only(request: Request, next: Next) -> Response {
    let Some(host) = elsewhere(request.headers()) else { return next.run(request).await };
    let detail = format!("{host} is not this machine; call it localhost or by its loopback address");
    Problem::new(StatusCode::FORBIDDEN, "not-local", "Only this machine is served", detail).into_response()
}

/// The host that a request names, or the origin from which a browser sends it, where that is another machine.
fn elsewhere(headers: &HeaderMap) -> Option<String> {
    let named = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin = named(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    [named(header::HOST), origin].into_iter().flatten().find(|host| !is_local(host)).map(ToOwned::to_owned)
}

/// Whether a host, with or without a port, is this machine by name or loopback address.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// GraphQL, woken by the projectors of this process when it has any.
fn read_api(config: &Config, shop: &Shop, stop: &watch::Receiver<bool>, demanded: &Demanded) -> anyhow::Result<Router> {
    let key = read_api::CursorKey::new(config.cursor_key()?.expose_secret().as_bytes());
    let mut api = read_api::Config::new(shop.read_pool.clone(), key, std::sync::Arc::new(Head(shop.store.clone())));
    if config.roles.contains(Role::Project) {
        api.wake = Some(shop.projections.moved.subscribe());
    }
    api.replica.clone_from(&shop.replica);
    api.history = Some(std::sync::Arc::new(Past(shop.store.clone())));
    api.repairs = Some(std::sync::Arc::new(Mender(shop.projections.clone())));
    // Where others are served, the schema is theirs to know who make clients for them.
    api.introspection = config.introspection.unwrap_or(demanded.local);
    if let Some(path) = &config.trusted_documents {
        let at = || format!("graphql.trusted_documents = {} cannot be used", path.display());
        api.trusted = Some(read_api::TrustedDocuments::read(path).with_context(at)?);
    }
    api.stop = Some(stop.clone());
    Ok(read_api::router(api))
}

/// What somebody who has just started a shop wants to know.
fn welcome(config: &Config, address: std::net::SocketAddr, demanded: &Demanded) -> anyhow::Result<()> {
    let at = format!("{}://{address}", if config.tls.is_some() { "https" } else { "http" });
    let mut lines = vec![format!("Storefold listens on {at}")];
    if config.roles.contains(Role::Write) {
        lines.push(format!("  commands   {at}/v1/{{category}}/{{id}}/{{command}}"));
        lines.push(format!("  docs       {at}/docs  (OpenAPI: /openapi.json)"));
    }
    if config.roles.contains(Role::Process) && config.gateway.is_none() && config.tls.is_none() {
        lines.push(format!("  sandbox    {at}{}  (a payment gateway that charges nobody)", trade::SANDBOX));
    }
    if config.roles.contains(Role::Read) {
        lines.push(format!("  GraphiQL   {at}/graphql"));
    }
    lines.push(format!("  tokens     {}", demanded.told));
    lines.push("  Ctrl-C stops it.".to_owned());
    // At once: whoever reads the first line may have had enough.
    let text = lines.join("\n") + "\n";
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

#[derive(Clone)]
struct Probes {
    pool: PgPool,
    stop: watch::Receiver<bool>,
}

fn probes(pool: PgPool, stop: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/", get(index))
        .with_state(Probes { pool, stop })
}

/// Ready while the database answers and no drain has begun.
async fn ready(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    if *probes.stop.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    match sqlx::query("select 1").execute(&probes.pool).await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready: the database does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
    }
}

async fn index() -> impl IntoResponse {
    let page = "<!doctype html><meta charset=utf-8><title>Storefold</title><p>Storefold: \
                <a href=/docs>commands</a>, <a href=/graphql>GraphiQL</a>.";
    ([(header::CONTENT_SECURITY_POLICY, "default-src 'none'")], Html(page))
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.0.1", "[::1]:8080", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:80",
            "null",
            "",
            "?",
            "127.0.0.1.evil:80",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
