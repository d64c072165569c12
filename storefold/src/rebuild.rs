//! `storefold rebuild`: read models built anew while they are read, with progress on the terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use projections::Projector;
use projections::runtime::{Phase, Progress};
use tokio::sync::watch;

use crate::shop::Shop;

/// Rebuilds one read model by name, or all of them one after another. Ctrl-C leaves readers as they were.
///
/// # Errors
/// When there is no such read model, or its rebuild fails.
pub(crate) async fn rebuild(shop: &Shop, name: Option<&str>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let models = projections::read_models();
    let known = models.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<Arc<dyn Projector>> =
        models.into_iter().filter(|model| name.is_none_or(|name| model.name() == name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no read model {:?}; there are {known}", name.unwrap_or_default());
    for model in chosen {
        let bar = bar(model.name());
        let progress = |progress| show(&bar, progress);
        let rebuilt = tokio::select! {
            rebuilt = model.rebuild(&shop.projections, &progress) => rebuilt?,
            _ = stop.wait_for(|stop| *stop) => {
                bar.finish_and_clear();
                anyhow::bail!("stopped; readers see {} as it was", model.name());
            }
        };
        bar.finish_and_clear();
        let rate = rebuilt.events as f64 / rebuilt.took.as_secs_f64().max(0.001);
        tracing::info!(
            read_model = model.name(),
            generation = rebuilt.generation,
            rows = rebuilt.rows,
            events = rebuilt.events,
            seconds = format!("{:.2}", rebuilt.took.as_secs_f64()),
            events_per_second = rate.round(),
            "rebuilt, and live"
        );
    }
    Ok(())
}

fn bar(name: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length().with_prefix(name);
    let template = "{prefix}  {msg:12}  {wide_bar}  {human_pos}/{human_len} events  {per_sec}  {eta} left";
    // The template is a constant; one that did not parse would only look plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(match progress.phase {
        Phase::Folding => "folding",
        Phase::Loading => "loading",
        Phase::CatchingUp => "catching up",
        Phase::Switching => "switching",
    });
    if let Some(of) = progress.of {
        bar.set_length(of);
    }
    bar.set_position(progress.events);
}
