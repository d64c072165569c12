//! What is parked of the read models, and what the shop's own people do about it.

use std::sync::Arc;

use access::{Caller, Refusal};
use async_graphql::{ComplexObject, Context, Object, SimpleObject};
use async_trait::async_trait;
use sqlx::FromRow;

use crate::connection::{self, List, Listed, Page, list_cost, page_cost};
use crate::error::{Code, Failure};
use crate::own_writes::{self, ReadModel, Reads};
use crate::position::{LogError, Position};
use crate::scalars::{DateTime, Long, Uuid};
use crate::sql::{self, Bind, Conditions, Key, Sort, Table, Window};
use crate::written::Write::Plain;
use crate::written::{Write, Written};

/// The longest reason, in characters.
const LONGEST_REASON: usize = 1_000;
/// How many failures are told at most.
const MOST_FAILURES: usize = 20;

/// Has what is parked of the read models folded after all, or left out.
#[async_trait]
pub trait Repairs: Send + Sync {
    /// Folds what is parked of a key of a read model, in order, as far as it can be folded now; of every key, if `key` is
    /// `None`.
    ///
    /// # Errors
    /// [`RepairError`]. Of several keys, those before the one that failed are done.
    async fn redrive(&self, read_model: &str, key: Option<&str>) -> Result<Redriven, RepairError>;

    /// Leaves an event out that cannot be folded, for a reason that is put on record, and folds what waited behind it.
    ///
    /// # Errors
    /// [`RepairError`]; what is parked is as it was.
    async fn skip(&self, read_model: &str, event: uuid::Uuid, reason: &str) -> Result<Redriven, RepairError>;
}

/// What came of trying events again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// How many were folded.
    pub folded: usize,
    /// How many are still parked.
    pub parked: usize,
}

/// Why nothing was tried again, or left out.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// There is no such read model.
    #[error("there is no such read model; there are {}", .known.join(", "))]
    NoSuchReadModel {
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// Nothing of the kind is parked.
    #[error("nothing of the kind is parked")]
    NotParked,
    /// The database or the log failed.
    #[error("the read model could not be mended")]
    Failed(#[source] LogError),
}

/// What is parked, of a query.
#[derive(Default)]
pub(crate) struct ParkedQuery;

#[Object]
impl ParkedQuery {
    /// The events that are parked, by read model and in the order of the log, a page at a time: those that cannot be
    /// folded, and what waits behind them because it has the same key. Needs the scope operations:read.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn parked(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those of this read model.")] read_model: Option<String>,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<ParkedEvent>, Failure> {
        let conditions = Conditions::default().and("read_model = ?", read_model.map(Bind::Text));
        connection::list(ctx, IN_ORDER, conditions, Page { first, after, last, before }).await
    }
}

/// What can be mended.
pub(crate) struct Mutation;

/// What the shop's own people mend in the read models. It changes no fact: commands are sent to /v1, not here.
#[Object]
impl Mutation {
    /// Folds what is parked of a read model, in order, as far as it can be folded now. Needs the scope operations:repair.
    /// When it takes longer than a query may, it goes on all the same: parked shows what is left.
    #[graphql(complexity = "list_cost(MOST_FAILURES, child_complexity)")]
    async fn redrive(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The read model.")] read_model: String,
        #[graphql(desc = "What is tried again, as parked shows it: all of this key. Everything, if left out.")]
        key: Option<String>,
    ) -> Result<Outcome, Failure> {
        let caller = caller(ctx)?;
        let redriven = repairs(ctx)?.redrive(&read_model, key.as_deref()).await.map_err(Failure::from)?;
        tracing::info!(
            actor = caller.subject,
            read_model,
            key,
            redriven.folded,
            redriven.parked,
            "parked events were tried again"
        );
        Outcome::new(ctx, redriven, &read_model, key).await
    }

    /// Leaves an event out of a read model that cannot be folded, for ever and in rebuilds too, and folds what waited
    /// behind it. Needs the scope operations:repair.
    #[graphql(complexity = "list_cost(MOST_FAILURES, child_complexity)")]
    async fn skip(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The read model.")] read_model: String,
        #[graphql(desc = "The event's id. It has to be one that cannot be folded itself.")] event: Uuid,
        #[graphql(desc = "Why, for the record: 1 to 1,000 characters.")] reason: String,
    ) -> Result<Outcome, Failure> {
        let caller = caller(ctx)?;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
            return Err(Failure::bad_input(format!(
                "A reason has 1 to {LONGEST_REASON} characters, without line breaks and other controls."
            )));
        }
        let repairs = repairs(ctx)?;
        // Looked for before it is gone: it says of which key the rest is.
        let conditions = Conditions::default().and("read_model = ?", Some(Bind::Text(read_model.clone())));
        let conditions = conditions.and("event = ?", Some(Bind::Uuid(event.0)));
        let parked = events(ctx, &conditions, 1).await?.pop();
        let redriven = repairs.skip(&read_model, event.0, reason).await.map_err(Failure::from)?;
        tracing::info!(
            actor = caller.subject, read_model, event.id = %event.0, reason, "an event was left out of a read model"
        );
        Outcome::new(ctx, redriven, &read_model, parked.map(|parked| parked.key)).await
    }
}

