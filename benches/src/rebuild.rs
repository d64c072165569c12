//! S6: `orders` and their lines rebuilt from the log, against the least that Postgres has to do for it: copy the events
//! out, and create, fill and index tables of exactly the final rows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use domain::codec::StoredEvent as _;
use domain::ordering::{Completed, Confirmed, Event, Placed, SaleMade};
use event_store::{Append, EventStore, EventType, Expected, Metadata, NewEvent, PostgresEventStore, StreamName};
use futures::{StreamExt as _, TryStreamExt as _};
use projections::Projector;
use projections::runtime::{self, Context, Phase};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

use crate::Options;
use crate::cpu;
use crate::report::{Better, Measured, Round};
use crate::server::Postgres;

const TABLES: [&str; 3] = ["orders", "order_lines", "order_timeline"];

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s6").await?;
    PostgresEventStore::migrate(&pool).await?;
    runtime::migrate(&pool).await?;
    let store = PostgresEventStore::open(pool.clone()).await?;
    fill(&store, options.events).await?;
    let context = Context::new(store, runtime::pool(&url).await?);
    let orders = projections::read_models().into_iter().find(|model| model.name() == "orders");
    let orders = orders.context("there is a read model of orders")?;
    // The first rebuild fills the tables; what it leaves is what the baseline loads.
    orders.rebuild(&context, &|_| {}).await?;
    let before = hash(&pool).await?;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let ours_first = round % 2 == 0;
        let mut ours = None;
        if ours_first {
            ours = Some(timed(postgres, ours_once(&orders, &context)).await?);
        }
        let (their_seconds, their_cpu) = baseline(postgres, &pool).await?;
        let (our_seconds, our_cpu) = match ours {
            Some(ours) => ours,
            None => timed(postgres, ours_once(&orders, &context)).await?,
        };
        let events = options.events as f64;
        rounds.push(Round {
            ours: events / our_seconds,
            baseline: events / their_seconds,
            our_cpu: our_cpu / events,
            baseline_cpu: their_cpu / events,
        });
    }
    let after = hash(&pool).await?;
    let gate = if before == after { Ok(()) } else { Err(format!("the rows were {before}, now they are {after}")) };
    Ok(Measured {
        name: "S6",
        what: "rebuild of orders, lines and timeline, events",
        unit: "/s",
        better: Better::More,
        floor: Some(0.5),
        goal: Some(0.8),
        rounds,
        gate,
        notes: vec![phases(&orders, &context).await?],
    })
}

async fn ours_once(orders: &Arc<dyn Projector>, context: &Context) -> anyhow::Result<()> {
    orders.rebuild(context, &|_| {}).await?;
    Ok(())
}

/// How long each phase of a rebuild takes, and how much memory the whole.
async fn phases(orders: &Arc<dyn Projector>, context: &Context) -> anyhow::Result<String> {
    let begun = Mutex::new(Vec::<(Phase, Instant)>::new());
    let note = |progress: runtime::Progress| {
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.last().is_none_or(|(phase, _)| *phase != progress.phase) {
            begun.push((progress.phase, Instant::now()));
        }
    };
    // From here on the kernel counts the largest memory anew; see proc(5).
    std::fs::write("/proc/self/clear_refs", "5")?;
    let (before, start) = (cpu::memory(std::process::id(), "VmRSS"), Instant::now());
    orders.rebuild(context, &note).await?;
    let (end, peak) = (Instant::now(), cpu::memory(std::process::id(), "VmHWM"));
    let begun = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ends = begun.iter().skip(1).map(|(_, next)| *next).chain([end]);
    let phases = begun.iter().zip(ends).enumerate().map(|(place, ((phase, begin), end))| {
        let begin = if place == 0 { start } else { *begin };
        format!("{phase:?} {:.2} s", (end - begin).as_secs_f64())
    });
    let phases = phases.collect::<Vec<_>>().join(", ");
    Ok(format!("S6, one more rebuild: {phases}; this process had {before} MiB before and {peak} MiB at most"))
}

