//! The way to the server: connection strings, clients that are replaced when they have died, and calls that come back with
//! an answer or an error, whatever the client does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use eventstore::{Client, ClientSettings, Credentials, NodePreference};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Timing;
use super::convert::Foreign;
use crate::ReadError;

/// How often a question is asked before its failure is passed on.
const QUESTIONS: u32 = 4;

/// Why there is no log to be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be read. What it says is not repeated here, for it may contain a password.
    #[error("the connection string of the event store cannot be read: {reason}")]
    ConnectionString {
        /// What is wrong with it.
        reason: String,
    },
    /// The server does not answer.
    #[error("the event store does not answer")]
    Unreachable(#[source] ReadError),
}

/// What a connection string says: how to reach the server, and as whom.
#[derive(Clone)]
pub(super) struct Settings {
    client: ClientSettings,
    /// The client sends these as they stand in the URL, with every `@` still written as `%40`.
    credentials: Option<Credentials>,
}

impl Settings {
    /// Whether the leader is asked wherever nothing else is said.
    pub(super) fn prefer_the_leader(&self) -> bool {
        self.client.node_preference() == NodePreference::Leader
    }
}

/// Reads a connection string: `esdb:`, `esdb+discover:`, `kurrentdb:` and so on, as the server's manual describes them.
///
/// Of several hosts either all or none may have a port, and none a slash behind it, or the client would ask others; so each
/// is given the port that it would have by itself. Two settings are set where the string is silent or would not work: a client waits for the discovery interval before
/// *each* attempt to connect, the first included, which is half a second by default and is 50 ms here; and one attempt is
/// none, because that wait counts as one.
///
/// # Errors
/// [`ConnectError::ConnectionString`].
pub(super) fn settings(connection_string: &str) -> Result<Settings, ConnectError> {
    let parse = |text: &str| {
        text.parse::<ClientSettings>().map_err(|error| {
            // An error of the URL itself comes with the whole string.
            let reason = error.error().map_or_else(|| error.message().to_owned(), ToString::to_string);
            ConnectError::ConnectionString { reason }
        })
    };
    let asked = parse(connection_string)?;
    let names_interval = connection_string
        .split_once('?')
        .is_some_and(|(_, query)| query.to_lowercase().split('&').any(|pair| pair.starts_with("discoveryinterval=")));
    let mut text = with_ports(connection_string);
    let mut set = |pair: &str| {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(pair);
    };
    if !names_interval {
        set("discoveryInterval=50");
    }
    if asked.max_discover_attempts() < 2 {
        set("maxDiscoverAttempts=2");
    }
    Ok(Settings { client: parse(&text)?, credentials: credentials(connection_string)? })
}

/// A connection string in which every host has a port, and no slash stands before the options.
fn with_ports(connection_string: &str) -> String {
    let (scheme, rest) = connection_string.split_once("://").unwrap_or(("", connection_string));
    let (hosts, options) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let (user, hosts) = hosts.split_at(hosts.rfind('@').map_or(0, |at| at + 1));
    let with_port = |host: &str| match host.rsplit_once(':') {
        // The colons of an address in brackets are not before a port.
        Some((_, port)) if !port.contains(']') => host.to_owned(),
        _ => format!("{host}:{PORT}"),
    };
    let hosts: Vec<String> = hosts.trim_end_matches('/').split(',').map(with_port).collect();
    format!("{scheme}://{user}{}{options}", hosts.join(","))
}

/// The server's port where none is named.
const PORT: u16 = 2113;

/// A connection string that can be shown: checked, without its password, and with those options only that are known to be
/// no secret.
///
/// # Errors
/// [`ConnectError::ConnectionString`].
pub fn masked(connection_string: &str) -> Result<String, ConnectError> {
    settings(connection_string)?;
    let (scheme, rest) = connection_string.split_once("://").unwrap_or_default();
    let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, hosts) = hosts.rsplit_once('@').unwrap_or(("", hosts));
    let user = match user.split(':').next() {
        Some(name) if !name.is_empty() => format!("{name}:********@"),
        _ => String::new(),
    };
    let is_open = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default().to_lowercase();
        OPEN_OPTIONS.contains(&key.as_str())
    };
    let query = query.split('&').filter(is_open).collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{user}{}{mark}{query}", hosts.trim_end_matches('/')))
}

/// The options of a connection string that are no secret, in lower case.
const OPEN_OPTIONS: [&str; 13] = [
    "tls",
    "tlsverifycert",
    "tlscafile",
    "usercertfile",
    "userkeyfile",
    "nodepreference",
    "maxdiscoverattempts",
    "discoveryinterval",
    "gossiptimeout",
    "keepaliveinterval",
    "keepalivetimeout",
    "defaultdeadline",
    "connectionname",
];

