//! Every event type of every context, and `events.lock`: the JSON Schema of each of their versions.
//!
//! What is stored is read for ever, so a version that was released never changes. The lock holds what each version looks
//! like, and a test holds the code against the lock: see [`drift`].

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::catalog::Product;
use crate::codec::{EventSchema, StoredEvent};
use crate::customers::Customer;
use crate::decider::Decider;
use crate::inventory::Stock;
use crate::ordering::Order;
use crate::payments::Payment;
use crate::shipping::Shipment;
use crate::supervision::Supervision;

/// A bounded context, seen from outside.
#[derive(Clone, Copy)]
pub struct Context {
    /// The folder it lives in.
    pub name: &'static str,
    /// The category of its streams.
    pub category: &'static str,
    /// Its event types.
    pub schemas: &'static [EventSchema],
}

/// Every context. A new one is entered here.
pub const CONTEXTS: &[Context] = &[
    context::<Product>("catalog"),
    context::<Stock>("inventory"),
    context::<Order>("ordering"),
    context::<Customer>("customers"),
    context::<Payment>("payments"),
    context::<Shipment>("shipping"),
    context::<Supervision>("supervision"),
];

const fn context<D: Decider>(name: &'static str) -> Context {
    Context { name, category: D::CATEGORY, schemas: D::Event::SCHEMAS }
}

/// Every event type of every context.
pub fn event_schemas() -> impl Iterator<Item = &'static EventSchema> {
    CONTEXTS.iter().flat_map(|context| context.schemas)
}

/// What `events.lock` has to hold: `{"<event type>": {"<schema>": <JSON Schema>}}`, sorted.
///
/// The newest version of each event type comes from the code; the older ones, of which the code knows only how to lift
/// them, are those of the lock with which this program was built.
pub fn events_lock() -> Value {
    // A lock that is not JSON counts as empty. Nothing is lost by that unnoticed: `drift` misses the older versions.
    let locked = serde_json::from_str(include_str!("../../../events.lock")).unwrap_or_default();
    relock(&locked, event_schemas())
}

/// How to bring `events.lock` up to date, from the root of the repository.
///
/// In two steps, as a shell empties the file it writes to before cargo builds the program from it.
pub const LOCK_COMMAND: &str =
    "cargo run -p storefold -- schema events-lock > events.lock.new && mv events.lock.new events.lock";

/// What stands between a lock and the code. Some of it is mended with [`LOCK_COMMAND`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Drift {
    /// A new event type, or a new schema number.
    #[error("{event_type} schema {schema} is not locked yet")]
    Unlocked {
        /// The event type.
        event_type: String,
        /// The schema number.
        schema: u32,
    },
    /// The version got a new optional property, which an event stored before does without.
    #[error("{event_type} schema {schema} has a new optional property, which is not locked yet")]
    Extended {
        /// The event type.
        event_type: String,
        /// The schema number.
        schema: u32,
    },
    /// The version changed in a way that an event stored before may not survive.
    #[error(
        "{event_type} schema {schema} has changed, but events are stored in it: {}\n  \
         leave it as it was, give the event the schema number {} and an upcast from {schema}",
        changes.join(", "), schema + 1
    )]
    Changed {
        /// The event type.
        event_type: String,
        /// The schema number.
        schema: u32,
        /// What changed, each with its place.
        changes: Vec<String>,
    },
    /// An older version is missing from the lock. The code cannot say any more what it looked like.
    #[error("{event_type} schema {schema} is gone from events.lock; restore the file from version control")]
    Forgotten {
        /// The event type.
        event_type: String,
        /// The schema number.
        schema: u32,
    },
    /// The lock has a version that the code does not know any more.
    #[error(
        "{event_type} schema {schema} is locked, but the code cannot read it; events are stored in it, so it stays"
    )]
    Unreadable {
        /// The event type.
        event_type: String,
        /// The schema number, as the lock writes it.
        schema: String,
    },
}

