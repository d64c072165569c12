//! Snapshots: what an aggregate with a long stream was as of a revision, kept in Postgres, wherever the log is.
//!
//! A snapshot is taken beside the path of a command and never waited for. It stands for the beginning of a stream in two
//! things: the state that was folded from it, and the commands that were done in it, each with its place, so that a command
//! that is older than the snapshot is known all the same. Both follow from the log and are written in one transaction; what
//! does not fit the log, or has another form or checksum, is passed over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use domain::decider::{self, Decider};
use event_store::{ReadError, StreamName};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPool;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::cache::Kept;
use crate::load::Loaded;

/// A snapshot is taken when so many events have come since the last one.
pub const EVERY: u64 = 1_000;

/// How many snapshots are written at a time.
const WRITERS: usize = 2;

/// How many commands are noted by one statement.
const CHUNK: usize = 20_000;

/// The migrations of the tables of snapshots. They keep their own book, so that they can live beside others in one database.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/snapshots");
    migrator.dangerous_set_table_name("_storefold_snapshots_migrations");
    migrator
}

/// Keeps snapshots in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pool: PgPool,
    writers: Arc<Semaphore>,
    /// Of which streams one is being written.
    under_way: Arc<Mutex<HashSet<StreamName>>>,
}

/// What became of a snapshot that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    NotYet,
    /// It is there; the state takes so many bytes.
    Done(usize),
    Failed,
}

/// A snapshot that is to be written.
pub(crate) struct Picture<D: Decider> {
    pub(crate) stream: StreamName,
    pub(crate) revision: u64,
    pub(crate) last_event: Uuid,
    pub(crate) state: D::State,
    /// The revision of the snapshot that this one builds on. `commands` are those behind it.
    pub(crate) base: Option<u64>,
    pub(crate) commands: Vec<(Uuid, u64)>,
}

