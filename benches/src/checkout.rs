//! C1: whole checkouts. Orders of three lines are placed over HTTP, reserved, paid at the sandbox's gateway, sent, captured and
//! completed, with every read model folded beside it, all on the same cores. And how long one waits to be confirmed, when
//! half as many come as could be borne.
//!
//! The baseline is what the disk would bear: the events of a checkout as one-row inserts by `pgbench`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_store::PostgresEventStore;
use sqlx::postgres::PgPool;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, baseline, cpu, http};

const CONNECTIONS: usize = 64;
/// How many SKUs there are. Each order takes three of them.
const SKUS: u64 = 200;
/// How long it may take until the last order is completed.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("c1").await?;
    PostgresEventStore::migrate(&pool).await?;
    baseline::prepare(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--fulfil"]).await?;
    let shop = Shop { pid: server.id().context("the server has ended")?, address, pool };
    shop.stock_up().await?;
    let (mut rounds, mut placed, mut waits) = (Vec::new(), 0, Vec::new());
    for round in 0..options.rounds {
        let theirs = if round % 2 == 1 { Some(baseline::run(postgres, "c1", options.seconds).await?) } else { None };
        let (before, log, start) = (shop.cpu(postgres), shop.events().await?, Instant::now());
        let first = placed;
        shop.place(&mut placed, options.checkouts, None).await?;
        shop.until_completed().await?;
        let (seconds, count) = (start.elapsed().as_secs_f64(), (placed - first) as f64);
        let (cpu, events) = ((shop.cpu(postgres) - before) as f64 / count, (shop.events().await? - log) as f64 / count);
        let theirs = match theirs {
            Some(theirs) => theirs,
            None => baseline::run(postgres, "c1", options.seconds).await?,
        };
        let per_second = count / seconds;
        rounds.push(Round {
            ours: per_second,
            baseline: theirs.per_second / events,
            our_cpu: cpu,
            baseline_cpu: theirs.cpu * events,
        });
        let began: i64 = shop.events().await?;
        let calm = (per_second / 2.0 * f64::from(options.seconds)) as u64;
        shop.place(&mut placed, calm.max(1), Some(per_second / 2.0)).await?;
        shop.until_completed().await?;
        waits.push(shop.wait_for_confirmation(began).await?);
    }
    shop.until_folded().await?;
    let gate = shop.gate(placed).await?;
    server::stop(&mut server).await?;
    waits.sort_by(f64::total_cmp);
    let (median, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    Ok(Measured {
        name: "C1",
        what: "checkout of three lines, from placed to completed",
        unit: "/s",
        better: Better::More,
        floor: None,
        goal: None,
        rounds,
        gate,
        notes: vec![format!(
            "C1 at half that rate: 99 of 100 orders are confirmed within {median:.0} ms of being placed (worst round {worst:.0} ms)"
        )],
    })
}

struct Shop {
    pid: u32,
    address: String,
    pool: PgPool,
}

impl Shop {
    fn cpu(&self, postgres: &Postgres) -> u64 {
        postgres.cpu() + cpu::of_tree(self.pid) + cpu::of_this()
    }

    async fn events(&self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("select coalesce(max(position), 0) from log.events").fetch_one(&self.pool).await?)
    }

    async fn stock_up(&self) -> anyhow::Result<()> {
        let (mut stream, mut buffer) = (TcpStream::connect(&self.address).await?, Vec::new());
        for sku in 0..SKUS {
            let path = format!("/v1/stock/SKU-{sku}/receive");
            http::post(&mut stream, &mut buffer, &self.address, &path, r#"{"quantity":1000000}"#).await?;
        }
        Ok(())
    }

    /// Places so many orders, as fast as the connections bear or at a rate a second.
    async fn place(&self, placed: &mut u64, count: u64, per_second: Option<f64>) -> anyhow::Result<()> {
        let queue: VecDeque<u64> = (*placed..*placed + count).collect();
        *placed += count;
        let mut gate = per_second.map(|rate| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
        if let Some(gate) = &mut gate {
            gate.set_missed_tick_behavior(MissedTickBehavior::Burst);
        }
        let (gate, queue) = (Arc::new(tokio::sync::Mutex::new(gate)), Arc::new(Mutex::new(queue)));
        let clients = (0..CONNECTIONS).map(|_| {
            let (address, gate, queue) = (self.address.clone(), gate.clone(), queue.clone());
            tokio::spawn(async move {
                let (mut stream, mut buffer) = (TcpStream::connect(&address).await?, Vec::new());
                stream.set_nodelay(true)?;
                loop {
                    if let Some(gate) = &mut *gate.lock().await {
                        gate.tick().await;
                    }
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(number) = next else { return anyhow::Ok(()) };
                    let path = format!("/v1/order/{}/place", Uuid::now_v7());
                    http::post(&mut stream, &mut buffer, &address, &path, &order(number)).await?;
                }
            })
        });
        for client in futures::future::join_all(clients).await {
            client??;
        }
        Ok(())
    }

    /// Waits until no checkout is left. What is asked is small however many there were.
    async fn until_completed(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let left = "select (select count(*) from process.instances) + (select count(*) from process.managers
            where commit_position is distinct from (select max(position) from log.events))";
        while sqlx::query_scalar::<_, i64>(left).fetch_one(&self.pool).await? > 0 {
            anyhow::ensure!(start.elapsed() < PATIENCE, "some orders are not completed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until every read model has folded the whole log.
    async fn until_folded(&self) -> anyhow::Result<()> {
        let behind = "select count(*) from control.generations
            where state = 'live' and commit_position is distinct from (select max(position) from log.events)";
        let start = Instant::now();
        while sqlx::query_scalar::<_, i64>(behind).fetch_one(&self.pool).await? > 0 {
            anyhow::ensure!(start.elapsed() < PATIENCE, "the read models do not catch up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The 99th percentile of the time from placed to confirmed, in milliseconds, of the orders placed after a position.
    async fn wait_for_confirmation(&self, after: i64) -> anyhow::Result<f64> {
        let sql =
            "select percentile_disc(0.99) within group (order by extract(epoch from c.recorded_at - p.recorded_at))
                ::float8 * 1000
              from log.events p join log.events c using (stream)
             where p.type = 'OrderPlaced' and c.type = 'OrderConfirmed' and p.position > $1";
        Ok(sqlx::query_scalar(sql).bind(after).fetch_one(&self.pool).await?)
    }

    /// Every order is completed and charged once, and nothing is left reserved.
    async fn gate(&self, placed: u64) -> anyhow::Result<Result<(), String>> {
        let sql = "select (select count(*) from read.orders where status = 'completed'),
            (select coalesce(sum(total_minor), 0)::bigint from read.orders),
            (select coalesce(sum(amount_minor), 0)::bigint from read.ledger_entries where account = 'cash'),
            (select coalesce(sum(minor), 0)::bigint from sandbox.movements where kind = 'capture'),
            (select coalesce(sum(reserved), 0)::bigint from read.products)";
        let (completed, total, cash, taken, reserved): (i64, i64, i64, i64, i64) =
            sqlx::query_as(sql).fetch_one(&self.pool).await?;
        let holds = completed.cast_unsigned() == placed && total == cash && total == taken && reserved == 0;
        let found = format!(
            "{placed} orders were placed and {completed} completed; they cost {total}, the ledger has {cash} and the bank \
             {taken}; {reserved} units are reserved"
        );
        Ok(if holds { Ok(()) } else { Err(found) })
    }
}

/// An order of three lines whose SKUs follow from its number.
fn order(number: u64) -> String {
    let line = |step: u64| {
        let sku = (number * 7 + step * 61) % SKUS;
        format!(r#"{{"sku":"SKU-{sku}","quantity":2,"unit_price_minor":1250}}"#)
    };
    format!(
        r#"{{"country":"United Kingdom","currency":"GBP","card":"tok_approved","lines":[{},{},{}]}}"#,
        line(0),
        line(1),
        line(2)
    )
}
