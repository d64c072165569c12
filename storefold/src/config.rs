//! The configuration: read once, from everywhere it may stand, into one typed value.
//!
//! Each source overrides the one before: defaults, the file, the environment, the flags. Nothing else in the binary
//! looks at the environment.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use config::{File, FileFormat, Map, Source, Value};
use event_store::kurrentdb;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use sqlx::postgres::PgConnectOptions;

use crate::cli::{ServeFlags, SettingFlags};
use crate::data_dir;

/// The file that is read when none is named.
const FILE: &str = "storefold.toml";
/// A shorter key could be guessed from the cursors that it signs.
const SHORTEST_CURSOR_KEY: usize = 32;
/// A client needs as much for a token, and what browsers send of themselves.
const SMALLEST_HEADER_LIMIT: usize = 8 * 1024;
/// No request comes near it, and each connection may take twice as much.
const LARGEST_HEADER_LIMIT: u64 = 16 << 20;
/// The longest time that something may take: ten years, in seconds.
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60;
/// How many of something there may be at a time, and how many bytes: more than there is on any machine.
const MOST_AT_A_TIME: u64 = 1 << 24;
const MOST_BYTES: u64 = 1 << 46;
/// The one setting that is a fraction.
const FRACTION: &str = "traces.sample";
/// What a secret looks like.
const MASK: &str = "********";

/// The effective configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The server with the read models and, unless it is elsewhere, the log. `None`: a private cluster.
    pub(crate) database_url: Option<SecretString>,
    /// A replica of that server, for queries. `None`: they go to the server itself.
    pub(crate) read_database_url: Option<SecretString>,
    /// Where the log is.
    pub(crate) event_store: EventStore,
    /// Where HTTP is served.
    pub(crate) listen: SocketAddr,
    /// Whether callers need tokens.
    pub(crate) tokens: Tokens,
    /// What tokens are verified with.
    pub(crate) token: TokenSettings,
    /// What this machine keeps to itself.
    pub(crate) data_dir: PathBuf,
    /// What this process does.
    pub(crate) roles: Roles,
    /// How log lines look. `None`: text on a terminal, else JSON.
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged, as directives of `tracing_subscriber::EnvFilter`.
    pub(crate) log_filter: String,
    /// Where spans are sent, by OTLP over HTTP. `None`: nowhere.
    pub(crate) traces_endpoint: Option<String>,
    /// Of how many traces that begin here the spans are sent: none is 0, all is 1.
    pub(crate) traces_sample: f64,
    /// Where the programs of the private cluster are. `None`: they are looked for.
    pub(crate) postgres_bin_dir: Option<PathBuf>,
    /// How long requests under way may take when the process is asked to stop.
    pub(crate) drain_timeout: Duration,
    /// The largest body of a request, in bytes.
    pub(crate) body_limit: usize,
    /// What clients may take of the server.
    pub(crate) http: Http,
    /// What HTTP is encrypted with. `None`: it is not.
    pub(crate) tls: Option<TlsFiles>,
    /// How much of the aggregates is kept in memory between commands, in bytes.
    pub(crate) cache_bytes: usize,
    /// The payment gateway. `None`: the sandbox's.
    pub(crate) gateway: Option<Gateway>,
    /// How long a call to the gateway may take.
    pub(crate) gateway_timeout: Duration,
    /// How long a checkout waits.
    pub(crate) checkout: write_side::process::Limits,
    /// Whether a made-up warehouse sends whatever it is asked to send.
    pub(crate) sandbox_fulfil: bool,
    /// What the sandbox's gateway knows its users by. `None`: only this process may use it.
    pub(crate) sandbox_secret: Option<SecretString>,
    /// Whether GraphQL shows its schema. `None`: where only this machine is served.
    pub(crate) introspection: Option<bool>,
    /// A file with the documents that GraphQL answers. `None`: any.
    pub(crate) trusted_documents: Option<PathBuf>,
    cursor_key: Option<SecretString>,
    /// The window of the rate, where there is none too.
    rate_window: Duration,
    /// Where each value that is set comes from, by key.
    origins: HashMap<String, String>,
}

/// What clients may take of the server.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    /// How many connections are open at a time.
    pub(crate) connections: usize,
    /// How many of them are of one peer, unless that is a trusted proxy. `None`: half of them.
    peer_connections: Option<usize>,
    /// How long the head of a request may take, and the handshake of a connection.
    pub(crate) header_timeout: Duration,
    /// How long a connection is kept without a request.
    pub(crate) idle_timeout: Duration,
    /// How long the body of a request may take to arrive.
    pub(crate) body_timeout: Duration,
    /// How long nothing may come of a batch, and how long one is slowed down at a line.
    pub(crate) batch_timeout: Duration,
    /// How long a client may take none of what it is sent.
    pub(crate) write_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub(crate) request_timeout: Duration,
    /// The largest head of a request, in bytes.
    pub(crate) header_limit: usize,
    /// How many requests are worked on at a time, at most.
    pub(crate) in_flight: usize,
    /// How much memory the bodies of requests may take together, in bytes.
    pub(crate) body_memory: usize,
    /// How much is kept of a body, in bytes.
    pub(crate) body_limit: usize,
    /// How many requests a caller may send in a window. `None`: as many as it likes.
    pub(crate) rate: Option<Rate>,
    /// Who says from where a request comes that it passes on.
    pub(crate) trusted_proxies: List<Network>,
    /// The header in which they say it.
    pub(crate) forwarded_by: ForwardedBy,
    /// The origins whose pages may call.
    pub(crate) cors_origins: List<Origin>,
}

/// How many requests a caller may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// So many,
    pub(crate) requests: NonZeroU32,
    /// in so long: whole seconds.
    pub(crate) window: Duration,
}

/// What HTTP is encrypted with: files in PEM.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The certificate, with those that lead to a known one behind it.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// The header in which a proxy says for whom it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedBy {
    /// What most proxies write.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// A payment gateway.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Where it is.
    pub(crate) url: String,
    /// What it knows the shop by.
    pub(crate) secret: SecretString,
}

/// Whether callers need tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tokens {
    /// Whoever calls needs one.
    Required,
    /// Whoever reaches the address may do everything: for trying things out on one machine.
    None,
}

/// What tokens are verified with, and have to say.
#[derive(Debug)]
pub(crate) struct TokenSettings {
    /// What a token has to say.
    pub(crate) expected: access::Expected,
    /// A key, or a set of them.
    pub(crate) key: Option<SecretString>,
    /// A file with a key, or a set of them.
    pub(crate) key_file: Option<PathBuf>,
    /// Where an issuer publishes its keys.
    pub(crate) jwks_url: Option<String>,
}

impl TokenSettings {
    /// Whether a key is configured. Where none is, there is one in the data directory.
    pub(crate) fn names_a_key(&self) -> bool {
        self.key.is_some() || self.key_file.is_some() || self.jwks_url.is_some()
    }
}

