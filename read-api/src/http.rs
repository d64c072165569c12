//! GraphQL over HTTP, by the draft of that name: <https://graphql.github.io/graphql-over-http/draft/>.
//!
//! A request that is none is answered by a problem (RFC 9457). A request that is one is answered by GraphQL: with the
//! status of what became of it as `application/graphql-response+json`, and always with 200 as `application/json`.

mod etag;
mod events;
mod live;
mod media;
mod problem;
mod request;
mod socket;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::{Caller, CustomerId, Gate, Refusal, Scope};
use async_graphql::parser::types::{OperationType, VariableDefinition};
use async_graphql::{Positioned, Response as Answer, ServerError, Value, Variables};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, Query, State, WebSocketUpgrade};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, UPGRADE, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::FutureExt as _;
use tokio::sync::{Semaphore, watch};

use self::etag::Known;
use self::media::Media;
use self::problem::Problem;
use self::request::{Parameters, Request, check_content, demand};
use crate::SubscriptionLimits;
use crate::database::Database;
use crate::documents::{Document, Documents, Hash};
use crate::error::{Code, TIMED_OUT, Trouble, has_code, request_error, with_code};
use crate::flights::Flights;
use crate::limits;
use crate::own_writes::{Demand, Reads, Source};
use crate::permissions::View;
use crate::query::Schema;
use crate::scalars::is_plainly;
use crate::written::{self, TakenIn};

/// What the handlers share.
pub(crate) struct Endpoint {
    pub(crate) schema: Schema,
    /// The same, for documents that are known to fit it: of them, it looks at what they cost alone.
    pub(crate) trusting: Schema,
    pub(crate) primary: Source,
    pub(crate) replica: Option<Replica>,
    pub(crate) flights: Flights<Asked, Told>,
    pub(crate) wake: Option<watch::Receiver<()>>,
    pub(crate) time_limit: Duration,
    pub(crate) documents: Documents,
    pub(crate) introspection: bool,
    pub(crate) limits: SubscriptionLimits,
    /// Places for connections that follow something.
    pub(crate) connections: Arc<Semaphore>,
    /// Places for WebSockets whose client has not said yet who it is.
    pub(crate) strangers: Arc<Semaphore>,
    /// Ends what is followed.
    pub(crate) stop: Option<watch::Receiver<bool>>,
}

pub(crate) fn router(endpoint: Endpoint) -> Router {
    let method = get(by_get).post(by_post).fallback(|| async { Problem::method("Send GET or POST.") });
    Router::new().route("/graphql", method).layer(DefaultBodyLimit::max(LARGEST_BODY)).with_state(Arc::new(endpoint))
}

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 1024 * 1024;

const AS_OF: HeaderName = HeaderName::from_static("storefold-as-of");

async fn by_post(
    State(endpoint): State<Arc<Endpoint>>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let caller = caller.map(|Extension(caller)| caller);
    let media = Media::negotiate(&headers, &[Media::GraphQl, Media::Json, Media::Events])?;
    check_content(&headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(413, "body-too-large", "The body has more than 1 MiB."),
        _ => Problem::bad_request("The body broke off."),
    })?;
    let request = Request::parse(&body)?;
    endpoint.respond(request, demand(&headers)?, caller, media, Method::Post, &Known::of(&headers)).await
}

async fn by_get(
    State(endpoint): State<Arc<Endpoint>>,
    caller: Option<Extension<Caller>>,
    gate: Option<Extension<Gate>>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = caller.map(|Extension(caller)| caller);
    if headers.contains_key(UPGRADE) {
        let socket =
            socket.map_err(|_| Problem::new(426, "no-websocket", "This is not a handshake of a WebSocket."))?;
        return socket::accept(endpoint, caller, gate.map(|Extension(gate)| gate), socket);
    }
    let media = Media::negotiate(&headers, &[Media::GraphQl, Media::Json, Media::Html, Media::Events])?;
    if media == Media::Html {
        return Ok(([(VARY, "accept")], Html(include_str!("http/graphiql.html"))).into_response());
    }
    let Query(parameters) = parameters.map_err(|_| Problem::bad_request("The query string is malformed."))?;
    endpoint.respond(parameters.request()?, demand(&headers)?, caller, media, Method::Get, &Known::of(&headers)).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
}

