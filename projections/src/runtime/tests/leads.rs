//! One process leads a projector; when it is gone another one does, and a deposed one commits nothing.

use std::time::{Duration, Instant};

use super::super::leases::Lead;
use super::super::parking::Parking;
use super::*;
use crate::products::{Products, Tables};
use crate::rows::Tables as _;

/// As another process would have it.
fn another(context: &Context) -> Context {
    Context::new(context.store.clone(), context.pool.clone())
}

async fn take(context: &Context) -> Option<Lead> {
    context.leases.take("products").await.unwrap()
}

#[tokio::test]
async fn one_process_leads_until_it_gives_the_lead_back() {
    let shop = Shop::open().await;
    let (one, other) = (another(&shop.context), another(&shop.context));
    let lead = take(&one).await.unwrap();
    assert_eq!((take(&one).await, take(&other).await), (Some(lead), None));
    one.leases.give_back("products").await;
    let next = take(&other).await.unwrap();
    assert_eq!((next.term, take(&one).await), (lead.term + 1, None));
    shop.close().await;
}

#[tokio::test]
async fn who_is_gone_is_followed_at_once_and_who_is_frozen_after_a_while() {
    let shop = Shop::open().await;
    let (gone, frozen, next) = (another(&shop.context), another(&shop.context), another(&shop.context));
    assert!(take(&gone).await.is_some());
    // With it goes its session.
    drop(gone);
    let start = Instant::now();
    while take(&frozen).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    // Its session lives, but it renews nothing any more.
    frozen.leases.freeze();
    let start = Instant::now();
    while take(&next).await.is_none() {
        tokio::task::yield_now().await;
    }
    let taken = start.elapsed();
    assert!(taken > Duration::from_secs(2) && taken < Duration::from_secs(10), "{taken:?}");
    shop.close().await;
}

#[tokio::test]
async fn a_deposed_leader_commits_nothing() {
    let shop = Shop::open().await;
    let products = read_models().into_iter().find(|model| model.name() == "products").unwrap();
    products.prepare(&shop.context.pool).await.unwrap();
    let (deposed, leader) = (another(&shop.context), another(&shop.context));
    let old = take(&deposed).await.unwrap();
    deposed.leases.freeze();
    sqlx::query("update control.leases set leads_until = '-infinity'").execute(&shop.context.pool).await.unwrap();
    let new = take(&leader).await.unwrap();
    assert_eq!(new.term, old.term + 1);
    let live = shop.live("products").await;
    for (lead, counts) in [(old, false), (new, true)] {
        let mut transaction = shop.context.pool.begin().await.unwrap();
        let (parking, to) = (Parking::default(), Position::at(0));
        let page = (&[][..], batch::Begun::new(Tables::new(false), &[], &parking).unwrap(), 0);
        let applied = batch::apply::<Products>(&mut transaction, &live, Some(lead), &parking, page, to).await;
        match applied {
            Ok(_) => assert!(counts, "a deposed leader has moved the checkpoint"),
            Err(error) => assert!(!counts && matches!(error, ProjectionError::NotLeading { .. }), "{error}"),
        }
        transaction.rollback().await.unwrap();
    }
    shop.close().await;
}

#[tokio::test]
async fn a_batch_counts_once_though_it_comes_twice() {
    let shop = Shop::open().await;
    let products = read_models().into_iter().find(|model| model.name() == "products").unwrap();
    products.prepare(&shop.context.pool).await.unwrap();
    let lead = take(&shop.context).await;
    // The generation as it was before the first of them: who believes that it still is so has missed a batch.
    let live = shop.live("products").await;
    for is_first in [true, false] {
        let mut transaction = shop.context.pool.begin().await.unwrap();
        let (parking, to) = (Parking::default(), Position::at(0));
        let page = (&[][..], batch::Begun::new(Tables::new(false), &[], &parking).unwrap(), 0);
        let applied = batch::apply::<Products>(&mut transaction, &live, lead, &parking, page, to).await;
        match applied {
            Ok(_) => assert!(is_first, "the checkpoint was moved from where it no longer was"),
            Err(error) => assert!(!is_first && matches!(error, ProjectionError::NotLeading { .. }), "{error}"),
        }
        transaction.commit().await.unwrap();
    }
    shop.close().await;
}

/// Leaders are killed in the middle of their work, again and again; every event counts once.
#[expect(clippy::print_stdout, reason = "how long it took is worth knowing")]
#[tokio::test]
async fn leaders_that_die_in_the_middle_leave_the_rows_of_a_plain_fold() {
    let mut runner = TestRunner::deterministic();
    let shop = Shop::open().await;
    let model = read_models().remove(0);
    model.prepare(&shop.context.pool).await.unwrap();
    let events: Vec<ShopEvent> = (0..12).flat_map(|_| history(&mut runner)).collect();
    let mut longest = Duration::ZERO;
    for part in events.chunks(events.len().div_ceil(10)) {
        let context = another(&shop.context);
        let (_stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let model = model.clone();
            async move { model.run(context, stopped).await }
        });
        let before = shop.live(model.name()).await.checkpoint;
        let start = Instant::now();
        shop.append(part).await;
        // It leads when the checkpoint moves. Then it is killed, with whatever it was about to commit.
        while shop.live(model.name()).await.checkpoint == before {
            tokio::task::yield_now().await;
        }
        longest = longest.max(start.elapsed());
        running.abort();
        let _ = running.await;
    }
    println!("the longest that nobody led was {longest:?}");
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    shop.follow(&model).await;
    let rows = shop.rows(&model).await;
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.rows(&model).await, rows);
    shop.close().await;
}
