//! The OpenAPI 3.1 document, made from the types that the routes take and give.

mod breaking;
mod examples;
mod problems;

use std::borrow::Cow;
use std::sync::LazyLock;

use domain::money::Currency;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::batch::{BatchLine, NDJSON};
use super::explain::Explanation;
use super::permissions::{Customers, Operation};
use crate::endpoint::{Aggregate, Registry};
use crate::execute::Answer;
pub use breaking::{NotADocument, breaking_changes};
use problems::Problems;

/// The document of these aggregates.
pub fn document(registry: &Registry) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let answer = generator.subschema_for::<Answer>();
    let explanation = generator.subschema_for::<Explanation>();
    let line = generator.subschema_for::<BatchLine<'_>>();
    let (mut paths, mut problems, mut events) = (Map::new(), Problems::default(), Map::new());
    paths.insert("/v1/commands".to_owned(), json!({ "post": batch(registry, &line, &answer, &mut problems) }));
    for aggregate in registry.iter() {
        let (commands, state) = aggregate.schemas(&mut generator);
        let category = aggregate.category();
        let (refusals, id) = (aggregate.refusals(), id(category, aggregate.id(&mut generator)));
        for (name, fields) in commands {
            let operation = Operation::Command(&name);
            let mut post = command(category, &name, &id, fields, &answer);
            problems.of_command(&refusals, category, &mut post);
            guard(registry, category, operation, &mut problems, &mut post);
            paths.insert(format!("/v1/{category}/{{id}}/{name}"), json!({ "post": post }));
            let mut explain = explained(category, &name, &post, &explanation);
            problems.of_explanation(&mut explain);
            guard(registry, category, operation, &mut problems, &mut explain);
            paths.insert(format!("/v1/{category}/{{id}}/{name}/explain"), json!({ "post": explain }));
        }
        let mut state = read_state(category, &id, state);
        problems.of_reading(&mut state);
        guard(registry, category, Operation::State, &mut problems, &mut state);
        paths.insert(format!("/v1/{category}/{{id}}"), json!({ "get": state }));
        let mut history = read_history(aggregate, &id, &mut events);
        problems.of_reading(&mut history);
        problems.of_following(&mut history);
        guard(registry, category, Operation::Events, &mut problems, &mut history);
        paths.insert(format!("/v1/{category}/{{id}}/events"), json!({ "get": history }));
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    schemas.insert("EventMetadata".to_owned(), metadata());
    // The schema that events have says what a code looks like; which ones there are, a client wants to know too.
    if let Some(currency) = schemas.get_mut("Currency").and_then(Value::as_object_mut) {
        currency.insert("enum".to_owned(), CURRENCIES.clone());
    }
    let names: Vec<String> = events.keys().cloned().collect();
    schemas.extend(events);
    let mut schemas = Value::Object(schemas);
    let mut paths = Value::Object(paths);
    [&mut schemas, &mut paths].into_iter().for_each(without_null_defaults);
    for name in names {
        schemas[&name]["examples"] = json!([examples::example(&schemas[&name], &schemas)]);
    }
    examples::fill(&mut paths, &schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Storefold commands",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Commands go in by POST, one by one or in batches; aggregates and their history are read by GET. \
                            Read models are queried over GraphQL at /graphql.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "examples": problems.examples(),
            "parameters": parameters(),
            "headers": headers(),
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

/// Leaves out that what is absent is null. Generators take what has a default for what is always there.
fn without_null_defaults(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("default") == Some(&Value::Null) {
                members.remove("default");
            }
            members.values_mut().for_each(without_null_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null_defaults),
        _ => {}
    }
}

/// Says of an operation who may do it, and what those are told who may not.
fn guard(registry: &Registry, category: &str, operation: Operation<'_>, problems: &mut Problems, document: &mut Value) {
    let permission = registry.permission(category, operation);
    let scopes: Vec<_> = permission.iter().map(|permission| permission.scope.name()).collect();
    let customers = permission.map_or(Customers::None, |permission| permission.customers);
    let told = match customers {
        Customers::None => "Not for customers.",
        Customers::All => "Customers may.",
        Customers::Itself | Customers::Buyer | Customers::Orderer => "A customer may, to what is its own.",
    };
    document["security"] = json!([{ "token": scopes }]);
    let said = document["description"].as_str().map(|said| format!("{said} ")).unwrap_or_default();
    document["description"] = format!("{said}Needs the scope {}. {told}", scopes.join(" ")).into();
    problems.of_callers(permission.map(|permission| permission.scope), customers, document);
}

fn command(category: &str, name: &str, id: &Value, fields: Value, answer: &Schema) -> Value {
    let summary = fields.get("description").cloned().unwrap_or_default();
    // No body at all is an empty one.
    let needs_body = fields["required"].as_array().is_some_and(|required| !required.is_empty());
    let done = |description: &str, headers: Value| json!({ "description": description, "headers": headers, "content": { "application/json": { "schema": answer } } });
    let always = json!({ "ETag": header("ETag"), "Storefold-Position": header("Storefold-Position") });
    let mut new = always.clone();
    new["Location"] = header("Location");
    json!({
        "operationId": format!("{category}-{name}"),
        "summary": summary,
        "tags": [category],
        "parameters": [
            id,
            parameter("IdempotencyKey"), parameter("IfMatch"), parameter("IfNoneMatch"), parameter("CorrelationId"),
            parameter("Traceparent"),
        ],
        "requestBody": { "required": needs_body, "content": { "application/json": { "schema": fields } } },
        "responses": { "200": done("Done", always), "201": done("Done, and the aggregate is new", new) },
    })
}

fn explained(category: &str, name: &str, command: &Value, explanation: &Schema) -> Value {
    json!({
        "operationId": format!("{category}-{name}-explain"),
        "summary": format!("What {name} would lead to now; nothing is done"),
        "description": "Takes what the command takes. A refusal is told within the answer.",
        "tags": [category],
        "parameters": command["parameters"],
        "requestBody": command["requestBody"],
        "responses": {
            "200": {
                "description": "What would become of the command",
                "content": { "application/json": { "schema": explanation } },
            },
        },
    })
}

fn batch(registry: &Registry, line: &Schema, answer: &Schema, problems: &mut Problems) -> Value {
    let told = json!({
        "type": "object",
        "description": "What is answered to a line: an answer or a problem.",
        "required": ["line", "status"],
        "properties": {
            "line": { "type": "integer", "minimum": 1, "description": "The number of the line; blank ones count" },
            "status": { "type": "integer", "description": "What the command would have been answered by itself" },
            "answer": answer,
            "problem": { "$ref": "#/components/schemas/Problem" },
        },
    });
    let aggregate = registry.iter().next().map_or("", Aggregate::category);
    let mut post = json!({
        "operationId": "commands",
        "summary": "Many commands, a line each; answered by a line each, in their order",
        "description": format!(
            "Each line is a command of its own and needs what it would need by itself, {aggregate} or whatever its stream \
             is of. Read the answers while you send: while they are not read, nothing more is. Needs a token; each line \
             needs the scope of its command."
        ),
        "tags": ["batches"],
        "parameters": [parameter("CorrelationId"), parameter("Traceparent")],
        "requestBody": { "required": true, "content": { NDJSON: { "schema": line } } },
        "responses": {
            "200": { "description": "An answer a line", "content": { NDJSON: { "schema": told } } },
        },
        "security": [{ "token": [] }],
    });
    problems.of_batches(&mut post);
    post
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
    let at = json!({
        "name": "at", "in": "query", "required": false,
        "schema": { "anyOf": [
            { "type": "string", "pattern": "^[0-9]{1,18}$" }, { "type": "string", "format": "date-time" },
        ] },
        "description": "A revision or a time (RFC 3339): the state as it was then",
    });
    json!({
        "operationId": format!("{category}-state"), "summary": "The aggregate, folded from its stream at this moment",
        "tags": [category], "parameters": [id, at, parameter("KnownRevision")],
        "responses": {
            "200": {
                "description": "Its state", "headers": { "ETag": header("ETag") },
                "content": { "application/json": { "schema": body } },
            },
            "304": {
                "description": "It still has the revision of If-None-Match", "headers": { "ETag": header("ETag") },
            },
        },
    })
}

/// Reading the history of an aggregate. The schemas of its events go into `events`.
fn read_history(aggregate: &dyn Aggregate, id: &Value, events: &mut Map<String, Value>) -> Value {
    let category = aggregate.category();
    let query = |name: &str, schema: Value, description: &str| json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema });
    let number = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 });
    let mut all = Vec::new();
    for (event_type, data) in aggregate.events() {
        let name = format!("{event_type}Event");
        all.push(json!({ "$ref": format!("#/components/schemas/{name}") }));
        events.insert(name, event(event_type, data));
    }
    let event = json!({ "oneOf": all });
    let body = json!({
        "type": "object", "required": ["stream", "events", "next"],
        "properties": {
            "stream": { "type": "string" },
            "events": { "type": "array", "items": event },
            "next": { "type": ["string", "null"], "description": "Where the next page is; null when there was nothing more" },
        },
    });
    json!({
        "operationId": format!("{category}-events"), "summary": "What happened to the aggregate",
        "description": "In pages, oldest first or newest first; or, with follow, as server-sent events that go on: their id \
                        is the revision, their name the type, their data the event.",
        "tags": [category],
        "parameters": [
            id,
            query("from", number, "The first revision; absent for the beginning, or, backwards, the end"),
            query("limit", limit, "How many events a page has"),
            query("direction", json!({ "enum": ["forwards", "backwards"], "type": "string" }), "Which way; forwards where absent"),
            query("follow", json!({ "type": "string", "enum": ["", "true", "false"] }), "Go on with what happens from now on"),
            parameter("LastEventId"),
        ],
        "responses": {
            "200": {
                "description": "A page of events, or, with follow, a stream of them",
                "content": {
                    "application/json": { "schema": body },
                    "text/event-stream": { "schema": { "type": "string" } },
                },
            },
        },
    })
}

