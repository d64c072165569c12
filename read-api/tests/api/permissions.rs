//! Who may read what: every field of the schema by every kind of caller, with somebody else's ids. What is asked is made from
//! the schema, so that a new field is asked for too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use access::{Caller, Role, Scope, Scopes};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use read_api::{AsOf, History, LogError, Moment};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Reply, Shop, customer, id, named, staff};
use crate::socket::Socket;

/// The types whose every field is for everybody, besides the catalogue.
const VALUES: [&str; 5] = ["Money", "PageInfo", "ProductConnection", "ProductEdge", "Node"];
/// What else is for everybody.
const FOR_EVERYBODY: [&str; 11] = [
    "Query.node",
    "Query.nodes",
    "Query.product",
    "Query.products",
    "Product.nodeId",
    "Product.sku",
    "Product.name",
    "Product.description",
    "Product.status",
    "Product.price",
    "Product.inStock",
];
/// The types that have a customer's own things, pages of them included.
const FOR_CUSTOMERS: [&str; 8] =
    ["Order", "OrderLine", "TimelineEntry", "Payment", "Shipment", "Customer", "CustomerSpend", "Checkout"];
/// What else a customer may read.
const ALSO_FOR_CUSTOMERS: [&str; 15] = [
    "Query.order",
    "Query.orders",
    "Query.orderAsOf",
    "Query.customer",
    "Query.customers",
    "Query.checkout",
    "Query.checkouts",
    "Subscription.orderChanged",
    "Subscription.ordersChanged",
    "OrderChanged.order",
    "OrderChanged.asOf",
    "OrdersChanged.kind",
    "OrdersChanged.orders",
    "OrdersChanged.left",
    "OrdersChanged.asOf",
];
/// What of their things is not for customers.
const NOT_FOR_CUSTOMERS: [&str; 8] = [
    "TimelineEntry.detail",
    "TimelineEntry.actor",
    "TimelineEntry.correlationId",
    "TimelineEntry.causationId",
    "Checkout.reason",
    "Checkout.problem",
    "Checkout.parkedReason",
    "Checkout.undoReason",
];

fn is_for_everybody(of: &str, field: &str) -> bool {
    VALUES.contains(&of) || FOR_EVERYBODY.contains(&&*format!("{of}.{field}"))
}

fn is_for_customers(of: &str, field: &str) -> bool {
    let name = format!("{of}.{field}");
    let listed = of.strip_suffix("Connection").or(of.strip_suffix("Edge")).unwrap_or(of);
    let own = FOR_CUSTOMERS.contains(&listed) || ALSO_FOR_CUSTOMERS.contains(&&*name);
    own && !NOT_FOR_CUSTOMERS.contains(&&*name)
}

const ADA: u64 = 101;
const BOB: u64 = 102;
/// Ada's order, Bob's, a guest's, and Bob's that only its checkout knows.
const OWN: u64 = 1;
const OTHERS: u64 = 2;
const GUESTS: u64 = 3;
const NOBODYS: u64 = 9;

/// What Ada's things say of themselves, and everybody else's.
const MINE: &str = "ada-s";
const THEIRS: &str = "bob-s";
/// An amount that only others have.
const THEIR_MINOR: i64 = 7_654_321;

/// How things were: as they are now.
struct Past(PgPool);

#[async_trait]
impl History for Past {
    async fn as_of(&self, read_model: &str, key: &str, _: Moment) -> Result<AsOf, LogError> {
        let sql = match read_model {
            "orders" => "select to_jsonb(o) from read.orders o where order_id::text = $1",
            _ => "select to_jsonb(p) from read.products p where sku = $1",
        };
        let rows: Vec<Value> = sqlx::query_scalar(sql).bind(key).fetch_all(&self.0).await?;
        let rows = rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect();
        Ok(AsOf { tables: [(read_model.to_owned(), rows)].into() })
    }
}

