//! What a line of a batch says.

use access::{Caller, Refusal};
use bytes::Bytes;
use chrono::Utc;
use event_store::StreamName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::envelope::{Envelope, Precondition, command_id_of_key, fingerprint};
use crate::http::{Problem, headers};

/// A command of a batch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchLine<'a> {
    /// The stream of the aggregate that is commanded: its category, a hyphen and its id, such as `stock-TEA-001`.
    pub(crate) stream: String,
    /// The command, by its name in the address: `receive`.
    pub(crate) command: String,
    /// The command's fields, as in the body of a request of its own; absent for one without.
    #[serde(default, borrow)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    data: Option<&'a RawValue>,
    /// As the header Idempotency-Key: the same key again is the same command again.
    #[serde(default)]
    key: Option<String>,
    /// As the header If-Match: the revision that the aggregate must have, or `*` when it must exist.
    #[serde(default)]
    if_match: Option<IfMatch>,
    /// As the header If-None-Match: `*` when the aggregate must not exist yet.
    #[serde(default)]
    if_none_match: Option<Star>,
    /// As the header Storefold-Correlation-Id; absent for that of the request, or else the command's id.
    #[serde(default)]
    correlation_id: Option<Uuid>,
    /// Instead of a key, the command's id itself: for whoever moves commands that have one. Not for customers.
    #[serde(default)]
    command_id: Option<Uuid>,
    /// The command or event that led to this command. Not for customers.
    #[serde(default)]
    causation_id: Option<Uuid>,
}

/// A revision, or any.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "if_match is a revision such as 7, or \"*\"")]
enum IfMatch {
    Revision(u64),
    Any(Star),
}

/// The one text that stands for whatever there is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

impl<'a> BatchLine<'a> {
    /// Reads a line.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Problem> {
        // Its fields in a row would be read as well, without their names.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad_request("invalid-command", "the line is no command: it is no object"));
        }
        serde_json::from_slice(line).map_err(|error| {
            // Its line and column count within the line; the number of the line is told beside it.
            let error = error.to_string();
            let error = error.split(" at line ").next().unwrap_or_default();
            Problem::bad_request("invalid-command", format!("the line is no command: {error}"))
        })
    }

    /// The category and the id of the aggregate.
    pub(super) fn aggregate(&self) -> Result<(&str, &str), Problem> {
        self.stream.split_once('-').ok_or_else(|| {
            let detail =
                format!("{:?} is no stream: a category, a hyphen and an id, such as stock-TEA-001", self.stream);
            Problem::bad_request("invalid-id", detail)
        })
    }

    /// The command's fields.
    pub(super) fn body(&self) -> Bytes {
        self.data.map_or(Bytes::from_static(b"{}"), |data| Bytes::copy_from_slice(data.get().as_bytes()))
    }

    /// What comes with the command.
    pub(super) fn envelope(
        &self,
        caller: &Caller,
        shared: &headers::Shared,
        stream: &StreamName,
    ) -> Result<Envelope, Problem> {
        if caller.customer.is_some() && (self.command_id.is_some() || self.causation_id.is_some()) {
            return Err(Refusal::NotForCustomers.into());
        }
        let invalid = |detail: &str| Problem::bad_request("invalid-command", detail);
        let command_id = match (&self.key, self.command_id) {
            (Some(_), Some(_)) => return Err(invalid("key and command_id exclude each other")),
            (Some(key), None) => {
                let key = headers::key(key).ok_or_else(|| invalid(&format!("key: it {}", headers::A_KEY)))?;
                command_id_of_key(stream, key, caller.subject.as_deref())
            }
            (None, Some(id)) => id,
            (None, None) => Uuid::now_v7(),
        };
        let precondition = match (self.if_match, self.if_none_match) {
            (None, None) => Precondition::None,
            (Some(IfMatch::Revision(revision)), None) => Precondition::Revision(revision),
            (Some(IfMatch::Any(Star::Star)), None) => Precondition::Existing,
            (None, Some(Star::Star)) => Precondition::New,
            (Some(_), Some(Star::Star)) => Precondition::Never,
        };
        let body = self.data.map_or(Ok(Value::Object(serde_json::Map::new())), |data| serde_json::from_str(data.get()));
        let body = body.map_err(|error| invalid(&format!("data: {error}")))?;
        Ok(Envelope {
            precondition,
            correlation_id: self.correlation_id.or(shared.correlation_id).unwrap_or(command_id),
            causation_id: self.causation_id.unwrap_or(command_id),
            actor: caller.subject.clone(),
            traceparent: shared.traceparent.clone(),
            ..Envelope::new(command_id, fingerprint(&self.command, &body), Utc::now())
        })
    }
}
