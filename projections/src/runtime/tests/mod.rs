//! Read models over real tables: followed live, built anew, and replaced by another version of themselves.

#![allow(unreachable_pub, reason = "rows and tables are declared public wherever they stand")]

mod crashes;
mod gaps;
mod leads;
mod no_gap;
mod one_bad_event;
mod poison;
mod restarts;
mod tail;
mod wire;

use chrono::DateTime;
use domain::catalog::Listed;
use domain::codec::{Encoded, StoredEvent as _};
use domain::customers::{Contact, Registered};
use domain::decider::Decider as _;
use domain::ids::CustomerId;
use domain::ordering::Order;
use event_store::{
    Append, EventType, Expected, Filter, MemoryEventStore, Metadata, NewEvent, RecordedEvent, StreamName,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

use super::*;
use crate::histories::any_history;
use crate::orders::Orders;
use crate::read_model::FoldError;
use crate::rows::Rows;
use crate::shop_event::{Happened, ShopEvent, order_of};

/// A log in memory, and a database of its own for the read models.
struct Shop {
    context: Context,
    server: PgConnectOptions,
    database: String,
}

impl Shop {
    async fn open() -> Self {
        #[expect(clippy::disallowed_methods, reason = "./test says where its Postgres is by the environment")]
        let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names no Postgres: run the tests with ./test");
        let server: PgConnectOptions = url.parse().unwrap();
        let database = format!("projections_{}", Uuid::now_v7().simple());
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("create database {database}"))).await.unwrap();
        let pool = pool(&server.clone().database(&database)).await.unwrap();
        migrator().run(&pool).await.unwrap();
        let context = Context::new(Arc::new(MemoryEventStore::new()), pool);
        Self { context, server, database }
    }

    async fn append(&self, events: &[ShopEvent]) {
        for event in events {
            let (stream, event) = stored(event);
            let append = Append { stream, expected: Expected::Any, events: vec![event] };
            self.context.store.append(append).await.unwrap();
        }
    }

    /// Lets a read model follow the log to its end.
    async fn follow(&self, model: &Arc<dyn Projector>) {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let (model, context) = (model.clone(), self.context.clone());
            async move { model.run(context, stopped).await }
        });
        let head = self.context.store.head().await.unwrap().unwrap();
        model.reached(&self.context, head).await.unwrap();
        // One of an older version has reached the head long ago; that it was replaced is what is waited for.
        while self.live(model.name()).await.version != model.version() {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
        running.await.unwrap();
    }

    async fn live(&self, name: &str) -> Generation {
        generations::live(&self.context.pool, name).await.unwrap().unwrap()
    }

    /// Every row of the live tables of a read model, as text.
    async fn rows(&self, model: &Arc<dyn Projector>) -> Vec<String> {
        let schema = self.live(model.name()).await.schema_name;
        let tables = "select tablename::text from pg_tables where schemaname = $1 order by 1";
        let tables: Vec<String> = sqlx::query_scalar(tables).bind(schema).fetch_all(&self.context.pool).await.unwrap();
        let mut rows = Vec::new();
        for table in tables {
            // By the view, which is what readers see.
            let sql = format!("select '{table} ' || t::text from read.{table} t order by 1");
            let found: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.context.pool).await.unwrap();
            rows.extend(found);
        }
        rows
    }

    /// Keeps a copy of everything that a projector writes.
    async fn keep(&self, model: &Arc<dyn Projector>) {
        let schema = self.live(model.name()).await.schema_name;
        let mut sql = "drop schema if exists kept cascade; create schema kept;
            create table kept.generations as table control.generations;
            create table kept.parked as table control.parked;"
            .to_owned();
        for table in model.tables() {
            sql += &format!("create table kept.{table} as table {schema}.{table};");
        }
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.context.pool).await.unwrap();
    }

    /// Makes everything be as it was kept.
    async fn put_back(&self, model: &Arc<dyn Projector>) {
        let schema = self.live(model.name()).await.schema_name;
        let mut sql = "delete from control.generations; insert into control.generations table kept.generations;
            delete from control.parked; insert into control.parked table kept.parked;"
            .to_owned();
        for table in model.tables() {
            sql += &format!("delete from {schema}.{table}; insert into {schema}.{table} table kept.{table};");
        }
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.context.pool).await.unwrap();
    }

    async fn close(self) {
        self.context.pool.close().await;
        let mut admin = PgConnection::connect_with(&self.server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("drop database {} with (force)", self.database))).await.unwrap();
    }
}

