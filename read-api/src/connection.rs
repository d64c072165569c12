//! Relay connections over keyset pagination: a page starts where a cursor points, not after so many rows, so a row that
//! is inserted or removed meanwhile neither repeats nor hides another, and the last page costs what the first does.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::connection::PageInfo;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{Context, ContextSelectionSet, Object, OutputType, Positioned, ServerResult, TypeName, Value};
use futures::future::BoxFuture;

use crate::cursor::{CursorKey, Scope};
use crate::error::Failure;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::Long;
use crate::sql::{self, Conditions, Key, Sort, Table, Visible, Window};
use crate::written::{self, Write, Written};

/// The rows of a page when the query does not say.
pub(crate) const DEFAULT_PAGE: i32 = 20;
/// The most rows that a page has.
pub(crate) const LARGEST_PAGE: i32 = 200;

/// A page of a list.
pub(crate) struct List<Node> {
    edges: Vec<Edge<Node>>,
    has_previous: bool,
    has_next: bool,
    total: Total,
}

/// A page of a list. The next one is after pageInfo.endCursor, the previous one before pageInfo.startCursor.
#[Object(name_type)]
impl<Node: Listed> List<Node> {
    /// The nodes, each with its cursor.
    async fn edges(&self) -> Rows<'_, Edge<Node>> {
        Rows(self.edges.iter().collect())
    }

    /// The nodes without their cursors.
    async fn nodes(&self) -> Rows<'_, Node> {
        Rows(self.edges.iter().map(|edge| &edge.node).collect())
    }

    /// Whether there are more pages, and the cursors to get them.
    async fn page_info(&self) -> Result<PageInfo, Failure> {
        Ok(PageInfo {
            has_previous_page: self.has_previous,
            has_next_page: self.has_next,
            start_cursor: self.edges.first().map(Edge::sealed).transpose()?,
            end_cursor: self.edges.last().map(Edge::sealed).transpose()?,
        })
    }

    /// How many nodes there are over all pages. It is counted when it is selected, which costs a statement.
    async fn total_count(&self) -> Result<Long, Failure> {
        Ok(Long((self.total.0)().await?))
    }
}

impl<Node: OutputType> TypeName for List<Node> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", Node::type_name()).into()
    }
}

/// What a page lists.
struct Rows<'a, T>(Vec<&'a T>);

impl<T: Written> OutputType for Rows<'_, T> {
    fn type_name() -> Cow<'static, str> {
        Vec::<&T>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<&T>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<&T>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match written::list(ctx, field, &self.0).await {
            Some(written) => Ok(written),
            None => resolve_list(ctx, field, self.0.iter().copied(), Some(self.0.len())).await,
        }
    }
}

/// A row of a list.
pub(crate) struct Edge<Node> {
    node: Node,
    seal: Arc<Seal>,
}

/// What makes the cursors of a list, which few queries ask for.
struct Seal {
    scope: Scope,
    sort: Sort,
}

impl<Node: Listed> Edge<Node> {
    fn sealed(&self) -> Result<String, Failure> {
        self.seal.scope.seal(&self.node.key(&self.seal.sort))
    }
}

impl<Node: Listed> Written for Edge<Node> {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("cursor", Write::Plain(|edge, json| json.tried(edge.sealed()))),
        ("node", Write::Within(|selected| selected.one(None, |edge: &Self| Some(&edge.node)))),
    ];
}

/// A node and where it stands in the list.
#[Object(name_type)]
impl<Node: Listed> Edge<Node> {
    /// Where it stands, for the arguments after and before of the same query. What is in it may change.
    async fn cursor(&self) -> Result<String, Failure> {
        self.sealed()
    }

    /// What is listed.
    async fn node(&self) -> &Node {
        &self.node
    }
}

impl<Node: OutputType> TypeName for Edge<Node> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", Node::type_name()).into()
    }
}

/// A row that can be listed.
pub(crate) trait Listed: sql::Row + Written {
    const TABLE: Table;
    /// The read models that it is read from.
    const MODELS: &'static [ReadModel];

    /// The columns to read when only these fields of the rows are selected, and the rows are in this order.
    fn columns(_fields: &[&str], _sort: &Sort) -> &'static str {
        Self::TABLE.columns
    }

    /// Where the row stands in an order.
    fn key(&self, sort: &Sort) -> Key;

    /// Tells rows that were read together of each other, so that what they need is loaded once for all of them.
    fn make_siblings(_rows: Vec<&mut Self>) {}
}

/// Which page a query asks for.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) first: Option<i32>,
    pub(crate) after: Option<String>,
    pub(crate) last: Option<i32>,
    pub(crate) before: Option<String>,
}

impl Page {
    /// The rows to read for this page, and one more that tells whether there is another.
    pub(crate) fn window(&self, scope: &Scope) -> Result<Window, Failure> {
        let (name, size, backward) = match (self.first, self.last) {
            (Some(_), Some(_)) => return Err(Failure::bad_input("Give first or last, not both.")),
            (None, Some(last)) => ("last", last, true),
            (first, None) => ("first", first.unwrap_or(DEFAULT_PAGE), false),
        };
        let rows = i64::from(page_size(name, size)?) + 1;
        let open = |cursor: &Option<String>| cursor.as_deref().map(|cursor| scope.open(cursor)).transpose();
        Ok(Window { after: open(&self.after)?, before: open(&self.before)?, backward, rows })
    }
}

/// `size`, if a page may have that many rows; `name` is the argument that asks for them.
pub(crate) fn page_size(name: &str, size: i32) -> Result<i32, Failure> {
    match size {
        0..=LARGEST_PAGE => Ok(size),
        _ => Err(Failure::bad_input(format!("{name} is 0 to {LARGEST_PAGE}, not {size}."))),
    }
}

