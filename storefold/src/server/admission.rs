//! Who is let in when there is more to do than can be done: a bound on the requests that are worked on, which follows how
//! long they take, and one on the memory of their bodies.
//!
//! A queue does not make a server faster. When requests take much longer than they do at other times, fewer are let in at a
//! time, and the others are told to come again, so slowly that those who do so at once cannot keep the server busy with that.
//! So those who are let in hardly notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// However long requests take, so many are let in at a time. More make the log's batches larger rather than slower.
const FEWEST: usize = 64;
/// How many are let in at first, and again after a while in which nobody was turned away.
const FIRST: usize = 512;
/// How long one looks before the bound is moved,
const WINDOW: Duration = Duration::from_millis(25);
/// and at how many requests at least.
const SAMPLE: u64 = 32;
/// Requests that take this long on average are nothing to turn anybody away for, whatever they take at other times,
const UNHURRIED: u64 = 10_000;
/// nor this long, once others are turned away: what does not suit all is to suit those who are let in. They are to wait for half
/// as long again as usual at most, where that is more.
const HURRIED: u64 = 2_500;
/// In how many windows, roughly, it becomes usual what few at a time take longer: ten seconds or more of them.
const SLOWLY: u64 = 512;
/// How much time those who are turned away have to themselves, one after another: so many are told in a second at most.
const APART: Duration = Duration::from_micros(400);
/// How long nobody waits longer to be told.
const LONGEST: Duration = Duration::from_secs(1);
/// What a body may take whatever the others take, in bytes: commands are smaller, as a rule. So it is the large ones that
/// are cut off.
const SMALL_BODY: usize = 16 * 1024;

/// Counts requests and bytes. Times are microseconds.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    body_memory: usize,
    begun: Instant,
    /// How many are worked on.
    working: AtomicUsize,
    /// How many may be.
    bound: AtomicUsize,
    /// What bodies take that were received and not answered, in bytes.
    bytes: AtomicUsize,
    /// When the window began, and what was seen in it.
    since: AtomicU64,
    requests: AtomicU64,
    took: AtomicU64,
    peak: AtomicUsize,
    /// What requests take on average when there are few.
    usual: AtomicU64,
    /// Whether somebody was turned away in the window.
    sheds: AtomicBool,
    /// How many were turned away, and when that was last told.
    turned_away: AtomicU64,
    told: AtomicU64,
    /// How many are being turned away.
    leaving: AtomicUsize,
    /// How many wait for something to happen, of those that have a place or are about to.
    waiting: AtomicUsize,
}