/// Appends events as they are.
async fn append_all(shop: &Shop, events: &[(StreamName, NewEvent)]) {
    for (stream, event) in events {
        let append = Append { stream: stream.clone(), expected: Expected::Any, events: vec![event.clone()] };
        shop.context.store.append(append).await.unwrap();
    }
}

/// How much longer than usual some tests run: what `./soak` says.
mod soak {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    fn said<T: std::str::FromStr>(name: &str, usual: T) -> T {
        std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(usual)
    }

    /// How many times as much is done.
    pub(super) fn times() -> usize {
        said("STOREFOLD_SOAK_TIMES", 1)
    }

    /// What the dice start from.
    pub(super) fn seed() -> u64 {
        said("STOREFOLD_SOAK_SEED", 7)
    }

    /// What makes histories, from the seed.
    pub(super) fn runner() -> TestRunner {
        let seed: Vec<u8> = seed().to_le_bytes().into_iter().cycle().take(32).collect();
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}

fn stored(event: &ShopEvent) -> (StreamName, NewEvent) {
    let name = event.stream();
    let Encoded { event_type, schema, data } = match event {
        ShopEvent::Catalog(_, event) => event.encode(),
        ShopEvent::Inventory(_, event) => event.encode(),
        ShopEvent::Ordering(_, event) => event.encode(),
        ShopEvent::Customers(_, event) => event.encode(),
        ShopEvent::Payments(_, event) => event.encode(),
        ShopEvent::Shipping(_, event) => event.encode(),
        ShopEvent::Supervision(_, event) => event.encode(),
    }
    .unwrap();
    let id = Uuid::now_v7();
    let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
    let metadata = Metadata {
        correlation_id: id,
        causation_id: id,
        schema,
        command_id: id,
        command_hash: String::new(),
        actor: None,
        tenant: None,
        traceparent: None,
        // More exact than a database keeps.
        occurred_at: DateTime::from_timestamp(seconds.cast_signed(), nanoseconds + 1_234).unwrap(),
    };
    let event_type = EventType::new(event_type).unwrap();
    let event = NewEvent { id, event_type, data: data.into(), metadata: metadata.to_bytes().unwrap() };
    (StreamName::new(name).unwrap(), event)
}

/// Everything that a shop can see: an entry in each register, and what the deciders allow of a few orders.
fn history(runner: &mut TestRunner) -> Vec<ShopEvent> {
    let price = serde_json::from_str(r#"{"minor": 420, "currency": "GBP"}"#).unwrap();
    let listed = Listed { name: "Tea".parse().unwrap(), price };
    let registered = Registered { reference: None, contact: Contact::default() };
    let registers = [
        ShopEvent::Catalog("S0".parse().unwrap(), listed.into()),
        ShopEvent::Customers(CustomerId(Uuid::from_u128(7)), registered.into()),
    ];
    registers.into_iter().chain(any_history().new_tree(runner).unwrap().current().events).collect()
}

#[tokio::test]
async fn what_is_followed_live_is_what_a_rebuild_makes() {
    let mut runner = TestRunner::deterministic();
    let mut most = std::collections::HashMap::<&str, usize>::new();
    for _ in 0..4 {
        let (shop, events) = (Shop::open().await, history(&mut runner));
        let models = read_models();
        for model in &models {
            model.prepare(&shop.context.pool).await.unwrap();
        }
        // In parts, so that rows are written, read back and written over.
        for part in events.chunks(events.len().div_ceil(4)) {
            shop.append(part).await;
            for model in &models {
                shop.follow(model).await;
            }
        }
        for model in &models {
            let live = shop.rows(model).await;
            model.rebuild(&shop.context, &|_| {}).await.unwrap();
            assert_eq!(shop.rows(model).await, live, "{}", model.name());
            let most = most.entry(model.name()).or_default();
            *most = live.len().max(*most);
        }
        shop.close().await;
    }
    for (model, rows) in most {
        assert!(rows > 0, "{model} was never more than empty");
    }
}

#[tokio::test]
async fn a_rebuild_that_may_keep_nothing_in_memory_makes_the_same_rows() {
    let (mut shop, events) = (Shop::open().await, history(&mut TestRunner::deterministic()));
    shop.append(&events).await;
    for model in read_models() {
        model.prepare(&shop.context.pool).await.unwrap();
        shop.context.memory = Context::MEMORY;
        model.rebuild(&shop.context, &|_| {}).await.unwrap();
        let rows = shop.rows(&model).await;
        shop.context.memory = 0;
        model.rebuild(&shop.context, &|_| {}).await.unwrap();
        assert_eq!(shop.rows(&model).await, rows, "{}", model.name());
        let verified = model.verify(&shop.context, Extent::Full, &|_| {}).await.unwrap();
        assert_eq!((verified.differing, verified.rows), (0, rows.len() as u64), "{}", model.name());
    }
    shop.close().await;
}

#[tokio::test]
async fn a_log_that_was_restored_from_a_backup_is_folded_anew() {
    let (mut shop, events) = (Shop::open().await, history(&mut TestRunner::deterministic()));
    let orders: Arc<dyn Projector> = read_models().remove(0);
    orders.prepare(&shop.context.pool).await.unwrap();
    let (kept, lost) = events.split_at(events.len() / 2);
    shop.append(kept).await;
    shop.follow(&orders).await;
    let as_backed_up = shop.rows(&orders).await;
    shop.append(lost).await;
    shop.follow(&orders).await;
    assert_ne!(shop.rows(&orders).await, as_backed_up);

    let (restored, whole) = (Arc::new(MemoryEventStore::new()), shop.context.store.clone());
    let backup = whole.read_all(None, &Filter::all(), kept.len()).await.unwrap();
    for RecordedEvent { stream, id, event_type, data, metadata, .. } in backup.events {
        let events = vec![NewEvent { id, event_type, data, metadata }];
        restored.append(Append { stream, expected: Expected::Any, events }).await.unwrap();
    }
    shop.context.store = restored;
    orders.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.rows(&orders).await, as_backed_up);
    shop.close().await;
}

crate::row! {
    /// An order, as an older version of `orders` had it.
    pub struct OlderRow in "orders", key { order_id: Uuid } {
        happened: i64,
    }
}

crate::tables! {
    /// The tables of an older version of `orders`.
    pub struct OlderTables {
        /// A row an order.
        orders: Rows<OlderRow>,
    }
}

/// An older version of `orders`: other columns, fewer tables, and events of orders alone.
struct OlderOrders;

impl ReadModel for OlderOrders {
    const NAME: &'static str = Orders::NAME;
    const VERSION: i32 = Orders::VERSION - 1;
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY];
    const TABLES_SQL: &'static str = "create table orders (order_id uuid not null, happened bigint not null)";
    const KEYS_SQL: &'static str = "alter table orders add constraint orders_pkey primary key (order_id)";
    type Tables = OlderTables;

