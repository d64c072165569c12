//! Every query, against rows whose answer is known.

use serde_json::json;

use crate::harness::{Shop, id};

/// Two customers, three products and three orders. Order 3 was cancelled, and does not count as sold. Of order 9 only
/// the checkout and the payment are known yet.
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
            ('A1', 'Lantern', 'Of glass', 1275, 'GBP', 'listed', 10, 3, 7, 7, true, '2010-12-01T10:00:00Z'),
            ('B2', 'Heart', null, 400, 'GBP', 'discontinued', 0, 0, 0, 0, true, '2010-12-01T10:00:00Z'),
            ('Z9', null, null, null, null, 'unlisted', 5000000000, 0, 5000000000, null, false, '2010-12-01T10:00:00Z');
         insert into read.low_stock values
            ('A1', 7, 7, '2010-12-01T09:00:00Z', now()), ('B2', 0, 0, '2010-11-01T09:00:00Z', now()),
            ('NONE', -1, 4000000000, '2010-12-03T09:00:00Z', now());
         insert into read.orders values
            ('{o1}', '536365', 'completed', null, '2010-12-01T08:26:00Z', '{ada}', 'United Kingdom', 'GBP', 2550, 1, 2,
             '2010-12-02T00:00:00Z', 7, 3, 'captured', 'GBP', 2550, 2550, 2550, 50, 'auth-1', null,
             'delivered', 'Royal Mail', 'RM1', '2010-12-01T12:00:00Z', '2010-12-02T00:00:00Z', null),
            ('{o3}', null, 'cancelled', 'out of stock', '2011-01-05T09:00:00Z', '{ada}', 'United Kingdom', 'GBP', 400, 1, 1,
             '2011-01-05T09:00:00Z', 3, 2, 'declined', 'EUR', 400, 0, 0, 0, null, 'no funds',
             'cancelled', null, null, null, null, 'called off');
         insert into read.orders values
            ('{o2}', null, 'recorded', null, '2010-12-02T09:00:00Z', null, 'France', 'JPY', 1250, 2, 5000000003,
             '2010-12-02T09:00:00Z', 0, 0);
         insert into read.order_timeline values
            ('{o1}', 2, '2010-12-01T12:00:00Z', 'shipment_dispatched', 'Royal Mail RM1', 'bob', '{o2}', '{o3}'),
            ('{o1}', 1, '2010-12-01T08:26:00Z', 'order_placed', null, null, null, null),
            ('{o1}', 3, '2010-12-02T00:00:00Z', 'order_completed', null, null, null, null),
            ('{o3}', 1, '2011-01-05T09:00:00Z', 'order_placed', null, null, null, null),
            ('{o3}', 2, '2011-01-05T09:00:00Z', 'checkout_timed_out', 'payment', null, null, null);
         insert into read.stock_movements values
            ('A1', 1, '2010-12-01T08:00:00Z', 'received', 12, 12, 12, null, null, 'bob', '{o1}', '{o2}'),
            ('A1', 2, '2010-12-01T09:00:00Z', 'reserved', 3, 12, 9, '{o1}', null, 'process checkout', '{o1}', '{o3}'),
            ('A1', 3, '2010-12-01T10:00:00Z', 'adjusted', -2, 10, 7, null, 'broken', null, null, null),
            ('Z9', 1, '2010-12-01T08:00:00Z', 'received', 5000000000, 5000000000, 5000000000, null, null, null, null, null);
         insert into read.checkouts
            (order_id, state, step, reason, order_status, taken_minor, started_at, changed_at, ended_at) values
            ('{o1}', 'completed', 'done', null, 'completed', 2500, '2010-12-01T08:26:00Z', '2010-12-02T00:00:00Z',
             '2010-12-01T08:27:30Z'),
            ('{o3}', 'parked', 'undoing', 'no such SKU', 'cancelled', 0, now() - interval '100 seconds', now(), null),
            ('{o9}', 'running', 'paying', null, 'placed', 0, now() - interval '1 hour', now(), null);
         insert into read.ledger_entries values
            ('{o1}', 1, 1, 'hold', 'holds', 'GBP', 2550, '2010-12-01T08:27:00Z'),
            ('{o1}', 2, 1, 'hold', 'holds_contra', 'GBP', -2550, '2010-12-01T08:27:00Z'),
            ('{o1}', 3, 2, 'release', 'holds_contra', 'GBP', 2550, '2010-12-01T12:00:00Z'),
            ('{o1}', 4, 2, 'release', 'holds', 'GBP', -2550, '2010-12-01T12:00:00Z'),
            ('{o1}', 5, 3, 'capture', 'cash', 'GBP', 2550, '2010-12-01T12:00:00Z'),
            ('{o1}', 6, 3, 'capture', 'sales', 'GBP', -2550, '2010-12-01T12:00:00Z'),
            ('{o1}', 7, 4, 'refund', 'refunds', 'GBP', 50, '2010-12-03T12:00:00Z'),
            ('{o1}', 8, 4, 'refund', 'cash', 'GBP', -50, '2010-12-03T12:00:00Z'),
            ('{o9}', 1, 1, 'hold', 'holds', 'JPY', 300, '2010-12-01T08:27:00Z'),
            ('{o9}', 2, 1, 'hold', 'holds_contra', 'JPY', -300, '2010-12-01T08:27:00Z');
         insert into read.order_lines values
            ('{o1}', 1, 'A1', 2, 1275), ('{o2}', 1, 'Z9', 5000000000, 0), ('{o2}', 2, 'NONE', 3, 416), ('{o3}', 1, 'B2', 1, 400);
         insert into read.sales_daily values
            ('2010-12-01', 'United Kingdom', 'GBP', 2, 3, 4, 5000), ('2010-12-01', 'France', 'GBP', 1, 1, 1, 100),
            ('2010-12-31', 'France', 'GBP', 1, 2, 5000000000, 200), ('2011-01-01', 'EIRE', 'GBP', 1, 1, 1, 50),
            ('2011-01-02', 'EIRE', 'GBP', 0, 0, 0, 0), ('2010-12-01', 'Japan', 'JPY', 1, 1, 1, 1250);
         insert into read.product_sales values
            ('A1', 'GBP', '2010-12-01', 1, 3, 4000, 'United Kingdom'), ('A1', 'GBP', '2010-12-01', 1, 1, 1000, 'France'),
            ('B2', 'GBP', '2010-12-01', 1, 10, 4000, 'France'), ('B2', 'GBP', '2010-12-02', 1, 10, 1000, 'EIRE'),
            ('AA', 'GBP', '2010-12-02', 1, 20, 5000, 'EIRE'), ('NO', 'GBP', '2010-12-02', 0, 0, 0, 'EIRE'),
            ('A1', 'EUR', '2010-12-01', 1, 99, 99, 'France');",
        ada = id(101),
        bob = id(102),
        stranger = id(103),
        o1 = id(1),
        o2 = id(2),
        o3 = id(3),
        o9 = id(9),
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
async fn an_order_with_its_payment_shipment_timeline_and_checkout() {
    let shop = small_shop().await;
    let order = async |number| {
        let query = format!(
            "{{ order(id: \"{}\") {{
               payment {{ status amount {{ amount currency }} authorised {{ amount }} captured {{ amount }}
                          refunded {{ amount currency }} reference declinedReason }}
               shipment {{ status carrier tracking dispatchedAt deliveredAt reason }}
               timeline {{ at what detail }}
               checkout {{ orderId state step reason }} }} }}",
            id(number)
        );
        shop.data(&query).await["order"].clone()
    };
    assert_eq!(
        order(1).await,
        json!({
            "payment": { "status": "CAPTURED", "amount": { "amount": "25.50", "currency": "GBP" },
                         "authorised": { "amount": "25.50" }, "captured": { "amount": "25.50" },
                         "refunded": { "amount": "0.50", "currency": "GBP" }, "reference": "auth-1",
                         "declinedReason": null },
            "shipment": { "status": "DELIVERED", "carrier": "Royal Mail", "tracking": "RM1",
                          "dispatchedAt": "2010-12-01T12:00:00Z", "deliveredAt": "2010-12-02T00:00:00Z", "reason": null },
            "timeline": [
                { "at": "2010-12-01T08:26:00Z", "what": "ORDER_PLACED", "detail": null },
                { "at": "2010-12-01T12:00:00Z", "what": "SHIPMENT_DISPATCHED", "detail": "Royal Mail RM1" },
                { "at": "2010-12-02T00:00:00Z", "what": "ORDER_COMPLETED", "detail": null },
            ],
            "checkout": { "orderId": id(1), "state": "COMPLETED", "step": "DONE", "reason": null },
        })
    );
    // Who and what led to each entry.
    let query = format!("{{ order(id: \"{}\") {{ timeline {{ actor correlationId causationId }} }} }}", id(1));
    let nobody = json!({ "actor": null, "correlationId": null, "causationId": null });
    assert_eq!(
        shop.data(&query).await["order"]["timeline"],
        json!([nobody, { "actor": "bob", "correlationId": id(2), "causationId": id(3) }, nobody])
    );
    // What was only recorded here was paid, sent and done elsewhere.
    assert_eq!(order(2).await, json!({ "payment": null, "shipment": null, "timeline": [], "checkout": null }));
    // A payment in another currency than the order's.
    assert_eq!(
        order(3).await,
        json!({
            "payment": { "status": "DECLINED", "amount": { "amount": "4.00", "currency": "EUR" },
                         "authorised": { "amount": "0.00" }, "captured": { "amount": "0.00" },
                         "refunded": { "amount": "0.00", "currency": "EUR" }, "reference": null,
                         "declinedReason": "no funds" },
            "shipment": { "status": "CANCELLED", "carrier": null, "tracking": null, "dispatchedAt": null,
                          "deliveredAt": null, "reason": "called off" },
            "timeline": [
                { "at": "2011-01-05T09:00:00Z", "what": "ORDER_PLACED", "detail": null },
                { "at": "2011-01-05T09:00:00Z", "what": "CHECKOUT_TIMED_OUT", "detail": "payment" },
            ],
            "checkout": { "orderId": id(3), "state": "PARKED", "step": "UNDOING", "reason": "no such SKU" },
        })
    );
}

