//! The cards of the sandbox: each token behaves in its own way.

use domain::ids::CardToken;

/// How a card behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// `tok_approved`: everything goes well.
    Approved,
    /// `tok_declined`: there is no money on it.
    Declined,
    /// `tok_slow`: everything goes well, and every answer is late; one that is given again is not.
    Slow,
    /// `tok_lost_answer`: everything is done, and the connection is cut instead of an answer, the first time that each
    /// request is sent.
    LostAnswer,
    /// `tok_error_then_fine`: nothing is done but an error answered, the first time that each request is sent.
    ErrorThenFine,
    /// `tok_unavailable`: the gateway is too busy to authorise it, always.
    Unavailable,
    /// `tok_capture_refused`: the money is held, but the first attempt to take it is refused.
    CaptureRefused,
    /// `tok_capture_lost_answer`: as [`Self::LostAnswer`], but for captures only.
    CaptureLostAnswer,
    /// `tok_refund_refused`: the money is held and taken, but never given back.
    RefundRefused,
    /// Any other token: the bank does not know the card, and declines it.
    Unknown,
}

impl Card {
    /// Every card that has a token of its own.
    pub const ALL: [Self; 9] = [
        Self::Approved,
        Self::Declined,
        Self::Slow,
        Self::LostAnswer,
        Self::ErrorThenFine,
        Self::Unavailable,
        Self::CaptureRefused,
        Self::CaptureLostAnswer,
        Self::RefundRefused,
    ];

    /// The card's token; `None` for one that the bank does not know.
    pub fn token(self) -> Option<&'static str> {
        Some(match self {
            Self::Approved => "tok_approved",
            Self::Declined => "tok_declined",
            Self::Slow => "tok_slow",
            Self::LostAnswer => "tok_lost_answer",
            Self::ErrorThenFine => "tok_error_then_fine",
            Self::Unavailable => "tok_unavailable",
            Self::CaptureRefused => "tok_capture_refused",
            Self::CaptureLostAnswer => "tok_capture_lost_answer",
            Self::RefundRefused => "tok_refund_refused",
            Self::Unknown => return None,
        })
    }

    /// The card of a token.
    pub(super) fn of(token: &str) -> Self {
        Self::ALL.into_iter().find(|card| card.token() == Some(token)).unwrap_or(Self::Unknown)
    }

    /// Why the bank holds nothing on it; `None` when it does.
    pub(super) fn declined(self) -> Option<&'static str> {
        match self {
            Self::Declined => Some("insufficient funds"),
            Self::Unknown => Some("unknown card"),
            _ => None,
        }
    }
}

impl From<&CardToken> for Card {
    fn from(token: &CardToken) -> Self {
        Self::of(token.as_str())
    }
}
