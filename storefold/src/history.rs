//! What the log says of single keys of read models: to whom something happened, and how it was.

use std::collections::BTreeSet;

use event_store::{EventStore, Filter, Position, StreamName};
use projections::read_model::ReadModel;
use projections::{orders, products};

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

/// The categories whose events a read model takes, and which key an event of a stream is about, where its rows follow from
/// their key alone.
fn by_key(read_model: &str) -> Option<(&'static [&'static str], fn(&StreamName) -> &str)> {
    fn of<M: ReadModel>() -> (&'static [&'static str], fn(&StreamName) -> &str) {
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