async fn shop() -> Shop {
    let shop = Shop::open_with(|config| config.history = Some(Arc::new(Past(config.pool.clone())))).await;
    let order = |number: u64, customer: &str, whose: &str, minor: i64| {
        format!(
            "insert into read.orders values
                ('{order}', '{whose} reference', 'completed', '{whose} reason', '2010-12-01T08:26:00Z', {customer},
                 '{whose} country', 'GBP', {minor}, 1, 2, '2010-12-02T00:00:00Z', 7, 3, 'captured', 'GBP', {minor}, {minor},
                 {minor}, 50, '{whose} authorisation', '{whose} decline', 'delivered', '{whose} carrier',
                 '{whose} tracking', '2010-12-01T12:00:00Z', '2010-12-02T00:00:00Z', '{whose} shipment');
             insert into read.order_lines values ('{order}', 1, 'A1', 2, {minor});
             insert into read.order_timeline values
                ('{order}', 1, '2010-12-01T08:26:00Z', 'order_placed', '{whose} detail');",
            order = id(number),
        )
    };
    let account = |number: u64, whose: &str, minor: i64| {
        format!(
            "insert into read.customers values ('{id}', '{whose} reference', '{whose} name', '{whose} mail',
                '{whose} phone', 'open', '2010-01-01T00:00:00Z', now());
             insert into read.customer_spend values ('{id}', 'GBP', 1, {minor});",
            id = id(number),
        )
    };
    let checkout = |number: u64, whose: &str| {
        format!(
            "insert into read.checkouts (order_id, state, step, reason, order_status, taken_minor, started_at, changed_at)
             values ('{}', 'parked', 'paying', '{whose} trouble', 'placed', 0, now(), now());",
            id(number)
        )
    };
    let ada = format!("'{}'", id(ADA));
    let bob = format!("'{}'", id(BOB));
    shop.sql(
        [
            order(OWN, &ada, MINE, 1),
            order(OTHERS, &bob, THEIRS, THEIR_MINOR),
            order(GUESTS, "null", THEIRS, THEIR_MINOR),
            account(ADA, MINE, 1),
            account(BOB, THEIRS, THEIR_MINOR),
            checkout(OWN, MINE),
            checkout(OTHERS, THEIRS),
            checkout(GUESTS, THEIRS),
            checkout(NOBODYS, THEIRS),
            "insert into read.products values
                ('A1', 'Lantern', 'Of glass', 1275, 'GBP', 'listed', 7654321, 0, 7654321, 7, false, now()),
                ('B2', 'Heart', null, 400, 'GBP', 'listed', 0, 0, 0, 7, true, now());"
                .to_owned(),
        ]
        .concat(),
    )
    .await;
    shop
}

/// The schema as introspection tells it, by the names of its types.
struct Schema(BTreeMap<String, Value>);

/// A way to a type: the fields that lead there from a root, by type and name, and as they are selected.
type Way = Vec<(String, String, String)>;

