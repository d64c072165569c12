//! How many requests a caller may send: the generic cell rate algorithm, in one number a caller.
//!
//! The number is the time up to which what was sent is paid for. Each request moves it on by a window's share; who is a
//! whole window ahead of the clock waits. So a caller may send all of a window's requests at once, and then as many as come
//! back with time.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use hashlink::LruCache;

use super::peers::network;
use crate::config::Rate;

/// How many callers are remembered. Of more, whoever was not seen for the longest time begins anew.
const CALLERS: usize = 64 * 1024;
/// In how many parts, so that those who ask at the same time seldom wait for one another.
const PARTS: usize = 16;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Who sends requests.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
pub(super) enum Sender<'a> {
    /// Whoever has a token for this name.
    Subject(&'a str),
    /// Whoever is at this address.
    Peer(IpAddr),
}

/// What a request is told of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it may go on.
    pub(super) allowed: bool,
    /// How many more may be sent at once.
    remaining: u32,
    /// After how many seconds there is one more.
    pub(super) wait: u64,
    /// The same to the point.
    until: Duration,
}

/// What the requests of one caller are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account(u64);

/// Counts the requests of every caller. Times are nanoseconds.
pub(super) struct Rates {
    begun: Instant,
    requests: u32,
    /// What one request takes of the window.
    share: u64,
    window: u64,
    policy: HeaderValue,
    /// Secret, so that nobody finds two names that count as one.
    hasher: RandomState,
    paid_until: Vec<Mutex<LruCache<u64, u64>>>,
}

impl Rates {
    pub(super) fn new(rate: Rate) -> Self {
        let requests = rate.requests.get();
        let policy = format!("\"default\";q={requests};w={}", rate.window.as_secs());
        let window = nanos(rate.window);
        Self {
            begun: Instant::now(),
            requests,
            share: (window / u64::from(requests)).max(1),
            window,
            // Digits and letters always make a header.
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("")),
            hasher: RandomState::new(),
            paid_until: (0..PARTS).map(|_| Mutex::new(LruCache::new(CALLERS / PARTS))).collect(),
        }
    }

    /// What the requests of a caller are counted under.
    pub(super) fn account(&self, sender: Sender<'_>) -> Account {
        Account(match sender {
            Sender::Peer(address) => self.hasher.hash_one(Sender::Peer(network(address))),
            subject @ Sender::Subject(_) => self.hasher.hash_one(subject),
        })
    }

    /// Counts a request.
    pub(super) fn count(&self, account: Account) -> Standing {
        self.count_at(account, self.now())
    }

    /// Counts what is a request of its own but for its form, or says how long it is until there may be one.
    pub(super) fn count_another(&self, account: Account) -> Result<(), Duration> {
        let Standing { allowed, until, .. } = self.count_at(account, self.now());
        if allowed { Ok(()) } else { Err(until) }
    }

    fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    fn count_at(&self, Account(key): Account, now: u64) -> Standing {
        let part = &self.paid_until[key as usize % PARTS];
        let mut callers = part.lock().unwrap_or_else(PoisonError::into_inner);
        let paid_until = callers.get(&key).copied().unwrap_or(0).max(now);
        let next = paid_until + self.share;
        // A window that does not divide by its requests has a rest, which nobody misses.
        let room = (now + self.window).saturating_sub(next);
        let allowed = next <= now + self.window;
        if allowed {
            callers.insert(key, next);
        }
        drop(callers);
        let remaining = u32::try_from(room / self.share).unwrap_or(u32::MAX).min(self.requests - 1);
        let until_next = if allowed { next - now } else { next - (now + self.window) };
        // Of what is left, one more comes with the next share that the clock has passed.
        let wait = if allowed { until_next.min(self.share) } else { until_next };
        let remaining = if allowed { remaining } else { 0 };
        Standing { allowed, remaining, wait: wait.div_ceil(1_000_000_000).max(1), until: Duration::from_nanos(wait) }
    }

    /// Tells in the headers of an answer how the caller stands, by draft-ietf-httpapi-ratelimit-headers.
    pub(super) fn tell(&self, standing: Standing, headers: &mut HeaderMap) {
        let limit = format!("\"default\";r={};t={}", standing.remaining, standing.wait);
        if let Ok(limit) = HeaderValue::from_str(&limit) {
            headers.insert(LIMIT, limit);
        }
        headers.insert(POLICY, self.policy.clone());
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rates(requests: u32, seconds: u64) -> Rates {
        let requests = NonZeroU32::new(requests).unwrap();
        Rates::new(Rate { requests, window: Duration::from_secs(seconds) })
    }

    #[test]
    fn a_window_has_so_many_requests_and_they_come_back_with_time() {
        let rates = rates(4, 60);
        let alice = rates.account(Sender::Subject("alice"));
        let send = |at: u64| rates.count_at(alice, at * SECOND);
        let left: Vec<u32> = (0..4).map(|_| send(0)).map(|standing| standing.remaining).collect();
        assert_eq!(left, [3, 2, 1, 0]);
        let refused = |wait| Standing { allowed: false, remaining: 0, wait, until: Duration::from_secs(wait) };
        assert_eq!((send(0), send(10)), (refused(15), refused(5)));
        assert!(send(15).allowed && !send(15).allowed);
        assert_eq!((0..10).filter(|_| send(1_000).allowed).count(), 4, "rest does not add up");
    }

    #[test]
    fn each_caller_counts_alone_and_a_network_of_ipv6_as_one() {
        let rates = rates(1, 60);
        let send = |sender| rates.count_at(rates.account(sender), 0).allowed;
        let peer = |text: &str| Sender::Peer(text.parse().unwrap());
        assert!(send(Sender::Subject("alice")) && send(Sender::Subject("bob")) && !send(Sender::Subject("alice")));
        assert!(send(peer("198.51.100.1")) && send(peer("198.51.100.2")) && !send(peer("198.51.100.1")));
        assert!(send(peer("2001:db8::1")) && !send(peer("2001:db8::2")) && send(peer("2001:db8:0:1::1")));
        assert!(send(Sender::Subject("198.51.100.1")), "a name is no address");
    }

    #[test]
    fn as_many_callers_are_remembered_and_no_more() {
        let rates = rates(1, 60);
        for number in 0..2 * CALLERS {
            let account = rates.account(Sender::Subject(&number.to_string()));
            assert!(rates.count_at(account, 0).allowed);
        }
        let kept: usize = rates.paid_until.iter().map(|part| part.lock().unwrap().len()).sum();
        assert!(kept <= CALLERS && kept > CALLERS / 2, "{kept}");
    }

    #[test]
    fn what_is_a_request_but_for_its_form_counts_as_one() {
        let rates = rates(2, 3_600);
        let (alice, bob) = (rates.account(Sender::Subject("alice")), rates.account(Sender::Subject("bob")));
        assert!(rates.count(alice).allowed && rates.count_another(alice).is_ok());
        let wait = rates.count_another(alice).unwrap_err();
        assert!(wait <= Duration::from_secs(1_800) && wait > Duration::from_secs(1_700), "{wait:?}");
        assert!(!rates.count(alice).allowed && rates.count_another(bob).is_ok());
    }

    #[test]
    fn the_headers_are_those_of_the_draft() {
        let rates = rates(100, 60);
        let mut headers = HeaderMap::new();
        rates.tell(rates.count_at(rates.account(Sender::Subject("alice")), 0), &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"default\";q=100;w=60");
        assert_eq!(headers["ratelimit"], "\"default\";r=99;t=1");
    }
}
