//! What the stock of a SKU is, and what may be done with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decider::{Decider, Snapshots};
use crate::ids::{OrderId, Quantity, Sku};
use crate::inventory::{
    Adjust, Adjusted, Command, Declined, Depleted, Event, RanLow, Receive, Received, Release, Released, Reserve,
    Reserved, SetThreshold, Ship, Shipped, ThresholdSet,
};

/// The aggregate of the stock of one SKU. Its stream is `stock-{sku}`.
pub struct Stock;

impl Stock {
    /// The most units that may be on hand: what a count can state, so that the books can always be put right.
    pub const MAX_ON_HAND: i64 = u32::MAX as i64;
}

/// The stock of one SKU, in units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StockState {
    /// Units in the house, reserved ones included.
    pub on_hand: i64,
    /// Units set aside for orders: the sum of `reservations`.
    pub reserved: i64,
    /// Units that can still be reserved: `on_hand` minus `reserved`.
    pub available: i64,
    /// The open reservations: units by order.
    pub reservations: BTreeMap<OrderId, Quantity>,
    /// At so many available units or fewer the stock is low; `null` while nobody has said.
    pub threshold: Option<u32>,
}

/// Why a command to the stock of a SKU was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// More units would be on hand than [`Stock::MAX_ON_HAND`].
    #[error("{quantity} units on top of {on_hand} are more than the {max} that may be on hand")]
    TooManyOnHand {
        /// Units on hand.
        on_hand: i64,
        /// Units that were to come in.
        quantity: Quantity,
        /// The most that may be on hand.
        max: i64,
    },
    /// What is reserved is in the house; a count below it leaves orders without their goods. Release some first.
    #[error("{counted} units were counted, but {reserved} are reserved; release reservations first")]
    CountBelowReserved {
        /// Units counted.
        counted: u32,
        /// Units reserved.
        reserved: i64,
    },
    /// An order holds one reservation of a SKU at a time.
    #[error("order {order} holds a reservation of {quantity} already")]
    AlreadyReserved {
        /// Whose reservation.
        order: OrderId,
        /// How many units it holds.
        quantity: Quantity,
    },
    /// There is nothing to release or to ship: never reserved, declined, or settled already.
    #[error("order {order} holds no open reservation")]
    NoReservation {
        /// The order that was named.
        order: OrderId,
    },
}

impl Decider for Stock {
    const CATEGORY: &'static str = "stock";

    type Id = Sku;
    type State = StockState;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    /// A SKU that nobody has received is out of stock: that can be asked for and declined like any other.
    fn initial() -> StockState {
        StockState { on_hand: 0, reserved: 0, available: 0, reservations: BTreeMap::new(), threshold: None }
    }

    fn evolve(mut state: StockState, event: &Event) -> StockState {
        match event {
            Event::Received(Received { quantity }) => state.on_hand = state.on_hand.saturating_add(quantity.units()),
            Event::Adjusted(Adjusted { to, .. }) => state.on_hand = *to,
            Event::Reserved(Reserved { order, quantity }) => state.reserve(*order, *quantity),
            Event::Released(Released { order, .. }) => state.settle(*order),
            Event::Shipped(Shipped { order, quantity }) => {
                state.settle(*order);
                state.on_hand = state.on_hand.saturating_sub(quantity.units());
            }
            Event::ThresholdSet(ThresholdSet { units }) => state.threshold = Some(*units),
            Event::Declined(_) | Event::Depleted(_) | Event::RanLow(_) => {}
        }
        state.available = state.on_hand.saturating_sub(state.reserved);
        state
    }

    fn snapshots() -> Option<Snapshots<StockState>> {
        Some(Snapshots::json(1))
    }

    fn decide(state: &StockState, command: Command) -> Result<Vec<Event>, Refusal> {
        let mut events = state.decide(command)?;
        // Whatever made it low, it is told in one place.
        if state.threshold.is_some() || matches!(events[..], [Event::ThresholdSet(_)]) {
            let after = events.iter().fold(state.clone(), Self::evolve);
            if let (None, Some(threshold)) = (state.low_at(), after.low_at()) {
                events.push(RanLow { available: after.available, threshold }.into());
            }
        }
        Ok(events)
    }
}

impl StockState {
    /// The threshold, when what is available is no more than that.
    fn low_at(&self) -> Option<u32> {
        self.threshold.filter(|threshold| self.available <= i64::from(*threshold))
    }

    fn decide(&self, command: Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Receive(Receive { quantity }) => match self.on_hand.checked_add(quantity.units()) {
                Some(on_hand) if on_hand <= Stock::MAX_ON_HAND => Ok(vec![Received { quantity }.into()]),
                _ => Err(Refusal::TooManyOnHand { on_hand: self.on_hand, quantity, max: Stock::MAX_ON_HAND }),
            },
            Command::Adjust(Adjust { counted, reason }) => {
                let (from, to) = (self.on_hand, i64::from(counted));
                if to < self.reserved {
                    return Err(Refusal::CountBelowReserved { counted, reserved: self.reserved });
                }
                // A count that confirms the books is no news.
                Ok(if from == to { vec![] } else { and_depleted(to, Adjusted { from, to, reason }) })
            }
            Command::Reserve(Reserve { order, quantity }) => {
                if let Some(&quantity) = self.reservations.get(&order) {
                    return Err(Refusal::AlreadyReserved { order, quantity });
                }
                let available = self.available;
                if quantity.units() <= available {
                    Ok(vec![Reserved { order, quantity }.into()])
                } else {
                    Ok(vec![Declined { order, quantity, available }.into()])
                }
            }
            Command::Release(Release { order }) => {
                let quantity = self.reservation(order)?;
                Ok(vec![Released { order, quantity }.into()])
            }
            Command::Ship(Ship { order }) => {
                let quantity = self.reservation(order)?;
                Ok(and_depleted(self.on_hand.saturating_sub(quantity.units()), Shipped { order, quantity }))
            }
            Command::SetThreshold(SetThreshold { units }) if self.threshold == Some(units) => Ok(vec![]),
            Command::SetThreshold(SetThreshold { units }) => Ok(vec![ThresholdSet { units }.into()]),
        }
    }

    fn reservation(&self, order: OrderId) -> Result<Quantity, Refusal> {
        self.reservations.get(&order).copied().ok_or(Refusal::NoReservation { order })
    }

    // `reserved` follows what enters and leaves the map, not what the events say of it: whatever comes in, it is the sum
    // of the reservations. That sum stays in range, as no machine holds enough of them; what the other figures do with
    // events that no decision made is to stop at the end of the range, for a fold never fails.

    fn reserve(&mut self, order: OrderId, quantity: Quantity) {
        self.settle(order);
        self.reservations.insert(order, quantity);
        self.reserved += quantity.units();
    }

    fn settle(&mut self, order: OrderId) {
        self.reserved -= self.reservations.remove(&order).map_or(0, Quantity::units);
    }
}

/// The event that leaves `on_hand` units, followed by the news that it took the last one.
fn and_depleted(on_hand: i64, event: impl Into<Event>) -> Vec<Event> {
    let depleted = (on_hand == 0).then(|| Depleted {}.into());
    std::iter::once(event.into()).chain(depleted).collect()
}