impl Schema {
    async fn of(shop: &Shop) -> Self {
        let query =
            "{ __schema { types { kind name possibleTypes { name } fields { name args { ...Input } type { ...Type } }
              inputFields { ...Input } } } }
            fragment Input on __InputValue { name defaultValue type { ...Type } }
            fragment Type on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
        let types = shop.data(query).await["__schema"]["types"].as_array().unwrap().clone();
        Self(types.into_iter().map(|kind| (kind["name"].as_str().unwrap().to_owned(), kind)).collect())
    }

    fn fields(&self, of: &str) -> Vec<Value> {
        self.0[of]["fields"].as_array().cloned().unwrap_or_default()
    }

    /// Every field of every type that has some, but GraphQL's own.
    fn all(&self) -> Vec<(String, Value)> {
        let types = self.0.keys().filter(|of| !of.starts_with("__"));
        types.flat_map(|of| self.fields(of).into_iter().map(|field| (of.clone(), field))).collect()
    }

    /// The field with its arguments, as far as they have to be given, about the things of one customer.
    fn call(&self, of: &str, field: &Value, order: Uuid, customer: Uuid) -> String {
        let name = field["name"].as_str().unwrap();
        let given = field["args"].as_array().unwrap().iter().filter_map(|argument| {
            let is_required = argument["type"]["kind"] == "NON_NULL" && argument["defaultValue"].is_null();
            let argument_name = argument["name"].as_str().unwrap();
            let value = match (argument_name, base(&argument["type"]).as_str()) {
                ("first", _) => "2".to_owned(),
                _ if !is_required => return None,
                ("id", "UUID") if name == "customer" => format!("\"{customer}\""),
                ("at" | "from" | "to", "OrderMoment") => "{ revision: 9 }".to_owned(),
                (_, "UUID") => format!("\"{order}\""),
                ("id", "ID") => format!("\"{}\"", node_id("Order", order)),
                ("ids", "ID") => format!("[\"{}\", \"{}\"]", node_id("Customer", customer), node_id("Checkout", order)),
                (_, "Sku") => "\"A1\"".to_owned(),
                (_, "Currency") => "\"GBP\"".to_owned(),
                (_, "DateTime") => "\"2011-01-01T00:00:00Z\"".to_owned(),
                (_, "String") => "\"orders\"".to_owned(),
                (_, other) => {
                    let values = &self.0[other]["enumValues"];
                    let dimension = if other == "SalesDimension" { "DAY" } else { "UNITS" };
                    assert!(!values.is_object(), "{of}.{name}: say what {argument_name}: {other} is to be");
                    dimension.to_owned()
                }
            };
            Some(format!("{argument_name}: {value}"))
        });
        let given: Vec<String> = given.collect();
        if given.is_empty() { name.to_owned() } else { format!("{name}({})", given.join(", ")) }
    }

    fn is_leaf(&self, of: &str) -> bool {
        self.0[of]["fields"].is_null()
    }

    /// A shortest way to each type that can be reached, by one root: `A { B(id: 1) { ... on C`.
    fn ways(&self, root: &str, order: Uuid, customer: Uuid) -> BTreeMap<String, Way> {
        let mut ways = BTreeMap::from([(root.to_owned(), Vec::new())]);
        let mut next = VecDeque::from([root.to_owned()]);
        while let Some(of) = next.pop_front() {
            let way = ways[&of].clone();
            for field in self.fields(&of) {
                let inner = base(&field["type"]);
                if self.is_leaf(&inner) || ways.contains_key(&inner) {
                    continue;
                }
                let mut to = way.clone();
                let name = field["name"].as_str().unwrap().to_owned();
                to.push((of.clone(), name, self.call(&of, &field, order, customer)));
                ways.insert(inner.clone(), to);
                next.push_back(inner);
            }
        }
        ways
    }

    /// Everything below a type that `may` be selected, as deep as `depth`.
    fn everything(&self, of: &str, depth: usize, may: &dyn Fn(&str, &str) -> bool) -> String {
        let mut selected = vec!["__typename".to_owned()];
        for field in self.fields(of) {
            let (name, inner) = (field["name"].as_str().unwrap(), base(&field["type"]));
            if !may(of, name) {
                continue;
            }
            if self.is_leaf(&inner) {
                selected.push(name.to_owned());
            } else if depth > 0 {
                let call = self.call(of, &field, id(OTHERS), id(BOB));
                selected.push(format!("{call} {{ {} }}", self.everything(&inner, depth - 1, may)));
            }
        }
        let possible = self.0[of]["possibleTypes"].as_array().cloned().unwrap_or_default();
        for kind in possible.iter().filter(|_| depth > 0).map(|kind| kind["name"].as_str().unwrap()) {
            // Fields of one name with other types do not go together.
            let inner = self.everything(kind, 0, &|of, name| may(of, name) && !["reason", "status"].contains(&name));
            selected.push(format!("... on {kind} {{ {inner} }}"));
        }
        selected.join(" ")
    }
}

fn base(of: &Value) -> String {
    match of["name"].as_str() {
        Some(name) => name.to_owned(),
        None => base(&of["ofType"]),
    }
}

fn node_id(kind: &str, id: impl std::fmt::Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}:{id}"))
}

/// A field of the schema, and a document that asks for it.
struct Case {
    of: String,
    field: String,
    root: &'static str,
    document: String,
    /// The fields that lead there, by type and name.
    over: Way,
}

impl Case {
    /// Whether the field and all that lead there are so.
    fn all(&self, so: impl Fn(&str, &str) -> bool) -> bool {
        so(&self.of, &self.field) && self.over.iter().all(|(of, field, _)| so(of, field))
    }
}

/// Every field that can be reached, about the things of one customer.
fn cases(schema: &Schema, order: u64, customer: u64) -> Vec<Case> {
    let (order, customer) = (id(order), id(customer));
    let mut cases = Vec::new();
    for root in ["Query", "Mutation", "Subscription"] {
        for (of, way) in schema.ways(root, order, customer) {
            for field in schema.fields(&of) {
                let call = schema.call(&of, &field, order, customer);
                let inner =
                    if schema.is_leaf(&base(&field["type"])) { call } else { format!("{call} {{ __typename }}") };
                let selected = way.iter().rev().fold(inner, |inner, (_, _, outer)| format!("{outer} {{ {inner} }}"));
                let document = format!("{} {{ {selected} }}", root.to_lowercase());
                let (of, field, over) = (of.clone(), field["name"].as_str().unwrap().to_owned(), way.clone());
                cases.push(Case { of, field, root, document, over });
            }
        }
    }
    cases
}

