//! How each aggregate looks from outside: its category, its commands, its state.
//!
//! The table of routes follows from the deciders' own command types. A new aggregate is registered by a line in
//! [`registry`]; no router is touched.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use access::Scope;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::catalog::Product;
use domain::codec::{EventSchema, StoredEvent as _};
use domain::customers::Customer;
use domain::decider::Decider;
use domain::ids::{CustomerId, InvalidId};
use domain::inventory::Stock;
use domain::payments::Payment;
use domain::shipping::Shipment;
use event_store::{Direction, InvalidStreamName, Position, RecordedEvent, StreamName};
use metrics::{counter, histogram};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Instrument as _;

use crate::checkouts::Checkouts;
use crate::envelope::Envelope;
use crate::execute::{Answer, ExecuteError, Executor};
use crate::explain::{Foresight, Prospect};
use crate::http::permissions::{Operation, PERMISSIONS, Permission};
use crate::load::{LoadError, Loaded, Until, stream_of};
use crate::ordering::Orders;
use crate::wire::{self, WireError};

/// Every aggregate that can be reached: a new one is registered by a line in here. Who may do what to it stands in
/// [`PERMISSIONS`].
pub fn registry() -> Registry {
    let aggregates = [
        plain::<Product>(),
        plain::<Stock>(),
        served::<Orders>(),
        plain::<Customer>(),
        plain::<Payment>(),
        plain::<Shipment>(),
        served::<Checkouts>(),
    ];
    Registry::new(aggregates, PERMISSIONS)
}

/// How the commands of an aggregate look from outside, and how they become the domain's.
#[async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// The aggregate.
    type Decider: Decider<Id: JsonSchema, State: Serialize + JsonSchema, Refusal: Serialize + JsonSchema>;
    /// Its commands as clients send them: an enum whose variants carry their fields.
    type Wire: DeserializeOwned + JsonSchema + Send;
    /// The names of the commands for which something is looked up before they come to their aggregate.
    const LOOKS_UP: &'static [&'static str] = &[];

    /// Makes a command of what was sent: adds what the sender left to the shop.
    ///
    /// # Errors
    /// [`PrepareError`] when what is to be added is not to be had.
    async fn prepare(
        wire: Self::Wire,
        executor: &Executor,
        now: DateTime<Utc>,
    ) -> Result<<Self::Decider as Decider>::Command, PrepareError>;

    /// The JSON Schemas of the refusals of [`Self::prepare`].
    fn refusals() -> Vec<Schema> {
        Vec::new()
    }

    /// What a command needs beyond the scope of all commands of its name, for what it says.
    fn asks(_: &Self::Wire) -> Asks {
        Asks::default()
    }
}

/// What a command needs beyond the scope of all commands of its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks {
    /// Further scopes, which are for the shop alone and not for its customers.
    pub scopes: Vec<Scope>,
    /// The customer for whom it is.
    pub buyer: Option<CustomerId>,
}

/// Why a command could not be completed from what was sent.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// What was asked for is not to be had.
    #[error("{detail}")]
    Refused {
        /// What, in a sentence.
        detail: String,
        /// The refusal with its figures: an object with a field `refusal`.
        figures: Value,
    },
    /// What is to be looked up cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An id makes no stream name.
    #[error(transparent)]
    Stream(#[from] InvalidStreamName),
}

impl PrepareError {
    /// A refusal, told like an aggregate's own.
    pub fn refused(refusal: impl std::error::Error + Serialize) -> Self {
        Self::Refused { detail: refusal.to_string(), figures: serde_json::to_value(&refusal).unwrap_or_default() }
    }
}

/// An aggregate whose commands come in as the domain has them.
struct Plain<D>(PhantomData<fn() -> D>);

#[async_trait]
impl<D> Endpoint for Plain<D>
where
    D: Decider<
            Id: JsonSchema,
            State: Serialize + JsonSchema,
            Refusal: Serialize + JsonSchema,
            Command: DeserializeOwned + JsonSchema,
        >,
{
    type Decider = D;
    type Wire = D::Command;

    async fn prepare(wire: D::Command, _: &Executor, _: DateTime<Utc>) -> Result<D::Command, PrepareError> {
        Ok(wire)
    }
}

