//! `storefold export`: events and the rows of read models as files, for programs that analyse them.
//!
//! Nothing is held in memory but what is read at a time, and no file has its name before all of them are whole.

mod bound;
mod cell;
mod event;
mod events;
mod output;
mod parquet;
mod read_models;
mod sink;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use event_store::Position;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

pub(crate) use bound::Bound;
use events::Selection;
use output::{Output, Target};
use read_models::{Snapshot, Tables};
use sink::Sink;

use crate::cli::{self, ExportFormat};
use crate::config::Config;
use crate::shop::Shop;
use crate::with_shop;

/// Exports what is asked for.
///
/// # Errors
/// When there is no such thing, it cannot be read or written, or the export was stopped. No file is left then.
pub(crate) async fn run(config: &Config, wanted: &cli::Export, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let export = Export::of(wanted)?;
    with_shop(config, async |shop| {
        tokio::select! {
            exported = export.run(shop) => exported,
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped; no file was written")),
        }
    })
    .await
}

/// An export that can be done, as far as can be told before anything is read.
struct Export<'a> {
    wanted: &'a cli::Export,
    what: What,
    target: Target,
}

enum What {
    Events(Selection),
    ReadModel(Tables),
}

impl<'a> Export<'a> {
    fn of(wanted: &'a cli::Export) -> anyhow::Result<Self> {
        let what = match &wanted.read_model {
            Some(name) => What::ReadModel(Tables::of(name, wanted.table.as_deref())?),
            None => What::Events(Selection::of(wanted)?),
        };
        let tables = match &what {
            What::Events(_) => &["events"][..],
            What::ReadModel(tables) => &tables.names,
        };
        let ending = match wanted.format {
            ExportFormat::Ndjson => "ndjson",
            ExportFormat::Parquet => "parquet",
        };
        // Its end says where everything is: it is for files.
        ensure!(
            wanted.format != ExportFormat::Parquet || wanted.output.is_some(),
            "Parquet cannot be written to standard output: name a file with --output"
        );
        let target = Target::of(wanted.output.as_deref(), tables, ending, wanted.force)?;
        Ok(Self { wanted, what, target })
    }

    async fn run(&self, shop: &Shop) -> anyhow::Result<()> {
        let whole = match &self.what {
            What::Events(selection) => vec![self.events(shop, selection).await?],
            What::ReadModel(tables) => self.read_model(shop, tables).await?,
        };
        whole.into_iter().try_for_each(|output| output.keep(self.wanted.force))
    }

    async fn events(&self, shop: &Shop, selection: &Selection) -> anyhow::Result<Output> {
        let (start, store) = (Instant::now(), &shop.store);
        let head = store.head().await?;
        let stretch = selection.stretch(head)?;
        let end = stretch.map(|stretch| stretch.end).or(head);
        tracing::info!(position = at(end), "exporting events up to this position");
        let about = [("table", "events".to_owned()), ("position", at(end))];
        let mut sink = Sink::begin(self.wanted.format, event::columns(), &about, self.target.open(0)?)?;
        let mut exported = 0;
        if let Some(stretch) = stretch {
            let bar = self.bar("events", events::to_look_at(&**store, selection, stretch));
            exported = events::export(store, selection, stretch, &mut sink, &bar).await?;
            bar.finish_and_clear();
        }
        let output = sink.end()?;
        tracing::info!(events = exported, position = at(end), seconds = seconds(start), "events exported");
        Ok(output)
    }

    async fn read_model(&self, shop: &Shop, tables: &Tables) -> anyhow::Result<Vec<Output>> {
        let mut snapshot = Snapshot::of(shop, tables).await?;
        let (name, position) = (tables.model.name(), at(snapshot.position));
        tracing::info!(read_model = name, position, "exporting the read model as of this position");
        let mut whole = Vec::new();
        for (number, table) in tables.names.iter().enumerate() {
            let start = Instant::now();
            let columns = snapshot.columns(table).await?;
            let about =
                [("read_model", name.to_owned()), ("table", (*table).to_owned()), ("position", position.clone())];
            let mut sink = Sink::begin(self.wanted.format, columns.clone(), &about, self.target.open(number)?)?;
            let bar = self.bar(table, None);
            let rows = snapshot.export(table, &columns, &mut sink, &bar).await?;
            bar.finish_and_clear();
            whole.push(sink.end()?);
            tracing::info!(table, rows, position, seconds = seconds(start), "rows exported");
        }
        snapshot.close().await?;
        Ok(whole)
    }

    fn bar(&self, what: &'static str, of: Option<u64>) -> ProgressBar {
        // What is exported to a terminal is progress enough.
        let is_in_the_way = self.target == Target::Standard && std::io::stdout().is_terminal();
        if self.wanted.no_progress || is_in_the_way || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match of {
            Some(of) => (
                ProgressBar::new(of),
                "{prefix}  {wide_bar}  {human_pos}/{human_len} looked at  {msg}  {per_sec}  {eta} left",
            ),
            None => (ProgressBar::no_length(), "{prefix}  {spinner}  {human_pos} exported  {per_sec}  {elapsed}"),
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        // The templates are constants; one that did not parse would only look plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.with_prefix(what)
    }
}

fn at(position: Option<Position>) -> String {
    position.map_or("none".to_owned(), |position| position.to_string())
}

fn seconds(start: Instant) -> String {
    format!("{:.2}", start.elapsed().as_secs_f64())
}
