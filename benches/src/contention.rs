//! S4: commands to aggregates that many want at once: 64 in flight, over 1,000 stocks of which few are in great demand (Zipf,
//! 0.99). Ours is the executor; the baseline is the plain loop on sqlx: read the stream, fold it, insert at the next revision,
//! and again when somebody else was faster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use domain::codec::StoredEvent as _;
use domain::decider::Decider as _;
use domain::ids::Sku;
use domain::inventory::{Event, Receive, Stock};
use event_store::PostgresEventStore;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::task::JoinSet;
use uuid::Uuid;
use write_side::{Envelope, Executor};

use crate::report::{Better, Measured, Round};
use crate::server::Postgres;
use crate::{Options, append, baseline, cpu};

const IN_FLIGHT: u32 = 64;
const STREAMS: usize = 1_000;
const SKEW: f64 = 0.99;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s4").await?;
    PostgresEventStore::migrate(&pool).await?;
    baseline::prepare(&pool).await?;
    let executor = Executor::new(PostgresEventStore::open(pool.clone()).await?);
    let plain = plain_pool(url).await?;
    let demand = Arc::new(Demand::new());
    let (mut rounds, mut acknowledged, mut inserted) = (Vec::new(), 0, 0);
    for round in 0..options.rounds {
        let mut sides = [None, None];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (executor, plain, demand) = (executor.clone(), plain.clone(), demand.clone());
            sides[side] = Some(if side == 0 {
                run(postgres, options.seconds, &demand, move |sku| execute(executor.clone(), sku)).await?
            } else {
                run(postgres, options.seconds, &demand, move |sku| insert(plain.clone(), sku)).await?
            });
        }
        let [Some(ours), Some(theirs)] = sides else { continue };
        (acknowledged, inserted) = (acknowledged + ours.done, inserted + theirs.done);
        rounds.push(Round {
            ours: ours.per_second,
            baseline: theirs.per_second,
            our_cpu: ours.cpu,
            baseline_cpu: theirs.cpu,
        });
    }
    let gate = match append::gate(&pool, acknowledged).await? {
        Ok(()) => gate(&pool, acknowledged, inserted).await?,
        broken => broken,
    };
    Ok(Measured {
        name: "S4",
        what: "load, decide, append: 64 in flight, 1,000 streams, Zipf 0.99",
        unit: "/s",
        better: Better::More,
        floor: Some(20.0),
        goal: Some(40.0),
        rounds,
        gate,
        notes: Vec::new(),
    })
}

/// On both sides each stream is without a gap and each command is there once.
async fn gate(pool: &PgPool, ours: u64, theirs: u64) -> anyhow::Result<Result<(), String>> {
    for (table, acknowledged) in [("log", ours), ("baseline", theirs)] {
        let sql = format!(
            "select coalesce(sum(last + 1), 0)::bigint, coalesce(sum(there), 0)::bigint
               from (select max(revision) as last, count(*) as there from {table}.events group by stream) s"
        );
        let (long, there): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await?;
        if long != there || u64::try_from(there)? != acknowledged {
            return Ok(Err(format!("{table}: {acknowledged} acknowledged, {there} there, streams of {long}")));
        }
    }
    Ok(Ok(()))
}

/// A connection for each that is in flight.
async fn plain_pool(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(IN_FLIGHT).test_before_acquire(false).connect_with(options).await?)
}

/// Which stock is wanted next.
struct Demand(Vec<f64>);

impl Demand {
    fn new() -> Self {
        let mut sum = 0.0;
        let weights = (1..=STREAMS).map(|rank| {
            sum += (rank as f64).powf(-SKEW);
            sum
        });
        let mut weights: Vec<f64> = weights.collect();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Self(weights)
    }

    fn next(&self) -> anyhow::Result<Sku> {
        let chance = Uuid::new_v4().as_u64_pair().1 << 2 >> 11;
        let chance = chance as f64 / (1_u64 << 53) as f64;
        Ok(format!("S{}", self.0.partition_point(|weight| *weight < chance)).parse()?)
    }
}

struct Run {
    done: u64,
    per_second: f64,
    cpu: f64,
}

async fn run<F>(
    postgres: &Postgres,
    seconds: u32,
    demand: &Arc<Demand>,
    work: impl Fn(Sku) -> F + Clone + Send + 'static,
) -> anyhow::Result<Run>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (before, start) = (postgres.cpu() + cpu::of_this(), Instant::now());
    let until = start + Duration::from_secs(u64::from(seconds));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (demand, work) = (demand.clone(), work.clone());
        workers.spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < until {
                work(demand.next()?).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(worker) = workers.join_next().await {
        done += worker??;
    }
    let (count, seconds) = (done as f64, start.elapsed().as_secs_f64());
    let cpu = (postgres.cpu() + cpu::of_this() - before) as f64 / count;
    Ok(Run { done, per_second: count / seconds, cpu })
}

fn receive() -> anyhow::Result<Receive> {
    Ok(Receive { quantity: 1.try_into()? })
}

async fn execute(executor: Executor, sku: Sku) -> anyhow::Result<()> {
    let envelope = Envelope::new(Uuid::now_v7(), "the same".to_owned(), Utc::now());
    executor.execute::<Stock>(&sku, receive()?.into(), &envelope).await?;
    Ok(())
}

/// The loop that one writes without a second thought.
async fn insert(pool: PgPool, sku: Sku) -> anyhow::Result<()> {
    let stream = format!("{}-{sku}", Stock::CATEGORY);
    loop {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as("select type, data from baseline.events where stream = $1 order by revision")
                .bind(&stream)
                .fetch_all(&pool)
                .await?;
        let mut state = Stock::initial();
        for (event_type, data) in &rows {
            state = Stock::evolve(state, &Event::decode(event_type, 1, data)?);
        }
        let decided = Stock::decide(&state, receive()?.into())?;
        let event = decided.first().context("nothing was received")?.encode()?;
        let inserted = sqlx::query(
            "insert into baseline.events (position, stream, revision, id, type, data, metadata) values
             (nextval('baseline.position'), $1, $2, gen_random_uuid(), $3, $4, $5)",
        )
        .bind(&stream)
        .bind(i64::try_from(rows.len())?)
        .bind(event.event_type)
        .bind(event.data)
        .bind([b'b'; 64].as_slice())
        .execute(&pool)
        .await;
        match inserted {
            Ok(_) => return Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            Err(error) => return Err(error.into()),
        }
    }
}
