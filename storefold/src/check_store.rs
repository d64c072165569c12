//! `storefold check-store`: the checks that every log has to pass, held against one that is in use.
//!
//! Each check works in streams of its own, whose names begin with `contract`. No read model takes their events; they stay
//! in the log, for nothing in it is ever deleted.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use event_store::contract::CHECKS;
use serde::Serialize;

use crate::config::{Config, EventStore as Url};
use crate::logs::{self, Database};
use crate::{cli, print};

/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a check.
#[derive(Debug, Serialize)]
struct Checked {
    check: &'static str,
    passed: bool,
    /// What is wrong.
    problem: Option<String>,
    seconds: f64,
}

/// Runs every check, one after another, and prints what comes of it. The exit code says whether all have passed.
///
/// # Errors
/// When the log cannot be opened.
pub(crate) async fn run(config: &Config, wanted: &cli::CheckStore) -> anyhow::Result<ExitCode> {
    let log = Url::at(Some(wanted.url.as_str().into()))?;
    let database = if matches!(log, Url::Postgres(None)) { Some(Database::open(config).await?) } else { None };
    let checked = check(wanted, &log, database.as_ref()).await;
    if let Some(database) = database {
        database.close().await?;
    }
    let checked = checked?;
    let failed = checked.iter().filter(|checked| !checked.passed).count();
    if wanted.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&checked)?))?;
    } else {
        print(&format!("{} checks passed, {failed} failed\n", checked.len() - failed))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(wanted: &cli::CheckStore, log: &Url, database: Option<&Database>) -> anyhow::Result<Vec<Checked>> {
    let store = logs::open(log, database.map(|database| &database.options)).await?;
    let mut checked = Vec::with_capacity(CHECKS.len());
    for check in CHECKS {
        let start = Instant::now();
        // In a task of its own: a check that panics has failed, and the others go on.
        let task = tokio::spawn((check.run)(store.clone()));
        let problem = match tokio::time::timeout(PATIENCE, task).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(broken))) => Some(broken.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("there is no outcome after {PATIENCE:?}")),
        };
        let seconds = start.elapsed().as_secs_f64();
        if !wanted.json {
            let (mark, why) = problem.as_ref().map_or(("ok    ", String::new()), |why| ("FAILED", format!(": {why}")));
            print(&format!("{mark}  {seconds:>6.2} s  {}{why}\n", check.name.replace('_', " ")))?;
        }
        checked.push(Checked { check: check.name, passed: problem.is_none(), problem, seconds });
    }
    Ok(checked)
}
