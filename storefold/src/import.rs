//! Importing a trading history: one JSON object a line, through the same path as commands over HTTP.
//!
//! Every command's id follows from its line, so that an import can be stopped and run again at any time: what was done
//! is recognised, what was not is done. The form of a line is described in `docs/import.md`.

mod line;
mod lines;
mod remote;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use event_store::Position;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::sync::{OnceCell, RwLock};
use uuid::Uuid;
use write_side::endpoint::Aggregate;
use write_side::process::{self, Rest};
use write_side::{Envelope, Executor, Registry};

use crate::shop::Shop;
pub(crate) use line::Orders;
use line::{Occurrences, Step};
pub(crate) use remote::Remote;
use remote::Told;

/// How an import goes about it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The name of where the lines come from. The same line of another source is another command.
    pub(crate) source: String,
    /// How many lines are under way at a time.
    pub(crate) in_flight: usize,
    /// Whether the first fault ends the import.
    pub(crate) strict: bool,
    /// Whether to draw a progress bar, on a terminal.
    pub(crate) progress: bool,
    /// What an order becomes.
    pub(crate) orders: Orders,
}

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Lines read, without empty ones.
    pub(crate) lines: u64,
    /// How many commands were done in a shop elsewhere, now or in an earlier run; `None` where it was done here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commands: Option<u64>,
    /// Lines all of whose commands are done, now or in an earlier run.
    pub(crate) done: u64,
    /// Lines that were skipped, and why; the first hundred.
    pub(crate) faults: Vec<Fault>,
    /// How many lines were skipped.
    pub(crate) faulty: u64,
    /// How long the commands took, in seconds.
    pub(crate) seconds: f64,
    /// How long the read models took after that to catch up, in seconds.
    pub(crate) fold_seconds: f64,
    /// Why it was not waited for the read models of a shop elsewhere; `None` where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unfolded: Option<String>,
    /// Up to where the log has to be folded to see all of it; `None` when nothing was done.
    pub(crate) position: Option<Position>,
    /// What became of the orders that were placed; `None` where none were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkouts: Option<Checkouts>,
    /// The orders that were placed, now or in an earlier run.
    #[serde(skip)]
    pub(crate) placed: Vec<String>,
}

/// What became of the checkouts of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Checkouts {
    /// How long it took after the last command until none had anything left to do, in seconds.
    pub(crate) seconds: f64,
    /// How many wait for a warehouse to send the goods.
    pub(crate) waiting: i64,
    /// How many cannot go on; see `storefold parked`.
    pub(crate) parked: i64,
    /// How many wait for something else from outside: for goods to arrive.
    pub(crate) open: i64,
}

