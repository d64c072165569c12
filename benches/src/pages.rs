//! S7: pages of a million orders over GraphQL, against the same bytes from axum and sqlx by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::http::{exchange, post};
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, cpu};

/// How many clients ask at the same time.
const CLIENTS: usize = 32;
/// From how many places pages begin.
pub(crate) const PLACES: usize = 2_000;
/// How many of the pages are compared byte by byte.
pub(crate) const COMPARED: usize = 50;

/// The documents, and the paths under which the baseline has the same.
pub(crate) const PAGES: [(&str, &str, &str); 2] = [
    (
        "50 orders of a million, 6 fields, over GraphQL",
        "query Page($after: String) { orders(first: 50, after: $after) { nodes { id reference status placedAt country currency } } }",
        "/orders",
    ),
    (
        "20 orders with their lines over GraphQL",
        "query Lines($after: String) { orders(first: 20, after: $after) { nodes { id reference lines { lineNo sku quantity } } } }",
        "/orders-with-lines",
    ),
];

/// A page begins after one of these.
pub(crate) struct Place {
    /// As the baseline is told.
    query: String,
    /// As GraphQL is told.
    pub(crate) cursor: String,
}

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Vec<Measured>> {
    let (url, pool) = postgres.database("s7").await?;
    projections::runtime::migrate(&pool).await?;
    fill(&pool, options.orders).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "read"]).await?;
    let pid = server.id().context("the server has ended")?;
    let (places, tail) = places(&address).await?;
    let by_hand = ByHand::start(url, tail)?;
    let mut measured = Vec::new();
    for (what, document, path) in PAGES {
        let requests = |place: &Place| {
            let body = serde_json::json!({ "query": document, "variables": { "after": place.cursor } }).to_string();
            (body, format!("{path}?{}", place.query))
        };
        let requests: Arc<Vec<_>> = Arc::new(places.iter().map(requests).collect());
        let gate = compare(&address, &by_hand.address, &requests[..COMPARED]).await?;
        let ours = Load { postgres, pid, address: &address, requests: &requests, seconds: options.seconds };
        let theirs = Load { pid: std::process::id(), address: &by_hand.address, ..ours };
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            let (our, their) = if round % 2 == 0 {
                let our = ours.run(true).await?;
                (our, theirs.run(false).await?)
            } else {
                let their = theirs.run(false).await?;
                (ours.run(true).await?, their)
            };
            rounds.push(Round { ours: our.0, baseline: their.0, our_cpu: our.1, baseline_cpu: their.1 });
        }
        measured.push(Measured {
            name: "S7",
            what,
            unit: "/s",
            better: Better::More,
            floor: Some(0.5),
            goal: Some(0.95),
            rounds,
            gate,
            notes: Vec::new(),
        });
    }
    server::stop(&mut server).await?;
    by_hand.stop();
    Ok(measured)
}

/// Orders of three lines each, through the views, for nobody else writes these tables.
pub(crate) async fn fill(pool: &PgPool, count: i64) -> anyhow::Result<()> {
    let orders = "insert into read.orders (order_id, reference, status, placed_at, country, currency, total_minor,
                line_count, units, changed_at, revision, timeline_entries)
        select md5('order ' || n)::uuid, n::text, (array['placed', 'confirmed', 'completed'])[1 + n % 3],
               timestamptz '2010-12-01 08:26Z' + n * interval '37 seconds', 'United Kingdom', 'GBP', 100 + n % 10000,
               3, 6, timestamptz '2010-12-01 08:26Z' + n * interval '37 seconds', 1, 0
          from generate_series(1, $1) as n";
    sqlx::query(orders).bind(count).execute(pool).await?;
    let lines = "insert into read.order_lines (order_id, line_no, sku, quantity, unit_price_minor)
        select md5('order ' || n)::uuid, line_no, 'SKU-' || (n * 7 + line_no * 131) % 4000, line_no, 100
          from generate_series(1, $1) as n cross join generate_series(1, 3) as line_no";
    sqlx::query(lines).bind(count).execute(pool).await?;
    sqlx::raw_sql("analyze").execute(pool).await?;
    Ok(())
}

