//! The gateway over HTTP, by the protocol of `docs/gateway.md`.
//!
//! Three things keep a card from being charged twice. Every request has a key, under which the gateway does it once. An
//! answer that was lost is looked up before the request is sent again. And when the gateway may have forgotten the key,
//! nothing is sent again at all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{CardToken, Line, PaymentId};
use domain::money::Money;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::breaker::{Breaker, BreakerConfig, Outcome, Pass};
use super::protocol::{AuthoriseBody, CaptureBody, PaymentBody, RefundBody, RefundLine, RefundStatus, VoidBody, kinds};
use super::{
    Attempt, Authorisation, Capture, Fault, Found, FoundRefund, FoundStatus, GatewayError, PaymentGateway, Refund,
    Voided,
};

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;

/// Where the gateway is, and how much patience there is with it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address below which the protocol is spoken, such as `https://pay.example.com/v1`.
    pub url: String,
    /// What is sent as `Authorization: Bearer`.
    pub secret: SecretString,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long one request may take, connection and answer included.
    pub timeout: Duration,
    /// After how long a call ends at the latest, all its requests and the pauses between them included.
    pub deadline: Duration,
    /// How often a request is sent at most within a call; at least once.
    pub attempts: u32,
    /// The pause before a request is sent again: the first, and the longest. They double, and chance is added.
    pub pauses: (Duration, Duration),
    /// For how long the gateway is sure to know a key again. Counts from when the call was first asked for.
    pub key_life: Duration,
    /// How many requests may be in flight at once; at least one.
    pub in_flight: usize,
    /// When the gateway is left alone.
    pub breaker: BreakerConfig,
}

impl Config {
    /// A gateway at this address, with the patience that suits most.
    pub fn new(url: impl Into<String>, secret: SecretString) -> Self {
        Self {
            url: url.into(),
            secret,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            attempts: 4,
            pauses: (Duration::from_millis(100), Duration::from_secs(2)),
            key_life: Duration::from_secs(24 * 60 * 60),
            in_flight: 32,
            breaker: BreakerConfig::default(),
        }
    }
}

/// Why a configuration makes no gateway.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The address is none, or none of HTTP.
    #[error("the payment gateway's URL is no http:// or https:// address of a host and a path")]
    Url,
    /// The secret has characters that a header cannot carry.
    #[error("the payment gateway's secret has characters other than visible ASCII, or none at all")]
    Secret,
    /// A limit is zero that allows nothing then.
    #[error("the payment gateway's {setting} is zero, which allows no call")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("no HTTP client can be made for the payment gateway")]
    Client(#[source] reqwest::Error),
}

/// A payment gateway behind HTTP.
pub struct HttpGateway {
    client: Client,
    /// Without a slash at its end.
    base: String,
    config: Config,
    slots: Semaphore,
    breaker: Mutex<Breaker>,
}

impl HttpGateway {
    /// A gateway as configured. Nothing is sent yet.
    ///
    /// Proxies that the environment names are not used: what is configured here is all that counts.
    ///
    /// # Errors
    /// [`InvalidConfig`].
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        let url = Url::parse(&config.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // A password in the address would be sent where the secret belongs.
        let plain = |url: &Url| {
            let parts =
                [url.query(), url.fragment(), url.password(), Some(url.username()).filter(|name| !name.is_empty())];
            parts.iter().all(Option::is_none)
        };
        let url = url.filter(plain).ok_or(InvalidConfig::Url)?;
        let zero = [
            ("timeout", config.timeout.is_zero()),
            ("connect_timeout", config.connect_timeout.is_zero()),
            ("deadline", config.deadline.is_zero()),
            ("attempts", config.attempts == 0),
            ("in_flight", config.in_flight == 0),
            ("breaker.failures", config.breaker.failures == 0),
        ];
        if let Some((setting, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(InvalidConfig::Zero { setting });
        }
        let secret = config.secret.expose_secret();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidConfig::Secret);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|_| InvalidConfig::Secret)?;
        bearer.set_sensitive(true);
        let headers = [(AUTHORIZATION, bearer), (ACCEPT, HeaderValue::from_static("application/json"))];
        let client = Client::builder()
            .default_headers(HeaderMap::from_iter(headers))
            .user_agent("storefold")
            .connect_timeout(config.connect_timeout)
            // A redirect would carry the secret elsewhere, and a POST that follows one is no longer sent once.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(InvalidConfig::Client)?;
        Ok(Self {
            client,
            base: url.as_str().trim_end_matches('/').to_owned(),
            slots: Semaphore::new(config.in_flight.min(Semaphore::MAX_PERMITS)),
            breaker: Mutex::new(Breaker::new(config.breaker)),
            config,
        })
    }
}

