//! What an operator asks of a shop: how far the read models are, and what stands in a stream.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{CellAlignment, Table, presets};
use domain::process::Process as _;
use domain::processes::checkout::Checkout;
use domain::supervision::{Refusal, Retry, Supervision};
use event_store::{Direction, Metadata, Position, RecordedEvent, StreamName};
use projections::runtime::{self, Redriven, Standing};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;
use write_side::process::{self, Parked};
use write_side::{Envelope, ExecuteError};

use crate::cli;
use crate::rebuild::model;
use crate::shop::Shop;

/// For how long it is watched how fast read models fold that are behind.
const SAMPLE: Duration = Duration::from_millis(500);

/// How far everything is that follows the log.
#[derive(Debug, Serialize)]
struct Status {
    /// The last position of the log.
    head: Option<Position>,
    read_models: Vec<ReadModel>,
    processes: Vec<Process>,
}

/// How far a read model is.
#[derive(Debug, Serialize)]
struct ReadModel {
    name: String,
    version: i32,
    generation: i32,
    /// Whether a running program leads its projector.
    led: bool,
    #[serde(flatten)]
    lag: Lag,
    /// How fast it folds; null where it is not behind.
    events_per_second: Option<f64>,
    /// How many events are parked.
    parked: i64,
    error: Option<String>,
}

/// How far a process is.
#[derive(Debug, Serialize)]
struct Process {
    name: String,
    version: i32,
    /// Whether a running program leads it.
    led: bool,
    #[serde(flatten)]
    lag: Lag,
    /// How many instances have something left to do.
    open: i64,
    /// How many of them somebody has to look at.
    parked: i64,
    error: Option<String>,
}

/// How far something that follows the log is behind it.
#[derive(Debug, Serialize)]
struct Lag {
    position: Option<Position>,
    /// Events of the log that were not seen yet, those of other categories included; null where the log cannot tell.
    lag_events: Option<u64>,
    /// Seconds since it last moved, where it is behind.
    lag_seconds: i64,
}

impl Lag {
    fn of(shop: &Shop, head: Option<Position>, position: Option<Position>, moved_at: DateTime<Utc>) -> Self {
        Self {
            position,
            lag_events: if position == head { Some(0) } else { shop.store.events_between(position, head) },
            lag_seconds: if position == head { 0 } else { (Utc::now() - moved_at).num_seconds() },
        }
    }

    fn cells(&self) -> [String; 3] {
        [
            self.position.map_or("none".to_owned(), |position| position.to_string()),
            self.lag_events.map_or("?".to_owned(), |events| events.to_string()),
            self.lag_seconds.to_string(),
        ]
    }
}

