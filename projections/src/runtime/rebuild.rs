//! Rebuilding a read model while it is read: fold the log into a shadow, catch up, switch.

use std::time::{Duration, Instant};

use event_store::{Filter, PastTheEnd, Position};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::generations::{self, Generation, State};
use super::{Context, ProjectionError, batch, sql};
use crate::read_model::ReadModel;
use crate::rows::Tables;

/// How many events of the log are read at a time.
const PAGE: usize = 5_000;
/// The shadow is taken live when it is at most this many events behind, or after this many attempts to get there.
const CLOSE: (u64, usize) = (1_000, 100);
/// How long the switch waits for readers before it lets them go first and tries again, and how long a process that is
/// frozen in the middle of it may hold the projector.
const SWITCH_PATIENCE: &str = "set local lock_timeout = '500ms'; set local idle_in_transaction_session_timeout = '8s'";

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
    /// It takes the shadow live.
    Switching,
}

/// What a rebuild has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that readers see now.
    pub generation: i32,
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
    // A connection of its own holds the claim: it ends with the connection, however this ends.
    // Between two statements of the load it may sort for long; nobody waits for that transaction.
    let options = context.pool.connect_options().as_ref().clone();
    let options = options.options([("idle_in_transaction_session_timeout", "0")]);
    let mut claim = PgConnection::connect_with(&options).await?;
    if !generations::claim_rebuild(&mut claim, M::NAME).await? {
        return Err(ProjectionError::Rebuilding { name: M::NAME.to_owned() });
    }
    let live = generations::live(&mut claim, M::NAME).await?.map_or(M::VERSION, |live| live.version);
    if live > M::VERSION {
        return Err(ProjectionError::Outdated { name: M::NAME.to_owned(), live, known: M::VERSION });
    }
    generations::sweep(&mut claim, M::NAME).await?;
    let (tables, checkpoint, events) = fold_log::<M>(context, progress).await?;
    progress(Progress { phase: Phase::Loading, events, of: None });
    let (mut shadow, rows) = load::<M>(&mut claim, &tables, checkpoint).await?;
    drop(tables);
    catch_up::<M>(context, &mut claim, &mut shadow, events, progress).await?;
    progress(Progress { phase: Phase::Switching, events, of: None });
    loop {
        match switch::<M>(context, &mut claim, &shadow).await {
            Err(ProjectionError::Database(error)) if is_lock_timeout(&error) => {
                tracing::info!("a long query holds the views; letting it go first");
                tokio::time::sleep(GIVE_WAY).await;
                // Committed on its own, so that the next attempt has little to fold while it holds the projector.
                catch_up::<M>(context, &mut claim, &mut shadow, events, progress).await?;
            }
            other => break other?,
        }
    }
    context.moved.send_replace(());
    generations::sweep(&mut claim, M::NAME).await?;
    claim.close().await?;
    Ok(Rebuilt { generation: shadow.generation, rows, events, took: start.elapsed() })
}

/// Folds the whole log in memory, reading the next page while this one is folded.
async fn fold_log<M: ReadModel>(
    context: &Context,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(M::Tables, Option<Position>, u64), ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let head = context.store.head().await?;
    let of = context.store.events_between(None, head);
    let mut tables = M::Tables::new(true);
    let (mut checkpoint, mut events) = (None, 0);
    let mut page = context.store.read_all(None, &filter, PAGE).await?;
    loop {
        checkpoint = page.read_to.or(checkpoint);
        let (read, at_head) = (page.events, page.at_head);
        events += read.len() as u64;
        let next = async {
            if at_head { Ok(None) } else { context.store.read_all(checkpoint, &filter, PAGE).await.map(Some) }
        };
        let folded = async {
            tokio::task::spawn_blocking(move || {
                let happened = batch::decode(&read)?;
                batch::fold::<M>(&mut tables, &read, &happened)?;
                Ok::<_, ProjectionError>(tables)
            })
            .await
        };
        let (next, folded) = tokio::join!(next, folded);
        tables = folded.map_err(|error| sqlx::Error::Protocol(format!("the fold was cut off: {error}")))??;
        let behind = context.store.events_between(None, checkpoint).unwrap_or(events);
        progress(Progress { phase: Phase::Folding, events: behind, of });
        match next? {
            Some(next) => page = next,
            None => return Ok((tables, checkpoint, events)),
        }
    }
}

/// Makes a generation of what was folded: tables, rows, keys, in one transaction that nobody waits for.
async fn load<M: ReadModel>(
    connection: &mut PgConnection,
    tables: &M::Tables,
    checkpoint: Option<Position>,
) -> Result<(Generation, u64), ProjectionError> {
    let mut transaction = connection.begin().await?;
    let shadow = generations::add::<M>(&mut transaction, State::Building, checkpoint).await?;
    sql::create_tables(&mut transaction, &shadow.schema_name, M::TABLES_SQL).await?;
    let rows = tables.copy(&shadow.schema_name, &mut transaction).await?;
    sql::in_schema(&mut transaction, &shadow.schema_name, M::KEYS_SQL).await?;
    sql::analyze(&mut transaction, &shadow.schema_name, &M::Tables::names()).await?;
    transaction.commit().await?;
    Ok((shadow, rows))
}

/// Folds what has happened meanwhile, as the live projector would, until the shadow is close to the head. So many events
/// were `folded` before.
async fn catch_up<M: ReadModel>(
    context: &Context,
    connection: &mut PgConnection,
    shadow: &mut Generation,
    mut folded: u64,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    for _ in 0..CLOSE.1 {
        let page = context.store.read_all(shadow.checkpoint, &filter, PAGE).await?;
        let behind = page.events.len() as u64;
        folded += behind;
        if let Some(to) = page.read_to.filter(|to| Some(*to) > shadow.checkpoint) {
            let mut transaction = connection.begin().await?;
            batch::apply::<M>(&mut transaction, shadow, &page.events, to).await?;
            transaction.commit().await?;
            shadow.checkpoint = Some(to);
        }
        let events = context.store.events_between(None, shadow.checkpoint).unwrap_or(folded);
        progress(Progress { phase: Phase::CatchingUp, events, of: None });
        if page.at_head && behind <= CLOSE.0 {
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
    shadow: &Generation,
) -> Result<(), ProjectionError> {
    let filter = Filter::categories(M::CATEGORIES.iter().copied());
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SWITCH_PATIENCE).execute(&mut *transaction).await?;
    let live = generations::lock_live(&mut transaction, M::NAME).await?;
    let live = live.ok_or_else(|| ProjectionError::NotPrepared { name: M::NAME.to_owned() })?;
    let mut shadow = shadow.clone();
    while shadow.checkpoint < live.checkpoint {
        let page = context.store.read_all(shadow.checkpoint, &filter, PAGE).await?;
        let Some(to) = page.read_to.filter(|to| Some(*to) > shadow.checkpoint) else {
            if ends_before(context, live.checkpoint).await? {
                // The log was restored from a backup. What was folded beyond its end is what the rebuild is to mend.
                break;
            }
            return Err(ProjectionError::LogWentBack { name: M::NAME.to_owned() });
        };
        batch::apply::<M>(&mut transaction, &shadow, &page.events, to).await?;
        shadow.checkpoint = Some(to);
    }
    generations::switch::<M>(&mut transaction, &live, &shadow).await?;
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
