//! Verifies tokens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashlink::LruCache;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::caller::{Caller, CustomerId};
use crate::key::{Algorithm, Key};
use crate::keys::Keys;
use crate::refusal::{Fault, Refusal};
use crate::scope::Scopes;

/// The longest token that is read, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;
/// How far the clock of an issuer may be from this machine's, at most.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// How many tokens that were verified are remembered. To verify a signature takes far longer than to find a token.
const REMEMBERED: usize = 1024;
/// The longest name of a caller, in bytes. It goes with every event.
const LONGEST_SUBJECT: usize = 255;

/// What a token has to say besides its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Who made it: the claim `iss`.
    pub issuer: String,
    /// For whom it is: the claim `aud`, or one of several in it.
    pub audience: String,
    /// How far the issuer's clock may be from this one's: [`MAX_LEEWAY`] at most.
    pub leeway: Duration,
}

/// Verifies tokens. Cheap to clone; clones remember together.
#[derive(Clone)]
pub struct Gate(Option<Arc<Verifier>>);

struct Verifier {
    expected: Expected,
    keys: Keys,
    verified: Mutex<LruCache<Box<str>, Verified>>,
}

/// What a token says that was verified.
#[derive(Clone)]
struct Verified {
    caller: Caller,
    not_before: u64,
    expires: u64,
    /// The issuer's keys that it was verified with.
    generation: u64,
}

impl Gate {
    /// A gate that stands open: whoever comes may do everything.
    pub fn open() -> Self {
        Self(None)
    }

    /// A gate for tokens of these keys that say what is expected.
    pub fn new(keys: Keys, expected: Expected) -> Self {
        let leeway = expected.leeway.min(MAX_LEEWAY);
        let verified = Mutex::new(LruCache::new(REMEMBERED));
        Self(Some(Arc::new(Verifier { expected: Expected { leeway, ..expected }, keys, verified })))
    }

    /// The caller of a request, by its header `Authorization`; `None` when it has none.
    ///
    /// # Errors
    /// [`Refusal`] when it is not accepted.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
        if self.0.is_none() {
            return Ok(Some(Caller::anyone()));
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return Err(Refusal::SeveralTokens);
        }
        let value = value.to_str().map_err(|_| Refusal::Invalid(Fault::Malformed))?;
        self.authorized(value).await.map(Some)
    }

    /// The caller by the value of a header `Authorization`, wherever it was sent.
    ///
    /// # Errors
    /// [`Refusal`] when it is not accepted.
    pub async fn authorized(&self, value: &str) -> Result<Caller, Refusal> {
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => self.verify(token.trim()).await,
            _ if self.0.is_none() => Ok(Caller::anyone()),
            // Another scheme proves nothing here.
            _ => Err(Refusal::NoToken),
        }
    }

    /// The caller that a token makes known.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], or [`Refusal::NoKeys`].
    pub async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let Some(verifier) = &self.0 else { return Ok(Caller::anyone()) };
        if token.len() > LONGEST_TOKEN {
            return Err(Fault::TooLong.into());
        }
        let generation = verifier.keys.generation().await?;
        if let Some(known) = verifier.remembered(token, generation) {
            verifier.check_times(&known)?;
            return Ok(known.caller);
        }
        let header = header_of(token)?;
        let key = verifier.keys.find(header.kid.as_deref()).await?;
        if header.alg != key.algorithm.name() {
            return Err(Fault::Algorithm.into());
        }
        let claims = verifier.claims(token, &key)?;
        let until = claims.exp.saturating_add(verifier.expected.leeway.as_secs());
        // A time that no clock shows is never.
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(until));
        let verified =
            Verified { not_before: claims.nbf, expires: claims.exp, generation, caller: claims.into_caller(until) };
        verifier.check_times(&verified)?;
        verifier.remember(token, &verified);
        Ok(verified.caller)
    }
}

