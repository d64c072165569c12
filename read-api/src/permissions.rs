//! Who may read what: one table of every field of the schema, the scopes that it needs, and whether a customer may read it
//! of what is its own.
//!
//! A document is held against the table when it is read, and what it needs is kept with it; a request is refused as a whole
//! before anything is executed, so that a row costs nothing. What is not in the table, nobody may read. Whose a row is
//! stands in the row, and is asked in SQL: see [`View`].

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use access::{Caller, Refusal, Scope};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, Field, FieldDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Context, Name, Pos, Positioned, ServerError, Value, Variables};
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Code, Failure};
use crate::sql::{Bind, Conditions, Table, Visible};

/// Who may read a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Rule {
    /// Everybody, with a token or without.
    Everybody,
    /// Who has the scope; a customer of what is its own.
    Own(Scope),
    /// Who has the scopes and belongs to the shop.
    Shop(&'static [Scope]),
}

use Rule::{Everybody, Own, Shop};

const CHECKOUTS: Rule = Own(Scope::CheckoutsRead);
const CUSTOMERS: Rule = Own(Scope::CustomersRead);
const ORDERS: Rule = Own(Scope::OrdersRead);
const PAYMENTS: Rule = Own(Scope::PaymentsRead);
const SHIPMENTS: Rule = Own(Scope::ShipmentsRead);
/// The payments as the ledger has them, which does not know whose they are.
const LEDGER: Rule = Shop(&[Scope::PaymentsRead]);
const STOCK: Rule = Shop(&[Scope::StockRead]);
const REPORTS: Rule = Shop(&[Scope::ReportsRead]);
const OPERATIONS: Rule = Shop(&[Scope::OperationsRead]);
/// What the columns of an order tell, its payment and its shipment included.
const ORDERS_PAST: Rule = Shop(&[Scope::OrdersRead, Scope::PaymentsRead, Scope::ShipmentsRead]);
const PRODUCTS_PAST: Rule = Shop(&[Scope::CatalogRead, Scope::StockRead]);

