//! The server, as the official client finds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod appends;
mod cluster;
mod faults;
mod program;
mod reads;
mod subscriptions;
mod support;
