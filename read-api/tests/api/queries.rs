//! Every query, against rows whose answer is known.

use serde_json::json;

use crate::harness::{Shop, id};

/// Two customers, three products and three orders. Order 3 was cancelled, and does not count as sold.
pub(crate) async fn small_shop() -> Shop {
    let shop = Shop::open().await;
    shop.sql(format!(
        "insert into read.customers values
            ('{ada}', '12346', 'Ada', 'ada@example.com', '+44 1', 'open', '2010-01-01T00:00:00Z', now()),
            ('{bob}', null, null, null, null, 'closed', '2010-02-01T00:00:00.25Z', now());
         insert into read.customer_spend values
            ('{ada}', 'GBP', 1, 2550), ('{ada}', 'EUR', 1, 100), ('{bob}', 'GBP', 1, 2550), ('{stranger}', 'GBP', 2, 9000),
            ('{bob}', 'USD', 0, 0);
         insert into read.products values
            ('A1', 'Lantern', 'Of glass', 1275, 'GBP', 'listed', 10, 3, 7, '2010-12-01T10:00:00Z'),
            ('B2', 'Heart', null, 400, 'GBP', 'discontinued', 0, 0, 0, '2010-12-01T10:00:00Z'),
            ('Z9', null, null, null, null, 'unlisted', 5000000000, 0, 5000000000, '2010-12-01T10:00:00Z');
         insert into read.orders values
            ('{o1}', '536365', 'completed', null, '2010-12-01T08:26:00Z', '{ada}', 'United Kingdom', 'GBP', 2550, 1, 2,
             '2010-12-02T00:00:00Z', 7),
            ('{o2}', null, 'recorded', null, '2010-12-02T09:00:00Z', null, 'France', 'JPY', 1250, 2, 5000000003,
             '2010-12-02T09:00:00Z', 0),
            ('{o3}', null, 'cancelled', 'out of stock', '2011-01-05T09:00:00Z', '{ada}', 'United Kingdom', 'GBP', 400, 1, 1,
             '2011-01-05T09:00:00Z', 3);
         insert into read.order_lines values
            ('{o1}', 1, 'A1', 2, 1275), ('{o2}', 1, 'Z9', 5000000000, 0), ('{o2}', 2, 'NONE', 3, 416), ('{o3}', 1, 'B2', 1, 400);
         insert into read.sales_daily values
            ('2010-12-01', 'United Kingdom', 'GBP', 2, 3, 4, 5000), ('2010-12-01', 'France', 'GBP', 1, 1, 1, 100),
            ('2010-12-31', 'France', 'GBP', 1, 2, 5000000000, 200), ('2011-01-01', 'EIRE', 'GBP', 1, 1, 1, 50),
            ('2011-01-02', 'EIRE', 'GBP', 0, 0, 0, 0), ('2010-12-01', 'Japan', 'JPY', 1, 1, 1, 1250);
         insert into read.product_sales values
            ('A1', 'GBP', '2010-12-01', 2, 4, 5000), ('B2', 'GBP', '2010-12-01', 1, 10, 4000),
            ('B2', 'GBP', '2010-12-02', 1, 10, 1000), ('AA', 'GBP', '2010-12-02', 1, 20, 5000),
            ('NO', 'GBP', '2010-12-02', 0, 0, 0), ('A1', 'EUR', '2010-12-01', 1, 99, 99);",
        ada = id(101),
        bob = id(102),
        stranger = id(103),
        o1 = id(1),
        o2 = id(2),
        o3 = id(3),
    ))
    .await;
    shop
}

const ORDER: &str =
    "{ order(id: \"ID\") { id reference status reason placedAt country currency lineCount units changedAt
    revision total { amount minor currency } customer { id name }
    lines { lineNo sku quantity unitPrice { amount } total { amount minor } product { sku name } } } }";

