//! S5: how long after a command was answered its row is seen, with commands, projectors and queries in one process and half the
//! load that it sustains; against how long a plain commit takes at the same rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::Row as _;
use sqlx::postgres::PgPool;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::http::{CONNECTIONS, ORDER, post};
use crate::report::{self, Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, baseline, cpu};

/// How long the load lasts before times are taken, in seconds. Half of what the shop sustains is a load that goes on; in the first
/// moments after a rest, whoever has more threads waits longer for the system to spread them over its cores.
pub(crate) const WARM_UP: u32 = 1;
/// How often it is looked for what can be seen.
const POLL: Duration = Duration::from_millis(1);
/// How often something is sent: as evenly as the runtime's clock lets it be.
const TICK: Duration = Duration::from_millis(1);

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s5").await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write,project,read"]).await?;
    baseline::prepare(&pool).await?;
    let shop = Shop::open(server.id().context("the server has ended")?, address).await?;
    let seconds = f64::from(options.seconds);
    // One run alone, the first after a rest above all, is faster or slower than what goes on.
    let mut sustained = Vec::new();
    for _ in 0..options.rounds {
        sustained.push(shop.sustained(&pool, options.seconds).await?);
    }
    let rate = report::median(sustained) / 2.0;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let ours_first = round % 2 == 0;
        let mut ours = None;
        if ours_first {
            ours = Some(lag(postgres, &shop, &pool, rate, options.seconds).await?);
        }
        let theirs = commits(postgres, &pool, rate, options.seconds).await?;
        let ours = match ours {
            Some(ours) => ours,
            None => lag(postgres, &shop, &pool, rate, options.seconds).await?,
        };
        rounds.push(Round {
            ours: p99(ours.0),
            baseline: p99(theirs.0),
            our_cpu: ours.1 / (rate * seconds),
            baseline_cpu: theirs.1 / (rate * seconds),
        });
    }
    server::stop(&mut server).await?;
    let (orders, appended): (i64, i64) =
        sqlx::query_as("select (select count(*) from read.orders), (select count(*) from log.events)")
            .fetch_one(&pool)
            .await?;
    let gate =
        if orders == appended { Ok(()) } else { Err(format!("{appended} orders were placed, {orders} are seen")) };
    Ok(Measured {
        name: "S5",
        what: "durable command to visible row, p99, half load",
        unit: "µs",
        better: Better::Less,
        floor: Some(3.0),
        goal: Some(1.5),
        rounds,
        gate,
        notes: vec![format!("S5: half load is {rate:.0} orders a second here")],
    })
}

/// A connection, and room for what comes over it.
type Connection = (TcpStream, Vec<u8>);

