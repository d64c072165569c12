//! What of a document's changes breaks a client that was written for the document before.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A text that is no OpenAPI document.
#[derive(Debug, thiserror::Error)]
pub enum NotADocument {
    /// It is not JSON.
    #[error("this is no JSON")]
    Json(#[from] serde_json::Error),
    /// It has no paths.
    #[error("this is no OpenAPI document: it has no paths")]
    NoPaths,
}

/// The changes from one document to another that break clients, each as a line, by the name of what has changed: something
/// that was taken away, that takes less than it did or answers something else, or that has to be given and had not.
///
/// # Errors
/// [`NotADocument`], of either.
pub fn breaking_changes(before: &str, after: &str) -> Result<Vec<String>, NotADocument> {
    let (before, after): (Value, Value) = (serde_json::from_str(before)?, serde_json::from_str(after)?);
    let (old, new) = (paths(&before)?, paths(&after)?);
    let mut compared = Compared { before: &before, after: &after, broken: BTreeSet::new() };
    for (path, methods) in old {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let name = format!("{} {path}", method.to_uppercase());
            match new.get(path).and_then(|methods| methods.get(method)) {
                None => compared.say(format!("{name} is gone")),
                Some(new) => compared.operation(&name, operation, new),
            }
        }
    }
    Ok(compared.broken.into_iter().collect())
}

fn paths(document: &Value) -> Result<&Map<String, Value>, NotADocument> {
    document["paths"].as_object().ok_or(NotADocument::NoPaths)
}

/// Which way a value goes: what is taken must not get narrower, what is given not wider.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Taken,
    Given,
}

struct Compared<'a> {
    before: &'a Value,
    after: &'a Value,
    broken: BTreeSet<String>,
}

/// The deepest that schemas are compared. Those that hold themselves have no end.
const DEEPEST: usize = 32;

impl<'a> Compared<'a> {
    fn say(&mut self, change: String) {
        self.broken.insert(change);
    }

    fn operation(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        self.parameters(name, old, new);
        let media = |operation: &'a Value| operation.pointer("/requestBody/content").and_then(Value::as_object);
        for (kind, old) in media(old).into_iter().flatten() {
            match media(new).and_then(|media| media.get(kind)) {
                None => self.say(format!("{name} does not take {kind}")),
                Some(new) => self.schema(&format!("{name} body"), &old["schema"], &new["schema"], Way::Taken, 0),
            }
        }
        if media(old).is_none() && new.pointer("/requestBody/required") == Some(&Value::Bool(true)) {
            self.say(format!("{name} has a body that has to be given"));
        }
        for (status, old) in old["responses"].as_object().into_iter().flatten() {
            let name = format!("{name} {status}");
            match new["responses"].get(status) {
                None => self.say(format!("{name} is gone")),
                Some(new) => self.answer(&name, old, new),
            }
        }
        let scopes = |operation: &Value| {
            let scopes = operation.pointer("/security/0/token").and_then(Value::as_array);
            scopes.into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect::<BTreeSet<_>>()
        };
        for scope in scopes(new).difference(&scopes(old)) {
            self.say(format!("{name} needs the scope {scope}"));
        }
    }

    fn parameters(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (parameters(self.before, old), parameters(self.after, new));
        for ((place, parameter), old) in &old {
            let name = format!("{name} {place} {parameter}");
            match new.iter().find(|(known, _)| known == &(*place, *parameter)) {
                None => self.say(format!("{name} is gone")),
                Some((_, new)) => {
                    if is_true(new, "required") && !is_true(old, "required") {
                        self.say(format!("{name} has to be given"));
                    }
                    self.schema(&name, &old["schema"], &new["schema"], Way::Taken, 0);
                }
            }
        }
        for ((place, parameter), new) in &new {
            if is_true(new, "required") && !old.iter().any(|(known, _)| known == &(*place, *parameter)) {
                self.say(format!("{name} {place} {parameter} is new and has to be given"));
            }
        }
    }

    fn answer(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        for header in old["headers"].as_object().into_iter().flat_map(Map::keys) {
            if new["headers"].get(header).is_none() {
                self.say(format!("{name} header {header} is gone"));
            }
        }
        for (kind, old) in old["content"].as_object().into_iter().flatten() {
            let Some(new) = new["content"].get(kind) else {
                self.say(format!("{name} is not {kind}"));
                continue;
            };
            self.schema(name, &old["schema"], &new["schema"], Way::Given, 0);
            // The examples of problems are named by their kinds.
            let is_problem = kind == "application/problem+json";
            for problem in old["examples"].as_object().into_iter().flat_map(Map::keys).filter(|_| is_problem) {
                if new["examples"].get(problem).is_none() {
                    self.say(format!("{name} problem {} is gone", problem.replace('.', "/")));
                }
            }
        }
    }

