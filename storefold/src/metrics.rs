//! The figures that a process keeps of itself, as Prometheus asks for them. What each of them means stands in docs/runbook.md.

use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Refusal, Scope};
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::Utc;
use event_store::{EventStore, Position};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use projections::runtime;
use sqlx::postgres::PgPool;
use write_side::process;

use crate::server;
use crate::shop::Shop;

/// How often what was measured is added up, when nobody asks for it.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long the databases may take to say how far everything is. Who asks gets the other figures then.
const PATIENCE: Duration = Duration::from_secs(2);

/// The media type of the text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Into which durations are sorted, in seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Into which numbers of things are sorted.
const COUNTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];

/// What kind of figure it is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long something took, in seconds.
    Seconds,
    /// How many things went together.
    Counts,
}

/// Every figure, but for those of the process as the system sees it.
const FIGURES: &[(&str, Kind, &str)] = &[
    ("http_requests_total", Kind::Counter, "Requests that were answered."),
    ("http_request_duration_seconds", Kind::Seconds, "From a request's handler to the beginning of its answer."),
    ("http_requests_in_flight", Kind::Gauge, "Requests that are worked on."),
    ("http_requests_turned_away_total", Kind::Counter, "Requests that were answered with no, or not in time."),
    ("http_connections_turned_away_total", Kind::Counter, "Connections that were closed at once, unread."),
    ("commands_total", Kind::Counter, "Commands that were sent, by what became of them."),
    ("command_duration_seconds", Kind::Seconds, "From a command that was read to its answer."),
    ("command_conflicts_total", Kind::Counter, "Appends that came too late, for another process was faster."),
    ("mailbox_waiting", Kind::Gauge, "Commands that wait for their aggregate."),
    ("mailbox_batch_commands", Kind::Counts, "Commands of an aggregate that were carried out together."),
    ("aggregate_cache_total", Kind::Counter, "Whether an aggregate was in memory when a command came."),
    ("aggregate_reads_total", Kind::Counter, "Streams that were read for a command, and from where on."),
    ("log_append_seconds", Kind::Seconds, "From a batch that was sent to the log to its answer."),
    ("log_append_events", Kind::Counts, "Events in a batch that was appended to the log."),
    ("log_append_failures_total", Kind::Counter, "Batches that the log did not take, or of which it did not say."),
    ("projection_events_total", Kind::Counter, "Events that a projector of this process has seen."),
    ("projection_batch_events", Kind::Counts, "Events of a batch that changed a read model."),
    ("projection_batch_seconds", Kind::Seconds, "From a batch that was read to its rows."),
    ("projection_lag_events", Kind::Gauge, "Events of the log that a read model has not seen."),
    ("projection_lag_seconds", Kind::Gauge, "Since when a read model that is behind has not moved."),
    ("projection_led", Kind::Gauge, "Whether a running process leads the projector: 1 or 0."),
    ("projection_stopped", Kind::Gauge, "Whether the projector stands still, with an error: 1 or 0."),
    ("projection_parked_events", Kind::Gauge, "Events of a read model that are parked."),
    ("process_manager_lag_events", Kind::Gauge, "Events of the log that a process manager has not seen."),
    ("process_manager_lag_seconds", Kind::Gauge, "Since when a process manager that is behind has not moved."),
    ("process_manager_stopped", Kind::Gauge, "Whether a process manager stands still, with an error: 1 or 0."),
    ("process_manager_open", Kind::Gauge, "Instances of a process that have something left to do."),
    ("process_manager_parked", Kind::Gauge, "Instances of a process that wait for a person."),
    ("process_manager_retries_total", Kind::Counter, "Commands of a process that could not be carried out yet."),
    ("database_connections", Kind::Gauge, "Connections to Postgres that are open, by pool and whether they are busy."),
    ("database_up", Kind::Gauge, "Whether the databases said how far everything is: 1 or 0."),
    ("storefold_build_info", Kind::Gauge, "1, with the version of the program."),
];

/// The counters without labels.
const UNLABELLED: [&str; 3] =
    ["http_connections_turned_away_total", "log_append_failures_total", "process_manager_retries_total"];

