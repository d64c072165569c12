//! The pure domain of an order-to-cash shop: what may happen, and why not.
//!
//! No async, no I/O, no clock, no randomness, no SQL; only the test kit reads files, the golden ones. One folder a bounded
//! context; no context knows another.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod catalog;
pub mod codec;
pub mod customers;
pub mod decider;
pub mod ids;
pub mod inventory;
pub mod money;
pub mod ordering;
pub mod payments;
pub mod process;
pub mod processes;
pub mod schemas;
pub mod shipping;
pub mod shop_event;
pub mod supervision;
pub mod testing;

#[cfg(test)]
mod fixtures;
