//! Pages in every order and both directions, over equal and missing sort keys: every row once, in one order.

use serde_json::{Value, json};

use crate::harness::{Shop, id, send};

/// 61 orders, checkouts, entries of the ledger, products, low stocks and customers, with many equal and many missing
/// values.
pub(crate) async fn large_shop() -> Shop {
    let shop = Shop::open().await;
    let customer = "('00000000-0000-0000-0000-' || lpad(to_hex(1000 + n), 12, '0'))::uuid";
    let order = "('00000000-0000-0000-0000-' || lpad(to_hex((n * 37) % 61 + 1), 12, '0'))::uuid";
    let customer_of = "('00000000-0000-0000-0000-' || lpad(to_hex(1001 + n % 9), 12, '0'))::uuid";
    shop.sql(format!(
        "insert into read.customers
            select {customer}, case when n % 3 > 0 then (n % 7)::text end, 'Customer ' || n, null, null,
                   case when n % 4 = 0 then 'closed' else 'open' end, timestamptz '2010-01-01' + (n % 5) * interval '1 day', now()
            from generate_series(1, 61) n;
         insert into read.customer_spend select {customer}, 'GBP', 1 + n % 3, 100 * (n % 6) from generate_series(1, 61) n;
         insert into read.products
            select 'SKU' || n, case when n % 4 > 0 then (array['lamp', 'Lamp', 'été', 'zoo'])[1 + n % 4] end, null,
                   case when n % 3 > 0 then 100 * (n % 5) end, case when n % 3 > 0 then 'GBP' end,
                   (array['listed', 'discontinued', 'unlisted'])[1 + n % 3], n % 6, 0, n % 6, n % 3, n % 6 <= n % 3, now()
            from generate_series(1, 61) n;
         insert into read.orders
            select {order}, null, (array['placed', 'confirmed', 'cancelled'])[1 + n % 3], null,
                   timestamptz '2011-01-01' + (n % 4) * interval '1 hour', case when n % 5 > 0 then {customer_of} end,
                   (array['France', 'EIRE'])[1 + n % 2], (array['GBP', 'EUR'])[1 + n % 2], 100 * (n % 8), 2, 3, now(), 0, 2
            from generate_series(1, 61) n;
         insert into read.order_lines
            select {order}, line, 'SKU' || (n + line), line, 50 from generate_series(1, 61) n, generate_series(1, 2) line;
         insert into read.order_timeline
            select {order}, entry, now(), (array['order_placed', 'order_confirmed'])[entry], null
            from generate_series(1, 61) n, generate_series(1, 2) entry;
         insert into read.checkouts (order_id, state, step, order_status, taken_minor, started_at, changed_at)
            select {order}, (array['running', 'completed', 'parked'])[1 + n % 3], (array['paying', 'done'])[1 + n % 2],
                   'placed', 0, timestamptz '2011-01-01' + (n % 4) * interval '1 hour',
                   timestamptz '2011-01-02' + (n % 6) * interval '1 hour'
            from generate_series(1, 61) n;
         insert into read.ledger_entries
            select ('00000000-0000-0000-0000-' || lpad(to_hex(1 + n % 8), 12, '0'))::uuid, 1 + n / 8, 1 + n / 16,
                   (array['hold', 'capture'])[1 + n % 2], (array['holds', 'holds_contra', 'cash'])[1 + n % 3],
                   (array['GBP', 'EUR'])[1 + n % 2], 100 * (n % 7) - 300,
                   timestamptz '2011-01-01' + (n % 3) * interval '1 hour'
            from generate_series(1, 61) n;
         insert into read.payments (payment_id, status, currency, amount_minor, authorised_minor, held_minor, captured_minor,
                refunded_minor, pending_refund_minor, capture_failure, requested_at, changed_at, revision, movements)
            select {order}, (array['requested', 'authorised', 'captured'])[1 + n % 3], (array['GBP', 'EUR'])[1 + n % 2],
                   100, 0, 0, 0, 0, 0, case when n % 7 = 1 then 'no' end,
                   timestamptz '2011-01-01' + (n % 3) * interval '1 hour',
                   case when n % 2 = 0 then timestamptz '2011-01-02' else now() end, 0, 0
            from generate_series(1, 61) n;
         insert into read.payment_refunds
            select {order}, refund, (array['refunded', 'failed'])[refund], 10, null, null, now(), now()
            from generate_series(1, 61, 5) n, generate_series(1, 1 + n % 2) refund;
         insert into read.stock_movements
            select 'SKU' || n, movement, now(), 'received', 1, movement, movement
            from generate_series(1, 61) n, generate_series(1, 7) movement;
         insert into read.low_stock
            select 'SKU' || n, n % 6, n % 6 + 1, timestamptz '2011-01-01' + (n % 5) * interval '1 hour', now()
            from generate_series(1, 61) n;"
    ))
    .await;
    shop
}

