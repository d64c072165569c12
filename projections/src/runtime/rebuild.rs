//! Rebuilding a read model while it is read: fold the log into a shadow, catch up, switch.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use event_store::{Filter, PastTheEnd, Position};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Postgres, Transaction};
use uuid::Uuid;

use super::contiguity::Contiguity;
use super::fold_log::{Folded, fold_log};
use super::generations::{self, Generation, State};
use super::load::Load;
use super::log_event::{LogEvent, LogPage};
use super::parking::{self, Parking};
use super::{Context, ProjectionError, batch, sql, verify};
use crate::read_model::ReadModel;

/// How many events of the log are read at a time while catching up.
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
    pub(super) fn cut(self, events: &[LogEvent]) -> Option<usize> {
        events.iter().position(|event| match self {
            Self::Position(last) => event.position > last,
            Self::Time(last) => event.happened().is_ok_and(|happened| happened.at > last),
        })
    }

    pub(super) fn is_reached(self, position: Option<Position>) -> bool {
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
    let built = build::<M>(context, &mut claim, progress).await;
    if built.is_err()
        && let Err(error) = generations::sweep(&mut claim, M::NAME).await
    {
        tracing::warn!(%error, "what an unfinished rebuild has left is there until the next one");
    }
    let (mut shadow, rows) = built?;
    let events = shadow.events;
    catch_up::<M>(context, &mut claim, &mut shadow, progress).await?;
    progress(Progress { phase: Phase::Verifying, events, of: None });
    verify_sample::<M>(context, &mut claim, &shadow.generation).await?;
    progress(Progress { phase: Phase::Switching, events, of: None });
    switch_patiently::<M>(context, &mut claim, &mut shadow, progress).await?;
    generations::sweep(&mut claim, M::NAME).await?;
    generations::end_claim(claim, M::NAME).await?;
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
    generations::end_claim(claim, M::NAME).await?;
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
    sql::check_free(&mut connection, schema).await?;
    // Under a name of its own until it is whole.
    let unfinished = format!("unfinished_{}", Uuid::new_v4().simple());
    sql::sweep_unfinished(&mut connection, &unfinished).await?;
    let copied = async {
        create::<M>(&mut connection, &unfinished).await?;
        let mut load = Load::begin::<M>(&connection_options(context), &unfinished);
        let folded = fold_log::<M>(context, &mut connection, Some(until), &mut load, progress).await?;
        let rows = load.end(&mut connection, &unfinished).await?;
        sql::rename_schema(&mut connection, &unfinished, schema).await?;
        Ok((folded, rows))
    };
    let (Folded { checkpoint, events, parked: (parked, _), .. }, rows) = match copied.await {
        Ok(copied) => copied,
        Err(error) => {
            if let Err(error) = sql::drop_tables(&mut connection, &unfinished).await {
                tracing::warn!(schema = unfinished, %error, "a copy that was not finished could not be dropped");
            }
            return Err(error);
        }
    };
    if !parked.is_empty() {
        tracing::warn!(
            events = parked.len(),
            "events that cannot be folded, and what comes behind them, are not in the copy"
        );
    }
    connection.close().await?;
    Ok(Rebuilt { generation: None, position: checkpoint, rows, events, took: start.elapsed() })
}

/// A connection that may rest for long, and be busy for long: nobody waits for it.
async fn patient_connection(context: &Context) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect_with(&connection_options(context)).await
}

fn connection_options(context: &Context) -> PgConnectOptions {
    let unbounded = ["idle_in_transaction_session_timeout", "idle_session_timeout", "statement_timeout"];
    context.pool.connect_options().as_ref().clone().options(unbounded.map(|timeout| (timeout, "0")))
}

/// A connection of its own that holds the right to rebuild a read model: it ends with the connection, however this ends.
async fn claim<M: ReadModel>(context: &Context) -> Result<PgConnection, ProjectionError> {
    let mut claim = patient_connection(context).await?;
    if !generations::claim_rebuild(&mut claim, M::NAME).await? {
        return Err(ProjectionError::Rebuilding { name: M::NAME.to_owned() });
    }
    Ok(claim)
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
        page: &[LogEvent],
        to: Position,
    ) -> Result<(), ProjectionError> {
        self.contiguity.check(M::NAME, page)?;
        let held = batch::apply_to_shadow::<M>(&mut transaction, &self.generation, &self.parking, page, to).await?;
        transaction.commit().await?;
        self.parking.hold(&held);
        self.contiguity.learn(page, 0, None);
        self.events += page.len() as u64;
        self.generation.checkpoint = Some(to);
        Ok(())
    }
}

/// Makes a generation of the whole log: tables first, then rows while the log is folded, then keys. Nobody sees it yet.
async fn build<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Shadow, u64), ProjectionError> {
    let mut transaction = connection.begin().await?;
    let mut generation = generations::add::<M>(&mut transaction, State::Building).await?;
    create::<M>(&mut transaction, &generation.schema_name).await?;
    transaction.commit().await?;
    let mut load = Load::begin::<M>(&connection_options(context), &generation.schema_name);
    let folded = fold_log::<M>(context, connection, None, &mut load, progress).await?;
    // Whoever has lost the claim with its connection is to know before the rest is done.
    connection.ping().await?;
    let rows = load.end(connection, &generation.schema_name).await?;
    let Folded { checkpoint, events, parking, contiguity, parked: (parked, held) } = folded;
    let mut transaction = connection.begin().await?;
    generations::fill(&mut transaction, &mut generation, checkpoint, events).await?;
    parking::park(&mut transaction, &generation, &parked, &held, |_| 1).await?;
    transaction.commit().await?;
    Ok((Shadow { generation, parking, contiguity, events }, rows))
}

/// Creates the tables in a schema of their own, without keys.
async fn create<M: ReadModel>(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sql::create_tables(&mut transaction, schema, M::TABLES_SQL).await?;
    transaction.commit().await
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
        let page = LogPage::from(context.store.read_all(shadow.generation.checkpoint, &filter, PAGE).await?);
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
        let page = LogPage::from(context.store.read_all(generation.checkpoint, &filter, PAGE).await?);
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
        let held = batch::apply_to_shadow::<M>(&mut transaction, &generation, &parking, &page.events, to).await?;
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