/// `storefold status`
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn status(shop: &Shop, json: bool) -> anyhow::Result<()> {
    let (head, pool) = (shop.store.head().await?, &shop.projections.pool);
    let (mut standings, mut before) = (runtime::standings(pool).await?, HashMap::new());
    if standings.iter().any(|standing| standing.live.checkpoint != head) {
        before = standings.iter().map(|standing| (standing.live.schema_name.clone(), standing.live.folded)).collect();
        tokio::time::sleep(SAMPLE).await;
        standings = runtime::standings(pool).await?;
    }
    let read_models = standings.into_iter().map(|Standing { live, led, parked }| ReadModel {
        lag: Lag::of(shop, head, live.checkpoint, live.moved_at),
        events_per_second: before
            .get(&live.schema_name)
            .map(|before| ((live.folded - before) as f64 / SAMPLE.as_secs_f64()).round()),
        name: live.name,
        version: live.version,
        generation: live.generation,
        led,
        parked,
        error: live.error,
    });
    let processes = process::progress(pool).await?.into_iter().map(|progress| Process {
        lag: Lag::of(shop, head, progress.position, progress.moved_at),
        name: progress.process,
        version: progress.version,
        led: progress.led,
        open: progress.open,
        parked: progress.parked,
        error: progress.error,
    });
    let status = Status { head, read_models: read_models.collect(), processes: processes.collect() };
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &status)?;
        return Ok(writeln!(out)?);
    }
    writeln!(out, "the log ends at {}", head.map_or("none".to_owned(), |head| head.to_string()))?;
    let columns = [
        "read model",
        "version",
        "generation",
        "led",
        "position",
        "events behind",
        "seconds behind",
        "events/s",
        "parked",
        "error",
    ];
    let mut table = table(&columns);
    for ReadModel { name, version, generation, led, lag, events_per_second, parked, error } in status.read_models {
        let head = [name, version.to_string(), generation.to_string(), yes_or_no(led)];
        let rate = events_per_second.map_or_else(String::new, |rate| rate.to_string());
        let tail = [rate, parked.to_string(), error.unwrap_or_default()];
        table.add_row(head.into_iter().chain(lag.cells()).chain(tail));
    }
    writeln!(out, "{table}")?;
    let columns =
        ["process", "version", "led", "position", "events behind", "seconds behind", "open", "parked", "error"];
    let mut table = self::table(&columns);
    for Process { name, version, led, lag, open, parked, error } in status.processes {
        let head = [name, version.to_string(), yes_or_no(led)];
        let tail = [open.to_string(), parked.to_string(), error.unwrap_or_default()];
        table.add_row(head.into_iter().chain(lag.cells()).chain(tail));
    }
    Ok(writeln!(out, "{table}")?)
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// An empty table in which all columns but the first and the last are figures.
fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(columns);
    for column in table.column_iter_mut().skip(1).take(columns.len() - 2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `storefold parked`
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn parked(shop: &Shop, json: bool) -> anyhow::Result<()> {
    let (rows, events) =
        (process::parked(&shop.projections.pool).await?, runtime::parked(&shop.projections.pool).await?);
    let mut out = std::io::stdout().lock();
    if json {
        let all = rows.iter().map(serde_json::to_value).chain(events.iter().map(serde_json::to_value));
        serde_json::to_writer_pretty(&mut out, &all.collect::<Result<Vec<_>, _>>()?)?;
        return Ok(writeln!(out)?);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["process", "instance", "since", "on the event", "why"]);
    for Parked { process, instance, event, why, since } in rows {
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        table.add_row([process, instance, since, event.map_or_else(String::new, |event| event.to_string()), why]);
    }
    writeln!(out, "{table}")?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["read model", "key", "since", "event", "id", "tries", "why"]);
    for runtime::Parked { name, key, stream, revision, event, event_type, error, attempts, since, .. } in events {
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        let what = format!("{event_type} {stream}@{revision}");
        let why = error.unwrap_or_else(|| "waits behind the one before".to_owned());
        table.add_row([name, key, since, what, event.to_string(), attempts.to_string(), why]);
    }
    Ok(writeln!(out, "{table}")?)
}

/// `storefold redrive`
///
/// # Errors
/// When there is no such read model or nothing of it is parked, or a database fails.
pub(crate) async fn redrive(shop: &Shop, wanted: &cli::Redrive) -> anyhow::Result<()> {
    let parked = runtime::parked(&shop.projections.pool).await?;
    let is_wanted = |parked: &&runtime::Parked| {
        wanted.name.as_ref().is_none_or(|name| *name == parked.name)
            && wanted.key.as_ref().is_none_or(|key| *key == parked.key)
    };
    let keys: BTreeSet<_> = parked.iter().filter(is_wanted).map(|parked| (&parked.name, &parked.key)).collect();
    anyhow::ensure!(!keys.is_empty() || wanted.all, "nothing of the kind is parked; `storefold parked` shows what is");
    let mut out = std::io::stdout().lock();
    let mut left = 0;
    for (name, key) in keys {
        let redriven = model(name)?.redrive(&shop.projections, key).await;
        let Redriven { folded, parked } = redriven.with_context(|| format!("{key} of {name} cannot be tried again"))?;
        left += parked;
        writeln!(out, "{name} {key}: {folded} events folded, {parked} still parked")?;
    }
    anyhow::ensure!(left == 0, "{left} events are still parked; `storefold parked` says why");
    Ok(())
}

/// `storefold skip`
///
/// # Errors
/// When the event is none that could not be folded, or a database fails.
pub(crate) async fn skip(shop: &Shop, wanted: &cli::Skip) -> anyhow::Result<()> {
    let skipped = model(&wanted.name)?.skip(&shop.projections, wanted.event, &wanted.reason).await?;
    let Redriven { folded, parked } = skipped;
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "left out; of what waited behind it, {folded} events folded, {parked} still parked")?)
}

