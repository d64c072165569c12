//! S2: commands over HTTP, 64 connections, a new aggregate each; the load comes from the same cores.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_store::PostgresEventStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, append, baseline, cpu};

pub(crate) const CONNECTIONS: usize = 64;

/// An order that was made elsewhere.
pub(crate) const ORDER: &str = r#"{"reference":"536365","country":"United Kingdom","currency":"GBP","placed_at":"2010-12-01T08:26:00Z","lines":[{"sku":"85123A","quantity":6,"unit_price_minor":255}]}"#;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s2").await?;
    PostgresEventStore::migrate(&pool).await?;
    baseline::prepare(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    let pid = server.id().context("the server has ended")?;
    let mut rounds = Vec::new();
    let mut acknowledged = 0;
    for round in 0..options.rounds {
        let ours_first = round % 2 == 0;
        let mut ours = None;
        if ours_first {
            ours = Some(run(postgres, pid, &address, options.seconds).await?);
        }
        let theirs = baseline::run(postgres, "s2", options.seconds).await?;
        let (done, seconds, cpu) = match ours {
            Some(ours) => ours,
            None => run(postgres, pid, &address, options.seconds).await?,
        };
        acknowledged += done;
        let done = done as f64;
        let baseline = theirs.per_second;
        rounds.push(Round { ours: done / seconds, baseline, our_cpu: cpu / done, baseline_cpu: theirs.cpu });
    }
    server::stop(&mut server).await?;
    let gate = append::gate(&pool, acknowledged).await?;
    Ok(Measured {
        name: "S2",
        what: "HTTP command, 64 connections, new aggregate",
        unit: "/s",
        better: Better::More,
        floor: Some(0.8),
        goal: Some(1.5),
        rounds,
        gate,
        notes: Vec::new(),
    })
}

pub(crate) async fn run(
    postgres: &Postgres,
    server: u32,
    address: &str,
    seconds: u32,
) -> anyhow::Result<(u64, f64, f64)> {
    let all = || postgres.cpu() + cpu::of_tree(server) + cpu::of_this();
    let (before, start) = (all(), Instant::now());
    let until = start + Duration::from_secs(u64::from(seconds));
    let clients = (0..CONNECTIONS).map(|_| tokio::spawn(client(address.to_owned(), until)));
    let mut done = 0;
    for client in futures::future::join_all(clients).await {
        done += client??;
    }
    Ok((done, start.elapsed().as_secs_f64(), (all() - before) as f64))
}

/// One connection that records one order after another. Answers how many were acknowledged.
async fn client(address: String, until: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4_096);
    let mut done = 0;
    while Instant::now() < until {
        post(&mut stream, &mut buffer, &address, &format!("/v1/order/{}/record", Uuid::new_v4()), ORDER).await?;
        done += 1;
    }
    Ok(done)
}

/// Sends a command, and reads the answer. Returns where its body begins in the buffer.
pub(crate) async fn post(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    address: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<usize> {
    exchange(stream, buffer, &command(address, path, body)).await
}

/// The request that sends a command.
pub(crate) fn command(address: &str, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        *server::TOKEN,
        body.len()
    )
}

/// Sends a request, and reads the answer. Returns where its body begins in the buffer.
pub(crate) async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &str) -> anyhow::Result<usize> {
    let (status, body) = ask(stream, buffer, request).await?;
    anyhow::ensure!(status == 200 || status == 201, "the server said {}", String::from_utf8_lossy(buffer));
    Ok(body)
}

/// Sends a request, and reads the answer. Returns its status, and where its body begins in the buffer.
pub(crate) async fn ask(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &str) -> anyhow::Result<(u16, usize)> {
    stream.write_all(request.as_bytes()).await?;
    buffer.clear();
    loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the server hung up");
        let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).context("the answer has no status")?;
        let length = text
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let whole = head + 4 + length.context("the answer has no length")?;
        while buffer.len() < whole {
            anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the server hung up in an answer");
        }
        return Ok((status, head + 4));
    }
}
