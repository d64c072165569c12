//! How long customers wait for their goods to leave the house.
//!
//! An order counts on the day on which it was placed with this shop (UTC), once its goods are with the carrier.

#[cfg(test)]
mod tests;

use chrono::{DateTime, NaiveDate, Utc};
use domain::decider::Decider;
use domain::ordering::{self, Order};
use domain::shipping::{self, Shipment};
use uuid::Uuid;

use crate::adding_a_read_model::read_model::{FoldError, ReadModel, overflow};
use crate::adding_a_read_model::rows::Rows;
use crate::adding_a_read_model::shop_event::{Happened, ShopEvent};

crate::adding_a_read_model::row! {
    /// How long the orders of a day have waited.
    pub struct DayRow in "dispatch_times", key { day: NaiveDate, country: String } {
        orders: i64,
        waited_seconds: i64,
    }
}

crate::adding_a_read_model::row! {
    /// An order that waits.
    pub struct WaitingRow in "dispatch_times_waiting", key { order_id: Uuid } {
        country: String,
        since: DateTime<Utc>,
    }
}

crate::adding_a_read_model::tables! {
    /// The tables of `dispatch_times`.
    pub struct Tables {
        /// A row a day and country.
        days: Rows<DayRow>,
        /// A row an order that waits.
        waiting: Rows<WaitingRow>,
    }
}

/// The read model `dispatch_times`.
pub struct DispatchTimes;

impl ReadModel for DispatchTimes {
    const NAME: &'static str = "dispatch_times";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY, Shipment::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../migrations/read_models/dispatch_times.sql");
    const KEYS_SQL: &'static str = include_str!("../migrations/read_models/dispatch_times.keys.sql");
    type Tables = Tables;

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        use ordering::Event::{Cancelled, Placed, Rejected};
        match &happened.event {
            ShopEvent::Ordering(order, Placed(placed)) => {
                let country = placed.0.country.to_string();
                tables.waiting.put(WaitingRow { order_id: order.0, country, since: happened.at });
            }
            ShopEvent::Ordering(order, Rejected(_) | Cancelled(_)) => tables.waiting.remove((order.0,)),
            ShopEvent::Shipping(shipment, shipping::Event::Dispatched(_)) => {
                return dispatched(tables, shipment.order().0, happened.at);
            }
            _ => {}
        }
        Ok(())
    }
}

fn dispatched(tables: &mut Tables, order_id: Uuid, at: DateTime<Utc>) -> Result<(), FoldError> {
    // A shipment that somebody asked for by hand, of an order that nobody placed, kept nobody waiting.
    let Some(waiting) = tables.waiting.get(&(order_id,))?.cloned() else { return Ok(()) };
    let key = (waiting.since.date_naive(), waiting.country);
    let (orders, seconds) = tables.days.get(&key)?.map_or((0, 0), |row| (row.orders, row.waited_seconds));
    // The clocks of two processes may differ by more than the goods took.
    let waited = (at - waiting.since).num_seconds().max(0);
    tables.days.put(DayRow {
        day: key.0,
        country: key.1,
        orders: orders + 1,
        waited_seconds: seconds.checked_add(waited).ok_or_else(|| overflow("the seconds of a day"))?,
    });
    tables.waiting.remove((order_id,));
    Ok(())
}
