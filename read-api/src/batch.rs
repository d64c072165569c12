//! What keeps a query from asking the database once a row: rows that were read together share a [`Batch`], and the first
//! of them that needs something loads it for all of them in one statement.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::Failure;

/// Values that belong to a set of keys and are loaded all at once, at most once.
#[derive(Debug)]
pub(crate) struct Batch<K, V> {
    keys: Arc<[K]>,
    values: OnceCell<Result<HashMap<K, V>, Failure>>,
}

impl<K: Eq + Hash + Ord, V> Batch<K, V> {
    pub(crate) fn new(keys: impl IntoIterator<Item = K>) -> Self {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self { keys: keys.into(), values: OnceCell::new() }
    }

    /// Other values, of the same keys.
    pub(crate) fn of_the_same<W>(&self) -> Batch<K, W> {
        Batch { keys: self.keys.clone(), values: OnceCell::new() }
    }

    /// Values that are there already.
    pub(crate) fn of(values: HashMap<K, V>) -> Self {
        Self { keys: Arc::default(), values: OnceCell::new_with(Some(Ok(values))) }
    }

    /// The value of a key; `None` when `load` found none. A failure to load is every key's failure, and is not tried
    /// again.
    pub(crate) async fn get<'a, F>(&'a self, key: &K, load: impl FnOnce(&'a [K]) -> F) -> Result<Option<&'a V>, Failure>
    where
        F: Future<Output = Result<HashMap<K, V>, Failure>>,
    {
        let values = self.values.get_or_init(|| load(&self.keys)).await;
        Ok(values.as_ref().map_err(Failure::clone)?.get(key))
    }

    /// The value of a key, once it is loaded.
    pub(crate) fn loaded(&self, key: &K) -> Option<&V> {
        self.values.get()?.as_ref().ok()?.get(key)
    }
}

impl<K, V> Default for Batch<K, V> {
    fn default() -> Self {
        Self { keys: Arc::default(), values: OnceCell::new() }
    }
}

/// Groups values by the key that each brings along, in their order.
pub(crate) fn grouped<K: Eq + Hash, V>(values: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in values {
        groups.entry(key).or_default().push(value);
    }
    groups
}
