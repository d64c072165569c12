//! The log in KurrentDB under every fault that its server can be told to have: nothing that was acknowledged is lost,
//! nothing is written twice, of those who compete one wins, and it answers as the other logs do.
//!
//! `STOREFOLD_SOAK_TIMES` says how many times as much is done, and `STOREFOLD_SOAK_SEED` what the dice start from. A test
//! that fails names the seed. What the seed decides is what is asked for and what goes wrong; in which order the system
//! lets it happen differs from run to run.
//!
//! Each test has one thread, so that what is ready to run has run after a few turns; see [`site::settle`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agreement;
mod book;
mod competition;
mod conflicts;
mod dice;
mod durability;
mod history;
mod lost_answers;
mod site;
mod transcript;