#[async_trait]
impl PaymentGateway for HttpGateway {
    async fn authorise(
        &self,
        payment: PaymentId,
        amount: Money,
        card: &CardToken,
        attempt: Attempt,
    ) -> Result<Authorisation, GatewayError> {
        self.ask(&AuthoriseBody { id: payment, amount, card: card.clone() }, payment, attempt).await
    }

    async fn capture(&self, payment: PaymentId, amount: Money, attempt: Attempt) -> Result<Capture, GatewayError> {
        self.ask(&CaptureBody { amount }, payment, attempt).await
    }

    async fn void(&self, payment: PaymentId, attempt: Attempt) -> Result<Voided, GatewayError> {
        self.ask(&VoidBody {}, payment, attempt).await
    }

    async fn refund(
        &self,
        payment: PaymentId,
        number: u32,
        amount: Money,
        attempt: Attempt,
    ) -> Result<Refund, GatewayError> {
        self.ask(&RefundBody { number, amount }, payment, attempt).await
    }

    async fn find(&self, payment: PaymentId) -> Result<Option<Found>, GatewayError> {
        let call = self.look_up_patiently(payment, self.patience());
        call.instrument(tracing::info_span!("gateway", payment.id = %payment, operation = "find")).await
    }
}

/// What the gateway is asked to do: the body of the request, and how the answer is read.
trait Operation: Serialize + Sync {
    /// What the gateway says to it.
    type Answer: Send;
    /// What it is called in the log.
    const NAME: &'static str;
    /// Whether doing it twice is doing it once, even for a gateway that has forgotten the key.
    const REPEATABLE: bool = false;

    /// Where it is sent, below the gateway's address.
    fn path(&self, payment: PaymentId) -> String;

    /// The key under which the gateway does it once.
    fn key(&self, payment: PaymentId, attempt: Attempt) -> String;

    /// What the gateway would have answered, by what it now knows of the payment; `None` when it has not done it.
    ///
    /// # Errors
    /// What is wrong when it has done something else.
    fn outcome(&self, found: &Found) -> Result<Option<Self::Answer>, &'static str>;

    /// What a problem means; `None` when the protocol has no such problem for this operation.
    fn refusal(&self, problem: &Problem) -> Option<Meaning<Self::Answer>>;
}

/// What a problem means.
enum Meaning<A> {
    /// It is an answer.
    Answer(A),
    /// It was done before: what came of it is to be looked up.
    DoneBefore,
}

impl Operation for AuthoriseBody {
    type Answer = Authorisation;
    const NAME: &'static str = "authorise";

    fn path(&self, _: PaymentId) -> String {
        "/payments".to_owned()
    }

    fn key(&self, payment: PaymentId, _: Attempt) -> String {
        payment.to_string()
    }

    fn outcome(&self, found: &Found) -> Result<Option<Authorisation>, &'static str> {
        if found.status == FoundStatus::Voided {
            return Ok(Some(Authorisation::Voided));
        }
        if found.amount != Some(self.amount) {
            return Err("the payment it knows is of another amount");
        }
        Ok(Some(match found.status {
            FoundStatus::Authorised | FoundStatus::Captured => {
                let reference = found.reference.clone().ok_or("it authorised the payment without a reference")?;
                Authorisation::Authorised { reference }
            }
            FoundStatus::Declined => {
                Authorisation::Declined { reason: found.declined_reason.clone().unwrap_or_else(|| Line::clipped("")) }
            }
            FoundStatus::Voided => Authorisation::Voided,
        }))
    }

    fn refusal(&self, problem: &Problem) -> Option<Meaning<Authorisation>> {
        Some(match (problem.status, &*problem.kind) {
            (StatusCode::PAYMENT_REQUIRED, _) => {
                Meaning::Answer(Authorisation::Declined { reason: problem.reason.clone() })
            }
            (_, kinds::PAYMENT_VOIDED) => Meaning::Answer(Authorisation::Voided),
            (_, kinds::PAYMENT_EXISTS) => Meaning::DoneBefore,
            _ => return None,
        })
    }
}

impl Operation for CaptureBody {
    type Answer = Capture;
    const NAME: &'static str = "capture";

