//! `storefold rebuild`: read models built anew while they are read, with progress on the terminal.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use projections::Projector;
use projections::runtime::{Phase, Progress, Rebuilt, Until};
use serde_json::json;
use tokio::sync::watch;

use crate::shop::Shop;
use crate::{cli, print};

/// How often progress is told in JSON.
const TELL: Duration = Duration::from_millis(200);

/// Rebuilds read models, goes back to older ones, or makes copies, as wanted. Ctrl-C leaves readers as they were.
///
/// # Errors
/// When there is no such read model, or its rebuild fails.
pub(crate) async fn rebuild(shop: &Shop, wanted: &cli::Rebuild, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let until = wanted.until.as_deref().map(until).transpose()?;
    let context = shop.projections.clone().with_memory(wanted.memory << 20);
    for model in models(wanted.name.as_deref())? {
        if wanted.rollback {
            let live = model.roll_back(&shop.projections).await?;
            tracing::info!(read_model = model.name(), generation = live.generation, "gone back, and live");
            continue;
        }
        let told = Told { bar: bar(model.name()), name: model.name(), json: wanted.json, last: Mutex::default() };
        let progress = |progress| told.show(progress);
        let work = async {
            match (until, &wanted.keep_shadow) {
                (Some(until), Some(schema)) => {
                    check_schema(schema)?;
                    Ok(model.copy_as_of(&context, until, schema, &progress).await?)
                }
                _ => Ok::<_, anyhow::Error>(model.rebuild(&context, &progress).await?),
            }
        };
        let rebuilt = tokio::select! {
            rebuilt = work => rebuilt,
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped; readers see {} as it was", model.name())),
        };
        told.bar.finish_and_clear();
        let Rebuilt { generation, position, rows, events, took } = rebuilt?;
        let seconds = took.as_secs_f64().max(0.001);
        if wanted.json {
            let line = json!({ "read_model": model.name(), "done": { "generation": generation, "position": position,
                "schema": wanted.keep_shadow, "rows": rows, "events": events, "seconds": seconds } });
            print(&format!("{line}\n"))?;
        }
        let position = position.map_or("the beginning".to_owned(), |position| position.to_string());
        tracing::info!(
            read_model = model.name(),
            generation,
            schema = wanted.keep_shadow,
            as_of = position,
            rows,
            events,
            seconds = format!("{seconds:.2}"),
            events_per_second = (events as f64 / seconds).round(),
            "{}",
            if generation.is_some() { "rebuilt, and live" } else { "copied" }
        );
    }
    Ok(())
}

/// A position or a time.
fn until(text: &str) -> anyhow::Result<Until> {
    let position = text.parse().map(Until::Position);
    position.or_else(|_| text.parse::<DateTime<Utc>>().map(Until::Time)).map_err(|_| {
        anyhow::anyhow!("{text:?} is neither a position such as 1234/1234 nor a time such as 2026-01-31T09:00:00Z")
    })
}

/// The schema of a copy is none that storefold or Postgres uses itself.
fn check_schema(name: &str) -> anyhow::Result<()> {
    let is_word = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && name.len() <= 50;
    let is_taken = ["read", "log", "control", "process", "sandbox", "public", "information_schema"].contains(&name);
    ensure!(
        is_word && !is_taken && !name.starts_with("pg_"),
        "{name:?} is no name for a copy: it becomes a schema, so write a word of small letters, digits and _ that is not one \
         of storefold's or Postgres's own"
    );
    Ok(())
}

/// The read model with a name, or all of them.
///
/// # Errors
/// When there is none.
pub(crate) fn models(name: Option<&str>) -> anyhow::Result<Vec<Arc<dyn Projector>>> {
    match name {
        Some(name) => Ok(vec![model(name)?]),
        None => Ok(projections::read_models()),
    }
}

/// The read model with a name.
///
/// # Errors
/// When there is none.
pub(crate) fn model(name: &str) -> anyhow::Result<Arc<dyn Projector>> {
    let models = projections::read_models();
    let known = models.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
    let model = models.into_iter().find(|model| model.name() == name);
    model.with_context(|| format!("there is no read model {name:?}; there are {known}"))
}

/// Where progress is told.
struct Told {
    bar: ProgressBar,
    name: &'static str,
    json: bool,
    /// When it was told last in JSON, and of which phase.
    last: Mutex<Option<(Instant, Phase)>>,
}

impl Told {
    fn show(&self, progress: Progress) {
        show(&self.bar, progress);
        if !self.json {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(when, phase)| phase == progress.phase && when.elapsed() < TELL) {
            return;
        }
        *last = Some((Instant::now(), progress.phase));
        let Progress { phase, events, of } = progress;
        let line = json!({ "read_model": self.name, "phase": word(phase), "events": events, "of": of });
        // Who has stopped reading has seen enough; the rebuild goes on.
        let _ = print(&format!("{line}\n"));
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Folding => "folding",
        Phase::Loading => "loading",
        Phase::CatchingUp => "catching up",
        Phase::Verifying => "verifying",
        Phase::Switching => "switching",
    }
}

/// A bar for a read model, where somebody can see it.
pub(crate) fn bar(name: &'static str) -> ProgressBar {
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
    bar.set_message(word(progress.phase));
    if let Some(of) = progress.of {
        bar.set_length(of);
    }
    bar.set_position(progress.events);
}
