//! The catalogue: what the shop sells, under which name and at what price.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Product, ProductState, Refusal, Status};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
