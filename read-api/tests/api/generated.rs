//! Documents that are made from the schema, with dice that fall the same way each time: some are valid, some nearly so, and
//! some are rubbish. Whatever is sent, an answer comes soon, and it says that the server is well.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use access::Role;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Shop, customer, send};
use crate::paging::large_shop;

/// How many documents are sent.
const DOCUMENTS: u64 = 20_000;
/// How many at a time.
const AT_ONCE: usize = 8;
/// No answer may take longer.
const LONGEST: Duration = Duration::from_secs(1);

#[tokio::test]
async fn no_document_harms() {
    let shop = large_shop().await;
    let schema = Schema::of(&shop).await;
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let ask = async |number: u64| {
        let mut dice = Dice(0x5701_ef01_d000_0000 ^ number);
        let document = schema.document(&mut dice);
        let start = Instant::now();
        let variables = schema.variables(&mut dice);
        // Now and then from somebody of whom nothing is known.
        let reply = match number % 8 {
            0 => shop.ask_as(None, &document, variables).await,
            1 => shop.ask_as(Some(&customer(1001, Role::Customer.scopes())), &document, variables).await,
            _ => send(shop.request(&document, variables)).await,
        };
        let took = start.elapsed();
        let status = reply.status.as_u16();
        assert!(
            matches!(status, 200 | 400 | 401 | 403 | 422),
            "document {number}: {status} {}\n{document}",
            reply.text
        );
        assert!(took < LONGEST, "document {number}: {took:?}\n{document}");
        let mut said = reply.codes();
        said.dedup();
        for code in &said {
            assert!(
                !["INTERNAL", "TIMEOUT", "none"].contains(&code.as_str()),
                "document {number}: {}\n{document}",
                reply.text
            );
        }
        if said.is_empty() { vec!["OK".to_owned()] } else { said }
    };
    let mut answers = futures::stream::iter(0..DOCUMENTS).map(ask).buffer_unordered(AT_ONCE);
    while let Some(said) = answers.next().await {
        for code in said {
            *codes.entry(code).or_default() += 1;
        }
    }
    // The dice reach all of it: what is answered, what is not valid, and what is no GraphQL.
    let at_least = |code: &str, least: usize| {
        let found = codes.get(code).copied().unwrap_or_default();
        assert!(found >= least, "{code}: {found} in {codes:?}");
    };
    at_least("OK", 3_200);
    at_least("UNAUTHENTICATED", 500);
    at_least("FORBIDDEN", 100);
    at_least("GRAPHQL_VALIDATION_FAILED", 2_000);
    at_least("GRAPHQL_PARSE_FAILED", 1_000);
    at_least("BAD_USER_INPUT", 50);
    at_least("BAD_CURSOR", 50);
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// The schema as introspection tells it, by the names of its types.
struct Schema(BTreeMap<String, Value>);

impl Schema {
    async fn of(shop: &Shop) -> Self {
        let query = "{ __schema { types { kind name enumValues { name }
            fields { name args { ...Input } type { ...Type } } inputFields { ...Input } } } }
            fragment Input on __InputValue { name defaultValue type { ...Type } }
            fragment Type on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
        let types = shop.data(query).await["__schema"]["types"].as_array().unwrap().clone();
        Self(types.into_iter().map(|kind| (kind["name"].as_str().unwrap().to_owned(), kind)).collect())
    }

    /// A document: mostly as the schema wants it, or with something wrong in it.
    fn document(&self, dice: &mut Dice) -> String {
        let mut text = String::new();
        if dice.once_in(3) {
            text.push_str("query Q($n: Int, $s: String, $x: UUID) ");
        }
        // How often what is asked for does not fit: never, now and then, often.
        let wrong = *dice.pick(&[usize::MAX, usize::MAX, usize::MAX, 40, 6]);
        self.selection("Query", 0, wrong, dice, &mut text);
        match dice.roll(8) {
            0 => mutilate(&text, dice),
            _ => text,
        }
    }

    fn variables(&self, dice: &mut Dice) -> Value {
        match dice.roll(4) {
            0 => json!({ "n": dice.roll(300), "s": "A", "x": "00000000-0000-0000-0000-000000000001" }),
            1 => json!({ "n": "seven", "s": 7, "unknown": [{}] }),
            _ => json!({}),
        }
    }

    fn selection(&self, of: &str, depth: usize, wrong: usize, dice: &mut Dice, text: &mut String) {
        text.push_str("{ ");
        let fields: Vec<Value> = self.0.get(of).and_then(|kind| kind["fields"].as_array()).cloned().unwrap_or_default();
        let most = if depth == 0 { 2 } else { 5 };
        for _ in 0..=dice.roll(most) {
            if fields.is_empty() || (wrong != usize::MAX && dice.once_in(wrong)) {
                text.push_str(dice.pick::<&str>(&[
                    "nothing ",
                    "... on Order { id } ",
                    "...F ",
                    "id: id { id } ",
                    "{ } ",
                    "__typename ",
                ]));
                continue;
            }
            let field = dice.pick(&fields);
            let (base, leaf) = self.base(&field["type"]);
            if !leaf && depth > 4 {
                text.push_str("__typename ");
                continue;
            }
            // Fields of one name with other arguments do not go together, so each has a name of its own.
            let _ = write!(text, "a{}: ", text.len());
            text.push_str(field["name"].as_str().unwrap());
            self.arguments(&field["args"], wrong, dice, text);
            if dice.once_in(12) {
                text.push_str(dice.pick::<&str>(&[" @include(if: true)", " @skip(if: false)", " @include(if: false)"]));
            }
            text.push(' ');
            if !leaf {
                self.selection(&base, depth + 1, wrong, dice, text);
            }
        }
        text.push_str("} ");
    }

    fn arguments(&self, arguments: &Value, wrong: usize, dice: &mut Dice, text: &mut String) {
        let mut given = Vec::new();
        for argument in arguments.as_array().unwrap() {
            let is_required = argument["type"]["kind"] == "NON_NULL" && argument["defaultValue"].is_null();
            let is_left_out = wrong != usize::MAX && dice.once_in(wrong);
            if (is_required && !is_left_out) || dice.once_in(3) {
                let value = self.value(&argument["type"], 0, wrong, dice);
                given.push(format!("{}: {value}", argument["name"].as_str().unwrap()));
            }
        }
        if !given.is_empty() {
            let _ = write!(text, "({})", given.join(", "));
        }
    }

    /// A value of a type, or what looks like one.
    fn value(&self, of: &Value, depth: usize, wrong: usize, dice: &mut Dice) -> String {
        if wrong != usize::MAX && dice.once_in(wrong) {
            let odd = [
                "null",
                "-1",
                "9223372036854775808",
                "1e999",
                "\"\\u0000\"",
                "\"\"",
                "[[]]",
                "{a: 1}",
                "$n",
                "$s",
                "NONE",
                "true",
            ];
            return (*dice.pick(&odd)).to_owned();
        }
        match of["kind"].as_str().unwrap() {
            "NON_NULL" => self.value(&of["ofType"], depth, wrong, dice),
            "LIST" => {
                let values: Vec<String> =
                    (0..dice.roll(3)).map(|_| self.value(&of["ofType"], depth + 1, wrong, dice)).collect();
                format!("[{}]", values.join(", "))
            }
            "ENUM" => {
                let values = self.0[of["name"].as_str().unwrap()]["enumValues"].as_array().unwrap();
                dice.pick(values)["name"].as_str().unwrap().to_owned()
            }
            "INPUT_OBJECT" if depth > 3 => "{}".to_owned(),
            "INPUT_OBJECT" => {
                let name = of["name"].as_str().unwrap();
                let fields = self.0[name]["inputFields"].as_array().unwrap();
                let one_of = name == "OrderMoment";
                let chosen = dice.roll(fields.len());
                let mut given = Vec::new();
                for (number, field) in fields.iter().enumerate() {
                    let is_given = match one_of {
                        true => number == chosen,
                        false => field["type"]["kind"] == "NON_NULL" || dice.once_in(3),
                    };
                    if is_given {
                        let value = self.value(&field["type"], depth + 1, wrong, dice);
                        given.push(format!("{}: {value}", field["name"].as_str().unwrap()));
                    }
                }
                format!("{{{}}}", given.join(", "))
            }
            _ => scalar(of["name"].as_str().unwrap(), dice),
        }
    }

    /// The named type behind lists, and whether it has no fields.
    fn base(&self, of: &Value) -> (String, bool) {
        let mut of = of;
        while of["name"].is_null() {
            of = &of["ofType"];
        }
        (
            of["name"].as_str().unwrap().to_owned(),
            !matches!(of["kind"].as_str(), Some("OBJECT" | "INTERFACE" | "UNION")),
        )
    }
}

