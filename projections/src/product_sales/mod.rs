//! What was sold of a SKU a day, by country and currency.
//!
//! A sale counts on the day on which its order was placed (UTC).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use domain::decider::Decider;
use domain::ordering::{Order, SaleMade};
use domain::payments::Payment;
use sqlx::types::Json;
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::Rows;
use crate::sales::{self, Fate, Meaning, Standing};
use crate::shop_event::Happened;

crate::row! {
    /// The sales of a SKU on a day in a country.
    pub struct ProductDayRow in "product_sales", key { currency: String, day: NaiveDate, sku: String, country: String } {
        orders: i64,
        units: i64,
        revenue_minor: i64,
    }
}

crate::row! {
    /// An order that may still be confirmed, cancelled or refunded.
    pub struct OpenOrderRow in "product_sales_orders", key { order_id: Uuid } {
        currency: String,
        day: NaiveDate,
        /// A SKU with the units and the revenue in minor units that this order adds to it; each SKU once.
        lines: Json<Vec<(String, i64, i64)>>,
        counted: bool,
        taken_back: bool,
        country: String,
    }
}

crate::tables! {
    /// The tables of `product_sales`.
    pub struct Tables {
        /// A row a SKU, day, country and currency.
        days: Rows<ProductDayRow>,
        /// A row an open order.
        open_orders: Rows<OpenOrderRow>,
    }
}

/// The read model `product_sales`.
pub struct ProductSales;

impl ReadModel for ProductSales {
    const NAME: &'static str = "product_sales";
    const VERSION: i32 = 3;
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY, Payment::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/product_sales.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/product_sales.keys.sql");
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
    let mut by_sku = BTreeMap::<&str, (i64, i64)>::new();
    for line in &sale.lines {
        let revenue = line.unit_price.times(line.quantity);
        let (units, sum) = by_sku.entry(line.sku.as_str()).or_default();
        // An order's total is checked when it is decided, and no line is above it; units are bounded a line.
        *units = units.checked_add(line.quantity.units()).ok_or_else(|| overflow("the units of an order"))?;
        *sum = revenue.and_then(|more| sum.checked_add(more)).ok_or_else(|| overflow("the revenue of an order"))?;
    }
    Ok(OpenOrderRow {
        order_id,
        currency: sale.currency.to_string(),
        day: sale.placed_at.date_naive(),
        lines: Json(by_sku.into_iter().map(|(sku, (units, revenue))| (sku.to_owned(), units, revenue)).collect()),
        counted: false,
        taken_back: false,
        country: sale.country.to_string(),
    })
}

/// Adds an order to the days of its products, or with `sign` -1 takes it off again. With 0 there is nothing to do.
fn count(tables: &mut Tables, order: &OpenOrderRow, sign: i64) -> Result<(), FoldError> {
    if sign == 0 {
        return Ok(());
    }
    // Every key is asked for before any is missed, so that one round loads them all.
    let key = |sku: &String| (order.currency.clone(), order.day, sku.clone(), order.country.clone());
    let found: Vec<_> =
        order.lines.iter().map(|(sku, ..)| tables.days.get(&key(sku)).map(|row| row.cloned())).collect();
    for (row, (sku, units, revenue)) in found.into_iter().zip(order.lines.iter()) {
        let (currency, day, sku, country) = key(sku);
        let nothing = ProductDayRow { currency, day, sku, country, orders: 0, units: 0, revenue_minor: 0 };
        let mut row = row?.unwrap_or(nothing);
        for (sum, more) in [(&mut row.orders, 1), (&mut row.units, *units), (&mut row.revenue_minor, *revenue)] {
            *sum = sum.checked_add(sign * more).ok_or_else(|| overflow("a product's sum"))?;
        }
        tables.days.put(row);
    }
    Ok(())
}
