//! Following the log: a page at a time, every instance on its own, then the checkpoint.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use domain::ids::InvalidId;
use domain::process::Process;
use domain::shop_event::NotOfTheShop;
use event_store::{EventStore, Filter, Position, ReadError, RecordedEvent, StreamName};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::book::{Book, Instance, Stop};
use super::lease::Lease;
use super::reaction::{self, IdOf, StateOf};
use super::{Conduct, Seen, Setback, chain, see};
use crate::envelope::Envelope;

/// How many events of the log a page looks at.
const PAGE: usize = 500;
/// How many instances of a page are at work at a time.
const AT_ONCE: usize = 64;
/// How often it is looked whether somebody has waited too long.
const LOOK: Duration = Duration::from_millis(250);
/// How often that is looked while there is more of the log to see than a page.
const LOOK_WHILE_BEHIND: Duration = Duration::from_secs(5);
/// How many that have waited too long are told at a time.
const OVERDUE: i64 = 1_000;
/// How often a program that does not lead looks whether it should.
const STANDBY: Duration = Duration::from_millis(500);
/// How long the checkpoint may stay behind while nothing of the log is for this process.
const LAZY: Duration = Duration::from_millis(100);
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
    /// A newer version of the code folded the states.
    #[error(
        "the states of {process} were folded by version {found} of its code, and this release has version {known}: \
         run the newer release"
    )]
    NewerVersion {
        /// The process.
        process: &'static str,
        /// The version in the book.
        found: i32,
        /// The version of this program.
        known: i32,
    },
    /// What was begun with one gateway cannot be gone on with another.
    #[error(
        "{process} deals with {found}, where money may be held or taken; this program would deal with {wanted}. Configure \
         the same for all programs; or, once nothing is left to do there, start one with --move-gateway"
    )]
    DealsWithAnother {
        /// The process.
        process: &'static str,
        /// With whom it deals so far.
        found: String,
        /// With whom this program would deal.
        wanted: String,
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
/// and tried again, here or by another program.
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
            if started.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            match &error {
                ManagerError::NotLeading => tokio::time::sleep(STANDBY).await,
                error => {
                    let error = chain(error);
                    tracing::error!(error, "the process stands still; trying again");
                    // Another program may be able to go on where this one is not.
                    lease.give_back().await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = work.instrument(tracing::info_span!("process", process = name)) => {}
    }
    lease.give_back().await;
}

/// Tells a conduct that it no longer leads, however that came about.
struct Lead<'a, C: Conduct>(&'a C);

impl<C: Conduct> Drop for Lead<'_, C> {
    fn drop(&mut self) {
        self.0.resigned();
    }
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
    let _lead = Lead(conduct);
    tokio::select! {
        followed = follow(conduct, store, book) => {
            if let Err(error) = &followed && !matches!(error, ManagerError::NotLeading) {
                // That it cannot be noted is no news: the log says why it stands still.
                let _ = book.note(Some(&chain(error))).await;
            }
            followed
        }
        () = lease.hold() => Err(ManagerError::NotLeading),
    }
}

async fn follow<C: Conduct>(conduct: &C, store: &dyn EventStore, book: &Book) -> Result<Infallible, ManagerError> {
    prepare(conduct, store, book).await?;
    let filter = Filter::categories(C::Process::CATEGORIES.iter().copied());
    let mut checkpoint = book.checkpoint().await?;
    let (mut seen, mut written) = (checkpoint, Instant::now());
    let mut overdue = Overdue { told: HashSet::new(), looked: Instant::now() };
    let mut is_noted = false;
    loop {
        let page = store.read_all(seen, &filter, PAGE).await?;
        seen = seen.max(page.read_to);
        let concerned = concerned(conduct, page.events)?;
        let is_due = !concerned.is_empty() || written.elapsed() >= LAZY;
        if let Some(to) = seen.filter(|_| is_due && seen > checkpoint) {
            take_page(conduct, book, concerned, checkpoint, to).await?;
            (checkpoint, written) = (seen, Instant::now());
        }
        if !std::mem::replace(&mut is_noted, true) {
            book.note(None).await?;
        }
        overdue.tell(conduct, book, page.at_head).await?;
        if page.at_head {
            let changed = store.changed(seen);
            if seen > checkpoint {
                // Either way there is something to do.
                let _ = tokio::time::timeout_at(written + LAZY, changed).await;
            } else {
                changed.await;
            }
        }
    }
}

