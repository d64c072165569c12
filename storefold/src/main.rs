//! The one binary of Storefold: the composition root, which alone knows every crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod check_store;
mod cli;
mod config;
mod copy_log;
mod data_dir;
mod demo;
mod export;
mod history;
mod import;
mod inspect;
mod logs;
mod metrics;
mod observed;
mod postgres;
mod rebuild;
mod repairs;
mod schema;
mod serve;
mod server;
mod shop;
mod signals;
mod telemetry;
mod tokens;
mod trade;
mod verify;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::runtime::Builder;
use tokio::sync::watch;

use cli::{Cli, Command};
use config::{Config, Environment};
use postgres::PrivatePostgres;
use shop::Shop;
use trade::Counter;

/// A command makes and drops some hundred small things on one thread or another; the system's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match runtime().build() {
        Ok(runtime) => runtime.block_on(begin()),
        Err(error) => fail(&format!("the system has no room for the program's threads: {error}")),
    }
}

/// What all tasks run on. What is woken from elsewhere has its turn first: that is the log's answers, each for a command that
/// has waited for its commit, and behind the requests that arrive meanwhile it would wait for all of those as well.
fn runtime() -> Builder {
    let mut runtime = Builder::new_multi_thread();
    runtime.enable_all().global_queue_interval(1);
    runtime
}

async fn begin() -> ExitCode {
    // There are two such libraries in here, so that TLS does not know by itself which one to take. One that was installed
    // before would do as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) if nobody_reads(&error) => ExitCode::from(NOBODY_READS),
        // With everything behind it, on one line, and without a backtrace: it is for whoever typed the command.
        Err(error) => fail(&format!("{error:#}")),
    }
}

/// What shells say of a program that SIGPIPE has ended: 128 and the signal's number. Rust's programs ignore the signal.
const NOBODY_READS: u8 = 141;

