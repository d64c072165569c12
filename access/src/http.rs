//! The caller of a request, before its handler.

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::caller::Caller;
use crate::gate::Gate;
use crate::refusal::Refusal;

/// Has the handlers of a router know their caller: a request with a token carries a [`Caller`] as an extension, and every
/// request the [`Gate`]. A token that is not accepted is refused here. One without a token goes on without a caller: what
/// needs one asks for it.
pub fn guard(router: Router, gate: &Gate) -> Router {
    router.layer(from_fn_with_state(gate.clone(), identify))
}

/// The middleware of [`guard`].
pub async fn identify(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.caller(request.headers()).await {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
        }
        Ok(None) => {}
        Err(refusal) => {
            tracing::debug!(reason = %refusal, "a token was refused");
            return refusal.into_response();
        }
    }
    request.extensions_mut().insert(gate);
    next.run(request).await
}

/// A handler that takes a caller is not for requests without one.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or(Refusal::NoToken)
    }
}
