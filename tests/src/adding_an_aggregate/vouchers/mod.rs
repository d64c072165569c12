//! Gift vouchers: money that was paid before it is known what for.

mod command;
mod decide;
mod event;

pub use command::*;
pub use decide::{Refusal, Voucher, VoucherState};
pub use event::*;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
