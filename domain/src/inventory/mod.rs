//! The inventory: how many units of a SKU are there, and who has a claim on them.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Refusal, Stock, StockState};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
