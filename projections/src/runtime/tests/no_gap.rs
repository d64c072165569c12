//! A reader that trusts "after my position" is given everything, in order, whatever else goes on in that server: transactions
//! that stay open, appenders of other programs, appends that are taken back.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use domain::ids::Quantity;
use domain::inventory::{Adjusted, RanLow, Received, ThresholdSet};
use event_store::PostgresEventStore;
use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::low_stock::LowStock;
use crate::products::Products;

/// How many programs' worth of appenders there are, and how many appends they make; `./soak` makes more.
const APPENDERS: usize = 16;
const APPENDS: usize = 1_000;

/// Transactions of somebody else that stay open.
struct Elsewhere {
    server: PgConnectOptions,
    database: String,
    open: Vec<PgConnection>,
}

impl Elsewhere {
    /// One in another database, and in the shop's one that writes, one that holds rows, and one that looks at the log.
    async fn begin(shop: &Shop) -> Self {
        let database = format!("elsewhere_{}", Uuid::now_v7().simple());
        let mut admin = PgConnection::connect_with(&shop.server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("create database {database}"))).await.unwrap();
        let theirs = "create table theirs (id int primary key, n int); insert into theirs values (1, 1), (2, 2)";
        let mut open = Vec::new();
        for (database, begin) in [
            (&database, "begin; insert into theirs values (3, 3)"),
            (&shop.database, "begin; insert into theirs values (3, 3)"),
            (
                &shop.database,
                "begin; update theirs set n = n + 1 where id = 1; select from theirs where id = 2 for update",
            ),
            (&shop.database, "begin isolation level repeatable read; select count(*) from log.events"),
        ] {
            let mut connection = PgConnection::connect_with(&shop.server.clone().database(database)).await.unwrap();
            // Who comes first in a database makes the table.
            let _ = sqlx::raw_sql(theirs).execute(&mut connection).await;
            sqlx::raw_sql(begin).execute(&mut connection).await.unwrap();
            open.push(connection);
        }
        Self { server: shop.server.clone(), database, open }
    }

    /// Ends them, which were open until now.
    async fn end(mut self) {
        for connection in &mut self.open {
            let is_open = "select now() < statement_timestamp() and pg_current_xact_id() is not null";
            assert!(sqlx::query_scalar::<_, bool>(is_open).fetch_one(&mut *connection).await.unwrap());
            connection.execute("commit").await.unwrap();
        }
        self.open.clear();
        let mut admin = PgConnection::connect_with(&self.server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("drop database {} with (force)", self.database))).await.unwrap();
    }
}

/// Something that happens to a stock, after which the order of events can be told from the rows.
fn something(appender: usize, number: usize) -> (StreamName, NewEvent) {
    let sku = format!("S{}", (7 * appender + number) % 24).parse().unwrap();
    let units = i64::try_from(1 + number % 9).unwrap();
    let quantity = Quantity::try_from(units).unwrap();
    let event = match (appender + number) % 5 {
        0 => serde_json::from_value::<ThresholdSet>(serde_json::json!({ "units": units })).unwrap().into(),
        1 => {
            serde_json::from_value::<RanLow>(serde_json::json!({ "available": units, "threshold": 9 })).unwrap().into()
        }
        2 => serde_json::from_value::<Adjusted>(serde_json::json!({ "from": 0, "to": units, "reason": "counted" }))
            .unwrap()
            .into(),
        _ => Received { quantity }.into(),
    };
    stored(&ShopEvent::Inventory(sku, event))
}

/// The log of the shop's database, as one program has it.
async fn a_program(shop: &Shop) -> Arc<PostgresEventStore> {
    let options = shop.server.clone().database(&shop.database);
    PostgresEventStore::open(PgPoolOptions::new().max_connections(6).connect_with(options).await.unwrap())
        .await
        .unwrap()
}

/// Appends within transactions of its own, which take their time; every second one is rolled back.
async fn append_slowly(pool: PgPool, done: &AtomicUsize, until: usize) {
    for number in 0.. {
        if done.load(Relaxed) >= until {
            return;
        }
        let (stream, event) = something(APPENDERS, number);
        let mut transaction = pool.begin().await.unwrap();
        let append =
            "select log.append(true, array[$1], array[-2::bigint], array[1], array[1::bigint], array[$1], array[$2],
            array[$3], array[$4], array[$5])";
        sqlx::query(append)
            .bind(stream.as_str())
            .bind(event.id)
            .bind(event.event_type.as_str())
            .bind(&event.data[..])
            .bind(&event.metadata[..])
            .execute(&mut *transaction)
            .await
            .unwrap();
        for _ in 0..5 {
            transaction.execute("select count(*) from log.events").await.unwrap();
        }
        if number % 2 == 0 { transaction.rollback().await.unwrap() } else { transaction.commit().await.unwrap() }
    }
}

