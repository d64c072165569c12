//! One batch: fold in rounds until every row is there, then write.

use std::collections::HashSet;
use std::sync::Arc;

use event_store::{Position, ReadError};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::generations::{self, Generation};
use super::leases::Lead;
use super::log_event::LogEvent;
use super::parking::{self, Held, Parking};
use crate::read_model::{FoldError, Poison, ReadModel};
use crate::rows::Tables;
use crate::shop_event::Undecodable;

/// How many keys may be parked. More is not one bad event, but a release that does not know them, or a fault of the fold.
const MOST_PARKED: usize = 1_000;

/// Why a projector or a rebuild cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The database of the read models failed.
    #[error("the database of the read models failed")]
    Database(#[from] sqlx::Error),
    /// An event cannot be decoded.
    #[error("the event {stream}@{revision} at {position} cannot be decoded")]
    Undecodable {
        /// Its stream.
        stream: String,
        /// Its place in the stream.
        revision: u64,
        /// Its place in the log.
        position: Position,
        /// Why.
        #[source]
        source: Arc<Undecodable>,
    },
    /// An event cannot be folded.
    #[error("the event {stream}@{revision} at {position} cannot be folded")]
    Unfoldable {
        /// Its stream.
        stream: String,
        /// Its place in the stream.
        revision: u64,
        /// Its place in the log.
        position: Position,
        /// Why.
        #[source]
        source: FoldError,
    },
    /// So many keys are parked that it is no longer one event that is wrong.
    #[error("{MOST_PARKED} keys of {name} are parked, so it stands still: {error}")]
    TooMuchParked {
        /// The read model.
        name: String,
        /// Why the last event could not be folded.
        error: String,
    },
    /// Events of a stream are missing, or come twice.
    #[error(
        "the stream {stream} goes on with revision {found} at {position}, and not with {expected}: {name} was given other \
         events than the log has, or the stream was cut off. Nothing further is folded; see that the stream is whole, then run \
         `storefold rebuild {name}`"
    )]
    Gap {
        /// The read model.
        name: String,
        /// The stream.
        stream: String,
        /// The revision that comes next.
        expected: u64,
        /// The revision that came.
        found: u64,
        /// Where that event stands in the log.
        position: Position,
    },
    /// The projector was stopped by a gap before, and stays so until there is another generation.
    #[error("{gap}")]
    StoppedByGap {
        /// The error of then.
        gap: String,
    },
    /// An event that is to be skipped is not one that could not be folded.
    #[error("the event {event} is not parked in {name} as one that cannot be folded, so there is nothing to skip")]
    NotParked {
        /// The read model.
        name: String,
        /// The event's id.
        event: Uuid,
    },
    /// Rows of this read model follow from the events of more than one key.
    #[error("a row of {name} follows from the events of many keys; run `storefold rebuild {name}`")]
    NotByKey {
        /// The read model.
        name: String,
    },
    /// No row could ever have such a key.
    #[error("{key:?} is no key of {name}")]
    NotAKey {
        /// The read model.
        name: String,
        /// What was given.
        key: String,
    },
    /// What a rebuild has made is not what a plain fold of the log makes.
    #[error("the rebuilt {name} differs from the log, so readers go on seeing the old one: {difference}")]
    Differs {
        /// The read model.
        name: String,
        /// The first difference.
        difference: String,
    },
    /// What is left out has changed while the read model was built.
    #[error("an event was left out of {name} while it was built anew; run `storefold rebuild {name}` again")]
    SkippedMeanwhile {
        /// The read model.
        name: String,
    },
    /// A new version of the read model cannot be built.
    #[error("the new version of {name} cannot be built, so readers go on seeing the old one")]
    NotBuilt {
        /// The read model.
        name: String,
        /// Why.
        #[source]
        source: Box<ProjectionError>,
    },
    /// There is no older generation to go back to.
    #[error("there is no older generation of {name} that this release can fold on")]
    NothingToGoBackTo {
        /// The read model.
        name: String,
    },
    /// A parked event is not in the log any more.
    #[error("the parked event {stream}@{revision} is not in the log any more")]
    ParkedAndGone {
        /// Its stream.
        stream: String,
        /// Its place there.
        revision: u64,
    },
    /// Another process has moved the checkpoint: it leads this read model.
    #[error("another process leads {name}, or has changed what is parked")]
    NotLeading {
        /// The read model.
        name: String,
    },
    /// The database follows another log than the one that is configured.
    #[error(
        "the read models and the processes in this database follow another log, in which they know their places; nothing \
         was done. If that log was moved here, run `storefold copy-log FROM TO --move`; if this is to be another shop, give it \
         a database of its own"
    )]
    AnotherLog,
    /// There is no generation to work on.
    #[error("the read model {name} has no tables yet; run `storefold migrate`")]
    NotPrepared {
        /// The read model.
        name: String,
    },
    /// A newer release has built this read model, and keeps it.
    #[error("{name} is live in version {live}; this release knows version {known} and leaves it alone")]
    Outdated {
        /// The read model.
        name: String,
        /// The version that readers see.
        live: i32,
        /// The version of this program.
        known: i32,
    },
    /// The projector of this read model stands still.
    #[error("the projector of {name} stands still: {error}")]
    StandsStill {
        /// The read model.
        name: String,
        /// Why.
        error: String,
    },
    /// Rows that did not fit into memory cannot be written to disk, or not be read again.
    #[error(
        "rows that do not fit into memory cannot be kept in the directory for temporary files; make room there, or name another one in TMPDIR"
    )]
    Scratch(#[source] std::io::Error),
    /// An as-of copy would have the name of something else.
    #[error("there is a schema {schema} already; drop it, or choose another name")]
    SchemaExists {
        /// Its name.
        schema: String,
    },
    /// The log ends before what the live tables have folded already.
    #[error("the log ends before the checkpoint of {name}; it is another log, or was restored from a backup")]
    LogWentBack {
        /// The read model.
        name: String,
    },
    /// Another process is rebuilding this read model.
    #[error("another process is rebuilding {name}; wait for it to end")]
    Rebuilding {
        /// The read model.
        name: String,
    },
}

