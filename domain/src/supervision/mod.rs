//! Supervision: what happens to a checkout that no order, payment or shipment says: it waited too long, it cannot go on,
//! somebody lets it try again.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Refusal, Supervision, SupervisionState};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
