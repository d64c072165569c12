//! `storefold copy-log`: every event of one log into another, in the order of the whole log.
//!
//! The copy has the same streams, revisions, ids, types, data and metadata in the same order. What it cannot have is the
//! positions, which are places in one log, and the times at which the first log took the events; nothing in the shop
//! rests on the latter.
//!
//! What the target has already is compared, not written, so that a copy that was interrupted goes on where it was. At the end
//! the target is read from its beginning, and has to have the hash of the source.

mod places;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use event_store::{
    Append, AppendError, EventStore, Expected, Filter, MAX_APPEND_BYTES, NewEvent, Position, ReadError, RecordedEvent,
};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::config::{Config, EventStore as Url};
use crate::logs::{self, Database};
use crate::{cli, print};
use places::Places;

/// How many events are read at a time.
const PAGE: usize = 1_000;
/// The most events in one append to a log in which each append is acknowledged before the next. One append has events of one
/// stream.
const MAX_EVENTS: usize = 500;
/// How often a target is read again that does not show yet what it has acknowledged.
const LOOKS: u32 = 50;

/// What was copied.
#[derive(Debug, serde::Serialize)]
struct Summary {
    /// How many events both logs have.
    events: u64,
    /// How many of them were not in the target before.
    copied: u64,
    /// The SHA-256 of both logs; see [`Fingerprint`].
    sha256: String,
    /// How many places of read models and processes were moved; `None` when that was not asked for.
    places_moved: Option<u64>,
}

/// Copies a log, or goes on with it.
///
/// # Errors
/// When one of the logs fails, the target has something else, or the read models and processes cannot be moved. What was
/// copied stays, and the next run goes on from there.
pub(crate) async fn run(config: &Config, wanted: &cli::CopyLog, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let (from, to) = (Url::at(Some(wanted.from.as_str().into()))?, Url::at(Some(wanted.to.as_str().into()))?);
    ensure!(wanted.from != wanted.to, "the two logs are one and the same");
    let beside = [&from, &to].iter().any(|log| matches!(log, Url::Postgres(None)));
    let database = if beside || wanted.move_places { Some(Database::open(config).await?) } else { None };
    let copied = copy(wanted, database.as_ref(), [&from, &to], stop).await;
    let closed = match database {
        Some(database) => database.close().await,
        None => Ok(()),
    };
    let summary = copied.and_then(|summary| closed.map(|()| summary))?;
    if wanted.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    let Summary { events, copied, sha256, places_moved } = summary;
    let mut text = format!("{copied} events copied; both logs have {events}\nSHA-256 of both: {sha256}\n");
    if let Some(places) = places_moved {
        text.push_str(&format!("{places} places of read models and processes moved: they go on from the copy\n"));
    }
    print(&text)
}