/// What a page costs: its rows times what each of them costs.
pub(crate) fn page_cost(first: Option<i32>, last: Option<i32>, row: usize) -> usize {
    // A size past the largest page is refused later, by a message that says so.
    let rows = first.or(last).unwrap_or(DEFAULT_PAGE).clamp(1, LARGEST_PAGE);
    list_cost(rows.unsigned_abs() as usize, row)
}

/// What a list costs. It saturates far below an overflow, since costs are added up.
pub(crate) fn list_cost(rows: usize, row: usize) -> usize {
    rows.saturating_mul(row).min(1_000_000_000)
}

/// One page of the rows that fulfil `conditions`.
pub(crate) async fn list<Node: Listed>(
    ctx: &Context<'_>,
    sort: Sort,
    conditions: Conditions,
    page: Page,
) -> Result<List<Node>, Failure> {
    let reads = ctx.data_unchecked::<Arc<Reads>>().clone();
    let rows = reads.view().rows(Node::TABLE, conditions);
    let scope = scope(ctx, &sort, &rows)?;
    let window = page.window(&scope)?;
    let columns = Node::columns(&fields(ctx), &sort);
    let found = page_of(&reads, &rows, columns, &sort, &window).await?;
    let mut slice = Slice::cut(found, &window);
    Node::make_siblings(slice.rows.iter_mut().collect());
    let total = Total::new(move || {
        let (reads, rows) = (reads.clone(), rows.clone());
        Box::pin(async move { Ok(sql::count(reads.of(Node::MODELS).await?, &rows).await?) })
    });
    Ok(slice.connection(sort, &window, scope, total))
}

/// The rows of a page, and one more if there is any.
async fn page_of<Node: Listed>(
    reads: &Reads,
    rows: &Visible,
    columns: &'static str,
    sort: &Sort,
    window: &Window,
) -> Result<Vec<Node>, Failure> {
    // A page without rows does not say how far they had come, and is asked for again. Where nothing is filtered, that costs
    // little, and is rare.
    if rows.conditions.is_empty()
        && let Some((database, model)) = reads.at_once(Node::MODELS).await
        && let Some((found, position)) =
            sql::page_and_position(database, rows, columns, model.name(), sort, window).await?
    {
        reads.came(model, position);
        return Ok(found);
    }
    Ok(sql::page(reads.of(Node::MODELS).await?, rows, columns, sort, window).await?)
}

/// The fields of the rows that a list selects. There may be some among them that are another type's.
fn fields<'a>(ctx: &'a Context<'_>) -> Vec<&'a str> {
    fn gather<'a>(ctx: &'a Context<'_>, set: &'a SelectionSet, way: &[&str], names: &mut Vec<&'a str>) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let (name, set) = (field.node.name.node.as_str(), &field.node.selection_set.node);
                    match way {
                        [] => names.push(name),
                        [step, rest @ ..] if *step == name => gather(ctx, set, rest, names),
                        // The nodes themselves, without edges.
                        [_, _] if name == "nodes" => gather(ctx, set, &[], names),
                        _ => {}
                    }
                }
                Selection::InlineFragment(fragment) => gather(ctx, &fragment.node.selection_set.node, way, names),
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = ctx.query_env.fragments.get(&spread.node.fragment_name.node) {
                        gather(ctx, &fragment.node.selection_set.node, way, names);
                    }
                }
            }
        }
    }
    let mut names = Vec::new();
    gather(ctx, &ctx.item.node.selection_set.node, &["edges", "node"], &mut names);
    names
}

/// What the cursors of a list are bound to: its table, order and filter, and to the customer who sees its own rows alone.
pub(crate) fn scope(ctx: &Context<'_>, sort: &Sort, rows: &Visible) -> Result<Scope, Failure> {
    Scope::new(ctx.data_unchecked::<CursorKey>(), &(rows.table.name, sort, &rows.conditions))
}

/// The rows of a page, in order.
#[derive(Debug, Clone)]
pub(crate) struct Slice<Node> {
    pub(crate) rows: Vec<Node>,
    /// Whether there are more in the direction of the window.
    more: bool,
}

impl<Node> Slice<Node> {
    /// Takes off the row that was read to see whether there are more.
    pub(crate) fn cut(mut rows: Vec<Node>, window: &Window) -> Self {
        let more = i64::try_from(rows.len()).is_ok_and(|count| count == window.rows);
        if more {
            let extra = if window.backward { 0 } else { rows.len() - 1 };
            rows.remove(extra);
        }
        Self { rows, more }
    }
}

impl<Node: Listed> Slice<Node> {
    pub(crate) fn connection(self, sort: Sort, window: &Window, scope: Scope, total: Total) -> List<Node> {
        // The row that a cursor was made of is itself beyond the page.
        let (has_previous, has_next) = match window.backward {
            false => (window.after.is_some(), self.more || window.before.is_some()),
            true => (self.more || window.after.is_some(), window.before.is_some()),
        };
        let seal = Arc::new(Seal { scope, sort });
        let edges = self.rows.into_iter().map(|node| Edge { node, seal: seal.clone() }).collect();
        List { edges, has_previous, has_next, total }
    }
}

/// How many rows a list has over all its pages.
pub(crate) struct Total(Box<dyn Fn() -> BoxFuture<'static, Result<i64, Failure>> + Send + Sync>);

impl Total {
    pub(crate) fn new(count: impl Fn() -> BoxFuture<'static, Result<i64, Failure>> + Send + Sync + 'static) -> Self {
        Self(Box::new(count))
    }
}