/// The code and the scope of the first error that is about the caller.
fn refusal(reply: &Reply) -> Option<(String, Option<String>)> {
    let errors = reply.json()["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().find_map(|error| {
        let code = error["extensions"]["code"].as_str().unwrap_or("none").to_owned();
        let scope = error["extensions"]["scope"].as_str().map(str::to_owned);
        ["UNAUTHENTICATED", "FORBIDDEN"].contains(&code.as_str()).then_some((code, scope))
    })
}

/// A new field without an entry can be read by nobody, and does not come into the shop unseen: it is refused to whoever may
/// do everything.
#[tokio::test]
async fn every_field_is_read_by_somebody() {
    let shop = shop().await;
    let schema = Schema::of(&shop).await;
    let cases = cases(&schema, OTHERS, BOB);
    let mut refused = Vec::new();
    for case in &cases {
        let reply = shop.ask_as(Some(&Caller::anyone()), &case.document, json!({})).await;
        let expected = if case.root == "Subscription" { 422 } else { 200 };
        if reply.status != expected || refusal(&reply).is_some() {
            refused.push(format!("{}.{}: {} in {}", case.of, case.field, reply.text, case.document));
        }
    }
    assert!(refused.is_empty(), "see FIELDS in read-api/src/permissions.rs: {refused:#?}");
    let reached: BTreeSet<_> = cases.iter().map(|case| format!("{}.{}", case.of, case.field)).collect();
    let all: BTreeSet<_> =
        schema.all().iter().map(|(of, field)| format!("{of}.{}", field["name"].as_str().unwrap())).collect();
    assert_eq!(reached, all, "a field that cannot be reached is not tested");
    assert!(all.len() > 200, "{}", all.len());
}

#[tokio::test]
async fn without_a_token_there_is_nothing_but_the_catalogue() {
    let shop = shop().await;
    let schema = Schema::of(&shop).await;
    let mut public = 0;
    for case in cases(&schema, OTHERS, BOB) {
        let Case { of, field, document, .. } = &case;
        let reply = shop.ask_as(None, document, json!({})).await;
        if case.all(is_for_everybody) {
            public += 1;
            let about_somebody = document.contains("node(") || document.contains("nodes(");
            assert_eq!(reply.status, 200, "{of}.{field}: {}", reply.text);
            assert_eq!(refusal(&reply).is_some(), about_somebody, "{of}.{field}: {}", reply.text);
        } else {
            assert_eq!(reply.status, 401, "{of}.{field}: {document} {}", reply.text);
            assert_eq!(reply.codes(), ["UNAUTHENTICATED"], "{of}.{field}");
            assert!(reply.header("www-authenticate").starts_with("Bearer "), "{:?}", reply.headers);
            assert_eq!(reply.json()["data"], Value::Null);
        }
        assert!(!reply.text.contains(THEIRS) && !reply.text.contains(MINE), "{document} {}", reply.text);
    }
    assert!(public >= 15, "{public}");
}

#[tokio::test]
async fn staff_reads_what_its_scopes_say_and_nothing_else() {
    let shop = shop().await;
    let schema = Schema::of(&shop).await;
    let mut scopes = BTreeSet::new();
    for case in cases(&schema, OTHERS, BOB) {
        let Case { of, field, document, .. } = &case;
        if case.all(is_for_everybody) {
            continue;
        }
        // What it takes is told one by one, and is enough when all of it is there.
        let mut caller = staff(Scopes::NONE);
        let mut took = Vec::new();
        loop {
            let reply = shop.ask_as(Some(&caller), document, json!({})).await;
            let Some((code, scope)) = refusal(&reply) else { break };
            let scope: Scope = scope.unwrap_or_else(|| panic!("{of}.{field}: {}", reply.text)).parse().unwrap();
            assert_eq!((reply.status.as_u16(), &*code), (403, "FORBIDDEN"), "{of}.{field}: {}", reply.text);
            assert!(reply.header("www-authenticate").contains(&format!("scope=\"{scope}\"")), "{:?}", reply.headers);
            assert!(!caller.scopes.contains(scope), "{of}.{field}: {scope} was given");
            caller.scopes = caller.scopes.with(scope);
            took.push(scope);
        }
        assert!(!took.is_empty(), "{of}.{field}: {document} takes no scope");
        for scope in took {
            scopes.insert(scope);
            let without = staff(Scopes::ALL.without(scope));
            let reply = shop.ask_as(Some(&without), document, json!({})).await;
            let missing = Some(("FORBIDDEN".to_owned(), Some(scope.name().to_owned())));
            assert_eq!(refusal(&reply), missing, "{of}.{field}: {}", reply.text);
            assert!(!reply.text.contains(THEIRS), "{document} {}", reply.text);
        }
    }
    for scope in ["orders:read", "payments:read", "shipments:read", "customers:read", "checkouts:read", "stock:read"] {
        assert!(scopes.contains(&scope.parse().unwrap()), "{scope}");
    }
    assert_eq!(scopes.len(), 10, "{scopes:?}");
}

