//! The log: the port through which events are appended and read, its vocabulary, and its adapters.
//!
//! The vocabulary is EventStoreDB's: streams, revisions, positions, expected revisions. This crate deals in names and
//! bytes; what an event means is the domain's business.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod event;
mod filter;
pub mod kurrentdb;
mod memory;
mod metadata;
mod port;
mod position;
pub mod postgres;
mod stream;
mod subscription;

#[cfg(feature = "contract")]
pub mod contract;

pub use event::{EventType, InvalidEventType, NewEvent, RecordedEvent};
pub use filter::Filter;
pub use kurrentdb::KurrentEventStore;
pub use memory::MemoryEventStore;
pub use metadata::Metadata;
pub use port::{
    AllPage, Append, AppendError, Appended, Direction, EventStore, Expected, MAX_APPEND_BYTES, MAX_APPEND_EVENTS,
    PastTheEnd, ReadError, StreamPage,
};
pub use position::{InvalidPosition, Position};
pub use postgres::PostgresEventStore;
pub use stream::{InvalidStreamName, StreamName};
pub use subscription::{Subscription, SubscriptionMessage};
