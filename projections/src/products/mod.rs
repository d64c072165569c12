//! The catalogue and the stock of a SKU in one row.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::catalog::{self, Product};
use domain::decider::Decider;
use domain::ids::Sku;
use domain::inventory::{self, Stock};

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::Rows;
use crate::shop_event::{Happened, ShopEvent};

crate::row! {
    /// A product and its stock. What the catalogue says is absent while only the stock is known.
    pub struct ProductRow in "products", key { sku: String } {
        name: Option<String>,
        description: Option<String>,
        price_minor: Option<i64>,
        currency: Option<String>,
        status: String,
        on_hand: i64,
        reserved: i64,
        available: i64,
        threshold: Option<i64>,
        low: bool,
        changed_at: DateTime<Utc>,
    }
}

crate::tables! {
    /// The tables of `products`.
    pub struct Tables {
        /// A row a SKU.
        products: Rows<ProductRow>,
    }
}

/// The read model `products`.
pub struct Products;

impl ReadModel for Products {
    const NAME: &'static str = "products";
    const VERSION: i32 = 3;
    const CATEGORIES: &'static [&'static str] = &[Product::CATEGORY, Stock::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/products.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/products.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("products", "sku"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let (ShopEvent::Catalog(sku, _) | ShopEvent::Inventory(sku, _)) = &happened.event else { return Ok(()) };
        let row = tables.products.get(&(sku.to_string(),))?.cloned();
        let row = match &happened.event {
            ShopEvent::Catalog(_, event) => in_catalogue(row, sku, event)?,
            ShopEvent::Inventory(_, event) => in_stock(row.unwrap_or_else(|| unlisted(sku)), event)?,
            _ => return Ok(()),
        };
        tables.products.put(ProductRow { changed_at: happened.at, ..row });
        Ok(())
    }
}

/// A SKU of which nothing is known yet.
fn unlisted(sku: &Sku) -> ProductRow {
    ProductRow {
        sku: sku.to_string(),
        name: None,
        description: None,
        price_minor: None,
        currency: None,
        status: "unlisted".to_owned(),
        on_hand: 0,
        reserved: 0,
        available: 0,
        threshold: None,
        low: false,
        changed_at: DateTime::UNIX_EPOCH,
    }
}

fn in_catalogue(row: Option<ProductRow>, sku: &Sku, event: &catalog::Event) -> Result<ProductRow, FoldError> {
    use catalog::Event::{Described, Discontinued, Listed, PriceChanged, Relisted, Renamed};
    if let Listed(listed) = event {
        return Ok(ProductRow {
            name: Some(listed.name.to_string()),
            price_minor: Some(listed.price.minor.minor()),
            currency: Some(listed.price.currency.to_string()),
            status: "listed".to_owned(),
            ..row.unwrap_or_else(|| unlisted(sku))
        });
    }
    let mut row = row.ok_or_else(|| missing("product", sku))?;
    match event {
        Listed(_) => {}
        Renamed(renamed) => row.name = Some(renamed.name.to_string()),
        Described(described) => row.description = Some(described.description.to_string()),
        PriceChanged(changed) => {
            row.price_minor = Some(changed.to.minor.minor());
            row.currency = Some(changed.to.currency.to_string());
        }
        Discontinued(_) => row.status = "discontinued".to_owned(),
        Relisted(_) => row.status = "listed".to_owned(),
    }
    Ok(row)
}

fn in_stock(mut row: ProductRow, event: &inventory::Event) -> Result<ProductRow, FoldError> {
    use inventory::Event::{Adjusted, Declined, Depleted, RanLow, Received, Released, Reserved, Shipped, ThresholdSet};
    let (on_hand, reserved) = match event {
        Received(received) => (received.quantity.units(), 0),
        Adjusted(adjusted) => (adjusted.to.saturating_sub(row.on_hand), 0),
        Reserved(reserved) => (0, reserved.quantity.units()),
        Released(released) => (0, -released.quantity.units()),
        Shipped(shipped) => (-shipped.quantity.units(), -shipped.quantity.units()),
        ThresholdSet(set) => {
            row.threshold = Some(i64::from(set.units));
            (0, 0)
        }
        Declined(_) | Depleted(_) | RanLow(_) => (0, 0),
    };
    let sum = |count: i64, more: i64| count.checked_add(more).ok_or_else(|| overflow("a number of units"));
    row.on_hand = sum(row.on_hand, on_hand)?;
    row.reserved = sum(row.reserved, reserved)?;
    row.available = sum(row.on_hand, -row.reserved)?;
    row.low = row.threshold.is_some_and(|threshold| row.available <= threshold);
    Ok(row)
}