/// Whether no more is parked than may be.
pub(super) fn check_parked<M: ReadModel>(parking: &Parking) -> Result<(), ProjectionError> {
    if parking.keys.len() > MOST_PARKED {
        let error = "each of them in another part of the keys".to_owned();
        return Err(ProjectionError::TooMuchParked { name: M::NAME.to_owned(), error });
    }
    Ok(())
}

/// What came of a round of folding.
pub(super) struct Round {
    /// Whether a row was missing. Then nothing of this round counts.
    pub(super) is_missing: bool,
    /// What could not be folded, and what waits behind it.
    pub(super) held: Vec<Held>,
}

/// Folds events into tables, one after another. What cannot be folded is held, with what shares its key, and leaves no trace.
///
/// # Errors
/// When the read model stops at what cannot be folded, or there is too much of it.
pub(super) fn fold<M: ReadModel>(
    tables: &mut M::Tables,
    events: &[LogEvent],
    parking: &Parking,
) -> Result<Round, ProjectionError> {
    let mut round = Round { is_missing: false, held: Vec::new() };
    let mut fresh = HashSet::new();
    for (place, event) in events.iter().enumerate() {
        if parking.skipped.contains(&event.id) {
            continue;
        }
        let key = M::key(&event.stream);
        if parking.keys.contains(key) || fresh.contains(key) {
            round.held.push(Held { place, key: key.to_owned(), error: None });
            continue;
        }
        let Err(error) = fold_one::<M>(tables, event, &mut round.is_missing) else { continue };
        if M::POISON == Poison::Stop {
            return Err(error);
        }
        let error = chain(&error);
        if parking.keys.len() + fresh.len() >= MOST_PARKED {
            return Err(ProjectionError::TooMuchParked { name: M::NAME.to_owned(), error });
        }
        round.held.push(Held { place, key: key.to_owned(), error: Some(error) });
        fresh.insert(key.to_owned());
    }
    Ok(round)
}

/// Folds one event, or says why it cannot be. After something was missing nothing is certain; the next round tells.
fn fold_one<M: ReadModel>(
    tables: &mut M::Tables,
    event: &LogEvent,
    is_missing: &mut bool,
) -> Result<(), ProjectionError> {
    let place = || (event.stream.to_string(), event.revision, event.position);
    let happened = event.happened().map_err(|source| {
        let (stream, revision, position) = place();
        ProjectionError::Undecodable { stream, revision, position, source: source.clone() }
    })?;
    tables.begin();
    let Err(source) = M::fold(tables, happened) else { return Ok(()) };
    tables.take_back();
    // The round goes on, to learn what else is missing.
    *is_missing |= source == FoldError::NotLoaded;
    if *is_missing {
        return Ok(());
    }
    let (stream, revision, position) = place();
    Err(ProjectionError::Unfoldable { stream, revision, position, source })
}