impl Admission {
    /// At most so many requests at a time, with bodies of so many bytes.
    pub(super) fn new(most: usize, body_memory: usize) -> Self {
        Self {
            most,
            body_memory,
            begun: Instant::now(),
            working: AtomicUsize::new(0),
            bound: AtomicUsize::new(FIRST.min(most)),
            bytes: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            took: AtomicU64::new(0),
            peak: AtomicUsize::new(0),
            usual: AtomicU64::new(u64::MAX),
            sheds: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            told: AtomicU64::new(0),
            leaving: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether there is no place left. To be asked before a body is read, for which it would be in vain.
    pub(super) fn is_full(&self) -> bool {
        self.working.load(Relaxed) >= self.bound.load(Relaxed)
    }

    /// A place for a request, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let before = self.working.fetch_add(1, Relaxed);
        if before >= self.bound.load(Relaxed) {
            self.working.fetch_sub(1, Relaxed);
            return None;
        }
        // Mostly it is no new peak, and then nobody else's cache has to hear of it.
        if before >= self.peak.load(Relaxed) {
            self.peak.fetch_max(before + 1, Relaxed);
        }
        Some(Place { admission: self.clone(), since: Instant::now() })
    }

    /// Lets a request wait for something to happen, if there are not as many of them as half of the places. They do nothing meanwhile,
    /// for as long as they like, and must not keep all others out.
    pub(super) fn wait(self: &Arc<Self>) -> Option<Waiting> {
        let waiting = Waiting(self.clone());
        (self.waiting.fetch_add(1, Relaxed) < self.bound.load(Relaxed).div_ceil(2)).then_some(waiting)
    }

    /// Whether a body that has so many bytes may have more, which are counted in. `all` is what it has with them.
    fn take(&self, more: usize, all: usize) -> bool {
        let together = self.bytes.fetch_add(more, Relaxed) + more;
        if together <= self.body_memory || all <= SMALL_BODY {
            return true;
        }
        self.bytes.fetch_sub(more, Relaxed);
        false
    }

    /// Turns a request away. Returns when its client may be told: the more there are, the later. Most ask again at once,
    /// whatever they are told, and what that costs is lost to those who were let in.
    pub(super) async fn turn_away(&self) {
        self.note_turned_away();
        let leaving = Leaving::begin(&self.leaving);
        tokio::time::sleep(leaving.patience()).await;
    }

    /// A request is turned away. That is told every ten seconds at most.
    fn note_turned_away(&self) {
        const SELDOM: u64 = 10_000_000;

        self.sheds.store(true, Relaxed);
        self.turned_away.fetch_add(1, Relaxed);
        let (now, told) = (self.now(), self.told.load(Relaxed));
        let first = told == 0 || now.saturating_sub(told) >= SELDOM;
        if first && self.told.compare_exchange(told, now.max(1), Relaxed, Relaxed).is_ok() {
            let requests = self.turned_away.swap(0, Relaxed);
            let at_a_time = self.bound.load(Relaxed);
            tracing::warn!(requests, at_a_time, "more is asked than can be done: requests were turned away");
        }
    }

    fn now(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    /// A request took so long.
    fn note(&self, took: Duration) {
        self.took.fetch_add(micros(took), Relaxed);
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        if requests < SAMPLE {
            return;
        }
        let (now, since) = (self.now(), self.since.load(Relaxed));
        let over = now.saturating_sub(since) >= micros(WINDOW);
        // One of them moves the bound; what others add meanwhile may count twice or not at all, which does not matter.
        if over && self.since.compare_exchange(since, now, Relaxed, Relaxed).is_ok() {
            let requests = self.requests.swap(0, Relaxed).max(1);
            let average = self.took.swap(0, Relaxed) / requests;
            let peak = self.peak.swap(self.working.load(Relaxed), Relaxed);
            // Who has been turned away and waits to be told comes again.
            let sheds = self.sheds.swap(false, Relaxed) || self.leaving.load(Relaxed) > 0;
            let (bound, usual) = (self.bound.load(Relaxed), self.usual.load(Relaxed));
            let (bound, usual) = moved(bound, usual, average, peak, self.most, sheds);
            self.bound.store(bound, Relaxed);
            self.usual.store(usual, Relaxed);
        }
    }
}

/// The bound and the usual time after a window in which requests took so long on average, so many were there at a time, and
/// others were turned away or not.
fn moved(bound: usize, usual: u64, average: u64, peak: usize, most: usize, sheds: bool) -> (usize, u64) {
    let fewest = FEWEST.min(most);
    // An overload does not become usual, however long it lasts. What few at a time take does: to let in fewer would not make it less.
    let more = if peak <= fewest { (average.saturating_sub(usual) / SLOWLY).max(1) } else { 0 };
    let usual = usual.saturating_add(more).min(average);
    let much =
        if sheds { usual.saturating_add(usual / 2).max(HURRIED) } else { usual.saturating_mul(2).max(UNHURRIED) };
    if average > much {
        let less = if average / 2 > much { bound / 2 } else { bound / 4 };
        return ((bound - less).max(fewest), usual);
    }
    // A place that nobody wants proves nothing; but an overload is not held against those who come after it.
    let wanted = peak >= bound - bound / 4 || !sheds && bound < FIRST;
    (if wanted { (bound + bound / 16 + 1).min(most) } else { bound }, usual)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A request that may wait, until it is done.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Admission>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A request that is turned away, until its client is told or has gone.
struct Leaving<'a> {
    all: &'a AtomicUsize,
    /// How many there were when it came, itself included.
    among: usize,
}

impl<'a> Leaving<'a> {
    fn begin(all: &'a AtomicUsize) -> Self {
        Self { all, among: all.fetch_add(1, Relaxed) + 1 }
    }

    /// How long it takes.
    fn patience(&self) -> Duration {
        APART.saturating_mul(u32::try_from(self.among).unwrap_or(u32::MAX)).min(LONGEST)
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}

/// A place of a request that is worked on. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    since: Instant,
}

impl Place {
    /// The request was worked on, and did not wait for anything else than others.
    pub(super) fn worked(&self) {
        self.admission.note(self.since.elapsed());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.working.fetch_sub(1, Relaxed);
    }
}

/// What a body takes. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Bytes {
    admission: Arc<Admission>,
    /// What it may take at most: of a larger one no more is kept.
    most: usize,
    taken: AtomicUsize,
}

impl Bytes {
    /// Those of a body of which at most so many are kept.
    pub(super) fn new(admission: Arc<Admission>, most: usize) -> Self {
        Self { admission, most, taken: AtomicUsize::new(0) }
    }