/// The user and the password in a connection string, decoded.
fn credentials(connection_string: &str) -> Result<Option<Credentials>, ConnectError> {
    let hosts = connection_string.split_once("://").map_or("", |(_, rest)| rest);
    let hosts = hosts.split(['/', '?']).next().unwrap_or_default();
    let Some((user, _)) = hosts.rsplit_once('@') else { return Ok(None) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text: &str| {
        let wrong = || ConnectError::ConnectionString { reason: "its user or password is wrongly encoded".to_owned() };
        decoded(text).ok_or_else(wrong)
    };
    Ok(Some(Credentials::new(decode(name)?, decode(password)?)))
}

/// A part of a URL without its percent signs; `None` where one is followed by no number, or the whole is no text.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        (bytes, rest) = if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            (bytes, &after[2..])
        } else {
            bytes.push(byte);
            (bytes, after)
        };
    }
    String::from_utf8(bytes).ok()
}

/// Why a call to the server came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The client says so.
    #[error("the client of the event store reports an error")]
    Client(#[source] eventstore::Error),
    /// The client cannot be made: a certificate cannot be read, for example.
    #[error("the client of the event store cannot be made: {0}")]
    Unmade(String),
    /// The client met something that it holds to be impossible.
    #[error("the client of the event store panicked: {0}")]
    Panicked(String),
    /// There was no answer in time.
    #[error("the event store did not answer within {0:?}")]
    Silent(Duration),
    /// The answer cannot be used.
    #[error("the event store has something else")]
    Foreign(#[source] Foreign),
}

impl From<eventstore::Error> for Failure {
    fn from(error: eventstore::Error) -> Self {
        Self::Client(error)
    }
}

impl From<Foreign> for Failure {
    fn from(foreign: Foreign) -> Self {
        Self::Foreign(foreign)
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self(Arc::new(failure))
    }
}

impl Failure {
    /// Whether the client is to be replaced. One that was refused, or has lost the node that it had chosen, chooses no
    /// other and stays as it is; one that was told who leads is on its way there.
    pub(super) fn breaks_the_client(&self) -> bool {
        use eventstore::Error;
        match self {
            Self::Client(error) => matches!(
                error,
                Error::ServerError(_)
                    | Error::ConnectionClosed
                    | Error::GrpcConnectionError(_)
                    | Error::DeadlineExceeded
                    | Error::InternalClientError
                    | Error::InitializationError(_)
                    | Error::IllegalStateError(_)
            ),
            Self::Unmade(_) | Self::Panicked(_) | Self::Silent(_) => true,
            Self::Foreign(_) => false,
        }
    }

    /// Whether there is no hope, however long one waits.
    pub(super) fn is_final(&self) -> bool {
        use eventstore::Error;
        match self {
            Self::Client(error) => matches!(error, Error::AccessDenied | Error::UnsupportedFeature),
            Self::Unmade(_) | Self::Foreign(_) => true,
            Self::Panicked(_) | Self::Silent(_) => false,
        }
    }

    /// Whether asking again at once may lead to another answer.
    fn may_pass(&self) -> bool {
        use eventstore::Error;
        match self {
            Self::Client(error) => !matches!(
                error,
                Error::AccessDenied
                    | Error::ResourceNotFound
                    | Error::ResourceDeleted
                    | Error::ResourceAlreadyExists
                    | Error::UnsupportedFeature
            ),
            Self::Panicked(_) => true,
            // Who did not answer for so long will hardly do so now.
            Self::Unmade(_) | Self::Silent(_) | Self::Foreign(_) => false,
        }
    }
}

/// A client of the server, and another one when that has died. The client keeps one connection for everything.
pub(super) struct Connection {
    settings: Settings,
    timing: Timing,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    client: Option<Client>,
    /// Which one it is: how many were made.
    number: u64,
    made: Option<Instant>,
}

impl Connection {
    pub(super) fn new(settings: Settings, timing: Timing) -> Self {
        Self { settings, timing, current: Mutex::default() }
    }

    /// For how long an answer is waited for.
    pub(super) fn timing(&self) -> Timing {
        self.timing
    }

    /// As whom the server is asked; `None` is nobody.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.settings.credentials.clone()
    }

    /// The client, and which one it is.
    ///
    /// # Errors
    /// [`Failure::Unmade`] or [`Failure::Panicked`]. That the server is not there shows only when the client is used.
    pub(super) async fn client(&self) -> Result<(u64, Client), Failure> {
        let mut current = self.current.lock().await;
        if let Some(client) = &current.client {
            return Ok((current.number, client.clone()));
        }
        if let Some(made) = current.made {
            // A server that is away is not to be hammered at.
            tokio::time::sleep_until(made + self.timing.pause).await;
        }
        current.made = Some(Instant::now());
        let (settings, runtime) = (self.settings.client.clone(), tokio::runtime::Handle::current());
        // It reads certificates from the disk.
        let make = tokio::task::spawn_blocking(move || Client::with_runtime_handle(runtime, settings));
        let made = make.await.map_err(panicked)?;
        let client = made.map_err(|report| Failure::Unmade(format!("{report:#}")))?;
        current.number += 1;
        current.client = Some(client.clone());
        Ok((current.number, client))
    }

    /// Has this client replaced before the next use, if it is still the current one.
    pub(super) async fn replace(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number {
            current.client = None;
        }
    }

    /// Asks the server something that does no harm twice, and once more where that may help.
    ///
    /// # Errors
    /// [`Failure`], the last one.
    pub(super) async fn ask<T, Answer>(&self, question: impl Fn(Client) -> Answer + Sync) -> Result<T, Failure>
    where
        T: Send + 'static,
        Answer: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let mut asked = 0;
        loop {
            let (number, client) = self.client().await?;
            let failure = match guarded(question(client)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.breaks_the_client() {
                self.replace(number).await;
            }
            asked += 1;
            if asked == QUESTIONS || !failure.may_pass() {
                return Err(failure);
            }
            tracing::debug!(error = %Chain(&failure), "the event store was asked in vain; asking again");
            tokio::time::sleep(self.timing.pause).await;
        }
    }
}

