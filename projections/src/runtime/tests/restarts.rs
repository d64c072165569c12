//! Rebuilds that are stopped, between any two of their steps and in each of their phases, and begun again, while events come in
//! and readers read: nobody sees anything of it, and nothing is left behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use serde_json::json;

use super::wire::{Cut, Step, Wire};
use super::*;
use crate::sales_daily::SalesDaily;

/// How many events may come in each time that a rebuild comes to its next phase.
const MEANWHILE: usize = 4;

/// An order of its own that is sold, and stays so.
fn a_sale() -> Vec<ShopEvent> {
    let order = domain::ids::OrderId(Uuid::now_v7());
    let command = json!({ "record": {
        "country": "EIRE", "currency": "GBP", "placed_at": "2026-01-01T08:00:00Z",
        "lines": [{ "sku": "S0", "quantity": 2, "unit_price_minor": 100 }],
    } });
    let events = Order::decide(&Order::initial(), serde_json::from_value(command).unwrap()).unwrap();
    events.into_iter().map(|event| ShopEvent::Ordering(order, event)).collect()
}

/// A shop that trades and is read, as long as this lives.
struct Open<'a> {
    shop: &'a Shop,
    /// A number that never gets smaller, in SQL.
    grows: &'static str,
    /// How many events may come in.
    may_come: AtomicUsize,
    phase: Mutex<Option<Phase>>,
    came: AtomicUsize,
    is_over: AtomicBool,
}

impl Open<'_> {
    /// Lets some more events come in, when a rebuild has come to its next phase.
    fn go_on(&self, phase: Phase) {
        if self.phase.lock().unwrap().replace(phase) != Some(phase) {
            self.may_come.fetch_add(MEANWHILE, Relaxed);
        }
    }

    /// Reads again and again, and has an event come in after each look. Answers how often it looked.
    async fn trade(&self) -> usize {
        let (mut looks, mut seen) = (0, 1);
        while !self.is_over.load(Relaxed) {
            let found: i64 = sqlx::query_scalar(self.grows).fetch_one(&self.shop.context.pool).await.unwrap();
            assert!(found >= seen, "a reader saw {seen}, and then {found}");
            (looks, seen) = (looks + 1, found);
            if self.came.load(Relaxed) < self.may_come.load(Relaxed) {
                let events = a_sale();
                self.shop.append(&events).await;
                self.came.fetch_add(events.len(), Relaxed);
            }
        }
        looks
    }
}

impl Shop {
    /// The schemas of a read model, those in the book, and how many of these are being built.
    async fn schemas(&self, name: &str) -> (Vec<String>, Vec<String>, usize) {
        let there =
            "select nspname::text from pg_namespace where nspname ~ ('^' || $1 || '_v[0-9]+_g[0-9]+$') order by 1";
        let there = sqlx::query_scalar(there).bind(name).fetch_all(&self.context.pool).await.unwrap();
        let all = generations(&self.context.pool).await.unwrap().into_iter().filter(|one| one.name == name);
        let all: Vec<Generation> = all.collect();
        let building = all.iter().filter(|one| one.state == State::Building).count();
        let mut known: Vec<String> = all.into_iter().map(|one| one.schema_name).collect();
        known.sort_unstable();
        (there, known, building)
    }

    /// Rebuilds over a wire that is cut at a step, or when the rebuild comes to a phase. Answers whether it was stopped.
    async fn rebuild_and_stop(&self, model: &Arc<dyn Projector>, open: &Open<'_>, at: At) -> bool {
        let wire = Wire::to(&self.server.clone().database(&self.database));
        let context = Context::new(self.context.store.clone(), pool(&wire.options()).await.unwrap());
        if let At::Step(step) = at {
            wire.cut_at(Cut::Before(step), Step::Request);
        }
        let came_to = tokio::sync::Notify::new();
        let progress = |progress: Progress| {
            open.go_on(progress.phase);
            if matches!(at, At::Phase(phase) if phase == progress.phase) {
                came_to.notify_one();
            }
        };
        let rebuilt = tokio::select! {
            biased;
            () = wire.is_cut() => None,
            () = came_to.notified() => None,
            rebuilt = model.rebuild(&context, &progress) => Some(rebuilt),
        };
        let is_stopped = rebuilt.is_none() || wire.was_cut();
        if !is_stopped {
            rebuilt.unwrap().unwrap();
        }
        drop(context);
        wire.cut();
        wire.is_quiet().await;
        let (there, known, building) = self.schemas(model.name()).await;
        assert_eq!(there, known, "stopped at {at:?}, it has left tables that nobody knows of");
        assert!(building <= usize::from(is_stopped), "{building} are being built");
        is_stopped
    }
}

