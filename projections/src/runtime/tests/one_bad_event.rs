//! One bad event, in each read model and at each place: its key waits behind it, in order; everything else goes on; and once
//! it can be decoded, all is as a plain fold has it.

use std::collections::HashSet;

use domain::catalog::{Discontinued, Renamed};
use domain::customers::{Closed, ContactChanged};

use super::poison::{a_log, spoilt};
use super::*;
use crate::checkouts::Checkouts;
use crate::customers::Customers;
use crate::low_stock::LowStock;
use crate::payments_ledger::PaymentsLedger;
use crate::product_sales::ProductSales;
use crate::products::Products;
use crate::rows::Tables as _;
use crate::sales_daily::SalesDaily;
use crate::shop_event;
use crate::stock_movements::StockMovements;

macro_rules! one_bad_event {
    ($($test:ident: $model:ty,)*) => {
        $(#[tokio::test]
        async fn $test() {
            one_bad_event::<$model>().await;
        })*

        #[test]
        fn every_read_model_meets_one() {
            let met: Vec<&str> = vec![$(<$model>::NAME),*];
            let all: Vec<&str> = read_models().iter().map(|model| model.name()).collect();
            assert_eq!(met, all, "a read model is missing in here");
        }
    };
}

one_bad_event! {
    a_bad_event_of_an_order: Orders,
    a_bad_event_of_a_product: Products,
    a_bad_event_among_the_movements_of_a_stock: StockMovements,
    a_bad_event_of_a_customer: Customers,
    a_bad_event_among_the_sales_of_a_day: SalesDaily,
    a_bad_event_among_the_sales_of_a_product: ProductSales,
    a_bad_event_of_a_payment: PaymentsLedger,
    a_bad_event_of_a_checkout: Checkouts,
    a_bad_event_of_a_stock_that_is_low: LowStock,
}

/// How many histories are tried; `./soak` tries more.
const HISTORIES: usize = 3;

/// A history in which something of every kind happens, and what is registered changes again later.
fn a_busy_shop(runner: &mut TestRunner) -> Vec<(StreamName, NewEvent)> {
    let events = loop {
        let events = history(runner);
        let has = |is: fn(&ShopEvent) -> bool| events.iter().any(is);
        let is_busy = has(|event| matches!(event, ShopEvent::Supervision(..)))
            && has(|event| matches!(event, ShopEvent::Shipping(..)))
            && has(|event| matches!(event, ShopEvent::Inventory(_, domain::inventory::Event::RanLow(_))))
            && has(|event| matches!(event, ShopEvent::Payments(_, domain::payments::Event::Refunded(_))))
            && has(|event| matches!(event, ShopEvent::Ordering(_, domain::ordering::Event::Confirmed(_))));
        // Not so many that it takes long.
        if is_busy && events.len() < 70 {
            break events;
        }
    };
    let (sku, customer) = ("S0".parse().unwrap(), CustomerId(Uuid::from_u128(7)));
    let line = |text: &str| text.parse().unwrap();
    let changes = [
        ShopEvent::Catalog(sku, Renamed { name: line("Green tea") }.into()),
        ShopEvent::Customers(customer, ContactChanged { contact: Contact::default() }.into()),
        ShopEvent::Catalog("S0".parse().unwrap(), Discontinued { reason: line("out of fashion") }.into()),
        ShopEvent::Customers(customer, Closed { reason: None }.into()),
    ];
    let (before, after) = events.split_at(events.len() / 2);
    before.iter().chain(&changes[..2]).chain(after).chain(&changes[2..]).map(stored).collect()
}

impl Shop {
    /// How many rows there are, after they were found to be those of a plain fold of the events at these places.
    async fn rows_of_a_plain_fold<M: ReadModel>(&self, is_in: impl Fn(u64) -> bool) -> u64 {
        let mut tables = M::Tables::new(true);
        let log = self.context.store.read_all(None, &Filter::categories(M::CATEGORIES.iter().copied()), 1_000).await;
        for event in log.unwrap().events.iter().filter(|event| is_in(event.position.commit)) {
            tables.begin();
            M::fold(&mut tables, &shop_event::decode(event).unwrap()).unwrap();
        }
        let live = self.live(M::NAME).await;
        let (mut connection, mut comparison) = (self.context.pool.acquire().await.unwrap(), Comparison::default());
        tables.compare(&live.schema_name, &mut connection, None, &mut comparison).await.unwrap();
        assert_eq!(comparison.differing, 0, "{}: {:?}", M::NAME, comparison.differences);
        comparison.rows
    }
}

async fn one_bad_event<M: ReadModel>() {
    let mut runner = soak::runner();
    for _ in 0..HISTORIES * soak::times() {
        one_bad_event_of::<M>(&a_busy_shop(&mut runner)).await;
    }
}

/// Each event of a history is the bad one once.
async fn one_bad_event_of<M: ReadModel>(events: &[(StreamName, NewEvent)]) {
    let (mut shop, model) = (Shop::open().await, runs::<M>());
    model.prepare(&shop.context.pool).await.unwrap();
    shop.keep(&model).await;
    let whole = a_log(events).await;
    let concerns = |place: &usize| M::CATEGORIES.contains(&events[*place].0.category());
    let key = |place: usize| M::key(&events[place].0);
    // How many events waited, how many of other keys came after the bad one, and how many rows there were meanwhile.
    let (mut waited, mut others, mut rows) = (0, 0, 0);
    let places: Vec<usize> = (0..events.len()).filter(concerns).collect();
    for &bad in &places {
        shop.put_back(&model).await;
        let later = places.iter().copied().filter(|place| *place >= bad);
        let (held, passing): (Vec<usize>, Vec<usize>) = later.partition(|place| key(*place) == key(bad));
        // What waits is the same whether it came with the bad event or after a restart.
        let (with_it, later) = events.split_at(bad + (events.len() - bad).div_ceil(2));
        shop.context.store = a_log(&spoilt(with_it, &[bad])).await;
        shop.follow(&model).await;
        append_all(&shop, later).await;
        shop.follow(&model).await;

        let parked: Vec<(u64, bool)> = held.iter().map(|place| (*place as u64, *place == bad)).collect();
        assert_eq!(shop.parked(M::NAME).await, parked, "{} at {bad}", M::NAME);
        let held: HashSet<u64> = held.iter().map(|place| *place as u64).collect();
        rows = rows.max(shop.rows_of_a_plain_fold::<M>(|place| !held.contains(&place)).await);

        shop.context.store = whole.clone();
        let redriven = model.redrive(&shop.context, key(bad)).await.unwrap();
        assert_eq!(redriven, Redriven { folded: held.len(), parked: 0 }, "{} at {bad}", M::NAME);
        assert_eq!(shop.parked(M::NAME).await, []);
        shop.rows_of_a_plain_fold::<M>(|_| true).await;
        (waited, others) = (waited + held.len() - 1, others + passing.len());
    }
    assert!(waited > 0 && others > 0 && rows > 0, "{}: {waited} waited, {others} did not, {rows} rows", M::NAME);
    shop.close().await;
}
