//! The body of a request on its way in: it has to arrive in time, and memory has to be there for it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::admission::{self, Admission, Place};

/// Why the rest of a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub(super) enum Fault {
    #[error("the body came too slowly")]
    TooSlow = 1,
    #[error("there is no memory left for the body")]
    NoMemory,
    #[error("there is no place left for the request")]
    NoPlace,
}

/// What is known of a request whose body is read: shared by the body and by who answers in its stead.
#[derive(Debug)]
pub(super) struct Receipt {
    admission: Arc<Admission>,
    bytes: admission::Bytes,
    fault: AtomicU8,
    place: Mutex<Option<Place>>,
}

impl Receipt {
    /// That of a body of which at most so many bytes are kept.
    pub(super) fn new(admission: Arc<Admission>, most: usize) -> Self {
        let bytes = admission::Bytes::new(admission.clone(), most);
        Self { admission, bytes, fault: AtomicU8::new(0), place: Mutex::default() }
    }

    /// Why the body was not read to its end, if it was not.
    pub(super) fn fault(&self) -> Option<Fault> {
        [Fault::TooSlow, Fault::NoMemory, Fault::NoPlace]
            .into_iter()
            .find(|fault| *fault as u8 == self.fault.load(Relaxed))
    }

    /// The place that the request has had since its body was here.
    pub(super) fn place(&self) -> Option<Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, fault: Fault) -> BoxError {
        self.fault.store(fault as u8, Relaxed);
        fault.into()
    }

    /// The body is here: from now on the request is worked on, if there is a place for it.
    pub(super) fn arrived(&self) -> Result<(), BoxError> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() {
            *place = Some(self.admission.enter().ok_or_else(|| self.fail(Fault::NoPlace))?);
        }
        Ok(())
    }
}

/// A body with a receipt.
pub(super) struct Received<B> {
    body: B,
    until: Instant,
    /// Made when the body is waited for: mostly it comes with the head.
    timer: Option<Pin<Box<Sleep>>>,
    receipt: Arc<Receipt>,
}

impl<B> Received<B> {
    /// A body that has to be here by then.
    pub(super) fn new(body: B, until: Instant, receipt: Arc<Receipt>) -> Self {
        Self { body, until, timer: None, receipt }
    }
}

impl<B> HttpBody for Received<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                let until = this.until;
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                timer.as_mut().poll(cx).map(|()| Some(Err(this.receipt.fail(Fault::TooSlow))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if !this.receipt.bytes.take(length) {
                    return Poll::Ready(Some(Err(this.receipt.fail(Fault::NoMemory))));
                }
                // Who reads may see by itself that this was the last one, and not ask again.
                if this.body.is_end_stream() {
                    return Poll::Ready(Some(this.receipt.arrived().map(|()| frame)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(this.receipt.arrived().err().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
