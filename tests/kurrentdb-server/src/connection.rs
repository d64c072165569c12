//! A connection that can be cut or frozen from outside.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

/// What a handler, or a fault, can do to the connection that a request came by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Open,
    Frozen,
    Cut,
}

impl Connection {
    /// Closes it, with whatever was still to be said.
    pub(crate) fn cut(&self) {
        self.turn(Condition::Cut);
    }

    /// Lets nothing through, in either direction, until it thaws.
    pub(crate) fn freeze(&self) {
        self.turn(Condition::Frozen);
    }

    /// Lets everything through again.
    pub(crate) fn thaw(&self) {
        self.turn(Condition::Open);
    }

    /// Whether the bytes of a connection, or somebody else, still have it.
    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn turn(&self, condition: Condition) {
        let mut state = self.state();
        if state.condition != Condition::Cut {
            state.condition = condition;
        }
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether bytes may pass; if not now, the waker is kept.
    fn pass(
        &self,
        waker: impl FnOnce(&mut State) -> &mut Option<Waker>,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        match state.condition {
            Condition::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Condition::Open | Condition::Frozen => *waker(&mut state) = Some(context.waker().clone()),
        }
        if state.condition == Condition::Open { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    connection: Connection,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, connection: Connection) -> Self {
        Self { stream, connection }
    }
}

impl Connected for Wire {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.connection.pass(|state| &mut state.reader, context))?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.connection.pass(|state| &mut state.writer, context))?;
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.connection.pass(|state| &mut state.writer, context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
