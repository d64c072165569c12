//! Runs the server, and takes orders from its standard input, a line each; it answers each with `ok` or with what was
//! wrong. It ends when its input ends, or by a signal.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use clap::Parser;
use kurrentdb_server::order::Order;
use kurrentdb_server::{Server, Settings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// A server of the KurrentDB gRPC protocol for tests.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen on; 0 finds a free one.
    #[arg(long, default_value_t = 2113)]
    port: u16,
    /// Has the limits of version 25.1: 256 MiB an append, 16 MiB an event. Before, it is one MiB an append.
    #[arg(long)]
    since_25_1: bool,
    /// The largest append, in bytes.
    #[arg(long)]
    max_append_bytes: Option<usize>,
    /// Goes on when the standard input ends.
    #[arg(long)]
    detached: bool,
    /// An order to begin with, such as "append cut-after-commit 2"; may be given several times.
    #[arg(long = "order", value_name = "ORDER")]
    orders: Vec<Order>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut settings = if arguments.since_25_1 { Settings::since_25_1() } else { Settings::default() };
    settings.address = SocketAddr::new(arguments.host, arguments.port);
    if let Some(limit) = arguments.max_append_bytes {
        settings.max_append_bytes = limit;
    }
    let address = settings.address;
    let server = Server::start(settings).await.with_context(|| format!("{address} cannot be listened on"))?;
    for order in arguments.orders {
        order.carry_out(&server).await?;
    }
    let mut output = tokio::io::stdout();
    let mut say = async |line: String| {
        output.write_all(line.as_bytes()).await?;
        output.write_all(b"\n").await?;
        output.flush().await
    };
    say(server.url()).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let done = match line.parse::<Order>() {
            Ok(order) => order.carry_out(&server).await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        say(done.map_or_else(|error| format!("error: {error:#}"), |()| "ok".to_owned())).await?;
    }
    if arguments.detached {
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}
