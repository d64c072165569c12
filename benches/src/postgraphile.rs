//! S8: the pages of S7 against PostGraphile 5, which makes GraphQL of the same tables.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Options;
use crate::http::post;
use crate::pages::{COMPARED, Load, PAGES, PLACES, fill, places};
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};

/// Where it is installed, so that the next run finds it there.
const DIRECTORY: &str = "target/postgraphile";
/// What is put there.
const FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("../postgraphile/package.json")),
    ("server.mjs", include_str!("../postgraphile/server.mjs")),
];

/// The same pages in the words of PostGraphile.
const DOCUMENTS: [&str; 2] = [
    "query Page($after: Cursor) { orders: allOrders(first: 50, after: $after, orderBy: [PLACED_AT_DESC]) { nodes { id: orderId reference status placedAt country currency } } }",
    "query Lines($after: Cursor) { orders: allOrders(first: 20, after: $after, orderBy: [PLACED_AT_DESC]) { nodes { id: orderId reference lines: orderLinesByOrderId(orderBy: [LINE_NO_ASC]) { nodes { lineNo sku quantity } } } } }",
];

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Vec<Measured>> {
    if let Err(error) = install().await {
        writeln!(std::io::stdout().lock(), "S8 is skipped: PostGraphile cannot be installed here: {error:#}")?;
        return Ok(Vec::new());
    }
    let (url, pool) = postgres.database("s8").await?;
    projections::runtime::migrate(&pool).await?;
    fill(&pool, options.orders).await?;
    // It finds relations by foreign keys, and takes a comment for one.
    let schema: String =
        sqlx::query_scalar("select schema_name from control.generations where name = 'orders' and state = 'live'")
            .fetch_one(&pool)
            .await?;
    let relation = "do $$ begin execute (select format('comment on table %I.order_lines is %L', schema_name,
            '@foreignKey (order_id) references orders (order_id)')
        from control.generations where name = 'orders' and state = 'live'); end $$";
    sqlx::raw_sql(relation).execute(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "read"]).await?;
    let (mut theirs, their_address) = start(postgres, "s8", &schema).await?;
    let our_places = places(&address).await?.0;
    let their_cursors = cursors(&their_address).await?;
    let mut measured = Vec::new();
    for ((what, document, _), their_document) in PAGES.into_iter().zip(DOCUMENTS) {
        let body = |document: &str, cursor: &str| {
            let body = serde_json::json!({ "query": document, "variables": { "after": cursor } }).to_string();
            (body, "/graphql".to_owned())
        };
        let ours = Arc::new(our_places.iter().map(|place| body(document, &place.cursor)).collect::<Vec<_>>());
        let others = Arc::new(their_cursors.iter().map(|cursor| body(their_document, cursor)).collect::<Vec<_>>());
        let gate = compare(&address, &ours, &their_address, &others).await?;
        let pid = |child: &Child| child.id().context("a server has ended");
        let load = Load { postgres, pid: pid(&server)?, address: &address, requests: &ours, seconds: options.seconds };
        let their_load = Load { pid: pid(&theirs)?, address: &their_address, requests: &others, ..load };
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            let (our, their) = if round % 2 == 0 {
                let our = load.run(true).await?;
                (our, their_load.run(true).await?)
            } else {
                let their = their_load.run(true).await?;
                (load.run(true).await?, their)
            };
            rounds.push(Round { ours: our.0, baseline: their.0, our_cpu: our.1, baseline_cpu: their.1 });
        }
        measured.push(Measured {
            name: "S8",
            what,
            unit: "/s",
            better: Better::More,
            floor: Some(2.0),
            goal: Some(4.0),
            rounds,
            gate,
            notes: Vec::new(),
        });
    }
    server::stop(&mut server).await?;
    // It ends with its input.
    drop(theirs.stdin.take());
    theirs.wait().await?;
    Ok(measured)
}

