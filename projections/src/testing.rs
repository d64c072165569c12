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

use crate::read_model::{FoldError, ReadModel};
use crate::rows::{Row, Rows, Tables as _};
use crate::shop_event::{Happened, ShopEvent};

/// When the first of the given events was recorded; each further one a second later.
pub const START: DateTime<Utc> = match DateTime::from_timestamp(1_767_225_600, 0) {
    Some(start) => start,
    None => DateTime::UNIX_EPOCH,
};

/// Folds these events, in order, into empty tables.
#[track_caller]
pub fn given<M: ReadModel>(events: impl IntoIterator<Item = ShopEvent>) -> Given<M> {
    let mut tables = M::Tables::new(true);
    let mut outcome = Ok(());
    for happened in happen(events) {
        outcome = M::fold(&mut tables, &happened);
        if outcome.is_err() {
            break;
        }
    }
    Given { tables, outcome }
}

/// Events as the log would give them: revisions count by stream, times by the second.
pub fn happen(events: impl IntoIterator<Item = ShopEvent>) -> Vec<Happened> {
    let mut revisions = HashMap::<String, u64>::new();
    let mut at = START;
    let happened = |event: ShopEvent| {
        let revision = revisions.entry(stream(&event)).or_default();
        let happened = Happened { event, revision: *revision, at };
        *revision += 1;
        at += TimeDelta::seconds(1);
        happened
    };
    events.into_iter().map(happened).collect()
}

fn stream(event: &ShopEvent) -> String {
    match event {
        ShopEvent::Catalog(sku, _) => format!("product-{sku}"),
        ShopEvent::Inventory(sku, _) => format!("stock-{sku}"),
        ShopEvent::Ordering(order, _) => format!("order-{order}"),
        ShopEvent::Customers(customer, _) => format!("customer-{customer}"),
    }
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
pub fn rows<R: Row>(table: &Rows<R>) -> Vec<R> {
    table.written().into_iter().cloned().collect()
}
