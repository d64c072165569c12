//! What the log says of single keys of read models: to whom something happened, and how it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use domain::decider::Decider as _;
use domain::{catalog, ordering};
use event_store::{Direction, EventStore, Filter, Position, StreamName};
use projections::read_model::ReadModel;
use projections::rows::{Row as _, Tables as _};
use projections::{orders, products, shop_event};
use read_api::{AsOf, Moment};
use serde_json::{Map, Value};

/// How many events are read at a time.
const PAGE: usize = 2_000;
/// How many events are read at most to find out to whom something happened.
const MOST_EVENTS: usize = 50_000;

/// The keys of a read model that events after one position up to another are about. `None` when there are more than `most`,
/// or when it would take too long to find out.
pub(crate) async fn keys_between(
    store: &dyn EventStore,
    read_model: &str,
    from: Option<read_api::Position>,
    to: read_api::Position,
    most: usize,
) -> Result<Option<BTreeSet<String>>, read_api::LogError> {
    let Some((categories, key)) = by_key(read_model) else { return Ok(None) };
    let filter = Filter::categories(categories.iter().copied());
    let (mut after, to) = (from.map(position), position(to));
    let mut keys = BTreeSet::new();
    let mut looked_at = 0;
    while after < Some(to) {
        if looked_at >= MOST_EVENTS {
            return Ok(None);
        }
        let page = store.read_all(after, &filter, PAGE).await?;
        for event in page.events.iter().take_while(|event| event.position <= to) {
            keys.insert(key(&event.stream).to_owned());
        }
        if keys.len() > most {
            return Ok(None);
        }
        if page.at_head {
            break;
        }
        (after, looked_at) = (page.read_to, looked_at + PAGE);
    }
    Ok(Some(keys))
}

/// A row as JSON: these of its columns.
macro_rules! object {
    ($row:expr; $($column:ident),+ $(,)?) => {
        Map::from_iter([$((stringify!($column).to_owned(), serde_json::json!($row.$column))),+])
    };
}
/// How things were, from the log, by the folds of the read models.
pub(crate) struct Past(pub(crate) Arc<dyn EventStore>);

#[async_trait]
impl read_api::History for Past {
    async fn as_of(&self, read_model: &str, key: &str, at: Moment) -> Result<AsOf, read_api::LogError> {
        match read_model {
            orders::Orders::NAME => {
                let tables = fold::<orders::Orders>(&*self.0, key, ordering::Order::CATEGORY, at).await?;
                let orders = tables.orders.written().into_iter().map(order).collect();
                let lines = tables.lines.written().into_iter();
                let lines = lines.map(|row| object!(row; order_id, line_no, sku, quantity, unit_price_minor));
                let timeline = tables.timeline.written().into_iter();
                let timeline = timeline.map(|row| {
                    object!(row; order_id, entry_no, at, what, detail, actor,
                    correlation_id, causation_id)
                });
                let named = [
                    (orders::OrderRow::TABLE, orders),
                    (orders::LineRow::TABLE, lines.collect()),
                    (orders::TimelineRow::TABLE, timeline.collect()),
                ];
                Ok(AsOf { tables: named.map(|(name, rows)| (name.to_owned(), rows)).into() })
            }
            products::Products::NAME => {
                let tables = fold::<products::Products>(&*self.0, key, catalog::Product::CATEGORY, at).await?;
                let product = |row: &products::ProductRow| {
                    object!(row; sku, name, description, price_minor, currency, status, on_hand, reserved, available,
                        threshold, low, changed_at)
                };
                let rows = tables.products.written().into_iter().map(product).collect();
                Ok(AsOf { tables: [(products::ProductRow::TABLE.to_owned(), rows)].into() })
            }
            _ => Err(format!("the read model {read_model} has no past by key").into()),
        }
    }
}

fn order(row: &orders::OrderRow) -> Map<String, Value> {
    let mut columns = object!(row; order_id, reference, status, reason, placed_at, customer_id, country, currency,
        total_minor, line_count, units, changed_at, revision, timeline_entries);
    if let Some(payment) = row.payment.as_deref() {
        columns.extend(object!(payment; payment_status, payment_currency, payment_minor, authorised_minor,
            captured_minor, refunded_minor, payment_reference, declined_reason));
    }
    if let Some(shipment) = row.shipment.as_deref() {
        columns.extend(object!(shipment; shipment_status, carrier, tracking, dispatched_at, delivered_at,
            shipment_reason));
    }
    columns
}

/// Folds the streams of one key up to a moment, in the order of the log. A revision is one of the stream of category `own`.
async fn fold<M: ReadModel>(
    store: &dyn EventStore,
    key: &str,
    own: &str,
    at: Moment,
) -> Result<M::Tables, read_api::LogError> {
    let mut events = Vec::new();
    for category in M::CATEGORIES {
        // A key that makes no name has no stream.
        let Ok(stream) = StreamName::new(format!("{category}-{key}")) else { continue };
        let mut from = 0;
        loop {
            let page = store.read_stream(&stream, Some(from), Direction::Forwards, PAGE).await?;
            from += page.events.len() as u64;
            events.extend(page.events);
            if events.len() > MOST_EVENTS {
                let why = format!("{key} has more than {MOST_EVENTS} events, which is too many to fold at once");
                return Err(not_foldable(why));
            }
            if page.end {
                break;
            }
        }
    }
    events.sort_unstable_by_key(|event| event.position);
    let happened = events.iter().map(|event| Ok((event, shop_event::decode(event)?)));
    let happened = happened.collect::<Result<Vec<_>, shop_event::Undecodable>>().map_err(not_foldable)?;
    // Several clocks decide, so that times need not stand in the order of the log.
    let count = happened.iter().rposition(|(event, happened)| match at {
        Moment::Time(time) => happened.at <= time,
        Moment::Revision(revision) => event.stream.category() == own && event.revision <= revision,
    });
    let mut tables = M::Tables::new(true);
    for (event, happened) in happened.iter().take(count.map_or(0, |last| last + 1)) {
        tables.begin();
        M::fold(&mut tables, happened)
            .map_err(|error| not_foldable(format!("{} of {}: {error}", event.event_type, event.stream)))?;
    }
    Ok(tables)
}

fn not_foldable(why: impl Into<read_api::LogError>) -> read_api::LogError {
    read_api::NotFoldable(why.into()).into()
}

/// The categories whose events a read model takes, and which key an event of a stream is about.
type ByKey = (&'static [&'static str], fn(&StreamName) -> &str);

/// That of a read model whose rows follow from their key alone.
fn by_key(read_model: &str) -> Option<ByKey> {
    fn of<M: ReadModel>() -> ByKey {
        (M::CATEGORIES, M::key)
    }
    match read_model {
        orders::Orders::NAME => Some(of::<orders::Orders>()),
        products::Products::NAME => Some(of::<products::Products>()),
        _ => None,
    }
}

fn position(read_api::Position { commit, prepare }: read_api::Position) -> Position {
    Position { commit, prepare }
}
