//! The whole log, folded in memory on every core, while what is final is on its way into the tables.
//!
//! One task reads ahead. Pages are decoded as they come, several at a time. Where the rows of a key follow from the events of
//! that key alone, the keys are dealt out to as many folds as there are cores; other read models have one fold.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use event_store::{Filter, Position, ReadError};
use futures::future::try_join_all;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::contiguity::Contiguity;
use super::load::{Load, Sink};
use super::log_event::{LogEvent, LogPage};
use super::parking::{Held, Parking};
use super::rebuild::{Phase, Progress, Until};
use super::{Context, ProjectionError, batch};
use crate::read_model::ReadModel;
use crate::rows::Tables as _;

/// How many events of the log are read at a time.
const PAGE: usize = if cfg!(test) { 7 } else { 5_000 };
/// How many pages may be decoded before they are folded.
const AHEAD: usize = 3;

/// What is known after the whole log was folded; the rows are in the tables.
pub(super) struct Folded {
    /// Up to where it was folded.
    pub(super) checkpoint: Option<Position>,
    /// How many events were folded.
    pub(super) events: u64,
    pub(super) parking: Parking,
    pub(super) contiguity: Contiguity,
    /// The events that could not be folded, and what is held of them.
    pub(super) parked: (Vec<LogEvent>, Vec<Held>),
}

/// Folds the log, all of it or up to a point, and hands the rows to `load`.
pub(super) async fn fold_log<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    until: Option<Until>,
    load: &mut Load,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Folded, ProjectionError> {
    let head = context.store.head().await?;
    let of = context.store.events_between(None, head);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if M::ROWS_OF_A_KEY.is_some() { cores } else { 1 };
    let mut shards = Vec::new();
    for _ in 0..count {
        let parking = Parking::of_a_rebuild(&mut *connection, M::NAME).await?;
        shards.push(Shard::<M>::new(context.memory, count, parking, load.sink()));
    }
    let (mut pages, reader) = read_ahead::<M>(context, until, count);
    let mut checkpoint = None;
    while let Some(page) = pages.recv().await {
        let Page { parts, read_to } = page?.await.map_err(cut_off)?;
        let folds = shards.into_iter().zip(parts).map(|(shard, part)| spawn_blocking(move || shard.fold(&part)));
        shards = try_join_all(folds).await.map_err(cut_off)?.into_iter().collect::<Result<_, _>>()?;
        load.check()?;
        checkpoint = read_to.or(checkpoint);
        let folded = || shards.iter().map(|shard| shard.events).sum();
        let events = context.store.events_between(None, checkpoint).unwrap_or_else(folded);
        progress(Progress { phase: Phase::Folding, events, of });
    }
    // That it has ended is not yet that it has come to the end.
    reader.await.map_err(cut_off)?;
    let events = shards.iter().map(|shard| shard.events).sum();
    progress(Progress { phase: Phase::Loading, events, of: None });
    let ends = shards.into_iter().map(|shard| spawn_blocking(move || shard.end()));
    let ends = try_join_all(ends).await.map_err(cut_off)?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let all = ends.into_iter().reduce(Shard::join);
    let all = all.ok_or_else(|| ProjectionError::NotPrepared { name: M::NAME.to_owned() })?;
    let Shard { parking, contiguity, parked, .. } = all;
    batch::check_parked::<M>(&parking)?;
    Ok(Folded { checkpoint, events, parking, contiguity, parked })
}

fn cut_off(error: JoinError) -> ProjectionError {
    sqlx::Error::Protocol(format!("the fold was cut off: {error}")).into()
}

/// A page of the log, decoded and dealt out.
struct Page {
    /// What each fold gets of it.
    parts: Vec<Vec<LogEvent>>,
    read_to: Option<Position>,
}

/// Pages that are being decoded, in order.
type Pages = mpsc::Receiver<Result<JoinHandle<Page>, ReadError>>;

