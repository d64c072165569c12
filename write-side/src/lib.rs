//! The write side: a command comes in, its aggregate decides, the events are appended.
//!
//! [`execute`] is the heart: load, decide, append with the exact expected revision; what comes to an aggregate
//! meanwhile waits in its mailbox and is carried out together. [`endpoint`] says how the commands
//! of each aggregate look from outside, and [`http`] serves them.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod cache;
pub mod checkouts;
pub mod endpoint;
pub mod envelope;
pub mod execute;
pub mod explain;
pub mod gateway;
pub mod http;
pub mod load;
mod mailbox;
mod objects;
pub mod ordering;
pub mod process;
pub mod sandbox;
pub mod snapshots;
pub mod to_its_end;
mod wire;

pub use endpoint::{Endpoint, Registry, registry};
pub use envelope::{Envelope, Precondition};
pub use execute::{Answer, ExecuteError, Executor};