/// The words under which the read models keep things have to be those of the schema.
#[tokio::test]
async fn every_word_of_a_read_model_has_a_name_in_the_schema() {
    let shop = small_shop().await;
    let migrations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/read_models");
    let documented = |file: &str, from: &str, column: &str| {
        let sql = std::fs::read_to_string(migrations.join(file)).unwrap();
        let (comment, _) = sql.split_once(from).unwrap().1.split_once(column).unwrap();
        let words = comment.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        words.filter(|word| word.contains('_')).map(str::to_uppercase).collect::<Vec<_>>()
    };
    let data = shop.data("{ __type(name: \"TimelineEvent\") { enumValues { name } } }").await;
    let names = data["__type"]["enumValues"].as_array().unwrap();
    let names: Vec<_> = names.iter().map(|value| value["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, documented("orders.sql", "comment on column order_timeline.what is", "';"));
}

#[tokio::test]
async fn checkouts_of_orders_that_are_known_and_that_are_not_yet() {
    let shop = small_shop().await;
    let data = shop
        .data(
            "{ checkouts(orderBy: STARTED_AT_ASC) { totalCount nodes {
                 orderId state step reason startedAt endedAt ageSeconds order { id reference } } } }",
        )
        .await;
    let checkouts = data["checkouts"]["nodes"].as_array().unwrap();
    assert_eq!(data["checkouts"]["totalCount"], 3);
    assert_eq!(
        checkouts[0],
        json!({ "orderId": id(1), "state": "COMPLETED", "step": "DONE", "reason": null,
                "startedAt": "2010-12-01T08:26:00Z", "endedAt": "2010-12-01T08:27:30Z", "ageSeconds": 90.0,
                "order": { "id": id(1), "reference": "536365" } })
    );
    let told = |row: &serde_json::Value| json!([row["orderId"], row["state"], row["endedAt"], row["order"]]);
    assert_eq!(told(&checkouts[1]), json!([id(9), "RUNNING", null, null]));
    assert_eq!(told(&checkouts[2]), json!([id(3), "PARKED", null, { "id": id(3), "reference": null }]));
    let age = |row: &serde_json::Value| row["ageSeconds"].as_f64().unwrap();
    assert!((3600.0..3700.0).contains(&age(&checkouts[1])) && (100.0..200.0).contains(&age(&checkouts[2])), "{data}");

    let one =
        |number| format!("{{ checkout(orderId: \"{}\") {{ state order {{ checkout {{ step }} }} }} }}", id(number));
    assert_eq!(
        shop.data(&one(3)).await,
        json!({ "checkout": { "state": "PARKED", "order": { "checkout": { "step": "UNDOING" } } } })
    );
    assert_eq!(shop.data(&one(2)).await, json!({ "checkout": null }));
}

