//! A connection that loses patience: with a client that sends nothing, or a head too slowly, or reads nothing.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::peers::Guest;
use crate::config::Http;

/// What a connection takes of what there is for all of them. They are given back in this order: whoever is let in because there is
/// one place more must not find its peer's taken.
pub(super) struct Places {
    pub(super) _one_of_its_peer: Guest,
    pub(super) _one_of_all: OwnedSemaphorePermit,
}

/// What a connection knows of the requests on it.
#[derive(Debug)]
pub(super) struct Line {
    opened: Instant,
    /// How many have been read.
    begun: AtomicUsize,
    /// How many have been answered, to the last byte of the answer.
    ended: AtomicUsize,
    /// When the last one was, in milliseconds from `opened`.
    ended_at: AtomicU64,
}

impl Line {
    pub(super) fn new() -> Self {
        let [begun, ended] = [0, 0].map(AtomicUsize::new);
        Self { opened: Instant::now(), begun, ended, ended_at: AtomicU64::new(0) }
    }

    /// A request was read.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// A request was answered.
    pub(super) fn end(&self) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended_at.store(after, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }

    /// Since when nothing is asked.
    fn idle_since(&self) -> Instant {
        self.opened + Duration::from_millis(self.ended_at.load(Relaxed))
    }

    /// How many requests were read, and whether one of them is not answered.
    fn look(&self) -> (usize, bool) {
        let (ended, begun) = (self.ended.load(Relaxed), self.begun.load(Relaxed));
        (begun, begun > ended)
    }
}

/// What a connection waits for, and until when.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    /// For the rest of a head.
    Head(Instant),
    /// For anything at all.
    Request(Instant),
    /// For nothing of the client's that is not timed elsewhere: a request is being read or answered.
    Nothing,
}

/// A stream with patience. It has its places for as long as it is open, whoever it was handed over to.
pub(super) struct Patient<I> {
    stream: I,
    _places: Places,
    line: Arc<Line>,
    head: Duration,
    idle: Duration,
    write: Duration,
    waiting: Waiting,
    /// How many requests had been read when `waiting` was last looked at.
    seen: usize,
    /// The timers are made when something is waited for: most answers never wait. This one may end before the client has to
    /// have sent something, and is wound up again then: to do so for each request costs more than to look once too often.
    reading: Option<Pin<Box<Sleep>>>,
    /// Since when nothing could be written is in here too.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<I> Patient<I> {
    pub(super) fn new(stream: I, http: &Http, line: Arc<Line>, places: Places) -> Self {
        Self {
            stream,
            _places: places,
            line,
            head: http.header_timeout,
            idle: http.idle_timeout,
            write: http.write_timeout,
            // Who connects has something to ask.
            waiting: Waiting::Head(Instant::now() + http.header_timeout),
            seen: 0,
            reading: None,
            writing: None,
        }
    }

    /// Whether the client may be waited for. Called when there is nothing to read.
    fn wait_to_read(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let (begun, busy) = self.line.look();
        if busy {
            self.waiting = Waiting::Nothing;
        } else if begun != self.seen || matches!(self.waiting, Waiting::Nothing) {
            self.waiting = Waiting::Request(self.line.idle_since() + self.idle);
        }
        self.seen = begun;
        let until = match self.waiting {
            Waiting::Head(until) | Waiting::Request(until) => until,
            // Nobody asks in here when the answer is given, for hyper does so when there is something to read. So it is looked
            // again, and before the client has been idle for too long.
            Waiting::Nothing => Instant::now() + self.idle,
        };
        let timer = self.reading.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        while timer.deadline() < until {
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Error::new(ErrorKind::TimedOut, "the client sent no request in time"))
    }

    /// Something was read: where a request was waited for, its head has begun.
    fn has_read(&mut self) {
        if self.line.look().1 {
            self.waiting = Waiting::Nothing;
        } else if !matches!(self.waiting, Waiting::Head(_)) || self.line.look().0 != self.seen {
            self.waiting = Waiting::Head(Instant::now() + self.head);
            self.seen = self.line.look().0;
        }
    }

    /// What became of writing, unless it has waited too long.
    fn written<T>(&mut self, wrote: Poll<Result<T>>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if wrote.is_ready() {
            self.writing = None;
            return wrote;
        }
        let until = || Box::pin(sleep_until(Instant::now() + self.write));
        ready!(self.writing.get_or_insert_with(until).as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client read nothing of its answer")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.wait_to_read(cx).map(Err),
            ready => {
                this.has_read();
                ready
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(wrote, cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.written(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        // There is something to flush under TLS alone; what has no buffer must not stop the clock of what cannot be written.
        match Pin::new(&mut this.stream).poll_flush(cx) {
            Poll::Pending => this.written(Poll::Pending, cx),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(shut, cx)
    }
}
