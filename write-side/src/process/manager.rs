//! Following the log: a page at a time, every instance on its own, then the checkpoint.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::InvalidId;
use domain::process::Process;
use domain::shop_event::NotOfTheShop;
use event_store::{EventStore, Filter, Position, ReadError, RecordedEvent, StreamName};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::book::{Book, Instance};
use super::lease::Lease;
use super::reaction::{self, IdOf, StateOf};
use super::{Conduct, Setback, chain, see};

/// How many events of the log a page looks at.
const PAGE: usize = 500;
/// How many instances of a page are at work at a time.
const AT_ONCE: usize = 64;
/// How often it is looked whether somebody has waited too long.
const LOOK: Duration = Duration::from_millis(250);
/// How many that have waited too long are told at a time.
const OVERDUE: i64 = 1_000;
/// How often a program that does not lead looks whether it should.
const STANDBY: Duration = Duration::from_millis(500);
/// How long to wait after something went wrong: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a process stands still.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The database with the process's book failed.
    #[error("the database of the process managers failed")]
    Database(#[from] sqlx::Error),
    /// The name of an instance is no id.
    #[error("the book of the process names an instance that cannot be")]
    Id(#[from] InvalidId),
    /// An event cannot be decoded: it was written by another program or a newer release.
    #[error("the event {stream}@{revision} cannot be decoded")]
    Undecodable {
        /// Its stream.
        stream: StreamName,
        /// Its place in the stream.
        revision: u64,
        /// Why.
        #[source]
        source: Undecodable,
    },
    /// Another program leads the process.
    #[error("another program leads the process")]
    NotLeading,
    /// Another version of the code folded the states.
    #[error("the states of {process} were folded by version {found} of its code; this release has version {known}")]
    OtherVersion {
        /// The process.
        process: &'static str,
        /// The version in the book.
        found: i32,
        /// The version of this program.
        known: i32,
    },
}

/// Why an event cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Its metadata is not what this program writes.
    #[error("its metadata is of another form")]
    Metadata(#[source] serde_json::Error),
    /// It is none of the shop's, or of a newer release.
    #[error(transparent)]
    Event(#[from] NotOfTheShop),
}

/// Runs a process until `stop` says so, whenever no other program does. What goes wrong is logged, noted in the database,
/// and tried again.
pub async fn run<C: Conduct>(
    conduct: Arc<C>,
    store: Arc<dyn EventStore>,
    pool: PgPool,
    mut stop: watch::Receiver<bool>,
) {
    let name = C::Process::NAME;
    let (book, lease) = (Book::of::<C::Process>(pool.clone()), Lease::new(pool, name));
    let work = async {
        let mut pause = BACKOFF.0;
        loop {
            let started = Instant::now();
            let Err(error) = lead(&*conduct, &*store, &book, &lease).await;
            conduct.resigned();
            if started.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            match &error {
                ManagerError::NotLeading => tokio::time::sleep(STANDBY).await,
                error => {
                    let error = chain(error);
                    tracing::error!(error, "the process stands still; trying again");
                    // That it cannot be noted is no news: the log line above says it.
                    let _ = book.note(Some(&error)).await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = work.instrument(tracing::info_span!("process", name)) => {}
    }
    conduct.resigned();
    lease.give_back().await;
}

/// Leads the process until something goes wrong or another program leads, and says what.
async fn lead<C: Conduct>(
    conduct: &C,
    store: &dyn EventStore,
    book: &Book,
    lease: &Lease,
) -> Result<Infallible, ManagerError> {
    book.open(C::Process::VERSION).await?;
    if !lease.take().await? {
        return Err(ManagerError::NotLeading);
    }
    tracing::info!("leading");
    tokio::select! {
        followed = follow(conduct, store, book) => followed,
        () = lease.hold() => Err(ManagerError::NotLeading),
    }
}

async fn follow<C: Conduct>(conduct: &C, store: &dyn EventStore, book: &Book) -> Result<Infallible, ManagerError> {
    let (process, known) = (C::Process::NAME, C::Process::VERSION);
    let (found, mut checkpoint) = book.checkpoint().await?;
    if found != known {
        return Err(ManagerError::OtherVersion { process, found, known });
    }
    for (id, state) in book.all::<C::Process>().await? {
        conduct.moved(&id, Some(&state));
    }
    let filter = Filter::categories(C::Process::CATEGORIES.iter().copied());
    let mut look = Instant::now();
    loop {
        let page = store.read_all(checkpoint, &filter, PAGE).await?;
        if let Some(to) = page.read_to.filter(|to| Some(*to) > checkpoint) {
            take_page(conduct, book, page.events, checkpoint, to).await?;
            checkpoint = Some(to);
        }
        if Instant::now() >= look {
            tell_overdue(conduct, book).await?;
            look = Instant::now() + LOOK;
        }
        if page.at_head {
            store.changed(checkpoint).await;
        }
    }
}

/// Shows the events of a page to the instances that they concern, each strictly in order, and moves the checkpoint.
async fn take_page<C: Conduct>(
    conduct: &C,
    book: &Book,
    events: Vec<RecordedEvent>,
    from: Option<Position>,
    to: Position,
) -> Result<(), ManagerError> {
    let mut concerned: HashMap<IdOf<C>, Vec<RecordedEvent>> = HashMap::new();
    for recorded in events {
        let seen = see(recorded)?;
        if let Some(id) = C::Process::instance(&conduct.see(&seen)) {
            concerned.entry(id).or_default().push(seen.recorded);
        }
    }
    let ids: Vec<IdOf<C>> = concerned.keys().cloned().collect();
    let mut known = if ids.is_empty() { HashMap::new() } else { book.load::<C::Process>(&ids).await? };
    let at_work = concerned.into_iter().map(|(id, events)| {
        let mut instance = known.remove(&id).unwrap_or_else(|| Instance::new(C::Process::initial()));
        async move {
            for recorded in events {
                reaction::show(conduct, &id, &mut instance, recorded).await?;
            }
            let is_over = instance.parked.is_none() && C::Process::is_over(&instance.state);
            Ok::<_, ManagerError>((id, (!is_over).then_some(instance)))
        }
        .boxed()
    });
    let became: HashMap<IdOf<C>, Option<Instance<StateOf<C>>>> =
        futures::stream::iter(at_work.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
    if !book.turn_page::<C::Process>(from, to, &became).await? {
        return Err(ManagerError::NotLeading);
    }
    for (id, instance) in &became {
        conduct.moved(id, instance.as_ref().map(|instance| &instance.state));
    }
    Ok(())
}

/// Puts on record who has waited too long. An instance is told by the event, like of anything else.
async fn tell_overdue<C: Conduct>(conduct: &C, book: &Book) -> Result<(), ManagerError> {
    for timeout in C::Process::TIMEOUTS.iter().copied() {
        let overdue = book.overdue::<C::Process>(timeout, conduct.limit(timeout), OVERDUE).await?;
        let telling = overdue.into_iter().map(|id| {
            async move {
                let envelope = reaction::of_timeout::<C::Process>(&id, timeout);
                match conduct.time_out(&id, timeout, envelope).await {
                    Ok(()) => {}
                    // It is looked again in a moment.
                    Err(Setback::Passing(why)) => {
                        tracing::warn!(instance = %id, %timeout, why, "a timeout has to wait")
                    }
                    Err(Setback::Lasting(why)) => {
                        tracing::error!(instance = %id, %timeout, why, "a timeout cannot fire")
                    }
                }
            }
            .boxed()
        });
        futures::stream::iter(telling.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }
    Ok(())
}
