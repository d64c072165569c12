//! Rebuilding a read model while it is read: fold the log into a shadow, catch up, switch.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use event_store::{Filter, PastTheEnd, Position, RecordedEvent};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Postgres, Transaction};

use super::contiguity::Contiguity;
use super::generations::{self, Generation, State};
use super::parking::{self, Held, Parking};
use super::{Context, ProjectionError, batch, sql, verify};
use crate::read_model::ReadModel;
use crate::rows::Tables;
use crate::shop_event;

/// How many events of the log are read at a time.
const PAGE: usize = 5_000;
/// The shadow is taken live when it is at most this many events behind, or after this many attempts to get there.
const CLOSE: (usize, usize) = (1_000, 100);
/// How long the switch waits for readers before it lets them go first and tries again, and how long a process that is
/// frozen in the middle of it may hold the projector.
const SWITCH_PATIENCE: &str = "set local lock_timeout = '500ms'; set local idle_in_transaction_session_timeout = '8s'";

/// How many keys are verified before the shadow is taken live.
const SAMPLE: u32 = 20;

/// How long the switch stands back for a long query.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it does at the moment.
    pub phase: Phase,
    /// How many events of the log are behind it, those of other categories included.
    pub events: u64,
    /// How many there are, where the log can tell.
    pub of: Option<u64>,
}

/// What a rebuild does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It folds the log in memory.
    Folding,
    /// It fills the shadow's tables and adds their keys.
    Loading,
    /// It catches up with what has happened meanwhile.
    CatchingUp,
    /// It holds a sample of the shadow against a plain fold.
    Verifying,
    /// It takes the shadow live.
    Switching,
}

/// Up to where a copy as of then is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to and with this position of the log.
    Position(Position),
    /// Up to the first event of the read model that was decided later than this.
    Time(DateTime<Utc>),
}

impl Until {
    /// How many of these events, which stand in order, come before the end; `None` when all of them do.
    fn cut(self, events: &[RecordedEvent]) -> Option<usize> {
        events.iter().position(|event| match self {
            Self::Position(last) => event.position > last,
            Self::Time(last) => shop_event::decode(event).is_ok_and(|happened| happened.at > last),
        })
    }

    fn is_reached(self, position: Option<Position>) -> bool {
        matches!(self, Self::Position(last) if position >= Some(last))
    }
}

/// What a rebuild has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that readers see now; `None` where readers see what they saw.
    pub generation: Option<i32>,
    /// Up to where the log is folded into it.
    pub position: Option<Position>,
    /// How many rows were loaded.
    pub rows: u64,
    /// How many events were folded.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
}

pub(super) async fn rebuild<M: ReadModel>(
    context: &Context,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Rebuilt, ProjectionError> {
    let start = Instant::now();
    let mut claim = claim::<M>(context).await?;
    let live = generations::live(&mut claim, M::NAME).await?.map_or(M::VERSION, |live| live.version);
    if live > M::VERSION {
        return Err(ProjectionError::Outdated { name: M::NAME.to_owned(), live, known: M::VERSION });
    }
    generations::sweep(&mut claim, M::NAME).await?;
    let folded = fold_log::<M>(context, &mut claim, None, progress).await?;
    let events = folded.events;
    progress(Progress { phase: Phase::Loading, events, of: None });
    let (mut shadow, rows) = load::<M>(&mut claim, folded).await?;
    catch_up::<M>(context, &mut claim, &mut shadow, progress).await?;
    progress(Progress { phase: Phase::Verifying, events, of: None });
    verify_sample::<M>(context, &mut claim, &shadow.generation).await?;
    progress(Progress { phase: Phase::Switching, events, of: None });
    switch_patiently::<M>(context, &mut claim, &mut shadow, progress).await?;
    generations::sweep(&mut claim, M::NAME).await?;
    claim.close().await?;
    let Generation { generation, checkpoint: position, .. } = shadow.generation;
    Ok(Rebuilt { generation: Some(generation), position, rows, events, took: start.elapsed() })
}

/// Holds a sample of what was built against a plain fold, where a sample can be taken: a rebuild that went wrong is not to
/// go live.
async fn verify_sample<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    generation: &Generation,
) -> Result<(), ProjectionError> {
    if M::ROWS_OF_A_KEY.is_none() {
        return Ok(());
    }
    let sample = verify::Extent::Sample(SAMPLE);
    let verified = verify::verify_generation::<M>(context, connection, generation, sample, &|_| {}).await?;
    match verified.differences.first() {
        None => Ok(()),
        Some(difference) => {
            Err(ProjectionError::Differs { name: M::NAME.to_owned(), difference: difference.to_string() })
        }
    }
}