    /// Counts so many more, if there is room for them.
    pub(super) fn take(&self, more: usize) -> bool {
        let taken = self.taken.load(Relaxed);
        let more = more.min(self.most - taken);
        let fits = self.admission.take(more, taken + more);
        if fits {
            self.taken.store(taken + more, Relaxed);
        }
        fits
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.taken.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn there_are_so_many_places_and_each_is_free_again() {
        let admission = Arc::new(Admission::new(2, 0));
        let (first, second) = (admission.enter(), admission.enter());
        assert!(first.is_some() && second.is_some() && admission.is_full() && admission.enter().is_none());
        drop(first);
        assert!(!admission.is_full());
        let third = admission.enter();
        assert!(third.is_some() && admission.enter().is_none());
    }

    #[test]
    fn requests_that_take_longer_than_usual_make_the_bound_smaller_and_it_grows_again() {
        let (mut bound, mut usual) = (512, u64::MAX);
        for _ in 0..10 {
            (bound, usual) = moved(bound, usual, 8_000, 64, 2048, false);
        }
        assert_eq!(bound, 512, "nobody wants more places");
        for _ in 0..10 {
            (bound, usual) = moved(bound, usual, 80_000, bound, 2048, true);
        }
        assert_eq!((bound, usual < 9_000), (FEWEST, true));
        for _ in 0..100 {
            (bound, usual) = moved(bound, usual, 9_000, bound, 2048, true);
        }
        assert_eq!(bound, 2048);
    }

    /// As many windows as there are in ten minutes.
    const TEN_MINUTES: u32 = 10 * 60 * 40;

    #[test]
    fn an_overload_does_not_become_usual() {
        // A server that does 8,000 requests a second, however many wait for it.
        let takes = |bound: usize| bound as u64 * 125;
        let (mut bound, mut usual) = (FIRST, 1_000);
        for window in 0..TEN_MINUTES {
            (bound, usual) = moved(bound, usual, takes(bound), bound, 2048, true);
            assert!(window < 100 || takes(bound) < 2 * takes(FEWEST), "after {window} windows {bound} are let in");
        }
        assert!(usual <= takes(FEWEST), "{usual}");
    }

    #[test]
    fn a_server_that_has_become_slower_lets_all_in_again() {
        // Each request takes five milliseconds, however many there are, and 150 clients want one at a time.
        let (clients, mut bound, mut usual) = (150, FEWEST, 800);
        let mut windows = 0;
        while bound < clients {
            (bound, usual) = moved(bound, usual, 5_000, bound, 2048, true);
            windows += 1;
            assert!(windows < 40 * 20, "after 20 seconds {bound} are let in");
        }
    }

    #[test]
    fn what_suits_all_is_no_reason_to_turn_anybody_away_and_what_does_not_is_to_suit_those_who_are_let_in() {
        let usual = 1_500;
        assert_eq!(moved(600, usual, UNHURRIED, 200, 2048, false).0, 600);
        assert_eq!(moved(400, usual, UNHURRIED, 200, 2048, false).0, 426, "so it is soon as it was at first");
        assert_eq!(moved(400, usual, UNHURRIED + 1, 400, 2048, false).0, 300);
        assert_eq!(moved(400, usual, HURRIED, 200, 2048, true).0, 400);
        assert_eq!(moved(400, usual, HURRIED, 400, 2048, true).0, 426, "they hardly notice");
        assert_eq!(moved(400, usual, 2 * HURRIED, 400, 2048, true).0, 300);
        assert_eq!(moved(400, HURRIED, HURRIED * 3 / 2, 400, 2048, true).0, 426);
        assert_eq!(moved(400, HURRIED, HURRIED * 2, 400, 2048, true).0, 300);
        assert_eq!(moved(400, HURRIED, HURRIED * 4, 400, 2048, true).0, 200, "the further off, the larger the step");
    }

    #[test]
    fn whoever_waits_to_be_told_has_been_turned_away() {
        let bound = |leaving: usize| {
            let mut admission = Admission::new(2048, 0);
            admission.begun -= WINDOW;
            admission.leaving = AtomicUsize::new(leaving);
            admission.usual = AtomicU64::new(HURRIED);
            (0..SAMPLE).for_each(|_| admission.note(Duration::from_micros(2 * HURRIED)));
            admission.bound.load(Relaxed)
        };
        assert_eq!((bound(0), bound(1)), (512, 384));
    }

    #[tokio::test]
    async fn the_more_are_turned_away_the_later_they_are_told() {
        let admission = Admission::new(1, 0);
        let begun = Instant::now();
        join_all((0..500).map(|_| admission.turn_away())).await;
        assert!(begun.elapsed() >= APART * 500);
        assert_eq!(admission.turn_away().now_or_never(), None);
        assert_eq!(admission.leaving.load(Relaxed), 0, "who hangs up has left");
        let all = AtomicUsize::new(1_000_000);
        assert_eq!(Leaving::begin(&all).patience(), LONGEST);
    }

    #[test]
    fn what_always_takes_long_is_usual() {
        let (mut bound, mut usual) = (512, u64::MAX);
        for _ in 0..10 {
            (bound, usual) = moved(bound, usual, 200_000, 512, 2048, false);
        }
        assert!(bound > 512, "{bound}");
        assert_eq!(moved(bound, usual, 450_000, 512, 2048, false).0, bound - bound / 4);
    }

    #[test]
    fn large_bodies_are_cut_off_and_small_ones_are_not() {
        let admission = Arc::new(Admission::new(1, 100_000));
        let body = || Bytes::new(admission.clone(), 80_000);
        let (first, second, small) = (body(), body(), body());
        assert!(first.take(60_000) && first.take(60_000), "no more is kept of a body than its limit");
        assert!(!second.take(SMALL_BODY + 10_000) && small.take(SMALL_BODY));
        drop(first);
        assert!(second.take(SMALL_BODY + 10_000));
        drop((second, small));
        assert_eq!(admission.bytes.load(Relaxed), 0);
    }
}
