//! How fast the lines of a batch are carried out where a caller may send so many commands in a time: those that come too soon
//! are held back, and with them all that come behind. So a batch is slowed down, and its commands stay in their order.

use std::fmt::{self, Debug};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts the commands of a batch for whoever bounds how many a caller may send: found among the extensions of its request,
/// which was counted itself. Cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<dyn Fn() -> Result<(), Duration> + Send + Sync>);

impl Meter {
    /// A meter that counts one more with each call of `count`, or is told how long it is until there may be one more.
    pub fn new(count: impl Fn() -> Result<(), Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }
}

impl Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

/// The pace of a batch.
pub(super) struct Pace {
    meter: Option<Meter>,
    /// How long a line is held back at most.
    patience: Duration,
    /// Whether a line was let through: the first one is counted with its request.
    has_begun: bool,
}

impl Pace {
    /// That of a batch with this meter; without one, nothing is too soon.
    pub(super) fn of(meter: Option<Meter>, patience: Duration) -> Self {
        Self { meter, patience, has_begun: false }
    }

    /// Counts what has come, and gives it back when it may go on.
    pub(super) fn admit<T>(&mut self, came: Held<T>) -> Result<T, Early<T>> {
        self.admit_at(came, Instant::now())
    }

    fn admit_at<T>(&mut self, came: Held<T>, now: Instant) -> Result<T, Early<T>> {
        let counted = match &self.meter {
            Some(Meter(count)) if self.has_begun => count(),
            _ => Ok(()),
        };
        self.has_begun = true;
        match counted {
            Ok(()) => Ok(came.now()),
            // Others of the same caller may be faster, time and again.
            Err(wait) if now.saturating_duration_since(came.since) + wait > self.patience => Err(Early::TooLong(wait)),
            Err(wait) => Err(Early::Wait(Held { until: now + wait, ..came })),
        }
    }
}

/// Why something does not go on.
pub(super) enum Early<T> {
    /// It came too soon, and goes on later.
    Wait(Held<T>),
    /// That would take too long: so long.
    TooLong(Duration),
}

/// Something that has come, and until when it is held back.
pub(super) struct Held<T> {
    what: T,
    since: Instant,
    until: Instant,
}

impl<T> Held<T> {
    /// Something that has just come.
    pub(super) fn new(what: T) -> Self {
        let now = Instant::now();
        Self { what, since: now, until: now }
    }

    pub(super) fn what(&self) -> &T {
        &self.what
    }

    /// What it is, however soon.
    pub(super) fn now(self) -> T {
        self.what
    }
}

/// Gives back what is held back, once it may be looked at again; waits for ever where there is nothing.
pub(super) async fn let_go<T>(held: &mut Option<Held<T>>) -> Held<T> {
    if let Some(until) = held.as_ref().map(|held| held.until) {
        sleep_until(until).await;
    }
    match held.take() {
        Some(held) => held,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A meter that says this, one after another.
    fn meter<const N: usize>(says: [Result<(), u64>; N]) -> Meter {
        let says = Mutex::new(says.into_iter());
        Meter::new(move || says.lock().unwrap().next().unwrap().map_err(Duration::from_millis))
    }

    #[test]
    fn who_comes_too_soon_is_held_back_and_not_for_ever() {
        let (patience, millis) = (Duration::from_secs(1), Duration::from_millis);
        let meter = meter([Ok(()), Err(700), Err(200), Ok(()), Err(900), Err(101)]);
        let mut pace = Pace::of(Some(meter), patience);
        let came = Held::<&str>::new;
        // The first one was counted with the request.
        for line in ["one", "two"] {
            assert!(pace.admit(came(line)).is_ok_and(|admitted| admitted == line));
        }
        let line = came("three");
        let since = line.since;
        let Err(Early::Wait(held)) = pace.admit_at(line, since) else { panic!("it came too soon") };
        assert_eq!(held.until, since + millis(700));
        // Another one was faster.
        let Err(Early::Wait(held)) = pace.admit_at(held, since + millis(700)) else { panic!("it came too soon") };
        assert_eq!((held.since, held.until), (since, since + millis(900)));
        assert!(pace.admit_at(held, since + millis(900)).is_ok_and(|admitted| admitted == "three"));
        let line = came("four");
        let since = line.since;
        let Err(Early::Wait(held)) = pace.admit_at(line, since) else { panic!("it came too soon") };
        let Err(Early::TooLong(wait)) = pace.admit_at(held, since + millis(900)) else {
            panic!("it may take a second")
        };
        assert_eq!(wait, millis(101));
    }

    #[test]
    fn without_a_meter_nothing_is_too_soon() {
        let mut pace = Pace::of(None, Duration::ZERO);
        for line in 0..1_000 {
            assert!(pace.admit(Held::new(line)).is_ok());
        }
    }

    #[tokio::test]
    async fn what_is_held_back_is_given_back_once() {
        let mut held = Some(Held::new(7));
        assert_eq!(let_go(&mut held).await.now(), 7);
        assert!(held.is_none());
    }
}
