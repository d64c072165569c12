//! One batch: fold in rounds until every row is there, then write.

use event_store::{Position, ReadError, RecordedEvent};
use sqlx::postgres::PgConnection;

use super::generations::{self, Generation};
use crate::read_model::{FoldError, ReadModel};
use crate::rows::Tables;
use crate::shop_event::{self, Happened, Undecodable};

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
        source: Undecodable,
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
    /// Another process has moved the checkpoint: it leads this read model.
    #[error("another process has moved the checkpoint of {name}")]
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

/// Decodes the events of a page.
pub(super) fn decode(events: &[RecordedEvent]) -> Result<Vec<Happened>, ProjectionError> {
    let decoded = |event: &RecordedEvent| {
        shop_event::decode(event).map_err(|source| ProjectionError::Undecodable {
            stream: event.stream.to_string(),
            revision: event.revision,
            position: event.position,
            source,
        })
    };
    events.iter().map(decoded).collect()
}

/// Folds events into tables that hold everything the fold may ask for, or says what is missing.
pub(super) fn fold<M: ReadModel>(
    tables: &mut M::Tables,
    events: &[RecordedEvent],
    happened: &[Happened],
) -> Result<Missing, ProjectionError> {
    let mut missing = Missing(false);
    for (event, happened) in events.iter().zip(happened) {
        match M::fold(tables, happened) {
            Ok(()) => {}
            // The round goes on, to learn what else is missing; what it makes is thrown away.
            Err(FoldError::NotLoaded) => missing.0 = true,
            // After something was missing nothing is certain; the next round tells.
            Err(_) if missing.0 => {}
            Err(source) => {
                return Err(ProjectionError::Unfoldable {
                    stream: event.stream.to_string(),
                    revision: event.revision,
                    position: event.position,
                    source,
                });
            }
        }
    }
    Ok(missing)
}

/// Whether a round of folding missed rows.
pub(super) struct Missing(pub(super) bool);

/// Folds a page into a generation and moves its checkpoint, within the caller's transaction: all of it or nothing.
pub(super) async fn apply<M: ReadModel>(
    connection: &mut PgConnection,
    generation: &Generation,
    events: &[RecordedEvent],
    to: Position,
) -> Result<(), ProjectionError> {
    let happened = decode(events)?;
    let mut tables = M::Tables::new(false);
    // The checkpoint first: it locks the generation, so that two leaders take turns and the second one finds out.
    if !generations::advance(connection, generation, to).await? {
        return Err(ProjectionError::NotLeading { name: generation.name.clone() });
    }
    while fold::<M>(&mut tables, events, &happened)?.0 {
        tables.reset();
        tables.load(&generation.schema_name, connection).await?;
    }
    tables.write(&generation.schema_name, connection).await?;
    Ok(())
}