/// A list of rows: the field, the field of its nodes that tells them apart, and its orders.
struct ListOf {
    field: &'static str,
    id: &'static str,
    orders: &'static [&'static str],
}

const LISTS: [ListOf; 7] = [
    ListOf { field: "orders", id: "id", orders: &["PLACED_AT_ASC", "PLACED_AT_DESC", "TOTAL_ASC", "TOTAL_DESC"] },
    ListOf {
        field: "products",
        id: "sku",
        orders: &[
            "SKU_ASC",
            "SKU_DESC",
            "NAME_ASC",
            "NAME_DESC",
            "AVAILABLE_ASC",
            "AVAILABLE_DESC",
            "PRICE_ASC",
            "PRICE_DESC",
        ],
    },
    ListOf {
        field: "customers",
        id: "id",
        orders: &["REGISTERED_AT_ASC", "REGISTERED_AT_DESC", "REFERENCE_ASC", "REFERENCE_DESC"],
    },
    ListOf {
        field: "checkouts",
        id: "orderId",
        orders: &["STARTED_AT_ASC", "STARTED_AT_DESC", "CHANGED_AT_ASC", "CHANGED_AT_DESC"],
    },
    ListOf { field: "payments", id: "paymentId", orders: &["REQUESTED_AT_ASC", "REQUESTED_AT_DESC"] },
    ListOf { field: "ledger", id: "id", orders: &["AT_ASC", "AT_DESC"] },
    ListOf {
        field: "lowStock",
        id: "sku",
        orders: &["SKU_ASC", "SKU_DESC", "AVAILABLE_ASC", "AVAILABLE_DESC", "SINCE_ASC", "SINCE_DESC"],
    },
];

struct Seen {
    ids: Vec<String>,
    cursors: Vec<String>,
    has_next: bool,
    has_previous: bool,
}

async fn page(shop: &Shop, list: &ListOf, order: &str, arguments: &str) -> Seen {
    let ListOf { field, id, .. } = list;
    let query = format!(
        "{{ {field}(orderBy: {order}, {arguments}) {{ edges {{ cursor node {{ {id} }} }} nodes {{ {id} }}
           pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
    );
    let data = shop.data(&query).await;
    let connection = &data[field];
    let edges = connection["edges"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let seen = Seen {
        ids: edges.iter().map(|edge| text(&edge["node"][id])).collect(),
        cursors: edges.iter().map(|edge| text(&edge["cursor"])).collect(),
        has_next: connection["pageInfo"]["hasNextPage"].as_bool().unwrap(),
        has_previous: connection["pageInfo"]["hasPreviousPage"].as_bool().unwrap(),
    };
    assert_eq!(connection["pageInfo"]["startCursor"].as_str(), seen.cursors.first().map(String::as_str));
    assert_eq!(connection["pageInfo"]["endCursor"].as_str(), seen.cursors.last().map(String::as_str));
    seen
}

#[tokio::test]
async fn every_row_is_on_one_page_forward_and_backward() {
    let shop = large_shop().await;
    for list in &LISTS {
        for order in list.orders {
            let all = page(&shop, list, order, "first: 200").await;
            assert_eq!(all.ids.len(), 61);
            assert!(!all.has_next && !all.has_previous);
            let mut distinct = all.ids.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), 61);

            for size in [1, 4, 61] {
                let (mut ids, mut after) = (Vec::new(), String::new());
                loop {
                    let seen = page(&shop, list, order, &format!("first: {size}{after}")).await;
                    assert_eq!(seen.has_previous, !after.is_empty());
                    ids.extend(seen.ids);
                    if !seen.has_next {
                        break;
                    }
                    after = format!(", after: {:?}", seen.cursors.last().unwrap());
                }
                assert_eq!(ids, all.ids, "{order} forward by {size}");

                let (mut ids, mut before) = (Vec::new(), String::new());
                loop {
                    let seen = page(&shop, list, order, &format!("last: {size}{before}")).await;
                    assert_eq!(seen.has_next, !before.is_empty());
                    ids.extend(seen.ids.into_iter().rev());
                    if !seen.has_previous {
                        break;
                    }
                    before = format!(", before: {:?}", seen.cursors.first().unwrap());
                }
                ids.reverse();
                assert_eq!(ids, all.ids, "{order} backward by {size}");
            }
        }
    }
}

