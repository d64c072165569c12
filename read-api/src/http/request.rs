//! What a client sends: the parameters of GraphQL, and what it asks of the answer.

use std::time::Duration;

use async_graphql::Variables;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::own_writes::Demand;

const AFTER: &str = "storefold-after";
const WAIT: &str = "storefold-wait";
const STALE: &str = "storefold-stale";

const DEFAULT_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Request {
    /// The text of the document; `None` when it is sent by its hash alone.
    pub(super) query: Option<String>,
    /// The hash of the document.
    pub(super) hash: Option<String>,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Variables,
}

impl Request {
    /// Reads a request that was sent as JSON.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            query: Option<String>,
            operation_name: Option<String>,
            variables: Option<Map<String, Value>>,
            extensions: Option<Map<String, Value>>,
            document_id: Option<String>,
        }
        let raw: &RawValue = serde_json::from_slice(body).map_err(|_| Problem::bad_request("The body is not JSON."))?;
        if raw.get().starts_with('[') {
            return Err(Problem::new(400, "batch", "Send one request at a time, as an object; batches are not taken."));
        }
        let body: Body = serde_json::from_str(raw.get())
            .map_err(|error| Problem::bad_request(format!("The body is not a GraphQL request: {error}.")))?;
        Self::new(body.query, body.document_id, body.operation_name, body.variables, body.extensions)
    }

    fn new(
        query: Option<String>,
        document_id: Option<String>,
        operation_name: Option<String>,
        variables: Option<Map<String, Value>>,
        extensions: Option<Map<String, Value>>,
    ) -> Result<Self, Problem> {
        let hash = match document_id {
            Some(id) => Some(id),
            None => persisted(extensions.as_ref())?,
        };
        if query.is_none() && hash.is_none() {
            return Err(Problem::bad_request("The parameter query is missing."));
        }
        let variables = Variables::from_json(Value::Object(variables.unwrap_or_default()));
        Ok(Self { query, hash, operation_name: operation_name.filter(|name| !name.is_empty()), variables })
    }
}

/// The hash of a document in the extension `persistedQuery`, as clients send it that try whether the hash is enough.
fn persisted(extensions: Option<&Map<String, Value>>) -> Result<Option<String>, Problem> {
    match extensions.and_then(|extensions| extensions.get("persistedQuery")) {
        None | Some(Value::Null) => Ok(None),
        Some(persisted) => match (&persisted["version"], &persisted["sha256Hash"]) {
            (Value::Number(version), Value::String(hash)) if version.as_i64() == Some(1) => Ok(Some(hash.clone())),
            _ => Err(Problem::bad_request("The extension persistedQuery has a version, which is 1, and a sha256Hash.")),
        },
    }
}

/// The parameters of a request in a URL.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
    document_id: Option<String>,
}

impl Parameters {
    pub(super) fn request(self) -> Result<Request, Problem> {
        let object = |name: &str, text: Option<String>| match text.filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => serde_json::from_str(&text)
                .map_err(|_| Problem::bad_request(format!("The parameter {name} is not a JSON object."))),
        };
        let variables = object("variables", self.variables)?;
        let extensions = object("extensions", self.extensions)?;
        Request::new(self.query, self.document_id, self.operation_name, variables, extensions)
    }
}

pub(super) fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let is_utf_8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if !is_json || !is_utf_8 {
        // A browser sends other types across origins without asking first, so none of them is taken.
        return Err(Problem::new(415, "unsupported-media-type", "Send application/json in UTF-8."));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::new(415, "unsupported-content-encoding", "Send the body as it is, not compressed."));
    }
    Ok(())
}

/// What a client asks of an answer that says nothing of it.
pub(super) const NO_DEMAND: Demand = Demand { after: None, wait: DEFAULT_WAIT, allow_stale: false };

pub(super) fn demand(headers: &HeaderMap) -> Result<Demand, Problem> {
    let text = |name: &str| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Problem::bad_request(format!("The header {name} is malformed."))),
    };
    let after = text(AFTER)?.map(str::parse).transpose();
    let after =
        after.map_err(|error| Problem::bad_request(format!("The header Storefold-After is malformed: {error}.")))?;
    let wait = match text(WAIT)? {
        None => DEFAULT_WAIT,
        Some(text) => match text.parse().map(Duration::from_millis) {
            Ok(wait) if wait <= LONGEST_WAIT => wait,
            _ => return Err(Problem::bad_request("The header Storefold-Wait is 0 to 30000 milliseconds.")),
        },
    };
    let allow_stale = match text(STALE)? {
        None => false,
        Some("allow") => true,
        Some(_) => return Err(Problem::bad_request("The header Storefold-Stale says \"allow\" or is left out.")),
    };
    Ok(Demand { after, wait, allow_stale })
}
