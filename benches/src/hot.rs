//! S3: one aggregate that everybody wants, over HTTP: 64 connections that all command one SKU, against 64 that command one
//! each.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_store::PostgresEventStore;
use sqlx::postgres::PgPool;
use tokio::net::TcpStream;

use crate::http::{CONNECTIONS, post};
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, append, cpu};

/// How one side finds its stock.
type Sku = fn(usize) -> String;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s3").await?;
    PostgresEventStore::migrate(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    let pid = server.id().context("the server has ended")?;
    let (hot, cold): (Sku, Sku) = (|_| "HOT".to_owned(), |number| format!("COLD-{number}"));
    let (mut rounds, mut acknowledged, mut of_hot) = (Vec::new(), 0, 0);
    for round in 0..options.rounds {
        let mut sides = [None, None];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            sides[side] = Some(run(postgres, pid, &address, options.seconds, [hot, cold][side]).await?);
        }
        let [Some(ours), Some(theirs)] = sides else { continue };
        (acknowledged, of_hot) = (acknowledged + ours.done + theirs.done, of_hot + ours.done);
        rounds.push(Round {
            ours: ours.per_second,
            baseline: theirs.per_second,
            our_cpu: ours.cpu,
            baseline_cpu: theirs.cpu,
        });
    }
    server::stop(&mut server).await?;
    let gate = match append::gate(&pool, acknowledged).await? {
        Ok(()) => gate(&pool, of_hot).await?,
        broken => broken,
    };
    Ok(Measured {
        name: "S3",
        what: "HTTP command, 64 connections, one SKU; against a SKU each",
        unit: "/s",
        better: Better::More,
        floor: Some(0.8),
        goal: Some(2.0),
        rounds,
        gate,
        notes: Vec::new(),
    })
}

/// The one SKU has an event for each command that was acknowledged, by as many commands, without a gap.
async fn gate(pool: &PgPool, acknowledged: u64) -> anyhow::Result<Result<(), String>> {
    let (there, commands, last): (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(distinct convert_from(metadata, 'UTF8')::json ->> 'commandId'), max(revision)
           from log.events where stream = 'stock-HOT'",
    )
    .fetch_one(pool)
    .await?;
    let right = u64::try_from(there)? == acknowledged && commands == there && last + 1 == there;
    let wrong = format!("{acknowledged} acknowledged, {there} there, by {commands} commands, the last is {last}");
    Ok(if right { Ok(()) } else { Err(wrong) })
}

struct Run {
    done: u64,
    per_second: f64,
    cpu: f64,
}

async fn run(postgres: &Postgres, server: u32, address: &str, seconds: u32, sku: Sku) -> anyhow::Result<Run> {
    let all = || postgres.cpu() + cpu::of_tree(server) + cpu::of_this();
    let (before, start) = (all(), Instant::now());
    let until = start + Duration::from_secs(u64::from(seconds));
    let clients = (0..CONNECTIONS).map(|number| tokio::spawn(client(address.to_owned(), sku(number), until)));
    let mut done = 0;
    for client in futures::future::join_all(clients).await {
        done += client??;
    }
    let count = done as f64;
    Ok(Run { done, per_second: count / start.elapsed().as_secs_f64(), cpu: (all() - before) as f64 / count })
}

/// One connection whose stock receives one unit after another.
async fn client(address: String, sku: String, until: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, path) = (Vec::with_capacity(4_096), format!("/v1/stock/{sku}/receive"));
    let mut done = 0;
    while Instant::now() < until {
        post(&mut stream, &mut buffer, &address, &path, r#"{"quantity":1}"#).await?;
        done += 1;
    }
    Ok(done)
}