/// A request that may be executed.
struct Prepared {
    kind: OperationType,
    document: Arc<Document>,
    /// Whether it is known that it fits the schema, variables included.
    fits: bool,
    operation_name: Option<String>,
    variables: Variables,
    caller: Option<Caller>,
    demand: Demand,
    time_limit: Duration,
}

impl Prepared {
    fn request(&self, reads: &Arc<Reads>) -> async_graphql::Request {
        let mut request = async_graphql::Request::new("").variables(self.variables.clone()).data(reads.clone());
        if let Some(caller) = &self.caller {
            request = request.data(caller.clone());
        }
        request.operation_name.clone_from(&self.operation_name);
        request.set_parsed_query(self.document.parsed.clone());
        request
    }

    /// All that the answer depends on, besides the time.
    fn asked(&self) -> Option<Asked> {
        let may = self.caller.as_ref().map(|caller| (caller.scopes.to_string(), caller.customer));
        let variables = serde_json::to_string(&self.variables).ok()?;
        Some((self.document.hash, self.operation_name.clone(), variables, may, self.demand))
    }
}

/// What tells one query from another: the document, the operation's name, the variables, what the caller may do and whose
/// rows it sees, and how fresh the answer is to be.
pub(crate) type Asked = (Hash, Option<String>, String, Option<(String, Option<CustomerId>)>, Demand);

/// What became of a request.
enum Outcome {
    /// It was executed.
    Answered(Box<Answer>, Arc<Reads>),
    /// It was not.
    Refused(Vec<ServerError>),
}

impl Outcome {
    /// What another database might do better.
    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Answered(answer, _) => answer.errors.iter().find_map(|error| error.source::<Trouble>().copied()),
            Self::Refused(_) => None,
        }
    }
}

/// What became of a request, as all who asked for the same are told.
pub(crate) enum Told {
    /// Whether nothing went wrong, the answer, and how far the read models had come.
    Answered(bool, Bytes, String),
    Refused(Vec<ServerError>),
}

/// A replica that queries are answered from, as long as it can be reached.
pub(crate) struct Replica {
    source: Source,
    /// Until when it is not asked.
    rests: Mutex<Option<Instant>>,
}

/// How long a replica that could not be reached is left alone.
const REST: Duration = Duration::from_secs(5);
/// How often a replica is asked, when it gives statements up for what comes from its primary.
const ATTEMPTS: usize = 2;

impl Replica {
    pub(crate) fn new(database: Database) -> Self {
        Self { source: Source::new(database), rests: Mutex::default() }
    }

