//! When a sale counts, for every read model that sums sales: when its order is confirmed, or recorded as past. It is
//! taken back, for good, when the order is cancelled or rejected, or when all of its payment is given back.

use domain::ordering::{Event, SaleMade};
use domain::payments;
use uuid::Uuid;

use crate::shop_event::ShopEvent;

/// What an event means for a sum of sales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning<'a> {
    /// A sale that may count later.
    Open(&'a SaleMade),
    /// A sale that counts at once and for good: it was paid elsewhere, and is given back elsewhere.
    Sold(&'a SaleMade),
    /// Something became of the open sale.
    Became(Fate),
}

/// What becomes of an open sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its order was confirmed.
    Confirmed,
    /// Its order came to nothing.
    Undone,
    /// All of its payment was given back.
    Refunded,
}

/// The order that an event is about and what it means for a sum of sales; `None` when it means nothing.
pub(crate) fn meaning(event: &ShopEvent) -> Option<(Uuid, Meaning<'_>)> {
    match event {
        ShopEvent::Ordering(order, event) => {
            let meaning = match event {
                Event::Placed(placed) => Meaning::Open(&placed.0),
                Event::Recorded(recorded) => Meaning::Sold(&recorded.0),
                Event::Confirmed(_) => Meaning::Became(Fate::Confirmed),
                Event::Rejected(_) | Event::Cancelled(_) => Meaning::Became(Fate::Undone),
                Event::CancellationRequested(_)
                | Event::CancellationDeclined(_)
                | Event::Dispatched(_)
                | Event::Completed(_) => return None,
            };
            Some((order.0, meaning))
        }
        // Part of the money given back is a discount: the sale stands.
        ShopEvent::Payments(payment, payments::Event::Refunded(refunded)) if refunded.left_minor <= 0 => {
            Some((payment.order().0, Meaning::Became(Fate::Refunded)))
        }
        _ => None,
    }
}

/// How an open sale stands: whether it is in the sums, and whether it was taken back, after which it never counts
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) counted: bool,
    pub(crate) taken_back: bool,
}

impl Standing {
    /// How the sale stands after `fate`, and how often it is to be added to the sums for that: once more, once less, or
    /// not at all.
    pub(crate) fn after(self, fate: Fate) -> (Self, i64) {
        let taken_back = self.taken_back || fate != Fate::Confirmed;
        let after = Self { counted: !taken_back, taken_back };
        (after, i64::from(after.counted) - i64::from(self.counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_counts_once_and_is_taken_back_once() {
        let sums = |fates: &[Fate]| {
            let mut standing = Standing { counted: false, taken_back: false };
            let next = |fate: &Fate| {
                let (after, sign) = standing.after(*fate);
                standing = after;
                sign
            };
            fates.iter().map(next).collect::<Vec<_>>()
        };
        assert_eq!(sums(&[Fate::Confirmed, Fate::Confirmed]), [1, 0]);
        assert_eq!(sums(&[Fate::Confirmed, Fate::Refunded, Fate::Undone]), [1, -1, 0]);
        assert_eq!(sums(&[Fate::Confirmed, Fate::Undone, Fate::Refunded]), [1, -1, 0]);
        // What was given back before the order was confirmed is no sale.
        assert_eq!(sums(&[Fate::Refunded, Fate::Confirmed, Fate::Undone]), [0, 0, 0]);
    }
}