/// An event that is parked: it is in the log, and not in the read model.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct ParkedEvent {
    /// The read model.
    read_model: String,
    /// What it is about: everything of this key waits, until this is folded or left out.
    key: String,
    /// Its stream.
    stream: String,
    /// Its place in there.
    revision: Long,
    /// Its id.
    event: Uuid,
    /// Its type.
    event_type: String,
    /// Why it cannot be folded; null when it waits behind one that cannot.
    error: Option<String>,
    /// How often it was tried.
    attempts: i32,
    /// Since when it is parked, or was last tried.
    since: DateTime,
    #[graphql(skip)]
    commit_position: i64,
    #[graphql(skip)]
    prepare_position: i64,
}

#[ComplexObject]
impl ParkedEvent {
    /// Its place in the log.
    async fn position(&self) -> Option<Position> {
        own_writes::position(Some(self.commit_position), Some(self.prepare_position))
    }
}

impl Written for ParkedEvent {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("readModel", Plain(|row, json| json.put(&row.read_model))),
        ("key", Plain(|row, json| json.put(&row.key))),
        ("stream", Plain(|row, json| json.put(&row.stream))),
        ("revision", Plain(|row, json| json.put(&row.revision))),
        ("event", Plain(|row, json| json.put(&row.event))),
        ("eventType", Plain(|row, json| json.put(&row.event_type))),
        ("error", Plain(|row, json| json.put(&row.error))),
        ("attempts", Plain(|row, json| json.put(&row.attempts))),
        ("since", Plain(|row, json| json.put(&row.since))),
        (
            "position",
            Plain(|row, json| json.put(&own_writes::position(Some(row.commit_position), Some(row.prepare_position)))),
        ),
    ];
}

impl Listed for ParkedEvent {
    const TABLE: Table = Table {
        name: "(select p.name as read_model, p.key, p.stream, p.revision, p.event_id as event, p.event_type, p.error, \
               p.attempts, p.parked_at as since, p.commit_position, p.prepare_position \
               from control.parked p join control.generations g using (name, generation) where g.state = 'live') as parked",
        columns: "*",
        id: &["read_model", "commit_position", "prepare_position"],
        owner: None,
    };
    // It is the runtime's own record, which is as fresh as it gets.
    const MODELS: &'static [ReadModel] = &[];

    fn key(&self, _: &Sort) -> Key {
        let places = [self.commit_position, self.prepare_position].map(Bind::Int);
        Key { value: None, id: [Bind::Text(self.read_model.clone())].into_iter().chain(places).collect() }
    }
}

const IN_ORDER: Sort = Sort { column: None, nullable: false, descending: false };

/// What came of trying events again.
#[derive(SimpleObject)]
#[graphql(name = "Redriven")]
struct Outcome {
    /// How many events were folded.
    folded: Long,
    /// How many are still parked.
    parked: Long,
    /// Those of them that cannot be folded themselves, with the reason: the first 20.
    failures: Vec<ParkedEvent>,
}

impl Outcome {
    async fn new(
        ctx: &Context<'_>,
        Redriven { folded, parked }: Redriven,
        read_model: &str,
        key: Option<String>,
    ) -> Result<Self, Failure> {
        let conditions = Conditions::default().and("read_model = ?", Some(Bind::Text(read_model.to_owned())));
        let conditions = conditions.and("key = ?", key.map(Bind::Text));
        let conditions = conditions.and("attempts > ?", Some(Bind::Int(0)));
        // What only waits was not tried.
        let failures = if parked == 0 { Vec::new() } else { events(ctx, &conditions, MOST_FAILURES).await? };
        let long = |count| Long(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(Self { folded: long(folded), parked: long(parked), failures })
    }
}

/// The first events that are parked and fulfil the conditions.
async fn events(ctx: &Context<'_>, conditions: &Conditions, most: usize) -> Result<Vec<ParkedEvent>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>();
    let pool = reads.control();
    let rows = reads.view().rows(ParkedEvent::TABLE, conditions.clone());
    let window = Window { after: None, before: None, backward: false, rows: i64::try_from(most).unwrap_or(i64::MAX) };
    Ok(sql::page(pool, &rows, ParkedEvent::TABLE.columns, &IN_ORDER, &window).await?)
}

/// Who mends, for the record. That it may is seen to before: see [`crate::permissions`].
fn caller<'a>(ctx: &Context<'a>) -> Result<&'a Caller, Failure> {
    Ok(ctx.data_opt::<Caller>().ok_or(Refusal::NoToken)?)
}

fn repairs<'a>(ctx: &Context<'a>) -> Result<&'a Arc<dyn Repairs>, Failure> {
    let none = || Failure::new(Code::NoRepairs, "This server mends no read models.");
    ctx.data_unchecked::<Option<Arc<dyn Repairs>>>().as_ref().ok_or_else(none)
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::NoSuchReadModel { known } => {
                Self::bad_input(format!("There is no such read model; there are {}.", known.join(", ")))
            }
            RepairError::NotParked => {
                let message =
                    "Nothing of the kind is parked. Only an event that cannot be folded itself can be left out.";
                Self::new(Code::NotParked, message)
            }
            RepairError::Failed(_) => Self::internal(&error),
        }
    }
}
