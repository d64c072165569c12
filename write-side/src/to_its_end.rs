//! Work that is done to its end, whether or not somebody waits for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};

/// Work that goes on when it is not waited for any more: a client that hangs up, or takes an answer for the last word, must not
/// cut off what has begun, nor leave a connection to a database in the middle of a transaction.
///
/// While somebody waits it is done where it is, which costs no task and no way to another thread. Dropped before its end, it
/// becomes a task of its own.
#[must_use = "nothing is done until it is awaited"]
pub struct ToItsEnd<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> ToItsEnd<F> {
    /// Has this done to its end, once it is polled or dropped.
    pub fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for ToItsEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // What is done is not polled again, by the contract of futures.
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for ToItsEnd<F> {
    fn drop(&mut self) {
        // What has panicked is at its end. Without a runtime the process is going down.
        if let (Some(work), false, Ok(runtime)) = (self.0.take(), std::thread::panicking(), Handle::try_current()) {
            runtime.spawn(async move { drop(work.await) }.instrument(Span::current()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_done_where_it_is() {
        let waits = tokio::spawn(async { (tokio::task::id(), ToItsEnd::new(async { tokio::task::id() }).await) });
        let (here, there) = waits.await.unwrap();
        assert_eq!(here, there);
    }

    #[tokio::test]
    async fn what_is_not_waited_for_goes_on() {
        for polled in [true, false] {
            let (go_on, wait) = oneshot::channel::<()>();
            let (done, mut end) = mpsc::channel(1);
            let mut work = Box::pin(ToItsEnd::new(async move {
                wait.await.unwrap();
                done.send(7).await.unwrap();
            }));
            if polled {
                assert_eq!(work.as_mut().now_or_never(), None);
            }
            drop(work);
            go_on.send(()).unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(10), end.recv()).await;
            assert_eq!(ended.expect("it was cut off"), Some(7));
        }
    }

    #[tokio::test]
    async fn what_panics_does_so_once() {
        let work = ToItsEnd::new(async { panic!("as it must") });
        let panicked = std::panic::AssertUnwindSafe(work).catch_unwind().await;
        let said = panicked.map_err(|why| why.downcast_ref::<&str>().copied());
        assert_eq!(said, Err::<(), _>(Some("as it must")));
    }
}
