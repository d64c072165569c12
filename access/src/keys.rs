//! The keys that tokens are verified with: those that are configured, and those that an issuer publishes and changes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::key::{Key, KeyError};
use crate::refusal::{Fault, Refusal};

/// The largest set of keys that is read from an issuer, in bytes.
const LARGEST_SET: usize = 256 * 1024;
/// How many keys an issuer may have.
const MOST_KEYS: usize = 64;

/// The keys that tokens are verified with.
#[derive(Debug, Clone)]
pub struct Keys {
    configured: Arc<[Arc<Key>]>,
    issuer: Option<Issuer>,
}

/// Why keys cannot be used together.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is none.
    #[error("no key is configured")]
    None,
    /// A token could not say which one it means.
    #[error("a key without a name (kid) has to be the only one: give each a name, as JSON Web Keys have it")]
    Nameless,
    /// Two have one name.
    #[error("two keys have the name (kid) {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// The address is none that keys can be fetched from.
    #[error("{url:?} is no address to fetch keys from: it begins with https://, or with http:// on this machine")]
    Url {
        /// What was given.
        url: String,
    },
    /// The client cannot be made.
    #[error("no client can be made to fetch keys with")]
    Client(#[source] reqwest::Error),
}

impl Keys {
    /// These keys, and those of an issuer, if there is one.
    ///
    /// # Errors
    /// [`KeysError`] when a token could not say which key it means.
    pub fn new(configured: Vec<Key>, issuer: Option<Issuer>) -> Result<Self, KeysError> {
        if configured.is_empty() && issuer.is_none() {
            return Err(KeysError::None);
        }
        let alone = configured.len() == 1 && issuer.is_none();
        for (index, key) in configured.iter().enumerate() {
            match &key.name {
                None if alone => {}
                None => return Err(KeysError::Nameless),
                Some(name) if configured.iter().take(index).any(|other| other.name.as_ref() == Some(name)) => {
                    return Err(KeysError::SameName { name: name.clone() });
                }
                Some(_) => {}
            }
        }
        Ok(Self { configured: configured.into_iter().map(Arc::new).collect(), issuer })
    }

    /// Fetches the issuer's keys anew when it is time. Answers a number that is another one whenever they have changed.
    ///
    /// # Errors
    /// [`Refusal::NoKeys`] when what is known of them is too old to go by.
    pub(crate) async fn generation(&self) -> Result<u64, Refusal> {
        match &self.issuer {
            None => Ok(0),
            Some(issuer) => issuer.generation().await,
        }
    }

    /// The key that a token asks for by its name. A token may leave it out where there is one key only, and a key without a
    /// name takes any that is not another's.
    pub(crate) async fn find(&self, name: Option<&str>) -> Result<Arc<Key>, Refusal> {
        let known = |keys: &[Arc<Key>]| match (name, keys) {
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
            (Some(name), keys) => {
                let named = keys.iter().find(|key| key.name.as_deref() == Some(name));
                named.or_else(|| keys.iter().find(|key| key.name.is_none())).cloned()
            }
        };
        let Some(issuer) = &self.issuer else {
            return known(&self.configured).ok_or(Refusal::Invalid(Fault::UnknownKey));
        };
        let all = || issuer.known().iter().chain(&*self.configured).cloned().collect::<Vec<_>>();
        if let Some(key) = known(&all()) {
            return Ok(key);
        }
        // It may have been published since.
        issuer.fetch_unless_just_done().await;
        known(&all()).ok_or(Refusal::Invalid(Fault::UnknownKey))
    }
}

/// When an issuer's keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How old they become before they are fetched anew: how long a key that the issuer has withdrawn is still taken.
    pub refresh: Duration,
    /// How old they become where the issuer does not answer. Then no token is accepted.
    pub stale: Duration,
    /// How far apart it is asked at least, whatever tokens say.
    pub pause: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let [refresh, stale] = [5 * 60, 60 * 60].map(Duration::from_secs);
        let [pause, timeout] = [10, 5].map(Duration::from_secs);
        Self { refresh, stale, pause, timeout }
    }
}

/// An issuer that publishes its keys, as a JSON Web Key Set at an address.
#[derive(Debug, Clone)]
pub struct Issuer(Arc<Published>);