/// Runs something of the client's in a task of its own, so that a panic in there is an error out here.
pub(super) async fn guarded<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let mut task = Task(tokio::spawn(work));
    (&mut task.0).await.map_err(panicked)?
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T, E>(time: Duration, answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Silent(time)),
    }
}

/// A task that ends when nobody waits for it any more.
pub(super) struct Task<T>(pub(super) tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a task ended that did not return.
pub(super) fn panicked(error: tokio::task::JoinError) -> Failure {
    let text = match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "without a word".to_owned()),
        Err(_) => "its task was cancelled".to_owned(),
    };
    Failure::Panicked(text)
}

/// An error with everything behind it, on one line.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        std::iter::successors(self.0.source(), |cause| cause.source()).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        settings(text).unwrap().client.hosts().iter().map(|host| format!("{}:{}", host.host, host.port)).collect()
    }

    #[test]
    fn connection_strings_name_one_host_or_several() {
        for scheme in ["esdb", "esdb+discover", "kurrentdb", "kurrentdb+discover"] {
            assert_eq!(hosts(&format!("{scheme}://node?tls=false")), ["node:2113"]);
            let settings = settings(&format!("{scheme}://node?tls=false")).unwrap().client;
            assert_eq!(settings.is_dns_discovery_enabled(), scheme.ends_with("+discover"));
            assert!(!settings.is_secure_mode_enabled());
        }
        assert_eq!(hosts("esdb://a:1,b:2,c:3"), ["a:1", "b:2", "c:3"]);
        assert_eq!(hosts("esdb://a:1,b:2?tls=true&discoveryInterval=70"), ["a:1", "b:2"]);
        assert_eq!(hosts("esdb://me:secret@a,b:2/?tls=true"), ["a:2113", "b:2"]);
        assert_eq!(hosts("esdb://a,b"), ["a:2113", "b:2113"]);
    }

    #[test]
    fn tls_is_on_unless_it_is_off_and_credentials_are_kept() {
        let settings = settings("kurrentdb://admin:p%40ss%3A%2F@node:2113").unwrap();
        assert!(settings.client.is_secure_mode_enabled());
        assert!(settings.client.is_tls_certificate_verification_enabled());
        assert_eq!(settings.credentials, Some(Credentials::new("admin".to_owned(), "p@ss:/".to_owned())));
        assert_eq!(super::settings("esdb://node").unwrap().credentials, None);
    }

    #[test]
    fn a_connection_string_is_shown_without_secrets() {
        let shown = |text: &str| masked(text).unwrap();
        assert_eq!(
            shown("esdb+discover://admin:p%40ss%3A%2F@a:1,b:2/?tls=true&tlsCaFile=/ca.pem&password=p%40ss"),
            "esdb+discover://admin:********@a:1,b:2?tls=true&tlsCaFile=/ca.pem"
        );
        assert_eq!(shown("kurrentdb://node"), "kurrentdb://node");
        assert!(masked("esdb://admin:secret@").is_err());
    }

    #[test]
    fn one_attempt_to_connect_would_be_none() {
        let once = settings("esdb://node?maxDiscoverAttempts=1").unwrap().client;
        assert_eq!((once.max_discover_attempts(), once.discovery_interval()), (2, Duration::from_millis(50)));
        let own = settings("esdb://node?maxDiscoverAttempts=7&DiscoveryInterval=70").unwrap().client;
        assert_eq!((own.max_discover_attempts(), own.discovery_interval()), (7, Duration::from_millis(70)));
    }

    #[test]
    fn a_wrong_connection_string_is_refused_without_repeating_a_password() {
        for text in ["esdb://admin:secret@", "http://admin:secret@node", "esdb://admin:secret@node:port?tls=false"] {
            let refused = settings(text).err().unwrap().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