#[tokio::test]
async fn descending_is_ascending_backwards() {
    let shop = large_shop().await;
    for list in &LISTS {
        for order in list.orders.iter().filter(|order| order.ends_with("_ASC")) {
            let ascending = page(&shop, list, order, "first: 200").await.ids;
            let mut descending = page(&shop, list, &order.replace("_ASC", "_DESC"), "first: 200").await.ids;
            descending.reverse();
            assert_eq!(ascending, descending, "{order}");
        }
    }
}

#[tokio::test]
async fn a_window_holds_what_is_between_two_cursors() {
    let shop = large_shop().await;
    for list in &LISTS {
        for order in list.orders {
            let all = page(&shop, list, order, "first: 200").await;
            for (from, to) in [(0, 60), (3, 4), (10, 40), (44, 59), (30, 30), (40, 10)] {
                let between = format!("after: {:?}, before: {:?}", all.cursors[from], all.cursors[to]);
                let expected = all.ids.get(from + 1..to).unwrap_or_default();
                assert_eq!(page(&shop, list, order, &format!("{between}, first: 200")).await.ids, expected, "{order}");
                let tail = page(&shop, list, order, &format!("{between}, last: 5")).await;
                assert_eq!(tail.ids, expected[expected.len().saturating_sub(5)..], "{order}");
                assert!(tail.has_previous && tail.has_next);
            }
        }
    }
}

#[tokio::test]
async fn a_page_continues_where_a_removed_row_stood() {
    let shop = large_shop().await;
    let list = &LISTS[0];
    let all = page(&shop, list, "TOTAL_ASC", "first: 200").await;
    let tenth = format!("first: 200, after: {:?}", all.cursors[9]);
    shop.sql(format!("delete from read.orders where order_id = '{}'", all.ids[9])).await;
    assert_eq!(page(&shop, list, "TOTAL_ASC", &tenth).await.ids, all.ids[10..]);
}

#[tokio::test]
async fn the_orders_of_a_customer_have_pages_of_their_own() {
    let shop = large_shop().await;
    let customer = id(1002);
    let ask = async |arguments: &str| {
        let query = format!(
            "{{ customer(id: \"{customer}\") {{ orders(orderBy: TOTAL_DESC, {arguments}) {{
               totalCount edges {{ cursor node {{ id }} }} pageInfo {{ hasNextPage hasPreviousPage }} }} }} }}"
        );
        shop.data(&query).await["customer"]["orders"].clone()
    };
    let ids = |connection: &Value| {
        connection["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["id"].clone()).collect::<Vec<_>>()
    };
    let all = ask("first: 200").await;
    let count = all["totalCount"].as_u64().unwrap() as usize;
    assert!(count > 3 && ids(&all).len() == count);
    let first = ask("first: 2").await;
    assert_eq!(first["pageInfo"], json!({ "hasNextPage": true, "hasPreviousPage": false }));
    let rest = ask(&format!("first: 200, after: {}", first["edges"][1]["cursor"])).await;
    assert_eq!([ids(&first), ids(&rest)].concat(), ids(&all));
    let last = ask("last: 2").await;
    assert_eq!(ids(&last), ids(&all)[count - 2..]);
    assert_eq!(last["pageInfo"], json!({ "hasNextPage": false, "hasPreviousPage": true }));
    let before = ask(&format!("last: 1, before: {}", last["edges"][0]["cursor"])).await;
    assert_eq!(ids(&before), ids(&all)[count - 3..count - 2]);
}

