//! The schema: the queries of all read models under one root.

use async_graphql::{MergedObject, SchemaBuilder};

use crate::checkouts::CheckoutsQuery;
use crate::customers::CustomersQuery;
use crate::ledger::LedgerQuery;
use crate::limits;
use crate::low_stock::LowStockQuery;
use crate::node::NodeQuery;
use crate::orders::OrdersQuery;
use crate::parked::{Mutation, ParkedQuery};
use crate::payments::PaymentsQuery;
use crate::products::ProductsQuery;
use crate::projections::ProjectionsQuery;
use crate::sales::SalesQuery;
use crate::subscriptions::SubscriptionRoot;
use crate::time_travel::TimeTravelQuery;

/// What can be read. Everything here comes from read models, which follow the log of events by a few milliseconds:
/// every answer says in extensions.asOf how far they had come before the data was read, so that is the least the data
/// holds. To see the effect of a command, send the position it answered as the header Storefold-After.
#[derive(Default, MergedObject)]
pub(crate) struct Query(
    NodeQuery,
    OrdersQuery,
    CheckoutsQuery,
    LedgerQuery,
    PaymentsQuery,
    ProductsQuery,
    LowStockQuery,
    CustomersQuery,
    SalesQuery,
    ProjectionsQuery,
    ParkedQuery,
    TimeTravelQuery,
);

pub(crate) type Schema = async_graphql::Schema<Query, Mutation, SubscriptionRoot>;

/// The schema, still without the data that its resolvers want.
pub(crate) fn schema() -> SchemaBuilder<Query, Mutation, SubscriptionRoot> {
    Schema::build(Query::default(), Mutation, SubscriptionRoot)
        .limit_complexity(limits::COMPLEXITY)
        .limit_recursive_depth(limits::LEVELS + 1)
}