fn scalar(name: &str, dice: &mut Dice) -> String {
    let values: &[&str] = match name {
        "UUID" => &["\"00000000-0000-0000-0000-000000000001\"", "\"00000000-0000-0000-0000-0000000003e9\""],
        "DateTime" => &[
            "\"2011-01-01T00:00:00Z\"",
            "\"0001-01-01T00:00:00Z\"",
            "\"9999-12-31T23:59:59.999999Z\"",
            "\"2011-01-01T02:00:00+01:00\"",
        ],
        "Date" => &["\"2011-01-01\"", "\"0001-01-01\"", "\"9999-12-31\""],
        "Sku" => &["\"SKU1\"", "\"SKU60\"", "\"A-b_.9\""],
        "Currency" => &["\"GBP\"", "\"EUR\"", "\"XAU\""],
        "Long" => &["0", "1", "-1", "9223372036854775807", "-9223372036854775808"],
        "Int" => &["0", "1", "2", "7", "20", "200", "201", "-1", "2147483647"],
        "Boolean" => &["true", "false"],
        "Float" => &["0.5"],
        "Position" => &["\"0/0\"", "\"1/1\"", "\"18446744073709551615/0\""],
        _ => &["\"\"", "\"lamp\"", "\"%_\\\\\"", "\"\\u00e9\"", "\"1\""],
    };
    (*dice.pick(values)).to_owned()
}

/// Breaks a document somewhere.
fn mutilate(text: &str, dice: &mut Dice) -> String {
    let at = dice.roll(text.len());
    let tokens =
        ["{", "}", "(", ")", "[", "\"", "\"\"\"", "$", "...", "@", "#", "\u{feff}", "query", "\u{1f600}", ":", "!"];
    match dice.roll(3) {
        0 => text[..at].to_owned(),
        1 => format!("{}{}{}", &text[..at], dice.pick(&tokens), &text[at..]),
        _ => text[at..].to_owned(),
    }
}
