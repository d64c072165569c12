//! What a voucher is, and what may be done with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::adding_an_aggregate::decider::Decider;
use crate::adding_an_aggregate::ids::{Line, OrderId, VoucherId};
use crate::adding_an_aggregate::money::{Currency, Money, Price};
use crate::adding_an_aggregate::vouchers::{Command, Event, Issue, Issued, Redeem, Redeemed, Void, Voided};

/// The aggregate of one gift voucher. Its stream is `voucher-{id}`.
pub struct Voucher;

/// A voucher.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct VoucherState {
    /// What it was worth when it was sold.
    pub value: Money,
    /// What can still be redeemed.
    pub left: Money,
    /// What was redeemed, by order.
    pub redeemed: BTreeMap<OrderId, Money>,
    /// Why it was taken out of use; `null` while it is in use.
    pub voided: Option<Line>,
}

/// Why a command to a voucher was refused.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Refusal {
    /// A voucher is worth something, and something is redeemed.
    #[error("the amount is zero")]
    NoAmount,
    /// A voucher is issued once.
    #[error("the voucher was issued already, for {value}")]
    AlreadyIssued {
        /// What it was worth when it was sold.
        value: Money,
    },
    /// Nothing is known of the voucher; it must be issued first.
    #[error("no voucher of this id was issued")]
    NotIssued,
    /// A voucher pays in the currency in which it was sold.
    #[error("the voucher pays in {voucher}, not in {asked}")]
    OtherCurrency {
        /// The voucher's currency.
        voucher: Currency,
        /// The currency that was asked for.
        asked: Currency,
    },
    /// A voucher pays once for an order, and another amount is another payment.
    #[error("the voucher has paid {amount} for order {order} already")]
    AlreadyRedeemed {
        /// Which order.
        order: OrderId,
        /// How much it has paid.
        amount: Money,
    },
    /// More is asked for than is left.
    #[error("{asked} were asked for, {left} are left")]
    NotEnough {
        /// What is left.
        left: Money,
        /// What was asked for.
        asked: Money,
    },
    /// The voucher was taken out of use.
    #[error("the voucher was taken out of use: {reason}")]
    IsVoid {
        /// Why.
        reason: Line,
    },
}

impl Decider for Voucher {
    const CATEGORY: &'static str = "voucher";

    type Id = VoucherId;
    /// `None` until the voucher is issued.
    type State = Option<VoucherState>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Self::State {
        None
    }

    fn evolve(state: Self::State, event: &Event) -> Self::State {
        match (state, event) {
            (_, Event::Issued(Issued { value })) => {
                Some(VoucherState { value: *value, left: *value, redeemed: BTreeMap::new(), voided: None })
            }
            // Without a voucher there is nothing that the other events could change.
            (None, _) => None,
            (Some(mut voucher), Event::Redeemed(Redeemed { order, amount })) => {
                voucher.left.minor = minus(voucher.left.minor, amount.minor);
                voucher.redeemed.insert(*order, *amount);
                Some(voucher)
            }
            (Some(mut voucher), Event::Voided(Voided { reason, .. })) => {
                voucher.left.minor = Price::ZERO;
                voucher.voided = Some(reason.clone());
                Some(voucher)
            }
        }
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, Refusal> {
        let Some(voucher) = state else {
            return match command {
                Command::Issue(Issue { value }) => Ok(vec![Issued { value: something(value)? }.into()]),
                _ => Err(Refusal::NotIssued),
            };
        };
        match command {
            Command::Issue(_) => Err(Refusal::AlreadyIssued { value: voucher.value }),
            Command::Redeem(Redeem { order, amount }) => voucher.redeem(order, something(amount)?),
            // What is out of use already needs no news of it.
            Command::Void(Void { .. }) if voucher.voided.is_some() => Ok(vec![]),
            Command::Void(Void { reason }) => Ok(vec![Voided { left: voucher.left, reason }.into()]),
        }
    }

    fn opens(command: &Command) -> bool {
        matches!(command, Command::Issue(_))
    }
}

impl VoucherState {
    fn redeem(&self, order: OrderId, amount: Money) -> Result<Vec<Event>, Refusal> {
        match self.redeemed.get(&order) {
            // The same payment, told again.
            Some(paid) if *paid == amount => return Ok(vec![]),
            Some(&amount) => return Err(Refusal::AlreadyRedeemed { order, amount }),
            None => {}
        }
        if let Some(reason) = &self.voided {
            return Err(Refusal::IsVoid { reason: reason.clone() });
        }
        let left = self.left;
        if amount.currency != left.currency {
            return Err(Refusal::OtherCurrency { voucher: left.currency, asked: amount.currency });
        }
        if amount.minor > left.minor {
            return Err(Refusal::NotEnough { left, asked: amount });
        }
        Ok(vec![Redeemed { order, amount }.into()])
    }
}

/// The amount, unless it is zero.
fn something(amount: Money) -> Result<Money, Refusal> {
    if amount.minor == Price::ZERO { Err(Refusal::NoAmount) } else { Ok(amount) }
}

/// What is left of `from`. No decision takes more than there is. Should such an event be on file, a fold still does not
/// fail: nothing is left then.
fn minus(from: Price, amount: Price) -> Price {
    from.minor().checked_sub(amount.minor()).and_then(|left| left.try_into().ok()).unwrap_or(Price::ZERO)
}