    fn path(&self, payment: PaymentId) -> String {
        format!("/payments/{payment}/capture")
    }

    /// A capture that was refused may be asked for again, and is another request then.
    fn key(&self, payment: PaymentId, attempt: Attempt) -> String {
        format!("{payment}-capture-{}", attempt.id)
    }

    fn outcome(&self, found: &Found) -> Result<Option<Capture>, &'static str> {
        match found.status {
            FoundStatus::Captured => {}
            FoundStatus::Authorised => return Ok(None),
            // Both are final, and nothing was taken before.
            FoundStatus::Declined | FoundStatus::Voided => {
                return Ok(Some(Capture::Refused { reason: Line::clipped("nothing is held for this payment") }));
            }
        }
        let same = found.amount.is_some_and(|amount| amount.currency == self.amount.currency);
        if !same || found.captured_minor != self.amount.minor.minor() {
            return Err("it captured another amount");
        }
        let reference = found.capture_reference.clone().or_else(|| found.reference.clone());
        Ok(Some(Capture::Done { reference: reference.ok_or("it captured the payment without a reference")? }))
    }

    fn refusal(&self, problem: &Problem) -> Option<Meaning<Capture>> {
        let refused = || Meaning::Answer(Capture::Refused { reason: problem.reason.clone() });
        Some(match (problem.status, &*problem.kind) {
            (StatusCode::PAYMENT_REQUIRED, _) => refused(),
            (_, kinds::PAYMENT_VOIDED | kinds::NOT_HELD | kinds::EXCEEDS_HELD | kinds::OTHER_CURRENCY) => refused(),
            (_, kinds::ALREADY_CAPTURED) => Meaning::DoneBefore,
            _ => return None,
        })
    }
}

impl Operation for VoidBody {
    type Answer = Voided;
    const NAME: &'static str = "void";
    const REPEATABLE: bool = true;

    fn path(&self, payment: PaymentId) -> String {
        format!("/payments/{payment}/void")
    }

    fn key(&self, payment: PaymentId, _: Attempt) -> String {
        format!("{payment}-void")
    }

    fn outcome(&self, found: &Found) -> Result<Option<Voided>, &'static str> {
        // What was declined is not held, and a payment is not asked for twice.
        Ok(matches!(found.status, FoundStatus::Voided | FoundStatus::Declined).then_some(Voided))
    }

    fn refusal(&self, _: &Problem) -> Option<Meaning<Voided>> {
        None
    }
}

impl Operation for RefundBody {
    type Answer = Refund;
    const NAME: &'static str = "refund";

    fn path(&self, payment: PaymentId) -> String {
        format!("/payments/{payment}/refunds")
    }

    fn key(&self, payment: PaymentId, _: Attempt) -> String {
        format!("{payment}-refund-{}", self.number)
    }

    fn outcome(&self, found: &Found) -> Result<Option<Refund>, &'static str> {
        let Some(refund) = found.refunds.iter().find(|refund| refund.number == self.number) else { return Ok(None) };
        if refund.amount != self.amount {
            return Err("the refund it knows by this number is of another amount");
        }
        Ok(Some(refund.outcome.clone()))
    }

    fn refusal(&self, problem: &Problem) -> Option<Meaning<Refund>> {
        let refused = || Meaning::Answer(Refund::Refused { reason: problem.reason.clone() });
        Some(match (problem.status, &*problem.kind) {
            (StatusCode::PAYMENT_REQUIRED, _) => refused(),
            (_, kinds::NOT_CAPTURED | kinds::EXCEEDS_CAPTURED | kinds::OTHER_CURRENCY) => refused(),
            (_, kinds::REFUND_EXISTS) => Meaning::DoneBefore,
            _ => return None,
        })
    }
}

/// An answer that counts.
enum Reply {
    Payment(Found),
    Problem(Problem),
}

/// A problem, by RFC 9457.
struct Problem {
    status: StatusCode,
    /// The last part of its type.
    kind: String,
    /// What it says in words.
    reason: Line,
}

/// How long a gateway may ask to be left alone, at most.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);

/// Why a request brought no answer that counts.
enum Failure {
    /// It was not sent, or turned away unread.
    Nothing { fault: Fault, retry_after: Option<Duration> },
    /// It was sent, and what came of it is not known.
    Lost(Fault),
    /// It was not sent, because the breaker is open.
    Open { retry_in: Duration },
    /// Sending it again changes nothing.
    Final(GatewayError),
}