/// Where a rebuild is stopped.
#[derive(Debug, Clone, Copy)]
enum At {
    Step(usize),
    Phase(Phase),
}

#[expect(clippy::print_stdout, reason = "how much was tried is worth knowing")]
async fn stop_rebuilds<M: ReadModel>(grows: &'static str) {
    let (model, mut runner, mut stops, mut looks) = (runs::<M>(), soak::runner(), 0, 0);
    for _ in 0..soak::times() {
        let (shop, mut events) = (Shop::open().await, history(&mut runner));
        model.prepare(&shop.context.pool).await.unwrap();
        events.extend(a_sale());
        shop.append(&events).await;
        shop.follow(&model).await;
        let (came, is_over) = (0.into(), AtomicBool::new(false));
        let open = Open { shop: &shop, grows, may_come: 0.into(), phase: Mutex::new(None), came, is_over };
        let (stop, stopped) = watch::channel(false);
        let following = model.run(shop.context.clone(), stopped);
        let rebuilding = async {
            // Every third one: each is a rebuild, and another one after it. A soak has time for all of them.
            let steps = (1..).step_by(if soak::times() == 1 { 3 } else { 1 });
            let phases = [Phase::Folding, Phase::Loading, Phase::CatchingUp, Phase::Verifying, Phase::Switching];
            for at in phases.map(At::Phase).into_iter().chain(steps.map(At::Step)) {
                if !shop.rebuild_and_stop(&model, &open, at).await {
                    assert!(matches!(at, At::Step(20..)), "it was over at {at:?}");
                    break;
                }
                stops += 1;
                // The next one sweeps up what the stopped one has left.
                model.rebuild(&shop.context, &|progress| open.go_on(progress.phase)).await.unwrap();
                let (_, known, building) = shop.schemas(M::NAME).await;
                assert_eq!((known.len(), building), (2, 0), "{known:?} after {at:?}");
            }
            open.is_over.store(true, Relaxed);
            stop.send_replace(true);
        };
        let ((), (), looked) = tokio::join!(following, rebuilding, open.trade());
        looks += looked;

        let head = shop.context.store.head().await.unwrap().unwrap();
        let came = open.came.load(Relaxed);
        assert_eq!(head.commit + 1, (events.len() + came) as u64, "a rebuild has appended something");
        assert!(came > MEANWHILE, "{came} events came in meanwhile");
        shop.follow(&model).await;
        let live = shop.rows(&model).await;
        let verified = model.verify(&shop.context, Extent::Full, &|_| {}).await.unwrap();
        assert_eq!((verified.differing, verified.rows), (0, live.len() as u64), "{verified:?}");
        model.rebuild(&shop.context, &|_| {}).await.unwrap();
        assert_eq!(shop.rows(&model).await, live);
        shop.close().await;
    }
    println!("{}: {stops} rebuilds were stopped, and a reader looked {looks} times", M::NAME);
}

#[tokio::test]
async fn a_rebuild_that_is_stopped_shows_nobody_fewer_orders() {
    stop_rebuilds::<Orders>("select count(*) from read.orders").await;
}

#[tokio::test]
async fn a_rebuild_that_is_stopped_shows_nobody_fewer_sales() {
    stop_rebuilds::<SalesDaily>("select coalesce(sum(orders), 0)::bigint from read.sales_daily").await;
}