/// Holds a lock against the code: what has to be done before both agree.
///
/// The only change to a version that an event stored before is sure to survive is a new property that is not required.
/// Everything else is taken for a breach, even what might do no harm. Titles, descriptions and examples do not count.
pub fn drift<'a>(locked: &Value, known: impl IntoIterator<Item = &'a EventSchema>) -> Vec<Drift> {
    let mut drift = Vec::new();
    let mut readable = BTreeSet::new();
    for event in known {
        for schema in 1..=event.schema {
            let event_type = event.event_type.to_owned();
            readable.insert((event_type.clone(), schema.to_string()));
            match (&locked[event.event_type][schema.to_string()], schema == event.schema) {
                (Value::Null, true) => drift.push(Drift::Unlocked { event_type, schema }),
                (Value::Null, false) => drift.push(Drift::Forgotten { event_type, schema }),
                (old, true) => {
                    let new = json_schema(event);
                    let changes = breaches("", old, &new);
                    if !changes.is_empty() {
                        drift.push(Drift::Changed { event_type, schema, changes });
                    } else if *old != new {
                        drift.push(Drift::Extended { event_type, schema });
                    }
                }
                (_, false) => {}
            }
        }
    }
    let unreadable = versions(locked).filter(|version| !readable.contains(version));
    drift.extend(unreadable.map(|(event_type, schema)| Drift::Unreadable { event_type, schema }));
    drift
}

/// The event types and schema numbers of a lock.
fn versions(locked: &Value) -> impl Iterator<Item = (String, String)> {
    let types = locked.as_object().into_iter().flatten();
    types.flat_map(|(event_type, versions)| {
        versions.as_object().into_iter().flat_map(Map::keys).map(move |schema| (event_type.clone(), schema.clone()))
    })
}

/// The lock with the newest version of each event type put in.
fn relock<'a>(locked: &Value, known: impl IntoIterator<Item = &'a EventSchema>) -> Value {
    let mut lock = if locked.is_object() { locked.clone() } else { json!({}) };
    for event in known {
        lock[event.event_type][event.schema.to_string()] = json_schema(event);
    }
    lock.sort_all_objects();
    lock
}

fn json_schema(event: &EventSchema) -> Value {
    let mut schema = (event.json_schema)().to_value();
    strip_annotations(&mut schema);
    schema
}

/// Takes away what says nothing of the shape.
fn strip_annotations(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            for annotation in ["$schema", "title", "description", "examples"] {
                keywords.remove(annotation);
            }
            for (keyword, value) in keywords {
                match (keyword.as_str(), value) {
                    // Here the keys are names of the event's own, and one of them may well be `description`.
                    ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(strip_annotations),
                    // These hold values, not schemas.
                    ("default" | "const" | "enum", _) => {}
                    // A set: in which order Rust declares the fields is nobody's business.
                    ("required", Value::Array(names)) => names.sort_by(|a, b| a.as_str().cmp(&b.as_str())),
                    (_, value) => strip_annotations(value),
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(strip_annotations),
        _ => {}
    }
}

/// What an event that fits `old` may fail on in `new`, each with its place.
fn breaches(place: &str, old: &Value, new: &Value) -> Vec<String> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return changed(place, old, new);
    };
    let keywords: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let compare = |keyword: &String| {
        let place = format!("{place}/{keyword}");
        let (old, new) = (old.get(keyword).unwrap_or(&Value::Null), new.get(keyword).unwrap_or(&Value::Null));
        match keyword.as_str() {
            // A name that is new is fine; were it required, `required` would differ.
            "properties" => {
                let named = old.as_object().into_iter().flatten();
                named.flat_map(|(name, old)| breaches(&format!("{place}/{name}"), old, &new[name])).collect()
            }
            "items" => breaches(&place, old, new),
            _ => changed(&place, old, new),
        }
    };
    keywords.into_iter().flat_map(compare).collect()
}

fn changed(place: &str, old: &Value, new: &Value) -> Vec<String> {
    match (old, new) {
        (old, new) if old == new => vec![],
        (old, Value::Null) => vec![format!("{place} is gone, was {old}")],
        (Value::Null, new) => vec![format!("{place} is new: {new}")],
        (old, new) => vec![format!("{place} is {new}, was {old}")],
    }
}

#[cfg(test)]
mod tests;
