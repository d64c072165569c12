//! What the binary says of itself: log lines on standard error, and spans to whoever collects traces.

use std::io::{self, IsTerminal};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

/// How long spans may take to be sent, and how long the end of the process waits for the last of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose spans are collected, in detail.
const TRACED: [&str; 6] = ["storefold", "write_side", "projections", "read_api", "event_store", "access"];

/// Why there are no log lines, or no traces.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("log_filter = {filter:?} is not a level or a list of directives such as info,sqlx=warn")]
    Filter { filter: String, source: ParseError },
    #[error("log lines already go elsewhere")]
    Taken(#[from] TryInitError),
    #[error("spans cannot be sent to traces.endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("there is no client that could send spans")]
    Client(#[from] reqwest::Error),
}

/// What is still to be sent when the process ends.
#[must_use]
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends the spans that are left, for some seconds at most.
    pub(crate) async fn end(self) {
        let Some(provider) = self.0 else { return };
        // It waits for its own thread, which has this runtime send them.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(PATIENCE)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans could not be sent"),
            Err(error) => tracing::warn!(%error, "the last spans could not be sent"),
        }
    }
}

/// Sends log lines to standard error from here on, and spans to where the configuration says. Called once, within a runtime.
///
/// # Errors
/// When the filter cannot be read, or was set up before; or when nothing can be sent to that address.
pub(crate) fn init(config: &Config) -> Result<Telemetry, TelemetryError> {
    // What Postgres merely notices, such as a schema that is there already, is no news. KurrentDB's client says of each
    // failure what the log's adapter deals with or passes on. Said first, so that they can be overruled.
    let filter = &format!("sqlx::postgres::notice=warn,kurrentdb=off,{}", config.log_filter);
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: config.log_filter.clone(), source })?;
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => lines.with_ansi(terminal).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let (spans, provider) = match &config.traces_endpoint {
        None => (None, None),
        Some(endpoint) => {
            let provider = provider(endpoint, config.traces_sample)?;
            (Some(spans(&provider)), Some(provider))
        }
    };
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    if provider.is_some() {
        telemetry::collect();
    }
    Ok(Telemetry(provider))
}

/// Makes OpenTelemetry's spans of this program's, whatever of them is logged.
fn spans<S: Subscriber + for<'a> LookupSpan<'a>>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S> {
    let ours = Targets::new().with_targets(TRACED.map(|target| (target, tracing::Level::DEBUG)));
    // Log lines are log lines; a span has its own attributes.
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("storefold"));
    layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(ours)
}

/// Sends spans in batches, off the way of whoever makes them. What cannot be sent is dropped: nothing waits for a collector.
fn provider(endpoint: &str, sample: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let client = Sender { client: reqwest::Client::builder().timeout(PATIENCE).build()?, runtime: Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .build()?;
    let resource = Resource::builder().with_service_name("storefold");
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // Who calls says whether its trace is collected.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
        .with_resource(resource.with_attribute(version).build())
        .build())
}

/// The HTTP client that everything else has too, for the thread from which spans are sent.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let response = client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        });
        let (status, headers, body) = sent.await??;
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}