    fn fold(tables: &mut OlderTables, happened: &Happened) -> Result<(), FoldError> {
        let Some(order) = order_of(&happened.event) else { return Ok(()) };
        let before = tables.orders.get(&(order.0,))?.map_or(0, |row| row.happened);
        tables.orders.put(OlderRow { order_id: order.0, happened: before + 1 });
        Ok(())
    }
}

#[tokio::test]
async fn a_new_version_is_built_from_the_log_and_takes_the_place_of_the_old_one() {
    let (shop, events) = (Shop::open().await, history(&mut TestRunner::deterministic()));
    let (older, newer) = (runs::<OlderOrders>(), runs::<Orders>());
    older.prepare(&shop.context.pool).await.unwrap();
    shop.append(&events).await;
    shop.follow(&older).await;
    assert!(!shop.rows(&older).await.is_empty());

    // The newer release starts on what the older one has left.
    newer.prepare(&shop.context.pool).await.unwrap();
    assert_eq!(shop.live("orders").await.version, OlderOrders::VERSION);
    shop.follow(&newer).await;
    let all = generations(&shop.context.pool).await.unwrap();
    let known: Vec<_> = all.iter().map(|one| (one.version, one.generation, one.state)).collect();
    assert_eq!(
        known,
        [(OlderOrders::VERSION, 1, State::Retired), (Orders::VERSION, 2, State::Live)],
        "the older one is kept"
    );
    let rows = shop.rows(&newer).await;
    assert!(rows.iter().any(|row| row.starts_with("order_timeline ")), "{rows:#?}");
    newer.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.rows(&newer).await, rows);

    // A process of the older release leaves it alone.
    let refused = older.rebuild(&shop.context, &|_| {}).await;
    assert!(matches!(refused, Err(ProjectionError::Outdated { .. })), "{refused:?}");
    shop.close().await;
}