/// Takes the shadow live, as often as it takes until no long query is in the way.
async fn switch_patiently<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    shadow: &mut Shadow,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), ProjectionError> {
    loop {
        match switch::<M>(context, connection, shadow).await {
            Err(ProjectionError::Database(error)) if is_lock_timeout(&error) => {
                tracing::info!("a long query holds the views; letting it go first");
                tokio::time::sleep(GIVE_WAY).await;
                // Committed on its own, so that the next attempt has little to fold while it holds the projector.
                catch_up::<M>(context, connection, shadow, progress).await?;
            }
            other => {
                other?;
                context.moved.send_replace(());
                return Ok(());
            }
        }
    }
}

/// Goes back to the generation that was live before. It is folded up to where readers are first, so that they see nothing go
/// backwards.
pub(super) async fn roll_back<M: ReadModel>(context: &Context) -> Result<Generation, ProjectionError> {
    let mut claim = claim::<M>(context).await?;
    let all = generations::generations(&mut claim).await?;
    // One that was stopped by a gap lacks what it was not given.
    let is_older = |one: &Generation| {
        one.name == M::NAME && one.state == State::Retired && one.version == M::VERSION && one.gap.is_none()
    };
    let older = all.into_iter().filter(is_older).max_by_key(|one| one.moved_at);
    let generation = older.ok_or_else(|| ProjectionError::NothingToGoBackTo { name: M::NAME.to_owned() })?;
    let parking = Parking::of(&context.pool, &generation).await?;
    let contiguity = Contiguity::from_a_checkpoint(generation.generation, generation.checkpoint);
    let mut shadow = Shadow { generation, parking, contiguity, events: 0 };
    catch_up::<M>(context, &mut claim, &mut shadow, &|_| {}).await?;
    switch_patiently::<M>(context, &mut claim, &mut shadow, &|_| {}).await?;
    claim.close().await?;
    Ok(shadow.generation)
}

