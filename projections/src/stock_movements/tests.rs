use chrono::TimeDelta;
use domain::ids::Sku;
use domain::inventory::{Adjusted, Declined, Depleted, RanLow, Received, Released, Reserved, Shipped, ThresholdSet};
use proptest::prelude::*;

use super::*;
use crate::histories::any_history;
use crate::testing::{START, given, origin, rows};

const ORDER: Uuid = Uuid::from_u128(7);

fn sku() -> Sku {
    "TEA-1".parse().unwrap()
}

fn to(event: impl Into<Event>) -> ShopEvent {
    ShopEvent::Inventory(sku(), event.into())
}

fn units(units: i64) -> Quantity {
    Quantity::try_from(units).unwrap()
}

/// The movement of the event at `second`, which left so many on hand and available.
fn moved(movement_no: i32, second: i64, what: &str, quantity: i64, on_hand: i64, available: i64) -> MovementRow {
    let for_order = !["received", "adjusted"].contains(&what);
    MovementRow {
        sku: "TEA-1".to_owned(),
        movement_no,
        at: START + TimeDelta::seconds(second),
        what: what.to_owned(),
        quantity,
        on_hand,
        available,
        order_id: for_order.then_some(ORDER),
        reason: (what == "adjusted").then(|| "a count".to_owned()),
        actor: origin().actor,
        correlation_id: origin().correlation_id,
        causation_id: origin().causation_id,
    }
}

#[test]
fn every_movement_says_what_was_there_afterwards() {
    let order = OrderId(ORDER);
    given::<StockMovements>([
        to(Received { quantity: units(10) }),
        to(ThresholdSet { units: 4 }),
        to(Reserved { order, quantity: units(7) }),
        to(RanLow { available: 3, threshold: 4 }),
        to(Declined { order, quantity: units(5), available: 3 }),
        to(Released { order, quantity: units(7) }),
        to(Reserved { order, quantity: units(2) }),
        to(Shipped { order, quantity: units(2) }),
        to(Adjusted { from: 8, to: 5, reason: "a count".parse().unwrap() }),
        to(Depleted {}),
    ])
    .then(
        |tables| rows(&tables.movements),
        [
            moved(1, 0, "received", 10, 10, 10),
            moved(2, 2, "reserved", 7, 10, 3),
            moved(3, 4, "declined", 5, 10, 3),
            moved(4, 5, "released", 7, 10, 10),
            moved(5, 6, "reserved", 2, 10, 8),
            moved(6, 7, "shipped", 2, 8, 8),
            moved(7, 8, "adjusted", -3, 5, 5),
        ],
    )
    .then(|tables| rows(&tables.levels), [LevelRow { sku: "TEA-1".to_owned(), movements: 7, on_hand: 5, reserved: 0 }]);
}

#[test]
fn what_moves_nothing_is_no_movement() {
    given::<StockMovements>([to(ThresholdSet { units: 4 }), to(RanLow { available: 0, threshold: 4 })])
        .then(|tables| rows(&tables.movements), [])
        .then(|tables| rows(&tables.levels), []);
}

proptest! {
    /// The last movement of each stock leaves what its aggregate says that there is, and each follows from the one before.
    #[test]
    fn the_movements_lead_to_the_stock(history in any_history()) {
        let stocks = history.stocks.0.clone();
        given::<StockMovements>(history.events).then(
            |tables| {
                let mut wrong = Vec::new();
                for level in rows(&tables.levels) {
                    let stock = &stocks[&level.sku];
                    let of_it = rows(&tables.movements).into_iter().filter(|row| row.sku == level.sku);
                    let of_it: Vec<_> = of_it.collect();
                    let last = of_it.last().map(|row| (row.movement_no, row.on_hand, row.available));
                    if last != Some((level.movements, stock.on_hand, stock.available)) {
                        wrong.push(format!("{last:?} {level:?} {stock:?}"));
                    }
                    if of_it.iter().zip(1..).any(|(row, number)| row.movement_no != number) {
                        wrong.push(format!("there is a gap in {of_it:?}"));
                    }
                    if of_it.iter().any(|row| row.on_hand < 0 || row.available < 0 || row.available > row.on_hand) {
                        wrong.push(format!("there cannot be so many: {of_it:?}"));
                    }
                }
                wrong
            },
            [],
        );
    }
}