/// Has figures kept from here on. Called once.
///
/// # Errors
/// When they are kept elsewhere already.
pub(crate) fn keep() -> anyhow::Result<PrometheusHandle> {
    let recorder = FIGURES.iter().try_fold(PrometheusBuilder::new(), |builder, (name, kind, _)| {
        let buckets: &[f64] = match kind {
            Kind::Seconds => &SECONDS,
            Kind::Counts => &COUNTS,
            Kind::Counter | Kind::Gauge => return Ok(builder),
        };
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
    })?;
    let recorder = recorder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("figures are kept elsewhere already"))?;
    for &(name, kind, help) in FIGURES {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Seconds => describe_histogram!(name, Unit::Seconds, help),
            Kind::Counts => describe_histogram!(name, help),
        }
    }
    // A counter that is there from the beginning has grown when it is one for the first time.
    UNLABELLED.iter().for_each(|&name| counter!(name).increment(0));
    gauge!("mailbox_waiting").set(0);
    server::count_turned_away_from_zero();
    Collector::default().describe();
    gauge!("storefold_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// What the figures are taken from when somebody asks for them.
struct Sources {
    handle: PrometheusHandle,
    system: Collector,
    store: Arc<dyn EventStore>,
    pools: [(&'static str, PgPool); 2],
}

/// `GET /metrics`, for who may see how far the read models are.
pub(crate) fn router(handle: PrometheusHandle, shop: &Shop) -> Router {
    let pools = [("read", shop.read_pool.clone()), ("projections", shop.projections.pool.clone())];
    let (system, store) = (Collector::default(), shop.store.clone());
    Router::new().route("/metrics", get(show)).with_state(Arc::new(Sources { handle, system, store, pools }))
}

async fn show(State(sources): State<Arc<Sources>>, caller: Caller) -> Result<Response, Refusal> {
    caller.demand_of_staff(Scope::OperationsRead)?;
    sources.system.collect();
    for (pool, of) in &sources.pools {
        let idle = of.num_idle();
        let busy = (of.size() as usize).saturating_sub(idle);
        gauge!("database_connections", "pool" => *pool, "state" => "idle").set(idle as f64);
        gauge!("database_connections", "pool" => *pool, "state" => "busy").set(busy as f64);
    }
    let looked = tokio::time::timeout(PATIENCE, look(&*sources.store, &sources.pools[1].1)).await;
    let is_up = matches!(looked, Ok(Ok(())));
    if let Ok(Err(error)) = looked {
        tracing::warn!(error = format!("{error:#}"), "how far the read models are could not be read");
    }
    gauge!("database_up").set(f64::from(u8::from(is_up)));
    Ok(([(header::CONTENT_TYPE, TEXT)], sources.handle.render()).into_response())
}

/// Looks how far everything is that follows the log.
async fn look(store: &dyn EventStore, pool: &PgPool) -> anyhow::Result<()> {
    let head = store.head().await?;
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    for standing in runtime::standings(pool).await? {
        let live = standing.live;
        let labels = [("read_model", live.name)];
        if let Some(events) = behind(store, live.checkpoint, head) {
            gauge!("projection_lag_events", &labels).set(events as f64);
        }
        gauge!("projection_lag_seconds", &labels).set(age(live.checkpoint == head, live.moved_at));
        gauge!("projection_led", &labels).set(flag(standing.led));
        gauge!("projection_stopped", &labels).set(flag(live.error.is_some()));
        gauge!("projection_parked_events", &labels).set(standing.parked as f64);
    }
    for progress in process::progress(pool).await? {
        let labels = [("process", progress.process)];
        if let Some(events) = behind(store, progress.position, head) {
            gauge!("process_manager_lag_events", &labels).set(events as f64);
        }
        gauge!("process_manager_lag_seconds", &labels).set(age(progress.position == head, progress.moved_at));
        gauge!("process_manager_stopped", &labels).set(flag(progress.error.is_some()));
        gauge!("process_manager_open", &labels).set(progress.open as f64);
        gauge!("process_manager_parked", &labels).set(progress.parked as f64);
    }
    Ok(())
}

fn behind(store: &dyn EventStore, position: Option<Position>, head: Option<Position>) -> Option<u64> {
    if position == head { Some(0) } else { store.events_between(position, head) }
}

/// Since when something that is behind has not moved, in seconds.
fn age(is_at_head: bool, moved_at: chrono::DateTime<Utc>) -> f64 {
    let age = Utc::now() - moved_at;
    if is_at_head { 0.0 } else { age.as_seconds_f64().max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::FIGURES;

    /// What the runbook's table says of each figure is what there is.
    #[test]
    fn the_runbook_has_every_figure() {
        let runbook = include_str!("../../docs/runbook.md");
        let section = runbook.split("\n## ").find(|section| section.starts_with("Figures")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let told: Vec<&str> = rows.map(|(name, _)| name).collect();
        let known: Vec<&str> = FIGURES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(told, known);
    }
}