#[derive(Debug)]
struct Published {
    url: Url,
    client: Client,
    timing: Timing,
    known: RwLock<Known>,
    /// When the issuer was last asked. Whoever asks holds it, so that one asks at a time.
    asked: Arc<Mutex<Option<Instant>>>,
}

/// What an issuer has published, as far as it is known.
#[derive(Debug, Default)]
struct Known {
    keys: Arc<[Arc<Key>]>,
    fetched: Option<Instant>,
    /// Counts the sets.
    generation: u64,
}

/// Why the keys of an issuer could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer cannot be reached, or broke off")]
    Request(#[from] reqwest::Error),
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("the answer has more than {LARGEST_SET} bytes")]
    TooLarge,
    #[error("the answer has {0} keys, which is more than {MOST_KEYS}")]
    TooMany(usize),
    #[error("the answer is no set of keys")]
    Set(#[from] KeyError),
}

impl Issuer {
    /// The issuer whose keys are published at this address. They are fetched when the first token comes.
    ///
    /// # Errors
    /// [`KeysError::Url`]: what comes over the network in the clear is nobody's in particular.
    pub fn new(url: &str, timing: Timing) -> Result<Self, KeysError> {
        let wrong = || KeysError::Url { url: url.rsplit('@').next().unwrap_or_default().to_owned() };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let here = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let fits = parsed.scheme() == "https" || (parsed.scheme() == "http" && here);
        if !fits || parsed.host_str().is_none() || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong());
        }
        let client = Client::builder()
            .user_agent("storefold")
            .timeout(timing.timeout)
            // Nobody else than the address that was configured says what the keys are.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(KeysError::Client)?;
        let (known, asked) = (RwLock::default(), Arc::default());
        Ok(Self(Arc::new(Published { url: parsed, client, timing, known, asked })))
    }

    fn known(&self) -> Arc<[Arc<Key>]> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    fn age_and_generation(&self) -> (Option<Duration>, u64) {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.fetched.map(|fetched| fetched.elapsed()), known.generation)
    }

    async fn generation(&self) -> Result<u64, Refusal> {
        let Timing { refresh, stale, .. } = self.0.timing;
        match self.age_and_generation() {
            (Some(age), generation) if age < refresh => return Ok(generation),
            (Some(age), generation) if age < stale => {
                // Nobody waits for it. Where somebody asks already, this one has nothing to do.
                let issuer = self.clone();
                if self.0.asked.try_lock().is_ok() {
                    tokio::spawn(async move { issuer.fetch_unless_just_done().await });
                }
                return Ok(generation);
            }
            _ => self.fetch_unless_just_done().await,
        }
        match self.age_and_generation() {
            (Some(age), generation) if age < stale => Ok(generation),
            _ => Err(Refusal::NoKeys),
        }
    }

    /// Asks the issuer, unless it was asked just now, by whomever. Once begun it goes on when nobody waits for it any more: clients that
    /// hang up sooner than the issuer answers would otherwise ask it again and again, and never have its keys.
    async fn fetch_unless_just_done(&self) {
        let mut asked = self.0.asked.clone().lock_owned().await;
        if asked.is_some_and(|asked| asked.elapsed() < self.0.timing.pause) {
            return;
        }
        let issuer = self.clone();
        let fetching = tokio::spawn(async move {
            issuer.fetch_and_keep().await;
            *asked = Some(Instant::now());
        });
        if let Err(error) = fetching.await {
            tracing::error!(%error, "fetching the issuer's keys was cut off");
        }
    }

    async fn fetch_and_keep(&self) {
        match self.fetch().await {
            Ok(keys) => {
                let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
                tracing::debug!(keys = keys.len(), "the issuer's keys were fetched");
                let generation = known.generation + 1;
                *known =
                    Known { keys: keys.into_iter().map(Arc::new).collect(), fetched: Some(Instant::now()), generation };
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, url = %self.0.url, "the issuer's keys could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let mut answer = self.0.client.get(self.0.url.clone()).send().await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut set = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if set.len() + chunk.len() > LARGEST_SET {
                return Err(FetchError::TooLarge);
            }
            set.extend_from_slice(&chunk);
        }
        let keys = Key::public_of_set(&set)?;
        if keys.len() > MOST_KEYS {
            return Err(FetchError::TooMany(keys.len()));
        }
        // A key without a name takes any, which is right only where it is alone.
        let alone = keys.len() == 1;
        Ok(keys.into_iter().filter(|key| alone || key.name.is_some()).collect())
    }
}
