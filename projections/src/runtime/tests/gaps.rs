//! Events that are skipped on the way are noticed.

use async_trait::async_trait;
use event_store::{AllPage, AppendError, Appended, Direction, ReadError, StreamPage};

use super::*;

/// A log that does not give one of its events to whoever reads the whole of it.
struct Skipping {
    log: Arc<MemoryEventStore>,
    hidden: watch::Sender<Option<u64>>,
}

#[async_trait]
impl EventStore for Skipping {
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
        let mut page = self.log.read_all(after, filter, limit).await?;
        let hidden = *self.hidden.borrow();
        page.events.retain(|event| Some(event.position.commit) != hidden);
        Ok(page)
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

fn received(sku: &str) -> ShopEvent {
    let quantity = domain::ids::Quantity::try_from(1).unwrap();
    ShopEvent::Inventory(sku.parse().unwrap(), domain::inventory::Received { quantity }.into())
}

#[tokio::test]
async fn a_skipped_event_stops_the_projector_for_good_and_a_rebuild_mends_it() {
    let mut shop = Shop::open().await;
    let log = Arc::new(Skipping { log: Arc::default(), hidden: watch::Sender::new(None) });
    shop.context.store = log.clone();
    let products = read_models().into_iter().find(|model| model.name() == "products").unwrap();
    products.prepare(&shop.context.pool).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let (model, context) = (products.clone(), shop.context.clone());
        async move { model.run(context, stopped).await }
    });
    let head = async || shop.context.store.head().await.unwrap().unwrap();
    shop.append(&[received("A"), received("B"), received("A")]).await;
    products.reached(&shop.context, head().await).await.unwrap();
    let before = shop.rows(&products).await;

    log.hidden.send_replace(Some(3));
    shop.append(&[received("A"), received("B"), received("A")]).await;
    let told = products.reached(&shop.context, head().await).await.unwrap_err().to_string();
    for word in ["stock-A", "revision 3", "not with 2", "storefold rebuild products"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(shop.rows(&products).await, before, "nothing was folded past it");
    stop.send_replace(true);
    running.await.unwrap();

    // Started anew, when nothing is hidden any more: what was skipped may have been skipped before as well.
    log.hidden.send_replace(None);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let (model, context) = (products.clone(), Context::new(log.clone(), shop.context.pool.clone()));
        async move { model.run(context, stopped).await }
    });
    let still = products.reached(&shop.context, head().await).await.unwrap_err();
    assert!(matches!(still, ProjectionError::StandsStill { .. }), "{still}");
    products.rebuild(&shop.context, &|_| {}).await.unwrap();
    products.reached(&shop.context, head().await).await.unwrap();
    shop.append(&[received("A")]).await;
    products.reached(&shop.context, head().await).await.unwrap();
    let rows = shop.rows(&products).await;
    assert!(rows.iter().any(|row| row.contains("(A,")) && rows != before, "{rows:?}");
    // What lacks an event is nothing to go back to.
    let back = products.roll_back(&shop.context).await;
    assert!(matches!(back, Err(ProjectionError::NothingToGoBackTo { .. })), "{back:?}");
    stop.send_replace(true);
    running.await.unwrap();
    shop.close().await;
}

#[tokio::test]
async fn a_rebuild_stops_at_a_stream_that_does_not_begin_at_its_beginning() {
    let mut shop = Shop::open().await;
    let log = Arc::new(Skipping { log: Arc::default(), hidden: watch::Sender::new(Some(0)) });
    shop.context.store = log;
    let products = read_models().into_iter().find(|model| model.name() == "products").unwrap();
    products.prepare(&shop.context.pool).await.unwrap();
    shop.append(&[received("A"), received("A")]).await;
    let told = products.rebuild(&shop.context, &|_| {}).await.unwrap_err();
    assert!(matches!(told, ProjectionError::Gap { expected: 0, found: 1, .. }), "{told}");
    shop.close().await;
}
