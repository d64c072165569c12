//! Who may what: every operation by every kind of caller, with real tokens, down to the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod matrix;
mod orders;
mod support;