#[tokio::test]
async fn the_ledger_shows_both_sides_of_every_movement() {
    let shop = small_shop().await;
    let query = format!(
        "{{ ledger(orderBy: AT_ASC, filter: {{ paymentId: \"{}\" }}, first: 3) {{ totalCount nodes {{
           id paymentId entryNo movementNo movement account amount {{ amount minor currency }} at }} }} }}",
        id(1)
    );
    let data = shop.data(&query).await;
    assert_eq!(data["ledger"]["totalCount"], 8);
    let entry = |entry: i64, movement_no: i64, movement, account, amount, minor: i64, at| {
        json!({ "id": format!("{}/{entry}", id(1)), "paymentId": id(1), "entryNo": entry, "movementNo": movement_no,
                "movement": movement, "account": account, "at": at,
                "amount": { "amount": amount, "minor": minor, "currency": "GBP" } })
    };
    assert_eq!(
        data["ledger"]["nodes"],
        json!([
            entry(1, 1, "HOLD", "HOLDS", "25.50", 2550, "2010-12-01T08:27:00Z"),
            entry(2, 1, "HOLD", "HOLDS_CONTRA", "-25.50", -2550, "2010-12-01T08:27:00Z"),
            entry(3, 2, "RELEASE", "HOLDS_CONTRA", "25.50", 2550, "2010-12-01T12:00:00Z"),
        ])
    );
}