#[tokio::test]
async fn a_customer_reads_what_is_its_own_and_nothing_else() {
    let shop = shop().await;
    let schema = Schema::of(&shop).await;
    let (ada, eve) = (customer(ADA, Scopes::ALL), customer(BOB + 50, Scopes::ALL));
    let (mut seen, mut refused) = (0, 0);
    for (own, others) in cases(&schema, OWN, ADA).into_iter().zip(cases(&schema, OTHERS, BOB)) {
        let Case { of, field, document, root, .. } = &own;
        let reply = shop.ask_as(Some(&ada), document, json!({})).await;
        if own.all(|of, field| is_for_everybody(of, field) || is_for_customers(of, field)) {
            let expected = if *root == "Subscription" { 422 } else { 200 };
            assert_eq!(reply.status, expected, "{of}.{field}: {document} {}", reply.text);
            assert_eq!(refusal(&reply), None, "{of}.{field}: {}", reply.text);
            seen += usize::from(reply.text.contains(MINE) || reply.text.contains(&id(OWN).to_string()));
        } else {
            refused += 1;
            assert_eq!(
                refusal(&reply),
                Some(("FORBIDDEN".to_owned(), None)),
                "{of}.{field}: {document} {}",
                reply.text
            );
            assert_eq!(reply.status, 403);
        }
        // Neither does she see what is somebody else's, nor does somebody who has nothing.
        for (caller, document) in [(&ada, &others.document), (&eve, &others.document), (&eve, document)] {
            let reply = shop.ask_as(Some(caller), document, json!({})).await;
            for secret in [THEIRS, &THEIR_MINOR.to_string(), &id(GUESTS).to_string(), "76543.21"] {
                assert!(!reply.text.contains(secret), "{}: {document} {}", named(Some(caller)), reply.text);
            }
            assert!(caller == &ada || !reply.text.contains(MINE), "{document} {}", reply.text);
        }
    }
    assert!(seen >= 12 && refused >= 120, "{seen} {refused}");
    // A customer without the scopes does not even see what is its own.
    for scope in Role::Customer.scopes().iter().filter(|scope| scope.name().ends_with(":read")) {
        if scope == Scope::CatalogRead {
            continue;
        }
        let query = format!(
            "{{ order(id: \"{}\") {{ id payment {{ status }} shipment {{ status }} customer {{ id }} checkout {{ step }} }} }}",
            id(OWN)
        );
        let reply = shop.ask_as(Some(&customer(ADA, Scopes::ALL.without(scope))), &query, json!({})).await;
        assert_eq!(refusal(&reply), Some(("FORBIDDEN".to_owned(), Some(scope.name().to_owned()))), "{}", reply.text);
    }
}

