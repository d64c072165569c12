//! A server of the KurrentDB gRPC protocol for tests: it says what the real one says, and goes wrong when it is told to.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use kurrentdb_server::{AppendFault, Server, Settings};
//!
//! let server = Server::start(Settings::default()).await?;
//! server.faults().next_appends(1, AppendFault::CutAfterCommit);
//! // … give a client `server.url()` …
//! server.restart().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | where | what |
//! |---|---|
//! | [`Server`] (`server.rs`) | the listener, its connections, stopping and restarting |
//! | [`Log`] (`log.rs`, `log/`) | records and their positions, what is a repeated append, what metadata hides |
//! | [`Faults`] (`faults.rs`) | what goes wrong, and when |
//! | `streams.rs`, `streams/` | the service of streams, a file for each method |
//! | `cluster.rs` | the services that say what the server is |
//! | `filter.rs` | server-side filters |
//! | `status.rs` | errors and their trailers |
//! | `connection.rs` | a connection that can be cut or frozen |
//! | `node.rs` | what the services share |
//! | [`order`] | faults as lines of text, for the program |
//! | `protocol.rs` | what is generated from `protos/` |
//!
//! It has no TLS, no users, no projections, no persistent subscriptions and no links; nothing is on disk.

#![allow(clippy::result_large_err, reason = "tonic has its services return a status by value")]

mod cluster;
mod connection;
mod faults;
mod filter;
mod log;
mod node;
pub mod order;
mod protocol;
mod server;
mod status;
mod streams;

pub use faults::{AppendFault, Endpoint, Faults, Interruption, ReadFault, SubscriptionFault, Wait};
pub use log::{Committed, Expected, Log, LogSettings, NewEvent, Position, Record, Rejected, Write};
pub use server::{Member, Role, Server, Settings};
