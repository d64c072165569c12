//! The text of the guide held against the sources that are compiled.

use std::collections::BTreeMap;
use std::fs;

use crate::docs::{blocks, page};
use crate::support::root;

/// The text of the guide.
pub(super) fn text() -> String {
    page("adding-an-aggregate.md")
}

/// The files of the vouchers by the name that the guide gives them, and their text in the guide's words; and the rest of
/// this folder's Rust, with what the guide shows of the shop's own.
struct Sources {
    vouchers: BTreeMap<String, String>,
    others: Vec<String>,
}

fn sources() -> Sources {
    let here = root().join("tests/src/adding_an_aggregate");
    let in_the_guides_words = |text: String| {
        text.replace("crate::adding_an_aggregate::", "crate::").replace("\"/src/adding_an_aggregate/", "\"/src/")
    };
    let read = |path| in_the_guides_words(fs::read_to_string(path).unwrap());
    let files = |folder: &str| -> Vec<_> {
        let entries = fs::read_dir(here.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect()
    };
    let name = |path: &std::path::Path| format!("domain/src/{}", path.strip_prefix(&here).unwrap().display());
    let vouchers = files("vouchers").into_iter().chain(files("vouchers/golden"));
    let mut vouchers: BTreeMap<String, String> = vouchers.map(|path| (name(&path), read(path))).collect();
    // Of the last step, in which the folder `later` stands for the same folder.
    let second = "golden/VoucherIssued.v2.json";
    vouchers.insert(format!("domain/src/vouchers/{second}"), read(here.join("later").join(second)));
    let of_the_shop = ["warehouse.rs", "checkout/tests.rs"].map(|file| root().join("domain/src/processes").join(file));
    let others = ["mod.rs", "served.rs", "later/mod.rs"].map(|file| here.join(file)).into_iter().chain(of_the_shop);
    Sources { vouchers, others: others.map(read).collect() }
}

/// Where the guide and the sources differ.
fn differences(guide: &str, sources: &Sources) -> Vec<String> {
    let mut told: BTreeMap<&str, String> = BTreeMap::new();
    let mut differences = Vec::new();
    let blocks = blocks(guide);
    for block in &blocks {
        match block.file() {
            Some(file) => {
                let text = told.entry(file).or_default();
                // A file that is told in several blocks has an empty line between them.
                *text = if text.is_empty() { block.text.clone() } else { format!("{text}\n{}", block.text) };
            }
            None if block.language() == "rust" && !sources.others.iter().any(|source| holds(source, &block.text)) => {
                differences.push(format!("no source has\n{}", block.text));
            }
            None => {}
        }
    }
    for (file, text) in &told {
        match sources.vouchers.get(*file) {
            Some(source) if source == text => {}
            Some(_) => differences.push(format!("{file} is another than the guide's")),
            None => differences.push(format!("there is no {file}")),
        }
    }
    let untold = sources.vouchers.keys().filter(|file| !told.contains_key(file.as_str()));
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
    assert_eq!(sources.vouchers.len(), 11, "six of Rust, the README and four golden files");
    assert_eq!(differences(&text(), &sources), [""; 0]);
}

#[test]
fn the_guide_names_places_that_are_there() {
    for (file, place) in [
        ("domain/src/lib.rs", "pub mod inventory;"),
        ("domain/src/ids/mod.rs", "uuid_id! {\n"),
        ("domain/src/decider.rs", "macro_rules! payloads_are_commands"),
        ("domain/src/schemas/mod.rs", "pub const CONTEXTS"),
        ("domain/src/schemas/mod.rs", "context::<Product>(\"catalog\"),"),
        ("domain/src/shop_event.rs", "shop_events! {\n"),
        ("domain/src/shop_event/tests.rs", "fn every_event_of_every_context_is_one_of_the_shop()"),
        ("domain/src/shop_event/tests.rs", "fn one_of_each()"),
        ("domain/src/shop_event/tests.rs", "fn stored("),
        ("domain/src/processes/checkout/mod.rs", "| ShopEvent::Customers(..)"),
        ("domain/src/processes/checkout/turn.rs", "| ShopEvent::Customers(..)"),
        ("domain/src/processes/checkout/exploration/world.rs", "| ShopEvent::Customers(..)"),
        ("domain/src/processes/checkout/tests.rs", "given_process::<Checkout>("),
        ("projections/src/runtime/tests/mod.rs", "fn stored("),
        ("storefold/src/trade.rs", "MadeUpWarehouse("),
        ("write-side/src/endpoint.rs", "pub fn registry() -> Registry {"),
        ("domain/src/fixtures.rs", "pub(crate) fn lives<"),
        ("domain/src/fixtures.rs", "pub(crate) fn survives<"),
    ] {
        assert!(fs::read_to_string(root().join(file)).unwrap().contains(place), "{file} has no {place:?} any more");
    }
    for file in [
        "domain/src/fixtures.rs",
        "domain/src/schemas/mod.rs",
        "domain/src/shop_event.rs",
        "domain/src/shop_event/tests.rs",
        "domain/src/processes/checkout/mod.rs",
        "projections/src/runtime/tests/mod.rs",
        "write-side/src/endpoint.rs",
    ] {
        assert!(text().contains(file), "the guide does not name {file}");
    }
}

mod the_check_can_fail {
    use super::*;

    #[test]
    fn on_a_guide_that_changes() {
        let sources = sources();
        for (from, to) in [
            ("amount.minor > left.minor", "amount.minor >= left.minor"),
            ("uuid_id! {", "uuid_id!{"),
            ("fields.insert(", "fields.remove("),
            (
                "\"minor\": 2000, \"currency\": \"GBP\" },\n  \"reason\"",
                "\"minor\": 2001, \"currency\": \"GBP\" },\n  \"reason\"",
            ),
            ("plain::<Voucher>()\n```", "served::<Voucher>()\n```"),
            ("Vouchers => vouchers::Voucher,\n", "Vouchers => vouchers::Vouchers,\n"),
            ("vec![Deliver {}.into()]", "vec![]"),
            (".then([request_payment()])", ".then([confirm()])"),
        ] {
            assert!(text().contains(from), "{from:?} is not in the guide");
            assert_eq!(differences(&text().replacen(from, to, 1), &sources).len(), 1, "{from:?}");
        }
    }

    #[test]
    fn on_a_source_that_changes() {
        for file in sources().vouchers.into_keys() {
            let mut sources = sources();
            sources.vouchers.entry(file.clone()).or_default().push('\n');
            assert_eq!(differences(&text(), &sources), [format!("{file} is another than the guide's")]);
            sources.vouchers.remove(&file);
            assert_eq!(differences(&text(), &sources), [format!("there is no {file}")]);
        }
        let mut sources = sources();
        sources.vouchers.insert("domain/src/vouchers/more.rs".to_owned(), String::new());
        assert_eq!(differences(&text(), &sources), ["the guide does not tell domain/src/vouchers/more.rs"]);
        sources.vouchers.remove("domain/src/vouchers/more.rs");
        sources.others.clear();
        assert!(differences(&text(), &sources).len() >= 5);
    }
}
