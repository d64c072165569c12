//! How orders and products were at a moment in the past. The log is asked, through [`History`](crate::History), and not the
//! read models, which know only how things are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_graphql::{Context, Object, OneofObject, SimpleObject};
use serde_json::Value;

use crate::connection::list_cost;
use crate::error::{Code, Failure};
use crate::orders::{self, Order};
use crate::own_writes::{ReadModel, Reads};
use crate::position::{AsOf, History, Moment, NotFoldable};
use crate::products::{self, Product};
use crate::scalars::{DateTime, Long, Sku, Uuid};

/// What a field costs that asks the log: it reads all that happened to one thing.
const FOLD: usize = 50;

/// The past of a query.
#[derive(Default)]
pub(crate) struct TimeTravelQuery;

#[Object]
impl TimeTravelQuery {
    /// An order as it was at a moment, with its lines, payment, shipment and timeline of then; null if there was none. Its
    /// customer, its checkout and the articles of its lines are those of today.
    #[graphql(complexity = "FOLD + child_complexity")]
    async fn order_as_of(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: Uuid,
        #[graphql(desc = "The moment.")] at: OrderMoment,
    ) -> Option<Result<Order, Failure>> {
        async {
            let tables = fold(ctx, ReadModel::Orders, &id.0.to_string(), at.moment()?).await?;
            orders::of_the_past(ctx.data_unchecked::<Arc<Reads>>(), &tables).await
        }
        .await
        .transpose()
    }

    /// A product as it was at a moment; null if there was none. The movements of its stock are those until today.
    #[graphql(complexity = "FOLD + child_complexity")]
    async fn product_as_of(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's SKU.")] sku: Sku,
        #[graphql(desc = "The moment: everything counts up to the last event that was decided then or before.")]
        at: DateTime,
    ) -> Option<Result<Product, Failure>> {
        async {
            let tables = fold(ctx, ReadModel::Products, &sku.0, Moment::Time(at.0)).await?;
            products::of_the_past(ctx.data_unchecked::<Arc<Reads>>(), &tables).await
        }
        .await
        .transpose()
    }

    /// What was different of an order at two moments, by table, row and column.
    #[graphql(complexity = "2 * FOLD + list_cost(20, child_complexity)")]
    async fn order_changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: Uuid,
        #[graphql(desc = "The one moment.")] from: OrderMoment,
        #[graphql(desc = "The other moment.")] to: OrderMoment,
    ) -> Result<Vec<RowChange>, Failure> {
        let key = id.0.to_string();
        let before = fold(ctx, ReadModel::Orders, &key, from.moment()?).await?;
        Ok(differences(&before, &fold(ctx, ReadModel::Orders, &key, to.moment()?).await?))
    }

    /// What was different of a product at two moments, by table, row and column.
    #[graphql(complexity = "2 * FOLD + list_cost(20, child_complexity)")]
    async fn product_changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's SKU.")] sku: Sku,
        #[graphql(desc = "The one moment.")] from: DateTime,
        #[graphql(desc = "The other moment.")] to: DateTime,
    ) -> Result<Vec<RowChange>, Failure> {
        let before = fold(ctx, ReadModel::Products, &sku.0, Moment::Time(from.0)).await?;
        Ok(differences(&before, &fold(ctx, ReadModel::Products, &sku.0, Moment::Time(to.0)).await?))
    }
}

/// A moment in the life of an order, said in one of these ways.
#[derive(Debug, Clone, Copy, OneofObject)]
pub(crate) enum OrderMoment {
    /// This time: everything counts up to the last event that was decided then or before.
    Time(DateTime),
    /// When the order's own stream had this revision, as commands answer it and events have it.
    Revision(Long),
}

impl OrderMoment {
    fn moment(self) -> Result<Moment, Failure> {
        match self {
            Self::Time(time) => Ok(Moment::Time(time.0)),
            Self::Revision(Long(revision)) => u64::try_from(revision)
                .map(Moment::Revision)
                .map_err(|_| Failure::bad_input(format!("A revision is 0 or more, not {revision}."))),
        }
    }
}

/// Something that was different at two moments.
#[derive(Debug, Clone, PartialEq, SimpleObject)]
pub(crate) struct RowChange {
    /// The table of the read model.
    table: String,
    /// The row's number within its table, as lines and entries of a timeline have one; null where there is one row.
    row: Option<Long>,
    /// The column of the table.
    column: String,
    /// What stood there at the one moment, as text; null for nothing.
    before: Option<String>,
    /// What stood there at the other moment, as text; null for nothing.
    after: Option<String>,
}

async fn fold(ctx: &Context<'_>, model: ReadModel, key: &str, at: Moment) -> Result<AsOf, Failure> {
    let Some(history) = ctx.data_unchecked::<Option<Arc<dyn History>>>() else {
        return Err(Failure::new(Code::NoHistory, "This server does not tell how things were."));
    };
    history.as_of(model.name(), key, at).await.map_err(|error| match error.is::<NotFoldable>() {
        true => Failure::not_foldable(&*error),
        false => Failure::internal(&*error),
    })
}

/// What differs between two folds, by table, row and column.
fn differences(before: &AsOf, after: &AsOf) -> Vec<RowChange> {
    let (before, after) = (cells(before), cells(after));
    let places: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(value) => Some(value.to_string()),
    };
    let change = |place: &Cell| {
        let (was, is) = (text(before.get(place).copied()), text(after.get(place).copied()));
        let (table, row, column) = place.clone();
        (was != is).then_some(RowChange { table, row: row.map(Long), column, before: was, after: is })
    };
    places.into_iter().filter_map(change).collect()
}

/// A place in a fold: the table, the row's number, the column.
type Cell = (String, Option<i64>, String);

fn cells(fold: &AsOf) -> BTreeMap<Cell, &Value> {
    let rows = fold.tables.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
    let cells = rows.flat_map(|(table, row)| {
        let number = ["line_no", "entry_no"].iter().find_map(|name| row.get(*name).and_then(Value::as_i64));
        row.iter().map(move |(column, value)| ((table.clone(), number, column.clone()), value))
    });
    cells.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fold(tables: Value) -> AsOf {
        AsOf { tables: serde_json::from_value(tables).unwrap() }
    }

    #[test]
    fn what_differs_is_told_by_its_place() {
        let before = fold(json!({
            "orders": [{ "status": "placed", "reason": null, "units": 3 }],
            "order_lines": [{ "line_no": 1, "sku": "A" }, { "line_no": 2, "sku": "B" }],
        }));
        let after = fold(json!({
            "orders": [{ "status": "confirmed", "reason": null, "units": 3 }],
            "order_lines": [{ "line_no": 1, "sku": "A" }, { "line_no": 2, "sku": "C" }],
            "order_timeline": [{ "entry_no": 1, "what": "order_placed" }],
        }));
        let told = |change: &RowChange| {
            let RowChange { table, row, column, before, after } = change;
            format!("{table} {:?} {column} {before:?} {after:?}", row.map(|row| row.0))
        };
        assert_eq!(differences(&before, &before), []);
        assert_eq!(
            differences(&before, &after).iter().map(told).collect::<Vec<_>>(),
            [
                "order_lines Some(2) sku Some(\"B\") Some(\"C\")",
                "order_timeline Some(1) entry_no None Some(\"1\")",
                "order_timeline Some(1) what None Some(\"order_placed\")",
                "orders None status Some(\"placed\") Some(\"confirmed\")",
            ]
        );
    }
}
