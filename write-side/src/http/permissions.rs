//! Who may do what over HTTP: one table of every operation, the scope that it needs, and whether a customer may do it.
//!
//! Whose an aggregate is follows from its own events, or from its id, and never from what a request says of it. What is
//! somebody else's is answered as if nothing had ever happened to it.

use access::{Caller, CustomerId, Refusal, Scope};
use domain::ids::OrderId;
use domain::ordering::Order;

use super::{Api, Problem};
use crate::endpoint::{Aggregate, Asks, Failure, Registry};
use crate::load::{Loaded, Until, stream_of};

/// Something that can be done to an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation<'a> {
    /// Read its state: `GET /v1/{category}/{id}`.
    State,
    /// Read its history: `GET /v1/{category}/{id}/events`.
    Events,
    /// Send it the command of this name.
    Command(&'a str),
}

/// Which customers may do something, if they have the scope. Whoever belongs to the shop may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customers {
    /// None.
    None,
    /// Every one.
    All,
    /// The one whose id the aggregate has.
    Itself,
    /// The one who bought the order that has the aggregate's id.
    Buyer,
    /// The one that the command names as the buyer, for an order that is new or that one's own.
    Orderer,
}

/// Who may do some things to the aggregates of a category.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    /// The category.
    pub category: &'static str,
    /// What may be done.
    pub operations: &'static [Operation<'static>],
    /// The scope that it needs. What a command says may need more: see [`Endpoint::asks`](crate::Endpoint::asks).
    pub scope: Scope,
    /// Which customers may do it.
    pub customers: Customers,
}

/// A permission for these operations.
pub const fn may(
    category: &'static str,
    operations: &'static [Operation<'static>],
    scope: Scope,
    customers: Customers,
) -> Permission {
    Permission { category, operations, scope, customers }
}

use Operation::{Command as C, Events, State};

/// The permissions of the shop. Histories say who did what, and are not for customers.
pub const PERMISSIONS: &[Permission] = &[
    may("product", &[State], Scope::CatalogRead, Customers::All),
    may("product", &[Events], Scope::CatalogRead, Customers::None),
    may(
        "product",
        &[C("list"), C("rename"), C("describe"), C("change-price"), C("discontinue"), C("relist")],
        Scope::CatalogWrite,
        Customers::None,
    ),
    may("stock", &[State, Events], Scope::StockRead, Customers::None),
    may("stock", &[C("receive"), C("adjust"), C("set-threshold")], Scope::StockWrite, Customers::None),
    may("stock", &[C("reserve"), C("release"), C("ship")], Scope::StockOperate, Customers::None),
    may("order", &[State], Scope::OrdersRead, Customers::Buyer),
    may("order", &[Events], Scope::OrdersRead, Customers::None),
    may("order", &[C("place")], Scope::OrdersPlace, Customers::Orderer),
    may("order", &[C("cancel")], Scope::OrdersCancel, Customers::Buyer),
    may("order", &[C("record")], Scope::OrdersRecord, Customers::None),
    may(
        "order",
        &[C("confirm"), C("reject"), C("dispatch"), C("call-off"), C("complete")],
        Scope::OrdersOperate,
        Customers::None,
    ),
    may("customer", &[State], Scope::CustomersRead, Customers::Itself),
    may("customer", &[Events], Scope::CustomersRead, Customers::None),
    may("customer", &[C("register"), C("change-contact"), C("close")], Scope::CustomersWrite, Customers::Itself),
    may("payment", &[State], Scope::PaymentsRead, Customers::Buyer),
    may("payment", &[Events], Scope::PaymentsRead, Customers::None),
    may("payment", &[C("refund")], Scope::PaymentsRefund, Customers::None),
    may(
        "payment",
        &[
            C("request"),
            C("capture"),
            C("void"),
            C("record-authorised"),
            C("record-declined"),
            C("record-captured"),
            C("record-capture-failed"),
            C("record-voided"),
            C("record-refunded"),
            C("record-refund-failed"),
        ],
        Scope::PaymentsOperate,
        Customers::None,
    ),
    may("shipment", &[State], Scope::ShipmentsRead, Customers::Buyer),
    may("shipment", &[Events], Scope::ShipmentsRead, Customers::None),
    may("shipment", &[C("dispatch"), C("deliver"), C("report-lost")], Scope::ShipmentsWrite, Customers::None),
    may("shipment", &[C("request"), C("cancel")], Scope::ShipmentsOperate, Customers::None),
    may("checkout", &[State, Events], Scope::CheckoutsRead, Customers::None),
    may("checkout", &[C("retry")], Scope::CheckoutsRetry, Customers::None),
];

/// A caller that has the scope for what it wants to do.
pub(super) struct Permit<'a> {
    caller: &'a Caller,
    customers: Customers,
}

/// Wants the scope that an operation needs. What nobody was permitted, nobody may.
pub(super) fn permit<'a>(
    registry: &Registry,
    caller: &'a Caller,
    aggregate: &dyn Aggregate,
    operation: Operation<'_>,
) -> Result<Permit<'a>, Problem> {
    let Some(Permission { scope, customers, .. }) = registry.permission(aggregate.category(), operation) else {
        if let Operation::Command(name) = operation
            && let Err(unknown @ Failure::UnknownCommand { .. }) = aggregate.check("", name, b"{}")
        {
            return Err(unknown.into());
        }
        let detail = "nobody is permitted to do this; a new operation wants a permission";
        return Err(Problem::forbidden("not-permitted", detail));
    };
    caller.demand(scope)?;
    if caller.customer.is_some() && customers == Customers::None {
        return Err(Refusal::NotForCustomers.into());
    }
    Ok(Permit { caller, customers })
}

impl Permit<'_> {
    /// Wants a customer to deal with what is its own.
    pub(super) async fn own(&self, api: &Api, category: &str, id: &str) -> Result<(), Problem> {
        let Some(customer) = self.caller.customer else { return Ok(()) };
        let is_own = match self.customers {
            Customers::None => false,
            Customers::All => true,
            Customers::Itself => id == customer.to_string(),
            Customers::Buyer => buyer(api, id).await?.is_some_and(|buyer| buyer == Some(customer)),
            Customers::Orderer => buyer(api, id).await?.is_none_or(|buyer| buyer == Some(customer)),
        };
        if is_own { Ok(()) } else { Err(Problem::nothing_happened(category, id)) }
    }

    /// Whether what a command says has to be looked at before it is executed.
    pub(super) fn depends_on_content(&self) -> bool {
        self.customers == Customers::Orderer
    }

    /// Wants what a command asks for beyond its scope.
    pub(super) fn content(&self, asks: &Asks) -> Result<(), Problem> {
        for scope in &asks.scopes {
            self.caller.demand_of_staff(*scope)?;
        }
        let own = |customer| asks.buyer.map(|buyer| CustomerId(buyer.0)) == Some(customer);
        if self.caller.customer.is_none_or(own) { Ok(()) } else { Err(Refusal::NotForOthers.into()) }
    }
}

/// Who bought the order that has this id: `None` where there is no such order, and `Some(None)` where a guest did.
async fn buyer(api: &Api, id: &str) -> Result<Option<Option<CustomerId>>, Problem> {
    let Ok(id) = id.parse::<OrderId>() else { return Ok(None) };
    let stream = stream_of::<Order>(&id).map_err(|error| Problem::bad_request("invalid-id", error.to_string()))?;
    let order = Loaded::<Order>::fold(api.executor.store(), &stream, Until::Now).await;
    Ok(order?.state.map(|order| order.customer.map(|customer| CustomerId(customer.0))))
}