/// From every root as deep as it goes: what a customer is answered has nothing of others in it, and what is not there is
/// not counted.
#[tokio::test]
async fn nothing_of_others_is_anywhere_below_a_root() {
    let shop = shop().await;
    let schema = Schema::of(&shop).await;
    let ada = customer(ADA, Role::Customer.scopes());
    let may = |of: &str, field: &str| is_for_everybody(of, field) || is_for_customers(of, field);
    let mut answered = 0;
    for field in schema.fields("Query") {
        let name = field["name"].as_str().unwrap();
        if !may("Query", name) {
            continue;
        }
        let kind = base(&field["type"]);
        for (order, account) in [(OTHERS, BOB), (GUESTS, BOB), (NOBODYS, BOB), (OWN, ADA)] {
            let call = schema.call("Query", &field, id(order), id(account));
            let document = format!("{{ {call} {{ {} }} }}", schema.everything(&kind, 4, &may));
            let reply = shop.ask_as(Some(&ada), &document, json!({})).await;
            assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec![]), "{document}: {}", reply.text);
            for secret in [THEIRS, "7654321", "76543.21", &id(GUESTS).to_string(), &id(NOBODYS).to_string()] {
                assert!(!reply.text.contains(secret), "{document} {}", reply.text);
            }
            // What is asked for by an id that is not the caller's own is nothing, and no list has it.
            if name == "order" || name == "customer" || name == "checkout" || name == "orderAsOf" || name == "node" {
                assert_eq!(reply.json()["data"][name].is_null(), order != OWN, "{document} {}", reply.text);
            }
            answered += usize::from(reply.text.contains(MINE));
        }
    }
    assert!(answered >= 15, "{answered}");
    for (query, count) in [
        ("{ orders { totalCount nodes { id } } }", 1),
        ("{ orders(filter: { customerId: \"BOB\" }) { totalCount nodes { id } } }", 0),
        (
            "{ orders(filter: { or: [{ customerId: \"BOB\" }, { status: [COMPLETED] }] }) { totalCount nodes { id } } }",
            1,
        ),
        ("{ orders(filter: { not: { reference: \"nothing\" } }, last: 5) { totalCount nodes { id } } }", 1),
        ("{ customers { totalCount nodes { id } } }", 1),
        ("{ checkouts { totalCount nodes { orderId } } }", 1),
    ] {
        let query = query.replace("BOB", &id(BOB).to_string());
        let reply = shop.ask_as(Some(&ada), &query, json!({})).await;
        let data = reply.json()["data"].as_object().unwrap().values().next().unwrap().clone();
        let nodes = data["nodes"].as_array().unwrap().len();
        assert_eq!((&data["totalCount"], nodes), (&json!(count), count), "{query}: {}", reply.text);
    }
}

/// A page of one customer is not a page of another.
#[tokio::test]
async fn a_cursor_is_its_callers() {
    let shop = shop().await;
    let query = "query ($after: String) { orders(after: $after) { pageInfo { endCursor } } }";
    let cursor = |reply: Reply| reply.json()["data"]["orders"]["pageInfo"]["endCursor"].clone();
    let (ada, bob) = (customer(ADA, Scopes::ALL), customer(BOB, Scopes::ALL));
    let of_ada = cursor(shop.ask_as(Some(&ada), query, json!({})).await);
    let of_all = cursor(shop.ask_as(Some(&Caller::anyone()), query, json!({})).await);
    for (caller, cursor, fits) in
        [(&ada, &of_ada, true), (&bob, &of_ada, false), (&ada, &of_all, false), (&Caller::anyone(), &of_ada, false)]
    {
        let reply = shop.ask_as(Some(caller), query, json!({ "after": cursor })).await;
        let codes = if fits { vec![] } else { vec!["BAD_CURSOR".to_owned()] };
        assert_eq!(reply.codes(), codes, "{}", reply.text);
        assert_eq!(reply.header("vary"), "accept, authorization");
    }
}

/// How much is in stock is not told by a filter or an order either.
#[tokio::test]
async fn stock_is_not_told_by_a_filter() {
    let shop = shop().await;
    let range = json!({ "min": 1 });
    for (filter, order) in [
        (json!({ "available": range }), "SKU_ASC"),
        (json!({ "and": [{ "available": range }] }), "SKU_ASC"),
        (json!({ "or": [{}, { "not": { "available": range } }] }), "SKU_ASC"),
        (json!({}), "AVAILABLE_ASC"),
        (json!({}), "AVAILABLE_DESC"),
    ] {
        let query = "query ($filter: ProductFilter, $order: ProductSort!) {
            products(filter: $filter, orderBy: $order) { totalCount } }";
        let variables = json!({ "filter": filter, "order": order });
        for caller in [None, Some(customer(ADA, Scopes::ALL)), Some(staff(Scopes::ALL.without(Scope::StockRead)))] {
            let reply = shop.ask_as(caller.as_ref(), query, variables.clone()).await;
            assert_eq!((refusal(&reply).is_some(), reply.json()["data"].is_null()), (true, true), "{}", reply.text);
        }
        let reply = shop.ask_as(Some(&staff(Scopes::NONE.with(Scope::StockRead))), query, variables).await;
        assert_eq!(reply.codes(), [""; 0], "{}", reply.text);
    }
    let reply = shop.ask_as(None, "{ products(filter: { inStock: true }) { nodes { sku inStock } } }", json!({})).await;
    assert_eq!(reply.json()["data"]["products"]["nodes"], json!([{ "sku": "A1", "inStock": true }]));
}

