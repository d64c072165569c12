//! The live projector: follows the log, a batch at a time.

use std::time::Duration;

use event_store::{Filter, Metadata, Position};
use metrics::{Counter, Histogram, counter, histogram};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::batch::Begun;
use super::batch::chain;
use super::contiguity::Contiguity;
use super::generations::{self, Generation};
use super::log_event::LogEvent;
use super::parking::Parking;
use super::{Context, ProjectionError, batch, followed, rebuild};
use crate::read_model::ReadModel;
use crate::rows::Tables as _;

/// How many events of the log a batch looks at: at the head of the log, and when it is far behind.
const BATCH: (usize, usize) = (500, 8_000);
/// How long the checkpoint may stay behind while nothing of the log changes this read model. Whoever waits for a position waits
/// that long at most.
const LAZY: Duration = Duration::from_millis(50);
/// The least time from one batch to the next at the head of the log. Under load more comes together in a batch, which costs far
/// less than as many batches; what comes after a pause is folded at once.
const GATHER: Duration = Duration::from_millis(2);
/// How the database is to run the statements of a projector, which only ever ask for rows by their keys: by the index, and
/// planned once. A plan that was made when a table was empty would otherwise go through all of it when it no longer is.
const PLANS: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off; \
     set enable_mergejoin = off";
/// How long to wait after something went wrong: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long to wait before a new version is built again that could not be.
const BUILD_AGAIN: Duration = Duration::from_secs(60);
/// How often a process that does not lead looks whether it should.
const STANDBY: Duration = Duration::from_millis(500);

