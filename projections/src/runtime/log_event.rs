//! Events of the log as folds take them: each is decoded once, however many read models fold it.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use event_store::{AllPage, Position, RecordedEvent};

use crate::shop_event::{self, Happened, Undecodable};

/// An event of the log. Clones share what it says, which whoever folds it first decodes.
#[derive(Debug, Clone)]
pub(super) struct LogEvent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    recorded: RecordedEvent,
    happened: OnceLock<Result<Happened, Arc<Undecodable>>>,
}

impl LogEvent {
    /// What it says. That it cannot be decoded is only an error when it is to be folded.
    pub(super) fn happened(&self) -> Result<&Happened, &Arc<Undecodable>> {
        let Inner { recorded, happened } = &*self.0;
        happened.get_or_init(|| shop_event::decode(recorded).map_err(Arc::new)).as_ref()
    }
}

impl From<RecordedEvent> for LogEvent {
    fn from(recorded: RecordedEvent) -> Self {
        Self(Arc::new(Inner { recorded, happened: OnceLock::new() }))
    }
}

impl Deref for LogEvent {
    type Target = RecordedEvent;

    fn deref(&self) -> &RecordedEvent {
        &self.0.recorded
    }
}

/// A page of the log; see [`AllPage`].
pub(super) struct LogPage {
    pub(super) events: Vec<LogEvent>,
    pub(super) read_to: Option<Position>,
    pub(super) at_head: bool,
}

impl From<AllPage> for LogPage {
    fn from(AllPage { events, read_to, at_head }: AllPage) -> Self {
        Self { events: events.into_iter().map(LogEvent::from).collect(), read_to, at_head }
    }
}
