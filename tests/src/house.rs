//! The rules of the house: who may know whom, and what the domain must not touch.
//!
//! Each check is a function from what was found to what is wrong with it, so that it can be shown to fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of the workspace may know of the others. `tests` and `benches` may know all, as `storefold` does.
const MAY_KNOW: [(&str, &[&str]); 8] = [
    ("access", &[]),
    ("domain", &[]),
    // For its tests.
    ("event-store", &["kurrentdb-server"]),
    ("telemetry", &[]),
    ("write-side", &["access", "domain", "event-store", "telemetry"]),
    ("projections", &["domain", "event-store", "telemetry"]),
    ("read-api", &["access"]),
    ("kurrentdb-server", &[]),
];
const MAY_KNOW_ALL: [&str; 3] = ["storefold", "tests", "benches"];

/// Crates that a pure domain has no use for.
const IMPURE_CRATES: [&str; 11] = [
    "async-trait",
    "axum",
    "futures",
    "getrandom",
    "hyper",
    "rand",
    "reqwest",
    "sqlx",
    "tokio",
    "tracing",
    "kurrentdb",
];

/// Parts of the standard library that reach outside.
const IMPURE_STD: [&str; 6] = ["env", "fs", "net", "process", "thread", "time"];

/// What a pure function cannot contain.
const IMPURE_WORDS: [&str; 8] =
    ["async", "await", "rand", "Utc::now", "Local::now", "Uuid::new_v4", "Uuid::now_v7", "thread_rng"];

/// Folders of the domain that are no bounded context, and know none.
const SHARED: [&str; 5] = ["codec", "ids", "money", "schemas", "testing"];

/// What may see several contexts: the processes, and the registers of all events and their schemas.
const SEE_SEVERAL: [&str; 3] = ["processes", "schemas", "shop_event"];

#[test]
fn dependencies_point_down_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = packages(&metadata);
    assert!(packages.len() >= 6, "the workspace was not read: {packages:?}");
    assert_none(wrong_dependencies(&packages));
}

#[test]
fn no_context_knows_another() {
    assert_none(domain().iter().flat_map(|(path, source)| foreign_contexts(path, source, &contexts())).collect());
}

#[test]
fn the_domain_is_pure() {
    let product = domain().into_iter().filter(|(path, _)| !is_for_tests(path));
    assert_none(product.flat_map(|(path, source)| impurities(&path, &source)).collect());
}

/// A package of the workspace, and what it depends on in any way.
type Package = (String, Vec<String>);

fn packages(metadata: &Value) -> Vec<Package> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = |dependencies: &Value| {
        dependencies.as_array().unwrap().iter().map(|dependency| text(&dependency["name"])).collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), names(&package["dependencies"]))).collect()
}

fn wrong_dependencies(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|(name, _)| name.as_str()).collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in packages {
        if MAY_KNOW_ALL.contains(&name.as_str()) {
            continue;
        }
        let Some((_, may_know)) = MAY_KNOW.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("{name}: no rule says what it may know"));
            continue;
        };
        for dependency in dependencies.iter().map(String::as_str).collect::<BTreeSet<_>>() {
            // A package may name itself, to turn its own features on for its tests.
            if ours.contains(dependency) && dependency != name && !may_know.contains(&dependency) {
                wrong.push(format!("{name} must not know {dependency}"));
            }
            if name == "domain" && IMPURE_CRATES.contains(&dependency) {
                wrong.push(format!("domain is pure and has no use for {dependency}"));
            }
        }
    }
    wrong
}

/// The contexts that a file of the domain mentions and must not. `path` is relative to the domain's sources.
fn foreign_contexts(path: &Path, source: &str, contexts: &BTreeSet<String>) -> Vec<String> {
    let Some(folder) = folder(path) else { return Vec::new() };
    if SEE_SEVERAL.contains(&folder.as_str()) {
        return Vec::new();
    }
    let code = without_comments(source);
    let mentioned = ["crate", "super"].into_iter().flat_map(|root| children(&code, root));
    let foreign: BTreeSet<String> = mentioned.filter(|name| contexts.contains(name) && *name != folder).collect();
    foreign.into_iter().map(|name| format!("{}: {folder} must not know {name}", path.display())).collect()
}

/// What in a file of the domain is not pure.
fn impurities(path: &Path, source: &str) -> Vec<String> {
    let code = without_comments(source);
    let std = children(&code, "std").into_iter().filter(|name| IMPURE_STD.contains(&name.as_str()));
    let words = IMPURE_WORDS.into_iter().filter(|word| contains_word(&code, word)).map(str::to_owned);
    let found: BTreeSet<String> = std.map(|name| format!("std::{name}")).chain(words).collect();
    found.into_iter().map(|name| format!("{}: {name}", path.display())).collect()
}

/// The names that directly follow a path's root anywhere in the code, in groups too: `a` and `b` for the root `crate` in
/// `use crate::{a::X, b}`.
fn children(code: &str, root: &str) -> Vec<String> {
    let prefix = format!("{root}::");
    let mut names = Vec::new();
    for (at, _) in code.match_indices(&prefix) {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = code[at + prefix.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(heads(group)),
            None => names.push(word(rest)),
        }
    }
    names
}