#[tokio::test]
async fn the_balances_of_the_ledger_are_nothing_together() {
    let shop = small_shop().await;
    let balances = async |arguments: &str| {
        let data = shop.data(&format!("{{ ledgerBalances({arguments}) {{ account balance {{ minor }} }} }}")).await;
        let balances = data["ledgerBalances"].as_array().unwrap();
        let one = |row: &serde_json::Value| {
            (row["account"].as_str().unwrap().to_owned(), row["balance"]["minor"].as_i64().unwrap())
        };
        let balances: Vec<_> = balances.iter().map(one).collect();
        assert_eq!(balances.iter().map(|(_, minor)| minor).sum::<i64>(), 0);
        balances
    };
    let named =
        |rows: &[(&str, i64)]| rows.iter().map(|(account, minor)| ((*account).to_owned(), *minor)).collect::<Vec<_>>();
    let all = [("CASH", 2500), ("HOLDS", 0), ("HOLDS_CONTRA", 0), ("REFUNDS", 50), ("SALES", -2550)];
    assert_eq!(balances("currency: \"GBP\"").await, named(&all));
    let held = [("HOLDS", 2550), ("HOLDS_CONTRA", -2550)];
    assert_eq!(balances("currency: \"GBP\", to: \"2010-12-01T12:00:00Z\"").await, named(&held));
    assert_eq!(balances("currency: \"JPY\"").await, named(&[("HOLDS", 300), ("HOLDS_CONTRA", -300)]));
    assert_eq!(balances("currency: \"EUR\"").await, named(&[]));
    // More than a number of 64 bits holds is no number at all, rather than a wrong one.
    let huge = i64::MAX;
    shop.sql(format!(
        "insert into read.ledger_entries
            select gen_random_uuid(), 1, 1, 'hold', 'holds', 'USD', {huge}, now() from generate_series(1, 2)"
    ))
    .await;
    assert_eq!(shop.ask("{ ledgerBalances(currency: \"USD\") { account } }").await.codes(), ["INTERNAL"]);
}

