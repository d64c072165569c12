//! Queries that are under way, so that the same one, asked by many at a time, is executed once for all of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OnceCell};

/// What is under way, by all that an answer depends on.
pub(crate) struct Flights<K, V>(Mutex<HashMap<K, Arc<Flight<V>>>>);

/// The same query, asked by many.
struct Flight<V> {
    /// Taken while it is executed.
    turn: Turn<()>,
    /// What those who come now wait for.
    next: Mutex<Arc<OnceCell<Arc<V>>>>,
}

impl<K: Clone + Eq + Hash, V> Flights<K, V> {
    /// What `execute` makes of it, or what it makes of it for somebody else who asks for the same. Nothing is older than the
    /// call: who asks while it is executed is answered, with all who do, by the execution after that.
    pub(crate) async fn join<F: Future<Output = V>>(&self, key: K, execute: impl FnOnce() -> F) -> Arc<V> {
        let flight = lock(&self.0).entry(key.clone()).or_default().clone();
        let aboard = Aboard { flights: self, key, flight };
        let round = lock(&aboard.flight.next).clone();
        let execute = || async {
            let _turn = aboard.flight.turn.lock().await;
            // Another may have begun this one, and have gone.
            aboard.flight.close(&round);
            Arc::new(execute().await)
        };
        round.get_or_init(execute).await.clone()
    }
}

impl<V> Flight<V> {
    /// From here on nobody joins the round.
    fn close(&self, round: &Arc<OnceCell<Arc<V>>>) {
        let mut next = lock(&self.next);
        if Arc::ptr_eq(&next, round) {
            *next = Arc::default();
        }
    }
}

/// Somebody who waits for an answer; the last of them tidies up.
struct Aboard<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
}

impl<K: Eq + Hash, V> Drop for Aboard<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights.0);
        // The map's own, and this one. Nobody gets another while the map is locked.
        if Arc::strong_count(&self.flight) == 2 {
            flights.remove(&self.key);
        }
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V> Default for Flight<V> {
    fn default() -> Self {
        Self { turn: Turn::default(), next: Mutex::default() }
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

    #[tokio::test]
    async fn a_stampede_is_executed_twice() {
        let (flights, executed) = (Flights::<u32, usize>::default(), AtomicUsize::new(0));
        let (open, opened) = watch::channel(false);
        let ask = |key| {
            let (flights, executed, mut opened) = (&flights, &executed, opened.clone());
            async move {
                let execute = || async move {
                    let number = executed.fetch_add(1, Ordering::Relaxed);
                    opened.wait_for(|opened| *opened).await.unwrap();
                    number
                };
                *flights.join(key, execute).await
            }
        };
        let opening = async {
            // All of them have asked by now.
            tokio::task::yield_now().await;
            open.send_replace(true);
        };
        let (first, others, ()) = tokio::join!(ask(1), join_all((0..1_000).map(|_| ask(1))), opening);
        // The first had begun before the others came, and so is not theirs.
        assert_eq!(first, 0);
        assert_eq!(others, [1; 1_000]);
        assert_eq!(ask(2).await, 2);
        assert!(lock(&flights.0).is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_others_their_answer() {
        let flights = Flights::<u32, u32>::default();
        let mut first = Box::pin(flights.join(1, std::future::pending));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.join(1, std::future::pending));
        let mut third = Box::pin(flights.join(1, || async { 3 }));
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        drop(first);
        // It begins for both.
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        assert_eq!(*third.await, 3);
        assert!(lock(&flights.0).is_empty());
    }
}
