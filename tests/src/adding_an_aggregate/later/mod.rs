//! The last step of the guide: an event gets a second schema.
#![allow(unreachable_pub, reason = "in the domain it is public")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::{self, StoredEvent};
use super::fixtures::money;
use super::money::Money;
use super::{stored_events, testing, vouchers};

stored_events! {
    /// What happens to a voucher, as far as it has changed.
    pub enum Event {
        /// It was issued.
        Issued => "VoucherIssued" schema 2 upcasts [every_voucher_was_sold],
    }
}

/// A voucher was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// What it is worth.
    pub value: Money,
    /// How it came to be.
    pub origin: Origin,
}

/// How a voucher came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It was sold.
    Sold,
    /// The shop gave it away, to make good.
    Goodwill,
}

/// Schema 1 to 2: until then every voucher was sold.
fn every_voucher_was_sold(mut issued: Value) -> Result<Value, String> {
    let fields = issued.as_object_mut().ok_or("it is no object")?;
    fields.insert("origin".to_owned(), "sold".into());
    Ok(issued)
}

#[test]
fn a_voucher_of_schema_1_was_sold() {
    let stored = include_bytes!("golden/VoucherIssued.v1.json");
    let issued = Event::decode("VoucherIssued", 1, stored).unwrap();
    assert_eq!(issued, Issued { value: money(5_000, "GBP"), origin: Origin::Sold }.into());
}

#[test]
fn stored_events_stay_readable() {
    testing::assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/adding_an_aggregate/later/golden"));
    let v1 = std::fs::read(format!(
        "{}/src/adding_an_aggregate/vouchers/golden/VoucherIssued.v1.json",
        env!("CARGO_MANIFEST_DIR")
    ));
    assert_eq!(v1.unwrap(), include_bytes!("golden/VoucherIssued.v1.json"), "a golden file is written once");
}

/// What the guide quotes of `events.lock` is what its check says.
#[test]
fn the_lock_says_what_the_guide_says() {
    let locked: Value = serde_json::from_str(include_str!("events.lock")).unwrap();
    assert_eq!(domain::schemas::drift(&locked, Event::SCHEMAS), []);
    let guide = super::guide::text();
    let said = |locked: &Value, known: &[codec::EventSchema]| {
        // Leaked, as the schemas of a program are static.
        let known: &'static [codec::EventSchema] = known.to_vec().leak();
        let said: Vec<String> = domain::schemas::drift(locked, known).iter().map(ToString::to_string).collect();
        assert!(!said.is_empty());
        for said in said {
            assert!(guide.contains(&said), "the guide does not say\n{said}");
        }
    };
    said(&serde_json::json!({}), vouchers::Event::SCHEMAS);
    let mut first = locked.clone();
    first["VoucherIssued"].as_object_mut().unwrap().remove("2");
    said(&first, Event::SCHEMAS);
    let unchanged_number = codec::EventSchema { schema: 1, upcasts: &[], ..Event::SCHEMAS[0] };
    said(&first, &[unchanged_number]);
}
