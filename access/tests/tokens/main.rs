//! Tokens, good and bad, as they come in requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod rotation;
mod support;