/// Where the log is.
#[derive(Debug)]
pub(crate) enum EventStore {
    /// In the Postgres database with this URL, or `None`: beside the read models.
    Postgres(Option<SecretString>),
    /// In KurrentDB, which was EventStoreDB, with this connection string.
    Kurrent(SecretString),
    /// In memory, gone with the process: for trying things out.
    Memory,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Take commands.
    Write,
    /// Run the processes that follow from events: checkouts, and what the payment gateway is asked.
    Process,
    /// Fold the log into the read models.
    Project,
    /// Answer queries.
    Read,
}

/// The roles of a process: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roles(BTreeSet<Role>);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// An object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// The environment variables of a process.
#[derive(Debug, Default)]
pub(crate) struct Environment(HashMap<String, String>);

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration cannot be read")]
    Unreadable(#[source] config::ConfigError),
    #[error("{} has unknown settings: {}; those known are {}", .file.display(), .unknown.join(", "), known().join(", "))]
    Unknown { file: PathBuf, unknown: Vec<String> },
    #[error("a value from {origin} does not fit")]
    Invalid { origin: String, source: config::ConfigError },
    #[error("{key} is no Postgres URL (postgres://user:password@host:port/database)")]
    DatabaseUrl { key: &'static str, source: sqlx::Error },
    #[error("the URL of the log is none that KurrentDB's clients understand, such as esdb://node:2113?tls=true")]
    ConnectionString(#[source] kurrentdb::ConnectError),
    #[error(
        "the URL of the log starts with {scheme:?}; what is known is postgres://…, esdb://…, kurrentdb://… and memory:"
    )]
    UnknownEventStore { scheme: String },
    #[error(
        "listen = {listen} would let everybody on the network command the shop, as tokens = \"none\" says. Leave that out, \
         or listen on a loopback address such as 127.0.0.1:{}", .listen.port()
    )]
    NoTokens { listen: SocketAddr },
    #[error(
        "listen = {listen} can be reached from the network, and no key is configured that tokens are verified with: the one \
         in the data directory is for trying things out on one machine. Name your own with token.key, token.key_file or \
         token.jwks_url (docs/tokens.md), or listen on a loopback address such as 127.0.0.1:{}", .listen.port()
    )]
    NoTokenKey { listen: SocketAddr },
    #[error("token.leeway = {seconds} is more than {} seconds", access::MAX_LEEWAY.as_secs())]
    Leeway { seconds: u64 },
    #[error("token.jwks_url cannot be used")]
    JwksUrl(#[source] access::KeysError),
    #[error("traces.endpoint = {endpoint:?} is no URL to send spans to, such as http://127.0.0.1:4318/v1/traces")]
    TracesEndpoint { endpoint: String },
    #[error("traces.sample = {sample} is no fraction from 0 to 1")]
    TracesSample { sample: f64 },
    #[error("{key} must not be empty")]
    Empty { key: &'static str },
    #[error("cursor_key has {length} characters; it needs {SHORTEST_CURSOR_KEY}")]
    ShortCursorKey { length: usize },
    #[error("{key} must not be 0")]
    Zero { key: &'static str },
    #[error("{key} = {value} is more than {most}, the most that it can be")]
    TooMuch { key: &'static str, value: u64, most: u64 },
    #[error("{} says a fraction for {key}, which takes none", .file.display())]
    Fraction { file: PathBuf, key: String },
    #[error("http.header_limit = {bytes} is below {SMALLEST_HEADER_LIMIT}: browsers send more")]
    HeaderLimit { bytes: usize },
    #[error(
        "http.body_memory = {memory} is below body_limit = {limit}: a body that large would never find room. Raise the one, or \
         lower the other"
    )]
    BodyMemory { memory: usize, limit: usize },
    #[error("tls.certificate_file and tls.key_file go together: name both, or neither to serve HTTP in the clear")]
    HalfTls,
    #[error("gateway.url = {url:?} is no http:// or https:// URL without a query, such as https://pay.example/v1")]
    GatewayUrl { url: String },
    #[error("gateway.secret is set, but gateway.url is not: name the gateway, or leave both out to use the sandbox's")]
    GatewayWithoutUrl,
    #[error("gateway.url is set, but gateway.secret is not: the gateway has to know the shop")]
    NoGatewaySecret,
    #[error("the key for cursors cannot be kept in {}", .data_dir.display())]
    CursorKey { data_dir: PathBuf, source: std::io::Error },
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When the file is missing though it was named, has an unknown key, or a value does not fit.
    pub(crate) fn load(
        environment: &Environment,
        flags: &SettingFlags,
        serve: Option<&ServeFlags>,
    ) -> Result<Self, ConfigError> {
        let named = flags.config.clone().or_else(|| environment.get("STOREFOLD_CONFIG").map(PathBuf::from));
        let mut builder = config::Config::builder();
        for (key, value) in defaults() {
            builder = builder
                .set_default(key, Value::new(Some(&"default".to_owned()), value))
                .map_err(ConfigError::Unreadable)?;
        }
        let path = named.as_deref().unwrap_or(Path::new(FILE));
        let file = File::from(path).format(FileFormat::Toml).required(named.is_some());
        check_keys(path, &file.collect().map_err(ConfigError::Unreadable)?)?;
        builder = builder.add_source(file);
        for (key, origin, value) in environment.settings().into_iter().chain(flag_settings(flags, serve)) {
            builder = builder.set_override(key, Value::new(Some(&origin), value)).map_err(ConfigError::Unreadable)?;
        }
        let merged = builder.build().map_err(ConfigError::Unreadable)?;
        let values = merged.collect().map_err(ConfigError::Unreadable)?;
        let origin = |value: &Value| value.origin().unwrap_or_default().to_owned();
        let origins: HashMap<_, _> = flat("", &values).into_iter().map(|(key, value)| (key, origin(value))).collect();
        let raw = merged.try_deserialize().map_err(|source| invalid(source, &origins))?;
        Self::check(raw, origins)
    }

    /// The key that signs cursors: the one that is set, or one that is made once and kept in the data directory.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub(crate) fn cursor_key(&self) -> Result<SecretString, ConfigError> {
        if let Some(key) = &self.cursor_key {
            return Ok(key.clone());
        }
        data_dir::cursor_key(&self.data_dir)
            .map_err(|source| ConfigError::CursorKey { data_dir: self.data_dir.clone(), source })
    }

    /// The configuration as a file, with secrets masked and where each value comes from.
    pub(crate) fn to_toml(&self) -> String {
        let mut file = "# The effective configuration. Secrets are masked.\n".to_owned();
        for (setting, value) in SETTINGS.iter().zip(self.values()) {
            let key = setting.key;
            let _ = match value {
                Some(value) => {
                    let origin = self.origins.get(key).map_or("default", String::as_str);
                    writeln!(file, "{key} = {value} # {origin}")
                }
                None => writeln!(file, "# {key} is not set: {}", setting.unset),
            };
        }
        file
    }

    fn check(raw: Raw, origins: HashMap<String, String>) -> Result<Self, ConfigError> {
        for (key, url) in [("database_url", &raw.database_url), ("read_database_url", &raw.read_database_url)] {
            if let Some(url) = url {
                check_url(key, url)?;
            }
        }
        let token = TokenSettings::of(raw.token)?;
        if !raw.listen.ip().is_loopback() {
            let listen = raw.listen;
            match raw.tokens {
                Tokens::None => return Err(ConfigError::NoTokens { listen }),
                Tokens::Required if !token.names_a_key() => return Err(ConfigError::NoTokenKey { listen }),
                Tokens::Required => {}
            }
        }
        if let Some(key) = &raw.cursor_key {
            let length = key.expose_secret().chars().count();
            if length < SHORTEST_CURSOR_KEY {
                return Err(ConfigError::ShortCursorKey { length });
            }
        }
        for (key, value, most) in [
            ("body_limit", raw.body_limit as u64, MOST_BYTES),
            ("http.connections", raw.http.connections as u64, MOST_AT_A_TIME),
            ("http.header_timeout", raw.http.header_timeout, LONGEST),
            ("http.idle_timeout", raw.http.idle_timeout, LONGEST),
            ("http.peer_connections", raw.http.peer_connections.unwrap_or(1) as u64, MOST_AT_A_TIME),
            ("http.body_timeout", raw.http.body_timeout, LONGEST),
            ("http.batch_timeout", raw.http.batch_timeout, LONGEST),
            ("http.write_timeout", raw.http.write_timeout, LONGEST),
            ("http.request_timeout", raw.http.request_timeout, LONGEST),
            ("http.in_flight", raw.http.in_flight as u64, MOST_AT_A_TIME),
            ("http.rate_window", raw.http.rate_window, LONGEST),
            ("gateway.timeout", raw.gateway.timeout, LONGEST),
            ("checkout.payment_timeout", raw.checkout.payment_timeout, LONGEST),
            ("checkout.dispatch_timeout", raw.checkout.dispatch_timeout, LONGEST),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { key });
            }
            check_most(key, value, most)?;
        }
        for (key, value, most) in [
            ("drain_timeout", raw.drain_timeout, LONGEST),
            ("cache_bytes", raw.cache_bytes as u64, MOST_BYTES),
            ("http.header_limit", raw.http.header_limit as u64, LARGEST_HEADER_LIMIT),
            ("http.body_memory", raw.http.body_memory as u64, MOST_BYTES),
        ] {
            check_most(key, value, most)?;
        }
        let rate_window = Duration::from_secs(raw.http.rate_window);
        Ok(Self {
            event_store: EventStore::at(raw.event_store_url)?,
            database_url: raw.database_url,
            read_database_url: raw.read_database_url,
            listen: raw.listen,
            tokens: raw.tokens,
            token,
            data_dir: raw.data_dir,
            roles: raw.roles,
            log_format: raw.log_format,
            log_filter: raw.log_filter,
            traces_endpoint: raw.traces.endpoint.map(check_endpoint).transpose()?,
            traces_sample: check_sample(raw.traces.sample)?,
            postgres_bin_dir: raw.postgres_bin_dir,
            drain_timeout: Duration::from_secs(raw.drain_timeout),
            body_limit: raw.body_limit,
            http: Http::of(raw.http, raw.body_limit)?,
            tls: TlsFiles::of(raw.tls)?,
            cache_bytes: raw.cache_bytes,
            gateway_timeout: Duration::from_secs(raw.gateway.timeout),
            gateway: Gateway::at(raw.gateway)?,
            checkout: write_side::process::Limits {
                payment: Duration::from_secs(raw.checkout.payment_timeout),
                dispatch: Duration::from_secs(raw.checkout.dispatch_timeout),
            },
            sandbox_fulfil: raw.sandbox.fulfil,
            sandbox_secret: raw.sandbox.secret,
            introspection: raw.graphql.introspection,
            trusted_documents: raw.graphql.trusted_documents,
            cursor_key: raw.cursor_key,
            rate_window,
            origins,
        })
    }

    /// The values as TOML, in the order of `SETTINGS`.
    fn values(&self) -> [Option<String>; SETTINGS.len()] {
        let event_store = match &self.event_store {
            EventStore::Postgres(url) => url.as_ref().map(masked),
            EventStore::Kurrent(url) => Some(kurrentdb::masked(url.expose_secret()).unwrap_or(MASK.to_owned())),
            EventStore::Memory => Some("memory:".to_owned()),
        };
        let roles: Vec<String> = self.roles.0.iter().map(quoted).collect();
        [
            self.database_url.as_ref().map(|url| quoted(masked(url))),
            self.read_database_url.as_ref().map(|url| quoted(masked(url))),
            event_store.map(quoted),
            Some(quoted(self.listen)),
            Some(quoted(self.tokens)),
            Some(quoted(&self.token.expected.issuer)),
            Some(quoted(&self.token.expected.audience)),
            Some(self.token.expected.leeway.as_secs().to_string()),
            self.token.key.as_ref().map(|_| quoted(MASK)),
            self.token.key_file.as_ref().map(|path| quoted(path.display())),
            self.token.jwks_url.as_ref().map(quoted),
            Some(quoted(self.data_dir.display())),
            Some(format!("[{}]", roles.join(", "))),
            self.log_format.map(quoted),
            Some(quoted(&self.log_filter)),
            self.traces_endpoint.as_ref().map(quoted),
            Some(self.traces_sample.to_string()),
            self.cursor_key.as_ref().map(|_| quoted(MASK)),
            self.introspection.map(|shown| shown.to_string()),
            self.trusted_documents.as_ref().map(|path| quoted(path.display())),
            self.postgres_bin_dir.as_ref().map(|path| quoted(path.display())),
            Some(self.drain_timeout.as_secs().to_string()),
            Some(self.body_limit.to_string()),
            Some(self.cache_bytes.to_string()),
            Some(self.http.connections.to_string()),
            self.http.peer_connections.map(|connections| connections.to_string()),
            Some(self.http.header_timeout.as_secs().to_string()),
            Some(self.http.idle_timeout.as_secs().to_string()),
            Some(self.http.body_timeout.as_secs().to_string()),
            Some(self.http.batch_timeout.as_secs().to_string()),
            Some(self.http.write_timeout.as_secs().to_string()),
            Some(self.http.request_timeout.as_secs().to_string()),
            Some(self.http.header_limit.to_string()),
            Some(self.http.in_flight.to_string()),
            Some(self.http.body_memory.to_string()),
            self.http.rate.map(|rate| rate.requests.to_string()),
            Some(self.rate_window.as_secs().to_string()),
            self.http.trusted_proxies.printed(),
            Some(quoted(self.http.forwarded_by)),
            self.http.cors_origins.printed(),
            self.tls.as_ref().map(|tls| quoted(tls.certificate.display())),
            self.tls.as_ref().map(|tls| quoted(tls.key.display())),
            self.gateway.as_ref().map(|gateway| quoted(&gateway.url)),
            self.gateway.as_ref().map(|_| quoted(MASK)),
            Some(self.gateway_timeout.as_secs().to_string()),
            Some(self.checkout.payment.as_secs().to_string()),
            Some(self.checkout.dispatch.as_secs().to_string()),
            Some(self.sandbox_fulfil.to_string()),
            self.sandbox_secret.as_ref().map(|_| quoted(MASK)),
        ]
    }
}

