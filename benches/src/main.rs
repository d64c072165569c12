//! Measurements: ours against a baseline, in one run, on one machine, with durable settings on both sides.
//!
//! Each measurement alternates ours and the baseline, prints the median and the worst ratio of its rounds, and is void
//! when its correctness gate fails. Run it by `./bench`.

mod append;
mod baseline;
mod checkout;
mod contention;
mod cpu;
mod hot;
mod http;
mod lag;
mod latency;
mod long;
mod overload;
mod pages;
mod postgraphile;
mod rebuild;
mod report;
mod server;
mod sessions;
mod subscriptions;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use report::Report;
use server::Postgres;
use sessions::Ungrouped;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Storefold against plain Postgres on this machine.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure, by name [default: everything].
    #[arg(value_name = "NAME", value_parser = ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S12", "C1", "G1", "L1", "O1"])]
    names: Vec<String>,
    /// How often each side is measured.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each side of S1 to S5, S7, S8, S12, G1 and O1 runs in a round, and the baseline and the calm part of C1, in seconds.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many events the log of S6 has.
    #[arg(long, default_value = "1000000")]
    events: u64,
    /// How many orders S7 and S8 page through.
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(i64).range(10_000..))]
    orders: i64,
    /// How many orders C1 places in a round, as fast as it can.
    #[arg(long, default_value = "2000", value_parser = clap::value_parser!(u64).range(1..))]
    checkouts: u64,
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/storefold")]
    storefold: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _ungrouped = Ungrouped::new();
    let postgres = Postgres::start(&options.storefold).await.context("the private Postgres did not start")?;
    let measured = tokio::select! {
        measured = measure(&postgres, &options) => measured,
        _ = terminate.recv() => Err(anyhow::anyhow!("stopped before its end")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("stopped before its end")),
    };
    // Also when something failed: it would run on with nobody to stop it.
    let stopped = postgres.stop().await;
    let report = measured?;
    stopped?;
    report.print()
}

/// Measures what is wanted, one after the other.
async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Report> {
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|wanted| wanted == name);
    let mut report = Report::default();
    if wanted("S1") {
        report.add(append::measure(postgres, options).await?)?;
    }
    if wanted("S2") {
        report.add(http::measure(postgres, options).await?)?;
    }
    if wanted("S3") {
        report.add(hot::measure(postgres, options).await?)?;
    }
    if wanted("S4") {
        report.add(contention::measure(postgres, options).await?)?;
    }
    if wanted("S5") {
        report.add(lag::measure(postgres, options).await?)?;
    }
    if wanted("S6") {
        report.add(rebuild::measure(postgres, options).await?)?;
    }
    if wanted("S7") {
        for measured in pages::measure(postgres, options).await? {
            report.add(measured)?;
        }
    }
    if wanted("S8") {
        for measured in postgraphile::measure(postgres, options).await? {
            report.add(measured)?;
        }
    }
    if wanted("S12") {
        report.add(latency::measure(postgres, options).await?)?;
    }
    if wanted("C1") {
        report.add(checkout::measure(postgres, options).await?)?;
    }
    if wanted("G1") {
        report.add(subscriptions::measure(postgres, options).await?)?;
    }
    if wanted("L1") {
        report.add(long::measure(postgres, options).await?)?;
    }
    if wanted("O1") {
        report.add(overload::measure(postgres, options).await?)?;
    }
    Ok(report)
}
