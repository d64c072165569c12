//! Which of the types that an answer may have the client likes best.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::problem::Problem;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    GraphQl,
    Json,
    Html,
    /// A stream of answers.
    Events,
}

impl Media {
    /// The offer that the client likes best; of equals the first.
    pub(super) fn negotiate(headers: &HeaderMap, offers: &[Self]) -> Result<Self, Problem> {
        let mut accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
        if accept.peek().is_none() {
            return Ok(Self::GraphQl);
        }
        let ranges: Vec<Range> = accept.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        let liked = offers.iter().rev().map(|&offer| (offer.liking(&ranges), offer));
        match liked.max_by_key(|(liking, _)| *liking) {
            Some((1.., offer)) => Ok(offer),
            _ => Err(Problem::new(
                406,
                "not-acceptable",
                "Accept application/graphql-response+json, application/json, or text/event-stream.",
            )),
        }
    }

    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::GraphQl => ("application", "graphql-response+json"),
            Self::Json => ("application", "json"),
            Self::Html => ("text", "html"),
            Self::Events => ("text", "event-stream"),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphQl => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }

    /// In thousandths, by the range that says most precisely what it means.
    fn liking(self, ranges: &[Range<'_>]) -> u16 {
        let (group, name) = self.name();
        let precision = |range: &Range| match (range.group, range.name) {
            ("*", "*") => Some(0),
            (its_group, "*") if its_group.eq_ignore_ascii_case(group) => Some(1),
            (its_group, its_name) if its_group.eq_ignore_ascii_case(group) && its_name.eq_ignore_ascii_case(name) => {
                Some(2)
            }
            _ => None,
        };
        let matching = ranges.iter().filter_map(|range| Some((precision(range)?, range.quality)));
        matching.max().map_or(0, |(_, quality)| quality)
    }
}

/// One of the media types that a client accepts.
#[derive(Debug)]
struct Range<'a> {
    group: &'a str,
    name: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (group, name) = parts.next()?.split_once('/')?;
        let quality = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("q"));
        let quality = quality.map_or(Some(1.0), |(_, value)| value.parse::<f32>().ok()).unwrap_or(0.0);
        Some(Self { group, name, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u16 })
    }
}
