//! The steps of the guide over HTTP, against what it says comes back.

use std::sync::Arc;

use access::Scope;
use event_store::MemoryEventStore;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use write_side::endpoint::plain;
use write_side::http::permissions::{Customers, Operation, Permission, may};
use write_side::{Executor, Registry, http};

use super::guide::text;
use super::vouchers::Voucher;
use crate::docs::{Step, steps};

/// Where the guide's server listens.
const GUIDES_SERVER: &str = "http://localhost:8080";
/// Which paths there are, as the guide asks for them.
const PATHS: &str = r#".paths | keys[] | select(startswith("/v1/voucher"))"#;

use Operation::{Command as C, Events, State};

const PERMISSIONS: &[Permission] = &[
    may("voucher", &[State, Events], Scope::PaymentsRead, Customers::None),
    may("voucher", &[C("issue"), C("redeem"), C("void")], Scope::PaymentsOperate, Customers::None),
];

/// A call of curl, as far as the guide uses it.
#[derive(Debug, Default, PartialEq)]
struct Call {
    url: String,
    body: Option<String>,
    headers: Vec<(String, String)>,
    /// Whether the head of the answer is printed too.
    head: bool,
    /// The filter of jq behind the pipe.
    filter: Option<String>,
}

fn call(command: &str, voucher: &str) -> Call {
    let mut words = words(&command.replace("$V", voucher)).into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"));
    let mut call = Call::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" => {}
            "-si" => call.head = true,
            "--json" => call.body = words.next(),
            "-H" => {
                let header = words.next().unwrap();
                let (name, value) = header.split_once(": ").unwrap();
                call.headers.push((name.to_owned(), value.to_owned()));
            }
            "|" => {
                assert_eq!(words.next().as_deref(), Some("jq"));
                call.filter = words.next();
            }
            url => call.url = url.to_owned(),
        }
    }
    call
}

/// The words of a line at the shell. A quote of either kind ends where the next of its kind stands.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (character, quote) {
            (_, Some(open)) if character == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// What came back, in the form of what curl prints.
async fn answer(client: &Client, server: &str, call: &Call) -> String {
    let url = call.url.replace(GUIDES_SERVER, server);
    let mut request = match &call.body {
        Some(body) => client.post(url).header("content-type", "application/json").body(body.clone()),
        None => client.get(url),
    };
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let response = request.send().await.unwrap();
    let mut printed = String::new();
    if call.head {
        printed.push_str(&format!("HTTP/1.1 {}\n", response.status()));
        for (name, value) in response.headers() {
            printed.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        printed.push('\n');
    }
    printed.push_str(&response.text().await.unwrap());
    printed
}

/// What the guide has of the answer, without what is another every time: positions and times.
fn told(printed: &str, call: &Call) -> Value {
    comparable(printed, call, |body| match call.filter.as_deref() {
        Some(PATHS) => body.lines().map(json).collect(),
        _ => json(body),
    })
}

/// The same of what came, with what jq would make of it.
fn came(printed: &str, call: &Call) -> Value {
    comparable(printed, call, |body| match call.filter.as_deref() {
        None => json(body),
        Some(PATHS) => {
            let document = json(body);
            let paths = document["paths"].as_object().unwrap().keys();
            paths.filter(|path| path.starts_with("/v1/voucher")).cloned().collect()
        }
        Some(fields) => {
            let names = fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}'));
            let names = names.unwrap_or_else(|| panic!("this test knows no filter {fields}")).split(", ");
            let document = json(body);
            names.map(|name| (name.to_owned(), document[name].clone())).collect()
        }
    })
}

fn comparable(printed: &str, call: &Call, body_of: impl FnOnce(&str) -> Value) -> Value {
    let (head, body) = if call.head { printed.split_once("\n\n").unwrap() } else { ("", printed) };
    let stable = |line: &str| {
        let varying = ["date: ", "storefold-position: ", "content-length: "];
        varying.into_iter().find(|name| line.starts_with(name)).unwrap_or(line).to_owned()
    };
    let head: Vec<String> = head.lines().map(stable).collect();
    let mut body = body_of(body);
    mask(&mut body);
    json!({ "head": head, "body": body })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if ["position", "recorded_at", "occurredAt"].contains(&name.as_str()) {
                    assert!(value.is_string());
                    *value = "varies".into();
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}

/// Takes the guide's steps, and answers where something else comes back.
async fn surprises(guide: &str) -> (usize, Vec<String>) {
    let executor = Executor::new(Arc::new(MemoryEventStore::new()));
    let router = http::router(executor, Registry::new([plain::<Voucher>()], PERMISSIONS), http::BODY_LIMIT);
    let router = access::guard(router, &access::Gate::open());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new();
    let (mut voucher, mut taken, mut surprises) = (String::new(), 0, Vec::new());
    for Step { command, printed } in steps(guide) {
        if let Some(url) = command.strip_prefix("V=") {
            voucher = url.to_owned();
        }
        if !command.starts_with("curl ") {
            continue;
        }
        taken += 1;
        let call = call(&command, &voucher);
        let (told, came) = (told(&printed, &call), came(&answer(&client, &server, &call).await, &call));
        if told != came {
            surprises.push(format!("$ {command}\nthe guide says\n{told:#}\nand what came is\n{came:#}"));
        }
    }
    serving.abort();
    (taken, surprises)
}

#[tokio::test]
async fn what_the_guide_sends_comes_back_as_it_says() {
    let (taken, surprises) = surprises(&text()).await;
    assert!(taken >= 10, "the guide has {taken} steps");
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[tokio::test]
async fn the_check_can_fail() {
    for (from, to) in [
        ("HTTP/1.1 201 Created", "HTTP/1.1 200 OK"),
        ("etag: \"0\"", "etag: \"1\""),
        ("25.00 GBP were asked for", "24.00 GBP were asked for"),
        ("\"/v1/voucher/{id}/void\"", "\"/v1/voucher/{id}/avoid\""),
        ("\"commandHash\": \"", "\"commandHash\": \"0"),
        ("$ curl -s \"$V?at=0\"", "$ curl -s \"$V?at=1\""),
    ] {
        assert!(text().contains(from), "{from:?} is not in the guide");
        let (_, surprises) = surprises(&text().replacen(from, to, 1)).await;
        assert_eq!(surprises.len(), 1, "{from:?}: {}", surprises.join("\n"));
    }
}

#[test]
fn a_line_is_read_as_the_shell_does() {
    let line = r#"curl -s "$V?at=0" -H 'If-Match: "0"' --json '{"a": "b c"}' | jq"#;
    let expected = Call {
        url: "http://x/1?at=0".to_owned(),
        body: Some(r#"{"a": "b c"}"#.to_owned()),
        headers: vec![("If-Match".to_owned(), "\"0\"".to_owned())],
        ..Call::default()
    };
    assert_eq!(call(line, "http://x/1"), expected);
}
