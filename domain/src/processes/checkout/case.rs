//! What the checkout remembers of an order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{CardToken, Line, Quantity, Sku};
use crate::inventory;
use crate::money::{Money, Price};
use crate::processes::checkout::Stuck;
use crate::shop_event::ShopEvent;
use crate::supervision::Timeout;

/// An order that is being seen through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// To which country the goods go.
    pub(super) country: Line,
    /// What is charged; `None` for an order that costs nothing.
    pub(super) charge: Option<Charge>,
    /// The goods; large, so it is never copied to take a step.
    pub(super) goods: Goods,
    /// How far it has come; small.
    pub(super) progress: Progress,
}

/// What an order costs, and who pays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) amount: Money,
    pub(super) card: CardToken,
}

/// Each SKU of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Goods(pub(super) BTreeMap<Sku, Good>);

/// A SKU of an order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Good {
    pub(super) quantity: Quantity,
    pub(super) reservation: Reservation,
}

/// How far the reservation of a SKU has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reservation {
    /// The stock has not answered.
    Asked,
    /// The goods are set aside.
    Held,
    /// Declined, released or shipped.
    Gone,
}

/// How far an order has come. Whatever was asked for counts as done or refused: either way, no event is seen before that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// How many SKUs the stock has not answered for.
    pub(super) asked: usize,
    /// How many SKUs are set aside.
    pub(super) held: usize,
    pub(super) payment: Payment,
    pub(super) order: Order,
    pub(super) shipment: Shipment,
    /// Why everything is being undone, if it is.
    pub(super) undo: Option<Line>,
}

/// How far the payment has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Payment {
    /// Nothing was asked for: the goods come first.
    Unasked,
    /// The gateway is to hold the money.
    Asked,
    /// The gateway holds it.
    Held,
    /// The gateway is to take it.
    Taking,
    /// The gateway could not take it, and still holds it.
    NotTaken,
    /// The gateway took it.
    Taken(Taken),
    /// The gateway is to let it go.
    Voiding,
    /// There is nothing to pay, nothing was held, or it was let go.
    Nothing,
}

/// What the gateway took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// What was not given back.
    pub(super) left: Money,
    /// What of that is about to be given back, in minor units, by the number of the refund.
    pub(super) refunds: BTreeMap<u32, i64>,
    /// Whether the last answer to a refund was that it failed, and none was asked for since.
    pub(super) failed: bool,
}

/// How far the order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// It waits for goods and money.
    Placed,
    /// It is to be confirmed.
    Confirming,
    /// It is confirmed.
    Confirmed,
    /// It is to be completed.
    Completing,
    /// It is completed, rejected or called off.
    Ended,
}

/// How far the shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Shipment {
    /// Nothing was asked for.
    Unasked,
    /// The warehouse is to send the goods.
    Asked,
    /// The warehouse is to keep the goods, if they are still there.
    Stopping,
    /// The goods stay in the house.
    Kept,
    /// The goods are on their way, or lost.
    Left,
    /// The goods arrived.
    Arrived,
}

impl Goods {
    /// What is set aside.
    pub(super) fn held(&self) -> impl Iterator<Item = &Sku> {
        self.0.iter().filter(|(_, good)| good.reservation == Reservation::Held).map(|(sku, _)| sku)
    }

    /// What an event makes of the reservation of a SKU: before and after. `None` when it changes nothing.
    pub(super) fn change(&self, sku: &Sku, event: &inventory::Event) -> Option<(Reservation, Reservation)> {
        let before = self.0.get(sku)?.reservation;
        let after = match (before, event) {
            (_, inventory::Event::Reserved(_)) => Reservation::Held,
            (Reservation::Asked, inventory::Event::Declined(_))
            | (Reservation::Held, inventory::Event::Released(_) | inventory::Event::Shipped(_)) => Reservation::Gone,
            (unchanged, _) => unchanged,
        };
        (before != after).then_some((before, after))
    }

    pub(super) fn follow(&mut self, event: &ShopEvent) {
        let ShopEvent::Inventory(sku, event) = event else { return };
        let Some((_, after)) = self.change(sku, event) else { return };
        if let Some(good) = self.0.get_mut(sku) {
            good.reservation = after;
        }
    }
}

impl Progress {
    pub(super) fn waits_for(&self) -> Option<Timeout> {
        match (&self.payment, self.shipment) {
            (Payment::Asked, _) => Some(Timeout::Payment),
            (_, Shipment::Asked) => Some(Timeout::Dispatch),
            _ => None,
        }
    }

    pub(super) fn stuck(&self) -> Option<Stuck> {
        match &self.payment {
            Payment::NotTaken if self.shipment.has_left() => Some(Stuck::Capture),
            Payment::Taken(taken) if self.undo.is_some() && taken.failed => taken.refundable().map(|_| Stuck::Refund),
            _ => None,
        }
    }

    /// Whether nothing is left to do: the order has ended, no goods are set aside, and nobody owes anybody anything.
    pub(super) fn is_over(&self) -> bool {
        let paid = match &self.payment {
            Payment::Nothing => true,
            Payment::Taken(taken) => self.undo.is_none() || taken.left.minor == Price::ZERO,
            _ => false,
        };
        let goods = self.asked == 0 && self.held == 0 && !self.shipment.is_open();
        self.order == Order::Ended && goods && paid
    }
}

impl Shipment {
    /// Whether it is not known yet if the goods leave the house.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Asked | Self::Stopping)
    }

    /// Whether the goods are out of the house.
    pub(super) fn has_left(self) -> bool {
        matches!(self, Self::Left | Self::Arrived)
    }
}

impl Taken {
    /// What is neither given back nor about to be, if anything.
    pub(super) fn refundable(&self) -> Option<Money> {
        let about_to_be = self.refunds.values().fold(0_i64, |sum, minor| sum.saturating_add(*minor));
        let minor = Price::try_from(self.left.minor.minor().saturating_sub(about_to_be)).ok()?;
        (minor > Price::ZERO).then_some(Money { minor, ..self.left })
    }
}