#[tokio::test]
async fn an_order() {
    let shop = small_shop().await;
    let order = |number| ORDER.replace("ID", &id(number).to_string());
    assert_eq!(
        shop.data(&order(1)).await["order"],
        json!({
            "id": id(1), "reference": "536365", "status": "COMPLETED", "reason": null,
            "placedAt": "2010-12-01T08:26:00Z", "country": "United Kingdom", "currency": "GBP", "lineCount": 1, "units": 2,
            "changedAt": "2010-12-02T00:00:00Z", "revision": 7,
            "total": { "amount": "25.50", "minor": 2550, "currency": "GBP" },
            "customer": { "id": id(101), "name": "Ada" },
            "lines": [{ "lineNo": 1, "sku": "A1", "quantity": 2, "unitPrice": { "amount": "12.75" },
                        "total": { "amount": "25.50", "minor": 2550 }, "product": { "sku": "A1", "name": "Lantern" } }],
        })
    );
    // A guest's order in a currency without decimals, of more units than an Int holds, and of a product nobody knows.
    assert_eq!(
        shop.data(&order(2)).await["order"],
        json!({
            "id": id(2), "reference": null, "status": "RECORDED", "reason": null,
            "placedAt": "2010-12-02T09:00:00Z", "country": "France", "currency": "JPY", "lineCount": 2,
            "units": 5_000_000_003_i64, "changedAt": "2010-12-02T09:00:00Z", "revision": 0,
            "total": { "amount": "1250", "minor": 1250, "currency": "JPY" },
            "customer": null,
            "lines": [
                { "lineNo": 1, "sku": "Z9", "quantity": 5_000_000_000_i64, "unitPrice": { "amount": "0" },
                  "total": { "amount": "0", "minor": 0 }, "product": { "sku": "Z9", "name": null } },
                { "lineNo": 2, "sku": "NONE", "quantity": 3, "unitPrice": { "amount": "416" },
                  "total": { "amount": "1248", "minor": 1248 }, "product": null },
            ],
        })
    );
    assert_eq!(shop.data(&order(99)).await, json!({ "order": null }));
}

#[tokio::test]
async fn orders_stand_newest_first_and_are_counted() {
    let shop = small_shop().await;
    let data = shop.data(
        "{ orders { totalCount nodes { id } edges { cursor node { id } } pageInfo { hasNextPage
        hasPreviousPage startCursor endCursor } } }",
    );
    let orders = &data.await["orders"];
    assert_eq!(orders["totalCount"], 3);
    assert_eq!(orders["nodes"], json!([{ "id": id(3) }, { "id": id(2) }, { "id": id(1) }]));
    assert_eq!(orders["edges"][0]["cursor"], orders["pageInfo"]["startCursor"]);
    assert_eq!(orders["edges"][2]["cursor"], orders["pageInfo"]["endCursor"]);
    assert_eq!(orders["pageInfo"]["hasNextPage"], false);
    assert_eq!(orders["pageInfo"]["hasPreviousPage"], false);
}

#[tokio::test]
async fn a_product() {
    let shop = small_shop().await;
    let data = shop.data(
        "{ a: product(sku: \"A1\") { sku name description price { amount currency } status onHand reserved available changedAt }
           z: product(sku: \"Z9\") { sku name description price { amount } status onHand }
           none: product(sku: \"a1\") { sku } }",
    );
    assert_eq!(
        data.await,
        json!({
            "a": { "sku": "A1", "name": "Lantern", "description": "Of glass",
                   "price": { "amount": "12.75", "currency": "GBP" }, "status": "LISTED", "onHand": 10, "reserved": 3,
                   "available": 7, "changedAt": "2010-12-01T10:00:00Z" },
            "z": { "sku": "Z9", "name": null, "description": null, "price": null, "status": "UNLISTED",
                   "onHand": 5_000_000_000_i64 },
            "none": null,
        })
    );
}

#[tokio::test]
async fn a_customer_with_spend_and_orders() {
    let shop = small_shop().await;
    let query = "query($id: UUID!) { customer(id: $id) { id reference name email phone status registeredAt
        spend { currency orders revenue { amount } }
        orders(first: 1) { totalCount nodes { id customer { reference } } pageInfo { hasNextPage } } } }";
    assert_eq!(
        shop.data_with(query, json!({ "id": id(101) })).await["customer"],
        json!({
            "id": id(101), "reference": "12346", "name": "Ada", "email": "ada@example.com", "phone": "+44 1",
            "status": "OPEN", "registeredAt": "2010-01-01T00:00:00Z",
            "spend": [{ "currency": "EUR", "orders": 1, "revenue": { "amount": "1.00" } },
                      { "currency": "GBP", "orders": 1, "revenue": { "amount": "25.50" } }],
            "orders": { "totalCount": 2, "nodes": [{ "id": id(3), "customer": { "reference": "12346" } }],
                        "pageInfo": { "hasNextPage": true } },
        })
    );
    assert_eq!(
        shop.data_with(query, json!({ "id": id(102) })).await["customer"],
        json!({
            "id": id(102), "reference": null, "name": null, "email": null, "phone": null, "status": "CLOSED",
            "registeredAt": "2010-02-01T00:00:00.250Z",
            "spend": [{ "currency": "GBP", "orders": 1, "revenue": { "amount": "25.50" } }],
            "orders": { "totalCount": 0, "nodes": [], "pageInfo": { "hasNextPage": false } },
        })
    );
    assert_eq!(shop.data_with(query, json!({ "id": id(103) })).await, json!({ "customer": null }));
}