/// The first name of each item of a group, up to the brace that closes it.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = vec![word(group.trim_start())];
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names
}

/// The identifier at the start of a text.
fn word(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (code[..at].chars().next_back(), code[at + word.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The lines of a source up to their `//`. Prose may say what it likes.
fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first folder of a path, or the name of a file at the top without its ending.
fn folder(path: &Path) -> Option<String> {
    let first = Path::new(path.components().next()?.as_os_str());
    Some(first.file_stem()?.to_str()?.to_owned()).filter(|name| !["lib", "fixtures"].contains(&name.as_str()))
}

/// Files that are compiled for tests only, and the kit for them, which reads golden files.
fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    ["tests", "properties", "fixtures"].contains(&stem) || path.starts_with("testing")
}

/// A context that stands in a folder and nowhere else has events that nothing locks and commands that nobody can send.
#[test]
fn every_context_is_registered() {
    let (folders, entered) = (contexts(), domain::schemas::CONTEXTS);
    assert_eq!(
        folders,
        entered.iter().map(|context| context.name.to_owned()).collect(),
        "see domain::schemas::CONTEXTS"
    );
    let registry = write_side::registry();
    let served: BTreeSet<&str> = registry.iter().map(|aggregate| aggregate.category()).collect();
    assert_eq!(served, entered.iter().map(|context| context.category).collect(), "see write_side::registry");
}

/// Every folder of the domain that is not known to be something else: a new one is a context until somebody says so.
fn contexts() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("domain/src")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    let contexts: BTreeSet<String> =
        names.filter(|name| !SHARED.contains(&name.as_str()) && !SEE_SEVERAL.contains(&name.as_str())).collect();
    assert!(contexts.contains("ordering"), "the contexts were not found: {contexts:?}");
    contexts
}

/// The sources of the domain, by path.
fn domain() -> Vec<(PathBuf, String)> {
    let root = root().join("domain/src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                sources.push((path.strip_prefix(&root).unwrap().to_owned(), source));
            }
        }
    }
    assert!(sources.len() > 10, "the domain was not read");
    sources
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "the house has rules (ARCHITECTURE.md):\n{}", wrong.join("\n"));
}

mod the_checks_can_fail {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        (name.to_owned(), dependencies.iter().map(|name| (*name).to_owned()).collect())
    }

    fn foreign(path: &str, source: &str) -> usize {
        let contexts = ["ordering", "inventory"].map(str::to_owned).into();
        foreign_contexts(Path::new(path), source, &contexts).len()
    }

    fn impure(source: &str) -> Vec<String> {
        let all = impurities(Path::new("x"), source);
        all.iter().map(|found| found.trim_start_matches("x: ").to_owned()).collect()
    }

    #[test]
    fn on_dependencies() {
        let packages = [
            package("domain", &["serde", "tokio"]),
            package("event-store", &["event-store", "domain"]),
            package("write-side", &["domain", "event-store", "projections"]),
            package("projections", &["domain", "write-side"]),
            package("read-api", &["projections", "sqlx"]),
            package("storefold", &["domain", "read-api"]),
            package("tests", &["storefold"]),
            package("newcomer", &[]),
        ];
        assert_eq!(
            wrong_dependencies(&packages),
            [
                "domain is pure and has no use for tokio",
                "event-store must not know domain",
                "write-side must not know projections",
                "projections must not know write-side",
                "read-api must not know projections",
                "newcomer: no rule says what it may know",
            ]
        );
    }

    #[test]
    fn on_contexts() {
        for source in [
            "use crate::inventory::Stock;",
            "use super::super::inventory;",
            "use crate::{money::Money, inventory::{Stock, Event}};",
            "use crate::{\n    money::{Money, Currency},\n    inventory,\n};",
            "fn f() -> crate::inventory::Stock { todo() }",
        ] {
            assert_eq!(foreign("ordering/decide.rs", source), 1, "{source}");
            assert_eq!(foreign("money/mod.rs", source), 1, "{source}");
            assert_eq!(foreign("process.rs", source), 1, "{source}");
            assert_eq!(foreign("inventory/decide.rs", source), 0, "{source}");
            assert_eq!(foreign("processes/checkout.rs", source), 0, "{source}");
        }
        assert_eq!(foreign("ordering/decide.rs", "// as crate::inventory has it\nuse crate::money;"), 0);
    }

    #[test]
    fn on_purity() {
        assert_eq!(impure("async fn f() { g().await }"), ["async", "await"]);
        assert_eq!(impure("use std::{collections::HashMap, fs, time::Instant};"), ["std::fs", "std::time"]);
        assert_eq!(impure("let now = chrono::Utc::now();"), ["Utc::now"]);
        assert_eq!(impure("std::env::var(\"X\")"), ["std::env"]);
        assert_eq!(impure("let brand = asynchronous; // no async, no std::fs"), [""; 0]);
    }
}
