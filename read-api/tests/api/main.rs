//! The read API over a real socket and a real Postgres, a fresh database a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod documents;
mod filters;
mod generated;
mod harness;
mod http;
mod limits;
mod own_writes;
mod paging;
mod permissions;
mod queries;
mod schema;
mod socket;
mod statements;
mod subscriptions;
mod written;