/// A field that a directive leaves out needs nothing; one that it lets in does.
#[tokio::test]
async fn directives_count_as_they_are_executed() {
    let shop = shop().await;
    for (query, variables, status) in [
        (
            "query ($a: Boolean!) { products { totalCount } orders @include(if: $a) { totalCount } }",
            json!({ "a": true }),
            401,
        ),
        (
            "query ($a: Boolean!) { products { totalCount } orders @include(if: $a) { totalCount } }",
            json!({ "a": false }),
            200,
        ),
        (
            "query ($a: Boolean = true) { products { totalCount } ...F @skip(if: $a) } fragment F on Query { orders { totalCount } }",
            json!({}),
            200,
        ),
        (
            "query ($a: Boolean = false) { products { totalCount } ...F @skip(if: $a) } fragment F on Query { orders { totalCount } }",
            json!({}),
            401,
        ),
        (
            "query ($a: Boolean = false) { products { totalCount } ...F @skip(if: $a) } fragment F on Query { orders { totalCount } }",
            json!({ "a": true }),
            200,
        ),
        (
            "query ($a: Boolean = true) { products { totalCount } ... @skip(if: $a) { a: orders { totalCount } } b: orders { totalCount } }",
            json!({}),
            401,
        ),
        ("{ products { totalCount } orders @include(if: false) { totalCount } }", json!({}), 200),
        ("{ products { totalCount } orders @include(if: true) @skip(if: true) { totalCount } }", json!({}), 200),
        ("{ products { totalCount } ... on Query { ... { x: orders { totalCount } } } }", json!({}), 401),
    ] {
        let reply = shop.ask_as(None, query, variables.clone()).await;
        assert_eq!(reply.status, status, "{query} {variables}: {}", reply.text);
    }
    // Of several operations, the one counts that is executed.
    let document = "query A { products { totalCount } } query B { orders { totalCount } }";
    for (operation, status) in [("A", 200), ("B", 401)] {
        let request = shop.post().json(&json!({ "query": document, "operationName": operation }));
        assert_eq!(crate::harness::send(request.header("x-caller", "nobody")).await.status, status, "{operation}");
    }
    // Where only JSON is wanted, the status is always 200.
    let request = shop.request("{ orders { totalCount } }", json!({})).header("accept", "application/json");
    let reply = crate::harness::send(request.header("x-caller", "nobody")).await;
    assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec!["UNAUTHENTICATED".to_owned()]));
}

