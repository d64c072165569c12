//! The handlers of the sandbox gateway.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::ids::PaymentId;
use domain::money::{Money, Price};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::ledger::{Answer, Delivery, How, Ledger, Movement, Request};
use crate::gateway::protocol::{AuthoriseBody, CaptureBody, RefundBody, VoidBody, kinds};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// How many movements a page has at most, and where nothing is asked for.
const PAGE: (u32, u32) = (1_000, 100);

/// What a request has to bring, as its hash: hashes are compared, so that the time it takes says nothing of the secret.
#[derive(Clone, Copy)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret that the gateway knows its users by.
    pub fn of(secret: &SecretString) -> Self {
        Self(Sha256::digest(secret.expose_secret()).into())
    }

    /// Whether a request brings it.
    pub fn is_brought(self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|given| given.strip_prefix("Bearer "));
        given.is_some_and(|given| self.0 == <[u8; 32]>::from(Sha256::digest(given)))
    }
}

/// Lets nobody in without the secret.
pub(super) async fn check_secret(State(secret): State<Secret>, request: HttpRequest, next: Next) -> Response {
    if secret.is_brought(request.headers()) {
        return next.run(request).await;
    }
    let detail = "the secret is sent as Authorization: Bearer";
    let mut response = Answer::problem(StatusCode::UNAUTHORIZED, kinds::UNAUTHORISED, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// `POST /payments`
pub(super) async fn authorise(
    State(ledger): State<Ledger>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Answer> {
    let body: AuthoriseBody = read(body)?;
    more_than_nothing(body.amount)?;
    carry_out(ledger, &headers, Request::Authorise(body)).await
}

/// `POST /payments/{id}/capture`
pub(super) async fn capture(
    State(ledger): State<Ledger>,
    Path(payment): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Answer> {
    let body: CaptureBody = read(body)?;
    more_than_nothing(body.amount)?;
    carry_out(ledger, &headers, Request::Capture(payment_id(&payment)?, body)).await
}

/// `POST /payments/{id}/void`
pub(super) async fn void(
    State(ledger): State<Ledger>,
    Path(payment): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Answer> {
    let body: VoidBody = read(body)?;
    carry_out(ledger, &headers, Request::Void(payment_id(&payment)?, body)).await
}

/// `POST /payments/{id}/refunds`
pub(super) async fn refund(
    State(ledger): State<Ledger>,
    Path(payment): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Answer> {
    let body: RefundBody = read(body)?;
    more_than_nothing(body.amount)?;
    if body.number == 0 {
        return Err(invalid("the refunds of a payment are numbered from 1"));
    }
    carry_out(ledger, &headers, Request::Refund(payment_id(&payment)?, body)).await
}

/// `GET /payments/{id}`
pub(super) async fn payment(State(ledger): State<Ledger>, Path(payment): Path<String>) -> Result<Answer, Answer> {
    let payment = payment_id(&payment)?;
    to_its_end(async move { ledger.show(payment).await }).await
}

/// The query of [`movements`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    after: Option<i64>,
    limit: Option<u32>,
}

/// `GET /movements`
pub(super) async fn movements(
    State(ledger): State<Ledger>,
    query: Result<Query<Pages>, QueryRejection>,
) -> Result<Response, Answer> {
    let Query(Pages { after, limit }) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = limit.unwrap_or(PAGE.1).clamp(1, PAGE.0);
    let movements = to_its_end(async move { ledger.movements(after.unwrap_or(0), limit).await }).await?;
    let next = movements.last().filter(|_| movements.len() == limit as usize).map(|last| last.number);
    let movements: Vec<_> = movements.iter().map(shown).collect();
    Ok(Json(json!({ "movements": movements, "next_after": next })).into_response())
}

fn shown(movement: &Movement) -> serde_json::Value {
    let Movement { number, payment, kind, minor, currency, refund, at } = movement;
    let amount = json!({ "minor": minor, "currency": currency });
    json!({ "number": number, "payment": payment, "kind": kind, "amount": amount, "refund": refund, "at": at })
}

/// Everything that is not there.
pub(super) async fn no_route() -> Answer {
    Answer::problem(StatusCode::NOT_FOUND, "no-route", "the gateway's protocol has no such address")
}

/// Everything that is there, but not so.
pub(super) async fn no_method() -> Answer {
    Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "no-method", "the method is not for this address")
}

async fn carry_out(ledger: Ledger, headers: &HeaderMap, request: Request) -> Result<Response, Answer> {
    let key = idempotency_key(headers)?.to_owned();
    let Delivery { answer, how } = to_its_end(async move { ledger.carry_out(&key, &request).await }).await?;
    match how {
        How::Now => {}
        How::After(late) => tokio::time::sleep(late).await,
        How::Never => return Ok(cut_off()),
    }
    Ok(answer.into_response())
}

/// Does work in the database in a task of its own: a client that hangs up must not stop what it has begun.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, Answer> {
    let done = tokio::spawn(work.in_current_span()).await.map_err(|error| failed(&error))?;
    done.map_err(|error| failed(&error))
}

/// A response that breaks off before it has said anything.
fn cut_off() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("this card loses the answer")) });
    Body::from_stream(broken).into_response()
}

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Answer> {
    let body = body.map_err(|error| invalid(error.body_text()))?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&body))
        .map_err(|error| invalid(format!("the body is not what it should be: {error}")))
}

fn payment_id(text: &str) -> Result<PaymentId, Answer> {
    text.parse().map_err(|error| invalid(format!("{error}")))
}

fn more_than_nothing(amount: Money) -> Result<(), Answer> {
    if amount.minor > Price::ZERO { Ok(()) } else { Err(invalid("the amount must be more than nothing")) }
}

/// The key of a request: a string in quotes, as the draft standard has it, or bare.
fn idempotency_key(headers: &HeaderMap) -> Result<&str, Answer> {
    let key = headers.get(&IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().trim();
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    if inner.is_empty() || inner.len() > MAX_KEY || inner.contains('"') {
        let detail = format!("an Idempotency-Key of 1 to {MAX_KEY} visible characters is required, in quotes or bare");
        return Err(invalid(detail));
    }
    Ok(inner)
}

fn invalid(detail: impl Into<String>) -> Answer {
    Answer::problem(StatusCode::BAD_REQUEST, kinds::INVALID_REQUEST, detail)
}

/// The sandbox itself is at fault.
fn failed(error: &dyn std::error::Error) -> Answer {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let chain: Vec<String> = chain.map(ToString::to_string).collect();
    tracing::error!(error = chain.join(": "), "the sandbox gateway failed");
    Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the sandbox gateway failed; its log says why")
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self { status, body } = self;
        let mut response = (status, Json(body)).into_response();
        if status.is_client_error() || status.is_server_error() {
            let content_type = HeaderValue::from_static("application/problem+json");
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
