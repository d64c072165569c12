//! The process manager: follows the log, lets the processes of the domain react, and sends their commands.
//!
//! Everything runs at least once and takes effect once: a command's id follows from the process, the event that caused it
//! and its place in the reaction, so whoever repeats a reaction after a crash repeats the same commands, and the
//! aggregates know what they have done. What an instance remembers is kept in Postgres between events, together with the
//! checkpoint, in one transaction.
//!
//! [`Conduct`] says how the commands of one process are carried out; [`run`] does the rest, the same way for all.

mod book;
mod charging;
mod checkout;
mod lease;
mod manager;
mod reaction;
mod rest;
mod warehouse;

use std::time::Duration;

use async_trait::async_trait;
use domain::process::Process;
use domain::shop_event::ShopEvent;
use event_store::{Metadata, RecordedEvent};
use sqlx::migrate::Migrator;
use uuid::Uuid;

use crate::envelope::Envelope;
use crate::execute::ExecuteError;
use crate::load::LoadError;

pub use book::{Parked, Progress, parked, progress};
pub use charging::Charges;
pub use checkout::{Checkouts, Limits};
pub use manager::{ManagerError, Undecodable, run};
pub use rest::{Rest, rest};
pub use warehouse::MadeUpWarehouse;

/// The migrations of the process managers' tables. They keep their own book, so that they can live beside others in one
/// database.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/processes");
    migrator.dangerous_set_table_name("_storefold_process_migrations");
    migrator
}

/// An event as the log has it, decoded as far as every process needs it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What happened.
    pub event: ShopEvent,
    /// The event as the log has it.
    pub recorded: RecordedEvent,
    /// Where it came from.
    pub metadata: Metadata,
}

/// Decodes an event of the log.
fn see(recorded: RecordedEvent) -> Result<Seen, ManagerError> {
    let decoded = Metadata::from_bytes(&recorded.metadata).map_err(Undecodable::Metadata).and_then(|metadata| {
        let (stream, event_type) = (&recorded.stream, recorded.event_type.as_str());
        let event = ShopEvent::decode(stream.category(), stream.id(), event_type, metadata.schema, &recorded.data)?;
        Ok((event, metadata))
    });
    match decoded {
        Ok((event, metadata)) => Ok(Seen { event, recorded, metadata }),
        Err(source) => Err(ManagerError::Undecodable { stream: recorded.stream, revision: recorded.revision, source }),
    }
}

/// How the commands of a process are carried out.
#[async_trait]
pub trait Conduct: Send + Sync + 'static {
    /// The process.
    type Process: Process;

    /// An event as the process takes it.
    fn see(&self, seen: &Seen) -> <Self::Process as Process>::Event;

    /// Carries out a command. Called again with the same envelope, it takes effect once. A refusal that the process
    /// foresaw is no error.
    ///
    /// # Errors
    /// [`Setback`].
    async fn send(
        &self,
        instance: &<Self::Process as Process>::Id,
        command: &<Self::Process as Process>::Command,
        envelope: Envelope,
    ) -> Result<(), Setback>;

    /// How long an instance waits for something.
    fn limit(&self, timeout: <Self::Process as Process>::Timeout) -> Duration;

    /// Puts on record that an instance waited for something in vain: an event that the process will see.
    ///
    /// # Errors
    /// [`Setback`].
    async fn time_out(
        &self,
        instance: &<Self::Process as Process>::Id,
        timeout: <Self::Process as Process>::Timeout,
        envelope: Envelope,
    ) -> Result<(), Setback>;

    /// Puts on record that an instance cannot go on. Called again with the same envelope, it takes effect once.
    ///
    /// # Errors
    /// [`Setback`].
    async fn park(
        &self,
        instance: &<Self::Process as Process>::Id,
        event: Uuid,
        why: &str,
        envelope: Envelope,
    ) -> Result<(), Setback>;

    /// Puts on record that an instance goes on without having been let try again. Called again with the same envelope, it
    /// takes effect once.
    ///
    /// # Errors
    /// [`Setback`].
    async fn go_on(&self, _instance: &<Self::Process as Process>::Id, _envelope: Envelope) -> Result<(), Setback> {
        Ok(())
    }

    /// With whom outside the shop it deals, by a name that stays, if with anybody. What was begun with one cannot be gone
    /// on with another.
    fn deals_with(&self) -> Option<&str> {
        None
    }

    /// Whether it wants to be told of what [`moved`](Self::moved).
    const WATCHES: bool = false;

    /// Told of the state that an instance has come to, once that cannot be lost any more; `None` when it is over. On
    /// taking the lead it is told of every instance that is not.
    fn moved(&self, _instance: &<Self::Process as Process>::Id, _state: Option<&<Self::Process as Process>::State>) {}

    /// Told that this program no longer leads the process.
    fn resigned(&self) {}
}

/// Why a command could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Setback {
    /// Somebody has to look at it: the same command will not do better.
    #[error("{0}")]
    Lasting(String),
    /// The same command may do better in a moment.
    #[error("{0}")]
    Passing(String),
}

impl<R: std::error::Error + 'static> From<ExecuteError<R>> for Setback {
    fn from(error: ExecuteError<R>) -> Self {
        match &error {
            ExecuteError::Log(_)
            | ExecuteError::Load(LoadError::Read(_))
            | ExecuteError::InFlight
            | ExecuteError::Busy
            | ExecuteError::Contended => Self::Passing(chain(&error)),
            _ => Self::Lasting(chain(&error)),
        }
    }
}

/// An error with everything behind it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
