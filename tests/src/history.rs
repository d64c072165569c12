//! A trading history for tests, and what a correct system answers about it, counted plainly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::root;

/// A history as lines, and what is expected of it.
pub(crate) struct History {
    pub(crate) ndjson: String,
    pub(crate) expected: Value,
}

/// The first `orders` orders of a real shop's year (UCI's "Online Retail"), where the tool that writes it lies beside
/// the project; a made-up history of that size elsewhere.
pub(crate) fn history(orders: usize) -> History {
    match tool() {
        Some(tool) => {
            let run = |what: &str| {
                let run =
                    Command::new("python3").arg(&tool).args([what, "--orders", &orders.to_string()]).output().unwrap();
                assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
                String::from_utf8(run.stdout).unwrap()
            };
            let ndjson = run("history");
            let expected: Value = serde_json::from_str(&run("expected")).unwrap();
            // The plain count below is checked against the tool's, so that it can stand in for it.
            assert_eq!(count(&ndjson), expected);
            History { ndjson, expected }
        }
        None => {
            let ndjson = made_up(orders);
            let expected = count(&ndjson);
            History { ndjson, expected }
        }
    }
}

fn tool() -> Option<PathBuf> {
    let tool = root().parent()?.join("shared/tools/online_retail.py");
    tool.exists().then_some(tool)
}

/// A made-up history: 40 products, 30 customers, the same every time.
fn made_up(orders: usize) -> String {
    let mut state = 7_u64;
    let mut roll = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut sold: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = Vec::new();
    let start = chrono::DateTime::from_timestamp(1_291_191_960, 0).unwrap();
    for number in 0..orders {
        let at = start + chrono::TimeDelta::minutes(number as i64 * 17);
        let bought: Vec<Value> = (0..=roll(12))
            .map(|_| {
                let (sku, quantity) = (format!("SKU{:02}", roll(40)), 1 + roll(20));
                *sold.entry(sku.clone()).or_default() += quantity;
                json!({ "sku": sku, "quantity": quantity, "unit_price_minor": 50 + roll(900) })
            })
            .collect();
        let customer = (roll(4) > 0).then(|| format!("{}", 12_000 + roll(30)));
        let country = ["United Kingdom", "EIRE", "France"][roll(3) as usize];
        lines.push(json!({
            "kind": "order", "ref": format!("{}", 500_000 + number),
            "placed_at": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), "customer_ref": customer,
            "country": country, "currency": "GBP", "lines": bought,
        }));
    }
    let products = sold.keys().map(|sku| {
        json!({ "kind": "product", "sku": sku, "name": format!("Thing {sku}"), "price_minor": 250, "currency": "GBP" })
    });
    let stock = sold.iter().map(|(sku, quantity)| json!({ "kind": "stock", "sku": sku, "quantity": quantity }));
    products.chain(stock).chain(lines).map(|line| format!("{line}\n")).collect()
}

type Sums = BTreeMap<String, i64>;

/// What a correct system answers about a history.
fn count(ndjson: &str) -> Value {
    let (mut month, mut country, mut customer) = (Sums::new(), Sums::new(), Sums::new());
    let (mut units, mut revenue) = (Sums::new(), Sums::new());
    let (mut orders, mut lines, mut total) = (0, 0, 0);
    for line in ndjson.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] != "order" {
            continue;
        }
        let mut worth = 0;
        for bought in line["lines"].as_array().unwrap() {
            let (sku, quantity) = (bought["sku"].as_str().unwrap(), bought["quantity"].as_i64().unwrap());
            let price = quantity * bought["unit_price_minor"].as_i64().unwrap();
            *units.entry(sku.to_owned()).or_default() += quantity;
            *revenue.entry(sku.to_owned()).or_default() += price;
            worth += price;
            lines += 1;
        }
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        *month.entry(text("placed_at")[..7].to_owned()).or_default() += worth;
        *country.entry(text("country")).or_default() += worth;
        if !line["customer_ref"].is_null() {
            *customer.entry(text("customer_ref")).or_default() += worth;
        }
        orders += 1;
        total += worth;
    }
    json!({
        "currency": "GBP", "orders": orders, "lines": lines, "products": units.len(), "customers": customer.len(),
        "revenue_minor": total, "revenue_minor_by_month": month, "revenue_minor_by_country": country,
        "top_products_by_units": top(&units), "top_products_by_revenue_minor": top(&revenue),
        "top_customers_by_revenue_minor": top(&customer),
    })
}

/// The twenty largest, then by name.
fn top(sums: &Sums) -> Vec<(&String, &i64)> {
    let mut sums: Vec<(&String, &i64)> = sums.iter().collect();
    sums.sort_by_key(|(name, sum)| (-**sum, (*name).clone()));
    sums.truncate(20);
    sums
}
