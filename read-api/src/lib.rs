//! What the world reads: GraphQL over the read models in Postgres.
//!
//! This crate knows the tables of the read models, as the views in the schema `read`, and their checkpoints in
//! `control.generations`. It knows no event, and it writes nothing: what
//! mends a read model is behind [`Repairs`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod breaking;
mod checkouts;
mod connection;
mod cursor;
mod customers;
mod database;
mod documents;
mod error;
mod feed;
mod flights;
mod http;
mod ledger;
mod limits;
mod low_stock;
mod money;
mod node;
mod orders;
mod own_writes;
mod parked;
mod payments;
mod permissions;
mod position;
mod products;
mod projections;
mod query;
mod sales;
mod scalars;
mod shared;
mod sql;
mod stock;
mod subscriptions;
mod time_travel;
mod written;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{SDLExportOptions, ValidationMode};
use axum::Router;
use sqlx::PgPool;
use tokio::sync::{Semaphore, watch};

use crate::database::Database;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::flights::Flights;
use crate::http::Replica;
use crate::own_writes::Source;
use crate::subscriptions::Together;

pub use crate::breaking::{NotASchema, breaking_changes};
pub use crate::cursor::CursorKey;
pub use crate::documents::{NotTrusted, TrustedDocuments};
pub use crate::parked::{Redriven, RepairError, Repairs};
pub use crate::position::{AsOf, History, LogError, LogHead, Moment, NotAPosition, NotFoldable, Position};

/// What the API needs to run.
#[derive(Clone)]
pub struct Config {
    /// The database with the read models. A connection should have a `statement_timeout` no longer than the time limit, for
    /// Postgres finishes what nobody waits for any more.
    pub pool: PgPool,
    /// A replica of it, from which queries are answered as far as it has come. What it cannot answer, the database does, as
    /// it does subscriptions and mutations.
    pub replica: Option<PgPool>,
    /// What cursors are signed with.
    pub cursor_key: CursorKey,
    /// The end of the log, for the lag of the read models.
    pub head: Arc<dyn LogHead>,
    /// How things were. Without it nobody is told.
    pub history: Option<Arc<dyn History>>,
    /// Mends what is parked. Without it nobody does.
    pub repairs: Option<Arc<dyn Repairs>>,
    /// Wakes the queries that wait for a position, whenever a projector in this process has committed. Without it they
    /// poll, at first every 5 ms and at last every 100 ms; with it they do both.
    pub wake: Option<watch::Receiver<()>>,
    /// How long a query may take, not counting what it waits for a position.
    pub time_limit: Duration,
    /// Whether the schema is shown to whoever asks for it, and errors suggest names that there are.
    pub introspection: bool,
    /// The documents that are answered; `None`: any that keep within the limits.
    pub trusted: Option<TrustedDocuments>,
    /// How much clients may follow.
    pub subscriptions: SubscriptionLimits,
    /// Ends what clients follow, once it says so.
    pub stop: Option<watch::Receiver<bool>>,
}

/// How much clients may follow, and how they are kept an eye on.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionLimits {
    /// How many connections there are at most: WebSockets and streams of events together.
    pub connections: usize,
    /// How many operations one WebSocket has at most at a time.
    pub per_connection: usize,
    /// How long a client may take to introduce itself on a WebSocket.
    pub init_timeout: Duration,
    /// How often a client is sent something, be it only to see whether it is still there. One that lets two pings of a
    /// WebSocket pass without a word is cut off.
    pub ping: Duration,
    /// How long something that was sent may wait to be read. Whoever does not read that long is cut off.
    pub unread: Duration,
}

impl Default for SubscriptionLimits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            per_connection: 50,
            init_timeout: Duration::from_secs(3),
            ping: Duration::from_secs(12),
            unread: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The time limit when nobody says otherwise.
    pub const TIME_LIMIT: Duration = Duration::from_secs(10);

    /// A configuration without a projector to wake queries, and with the usual limits.
    pub fn new(pool: PgPool, cursor_key: CursorKey, head: Arc<dyn LogHead>) -> Self {
        Self {
            pool,
            replica: None,
            cursor_key,
            head,
            history: None,
            repairs: None,
            wake: None,
            time_limit: Self::TIME_LIMIT,
            introspection: true,
            trusted: None,
            subscriptions: SubscriptionLimits::default(),
            stop: None,
        }
    }
}

/// How many WebSockets may wait for their client to say who it is.
const STRANGERS: usize = 100;

/// The API, at `/graphql`. Whoever serves it does every request to its end, also when the client has hung up: a statement that
/// a connection is busy with must not be dropped.
pub fn router(config: Config) -> Router {
    let feed = Feed::new(config.pool.clone(), config.head.clone(), config.wake.clone());
    let together = Arc::<Together>::default();
    let schema = |validation| {
        let schema = query::schema().data(config.cursor_key.clone()).data(config.head.clone()).data(feed.clone());
        let schema = schema.data(config.history.clone()).data(config.repairs.clone()).data(together.clone());
        let schema = schema.validation_mode(validation);
        if config.introspection { schema } else { schema.disable_introspection().disable_suggestions() }.finish()
    };
    http::router(http::Endpoint {
        schema: schema(ValidationMode::Strict),
        trusting: schema(ValidationMode::Fast),
        primary: Source::new(Database::new(config.pool)),
        replica: config.replica.map(|pool| Replica::new(Database::new(pool))),
        flights: Flights::default(),
        wake: config.wake,
        time_limit: config.time_limit,
        documents: Documents::new(config.trusted),
        introspection: config.introspection,
        limits: config.subscriptions,
        connections: Arc::new(Semaphore::new(config.subscriptions.connections.min(Semaphore::MAX_PERMITS))),
        strangers: Arc::new(Semaphore::new(STRANGERS)),
        stop: config.stop,
    })
}

/// The schema in GraphQL's schema definition language.
pub fn sdl() -> String {
    query::schema().finish().sdl_with_options(SDLExportOptions::new().include_specified_by().use_space_ident())
}