/// Reads the log, and has each page decoded while the next ones are read. Ends with the receiver.
fn read_ahead<M: ReadModel>(context: &Context, until: Option<Until>, parts: usize) -> (Pages, JoinHandle<()>) {
    let (sender, pages) = mpsc::channel(AHEAD);
    let store = context.store.clone();
    let reader = tokio::spawn(async move {
        let filter = Filter::categories(M::CATEGORIES.iter().copied());
        let mut after = None;
        loop {
            let LogPage { mut events, mut read_to, at_head: mut at_end } =
                match store.read_all(after, &filter, PAGE).await {
                    Ok(page) => page.into(),
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
            if let Some(until) = until {
                at_end |= until.is_reached(read_to);
                if let Some(end) = until.cut(&events) {
                    events.truncate(end);
                    (read_to, at_end) = (events.last().map(|last| last.position), true);
                }
            }
            after = read_to;
            let page = spawn_blocking(move || Page { parts: deal::<M>(events, parts), read_to });
            if sender.send(Ok(page)).await.is_err() || at_end {
                return;
            }
        }
    });
    (pages, reader)
}

/// Decodes events and deals them out by their keys.
fn deal<M: ReadModel>(events: Vec<LogEvent>, parts: usize) -> Vec<Vec<LogEvent>> {
    let mut dealt = vec![Vec::new(); parts];
    for event in events {
        let mut hasher = DefaultHasher::new();
        M::key(&event.stream).hash(&mut hasher);
        let part = &mut dealt[usize::try_from(hasher.finish() % parts as u64).unwrap_or_default()];
        // What comes of it is asked for when it is folded.
        let _ = event.happened();
        part.push(event);
    }
    dealt
}

/// A fold of some of the keys.
struct Shard<M: ReadModel> {
    tables: M::Tables,
    events: u64,
    parking: Parking,
    contiguity: Contiguity,
    parked: (Vec<LogEvent>, Vec<Held>),
    /// Gone when everything has been handed over.
    sink: Option<Sink>,
}

impl<M: ReadModel> Shard<M> {
    fn new(memory: usize, parts: usize, parking: Parking, sink: Sink) -> Self {
        let mut tables = M::Tables::new(true);
        tables.limit(memory / parts);
        let contiguity = Contiguity::from_the_beginning(parts);
        Self { tables, events: 0, parking, contiguity, parked: Default::default(), sink: Some(sink) }
    }

    fn fold(mut self, events: &[LogEvent]) -> Result<Self, ProjectionError> {
        self.contiguity.check(M::NAME, events)?;
        let round = batch::fold::<M>(&mut self.tables, events, &self.parking)?;
        if let Some(error) = self.tables.failed() {
            return Err(ProjectionError::Scratch(error));
        }
        self.parking.hold(&round.held);
        self.contiguity.learn(events, 0, None);
        self.events += events.len() as u64;
        let (parked, held) = &mut self.parked;
        for one in round.held {
            let place = parked.len();
            parked.push(events[one.place].clone());
            held.push(Held { place, ..one });
        }
        if let Some(sink) = &self.sink {
            self.tables.pour_settled(&mut |table, rows| sink.send(table, rows)).map_err(ProjectionError::Scratch)?;
        }
        Ok(self)
    }

    /// Hands over everything.
    fn end(mut self) -> Result<Self, ProjectionError> {
        if let Some(sink) = self.sink.take() {
            self.tables.pour(&mut |table, rows| sink.send(table, rows)).map_err(ProjectionError::Scratch)?;
        }
        Ok(self)
    }

    /// What two folds of different keys know together.
    fn join(mut self, other: Self) -> Self {
        self.events += other.events;
        self.parking.keys.extend(other.parking.keys);
        self.contiguity.join(other.contiguity);
        let ((parked, held), (more, of_more)) = (&mut self.parked, other.parked);
        let before = parked.len();
        held.extend(of_more.into_iter().map(|one| Held { place: before + one.place, ..one }));
        parked.extend(more);
        self
    }
}