/// `storefold retry`
///
/// # Errors
/// When the log fails, or one of the checkouts is not parked; the others try again all the same.
pub(crate) async fn retry(shop: &Shop, wanted: &cli::Retry) -> anyhow::Result<()> {
    let mut orders = wanted.orders.clone();
    if wanted.all {
        let parked = process::parked(&shop.projections.pool).await?;
        let checkouts = parked.iter().filter(|parked| parked.process == Checkout::NAME);
        orders = checkouts.map(|parked| parked.instance.parse()).collect::<Result<_, _>>()?;
    }
    let mut out = std::io::stdout().lock();
    let mut not_parked = Vec::new();
    for order in orders {
        let envelope = Envelope {
            actor: Some("storefold retry".to_owned()),
            ..Envelope::new(Uuid::now_v7(), "retry".to_owned(), Utc::now())
        };
        let retried = shop.executor().execute::<Supervision>(&order, Retry {}.into(), &envelope).await;
        match retried {
            Ok(_) => writeln!(out, "the checkout of order {order} tries again")?,
            // With --all: somebody else was faster.
            Err(ExecuteError::Refused(Refusal::NotParked)) if wanted.all => {}
            Err(ExecuteError::Refused(Refusal::NotParked)) => not_parked.push(order.to_string()),
            Err(error) => {
                return Err(error).with_context(|| format!("the checkout of order {order} cannot be let try again"));
            }
        }
    }
    anyhow::ensure!(not_parked.is_empty(), "not parked, so there is nothing to try again: {}", not_parked.join(", "));
    Ok(())
}

/// How many events are read at a time.
const PAGE: usize = 500;

/// `storefold stream NAME`
///
/// # Errors
/// When the name names no stream, nothing is in it, or the log cannot be read.
pub(crate) async fn stream(shop: &Shop, wanted: &cli::Stream) -> anyhow::Result<()> {
    let name = StreamName::new(&wanted.name)?;
    let direction = if wanted.backwards { Direction::Backwards } else { Direction::Forwards };
    let (mut from, mut left) = (wanted.from, wanted.limit);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = shop.store.read_stream(&name, from, direction, limit).await?;
        anyhow::ensure!(
            from != wanted.from || !page.events.is_empty(),
            "there is no event in the stream {name}, or none from there on"
        );
        for event in &page.events {
            print(&mut out, event, wanted.json).context("cannot write to standard output")?;
        }
        left -= page.events.len() as u64;
        from = match (page.events.last(), direction) {
            (Some(last), Direction::Forwards) => Some(last.revision + 1),
            (Some(last), Direction::Backwards) if last.revision > 0 => Some(last.revision - 1),
            _ => return Ok(out.flush()?),
        };
        if page.end || left == 0 {
            return Ok(out.flush()?);
        }
    }
}

fn print(out: &mut impl std::io::Write, event: &RecordedEvent, json: bool) -> anyhow::Result<()> {
    if !json {
        let text = String::from_utf8_lossy(&event.data);
        let RecordedEvent { revision, position, recorded_at, event_type, .. } = event;
        let at = recorded_at.format("%Y-%m-%d %H:%M:%S%.3f");
        return Ok(writeln!(out, "{revision:>6}  {position}  {at}  {event_type}  {text}")?);
    }
    Ok(writeln!(out, "{}", line(event))?)
}

/// An event as a line of JSON, without its end. Data that is no JSON is a string, metadata that is not the shop's is null.
pub(crate) fn line(event: &RecordedEvent) -> String {
    let text = || Value::from(String::from_utf8_lossy(&event.data));
    let data = serde_json::from_slice(&event.data).unwrap_or_else(|_| text());
    let line = serde_json::json!({
        "stream": event.stream.as_str(), "revision": event.revision, "position": event.position, "id": event.id,
        "type": event.event_type.as_str(), "recordedAt": event.recorded_at, "data": data,
        "metadata": Metadata::from_bytes(&event.metadata).ok(),
    });
    line.to_string()
}