#[tokio::test]
async fn a_sales_summary_counts_from_a_day_to_before_another() {
    let shop = small_shop().await;
    let summary = async |arguments: &str| {
        let query =
            format!("{{ salesSummary({arguments}) {{ orders lines units revenue {{ amount minor currency }} }} }}");
        shop.data(&query).await["salesSummary"].clone()
    };
    let pounds = |orders: i64, lines: i64, units: i64, minor: i64, amount: &str| {
        json!({ "orders": orders, "lines": lines, "units": units,
                "revenue": { "amount": amount, "minor": minor, "currency": "GBP" } })
    };
    assert_eq!(summary("currency: \"GBP\"").await, pounds(5, 7, 5_000_000_006, 5350, "53.50"));
    let december = "currency: \"GBP\", from: \"2010-12-31\", to: \"2011-01-01\"";
    assert_eq!(summary(december).await, pounds(1, 2, 5_000_000_000, 200, "2.00"));
    assert_eq!(summary("currency: \"GBP\", to: \"2010-12-31\"").await, pounds(3, 4, 5, 5100, "51.00"));
    assert_eq!(summary("currency: \"GBP\", from: \"2011-01-01\"").await, pounds(1, 1, 1, 50, "0.50"));
    assert_eq!(summary("currency: \"GBP\", from: \"2012-01-01\"").await, pounds(0, 0, 0, 0, "0.00"));
    assert_eq!(summary("currency: \"JPY\"").await["revenue"]["amount"], "1250");
}

