//! What many subscriptions read at the same time, read once for all of them: while a statement is under way, whoever comes
//! next gathers for the one after it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use crate::error::Failure;

/// How many statements are under way at a time. The fewer, the more is gathered for each.
const TURNS: usize = 2;

/// Reads values `V` by sets of keys `K`.
#[derive(Debug)]
pub(crate) struct Shared<K, V> {
    turns: Semaphore,
    /// What is gathered for the next statements, by what tells one kind of them from another.
    gathering: Mutex<HashMap<String, Arc<Round<K, V>>>>,
}

/// What is read by one statement.
#[derive(Debug)]
struct Round<K, V> {
    keys: Mutex<BTreeSet<K>>,
    value: OnceCell<Result<Arc<V>, Failure>>,
}

impl<K: Ord + Clone, V> Shared<K, V> {
    /// What `load` makes of these keys and of those of others who ask for the same `kind` of thing; `kind` tells all that
    /// the answer depends on, and so who asks, should that make a difference. Nothing is older than the call: who asks while
    /// a statement is under way is not answered by it.
    pub(crate) async fn get<F>(
        &self,
        kind: &str,
        keys: impl IntoIterator<Item = K>,
        load: impl FnOnce(Vec<K>) -> F,
    ) -> Result<Arc<V>, Failure>
    where
        F: Future<Output = Result<V, Failure>>,
    {
        let round = {
            let mut gathering = lock(&self.gathering);
            let round = match gathering.get(kind) {
                Some(round) => round.clone(),
                None => gathering.entry(kind.to_owned()).or_default().clone(),
            };
            lock(&round.keys).extend(keys);
            round
        };
        let value = round.value.get_or_init(|| async {
            // That there are no more turns cannot be: nobody closes them. If it were, all would have theirs.
            let _turn = self.turns.acquire().await.ok();
            let keys = self.close(kind, &round);
            load(keys).await.map(Arc::new)
        });
        value.await.clone()
    }

    /// From here on nobody joins the round. Its keys.
    fn close(&self, kind: &str, round: &Arc<Round<K, V>>) -> Vec<K> {
        let mut gathering = lock(&self.gathering);
        // Whoever began to read for all may have gone in the middle of it, and another gathers already.
        if gathering.get(kind).is_some_and(|gathered| Arc::ptr_eq(gathered, round)) {
            gathering.remove(kind);
        }
        lock(&round.keys).iter().cloned().collect()
    }
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self { turns: Semaphore::new(TURNS), gathering: Mutex::default() }
    }
}

impl<K, V> Default for Round<K, V> {
    fn default() -> Self {
        Self { keys: Mutex::default(), value: OnceCell::new() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::watch;

    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn whoever_asks_while_others_are_answered_is_answered_with_all_who_do() {
        let (shared, loads) = (Shared::<u32, Vec<u32>>::default(), AtomicUsize::new(0));
        let (open, opened) = watch::channel(false);
        let ask = |kind: &'static str, key: u32| {
            let (shared, loads, mut opened) = (&shared, &loads, opened.clone());
            async move {
                let load = |keys: Vec<u32>| async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    opened.wait_for(|opened| *opened).await.unwrap();
                    Ok(keys)
                };
                shared.get(kind, [key], load).await.unwrap()
            }
        };
        let asked = join_all((0..1_000).map(|number| ask(if number < 900 { "a" } else { "b" }, number)));
        let opening = async {
            // All of them have asked by now.
            tokio::task::yield_now().await;
            open.send_replace(true);
        };
        let (answers, ()) = tokio::join!(asked, opening);
        for (number, answer) in (0..1_000).zip(&answers) {
            assert!(answer.contains(&number), "{number} is not in {answer:?}");
            assert!(answer.iter().all(|other| (*other < 900) == (number < 900)), "they are of another kind");
        }
        let loads = loads.into_inner();
        assert!(loads <= TURNS + 2, "{loads} statements");
        assert!(lock(&shared.gathering).is_empty());
    }

    #[tokio::test]
    async fn nobody_is_answered_by_what_began_before() {
        let (shared, state) = (Shared::<u32, usize>::default(), AtomicUsize::new(0));
        for before in 0..10 {
            let load = |_| async { Ok(state.load(Ordering::Relaxed)) };
            assert_eq!(*shared.get("a", [1], load).await.unwrap(), before);
            state.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_and_of_that_time() {
        let shared = Shared::<u32, ()>::default();
        let fail = |_| async { Err(Failure::new(Code::Internal, "no")) };
        let (one, other) = tokio::join!(shared.get("a", [1], fail), shared.get("a", [2], fail));
        assert!(one.is_err() && other.is_err());
        assert!(shared.get("a", [1], |_| async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_others_their_answer() {
        let shared = Shared::<u32, Vec<u32>>::default();
        let mut busy = ["x", "y"].map(|kind| Box::pin(shared.get(kind, [0], |_| std::future::pending())));
        for one in &mut busy {
            assert!(futures::poll!(one).is_pending());
        }
        let mut first = Box::pin(shared.get("a", [1], |_| std::future::pending()));
        let mut second = Box::pin(shared.get("a", [2], |keys| async { Ok(keys) }));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        drop(busy);
        // It has begun to read for both.
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        assert_eq!(*second.await.unwrap(), [1, 2]);
    }
}