/// Where pages begin, and what the answers end with.
pub(crate) async fn places(address: &str) -> anyhow::Result<(Vec<Place>, String)> {
    let document =
        "query($after: String) { orders(first: 200, after: $after) { edges { cursor node { id placedAt } } } }";
    let (mut stream, mut buffer) = (TcpStream::connect(address).await?, Vec::new());
    let (mut places, mut tail) = (Vec::<Place>::new(), String::new());
    while places.len() < PLACES {
        let after = places.last().map(|place| &place.cursor);
        let body = serde_json::json!({ "query": document, "variables": { "after": after } }).to_string();
        let at = post(&mut stream, &mut buffer, address, "/graphql", &body).await?;
        let text = std::str::from_utf8(&buffer[at..])?;
        tail = text.rsplit_once("]}}").context("an answer without an end")?.1.to_owned();
        let answer: serde_json::Value = serde_json::from_str(text)?;
        let edges = answer["data"]["orders"]["edges"].as_array().with_context(|| format!("no orders in {answer}"))?;
        for edge in edges {
            let (cursor, node) = (edge["cursor"].as_str().context("no cursor")?, &edge["node"]);
            let (id, at) = (node["id"].as_str().context("no id")?, node["placedAt"].as_str().context("no time")?);
            places.push(Place { query: format!("at={at}&id={id}"), cursor: cursor.to_owned() });
        }
    }
    Ok((places, tail))
}

/// Whether both sides answer the same bytes.
async fn compare(ours: &str, theirs: &str, requests: &[(String, String)]) -> anyhow::Result<Result<(), String>> {
    let (mut our_stream, mut their_stream) = (TcpStream::connect(ours).await?, TcpStream::connect(theirs).await?);
    let (mut our_buffer, mut their_buffer) = (Vec::new(), Vec::new());
    for (body, path) in requests {
        let our = post(&mut our_stream, &mut our_buffer, ours, "/graphql", body).await?;
        let their = fetch(&mut their_stream, &mut their_buffer, theirs, path).await?;
        if our_buffer[our..] != their_buffer[their..] {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(600).collect::<String>();
            return Ok(Err(format!("{}\nis not\n{}", text(&our_buffer[our..]), text(&their_buffer[their..]))));
        }
    }
    Ok(Ok(()))
}

async fn fetch(stream: &mut TcpStream, buffer: &mut Vec<u8>, address: &str, path: &str) -> anyhow::Result<usize> {
    exchange(stream, buffer, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await
}

/// What asks one side.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) postgres: &'a Postgres,
    /// The process that answers.
    pub(crate) pid: u32,
    pub(crate) address: &'a str,
    /// Bodies for GraphQL, and paths for the baseline.
    pub(crate) requests: &'a Arc<Vec<(String, String)>>,
    pub(crate) seconds: u32,
}

impl Load<'_> {
    /// How many answers there were in a second, and what one took of the processors, in microseconds.
    pub(crate) async fn run(self, over_graphql: bool) -> anyhow::Result<(f64, f64)> {
        let this = std::process::id();
        let all = || self.postgres.cpu() + cpu::of_this() + if self.pid == this { 0 } else { cpu::of_tree(self.pid) };
        let (before, start) = (all(), Instant::now());
        let until = start + Duration::from_secs(u64::from(self.seconds));
        let clients = (0..CLIENTS).map(|client| {
            let (address, requests) = (self.address.to_owned(), self.requests.clone());
            tokio::spawn(async move {
                let (mut stream, mut buffer) = (TcpStream::connect(&address).await?, Vec::new());
                stream.set_nodelay(true)?;
                let (mut place, mut done) = (client * 61, 0_u64);
                while Instant::now() < until {
                    let (body, path) = &requests[place % requests.len()];
                    if over_graphql {
                        post(&mut stream, &mut buffer, &address, "/graphql", body).await?;
                    } else {
                        fetch(&mut stream, &mut buffer, &address, path).await?;
                    }
                    (place, done) = (place + 1, done + 1);
                }
                anyhow::Ok(done)
            })
        });
        let mut done = 0;
        for client in futures::future::join_all(clients).await {
            done += client??;
        }
        Ok((done as f64 / start.elapsed().as_secs_f64(), (all() - before) as f64 / done as f64))
    }
}

