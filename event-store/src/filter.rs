//! Which events of the whole log a reader wants.

use crate::{EventType, StreamName};

/// Which events of the whole log a reader wants: those that pass both lists. An empty list lets everything pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The categories of streams.
    pub categories: Vec<String>,
    /// The types of events.
    pub types: Vec<String>,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// The streams of these categories.
    pub fn categories<I: IntoIterator<Item: Into<String>>>(categories: I) -> Self {
        Self { categories: categories.into_iter().map(Into::into).collect(), types: Vec::new() }
    }

    /// Whether an event of this stream and type passes.
    pub fn passes(&self, stream: &StreamName, event_type: &EventType) -> bool {
        let listed = |list: &[String], name: &str| list.is_empty() || list.iter().any(|entry| entry == name);
        listed(&self.categories, stream.category()) && listed(&self.types, event_type.as_str())
    }
}
