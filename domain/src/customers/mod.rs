//! Customers: who buys, and how to reach them.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Customer, CustomerState, Refusal, Status};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
