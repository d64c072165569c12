//! The payment gateway's client against the sandbox gateway, over a real socket and with a real Postgres.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cards;
mod cashier;
mod expiry;
mod faults;
mod protocol;
mod support;
mod twice;
