//! The baseline of appends: `pgbench`, inserting one row a transaction into a table like the log's, with its indexes.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use sqlx::Executor as _;
use sqlx::postgres::PgPool;
use tokio::process::Command;

use crate::cpu;
use crate::server::Postgres;

/// How many clients pgbench runs; the better of the two counts.
const CLIENTS: [u32; 2] = [16, 64];

/// What pgbench did: transactions a second, and CPU microseconds a transaction.
pub(crate) struct Tps {
    pub(crate) per_second: f64,
    pub(crate) cpu: f64,
}

/// Makes the baseline's table: the log's own, empty, in another schema.
pub(crate) async fn prepare(pool: &PgPool) -> anyhow::Result<()> {
    pool.execute(
        "create schema baseline; create table baseline.events (like log.events including all);
         create sequence baseline.position cache 100",
    )
    .await?;
    Ok(())
}

/// Runs pgbench for some seconds with each number of clients, and answers the better one.
pub(crate) async fn run(postgres: &Postgres, database: &str, seconds: u32) -> anyhow::Result<Tps> {
    let mut best = None::<Tps>;
    for clients in CLIENTS {
        let tps = pgbench(postgres, database, clients, seconds).await?;
        if best.as_ref().is_none_or(|best| tps.per_second > best.per_second) {
            best = Some(tps);
        }
    }
    best.context("nothing was measured")
}

async fn pgbench(postgres: &Postgres, database: &str, clients: u32, seconds: u32) -> anyhow::Result<Tps> {
    let mut script = tempfile::NamedTempFile::new()?;
    let (data, metadata) = ("61".repeat(256), "62".repeat(64));
    writeln!(
        script,
        "insert into baseline.events (position, stream, revision, id, type, data, metadata) values
         (nextval('baseline.position'), 'bench-' || gen_random_uuid(), 0, gen_random_uuid(), 'Happened',
          '\\x{data}'::bytea, '\\x{metadata}'::bytea);"
    )?;
    let (host, user) = postgres.host_and_user()?;
    let (clients, time) = (clients.to_string(), seconds.to_string());
    let (before, start) = (postgres.cpu() + cpu::of_this(), Instant::now());
    let output = Command::new(program())
        .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients, "-T", &time, "-h", &host, "-U", &user, "-f"])
        .arg(script.path())
        .arg(database)
        .output()
        .await
        .context("pgbench cannot be run; it comes with Debian's package postgresql")?;
    let cpu = postgres.cpu() + cpu::of_this() - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    let number = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let done = number("number of transactions actually processed:").context("pgbench printed something else")?;
    let per_second = number("tps =").unwrap_or(done / start.elapsed().as_secs_f64());
    Ok(Tps { per_second, cpu: cpu as f64 / done })
}

/// pgbench comes with the server, and on Debian not in the path.
fn program() -> std::path::PathBuf {
    let homes = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = homes.map(|home| home.path().join("bin/pgbench")).filter(|program| program.exists());
    found.max().unwrap_or_else(|| "pgbench".into())
}