    fn schema(&mut self, name: &str, old: &'a Value, new: &'a Value, way: Way, depth: usize) {
        let (old, new) = (resolved(self.before, old), resolved(self.after, new));
        if depth > DEEPEST {
            return;
        }
        let (kinds_before, kinds_after) = (kinds(old), kinds(new));
        let (wider, narrower) = match way {
            Way::Taken => (&kinds_after, &kinds_before),
            Way::Given => (&kinds_before, &kinds_after),
        };
        // Without a type, anything is meant.
        if !wider.is_empty() && (narrower.is_empty() || !narrower.is_subset(wider)) {
            self.say(format!("{name} is {} and was {}", in_words(&kinds_after), in_words(&kinds_before)));
            return;
        }
        self.values(name, old, new, way);
        self.bounds(name, old, new, way);
        self.properties(name, old, new, way, depth);
        if let (Some(old), Some(new)) = (old.get("items"), new.get("items")) {
            self.schema(&format!("{name}[]"), old, new, way, depth + 1);
        }
        for several in ["oneOf", "anyOf"] {
            let (Some(old), Some(new)) = (old[several].as_array(), new[several].as_array()) else { continue };
            for old in old {
                let of_same_kind = |new: &&'a Value| tag(self.after, new) == tag(self.before, old);
                let the_same = new.iter().find(|new| *new == old);
                match the_same.or_else(|| new.iter().find(of_same_kind)) {
                    None => self.say(format!("{name}.{} is gone", tag(self.before, old))),
                    Some(new) => self.schema(&format!("{name}.{}", tag(self.before, old)), old, new, way, depth + 1),
                }
            }
        }
    }

    /// What a value may be, one by one.
    fn values(&mut self, name: &str, old: &Value, new: &Value, way: Way) {
        let values = |schema: &Value| {
            let one = schema.get("const").cloned().map(|only| vec![only]);
            one.or_else(|| schema["enum"].as_array().cloned())
        };
        let (old, new) = (values(old), values(new));
        match (way, old, new) {
            (_, Some(old), Some(new)) => {
                for value in old.iter().filter(|value| !new.contains(value)) {
                    self.say(format!("{name} = {value} is gone"));
                }
            }
            (Way::Taken, None, Some(_)) => self.say(format!("{name} takes some values only")),
            _ => {}
        }
    }

    /// How small, large or long what is taken may be, and of which form.
    fn bounds(&mut self, name: &str, old: &Value, new: &Value, way: Way) {
        if way == Way::Given {
            return;
        }
        for (bound, is_least) in [
            ("minimum", true),
            ("minLength", true),
            ("minItems", true),
            ("maximum", false),
            ("maxLength", false),
            ("maxItems", false),
        ] {
            let (before, after) = (old[bound].as_f64(), new[bound].as_f64());
            let Some(now) = after else { continue };
            let narrower = before.is_none_or(|before| if is_least { now > before } else { now < before });
            if narrower {
                self.say(format!("{name} has the {bound} {}", new[bound]));
            }
        }
        for form in ["pattern", "format"] {
            if new[form].is_string() && new[form] != old[form] {
                self.say(format!("{name} has the {form} {}", new[form]));
            }
        }
    }

    fn properties(&mut self, name: &str, old: &'a Value, new: &'a Value, way: Way, depth: usize) {
        for (property, schema) in old["properties"].as_object().into_iter().flatten() {
            let within = format!("{name}.{property}");
            match new["properties"].get(property) {
                Some(new) => self.schema(&within, schema, new, way, depth + 1),
                None => self.say(format!("{within} is gone")),
            }
            if way == Way::Given && is_required(old, property) && !is_required(new, property) {
                self.say(format!("{within} may be absent"));
            }
        }
        if way == Way::Taken {
            for property in new["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !is_required(old, property) {
                    self.say(format!("{name}.{property} has to be given"));
                }
            }
            if new["additionalProperties"] == false
                && old["additionalProperties"] != false
                && old["properties"].is_object()
            {
                self.say(format!("{name} takes no further properties"));
            }
        }
    }
}