/// How much patience is left in a call.
struct Patience {
    until: Instant,
    /// What must be left of it for a request to have a chance.
    least: Duration,
    pauses: ExponentialBackoff,
}

impl Patience {
    /// Pauses before another try, if there is time for one.
    ///
    /// # Errors
    /// The failure that there is no more patience with.
    async fn with(&mut self, failure: Failure) -> Result<(), Failure> {
        let at_least = match &failure {
            Failure::Nothing { retry_after, .. } => retry_after.unwrap_or_default(),
            Failure::Lost(_) => Duration::ZERO,
            Failure::Open { .. } | Failure::Final(_) => return Err(failure),
        };
        let Some(pause) = self.pauses.next() else { return Err(failure) };
        let next = Instant::now() + pause.max(at_least);
        if next + self.least >= self.until {
            return Err(failure);
        }
        tokio::time::sleep_until(next).await;
        Ok(())
    }
}

impl HttpGateway {
    fn patience(&self) -> Patience {
        let (first, longest) = self.config.pauses;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_max_times(self.config.attempts.saturating_sub(1) as usize)
            .with_jitter();
        Patience { until: Instant::now() + self.config.deadline, least: self.fair() / 4, pauses: pauses.build() }
    }

    /// How long a request may take that nothing cuts short.
    fn fair(&self) -> Duration {
        self.config.timeout.min(self.config.deadline)
    }

    /// Carries out one call.
    async fn ask<O: Operation>(
        &self,
        operation: &O,
        payment: PaymentId,
        attempt: Attempt,
    ) -> Result<O::Answer, GatewayError> {
        let call = async {
            if !O::REPEATABLE && self.may_be_forgotten(attempt.asked_at) {
                self.reconcile(operation, payment, attempt).await
            } else {
                self.ask_until_answered(operation, payment, attempt).await
            }
        };
        call.instrument(tracing::info_span!("gateway", payment.id = %payment, operation = O::NAME)).await
    }

    /// Whether the gateway may have forgotten the key of a call by the time that a request of it arrives.
    fn may_be_forgotten(&self, asked_at: DateTime<Utc>) -> bool {
        let latest =
            TimeDelta::from_std(self.config.deadline).ok().and_then(|most| Utc::now().checked_add_signed(most));
        let life = TimeDelta::from_std(self.config.key_life).ok().and_then(|life| asked_at.checked_add_signed(life));
        // What lies past the end of the calendar is never reached by a life, and is always reached by a deadline.
        latest.is_none_or(|latest| life.is_some_and(|end| latest >= end))
    }

    /// Finds out what came of a call whose key may be forgotten, and sends nothing.
    async fn reconcile<O: Operation>(
        &self,
        operation: &O,
        payment: PaymentId,
        attempt: Attempt,
    ) -> Result<O::Answer, GatewayError> {
        let found = self.look_up_patiently(payment, self.patience()).await?;
        let outcome = found.map_or(Ok(None), |found| operation.outcome(&found)).map_err(protocol)?;
        outcome.ok_or(GatewayError::Expired { asked_at: attempt.asked_at })
    }

    /// Sends a request until it is answered or patience ends. An answer that was lost is looked up first.
    async fn ask_until_answered<O: Operation>(
        &self,
        operation: &O,
        payment: PaymentId,
        attempt: Attempt,
    ) -> Result<O::Answer, GatewayError> {
        let mut patience = self.patience();
        let mut lost = false;
        loop {
            let failure = match self.try_once(operation, payment, attempt, &mut lost, patience.until).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            patience.with(failure).await.map_err(|failure| told(failure, lost))?;
        }
    }

    async fn try_once<O: Operation>(
        &self,
        operation: &O,
        payment: PaymentId,
        attempt: Attempt,
        lost: &mut bool,
        until: Instant,
    ) -> Result<O::Answer, Failure> {
        let outcome = |found: Found| operation.outcome(&found).map_err(|what| Failure::Final(protocol(what)));
        if *lost
            && let Some(found) = self.look_up(payment, until).await?
            && let Some(answer) = outcome(found)?
        {
            return Ok(answer);
        }
        let (path, key) = (operation.path(payment), operation.key(payment, attempt));
        let reply = self.send(Method::POST, &path, Some((&key, operation)), payment, until).await;
        *lost |= matches!(reply, Err(Failure::Lost(_)));
        let found = match reply? {
            Reply::Payment(found) => Some(found),
            Reply::Problem(problem) => match operation.refusal(&problem) {
                Some(Meaning::Answer(answer)) => return Ok(answer),
                Some(Meaning::DoneBefore) => {
                    // It has happened, whatever becomes of the question what it was.
                    *lost = true;
                    self.look_up(payment, until).await?
                }
                None => return Err(Failure::Final(unexpected(&problem))),
            },
        };
        let answer = found.map_or(Ok(None), outcome)?;
        answer.ok_or_else(|| Failure::Final(protocol("it says that it was done, and the payment does not show it")))
    }

