//! The OpenAPI document for reading in a browser: one page, nothing from elsewhere.

use axum::http::header;
use axum::response::{Html, IntoResponse};

/// `GET /docs`
pub(super) async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("docs.html")))
}