/// The parameters of an operation, by their places and names.
fn parameters<'a>(document: &'a Value, operation: &'a Value) -> Vec<((&'a str, &'a str), &'a Value)> {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|known| resolved(document, known));
    let named = parameters.filter_map(|known| Some(((known["in"].as_str()?, known["name"].as_str()?), known)));
    named.collect()
}

/// What a reference refers to.
fn resolved<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    for _ in 0..DEEPEST {
        let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        match pointer.and_then(|pointer| document.pointer(pointer)) {
            Some(referred) => value = referred,
            None => break,
        }
    }
    value
}

/// The types that a schema names; a number is more than an integer.
fn kinds(schema: &Value) -> BTreeSet<&str> {
    let one = schema["type"].as_str().into_iter();
    let mut kinds: BTreeSet<_> =
        one.chain(schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str)).collect();
    if kinds.contains("number") {
        kinds.insert("integer");
    }
    kinds
}

fn in_words(kinds: &BTreeSet<&str>) -> String {
    if kinds.is_empty() { "anything".to_owned() } else { kinds.iter().copied().collect::<Vec<_>>().join(" or ") }
}

/// What tells one of several schemas from the others: the constant that it has, or its type.
fn tag(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    let constant = |schema: &Value| schema.get("const").or_else(|| schema["enum"].get(0)).cloned();
    let own = constant(schema);
    let of_property = || schema["properties"].as_object()?.values().find_map(constant);
    match own.or_else(of_property) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => in_words(&kinds(schema)),
    }
}

fn is_true(value: &Value, name: &str) -> bool {
    value[name] == true
}

