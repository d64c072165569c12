//! The test kit: given what happened, when this is asked for, then that happens.
//!
//! ```
//! use domain::inventory::{Receive, Received, Refusal, Release, Stock};
//! use domain::testing::given;
//!
//! let ten = 10.try_into()?;
//! given::<Stock>([Received { quantity: ten }.into()])
//!     .when(Receive { quantity: ten })
//!     .then([Received { quantity: ten }.into()]);
//!
//! let order = "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2".parse()?;
//! given::<Stock>([]).when(Release { order }).then_refused(Refusal::NoReservation { order });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whole values are compared. What differs is shown as a diff at the line of the test, under the history and the command
//! that led there. A process is tested in the same words ([`given_process`]), and what is stored of events against
//! golden files ([`assert_golden`]).

#![expect(clippy::panic, reason = "a test kit reports by panicking")]

mod stored;

use std::fmt::Debug;

use similar::TextDiff;

use crate::decider::{Decider, fold};
use crate::process::Process;

pub use stored::{assert_golden, assert_round_trip, assert_snapshot};

/// An aggregate with a history.
#[must_use = "a history alone tests nothing: go on with `when`"]
pub struct Given<D: Decider> {
    history: Vec<D::Event>,
}

/// Begins a test of an aggregate: `history` is what happened to it so far.
pub fn given<D: Decider>(history: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given { history: history.into_iter().collect() }
}

impl<D: Decider> Given<D> {
    /// Asks the aggregate for something: a command, or the payload of one.
    pub fn when(self, command: impl Into<D::Command>) -> Decided<D> {
        let command = command.into();
        let story = story(&self.history, Some(&command));
        Decided { story, outcome: D::decide(&fold::<D>(&self.history), command) }
    }

    /// Asserts what the history has made of the aggregate.
    ///
    /// # Panics
    /// When it has made something else of it.
    #[track_caller]
    pub fn then_state(self, expected: D::State) {
        assert_same(&story(&self.history, None::<&D::Command>), &expected, &fold::<D>(&self.history));
    }
}

/// What an aggregate decided.
#[must_use = "a decision alone tests nothing: go on with `then`"]
pub struct Decided<D: Decider> {
    story: String,
    outcome: Result<Vec<D::Event>, D::Refusal>,
}

impl<D: Decider> Decided<D> {
    /// Asserts that exactly these events happen.
    ///
    /// # Panics
    /// When others happen, or the command was refused.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        self.then_outcome(Ok(expected.into_iter().collect()));
    }

    /// Asserts that the command is granted, but nothing happens.
    ///
    /// # Panics
    /// When something happens, or the command was refused.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then_outcome(Ok(vec![]));
    }

    /// Asserts that the command is refused, for this reason and with these figures.
    ///
    /// # Panics
    /// When it was granted, or refused for another reason.
    #[track_caller]
    pub fn then_refused(self, expected: D::Refusal) {
        self.then_outcome(Err(expected));
    }

    #[track_caller]
    fn then_outcome(self, expected: Result<Vec<D::Event>, D::Refusal>) {
        assert_same(&self.story, &expected, &self.outcome);
    }
}

/// A process with a history.
#[must_use = "a history alone tests nothing: go on with `when`"]
pub struct GivenProcess<P: Process> {
    history: Vec<P::Event>,
}

/// Begins a test of a process: `history` is what it has seen so far.
pub fn given_process<P: Process>(history: impl IntoIterator<Item = P::Event>) -> GivenProcess<P> {
    GivenProcess { history: history.into_iter().collect() }
}

impl<P: Process> GivenProcess<P> {
    /// Lets one more event happen.
    pub fn when(self, event: impl Into<P::Event>) -> Reacted<P> {
        let event = event.into();
        let state = self.history.iter().fold(P::initial(), P::evolve);
        Reacted { story: story(&self.history, Some(&event)), commands: P::react(&state, &event) }
    }
}

/// What a process asks for.
#[must_use = "a reaction alone tests nothing: go on with `then`"]
pub struct Reacted<P: Process> {
    story: String,
    commands: Vec<P::Command>,
}

impl<P: Process> Reacted<P> {
    /// Asserts that the process asks for exactly this, in this order.
    ///
    /// # Panics
    /// When it asks for anything else.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = P::Command>) {
        assert_same(&self.story, &expected.into_iter().collect(), &self.commands);
    }

    /// Asserts that the process asks for nothing.
    ///
    /// # Panics
    /// When it asks for something.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }
}

/// What led to the outcome, as a reader of a failed test wants to see it.
fn story(history: &[impl Debug], when: Option<&impl Debug>) -> String {
    let events: String = history.iter().map(|event| format!("  {event:?}\n")).collect();
    let given = if events.is_empty() { "  nothing\n" } else { &events };
    let when = when.map(|when| format!("when\n  {when:?}\n")).unwrap_or_default();
    format!("given\n{given}{when}")
}

#[track_caller]
fn assert_same<T: Debug + PartialEq>(story: &str, expected: &T, actual: &T) {
    if expected != actual {
        let diff = diff(&format!("{expected:#?}\n"), &format!("{actual:#?}\n"));
        panic!("{story}then (- expected, + actual)\n{diff}");
    }
}

/// The lines of both texts: with `-` what only `expected` has, with `+` what only `actual` has.
fn diff(expected: &str, actual: &str) -> String {
    let diff = TextDiff::from_lines(expected, actual);
    diff.iter_all_changes().map(|change| format!("{} {}", change.tag(), change)).collect()
}

#[cfg(test)]
mod tests;
