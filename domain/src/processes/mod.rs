//! The processes of the shop: what follows from what happened, across contexts.

pub mod charging;
pub mod checkout;
pub mod warehouse;