fn is_required(schema: &Value, property: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == property))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn before() -> Value {
        json!({
            "openapi": "3.1.0",
            "paths": {
                "/a/{id}": {
                    "post": {
                        "parameters": [
                            { "$ref": "#/components/parameters/Key" },
                            { "name": "limit", "in": "query", "schema": { "type": "integer", "maximum": 100 } },
                        ],
                        "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Body" } } } },
                        "responses": {
                            "200": {
                                "headers": { "ETag": {} },
                                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Answer" } } },
                            },
                            "422": { "content": { "application/problem+json": {
                                "schema": { "type": "object" }, "examples": { "a.empty": {}, "a.full": {} },
                            } } },
                        },
                        "security": [{ "token": ["a:write"] }],
                    },
                    "get": { "responses": { "200": {} } },
                },
            },
            "components": {
                "parameters": { "Key": { "name": "Key", "in": "header", "schema": { "type": "string" } } },
                "schemas": {
                    "Body": {
                        "type": "object", "required": ["size"], "additionalProperties": false,
                        "properties": {
                            "size": { "type": "integer", "minimum": 1 },
                            "colour": { "type": ["string", "null"], "enum": ["red", "green", null] },
                            "parts": { "type": "array", "items": { "$ref": "#/components/schemas/Part" } },
                        },
                    },
                    "Part": { "type": "object", "properties": { "name": { "type": "string" } } },
                    "Answer": {
                        "type": "object", "required": ["id"],
                        "properties": {
                            "id": { "type": "string" }, "size": { "type": "integer" },
                            "what": { "oneOf": [
                                { "type": "object", "properties": { "type": { "const": "Made" } } },
                                { "type": "object", "properties": { "type": { "const": "Sold" } } },
                            ] },
                        },
                    },
                },
            },
        })
    }

    #[track_caller]
    fn broken_by(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut after = before();
        change(&mut after);
        assert_eq!(breaking_changes(&before().to_string(), &after.to_string()).unwrap(), expected);
    }

    const POST: &str = "/paths/~1a~1{id}/post";

    fn at<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
        document.pointer_mut(pointer).unwrap()
    }

    fn remove(document: &mut Value, pointer: &str, name: &str) {
        at(document, pointer).as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn what_is_added_or_left_alone_breaks_nothing() {
        broken_by(|_| {}, &[]);
        broken_by(
            |new| {
                new["paths"]["/b"] = json!({ "get": {} });
                at(new, &format!("{POST}/parameters"))
                    .as_array_mut()
                    .unwrap()
                    .push(json!({ "name": "x", "in": "query" }));
                at(new, "/components/schemas/Body/properties")["note"] = json!({ "type": "string" });
                at(new, "/components/schemas/Body/properties/size")["minimum"] = json!(0);
                at(new, "/components/schemas/Body/properties/size")["type"] = json!("number");
                at(new, "/components/schemas/Body/properties/colour/enum").as_array_mut().unwrap().push(json!("blue"));
                at(new, "/components/schemas/Body")["required"] = json!([]);
                at(new, "/components/schemas/Answer/properties")["note"] = json!({ "type": "string" });
                at(new, "/components/schemas/Answer")["required"] = json!(["id", "size"]);
                at(new, &format!("{POST}/responses"))["409"] = json!({});
                at(new, &format!("{POST}/responses/422/content/application~1problem+json/examples"))["a.late"] =
                    json!({});
            },
            &[],
        );
    }

    #[test]
    fn what_is_taken_away_is_named() {
        broken_by(|new| remove(new, "/paths/~1a~1{id}", "get"), &["GET /a/{id} is gone"]);
        broken_by(|new| remove(new, "/paths", "/a/{id}"), &["GET /a/{id} is gone", "POST /a/{id} is gone"]);
        broken_by(
            |new| drop(at(new, &format!("{POST}/parameters")).as_array_mut().unwrap().remove(0)),
            &["POST /a/{id} header Key is gone"],
        );
        broken_by(
            |new| remove(new, "/components/schemas/Body/properties", "colour"),
            &["POST /a/{id} body.colour is gone"],
        );
        broken_by(
            |new| remove(new, "/components/schemas/Answer/properties", "size"),
            &["POST /a/{id} 200.size is gone"],
        );
        broken_by(|new| remove(new, &format!("{POST}/responses"), "422"), &["POST /a/{id} 422 is gone"]);
        broken_by(
            |new| remove(new, &format!("{POST}/responses/200/headers"), "ETag"),
            &["POST /a/{id} 200 header ETag is gone"],
        );
        broken_by(
            |new| remove(new, &format!("{POST}/responses/422/content/application~1problem+json/examples"), "a.full"),
            &["POST /a/{id} 422 problem a/full is gone"],
        );
        broken_by(
            |new| drop(at(new, "/components/schemas/Answer/properties/what/oneOf").as_array_mut().unwrap().remove(1)),
            &["POST /a/{id} 200.what.Sold is gone"],
        );
    }

    #[test]
    fn what_takes_less_or_wants_more_is_named() {
        broken_by(
            |new| at(new, "/components/parameters/Key")["required"] = json!(true),
            &["POST /a/{id} header Key has to be given"],
        );
        broken_by(
            |new| {
                let must = json!({ "name": "x", "in": "query", "required": true });
                at(new, &format!("{POST}/parameters")).as_array_mut().unwrap().push(must);
            },
            &["POST /a/{id} query x is new and has to be given"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Body")["required"] = json!(["size", "colour"]),
            &["POST /a/{id} body.colour has to be given"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Part")["required"] = json!(["name"]),
            &["POST /a/{id} body.parts[].name has to be given"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Body/properties/colour")["type"] = json!("string"),
            &["POST /a/{id} body.colour is string and was null or string"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Body/properties/colour")["enum"] = json!(["red", null]),
            &["POST /a/{id} body.colour = \"green\" is gone"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Body/properties/size")["minimum"] = json!(2),
            &["POST /a/{id} body.size has the minimum 2"],
        );
        broken_by(
            |new| at(new, &format!("{POST}/parameters/1/schema"))["maximum"] = json!(50),
            &["POST /a/{id} query limit has the maximum 50"],
        );
        broken_by(
            |new| at(new, POST)["security"] = json!([{ "token": ["b:write"] }]),
            &["POST /a/{id} needs the scope b:write"],
        );
    }

    #[test]
    fn what_answers_something_else_is_named() {
        broken_by(
            |new| at(new, "/components/schemas/Answer/properties/size")["type"] = json!("string"),
            &["POST /a/{id} 200.size is string and was integer"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Answer/properties/size")["type"] = json!(["integer", "null"]),
            &["POST /a/{id} 200.size is integer or null and was integer"],
        );
        broken_by(
            |new| at(new, "/components/schemas/Answer")["required"] = json!([]),
            &["POST /a/{id} 200.id may be absent"],
        );
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(breaking_changes("nonsense", "{\"paths\": {}}").is_err());
        assert!(breaking_changes("{\"paths\": {}}", "{}").is_err());
        assert_eq!(breaking_changes("{\"paths\": {}}", "{\"paths\": {}}").unwrap(), [""; 0]);
    }
}
