//! What the binary says of itself: log lines on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::config::{Config, LogFormat};

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("log_filter = {filter:?} is not a level or a list of directives such as info,sqlx=warn")]
    Filter { filter: String, source: ParseError },
    #[error("log lines already go elsewhere")]
    Taken(#[from] TryInitError),
}

/// Sends log lines to standard error from here on. Called once.
///
/// # Errors
/// When the filter cannot be read, or was set up before.
pub(crate) fn init(config: &Config) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt;

    // What Postgres merely notices, such as a schema that is there already, is no news. KurrentDB's client says of each
    // failure what the log's adapter deals with or passes on. Said first, so that they can be overruled.
    let filter = &format!("sqlx::postgres::notice=warn,kurrentdb=off,{}", config.log_filter);
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: config.log_filter.clone(), source })?;
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => lines.with_ansi(terminal).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}
