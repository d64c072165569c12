//! Checkouts while everything fails: cards, answers, processes; and timeouts that outlive the process that waits.

use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use uuid::Uuid;

use super::in_bulk::place_all;
use super::{assert_consistent, order, orders, place, receive, state, until_at_rest};
use crate::support::{Database, Dice, Server, soak, until_so};

/// A card for an order: three in ten are faulty, in every way.
fn card(dice: &mut Dice) -> &'static str {
    match dice.roll(100) {
        0..8 => "tok_declined",
        8..14 => "tok_lost_answer",
        14..20 => "tok_error_then_fine",
        20..25 => "tok_capture_lost_answer",
        25..28 => "tok_slow",
        28..30 => "tok_unavailable",
        _ => "tok_approved",
    }
}

/// Short limits, so that what is never answered is given up within the test.
const SETTINGS: [(&str, &str); 2] = [("STOREFOLD_GATEWAY_TIMEOUT", "1"), ("STOREFOLD_CHECKOUT_PAYMENT_TIMEOUT", "10")];

#[tokio::test]
async fn every_checkout_ends_well_whatever_fails() {
    chaos(500 * soak::times(), 12 * soak::times(), soak::seed()).await;
}

/// Trades so many orders while cards and answers fail, customers cancel, and the server is killed so many times, and looks at
/// what is left.
async fn chaos(checkouts: usize, kills: usize, seed: u64) {
    let database = Database::create().await;
    let mut dice = Dice(seed);
    let mut server = Server::start_as(&database, &["--fulfil"], &SETTINGS).await;
    let skus: Vec<String> = (0..20).map(|number| format!("S{number:02}")).collect();
    // A little less than will be asked for.
    for sku in &skus {
        receive(&server, sku, checkouts as i64 / 6).await;
    }
    let batch = checkouts.div_ceil(kills + 1);
    let mut placed = Vec::new();
    while placed.len() < checkouts {
        let now: Vec<(Uuid, serde_json::Value)> = (0..batch.min(checkouts - placed.len()))
            .map(|_| {
                let mut lines: Vec<(&str, i64)> = Vec::new();
                for _ in 0..=dice.roll(3) {
                    lines.push((&skus[dice.roll(20) as usize], 1 + dice.roll(3) as i64));
                }
                (
                    Uuid::from_u128(u128::from(dice.roll(u64::MAX)) << 64 | u128::from(dice.roll(u64::MAX))),
                    order(card(&mut dice), &lines),
                )
            })
            .collect();
        let log_before = database.log_length().await;
        futures::stream::iter(&now)
            .for_each_concurrent(16, async |(id, order)| {
                server.done(&format!("/v1/order/{id}/place"), order.clone()).await;
            })
            .await;
        placed.extend(now.iter().map(|(id, _)| *id));
        // Some customers change their minds; whether that comes in time is for the shop to say.
        for (id, _) in now.iter().filter(|_| dice.roll(12) == 0) {
            let cancel = server.command(&format!("/v1/order/{id}/cancel"), &json!({ "reason": "changed my mind" }));
            let status = cancel.send().await.unwrap().status().as_u16();
            assert!(matches!(status, 200 | 422), "{status}");
        }
        if placed.len() < checkouts {
            // Somewhere in the middle of what follows.
            let further = now.len() as i64 * 2 + dice.roll(now.len() as u64 * 12) as i64;
            let deadline = Instant::now() + Duration::from_secs(5);
            until_so(async || database.log_length().await >= log_before + further || Instant::now() > deadline).await;
            server.kill_alone(&database).await;
            server = Server::start_as(&database, &["--fulfil"], &SETTINGS).await;
        }
    }
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    let ends = [
        orders(&database, "completed").await,
        orders(&database, "rejected").await,
        orders(&database, "cancelled").await,
    ];
    assert_eq!(ends.iter().sum::<i64>(), checkouts as i64, "{ends:?}");
    // The run was worth something: every kind of end was met, and faults were.
    assert!(ends.iter().all(|end| *end > 0), "{ends:?}");
    assert_eq!(database.number("select sum(reserved)::bigint from read.products").await, 0);
    assert_eq!(database.number("select count(*) from process.instances").await, 0);
}

