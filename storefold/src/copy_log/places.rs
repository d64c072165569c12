//! The places in the log that the read models and the processes know, and what becomes of them when the log is moved.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use event_store::{EventStore, Position};
use projections::runtime;
use projections::runtime::followed::Landmark;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, Row as _};

use crate::{logs, shop};

/// The tables whose rows say up to where something has followed the log, or where an event stands in it.
const TABLES: [&str; 4] = ["control.generations", "control.parked", "process.managers", "process.held"];

/// Places in the source, and where they are in the target.
pub(super) struct Places {
    pool: PgPool,
    /// In order.
    places: Vec<Place>,
    /// How many of them the source has passed, and how many the target.
    passed: usize,
    found: usize,
    /// How many events of the source have been passed, and where the last one stands.
    events: u64,
    last: Option<Position>,
    /// Whether the database follows the target already: it was moved before.
    is_moved: bool,
}

/// Makes sure that no program leads anything in the database.
async fn ensure_quiet(database: impl sqlx::PgExecutor<'_>) -> anyhow::Result<()> {
    let led = "select process from process.leases where leads_until > clock_timestamp()
        union all select name from control.leases where leads_until > clock_timestamp() limit 1";
    let led: Option<String> = sqlx::query_scalar(led).fetch_optional(database).await?;
    ensure!(
        led.is_none(),
        "a storefold is at work in this database: it leads {}. Stop all of them, and wait until `storefold status` says that \
         none leads",
        led.unwrap_or_default()
    );
    Ok(())
}

struct Place {
    /// Where it is in the source.
    position: Position,
    /// How many events of the source stand up to and with it.
    events: u64,
    /// Where the last of them stands in the target; `None` where there is none.
    target: Option<Position>,
}

impl Places {
    /// Those that the database knows.
    ///
    /// # Errors
    /// When the database follows another log than the source, or a program is at work in it.
    pub(super) async fn of(
        options: &PgConnectOptions,
        from: &dyn EventStore,
        to: &dyn EventStore,
    ) -> anyhow::Result<Self> {
        let pool = runtime::pool(options).await.context(logs::UNREACHABLE)?;
        shop::prepare(&pool).await?;
        ensure_quiet(&pool).await?;
        let followed = Landmark::followed(&pool).await?;
        let (source, target) = (Landmark::of(from).await?, Landmark::of(to).await?);
        let is_moved = followed.is_some() && followed == target;
        ensure!(
            followed.is_none() || followed == source || is_moved,
            "the read models and the processes in this database follow another log than the source"
        );
        let mut positions = BTreeSet::new();
        for table in TABLES {
            let sql =
                format!("select commit_position, prepare_position from {table} where commit_position is not null");
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&pool).await? {
                let (commit, prepare): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                positions.insert(Position { commit: commit.try_into()?, prepare: prepare.try_into()? });
            }
        }
        let places = positions.into_iter().map(|position| Place { position, events: 0, target: None }).collect();
        Ok(Self { pool, places, passed: 0, found: 0, events: 0, last: None, is_moved })
    }

    /// The next event of the source stands here.
    pub(super) fn pass(&mut self, position: Position) {
        self.events += 1;
        self.last = Some(position);
        while let Some(place) = self.places.get_mut(self.passed).filter(|place| place.position < position) {
            place.events = self.events - 1;
            self.passed += 1;
        }
    }

    /// The source ends. A place at its last event is passed only now.
    ///
    /// # Errors
    /// When there is a place past the end of the source.
    pub(super) fn pass_end(&mut self) -> anyhow::Result<()> {
        for place in &mut self.places[self.passed..] {
            ensure!(
                self.is_moved || Some(place.position) <= self.last,
                "something in this database has followed the source up to {}, and the source ends before",
                place.position
            );
            place.events = self.events;
        }
        Ok(())
    }

    /// So many events of the target end here.
    pub(super) fn find(&mut self, events: u64, position: Position) {
        while let Some(place) = self.places.get_mut(self.found).filter(|place| place.events <= events) {
            place.target = Some(position).filter(|_| place.events == events);
            self.found += 1;
        }
    }

    /// Moves all of them in one transaction, and has the database follow the target. Answers how many there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub(super) async fn go_on_from(self, to: &dyn EventStore) -> anyhow::Result<u64> {
        if self.is_moved {
            return Ok(0);
        }
        let number = |position: u64| i64::try_from(position).context("a position does not fit into the database");
        let mut columns = [const { Vec::<Option<i64>>::new() }; 4];
        for Place { position, target, .. } in &self.places {
            let (commit, prepare) = (target.map(|target| target.commit), target.map(|target| target.prepare));
            let parts = [Some(position.commit), Some(position.prepare), commit, prepare];
            for (column, part) in columns.iter_mut().zip(parts) {
                column.push(part.map(number).transpose()?);
            }
        }
        let mut transaction = self.pool.begin().await?;
        // Nothing may have moved since the places were read, and nothing moves from here on.
        let lock = format!("lock table {} in exclusive mode", TABLES.join(", "));
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        ensure_quiet(&mut *transaction).await?;
        let mut moved = 0;
        for table in TABLES {
            // Twice, for a place that one row comes to may be that from which another one has still to go.
            let away = format!(
                "update {table} set commit_position = -1 - new_commit, prepare_position = new_prepare
                   from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                        as place (old_commit, old_prepare, new_commit, new_prepare)
                  where commit_position = old_commit and prepare_position = old_prepare"
            );
            let [old_commits, old_prepares, new_commits, new_prepares] = &columns;
            let update = sqlx::query(AssertSqlSafe(away));
            let update = update.bind(old_commits).bind(old_prepares).bind(new_commits).bind(new_prepares);
            moved += update.execute(&mut *transaction).await?.rows_affected();
            let left = format!("select count(*) from {table} where commit_position >= 0");
            let left: i64 = sqlx::query_scalar(AssertSqlSafe(left)).fetch_one(&mut *transaction).await?;
            ensure!(
                left == 0,
                "something in {table} has moved on while the log was copied; stop every storefold, and run this again"
            );
            let there = format!("update {table} set commit_position = -1 - commit_position where commit_position < 0");
            sqlx::query(AssertSqlSafe(there)).execute(&mut *transaction).await?;
        }
        if let Some(landmark) = Landmark::of(to).await? {
            landmark.follow(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(moved)
    }
}
