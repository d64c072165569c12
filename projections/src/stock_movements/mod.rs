//! What moved the stock of each SKU: when, by how much, for which order, who did it, and what was there afterwards.
//!
//! A movement is never changed once it is there. What the next one leads to follows from how the stock stands, which has a
//! row of its own.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::decider::Decider;
use domain::ids::{OrderId, Quantity};
use domain::inventory::{Event, Stock};
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, overflow};
use crate::rows::{Appended, Rows};
use crate::shop_event::{Happened, Origin, ShopEvent};

crate::row! {
    /// Something that moved the stock of a SKU, or was declined. Movements count from 1.
    pub struct MovementRow in "stock_movements", key { sku: String, movement_no: i32 } {
        at: DateTime<Utc>,
        what: String,
        quantity: i64,
        on_hand: i64,
        available: i64,
        order_id: Option<Uuid>,
        reason: Option<String>,
        actor: Option<String>,
        correlation_id: Option<Uuid>,
        causation_id: Option<Uuid>,
    }
}

crate::row! {
    /// How the stock of a SKU stands after its last movement.
    pub struct LevelRow in "stock_levels", key { sku: String } {
        movements: i32,
        on_hand: i64,
        reserved: i64,
    }
}

crate::tables! {
    /// The tables of `stock_movements`.
    pub struct Tables {
        /// A row a movement.
        movements: Appended<MovementRow>,
        /// A row a SKU.
        levels: Rows<LevelRow>,
    }
}

/// The read model `stock_movements`.
pub struct StockMovements;

impl ReadModel for StockMovements {
    const NAME: &'static str = "stock_movements";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Stock::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/stock_movements.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/stock_movements.keys.sql");
    type Tables = Tables;
    const ROWS_OF_A_KEY: Option<(&'static str, &'static str)> = Some(("stock_levels", "sku"));

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        let ShopEvent::Inventory(sku, event) = &happened.event else { return Ok(()) };
        let Some(movement) = Movement::of(event) else { return Ok(()) };
        let sku = sku.to_string();
        let level = tables.levels.get(&(sku.clone(),))?.cloned();
        let level = level.unwrap_or(LevelRow { sku: sku.clone(), movements: 0, on_hand: 0, reserved: 0 });
        let sum = |count: i64, more: i64| count.checked_add(more).ok_or_else(|| overflow("a number of units"));
        let on_hand = sum(level.on_hand, movement.on_hand)?;
        let reserved = sum(level.reserved, movement.reserved)?;
        let movement_no = level.movements.checked_add(1).ok_or_else(|| overflow("the movements of a stock"))?;
        let Origin { actor, correlation_id, causation_id } = happened.origin.clone();
        tables.movements.put(MovementRow {
            sku: sku.clone(),
            movement_no,
            at: happened.at,
            what: movement.what.to_owned(),
            quantity: movement.quantity,
            on_hand,
            available: sum(on_hand, -reserved)?,
            order_id: movement.order.map(|order| order.0),
            reason: movement.reason,
            actor,
            correlation_id,
            causation_id,
        });
        tables.levels.put(LevelRow { sku, movements: movement_no, on_hand, reserved });
        Ok(())
    }
}

/// What an event moves.
struct Movement {
    what: &'static str,
    /// How many units it is about.
    quantity: i64,
    /// How many more of them are on hand for it.
    on_hand: i64,
    /// How many more of them are reserved for it.
    reserved: i64,
    order: Option<OrderId>,
    reason: Option<String>,
}

impl Movement {
    /// `None` for what moves nothing and was not asked to: news of what others did, and how few are too few.
    fn of(event: &Event) -> Option<Self> {
        let of_order = |what, order: OrderId, quantity: Quantity, on_hand, reserved| {
            let units = quantity.units();
            let (on_hand, reserved) = (on_hand * units, reserved * units);
            Self { what, quantity: units, on_hand, reserved, order: Some(order), reason: None }
        };
        Some(match event {
            Event::Received(received) => {
                let units = received.quantity.units();
                Self { what: "received", quantity: units, on_hand: units, reserved: 0, order: None, reason: None }
            }
            Event::Adjusted(adjusted) => {
                let units = adjusted.to.saturating_sub(adjusted.from);
                let reason = Some(adjusted.reason.to_string());
                Self { what: "adjusted", quantity: units, on_hand: units, reserved: 0, order: None, reason }
            }
            Event::Reserved(reserved) => of_order("reserved", reserved.order, reserved.quantity, 0, 1),
            Event::Declined(declined) => of_order("declined", declined.order, declined.quantity, 0, 0),
            Event::Released(released) => of_order("released", released.order, released.quantity, 0, -1),
            Event::Shipped(shipped) => of_order("shipped", shipped.order, shipped.quantity, -1, -1),
            Event::Depleted(_) | Event::ThresholdSet(_) | Event::RanLow(_) => return None,
        })
    }
}