/// Follows the log until `stop` says so.
pub(super) async fn run<M: ReadModel>(context: Context, mut stop: watch::Receiver<bool>) {
    let span = tracing::info_span!("projector", read_model = M::NAME);
    let follow = async {
        let mut wait = BACKOFF.0;
        let mut contiguity = Contiguity::from_a_checkpoint(0, None);
        loop {
            let start = Instant::now();
            let Err(error) = follow::<M>(&context, &mut contiguity).await;
            if start.elapsed() > BACKOFF.1 {
                wait = BACKOFF.0;
            }
            match &error {
                ProjectionError::NotLeading { .. } => {
                    tracing::debug!("another process leads; standing by");
                    wait = STANDBY;
                }
                ProjectionError::StoppedByGap { .. } => wait = BACKOFF.1,
                ProjectionError::Rebuilding { .. } | ProjectionError::Outdated { .. } => {
                    tracing::debug!(%error, "standing by");
                    wait = STANDBY;
                    // Another program may be able to lead.
                    context.leases.give_back(M::NAME).await;
                }
                _ => {
                    tracing::error!(error = chain(&error), "the projector stands still");
                    if let Ok(Some(live)) = generations::live(&context.pool, M::NAME).await {
                        let note = match &error {
                            // A gap that a new version met in its rebuild is none of the old version's.
                            ProjectionError::Gap { .. } if live.version == M::VERSION => {
                                generations::note_gap(&context.pool, &live, &chain(&error)).await
                            }
                            _ => generations::note_error(&context.pool, &live, &chain(&error)).await,
                        };
                        // What cannot be noted now comes up again, for the checkpoint has not moved.
                        if let Err(error) = note {
                            tracing::warn!(%error, "why it stands still could not be noted");
                        }
                    }
                    wait = match error {
                        ProjectionError::NotBuilt { .. } => BUILD_AGAIN,
                        _ => (wait * 2).min(BACKOFF.1),
                    };
                    context.leases.give_back(M::NAME).await;
                }
            }
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = follow.instrument(span) => {}
    }
    context.leases.give_back(M::NAME).await;
}

/// Follows the log until something goes wrong, and says what.
async fn follow<M: ReadModel>(
    context: &Context,
    contiguity: &mut Contiguity,
) -> Result<std::convert::Infallible, ProjectionError> {
    let name = M::NAME;
    let mut generation = live(&context.pool, name).await?;
    if generation.version > M::VERSION {
        return Err(ProjectionError::Outdated { name: name.to_owned(), live: generation.version, known: M::VERSION });
    }
    followed::check(&*context.store, &context.pool).await?;
    let Some(lead) = context.leases.take(name).await? else {
        return Err(ProjectionError::NotLeading { name: name.to_owned() });
    };
    if generation.version < M::VERSION {
        tracing::info!(from = generation.version, to = M::VERSION, "the read model has a new version; building it");
        match rebuild::rebuild::<M>(context, &|_| {}).await {
            Ok(_) => {}
            Err(error @ ProjectionError::Rebuilding { .. }) => return Err(error),
            Err(error) => return Err(ProjectionError::NotBuilt { name: name.to_owned(), source: Box::new(error) }),
        }
    }
    // Nobody else has led since the lease was taken; before, somebody may have.
    generation = live(&context.pool, name).await?;
    if let Some(gap) = generation.gap {
        return Err(ProjectionError::StoppedByGap { gap });
    }
    let mut parking = Parking::of(&context.pool, &generation).await?;
    if !contiguity.reaches(generation.generation, generation.checkpoint) {
        *contiguity = Contiguity::from_a_checkpoint(generation.generation, generation.checkpoint);
    }
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let tail = context.tails.of(&context.store);
    // A connection of its own: what was prepared on it stays.
    let mut connection = context.pool.acquire().await?.detach();
    sqlx::raw_sql(PLANS).execute(&mut connection).await?;
    let mut tables = M::Tables::new(false);
    let (mut seen, mut written) = (generation.checkpoint, Instant::now());
    // Events that the checkpoint has not passed yet, though they are dealt with.
    let (mut batch, mut passed) = (BATCH.0, 0);
    let figures = Figures::of(name);
    loop {
        let began = Instant::now();
        let page = match tail.read::<M>(seen, batch) {
            Some(page) => page,
            None => context.store.read_all(seen, &filter, batch).await?.into(),
        };
        contiguity.check(name, &page.events)?;
        if generation.error.take().is_some() {
            generations::clear_error(&context.pool, &generation).await?;
        }
        seen = seen.max(page.read_to);
        let begun = Begun::<M>::new(tables, &page.events, &parking)?;
        let is_due = !begun.is_idle() || written.elapsed() >= LAZY;
        passed += page.events.len();
        if let Some(to) = seen.filter(|_| is_due && seen > generation.checkpoint) {
            let (changes, span) = ((page.events.as_slice(), begun, passed), span_of(name, &page.events));
            let applying = batch::apply::<M>(&mut connection, &generation, Some(lead), &parking, changes, to);
            let applied = applying.instrument(span).await?;
            figures.count(&page.events, began.elapsed());
            let held;
            (tables, held) = applied;
            tables.keep();
            (generation.checkpoint, written, passed) = (seen, Instant::now(), 0);
            parking.hold(&held);
            context.moved.send_replace(());
        } else {
            tables = begun.into_tables();
        }
        // What it learns goes further than the checkpoint where events changed nothing: it is of no use to who begins there.
        contiguity.learn(&page.events, generation.generation, seen);
        batch = if page.at_head { BATCH.0 } else { (2 * batch).min(BATCH.1) };
        if page.at_head {
            let changed = tail.changed(seen);
            if seen > generation.checkpoint {
                // Either way there is something to do.
                let _ = tokio::time::timeout_at(written + LAZY, changed).await;
            } else {
                changed.await;
            }
            tokio::time::sleep_until(began + GATHER).await;
        }
    }
}

/// How many events of a batch it is said of that it follows from them.
const LINKS: usize = 32;

/// The span of a batch. It follows from whatever brought its events about.
fn span_of(name: &'static str, events: &[LogEvent]) -> Span {
    let span = tracing::debug_span!("project", otel.kind = "consumer", read_model = name, events = events.len());
    if telemetry::is_collected() {
        let traced = events.iter().filter_map(|event| Metadata::from_bytes(&event.metadata).ok()?.traceparent);
        traced.take(LINKS).for_each(|traceparent| telemetry::link(&span, &traceparent));
    }
    span
}

/// What is measured of a projector.
struct Figures {
    events: Counter,
    batches: Histogram,
    seconds: Histogram,
}

impl Figures {
    fn of(name: &'static str) -> Self {
        Self {
            events: counter!("projection_events_total", "read_model" => name),
            batches: histogram!("projection_batch_events", "read_model" => name),
            seconds: histogram!("projection_batch_seconds", "read_model" => name),
        }
    }

    /// Counts a batch that was written.
    fn count(&self, events: &[LogEvent], took: Duration) {
        self.events.increment(events.len() as u64);
        self.batches.record(events.len() as f64);
        self.seconds.record(took);
    }
}

/// Waits until the live generation has folded what stands at `position`.
pub(super) async fn reached(context: &Context, name: &str, position: Position) -> Result<(), ProjectionError> {
    let mut moved = context.moved.subscribe();
    loop {
        let live = generations::live(&context.pool, name).await?;
        match live {
            Some(live) if live.checkpoint >= Some(position) => return Ok(()),
            Some(Generation { error: Some(error), .. }) => {
                return Err(ProjectionError::StandsStill { name: name.to_owned(), error });
            }
            _ => {}
        }
        // In this process the projector says it; another process is asked now and then.
        let _ = tokio::time::timeout(Duration::from_millis(50), moved.changed()).await;
    }
}

async fn live(pool: &PgPool, name: &str) -> Result<Generation, ProjectionError> {
    let live = generations::live(pool, name).await?;
    live.ok_or_else(|| ProjectionError::NotPrepared { name: name.to_owned() })
}
