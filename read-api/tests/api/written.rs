//! Lists that are written at once, held against the same lists when every field is resolved by itself.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::Shop;
use crate::paging::large_shop;

/// The fields without arguments of the object types, with their types.
async fn fields(shop: &Shop) -> HashMap<String, Vec<(String, String)>> {
    let of = "name kind ofType { name kind ofType { name kind ofType { name kind } } }";
    let query = format!("{{ __schema {{ types {{ name fields {{ name args {{ name }} type {{ {of} }} }} }} }} }}");
    let data = shop.data(&query).await;
    let types = data["__schema"]["types"].as_array().unwrap().iter().filter(|of| of["fields"].is_array());
    let named = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let base = |field: &Value| {
        let mut of = &field["type"];
        while of["name"].is_null() {
            of = &of["ofType"];
        }
        named(of)
    };
    let plain = |of: &Value| -> Vec<(String, String)> {
        let fields = of["fields"].as_array().unwrap().iter().filter(|field| field["args"] == json!([]));
        fields.map(|field| (named(field), base(field))).collect()
    };
    types.map(|of| (named(of), plain(of))).collect()
}

/// Everything of a type, as deep as `depth`.
fn everything(fields: &HashMap<String, Vec<(String, String)>>, of: &str, depth: usize) -> String {
    let one = |(name, of): &(String, String)| match fields.contains_key(of) {
        false => Some(name.clone()),
        true if depth == 0 => None,
        true => Some(format!("{name} {{ {} }}", everything(fields, of, depth - 1))),
    };
    // How long something has taken so far is another time another.
    let names = fields[of].iter().filter(|(name, _)| name != "ageSeconds").filter_map(one);
    format!("__typename {}", names.collect::<Vec<_>>().join(" "))
}

async fn rich_shop() -> Shop {
    let shop = large_shop().await;
    shop.sql(
        "update read.orders set payment_status = 'captured', payment_currency = currency, payment_minor = total_minor,
                authorised_minor = 7, captured_minor = 6, refunded_minor = 5, payment_reference = 'auth \"1\"',
                declined_reason = e'a\\nb', reference = 'Ünïcode', changed_at = timestamptz '2011-01-01 00:00:00.123456Z'
          where order_id in (select order_id from read.orders order by order_id limit 20);
         update read.orders set shipment_status = 'dispatched', carrier = 'Post', tracking = '1', reason = '',
                dispatched_at = timestamptz '2011-01-01 00:00:00.12Z', shipment_reason = 'none'
          where order_id in (select order_id from read.orders order by order_id desc limit 50)",
    )
    .await;
    shop
}

#[tokio::test]
async fn what_is_written_at_once_is_what_is_resolved_field_by_field() {
    let shop = rich_shop().await;
    let fields = fields(&shop).await;
    for (list, of, depth) in [
        ("orders(first: 12)", "Order", 1),
        ("orders(first: 2, orderBy: TOTAL_ASC)", "Order", 2),
        ("products(first: 61)", "Product", 1),
        ("customers(first: 30)", "Customer", 2),
        ("checkouts(first: 20)", "Checkout", 1),
        ("ledger(first: 50)", "LedgerEntry", 1),
        ("payments(first: 20)", "PaymentRecord", 1),
        ("lowStock(first: 50)", "LowStock", 1),
    ] {
        let all = everything(&fields, of, depth);
        let page = format!(
            "list: {list} {{ totalCount pageInfo {{ endCursor }} nodes {{ {all} }} edges {{ cursor node {{ ...all }} }} }}"
        );
        let document = |pages: &str| format!("query {{ {pages} }} fragment all on {of} {{ {all} }}");
        let at_once = shop.data(&document(&page)).await;
        // Two lists of one name are merged, which takes the values of their fields.
        let one_by_one = shop.data(&document(&format!("{page} {page}"))).await;
        assert!(at_once["list"]["nodes"].as_array().is_some_and(|nodes| nodes.len() > 1), "{list}");
        assert_eq!(at_once, one_by_one, "{list}");
    }
}

#[tokio::test]
async fn a_field_that_is_asked_for_alone_is_the_same_as_with_all_others() {
    let shop = rich_shop().await;
    let fields = fields(&shop).await;
    let all =
        shop.data(&format!("{{ orders(first: 100) {{ nodes {{ {} }} }} }}", everything(&fields, "Order", 1))).await;
    for (name, of) in &fields["Order"] {
        let inner =
            if fields.contains_key(of) { format!("{{ {} }}", everything(&fields, of, 0)) } else { String::new() };
        for way in [
            format!("{{ orders(first: 100) {{ nodes {{ {name} {inner} }} }} }}"),
            format!(
                "{{ orders(first: 100) {{ ... {{ edges {{ node {{ ...it }} }} }} }} }} fragment it on Order {{ {name} {inner} }}"
            ),
        ] {
            let data = shop.data(&way).await;
            let list = &data["orders"];
            let rows = list.get("nodes").or(list.get("edges")).and_then(Value::as_array).unwrap();
            let alone: Vec<&Value> = rows.iter().map(|row| &row.get("node").unwrap_or(row)[name]).collect();
            let among_all = all["orders"]["nodes"].as_array().unwrap();
            assert_eq!(alone, among_all.iter().map(|node| &node[name]).collect::<Vec<_>>(), "{way}");
        }
    }
}
