//! What a line of a trading history means: the commands that it becomes.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use write_side::envelope::fingerprint;

/// The namespace of the names of sources.
pub(super) const SOURCES: Uuid = Uuid::from_u128(0x2d6e_0f4e_3a43_5d0b_8a60_9f1f_1e1b_77a2);

/// A line of a trading history.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum History {
    /// A product enters the catalogue.
    Product { sku: String, name: String, price_minor: i64, currency: String },
    /// Units come in. A reference tells the delivery from others of as many units.
    Stock {
        sku: String,
        quantity: i64,
        #[serde(rename = "ref", default)]
        reference: Option<String>,
    },
    /// An order was traded.
    Order {
        #[serde(rename = "ref")]
        reference: String,
        placed_at: String,
        customer_ref: Option<String>,
        country: String,
        currency: String,
        lines: Value,
    },
}

/// A command that a line becomes.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) category: &'static str,
    pub(super) id: String,
    pub(super) command: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) command_id: Uuid,
    pub(super) fingerprint: String,
    /// What has to be done once a run however many lines ask for it, by the id of whom it is done to.
    pub(super) once: Option<Uuid>,
    /// Whether what the lines before it asked for has to be done first: an order that is placed wants its goods there.
    pub(super) after_all: bool,
}

/// What an order of a history becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Orders {
    /// It is put on record: it was traded elsewhere.
    Recorded,
    /// It is placed, at the price and time of its line, and goes through the whole checkout.
    Placed {
        /// What the gateway knows the card by that is charged.
        card: String,
    },
}

/// How often each stock line has come so far. Two equal deliveries are two deliveries, and when the same file is
/// imported again, the second one is the second one again.
#[derive(Debug, Default)]
pub(super) struct Occurrences(HashMap<Uuid, u32>);

impl Occurrences {
    fn next(&mut self, name: Uuid) -> u32 {
        let count = self.0.entry(name).or_default();
        *count += 1;
        *count
    }
}

/// The commands that a line of `source` becomes.
pub(super) fn steps(
    text: &str,
    source: Uuid,
    orders: &Orders,
    occurrences: &mut Occurrences,
) -> Result<Vec<Step>, String> {
    let line: History = serde_json::from_str(text).map_err(|error| format!("not a line of a history: {error}"))?;
    let named = |what: &str, name: &str| Uuid::new_v5(&source, format!("{what}\n{name}").as_bytes());
    Ok(match line {
        History::Product { sku, name, price_minor, currency } => {
            let body = json!({ "name": name, "price": { "minor": price_minor, "currency": currency } });
            let command_id = named("product", &sku);
            vec![step("product", sku, "list", body, command_id)]
        }
        History::Stock { sku, quantity, reference } => {
            let reference = reference.map(|reference| format!("\n{reference}")).unwrap_or_default();
            let line = named("stock", &format!("{sku}\n{quantity}{reference}"));
            let command_id = Uuid::new_v5(&line, &occurrences.next(line).to_be_bytes());
            vec![step("stock", sku, "receive", json!({ "quantity": quantity }), command_id)]
        }
        History::Order { reference, placed_at, customer_ref, country, currency, lines } => {
            let customer = customer_ref.as_deref().map(|name| named("customer", name));
            let order = named("order", &reference);
            let register = customer.zip(customer_ref).map(|(id, name)| Step {
                once: Some(id),
                ..step("customer", id.to_string(), "register", json!({ "reference": name }), id)
            });
            let mut sale = json!({
                "reference": reference, "placed_at": placed_at, "customer": customer, "country": country,
                "currency": currency, "lines": lines,
            });
            let traded = match orders {
                Orders::Recorded => step("order", order.to_string(), "record", sale, order),
                Orders::Placed { card } => {
                    sale["card"] = json!(card);
                    Step { after_all: true, ..step("order", order.to_string(), "place", sale, order) }
                }
            };
            // The order first: when it is refused, nothing of the line is done.
            [traded].into_iter().chain(register).collect()
        }
    })
}