#[tokio::test]
async fn the_first_orders_of_many_customers_are_those_of_each() {
    let shop = large_shop().await;
    let orders = "orders(orderBy: ORDER, first: 2) { nodes { id } pageInfo { hasNextPage } }";
    for order in LISTS[0].orders {
        for window in ["first: 2", "last: 2"] {
            let orders = orders.replace("ORDER", order).replace("first: 2", window);
            let data = shop.data(&format!("{{ customers(first: 100) {{ nodes {{ id {orders} }} }} }}")).await;
            for customer in data["customers"]["nodes"].as_array().unwrap() {
                let alone = shop.data(&format!("{{ customer(id: {}) {{ id {orders} }} }}", customer["id"])).await;
                assert_eq!(&alone["customer"], customer);
            }
        }
    }
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_query_only() {
    let shop = large_shop().await;
    let all = page(&shop, &LISTS[0], "TOTAL_ASC", "first: 3").await;
    let cursor = &all.cursors[1];
    let altered = format!("{}{}", if cursor.starts_with('A') { 'B' } else { 'A' }, &cursor[1..]);
    for query in [
        format!("{{ orders(orderBy: TOTAL_ASC, after: {altered:?}) {{ nodes {{ id }} }} }}"),
        format!("{{ orders(orderBy: TOTAL_DESC, after: {cursor:?}) {{ nodes {{ id }} }} }}"),
        format!("{{ orders(orderBy: PLACED_AT_ASC, before: {cursor:?}) {{ nodes {{ id }} }} }}"),
        format!(
            "{{ orders(orderBy: TOTAL_ASC, filter: {{ country: \"EIRE\" }}, after: {cursor:?}) {{ nodes {{ id }} }} }}"
        ),
        format!("{{ products(after: {cursor:?}) {{ nodes {{ sku }} }} }}"),
        format!(
            "{{ customer(id: \"{}\") {{ orders(orderBy: TOTAL_ASC, after: {cursor:?}) {{ nodes {{ id }} }} }} }}",
            id(1001)
        ),
        "{ orders(after: \"\") { nodes { id } } }".to_owned(),
        "{ orders(after: \"no cursor\") { nodes { id } } }".to_owned(),
        "{ orders(after: \"AAAAAAAAAAAAAAAAAAAAAA\") { nodes { id } } }".to_owned(),
    ] {
        let reply = shop.ask(&query).await;
        assert_eq!(reply.codes(), ["BAD_CURSOR"], "{query}");
        assert_eq!(reply.status, 200);
    }
    // The same filter in other words is the same query.
    let filtered = "{ orders(orderBy: TOTAL_ASC, filter: { status: [PLACED], sku: null }) { edges { cursor } } }";
    let cursor = shop.data(filtered).await["orders"]["edges"][0]["cursor"].clone();
    let query = "query($c: String, $s: [OrderStatus!]) { orders(orderBy: TOTAL_ASC, filter: { status: $s }, after: $c) { nodes { id } } }";
    shop.data_with(query, json!({ "c": cursor, "s": ["PLACED"] })).await;
}

#[tokio::test]
async fn a_page_has_a_size() {
    let shop = large_shop().await;
    for arguments in ["first: 201", "last: 201", "first: -1", "last: -1", "first: 1, last: 1", "first: 2147483647"] {
        let reply = shop.ask(&format!("{{ orders({arguments}) {{ nodes {{ id }} }} }}")).await;
        assert_eq!(reply.codes(), ["BAD_USER_INPUT"], "{arguments}");
    }
    let reply = shop.ask("{ orders(first: 201) { nodes { id } } }").await;
    assert_eq!(reply.json()["errors"][0]["message"], "first is 0 to 200, not 201.");
    let reply = shop.ask("{ topProducts(by: UNITS, currency: \"GBP\", first: 201) { sku } }").await;
    assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
    assert_eq!(page(&shop, &LISTS[0], "TOTAL_ASC", "first: null").await.ids.len(), 20);
    let none = page(&shop, &LISTS[0], "TOTAL_ASC", "first: 0").await;
    assert!(none.ids.is_empty() && none.has_next);
    let reply = send(shop.request("{ orders(first: 2147483648) { nodes { id } } }", json!({}))).await;
    assert_eq!(reply.codes(), ["GRAPHQL_VALIDATION_FAILED"]);
}
