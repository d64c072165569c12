//! L1: the first command after a start to an aggregate with a million events, against the first to one with a few.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::postgres::PgPool;
use tokio::net::TcpStream;

use crate::http::post;
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, cpu};

/// How many events the long stream has before anything is measured.
const EVENTS: i64 = 1_000_000;
/// How much longer the long one may take.
const FURTHER: Duration = Duration::from_millis(50);

const LONG: &str = "LONG";
const SHORT: &str = "SHORT";
const RECEIVE: &str = r#"{"quantity":1}"#;

/// Goes on with the stream of LONG as if the command that began it had come again and again, by other keys.
const PROLONG: &str = "insert into log.events (position, stream, revision, id, type, data, metadata)
    select head + n, stream, n, gen_random_uuid(), type, data, convert_to(jsonb_set(
               convert_from(metadata, 'UTF8')::jsonb, '{commandId}', to_jsonb(gen_random_uuid()))::text, 'UTF8')
      from log.events, (select max(position) as head from log.events) h, generate_series(1, $1) n
     where stream = 'stock-LONG' and revision = 0";

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("l1").await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    for sku in [LONG, SHORT] {
        command(&address, sku).await?;
    }
    server::stop(&mut server).await?;
    sqlx::query(PROLONG).bind(EVENTS - 1).execute(&pool).await?;
    sqlx::raw_sql("vacuum analyze log.events").execute(&pool).await?;
    // The first to meet the stream has to read all of it; what it leaves behind is what is measured.
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    let met = command(&address, LONG).await?;
    while snapshot(&pool).await? < EVENTS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server::stop(&mut server).await?;

    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let mut sides = [None, None];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            sides[side] = Some(first(postgres, &url, [LONG, SHORT][side], round).await?);
        }
        let [Some((ours, our_cpu)), Some((baseline, baseline_cpu))] = sides else { continue };
        rounds.push(Round { ours, baseline, our_cpu, baseline_cpu });
    }
    let further = rounds.iter().map(|round| (round.ours - round.baseline) / 1e3).fold(f64::NEG_INFINITY, f64::max);
    let gate = gate(&pool, i64::from(options.rounds)).await?;
    Ok(Measured {
        name: "L1",
        what: "first command after a start, a stream of 1,000,000 events; against a short one",
        unit: "µs",
        better: Better::Less,
        floor: None,
        goal: None,
        rounds,
        gate,
        notes: vec![format!(
            "L1: the long one took {further:.1} ms longer at most (floor: {} ms); without a snapshot it took {:.1} s",
            FURTHER.as_millis(),
            met.as_secs_f64()
        )],
    })
}

/// Everything that was acknowledged is in the stream, without a gap, and counts.
async fn gate(pool: &PgPool, rounds: i64) -> anyhow::Result<Result<(), String>> {
    let sql = "select count(*), max(revision) from log.events where stream = 'stock-LONG'";
    let (there, last): (i64, i64) = sqlx::query_as(sql).fetch_one(pool).await?;
    let expected = EVENTS + 1 + rounds;
    let right = there == expected && last + 1 == there;
    Ok(if right { Ok(()) } else { Err(format!("{there} events up to {last}, and not {expected}")) })
}

/// The revision of the snapshot of the long stream.
async fn snapshot(pool: &PgPool) -> anyhow::Result<i64> {
    let sql = "select coalesce(max(revision), -1) from snapshots.aggregates where stream = 'stock-LONG'";
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

/// How long the first command to an aggregate takes after a start, in microseconds, and the CPU that it takes. Another one has
/// been commanded before, so that neither side pays for the first request to a server.
async fn first(
    postgres: &Postgres,
    url: &sqlx::postgres::PgConnectOptions,
    sku: &str,
    round: u32,
) -> anyhow::Result<(f64, f64)> {
    let (mut server, address) = postgres.serve(url, &["--roles", "write"]).await?;
    command(&address, &format!("WARM-{sku}-{round}")).await?;
    let pid = server.id().context("the server has ended")?;
    let before = postgres.cpu() + cpu::of_tree(pid);
    let took = command(&address, sku).await?;
    let cpu = postgres.cpu() + cpu::of_tree(pid) - before;
    server::stop(&mut server).await?;
    Ok((took.as_secs_f64() * 1e6, cpu as f64))
}

/// Sends a command on a connection of its own. Answers how long it took.
async fn command(address: &str, sku: &str) -> anyhow::Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, path) = (Vec::with_capacity(4_096), format!("/v1/stock/{sku}/receive"));
    let start = Instant::now();
    post(&mut stream, &mut buffer, address, &path, RECEIVE).await?;
    Ok(start.elapsed())
}
