//! A server: a listener, its connections, and the log and the faults that outlive both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport;

use crate::connection::{Connection, Wire};
use crate::faults::{Endpoint, Faults};
use crate::log::Log;
use crate::node::Node;
use crate::{cluster, streams};

/// A megabyte, as the server counts it.
const MIB: usize = 1024 * 1024;

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens. With port 0 the system finds a free one, which the server keeps over a restart.
    pub address: SocketAddr,
    /// What it says its version is.
    pub version: String,
    /// The largest append, in bytes: data, metadata and twice the type of each event.
    pub max_append_bytes: usize,
    /// The largest event of an append, in bytes.
    pub max_event_bytes: usize,
}

impl Default for Settings {
    /// A free port of this machine, and what holds before version 25.1: an append has at most one MiB.
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            version: "24.10.0".to_owned(),
            max_append_bytes: MIB,
            max_event_bytes: MIB,
        }
    }
}

impl Settings {
    /// What holds from version 25.1 on: an append has at most 256 MiB, an event at most 16.
    pub fn since_25_1() -> Self {
        let version = "25.1.0".to_owned();
        Self { version, max_append_bytes: 256 * MIB, max_event_bytes: 16 * MIB, ..Self::default() }
    }
}

/// What a server is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It writes.
    Leader,
    /// It may become the leader.
    Follower,
    /// It only reads.
    ReadOnlyReplica,
}

/// A server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it is.
    pub role: Role,
    /// Whether the others hear of it.
    pub alive: bool,
}

/// A server that listens, or did. It ends when it is dropped; its log does not.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    connections: Arc<Connections>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// A server with a log of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        Self::start_with(settings, Arc::default()).await
    }

    /// A server with a log that others may have too: one that ran before, or its cluster.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start_with(settings: Settings, log: Arc<Log>) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        let endpoint = Endpoint { host: address.ip().to_string(), port: address.port() };
        let members = Mutex::new(vec![Member { endpoint, role: Role::Leader, alive: true }]);
        let node = Arc::new(Node { log, faults: Faults::default(), settings, members });
        let server = Self { address, node, connections: Arc::default(), listening: Mutex::default() };
        server.listen(listener);
        Ok(server)
    }

    /// Where it listens, also while it is stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as others are told.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// What a client connects with: to this server alone, in the clear.
    pub fn url(&self) -> String {
        format!("esdb://{}?tls=false", self.address)
    }

    /// What it keeps.
    pub fn log(&self) -> &Arc<Log> {
        &self.node.log
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.node.faults
    }

    /// Says which servers there are, to clients that ask for the cluster. At first it is this one alone, as leader.
    pub fn announce(&self, members: Vec<Member>) {
        *self.node.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Closes the listener and cuts all connections. From then on connections are refused.
    pub async fn stop(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.abort();
            // The listener is closed when the task is gone.
            let _ = listening.await;
        }
        self.cut_connections();
    }

    /// Listens again on the same port, with the same log. What a server only remembers in memory is gone.
    ///
    /// # Errors
    /// When somebody else listens there by now.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        self.node.log.forget_ids();
        self.listen(TcpListener::bind(self.address).await?);
        Ok(())
    }

    /// Cuts all connections; new ones are welcome.
    pub fn cut_connections(&self) {
        self.connections.each(Connection::cut);
    }

    /// Lets nothing through the connections that there are, nor through new ones, until they thaw: a network that
    /// loses everything.
    pub fn freeze(&self) {
        self.connections.freeze(true);
    }

    /// Lets everything through again.
    pub fn thaw(&self) {
        self.connections.freeze(false);
    }

    fn listen(&self, listener: TcpListener) {
        let incoming = incoming(listener, self.node.faults.clone(), self.connections.clone());
        let server = transport::Server::builder()
            .add_service(streams::service(self.node.clone()))
            .add_service(cluster::gossip(self.node.clone()))
            .add_service(cluster::features(self.node.clone()));
        *self.listening() = Some(tokio::spawn(async move {
            // It ends when it is aborted; a connection that fails does not end it.
            let _ = server.serve_with_incoming(incoming).await;
        }));
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(listening) = self.listening().take() {
            listening.abort();
        }
        self.cut_connections();
    }
}

/// The connections that there are.
#[derive(Debug, Default)]
struct Connections(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    connections: Vec<Connection>,
    frozen: bool,
}

impl Connections {
    fn open(&self) -> Connection {
        let connection = Connection::default();
        let mut known = self.known();
        if known.frozen {
            connection.freeze();
        }
        known.connections.retain(Connection::is_used);
        known.connections.push(connection.clone());
        connection
    }

    fn freeze(&self, frozen: bool) {
        let mut known = self.known();
        known.frozen = frozen;
        known.connections.iter().for_each(if frozen { Connection::freeze } else { Connection::thaw });
    }

    fn each(&self, turn: impl Fn(&Connection)) {
        self.known().connections.iter().for_each(turn);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections that are made, without those that a fault closes at once.
fn incoming(
    listener: TcpListener,
    faults: Faults,
    connections: Arc<Connections>,
) -> impl stream::Stream<Item = io::Result<Wire>> {
    stream::unfold((listener, faults, connections), |(listener, faults, connections)| async {
        let wire = loop {
            match listener.accept().await {
                Ok(_) if faults.refuses_connection() => {}
                accepted => break accepted.and_then(|(stream, _)| wire(stream, &connections)),
            }
        };
        Some((wire, (listener, faults, connections)))
    })
}

fn wire(stream: TcpStream, connections: &Connections) -> io::Result<Wire> {
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream, connections.open()))
}
