//! G1: how long after a change was answered everybody knows who follows it, with 1,000 who follow all orders and 100 changes a
//! second; against how long a plain commit takes at the same rate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::http::{ORDER, post};
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, baseline, cpu, lag};

/// How many follow all orders: as many as one process lets in.
const CLIENTS: usize = 1_000;
/// How many orders are recorded a second.
const RATE: f64 = 100.0;
/// How long it may take until the last one is told.
const PATIENCE: Duration = Duration::from_secs(60);
const FOLLOW: &str =
    r#"{"query":"subscription { ordersChanged { kind left orders { id status total { amount } } } }"}"#;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("g1").await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write,project,read"]).await?;
    baseline::prepare(&pool).await?;
    let pid = server.id().context("the server has ended")?;
    let alone = cpu::memory(pid, "VmRSS");
    let (mut clients, mut followers) = (Vec::new(), JoinSet::new());
    for _ in 0..CLIENTS {
        let client = Arc::new(Client::default());
        followers.spawn(client.clone().follow(connect(&address).await?));
        clients.push(client);
    }
    // Whoever has not been told anything yet may be told of a change as of what was there.
    wait_until(|| clients.iter().all(|client| lock(&client.0).messages > 0))
        .await
        .context("one is not told anything")?;
    let with_clients = cpu::memory(pid, "VmRSS");
    let seconds = f64::from(options.seconds);
    let (mut rounds, mut notes, mut gate) = (Vec::new(), Vec::new(), Ok(()));
    for round in 0..options.rounds {
        let ours_first = round % 2 == 0;
        let mut ours = None;
        if ours_first {
            ours = Some(changes(postgres, pid, &address, &clients, options.seconds).await?);
        }
        let theirs = lag::commits(postgres, &pool, RATE, options.seconds).await?;
        let ours = match ours {
            Some(ours) => ours,
            None => changes(postgres, pid, &address, &clients, options.seconds).await?,
        };
        let mut took = ours.took;
        took.sort_unstable();
        let [half, last] = [took.len() / 2, took.len().saturating_sub(1)].map(|place| took.get(place).copied());
        notes.push(format!(
            "G1 round {}: {} deliveries in {} messages; half within {:.1?}, the last one within {:.1?}",
            round + 1,
            took.len(),
            ours.messages,
            half.unwrap_or_default(),
            last.unwrap_or_default(),
        ));
        if let Some(lost) = ours.lost {
            gate = Err(lost);
        }
        rounds.push(Round {
            ours: lag::p99(took),
            baseline: lag::p99(theirs.0),
            our_cpu: ours.cpu / (RATE * seconds),
            baseline_cpu: theirs.1 / (RATE * seconds),
        });
    }
    notes.push(format!(
        "G1: the server has {alone} MiB without clients, {with_clients} MiB with {CLIENTS}, and {} MiB in the end",
        cpu::memory(pid, "VmRSS")
    ));
    followers.abort_all();
    drop(followers);
    server::stop(&mut server).await?;
    Ok(Measured {
        name: "G1",
        what: "durable command to delivery, p99, 1,000 clients, 100 changes/s",
        unit: "µs",
        better: Better::Less,
        floor: None,
        goal: None,
        rounds,
        gate,
        notes,
    })
}

/// One who follows all orders, over a stream of server-sent events.
#[derive(Default)]
struct Client(Mutex<Told>);

#[derive(Default)]
struct Told {
    messages: u64,
    /// When it was first told of each order.
    orders: HashMap<Uuid, Instant>,
    /// Whether it was told that it missed something.
    missed: bool,
}

impl Client {
    async fn follow(self: Arc<Self>, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "the server hung up");
            let now = Instant::now();
            // An event is one chunk of the body, and its JSON one line.
            while let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\n\n") {
                self.take(std::str::from_utf8(&buffer[..end])?, now);
                buffer.drain(..end + 2);
            }
        }
    }

    fn take(&self, event: &str, now: Instant) {
        let Some((_, data)) = event.split_once("\ndata: ") else { return };
        let mut told = lock(&self.0);
        told.messages += 1;
        told.missed |= data.contains("\"MISSED\"");
        for (place, name) in data.match_indices("\"id\":\"") {
            let id = data.get(place + name.len()..).and_then(|rest| rest.get(..36)?.parse().ok());
            if let Some(id) = id {
                told.orders.entry(id).or_insert(now);
            }
        }
    }
}

/// Begins to follow.
async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "POST /graphql HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{FOLLOW}",
        *server::TOKEN,
        FOLLOW.len()
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// What came of a round.
struct Came {
    /// How long after its answer each order was told to each client.
    took: Vec<Duration>,
    messages: u64,
    cpu: f64,
    /// What was not told, if anything.
    lost: Option<String>,
}

/// Records orders at a steady rate, and waits until everybody knows all of them.
async fn changes(
    postgres: &Postgres,
    pid: u32,
    address: &str,
    clients: &[Arc<Client>],
    seconds: u32,
) -> anyhow::Result<Came> {
    for client in clients {
        *lock(&client.0) = Told::default();
    }
    let all = || (postgres.cpu() + cpu::of_tree(pid) + cpu::of_this()) as f64;
    let before = all();
    let answered = Arc::new(Mutex::new(HashMap::new()));
    let idle = Arc::new(Mutex::new(Vec::new()));
    let record = || {
        let (answered, idle, address) = (answered.clone(), idle.clone(), address.to_owned());
        async move {
            let connection = lock(&idle).pop();
            let (mut stream, mut buffer) = match connection {
                Some(connection) => connection,
                None => {
                    let stream = TcpStream::connect(&address).await?;
                    stream.set_nodelay(true)?;
                    (stream, Vec::with_capacity(4_096))
                }
            };
            let id = Uuid::now_v7();
            post(&mut stream, &mut buffer, &address, &format!("/v1/order/{id}/record"), ORDER).await?;
            lock(&answered).insert(id, Instant::now());
            lock(&idle).push((stream, buffer));
            Ok(())
        }
    };
    lag::paced(RATE, seconds, record).await?;
    let answered = std::mem::take(&mut *lock(&answered));
    let knows_all = |client: &Arc<Client>| lock(&client.0).orders.len() >= answered.len();
    let waited = wait_until(|| clients.iter().all(knows_all)).await;
    let cpu = all() - before;
    let (mut took, mut messages, mut missed) = (Vec::new(), 0, 0);
    for client in clients {
        let told = std::mem::take(&mut *lock(&client.0));
        messages += told.messages;
        missed += usize::from(told.missed);
        let since = |(id, at): (&Uuid, &Instant)| Some(at.saturating_duration_since(*answered.get(id)?));
        took.extend(told.orders.iter().filter_map(since));
    }
    let expected = answered.len() * clients.len();
    let whole = waited.is_ok() && took.len() == expected && missed == 0;
    let lost = (!whole).then(|| format!("{} of {expected} were told, {missed} clients missed some", took.len()));
    Ok(Came { took, messages, cpu, lost })
}

/// Waits until something is so.
async fn wait_until(is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        anyhow::ensure!(Instant::now() < until, "it took longer than {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