/// Timeouts that came due while no process ran fire when one starts, and each fires once.
#[tokio::test]
async fn pending_timeouts_outlive_a_restart_and_fire_once() {
    timers(200 * soak::times()).await;
}

async fn timers(pending: usize) {
    let database = Database::create().await;
    let limit = [("STOREFOLD_CHECKOUT_PAYMENT_TIMEOUT", "4")];
    let server = Server::start_as(&database, &["--fulfil"], &limit).await;
    receive(&server, "TEA", pending as i64).await;
    place_all(&server, 32, vec![order("tok_unavailable", &[("TEA", 1)]); pending]).await;
    let waiting = "select count(*) from process.instances where process = 'checkout' and waits_for = 'payment'";
    let fired = "select count(*) from log.events where type = 'CheckoutTimedOut'";
    until_so(async || database.number(waiting).await + database.number(fired).await == pending as i64).await;
    server.kill_alone(&database).await;
    let late = "select count(*) from process.instances where waits_for = 'payment'
        and waits_since > clock_timestamp() - interval '4 seconds'";
    until_so(async || database.number(late).await == 0).await;
    let before = database.number(fired).await;
    assert!(before < pending as i64, "none was left for after the restart");
    let server = Server::start_as(&database, &["--fulfil"], &limit).await;
    // Killed again while they fire.
    until_so(async || database.number(fired).await >= before + (pending as i64 - before) / 2).await;
    server.kill_alone(&database).await;
    let _server = Server::start_as(&database, &["--fulfil"], &limit).await;
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(database.number(fired).await, pending as i64);
    let streams = "select count(distinct stream) from log.events where type = 'CheckoutTimedOut'";
    assert_eq!(database.number(streams).await, pending as i64);
    assert_eq!(orders(&database, "rejected").await, pending as i64);
    assert_eq!(database.number("select available from read.products where sku = 'TEA'").await, pending as i64);
}

/// Several processes may run the checkout; one leads, and when it dies another does.
#[tokio::test]
async fn another_process_takes_over_when_the_leader_dies() {
    let database = Database::create().await;
    let mut leader = Server::start_with(&database, &["--fulfil"]).await;
    for round in 1..=3 {
        let standby = Server::start_with(&database, &["--fulfil"]).await;
        receive(&standby, "TEA", 1).await;
        leader.kill().await;
        let start = Instant::now();
        place(&standby, "tok_approved", &[("TEA", 1)]).await;
        until_so(async || orders(&database, "completed").await >= round).await;
        assert!(start.elapsed() < Duration::from_secs(10), "it took {:?} to take over", start.elapsed());
        leader = standby;
    }
    until_at_rest(&database).await;
    assert_consistent(&database).await;
}

/// Where a crash comes: before an event is written, or before anything happens in a table of the database.
enum Gate<'a> {
    Postgres {
        database: &'a Database,
        /// Keeps the gate shut.
        keeper: sqlx::pool::PoolConnection<sqlx::Postgres>,
    },
    KurrentDb(&'a kurrentdb_server::Faults),
}

/// The trigger before an event is written.
const APPEND: &str = "insert on log.events";