/// The events of a page that concern each instance, in order.
type Concerned<C> = Vec<(IdOf<C>, Vec<Seen>)>;

/// Finds out whom the events of a page concern. First come, first served: the instances stand in the order of their first
/// event.
fn concerned<C: Conduct>(conduct: &C, events: Vec<RecordedEvent>) -> Result<Concerned<C>, ManagerError> {
    let (mut concerned, mut places) = (Concerned::<C>::new(), HashMap::<IdOf<C>, usize>::new());
    for recorded in events {
        let seen = see(recorded)?;
        let Some(id) = C::Process::instance(&conduct.see(&seen)) else { continue };
        let place = *places.entry(id).or_insert_with_key(|id| {
            concerned.push((id.clone(), Vec::new()));
            concerned.len() - 1
        });
        concerned[place].1.push(seen);
    }
    Ok(concerned)
}

/// Makes sure that this program may go on where the book ends, and tells what a program before it may not have got to.
async fn prepare<C: Conduct>(conduct: &C, store: &dyn EventStore, book: &Book) -> Result<(), ManagerError> {
    let (process, known) = (C::Process::NAME, C::Process::VERSION);
    let found = book.version().await?;
    if found > known {
        return Err(ManagerError::NewerVersion { process, found, known });
    }
    if found < known {
        refold::<C>(conduct, store, book, found).await?;
    }
    if let Some(wanted) = conduct.deals_with() {
        let found = book.deals_with(wanted).await?;
        if found != wanted {
            return Err(ManagerError::DealsWithAnother { process, found, wanted: wanted.to_owned() });
        }
    }
    for (id, event, why, told_as) in book.all_parked::<C::Process>().await? {
        let envelope = Envelope { causation_id: event, ..Envelope::new(told_as, String::new(), Utc::now()) };
        reaction::tell_parked(conduct, &id, event, &why, &envelope).await;
    }
    if C::WATCHES {
        for (id, state) in book.all::<C::Process>().await? {
            conduct.moved(&id, Some(&state));
        }
    }
    Ok(())
}

/// Folds the states of the instances anew, up to the checkpoint or to where an instance cannot go on. Nothing is sent: what
/// those events led to was done when they were reacted to.
async fn refold<C: Conduct>(conduct: &C, store: &dyn EventStore, book: &Book, found: i32) -> Result<(), ManagerError> {
    tracing::info!(found, known = C::Process::VERSION, "folding the states anew");
    let (end, holding) = (book.checkpoint().await?, book.holding::<C::Process>().await?);
    let filter = Filter::categories(C::Process::CATEGORIES.iter().copied());
    let mut states: HashMap<IdOf<C>, StateOf<C>> =
        holding.keys().map(|id| (id.clone(), C::Process::initial())).collect();
    let mut at = None;
    while at < end {
        let page = store.read_all(at, &filter, PAGE).await?;
        for recorded in page.events.into_iter().take_while(|recorded| Some(recorded.position) <= end) {
            let position = recorded.position;
            let event = conduct.see(&see(recorded)?);
            let Some(id) = C::Process::instance(&event) else { continue };
            let held_from = holding.get(&id);
            if held_from.is_some_and(|from| position >= *from) {
                continue;
            }
            let state = states.remove(&id).unwrap_or_else(C::Process::initial);
            let state = C::Process::evolve(state, &event);
            if held_from.is_some() || !C::Process::is_over(&state) {
                states.insert(id, state);
            }
        }
        match page.read_to {
            Some(to) if Some(to) > at => at = Some(to),
            _ => break,
        }
    }
    let (book, states) = (book.clone(), states.into_iter().collect::<Vec<_>>());
    let written = whole(async move { book.refold::<C::Process>(found, &states).await }).await?;
    if written { Ok(()) } else { Err(ManagerError::NotLeading) }
}