fn step(category: &'static str, id: String, command: &'static str, body: Value, command_id: Uuid) -> Step {
    let fingerprint = fingerprint(command, &body);
    Step {
        category,
        id,
        command,
        body: body.to_string().into_bytes(),
        command_id,
        fingerprint,
        once: None,
        after_all: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Step> {
        steps(text, SOURCES, &Orders::Recorded, &mut Occurrences::default()).unwrap()
    }

    const ORDER: &str = r#"{"kind":"order","ref":"1","placed_at":"2010-12-01T08:26:00Z","customer_ref":"C","country":"EIRE","currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price_minor":2}]}"#;

    #[test]
    fn a_line_becomes_the_same_commands_every_time() {
        let (first, second) = (parsed(ORDER), parsed(ORDER));
        let name =
            |step: &Step| (step.category, step.id.clone(), step.command, step.command_id, step.fingerprint.clone());
        assert_eq!(first.iter().map(name).collect::<Vec<_>>(), second.iter().map(name).collect::<Vec<_>>());
        assert_eq!(first.iter().map(|step| step.command).collect::<Vec<_>>(), ["record", "register"]);
    }

    #[test]
    fn an_order_that_is_placed_names_a_card_and_comes_after_the_goods() {
        let orders = Orders::Placed { card: "tok_approved".to_owned() };
        let placed = steps(ORDER, SOURCES, &orders, &mut Occurrences::default()).unwrap();
        assert_eq!(placed.iter().map(|step| step.command).collect::<Vec<_>>(), ["place", "register"]);
        assert!(placed[0].after_all && !placed[1].after_all);
        let body: Value = serde_json::from_slice(&placed[0].body).unwrap();
        assert_eq!((&body["card"], &body["lines"][0]["unit_price_minor"]), (&json!("tok_approved"), &json!(2)));
        assert_eq!(body["placed_at"], "2010-12-01T08:26:00Z");
    }

    #[test]
    fn a_guest_is_not_registered() {
        let commands: Vec<_> = parsed(&ORDER.replace(r#""C""#, "null")).iter().map(|step| step.command).collect();
        assert_eq!(commands, ["record"]);
    }

    #[test]
    fn two_equal_deliveries_are_two_and_stay_the_same_two() {
        let line = r#"{"kind":"stock","sku":"A","quantity":5}"#;
        let run = || {
            let mut occurrences = Occurrences::default();
            [(); 2].map(|()| steps(line, SOURCES, &Orders::Recorded, &mut occurrences).unwrap()[0].command_id)
        };
        assert_ne!(run()[0], run()[1]);
        assert_eq!(run(), run());
    }

    #[test]
    fn a_delivery_with_another_reference_is_another() {
        let of = |reference: &str| {
            let line = format!(r#"{{"kind":"stock","sku":"A","quantity":5,"ref":"{reference}"}}"#);
            steps(&line, SOURCES, &Orders::Recorded, &mut Occurrences::default()).unwrap()[0].command_id
        };
        assert_eq!(of("monday"), of("monday"));
        assert_ne!(of("monday"), of("tuesday"));
    }

    #[test]
    fn another_source_is_another_command() {
        let of = |source| steps(ORDER, source, &Orders::Recorded, &mut Occurrences::default()).unwrap()[0].command_id;
        assert_ne!(of(SOURCES), of(Uuid::nil()));
    }

    #[test]
    fn what_is_no_line_is_named() {
        for text in ["{", "[]", r#"{"kind":"gift"}"#, r#"{"kind":"stock","sku":"A","quantity":5,"colour":1}"#] {
            let problem = steps(text, SOURCES, &Orders::Recorded, &mut Occurrences::default()).unwrap_err();
            assert!(problem.starts_with("not a line of a history: "), "{problem}");
        }
    }
}
