//! The lock held against the code, and the comparison itself.

use std::collections::BTreeMap;

use super::*;
use crate::codec::{Upcast, json_schema_of};

fn locked() -> Value {
    serde_json::from_str(include_str!("../../../events.lock")).expect("events.lock is JSON")
}

#[test]
fn events_lock_agrees_with_the_code() {
    let drift = drift(&locked(), event_schemas());
    let to_lock = drift.iter().any(|drift| matches!(drift, Drift::Unlocked { .. } | Drift::Extended { .. }));
    let advice = if to_lock { format!("to lock what is not, run\n  {LOCK_COMMAND}\n") } else { String::new() };
    let drift: String = drift.iter().map(|drift| format!("{drift}\n")).collect();
    assert!(drift.is_empty(), "events.lock and the code disagree\n{drift}{advice}");
}

#[test]
fn events_lock_is_written_as_it_is_read() {
    let lock = events_lock();
    assert_eq!(lock, locked());
    assert_eq!(format!("{lock:#}\n"), include_str!("../../../events.lock"), "events.lock is sorted and pretty");
}

#[test]
fn an_event_type_belongs_to_one_context() {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for context in CONTEXTS {
        for event in context.schemas {
            owners.entry(event.event_type).or_default().push(context.name);
        }
    }
    owners.retain(|_, contexts| contexts.len() > 1);
    assert!(owners.is_empty(), "{owners:?}");
}

#[test]
fn a_category_belongs_to_one_context_and_can_be_read_off_a_stream() {
    let mut categories: Vec<&str> = CONTEXTS.iter().map(|context| context.category).collect();
    assert!(categories.iter().all(|category| !category.is_empty() && !category.contains('-')), "{categories:?}");
    categories.sort_unstable();
    categories.dedup();
    assert_eq!(categories.len(), CONTEXTS.len());
}

#[test]
fn the_readme_of_a_context_names_its_streams_and_every_event_type() {
    for context in CONTEXTS {
        let path = format!("{}/src/{}/README.md", env!("CARGO_MANIFEST_DIR"), context.name);
        let readme = std::fs::read_to_string(&path).expect(&path);
        let stream = format!("`{}-{{", context.category);
        assert!(readme.contains(&stream), "{path} does not name {stream}");
        for event in context.schemas {
            assert!(readme.contains(&format!("`{}`", event.event_type)), "{path} does not name {}", event.event_type);
        }
    }
}

/// The event type `Told` at some schema, of which the newest looks like `P`.
fn told<P: schemars::JsonSchema>(schema: u32) -> EventSchema {
    const STEPS: &[Upcast] = &[Ok, Ok];
    let upcasts = &STEPS[..schema as usize - 1];
    EventSchema { event_type: "Told", schema, json_schema: json_schema_of::<P>, upcasts }
}

fn lock_of(event: &EventSchema) -> Value {
    relock(&Value::Null, [event])
}

/// The types below are there for their shape alone.
mod shapes {
    #![allow(dead_code, missing_docs)]
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    pub(super) struct Story {
        title: String,
        lines: Vec<Line>,
    }

    #[derive(JsonSchema)]
    pub(super) struct Line {
        words: u32,
    }

    /// The same, told at length.
    #[derive(JsonSchema)]
    #[schemars(title = "A story")]
    pub(super) struct Documented {
        lines: Vec<DocumentedLine>,
        /// What it is called.
        title: String,
    }

    /// The same under another name.
    #[derive(JsonSchema)]
    pub(super) struct DocumentedLine {
        words: u32,
    }

    #[derive(JsonSchema)]
    pub(super) struct Extended {
        title: String,
        /// A property of this name is no annotation.
        description: Option<String>,
        lines: Vec<ExtendedLine>,
    }

    #[derive(JsonSchema)]
    pub(super) struct ExtendedLine {
        words: u32,
        #[serde(default)]
        rhymes: bool,
    }

    #[derive(JsonSchema)]
    pub(super) struct Required {
        title: String,
        author: String,
        lines: Vec<Line>,
    }

    #[derive(JsonSchema)]
    pub(super) struct Removed {
        lines: Vec<Line>,
    }

    #[derive(JsonSchema)]
    pub(super) struct Changed {
        title: String,
        lines: Vec<ChangedLine>,
    }

    #[derive(JsonSchema)]
    pub(super) struct ChangedLine {
        words: String,
    }

