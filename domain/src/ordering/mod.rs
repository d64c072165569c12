//! Ordering: what a customer bought, at the prices of that moment, and what became of it.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Order, OrderState, Refusal, Status};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
