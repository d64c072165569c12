//! Every problem that an operation can answer, with an example of each.

use std::time::Duration;

use access::{Fault, Refusal, Scope};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::examples::example;
use crate::execute::ExecuteError;
use crate::http::permissions::Customers;
use crate::http::places::Full;
use crate::http::{BODY_LIMIT, Problem};

/// What the problems of a status have in common. None is told of another status.
const STATUSES: [(u16, &str); 14] = [
    (400, "The id, a header, the query or the body makes no sense"),
    (401, "There is no token, or it is not accepted"),
    (403, "The token does not have the scope, or is a customer's"),
    (404, "Nothing has happened to it, or it is not for this caller to know"),
    (408, "The body came too slowly"),
    (409, "The same command is being executed, or other writers were faster every time"),
    (412, "The aggregate is not as presumed"),
    (413, "The body, or what the command leads to, is too large"),
    (415, "The body is of another kind by its headers"),
    (422, "The aggregate refused, or the key was used for another command"),
    (429, "The caller has sent as many requests as it may"),
    (500, "The server is at fault"),
    (503, "There is too much to do, or the log cannot be reached; send the same request again"),
    (504, "The answer took too long, and the outcome is unknown; send the same request again"),
];

/// The examples of all problems, by kind.
#[derive(Default)]
pub(super) struct Problems(Map<String, Value>);

impl Problems {
    /// The examples, for the components of the document.
    pub(super) fn examples(self) -> Value {
        Value::Object(self.0)
    }

    /// What a command can be answered.
    pub(super) fn of_command(&mut self, refusals: &[Value], category: &str, operation: &mut Value) {
        self.of_body(operation);
        for problem in [
            Problem::from(ExecuteError::KeyReused),
            ExecuteError::PreconditionFailed { actual: Some(8) }.into(),
            ExecuteError::InFlight.into(),
            ExecuteError::Contended.into(),
            ExecuteError::Busy.into(),
            ExecuteError::TooLarge { events: 1, bytes: 1_200_000 }.into(),
        ] {
            self.add(operation, problem);
        }
        for refusal in refusals {
            self.add(operation, refused(category, refusal));
        }
    }

    /// What the question can be answered what would become of a command.
    pub(super) fn of_explanation(&mut self, operation: &mut Value) {
        self.of_body(operation);
    }

    /// What a batch can be answered as a whole.
    pub(super) fn of_batches(&mut self, operation: &mut Value) {
        let title = "The body is not lines of JSON by its headers";
        let detail = "a batch is sent as Content-Type: application/x-ndjson";
        for problem in [
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-ndjson", title, detail),
            invalid("invalid-header", "the header if-match is for a single command; in a batch each line says its own"),
            Problem::too_many_batches(Full::ForAll),
            Problem::encoded(),
            Problem::too_many_requests(Duration::from_secs(1)),
            Problem::overloaded(),
            Refusal::NoToken.into(),
            Refusal::Invalid(Fault::Expired).into(),
            Refusal::SeveralTokens.into(),
            Refusal::NoKeys.into(),
        ] {
            self.add(operation, problem);
        }
    }

    /// What reading can be answered.
    pub(super) fn of_reading(&mut self, operation: &mut Value) {
        for problem in [
            invalid(
                "invalid-query",
                "at=\"yesterday\" is neither a revision such as 7 nor a time such as 2026-01-31T09:30:00Z",
            ),
            invalid("invalid-header", "the header last-event-id is the id of an event as it was sent, such as 7"),
            Problem::nothing_happened("stock", "TEA-001"),
        ] {
            self.add(operation, problem);
        }
        self.of_all(operation);
    }

    /// What following can be answered beyond that.
    pub(super) fn of_following(&mut self, operation: &mut Value) {
        self.add(operation, Problem::too_many_followers(Full::ForAll));
    }

