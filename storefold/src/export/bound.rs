//! Where an export of events begins and ends.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use event_store::Position;

/// A place in the log, or a time at which events occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// A place in the log.
    Position(Position),
    /// A time that events name as their own.
    Time(DateTime<Utc>),
}

/// A text that is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither a position, such as 1234/1234, nor a time in RFC 3339, such as 2011-01-31T00:00:00Z")]
pub(crate) struct InvalidBound;

impl FromStr for Bound {
    type Err = InvalidBound;
    fn from_str(text: &str) -> Result<Self, InvalidBound> {
        let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| Self::Time(time.to_utc()));
        text.parse().ok().map(Self::Position).or_else(time).ok_or(InvalidBound)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Time(time) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
        }
    }
}

/// The events past one bound, up to and with another. So two exports of which one ends where the other begins have every
/// event once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Between {
    pub(super) from: Option<Bound>,
    pub(super) until: Option<Bound>,
}

impl Between {
    /// Where to read from and up to, in a log with this head. `None` when there is nothing to be read.
    ///
    /// # Errors
    /// When it begins past the end of the log, or ends before it begins.
    pub(super) fn stretch(self, head: Option<Position>) -> anyhow::Result<Option<Stretch>> {
        let is_turned = match (self.from, self.until) {
            (Some(Bound::Position(from)), Some(Bound::Position(until))) => until < from,
            (Some(Bound::Time(from)), Some(Bound::Time(until))) => until < from,
            _ => false,
        };
        if let (true, Some(from), Some(until)) = (is_turned, self.from, self.until) {
            anyhow::bail!("nothing lies between --from {from} and --until {until}: exchange them");
        }
        let after = match self.from {
            Some(Bound::Position(after)) => Some(after),
            _ => None,
        };
        ensure!(
            after <= head,
            "the log ends at {}, before --from {}: was it told of another log, or of this one before it was restored?",
            head.map_or("its beginning".to_owned(), |head| head.to_string()),
            after.map_or_else(String::new, |after| after.to_string()),
        );
        let end = match (self.until, head) {
            (Some(Bound::Position(until)), Some(head)) => Some(until.min(head)),
            (_, head) => head,
        };
        Ok(end.filter(|end| after < Some(*end)).map(|end| Stretch { after, end }))
    }

    /// Whether an event that occurred then passes. One that does not say when it occurred passes only if nobody asks.
    pub(super) fn has_time(self, occurred_at: impl FnOnce() -> Option<DateTime<Utc>>) -> bool {
        let time = |bound: Option<Bound>| match bound {
            Some(Bound::Time(time)) => Some(time),
            _ => None,
        };
        let (from, until) = (time(self.from), time(self.until));
        if from.is_none() && until.is_none() {
            return true;
        }
        let within = |at| from.is_none_or(|from| at > from) && until.is_none_or(|until| at <= until);
        occurred_at().is_some_and(within)
    }
}

/// A part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// It begins past this; `None` is the beginning of the log.
    pub(super) after: Option<Position>,
    /// It ends with this.
    pub(super) end: Position,
}

impl Stretch {
    /// Whether it has this place.
    pub(super) fn has(self, position: Position) -> bool {
        self.after < Some(position) && position <= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Option<Bound> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    fn between(from: &str, until: &str) -> Between {
        Between { from: bound(from), until: bound(until) }
    }

    fn time(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_bound_is_a_position_or_a_time() {
        assert_eq!("7/5".parse(), Ok(Bound::Position(Position { commit: 7, prepare: 5 })));
        assert_eq!("2011-01-31T01:00:00+01:00".parse(), Ok(Bound::Time(time("2011-01-31T00:00:00Z"))));
        for text in ["", "7", "7/", "yesterday", "2011-01-31", "2011-01-31T00:00:00"] {
            assert_eq!(text.parse::<Bound>(), Err(InvalidBound), "{text:?}");
        }
        for text in ["7/5", "2011-01-31T00:00:00.5Z"] {
            assert_eq!(bound(text).unwrap().to_string().replace("500Z", "5Z"), text);
        }
    }

    #[test]
    fn a_stretch_begins_past_its_first_bound_and_ends_with_its_last_or_with_the_log() {
        let (at, head) = (Position::at, Some(Position::at(9)));
        for (from, until, stretch) in [
            ("", "", Some((None, 9))),
            ("3/3", "", Some((Some(3), 9))),
            ("3/3", "5/5", Some((Some(3), 5))),
            ("", "12/12", Some((None, 9))),
            ("2011-01-31T00:00:00Z", "5/5", Some((None, 5))),
            // Nothing has happened since.
            ("9/9", "", None),
            ("3/3", "3/3", None),
        ] {
            let expected = stretch.map(|(after, end)| Stretch { after: after.map(at), end: at(end) });
            assert_eq!(between(from, until).stretch(head).unwrap(), expected, "{from} {until}");
        }
        assert_eq!(between("", "").stretch(None).unwrap(), None);
        let stretch = Stretch { after: Some(at(3)), end: at(5) };
        assert_eq!([3, 4, 5, 6].map(|number| stretch.has(at(number))), [false, true, true, false]);
    }

    #[test]
    fn bounds_that_cannot_be_are_told() {
        for (from, until, head, told) in [
            ("10/10", "", Some(9), "the log ends at 9/9"),
            ("0/0", "", None, "the log ends at its beginning"),
            ("5/5", "3/3", Some(9), "between --from 5/5 and --until 3/3"),
            ("2011-01-31T00:00:00Z", "2010-01-31T00:00:00Z", Some(9), "exchange them"),
        ] {
            let error = between(from, until).stretch(head.map(Position::at)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn times_are_those_that_the_events_name() {
        let (from, until) = ("2011-01-01T00:00:00Z", "2011-02-01T00:00:00Z");
        for (at, has) in
            [(from, false), ("2011-01-01T00:00:00.000001Z", true), (until, true), ("2012-01-01T00:00:00Z", false)]
        {
            assert_eq!(between(from, until).has_time(|| Some(time(at))), has, "{at}");
        }
        assert!(!between(from, "").has_time(|| None) && between("3/3", "").has_time(|| None));
        assert!(between("", until).has_time(|| Some(time(from))) && !between(from, "").has_time(|| Some(time(from))));
    }
}