impl<'a> Gate<'a> {
    /// A gate before whatever the trigger is for.
    async fn before(database: &'a Database, trigger: &str) -> Self {
        if let Some(kurrentdb) = database.kurrentdb.as_ref().filter(|_| trigger == APPEND) {
            return Self::KurrentDb(kurrentdb.server.faults());
        }
        for sql in [
            "create sequence steps",
            "create table gate (open_until bigint not null)",
            "insert into gate values (9223372036854775807)",
            "create function wait_at_the_gate() returns trigger language plpgsql as $$ begin
                if nextval('public.steps') > (select open_until from public.gate) then
                    perform pg_advisory_xact_lock_shared(4242);
                end if;
                return new; end $$",
            &format!("create trigger gate before {trigger} for each row execute function wait_at_the_gate()"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
        }
        Self::Postgres { database, keeper: database.pool.acquire().await.unwrap() }
    }

    /// Lets so many more steps through.
    async fn shut_after(&mut self, steps: i64) {
        match self {
            Self::Postgres { database, keeper } => {
                sqlx::query("select pg_advisory_lock(4242)").execute(&mut **keeper).await.unwrap();
                let update = "update gate set open_until = (select last_value from steps) + $1";
                sqlx::query(update).bind(steps).execute(&database.pool).await.unwrap();
            }
            Self::KurrentDb(faults) => faults.shut_gate_after(steps as usize),
        }
    }

    /// Whether somebody waits at the gate.
    async fn is_reached(&self) -> bool {
        match self {
            Self::Postgres { database, .. } => database.number(Self::WAITING).await > 0,
            Self::KurrentDb(faults) => faults.holds(1).now_or_never().is_some(),
        }
    }

    const WAITING: &'static str = "select count(*) from pg_locks where locktype = 'advisory' and not granted
        and objid = 4242 and database = (select oid from pg_database where datname = current_database())";

    /// Opens the gate. Who waits at it is let through, or turned away: a statement under way may outlive its program or not.
    async fn open(&mut self, let_through: bool) {
        let (database, keeper) = match self {
            Self::Postgres { database, keeper } => (&database.pool, keeper),
            Self::KurrentDb(faults) if let_through => return faults.release(),
            Self::KurrentDb(faults) => return faults.dismiss(),
        };
        sqlx::query("update gate set open_until = 9223372036854775807").execute(database).await.unwrap();
        if !let_through {
            let turn_away = Self::WAITING.replace("count(*)", "pg_terminate_backend(pid)");
            sqlx::query(sqlx::AssertSqlSafe(turn_away)).execute(database).await.unwrap();
            let waiting = async || sqlx::query_scalar::<_, i64>(Self::WAITING).fetch_one(database).await.unwrap();
            until_so(async || waiting().await == 0).await;
        }
        sqlx::query("select pg_advisory_unlock(4242)").execute(&mut **keeper).await.unwrap();
    }
}

/// Kills the program before the first step of a checkout, then before the second of another one, and so on.
async fn crash_before_each_step(card: &str, trigger: &str, least: i64) {
    let database = Database::create().await;
    let mut server = Server::start_with(&database, &["--fulfil"]).await;
    let mut gate = Gate::before(&database, trigger).await;
    let mut steps = 0;
    loop {
        steps += 1;
        receive(&server, "TEA", 2).await;
        until_at_rest(&database).await;
        // That the order is placed is let through.
        gate.shut_after(steps + i64::from(trigger == APPEND)).await;
        let order = place(&server, card, &[("TEA", 2)]).await;
        let has_ended = async || {
            let status = state(&server, &format!("order/{order}")).await["status"].clone();
            status == "completed" || status == "rejected"
        };
        until_so(async || gate.is_reached().await || has_ended().await).await;
        let is_reached = gate.is_reached().await;
        if is_reached {
            server.kill_alone(&database).await;
        }
        gate.open(steps % 2 == 0).await;
        if !is_reached {
            break;
        }
        server = Server::start_with(&database, &["--fulfil"]).await;
        until_at_rest(&database).await;
        assert_consistent(&database).await;
    }
    assert!(steps > least, "there were only {steps} steps");
    until_at_rest(&database).await;
    assert_consistent(&database).await;
    assert_eq!(database.number("select count(*) from process.instances").await, 0);
    let end = if card == "tok_declined" { "rejected" } else { "completed" };
    assert_eq!(orders(&database, end).await, steps);
}

#[tokio::test]
async fn a_crash_before_any_event_of_a_checkout_changes_nothing() {
    crash_before_each_step("tok_lost_answer", APPEND, 10).await;
}

#[tokio::test]
async fn a_crash_before_any_event_of_a_declined_checkout_changes_nothing() {
    crash_before_each_step("tok_declined", APPEND, 4).await;
}

#[tokio::test]
async fn a_crash_before_a_process_has_written_down_what_it_did_changes_nothing() {
    crash_before_each_step("tok_approved", "update of commit_position on process.managers", 10).await;
}
