//! The write side over HTTP: commands by POST, aggregates and their history by GET.

mod batch;
mod docs;
mod explain;
mod follow;
mod headers;
pub mod openapi;
pub mod permissions;
mod places;
mod problem;
mod routes;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::watch;

use crate::endpoint::Registry;
use crate::execute::Executor;

pub use batch::Meter;
use follow::Followers;
use places::Places;
pub use problem::Problem;

/// The largest body of a command, in bytes, where nothing else is configured.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// How long clients are waited for that send or read for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long nothing may come of a batch that is not at its end.
    pub silence: Duration,
    /// How long whoever follows something may leave unread what was sent.
    pub unread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(60), unread: Duration::from_secs(30) }
    }
}

/// What the handlers work with. Shared, for each request takes it along.
pub(crate) struct Api {
    executor: Executor,
    registry: Registry,
    body_limit: usize,
    patience: Patience,
    /// Says when this process is about to stop; `None`: never.
    stop: Option<watch::Receiver<bool>>,
    followers: Followers,
    /// Places for those who send batches, and for those who follow something.
    batches: Arc<Places>,
    following: Arc<Places>,
    /// The description of the routes, once it was asked for.
    document: OnceLock<Bytes>,
}

impl Api {
    fn new(executor: Executor, registry: Registry, body_limit: usize) -> Self {
        let (batches, following) = (Places::new(batch::BATCHES), Places::new(follow::FOLLOWERS));
        let (patience, followers) = (Patience::default(), Followers::default());
        let document = OnceLock::new();
        Self { executor, registry, body_limit, patience, stop: None, followers, batches, following, document }
    }

    /// Returns when this process is about to stop.
    async fn stopped(&self) {
        match self.stop.clone() {
            // That nobody can say so any more says it too.
            Some(mut stop) => drop(stop.wait_for(|stop| *stop).await),
            None => std::future::pending().await,
        }
    }
}

/// The routes of the write side. `body_limit` is the largest body in bytes. They know their callers only behind
/// [`access::guard`]; without it, nobody may do anything.
pub fn router(executor: Executor, registry: Registry, body_limit: usize) -> Router {
    routes(Api::new(executor, registry, body_limit))
}

/// As [`router`]; what goes on for long ends when `stop` says so, or for want of patience.
pub fn router_until(
    executor: Executor,
    registry: Registry,
    body_limit: usize,
    patience: Patience,
    stop: watch::Receiver<bool>,
) -> Router {
    routes(Api { patience, stop: Some(stop), ..Api::new(executor, registry, body_limit) })
}

fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/commands", post(batch::commands))
        .route("/v1/{category}/{id}", get(routes::state))
        .route("/v1/{category}/{id}/events", get(routes::history))
        .route("/v1/{category}/{id}/{command}", post(routes::command))
        .route("/v1/{category}/{id}/{command}/explain", post(explain::explain))
        .route("/openapi.json", get(routes::openapi))
        .route("/docs", get(docs::page))
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(api))
}
