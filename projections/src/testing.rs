//! The test kit of read models: given events, then rows.
//!
//! ```
//! use domain::catalog::{Listed, Event};
//! use projections::products::Products;
//! use projections::shop_event::ShopEvent;
//! use projections::testing::given;
//!
//! let sku: domain::ids::Sku = "TEA-1".parse().unwrap();
//! let price = serde_json::from_str(r#"{"minor": 420, "currency": "GBP"}"#).unwrap();
//! let listed = Event::from(Listed { name: "Earl Grey".parse().unwrap(), price });
//! given::<Products>([ShopEvent::Catalog(sku, listed)])
//!     .then(|tables| tables.products.written().iter().map(|row| row.sku.clone()).collect(), ["TEA-1".to_owned()]);
//! ```

use std::collections::HashMap;
use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel};
use crate::rows::{Table, Tables as _};
use crate::shop_event::{Happened, Origin, ShopEvent};

/// When the first of the given events was recorded; each further one a second later.
pub const START: DateTime<Utc> = match DateTime::from_timestamp(1_767_225_600, 0) {
    Some(start) => start,
    None => DateTime::UNIX_EPOCH,
};

/// Who and what brought all of the given events about.
pub fn origin() -> Origin {
    Origin {
        actor: Some("ada".to_owned()),
        correlation_id: Some(Uuid::from_u128(0xc0)),
        causation_id: Some(Uuid::from_u128(0xca)),
    }
}

/// Folds these events, in order, into empty tables: all at once, as a rebuild does, and each on its own with no row in
/// memory but those that it asks for, as a live projector may have to.
///
/// # Panics
/// When the two ways do not end in the same rows.
#[track_caller]
pub fn given<M: ReadModel>(events: impl IntoIterator<Item = ShopEvent>) -> Given<M> {
    let events = happen(events);
    let mut tables = M::Tables::new(true);
    let outcome = events.iter().try_for_each(|happened| M::fold(&mut tables, happened));
    let mut live = M::Tables::new(true);
    let live_outcome = events.iter().try_for_each(|happened| fold_alone::<M>(&mut live, happened));
    assert_eq!(outcome, live_outcome, "folded at once, and one by one");
    if outcome.is_ok() {
        assert_eq!(tables.shown(), live.shown(), "folded at once, and one by one");
    }
    Given { tables, outcome }
}

/// Folds one event, loading what it asks for until nothing is missing.
fn fold_alone<M: ReadModel>(all: &mut M::Tables, happened: &Happened) -> Result<(), FoldError> {
    let mut tables = M::Tables::new(false);
    loop {
        match M::fold(&mut tables, happened) {
            Err(FoldError::NotLoaded) => {
                tables.reset();
                // A fold that asks for nothing and still misses something would be asked for ever.
                if !tables.load_from(all) {
                    return Err(FoldError::NotLoaded);
                }
            }
            outcome => {
                tables.write_to(all);
                return outcome;
            }
        }
    }
}

/// Events as the log would give them: revisions count by stream, times by the second.
pub fn happen(events: impl IntoIterator<Item = ShopEvent>) -> Vec<Happened> {
    let mut revisions = HashMap::<String, u64>::new();
    let mut at = START;
    let happened = |event: ShopEvent| {
        let revision = revisions.entry(event.stream()).or_default();
        let happened = Happened { event, revision: *revision, at, origin: origin() };
        *revision += 1;
        at += TimeDelta::seconds(1);
        happened
    };
    events.into_iter().map(happened).collect()
}

/// What a read model makes of the given events.
pub struct Given<M: ReadModel> {
    tables: M::Tables,
    outcome: Result<(), FoldError>,
}

impl<M: ReadModel> Given<M> {
    /// Compares whole values that are read from the tables.
    ///
    /// # Panics
    /// When they differ, or an event could not be folded.
    #[track_caller]
    pub fn then<T: PartialEq + Debug>(
        self,
        found: impl FnOnce(&M::Tables) -> Vec<T>,
        expected: impl IntoIterator<Item = T>,
    ) -> Self {
        assert_eq!(self.outcome, Ok(()), "an event could not be folded");
        let (found, expected) = (found(&self.tables), expected.into_iter().collect::<Vec<_>>());
        assert_eq!(found, expected, "other rows were found than expected");
        self
    }

    /// Compares the error with which the last event was not folded.
    ///
    /// # Panics
    /// When there was none, or another.
    #[track_caller]
    pub fn then_broken(self, why: &str) {
        assert_eq!(self.outcome, Err(FoldError::Broken(why.to_owned())));
    }
}

/// The rows of a table, as values.
pub fn rows<T: Table>(table: &T) -> Vec<T::Row> {
    table.written().into_iter().cloned().collect()
}