    fn rests(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Leaves it alone for a while.
    fn rest(&self) {
        *self.until() = Some(Instant::now() + REST);
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    async fn respond(
        self: Arc<Self>,
        request: Request,
        demand: Demand,
        caller: Option<Caller>,
        media: Media,
        method: Method,
        known: &Known,
    ) -> Result<Response, Problem> {
        let expiry = caller.as_ref().and_then(live::expiry);
        let prepared = self.prepare(request, demand, caller);
        let is_mutation = matches!(&prepared, Ok(Prepared { kind: OperationType::Mutation, .. }));
        if method == Method::Get && is_mutation {
            return Err(Problem::method("GET only queries.").allow("POST"));
        }
        if media == Media::Events {
            return events::respond(self, prepared, expiry);
        }
        let prepared = match prepared {
            Ok(Prepared { kind: OperationType::Subscription, .. }) => {
                let message = "A subscription needs a transport that sends several answers: accept text/event-stream, or \
                               use graphql-transport-ws.";
                return Ok(refused(vec![request_error(Code::NoSubscriptions, message)], media));
            }
            Ok(prepared) => prepared,
            Err(error) => return Ok(refused(vec![error], media)),
        };
        // What was changed was not read.
        let known = if prepared.kind == OperationType::Query { Some(known) } else { None };
        Ok(match &*self.tell(prepared).await {
            Told::Answered(well, body, as_of) => {
                write(StatusCode::OK, body.clone(), Some(as_of), media, known.filter(|_| *well))
            }
            Told::Refused(errors) => refused(errors.clone(), media),
        })
    }

    /// Executes a request, unless somebody else asks for the same and it takes so long that it is better done once.
    async fn tell(&self, prepared: Prepared) -> Arc<Told> {
        let asked =
            if prepared.kind == OperationType::Query && prepared.document.is_slow() { prepared.asked() } else { None };
        match asked {
            Some(asked) => self.flights.join(asked, || self.execute_and_write(prepared)).await,
            None => Arc::new(self.execute_and_write(prepared).await),
        }
    }

    async fn execute_and_write(&self, prepared: Prepared) -> Told {
        match self.execute(prepared).await {
            Outcome::Answered(answer, reads) => {
                let (well, (shown, as_of)) = (answer.errors.is_empty(), reads.as_of());
                match body(*answer, shown).json() {
                    Ok(body) => Told::Answered(well, body.into(), as_of),
                    Err(error) => {
                        tracing::error!(%error, "an answer could not be written");
                        Told::Refused(vec![request_error(Code::Internal, "The answer could not be written.")])
                    }
                }
            }
            Outcome::Refused(errors) => Told::Refused(errors),
        }
    }

    /// Finds out what is to be executed, and whether it may be.
    fn prepare(&self, request: Request, demand: Demand, caller: Option<Caller>) -> Result<Prepared, ServerError> {
        let document = self.documents.find(request.query.as_deref(), request.hash.as_deref())?;
        let operation = limits::operation(&document.parsed, request.operation_name.as_deref())?;
        let kind = operation.ty;
        let fits = document.fits.load(Ordering::Relaxed) && fit(&operation.variable_definitions, &request.variables);
        if document.introspects && !self.introspection {
            return Err(request_error(Code::IntrospectionDisabled, "This server does not show its schema."));
        }
        document.needs.check(request.operation_name.as_deref(), &request.variables, caller.as_ref())?;
        let Request { operation_name, variables, .. } = request;
        let time_limit = if demand.after.is_some() { self.time_limit + demand.wait } else { self.time_limit };
        Ok(Prepared { kind, document, fits, operation_name, variables, caller, demand, time_limit })
    }

    /// What reads from the primary for a request.
    fn reads(&self, prepared: &Prepared) -> Arc<Reads> {
        self.reads_from(&self.primary, prepared)
    }

    fn reads_from(&self, source: &Source, prepared: &Prepared) -> Arc<Reads> {
        let view = View::of(prepared.caller.as_ref());
        Arc::new(Reads::new(source.clone(), self.primary.database.clone(), self.wake.clone(), prepared.demand, view))
    }

    /// Executes what has one answer: from the replica, if there is one that answers.
    async fn execute(&self, prepared: Prepared) -> Outcome {
        if let Some(replica) = &self.replica
            && prepared.kind == OperationType::Query
            && !replica.rests()
        {
            for _ in 0..ATTEMPTS {
                let outcome = self.execute_from(&replica.source, &prepared).await;
                match outcome.trouble() {
                    None => return outcome,
                    Some(Trouble::Conflict) => tracing::info!("a replica gave a query up for what its primary sent"),
                    Some(Trouble::Unreachable) => {
                        tracing::warn!(seconds = REST.as_secs(), "the replica does not answer; the primary is asked");
                        replica.rest();
                        break;
                    }
                }
            }
        }
        self.execute_from(&self.primary, &prepared).await
    }

    async fn execute_from(&self, source: &Source, prepared: &Prepared) -> Outcome {
        let (reads, document, time_limit) =
            (self.reads_from(source, prepared), &prepared.document, prepared.time_limit);
        let mut request = prepared.request(&reads);
        if !document.merges {
            request = request.data(TakenIn);
        }
        let schema = if prepared.fits { self.trusting.clone() } else { self.schema.clone() };
        let start = Instant::now();
        // Not in a task of its own, which would mostly be another thread's: whoever serves this does every request to its end.
        let execution = tokio::time::timeout(time_limit, schema.execute(request));
        match AssertUnwindSafe(execution).catch_unwind().await {
            Ok(Ok(answer)) => match refusal(answer) {
                Ok(errors) => Outcome::Refused(errors),
                Err(answer) => {
                    document.executed(start.elapsed());
                    Outcome::Answered(answer, reads)
                }
            },
            Ok(Err(_)) => Outcome::Refused(vec![request_error(Code::Timeout, TIMED_OUT)]),
            // The panic itself stands in the log already.
            Err(_) => {
                tracing::error!("a query panicked");
                let message = "The server could not answer this. The reason is in its log.";
                Outcome::Refused(vec![request_error(Code::Internal, message)])
            }
        }
    }
}

/// Whether all variables are plainly what they should be. Else the validation says what is wrong with them.
fn fit(definitions: &[Positioned<VariableDefinition>], variables: &Variables) -> bool {
    definitions.iter().all(|Positioned { node: definition, .. }| match variables.get(&definition.name.node) {
        None => definition.var_type.node.nullable || definition.default_value.is_some(),
        given => is_plainly(&definition.var_type.node, given),
    })
}

/// The errors of a request that the validation refused, or else the answer.
fn refusal(answer: Answer) -> Result<Vec<ServerError>, Box<Answer>> {
    // Errors of the execution have the path of their field; those of the validation have none, and no data beside them.
    if answer.data == Value::Null && answer.errors.iter().all(|error| error.path.is_empty()) {
        return Ok(answer.errors.into_iter().map(limits::code_of_validation).collect());
    }
    Err(Box::new(answer))
}

/// An answer as clients read it.
struct Body {
    errors: Vec<ServerError>,
    data: Option<Value>,
    as_of: Option<Value>,
}

impl Body {
    /// That of a request that was not executed.
    fn of_errors(errors: Vec<ServerError>) -> Self {
        Self { errors, data: None, as_of: None }
    }

    fn json(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = b"{".to_vec();
        if !self.errors.is_empty() {
            out.extend_from_slice(b"\"errors\":");
            serde_json::to_writer(&mut out, &self.errors)?;
        }
        let parts = [(&b"\"data\":"[..], &self.data, &b""[..]), (b"\"extensions\":{\"asOf\":", &self.as_of, b"}")];
        for (start, value, end) in parts {
            let Some(value) = value else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(start);
            written::write(value, &mut out)?;
            out.extend_from_slice(end);
        }
        out.push(b'}');
        Ok(out)
    }

    fn text(&self) -> serde_json::Result<String> {
        String::from_utf8(self.json()?).map_err(serde::ser::Error::custom)
    }
}

/// The answer of what was executed.
fn body(answer: Answer, as_of: Value) -> Body {
    // What resolvers report has its code; what is left is arguments that async-graphql could not make sense of.
    let errors = answer.errors.into_iter().map(|error| with_code(error, Code::BadUserInput)).collect();
    Body { errors, data: Some(answer.data), as_of: Some(as_of) }
}

/// Answers a request that was not executed.
fn refused(errors: Vec<ServerError>, media: Media) -> Response {
    let is = |code: Code| errors.iter().any(|error| has_code(error, code));
    let status = match () {
        () if is(Code::ParseFailed) => StatusCode::BAD_REQUEST,
        () if is(Code::Unauthenticated) => StatusCode::UNAUTHORIZED,
        () if is(Code::Forbidden) => StatusCode::FORBIDDEN,
        () if is(Code::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        () if is(Code::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        () => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let challenge = errors.iter().find_map(challenge);
    let Ok(body) = Body::of_errors(errors).json() else {
        return Problem::new(500, "internal", "The answer could not be written.").into_response();
    };
    let mut response = write(status, body.into(), None, media, None);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What a caller is told in the words of RFC 6750 of an error that is about its token.
fn challenge(error: &ServerError) -> Option<HeaderValue> {
    let scope = || match error.extensions.as_ref()?.get("scope")? {
        Value::String(scope) => scope.parse::<Scope>().ok(),
        _ => None,
    };
    match () {
        () if has_code(error, Code::Unauthenticated) => Refusal::NoToken.challenge(),
        () if has_code(error, Code::Forbidden) => {
            scope().map_or(Refusal::NotForCustomers, |scope| Refusal::MissingScope { scope }).challenge()
        }
        () => None,
    }
}

/// Writes an answer. With `known`, it may be kept, and is not sent again to whoever has it.
fn write(status: StatusCode, body: Bytes, as_of: Option<&String>, media: Media, known: Option<&Known>) -> Response {
    let status = if media == Media::Json { StatusCode::OK } else { status };
    let tag = known.and_then(|known| Some((known, etag::tag(&body, media)?)));
    let mut response = match &tag {
        Some((known, tag)) if known.has(tag) => StatusCode::NOT_MODIFIED.into_response(),
        _ => (status, [(CONTENT_TYPE, media.content_type())], body).into_response(),
    };
    let headers = response.headers_mut();
    let keep = if tag.is_some() { "private, no-cache" } else { "no-store" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(VARY, HeaderValue::from_static("accept, authorization"));
    if let Some((_, tag)) = tag {
        headers.insert(ETAG, tag);
    }
    if let Some(Ok(value)) = as_of.map(HeaderValue::try_from) {
        headers.insert(AS_OF, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_graphql::extensions::{Extension as Hook, ExtensionContext, ExtensionFactory, NextValidation};
    use async_graphql::{ValidationMode, ValidationResult};
    use async_trait::async_trait;
    use sqlx::postgres::PgPoolOptions;

    use super::request::NO_DEMAND;
    use super::*;
    use crate::query;

    /// Counts how often a schema validates a document.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl ExtensionFactory for Counting {
        fn create(&self) -> Arc<dyn Hook> {
            Arc::new(self.clone())
        }
    }

    #[async_trait]
    impl Hook for Counting {
        async fn validation(
            &self,
            ctx: &ExtensionContext<'_>,
            next: NextValidation<'_>,
        ) -> Result<ValidationResult, Vec<ServerError>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            next.run(ctx).await
        }
    }

    #[tokio::test]
    async fn a_document_is_parsed_once_and_held_against_the_schema_once() {
        let (strictly, trustingly) = (Counting::default(), Counting::default());
        let schema =
            |mode, counting: &Counting| query::schema().validation_mode(mode).extension(counting.clone()).finish();
        // Nobody connects to it.
        let pool = PgPoolOptions::new().connect_lazy("postgres://nowhere.invalid/none").unwrap();
        let endpoint = Endpoint {
            schema: schema(ValidationMode::Strict, &strictly),
            trusting: schema(ValidationMode::Fast, &trustingly),
            primary: Source::new(Database::new(pool)),
            replica: None,
            flights: Flights::default(),
            wake: None,
            time_limit: Duration::from_secs(60),
            documents: Documents::new(None),
            introspection: true,
            limits: SubscriptionLimits::default(),
            connections: Arc::new(Semaphore::new(1)),
            strangers: Arc::new(Semaphore::new(1)),
            stop: None,
        };
        let mut documents = Vec::new();
        let mut ask = async |text: &str, variables: serde_json::Value| {
            let body = serde_json::json!({ "query": text, "variables": variables }).to_string();
            let request = Request::parse(body.as_bytes()).unwrap();
            let prepared = endpoint.prepare(request, NO_DEMAND, None).unwrap();
            documents.push(prepared.document.clone());
            match &*endpoint.tell(prepared).await {
                Told::Answered(true, ..) => Ok(()),
                Told::Answered(_, body, _) => Err(String::from_utf8_lossy(body).into_owned()),
                Told::Refused(errors) => Err(format!("{errors:?}")),
            }
        };
        let validated = || (strictly.0.load(Ordering::Relaxed), trustingly.0.load(Ordering::Relaxed));
        let (good, bad) = ("query($is: Boolean!) { ... @include(if: $is) { __typename } }", "{ nothing }");
        let is = serde_json::json!({ "is": true });

        assert_eq!(ask(good, is.clone()).await, Ok(()));
        assert_eq!(validated(), (1, 0));
        for again in 1..=3 {
            assert_eq!(ask(good, is.clone()).await, Ok(()));
            assert_eq!(validated(), (1, again), "it is held against the schema again");
        }
        // Variables that do not fit have nobody's word, and neither has what was refused before.
        assert!(ask(good, serde_json::json!({ "is": "yes" })).await.is_err());
        assert_eq!(validated(), (2, 3));
        assert!(ask(bad, serde_json::json!({})).await.is_err() && ask(bad, serde_json::json!({})).await.is_err());
        assert_eq!(validated(), (4, 3));

        let (good, bad) = documents.split_at(5);
        assert!(good.iter().all(|document| Arc::ptr_eq(document, &good[0])), "it was parsed again");
        assert!(bad.iter().all(|document| Arc::ptr_eq(document, &bad[0])) && !Arc::ptr_eq(&bad[0], &good[0]));
    }
}