/// Reads the log in pages of all sizes until it has so many events or, when all is appended, to its end.
async fn read_along(store: Arc<dyn EventStore>, mut is_all: watch::Receiver<bool>) -> Vec<(u64, Uuid)> {
    let (mut read, mut after) = (Vec::new(), None);
    for limit in [1, 3, 50, 400].into_iter().cycle() {
        let ends = *is_all.borrow_and_update();
        let page = store.read_all(after, &Filter::all(), limit).await.unwrap();
        read.extend(page.events.iter().map(|event| (event.position.commit, event.id)));
        after = after.max(page.read_to);
        if page.at_head {
            if ends {
                break;
            }
            tokio::select! { () = store.changed(after) => {}, _ = is_all.changed() => {} }
        }
    }
    read
}

#[expect(clippy::print_stdout, reason = "how much was tried is worth knowing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_skipped_while_others_hold_transactions_open() {
    let mut shop = Shop::open().await;
    PostgresEventStore::migrate(&shop.context.pool).await.unwrap();
    let programs = [a_program(&shop).await, a_program(&shop).await];
    shop.context.store = programs[0].clone();
    let models = [runs::<Products>(), runs::<LowStock>()];
    let elsewhere = Elsewhere::begin(&shop).await;
    let (stop, stopped) = watch::channel(false);
    let mut running = Vec::new();
    for model in &models {
        model.prepare(&shop.context.pool).await.unwrap();
        let (model, context, stopped) = (model.clone(), shop.context.clone(), stopped.clone());
        running.push(tokio::spawn(async move { model.run(context, stopped).await }));
    }
    let (all, is_all) = watch::channel(false);
    let readers: Vec<_> =
        programs.iter().map(|program| tokio::spawn(read_along(program.clone(), is_all.clone()))).collect();

    let (done, appends) = (Arc::new(AtomicUsize::new(0)), APPENDS * soak::times());
    let appender = |appender: usize| {
        let (store, done) = (programs[appender % 2].clone(), done.clone());
        tokio::spawn(async move {
            for number in 0.. {
                if done.fetch_add(1, Relaxed) >= appends {
                    return;
                }
                let (stream, event) = something(appender, number);
                let more = (0..number % 3).map(|more| something(appender, number + 24 * more).1);
                let events = std::iter::once(event).chain(more).collect();
                store.append(Append { stream, expected: Expected::Any, events }).await.unwrap();
            }
        })
    };
    let appenders: Vec<_> = (0..APPENDERS).map(appender).collect();
    append_slowly(shop.context.pool.clone(), &done, appends).await;
    for appender in appenders {
        appender.await.unwrap();
    }

    let (head, start) = (shop.context.store.head().await.unwrap().unwrap(), Instant::now());
    all.send_replace(true);
    for model in &models {
        model.reached(&shop.context, head).await.unwrap();
    }
    println!("{appends} appends, {} events; no lag {:?} after the last of them", head.commit + 1, start.elapsed());
    let log = "select position, id from log.events order by position";
    let log: Vec<(i64, Uuid)> = sqlx::query_as(log).fetch_all(&shop.context.pool).await.unwrap();
    let log: Vec<(u64, Uuid)> = log.into_iter().map(|(position, id)| (position.cast_unsigned(), id)).collect();
    assert!(log.len() > appends && log.iter().map(|(position, _)| *position).eq(0..log.len() as u64));
    for reader in readers {
        let read = reader.await.unwrap();
        assert!(read == log, "a reader was given {} events of {}", read.len(), log.len());
    }
    for model in &models {
        assert_eq!(shop.live(model.name()).await.folded, log.len() as i64, "{}", model.name());
        let verified = model.verify(&shop.context, Extent::Full, &|_| {}).await.unwrap();
        assert!(verified.differing == 0 && verified.rows > 0, "{}: {verified:?}", model.name());
        let live = shop.rows(model).await;
        model.rebuild(&shop.context, &|_| {}).await.unwrap();
        assert_eq!(shop.rows(model).await, live, "{}", model.name());
    }
    // All of it while they were open.
    elsewhere.end().await;
    stop.send_replace(true);
    for running in running {
        running.await.unwrap();
    }
    shop.close().await;
}
