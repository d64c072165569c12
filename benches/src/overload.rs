//! O1: how long commands take that are let in when ten times as many clients come as keep the shop busy, each of which asks again
//! as soon as it has an answer, whatever that was; against those of as many clients as keep it busy.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_store::PostgresEventStore;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::http::{CONNECTIONS, ORDER, ask, command};
use crate::lag::p99;
use crate::report::{Better, Measured, Round};
use crate::server::{self, Postgres};
use crate::{Options, append, cpu};

/// How many times as many clients come.
const TIMES: usize = 10;

pub(crate) async fn measure(postgres: &Postgres, options: &Options) -> anyhow::Result<Measured> {
    let (url, pool) = postgres.database("o1").await?;
    PostgresEventStore::migrate(&pool).await?;
    let (mut server, address) = postgres.serve(&url, &["--roles", "write"]).await?;
    let pid = server.id().context("the server has ended")?;
    let all = || (postgres.cpu() + cpu::of_tree(pid) + cpu::of_this()) as f64;
    // What is usual has to be known before anything can be more than that.
    let known = load(&address, CONNECTIONS, options.seconds).await?;
    let (mut rounds, mut done, mut turned_away) = (Vec::new(), known.took.len() as u64, known.turned_away);
    for round in 0..options.rounds {
        let (mut times, mut spent) = ([0.0; 2], [0.0; 2]);
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            server::settle().await?;
            let before = all();
            let asked = load(&address, [TIMES * CONNECTIONS, CONNECTIONS][side], options.seconds).await?;
            spent[side] = (all() - before) / asked.took.len().max(1) as f64;
            done += asked.took.len() as u64;
            turned_away += asked.turned_away;
            times[side] = p99(asked.took);
        }
        rounds.push(Round { ours: times[0], baseline: times[1], our_cpu: spent[0], baseline_cpu: spent[1] });
    }
    let memory = cpu::memory(pid, "VmHWM");
    server::stop(&mut server).await?;
    let mut gate = append::gate(&pool, done).await?;
    if turned_away == 0 {
        gate = Err("nobody was turned away: it was no overload".to_owned());
    }
    Ok(Measured {
        name: "O1",
        what: "command that is let in, p99, ten times the clients",
        unit: "µs",
        better: Better::Less,
        floor: Some(2.0),
        goal: None,
        rounds,
        gate,
        notes: vec![format!(
            "O1: {done} commands were let in and {turned_away} turned away; the shop had {memory} MiB at most"
        )],
    })
}

/// What was answered.
#[derive(Default)]
struct Asked {
    /// How long those took that were let in.
    took: Vec<Duration>,
    turned_away: u64,
}

/// So many clients send commands, each the next one as soon as it has an answer.
async fn load(address: &str, clients: usize, seconds: u32) -> anyhow::Result<Asked> {
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(client(address.to_owned(), until));
    }
    let mut together = Asked::default();
    while let Some(one) = all.join_next().await {
        let one = one??;
        together.took.extend(one.took);
        together.turned_away += one.turned_away;
    }
    Ok(together)
}

async fn client(address: String, until: Instant) -> anyhow::Result<Asked> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut asked) = (Vec::with_capacity(4_096), Asked::default());
    while Instant::now() < until {
        let request = command(&address, &format!("/v1/order/{}/record", Uuid::new_v4()), ORDER);
        let begun = Instant::now();
        match ask(&mut stream, &mut buffer, &request).await?.0 {
            200 | 201 => asked.took.push(begun.elapsed()),
            503 => asked.turned_away += 1,
            other => anyhow::bail!("the server said {other}"),
        }
    }
    Ok(asked)
}