/// Runs a transaction to its end even if nobody waits for it any more: one that is dropped on the way could leave its
/// connection in it.
async fn whole<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    tokio::spawn(transaction).await.unwrap_or_else(|panicked| Err(sqlx::Error::Io(std::io::Error::other(panicked))))
}

/// Shows the events of a page to the instances that they concern, each strictly in order, and moves the checkpoint.
async fn take_page<C: Conduct>(
    conduct: &C,
    book: &Book,
    concerned: Concerned<C>,
    from: Option<Position>,
    to: Position,
) -> Result<(), ManagerError> {
    let started = Instant::now();
    let ids: Vec<IdOf<C>> = concerned.iter().map(|(id, _)| id.clone()).collect();
    let mut known = if ids.is_empty() { HashMap::new() } else { book.load::<C::Process>(&ids).await? };
    let loaded = started.elapsed();
    let at_work = concerned.into_iter().map(|(id, events)| {
        let mut instance = known.remove(&id).unwrap_or_else(|| Instance::new(C::Process::initial()));
        async move {
            for seen in events {
                reaction::show(conduct, &id, &mut instance, seen).await?;
            }
            let is_over = instance.held.is_empty() && C::Process::is_over(&instance.state);
            Ok::<_, ManagerError>((id, (!is_over).then_some(instance)))
        }
        .boxed()
    });
    let became: HashMap<IdOf<C>, Option<Instance<StateOf<C>>>> =
        futures::stream::iter(at_work.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
    let reacted = started.elapsed();
    let turn = book.clone();
    let turned = whole(async move {
        let is_turned = turn.turn_page::<C::Process>(from, to, &became).await?;
        Ok(is_turned.then_some(became))
    });
    let became = turned.await?.ok_or(ManagerError::NotLeading)?;
    tracing::debug!(instances = became.len(), ?loaded, ?reacted, turned = ?started.elapsed(), "a page");
    for (id, instance) in &became {
        if let Some(Stop { event, why, untold: Some(envelope), .. }) =
            instance.as_ref().and_then(|it| it.parked.as_ref())
        {
            reaction::tell_parked(conduct, id, *event, why, envelope).await;
        }
        conduct.moved(id, instance.as_ref().map(|instance| &instance.state));
    }
    Ok(())
}

/// Who has waited too long.
struct Overdue<C: Conduct> {
    /// Who was told, and has yet to see the event that says so.
    told: HashSet<(IdOf<C>, String)>,
    looked: Instant,
}

impl<C: Conduct> Overdue<C> {
    /// Puts on record who has waited too long. An instance is told by the event, like of anything else. As long as there is
    /// much to see, what was waited for may be among it, and it is looked more rarely.
    async fn tell(&mut self, conduct: &C, book: &Book, at_head: bool) -> Result<(), ManagerError> {
        let due = if at_head { LOOK } else { LOOK_WHILE_BEHIND };
        if self.looked.elapsed() < due {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut still_told = HashSet::new();
        for timeout in C::Process::TIMEOUTS.iter().copied() {
            let overdue = book.overdue::<C::Process>(timeout, conduct.limit(timeout), OVERDUE).await?;
            let name = timeout.to_string();
            let (known, new): (Vec<_>, Vec<_>) =
                overdue.into_iter().map(|id| (id, name.clone())).partition(|it| self.told.contains(it));
            still_told.extend(known);
            let telling = new.into_iter().map(|(id, name)| {
                async move {
                    let envelope = reaction::of_timeout::<C::Process>(&id, timeout);
                    match conduct.time_out(&id, timeout, envelope).await {
                        Ok(()) => return Some((id, name)),
                        // It is looked again in a moment.
                        Err(Setback::Passing(why)) => {
                            tracing::warn!(instance = %id, %timeout, why, "a timeout has to wait");
                        }
                        Err(Setback::Lasting(why)) => {
                            tracing::error!(instance = %id, %timeout, why, "a timeout cannot fire");
                        }
                    }
                    None
                }
                .boxed()
            });
            let told = futures::stream::iter(telling.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
            still_told.extend(told.filter_map(std::future::ready).collect::<Vec<_>>().await);
        }
        self.told = still_told;
        Ok(())
    }
}
