//! Places for what goes on for long, with a share of them for each caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::Caller;

/// So many places. Who has fewer of them than are free may take another: one caller alone gets half of them, a second one half of what
/// is left, and whoever has none finds one until all are taken. That is the rule of dynamic thresholds with a factor of one
/// (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking, 1998).
///
/// Callers are known by their names. Where no tokens are demanded they have none, and take what is free.
#[derive(Debug)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    free: usize,
    /// How many each caller has, of those who have any.
    by: HashMap<String, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    ForAll,
    /// The caller has as many as are free.
    ForCaller,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: Option<String>,
}

impl Places {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Taken { free: places, by: HashMap::new() })))
    }

    /// Takes a place for a caller.
    ///
    /// # Errors
    /// When there is none, or none for this caller.
    pub(super) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Place, Full> {
        let mut taken = self.lock();
        let has = caller.subject.as_ref().and_then(|name| taken.by.get(name)).copied().unwrap_or_default();
        match taken.free {
            0 => return Err(Full::ForAll),
            free if has >= free => return Err(Full::ForCaller),
            _ => taken.free -= 1,
        }
        if let Some(name) = &caller.subject {
            taken.by.insert(name.clone(), has + 1);
        }
        Ok(Place { places: self.clone(), caller: caller.subject.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.free += 1;
        let Some(name) = &self.caller else { return };
        if let Some(has) = taken.by.get_mut(name) {
            *has -= 1;
            if *has == 0 {
                taken.by.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use access::Scopes;

    use super::*;

    fn caller(name: Option<&str>) -> Caller {
        Caller { subject: name.map(ToOwned::to_owned), scopes: Scopes::ALL, customer: None, until: None }
    }

    /// As many places as a caller gets, and why it gets no more.
    fn fill(places: &Arc<Places>, name: Option<&str>) -> (Vec<Place>, Full) {
        let mut got = Vec::new();
        loop {
            match places.take(&caller(name)) {
                Ok(place) => got.push(place),
                Err(full) => return (got, full),
            }
        }
    }

    #[test]
    fn nobody_takes_so_many_that_the_next_finds_none() {
        let places = Places::new(64);
        let (first, full) = fill(&places, Some("a"));
        assert_eq!((first.len(), full), (32, Full::ForCaller));
        let (second, full) = fill(&places, Some("b"));
        assert_eq!((second.len(), full), (16, Full::ForCaller));
        let others: Vec<_> = (0..16).map(|n| places.take(&caller(Some(&format!("c-{n}")))).unwrap()).collect();
        assert_eq!(places.take(&caller(Some("d"))).unwrap_err(), Full::ForAll);
        drop((first, second, others));
        assert!(places.lock().by.is_empty(), "who has no place is not remembered");
        assert_eq!(fill(&places, Some("a")).0.len(), 32, "what was taken is free again");
    }

    #[test]
    fn who_has_no_name_takes_what_is_free() {
        let places = Places::new(64);
        let (got, full) = fill(&places, None);
        assert_eq!((got.len(), full), (64, Full::ForAll));
    }
}
