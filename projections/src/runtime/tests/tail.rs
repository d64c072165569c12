//! The end of the log, which is read once for all projectors of a process.

use std::sync::atomic::{AtomicBool, Ordering};

use event_store::{AllPage, AppendError, Appended, Direction, EventStore, ReadError, StreamPage};

use super::*;
use crate::sales_daily::SalesDaily;

/// A log whose readers of everything get no answer any more, once it is told so: as on a connection that nobody ends.
struct Mute {
    log: Arc<dyn EventStore>,
    is_mute: AtomicBool,
}

#[async_trait]
impl EventStore for Mute {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.log.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<StreamPage, ReadError> {
        self.log.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Option<Position>, filter: &Filter, limit: usize) -> Result<AllPage, ReadError> {
        // No read model takes as many categories as all of them together do.
        if filter.categories.len() > Orders::CATEGORIES.len() && self.is_mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.log.read_all(after, filter, limit).await
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.log.head().await
    }

    fn events_between(&self, after: Option<Position>, to: Option<Position>) -> Option<u64> {
        self.log.events_between(after, to)
    }

    async fn changed(&self, seen: Option<Position>) {
        self.log.changed(seen).await;
    }
}

#[tokio::test]
async fn an_end_that_nobody_looks_at_is_not_taken_for_one() {
    let (mut shop, events) = (Shop::open().await, history(&mut TestRunner::deterministic()));
    let log = Arc::new(Mute { log: shop.context.store.clone(), is_mute: AtomicBool::new(false) });
    shop.context.store = log.clone();
    let orders = read_models().remove(0);
    orders.prepare(&shop.context.pool).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let (model, context) = (orders.clone(), shop.context.clone());
        async move { model.run(context, stopped).await }
    });
    let (before, after) = events.split_at(events.len() / 2);
    for part in [before, after] {
        shop.append(part).await;
        let head = shop.context.store.head().await.unwrap().unwrap();
        let reached = orders.reached(&shop.context, head);
        tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("it stands still").unwrap();
        log.is_mute.store(true, Ordering::SeqCst);
    }
    running.abort();
    let _ = running.await;
    shop.close().await;
}

#[tokio::test]
async fn who_is_behind_what_is_kept_reads_the_log_itself() {
    let shop = Shop::open().await;
    let (products, orders) = (runs::<crate::products::Products>(), runs::<Orders>());
    for model in [&products, &orders] {
        model.prepare(&shop.context.pool).await.unwrap();
    }
    let events = history(&mut TestRunner::deterministic());
    shop.append(&events).await;
    // The tail begins here, with nothing of what is there already.
    let _tail = shop.context.tails.of(&shop.context.store);
    for model in [&products, &orders] {
        shop.follow(model).await;
        let rows = shop.rows(model).await;
        model.rebuild(&shop.context, &|_| {}).await.unwrap();
        assert_eq!(shop.rows(model).await, rows, "{}", model.name());
    }
    shop.close().await;
}

#[tokio::test]
async fn an_event_is_decoded_once_for_all_read_models() {
    let shop = Shop::open().await;
    let tail = shop.context.tails.of(&shop.context.store);
    // It keeps what comes from its beginning on.
    while tail.read::<Orders>(None, usize::MAX).is_none() {
        tokio::task::yield_now().await;
    }
    let events = history(&mut TestRunner::deterministic());
    shop.append(&events).await;
    let head = shop.context.store.head().await.unwrap();
    let all = async {
        loop {
            let pages = tail.read::<Orders>(None, events.len()).zip(tail.read::<SalesDaily>(None, events.len()));
            match pages {
                Some((orders, sales)) if orders.read_to == head => return (orders.events, sales.events),
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let (orders, sales) = tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("nothing comes");
    let mut shared = 0;
    for sale in &sales {
        let Some(order) = orders.iter().find(|order| order.id == sale.id) else { continue };
        assert!(std::ptr::eq(order.happened().unwrap(), sale.happened().unwrap()), "{}", sale.stream);
        shared += 1;
    }
    assert!(shared > 0, "no event is in both");
    shop.close().await;
}
