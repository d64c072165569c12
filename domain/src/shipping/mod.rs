//! Shipping: how the goods of an order get to the customer.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Refusal, Shipment, ShipmentState, Status};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