    /// What a caller can be told, for who it is.
    pub(super) fn of_callers(&mut self, scope: Option<Scope>, customers: Customers, operation: &mut Value) {
        let missing = scope.map(|scope| Refusal::MissingScope { scope });
        let whose = match customers {
            Customers::None => Some(Refusal::NotForCustomers),
            Customers::Orderer => Some(Refusal::NotForOthers),
            Customers::All | Customers::Itself | Customers::Buyer => None,
        };
        let token = [Refusal::NoToken, Refusal::Invalid(Fault::Expired), Refusal::SeveralTokens, Refusal::NoKeys];
        for refusal in token.into_iter().chain(missing).chain(whose) {
            self.add(operation, refusal.into());
        }
        if matches!(customers, Customers::Itself | Customers::Buyer | Customers::Orderer) {
            self.add(operation, Problem::nothing_happened("order", "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2"));
        }
    }

    /// What is answered to whatever has a body.
    fn of_body(&mut self, operation: &mut Value) {
        let title = "The body is not JSON by its headers";
        let detail = "a command's body is sent as Content-Type: application/json";
        for problem in [
            invalid(
                "invalid-header",
                "the header if-match is one entity tag as it was given in ETag, such as \"7\", or *",
            ),
            invalid("invalid-command", "quantity: a quantity is a whole number from 1 to 1000000000, not 0"),
            invalid("body-cut-off", "the body could not be read to its end: connection reset"),
            Problem::too_large(BODY_LIMIT),
            Problem::too_slow(Duration::from_secs(30)),
            Problem::encoded(),
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", title, detail),
        ] {
            self.add(operation, problem);
        }
        self.of_all(operation);
    }

    /// What is answered to whatever names an aggregate.
    fn of_all(&mut self, operation: &mut Value) {
        for problem in [
            invalid("invalid-id", "\"$A\" is no SKU"),
            Problem::log_unavailable(),
            Problem::fault(),
            // What any request may be told: docs/limits.md.
            Problem::too_many_requests(Duration::from_secs(1)),
            Problem::overloaded(),
            Problem::timed_out(Duration::from_secs(60)),
        ] {
            self.add(operation, problem);
        }
    }

    /// Adds a problem to the answers of an operation.
    fn add(&mut self, operation: &mut Value, problem: Problem) {
        let (status, kind, body) = (problem.status().as_u16(), problem.kind().to_owned(), problem.body());
        let name = kind.replace('/', ".");
        let answer = &mut operation["responses"][status.to_string()];
        if answer.is_null() {
            let description = STATUSES.iter().find(|(known, _)| *known == status).map_or("", |(_, told)| told);
            *answer = json!({
                "description": description,
                "content": {
                    "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" }, "examples": {} },
                },
            });
            match status {
                401 => answer["headers"]["WWW-Authenticate"] = super::header("WWW-Authenticate"),
                429 | 503 => answer["headers"]["Retry-After"] = super::header("Retry-After"),
                _ => {}
            }
        }
        let reference = json!({ "$ref": format!("#/components/examples/{name}") });
        answer["content"]["application/problem+json"]["examples"][&name] = reference;
        self.0.entry(name).or_insert_with(|| json!({ "summary": kind, "value": body }));
    }
}

fn invalid(kind: &str, detail: &str) -> Problem {
    Problem::bad_request(kind, detail)
}

/// A refusal as a problem, by its schema.
fn refused(category: &str, schema: &Value) -> Problem {
    let mut figures = example(schema, &Value::Null).as_object().cloned().unwrap_or_default();
    let refusal = figures.remove("refusal");
    let refusal = refusal.as_ref().and_then(Value::as_str).unwrap_or("refused");
    let detail = schema["description"].as_str().unwrap_or("the aggregate refused").to_owned();
    let kind = format!("{category}/{refusal}");
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, "The command was refused", detail);
    figures.into_iter().fold(problem, |problem, (name, value)| problem.with(&name, value))
}
