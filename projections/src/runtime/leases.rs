//! Who leads a projector: one program at a time, by a lease in Postgres.
//!
//! A lease ends when it is not renewed in time, so that a program that is frozen does not lead for ever; and when the session
//! ends that renews it, so that one that was killed is followed within half a second. Each new leader begins a new term, and
//! a checkpoint is only moved in the term that is: a leader that was deposed without noticing cannot commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long a lease lasts that is not renewed.
const TERM: Duration = Duration::from_secs(5);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(1);

/// The leadership of a projector, in one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lead {
    pub(super) leader: Uuid,
    pub(super) term: i64,
}

/// The leases that this program has. One session renews them all.
pub struct Leases {
    shared: Arc<Shared>,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// Names this program among those that want to lead.
    candidate: Uuid,
    options: PgConnectOptions,
    session: tokio::sync::Mutex<Option<PgConnection>>,
    /// The names of what is led, with the terms.
    held: Mutex<HashMap<&'static str, i64>>,
}

impl Leases {
    /// No leases yet, in the database with these options.
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        let shared = Shared {
            candidate: Uuid::now_v7(),
            options: options.clone().application_name("storefold leases"),
            session: tokio::sync::Mutex::default(),
            held: Mutex::default(),
        };
        Self { shared: Arc::new(shared), renewing: Mutex::default() }
    }

    /// Takes the lease of a projector, or keeps it. `None` while another program leads.
    pub(super) async fn take(&self, name: &'static str) -> Result<Option<Lead>, sqlx::Error> {
        let term = self.shared.take(name).await?;
        let mut held = self.shared.held();
        match term {
            Some(term) => held.insert(name, term),
            None => held.remove(name),
        };
        drop(held);
        if term.is_some() {
            let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            renewing.get_or_insert_with(|| tokio::spawn(renew(self.shared.clone())));
        }
        Ok(term.map(|term| Lead { leader: self.shared.candidate, term }))
    }

    /// Renews nothing from here on, as a process that is frozen.
    #[cfg(test)]
    pub(super) fn freeze(&self) {
        if let Some(renewing) = self.renewing.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            renewing.abort();
        }
    }

    /// Gives a lease back, so that nobody has to wait for its end.
    pub(super) async fn give_back(&self, name: &'static str) {
        if self.shared.held().remove(name).is_none() {
            return;
        }
        let end = "update control.leases set leads_until = '-infinity' where name = $1 and leader = $2";
        let mut session = self.shared.session.lock().await;
        if let Some(connection) = session.as_mut() {
            let given = sqlx::query(end).bind(name).bind(self.shared.candidate).execute(connection).await;
            if let Err(error) = given {
                tracing::debug!(read_model = name, %error, "the lease could not be given back; it runs out");
            }
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        if let Some(renewing) = self.renewing.lock().unwrap_or_else(PoisonError::into_inner).take() {
            renewing.abort();
        }
    }
}

/// Renews what is held, as long as anything may be held.
async fn renew(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(RENEW).await;
        let names: Vec<&'static str> = shared.held().keys().copied().collect();
        if names.is_empty() {
            continue;
        }
        match tokio::time::timeout(TERM, shared.renew(&names)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the leases of the projectors could not be renewed; trying again"),
            Err(_) => tracing::warn!("the leases of the projectors were not renewed in time; trying again"),
        }
    }
}

/// The session that takes or renews a lease, in SQL.
const SESSION: &str = "(select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()) as session";

impl Shared {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, i64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
        let take = format!(
            "insert into control.leases (name, leader, term, leads_until, backend_pid, backend_start)
                select $1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond', pid, backend_start from {SESSION}
             on conflict (name) do update set leader = excluded.leader, leads_until = excluded.leads_until,
                    backend_pid = excluded.backend_pid, backend_start = excluded.backend_start,
                    term = leases.term + (leases.leader <> excluded.leader)::int
                where leases.leader = excluded.leader or leases.leads_until < clock_timestamp()
                    or not exists (select from pg_stat_activity as alive where alive.pid = leases.backend_pid
                        and coalesce(alive.backend_start = leases.backend_start, true))
             returning term"
        );
        let take = sqlx::query(sqlx::AssertSqlSafe(take)).bind(name).bind(self.candidate).bind(TERM.as_millis() as f64);
        let mut session = self.session.lock().await;
        // Back in its place only when it has done what it was asked, so that a broken one is replaced.
        let mut connection = self.open(session.take()).await?;
        let taken = take.fetch_optional(&mut connection).await?;
        *session = Some(connection);
        taken.map(|row| row.try_get("term")).transpose()
    }

    async fn renew(&self, names: &[&str]) -> Result<(), sqlx::Error> {
        let renew = format!(
            "update control.leases set leads_until = clock_timestamp() + $3 * interval '1 millisecond',
                    backend_pid = session.pid, backend_start = session.backend_start
                from {SESSION} where name = any ($1) and leader = $2"
        );
        let renew =
            sqlx::query(sqlx::AssertSqlSafe(renew)).bind(names).bind(self.candidate).bind(TERM.as_millis() as f64);
        let mut session = self.session.lock().await;
        let mut connection = self.open(session.take()).await?;
        renew.execute(&mut connection).await?;
        *session = Some(connection);
        Ok(())
    }

    async fn open(&self, session: Option<PgConnection>) -> Result<PgConnection, sqlx::Error> {
        match session {
            Some(connection) => Ok(connection),
            None => self.options.connect().await,
        }
    }
}
