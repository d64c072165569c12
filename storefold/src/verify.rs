//! `storefold verify` and `storefold repair`: read models held against the log, and mended.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use projections::runtime::{Extent, Verified};
use serde::Serialize;
use tokio::sync::watch;

use crate::rebuild::{bar, model, models};
use crate::shop::Shop;
use crate::{cli, print};

/// The exit code that says that something differs.
const DIFFERS: u8 = 4;

/// What a verification of one read model found.
#[derive(Serialize)]
struct Found<'a> {
    read_model: &'a str,
    #[serde(flatten)]
    verified: Verified,
}

/// Verifies one read model by name, or all of them.
///
/// # Errors
/// When there is no such read model, or one cannot be verified.
pub(crate) async fn verify(
    shop: &Shop,
    wanted: &cli::Verify,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<ExitCode> {
    let extent = wanted.sample.map_or(Extent::Full, Extent::Sample);
    let context = shop.projections.clone().with_memory(wanted.memory << 20);
    let mut differing = 0;
    for model in models(wanted.name.as_deref())? {
        let bar = bar(model.name());
        bar.set_message("verifying");
        let progress = |done| bar.set_position(done);
        let verified = tokio::select! {
            verified = model.verify(&context, extent, &progress) => verified,
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped"))?,
        };
        bar.finish_and_clear();
        let verified = verified.with_context(|| format!("{} cannot be verified", model.name()))?;
        differing += verified.differing;
        tell(model.name(), verified, wanted.json)?;
    }
    Ok(if differing == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

/// Mends the rows of one key.
///
/// # Errors
/// When there is no such read model, its rows do not follow from one key, or a database fails.
pub(crate) async fn repair(shop: &Shop, wanted: &cli::Repair) -> anyhow::Result<()> {
    let model = model(&wanted.name)?;
    let mended = model.repair(&shop.projections, &wanted.key).await?;
    let (rows, differing) = (mended.rows, mended.differing);
    tell(model.name(), mended, false)?;
    print(&match (rows, differing) {
        (0, _) => format!("there is nothing of {} in {}, nor in the log\n", wanted.key, wanted.name),
        (_, 0) => "nothing had to be mended\n".to_owned(),
        (_, differing) => format!("mended: {differing} rows\n"),
    })
}

fn tell(name: &str, verified: Verified, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&Found { read_model: name, verified })?)?);
    }
    for difference in &verified.differences {
        writeln!(out, "{difference}")?;
    }
    let Verified { position, rows, differing, .. } = verified;
    let at = position.map_or("the beginning".to_owned(), |position| position.to_string());
    Ok(writeln!(out, "{name} as of {at}: {rows} rows compared, {differing} differ (-: read, +: by the log)")?)
}
