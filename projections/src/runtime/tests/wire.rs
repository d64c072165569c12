//! A wire to Postgres that is cut at a step, so that a program can be stopped between any two of its steps.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;

/// Where all connections are cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// Before the step with this number, from 1 on. From then on nobody is let through: the program is dead.
    Before(usize),
    /// When the server has done the step with this number, before it answers. Who connects anew is let through.
    After(usize),
}

/// What counts as a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Every message that is sent.
    Message,
    /// All messages up to the one that wants an answer.
    Request,
}

/// A socket with the server behind it.
pub(super) struct Wire {
    folder: PathBuf,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: PgConnectOptions,
    /// Where it is cut, and what counts; `None` while nothing counts.
    cut: Mutex<Option<(Cut, Step)>>,
    /// Counts the cuts: a connection of before one ends.
    cuts: watch::Sender<usize>,
    dead: AtomicBool,
    open: watch::Sender<usize>,
}

impl Wire {
    /// A wire to this server.
    pub(super) fn to(server: &PgConnectOptions) -> Self {
        let folder = std::env::temp_dir().join(format!("wire-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        let shared = Arc::new(Shared {
            server: server.clone(),
            cut: Mutex::default(),
            cuts: watch::Sender::new(0),
            dead: AtomicBool::new(false),
            open: watch::Sender::new(0),
        });
        let accepting = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if !shared.dead.load(Relaxed) {
                        shared.open.send_modify(|open| *open += 1);
                        let (shared, cuts) = (shared.clone(), shared.cuts.subscribe());
                        tokio::spawn(async move {
                            // A connection that breaks is what this is for.
                            let _ = shared.carry(client, cuts).await;
                            shared.open.send_modify(|open| *open -= 1);
                        });
                    }
                }
            }
        });
        Self { folder, shared, accepting }
    }

    /// What a client connects with.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.shared.server.clone().socket(&self.folder).port(5432)
    }

    /// From here on steps count, and at one of them everything is cut.
    pub(super) fn cut_at(&self, cut: Cut, step: Step) {
        *self.shared.cut.lock().unwrap() = Some((cut, step));
    }

    /// Cuts everything now, for good.
    pub(super) fn cut(&self) {
        self.shared.dead.store(true, Relaxed);
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns when it is cut.
    pub(super) async fn is_cut(&self) {
        self.shared.cuts.subscribe().wait_for(|cuts| *cuts > 0).await.unwrap();
    }

    /// Whether it was cut.
    pub(super) fn was_cut(&self) -> bool {
        *self.shared.cuts.borrow() > 0
    }

    /// Returns when the server has ended every session: what was sent is done or undone.
    pub(super) async fn is_quiet(&self) {
        self.shared.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What becomes of a message.
#[derive(PartialEq, Eq)]
enum Fate {
    Passes,
    IsLost,
    IsNotAnswered,
}

impl Shared {
    /// Carries messages both ways until somebody hangs up or the wire is cut. Then the server is left to end the session.
    async fn carry(&self, client: UnixStream, mut cuts: watch::Receiver<usize>) -> io::Result<()> {
        let (from_server, mut to_server) = io::split(self.connect().await?);
        let (from_client, to_client) = client.into_split();
        let is_cut = AtomicBool::new(false);
        let mut answers = std::pin::pin!(carry_answers(from_server, to_client, &is_cut));
        tokio::select! {
            () = &mut answers => return Ok(()),
            _ = self.carry_messages(from_client, &mut to_server, &is_cut) => {}
            _ = cuts.changed() => {}
        }
        is_cut.store(true, Relaxed);
        to_server.shutdown().await?;
        answers.await;
        Ok(())
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = (self.server.get_host(), self.server.get_port());
        Ok(match self.server.get_socket() {
            Some(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
            None => Box::new(TcpStream::connect((host, port)).await?),
        })
    }

    async fn carry_messages(
        &self,
        mut from: impl AsyncRead + Unpin,
        to: &mut (impl AsyncWrite + Unpin),
        is_cut: &AtomicBool,
    ) -> io::Result<()> {
        // The first message has no type.
        let first = body(&mut from).await?;
        to.write_all(&first).await?;
        let mut is_first_of_request = true;
        loop {
            let kind = from.read_u8().await?;
            let body = body(&mut from).await?;
            let fate = self.fate(kind, &mut is_first_of_request);
            if fate != Fate::Passes {
                is_cut.store(true, Relaxed);
            }
            if fate != Fate::IsLost {
                to.write_u8(kind).await?;
                to.write_all(&body).await?;
                to.flush().await?;
            }
            if fate != Fate::Passes {
                self.dead.store(fate == Fate::IsLost, Relaxed);
                self.cuts.send_modify(|cuts| *cuts += 1);
                return Ok(());
            }
        }
    }

    fn fate(&self, kind: u8, is_first_of_request: &mut bool) -> Fate {
        // A query, what ends a request of several messages, or a password.
        let is_last = matches!(kind, b'Q' | b'S' | b'p');
        let is_first = std::mem::replace(is_first_of_request, is_last);
        let mut cut = self.cut.lock().unwrap();
        let Some((at, step)) = cut.as_mut() else { return Fate::Passes };
        let (left, is_step, fate) = match at {
            Cut::Before(left) => (left, is_first, Fate::IsLost),
            Cut::After(left) => (left, is_last, Fate::IsNotAnswered),
        };
        if kind == b'X' || (*step == Step::Request && !is_step) {
            return Fate::Passes;
        }
        *left -= 1;
        if *left > 0 {
            return Fate::Passes;
        }
        *cut = None;
        fate
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A message without its type.
async fn body(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = vec![0; 4];
    from.read_exact(&mut body).await?;
    let length = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
    body.resize(length, 0);
    from.read_exact(&mut body[4..]).await?;
    Ok(body)
}

/// Carries answers until the server ends the session. When the wire is cut they get lost.
async fn carry_answers(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, is_cut: &AtomicBool) {
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !is_cut.load(Relaxed) && to.write_all(&bytes[..count]).await.is_err() {
            is_cut.store(true, Relaxed);
        }
    }
}
