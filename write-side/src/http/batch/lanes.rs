//! The order of commands within a batch: those to one stream go one behind another, those to different ones side by side.
//!
//! A command that comes to its aggregate's mailbox as soon as it is begun need not wait for the ones before it: the mailbox
//! keeps them in order, and carries out together what waits there. One that has to look something up first would be
//! overtaken, or look too early; it is begun when those before it are done, and those behind it wait for it.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_store::StreamName;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use uuid::Uuid;

/// A command of a batch that can be begun.
pub(super) struct Job {
    /// Its id. The same one again waits until it is done.
    pub(super) command_id: Uuid,
    /// Whether it waits for those before it, and those behind it wait for it.
    pub(super) alone: bool,
    /// Carries it out, and tells whoever waits for its answer.
    pub(super) work: BoxFuture<'static, ()>,
}

/// The streams that commands of a batch are under way to. Their work goes on when the batch is dropped.
#[derive(Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<StreamName, Lane>>>);

struct Lane {
    jobs: mpsc::UnboundedSender<Job>,
    /// How many are not done.
    pending: usize,
}

impl Lanes {
    /// Has a command carried out behind the earlier ones of its stream. How many are under way at a time is for the caller
    /// to bound.
    pub(super) fn send(&self, stream: &StreamName, job: Job) {
        let mut lanes = lock(&self.0);
        if let Some(lane) = lanes.get_mut(stream) {
            lane.pending += 1;
            // It is received for as long as something is pending; were it not, whoever waits for an answer is told.
            let _ = lane.jobs.send(job);
            return;
        }
        let (jobs, received) = mpsc::unbounded_channel();
        let _ = jobs.send(job);
        lanes.insert(stream.clone(), Lane { jobs, pending: 1 });
        let end = End { lanes: self.0.clone(), stream: stream.clone() };
        tokio::spawn(run(end, received));
    }
}

fn lock(lanes: &Mutex<HashMap<StreamName, Lane>>) -> MutexGuard<'_, HashMap<StreamName, Lane>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a lane says what is done.
struct End {
    lanes: Arc<Mutex<HashMap<StreamName, Lane>>>,
    stream: StreamName,
}

impl End {
    /// Notes that a command is done. Says whether it was the last one: then the lane is gone.
    fn done(&self) -> bool {
        let mut lanes = lock(&self.lanes);
        let Some(lane) = lanes.get_mut(&self.stream) else { return true };
        lane.pending -= 1;
        let is_over = lane.pending == 0;
        if is_over {
            lanes.remove(&self.stream);
        }
        is_over
    }
}

async fn run(end: End, mut jobs: mpsc::UnboundedReceiver<Job>) {
    // They are polled for the first time in the order in which they are pushed.
    let mut running: FuturesUnordered<BoxFuture<'static, Uuid>> = FuturesUnordered::new();
    let mut ids: HashSet<Uuid> = HashSet::new();
    loop {
        tokio::select! {
            biased;
            Some(Job { command_id, alone, work }) = jobs.recv() => {
                if alone || !ids.insert(command_id) {
                    while let Some(done) = running.next().await {
                        ids.remove(&done);
                        end.done();
                    }
                    ids.insert(command_id);
                }
                // A panic is told in the log where it happens; who waits for the answer finds that nobody gives one.
                running.push(AssertUnwindSafe(work).catch_unwind().map(move |_| command_id).boxed());
                if alone {
                    running.next().await;
                    ids.remove(&command_id);
                    if end.done() {
                        return;
                    }
                }
            }
            Some(done) = running.next() => {
                ids.remove(&done);
                if end.done() {
                    return;
                }
            }
            else => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Notify, oneshot};

    use super::*;

    struct Log {
        lanes: Lanes,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Log {
        fn new() -> Self {
            Self { lanes: Lanes::default(), seen: Arc::default() }
        }

        /// Sends a job that notes when it begins and ends, and waits for `go` in between.
        fn send(&self, stream: &str, id: u128, alone: bool, go: Option<&Arc<Notify>>) -> oneshot::Receiver<()> {
            let (told, is_told) = oneshot::channel();
            let (seen, go) = (self.seen.clone(), go.cloned());
            let work = async move {
                seen.lock().unwrap().push(format!("{id} begins"));
                if let Some(go) = go {
                    go.notified().await;
                }
                seen.lock().unwrap().push(format!("{id} ends"));
                let _ = told.send(());
            };
            let job = Job { command_id: Uuid::from_u128(id), alone, work: work.boxed() };
            self.lanes.send(&StreamName::new(stream).unwrap(), job);
            is_told
        }

        fn seen(&self) -> Vec<String> {
            self.seen.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn one_that_waits_is_not_overtaken_and_does_not_overtake() {
        let log = Log::new();
        let go = Arc::new(Notify::new());
        let first = log.send("a-1", 1, false, Some(&go));
        let second = log.send("a-1", 2, true, None);
        let third = log.send("a-1", 3, false, None);
        // Another stream does not wait for it.
        log.send("a-2", 4, true, None).await.unwrap();
        assert_eq!(log.seen(), ["1 begins", "4 begins", "4 ends"]);
        go.notify_one();
        for told in [first, second, third] {
            told.await.unwrap();
        }
        assert_eq!(log.seen()[3..], ["1 ends", "2 begins", "2 ends", "3 begins", "3 ends"]);
    }

    #[tokio::test]
    async fn those_that_need_not_wait_begin_in_order_and_the_same_one_waits() {
        let log = Log::new();
        let go = Arc::new(Notify::new());
        let told: Vec<_> = (1..=50).map(|id| log.send("a-1", id, false, Some(&go))).collect();
        let again = log.send("a-1", 7, false, None);
        while log.seen().len() < 50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.seen(), (1..=50).map(|id| format!("{id} begins")).collect::<Vec<_>>());
        go.notify_waiters();
        for told in told {
            told.await.unwrap();
        }
        again.await.unwrap();
        assert_eq!(log.seen().last().unwrap(), "7 ends");
    }

    #[tokio::test]
    async fn a_lane_ends_with_its_last_job_and_a_panic_takes_nobody_along() {
        let log = Log::new();
        let stream = StreamName::new("a-1").unwrap();
        let panics = Job { command_id: Uuid::nil(), alone: false, work: async { panic!("on purpose") }.boxed() };
        log.lanes.send(&stream, panics);
        log.send("a-1", 1, false, None).await.unwrap();
        while !lock(&log.lanes.0).is_empty() {
            tokio::task::yield_now().await;
        }
        log.send("a-1", 2, false, None).await.unwrap();
    }
}
