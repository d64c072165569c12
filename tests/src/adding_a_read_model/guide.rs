//! The text of the guide held against the sources that are compiled.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::docs::{blocks, page};
use crate::support::root;

/// The text of the guide.
pub(super) fn text() -> String {
    page("adding-a-read-model.md")
}

/// The files of the read model by the name that the guide gives them, in the guide's words; and what it shows parts of:
/// the register, and the second version.
struct Sources {
    files: BTreeMap<String, String>,
    others: Vec<String>,
}

fn sources() -> Sources {
    let here = root().join("tests/src/adding_a_read_model");
    let in_the_guides_words = |text: String| {
        text.replace("crate::adding_a_read_model::", "crate::").replace("\"../migrations/", "\"../../../migrations/")
    };
    let read = |path: PathBuf| in_the_guides_words(fs::read_to_string(path).unwrap());
    let of = |folder: &str| -> Vec<PathBuf> {
        fs::read_dir(here.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let (code, sql) = ("dispatch_times", "migrations/read_models");
    let name = |path: &PathBuf| {
        let path = path.strip_prefix(&here).unwrap().display().to_string();
        if path.starts_with("migrations/") { path } else { format!("projections/src/{path}") }
    };
    let files = [code, sql].into_iter().flat_map(of).map(|path| (name(&path), read(path))).collect();
    let later = [code, sql].into_iter().flat_map(|folder| of(&format!("later/{folder}")));
    // The guide says what to add to the crate's root, where this module names the same folder.
    let others = later.chain([here.join("mod.rs")]).map(read);
    Sources { files, others: others.collect() }
}

/// Where the guide and the sources differ.
fn differences(guide: &str, sources: &Sources) -> Vec<String> {
    let (mut told, mut differences) = (BTreeMap::new(), Vec::new());
    let blocks = blocks(guide);
    for block in &blocks {
        let is_code = ["rust", "sql"].contains(&block.language()) && !block.text.starts_with("select ");
        match block.file() {
            Some(file) => drop(told.insert(file, &block.text)),
            None if is_code && !sources.others.iter().any(|source| holds(source, &block.text)) => {
                differences.push(format!("no source has\n{}", block.text));
            }
            None => {}
        }
    }
    for (file, text) in &told {
        match sources.files.get(*file) {
            Some(source) if source == *text => {}
            Some(_) => differences.push(format!("{file} is another than the guide's")),
            None => differences.push(format!("there is no {file}")),
        }
    }
    let untold = sources.files.keys().filter(|file| !told.contains_key(file.as_str()));
    differences.extend(untold.map(|file| format!("the guide does not tell {file}")));
    differences
}

/// Whether a source has a part, whatever the indentation of both.
fn holds(source: &str, part: &str) -> bool {
    let flat = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    flat(source).contains(&flat(part))
}

#[test]
fn the_guide_shows_what_is_compiled() {
    let sources = sources();
    assert_eq!(sources.files.len(), 4, "two of Rust and two of SQL");
    assert_eq!(differences(&text(), &sources), [""; 0]);
}

#[test]
fn the_guide_names_places_that_are_there() {
    for (file, place) in [
        ("projections/src/lib.rs", "pub mod customers;"),
        ("projections/src/runtime/mod.rs", "pub fn read_models()"),
        ("projections/src/runtime/mod.rs", "runs::<low_stock::LowStock>(),"),
        ("projections/src/product_sales/mod.rs", "Every key is asked for before any is missed"),
        ("projections/src/histories.rs", "fn any_history()"),
        ("projections/src/read_model.rs", "const POISON: Poison = Poison::Park;"),
        ("projections/src/runtime/tests/mod.rs", "fn what_is_followed_live_is_what_a_rebuild_makes()"),
        ("tests/src/readers.rs", "fn nothing_that_readers_see_is_without_a_comment()"),
        ("tests/src/read_model_docs.rs", "fn the_page_shows_every_table_and_column_and_what_joins_to_what()"),
        ("tests/src/read_models.rs", "const VIEWS: "),
        ("read-api/src/low_stock.rs", "const TABLE: Table"),
        ("read-api/src/query.rs", "LowStockQuery,"),
        ("read-api/src/own_writes.rs", "Self::LowStock => \"low_stock\""),
        ("read-api/tests/api/harness.rs", "const READ_MODELS: "),
    ] {
        assert!(fs::read_to_string(root().join(file)).unwrap().contains(place), "{file} has no {place:?} any more");
        assert!(text().contains(file), "the guide does not name {file}");
    }
}

#[test]
fn the_check_can_fail() {
    for (from, to) in [
        (".num_seconds().max(0)", ".num_seconds()"),
        ("[day(1, 2)]", "[day(1, 1)]"),
        ("waited_seconds bigint not null\n", "waited_seconds int not null\n"),
        ("primary key (day, country)", "primary key (country, day)"),
        ("runs::<dispatch_times::DispatchTimes>(),", "runs::<dispatch_times::Dispatched>(),"),
        ("longest_seconds: longest.max(waited),", "longest_seconds: longest.min(waited),"),
        ("longest_seconds bigint not null", "longest_seconds int not null"),
    ] {
        assert!(text().contains(from), "{from:?} is not in the guide");
        assert_eq!(differences(&text().replacen(from, to, 1), &sources()).len(), 1, "{from:?}");
    }
    for file in sources().files.into_keys() {
        let mut changed = sources();
        changed.files.entry(file.clone()).or_default().push('\n');
        assert_eq!(differences(&text(), &changed), [format!("{file} is another than the guide's")]);
        changed.files.remove(&file);
        assert_eq!(differences(&text(), &changed), [format!("there is no {file}")]);
    }
}