/// Whether an error is that nobody reads on what is printed, as `head` does not when it has enough. Those of connections come with
/// more around them.
fn nobody_reads(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn fail(why: &str) -> ExitCode {
    let told = writeln!(io::stderr(), "error: {why}");
    drop(told);
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let serve_flags = match &cli.command {
        Command::Serve(flags) => Some(flags),
        _ => None,
    };
    let config = Config::load(&Environment::of_this_process(), &cli.settings, serve_flags)?;
    let telemetry = telemetry::init(&config)?;
    let ended = carry_out(&config, cli.command).await;
    telemetry.end().await;
    ended
}

async fn carry_out(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(flags) => serve::serve(config, &flags).await?,
        Command::Migrate => Shop::open(config).await?.close().await?,
        Command::Import(wanted) => return run_import(config, &wanted).await,
        Command::Rebuild(wanted) => {
            let stop = signals::stop()?;
            with_shop(config, async |shop| rebuild::rebuild(shop, &wanted, stop).await).await?;
        }
        Command::Verify(wanted) => {
            let stop = signals::stop()?;
            return with_shop(config, async |shop| verify::verify(shop, &wanted, stop).await).await;
        }
        Command::Repair(wanted) => with_shop(config, async |shop| verify::repair(shop, &wanted).await).await?,
        Command::Status { json } => with_shop(config, async |shop| inspect::status(shop, json).await).await?,
        Command::Parked { json } => with_shop(config, async |shop| inspect::parked(shop, json).await).await?,
        Command::Retry(wanted) => with_shop(config, async |shop| inspect::retry(shop, &wanted).await).await?,
        Command::Redrive(wanted) => with_shop(config, async |shop| inspect::redrive(shop, &wanted).await).await?,
        Command::Skip(wanted) => with_shop(config, async |shop| inspect::skip(shop, &wanted).await).await?,
        Command::Stream(wanted) => with_shop(config, async |shop| inspect::stream(shop, &wanted).await).await?,
        Command::Demo => with_shop(config, bring_demo).await?,
        Command::Export(wanted) => export::run(config, &wanted, signals::stop()?).await?,
        Command::CopyLog(wanted) => copy_log::run(config, &wanted, signals::stop()?).await?,
        Command::CheckStore(wanted) => return check_store::run(config, &wanted).await,
        Command::Token(wanted) => print(&format!("{}\n", tokens::token(config, &wanted)?))?,
        Command::Config => print(&config.to_toml())?,
        Command::Schema { schema, check: Some(old) } => return schema::check(schema, &old),
        Command::Schema { schema, check: None } => print(&schema::text_of(schema)?)?,
        Command::Postgres { throw_away } => run_postgres(config, throw_away).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the shop, does something with it, and closes it, however that went.
async fn with_shop<T>(config: &Config, work: impl AsyncFnOnce(&Shop) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let shop = Shop::open(config).await?;
    let worked = work(&shop).await;
    let closed = shop.close().await;
    worked.and_then(|result| closed.map(|()| result))
}

/// The exit code that says that `--strict` stopped an import at a fault. 2 is that of a wrong command line.
const FAULTY: u8 = 3;

/// Imports and folds what was imported.
async fn run_import(config: &Config, wanted: &cli::Import) -> anyhow::Result<ExitCode> {
    let mut stop = signals::stop()?;
    // Before a database is opened for it, or made.
    if wanted.file != Path::new("-") {
        let found = std::fs::metadata(&wanted.file);
        found.with_context(|| format!("cannot open {}", wanted.file.display()))?;
    }
    let remote = wanted.url.as_deref().map(|url| remote(config, wanted, url)).transpose()?;
    let options = import::Options {
        source: wanted.source.clone(),
        in_flight: usize::from(wanted.in_flight),
        strict: wanted.strict,
        progress: !wanted.no_progress,
        orders: match wanted.live {
            true => import::Orders::Placed { card: card(config, wanted)? },
            false => import::Orders::Recorded,
        },
    };
    if let Some(remote) = &remote {
        let target = import::Target::There(remote);
        let import = async {
            let mut summary = import::import(&wanted.file, &options, &target).await?;
            match remote.fold(summary.position, options.progress).await {
                Ok(seconds) => summary.fold_seconds = seconds,
                Err(why) => summary.unfolded = Some(why),
            }
            Ok(summary)
        };
        let summary = tokio::select! {
            summary = import => summary,
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped; run the same import again to go on")),
        };
        return tell_import(wanted, &summary?);
    }
    let summary = with_shop(config, async |shop| {
        let (ended, end) = watch::channel(false);
        let mut tasks = shop.project(&end);
        if wanted.live {
            let counter = Counter::open(config, shop).await?;
            let (gateway, serving) = counter.alone(config, end.clone()).await?;
            let fulfil = wanted.fulfil || config.sandbox_fulfil;
            for mut started in [serving, trade::start(config, shop, gateway, fulfil, &end)] {
                tasks.spawn(async move { while started.join_next().await.is_some() {} });
            }
        }
        let summary = tokio::select! {
            summary = import_and_fold(shop, wanted, &options, config) => summary,
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped; run the same import again to go on")),
        };
        ended.send_replace(true);
        while tasks.join_next().await.is_some() {}
        summary
    })
    .await?;
    tell_import(wanted, &summary)
}

/// The shop elsewhere that is imported into, with the token that it is shown. To one on this machine a token is shown that is
/// signed with the key that is here, if there is one: whoever can read that may sign what it likes.
fn remote(config: &Config, wanted: &cli::Import, url: &str) -> anyhow::Result<import::Remote> {
    let remote = import::Remote::at(url)?;
    if let Some(path) = &wanted.token_file {
        return remote.with_token_in(path);
    }
    match if remote.is_here() { tokens::at_hand(config, "import")? } else { None } {
        Some(token) => remote.with_token(&token),
        None => Ok(remote),
    }
}

/// Prints what an import has done, and says how it ended.
fn tell_import(wanted: &cli::Import, summary: &import::Summary) -> anyhow::Result<ExitCode> {
    if wanted.json {
        print(&format!("{}\n", serde_json::to_string_pretty(summary)?))?;
    } else {
        print(&summary.to_string())?;
    }
    Ok(if wanted.strict && summary.faulty > 0 { ExitCode::from(FAULTY) } else { ExitCode::SUCCESS })
}

/// The card that the orders of an import are charged to. One that is charged for real has to be named.
fn card(config: &Config, wanted: &cli::Import) -> anyhow::Result<String> {
    match (&wanted.card, &config.gateway) {
        (Some(card), _) => Ok(card.clone()),
        // Which gateway is asked there is not known here.
        (None, _) if wanted.url.is_some() => anyhow::bail!("--url with --live wants the card named by --card"),
        (None, None) => Ok("tok_approved".to_owned()),
        (None, Some(gateway)) => anyhow::bail!(
            "{} is configured as the gateway, which would charge every order: name the card with --card, or leave out \
             gateway.url to try it out with the sandbox",
            gateway.url
        ),
    }
}

async fn import_and_fold(
    shop: &Shop,
    wanted: &cli::Import,
    options: &import::Options,
    config: &Config,
) -> anyhow::Result<import::Summary> {
    let mut summary = import::import(&wanted.file, options, &import::Target::Here(&shop.executor())).await?;
    if wanted.live {
        summary.checkouts = Some(
            import::settle(
                shop,
                &trade::processes(wanted.fulfil || config.sandbox_fulfil),
                &summary.placed,
                options.progress,
            )
            .await?,
        );
        summary.position = summary.position.max(shop.store.head().await?);
    }
    summary.fold_seconds = import::fold(shop, summary.position, options.progress).await?;
    Ok(summary)
}

/// Brings the made-up shop in and folds it.
async fn bring_demo(shop: &Shop) -> anyhow::Result<()> {
    let (ended, end) = watch::channel(false);
    let mut projectors = shop.project(&end);
    let brought = demo::bring(shop).await;
    let folded = import::fold(shop, shop.store.head().await?, false).await;
    ended.send_replace(true);
    while projectors.join_next().await.is_some() {}
    brought.and(folded.map(drop))
}

fn print(text: &str) -> anyhow::Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// Runs the private cluster until the process is asked to stop.
async fn run_postgres(config: &Config, throw_away: bool) -> anyhow::Result<()> {
    let bin_dir = config.postgres_bin_dir.as_deref();
    // Before anything is started, so that no signal finds the process without a handler.
    let mut stop = signals::stop()?;
    let postgres = match throw_away {
        true => PrivatePostgres::throw_away(bin_dir).await?,
        false => PrivatePostgres::start(&config.data_dir, bin_dir).await?,
    };
    print(&format!("{}\n", postgres.url()))?;
    stop.wait_for(|stop| *stop).await.context("the signal handler is gone")?;
    Ok(postgres.stop().await?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures::future::join_all;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_woken_from_elsewhere_has_its_turn_first() {
        let runtime = runtime().worker_threads(1).build().unwrap();
        for round in 0..20 {
            let place = runtime.block_on(async { tokio::spawn(place_among(50)).await.unwrap() });
            // What the thread has just begun itself comes before everything.
            assert!(place < 5, "round {round}: {place} of 50 others came first");
        }
    }

    /// Which turn a task has that another thread wakes while others are queued up.
    async fn place_among(others: usize) -> usize {
        let turns = Arc::new(AtomicUsize::new(0));
        let take_turn = |turns: &AtomicUsize| turns.fetch_add(1, Relaxed);
        let (answer, awaited) = oneshot::channel();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { awaited.await.map(|()| take_turn(&turns)).unwrap() }
        });
        // Now it waits.
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..others)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { take_turn(&turns) })
            })
            .collect();
        std::thread::spawn(move || answer.send(())).join().unwrap().unwrap();
        join_all(others).await;
        waiting.await.unwrap()
    }
}
