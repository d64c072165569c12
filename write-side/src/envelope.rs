//! What comes with a command: who sent it, under which id, and what it presumes.

use chrono::{DateTime, Utc};
use domain::codec::Encoded;
use event_store::{Expected, StreamName};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The namespace of command ids that follow from an idempotency key.
const KEYS: Uuid = Uuid::from_u128(0x8f1f_0d0a_6c5b_5c83_9d2e_51b0_6f0e_11c7);

/// What comes with a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Names the command: the same id again is the same command again.
    pub command_id: Uuid,
    /// What the command says, in short; see [`fingerprint`]. The same id with another fingerprint is a mistake.
    pub fingerprint: String,
    /// What the sender presumes of the aggregate.
    pub precondition: Precondition,
    /// Shared by everything that one request or process set in motion.
    pub correlation_id: Uuid,
    /// The command or event that led to this command; the command itself where nothing did.
    pub causation_id: Uuid,
    /// On whose behalf.
    pub actor: Option<String>,
    /// The W3C trace context of the request.
    pub traceparent: Option<String>,
    /// The time at which the command is decided.
    pub now: DateTime<Utc>,
}

impl Envelope {
    /// An envelope without preconditions, for a command that nothing led to.
    pub fn new(command_id: Uuid, fingerprint: String, now: DateTime<Utc>) -> Self {
        Self {
            command_id,
            fingerprint,
            precondition: Precondition::None,
            correlation_id: command_id,
            causation_id: command_id,
            actor: None,
            traceparent: None,
            now,
        }
    }

    /// The id of the event at `index` among those that the command decides. It follows from the command and from what the
    /// event says. So the log recognises the same command when it is appended again, and events of the same ids are the
    /// same events, whoever appended them: the same command that was decided elsewhere in another way is not taken for
    /// them.
    pub(crate) fn event_id(&self, index: usize, event: &Encoded) -> Uuid {
        let Encoded { event_type, schema, data } = event;
        let mut name = format!("{}/{index}/{event_type}/{schema}/", self.fingerprint).into_bytes();
        name.extend_from_slice(data);
        Uuid::new_v5(&self.command_id, &name)
    }
}

/// What the sender of a command presumes of the aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: what is decided on is what is there.
    None,
    /// Nothing has happened to it yet (`If-None-Match: *`).
    New,
    /// Something has happened to it (`If-Match: *`).
    Existing,
    /// Its last event has this revision (`If-Match: "7"`).
    Revision(u64),
    /// It exists, and does not: what never holds, however much sense each of the two makes.
    Never,
}

impl Precondition {
    /// Whether an aggregate with this last revision (`None`: nothing has happened to it) is as presumed.
    pub(crate) fn holds(self, last: Option<u64>) -> bool {
        let expected = match self {
            Self::None => Expected::Any,
            Self::New => Expected::NoStream,
            Self::Existing => Expected::Exists,
            Self::Revision(revision) => Expected::Exact(revision),
            Self::Never => return false,
        };
        expected.holds(last)
    }
}

/// The command id that follows from an idempotency key. A key counts for one aggregate and one sender: the same key sent to
/// another one, or by somebody else, is another command. `sender` is `None` where it is not known who sends.
pub fn command_id_of_key(stream: &StreamName, key: &str, sender: Option<&str>) -> Uuid {
    let sender = sender.map(|sender| format!("\n{sender}")).unwrap_or_default();
    Uuid::new_v5(&KEYS, format!("{stream}\n{key}{sender}").as_bytes())
}

/// What a command says, in short: the first 16 bytes of the SHA-256 of its name and its JSON, in hexadecimal. Blanks and
/// the order of fields make no difference.
pub fn fingerprint(command: &str, body: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(command);
    hash.update([0]);
    hash.update(body.to_string());
    let half = hash.finalize().into_iter().take(16).fold(0, |half, byte| half << 8 | u128::from(byte));
    format!("{half:032x}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fingerprint_sees_content_and_not_form() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":[2,3]}"#).unwrap();
        let other: Value = serde_json::from_str(r#" { "b" : [2, 3], "a" : 1 } "#).unwrap();
        assert_eq!(fingerprint("receive", &one), fingerprint("receive", &other));
        assert_ne!(fingerprint("receive", &one), fingerprint("adjust", &one));
        assert_ne!(fingerprint("receive", &one), fingerprint("receive", &json!({"a": 1, "b": [3, 2]})));
    }

    #[test]
    fn event_ids_follow_from_the_command_and_from_what_the_events_say() {
        let envelope = Envelope::new(Uuid::from_u128(7), "f".into(), DateTime::UNIX_EPOCH);
        let event = || Encoded { event_type: "Happened", schema: 1, data: b"{}".to_vec() };
        let id = envelope.event_id(0, &event());
        let later = Envelope { now: DateTime::UNIX_EPOCH + chrono::Days::new(1), ..envelope.clone() };
        assert_eq!(id, later.event_id(0, &event()), "when a command is decided makes no difference");
        let other = Envelope { fingerprint: "g".into(), ..envelope.clone() };
        for another in [
            envelope.event_id(1, &event()),
            envelope.event_id(0, &Encoded { data: b"[]".to_vec(), ..event() }),
            envelope.event_id(0, &Encoded { schema: 2, ..event() }),
            envelope.event_id(0, &Encoded { event_type: "Occurred", ..event() }),
            other.event_id(0, &event()),
        ] {
            assert_ne!(id, another);
        }
    }

    #[test]
    fn a_key_counts_for_one_aggregate_and_one_sender() {
        let id = |stream: &str, sender| command_id_of_key(&StreamName::new(stream).unwrap(), "k", sender);
        let ids = [("A", None), ("B", None), ("A", Some("alice")), ("A", Some("bob")), ("A", Some(""))];
        let ids = ids.map(|(sku, sender)| id(&format!("stock-{sku}"), sender));
        assert_eq!(ids[2], id("stock-A", Some("alice")));
        assert_eq!(std::collections::BTreeSet::from(ids).len(), ids.len());
    }
}
