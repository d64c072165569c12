//! The log in memory keeps the contract.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use event_store::contract::Store;
use event_store::{MemoryEventStore, contract_suite};

async fn open() -> Store {
    Arc::new(MemoryEventStore::new())
}

contract_suite!(open());
