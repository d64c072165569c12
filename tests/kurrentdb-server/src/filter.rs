//! Which records of the whole log a reader wants: the server looks at their streams' names or at their types.

use regex::Regex;

use crate::log::Record;
use crate::protocol::event_store::client::streams::read_req::options::FilterOptions;
use crate::protocol::event_store::client::streams::read_req::options::filter_options::{self, Expression};

/// What a record must be like to pass.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    on: Property,
    pattern: Pattern,
}

#[derive(Debug, Clone, Copy)]
enum Property {
    StreamName,
    EventType,
}

#[derive(Debug, Clone)]
enum Pattern {
    Prefixes(Vec<String>),
    Regex(Regex),
}

/// Why a filter is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidFilter {
    #[error("a filter looks at the names of streams or at the types of events")]
    OnNothing,
    /// The server takes what .NET takes, which is more.
    #[error("the regular expression is not one that this server knows")]
    Regex(#[from] regex::Error),
}

impl Filter {
    /// Reads a filter. When it has a regular expression, its prefixes do not count.
    pub(crate) fn parse(options: &FilterOptions) -> Result<Self, InvalidFilter> {
        let (on, expression) = match &options.filter {
            Some(filter_options::Filter::StreamIdentifier(expression)) => (Property::StreamName, expression),
            Some(filter_options::Filter::EventType(expression)) => (Property::EventType, expression),
            None => return Err(InvalidFilter::OnNothing),
        };
        let Expression { regex, prefix } = expression;
        let pattern =
            if regex.is_empty() { Pattern::Prefixes(prefix.clone()) } else { Pattern::Regex(Regex::new(regex)?) };
        Ok(Self { on, pattern })
    }

    pub(crate) fn passes(&self, record: &Record) -> bool {
        let text = match self.on {
            Property::StreamName => &*record.stream,
            Property::EventType => &record.event.event_type,
        };
        match &self.pattern {
            Pattern::Prefixes(prefixes) => prefixes.iter().any(|prefix| text.starts_with(prefix)),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}
