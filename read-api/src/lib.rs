//! What the world reads: GraphQL over the read models in Postgres.
//!
//! This crate knows the tables of the read models, as the views in the schema `read`, and their checkpoints in
//! `control.generations`. It knows no event, and it writes nothing.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod checkouts;
mod connection;
mod cursor;
mod customers;
mod error;
mod http;
mod ledger;
mod limits;
mod low_stock;
mod money;
mod orders;
mod own_writes;
mod position;
mod products;
mod projections;
mod query;
mod sales;
mod scalars;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::SDLExportOptions;
use axum::Router;
use sqlx::PgPool;
use tokio::sync::watch;

pub use crate::cursor::CursorKey;
pub use crate::position::{LogError, LogHead, NotAPosition, Position};

/// What the API needs to run.
#[derive(Clone)]
pub struct Config {
    /// The database with the read models; a replica will not do, since checkpoints are read from it. A connection should
    /// have a `statement_timeout` no longer than the time limit, for Postgres finishes what nobody waits for any more.
    pub pool: PgPool,
    /// What cursors are signed with.
    pub cursor_key: CursorKey,
    /// The end of the log, for the lag of the read models.
    pub head: Arc<dyn LogHead>,
    /// Wakes the queries that wait for a position, whenever a projector in this process has committed. Without it they
    /// poll, at first every 5 ms and at last every 100 ms; with it they do both.
    pub wake: Option<watch::Receiver<()>>,
    /// How long a query may take, not counting what it waits for a position.
    pub time_limit: Duration,
}

impl Config {
    /// The time limit when nobody says otherwise.
    pub const TIME_LIMIT: Duration = Duration::from_secs(10);

    /// A configuration without a projector to wake queries, and with the usual time limit.
    pub fn new(pool: PgPool, cursor_key: CursorKey, head: Arc<dyn LogHead>) -> Self {
        Self { pool, cursor_key, head, wake: None, time_limit: Self::TIME_LIMIT }
    }
}

/// The API, at `/graphql`.
pub fn router(config: Config) -> Router {
    let schema = query::schema().data(config.cursor_key).data(config.head).finish();
    http::router(http::Endpoint { schema, pool: config.pool, wake: config.wake, time_limit: config.time_limit })
}

/// The schema in GraphQL's schema definition language.
pub fn sdl() -> String {
    query::schema().finish().sdl_with_options(SDLExportOptions::new().include_specified_by().use_space_ident())
}
