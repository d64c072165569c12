//! When a sale counts, for every read model that sums sales: when its order is confirmed, or recorded as past; and it is
//! taken back when the order is cancelled or rejected.

use domain::ordering::{Event, SaleMade};

/// What an event of an order means for a sum of sales.
pub(crate) enum Meaning<'a> {
    /// A sale that may count later.
    Open(&'a SaleMade),
    /// A sale that counts at once and for good.
    Sold(&'a SaleMade),
    /// The open sale counts from here on, or does not.
    Counts(bool),
    /// Nothing.
    Nothing,
}

/// What an event of an order means for a sum of sales.
pub(crate) fn meaning(event: &Event) -> Meaning<'_> {
    match event {
        Event::Placed(placed) => Meaning::Open(&placed.0),
        Event::Recorded(recorded) => Meaning::Sold(&recorded.0),
        Event::Confirmed(_) => Meaning::Counts(true),
        Event::Rejected(_) | Event::Cancelled(_) => Meaning::Counts(false),
        Event::Completed(_) => Meaning::Nothing,
    }
}

/// How often an open sale is to be added to a sum in which it stands or not: once more, once less, or not at all.
pub(crate) fn change(counted: bool, counts: bool) -> i64 {
    i64::from(counts) - i64::from(counted)
}
