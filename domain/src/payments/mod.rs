//! Payments: what an order costs, held and taken from a card through a payment gateway.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Payment, PaymentState, Refund as OpenRefund, Refusal, Status};
pub use event::*;

#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