/// Folds the log up to a point into tables in a schema of their own, which nothing follows.
pub(super) async fn copy_as_of<M: ReadModel>(
    context: &Context,
    until: Until,
    schema: &str,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Rebuilt, ProjectionError> {
    let start = Instant::now();
    let mut connection = patient_connection(context).await?;
    let folded = fold_log::<M>(context, &mut connection, Some(until), progress).await?;
    let Folded { tables, checkpoint, events, parked: (parked, _), .. } = folded;
    if !parked.is_empty() {
        tracing::warn!(
            events = parked.len(),
            "events that cannot be folded, and what comes behind them, are not in the copy"
        );
    }
    progress(Progress { phase: Phase::Loading, events, of: None });
    let mut transaction = connection.begin().await?;
    sql::create_tables(&mut transaction, schema, M::TABLES_SQL).await?;
    let rows = tables.copy(schema, &mut transaction).await?;
    sql::in_schema(&mut transaction, schema, M::KEYS_SQL).await?;
    sql::analyze(&mut transaction, schema, &M::Tables::names()).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(Rebuilt { generation: None, position: checkpoint, rows, events, took: start.elapsed() })
}

/// A connection that may rest for long between two statements of a transaction: nobody waits for it.
async fn patient_connection(context: &Context) -> Result<PgConnection, sqlx::Error> {
    let options = context.pool.connect_options().as_ref().clone();
    PgConnection::connect_with(&options.options([("idle_in_transaction_session_timeout", "0")])).await
}

/// A connection of its own that holds the right to rebuild a read model: it ends with the connection, however this ends.
async fn claim<M: ReadModel>(context: &Context) -> Result<PgConnection, ProjectionError> {
    let mut claim = patient_connection(context).await?;
    if !generations::claim_rebuild(&mut claim, M::NAME).await? {
        return Err(ProjectionError::Rebuilding { name: M::NAME.to_owned() });
    }
    Ok(claim)
}

/// The log, folded in memory.
struct Folded<M: ReadModel> {
    tables: M::Tables,
    /// Up to where it was folded.
    checkpoint: Option<Position>,
    /// How many events were folded.
    events: u64,
    parking: Parking,
    contiguity: Contiguity,
    /// The events that could not be folded, and what is held of them.
    parked: (Vec<RecordedEvent>, Vec<Held>),
}

impl<M: ReadModel> Folded<M> {
    fn fold(mut self, page: Vec<RecordedEvent>) -> Result<Self, ProjectionError> {
        self.contiguity.check(M::NAME, &page)?;
        let happened = batch::decode(&page);
        let round = batch::fold::<M>(&mut self.tables, &page, &happened, &self.parking)?;
        self.parking.hold(&round.held);
        self.contiguity.learn(&page, 0, None);
        self.events += page.len() as u64;
        let (parked, held) = &mut self.parked;
        for one in round.held {
            let place = parked.len();
            parked.push(page[one.place].clone());
            held.push(Held { place, ..one });
        }
        Ok(self)
    }
}

/// A generation that is being built.
struct Shadow {
    generation: Generation,
    parking: Parking,
    contiguity: Contiguity,
    /// How many events were folded.
    events: u64,
}

impl Shadow {
    /// Folds a page as the live projector would, and commits it with `transaction`.
    async fn apply<M: ReadModel>(
        &mut self,
        mut transaction: Transaction<'_, Postgres>,
        page: &[RecordedEvent],
        to: Position,
    ) -> Result<(), ProjectionError> {
        self.contiguity.check(M::NAME, page)?;
        let held = batch::apply::<M>(&mut transaction, &self.generation, None, &self.parking, page, to).await?;
        transaction.commit().await?;
        self.parking.hold(&held);
        self.contiguity.learn(page, 0, None);
        self.events += page.len() as u64;
        self.generation.checkpoint = Some(to);
        Ok(())
    }
}

/// Folds the log in memory, all of it or up to a point, reading the next page while this one is folded.
async fn fold_log<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    until: Option<Until>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Folded<M>, ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let head = context.store.head().await?;
    let of = context.store.events_between(None, head);
    let mut folded = Folded::<M> {
        tables: M::Tables::new(true),
        checkpoint: None,
        events: 0,
        parking: Parking::of_a_rebuild(connection, M::NAME).await?,
        contiguity: Contiguity::from_the_beginning(),
        parked: Default::default(),
    };
    let mut page = context.store.read_all(None, &filter, PAGE).await?;
    loop {
        let (mut read_to, mut read, mut at_head) = (page.read_to, page.events, page.at_head);
        if let Some(until) = until {
            at_head |= until.is_reached(read_to);
            if let Some(end) = until.cut(&read) {
                read.truncate(end);
                (read_to, at_head) = (read.last().map(|last| last.position), true);
            }
        }
        let next =
            async { if at_head { Ok(None) } else { context.store.read_all(read_to, &filter, PAGE).await.map(Some) } };
        let fold = tokio::task::spawn_blocking(move || folded.fold(read));
        let (next, fold) = tokio::join!(next, fold);
        folded = fold.map_err(|error| sqlx::Error::Protocol(format!("the fold was cut off: {error}")))??;
        folded.checkpoint = read_to.or(folded.checkpoint);
        let behind = context.store.events_between(None, folded.checkpoint).unwrap_or(folded.events);
        progress(Progress { phase: Phase::Folding, events: behind, of });
        match next? {
            Some(next) => page = next,
            None => return Ok(folded),
        }
    }
}