/// An event as a history shows it.
fn event(event_type: &str, data: Value) -> Value {
    json!({
        "type": "object",
        "required": ["id", "type", "revision", "position", "recorded_at", "data", "metadata"],
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "type": { "type": "string", "const": event_type },
            "revision": { "type": "integer", "minimum": 0 },
            "position": { "type": "string" },
            "recorded_at": { "type": "string", "format": "date-time" },
            "data": data,
            "metadata": { "anyOf": [{ "$ref": "#/components/schemas/EventMetadata" }, { "type": "null" }] },
        },
    })
}

/// What is known of an event beside the event.
fn metadata() -> Value {
    let id = |description: &str| json!({ "type": "string", "format": "uuid", "description": description });
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "required": ["$correlationId", "$causationId", "schema", "commandId", "commandHash", "occurredAt"],
        "properties": {
            "$correlationId": id("Shared by everything that one request or process set in motion"),
            "$causationId": id("The command or event that led to this one"),
            "schema": { "type": "integer", "minimum": 1, "description": "The number of the schema of its data" },
            "commandId": id("The command that decided this event"),
            "commandHash": text("A fingerprint of that command's content"),
            "actor": text("On whose behalf"),
            "traceparent": text("The W3C trace context of the request"),
            "occurredAt": { "type": "string", "format": "date-time", "description": "When it was decided" },
        },
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

fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// The headers that requests may have.
fn parameters() -> Value {
    let of = |name: &str, schema: Value, example: &str, description: &str| {
        json!({
            "name": name, "in": "header", "required": false, "schema": schema, "example": example,
            "description": description,
        })
    };
    let header =
        |name: &str, example: &str, description: &str| of(name, json!({ "type": "string" }), example, description);
    // In quotes or bare; blanks around it do not count.
    let key = json!({ "type": "string", "pattern": r#"^("[\t !#-~]{1,255}"|[!#-~]([\t !#-~]{0,253}[!#-~])?)$"# });
    let anything = json!({ "type": "string", "const": "*" });
    let revision = json!({ "anyOf": [anything, { "type": "string", "pattern": "^\"[0-9]{1,18}\"$" }] });
    let id = json!({ "type": "string", "format": "uuid" });
    json!({
        "IdempotencyKey": of(
            "Idempotency-Key", key, "\"2026-01-31-0001\"",
            "Names the command, in 1 to 255 visible characters, in quotes or bare: the same key again is the same command again",
        ),
        "IfMatch": of("If-Match", revision, "\"7\"", "The revision that the aggregate must have, as ETag gave it; or * when it must exist"),
        "IfNoneMatch": of("If-None-Match", anything, "*", "* when the aggregate must not exist yet"),
        "KnownRevision": header("If-None-Match", "\"7\"", "The revision that is known already: while it is the last one, the answer is 304"),
        "CorrelationId": of(
            "Storefold-Correlation-Id", id, "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2",
            "A UUID that all events have which this sets in motion; absent for the command's own id",
        ),
        "Traceparent": header(
            "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "The W3C trace context of the request",
        ),
        "LastEventId": header(
            "Last-Event-ID", "7", "With follow: the id of the last event that was seen; it wins over from",
        ),
    })
}

/// The headers that answers may have.
fn headers() -> Value {
    let header = |example: Value, description: &str| {
        let kind = if example.is_number() { "integer" } else { "string" };
        json!({ "description": description, "schema": { "type": kind }, "example": example })
    };
    json!({
        "ETag": header(json!("\"7\""), "The aggregate's revision, for If-Match"),
        "Location": header(json!("/v1/stock/TEA-001"), "Where the new aggregate can be read"),
        "Storefold-Position": header(
            json!("1234/1234"), "Where the command's last event stands in the log, to be given back to GraphQL as Storefold-After",
        ),
        "Retry-After": header(json!(1), "After how many seconds the same request may be sent again"),
        "WWW-Authenticate": header(json!("Bearer realm=\"storefold\""), "What token is wanted, by RFC 6750"),
    })
}

/// A problem, wherever one stands within an answer.
pub(super) struct ProblemRef;

impl JsonSchema for ProblemRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Problem".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "$ref": "#/components/schemas/Problem" })
    }
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
