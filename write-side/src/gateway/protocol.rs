//! What goes over the wire between the write side and a gateway, as `docs/gateway.md` has it.

use domain::ids::{CardToken, PaymentId};
use domain::money::Money;
use serde::{Deserialize, Serialize};

use super::FoundStatus;

/// The kinds of problem that the protocol knows, each the last part of a problem's type, `/problems/{kind}`.
pub(crate) mod kinds {
    /// 401: the secret is wrong or missing.
    pub(crate) const UNAUTHORISED: &str = "unauthorised";
    /// 400: the request is not of the protocol.
    pub(crate) const INVALID_REQUEST: &str = "invalid-request";
    /// 422: the key was used for another request.
    pub(crate) const KEY_REUSED: &str = "key-reused";
    /// 409: the same request is being worked on.
    pub(crate) const IN_FLIGHT: &str = "in-flight";
    /// 404: there is no such payment.
    pub(crate) const UNKNOWN_PAYMENT: &str = "unknown-payment";
    /// 402: the money is not held.
    pub(crate) const DECLINED: &str = "declined";
    /// 409: the payment was asked for before, under another key.
    pub(crate) const PAYMENT_EXISTS: &str = "payment-exists";
    /// 409: the payment was voided.
    pub(crate) const PAYMENT_VOIDED: &str = "payment-voided";
    /// 409: the payment was declined, so nothing is held.
    pub(crate) const NOT_HELD: &str = "not-held";
    /// 402: the money is not taken.
    pub(crate) const CAPTURE_REFUSED: &str = "capture-refused";
    /// 409: the money was taken before.
    pub(crate) const ALREADY_CAPTURED: &str = "already-captured";
    /// 422: more was to be taken than is held.
    pub(crate) const EXCEEDS_HELD: &str = "exceeds-held";
    /// 402: the money is not given back.
    pub(crate) const REFUND_REFUSED: &str = "refund-refused";
    /// 409: nothing was taken, so nothing can be given back.
    pub(crate) const NOT_CAPTURED: &str = "not-captured";
    /// 409: there is a refund of this number, asked for under another key.
    pub(crate) const REFUND_EXISTS: &str = "refund-exists";
    /// 422: more was to be given back than is left of what was taken.
    pub(crate) const EXCEEDS_CAPTURED: &str = "exceeds-captured";
    /// 422: the payment is in another currency.
    pub(crate) const OTHER_CURRENCY: &str = "other-currency";
}

/// The body of `POST /payments`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthoriseBody {
    pub(crate) id: PaymentId,
    pub(crate) amount: Money,
    pub(crate) card: CardToken,
}

/// The body of `POST /payments/{id}/capture`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptureBody {
    pub(crate) amount: Money,
}

/// The body of `POST /payments/{id}/void`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VoidBody {}

/// The body of `POST /payments/{id}/refunds`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundBody {
    pub(crate) number: u32,
    pub(crate) amount: Money,
}

/// A payment, as `GET /payments/{id}` and every request that was carried out answer it. A gateway may say more.
#[derive(Serialize, Deserialize)]
pub(crate) struct PaymentBody {
    pub(crate) id: PaymentId,
    pub(crate) status: FoundStatus,
    pub(crate) amount: Option<Money>,
    #[serde(default)]
    pub(crate) captured: Option<Money>,
    #[serde(default)]
    pub(crate) refunded: Option<Money>,
    #[serde(default)]
    pub(crate) reference: Option<String>,
    #[serde(default)]
    pub(crate) capture_reference: Option<String>,
    #[serde(default)]
    pub(crate) declined_reason: Option<String>,
    #[serde(default)]
    pub(crate) refunds: Vec<RefundLine>,
}

/// A refund in a [`PaymentBody`].
#[derive(Serialize, Deserialize)]
pub(crate) struct RefundLine {
    pub(crate) number: u32,
    pub(crate) amount: Money,
    pub(crate) status: RefundStatus,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// What became of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefundStatus {
    /// The money was given back.
    Done,
    /// The money was not given back.
    Refused,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_contract_lists_every_kind_of_problem() {
        let source = include_str!("protocol.rs");
        let kinds: BTreeSet<_> =
            source.lines().filter_map(|line| line.split_once(": &str = \"")?.1.split_once("\";")).collect();
        assert_eq!(kinds.len(), 17);
        let contract = include_str!("../../../docs/gateway.md");
        for (kind, _) in kinds {
            assert!(contract.contains(&format!("`{kind}`")), "{kind} is missing in docs/gateway.md");
        }
    }
}