/// An id opens nothing that its object's own field does not, and a forged one is nobody's.
#[tokio::test]
async fn nodes_are_guarded_like_their_objects() {
    let shop = shop().await;
    let all = "{ __typename nodeId ... on Order { id } ... on Product { sku } ... on Customer { id } ... on Checkout { orderId } }";
    let query = format!("query ($ids: [ID!]!) {{ nodes(ids: $ids) {all} }}");
    let known = [
        ("Order", node_id("Order", id(OWN))),
        ("Product", node_id("Product", "A1")),
        ("Customer", node_id("Customer", id(ADA))),
        ("Checkout", node_id("Checkout", id(OWN))),
    ];
    let others = [node_id("Order", id(OTHERS)), node_id("Customer", id(BOB)), node_id("Checkout", id(GUESTS))];
    let upper = id(0xab).to_string().to_uppercase();
    let forged = [
        String::new(),
        "x".to_owned(),
        "Order:1".to_owned(),
        node_id("Order", "1"),
        node_id("Order", upper),
        node_id("Order", id(777)),
        node_id("Payment", id(OWN)),
        node_id("Product", "no such"),
        node_id("Product", "\u{0}"),
        format!("{}=", known[0].1),
        "é".repeat(300),
    ];
    let ada = customer(ADA, Role::Customer.scopes());
    let ids: Vec<_> = known.iter().map(|(_, id)| id).chain(&others).chain(&forged).chain([&known[0].1]).collect();
    let reply = shop.ask_as(Some(&ada), &query, json!({ "ids": ids })).await;
    assert_eq!(reply.codes(), [""; 0], "{}", reply.text);
    let nodes = reply.json()["data"]["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), ids.len());
    for ((kind, id), node) in known.iter().zip(&nodes) {
        assert_eq!((&node["__typename"], &node["nodeId"]), (&json!(kind), &json!(id)));
    }
    assert_eq!(nodes.last(), nodes.first());
    assert!(nodes[known.len()..nodes.len() - 1].iter().all(Value::is_null), "{}", reply.text);
    // One at a time, the same.
    for (place, node) in ids.iter().zip(&nodes) {
        let query = format!("query ($id: ID!) {{ node(id: $id) {all} }}");
        assert_eq!(shop.ask_as(Some(&ada), &query, json!({ "id": place })).await.json()["data"]["node"], *node);
    }
    // What an object's own field refuses, its id does not open, whether it is there or not.
    let bare = "query ($ids: [ID!]!) { nodes(ids: $ids) { nodeId } }";
    for (caller, refusals) in
        [(None, 3), (Some(staff(Scopes::NONE)), 3), (Some(staff(Scopes::ALL.without(Scope::OrdersRead))), 1)]
    {
        let ids: Vec<_> = known.iter().map(|(_, id)| id).collect();
        let reply = shop.ask_as(caller.as_ref(), bare, json!({ "ids": ids })).await;
        assert_eq!(reply.codes().len(), refusals, "{}", reply.text);
        assert_eq!(reply.json()["data"]["nodes"][1]["nodeId"], json!(known[1].1), "{}", reply.text);
    }
    let many: Vec<_> = std::iter::repeat_n(&known[0].1, 201).collect();
    assert_eq!(shop.ask_as(Some(&ada), bare, json!({ "ids": many })).await.codes(), ["BAD_USER_INPUT"]);
    // A page tells the same ids.
    let listed =
        shop.ask_as(Some(&ada), "{ orders { nodes { nodeId } } products { nodes { nodeId } } }", json!({})).await;
    assert_eq!(listed.json()["data"]["orders"]["nodes"], json!([{ "nodeId": known[0].1 }]));
}

/// A customer's feed has its own orders alone; what happens to others is told neither by an id nor by a message.
#[tokio::test]
async fn a_feed_tells_nothing_of_others() {
    let shop = shop().await;
    let mut socket = Socket::open_as(&shop, &customer(ADA, Role::Customer.scopes())).await;
    let all =
        "subscription { ordersChanged(filter: { status: [PLACED, COMPLETED] }) { kind left orders { id status } } }";
    socket.follow("all", all, json!({})).await;
    let ada_s = |kind: &str, status: &str| json!({ "ordersChanged": { "kind": kind, "left": [], "orders": [{ "id": id(OWN), "status": status }] } });
    assert_eq!(socket.data("all").await, ada_s("PRESENT", "COMPLETED"));
    let one = "subscription ($id: UUID!) { orderChanged(id: $id) { order { id status } } }";
    socket.follow("bob", one, json!({ "id": id(OTHERS) })).await;
    assert_eq!(socket.data("bob").await, json!({ "orderChanged": { "order": null } }));

    let update =
        |number, status| format!("update read.orders set status = '{status}' where order_id = '{}'", id(number));
    let (own, others, guests) = (id(OWN).to_string(), id(OTHERS).to_string(), id(GUESTS).to_string());
    shop.happen(1, &[&others, &guests], &format!("{}; {}", update(OTHERS, "cancelled"), update(GUESTS, "placed")))
        .await;
    shop.happen(2, &[&others], &update(OTHERS, "placed")).await;
    // The next that is heard is of her own: with others in the same breath.
    shop.happen(3, &[&others, &own], &format!("{}; {}", update(OTHERS, "cancelled"), update(OWN, "placed"))).await;
    assert_eq!(socket.data("all").await, ada_s("CHANGED", "PLACED"));
    shop.happen(4, &[&guests, &own, &others], &update(OWN, "confirmed")).await;
    let left = json!({ "ordersChanged": { "kind": "CHANGED", "left": [own], "orders": [] } });
    assert_eq!(socket.data("all").await, left);
    // Whoever comes again is told what has happened since, of its own.
    let since = "subscription { ordersChanged(after: \"0/0\") { kind left orders { id } } }";
    socket.follow("since", since, json!({})).await;
    let own = json!({ "ordersChanged": { "kind": "CHANGED", "left": [], "orders": [{ "id": id(OWN) }] } });
    assert_eq!(socket.data("since").await, own);
}
