//! Who may do what: tokens, their scopes, and the caller that they make known.
//!
//! A [`Gate`] verifies the token of a request, and [`guard`] puts what it says before the handlers: a [`Caller`]. A handler
//! asks the caller for the [`Scope`] that its work needs. What is refused is a [`Refusal`], which is a problem (RFC 9457).
//!
//! A caller with a customer is that customer: whatever its scopes are, they hold for what is its own. A caller without one
//! belongs to the shop.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod caller;
mod gate;
mod http;
mod key;
mod keys;
mod refusal;
mod scope;
mod sign;

pub use caller::{Caller, CustomerId};
pub use gate::{Expected, Gate, LONGEST_TOKEN, MAX_LEEWAY};
pub use http::{guard, identify};
pub use key::{Algorithm, Key, KeyError};
pub use keys::{Issuer, Keys, KeysError, Timing};
pub use refusal::{Fault, Refusal};
pub use scope::{Role, Scope, Scopes};
pub use sign::{Grant, SignError, Signer};