/// Why a line was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// The line's number, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) problem: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lines, done, faulty, seconds, fold_seconds, .. } = self;
        let rate = |count: u64| count as f64 / seconds.max(0.001);
        let of_lines = rate(*lines);
        write!(f, "{lines} lines in {seconds:.1} s ({of_lines:.0} a second")?;
        if let Some(commands) = self.commands {
            write!(f, "; {commands} commands, {:.0} a second", rate(commands))?;
        }
        writeln!(f, "): {done} done, {faulty} skipped")?;
        if let Some(Checkouts { seconds, waiting, parked, open }) = self.checkouts {
            writeln!(
                f,
                "the checkouts were at rest {seconds:.1} s later; waiting for the warehouse: {waiting}, for a parcel to \
                 arrive: {open}, parked: {parked}"
            )?;
        }
        if let (Some(_), Some(position)) = (self.commands, self.position) {
            writeln!(f, "the log has it up to {position}")?;
        }
        match &self.unfolded {
            None => writeln!(f, "the read models had caught up {fold_seconds:.1} s later")?,
            Some(why) => writeln!(f, "the read models were not waited for: {why}")?,
        }
        for Fault { line, problem } in &self.faults {
            writeln!(f, "  line {line}: {problem}")?;
        }
        match faulty.saturating_sub(self.faults.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// How many faults are told one by one.
const TOLD: usize = 100;

/// Imports what a file, or with `-` the standard input, holds.
///
/// # Errors
/// When the file cannot be read, or the log fails for longer than the import is willing to wait.
pub(crate) async fn import(file: &Path, options: &Options, target: &Target<'_>) -> anyhow::Result<Summary> {
    if file == Path::new("-") {
        return run(tokio::io::stdin(), None, options, target).await;
    }
    let opened = tokio::fs::File::open(file).await;
    let opened = opened.with_context(|| format!("cannot open {}", PathBuf::from(file).display()))?;
    let length = opened.metadata().await.ok().map(|metadata| metadata.len());
    run(opened, length, options, target).await
}

/// Imports what a reader gives; `length` is in bytes, where it is known.
///
/// # Errors
/// As [`import`].
pub(crate) async fn run(
    reader: impl AsyncRead + Unpin,
    length: Option<u64>,
    options: &Options,
    target: &Target<'_>,
) -> anyhow::Result<Summary> {
    let start = Instant::now();
    let bar = bar(length, options.progress);
    let importer = Importer {
        target,
        registry: write_side::registry(),
        source: Uuid::new_v5(&line::SOURCES, options.source.as_bytes()),
        customers: Mutex::default(),
        commands: AtomicU64::new(0),
        position: Mutex::default(),
        placed: Mutex::default(),
        earlier: RwLock::new(()),
    };
    let mut occurrences = Occurrences::default();
    let (count, stop) = (AtomicU64::new(0), std::sync::atomic::AtomicBool::new(false));
    let outcomes = lines::of(reader)
        .take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)))
        .map(|read| {
            let parsed = read.map(|line| {
                count.fetch_add(1, Ordering::Relaxed);
                bar.inc(line.bytes as u64);
                let steps = line
                    .text
                    .map_err(|problem| problem.to_string())
                    .and_then(|text| line::steps(&text, importer.source, &options.orders, &mut occurrences));
                (line.number, steps)
            });
            let importer = &importer;
            async move {
                match parsed {
                    Ok((number, Ok(steps))) => importer
                        .execute(steps)
                        .await
                        .map(|done| done.err().map(|problem| Fault { line: number, problem })),
                    Ok((number, Err(problem))) => Ok(Some(Fault { line: number, problem })),
                    Err(error) => Err(anyhow::Error::from(error).context("the file cannot be read on")),
                }
            }
        })
        .buffer_unordered(options.in_flight.max(1));
    let mut outcomes = pin!(outcomes);
    let (mut faults, mut faulty, mut done) = (Vec::new(), 0, 0);
    while let Some(outcome) = outcomes.next().await {
        match outcome? {
            None => done += 1,
            Some(fault) => {
                faulty += 1;
                bar.suspend(|| tracing::warn!(line = fault.line, problem = fault.problem, "a line was skipped"));
                if faults.len() < TOLD {
                    faults.push(fault);
                }
                if options.strict {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    bar.finish_and_clear();
    faults.sort_by_key(|fault| fault.line);
    let position = *importer.position.lock().unwrap_or_else(PoisonError::into_inner);
    let placed = std::mem::take(&mut *importer.placed.lock().unwrap_or_else(PoisonError::into_inner));
    let seconds = start.elapsed().as_secs_f64();
    Ok(Summary {
        lines: count.load(Ordering::Relaxed),
        commands: matches!(target, Target::There(_)).then(|| importer.commands.load(Ordering::Relaxed)),
        done,
        faults,
        faulty,
        seconds,
        fold_seconds: 0.0,
        unfolded: None,
        position,
        checkouts: None,
        placed,
    })
}

/// Waits until every read model has folded what stands at `position`. Answers how long that took, in seconds.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn fold(shop: &Shop, position: Option<Position>, progress: bool) -> anyhow::Result<f64> {
    let start = Instant::now();
    let Some(position) = position else { return Ok(0.0) };
    let bar = bar(None, progress);
    bar.enable_steady_tick(Duration::from_millis(100));
    for model in projections::read_models() {
        bar.set_message(format!("folding into {}", model.name()));
        model.reached(&shop.projections, position).await?;
    }
    bar.finish_and_clear();
    Ok(start.elapsed().as_secs_f64())
}

/// Waits until no process has anything left to do by itself for the orders that an import placed.
///
/// # Errors
/// When the database cannot be read, or a process stands still.
pub(crate) async fn settle(
    shop: &Shop,
    processes: &[&str],
    placed: &[String],
    progress: bool,
) -> anyhow::Result<Checkouts> {
    let start = Instant::now();
    let bar = bar(None, progress);
    bar.enable_steady_tick(Duration::from_millis(100));
    let tell = |left| bar.set_message(format!("{left} payments and checkouts have something left to do"));
    let Rest { waiting, parked, open } =
        process::rest(&shop.projections.pool, &*shop.store, processes, placed, tell).await??;
    bar.finish_and_clear();
    Ok(Checkouts { seconds: start.elapsed().as_secs_f64(), waiting, parked, open })
}

/// What became of a line or a command: done, or why not.
type Outcome = Result<(), String>;

/// Where the commands go.
pub(crate) enum Target<'a> {
    /// Into the log, by this process.
    Here(&'a Executor),
    /// To a shop elsewhere.
    There(&'a Remote),
}

struct Importer<'a> {
    target: &'a Target<'a>,
    registry: Registry,
    source: Uuid,
    /// How many commands were done.
    commands: AtomicU64,
    /// What became of the customers of this run.
    customers: Mutex<HashMap<Uuid, Arc<OnceCell<Outcome>>>>,
    /// The highest position that was answered.
    position: Mutex<Option<Position>>,
    /// The orders that were placed.
    placed: Mutex<Vec<String>>,
    /// Shared by the lines under way that others may have to wait for. It is fair: whoever takes it alone for a moment has
    /// waited for all lines before it.
    earlier: RwLock<()>,
}

/// How long an import waits for a log that fails, before each attempt after the first.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(20),
];

impl Importer<'_> {
    fn customer(&self, id: Uuid) -> Arc<OnceCell<Outcome>> {
        self.customers.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    /// Executes the commands of a line in order, once all of them are known to be commands at all: a line is not half done.
    /// The inner error is the line's fault, the outer one the log's.
    async fn execute(&self, steps: Vec<Step>) -> anyhow::Result<Outcome> {
        if let Some(problem) = steps.iter().find_map(|step| self.check(step).err()) {
            return Ok(Err(problem));
        }
        let _under_way = if steps.iter().any(|step| step.after_all) {
            drop(self.earlier.write().await);
            None
        } else {
            Some(self.earlier.read().await)
        };
        for step in steps {
            let executed = match step.once {
                // Lines that ask for the same wait for the one that came first, and share its fault.
                Some(customer) => self.customer(customer).get_or_try_init(|| self.step(&step)).await?.clone(),
                None => self.step(&step).await?,
            };
            if let Err(problem) = executed {
                return Ok(Err(problem));
            }
        }
        Ok(Ok(()))
    }

    fn aggregate(&self, step: &Step) -> Result<&dyn Aggregate, String> {
        let unknown = || format!("there is no aggregate of the category {}", step.category);
        self.registry.get(step.category).ok_or_else(unknown)
    }

    fn check(&self, step: &Step) -> Outcome {
        let checked = self.aggregate(step)?.check(&step.id, step.command, &step.body);
        checked.map(drop).map_err(|failure| format!("{} {}: {failure}", step.command, step.category))
    }

    async fn step(&self, step: &Step) -> anyhow::Result<Outcome> {
        let aggregate = match self.aggregate(step) {
            Ok(aggregate) => aggregate,
            Err(problem) => return Ok(Err(problem)),
        };
        let mut waits = PATIENCE.iter();
        loop {
            let told = match self.target {
                Target::Here(executor) => executed_here(executor, aggregate, step, self.source).await,
                Target::There(remote) => remote.execute(step, self.source).await,
            };
            let why = match told {
                Told::Done(answered) => {
                    self.commands.fetch_add(1, Ordering::Relaxed);
                    let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
                    *position = (*position).max(answered);
                    if step.after_all {
                        self.placed.lock().unwrap_or_else(PoisonError::into_inner).push(step.id.clone());
                    }
                    return Ok(Ok(()));
                }
                Told::Fault(problem) => return Ok(Err(format!("{} {}: {problem}", step.command, step.category))),
                Told::Never(why) => {
                    return Err(anyhow::anyhow!(why).context("the shop takes no commands of this import"));
                }
                Told::Later(why) => why,
            };
            let Some(wait) = waits.next() else {
                let failed = match self.target {
                    Target::Here(_) => "the log failed; run the same import again to go on",
                    Target::There(_) => "the shop does not take it; run the same import again to go on",
                };
                return Err(anyhow::anyhow!(why).context(failed));
            };
            tracing::warn!(error = why, "a command could not be executed yet; trying again");
            tokio::time::sleep(*wait).await;
        }
    }
}

/// Has a command carried out by this process. `source` is what led to it.
async fn executed_here(executor: &Executor, aggregate: &dyn Aggregate, step: &Step, source: Uuid) -> Told {
    let envelope = Envelope {
        actor: Some("import".to_owned()),
        correlation_id: source,
        causation_id: source,
        ..Envelope::new(step.command_id, step.fingerprint.clone(), Utc::now())
    };
    match aggregate.execute(executor, &step.id, step.command, &step.body, &envelope).await {
        Ok(answer) => Told::Done(answer.position),
        Err(failure) if failure.is_transient() => Told::Later(format!("{:#}", anyhow::Error::from(failure))),
        Err(failure) => Told::Fault(failure.to_string()),
    }
}

fn bar(length: Option<u64>, wanted: bool) -> ProgressBar {
    if !wanted || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:40} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
        }
        None => (ProgressBar::no_length(), "{spinner}  {msg}  {bytes}  {bytes_per_sec}  {elapsed}"),
    };
    // The templates are constants; one that did not parse would only look plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