/// How long some work took, in seconds, and what it cost in CPU microseconds.
async fn timed(postgres: &Postgres, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<(f64, f64)> {
    let (before, start) = (postgres.cpu() + cpu::of_this(), Instant::now());
    work.await?;
    Ok((start.elapsed().as_secs_f64(), (postgres.cpu() + cpu::of_this() - before) as f64))
}

/// The least that has to be done. The final rows are taken out beforehand; that is not in the time.
async fn baseline(postgres: &Postgres, pool: &PgPool) -> anyhow::Result<(f64, f64)> {
    let mut connection = PgConnection::connect_with(pool.connect_options().as_ref()).await?;
    let mut rows = Vec::new();
    for table in TABLES {
        let copy = format!("copy (select * from read.{table}) to stdout (format binary)");
        let chunks: Vec<_> = connection.copy_out_raw(&copy).await?.try_collect().await?;
        rows.push(chunks);
    }
    let timed = timed(postgres, async {
        let mut events = connection.copy_out_raw("copy log.events to stdout (format binary)").await?;
        let mut bytes = 0;
        while let Some(chunk) = events.next().await {
            bytes += chunk?.len();
        }
        drop(events);
        anyhow::ensure!(bytes > 0, "the log is empty");
        let mut transaction = connection.begin().await?;
        transaction.execute("create schema baseline; set local search_path to baseline").await?;
        sqlx::raw_sql(include_str!("../../migrations/read_models/orders.sql")).execute(&mut *transaction).await?;
        for (table, chunks) in TABLES.iter().zip(rows) {
            let mut sink =
                transaction.copy_in_raw(&format!("copy {table} from stdin (format binary, freeze true)")).await?;
            for chunk in chunks {
                sink.send(chunk).await?;
            }
            sink.finish().await?;
        }
        sqlx::raw_sql(include_str!("../../migrations/read_models/orders.keys.sql")).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    })
    .await?;
    pool.execute("drop schema baseline cascade").await?;
    Ok(timed)
}

async fn hash(pool: &PgPool) -> anyhow::Result<String> {
    let mut hashes = Vec::new();
    for table in TABLES {
        let sql =
            format!("select count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) from read.{table} t");
        hashes.push(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_one(pool).await?);
    }
    Ok(hashes.join(" "))
}

/// Fills the log: orders of three lines, each placed, most confirmed, half of them completed: 2.5 events an order.
async fn fill(store: &Arc<PostgresEventStore>, events: u64) -> anyhow::Result<()> {
    let orders = events * 2 / 5;
    futures::stream::iter(0..orders)
        .map(|number| {
            let store = store.clone();
            async move {
                let history = history(number)?;
                let stream = StreamName::new(format!("order-{}", Uuid::from_u128(u128::from(number) << 64 | 7)))?;
                Ok::<_, anyhow::Error>(
                    store.append(Append { stream, expected: Expected::NoStream, events: history }).await?,
                )
            }
        })
        .buffer_unordered(512)
        .try_for_each(|_| async { Ok(()) })
        .await
}

fn history(number: u64) -> anyhow::Result<Vec<NewEvent>> {
    let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::minutes(i64::try_from(number)?);
    let line = |n: u64| serde_json::json!({ "sku": format!("SKU-{:04}", (number * 7 + n * 131) % 4_000), "quantity": 1 + (number + n) % 9, "unit_price_minor": 100 + n });
    let sale: SaleMade = serde_json::from_value(serde_json::json!({
        "reference": format!("{number}"), "customer": Uuid::from_u128(u128::from(number % 5_000)), "country": "United Kingdom",
        "currency": "GBP", "placed_at": at, "lines": [line(0), line(1), line(2)], "total_minor": 1_000,
    }))?;
    let mut events: Vec<Event> = vec![Placed(sale).into(), Confirmed {}.into()];
    if number.is_multiple_of(2) {
        events.push(Completed {}.into());
    }
    let command_id = Uuid::from_u128(u128::from(number));
    let metadata = Metadata {
        correlation_id: command_id,
        causation_id: command_id,
        schema: 1,
        command_id,
        command_hash: "00000000000000000000000000000000".to_owned(),
        actor: None,
        tenant: None,
        traceparent: None,
        occurred_at: at,
    };
    let stored = |(index, event): (usize, &Event)| {
        let encoded = event.encode()?;
        Ok(NewEvent {
            id: Uuid::new_v5(&command_id, &index.to_be_bytes()),
            event_type: EventType::new(encoded.event_type)?,
            data: encoded.data.into(),
            metadata: metadata.to_bytes()?,
        })
    };
    events.iter().enumerate().map(stored).collect()
}