/// A running server, and connections to it.
#[derive(Clone)]
struct Shop {
    pid: u32,
    address: Arc<str>,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Shop {
    async fn open(pid: u32, address: String) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            idle.push((stream, Vec::with_capacity(4_096)));
        }
        Ok(Self {
            pid,
            address: address.into(),
            idle: Arc::new(Mutex::new(idle)),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// The CPU microseconds of everything that is measured so far.
    fn cpu(&self, postgres: &Postgres) -> u64 {
        postgres.cpu() + cpu::of_tree(self.pid) + cpu::of_this()
    }

    /// Records an order. Answers where in the log.
    async fn record(&self) -> anyhow::Result<u64> {
        let _turn = self.turns.acquire().await?;
        let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut stream, mut buffer) = connection.context("a connection was lost")?;
        let path = format!("/v1/order/{}/record", Uuid::now_v7());
        let body = post(&mut stream, &mut buffer, &self.address, &path, ORDER).await?;
        let answer: serde_json::Value = serde_json::from_slice(&buffer[body..])?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((stream, buffer));
        let position = answer["position"].as_str().and_then(|position| position.split('/').next()?.parse().ok());
        position.with_context(|| format!("there is no position in {answer}"))
    }

    /// How many orders a second can be recorded and seen.
    async fn sustained(&self, pool: &PgPool, seconds: u32) -> anyhow::Result<f64> {
        let start = Instant::now();
        let until = start + Duration::from_secs(u64::from(seconds));
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let shop = self.clone();
            workers.spawn(async move {
                let (mut done, mut last) = (0_u64, 0);
                while Instant::now() < until {
                    last = shop.record().await?;
                    done += 1;
                }
                anyhow::Ok((done, last))
            });
        }
        let (mut done, mut last) = (0, 0);
        while let Some(worker) = workers.join_next().await {
            let (more, to) = worker??;
            (done, last) = (done + more, last.max(to));
        }
        while slowest(pool).await? < last {
            tokio::time::sleep(TICK).await;
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }
}

/// Up to where every read model has folded the log.
async fn slowest(pool: &PgPool) -> anyhow::Result<u64> {
    let slowest = sqlx::query(
        "select coalesce(min(coalesce(commit_position, 0)), 0) from control.generations where state = 'live'",
    );
    Ok(u64::try_from(slowest.fetch_one(pool).await?.try_get::<i64, _>(0)?)?)
}

/// Records orders at a rate and answers how long each took to be seen from when it was answered, and the CPU that all took.
async fn lag(
    postgres: &Postgres,
    shop: &Shop,
    pool: &PgPool,
    rate: f64,
    seconds: u32,
) -> anyhow::Result<(Vec<Duration>, f64)> {
    server::settle().await?;
    let warm_up = {
        let shop = shop.clone();
        move || {
            let shop = shop.clone();
            async move { shop.record().await.map(drop) }
        }
    };
    paced(rate, WARM_UP, warm_up).await?;
    let before = shop.cpu(postgres);
    let waiting = Arc::new(Mutex::new(Vec::<(u64, Instant)>::new()));
    let acknowledged = {
        let (shop, waiting) = (shop.clone(), waiting.clone());
        move || {
            let (shop, waiting) = (shop.clone(), waiting.clone());
            async move {
                let position = shop.record().await?;
                waiting.lock().unwrap_or_else(PoisonError::into_inner).push((position, Instant::now()));
                Ok(())
            }
        }
    };
    let pace = paced(rate, seconds, acknowledged);
    let mut lags = Vec::new();
    let observe = async {
        let wanted = count(rate, seconds);
        let mut connection = pool.acquire().await?;
        let sql =
            "select coalesce(commit_position, 0) from control.generations where name = 'orders' and state = 'live'";
        while lags.len() < wanted {
            let seen: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
            let (now, seen) = (Instant::now(), u64::try_from(seen)?);
            // What is seen before its client was told has no lag at all.
            waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|(position, since)| {
                let is_seen = *position <= seen;
                if is_seen {
                    lags.push(now.saturating_duration_since(*since));
                }
                !is_seen
            });
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(pace, observe)?;
    Ok((lags, (shop.cpu(postgres) - before) as f64))
}

/// Commits one row at a time at a rate, and answers how long each took.
pub(crate) async fn commits(
    postgres: &Postgres,
    pool: &PgPool,
    rate: f64,
    seconds: u32,
) -> anyhow::Result<(Vec<Duration>, f64)> {
    server::settle().await?;
    let took = Arc::new(Mutex::new(Vec::new()));
    let mut commit = {
        let (pool, took) = (pool.clone(), took.clone());
        move || {
            let (pool, took) = (pool.clone(), took.clone());
            async move {
                let mut connection = pool.acquire().await?;
                // Waiting for a connection is not committing.
                let start = Instant::now();
                sqlx::query(
                    "insert into baseline.events (position, stream, revision, id, type, data, metadata) values
                     (nextval('baseline.position'), $1, 0, gen_random_uuid(), 'Happened', $2, $2)",
                )
                .bind(format!("bench-{}", Uuid::now_v7()))
                .bind([b'a'; 320].as_slice())
                .execute(&mut *connection)
                .await?;
                took.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
                Ok(())
            }
        }
    };
    let times = || std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
    paced(rate, WARM_UP, &mut commit).await?;
    drop(times());
    let before = postgres.cpu() + cpu::of_this();
    paced(rate, seconds, commit).await?;
    let took = times();
    Ok((took, (postgres.cpu() + cpu::of_this() - before) as f64))
}

pub(crate) fn count(rate: f64, seconds: u32) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let count = (rate * f64::from(seconds)) as usize;
    count
}

/// Does something so often a second, whether or not the last one is done.
pub(crate) async fn paced<F>(rate: f64, seconds: u32, mut work: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (start, wanted) = (Instant::now(), count(rate, seconds));
    let mut tick = tokio::time::interval(TICK);
    let (mut begun, mut works) = (0, JoinSet::new());
    while begun < wanted {
        tick.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate).min(wanted as f64);
        while (begun as f64) < due {
            works.spawn(work());
            begun += 1;
        }
        // What is done is let go of at once: fresh memory for each would stop the clock for as long as a huge page takes to clear.
        while let Some(work) = works.try_join_next() {
            work.context("it was cut off")??;
        }
    }
    while let Some(work) = works.join_next().await {
        work.context("it was cut off")??;
    }
    Ok(())
}

/// The 99th percentile, in microseconds.
pub(crate) fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