impl TokenSettings {
    fn of(raw: RawToken) -> Result<Self, ConfigError> {
        if raw.leeway > access::MAX_LEEWAY.as_secs() {
            return Err(ConfigError::Leeway { seconds: raw.leeway });
        }
        for (key, value) in [("token.issuer", &raw.issuer), ("token.audience", &raw.audience)] {
            if value.is_empty() {
                return Err(ConfigError::Empty { key });
            }
        }
        if let Some(url) = &raw.jwks_url {
            access::Issuer::new(url, access::Timing::default()).map_err(ConfigError::JwksUrl)?;
        }
        let leeway = Duration::from_secs(raw.leeway);
        Ok(Self {
            expected: access::Expected { issuer: raw.issuer, audience: raw.audience, leeway },
            key: raw.key,
            key_file: raw.key_file,
            jwks_url: raw.jwks_url,
        })
    }
}

impl Http {
    fn of(raw: RawHttp, body_limit: usize) -> Result<Self, ConfigError> {
        if raw.header_limit < SMALLEST_HEADER_LIMIT {
            return Err(ConfigError::HeaderLimit { bytes: raw.header_limit });
        }
        if raw.body_memory < body_limit {
            return Err(ConfigError::BodyMemory { memory: raw.body_memory, limit: body_limit });
        }
        let window = Duration::from_secs(raw.rate_window);
        let rate = match raw.rate_limit.map(NonZeroU32::new) {
            None => None,
            Some(None) => return Err(ConfigError::Zero { key: "http.rate_limit" }),
            Some(Some(requests)) => Some(Rate { requests, window }),
        };
        Ok(Self {
            connections: raw.connections,
            peer_connections: raw.peer_connections,
            header_timeout: Duration::from_secs(raw.header_timeout),
            idle_timeout: Duration::from_secs(raw.idle_timeout),
            body_timeout: Duration::from_secs(raw.body_timeout),
            batch_timeout: Duration::from_secs(raw.batch_timeout),
            write_timeout: Duration::from_secs(raw.write_timeout),
            request_timeout: Duration::from_secs(raw.request_timeout),
            header_limit: raw.header_limit,
            in_flight: raw.in_flight,
            body_memory: raw.body_memory,
            body_limit,
            rate,
            trusted_proxies: raw.trusted_proxies,
            forwarded_by: raw.forwarded_by,
            cors_origins: raw.cors_origins,
        })
    }