/// Has npm fetch it, with the release of Node that it wants.
async fn install() -> anyhow::Result<()> {
    let directory = Path::new(DIRECTORY);
    std::fs::create_dir_all(directory)?;
    for (name, text) in FILES {
        std::fs::write(directory.join(name), text)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]).current_dir(directory);
    let status = npm.stdout(Stdio::null()).status().await.context("npm cannot be run")?;
    anyhow::ensure!(status.success(), "npm install ended with {status}");
    Ok(())
}

async fn start(postgres: &Postgres, database: &str, schema: &str) -> anyhow::Result<(Child, String)> {
    let (host, user) = postgres.host_and_user()?;
    let mut command = Command::new(Path::new(DIRECTORY).canonicalize()?.join("node_modules/.bin/node"));
    command.args(["server.mjs", &host, &user, database, schema]).current_dir(DIRECTORY);
    command.env("NODE_ENV", "production").env("GRAPHILE_ENV", "production").stdin(Stdio::piped());
    let (child, line) = server::first_line(command).await?;
    let address = line.strip_prefix("http://").with_context(|| format!("PostGraphile said {line:?}"))?;
    Ok((child, address.to_owned()))
}

/// Its own cursors of the places where pages begin.
async fn cursors(address: &str) -> anyhow::Result<Vec<String>> {
    let document = "query($after: Cursor) { orders: allOrders(first: 200, after: $after, orderBy: [PLACED_AT_DESC]) { edges { cursor } } }";
    let (mut stream, mut buffer) = (TcpStream::connect(address).await?, Vec::new());
    let mut cursors = Vec::<String>::new();
    while cursors.len() < PLACES {
        let body = serde_json::json!({ "query": document, "variables": { "after": cursors.last() } }).to_string();
        let at = post(&mut stream, &mut buffer, address, "/graphql", &body).await?;
        let answer: Value = serde_json::from_slice(&buffer[at..])?;
        let edges = answer["data"]["orders"]["edges"].as_array().with_context(|| format!("no orders in {answer}"))?;
        let all = edges.iter().filter_map(|edge| Some(edge["cursor"].as_str()?.to_owned()));
        cursors.extend(all);
    }
    Ok(cursors)
}

/// Whether both sides answer the same orders. What differs is how they write enums, times, large numbers and lists.
async fn compare(
    ours: &str,
    our_requests: &[(String, String)],
    theirs: &str,
    their_requests: &[(String, String)],
) -> anyhow::Result<Result<(), String>> {
    let (mut our_stream, mut their_stream) = (TcpStream::connect(ours).await?, TcpStream::connect(theirs).await?);
    let mut buffer = Vec::new();
    for ((our_body, _), (their_body, _)) in our_requests.iter().zip(their_requests).take(COMPARED) {
        let at = post(&mut our_stream, &mut buffer, ours, "/graphql", our_body).await?;
        let our = plain(&serde_json::from_slice::<Value>(&buffer[at..])?["data"]["orders"]["nodes"]);
        let at = post(&mut their_stream, &mut buffer, theirs, "/graphql", their_body).await?;
        let their = plain(&serde_json::from_slice::<Value>(&buffer[at..])?["data"]["orders"]["nodes"]);
        if our != their || our.as_array().is_none_or(Vec::is_empty) {
            return Ok(Err(format!("{our}\nis not\n{their}")));
        }
    }
    Ok(Ok(()))
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("nodes") => plain(&fields["nodes"]),
        Value::Object(fields) => {
            let plain = fields.iter().map(|(name, value)| {
                let text = value.as_str().unwrap_or_default();
                let value = match name.as_str() {
                    "status" => Value::from(text.to_lowercase()),
                    "placedAt" => Value::from(
                        chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).unwrap_or(-1),
                    ),
                    "quantity" => text.parse::<i64>().map_or(value.clone(), Value::from),
                    _ => plain(value),
                };
                (name.clone(), value)
            });
            plain.collect()
        }
        other => other.clone(),
    }
}
