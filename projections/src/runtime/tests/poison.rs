//! Events that cannot be folded: their keys wait, everything else goes on, and once they can be folded all is as it should be.

use super::*;

/// A log with these events.
pub(super) async fn a_log(events: &[(StreamName, NewEvent)]) -> Arc<MemoryEventStore> {
    let log = MemoryEventStore::new();
    for (stream, event) in events {
        let append = Append { stream: stream.clone(), expected: Expected::Any, events: vec![event.clone()] };
        log.append(append).await.unwrap();
    }
    Arc::new(log)
}

/// The same events, of which those at `places` cannot be decoded.
pub(super) fn spoilt(events: &[(StreamName, NewEvent)], places: &[usize]) -> Vec<(StreamName, NewEvent)> {
    let mut spoilt = events.to_vec();
    places.iter().for_each(|&place| spoilt[place].1.data = "nonsense".into());
    spoilt
}

impl Shop {
    /// What is parked of a read model: which place of the log, and whether it is what cannot be folded.
    pub(super) async fn parked(&self, name: &str) -> Vec<(u64, bool)> {
        let parked = parked(&self.context.pool).await.unwrap();
        let of = parked.into_iter().filter(|parked| parked.name == name);
        of.map(|parked| (parked.position.commit, parked.error.is_some())).collect()
    }