    /// How many connections one peer may have.
    pub(crate) fn connections_per_peer(&self) -> usize {
        self.peer_connections.unwrap_or_else(|| self.connections.div_ceil(2))
    }
}

impl TlsFiles {
    fn of(raw: RawTls) -> Result<Option<Self>, ConfigError> {
        match (raw.certificate_file, raw.key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            _ => Err(ConfigError::HalfTls),
        }
    }
}

impl Gateway {
    fn at(raw: RawGateway) -> Result<Option<Self>, ConfigError> {
        let Some(url) = raw.url else {
            return if raw.secret.is_none() { Ok(None) } else { Err(ConfigError::GatewayWithoutUrl) };
        };
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['?', '#', '@'])) {
            // What stands before an @ may be a password.
            let url = url.split('@').next_back().unwrap_or_default().to_owned();
            return Err(ConfigError::GatewayUrl { url });
        }
        let secret = raw.secret.ok_or(ConfigError::NoGatewaySecret)?;
        Ok(Some(Self { url, secret }))
    }
}

impl EventStore {
    /// The log with this URL. None, as `postgres:` alone, is the one beside the read models.
    ///
    /// # Errors
    /// When it is no URL of a log.
    pub(crate) fn at(url: Option<SecretString>) -> Result<Self, ConfigError> {
        let Some(url) = url.filter(|url| url.expose_secret() != "postgres:") else { return Ok(Self::Postgres(None)) };
        let scheme = url.expose_secret().split(':').next().unwrap_or_default().to_owned();
        match scheme.as_str() {
            "postgres" | "postgresql" => {
                check_url("event_store_url", &url)?;
                Ok(Self::Postgres(Some(url)))
            }
            "memory" => Ok(Self::Memory),
            "esdb" | "esdb+discover" | "kurrentdb" | "kurrentdb+discover" => {
                kurrentdb::masked(url.expose_secret()).map_err(ConfigError::ConnectionString)?;
                Ok(Self::Kurrent(url))
            }
            _ => Err(ConfigError::UnknownEventStore { scheme }),
        }
    }
}

impl Roles {
    /// Whether a role is among them.
    pub(crate) fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Process => "process",
            Self::Project => "project",
            Self::Read => "read",
        })
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::None => "none",
        })
    }
}

impl fmt::Display for ForwardedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

impl Environment {
    /// That of this process. A variable that is not Unicode is none of ours.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(crate) fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable. An empty one is not set.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The settings among the variables, as key, origin and value. Others that begin with `STOREFOLD_` may be there:
    /// Kubernetes sets STOREFOLD_PORT and its like for a service of our name.
    fn settings(&self) -> Vec<(&'static str, String, String)> {
        let setting = |setting: &Setting| {
            let own = format!("STOREFOLD_{}", setting.key.to_uppercase().replace('.', "_"));
            let plain = setting.plain_variable.then(|| setting.key.to_uppercase());
            [Some(own), plain].into_iter().flatten().find_map(|name| {
                let value = self.get(&name)?.to_owned();
                Some((setting.key, format!("environment {name}"), value))
            })
        };
        SETTINGS.iter().filter_map(setting).collect()
    }
}

/// A setting that can be made.
struct Setting {
    /// Its name in the file; what stands before a `.` is the table it is in. In the environment it is `STOREFOLD_` and the
    /// name in capitals, with `_` for `.`.
    key: &'static str,
    /// Whether it is known in the environment without the prefix too.
    plain_variable: bool,
    /// What it means when it is not set.
    unset: &'static str,
}

impl Setting {
    const fn new(key: &'static str) -> Self {
        Self { key, plain_variable: false, unset: "" }
    }

    const fn unset(self, unset: &'static str) -> Self {
        Self { unset, ..self }
    }

    const fn or_plain_variable(self) -> Self {
        Self { plain_variable: true, ..self }
    }
}