#[tokio::test]
async fn what_is_low_stands_with_its_product() {
    let shop = small_shop().await;
    let data =
        shop.data("{ lowStock { totalCount nodes { sku available threshold since product { name low } } } }").await;
    assert_eq!(
        data["lowStock"],
        json!({ "totalCount": 3, "nodes": [
            { "sku": "NONE", "available": -1, "threshold": 4_000_000_000_i64, "since": "2010-12-03T09:00:00Z", "product": null },
            { "sku": "B2", "available": 0, "threshold": 0, "since": "2010-11-01T09:00:00Z",
              "product": { "name": "Heart", "low": true } },
            { "sku": "A1", "available": 7, "threshold": 7, "since": "2010-12-01T09:00:00Z",
              "product": { "name": "Lantern", "low": true } },
        ] })
    );
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
        "{ a: product(sku: \"A1\") { sku name description price { amount currency } status onHand reserved available
                                     threshold low changedAt }
           z: product(sku: \"Z9\") { sku name description price { amount } status onHand threshold low }
           none: product(sku: \"a1\") { sku } }",
    );
    assert_eq!(
        data.await,
        json!({
            "a": { "sku": "A1", "name": "Lantern", "description": "Of glass",
                   "price": { "amount": "12.75", "currency": "GBP" }, "status": "LISTED", "onHand": 10, "reserved": 3,
                   "available": 7, "threshold": 7, "low": true, "changedAt": "2010-12-01T10:00:00Z" },
            "z": { "sku": "Z9", "name": null, "description": null, "price": null, "status": "UNLISTED",
                   "onHand": 5_000_000_000_i64, "threshold": null, "low": false },
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

/// The sales by these dimensions, as key, other key, orders, units and revenue.
async fn sales_by(shop: &Shop, arguments: &str) -> Vec<serde_json::Value> {
    let query = format!(
        "{{ salesBy(currency: \"GBP\", {arguments}) {{ key andKey orders units revenue {{ minor }} cursor }} }}"
    );
    shop.data(&query).await["salesBy"].as_array().unwrap().clone()
}

fn told(rows: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let told = |row: &serde_json::Value| {
        json!([row["key"], row["andKey"], row["orders"], row["units"], row["revenue"]["minor"]])
    };
    rows.iter().map(told).collect()
}

#[tokio::test]
async fn sales_by_any_two_dimensions() {
    let shop = small_shop().await;
    let by = async |arguments: &str| told(&sales_by(&shop, arguments).await);
    // The first day of 2011 is a Saturday: its week is the last one of 2010.
    assert_eq!(
        by("dimension: WEEK").await,
        [json!(["2010-W48", null, 3, 5, 5100]), json!(["2010-W52", null, 2, 5_000_000_001_i64, 250])]
    );
    assert_eq!(
        by("dimension: MONTH, and: COUNTRY").await,
        [
            json!(["2010-12", "France", 2, 5_000_000_001_i64, 300]),
            json!(["2010-12", "United Kingdom", 2, 4, 5000]),
            json!(["2011-01", "EIRE", 1, 1, 50]),
        ]
    );
    assert_eq!(by("dimension: COUNTRY, and: DAY, from: \"2010-12-02\"").await.len(), 2);
    assert_eq!(
        by("dimension: PRODUCT").await,
        [json!(["A1", null, 2, 4, 5000]), json!(["AA", null, 1, 20, 5000]), json!(["B2", null, 2, 20, 5000])]
    );
    assert_eq!(
        by("dimension: COUNTRY, and: PRODUCT").await,
        [
            json!(["EIRE", "AA", 1, 20, 5000]),
            json!(["EIRE", "B2", 1, 10, 1000]),
            json!(["France", "A1", 1, 1, 1000]),
            json!(["France", "B2", 1, 10, 4000]),
            json!(["United Kingdom", "A1", 1, 3, 4000]),
        ]
    );
    assert_eq!(
        by("dimension: PRODUCT, and: WEEK, to: \"2010-12-02\"").await,
        [json!(["A1", "2010-W48", 2, 4, 5000]), json!(["B2", "2010-W48", 1, 10, 4000])]
    );
    for wrong in ["dimension: DAY, and: DAY", "dimension: DAY, first: -1", "dimension: DAY, first: 5001"] {
        let reply = shop.ask(&format!("{{ salesBy(currency: \"GBP\", {wrong}) {{ key }} }}")).await;
        assert_eq!(reply.codes(), ["BAD_USER_INPUT"], "{wrong}");
    }
}

#[tokio::test]
async fn sales_are_paged_by_their_keys() {
    let shop = small_shop().await;
    for dimensions in ["dimension: COUNTRY, and: PRODUCT", "dimension: MONTH, and: COUNTRY", "dimension: PRODUCT"] {
        let all = sales_by(&shop, dimensions).await;
        assert!(all.len() > 2);
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let page = sales_by(&shop, &format!("{dimensions}, first: 2 {after}")).await;
            let Some(last) = page.last() else { break };
            after = format!(", after: {}", last["cursor"]);
            assert!(page.len() <= 2);
            paged.extend(page);
        }
        assert_eq!(paged, all, "{dimensions}");
        assert_eq!(sales_by(&shop, &format!("{dimensions}, first: 0")).await, [json!(null); 0]);
        // A cursor is of its query.
        let other = format!("{{ salesBy(currency: \"EUR\", {dimensions} {after}) {{ key }} }}");
        assert_eq!(shop.ask(&other).await.codes(), ["BAD_CURSOR"]);
    }
}

#[tokio::test]
async fn more_sales_than_are_answered_at_once_have_to_be_paged() {
    let shop = small_shop().await;
    shop.sql(
        "insert into read.sales_daily select date '1900-01-01' + n, 'Norway', 'GBP', 1, 1, 1, 1 from generate_series(1, 5000) n",
    )
    .await;
    let reply = shop.ask("{ salesBy(currency: \"GBP\", dimension: DAY) { key } }").await;
    assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
    assert!(reply.text.contains("more than 5000 rows"), "{}", reply.text);
    let first = shop.data("{ salesBy(currency: \"GBP\", dimension: DAY, first: 5000) { key } }").await;
    assert_eq!(first["salesBy"].as_array().unwrap().len(), 5000);
    assert_eq!(
        shop.data("{ salesBy(currency: \"GBP\", dimension: DAY, to: \"1913-09-11\") { key } }").await["salesBy"]
            .as_array()
            .unwrap()
            .len(),
        5000
    );
}

#[tokio::test]
async fn what_moved_a_stock_is_told_the_last_first() {
    let shop = small_shop().await;
    let data = shop
        .data(
            "{ product(sku: \"A1\") { stock { onHand reserved available threshold low movements { totalCount nodes {
                 id movementNo at what quantity onHand available orderId reason actor correlationId causationId } } } } }",
        )
        .await;
    assert_eq!(
        data["product"]["stock"],
        json!({ "onHand": 10, "reserved": 3, "available": 7, "threshold": 7, "low": true, "movements": {
            "totalCount": 3, "nodes": [
                { "id": "A1/3", "movementNo": 3, "at": "2010-12-01T10:00:00Z", "what": "ADJUSTED", "quantity": -2,
                  "onHand": 10, "available": 7, "orderId": null, "reason": "broken", "actor": null,
                  "correlationId": null, "causationId": null },
                { "id": "A1/2", "movementNo": 2, "at": "2010-12-01T09:00:00Z", "what": "RESERVED", "quantity": 3,
                  "onHand": 12, "available": 9, "orderId": id(1), "reason": null, "actor": "process checkout",
                  "correlationId": id(1), "causationId": id(3) },
                { "id": "A1/1", "movementNo": 1, "at": "2010-12-01T08:00:00Z", "what": "RECEIVED", "quantity": 12,
                  "onHand": 12, "available": 12, "orderId": null, "reason": null, "actor": "bob",
                  "correlationId": id(1), "causationId": id(2) },
            ] } })
    );
    // Page by page, forwards and backwards, from each end.
    let page = async |arguments: &str| {
        let query = format!(
            "{{ product(sku: \"A1\") {{ stock {{ movements({arguments}) {{ nodes {{ movementNo }}
                 pageInfo {{ hasNextPage hasPreviousPage endCursor startCursor }} }} }} }} }}"
        );
        shop.data(&query).await["product"]["stock"]["movements"].clone()
    };
    let numbers = |page: &serde_json::Value| {
        let numbers = page["nodes"].as_array().unwrap().iter().map(|node| node["movementNo"].as_i64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    let first = page("orderBy: NUMBER_ASC, first: 2").await;
    assert_eq!((numbers(&first), &first["pageInfo"]["hasNextPage"]), (vec![1, 2], &json!(true)));
    let next = page(&format!("orderBy: NUMBER_ASC, first: 2, after: {}", first["pageInfo"]["endCursor"])).await;
    assert_eq!((numbers(&next), &next["pageInfo"]["hasNextPage"]), (vec![3], &json!(false)));
    let last = page("last: 1").await;
    assert_eq!((numbers(&last), &last["pageInfo"]["hasPreviousPage"]), (vec![1], &json!(true)));
    let before = page(&format!("last: 5, before: {}", last["pageInfo"]["startCursor"])).await;
    assert_eq!(numbers(&before), [3, 2]);
    // A cursor is of one article.
    let other = format!(
        "{{ product(sku: \"Z9\") {{ stock {{ movements(after: {}) {{ totalCount }} }} }} }}",
        last["pageInfo"]["startCursor"]
    );
    assert_eq!(shop.ask(&other).await.codes(), ["BAD_CURSOR"]);
    let none = "{ product(sku: \"B2\") { stock { movements { totalCount nodes { id } } } } }";
    assert_eq!(shop.data(none).await["product"]["stock"]["movements"], json!({ "totalCount": 0, "nodes": [] }));
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
    assert_eq!(data["projections"].as_array().unwrap().len(), 9);
    assert_eq!(
        data["projections"][1],
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
            json!(["checkouts", 1, null, 50, true, "LIVE"]),
            json!(["customers", 1, "50/50", 0, false, "LIVE"]),
            json!(["low_stock", 1, null, 50, true, "LIVE"]),
            json!(["orders", 1, "48/48", 2, true, "LIVE"]),
            json!(["orders", 2, null, 50, true, "BUILDING"]),
            json!(["payments_ledger", 1, null, 50, true, "LIVE"]),
            json!(["product_sales", 1, null, 50, true, "LIVE"]),
            json!(["products", 1, null, 50, true, "STOPPED"]),
            json!(["sales_daily", 1, null, 50, true, "LIVE"]),
            json!(["stock_movements", 1, null, 50, true, "LIVE"]),
        ]
    );
    assert_eq!(projections[0]["headPosition"], "50/50");
}
