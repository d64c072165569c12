//! The schema itself: described throughout, and open to the usual tools.

use serde_json::Value;

use crate::harness::Shop;

/// What graphql-js asks, on which GraphiQL and most generators are built.
const INTROSPECTION: &str = "
    query IntrospectionQuery {
      __schema {
        description
        queryType { name } mutationType { name } subscriptionType { name }
        types { ...FullType }
        directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
      }
    }
    fragment FullType on __Type {
      kind name description specifiedByURL
      fields(includeDeprecated: true) {
        name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason
      }
      inputFields(includeDeprecated: true) { ...InputValue }
      interfaces { ...TypeRef }
      enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
      possibleTypes { ...TypeRef }
    }
    fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
    fragment TypeRef on __Type {
      kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
      ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } }
    }";

#[tokio::test]
async fn everything_is_described() {
    let shop = Shop::open().await;
    let data = shop.data(INTROSPECTION).await;
    let mut bare = Vec::new();
    let mut look = |path: String, item: &Value| {
        if item["description"].as_str().unwrap_or_default().trim().is_empty() {
            bare.push(path);
        }
    };
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    for kind in items(&data["__schema"]["types"]).iter().filter(|kind| !name(kind).starts_with("__")) {
        // GraphQL's own, which says nothing of itself.
        if name(kind) == "ID" {
            continue;
        }
        look(name(kind), kind);
        for list in ["fields", "inputFields", "enumValues"] {
            for field in items(&kind[list]) {
                look(format!("{}.{}", name(kind), name(&field)), &field);
                for argument in items(&field["args"]) {
                    look(format!("{}.{}({})", name(kind), name(&field), name(&argument)), &argument);
                }
            }
        }
    }
    assert_eq!(bare, [""; 0]);
}

/// What clients are made for, and what the next release is held against.
#[test]
fn the_committed_schema_is_the_current_one() {
    let committed = include_str!("../../schema.graphql");
    assert!(committed == read_api::sdl(), "write it anew: storefold schema sdl > read-api/schema.graphql");
    assert_eq!(read_api::breaking_changes(committed, &read_api::sdl()).unwrap(), [""; 0]);
}

#[test]
fn the_sdl_needs_no_database() {
    let sdl = read_api::sdl();
    for line in [
        "type Order implements Node {",
        "type OrderConnection {",
        "scalar UUID @specifiedBy(url: \"https://www.rfc-editor.org/rfc/rfc9562\")",
        "scalar Long",
        "scalar Position",
        "  salesBy(",
        "type CheckoutConnection {",
        "type LedgerEntryConnection {",
        "type LowStockConnection {",
        "  ledgerBalances(",
        "type Mutation {",
        "type Subscription {",
        "input OrderMoment @oneOf {",
    ] {
        assert!(sdl.contains(line), "{line} is not in\n{sdl}");
    }
    for leaked in ["type Total ", "PaymentColumns", "OrderRow", "OrdersQuery"] {
        assert!(!sdl.contains(leaked), "{leaked} is in\n{sdl}");
    }
}
