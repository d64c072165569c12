//! What is known of an event beside the event.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The metadata that every event of the shop carries, under the names of EventStoreDB where it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Shared by everything that one request or process set in motion.
    #[serde(rename = "$correlationId")]
    pub correlation_id: Uuid,
    /// The id of the command or event that led to this one.
    #[serde(rename = "$causationId")]
    pub causation_id: Uuid,
    /// The schema number of the event's data, from 1.
    pub schema: u32,
    /// The command that decided this event.
    pub command_id: Uuid,
    /// A fingerprint of that command's content: the same id with another fingerprint is another command.
    pub command_hash: String,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// In which shop, where one log serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it was decided.
    pub occurred_at: DateTime<Utc>,
}

impl Metadata {
    /// Reads metadata from its stored form.
    ///
    /// # Errors
    /// When it is not JSON, or a required field is missing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The stored form.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn to_bytes(&self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(self).map(Bytes::from)
    }
}