async fn copy(
    wanted: &cli::CopyLog,
    database: Option<&Database>,
    logs: [&Url; 2],
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<Summary> {
    let options = database.map(|database| &database.options);
    let [from, to] = [logs::open(logs[0], options).await?, logs::open(logs[1], options).await?];
    let mut places = match options.filter(|_| wanted.move_places) {
        Some(options) => Some(Places::of(options, &*from, &*to).await?),
        None => None,
    };
    let bar = bar(from.events_between(None, from.head().await?), wanted.no_progress);
    let copying = Copying { from, to: to.clone(), bar: bar.clone() };
    let copied = tokio::select! {
        copied = copying.run(places.as_mut()) => copied,
        _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped; run the same again to go on")),
    };
    bar.finish_and_clear();
    let mut summary = copied?;
    if let Some(places) = places {
        summary.places_moved = Some(places.go_on_from(&*to).await?);
    }
    Ok(summary)
}

/// A copy under way.
struct Copying {
    from: Arc<dyn EventStore>,
    to: Arc<dyn EventStore>,
    bar: ProgressBar,
}

impl Copying {
    async fn run(&self, mut places: Option<&mut Places>) -> anyhow::Result<Summary> {
        let mut fingerprint = Fingerprint::default();
        let mut pass = |event: &RecordedEvent| {
            fingerprint.add(event);
            if let Some(places) = places.as_deref_mut() {
                places.pass(event.position);
            }
            self.bar.set_position(fingerprint.events);
        };
        let mut source = Reading::of(&self.from);
        self.bar.set_message("comparing");
        let mut next = self.first_missing(&mut source, &mut pass).await?;
        let mut copied = 0;
        let mut last = None;
        self.bar.set_message("copying");
        while let Some(first) = next {
            let events = source.further(first);
            copied += events.len() as u64;
            events.iter().for_each(&mut pass);
            let (appended, read) = tokio::join!(self.to.append_in_order(appends(events)), source.next());
            last = appended.map_err(not_appended)?.last().map(|appended| appended.position);
            next = read.context("the source cannot be read")?;
        }
        if let Some(places) = places.as_deref_mut() {
            places.pass_end()?;
        }
        let of = self.verify(&fingerprint, last, places).await?;
        ensure!(
            of == fingerprint,
            "the copy is not like the source: {} events with the SHA-256 {}, not {} with {}; has anybody else written to it?",
            of.events,
            of.hex(),
            fingerprint.events,
            fingerprint.hex()
        );
        Ok(Summary { events: of.events, copied, sha256: of.hex(), places_moved: None })
    }

    /// Passes over what the target has already, and answers with the first event that it has not.
    async fn first_missing(
        &self,
        source: &mut Reading,
        pass: &mut impl FnMut(&RecordedEvent),
    ) -> anyhow::Result<Option<RecordedEvent>> {
        let mut target = Reading::of(&self.to);
        loop {
            let (wanted, there) = tokio::join!(source.next(), target.next());
            let (wanted, there) =
                (wanted.context("the source cannot be read")?, there.context("the target cannot be read")?);
            match (wanted, there) {
                (Some(wanted), Some(there)) if is_copy(&wanted, &there) => pass(&wanted),
                (Some(wanted), Some(there)) => bail!(
                    "the target is no copy of the source: it has {}@{} where the source has {}@{}. Nothing was written; copy \
                     into an empty log",
                    there.stream,
                    there.revision,
                    wanted.stream,
                    wanted.revision
                ),
                (None, Some(there)) => bail!(
                    "the target has more events than the source, from {}@{} at {} on. Nothing was written",
                    there.stream,
                    there.revision,
                    there.position
                ),
                (next, None) => return Ok(next),
            }
        }
    }

    /// Reads the target from its beginning, at least up to where it has acknowledged events.
    async fn verify(
        &self,
        source: &Fingerprint,
        last: Option<Position>,
        mut places: Option<&mut Places>,
    ) -> anyhow::Result<Fingerprint> {
        self.bar.set_message("verifying");
        self.bar.set_length(source.events);
        let (mut target, mut found, mut looks) = (Reading::of(&self.to), Fingerprint::default(), 0);
        loop {
            while let Some(event) = target.next().await.context("the target cannot be read")? {
                found.add(&event);
                if let Some(places) = places.as_deref_mut() {
                    places.find(found.events, event.position);
                }
                self.bar.set_position(found.events);
            }
            // A node of a cluster may lag behind the one that has acknowledged.
            if target.after >= last || looks == LOOKS {
                return Ok(found);
            }
            looks += 1;
            self.to.changed(target.after).await;
            target.at_end = false;
        }
    }
}

/// Reads a log to its end.
struct Reading {
    log: Arc<dyn EventStore>,
    page: VecDeque<RecordedEvent>,
    after: Option<Position>,
    at_end: bool,
}

impl Reading {
    fn of(log: &Arc<dyn EventStore>) -> Self {
        Self { log: log.clone(), page: VecDeque::new(), after: None, at_end: false }
    }

    async fn next(&mut self) -> Result<Option<RecordedEvent>, ReadError> {
        while self.page.is_empty() && !self.at_end {
            let page = self.log.read_all(self.after, &Filter::all(), PAGE).await?;
            (self.page, self.after, self.at_end) = (page.events.into(), page.read_to, page.at_head);
        }
        Ok(self.page.pop_front())
    }

    /// This event and those behind it that are at hand.
    fn further(&mut self, first: RecordedEvent) -> Vec<RecordedEvent> {
        std::iter::once(first).chain(std::mem::take(&mut self.page)).collect()
    }
}

/// Whether an event of the target is that of the source.
fn is_copy(source: &RecordedEvent, target: &RecordedEvent) -> bool {
    let of = |event: &RecordedEvent| (event.id, event.revision);
    of(source) == of(target)
        && source.stream == target.stream
        && source.event_type == target.event_type
        && source.data == target.data
        && source.metadata == target.metadata
}

/// Events as appends: those of one stream that stand side by side are one.
fn appends(events: Vec<RecordedEvent>) -> Vec<Append> {
    let mut appends = Vec::<Append>::new();
    let (mut next, mut bytes) = (0, 0);
    for RecordedEvent { stream, revision, id, event_type, data, metadata, .. } in events {
        let event = NewEvent { id, event_type, data, metadata };
        bytes += event.size();
        match appends.last_mut() {
            Some(append)
                if append.stream == stream
                    && revision == next
                    && append.events.len() < MAX_EVENTS
                    && bytes < MAX_APPEND_BYTES / 2 =>
            {
                append.events.push(event);
            }
            _ => {
                bytes = event.size();
                let expected = Expected::last(revision.checked_sub(1));
                appends.push(Append { stream, expected, events: vec![event] });
            }
        }
        next = revision + 1;
    }
    appends
}

fn not_appended(error: AppendError) -> anyhow::Error {
    let what = match &error {
        AppendError::Conflict { stream, expected: Expected::Exact(_), actual: None } => format!(
            "the stream {stream} does not begin at revision 0 in the source: its beginning was truncated, and such a log \
             cannot be copied"
        ),
        AppendError::Conflict { .. } => "somebody else has written to the target".to_owned(),
        _ => "the target does not take the events; run the same again to go on".to_owned(),
    };
    anyhow::Error::from(error).context(what)
}

/// What a log says, in short: the number of its events, and a SHA-256 over, for each event in order, the stream, the revision,
/// the id, the type, the data and the metadata, where each text stands behind its length. Numbers have 8 bytes, the highest
/// first.
#[derive(Clone, Default)]
struct Fingerprint {
    events: u64,
    hash: Sha256,
}

impl Fingerprint {
    fn add(&mut self, event: &RecordedEvent) {
        let mut text = |text: &[u8]| {
            self.hash.update((text.len() as u64).to_be_bytes());
            self.hash.update(text);
        };
        text(event.stream.as_str().as_bytes());
        text(event.event_type.as_str().as_bytes());
        text(&event.data);
        text(&event.metadata);
        self.hash.update(event.revision.to_be_bytes());
        self.hash.update(event.id.as_bytes());
        self.events += 1;
    }

    fn hex(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        (self.events, self.hex()) == (other.events, other.hex())
    }
}

fn bar(events: Option<u64>, hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = events.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = "{msg:10} {wide_bar}  {human_pos}/{human_len} events  {per_sec}  {eta} left";
    // The template is a constant; one that did not parse would only look plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
