//! Events in the order of the log, read in pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use domain::schemas;
use event_store::{Direction, EventStore, Filter, Metadata, Position, RecordedEvent, StreamName};
use indicatif::ProgressBar;

use super::bound::{Between, Stretch};
use super::sink::Sink;
use crate::cli;

/// How many events are read at a time. A page ends earlier when it is heavy.
const PAGE: usize = 5_000;
/// How often the log is looked at again that does not show yet what it has said to have.
const LOOKS: u32 = 50;

/// Which events are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    filter: Filter,
    stream: Option<StreamName>,
    between: Between,
}

impl Selection {
    /// The events that are asked for.
    ///
    /// # Errors
    /// When a category, a type or a stream is named that the shop has no events of.
    pub(super) fn of(wanted: &cli::Export) -> anyhow::Result<Self> {
        let categories = schemas::CONTEXTS.iter().map(|context| context.category).collect();
        check("category", &wanted.categories, &categories)?;
        let lock = schemas::events_lock();
        let types = lock.as_object().into_iter().flat_map(|lock| lock.keys()).map(String::as_str).collect();
        check("type", &wanted.types, &types)?;
        Ok(Self {
            filter: Filter { categories: wanted.categories.clone(), types: wanted.types.clone() },
            stream: wanted.stream.as_ref().map(StreamName::new).transpose()?,
            between: Between { from: wanted.from, until: wanted.until },
        })
    }

    /// The part of the log that it is in; `None` when there is nothing to be read.
    ///
    /// # Errors
    /// When there is no such part.
    pub(super) fn stretch(&self, head: Option<Position>) -> anyhow::Result<Option<Stretch>> {
        self.between.stretch(head)
    }

    fn has(&self, event: &RecordedEvent) -> bool {
        let occurred_at = || Metadata::from_bytes(&event.metadata).ok().map(|metadata| metadata.occurred_at);
        self.filter.passes(&event.stream, &event.event_type) && self.between.has_time(occurred_at)
    }
}

/// What the shop never has is a slip, and not an export of nothing.
fn check(what: &str, wanted: &[String], known: &BTreeSet<&str>) -> anyhow::Result<()> {
    let unknown = wanted.iter().find(|wanted| !known.contains(wanted.as_str()));
    let known = || known.iter().copied().collect::<Vec<_>>().join(", ");
    match unknown {
        Some(unknown) => anyhow::bail!("there are no events of the {what} {unknown:?}; there are {}", known()),
        None => Ok(()),
    }
}

/// Exports the events of a stretch that are asked for. Answers how many.
///
/// # Errors
/// When the log cannot be read, or the export not be written.
pub(super) async fn export(
    log: &Arc<dyn EventStore>,
    selection: &Selection,
    stretch: Stretch,
    sink: &mut Sink,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut reading = Reading::of(log.clone(), selection, stretch);
    let mut exported = 0;
    while let Some(page) = reading.next().await? {
        for event in page.iter().filter(|event| stretch.has(event.position) && selection.has(event)) {
            sink.event(event)?;
            exported += 1;
        }
        bar.set_message(format!("{exported} exported"));
        let seen = log.events_between(stretch.after, reading.read_to.map(|read_to| read_to.min(stretch.end)));
        bar.set_position(seen.filter(|_| selection.stream.is_none()).unwrap_or(exported));
    }
    Ok(exported)
}

/// How many events have to be looked at, where the log can tell.
pub(super) fn to_look_at(log: &dyn EventStore, selection: &Selection, stretch: Stretch) -> Option<u64> {
    log.events_between(stretch.after, Some(stretch.end)).filter(|_| selection.stream.is_none())
}

/// Reads a stretch of the log, or a stream, to its end.
struct Reading<'a> {
    log: Arc<dyn EventStore>,
    selection: &'a Selection,
    end: Position,
    /// How far the log was read.
    read_to: Option<Position>,
    /// The next revision of the stream, if only one is read; `None` at its end.
    revision: Option<u64>,
    looks: u32,
}

impl<'a> Reading<'a> {
    fn of(log: Arc<dyn EventStore>, selection: &'a Selection, stretch: Stretch) -> Self {
        Self { log, selection, end: stretch.end, read_to: stretch.after, revision: Some(0), looks: 0 }
    }

    /// The next page; it may have events of past the end. `None` when there are no more.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<RecordedEvent>>> {
        match &self.selection.stream {
            Some(stream) => self.next_of(stream).await,
            None => self.next_of_all().await,
        }
    }

    async fn next_of_all(&mut self) -> anyhow::Result<Option<Vec<RecordedEvent>>> {
        if self.read_to >= Some(self.end) {
            return Ok(None);
        }
        let page = self.log.read_all(self.read_to, &self.selection.filter, PAGE).await.context(UNREAD)?;
        self.read_to = page.read_to.or(self.read_to);
        if page.at_head && self.read_to < Some(self.end) {
            // A node of a cluster may lag behind the one that was asked for the end.
            self.looks += 1;
            ensure!(self.looks < LOOKS, "the log ended at {} and does not show it any more; try again", self.end);
            self.log.changed(self.read_to).await;
        }
        Ok(Some(page.events))
    }

    async fn next_of(&mut self, stream: &StreamName) -> anyhow::Result<Option<Vec<RecordedEvent>>> {
        let Some(from) = self.revision else { return Ok(None) };
        let page = self.log.read_stream(stream, Some(from), Direction::Forwards, PAGE).await.context(UNREAD)?;
        ensure!(from > 0 || !page.events.is_empty(), "there is no event in the stream {stream}");
        let is_over = page.end || page.events.last().is_none_or(|last| last.position >= self.end);
        self.revision = page.events.last().filter(|_| !is_over).map(|last| last.revision + 1);
        Ok(Some(page.events))
    }
}

const UNREAD: &str = "the log cannot be read on; a --from position has to be one that this log has given";