impl Verifier {
    fn remembered(&self, token: &str, generation: u64) -> Option<Verified> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(token).filter(|known| known.generation == generation).cloned()
    }

    fn remember(&self, token: &str, verified: &Verified) {
        let mut all = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(token.into(), verified.clone());
    }

    fn check_times(&self, verified: &Verified) -> Result<(), Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let leeway = self.expected.leeway.as_secs();
        if verified.expires.saturating_add(leeway) <= now {
            return Err(Fault::Expired);
        }
        if verified.not_before > now.saturating_add(leeway) {
            return Err(Fault::NotYetValid);
        }
        Ok(())
    }

    /// The claims of a token that was signed by this key, for this shop.
    fn claims(&self, token: &str, key: &Key) -> Result<Claims, Fault> {
        let algorithm = match key.algorithm {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        };
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.expected.issuer]);
        validation.set_audience(&[&self.expected.audience]);
        // The times are held against the clock by `check_times`, once for new tokens and remembered ones.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let claims = jsonwebtoken::decode::<serde_json::Value>(token, &key.decoding, &validation);
        let claims = claims.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Fault::Signature,
            ErrorKind::InvalidAlgorithm => Fault::Algorithm,
            ErrorKind::InvalidIssuer => Fault::Issuer,
            ErrorKind::InvalidAudience => Fault::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => Fault::Claim(known(claim)),
            _ => Fault::Malformed,
        })?;
        Claims::read(&claims.claims)
    }
}

/// The claims that a token has to have, by the names of this program: what a token says is not told to others.
fn known(claim: &str) -> &'static str {
    ["exp", "nbf", "iss", "aud", "sub"].into_iter().find(|known| *known == claim).unwrap_or("of the standard")
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Invalid(fault)
    }
}

/// The header of a token, as far as it is heeded. Where it says that its key is to be found (`jku`, `jwk`, `x5u`, `x5c`) is
/// not: the keys are those that are configured.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// That a member is there, whatever it is.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn header_of(token: &str) -> Result<Header, Fault> {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Fault::Malformed);
    };
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Fault::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| Fault::Malformed)?;
    let types = ["jwt", "at+jwt", "application/at+jwt"];
    let known = header.typ.as_ref().is_none_or(|typ| types.iter().any(|known| typ.eq_ignore_ascii_case(known)));
    if header.crit || !known { Err(Fault::Header) } else { Ok(header) }
}

/// The claims of a token, each of its own type and no other.
struct Claims {
    subject: String,
    exp: u64,
    nbf: u64,
    scopes: Scopes,
    customer: Option<CustomerId>,
}

impl Claims {
    fn read(claims: &serde_json::Value) -> Result<Self, Fault> {
        let time = |claim: &'static str| claims[claim].as_u64().ok_or(Fault::Claim(claim));
        let text = |claim: &'static str| claims[claim].as_str().ok_or(Fault::Claim(claim));
        text("iss")?;
        let aud = &claims["aud"];
        let texts = aud.as_array().is_some_and(|all| all.iter().all(serde_json::Value::is_string));
        if !(aud.is_string() || texts) {
            return Err(Fault::Claim("aud"));
        }
        let subject = text("sub")?;
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
            return Err(Fault::Claim("sub"));
        }
        // One that is there but null is no customer, and must not pass for the shop.
        let customer = match claims.get("customer") {
            None => None,
            Some(customer) => Some(customer.as_str().and_then(canonical).ok_or(Fault::Claim("customer"))?),
        };
        let scopes = match claims.get("scope") {
            None => Scopes::NONE,
            Some(scopes) => Scopes::of_token(scopes.as_str().ok_or(Fault::Claim("scope"))?),
        };
        Ok(Self { subject: subject.to_owned(), exp: time("exp")?, nbf: time("nbf")?, scopes, customer })
    }

    fn into_caller(self, until: Option<SystemTime>) -> Caller {
        Caller { subject: Some(self.subject), scopes: self.scopes, customer: self.customer, until }
    }
}

/// A UUID as the shop writes it, with hyphens.
fn canonical(text: &str) -> Option<CustomerId> {
    Uuid::parse_str(text).ok().filter(|id| text.eq_ignore_ascii_case(&id.as_hyphenated().to_string())).map(CustomerId)
}