    async fn look_up_patiently(
        &self,
        payment: PaymentId,
        mut patience: Patience,
    ) -> Result<Option<Found>, GatewayError> {
        loop {
            let failure = match self.look_up(payment, patience.until).await {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            patience.with(failure).await.map_err(|failure| told(failure, false))?;
        }
    }

    /// Asks once what the gateway knows of a payment.
    async fn look_up(&self, payment: PaymentId, until: Instant) -> Result<Option<Found>, Failure> {
        let path = format!("/payments/{payment}");
        match self.send::<()>(Method::GET, &path, None, payment, until).await? {
            Reply::Payment(found) => Ok(Some(found)),
            Reply::Problem(problem) if problem.kind == kinds::UNKNOWN_PAYMENT => Ok(None),
            Reply::Problem(problem) => Err(Failure::Final(unexpected(&problem))),
        }
    }

    /// Sends one request.
    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &B)>,
        payment: PaymentId,
        until: Instant,
    ) -> Result<Reply, Failure> {
        let nothing = |fault| Failure::Nothing { fault, retry_after: None };
        let (_slot, late) = match self.slots.try_acquire() {
            Ok(slot) => (slot, Fault::TimedOut),
            Err(_) => match timeout_at(until, self.slots.acquire()).await {
                Ok(Ok(slot)) => (slot, Fault::Busy),
                Ok(Err(_)) | Err(_) => return Err(nothing(Fault::Busy)),
            },
        };
        let left = until.saturating_duration_since(Instant::now());
        // What is hardly going to be answered in time is better not sent: it would only have to be looked up.
        if left < self.fair() / 4 {
            return Err(nothing(late));
        }
        let mut watch = Watch::begin(&self.breaker).map_err(|retry_in| Failure::Open { retry_in })?;
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        let limit = self.config.timeout.min(left);
        request = request.timeout(limit);
        if let Some((key, body)) = body {
            request = request.header("Idempotency-Key", format!("\"{key}\"")).json(body);
        }
        let reply = match request.send().await {
            Ok(response) => read(response, payment).await,
            Err(error) => Err(broken(error)),
        };
        watch.outcome = match &reply {
            // The call ran out of time before the gateway had a fair part of it.
            Err(Failure::Lost(Fault::TimedOut)) if limit < self.fair() / 2 => Outcome::Abandoned,
            // It said when to come back with this: that is an answer, and may be about this one payment.
            Err(Failure::Nothing { retry_after: Some(_), .. }) => Outcome::Answered,
            Err(Failure::Nothing { .. } | Failure::Lost(_)) => Outcome::Failed,
            Ok(_) | Err(Failure::Final(_) | Failure::Open { .. }) => Outcome::Answered,
        };
        if let Err(Failure::Nothing { fault, .. } | Failure::Lost(fault)) = &reply {
            tracing::warn!(fault = chain(fault), "the payment gateway failed");
        }
        reply
    }
}

/// A call that the breaker knows of. Given back when it is dropped, as abandoned unless it came to an end.
struct Watch<'a> {
    breaker: &'a Mutex<Breaker>,
    pass: Pass,
    outcome: Outcome,
}

impl<'a> Watch<'a> {
    fn begin(breaker: &'a Mutex<Breaker>) -> Result<Self, Duration> {
        let now = Instant::now().into_std();
        let pass = breaker.lock().unwrap_or_else(PoisonError::into_inner).enter(now)?;
        Ok(Self { breaker, pass, outcome: Outcome::Abandoned })
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).leave(self.pass, self.outcome, now);
    }
}

