//! Examples of what a schema describes.

use serde_json::{Map, Value, json};

/// What a property of this name is, where it is more than its type. An example is to be read by people.
fn of_name(name: &str) -> Option<Value> {
    Some(match name {
        "sku" => json!("TEA-001"),
        "name" => json!("Earl Grey, 50 bags"),
        "country" => json!("United Kingdom"),
        "currency" => json!("GBP"),
        "reference" => json!("536365"),
        "card" => json!("tok_approved"),
        "reason" => json!("a change of mind"),
        "email" => json!("alice@shop.example"),
        "phone" => json!("+44 20 7946 0000"),
        "carrier" => json!("Royal Mail"),
        "tracking" => json!("RM123456785GB"),
        "description" => json!("Black tea with bergamot."),
        "minor" | "unit_price_minor" | "total_minor" => json!(420),
        "quantity" => json!(3),
        "stream" => json!("stock-TEA-001"),
        "command" => json!("receive"),
        "data" => json!({ "quantity": 3 }),
        "position" => json!("1234/1234"),
        "key" => json!("2026-01-31-0001"),
        "if_match" => json!(7),
        _ => return None,
    })
}

/// The longest way from a schema to what it is made of.
const DEEPEST: usize = 16;

/// An example of what a schema describes. `schemas` are those that it may refer to.
pub(super) fn example(schema: &Value, schemas: &Value) -> Value {
    of_schema(schema, schemas, None, 0).unwrap_or(Value::Null)
}

/// Gives every body of every operation an example, and every answer that has a schema.
pub(super) fn fill(paths: &mut Value, schemas: &Value) {
    let paths = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        // What presumes something is not the first thing that a command is tried with.
        let body = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
        let answers = ["200", "201"].map(|status| format!("/responses/{status}/content"));
        for media in body.into_iter().flat_map(Map::values_mut) {
            media["example"] = example(&media["schema"], schemas);
            for presumed in ["if_match", "if_none_match", "command_id", "causation_id", "correlation_id"] {
                if let Some(example) = media["example"].as_object_mut() {
                    example.remove(presumed);
                }
            }
        }
        for pointer in answers {
            let answer = operation.pointer_mut(&pointer).and_then(|content| content.get_mut("application/json"));
            if let Some(media) = answer {
                media["example"] = example(&media["schema"], schemas);
            }
        }
    }
}

fn of_schema(schema: &Value, schemas: &Value, name: Option<&str>, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(only) = schema.get("const") {
        return Some(only.clone());
    }
    if let Some(referred) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return of_schema(schemas.get(referred)?, schemas, name, depth + 1);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return Some(first.clone());
    }
    let kind = schema["type"].as_str().or_else(|| {
        let kinds = schema["type"].as_array()?;
        kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
    });
    let fits = |value: &Value| match kind {
        Some("string") => value.is_string() && schema.get("format").is_none(),
        Some("integer" | "number") => value.is_number(),
        Some("object") => value.is_object() && schema.get("properties").is_none(),
        Some(_) => false,
        // It says nothing of what it is.
        None => {
            *schema == true || schema.as_object().is_some_and(|schema| schema.keys().all(|key| key == "description"))
        }
    };
    if let Some(named) = name.and_then(of_name).filter(fits) {
        return Some(named);
    }
    if let Some(first) = schema["examples"].as_array().and_then(|examples| examples.first()) {
        return Some(first.clone());
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(several) = schema[several].as_array() {
            let something = several.iter().filter(|schema| schema["type"] != "null");
            let own = of_properties(schema, schemas, depth);
            let mut found = something.filter_map(|schema| of_schema(schema, schemas, name, depth + 1));
            let found = found.next()?;
            // What all have in common stands beside them.
            return Some(match (own, found) {
                (Some(Value::Object(mut own)), Value::Object(found)) => {
                    own.extend(found);
                    Value::Object(own)
                }
                (_, found) => found,
            });
        }
    }
    Some(match kind? {
        "object" => of_properties(schema, schemas, depth).unwrap_or(json!({})),
        "array" => of_schema(&schema["items"], schemas, None, depth + 1).map_or(json!([]), |item| json!([item])),
        "integer" | "number" => json!(schema["minimum"].as_i64().unwrap_or(0).max(1)),
        "boolean" => json!(true),
        "string" => match schema["format"].as_str() {
            Some("uuid") => json!("0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2"),
            Some("date-time") => json!("2026-01-31T09:30:00Z"),
            Some("date") => json!("2026-01-31"),
            _ => json!("text"),
        },
        _ => Value::Null,
    })
}

fn of_properties(schema: &Value, schemas: &Value, depth: usize) -> Option<Value> {
    let properties = schema["properties"].as_object()?;
    let each =
        |(name, schema): (&String, &Value)| Some((name.clone(), of_schema(schema, schemas, Some(name), depth + 1)?));
    Some(Value::Object(properties.iter().filter_map(each).collect()))
}
