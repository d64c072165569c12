//! What should be ordered anew: the SKUs of which no more is available than their threshold says.
//!
//! It only listens. That a stock ran low is an event, which says how much is left; from there on a row follows every
//! change until it is low no more. A stock that is not low has no row, and needs none.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::ids::Sku;
use domain::inventory::{Event, Stock};

use crate::read_model::{FoldError, ReadModel, overflow};
use crate::rows::Rows;
use crate::shop_event::{Happened, ShopEvent};

crate::row! {
    /// A SKU of which there is too little.
    pub struct LowRow in "low_stock", key { sku: String } {
        available: i64,
        threshold: i64,
        since: DateTime<Utc>,
        changed_at: DateTime<Utc>,
    }
}

crate::tables! {
    /// The tables of `low_stock`.
    pub struct Tables {
        /// A row a SKU that is low.
        low: Rows<LowRow>,
    }
}

/// The read model `low_stock`.
pub struct LowStock;

impl ReadModel for LowStock {
    const NAME: &'static str = "low_stock";
    const VERSION: i32 = 2;
    const CATEGORIES: &'static [&'static str] = &[Stock::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/low_stock.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/low_stock.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("low_stock", "sku"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let ShopEvent::Inventory(sku, event) = &happened.event else { return Ok(()) };
        let more = match event {
            Event::Received(received) => received.quantity.units(),
            Event::Adjusted(adjusted) => adjusted.to.saturating_sub(adjusted.from),
            Event::Reserved(reserved) => -reserved.quantity.units(),
            Event::Released(released) => released.quantity.units(),
            Event::RanLow(_) | Event::ThresholdSet(_) => 0,
            // What is shipped was reserved before, and so not available; the others are news of what others did.
            Event::Shipped(_) | Event::Declined(_) | Event::Depleted(_) => return Ok(()),
        };
        let row = tables.low.get(&(sku.to_string(),))?.cloned();
        let row = match (event, row) {
            (Event::RanLow(low), row) => LowRow {
                sku: sku.to_string(),
                available: low.available,
                threshold: i64::from(low.threshold),
                since: row.map_or(happened.at, |row| row.since),
                changed_at: happened.at,
            },
            (Event::ThresholdSet(set), Some(row)) => LowRow { threshold: i64::from(set.units), ..row },
            (_, Some(row)) => {
                let available = row.available.checked_add(more).ok_or_else(|| overflow("a number of units"))?;
                LowRow { available, ..row }
            }
            (_, None) => return Ok(()),
        };
        keep(tables, sku, LowRow { changed_at: happened.at, ..row });
        Ok(())
    }
}

/// Keeps the row while it is low.
fn keep(tables: &mut Tables, sku: &Sku, row: LowRow) {
    if row.available <= row.threshold {
        tables.low.put(row);
    } else {
        tables.low.remove((sku.to_string(),));
    }
}