    async fn redrive_all(&self, model: &Arc<dyn Projector>) {
        for parked in parked(&self.context.pool).await.unwrap() {
            if parked.name == model.name() {
                model.redrive(&self.context, &parked.key).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_was_parked_and_is_folded_later_is_as_if_nothing_had_been_wrong() {
    let mut runner = TestRunner::deterministic();
    let mut parked_once = std::collections::HashMap::<&str, usize>::new();
    for round in 0..6 {
        let mut shop = Shop::open().await;
        let events: Vec<_> = history(&mut runner).iter().map(stored).collect();
        let places: Vec<usize> = (0..=round % 3).map(|n| (7 * round + 13 * n + 2) % events.len()).collect();
        let (whole, broken) = (a_log(&events).await, a_log(&spoilt(&events, &places)).await);
        for model in read_models() {
            model.prepare(&shop.context.pool).await.unwrap();
            shop.context.store = broken.clone();
            shop.follow(&model).await;
            let parked = shop.parked(model.name()).await;
            let bad: Vec<u64> = parked.iter().filter(|(_, is_bad)| *is_bad).map(|(place, _)| *place).collect();
            assert!(bad.iter().all(|place| places.contains(&(*place as usize))) || bad.len() > places.len(), "{bad:?}");
            // Tried again, it is still wrong.
            shop.redrive_all(&model).await;
            assert_eq!(shop.parked(model.name()).await, parked, "{}", model.name());
            *parked_once.entry(model.name()).or_default() += parked.len();

            shop.context.store = whole.clone();
            shop.redrive_all(&model).await;
            assert_eq!(shop.parked(model.name()).await, [], "{}", model.name());
            let rows = shop.rows(&model).await;
            model.rebuild(&shop.context, &|_| {}).await.unwrap();
            assert_eq!(shop.rows(&model).await, rows, "{} of round {round}", model.name());
        }
        shop.close().await;
    }
    assert!(read_models().iter().all(|model| parked_once[model.name()] > 0), "{parked_once:?}");
}

/// A product is listed, gets nonsense, and is renamed; another one is listed.
async fn a_product_with_nonsense() -> (Vec<(StreamName, NewEvent)>, Arc<MemoryEventStore>) {
    let listed = |sku: &str| {
        let price = serde_json::from_str(r#"{"minor": 420, "currency": "GBP"}"#).unwrap();
        stored(&ShopEvent::Catalog(sku.parse().unwrap(), Listed { name: "Tea".parse().unwrap(), price }.into()))
    };
    let renamed = |name: &str| {
        let event = domain::catalog::Renamed { name: name.parse().unwrap() };
        stored(&ShopEvent::Catalog("A".parse().unwrap(), event.into()))
    };
    let events = vec![listed("A"), renamed("Green tea"), renamed("Best tea"), listed("B")];
    let log = a_log(&spoilt(&events, &[1])).await;
    (events, log)
}

fn discontinued() -> (StreamName, NewEvent) {
    let event = domain::catalog::Discontinued { reason: "out of fashion".parse().unwrap() };
    stored(&ShopEvent::Catalog("A".parse().unwrap(), event.into()))
}

fn relisted() -> (StreamName, NewEvent) {
    stored(&ShopEvent::Catalog("A".parse().unwrap(), domain::catalog::Relisted {}.into()))
}

fn products() -> Arc<dyn Projector> {
    read_models().into_iter().find(|model| model.name() == "products").unwrap()
}

#[tokio::test]
async fn a_bad_event_holds_up_its_key_and_nothing_else() {
    let (mut shop, model) = (Shop::open().await, products());
    let (_, log) = a_product_with_nonsense().await;
    shop.context.store = log;
    model.prepare(&shop.context.pool).await.unwrap();
    shop.follow(&model).await;
    assert_eq!(shop.parked("products").await, [(1, true), (2, false)]);
    let rows = shop.rows(&model).await;
    assert!(rows.len() == 2 && rows.iter().any(|row| row.contains("(A,Tea")), "{rows:?}");
    // What comes later waits too, after a restart as well.
    let late = discontinued();
    let append = Append { stream: late.0, expected: Expected::Any, events: vec![late.1] };
    shop.context.store.append(append).await.unwrap();
    shop.follow(&model).await;
    assert_eq!(shop.parked("products").await, [(1, true), (2, false), (4, false)]);
    assert_eq!(shop.rows(&model).await, rows);
    // A rebuild meets the same.
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.parked("products").await, [(1, true), (2, false), (4, false)]);
    assert_eq!(shop.rows(&model).await, rows);
    shop.close().await;
}

#[tokio::test]
async fn what_is_skipped_stays_out_and_lets_the_rest_through() {
    let (mut shop, model) = (Shop::open().await, products());
    let (events, log) = a_product_with_nonsense().await;
    shop.context.store = log;
    model.prepare(&shop.context.pool).await.unwrap();
    shop.follow(&model).await;
    let waiting = model.skip(&shop.context, events[2].1.id, "in the way").await;
    assert!(matches!(waiting, Err(ProjectionError::NotParked { .. })), "{waiting:?}");
    let skipped = model.skip(&shop.context, events[1].1.id, "written by a script").await.unwrap();
    assert_eq!(skipped, Redriven { folded: 1, parked: 0 });
    let rows = shop.rows(&model).await;
    assert!(rows.iter().any(|row| row.contains("(A,\"Best tea\"")), "{rows:?}");
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.rows(&model).await, rows);
    assert_eq!(shop.parked("products").await, []);
    let reason = "select reason from control.skipped";
    let reason: Vec<String> = sqlx::query_scalar(reason).fetch_all(&shop.context.pool).await.unwrap();
    assert_eq!(reason, ["written by a script"]);
    shop.close().await;
}

#[tokio::test]
async fn what_was_skipped_is_not_undone_by_going_back() {
    let (mut shop, model) = (Shop::open().await, products());
    let (events, log) = a_product_with_nonsense().await;
    shop.context.store = log;
    model.prepare(&shop.context.pool).await.unwrap();
    shop.follow(&model).await;
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    model.skip(&shop.context, events[1].1.id, "nonsense").await.unwrap();
    let rows = shop.rows(&model).await;
    // The one before was retired when the event was still parked.
    for generation in [1, 2] {
        let live = model.roll_back(&shop.context).await.unwrap();
        assert_eq!(live.generation, generation);
        assert_eq!((shop.parked("products").await, shop.rows(&model).await), (vec![], rows.clone()));
    }
    shop.close().await;
}

#[tokio::test]
async fn a_projector_at_work_takes_note_of_what_somebody_else_has_let_through() {
    let (mut shop, model) = (Shop::open().await, products());
    let (events, log) = a_product_with_nonsense().await;
    shop.context.store = log;
    model.prepare(&shop.context.pool).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let (model, context) = (model.clone(), shop.context.clone());
        async move { model.run(context, stopped).await }
    });
    let head = async || shop.context.store.head().await.unwrap().unwrap();
    model.reached(&shop.context, head().await).await.unwrap();
    let other = Context::new(shop.context.store.clone(), shop.context.pool.clone());
    model.skip(&other, events[1].1.id, "nonsense").await.unwrap();
    let late = discontinued();
    let append = Append { stream: late.0, expected: Expected::Any, events: vec![late.1] };
    shop.context.store.append(append).await.unwrap();
    model.reached(&shop.context, head().await).await.unwrap();
    assert_eq!(shop.parked("products").await, [], "the key is parked no more");
    stop.send_replace(true);
    running.await.unwrap();
    shop.close().await;
}

/// A row in the projector's memory is no excuse for what was mended in the table.
#[tokio::test]
async fn rows_that_others_write_are_read_again() {
    let (mut shop, model) = (Shop::open().await, products());
    let (mut events, _) = a_product_with_nonsense().await;
    events.remove(1);
    shop.context.store = a_log(&events).await;
    model.prepare(&shop.context.pool).await.unwrap();
    shop.follow(&model).await;
    let schema = shop.live("products").await.schema_name;
    let spoil = format!("update \"{schema}\".products set name = 'what nobody wrote' where sku = 'A'");
    sqlx::raw_sql(AssertSqlSafe(spoil)).execute(&shop.context.pool).await.unwrap();

    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let (model, context) = (model.clone(), shop.context.clone());
        async move { model.run(context, stopped).await }
    });
    let happens = async |(stream, event): (StreamName, NewEvent)| {
        let append = Append { stream, expected: Expected::Any, events: vec![event] };
        let appended = shop.context.store.append(append).await.unwrap();
        model.reached(&shop.context, appended.position).await.unwrap();
    };
    happens(discontinued()).await;
    let repaired = model.repair(&shop.context, "A").await.unwrap();
    assert_eq!(repaired.differing, 1, "the projector had gone on with the row as it was");
    happens(relisted()).await;
    let rows = shop.rows(&model).await;
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(rows, shop.rows(&model).await);
    stop.send_replace(true);
    running.await.unwrap();
    shop.close().await;
}
