//! Read models: what the log says, folded into Postgres tables that answer questions fast.
//!
//! A read model is a folder: the events it takes, a pure fold from rows and an event to rows, its tables. The
//! [`runtime`] does the rest, the same way for all of them.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checkouts;
pub mod customers;
#[cfg(test)]
mod histories;
pub mod low_stock;
pub mod orders;
pub mod payments_ledger;
pub mod product_sales;
pub mod products;
pub mod read_model;
pub mod rows;
pub mod runtime;
mod sales;
pub mod sales_daily;
pub mod shop_event;
pub mod stock_movements;
pub mod testing;

pub use runtime::{Projector, read_models};