/// Events that were folded once, on the rows in memory: what came of it, if they ask for no other row.
pub(super) struct Begun<M: ReadModel> {
    tables: M::Tables,
    round: Round,
}

impl<M: ReadModel> Begun<M> {
    /// Folds events without a look at the database.
    ///
    /// # Errors
    /// As [`fold`].
    pub(super) fn new(mut tables: M::Tables, events: &[LogEvent], parking: &Parking) -> Result<Self, ProjectionError> {
        let round = fold::<M>(&mut tables, events, parking)?;
        Ok(Self { tables, round })
    }

    /// Whether these events change nothing.
    pub(super) fn is_idle(&self) -> bool {
        !self.round.is_missing && self.round.held.is_empty() && self.tables.is_unchanged()
    }

    /// The rows in memory.
    pub(super) fn into_tables(self) -> M::Tables {
        self.tables
    }

    /// Folds on what is in the tables of a generation, in as many rounds as it takes until no row is missing.
    async fn finish(
        mut self,
        connection: &mut PgConnection,
        generation: &Generation,
        parking: &Parking,
        events: &[LogEvent],
    ) -> Result<(M::Tables, Vec<Held>), ProjectionError> {
        while self.round.is_missing {
            self.tables.reset();
            self.tables.load(&generation.schema_name, connection).await?;
            self.round = fold::<M>(&mut self.tables, events, parking)?;
        }
        Ok((self.tables, self.round.held))
    }
}

/// Folds a page into a generation and moves its checkpoint: all of it or nothing. Answers the rows, which are in the tables
/// now, and what could not be folded; that is parked in the same transaction. `count` says how many events the checkpoint
/// passes.
///
/// Rows are read before the transaction begins, and may have been in memory for long. Whoever else writes rows of this
/// generation, or changes what is parked, moves the checkpoint or counts up `parked_changes`: then nothing is written.
pub(super) async fn apply<M: ReadModel>(
    connection: &mut PgConnection,
    generation: &Generation,
    lead: Option<Lead>,
    parking: &Parking,
    (events, begun, count): (&[LogEvent], Begun<M>, usize),
    to: Position,
) -> Result<(M::Tables, Vec<Held>), ProjectionError> {
    let not_leading = || ProjectionError::NotLeading { name: generation.name.clone() };
    let (tables, held) = begun.finish(connection, generation, parking, events).await?;
    let mut statement = generations::advance(generation, lead, to, count)?;
    tables.write(&generation.schema_name, &mut statement)?;
    if held.is_empty() {
        // One statement is a transaction of its own.
        return if statement.execute(connection).await? { Ok((tables, held)) } else { Err(not_leading()) };
    }
    let mut transaction = connection.begin().await?;
    if !statement.execute(&mut transaction).await? {
        return Err(not_leading());
    }
    parking::park(&mut transaction, generation, events, &held, |_| 1).await?;
    transaction.commit().await?;
    Ok((tables, held))
}

/// Folds a page into a generation that no projector leads yet; see [`apply`].
pub(super) async fn apply_to_shadow<M: ReadModel>(
    connection: &mut PgConnection,
    generation: &Generation,
    parking: &Parking,
    events: &[LogEvent],
    to: Position,
) -> Result<Vec<Held>, ProjectionError> {
    let page = (events, Begun::<M>::new(M::Tables::new(false), events, parking)?, events.len());
    apply::<M>(connection, generation, None, parking, page, to).await.map(|(_, held)| held)
}

/// Folds events on what is in the tables of a generation.
pub(super) async fn fold_from<M: ReadModel>(
    connection: &mut PgConnection,
    generation: &Generation,
    parking: &Parking,
    events: &[LogEvent],
) -> Result<(M::Tables, Vec<Held>), ProjectionError> {
    Begun::<M>::new(M::Tables::new(false), events, parking)?.finish(connection, generation, parking, events).await
}

/// An error with everything behind it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
