//! Chance that can be repeated, and how much of it.

use std::future::Future;
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn said<T: std::str::FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(usual)
}

/// How many times as much as usual is done.
pub(crate) fn times() -> usize {
    said("STOREFOLD_SOAK_TIMES", 1)
}

/// What the dice start from.
pub(crate) fn seed() -> u64 {
    said("STOREFOLD_SOAK_SEED", 7)
}

/// What is waited for comes within a while, which is longer in a soak.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(100).saturating_mul(u32::try_from(times()).unwrap_or(u32::MAX));
    let done = tokio::time::timeout(patience, what).await;
    done.unwrap_or_else(|_| panic!("it did not happen within {patience:?}; the seed is {}", seed()))
}

/// Numbers that follow from the seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Other numbers for each `number`.
    pub(crate) fn new(number: u64) -> Self {
        let mut dice = Self(seed());
        dice.0 = dice.roll() ^ number;
        dice
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}
