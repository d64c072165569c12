//! The OpenAPI 3.1 document, made from the types that the routes take and give.

use std::sync::LazyLock;

use domain::money::Currency;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::permissions::{Customers, Operation};
use crate::endpoint::Registry;
use crate::execute::Answer;

/// The document of these aggregates.
pub fn document(registry: &Registry) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let answer = generator.subschema_for::<Answer>();
    let mut paths = Map::new();
    for aggregate in registry.iter() {
        let (commands, state) = aggregate.schemas(&mut generator);
        let category = aggregate.category();
        let id = id(category, aggregate.id(&mut generator));
        let guarded = |operation: Operation<'_>, document: Value| guarded(registry, category, operation, document);
        for (name, fields) in commands {
            let post = guarded(Operation::Command(&name), command(category, &name, &id, fields, &answer));
            paths.insert(format!("/v1/{category}/{{id}}/{name}"), json!({ "post": post }));
        }
        let state = guarded(Operation::State, read_state(category, &id, state));
        paths.insert(format!("/v1/{category}/{{id}}"), json!({ "get": state }));
        let events = guarded(Operation::Events, read_history(category, &id));
        paths.insert(format!("/v1/{category}/{{id}}/events"), json!({ "get": events }));
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    // The schema that events have says what a code looks like; which ones there are, a client wants to know too.
    if let Some(currency) = schemas.get_mut("Currency").and_then(Value::as_object_mut) {
        currency.insert("enum".to_owned(), CURRENCIES.clone());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Storefold commands",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Commands go in by POST; aggregates and their history are read by GET. Read models are \
                            queried over GraphQL at /graphql.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        },
    })
}

/// The currencies that are known, found among all codes that there could be.
static CURRENCIES: LazyLock<Value> = LazyLock::new(|| {
    let letters = || 'A'..='Z';
    let codes =
        letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))));
    codes.filter(|code| code.parse::<Currency>().is_ok()).collect()
});

/// An operation with who may do it.
fn guarded(registry: &Registry, category: &str, operation: Operation<'_>, mut document: Value) -> Value {
    let permission = registry.permission(category, operation);
    let scopes: Vec<_> = permission.iter().map(|permission| permission.scope.name()).collect();
    document["security"] = json!([{ "token": scopes }]);
    let customers = match permission.map_or(Customers::None, |permission| permission.customers) {
        Customers::None => "Not for customers.",
        Customers::All => "Customers may.",
        Customers::Itself | Customers::Buyer | Customers::Orderer => "A customer may, to what is its own.",
    };
    document["description"] = format!("Needs the scope {}. {customers}", scopes.join(" ")).into();
    if let Some(responses) = document["responses"].as_object_mut() {
        responses.extend(problems(&[
            ("401", "There is no token, or it is not accepted"),
            ("403", "The token does not have the scope, or is a customer's"),
        ]));
        // What any request may be told: docs/limits.md.
        responses.extend(problems(&[
            ("408", "The body came too slowly"),
            ("415", "The body is encoded, or is not JSON by its headers"),
            ("429", "The caller has sent as many requests as it may"),
            ("503", "There is too much to do, or the log cannot be reached; send the same request again"),
            ("504", "The answer took too long, and the outcome is unknown; send the same request again"),
        ]));
        let absent = "Nothing has happened to it, or it is not for this caller to know";
        responses.extend(problems(&[("404", absent)]));
    }
    document
}