/// Every setting, in the order in which they are printed.
const SETTINGS: [Setting; 49] = [
    Setting::new("database_url").unset("a private Postgres in the data directory").or_plain_variable(),
    Setting::new("read_database_url").unset("queries go to the database itself").or_plain_variable(),
    Setting::new("event_store_url").unset("the log is in the database").or_plain_variable(),
    Setting::new("listen"),
    Setting::new("tokens"),
    Setting::new("token.issuer"),
    Setting::new("token.audience"),
    // Seconds.
    Setting::new("token.leeway"),
    Setting::new("token.key").unset("one is made once and kept in the data directory, unless another is named below"),
    Setting::new("token.key_file").unset("no key is in a file"),
    Setting::new("token.jwks_url").unset("no issuer publishes keys"),
    Setting::new("data_dir"),
    Setting::new("roles"),
    Setting::new("log_format").unset("text on a terminal, else json"),
    Setting::new("log_filter"),
    Setting::new("traces.endpoint").unset("traces are not collected"),
    Setting::new("traces.sample"),
    Setting::new("cursor_key").unset("made once and kept in the data directory"),
    Setting::new("graphql.introspection").unset("the schema is shown where only this machine is served"),
    Setting::new("graphql.trusted_documents").unset("any document is answered that keeps within the limits"),
    Setting::new("postgres_bin_dir").unset("looked for in the usual places"),
    // Seconds.
    Setting::new("drain_timeout"),
    // Bytes.
    Setting::new("body_limit"),
    Setting::new("cache_bytes"),
    Setting::new("http.connections"),
    Setting::new("http.peer_connections").unset("half of http.connections"),
    // Seconds, as the next five.
    Setting::new("http.header_timeout"),
    Setting::new("http.idle_timeout"),
    Setting::new("http.body_timeout"),
    Setting::new("http.batch_timeout"),
    Setting::new("http.write_timeout"),
    Setting::new("http.request_timeout"),
    // Bytes.
    Setting::new("http.header_limit"),
    Setting::new("http.in_flight"),
    // Bytes.
    Setting::new("http.body_memory"),
    Setting::new("http.rate_limit").unset("a caller may send as many requests as it likes"),
    // Seconds.
    Setting::new("http.rate_window"),
    Setting::new("http.trusted_proxies").unset("a request comes from whoever is connected"),
    Setting::new("http.forwarded_by"),
    Setting::new("http.cors_origins").unset("pages of other origins may not call"),
    Setting::new("tls.certificate_file").unset("HTTP is served in the clear"),
    Setting::new("tls.key_file").unset("HTTP is served in the clear"),
    Setting::new("gateway.url").unset("the sandbox's own gateway, which charges nobody"),
    Setting::new("gateway.secret").unset("the sandbox needs none"),
    // Seconds, as the next two.
    Setting::new("gateway.timeout"),
    Setting::new("checkout.payment_timeout"),
    Setting::new("checkout.dispatch_timeout"),
    Setting::new("sandbox.fulfil"),
    Setting::new("sandbox.secret").unset("nobody else can use the sandbox's gateway"),
];

/// The configuration as it stands in its sources.
#[derive(serde::Deserialize)]
struct Raw {
    database_url: Option<SecretString>,
    read_database_url: Option<SecretString>,
    event_store_url: Option<SecretString>,
    listen: SocketAddr,
    tokens: Tokens,
    token: RawToken,
    data_dir: PathBuf,
    roles: Roles,
    log_format: Option<LogFormat>,
    log_filter: String,
    traces: RawTraces,
    cursor_key: Option<SecretString>,
    #[serde(default)]
    graphql: RawGraphQl,
    postgres_bin_dir: Option<PathBuf>,
    drain_timeout: u64,
    body_limit: usize,
    cache_bytes: usize,
    http: RawHttp,
    #[serde(default)]
    tls: RawTls,
    gateway: RawGateway,
    checkout: RawCheckout,
    sandbox: RawSandbox,
}

#[derive(Default, serde::Deserialize)]
struct RawGraphQl {
    introspection: Option<bool>,
    trusted_documents: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
struct RawTraces {
    endpoint: Option<String>,
    sample: f64,
}

#[derive(serde::Deserialize)]
struct RawToken {
    issuer: String,
    audience: String,
    leeway: u64,
    key: Option<SecretString>,
    key_file: Option<PathBuf>,
    jwks_url: Option<String>,
}

#[derive(serde::Deserialize)]
struct RawHttp {
    connections: usize,
    peer_connections: Option<usize>,
    header_timeout: u64,
    idle_timeout: u64,
    body_timeout: u64,
    batch_timeout: u64,
    write_timeout: u64,
    request_timeout: u64,
    header_limit: usize,
    in_flight: usize,
    body_memory: usize,
    rate_limit: Option<u32>,
    rate_window: u64,
    #[serde(default)]
    trusted_proxies: List<Network>,
    forwarded_by: ForwardedBy,
    #[serde(default)]
    cors_origins: List<Origin>,
}

#[derive(Default, serde::Deserialize)]
struct RawTls {
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
struct RawGateway {
    url: Option<String>,
    secret: Option<SecretString>,
    timeout: u64,
}

#[derive(serde::Deserialize)]
struct RawCheckout {
    payment_timeout: u64,
    dispatch_timeout: u64,
}

#[derive(serde::Deserialize)]
struct RawSandbox {
    fulfil: bool,
    secret: Option<SecretString>,
}

fn defaults() -> [(&'static str, &'static str); 28] {
    [
        ("listen", "127.0.0.1:8080"),
        ("tokens", "required"),
        ("token.issuer", "storefold"),
        ("token.audience", "storefold"),
        ("token.leeway", "30"),
        ("data_dir", ".storefold"),
        ("roles", "write,process,project,read"),
        ("log_filter", "info"),
        ("traces.sample", "1"),
        ("drain_timeout", "30"),
        ("body_limit", "1048576"),
        ("cache_bytes", "33554432"),
        ("http.connections", "10000"),
        ("http.header_timeout", "10"),
        ("http.idle_timeout", "75"),
        ("http.body_timeout", "30"),
        ("http.batch_timeout", "60"),
        ("http.write_timeout", "30"),
        ("http.request_timeout", "60"),
        ("http.header_limit", "65536"),
        ("http.in_flight", "2048"),
        ("http.body_memory", "67108864"),
        ("http.rate_window", "60"),
        ("http.forwarded_by", "x-forwarded-for"),
        ("gateway.timeout", "10"),
        ("checkout.payment_timeout", "900"),
        ("checkout.dispatch_timeout", "604800"),
        ("sandbox.fulfil", "false"),
    ]
}

/// The settings among the flags, as key, origin and value.
fn flag_settings(flags: &SettingFlags, serve: Option<&ServeFlags>) -> Vec<(&'static str, String, String)> {
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let roles = |roles: &Vec<Role>| roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",");
    let given = [
        ("database_url", "--database-url", flags.database_url.clone()),
        ("event_store_url", "--event-store-url", flags.event_store_url.clone()),
        ("data_dir", "--data-dir", flags.data_dir.as_ref().map(path)),
        ("log_format", "--log-format", flags.log_format.map(|format| format.to_string())),
        ("log_filter", "--log", flags.log_filter.clone()),
        ("listen", "--listen", serve.and_then(|serve| serve.listen).map(|listen| listen.to_string())),
        ("tokens", "--tokens", serve.and_then(|serve| serve.tokens).map(|tokens| tokens.to_string())),
        ("roles", "--roles", serve.and_then(|serve| serve.roles.as_ref()).map(roles)),
        (
            "graphql.introspection",
            "--introspection",
            serve.and_then(|serve| serve.introspection).map(|shown| shown.to_string()),
        ),
        ("graphql.trusted_documents", "--trusted-only", serve.and_then(|serve| serve.trusted_only.as_ref()).map(path)),
        // A made-up shop without a warehouse would never send anything.
        ("sandbox.fulfil", "--demo", serve.filter(|serve| serve.demo).map(|_| "true".to_owned())),
        ("sandbox.fulfil", "--fulfil", serve.filter(|serve| serve.fulfil).map(|_| "true".to_owned())),
    ];
    given.into_iter().filter_map(|(key, flag, value)| Some((key, format!("flag {flag}"), value?))).collect()
}

fn known() -> Vec<&'static str> {
    SETTINGS.iter().map(|setting| setting.key).collect()
}

