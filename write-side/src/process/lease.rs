//! Which running program leads a process: a lease in Postgres, renewed in time or taken over.

use std::time::Duration;

use sqlx::postgres::PgPool;
use uuid::Uuid;

/// How long a lease lasts. Another program takes over no later than this after the leader has died.
const TERM: Duration = Duration::from_secs(6);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(2);

/// The lease of one process, as one running program has or wants it.
pub(super) struct Lease {
    pool: PgPool,
    process: &'static str,
    /// Names this program among those that want to lead.
    candidate: Uuid,
}

impl Lease {
    pub(super) fn new(pool: PgPool, process: &'static str) -> Self {
        Self { pool, process, candidate: Uuid::now_v7() }
    }

    /// Takes the lease, or prolongs it. `false` while another program has it.
    pub(super) async fn take(&self) -> Result<bool, sqlx::Error> {
        let taken = sqlx::query(
            "insert into process.leases (process, leader, leads_until)
                values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
             on conflict (process) do update set leader = excluded.leader, leads_until = excluded.leads_until
                where leases.leader = excluded.leader or leases.leads_until < clock_timestamp()",
        )
        .bind(self.process)
        .bind(self.candidate)
        .bind(TERM.as_millis() as f64)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Renews the lease until it is lost: to another program, or because the database does not answer in time.
    pub(super) async fn hold(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            // A database that is only slow once is asked again before the term is over.
            let renewed = async {
                loop {
                    match self.take().await {
                        Ok(leads) => return leads,
                        Err(error) => {
                            tracing::warn!(process = self.process, %error, "the lease could not be renewed; trying again");
                            tokio::time::sleep(RENEW / 4).await;
                        }
                    }
                }
            };
            match tokio::time::timeout(TERM - RENEW, renewed).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Gives the lease back, so that nobody has to wait for its end.
    pub(super) async fn give_back(&self) {
        let delete = "delete from process.leases where process = $1 and leader = $2";
        let given = sqlx::query(delete).bind(self.process).bind(self.candidate).execute(&self.pool).await;
        if let Err(error) = given {
            tracing::debug!(process = self.process, %error, "the lease could not be given back; it runs out");
        }
    }
}
