//! How far the read models themselves are.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, Object, SimpleObject};

use crate::connection::list_cost;
use crate::error::Failure;
use crate::own_writes::{self, Reads};
use crate::position::{LogHead, Position};
use crate::scalars::Long;

/// The projections of a query.
#[derive(Default)]
pub(crate) struct ProjectionsQuery;

#[Object]
impl ProjectionsQuery {
    /// The read models, live ones and those being built, by name: which part of the log each has folded in.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn projections(&self, ctx: &Context<'_>) -> Result<Vec<Projection>, Failure> {
        load(&**ctx.data_unchecked::<Arc<dyn LogHead>>(), ctx.data_unchecked::<Arc<Reads>>()).await
    }
}

/// The read models, live ones and those being built, by name.
pub(crate) async fn load(log: &dyn LogHead, reads: &Reads) -> Result<Vec<Projection>, Failure> {
    // The end of the log is read first: a projector that moves meanwhile is then ahead of it, not falsely behind.
    let head = log.head().await.map_err(|error| Failure::internal(&*error))?;
    let sql = "select name, version, state, error is not null, commit_position, prepare_position, \
               greatest(extract(epoch from clock_timestamp() - moved_at), 0)::float8, \
               (select count(*) from control.parked p where p.name = g.name and p.generation = g.generation) \
               from control.generations g where state <> 'retired' order by name collate \"C\", generation";
    let rows: Vec<Row> = reads.control().all(sqlx::query_as(sql)).await?;
    let projection = |(name, version, state, stopped, commit, prepare, age, parked): Row| {
        let position = own_writes::position(commit, prepare);
        Projection {
            name,
            version,
            position,
            head_position: head,
            lag_seconds: if position < head { age } else { 0.0 },
            state: match (stopped, &*state) {
                (true, _) => ProjectionState::Stopped,
                (false, "live") => ProjectionState::Live,
                (false, _) => ProjectionState::Building,
            },
            parked: Long(parked),
        }
    };
    Ok(rows.into_iter().map(projection).collect())
}

type Row = (String, i32, String, bool, Option<i64>, Option<i64>, f64, i64);

/// A read model and how far the log is folded into it.
#[derive(Debug, Clone, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Projection {
    /// The read model's name.
    name: String,
    /// The version of its code that folds the events.
    version: i32,
    /// The position of the last event that is folded in; null before the first.
    position: Option<Position>,
    /// The position of the last event in the log; null while the log is empty.
    head_position: Option<Position>,
    /// For how many seconds the position has not moved, 0 if it is at the end of the log.
    lag_seconds: f64,
    /// What the projector does.
    state: ProjectionState,
    /// How many events are set aside: those that cannot be folded in, and what waits behind them.
    parked: Long,
}

#[ComplexObject]
impl Projection {
    /// How many events of the log are not folded in yet; null if the log cannot tell.
    async fn lag_events(&self, ctx: &Context<'_>) -> Option<Long> {
        if self.position >= self.head_position {
            return Some(Long(0));
        }
        let log = ctx.data_unchecked::<Arc<dyn LogHead>>();
        let count = log.events_between(self.position, self.head_position).await?;
        Some(Long(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

/// What a projector does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum ProjectionState {
    /// It follows the log, and queries read what it writes.
    Live,
    /// It fills new tables, which queries do not read yet.
    Building,
    /// It stands still because of an error, which is in the server's log.
    Stopped,
}