fn check_keys(file: &Path, values: &Map<String, Value>) -> Result<(), ConfigError> {
    let (known, values) = (known(), flat("", values));
    // Elsewhere they are texts, which are read as what is wanted.
    let is_fraction = |value: &Value| matches!(value.kind, config::ValueKind::Float(_));
    let fraction = values.iter().find(|(key, value)| is_fraction(value) && key != FRACTION);
    if let Some((key, _)) = fraction {
        return Err(ConfigError::Fraction { file: file.to_owned(), key: key.clone() });
    }
    let keys = values.into_iter().map(|(key, _)| key);
    let mut unknown: Vec<String> = keys.filter(|key| !known.contains(&key.as_str())).collect();
    unknown.sort();
    if unknown.is_empty() { Ok(()) } else { Err(ConfigError::Unknown { file: file.to_owned(), unknown }) }
}

fn check_most(key: &'static str, value: u64, most: u64) -> Result<(), ConfigError> {
    if value <= most { Ok(()) } else { Err(ConfigError::TooMuch { key, value, most }) }
}

/// The values by their whole names, with the tables that they are in.
fn flat<'a>(prefix: &str, values: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let named = |(key, value): (&'a String, &'a Value)| {
        let key = format!("{prefix}{key}");
        match &value.kind {
            config::ValueKind::Table(table) => flat(&format!("{key}."), table),
            _ => vec![(key, value)],
        }
    };
    values.iter().flat_map(named).collect()
}

/// The URL of a collector.
fn check_endpoint(endpoint: String) -> Result<String, ConfigError> {
    let is_http = reqwest::Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_http { Ok(endpoint) } else { Err(ConfigError::TracesEndpoint { endpoint }) }
}

/// A fraction.
fn check_sample(sample: f64) -> Result<f64, ConfigError> {
    if (0.0..=1.0).contains(&sample) { Ok(sample) } else { Err(ConfigError::TracesSample { sample }) }
}

fn check_url(key: &'static str, url: &SecretString) -> Result<(), ConfigError> {
    // sqlx would take any scheme for Postgres's.
    let scheme = url.expose_secret().split_once("://").map(|(scheme, _)| scheme);
    let parsed = match scheme {
        Some("postgres" | "postgresql") => url.expose_secret().parse::<PgConnectOptions>().map(drop),
        _ => Err(sqlx::Error::Configuration("it starts with another scheme than postgres://".into())),
    };
    parsed.map_err(|source| ConfigError::DatabaseUrl { key, source })
}

/// A Postgres URL without its secrets. Put together from what is known to be none, so that nothing slips through.
fn masked(url: &SecretString) -> String {
    let Ok(options) = url.expose_secret().parse::<PgConnectOptions>() else { return MASK.to_owned() };
    let database = options.get_database().unwrap_or(options.get_username());
    let user = options.get_username();
    match options.get_socket() {
        Some(socket) => format!("postgres://{user}:{MASK}@localhost/{database}?host={}", socket.display()),
        None => format!("postgres://{user}:{MASK}@{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// A TOML string. What JSON escapes, TOML does in the same way.
fn quoted(value: impl fmt::Display) -> String {
    serde_json::Value::String(value.to_string()).to_string()
}

/// The error of a value, which names its key, with the place where it stands.
fn invalid(source: config::ConfigError, origins: &HashMap<String, String>) -> ConfigError {
    use config::ConfigError::{At, Type};

    let key = match &source {
        At { key: Some(key), .. } | Type { key: Some(key), .. } => key.split('[').next().unwrap_or_default(),
        _ => "",
    };
    let origin = origins.get(key).map_or("the configuration", String::as_str).to_owned();
    ConfigError::Invalid { origin, source }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer)
    }
}

impl<'de> Deserialize<'de> for ForwardedBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer)
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer)
    }
}

/// A value by the name that it has on the command line.
fn one_of<'de, T: ValueEnum, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let name = String::deserialize(deserializer)?;
    T::from_str(&name, false).map_err(|_| {
        let names: Vec<_> = T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        de::Error::custom(format_args!("{name:?} is none of {}", names.join(", ")))
    })
}

/// Whose roles there are at least one.
impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let roles: BTreeSet<Role> = listed(deserializer, |name: String| Role::deserialize(name.into_deserializer()))?;
        if roles.is_empty() { Err(de::Error::custom("a process needs a role")) } else { Ok(Self(roles)) }
    }
}

/// Several values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: fmt::Display> List<T> {
    /// As it stands in a file, if there is anything in it.
    fn printed(&self) -> Option<String> {
        let values: Vec<String> = self.0.iter().map(quoted).collect();
        (!values.is_empty()).then(|| format!("[{}]", values.join(", ")))
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        listed(deserializer, |value: String| value.parse().map_err(de::Error::custom)).map(Self)
    }
}