/// Why a request to an aggregate failed, whichever aggregate it is.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such command.
    #[error("{category} has no command {command:?}; it has {known}")]
    UnknownCommand {
        /// The aggregate's category.
        category: &'static str,
        /// What was asked for.
        command: String,
        /// What there is, in a row.
        known: String,
    },
    /// The id is not of this kind of aggregate.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The body is not the command that it should be.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The domain said no.
    #[error("{detail}")]
    Refused {
        /// The aggregate's category.
        category: &'static str,
        /// Why, in a sentence.
        detail: String,
        /// The refusal with its figures: an object with a field `refusal`.
        figures: Value,
    },
    /// The command could not be executed.
    #[error(transparent)]
    Execute(ExecuteError<std::convert::Infallible>),
}

impl Failure {
    /// Of what kind it is, in a word.
    fn kind(&self) -> &'static str {
        match self {
            Self::UnknownCommand { .. } | Self::Id(_) | Self::Wire(_) => "invalid",
            Self::Refused { .. } => "refused",
            Self::Execute(error) => match error {
                ExecuteError::Refused(never) => match *never {},
                ExecuteError::PreconditionFailed { .. } => "stale",
                ExecuteError::KeyReused => "key_reused",
                ExecuteError::InFlight => "in_flight",
                ExecuteError::Busy => "busy",
                ExecuteError::Contended => "contended",
                ExecuteError::TooLarge { .. } => "too_large",
                ExecuteError::Stream(_) => "invalid",
                ExecuteError::Load(_) | ExecuteError::Codec(_) | ExecuteError::Log(_) => "failed",
            },
        }
    }

    /// Whether the same command with the same id may succeed when it is sent again, all else being equal.
    pub fn is_transient(&self) -> bool {
        let Self::Execute(error) = self else { return false };
        matches!(
            error,
            ExecuteError::Log(_)
                | ExecuteError::Load(LoadError::Read(_))
                | ExecuteError::InFlight
                | ExecuteError::Busy
                | ExecuteError::Contended
        )
    }
}

/// An aggregate's present or past state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// What it is.
    pub state: Value,
    /// The revision of the last event that is folded in.
    pub revision: u64,
    /// The position of that event.
    pub position: Position,
}