    #[derive(JsonSchema)]
    pub(super) struct Narrowed {
        #[schemars(length(max = 10))]
        title: String,
        lines: Vec<Line>,
    }
}

fn breaches_of<P: schemars::JsonSchema>() -> Vec<String> {
    match drift(&lock_of(&told::<shapes::Story>(1)), [&told::<P>(1)]).as_slice() {
        [Drift::Changed { event_type, schema: 1, changes }] if event_type == "Told" => changes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_locked_is_named() {
    let drift = drift(&json!({}), [&told::<shapes::Story>(1)]);
    assert_eq!(drift, [Drift::Unlocked { event_type: "Told".to_owned(), schema: 1 }]);
    assert_eq!(drift[0].to_string(), "Told schema 1 is not locked yet");
}

#[test]
fn words_order_and_rust_names_do_not_count() {
    assert_eq!(drift(&lock_of(&told::<shapes::Story>(1)), [&told::<shapes::Documented>(1)]), []);
}

#[test]
fn a_new_optional_property_is_compatible_and_to_be_locked() {
    let lock = lock_of(&told::<shapes::Story>(1));
    let extended = told::<shapes::Extended>(1);
    assert_eq!(drift(&lock, [&extended]), [Drift::Extended { event_type: "Told".to_owned(), schema: 1 }]);
    let lock = relock(&lock, [&extended]);
    assert_eq!(drift(&lock, [&extended]), []);
    assert!(lock["Told"]["1"]["properties"]["description"].is_object());
    // The way back is none: what was optional yesterday is stored today.
    assert!(matches!(drift(&lock, [&told::<shapes::Story>(1)])[..], [Drift::Changed { .. }]));
}

#[test]
fn a_new_required_property_needs_a_new_schema() {
    assert_eq!(
        breaches_of::<shapes::Required>(),
        [r#"/required is ["author","lines","title"], was ["lines","title"]"#]
    );
}

#[test]
fn a_removed_property_needs_a_new_schema() {
    assert_eq!(
        breaches_of::<shapes::Removed>(),
        [r#"/properties/title is gone, was {"type":"string"}"#, r#"/required is ["lines"], was ["lines","title"]"#]
    );
}

#[test]
fn a_property_of_another_type_needs_a_new_schema() {
    let [ref format, ref minimum, ref kind] = breaches_of::<shapes::Changed>()[..] else { panic!("three keywords") };
    assert_eq!(format, r#"/properties/lines/items/properties/words/format is gone, was "uint32""#);
    assert_eq!(minimum, "/properties/lines/items/properties/words/minimum is gone, was 0");
    assert_eq!(kind, r#"/properties/lines/items/properties/words/type is "string", was "integer""#);
}

#[test]
fn a_narrower_property_needs_a_new_schema() {
    assert_eq!(breaches_of::<shapes::Narrowed>(), ["/properties/title/maxLength is new: 10"]);
}

#[test]
fn a_breach_says_what_to_do() {
    let lock = lock_of(&told::<shapes::Story>(2));
    let lock = relock(&lock, [&told::<shapes::Story>(1)]);
    let said = drift(&lock, [&told::<shapes::Narrowed>(2)])[0].to_string();
    assert!(said.ends_with("give the event the schema number 3 and an upcast from 2"), "{said}");
}

#[test]
fn older_versions_stay_in_the_lock() {
    let lock = relock(&lock_of(&told::<shapes::Story>(1)), [&told::<shapes::Changed>(2)]);
    assert_eq!(drift(&lock, [&told::<shapes::Changed>(2)]), []);
    assert_eq!(lock["Told"]["1"], lock_of(&told::<shapes::Story>(1))["Told"]["1"]);

    let forgotten = lock_of(&told::<shapes::Changed>(2));
    assert_eq!(
        drift(&forgotten, [&told::<shapes::Changed>(2)]),
        [Drift::Forgotten { event_type: "Told".to_owned(), schema: 1 }]
    );
}

#[test]
fn what_is_locked_stays_readable() {
    let lock = relock(&lock_of(&told::<shapes::Story>(1)), [&told::<shapes::Story>(2)]);
    let unreadable = |schema: &str| Drift::Unreadable { event_type: "Told".to_owned(), schema: schema.to_owned() };
    assert_eq!(drift(&lock, [&told::<shapes::Story>(1)]), [unreadable("2")]);
    assert_eq!(drift(&lock, []), [unreadable("1"), unreadable("2")]);
}