/// Makes a generation of what was folded: tables, rows, keys, in one transaction that nobody waits for.
async fn load<M: ReadModel>(
    connection: &mut PgConnection,
    folded: Folded<M>,
) -> Result<(Shadow, u64), ProjectionError> {
    let Folded { tables, checkpoint, events, parking, contiguity, parked: (parked, held) } = folded;
    let mut transaction = connection.begin().await?;
    let mut generation = generations::add::<M>(&mut transaction, State::Building, checkpoint).await?;
    generations::note_folded(&mut transaction, &mut generation, events).await?;
    sql::create_tables(&mut transaction, &generation.schema_name, M::TABLES_SQL).await?;
    let rows = tables.copy(&generation.schema_name, &mut transaction).await?;
    sql::in_schema(&mut transaction, &generation.schema_name, M::KEYS_SQL).await?;
    sql::analyze(&mut transaction, &generation.schema_name, &M::Tables::names()).await?;
    parking::park(&mut transaction, &generation, &parked, &held, |_| 1).await?;
    transaction.commit().await?;
    Ok((Shadow { generation, parking, contiguity, events }, rows))
}

/// Folds what has happened meanwhile, as the live projector would, until the shadow is close to the head.
async fn catch_up<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    shadow: &mut Shadow,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    for _ in 0..CLOSE.1 {
        let page = context.store.read_all(shadow.generation.checkpoint, &filter, PAGE).await?;
        if let Some(to) = page.read_to.filter(|to| Some(*to) > shadow.generation.checkpoint) {
            shadow.apply::<M>(connection.begin().await?, &page.events, to).await?;
        }
        let events = context.store.events_between(None, shadow.generation.checkpoint).unwrap_or(shadow.events);
        progress(Progress { phase: Phase::CatchingUp, events, of: None });
        if page.at_head && page.events.len() <= CLOSE.0 {
            break;
        }
    }
    Ok(())
}

/// Takes the shadow live, in one transaction: the live projector is held at its checkpoint, the shadow is folded at
/// least up to there, and the views change over. No reader sees anything go backwards or missing.
async fn switch<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    shadow: &Shadow,
) -> Result<(), ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SWITCH_PATIENCE).execute(&mut *transaction).await?;
    let live = generations::lock_live(&mut transaction, M::NAME).await?;
    let live = live.ok_or_else(|| ProjectionError::NotPrepared { name: M::NAME.to_owned() })?;
    // What is folded in here counts only if the whole of it does.
    let mut generation = shadow.generation.clone();
    let (mut keys, skipped) = (shadow.parking.keys.clone(), &shadow.parking.skipped);
    let mut came = Vec::new();
    while generation.checkpoint < live.checkpoint {
        let page = context.store.read_all(generation.checkpoint, &filter, PAGE).await?;
        let Some(to) = page.read_to.filter(|to| Some(*to) > generation.checkpoint) else {
            if ends_before(context, live.checkpoint).await? {
                // The log was restored from a backup. What was folded beyond its end is what the rebuild is to mend, and
                // nothing to go back to.
                generations::note_gap(&mut *transaction, &live, "it was folded from a log that was longer").await?;
                break;
            }
            return Err(ProjectionError::LogWentBack { name: M::NAME.to_owned() });
        };
        came.extend_from_slice(&page.events);
        shadow.contiguity.check(M::NAME, &came)?;
        let parking = Parking { keys, skipped: skipped.clone() };
        let held = batch::apply::<M>(&mut transaction, &generation, None, &parking, &page.events, to).await?;
        keys = parking.keys;
        keys.extend(held.into_iter().map(|held| held.key));
        generation.checkpoint = Some(to);
    }
    // What somebody has redriven or skipped since is not undone.
    parking::bring_up_to_date::<M>(context, &mut transaction, &generation, skipped).await?;
    generations::switch::<M>(&mut transaction, &live, &generation).await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether the log ends before a position.
async fn ends_before(context: &Context, position: Option<Position>) -> Result<bool, ProjectionError> {
    match context.store.read_all(position, &Filter::all(), 1).await {
        Ok(_) => Ok(false),
        Err(error) if error.0.is::<PastTheEnd>() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "55P03"))
}
