//! The write side over HTTP: commands by POST, aggregates and their history by GET.

mod docs;
mod headers;
pub mod openapi;
pub mod permissions;
mod problem;
mod routes;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::endpoint::Registry;
use crate::execute::Executor;

pub use problem::Problem;

/// The largest body of a command, in bytes, where nothing else is configured.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    executor: Executor,
    registry: Registry,
    body_limit: usize,
}

/// The routes of the write side. `body_limit` is the largest body in bytes. They know their callers only behind
/// [`access::guard`]; without it, nobody may do anything.
pub fn router(executor: Executor, registry: Registry, body_limit: usize) -> Router {
    Router::new()
        .route("/v1/{category}/{id}", get(routes::state))
        .route("/v1/{category}/{id}/events", get(routes::history))
        .route("/v1/{category}/{id}/{command}", post(routes::command))
        .route("/openapi.json", get(routes::openapi))
        .route("/docs", get(docs::page))
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(DefaultBodyLimit::disable())
        .with_state(Api { executor, registry, body_limit })
}
