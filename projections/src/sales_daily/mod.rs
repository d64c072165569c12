//! What was sold a day, by country and currency.
//!
//! A sale counts on the day on which its order was placed (UTC).

#[cfg(test)]
mod tests;

use chrono::NaiveDate;
use domain::decider::Decider;
use domain::ordering::{Order, SaleMade};
use domain::payments::Payment;
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::Rows;
use crate::sales::{self, Fate, Meaning, Standing};
use crate::shop_event::Happened;

crate::row! {
    /// The sales of a day in a country.
    pub struct DayRow in "sales_daily", key { currency: String, day: NaiveDate, country: String } {
        orders: i64,
        lines: i64,
        units: i64,
        revenue_minor: i64,
    }
}

crate::row! {
    /// An order that may still be confirmed, cancelled or refunded.
    pub struct OpenOrderRow in "sales_daily_orders", key { order_id: Uuid } {
        day: NaiveDate,
        country: String,
        currency: String,
        lines: i64,
        units: i64,
        revenue_minor: i64,
        counted: bool,
        taken_back: bool,
    }
}

crate::tables! {
    /// The tables of `sales_daily`.
    pub struct Tables {
        /// A row a day, country and currency.
        days: Rows<DayRow>,
        /// A row an open order.
        open_orders: Rows<OpenOrderRow>,
    }
}

/// The read model `sales_daily`.
pub struct SalesDaily;

impl ReadModel for SalesDaily {
    const NAME: &'static str = "sales_daily";
    const VERSION: i32 = 2;
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY, Payment::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/sales_daily.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/sales_daily.keys.sql");
    type Tables = Tables;

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let Some((order, meaning)) = sales::meaning(&happened.event) else { return Ok(()) };
        match meaning {
            Meaning::Open(sale) => tables.open_orders.put(open(order, sale)?),
            Meaning::Sold(sale) => count(tables, &open(order, sale)?, 1)?,
            Meaning::Became(fate) => {
                let row = match tables.open_orders.get(&(order,))?.cloned() {
                    Some(row) => row,
                    // A payment that somebody asked for by hand, of an order that nobody placed.
                    None if fate == Fate::Refunded => return Ok(()),
                    None => return Err(missing("open order", order)),
                };
                let standing = Standing { counted: row.counted, taken_back: row.taken_back };
                let (Standing { counted, taken_back }, sign) = standing.after(fate);
                count(tables, &row, sign)?;
                tables.open_orders.put(OpenOrderRow { counted, taken_back, ..row });
            }
        }
        Ok(())
    }
}

fn open(order_id: Uuid, sale: &SaleMade) -> Result<OpenOrderRow, FoldError> {
    let units = sale.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.quantity.units()));
    Ok(OpenOrderRow {
        order_id,
        day: sale.placed_at.date_naive(),
        country: sale.country.to_string(),
        currency: sale.currency.to_string(),
        lines: i64::try_from(sale.lines.len()).map_err(|_| overflow("the number of lines of an order"))?,
        units: units.ok_or_else(|| overflow("the number of units of an order"))?,
        revenue_minor: sale.total_minor,
        counted: false,
        taken_back: false,
    })
}

/// Adds an order to its day, or with `sign` -1 takes it off again. With 0 there is nothing to do.
fn count(tables: &mut Tables, order: &OpenOrderRow, sign: i64) -> Result<(), FoldError> {
    if sign == 0 {
        return Ok(());
    }
    let key = (order.currency.clone(), order.day, order.country.clone());
    let mut row = tables.days.get(&key)?.cloned().unwrap_or(DayRow {
        currency: key.0,
        day: key.1,
        country: key.2,
        orders: 0,
        lines: 0,
        units: 0,
        revenue_minor: 0,
    });
    let sums = [
        (&mut row.orders, 1),
        (&mut row.lines, order.lines),
        (&mut row.units, order.units),
        (&mut row.revenue_minor, order.revenue_minor),
    ];
    for (sum, more) in sums {
        *sum = sum.checked_add(sign * more).ok_or_else(|| overflow("a day's sum"))?;
    }
    tables.days.put(row);
    Ok(())
}