/// The fields of the object types and interfaces, all of them but those of pages.
const FIELDS: &[(&str, &[&str], Rule)] = &[
    ("Query", &["node", "nodes", "product", "products"], Everybody),
    ("Query", &["order", "orders", "orderAsOf"], ORDERS),
    ("Query", &["customer", "customers"], CUSTOMERS),
    ("Query", &["checkout", "checkouts"], CHECKOUTS),
    ("Query", &["payments"], LEDGER),
    ("Query", &["lowStock"], STOCK),
    ("Query", &["salesSummary", "salesBy", "topProducts", "topCustomers", "ledger", "ledgerBalances"], REPORTS),
    ("Query", &["projections", "parked"], OPERATIONS),
    ("Query", &["productAsOf"], Shop(&[Scope::CatalogRead])),
    ("Query", &["productChanges"], PRODUCTS_PAST),
    ("Query", &["orderChanges"], ORDERS_PAST),
    ("Mutation", &["redrive", "skip"], Shop(&[Scope::OperationsRepair])),
    ("Subscription", &["orderChanged", "ordersChanged"], ORDERS),
    ("Subscription", &["stockChanged"], STOCK),
    ("Subscription", &["salesChanged"], REPORTS),
    ("Subscription", &["projectionsChanged"], OPERATIONS),
    // What is behind an id is guarded when it is known what it is.
    ("Node", &["nodeId"], Everybody),
    ("Product", &["nodeId", "sku", "name", "description", "status", "price", "inStock"], Everybody),
    ("Product", &["onHand", "reserved", "available", "threshold", "low", "changedAt", "stock"], STOCK),
    ("Stock", &["onHand", "reserved", "available", "threshold", "low", "movements"], STOCK),
    (
        "StockMovement",
        &[
            "id",
            "movementNo",
            "at",
            "what",
            "quantity",
            "onHand",
            "available",
            "orderId",
            "reason",
            "actor",
            "correlationId",
            "causationId",
        ],
        STOCK,
    ),
    (
        "Order",
        &[
            "nodeId",
            "id",
            "reference",
            "status",
            "reason",
            "placedAt",
            "country",
            "currency",
            "lineCount",
            "units",
            "changedAt",
            "revision",
            "total",
            "lines",
            "timeline",
        ],
        ORDERS,
    ),
    ("Order", &["customer"], CUSTOMERS),
    ("Order", &["payment"], PAYMENTS),
    ("Order", &["shipment"], SHIPMENTS),
    ("Order", &["checkout"], CHECKOUTS),
    ("OrderLine", &["lineNo", "sku", "quantity", "unitPrice", "total", "product"], ORDERS),
    ("TimelineEntry", &["at", "what"], ORDERS),
    // It tells what the shop's own people did and what failed, too.
    ("TimelineEntry", &["detail", "actor", "correlationId", "causationId"], Shop(&[Scope::OrdersRead])),
    ("Payment", &["status", "amount", "authorised", "captured", "refunded", "reference", "declinedReason"], PAYMENTS),
    (
        "PaymentRecord",
        &[
            "paymentId",
            "status",
            "inTrouble",
            "reference",
            "captureReference",
            "declinedReason",
            "voidReason",
            "captureFailure",
            "requestedAt",
            "authorisedAt",
            "capturedAt",
            "endedAt",
            "changedAt",
            "amount",
            "authorised",
            "held",
            "captured",
            "refunded",
            "pendingRefund",
            "refunds",
        ],
        LEDGER,
    ),
    ("PaymentRecord", &["order"], Shop(&[Scope::OrdersRead])),
    ("PaymentRefund", &["refundNo", "status", "amount", "reason", "failure", "requestedAt", "answeredAt"], LEDGER),
    ("Shipment", &["status", "carrier", "tracking", "dispatchedAt", "deliveredAt", "reason"], SHIPMENTS),
    (
        "Customer",
        &["nodeId", "id", "reference", "name", "email", "phone", "status", "registeredAt", "spend"],
        CUSTOMERS,
    ),
    ("Customer", &["orders"], ORDERS),
    ("CustomerSpend", &["currency", "orders", "revenue"], CUSTOMERS),
    (
        "Checkout",
        &["nodeId", "orderId", "state", "step", "startedAt", "changedAt", "endedAt", "ageSeconds", "inTrouble"],
        CHECKOUTS,
    ),
    // It may be what a gateway or this program says of a failure.
    ("Checkout", &["reason", "problem", "parkedReason", "undoReason"], Shop(&[Scope::CheckoutsRead])),
    ("Checkout", &["order"], ORDERS),
    ("LowStock", &["sku", "available", "threshold", "since", "product"], STOCK),
    ("SalesSummary", &["orders", "lines", "units", "revenue"], REPORTS),
    ("Sales", &["key", "andKey", "cursor", "orders", "units", "revenue"], REPORTS),
    ("TopProduct", &["sku", "name", "units", "revenue"], REPORTS),
    ("TopCustomer", &["customerId", "orders", "revenue"], REPORTS),
    ("TopCustomer", &["customer"], Shop(&[Scope::CustomersRead])),
    ("LedgerEntry", &["id", "paymentId", "entryNo", "movementNo", "movement", "account", "at", "amount"], REPORTS),
    ("LedgerBalance", &["account", "balance"], REPORTS),
    (
        "Projection",
        &["name", "version", "position", "headPosition", "lagSeconds", "lagEvents", "state", "parked"],
        OPERATIONS,
    ),
    (
        "ParkedEvent",
        &["readModel", "key", "stream", "revision", "event", "eventType", "error", "attempts", "since", "position"],
        OPERATIONS,
    ),
    ("Redriven", &["folded", "parked", "failures"], Shop(&[Scope::OperationsRepair])),
    // Which columns they are of is told by the field that they come from.
    ("RowChange", &["table", "row", "column", "before", "after"], Shop(&[])),
    ("OrderChanged", &["order", "asOf"], ORDERS),
    ("OrdersChanged", &["kind", "orders", "left", "asOf"], ORDERS),
    ("StockChanged", &["product", "asOf"], STOCK),
    ("SalesChanged", &["sales", "asOf"], REPORTS),
    ("ProjectionsChanged", &["projections", "asOf"], OPERATIONS),
    // What these are of is told by the fields that they come from.
    ("Money", &["minor", "currency", "amount"], Everybody),
    ("PageInfo", &["hasPreviousPage", "hasNextPage", "startCursor", "endCursor"], Everybody),
];

