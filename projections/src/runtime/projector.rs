//! The live projector: follows the log, a batch at a time.

use std::time::Duration;

use event_store::{Filter, Position};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use super::generations::{self, Generation};
use super::{Context, ProjectionError, batch, rebuild};
use crate::read_model::ReadModel;

/// How many events of the log a batch looks at.
const BATCH: usize = 500;
/// How long the checkpoint may stay behind while nothing of the log is for this read model. Whoever waits for a position waits
/// that long at most.
const LAZY: Duration = Duration::from_millis(50);
/// How long to wait after something went wrong: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a process that does not lead looks whether it should.
const STANDBY: Duration = Duration::from_millis(500);

/// Follows the log until `stop` says so.
pub(super) async fn run<M: ReadModel>(context: Context, mut stop: watch::Receiver<bool>) {
    let span = tracing::info_span!("projector", read_model = M::NAME);
    let follow = async {
        let mut wait = BACKOFF.0;
        loop {
            let Err(error) = follow::<M>(&context).await;
            match &error {
                ProjectionError::NotLeading { .. } => {
                    tracing::debug!("another process leads; standing by");
                    wait = STANDBY;
                }
                ProjectionError::Rebuilding { .. } | ProjectionError::Outdated { .. } => {
                    tracing::debug!(%error, "standing by");
                    wait = STANDBY;
                }
                _ => {
                    tracing::error!(error = chain(&error), "the projector stands still; trying again");
                    if let Ok(Some(live)) = generations::live(&context.pool, M::NAME).await {
                        // That it cannot be noted is no news: the log line above says it.
                        let _ = generations::note_error(&context.pool, &live, &chain(&error)).await;
                    }
                    wait = (wait * 2).min(BACKOFF.1);
                }
            }
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = follow.instrument(span) => {}
    }
}

/// Follows the log until something goes wrong, and says what.
async fn follow<M: ReadModel>(context: &Context) -> Result<std::convert::Infallible, ProjectionError> {
    let name = M::NAME;
    let mut generation = live(&context.pool, name).await?;
    if generation.version > M::VERSION {
        return Err(ProjectionError::Outdated { name: name.to_owned(), live: generation.version, known: M::VERSION });
    }
    if generation.version < M::VERSION {
        tracing::info!(from = generation.version, to = M::VERSION, "the read model has a new version; building it");
        rebuild::rebuild::<M>(context, &|_| {}).await?;
        generation = live(&context.pool, name).await?;
    }
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let (mut seen, mut written) = (generation.checkpoint, Instant::now());
    loop {
        let page = context.store.read_all(seen, &filter, BATCH).await?;
        seen = seen.max(page.read_to);
        let is_due = !page.events.is_empty() || written.elapsed() >= LAZY;
        if let Some(to) = seen.filter(|_| is_due && seen > generation.checkpoint) {
            let mut transaction = context.pool.begin().await?;
            batch::apply::<M>(&mut transaction, &generation, &page.events, to).await?;
            transaction.commit().await?;
            (generation.checkpoint, written) = (seen, Instant::now());
            context.moved.send_replace(());
        }
        if page.at_head {
            let changed = context.store.changed(seen);
            if seen > generation.checkpoint {
                // Either way there is something to do.
                let _ = tokio::time::timeout_at(written + LAZY, changed).await;
            } else {
                changed.await;
            }
        }
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

/// An error with everything behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
