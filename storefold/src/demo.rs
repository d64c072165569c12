//! A small made-up shop, so that there is something to look at.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::import;
use crate::shop::Shop;

/// What is sold, and for how many pence.
const PRODUCTS: [(&str, &str, i64); 24] = [
    ("TEA-001", "Assam loose leaf 250 g", 640),
    ("TEA-002", "Earl Grey 50 bags", 420),
    ("TEA-003", "Sencha 100 g", 890),
    ("TEA-004", "Rooibos 40 bags", 380),
    ("COF-001", "Espresso beans 1 kg", 1_950),
    ("COF-002", "Filter roast 250 g", 720),
    ("COF-003", "Decaf 250 g", 760),
    ("POT-001", "Teapot, glazed, 0.8 l", 2_800),
    ("POT-002", "Moka pot, 6 cups", 3_150),
    ("POT-003", "Cafetière, 1 l", 2_450),
    ("CUP-001", "Mug, speckled", 950),
    ("CUP-002", "Espresso cup, set of 4", 2_200),
    ("CUP-003", "Tea bowl", 1_400),
    ("CUP-004", "Travel mug, steel", 1_890),
    ("ACC-001", "Strainer, fine", 540),
    ("ACC-002", "Milk jug, steel", 1_150),
    ("ACC-003", "Digital scale", 2_600),
    ("ACC-004", "Descaler, 500 ml", 450),
    ("ACC-005", "Filter papers, 100", 390),
    ("TIN-001", "Storage tin, small", 680),
    ("TIN-002", "Storage tin, large", 980),
    ("BIS-001", "Shortbread 300 g", 520),
    ("BIS-002", "Ginger snaps 250 g", 310),
    ("BIS-003", "Almond cantuccini 250 g", 590),
];
const COUNTRIES: [&str; 6] = ["United Kingdom", "United Kingdom", "France", "Germany", "Netherlands", "Norway"];
const ORDERS: u64 = 400;
const CUSTOMERS: u64 = 60;

/// Brings the made-up shop in, by the same path as any import. Doing so again changes nothing.
///
/// # Errors
/// When the log fails.
pub(crate) async fn bring(shop: &Shop) -> anyhow::Result<()> {
    let history: String = history().into_iter().map(|line| format!("{line}\n")).collect();
    let options = import::Options {
        source: "demo".to_owned(),
        in_flight: 64,
        strict: false,
        progress: false,
        orders: import::Orders::Recorded,
    };
    let summary = import::run(history.as_bytes(), None, &options, &import::Target::Here(&shop.executor())).await?;
    tracing::info!(lines = summary.lines, skipped = summary.faulty, "the made-up shop is open");
    Ok(())
}

/// The history of the made-up shop: the same every time.
fn history() -> Vec<Value> {
    let mut dice = Dice(0x5107_ef01);
    let listed = |(sku, name, price): &(&str, &str, i64)| json!({ "kind": "product", "sku": sku, "name": name, "price_minor": price, "currency": "GBP" });
    let mut lines: Vec<Value> = PRODUCTS.iter().map(listed).collect();
    lines.extend(
        PRODUCTS.iter().map(|(sku, ..)| json!({ "kind": "stock", "sku": sku, "quantity": 40 + dice.roll(400) })),
    );
    let mut at = DateTime::<Utc>::UNIX_EPOCH + Duration::days(20_454);
    for number in 1..=ORDERS {
        at += Duration::minutes(i64::try_from(30 + dice.roll(600)).unwrap_or(30));
        let guest = dice.roll(5) == 0;
        let customer = (!guest).then(|| format!("C{:03}", 1 + dice.roll(CUSTOMERS)));
        let bought: Vec<Value> = (0..=dice.roll(5))
            .map(|_| {
                let (sku, _, price) = PRODUCTS[dice.roll(PRODUCTS.len() as u64) as usize];
                json!({ "sku": sku, "quantity": 1 + dice.roll(4), "unit_price_minor": price })
            })
            .collect();
        lines.push(json!({
            "kind": "order", "ref": format!("D{number:05}"),
            "placed_at": at.to_rfc3339_opts(SecondsFormat::Secs, true), "customer_ref": customer,
            "country": COUNTRIES[dice.roll(COUNTRIES.len() as u64) as usize], "currency": "GBP", "lines": bought,
        }));
    }
    lines
}

/// Numbers that look random and are the same every time: Knuth's MMIX generator.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_made_up_shop_is_the_same_every_time() {
        assert_eq!(history(), history());
        assert_eq!(history().len(), 2 * PRODUCTS.len() + ORDERS as usize);
    }
}
