//! The codec, with an event that has come to its third schema.

use std::error::Error;
use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::testing::{assert_golden, assert_round_trip};

crate::stored_events! {
    /// What happens to a parcel.
    enum Event {
        /// It was put on the scales.
        Weighed => "ParcelWeighed" schema 3 upcasts [kilograms_to_grams, weight_gets_a_unit],
        /// Nobody knows where it is.
        Lost => "ParcelLost" schema 1,
    }
}

/// A parcel was weighed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Weighed {
    weight: Weight,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Weight {
    amount: i64,
    unit: String,
}

/// A parcel was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Lost {}

/// From 1 to 2.
fn kilograms_to_grams(old: Value) -> Result<Value, String> {
    let kilograms = old["kilograms"].as_i64().ok_or("kilograms is not a whole number")?;
    let grams = kilograms.checked_mul(1_000).ok_or_else(|| format!("{kilograms} kilograms are too many"))?;
    Ok(json!({ "grams": grams }))
}

/// From 2 to 3.
fn weight_gets_a_unit(old: Value) -> Result<Value, String> {
    Ok(json!({ "weight": { "amount": old["grams"], "unit": "g" } }))
}

fn weighed(amount: i64) -> Event {
    Weighed { weight: Weight { amount, unit: "g".to_owned() } }.into()
}

/// What was said about an event that could not be read, and about the cause.
fn refused(event_type: &str, schema: u32, data: &str) -> (String, Option<String>) {
    let error = Event::decode(event_type, schema, data.as_bytes()).unwrap_err();
    (error.to_string(), error.source().map(ToString::to_string))
}

#[test]
fn the_newest_schema_is_written() {
    let stored = weighed(12_000).encode().unwrap();
    assert_eq!((stored.event_type, stored.schema), ("ParcelWeighed", 3));
    assert_eq!(weighed(12_000).event_type(), "ParcelWeighed");
    assert_eq!(
        serde_json::from_slice::<Value>(&stored.data).unwrap(),
        json!({"weight": {"amount": 12_000, "unit": "g"}})
    );
    assert_round_trip(&weighed(12_000));
    assert_round_trip(&Event::Lost(Lost {}));
}

#[test]
fn an_old_schema_is_lifted_step_by_step() {
    let read = |schema, data: &str| Event::decode("ParcelWeighed", schema, data.as_bytes()).unwrap();
    assert_eq!(read(1, r#"{"kilograms": 12}"#), weighed(12_000));
    assert_eq!(read(2, r#"{"grams": 12000}"#), weighed(12_000));
    assert_eq!(read(3, r#"{"weight": {"amount": 12000, "unit": "g"}}"#), weighed(12_000));
}

#[test]
fn an_unknown_type_is_refused() {
    assert_eq!(refused("ParcelEaten", 1, "{}"), ("unknown event type ParcelEaten".to_owned(), None));
}

#[test]
fn an_unknown_schema_is_refused() {
    for schema in [0, 4, u32::MAX] {
        let said = format!("ParcelWeighed has schema {schema}, this program knows 1 to 3");
        assert_eq!(refused("ParcelWeighed", schema, "{}"), (said, None));
    }
}

#[test]
fn a_step_that_fails_is_named() {
    let said = "ParcelWeighed could not be lifted from schema 1: kilograms is not a whole number".to_owned();
    assert_eq!(refused("ParcelWeighed", 1, r#"{"kilograms": "many"}"#), (said, None));
    let said = format!("ParcelWeighed could not be lifted from schema 1: {} kilograms are too many", i64::MAX);
    assert_eq!(refused("ParcelWeighed", 1, &format!(r#"{{"kilograms": {}}}"#, i64::MAX)), (said, None));
}

#[test]
fn data_of_another_shape_is_refused() {
    let (said, cause) = refused("ParcelWeighed", 3, r#"{"grams": 12000}"#);
    assert_eq!(said, "ParcelWeighed is not of schema 3");
    assert!(cause.unwrap().starts_with("missing field `weight`"));

    // A step need not notice what is wrong; the last word has the payload itself.
    let (said, cause) = refused("ParcelWeighed", 2, r#"{"grams": "many"}"#);
    assert_eq!(said, "ParcelWeighed is not of schema 2");
    assert!(cause.unwrap().starts_with(r#"invalid type: string "many", expected i64"#));
}

#[test]
fn data_that_is_not_json_is_refused() {
    for schema in [1, 2, 3] {
        let (said, cause) = refused("ParcelWeighed", schema, "<xml/>");
        assert_eq!(said, format!("ParcelWeighed is not of schema {schema}"));
        assert!(cause.unwrap().starts_with("expected value at line 1"));
    }
    assert!(Event::decode("ParcelLost", 1, b"{} \xff").is_err());
}

#[test]
fn every_schema_has_a_golden_file() {
    assert_golden::<Event>(concat!(env!("CARGO_MANIFEST_DIR"), "/src/codec/golden"));
}

#[test]
fn golden_files_that_do_not_fit_are_all_named() {
    let folder = std::env::temp_dir().join(format!("storefold-golden-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let files = [
        ("ParcelWeighed.v1.json", r#"{"kilograms": "many"}"#),
        ("ParcelWeighed.v3.json", r#"{"weight": {"unit": "g", "amount": 1}, "scales": 7}"#),
        ("ParcelLost.v1.json", "{}"),
        ("ParcelLost.v2.json", "{}"),
    ];
    for (name, data) in files {
        fs::write(folder.join(name), data).unwrap();
    }
    let panic = std::panic::catch_unwind(|| assert_golden::<Event>(&folder)).unwrap_err();
    fs::remove_dir_all(&folder).unwrap();

    let said = panic.downcast_ref::<String>().unwrap().lines().skip(1).collect::<Vec<_>>().join("\n");
    let expected = r#"ParcelWeighed.v1.json: ParcelWeighed could not be lifted from schema 1: kilograms is not a whole number
ParcelWeighed.v2.json: missing; add an event of that schema as it is stored
ParcelWeighed.v3.json: is written otherwise now (- golden, + now)
  {
-   "scales": 7,
    "weight": {
      "amount": 1,
      "unit": "g"
    }
  }

ParcelLost.v2.json: no event type has this schema"#;
    assert_eq!(said, expected);
}

#[test]
fn a_schema_is_found_by_its_type() {
    assert_eq!(schema_of(Event::SCHEMAS, "ParcelLost").unwrap().schema, 1);
    assert!(matches!(schema_of(Event::SCHEMAS, "parcellost"), Err(CodecError::UnknownType { .. })));
}

#[test]
fn the_json_schema_is_in_one_piece() {
    let schema = json_schema_of::<Weighed>().to_value();
    assert_eq!(schema["properties"]["weight"]["properties"]["unit"]["type"], "string", "{schema:#}");
}
