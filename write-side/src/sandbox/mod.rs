//! The sandbox: a payment gateway with a bank behind it, for trying the shop out and for its tests.
//!
//! It speaks the protocol of `docs/gateway.md` and keeps a ledger of its own in Postgres, so that what the shop
//! believes can be compared with what a bank would say. The token of a card decides what goes wrong: see [`Card`]. No
//! money moves.

mod cards;
mod ledger;
mod routes;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use secrecy::SecretString;

pub use cards::Card;
pub use ledger::{Ledger, Movement, PaymentRow, Totals, migrate, migrator};
pub use routes::Secret;

/// The largest body of a request, in bytes.
const BODY_LIMIT: usize = 16 * 1024;

/// The routes of the sandbox gateway, relative to where it is mounted. All of them want this secret.
pub fn router(ledger: Ledger, secret: SecretString) -> Router {
    Router::new()
        .route("/payments", post(routes::authorise))
        .route("/payments/{id}", get(routes::payment))
        .route("/payments/{id}/capture", post(routes::capture))
        .route("/payments/{id}/void", post(routes::void))
        .route("/payments/{id}/refunds", post(routes::refund))
        .route("/movements", get(routes::movements))
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(routes::Secret::of(&secret), routes::check_secret))
        .with_state(ledger)
}
