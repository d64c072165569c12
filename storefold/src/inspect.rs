//! What an operator asks of a shop: how far the read models are, and what stands in a stream.

use std::io::Write as _;

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use comfy_table::{CellAlignment, Table, presets};
use domain::process::Process as _;
use domain::processes::checkout::Checkout;
use domain::supervision::{Retry, Supervision};
use event_store::{Direction, Metadata, Position, RecordedEvent, StreamName};
use projections::runtime::{self, State};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;
use write_side::Envelope;
use write_side::process::{self, Parked};

use crate::cli;
use crate::shop::Shop;

/// How far a read model is.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    version: i32,
    generation: i32,
    position: Option<Position>,
    head: Option<Position>,
    /// Events of the log that are not folded in yet, those of other categories included.
    lag_events: Option<u64>,
    /// Seconds since the checkpoint last moved, where it is behind.
    lag_seconds: i64,
    error: Option<String>,
}

/// `storefold status`
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn status(shop: &Shop, json: bool) -> anyhow::Result<()> {
    let head = shop.store.head().await?;
    let now = chrono::Utc::now();
    let generations = runtime::generations(&shop.projections.pool).await?;
    let rows: Vec<Status> = generations
        .into_iter()
        .filter(|generation| generation.state == State::Live)
        .map(|generation| Status {
            lag_events: shop.store.events_between(generation.checkpoint, head),
            lag_seconds: if generation.checkpoint == head { 0 } else { (now - generation.moved_at).num_seconds() },
            name: generation.name,
            version: generation.version,
            generation: generation.generation,
            position: generation.checkpoint,
            head,
            error: generation.error,
        })
        .collect();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        return Ok(writeln!(out)?);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "read model",
        "version",
        "generation",
        "position",
        "head",
        "events behind",
        "seconds behind",
        "error",
    ]);
    let place = |position: Option<Position>| position.map_or("none".to_owned(), |position| position.to_string());
    for row in rows {
        table.add_row([
            row.name,
            row.version.to_string(),
            row.generation.to_string(),
            place(row.position),
            place(row.head),
            row.lag_events.map_or("?".to_owned(), |events| events.to_string()),
            row.lag_seconds.to_string(),
            row.error.unwrap_or_default(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(writeln!(out, "{table}")?)
}

/// `storefold parked`
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn parked(shop: &Shop, json: bool) -> anyhow::Result<()> {
    let rows = process::parked(&shop.projections.pool).await?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        return Ok(writeln!(out)?);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["process", "instance", "since", "on the event", "why"]);
    for Parked { process, instance, event, why, since } in rows {
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        table.add_row([process, instance, since, event.to_string(), why]);
    }
    Ok(writeln!(out, "{table}")?)
}

/// `storefold retry`
///
/// # Errors
/// When the log fails, or one of the checkouts is not parked.
pub(crate) async fn retry(shop: &Shop, wanted: &cli::Retry) -> anyhow::Result<()> {
    let mut orders = wanted.orders.clone();
    if wanted.all {
        let parked = process::parked(&shop.projections.pool).await?;
        let checkouts = parked.iter().filter(|parked| parked.process == Checkout::NAME);
        orders = checkouts.map(|parked| parked.instance.parse()).collect::<Result<_, _>>()?;
    }
    let mut out = std::io::stdout().lock();
    for order in orders {
        let envelope = Envelope {
            actor: Some("storefold retry".to_owned()),
            ..Envelope::new(Uuid::now_v7(), "retry".to_owned(), Utc::now())
        };
        let retried = shop.executor().execute::<Supervision>(&order, Retry {}.into(), &envelope).await;
        retried.with_context(|| format!("the checkout of order {order} cannot be let try again"))?;
        writeln!(out, "the checkout of order {order} tries again")?;
    }
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
    let text = String::from_utf8_lossy(&event.data);
    if !json {
        let RecordedEvent { revision, position, recorded_at, event_type, .. } = event;
        let at = recorded_at.format("%Y-%m-%d %H:%M:%S%.3f");
        return Ok(writeln!(out, "{revision:>6}  {position}  {at}  {event_type}  {text}")?);
    }
    let data = serde_json::from_slice(&event.data).unwrap_or_else(|_| Value::from(text));
    let line = serde_json::json!({
        "stream": event.stream.as_str(), "revision": event.revision, "position": event.position, "id": event.id,
        "type": event.event_type.as_str(), "recordedAt": event.recorded_at, "data": data,
        "metadata": Metadata::from_bytes(&event.metadata).ok(),
    });
    Ok(writeln!(out, "{line}")?)
}
