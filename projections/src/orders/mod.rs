//! Orders with their lines: what was bought, by whom, and what became of it.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::ids::OrderId;
use domain::ordering::{Event, Order, SaleMade};
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::shop_event::{Happened, ShopEvent};

crate::row! {
    /// An order.
    pub struct OrderRow in "orders", key { order_id: Uuid } {
        reference: Option<String>,
        status: String,
        reason: Option<String>,
        placed_at: DateTime<Utc>,
        customer_id: Option<Uuid>,
        country: String,
        currency: String,
        total_minor: i64,
        line_count: i32,
        units: i64,
        changed_at: DateTime<Utc>,
        revision: i64,
    }
}

crate::row! {
    /// A line of an order. Lines count from 1.
    pub struct LineRow in "order_lines", key { order_id: Uuid, line_no: i32 } {
        sku: String,
        quantity: i64,
        unit_price_minor: i64,
    }
}

crate::tables! {
    /// The tables of `orders`.
    pub struct Tables {
        /// A row an order.
        orders: OrderRow,
        /// A row a line.
        lines: LineRow,
    }
}

/// The read model `orders`.
pub struct Orders;

impl ReadModel for Orders {
    const NAME: &'static str = "orders";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/orders.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/orders.keys.sql");
    type Tables = Tables;

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let ShopEvent::Ordering(order, event) = &happened.event else { return Ok(()) };
        let (status, reason) = match event {
            Event::Placed(placed) => return open(tables, *order, &placed.0, "placed", happened),
            Event::Recorded(recorded) => return open(tables, *order, &recorded.0, "recorded", happened),
            Event::Confirmed(_) => ("confirmed", None),
            Event::Rejected(rejected) => ("rejected", Some(rejected.reason.to_string())),
            Event::Cancelled(cancelled) => ("cancelled", Some(cancelled.reason.to_string())),
            Event::Completed(_) => ("completed", None),
        };
        let row = tables.orders.get(&(order.0,))?.ok_or_else(|| missing("order", order))?.clone();
        let (changed_at, revision) = (happened.at, revision(happened)?);
        tables.orders.put(OrderRow { status: status.to_owned(), reason, changed_at, revision, ..row });
        Ok(())
    }
}

fn open(
    tables: &mut Tables,
    order: OrderId,
    sale: &SaleMade,
    status: &str,
    happened: &Happened,
) -> Result<(), FoldError> {
    let mut units = 0_i64;
    for (line_no, line) in (1..).zip(&sale.lines) {
        let quantity = line.quantity.units();
        units = units.checked_add(quantity).ok_or_else(|| overflow("the number of units of an order"))?;
        tables.lines.put(LineRow {
            order_id: order.0,
            line_no,
            sku: line.sku.to_string(),
            quantity,
            unit_price_minor: line.unit_price.minor(),
        });
    }
    tables.orders.put(OrderRow {
        order_id: order.0,
        reference: sale.reference.as_ref().map(ToString::to_string),
        status: status.to_owned(),
        reason: None,
        placed_at: sale.placed_at,
        customer_id: sale.customer.map(|customer| customer.0),
        country: sale.country.to_string(),
        currency: sale.currency.to_string(),
        total_minor: sale.total_minor,
        line_count: i32::try_from(sale.lines.len()).map_err(|_| overflow("the number of lines of an order"))?,
        units,
        changed_at: happened.at,
        revision: revision(happened)?,
    });
    Ok(())
}

fn revision(happened: &Happened) -> Result<i64, FoldError> {
    i64::try_from(happened.revision).map_err(|_| overflow("a revision"))
}