/// The types that are listed a page at a time, with the rule of their pages.
const LISTS: &[(&str, Rule)] = &[
    ("Order", ORDERS),
    ("Customer", CUSTOMERS),
    ("Checkout", CHECKOUTS),
    ("Product", Everybody),
    ("LowStock", STOCK),
    ("LedgerEntry", REPORTS),
    ("PaymentRecord", LEDGER),
    ("StockMovement", STOCK),
    ("ParkedEvent", OPERATIONS),
];

/// The rules by type and field.
fn rules() -> impl Iterator<Item = (String, &'static str, Rule)> {
    let fields = FIELDS.iter().flat_map(|(of, names, rule)| names.iter().map(|name| ((*of).to_owned(), *name, *rule)));
    let lists = LISTS.iter().flat_map(|(of, rule)| {
        let page = ["edges", "nodes", "pageInfo", "totalCount"].map(|name| (format!("{of}Connection"), name, *rule));
        page.into_iter().chain(["cursor", "node"].map(|name| (format!("{of}Edge"), name, *rule)))
    });
    fields.chain(lists)
}

/// A field of the schema.
struct Guarded {
    /// Who may read it. `None`: nobody.
    rule: Option<Rule>,
    /// Its type, without lists.
    of: Name,
}

/// The fields of the schema, by type and name.
static SCHEMA: LazyLock<HashMap<Name, HashMap<Name, Guarded>>> = LazyLock::new(|| guarded(&crate::sdl()));

fn guarded(sdl: &str) -> HashMap<Name, HashMap<Name, Guarded>> {
    let rules: HashMap<_, _> = rules().map(|(of, name, rule)| ((of, name.to_owned()), rule)).collect();
    // Were it none, nobody could read anything.
    let definitions = parse_schema(sdl).map(|document| document.definitions).unwrap_or_default();
    let fields = |of: &Name, fields: Vec<Positioned<FieldDefinition>>| {
        let guarded = |Positioned { node: field, .. }: Positioned<FieldDefinition>| {
            let rule = rules.get(&(of.to_string(), field.name.node.to_string())).copied();
            (field.name.node, Guarded { rule, of: base(&field.ty.node) })
        };
        fields.into_iter().map(guarded).collect()
    };
    let types = definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(Positioned { node, .. }) => {
            let name = node.name.node;
            match node.kind {
                TypeKind::Object(object) => Some((name.clone(), fields(&name, object.fields))),
                TypeKind::Interface(interface) => Some((name.clone(), fields(&name, interface.fields))),
                _ => None,
            }
        }
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    types.collect()
}

fn base(of: &Type) -> Name {
    match &of.base {
        BaseType::Named(name) => name.clone(),
        BaseType::List(of) => base(of),
    }
}

/// What an operation asks for.
#[derive(Debug, Clone)]
struct Need {
    /// The first field that needs it.
    of: Name,
    field: Name,
    rule: Option<Rule>,
    position: Pos,
    /// When it is selected: if all of these are so.
    when: Vec<When>,
}

/// That a variable is so, as the directives `include` and `skip` want it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct When {
    variable: Name,
    /// What it is where the request does not say.
    default: Option<bool>,
    is: bool,
}

