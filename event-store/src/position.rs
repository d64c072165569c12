//! Where an event stands in the whole log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The place of an event in the whole log, as EventStoreDB tells it: where its transaction was committed and where it
/// was prepared. Positions order the whole log. An adapter that knows one number gives it twice.
///
/// As text it is `commit/prepare`, for example `1234/1234`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// Where the transaction was committed.
    pub commit: u64,
    /// Where the event was prepared.
    pub prepare: u64,
}

impl Position {
    /// A position in a log that counts its events: commit and prepare are the same.
    pub fn at(number: u64) -> Self {
        Self { commit: number, prepare: number }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.commit, self.prepare)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no position: write it as it was given, for example 1234/1234")]
pub struct InvalidPosition {
    /// What was given.
    pub text: String,
}

impl FromStr for Position {
    type Err = InvalidPosition;
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(commit, prepare)| Some(Self { commit: number(commit)?, prepare: number(prepare)? }))
            .ok_or_else(|| InvalidPosition { text: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;
    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}