fn command(category: &str, name: &str, id: &Value, fields: Value, answer: &schemars::Schema) -> Value {
    let summary = fields.get("description").cloned().unwrap_or_default();
    let mut responses = problems(&[
        ("400", "The id, a header or the body makes no sense"),
        ("409", "The same command is being executed, or other writers were faster every time"),
        ("412", "The aggregate is not as presumed"),
        ("413", "The body is too large"),
        ("422", "The aggregate refused, or the key was used for another command"),
    ]);
    for (status, description) in [("200", "Done"), ("201", "Done, and the aggregate is new")] {
        responses.insert(
            status.to_owned(),
            json!({
                "description": description,
                "headers": {
                    "ETag": { "description": "The aggregate's revision", "schema": { "type": "string" } },
                    "Storefold-Position": {
                        "description": "To be given back as Storefold-After", "schema": { "type": "string" }
                    },
                },
                "content": { "application/json": { "schema": answer } },
            }),
        );
    }
    // No body at all is an empty one.
    let needs_body = fields["required"].as_array().is_some_and(|required| !required.is_empty());
    // In quotes or bare; blanks around it do not count.
    let key = json!({ "type": "string", "pattern": r#"^("[\t !#-~]{1,255}"|[!#-~]([\t !#-~]{0,253}[!#-~])?)$"# });
    let revision = json!({ "type": "string", "pattern": "^\"[0-9]{1,18}\"$" });
    let tag = json!({ "anyOf": [{ "type": "string", "const": "*" }, revision] });
    json!({
        "operationId": format!("{category}-{name}"),
        "summary": summary,
        "tags": [category],
        "parameters": [
            id,
            header("Idempotency-Key", key, "Names the command: the same key again is the same command again"),
            header("If-Match", tag, "The revision that the aggregate must have, as ETag gave it, or *"),
            header("If-None-Match", json!({ "type": "string", "const": "*" }), "* when the aggregate must not exist yet"),
        ],
        "requestBody": { "required": needs_body, "content": { "application/json": { "schema": fields } } },
        "responses": responses,
    })
}

fn read_state(category: &str, id: &Value, state: Value) -> Value {
    let body = json!({
        "type": "object",
        "required": ["stream", "revision", "position", "state"],
        "properties": {
            "stream": { "type": "string" },
            "revision": { "type": "integer", "minimum": 0 },
            "position": { "type": "string" },
            "state": state,
        },
    });
    let mut responses =
        problems(&[("400", "The id or the query makes no sense"), ("404", "Nothing has happened to it")]);
    responses.insert(
        "200".to_owned(),
        json!({ "description": "Its state", "content": { "application/json": { "schema": body } } }),
    );
    responses.insert("304".to_owned(), json!({ "description": "It still has the revision of If-None-Match" }));
    let at = json!({
        "name": "at", "in": "query", "required": false,
        "schema": { "anyOf": [
            { "type": "string", "pattern": "^[0-9]{1,18}$" }, { "type": "string", "format": "date-time" },
        ] },
        "description": "A revision or a time (RFC 3339): the state as it was then",
    });
    json!({
        "operationId": format!("{category}-state"), "summary": "The aggregate, folded from its stream at this moment",
        "tags": [category], "parameters": [id, at], "responses": responses,
    })
}

fn read_history(category: &str, id: &Value) -> Value {
    let number = |name: &str, range: (u64, u64), description: &str| {
        json!({
            "name": name, "in": "query", "required": false, "description": description,
            "schema": { "type": "integer", "minimum": range.0, "maximum": range.1 },
        })
    };
    let mut responses =
        problems(&[("400", "The id or the query makes no sense"), ("404", "Nothing has happened to it")]);
    let body = json!({ "type": "object", "required": ["stream", "events", "next"] });
    responses.insert(
        "200".to_owned(),
        json!({ "description": "A page of events", "content": { "application/json": { "schema": body } } }),
    );
    json!({
        "operationId": format!("{category}-events"), "summary": "What happened to the aggregate, oldest first",
        "tags": [category],
        "parameters": [id, number("from", (0, u64::MAX), "The first revision"), number("limit", (1, 1_000), "1 to 1000 events, 100 where absent")],
        "responses": responses,
    })
}

/// The parameter that names an aggregate. A UUID is taken in one spelling: another would name another stream.
fn id(category: &str, mut schema: Value) -> Value {
    const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

    if schema["format"] == "uuid" {
        schema["pattern"] = UUID.into();
    }
    let description = format!("Names the aggregate; its stream is {category}-{{id}}");
    json!({ "name": "id", "in": "path", "required": true, "schema": schema, "description": description })
}

fn header(name: &str, schema: Value, description: &str) -> Value {
    json!({ "name": name, "in": "header", "required": false, "schema": schema, "description": description })
}

fn problems(statuses: &[(&str, &str)]) -> Map<String, Value> {
    let content = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let problem = |(status, description): &(&str, &str)| {
        ((*status).to_owned(), json!({ "description": description, "content": content }))
    };
    statuses.iter().map(problem).collect()
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457. A refusal's figures stand beside the standard members.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "description": "A stable reference, such as /problems/stock/no-reservation" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
        },
    })
}
