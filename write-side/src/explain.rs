//! What would become of a command if it were sent now: decided as ever, by the same code, and nothing is appended.

use std::borrow::Cow;

use domain::decider::Decider;
use event_store::{Metadata, NewEvent, StreamName};
use serde_json::Value;

use crate::batch::{self, Letter};
use crate::envelope::Envelope;
use crate::execute::{Answer, ExecuteError, Executor};
use crate::load::LoadError;

/// What would become of a command.
#[derive(Debug)]
pub struct Foresight<R: std::error::Error + 'static> {
    /// The revision that the aggregate has now; `None` when nothing has happened to it.
    pub revision: Option<u64>,
    /// What the command would lead to, or why to nothing.
    pub outcome: Result<Prospect, ExecuteError<R>>,
}

/// What a command would lead to.
#[derive(Debug, PartialEq)]
pub enum Prospect {
    /// It was done before: this answer would be given again.
    Done(Answer),
    /// These events; none when there is nothing to do.
    Events(Vec<ForeseenEvent>),
}

/// An event that would happen.
#[derive(Debug, Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct ForeseenEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The number of the schema of its data.
    pub schema: u32,
    /// The place that it would have in its stream.
    pub revision: u64,
    /// What it would say.
    pub data: Value,
}

impl Executor {
    /// Says what a command would lead to, and appends nothing. What others append meanwhile may make it untrue.
    ///
    /// # Errors
    /// [`LoadError`] when the aggregate cannot be read.
    pub async fn foresee<D: Decider>(
        &self,
        stream: &StreamName,
        command: D::Command,
        envelope: &Envelope,
    ) -> Result<Foresight<D::Refusal>, LoadError> {
        batch::foresee(self.site(stream), Letter::<D>::new(command, Cow::Borrowed(envelope))).await
    }
}

impl ForeseenEvent {
    /// An event that would be appended at a revision; `None` where its data is no JSON.
    pub(crate) fn of(event: &NewEvent, revision: u64) -> Option<Self> {
        let schema = Metadata::from_bytes(&event.metadata).ok()?.schema;
        let data = serde_json::from_slice(&event.data).ok()?;
        Some(Self { event_type: event.event_type.to_string(), schema, revision, data })
    }
}