#[tokio::test]
async fn sales_by_day_month_and_country() {
    let shop = small_shop().await;
    let sales = async |dimension: &str| {
        let query = format!(
            "{{ salesBy(dimension: {dimension}, currency: \"GBP\") {{ key orders units revenue {{ minor }} }} }}"
        );
        let data = shop.data(&query).await;
        let row = |row: &serde_json::Value| {
            let number = |value: &serde_json::Value| value.as_i64().unwrap();
            let key = row["key"].as_str().unwrap().to_owned();
            (key, number(&row["orders"]), number(&row["units"]), number(&row["revenue"]["minor"]))
        };
        data["salesBy"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let named = |rows: &[(&str, i64, i64, i64)]| {
        rows.iter().map(|&(key, orders, units, minor)| (key.to_owned(), orders, units, minor)).collect::<Vec<_>>()
    };
    let days = [("2010-12-01", 3, 5, 5100), ("2010-12-31", 1, 5_000_000_000, 200), ("2011-01-01", 1, 1, 50)];
    assert_eq!(sales("DAY").await, named(&days));
    assert_eq!(sales("MONTH").await, named(&[("2010-12", 4, 5_000_000_005, 5300), ("2011-01", 1, 1, 50)]));
    let countries = [("EIRE", 1, 1, 50), ("France", 2, 5_000_000_001, 300), ("United Kingdom", 2, 4, 5000)];
    assert_eq!(sales("COUNTRY").await, named(&countries));
}

#[tokio::test]
async fn the_top_products_with_ties_by_sku() {
    let shop = small_shop().await;
    let top = async |arguments: &str| {
        let query =
            format!("{{ topProducts(currency: \"GBP\", {arguments}) {{ sku name units revenue {{ minor }} }} }}");
        shop.data(&query).await["topProducts"].clone()
    };
    let a1 = json!({ "sku": "A1", "name": "Lantern", "units": 4, "revenue": { "minor": 5000 } });
    let aa = json!({ "sku": "AA", "name": null, "units": 20, "revenue": { "minor": 5000 } });
    let b2 = json!({ "sku": "B2", "name": "Heart", "units": 20, "revenue": { "minor": 5000 } });
    assert_eq!(top("by: REVENUE").await, json!([a1, aa, b2]));
    assert_eq!(top("by: UNITS").await, json!([aa, b2, a1]));
    assert_eq!(top("by: UNITS, first: 1").await, json!([aa]));
    let b2_then = json!({ "sku": "B2", "name": "Heart", "units": 10, "revenue": { "minor": 4000 } });
    assert_eq!(top("by: REVENUE, to: \"2010-12-02\"").await, json!([a1, b2_then]));
}

#[tokio::test]
async fn the_top_customers_with_ties_by_reference() {
    let shop = small_shop().await;
    let data = shop
        .data("{ topCustomers(currency: \"GBP\") { customerId customer { id reference } orders revenue { amount } } }");
    let top = |number: u64, customer, orders: i64, amount: &str| json!({ "customerId": id(number), "customer": customer, "orders": orders, "revenue": { "amount": amount } });
    assert_eq!(
        data.await["topCustomers"],
        json!([
            top(103, json!(null), 2, "90.00"),
            top(101, json!({ "id": id(101), "reference": "12346" }), 1, "25.50"),
            top(102, json!({ "id": id(102), "reference": null }), 1, "25.50"),
        ])
    );
}

#[tokio::test]
async fn projections_tell_how_far_they_are_behind() {
    let shop = small_shop().await;
    let query = "{ projections { name version position headPosition lagEvents lagSeconds state } }";
    // The log is empty: nothing is behind.
    let data = shop.data(query).await;
    assert_eq!(data["projections"].as_array().unwrap().len(), 5);
    assert_eq!(
        data["projections"][0],
        json!({ "name": "customers", "version": 1, "position": null, "headPosition": null, "lagEvents": 0,
                "lagSeconds": 0.0, "state": "LIVE" })
    );
    *shop.head.0.lock().unwrap() = Some("50/50".parse().unwrap());
    shop.fold("customers", 50).await;
    shop.fold("orders", 48).await;
    shop.sql(
        "update control.generations set error = 'poisoned' where name = 'products';
         insert into control.generations (name, version, generation, state, schema_name) values
            ('orders', 2, 2, 'building', 'orders_v2_g2'), ('orders', 1, 0, 'retired', 'orders_v1_g0');
         update control.generations set moved_at = now() - interval '1 hour';",
    )
    .await;
    let data = shop.data(query).await;
    let projections = data["projections"].as_array().unwrap();
    let told = |row: &serde_json::Value| {
        let lag = row["lagSeconds"].as_f64().unwrap();
        assert!(lag == 0.0 || (3600.0..3700.0).contains(&lag), "{lag}");
        json!([row["name"], row["version"], row["position"], row["lagEvents"], lag > 0.0, row["state"]])
    };
    assert_eq!(
        projections.iter().map(told).collect::<Vec<_>>(),
        [
            json!(["customers", 1, "50/50", 0, false, "LIVE"]),
            json!(["orders", 1, "48/48", 2, true, "LIVE"]),
            json!(["orders", 2, null, 50, true, "BUILDING"]),
            json!(["product_sales", 1, null, 50, true, "LIVE"]),
            json!(["products", 1, null, 50, true, "STOPPED"]),
            json!(["sales_daily", 1, null, 50, true, "LIVE"]),
        ]
    );
    assert_eq!(projections[0]["headPosition"], "50/50");
}