/// The baseline: what somebody would write who needs these two pages and nothing else.
struct ByHand {
    runtime: Runtime,
    address: String,
}

impl ByHand {
    fn start(url: PgConnectOptions, tail: String) -> anyhow::Result<Self> {
        // As many threads as the server has, besides those of the load.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (told, address) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let serve = async {
                let pool =
                    PgPoolOptions::new().max_connections(16).test_before_acquire(false).connect_with(url).await?;
                let router = Router::new()
                    .route("/orders", get(orders))
                    .route("/orders-with-lines", get(orders_with_lines))
                    .with_state(Arc::new(Shop { pool, tail }));
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                told.send(listener.local_addr()?.to_string())?;
                axum::serve(listener, router).await?;
                anyhow::Ok(())
            };
            serve.await
        });
        Ok(Self { address: address.recv().context("the baseline did not start")?, runtime })
    }

    fn stop(self) {
        self.runtime.shutdown_background();
    }
}

struct Shop {
    pool: PgPool,
    tail: String,
}

impl Shop {
    /// An answer as GraphQL would have written it.
    fn answer<T: Serialize>(&self, nodes: &[T]) -> Result<Response, Failed> {
        let mut body = b"{\"data\":{\"orders\":{\"nodes\":".to_vec();
        serde_json::to_writer(&mut body, nodes).map_err(anyhow::Error::from)?;
        body.extend_from_slice(b"}}");
        body.extend_from_slice(self.tail.as_bytes());
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}

struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}

#[derive(Deserialize)]
struct After {
    at: DateTime<Utc>,
    id: Uuid,
}

fn time<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn in_capitals<S: serde::Serializer>(name: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name.to_uppercase())
}

#[derive(FromRow, Serialize)]
struct Order {
    #[serde(rename = "id")]
    order_id: Uuid,
    reference: Option<String>,
    #[serde(serialize_with = "in_capitals")]
    status: String,
    #[serde(rename = "placedAt", serialize_with = "time")]
    placed_at: DateTime<Utc>,
    country: String,
    currency: String,
}

async fn orders(State(shop): State<Arc<Shop>>, Query(after): Query<After>) -> Result<Response, Failed> {
    let sql = "select order_id, reference, status, placed_at, country, currency from read.orders
        where (placed_at, order_id) < ($1, $2) order by placed_at desc, order_id desc limit 50";
    let orders: Vec<Order> = sqlx::query_as(sql).bind(after.at).bind(after.id).fetch_all(&shop.pool).await?;
    shop.answer(&orders)
}

#[derive(Serialize)]
struct OrderWithLines {
    id: Uuid,
    reference: Option<String>,
    lines: Vec<Line>,
}

#[derive(FromRow, Serialize)]
struct Line {
    #[serde(skip)]
    order_id: Uuid,
    #[serde(rename = "lineNo")]
    line_no: i32,
    sku: String,
    quantity: i64,
}

async fn orders_with_lines(State(shop): State<Arc<Shop>>, Query(after): Query<After>) -> Result<Response, Failed> {
    let sql = "select order_id, reference from read.orders
        where (placed_at, order_id) < ($1, $2) order by placed_at desc, order_id desc limit 20";
    let found: Vec<(Uuid, Option<String>)> =
        sqlx::query_as(sql).bind(after.at).bind(after.id).fetch_all(&shop.pool).await?;
    let ids: Vec<Uuid> = found.iter().map(|(id, _)| *id).collect();
    let order = |(id, reference)| OrderWithLines { id, reference, lines: Vec::new() };
    let mut orders: Vec<OrderWithLines> = found.into_iter().map(order).collect();
    let places: std::collections::HashMap<Uuid, usize> = ids.iter().copied().zip(0..).collect();
    let sql = "select order_id, line_no, sku, quantity from read.order_lines where order_id = any($1) order by order_id, line_no";
    let lines: Vec<Line> = sqlx::query_as(sql).bind(&ids).fetch_all(&shop.pool).await?;
    for line in lines {
        if let Some(&place) = places.get(&line.order_id) {
            orders[place].lines.push(line);
        }
    }
    shop.answer(&orders)
}