/// An aggregate as the HTTP surface and the import see it. Implemented for every [`Endpoint`].
#[async_trait]
pub trait Aggregate: Send + Sync {
    /// Its category.
    fn category(&self) -> &'static str;
    /// The names of its commands.
    fn commands(&self) -> &[String];
    /// The JSON Schemas of its commands by name, and of its state.
    fn schemas(&self, generator: &mut SchemaGenerator) -> (Vec<(String, Value)>, Value);
    /// The JSON Schemas of its refusals, each an object with a constant `refusal` and its figures.
    fn refusals(&self) -> Vec<Value>;
    /// The types of its events, with the JSON Schemas of their data.
    fn events(&self) -> Vec<(&'static str, Value)>;
    /// The JSON Schema of its ids.
    fn id(&self, generator: &mut SchemaGenerator) -> Value;
    /// The stream of the aggregate with this id.
    ///
    /// # Errors
    /// [`Failure::Id`].
    fn stream(&self, id: &str) -> Result<StreamName, Failure>;
    /// Reads a command from its JSON and does no more: whether it is one at all, and what it asks for.
    ///
    /// # Errors
    /// [`Failure`].
    fn check(&self, id: &str, command: &str, body: &[u8]) -> Result<Asks, Failure>;
    /// Whether something is looked up for a command of this name before it comes to its aggregate. One for which nothing
    /// is gets there as soon as its execution begins.
    fn looks_up(&self, command: &str) -> bool;
    /// Reads a command from its JSON and executes it.
    ///
    /// # Errors
    /// [`Failure`].
    async fn execute(
        &self,
        executor: &Executor,
        id: &str,
        command: &str,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Answer, Failure>;
    /// Reads a command from its JSON and says what would become of it. Nothing is appended.
    ///
    /// # Errors
    /// [`Failure`] when it is no command, or it cannot be told. That it would be refused is no failure.
    async fn explain(
        &self,
        executor: &Executor,
        id: &str,
        command: &str,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Explained, Failure>;
    /// Folds the aggregate's stream; `None` when nothing has happened to it, or not yet by then.
    ///
    /// # Errors
    /// [`Failure`].
    async fn state(&self, executor: &Executor, id: &str, until: Until) -> Result<Option<Snapshot>, Failure>;
}

/// What would become of a command.
#[derive(Debug)]
pub struct Explained {
    /// The revision that the aggregate has now; `None` when nothing has happened to it.
    pub revision: Option<u64>,
    /// What the command would lead to, or what it would be answered instead.
    pub outcome: Result<Prospect, Failure>,
}

/// Reads a page of an aggregate's history, from the revision `from` on in this direction; `None` is the beginning, or,
/// backwards, the end. Says whether there was nothing more.
///
/// # Errors
/// [`LoadError::Read`].
pub async fn history(
    executor: &Executor,
    stream: &StreamName,
    from: Option<u64>,
    direction: Direction,
    limit: usize,
) -> Result<(Vec<RecordedEvent>, bool), LoadError> {
    let page = executor.store().read_stream(stream, from, direction, limit).await?;
    Ok((page.events, page.end))
}

/// Serves an aggregate whose commands come in as the domain has them.
pub fn plain<D>() -> Arc<dyn Aggregate>
where
    D: Decider<
            Id: JsonSchema,
            State: Serialize + JsonSchema,
            Refusal: Serialize + JsonSchema,
            Command: DeserializeOwned + JsonSchema,
        >,
{
    served::<Plain<D>>()
}

/// An [`Endpoint`] as an [`Aggregate`].
struct Serves<E> {
    commands: Vec<String>,
    /// The same names, for as long as the program runs: serde wants them so.
    names: BTreeMap<String, &'static str>,
    endpoint: PhantomData<fn() -> E>,
}

/// Serves an aggregate whose commands clients send in another form than the domain has them.
pub fn served<E: Endpoint>() -> Arc<dyn Aggregate> {
    let schemas = wire::commands::<E::Wire>(&mut SchemaGenerator::default());
    let commands: Vec<String> = schemas.into_iter().map(|(name, _)| name).collect();
    let names = commands.iter().map(|name| (name.clone(), &*name.clone().leak())).collect();
    Arc::new(Serves::<E> { commands, names, endpoint: PhantomData })
}

/// The id of the aggregates of an endpoint.
type IdOf<E> = <<E as Endpoint>::Decider as Decider>::Id;

impl<E: Endpoint> Serves<E> {
    fn read(&self, id: &str, command: &str, body: &[u8]) -> Result<(IdOf<E>, E::Wire), Failure> {
        let name = self.names.get(command).copied().ok_or_else(|| Failure::UnknownCommand {
            category: E::Decider::CATEGORY,
            command: command.to_owned(),
            known: self.commands.join(", "),
        })?;
        Ok((id.parse()?, wire::read(name, body)?))
    }

    async fn carry_out(
        &self,
        executor: &Executor,
        id: &str,
        command: &str,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Answer, Failure> {
        let category = E::Decider::CATEGORY;
        let (id, wire) = self.read(id, command, body)?;
        let command = match E::prepare(wire, executor, envelope.now).await {
            Ok(command) => command,
            Err(PrepareError::Refused { detail, figures }) => {
                // What was to be had when the command was first sent may be gone; its answer is not.
                let earlier = executor.earlier::<E::Decider>(&id, envelope).await;
                let earlier = earlier.map_err(|error| told(category, error))?;
                return earlier.ok_or(Failure::Refused { category, detail, figures });
            }
            Err(PrepareError::Load(error)) => return Err(Failure::Execute(error.into())),
            Err(PrepareError::Stream(error)) => return Err(Failure::Execute(error.into())),
        };
        executor.execute::<E::Decider>(&id, command, envelope).await.map_err(|error| told(category, error))
    }
}

#[async_trait]
impl<E: Endpoint> Aggregate for Serves<E> {
    fn category(&self) -> &'static str {
        E::Decider::CATEGORY
    }

    fn commands(&self) -> &[String] {
        &self.commands
    }

    fn schemas(&self, generator: &mut SchemaGenerator) -> (Vec<(String, Value)>, Value) {
        let state = <E::Decider as Decider>::State::json_schema(generator);
        (wire::commands::<E::Wire>(generator), state.into())
    }

    fn refusals(&self) -> Vec<Value> {
        let own = domain::codec::json_schema_of::<<E::Decider as Decider>::Refusal>();
        let each = |schema: Schema| match schema.get("oneOf").and_then(Value::as_array) {
            Some(variants) => variants.clone(),
            None => vec![schema.to_value()],
        };
        E::refusals().into_iter().chain([own]).flat_map(each).collect()
    }

    fn events(&self) -> Vec<(&'static str, Value)> {
        let schemas = <E::Decider as Decider>::Event::SCHEMAS.iter();
        let data = |schema: &EventSchema| {
            let mut data = (schema.json_schema)().to_value();
            if let Some(data) = data.as_object_mut() {
                data.remove("$schema");
            }
            (schema.event_type, data)
        };
        schemas.map(data).collect()
    }

    fn id(&self, generator: &mut SchemaGenerator) -> Value {
        IdOf::<E>::json_schema(generator).into()
    }

    fn stream(&self, id: &str) -> Result<StreamName, Failure> {
        let id: IdOf<E> = id.parse()?;
        stream_of::<E::Decider>(&id).map_err(|error| Failure::Execute(error.into()))
    }

    fn check(&self, id: &str, command: &str, body: &[u8]) -> Result<Asks, Failure> {
        self.read(id, command, body).map(|(_, wire)| E::asks(&wire))
    }

    fn looks_up(&self, command: &str) -> bool {
        E::LOOKS_UP.contains(&command)
    }

    async fn execute(
        &self,
        executor: &Executor,
        id: &str,
        command: &str,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Answer, Failure> {
        // What somebody made up is no name of a figure.
        let name = self.names.get(command).copied().unwrap_or("none");
        let span = tracing::info_span!(
            "command",
            command.category = self.category(),
            command.name = name,
            command.id = %envelope.command_id,
            correlation.id = %envelope.correlation_id,
        );
        let begun = Instant::now();
        let outcome = self.carry_out(executor, id, command, body, envelope).instrument(span.clone()).await;
        let labels = [("category", self.category()), ("command", name)];
        histogram!("command_duration_seconds", &labels).record(begun.elapsed());
        let [category, command] = labels;
        let became = outcome.as_ref().map_or_else(Failure::kind, |_| "done");
        counter!("commands_total", &[category, command, ("outcome", became)]).increment(1);
        span.in_scope(|| tracing::debug!(outcome = became, "a command was carried out"));
        outcome
    }

    async fn explain(
        &self,
        executor: &Executor,
        id: &str,
        command: &str,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Explained, Failure> {
        let category = self.category();
        let (id, wire) = self.read(id, command, body)?;
        let stream = stream_of::<E::Decider>(&id).map_err(|error| Failure::Execute(error.into()))?;
        let command = match E::prepare(wire, executor, envelope.now).await {
            Ok(command) => command,
            Err(PrepareError::Refused { detail, figures }) => {
                let earlier = executor.earlier::<E::Decider>(&id, envelope).await;
                let now = executor.current::<E::Decider>(&stream).await;
                let revision = now.map_err(|error| Failure::Execute(error.into()))?.revision;
                let outcome = match earlier {
                    Ok(Some(answer)) => Ok(Prospect::Done(answer)),
                    Ok(None) => Err(Failure::Refused { category, detail, figures }),
                    Err(error) => Err(told(category, error)),
                };
                return Ok(Explained { revision, outcome });
            }
            Err(PrepareError::Load(error)) => return Err(Failure::Execute(error.into())),
            Err(PrepareError::Stream(error)) => return Err(Failure::Execute(error.into())),
        };
        let foresight = executor.foresee::<E::Decider>(&stream, command, envelope).await;
        let Foresight { revision, outcome } = foresight.map_err(|error| Failure::Execute(error.into()))?;
        Ok(Explained { revision, outcome: outcome.map_err(|error| told(category, error)) })
    }

    async fn state(&self, executor: &Executor, id: &str, until: Until) -> Result<Option<Snapshot>, Failure> {
        let id: IdOf<E> = id.parse()?;
        let stream = stream_of::<E::Decider>(&id).map_err(|error| Failure::Execute(error.into()))?;
        let loaded = match until {
            Until::Now => executor.current::<E::Decider>(&stream).await,
            then => Loaded::fold(executor.store(), &stream, then).await,
        };
        let loaded = loaded.map_err(|error| Failure::Execute(error.into()))?;
        let state = serde_json::to_value(&loaded.state).map_err(|source| {
            let event_type = E::Decider::CATEGORY;
            Failure::Execute(domain::codec::CodecError::Encode { event_type, source }.into())
        })?;
        let known = loaded.revision.zip(loaded.position);
        Ok(known.map(|(revision, position)| Snapshot { state, revision, position }))
    }
}

/// An execution's error without the type of the aggregate's refusal.
fn told<R: std::error::Error + Serialize>(category: &'static str, error: ExecuteError<R>) -> Failure {
    Failure::Execute(match error {
        ExecuteError::Refused(refusal) => {
            let figures = serde_json::to_value(&refusal).unwrap_or_default();
            return Failure::Refused { category, detail: refusal.to_string(), figures };
        }
        ExecuteError::PreconditionFailed { actual } => ExecuteError::PreconditionFailed { actual },
        ExecuteError::KeyReused => ExecuteError::KeyReused,
        ExecuteError::InFlight => ExecuteError::InFlight,
        ExecuteError::Busy => ExecuteError::Busy,
        ExecuteError::Contended => ExecuteError::Contended,
        ExecuteError::TooLarge { events, bytes } => ExecuteError::TooLarge { events, bytes },
        ExecuteError::Stream(error) => ExecuteError::Stream(error),
        ExecuteError::Load(error) => ExecuteError::Load(error),
        ExecuteError::Codec(error) => ExecuteError::Codec(error),
        ExecuteError::Log(error) => ExecuteError::Log(error),
    })
}

/// The aggregates that can be reached, by category, and who may do what to them.
#[derive(Clone)]
pub struct Registry(Arc<Registered>);

struct Registered {
    aggregates: BTreeMap<&'static str, Arc<dyn Aggregate>>,
    permissions: BTreeMap<(&'static str, Operation<'static>), Permission>,
}

impl Registry {
    /// A registry of these aggregates. What is not permitted, nobody may do over HTTP.
    pub fn new(aggregates: impl IntoIterator<Item = Arc<dyn Aggregate>>, permissions: &[Permission]) -> Self {
        let each = |permission: &Permission| {
            let permission = *permission;
            permission.operations.iter().map(move |operation| ((permission.category, *operation), permission))
        };
        Self(Arc::new(Registered {
            aggregates: aggregates.into_iter().map(|aggregate| (aggregate.category(), aggregate)).collect(),
            permissions: permissions.iter().flat_map(each).collect(),
        }))
    }

    /// The aggregate of a category.
    pub fn get(&self, category: &str) -> Option<&dyn Aggregate> {
        self.0.aggregates.get(category).map(|aggregate| &**aggregate)
    }

    /// Every aggregate, by category.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Aggregate> {
        self.0.aggregates.values().map(|aggregate| &**aggregate)
    }

    /// Who may do something to the aggregates of a category.
    pub fn permission(&self, category: &str, operation: Operation<'_>) -> Option<Permission> {
        self.0.permissions.get(&(category, operation)).copied()
    }

    /// Everything that is permitted, by category.
    pub fn permissions(&self) -> impl Iterator<Item = (&'static str, Operation<'static>, Permission)> {
        self.0.permissions.iter().map(|((category, operation), permission)| (*category, *operation, *permission))
    }
}