/// What the operations of a document ask for.
#[derive(Debug, Default)]
pub(crate) struct Needs(HashMap<Option<Name>, Vec<Need>>);

impl Needs {
    /// Holds a document against the table. It must be within the limits, and need not be valid: what is not in the schema is
    /// passed over, for it will not be executed.
    pub(crate) fn of(document: &ExecutableDocument) -> Self {
        let needs = |operation: &OperationDefinition| {
            let root = match operation.ty {
                OperationType::Query => "Query",
                OperationType::Mutation => "Mutation",
                OperationType::Subscription => "Subscription",
            };
            let mut walk = Walk { document, operation, needs: BTreeMap::new() };
            walk.set(&Name::new(root), &operation.selection_set.node, &[]);
            walk.needs.into_values().collect()
        };
        Self(document.operations.iter().map(|(name, operation)| (name.cloned(), needs(&operation.node))).collect())
    }

    /// Lets a caller have what an operation asks for, or says what it lacks.
    pub(crate) fn check(
        &self,
        operation: Option<&str>,
        variables: &Variables,
        caller: Option<&Caller>,
    ) -> Result<(), ServerError> {
        // A document with one operation is executed without a name, too.
        let named = operation.and_then(|name| self.0.get(&Some(Name::new(name))));
        let needs = named.or_else(|| if self.0.len() == 1 { self.0.values().next() } else { None });
        let mut asked = needs.into_iter().flatten().filter(|need| need.when.iter().all(|when| when.holds(variables)));
        asked.try_for_each(|need| {
            permit(need.rule, caller).map_err(|denial| denial.of(&need.of, &need.field).of_request(Some(need.position)))
        })
    }
}

impl When {
    fn holds(&self, variables: &Variables) -> bool {
        match variables.get(&self.variable) {
            Some(Value::Boolean(value)) => *value == self.is,
            None => self.default.is_none_or(|default| default == self.is),
            // No boolean: the validation has the word.
            Some(_) => true,
        }
    }
}

/// What makes one need the same as another: the rule, or else the field's name, and the conditions.
type Same = (Option<Rule>, Option<String>, Vec<When>);

/// Gathers what an operation asks for, once for each rule and condition.
struct Walk<'a> {
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    needs: BTreeMap<Same, Need>,
}

impl<'a> Walk<'a> {
    fn set(&mut self, of: &Name, set: &'a SelectionSet, when: &[When]) {
        for selection in &set.items {
            let Some(when) = self.when(selection.node.directives(), when) else { continue };
            match &selection.node {
                Selection::Field(field) => self.field(of, field, when),
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.set(condition.unwrap_or(of), &fragment.node.selection_set.node, &when);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        let condition = &fragment.node.type_condition.node.on.node;
                        self.set(condition, &fragment.node.selection_set.node, &when);
                    }
                }
            }
        }
    }

    fn field(&mut self, of: &Name, field: &'a Positioned<Field>, when: Vec<When>) {
        let name = &field.node.name.node;
        let Some(Guarded { rule, of: inner }) = SCHEMA.get(of).and_then(|fields| fields.get(name)) else { return };
        if *rule != Some(Everybody) {
            let need =
                || Need { of: of.clone(), field: name.clone(), rule: *rule, position: field.pos, when: when.clone() };
            // Of what nobody may read, each is told by its own name.
            let unknown = rule.is_none().then(|| format!("{of}.{name}"));
            self.needs.entry((*rule, unknown, when.clone())).or_insert_with(need);
        }
        self.set(inner, &field.node.selection_set.node, &when);
    }

    /// The conditions of a selection within another; `None` when it is never selected.
    fn when(&self, directives: &'a [Positioned<Directive>], within: &[When]) -> Option<Vec<When>> {
        let mut when = within.to_vec();
        for Positioned { node: directive, .. } in directives {
            let is = match directive.name.node.as_str() {
                "include" => true,
                "skip" => false,
                _ => continue,
            };
            let mut variable = None;
            let given = directive.get_argument("if").map(|given| {
                given.node.clone().into_const_with(|name| {
                    variable = Some(name);
                    Err(())
                })
            });
            match (given, variable) {
                (Some(Ok(Value::Boolean(given))), _) if given != is => return None,
                (_, Some(variable)) => {
                    let definitions = self.operation.variable_definitions.iter();
                    let default =
                        definitions.filter(|definition| definition.node.name.node == variable).find_map(|definition| {
                            match definition.node.default_value()? {
                                Value::Boolean(default) => Some(*default),
                                _ => None,
                            }
                        });
                    when.push(When { variable, default, is });
                }
                _ => {}
            }
        }
        when.sort_unstable();
        when.dedup();
        Some(when)
    }
}