/// Reads an answer to its end and finds out what it is.
async fn read(mut response: Response, payment: PaymentId) -> Result<Reply, Failure> {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REST));
    let fault = Fault::Status { status: status.as_u16() };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Failure::Final(GatewayError::Unauthorised { status: status.as_u16() }));
        }
        StatusCode::TOO_MANY_REQUESTS => return Err(Failure::Nothing { fault, retry_after }),
        // Who says when to come back has turned the request away. Who does not may be a proxy that sent it on.
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
            return Err(Failure::Nothing { fault, retry_after });
        }
        StatusCode::REQUEST_TIMEOUT => return Err(Failure::Lost(fault)),
        status if status.is_server_error() => return Err(Failure::Lost(fault)),
        _ => {}
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(Failure::Final(protocol("its answer is too long")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        let found = serde_json::from_slice(&body).map_err(|_| "its answer is no payment");
        return found.and_then(|found| to_found(found, payment)).map(Reply::Payment).map_err(final_);
    }
    let problem = to_problem(status, &body).ok_or_else(|| {
        let what = format!("it answered with status {status}, and with no problem by RFC 9457 that the protocol has");
        Failure::Final(GatewayError::Protocol { what })
    })?;
    if problem.kind == kinds::IN_FLIGHT {
        return Err(Failure::Lost(fault));
    }
    Ok(Reply::Problem(problem))
}

fn to_problem(status: StatusCode, body: &[u8]) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Body {
        r#type: String,
        #[serde(default)]
        title: String,
        #[serde(default)]
        detail: String,
    }
    if !status.is_client_error() {
        return None;
    }
    let Body { r#type, title, detail } = serde_json::from_slice(body).ok()?;
    let kind = r#type.rsplit('/').next().unwrap_or_default().to_owned();
    let reason = if detail.trim().is_empty() { title } else { detail };
    Some(Problem { status, kind, reason: Line::clipped(reason) })
}

fn to_found(body: PaymentBody, payment: PaymentId) -> Result<Found, &'static str> {
    let PaymentBody { id, status, amount, captured, refunded, .. } = body;
    if id != payment {
        return Err("it answered for another payment");
    }
    let minor = |part: Option<Money>| match (part, amount) {
        (None, _) => Ok(0),
        (Some(part), Some(whole)) if part.currency == whole.currency => Ok(part.minor.minor()),
        (Some(_), _) => Err("the amounts of the payment are not in one currency"),
    };
    let (captured_minor, refunded_minor) = (minor(captured)?, minor(refunded)?);
    let refunds = body.refunds.into_iter().map(|line| {
        let RefundLine { number, amount, status, reason } = line;
        let outcome = match status {
            RefundStatus::Done => Refund::Done,
            RefundStatus::Refused => Refund::Refused { reason: Line::clipped(reason.unwrap_or_default()) },
        };
        FoundRefund { number, amount, outcome }
    });
    Ok(Found {
        status,
        amount,
        captured_minor,
        refunded_minor,
        reference: body.reference.map(Line::clipped),
        capture_reference: body.capture_reference.map(Line::clipped),
        declined_reason: body.declined_reason.map(Line::clipped),
        refunds: refunds.collect(),
    })
}

/// What a request that did not get its answer means.
fn broken(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_connect() {
        Failure::Nothing { fault: Fault::Unreachable(error.into()), retry_after: None }
    } else if error.is_timeout() {
        Failure::Lost(Fault::TimedOut)
    } else {
        Failure::Lost(Fault::Broken(error.into()))
    }
}

/// The error of a call that ends with this failure. `lost`: whether a request of it may have been carried out.
fn told(failure: Failure, lost: bool) -> GatewayError {
    match failure {
        Failure::Final(error) => error,
        Failure::Nothing { fault, .. } | Failure::Lost(fault) if lost => GatewayError::Unknown(fault),
        Failure::Nothing { fault, retry_after } => GatewayError::Unavailable { fault, retry_after },
        Failure::Lost(fault) => GatewayError::Unavailable { fault, retry_after: None },
        Failure::Open { .. } if lost => GatewayError::Unknown(Fault::LeftAlone),
        Failure::Open { retry_in } => GatewayError::BreakerOpen { retry_in },
    }
}

fn protocol(what: &str) -> GatewayError {
    GatewayError::Protocol { what: what.to_owned() }
}

fn final_(what: &str) -> Failure {
    Failure::Final(protocol(what))
}

fn unexpected(problem: &Problem) -> GatewayError {
    let Problem { status, kind, .. } = problem;
    GatewayError::Protocol { what: format!("it answered with status {status} and the problem {kind:?}") }
}

/// An error with all that led to it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