/// A list, or names with commas between them, as the environment has it.
fn listed<'de, T, L: FromIterator<T>, D: Deserializer<'de>>(
    deserializer: D,
    read: impl Fn(String) -> Result<T, D::Error>,
) -> Result<L, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_str<E: de::Error>(self, names: &str) -> Result<Self::Value, E> {
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            Ok(names.map(ToOwned::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(name) = names.next_element()? {
                all.push(name);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Names)?.into_iter().map(read).collect()
}

/// Some addresses: one, or a network of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network(IpNet);

impl Network {
    /// Whether an address is among them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse::<IpNet>().or_else(|_| one());
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is no address such as 10.0.0.7, and no network such as 10.0.0.0/8"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The origin of a page, as browsers write it: scheme, host, and a port that is not the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) axum::http::HeaderValue);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no origin such as https://shop.example: a scheme and a host, without a path");
        let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
        let usual = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return Err(wrong()),
        };
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(fits) || host.ends_with(usual) {
            return Err(wrong());
        }
        axum::http::HeaderValue::from_str(text).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    /// Loads a configuration from a file's text, variables and flags.
    fn load(file: &str, variables: &[(&str, &str)], mut flags: SettingFlags) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.toml");
        fs::write(&path, file).unwrap();
        flags.config = Some(path);
        Config::load(&environment(variables), &flags, None)
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// An error and what caused it, as they are shown.
    fn told(result: Result<Config, ConfigError>) -> String {
        let error = result.err().unwrap();
        let (mut told, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            told.push_str(&format!(": {error}"));
            cause = error.source();
        }
        told
    }

    fn level(filter: &str) -> SettingFlags {
        SettingFlags { log_filter: Some(filter.to_owned()), ..SettingFlags::default() }
    }

    #[test]
    fn with_nothing_said_the_defaults_hold() {
        let config = Config::load(&Environment::default(), &SettingFlags::default(), None).unwrap();
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.data_dir, Path::new(".storefold"));
        assert_eq!(config.roles, Roles([Role::Write, Role::Process, Role::Project, Role::Read].into()));
        assert_eq!((config.drain_timeout, config.body_limit), (Duration::from_secs(30), 1 << 20));
        assert_eq!(config.cache_bytes, write_side::execute::ROOM);
        assert!(config.database_url.is_none() && config.log_format.is_none());
        assert!(matches!(config.event_store, EventStore::Postgres(None)));
    }

    #[test]
    fn each_source_overrides_the_one_before() {
        let (file, variable) = ("log_filter = 'warn'", [("STOREFOLD_LOG_FILTER", "debug")]);
        let filter = |config: Result<Config, ConfigError>| config.unwrap().log_filter;
        assert_eq!(filter(load("", &[], SettingFlags::default())), "info");
        assert_eq!(filter(load(file, &[], SettingFlags::default())), "warn");
        assert_eq!(filter(load(file, &variable, SettingFlags::default())), "debug");
        assert_eq!(filter(load(file, &variable, level("trace"))), "trace");
    }

    #[test]
    fn the_flags_of_serve_count_too() {
        let serve =
            ServeFlags { roles: Some(vec![Role::Read]), listen: "[::1]:80".parse().ok(), ..ServeFlags::default() };
        let environment = environment(&[("STOREFOLD_ROLES", "write, project"), ("STOREFOLD_LISTEN", "127.0.0.1:1")]);
        let config = Config::load(&environment, &SettingFlags::default(), Some(&serve)).unwrap();
        assert_eq!((config.roles, config.listen), (Roles([Role::Read].into()), "[::1]:80".parse().unwrap()));
        let config = Config::load(&environment, &SettingFlags::default(), None).unwrap();
        assert!(config.roles.contains(Role::Project) && !config.roles.contains(Role::Read));
    }

    #[test]
    fn the_plain_variables_give_way_to_our_own() {
        let plain = ("DATABASE_URL", "postgres://plain/shop");
        let own = ("STOREFOLD_DATABASE_URL", "postgres://own/shop");
        for (variables, host) in [(vec![plain], "plain"), (vec![plain, own], "own")] {
            let config = load("", &variables, SettingFlags::default()).unwrap();
            assert!(masked(&config.database_url.unwrap()).contains(host));
        }
    }

    #[test]
    fn empty_and_unknown_variables_are_as_good_as_none() {
        let variables = [("DATABASE_URL", ""), ("STOREFOLD_PORT", "tcp://10.0.0.1:8080")];
        assert!(load("", &variables, SettingFlags::default()).unwrap().database_url.is_none());
    }

    #[test]
    fn roles_stand_in_the_file_as_a_list() {
        let config = load("roles = ['read', 'write']", &[], SettingFlags::default()).unwrap();
        assert_eq!(config.roles, Roles([Role::Write, Role::Read].into()));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let file = |text: &str| told(load(text, &[], SettingFlags::default()));
        for (error, parts) in [
            (file("lisen = 'x'\nlistem = 'y'"), &["shop.toml", "lisen, listem", "drain_timeout"][..]),
            (file("body_limit = 'much'"), &["shop.toml", "body_limit", "much"]),
            (file("roles = ['reed']"), &["shop.toml", "roles", "reed", "write, process, project, read"]),
            (file("roles = []"), &["roles", "a process needs a role"]),
            (file("listen = 'here'"), &["shop.toml", "listen"]),
            (file("listen = "), &["shop.toml"]),
            (file("body_limit = 0"), &["body_limit must not be 0"]),
            (
                file("body_limit = 70000\nhttp.body_memory = 69999"),
                &["http.body_memory = 69999", "body_limit = 70000", "Raise the one"],
            ),
            (file("drain_timeout = 1.5"), &["shop.toml", "fraction", "drain_timeout"]),
            (file("checkout.dispatch_timeout = 9000000000"), &["dispatch_timeout = 9000000000 is more than 315360000"]),
            (file(&format!("cache_bytes = {}", i64::MAX)), &["cache_bytes", "the most that it can be"]),
            (
                told(load("", &[("STOREFOLD_LOG_FORMAT", "xml")], SettingFlags::default())),
                &["environment STOREFOLD_LOG_FORMAT", "log_format", "xml", "json, text"],
            ),
        ] {
            parts.iter().for_each(|part| assert!(error.contains(part), "no {part:?} in {error:?}"));
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let flags = SettingFlags { config: Some("/nowhere/shop.toml".into()), ..SettingFlags::default() };
        assert!(told(Config::load(&Environment::default(), &flags, None)).contains("/nowhere/shop.toml"));
        let environment = environment(&[("STOREFOLD_CONFIG", "/nowhere/too.toml")]);
        assert!(told(Config::load(&environment, &SettingFlags::default(), None)).contains("/nowhere/too.toml"));
    }

    #[test]
    fn the_network_is_listened_to_with_a_key_of_ones_own_alone() {
        let load = |more: &str| load(&format!("{more}\nlisten = '0.0.0.0:8080'"), &[], SettingFlags::default());
        let error = told(load(""));
        assert!(error.contains("token.key_file") && error.contains("127.0.0.1:8080"), "{error}");
        let key = "'https://issuer.example/keys.json'";
        let with_a_key = |more: &str| load(&format!("{more}\ntoken.jwks_url = {key}"));
        assert!(with_a_key("").is_ok());
        let error = told(with_a_key("tokens = 'none'"));
        assert!(error.contains("tokens = \"none\""), "{error}");
        for listen in ["127.0.0.2:8080", "[::1]:8080"] {
            let file = format!("listen = '{listen}'\ntokens = 'none'");
            assert!(super::tests::load(&file, &[], SettingFlags::default()).is_ok(), "{listen}");
        }
    }

    #[test]
    fn what_tokens_are_to_say_is_checked() {
        let file = |text: &str| told(load(text, &[], SettingFlags::default()));
        for (error, parts) in [
            (file("token.leeway = 61"), &["token.leeway = 61", "60 seconds"][..]),
            (file("token.issuer = ''"), &["token.issuer must not be empty"]),
            (file("token.jwks_url = 'http://issuer.example/keys'"), &["token.jwks_url", "https://"]),
            (file("tokens = 'some'"), &["shop.toml", "tokens", "required, none"]),
        ] {
            parts.iter().for_each(|part| assert!(error.contains(part), "no {part:?} in {error:?}"));
        }
        let serve = ServeFlags { tokens: Some(Tokens::None), ..ServeFlags::default() };
        let config = Config::load(&Environment::default(), &SettingFlags::default(), Some(&serve)).unwrap();
        assert_eq!(config.tokens, Tokens::None);
    }

    #[test]
    fn what_clients_may_take_is_checked() {
        let file = |text: &str| told(load(text, &[], SettingFlags::default()));
        for (error, parts) in [
            (file("http.connections = 0"), &["http.connections must not be 0"][..]),
            (file("http.rate_limit = 0"), &["http.rate_limit must not be 0"]),
            (file("http.peer_connections = 0"), &["http.peer_connections must not be 0"]),
            (file("http.connections = 20000000"), &["http.connections = 20000000 is more than 16777216"]),
            (file("http.header_limit = 100"), &["http.header_limit = 100", "8192"]),
            (file("http.trusted_proxies = ['10.0.0.0/33']"), &["10.0.0.0/33", "10.0.0.0/8"]),
            (file("http.forwarded_by = 'via'"), &["via", "x-forwarded-for, forwarded"]),
            (file("http.cors_origins = ['https://shop.example/']"), &["https://shop.example/", "without a path"]),
            (file("http.cors_origins = ['*']"), &["http.cors_origins", "*"]),
            (file("tls.key_file = 'key.pem'"), &["tls.certificate_file", "both"]),
        ] {
            parts.iter().for_each(|part| assert!(error.contains(part), "no {part:?} in {error:?}"));
        }
        let variables = [
            ("STOREFOLD_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("STOREFOLD_HTTP_CORS_ORIGINS", "https://a.example,http://b.example:8080"),
            ("STOREFOLD_HTTP_RATE_LIMIT", "50"),
        ];
        let config = load("", &variables, SettingFlags::default()).unwrap();
        let trusted = |address: &str| {
            let address = address.parse().unwrap();
            config.http.trusted_proxies.0.iter().any(|network| network.contains(address))
        };
        assert!(trusted("10.1.2.3") && trusted("::1") && !trusted("11.0.0.1") && !trusted("::2"));
        let window = Duration::from_secs(60);
        assert_eq!(config.http.rate, NonZeroU32::new(50).map(|requests| Rate { requests, window }));
        let printed = config.to_toml();
        let origins = "http.cors_origins = [\"https://a.example\", \"http://b.example:8080\"] # environment";
        assert!(printed.contains(origins), "{printed}");
    }

    #[test]
    fn what_graphql_shows_and_answers_comes_from_every_source() {
        let shown = |file: &str, variables: &[(&str, &str)], flag: Option<bool>| {
            let serve =
                ServeFlags { introspection: flag, trusted_only: Some("b.json".into()), ..ServeFlags::default() };
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("shop.toml");
            fs::write(&path, file).unwrap();
            let flags = SettingFlags { config: Some(path), ..SettingFlags::default() };
            let config = Config::load(&environment(variables), &flags, Some(&serve)).unwrap();
            assert_eq!(config.trusted_documents.as_deref(), Some(Path::new("b.json")));
            config.introspection
        };
        let file = "graphql.introspection = true\ngraphql.trusted_documents = 'a.json'";
        let variable = [("STOREFOLD_GRAPHQL_INTROSPECTION", "false")];
        assert_eq!(shown("", &[], None), None);
        assert_eq!(shown(file, &[], None), Some(true));
        assert_eq!(shown(file, &variable, None), Some(false));
        assert_eq!(shown(file, &variable, Some(true)), Some(true));
        let error = told(load("graphql.introspection = 'perhaps'", &[], SettingFlags::default()));
        assert!(error.contains("graphql.introspection") && error.contains("perhaps"), "{error}");
    }

    #[test]
    fn the_event_store_is_told_by_its_scheme() {
        let at = |url: &str| load("", &[("EVENT_STORE_URL", url)], SettingFlags::default());
        assert!(matches!(at("memory:").unwrap().event_store, EventStore::Memory));
        assert!(matches!(at("postgres://db/log").unwrap().event_store, EventStore::Postgres(Some(_))));
        for url in ["esdb+discover://cluster:2113", "kurrentdb://admin:changeit@a:2113,b:2113?tls=true"] {
            assert!(matches!(at(url).unwrap().event_store, EventStore::Kurrent(_)));
        }
        let wrong = told(at("esdb://admin:hunter2@cluster:port"));
        assert!(wrong.contains("KurrentDB") && !wrong.contains("hunter2"), "{wrong}");
        assert!(told(at("mysql://db/log")).contains("\"mysql\""));
    }

    #[test]
    fn no_secret_is_printed() {
        let secrets = "cursor_key = 'hunter2-hunter2-hunter2-hunter2-hunter2'
            token.key = 'hunter2'
            database_url = 'postgres://shop:hunter2@db:6432/orders?password=hunter2'
            read_database_url = 'postgres://shop:hunter2@replica:6432/orders?password=hunter2'
            event_store_url = 'postgres://shop:hunter2%2Fhunter2@log/log'";
        let config = load(secrets, &[], SettingFlags::default()).unwrap();
        let printed = format!("{}{config:?}", config.to_toml());
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("\"postgres://shop:********@db:6432/orders\""), "{printed}");
        assert!(printed.contains("\"postgres://shop:********@replica:6432/orders\""), "{printed}");
        for url in ["postgres://shop:hunter2@db:port/orders", "hunter2"] {
            let error = told(load("", &[("DATABASE_URL", url)], SettingFlags::default()));
            assert!(error.contains("database_url") && !error.contains("hunter2"), "{error}");
        }
        let error = told(load("cursor_key = 'hunter2'", &[], SettingFlags::default()));
        assert!(error.contains("7 characters") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_printed_says_where_it_comes_from() {
        let printed = load("body_limit = 5", &[("STOREFOLD_DRAIN_TIMEOUT", "7")], level("warn")).unwrap().to_toml();
        for line in [
            "# database_url is not set: a private Postgres in the data directory\n",
            "listen = \"127.0.0.1:8080\" # default\n",
            "roles = [\"write\", \"process\", \"project\", \"read\"] # default\n",
            "drain_timeout = 7 # environment STOREFOLD_DRAIN_TIMEOUT\n",
            "log_filter = \"warn\" # flag --log\n",
        ] {
            assert!(printed.contains(line), "no {line:?} in {printed}");
        }
        let limit = printed.lines().find(|line| line.starts_with("body_limit = 5 # ")).unwrap();
        assert!(limit.ends_with("shop.toml"), "{limit}");
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let printed = load("data_dir = 'a \"b\" \\ c'", &[], SettingFlags::default()).unwrap().to_toml();
        let again = load(&printed, &[], SettingFlags::default()).unwrap();
        assert_eq!(again.data_dir, Path::new("a \"b\" \\ c"));
    }

    #[test]
    fn a_cursor_key_that_is_set_is_used() {
        let key = "0123456789abcdef0123456789abcdef";
        let config = load(&format!("cursor_key = '{key}'"), &[], SettingFlags::default()).unwrap();
        assert_eq!(config.cursor_key().unwrap().expose_secret(), key);
    }
}
