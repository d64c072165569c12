//! The two signals that end a process politely.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true at the first SIGTERM or SIGINT. A second one ends the process at once.
///
/// # Errors
/// When no handler can be installed.
pub(crate) fn stop() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if second {
                tracing::warn!("stopped at once; a private Postgres goes on until the next storefold stops it");
                std::process::exit(130);
            }
            tracing::info!("stopping; once more to stop at once");
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}