/// Why somebody may not read a field.
enum Denial {
    Refused(Refusal),
    /// It has no entry in the table.
    Nobody,
}

fn permit(rule: Option<Rule>, caller: Option<&Caller>) -> Result<(), Denial> {
    let known = || caller.ok_or(Denial::Refused(Refusal::NoToken));
    match rule {
        None => Err(Denial::Nobody),
        Some(Everybody) => Ok(()),
        Some(Own(scope)) => known()?.demand(scope).map_err(Denial::Refused),
        Some(Shop(scopes)) => {
            let caller = known()?;
            scopes.iter().try_for_each(|scope| caller.demand(*scope)).map_err(Denial::Refused)?;
            if caller.customer.is_none() { Ok(()) } else { Err(Denial::Refused(Refusal::NotForCustomers)) }
        }
    }
}

impl Denial {
    /// What is told of it.
    fn of(self, of: &str, field: &str) -> Failure {
        let failure = match self {
            Self::Refused(refusal) => Failure::from(refusal),
            Self::Nobody => {
                tracing::error!(of, field, "a field has no entry in the table of permissions");
                Failure::new(Code::Forbidden, "Nobody is permitted to read this field yet.")
            }
        };
        failure.told_of("field", format!("{of}.{field}"))
    }
}

/// Lets a caller have what follows from an argument, where it is the same as what a field shows.
pub(crate) fn demand(ctx: &Context<'_>, of: &str, field: &str) -> Result<(), Failure> {
    let rule = SCHEMA.get(of).and_then(|fields| fields.get(field)).and_then(|guarded| guarded.rule);
    permit(rule, ctx.data_opt::<Caller>()).map_err(|denial| denial.of(of, field))
}

/// Which rows there are for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum View {
    /// All of them.
    Everything,
    /// Of what belongs to customers, what is this one's.
    Of(Uuid),
    /// Of what belongs to customers, nothing.
    Nothing,
}

impl View {
    pub(crate) fn of(caller: Option<&Caller>) -> Self {
        match caller {
            None => Self::Nothing,
            Some(Caller { customer: None, .. }) => Self::Everything,
            Some(Caller { customer: Some(customer), .. }) => Self::Of(customer.0),
        }
    }

    /// The rows of a table that fulfil the conditions, as far as they are there for the caller.
    pub(crate) fn rows(self, table: Table, conditions: Conditions) -> Visible {
        let customer = match self {
            Self::Everything => None,
            Self::Of(customer) => Some(Bind::Uuid(customer)),
            // Nothing equals null.
            Self::Nothing => Some(Bind::Null),
        };
        let conditions = match table.owner {
            None => conditions,
            Some(owner) => conditions.and(owner, customer),
        };
        Visible { table, conditions }
    }

    /// Whether what belongs to a customer, or to a guest, is there for the caller.
    pub(crate) fn sees(self, owner: Option<Uuid>) -> bool {
        match self {
            Self::Everything => true,
            Self::Of(customer) => owner == Some(customer),
            Self::Nothing => false,
        }
    }
}
