//! What an operator sees of a shop: figures, traces, and log lines.

use std::collections::{HashMap, HashSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use access::{Scope, Scopes};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost_0_14::Message as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{Database, Server, client, status_and_json, token, until, until_so};

/// What is measured, by name and labels in the order in which they come.
async fn figures(server: &Server) -> HashMap<String, f64> {
    let response = server.get("/metrics").await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

#[tokio::test]
async fn a_shop_says_how_it_is() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    for (key, quantity, status) in [("a", 10, 201), ("b", 5, 200), ("b", 5, 200), ("b", 6, 422), ("c", -1, 400)] {
        let receive = server.command("/v1/stock/MUG-1/receive", &json!({ "quantity": quantity }));
        let answer = receive.header("Idempotency-Key", key).send().await.unwrap();
        assert_eq!(answer.status(), status, "{key} {quantity}");
    }
    let order = Uuid::now_v7();
    let reserve = json!({ "order": order, "quantity": 99 });
    server.done("/v1/stock/MUG-1/reserve", reserve).await;
    assert_eq!(server.command("/v1/stock/MUG-1/made-up", &json!({})).send().await.unwrap().status(), 404);
    assert_eq!(server.get("/v1/stock/MUG-1").await.status(), 200);
    assert_eq!(server.get("/nowhere").await.status(), 404);

    // The read models get there, and say so.
    until_so(async || figures(&server).await.get("projection_lag_events{read_model=\"orders\"}") == Some(&0.0)).await;
    let now = figures(&server).await;
    let command = |name: &str, outcome: &str| {
        let labels = format!("category=\"stock\",command=\"{name}\",outcome=\"{outcome}\"");
        now.get(&format!("commands_total{{{labels}}}")).copied().unwrap_or_default()
    };
    let receive = ["done", "key_reused", "invalid"].map(|outcome| command("receive", outcome));
    assert_eq!((receive, command("reserve", "done")), ([3.0, 1.0, 1.0], 1.0), "{now:#?}");
    let of_made_up = now.keys().any(|name| name.contains("made-up"));
    assert!(!of_made_up, "what somebody made up is no label");
    let requests = |route: &str, method: &str, status: u16| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        now.get(&format!("http_requests_total{{{labels}}}")).copied().unwrap_or_default()
    };
    assert_eq!(requests("/v1/{category}/{id}/{command}", "POST", 201), 1.0);
    assert_eq!(requests("/v1/{category}/{id}/{command}", "POST", 400), 1.0);
    assert_eq!(requests("/v1/{category}/{id}", "GET", 200), 1.0);
    assert_eq!(requests("none", "GET", 404), 1.0);
    for (name, least) in [
        ("command_duration_seconds_count{category=\"stock\",command=\"receive\"}", 5.0),
        ("log_append_seconds_count", 3.0),
        ("log_append_events_sum", 3.0),
        ("aggregate_cache_total{category=\"stock\",result=\"hit\"}", 1.0),
        ("projection_events_total{read_model=\"products\"}", 3.0),
        ("projection_led{read_model=\"products\"}", 1.0),
        ("process_manager_open{process=\"checkout\"}", 0.0),
        ("database_up", 1.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let found = now.get(name).copied();
        assert!(found.is_some_and(|found| found >= least), "{name} is {found:?}, and not {least} or more");
    }
    // What has not happened yet is counted as well, so that the first time is seen as one.
    for name in [
        "log_append_failures_total",
        "http_connections_turned_away_total",
        "process_manager_retries_total",
        "http_requests_turned_away_total{reason=\"overloaded\"}",
        "mailbox_waiting",
    ] {
        assert_eq!(now.get(name).copied(), Some(0.0), "{name}");
    }
    // A label of its own for the version; the value is 1.
    assert!(now.iter().any(|(name, one)| name.starts_with("storefold_build_info{version=") && *one == 1.0));
}

#[tokio::test]
async fn figures_are_for_who_may_see_them() {
    let database = Database::create().await;
    let mut server = Server::start(&database).await;
    let as_seen_by = async |server: &Server| status_and_json(server.get("/metrics").await).await;
    server.client = Client::new();
    assert_eq!(as_seen_by(&server).await.0, 401);
    server.client = client(&token("clerk", Scopes::ALL.without(Scope::OperationsRead), None));
    let (status, problem) = as_seen_by(&server).await;
    assert_eq!((status, &problem["scope"]), (403, &json!("operations:read")));
    // A customer's token is not for the shop's figures, whatever it says.
    server.client = client(&token("buyer", Scopes::ALL, Some(Uuid::now_v7())));
    assert_eq!(as_seen_by(&server).await.0, 403);
    server.client = client(&token("prometheus", Scopes::NONE.with(Scope::OperationsRead), None));
    assert_eq!(server.get("/metrics").await.status(), 200);
}

/// A collector of traces: what was sent to it, as OTLP over HTTP has it.
#[derive(Clone, Default)]
struct CollectorOfTraces(Arc<Mutex<Vec<Span>>>);

impl CollectorOfTraces {
    /// Serves a collector. Answers where.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn take(State(collector): State<Self>, body: Bytes) -> StatusCode {
        let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
        let scopes = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
        collector.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        StatusCode::OK
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_trace_goes_from_the_client_to_what_follows() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CLIENT: &str = "00f067aa0ba902b7";
    let (database, collector) = (Database::create().await, CollectorOfTraces::default());
    let settings = [("STOREFOLD_TRACES_ENDPOINT", &*collector.serve().await), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let server = Server::start_as(&database, &[], &settings.map(|(name, value)| (name, value))).await;
    server.done("/v1/product/MUG-1/list", json!({ "name": "Mug", "price": { "minor": 950, "currency": "GBP" } })).await;
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    let order = Uuid::now_v7();
    let lines = json!([{ "sku": "MUG-1", "quantity": 2 }]);
    let place = json!({ "country": "France", "currency": "GBP", "card": "tok_approved", "lines": lines });
    let place = server.command(&format!("/v1/order/{order}/place"), &place);
    let placed = place.header("traceparent", format!("00-{TRACE}-{CLIENT}-01")).send().await.unwrap();
    assert_eq!(placed.status(), 201);

    // The checkout goes on in the same trace, up to the confirmation, which is one of its commands.
    let of_trace = || {
        let spans = collector.spans().into_iter();
        spans
            .filter(|span| hex(&span.trace_id) == TRACE)
            .map(|span| (hex(&span.span_id), span))
            .collect::<HashMap<_, _>>()
    };
    let history = until(async || {
        let (_, history) = status_and_json(server.get(&format!("/v1/order/{order}/events")).await).await;
        history["events"].as_array()?.iter().any(|event| event["type"] == "OrderConfirmed").then_some(history)
    })
    .await;
    // What the metadata of the events name are spans of this trace, each another one.
    let traceparents = history["events"].as_array().unwrap().iter().map(|event| {
        let traceparent = event["metadata"]["traceparent"].as_str().unwrap_or_default().to_owned();
        let parts: Vec<&str> = traceparent.split('-').collect();
        assert_eq!(parts[1], TRACE, "{event}");
        parts[2].to_owned()
    });
    let named: HashSet<String> = traceparents.collect();
    assert!(named.len() >= 2 && !named.contains(CLIENT), "{named:?}");
    let projected = |spans: &[Span]| {
        let links = spans.iter().filter(|span| span.name == "project").flat_map(|span| &span.links);
        links.map(|link| hex(&link.span_id)).collect::<HashSet<_>>()
    };
    let spans = until(async || {
        let (spans, linked) = (of_trace(), projected(&collector.spans()));
        let is_whole = named.iter().all(|span| spans.contains_key(span) && linked.contains(span));
        is_whole.then_some(spans)
    })
    .await;
    let request = spans.values().find(|span| hex(&span.parent_span_id) == CLIENT).unwrap();
    assert_eq!(request.name, "POST /v1/{category}/{id}/{command}");
    assert!(named.contains(&hex(&request.span_id)), "the first event was decided in the request");
    let child = |of: &Span, name: &str| {
        let is_it = |span: &&Span| span.parent_span_id == of.span_id && span.name == name;
        spans.values().find(is_it).unwrap_or_else(|| panic!("{} has no child {name}: {spans:#?}", of.name)).clone()
    };
    child(&child(request, "command"), "append");
    child(request, "react");
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_log_line_says_to_what_it_belongs() {
    let (database, data_dir) = (Database::create().await, tempfile::tempdir().unwrap());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--log", "info,write_side=debug", "--log-format", "json"];
    let mut command = database.command(&arguments);
    command.arg("--data-dir").arg(data_dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let url = first.strip_prefix("Storefold listens on ").unwrap();
    let (trace, correlation) = ("0af7651916cd43dd8448eb211c80319c", Uuid::now_v7());
    let receive = client(&token("tests", Scopes::ALL, None)).post(format!("{url}/v1/stock/MUG-1/receive"));
    let receive = receive
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-00"))
        .header("Storefold-Correlation-Id", correlation.to_string());
    assert_eq!(receive.json(&json!({ "quantity": 1 })).send().await.unwrap().status(), 201);
    let mut logged = BufReader::new(child.stderr.take().unwrap()).lines();
    let line: Value = loop {
        let line = logged.next_line().await.unwrap().expect("no line says that a command was carried out");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "a command was carried out" {
            break line;
        }
    };
    assert_eq!(line["outcome"], "done");
    let spans = line["spans"].as_array().unwrap();
    assert_eq!(spans[0]["trace_id"], trace, "{line:#}");
    assert_eq!(spans[1]["correlation.id"], correlation.to_string());
    assert_eq!(spans[1]["command.name"], "receive");
    let history = client(&token("tests", Scopes::ALL, None)).get(format!("{url}/v1/stock/MUG-1/events"));
    let (_, history) = status_and_json(history.send().await.unwrap()).await;
    let metadata = &history["events"][0]["metadata"];
    assert_eq!(spans[1]["command.id"], metadata["commandId"]);
    // Nobody collects traces: the client's own is passed on as it is.
    assert_eq!(metadata["traceparent"], format!("00-{trace}-b7ad6b7169203331-00"));
    child.kill().await.unwrap();
}
