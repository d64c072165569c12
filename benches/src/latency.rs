//! S12: how long a command takes, at half of what the shop sustains; against the least that a durable answer over HTTP can take:
//! a bare axum handler whose request is written to a file and synced, with those that came meanwhile.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post as route;
use event_store::PostgresEventStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::http::{CONNECTIONS, ORDER, post, run};
use crate::lag::{WARM_UP, count, p99, paced};
use crate::report::{self, Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, append, cpu};

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("s12").await?;
    PostgresEventStore::migrate(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    let pid = server.id().context("the server has ended")?;
    // One run alone, the first after a rest above all, is faster or slower than what goes on.
    let (mut peaks, mut acknowledged) = (Vec::new(), 0);
    for _ in 0..options.rounds {
        let (done, took, _) = run(postgres, pid, &address, options.seconds).await?;
        acknowledged += done;
        peaks.push(done as f64 / took);
    }
    let rate = report::median(peaks) / 2.0;
    let (wanted, warm_up) = (count(rate, options.seconds) as u64, count(rate, WARM_UP) as u64);
    let (bare, written) = bare(postgres.data_dir()).await?;
    let (ours, theirs) = (Clients::open(&address).await?, Clients::open(&bare).await?);
    let all = || (postgres.cpu() + cpu::of_tree(pid) + cpu::of_this()) as f64;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let (mut times, mut spent) = ([0.0; 2], [0.0; 2]);
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            server::settle().await?;
            let clients = [&ours, &theirs][side];
            clients.times(rate, WARM_UP).await?;
            let before = all();
            times[side] = p99(clients.times(rate, options.seconds).await?);
            spent[side] = (all() - before) / wanted as f64;
        }
        acknowledged += warm_up + wanted;
        rounds.push(Round { ours: times[0], baseline: times[1], our_cpu: spent[0], baseline_cpu: spent[1] });
    }
    server::stop(&mut server).await?;
    let mut gate = append::gate(&pool, acknowledged).await?;
    let (lines, sent) = (written.lines()?, u64::from(options.rounds) * (warm_up + wanted));
    if lines != sent {
        gate = Err(format!("the baseline answered {sent} and wrote {lines}"));
    }
    Ok(Measured {
        name: "S12",
        what: "HTTP command to a new aggregate, p99, half load",
        unit: "µs",
        better: Better::Less,
        floor: Some(2.5),
        goal: Some(1.5),
        rounds,
        gate,
        notes: vec![format!("S12: half load is {rate:.0} commands a second here")],
    })
}

/// A connection, and room for what comes over it.
type Connection = (TcpStream, Vec<u8>);

/// Connections to one of the two.
#[derive(Clone)]
struct Clients {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Clients {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            idle.push((stream, Vec::with_capacity(4_096)));
        }
        let (idle, turns) = (Arc::new(Mutex::new(idle)), Arc::new(Semaphore::new(CONNECTIONS)));
        Ok(Self { address: address.into(), idle, turns })
    }

    /// Sends commands at a rate. How long each took counts from when it was due, so that one that waits for a connection is
    /// not told shorter than it was.
    async fn times(&self, rate: f64, seconds: u32) -> anyhow::Result<Vec<Duration>> {
        // It is written to before the clock runs: a client that waits for memory would be told as a server that is slow.
        let mut times = vec![Duration::MAX; count(rate, seconds)];
        times.clear();
        let times = Arc::new(Mutex::new(times));
        let work = || {
            let (clients, times, due) = (self.clone(), times.clone(), Instant::now());
            async move {
                let _turn = clients.turns.acquire().await?;
                let connection = clients.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let (mut stream, mut buffer) = connection.context("a connection was lost")?;
                let path = format!("/v1/order/{}/record", Uuid::new_v4());
                post(&mut stream, &mut buffer, &clients.address, &path, ORDER).await?;
                times.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
                clients.idle.lock().unwrap_or_else(PoisonError::into_inner).push((stream, buffer));
                Ok(())
            }
        };
        paced(rate, seconds, work).await?;
        let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(times)
    }
}

/// What the baseline has written.
struct Written(tempfile::NamedTempFile);

impl Written {
    fn lines(&self) -> anyhow::Result<u64> {
        let bytes = std::fs::read(self.0.path())?;
        Ok(bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
    }
}

/// A request that is to be written, and who waits for it.
type Job = (Bytes, oneshot::Sender<()>);

/// Starts the baseline on a runtime of its own, with its file where Postgres has its files. Answers where it listens.
async fn bare(directory: &std::path::Path) -> anyhow::Result<(String, Written)> {
    let written = Written(tempfile::NamedTempFile::new_in(directory)?);
    let file = written.0.reopen()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    let (queue, jobs) = mpsc::unbounded_channel();
    std::thread::spawn(move || write(file, jobs));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let router = Router::new().route("/v1/order/{id}/record", route(append)).with_state(queue);
            let listener = axum::serve::ListenerExt::tap_io(TcpListener::from_std(listener)?, |stream| {
                // Without it an answer would wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
            });
            axum::serve(listener, router).await
        })
    });
    Ok((address, written))
}

async fn append(State(queue): State<mpsc::UnboundedSender<Job>>, body: Bytes) -> StatusCode {
    let (reply, answer) = oneshot::channel();
    let is_written = queue.send((body, reply)).is_ok() && answer.await.is_ok();
    if is_written { StatusCode::CREATED } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Writes what has come as one, and syncs once.
fn write(mut file: std::fs::File, mut jobs: mpsc::UnboundedReceiver<Job>) -> std::io::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    while jobs.blocking_recv_many(&mut batch, 4_096) > 0 {
        bytes.clear();
        for (body, _) in &batch {
            bytes.extend_from_slice(body);
            bytes.push(b'\n');
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        for (_, reply) in batch.drain(..) {
            // Who hung up does not need the answer.
            let _ = reply.send(());
        }
    }
    Ok(())
}