impl Snapshots {
    /// Snapshots in this database, whose tables are there; see [`migrator`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool, writers: Arc::new(Semaphore::new(WRITERS)), under_way: Arc::default() }
    }

    /// An aggregate as of its snapshot, if there is one. Who reads on finds out whether the log has the event that it ends with.
    pub(crate) async fn restore<D: Decider>(&self, stream: &StreamName) -> Option<Kept<D>> {
        let form = D::snapshots()?;
        match self.read::<D>(stream, &form).await {
            Ok(restored) => restored,
            Err(error) => {
                tracing::warn!(%error, %stream, "a snapshot cannot be read; its stream is folded from the beginning");
                None
            }
        }
    }

    async fn read<D: Decider>(
        &self,
        stream: &StreamName,
        form: &decider::Snapshots<D::State>,
    ) -> Result<Option<Kept<D>>, sqlx::Error> {
        let sql = "select revision, last_event, version, checksum, state from snapshots.aggregates where stream = $1";
        let Some(row) = sqlx::query(sql).bind(stream.as_str()).fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let (revision, last_event): (i64, Uuid) = (row.try_get("revision")?, row.try_get("last_event")?);
        let (version, checksum, bytes): (&str, &[u8], &[u8]) =
            (row.try_get("version")?, row.try_get("checksum")?, row.try_get("state")?);
        let Ok(revision) = u64::try_from(revision) else { return Ok(None) };
        if version != version_of(form) || checksum != checksum_of(stream, revision, last_event, version, bytes) {
            return Ok(None);
        }
        let Ok(state) = form.decode(bytes) else { return Ok(None) };
        let loaded = Loaded { state, revision: Some(revision), position: None, last_event: Some(last_event) };
        Ok(Some(Kept::restored(loaded, bytes.len())))
    }

    /// Which of these commands are behind a snapshot, and where their events begin; `None` when the snapshot at `base`, or a
    /// later one, is no longer there.
    ///
    /// # Errors
    /// When the database does not say. Whether a command was done is then not known.
    pub(crate) async fn find(
        &self,
        stream: &StreamName,
        base: u64,
        commands: &[Uuid],
    ) -> Result<Option<HashMap<Uuid, u64>>, ReadError> {
        let sql = "select c.command, c.revision from snapshots.aggregates a
                     left join snapshots.commands c on c.stream = a.stream and c.command = any ($2)
                    where a.stream = $1 and a.revision >= $3";
        let read = async {
            let query = sqlx::query_as(sql).bind(stream.as_str()).bind(commands);
            let rows: Vec<(Option<Uuid>, Option<i64>)> = query.bind(signed(base)).fetch_all(&self.pool).await?;
            Ok::<_, sqlx::Error>(rows)
        };
        let rows = read.await.map_err(|error| ReadError(Arc::new(error)))?;
        let found =
            rows.iter().filter_map(|(command, revision)| Some(((*command)?, u64::try_from((*revision)?).ok()?)));
        Ok((!rows.is_empty()).then(|| found.collect()))
    }

    /// Has a snapshot written, in a task of its own. `None` when that is not to be now: too many are being written, or one
    /// of this stream is.
    pub(crate) fn take<D: Decider>(
        &self,
        picture: impl FnOnce() -> Picture<D>,
        stream: &StreamName,
    ) -> Option<Pending> {
        let form = D::snapshots()?;
        let permit = self.writers.clone().try_acquire_owned().ok()?;
        let place = Place::take(self.under_way.clone(), stream)?;
        let (said, pending) = tokio::sync::watch::channel(Written::NotYet);
        let (picture, snapshots) = (picture(), self.clone());
        tokio::spawn(async move {
            let written = match snapshots.write(&picture, &form).await {
                Ok(Some(bytes)) => Written::Done(bytes),
                Ok(None) => Written::Failed,
                Err(error) => {
                    tracing::warn!(%error, stream = %picture.stream, "a snapshot cannot be written");
                    Written::Failed
                }
            };
            // Who let go of the aggregate does not ask.
            let _ = said.send(written);
            drop((place, permit));
        });
        Some(pending)
    }

    /// Writes a snapshot and the commands behind it, and says how many bytes the state takes; `None` when the one that it
    /// builds on is gone.
    async fn write<D: Decider>(
        &self,
        picture: &Picture<D>,
        form: &decider::Snapshots<D::State>,
    ) -> Result<Option<usize>, sqlx::Error> {
        let Picture { stream, revision, last_event, state, base, commands } = picture;
        let state = form.encode(state).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let (version, bytes) = (version_of(form), state.len());
        let checksum = checksum_of(stream, *revision, *last_event, &version, &state);
        let mut transaction = self.pool.begin().await?;
        let sql = "select revision from snapshots.aggregates where stream = $1 for update";
        let there: Option<i64> =
            sqlx::query_scalar(sql).bind(stream.as_str()).fetch_optional(&mut *transaction).await?;
        if base.is_some_and(|base| there < Some(signed(base))) {
            return Ok(None);
        }
        // The revision never falls: others may build on the row that is there, whatever its form.
        let sql = "insert into snapshots.aggregates (stream, revision, last_event, version, checksum, state)
                   values ($1, $2, $3, $4, $5, $6)
                   on conflict (stream) do update set revision = excluded.revision, last_event = excluded.last_event,
                       version = excluded.version, checksum = excluded.checksum, state = excluded.state, taken_at = now()
                   where aggregates.revision <= excluded.revision";
        let query = sqlx::query(sql).bind(stream.as_str()).bind(signed(*revision)).bind(last_event);
        query.bind(version).bind(checksum).bind(state).execute(&mut *transaction).await?;
        let sql = "insert into snapshots.commands (stream, command, revision)
                   select $1, command, revision from unnest($2::uuid[], $3::bigint[]) as c (command, revision)
                   on conflict (stream, command) do update set revision = excluded.revision
                   where commands.revision <> excluded.revision";
        for chunk in commands.chunks(CHUNK) {
            let (ids, revisions): (Vec<Uuid>, Vec<i64>) =
                chunk.iter().map(|(command, revision)| (command, signed(*revision))).unzip();
            sqlx::query(sql).bind(stream.as_str()).bind(ids).bind(revisions).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(Some(bytes))
    }
}

/// Says what became of a snapshot.
pub(crate) type Pending = tokio::sync::watch::Receiver<Written>;

/// A stream's place among those of which a snapshot is being written, until it is dropped.
struct Place {
    under_way: Arc<Mutex<HashSet<StreamName>>>,
    stream: StreamName,
}

impl Place {
    fn take(under_way: Arc<Mutex<HashSet<StreamName>>>, stream: &StreamName) -> Option<Self> {
        let is_first = under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.clone());
        is_first.then(|| Self { under_way, stream: stream.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream);
    }
}

/// The form of a state, in short.
fn version_of<S>(form: &decider::Snapshots<S>) -> String {
    Sha256::digest(form.form()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn checksum_of(stream: &StreamName, revision: u64, last_event: Uuid, version: &str, state: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(format!("{stream}\n{revision}\n{last_event}\n{version}\n"));
    hash.update(state);
    hash.finalize().to_vec()
}

/// A revision as the tables have it.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
