//! A circuit breaker: who fails several times in a row is left alone for a while, then tried with one call.
//!
//! A state machine and no more. It has no clock: the caller says what time it is.

use std::time::{Duration, Instant};

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// How many failures in a row open it; at least one.
    pub failures: u32,
    /// How long it then stays open before one call is let through to see.
    pub pause: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(10) }
    }
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Counts the changes of state. A call that was let through before the last one says nothing about the state since.
    era: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All calls go through; the last so many failed.
    Closed { failures: u32 },
    /// No call goes through until then.
    Open { until: Instant },
    /// One call went through and has not come back; no other goes.
    HalfOpen,
}

/// A call that was let through, to be given back with what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    era: u64,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The other side answered, whatever it said.
    Answered,
    /// The other side failed.
    Failed,
    /// The call was given up on this side and says nothing about the other.
    Abandoned,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, era: 0 }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// How long it is until one may go through, as far as can be said.
    pub(super) fn enter(&mut self, now: Instant) -> Result<Pass, Duration> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until } if now >= until => self.become_(State::HalfOpen),
            State::Open { until } => return Err(until - now),
            // The one that is out decides. It is back within a call's length, which is not known here.
            State::HalfOpen => return Err(Duration::ZERO),
        }
        Ok(Pass { era: self.era })
    }

    /// Takes a call back.
    pub(super) fn leave(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        if pass.era != self.era {
            return;
        }
        match (self.state, outcome) {
            (State::Closed { .. }, Outcome::Answered) => self.state = State::Closed { failures: 0 },
            (State::Closed { .. }, Outcome::Abandoned) => {}
            (State::Closed { failures }, Outcome::Failed) => {
                let failures = failures.saturating_add(1);
                if failures >= self.config.failures {
                    self.open(now + self.config.pause);
                } else {
                    self.state = State::Closed { failures };
                }
            }
            (State::HalfOpen, Outcome::Answered) => self.become_(State::Closed { failures: 0 }),
            (State::HalfOpen, Outcome::Failed) => self.open(now + self.config.pause),
            // Nothing was learnt: the next call may go and see.
            (State::HalfOpen, Outcome::Abandoned) => self.open(now),
            // Nobody is let through while it is open, and those from before are of another era.
            (State::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, until: Instant) {
        self.become_(State::Open { until });
    }

    fn become_(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    /// A breaker that opens after three failures, and a time to start from.
    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(BreakerConfig { failures: 3, pause: PAUSE }), Instant::now())
    }

    fn call(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
        let pass = breaker.enter(now).expect("the call is let through");
        breaker.leave(pass, outcome, now);
    }

    /// A breaker that has opened at the time that comes with it.
    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = breaker();
        (0..3).for_each(|_| call(&mut breaker, Outcome::Failed, now));
        (breaker, now)
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_not_before() {
        let (mut breaker, now) = breaker();
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Failed, now);
        assert!(breaker.enter(now).is_ok());
        call(&mut breaker, Outcome::Failed, now);
        assert_eq!(breaker.enter(now), Err(PAUSE));
        assert_eq!(breaker.enter(now + PAUSE / 4), Err(PAUSE * 3 / 4));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_again() {
        let (mut breaker, now) = breaker();
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Answered, now);
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Failed, now);
        assert!(breaker.enter(now).is_ok());
    }

    #[test]
    fn a_call_that_was_given_up_counts_neither_way() {
        let (mut breaker, now) = breaker();
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Failed, now);
        call(&mut breaker, Outcome::Abandoned, now);
        assert!(breaker.enter(now).is_ok());
        call(&mut breaker, Outcome::Failed, now);
        assert!(breaker.enter(now).is_err());
    }

    #[test]
    fn after_the_pause_one_call_goes_and_sees() {
        let (mut breaker, now) = opened();
        let later = now + PAUSE;
        let probe = breaker.enter(later).expect("one goes");
        assert_eq!(breaker.enter(later), Err(Duration::ZERO), "and no other");
        breaker.leave(probe, Outcome::Answered, later);
        assert!(breaker.enter(later).is_ok() && breaker.enter(later).is_ok(), "then all go");
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_another_pause() {
        let (mut breaker, now) = opened();
        let later = now + PAUSE;
        call(&mut breaker, Outcome::Failed, later);
        assert_eq!(breaker.enter(later), Err(PAUSE));
        assert!(breaker.enter(later + PAUSE).is_ok());
    }

    #[test]
    fn a_probe_that_was_given_up_makes_room_for_another() {
        let (mut breaker, now) = opened();
        let later = now + PAUSE;
        call(&mut breaker, Outcome::Abandoned, later);
        let probe = breaker.enter(later).expect("another goes");
        assert!(breaker.enter(later).is_err(), "one at a time all the same");
        breaker.leave(probe, Outcome::Answered, later);
        assert!(breaker.enter(later).is_ok());
    }

    #[test]
    fn what_was_under_way_before_says_nothing_about_what_came_since() {
        let (mut breaker, now) = breaker();
        let early = breaker.enter(now).expect("it is closed");
        (0..3).for_each(|_| call(&mut breaker, Outcome::Failed, now));
        breaker.leave(early, Outcome::Answered, now);
        assert_eq!(breaker.enter(now), Err(PAUSE), "an old answer does not close it");

        let later = now + PAUSE;
        let probe = breaker.enter(later).expect("one goes");
        breaker.leave(early, Outcome::Failed, later);
        assert!(breaker.enter(later).is_err(), "an old failure does not take the probe's place");
        breaker.leave(probe, Outcome::Answered, later);
        breaker.leave(early, Outcome::Failed, later);
        assert!(breaker.enter(later).is_ok());
    }

    #[test]
    fn a_failure_of_another_era_is_not_counted() {
        let (mut breaker, now) = breaker();
        let early: Vec<_> = (0..3).map(|_| breaker.enter(now).expect("it is closed")).collect();
        (0..3).for_each(|_| call(&mut breaker, Outcome::Failed, now));
        let later = now + PAUSE;
        call(&mut breaker, Outcome::Answered, later);
        for pass in early {
            breaker.leave(pass, Outcome::Failed, later);
        }
        assert!(breaker.enter(later).is_ok());
    }
}
