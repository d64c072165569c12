//! What is stored of events, held against golden files.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::diff;
use crate::codec::{CodecError, StoredEvent};
use crate::decider::{Decider, fold};

/// Asserts that every schema of every event type of `E` can still be read, and that the newest is still written as it was.
///
/// `folder` holds one file for each, `{type}.v{schema}.json`, as an event of that schema was stored, and no other file.
/// A golden file is written once: when an event changes, it gets a new schema number and another file.
///
/// # Panics
/// With all that is wrong: a file that is missing, that no schema wants, that cannot be read, or that is written in
/// another form now.
#[track_caller]
pub fn assert_golden<E: StoredEvent>(folder: impl AsRef<Path>) {
    let folder = folder.as_ref();
    let mut files = match read(folder) {
        Ok(files) => files,
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    let mut wrong = Vec::new();
    for known in E::SCHEMAS {
        for schema in 1..=known.schema {
            let name = format!("{}.v{schema}.json", known.event_type);
            let Some(golden) = files.remove(&name) else {
                wrong.push(format!("{name}: missing; add an event of that schema as it is stored"));
                continue;
            };
            match E::decode(known.event_type, schema, &golden) {
                Err(error) => wrong.push(format!("{name}: {}", with_causes(&error))),
                Ok(event) if schema == known.schema => wrong.extend(rewritten(&name, &golden, &event)),
                Ok(_) => {}
            }
        }
    }
    wrong.extend(files.keys().map(|name| format!("{name}: no event type has this schema")));
    assert!(wrong.is_empty(), "golden events in {}\n{}", folder.display(), wrong.join("\n"));
}

/// Asserts that an event is read back as what was stored.
///
/// # Panics
/// When it cannot be stored or read, or comes back changed.
#[track_caller]
pub fn assert_round_trip<E: StoredEvent + Debug + PartialEq>(event: &E) {
    let back = event.encode().and_then(|stored| E::decode(stored.event_type, stored.schema, &stored.data));
    match back {
        Ok(back) => assert_eq!(&back, event, "the event comes back changed"),
        Err(error) => panic!("{event:?}: {}", with_causes(&error)),
    }
}

/// Asserts that what snapshots keep of an aggregate with this history is what `file` says, in the form that it says.
///
/// A snapshot of another form is passed over, and one of the same form is believed. So the number given to
/// [`Snapshots::json`](crate::decider::Snapshots::json) has to be raised when `evolve` makes another state of the same events in
/// the same shape, and nothing but a history that was folded before notices. Let it have every event.
///
/// # Panics
/// When another state is made in the same form, or the form is another one. Then it says what is to be done.
#[track_caller]
pub fn assert_snapshot<D: Decider>(history: impl IntoIterator<Item = D::Event>, file: impl AsRef<Path>) {
    let file = file.as_ref();
    let history: Vec<_> = history.into_iter().collect();
    let Some(form) = D::snapshots() else { panic!("no snapshots are taken of {}", D::CATEGORY) };
    let state = match form.encode(&fold::<D>(&history)) {
        Ok(state) => state,
        Err(error) => panic!("the state of {} has no JSON form: {error}", D::CATEGORY),
    };
    let form = form.form();
    let (number, schema) = form.split_once('\n').unwrap_or_default();
    let now =
        json!({ "fold": parsed(number.as_bytes()), "schema": parsed(schema.as_bytes()), "state": parsed(&state) });
    let kept = parsed(&fs::read(file).unwrap_or_default());
    if kept == now {
        return;
    }
    let same_form = ["fold", "schema"].iter().all(|part| kept[part] == now[part]);
    let (before, after) = (pretty(kept.to_string().as_bytes()), pretty(now.to_string().as_bytes()));
    let differs = diff(&before, &after);
    if same_form {
        panic!(
            "another state is made of the same events in the same form, and old snapshots would be believed: raise the number \
             of Snapshots::json for {}, then let {} say so\n{differs}",
            D::CATEGORY,
            file.display()
        );
    }
    panic!("snapshots of {} have a new form; let {} say so\n{differs}\n{after}", D::CATEGORY, file.display());
}

/// JSON, or nothing where it is none.
fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

fn read(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
        })
        .collect()
}

/// How the event is written now, if that is not what the golden file says.
fn rewritten(name: &str, golden: &[u8], event: &impl StoredEvent) -> Option<String> {
    let stored = match event.encode() {
        Ok(stored) => stored,
        Err(error) => return Some(format!("{name}: {}", with_causes(&error))),
    };
    let (golden, now) = (pretty(golden), pretty(&stored.data));
    (golden != now).then(|| format!("{name}: is written otherwise now (- golden, + now)\n{}", diff(&golden, &now)))
}

/// JSON in one form, so that blanks and the order of keys do not count.
fn pretty(json: &[u8]) -> String {
    match serde_json::from_slice::<Value>(json) {
        Ok(mut value) => {
            value.sort_all_objects();
            format!("{value:#}\n")
        }
        Err(error) => format!("{error}\n"),
    }
}

fn with_causes(error: &CodecError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
