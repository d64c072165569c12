//! S1: appends of one event to a new stream, 64 in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_store::{Append, EventStore, EventType, Expected, NewEvent, PostgresEventStore, StreamName};
use sqlx::postgres::PgPool;
use uuid::Uuid;

use crate::report::{Better, Measured, Round};
use crate::server::Postgres;
use crate::{Options, baseline, cpu};

const IN_FLIGHT: usize = 64;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (_, pool) = postgres.database("s1").await?;
    PostgresEventStore::migrate(&pool).await?;
    baseline::prepare(&pool).await?;
    let store = PostgresEventStore::open(pool.clone()).await?;
    let mut rounds = Vec::new();
    let mut acknowledged = 0;
    for round in 0..options.rounds {
        let ours_first = round % 2 == 0;
        let mut ours = None;
        if ours_first {
            ours = Some(run(postgres, &store, options.seconds).await?);
        }
        let theirs = baseline::run(postgres, "s1", options.seconds).await?;
        let ours = match ours {
            Some(ours) => ours,
            None => run(postgres, &store, options.seconds).await?,
        };
        acknowledged += ours.done;
        rounds.push(Round {
            ours: ours.done as f64 / ours.seconds,
            baseline: theirs.per_second,
            our_cpu: ours.cpu / ours.done as f64,
            baseline_cpu: theirs.cpu,
        });
    }
    let gate = gate(&pool, acknowledged).await?;
    Ok(Measured {
        name: "S1",
        what: "append, 64 in flight, 1 event, new stream",
        unit: "/s",
        better: Better::More,
        floor: Some(2.0),
        goal: Some(4.0),
        rounds,
        gate,
        notes: Vec::new(),
    })
}

struct Run {
    done: u64,
    seconds: f64,
    cpu: f64,
}

async fn run(postgres: &Postgres, store: &Arc<PostgresEventStore>, seconds: u32) -> anyhow::Result<Run> {
    let (before, start) = (postgres.cpu() + cpu::of_this(), Instant::now());
    let until = start + Duration::from_secs(u64::from(seconds));
    let worker = |_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (data, metadata) = (Bytes::from_static(&[b'a'; 256]), Bytes::from_static(&[b'b'; 64]));
            let mut done = 0_u64;
            while Instant::now() < until {
                let (data, metadata) = (data.clone(), metadata.clone());
                let event = NewEvent { id: Uuid::new_v4(), event_type: EventType::new("Happened")?, data, metadata };
                let stream = StreamName::new(format!("bench-{}", Uuid::new_v4()))?;
                store.append(Append { stream, expected: Expected::NoStream, events: vec![event] }).await?;
                done += 1;
            }
            Ok::<_, anyhow::Error>(done)
        })
    };
    let mut done = 0;
    for worker in futures::future::join_all((0..IN_FLIGHT).map(worker)).await {
        done += worker??;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run { done, seconds, cpu: (postgres.cpu() + cpu::of_this() - before) as f64 })
}

/// Everything that was acknowledged is there, and positions have no gap.
pub(crate) async fn gate(pool: &PgPool, acknowledged: u64) -> anyhow::Result<Result<(), String>> {
    let (there, top): (i64, i64) =
        sqlx::query_as("select count(*), coalesce(max(position), -1) from log.events").fetch_one(pool).await?;
    let right = u64::try_from(there)? == acknowledged && top + 1 == there;
    Ok(if right { Ok(()) } else { Err(format!("{acknowledged} acknowledged, {there} there, the last at {top}")) })
}
