//! What the services of a server share, and how a change of the log is made with what may go wrong at it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, ready};
use tonic::{Code, Request, Status};

use crate::connection::Connection;
use crate::faults::{AppendFault, Endpoint, Faults, Held};
use crate::log::{Committed, Log, Rejected};
use crate::{Member, Settings, status};

/// A server, as its services see it.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) log: Arc<Log>,
    pub(crate) faults: Faults,
    pub(crate) settings: Settings,
    pub(crate) members: Mutex<Vec<Member>>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Committed(Committed),
    Rejected(Rejected),
    TimedOut,
    NotReady,
    NotLeader(Endpoint),
    /// Nobody hears it.
    Cut,
}

impl Answer {
    fn of(result: Result<Committed, Rejected>) -> Self {
        result.map_or_else(Self::Rejected, Self::Committed)
    }
}

impl Node {
    /// Changes the log. What happens at once has happened when this returns, so that changes keep their order; what
    /// happens late happens whether or not anybody still waits for it.
    pub(crate) fn change(
        &self,
        connection: &Connection,
        change: impl FnOnce(&Log) -> Result<Committed, Rejected> + Send + 'static,
    ) -> BoxFuture<'static, Answer> {
        let (log, faults) = (self.log.clone(), self.faults.clone());
        let answer = match faults.append() {
            None => Answer::of(change(&log)),
            Some(AppendFault::CutBeforeCommit) => {
                connection.cut();
                Answer::Cut
            }
            Some(AppendFault::CutAfterCommit) => {
                // Committed first: who sees the connection cut finds the events.
                let _ = change(&log);
                connection.cut();
                Answer::Cut
            }
            Some(AppendFault::TimeOut) => {
                let _ = change(&log);
                Answer::TimedOut
            }
            Some(AppendFault::DelayCommit(wait)) => {
                let connection = connection.clone();
                let late = tokio::spawn(async move {
                    match faults.wait(wait).await {
                        Held::GoOn => Answer::of(change(&log)),
                        Held::Dismissed => {
                            connection.cut();
                            Answer::Cut
                        }
                    }
                });
                return late.map(|answer| answer.unwrap_or(Answer::TimedOut)).boxed();
            }
            Some(AppendFault::DelayAnswer(wait)) => {
                let answer = Answer::of(change(&log));
                return async move {
                    faults.wait(wait).await;
                    answer
                }
                .boxed();
            }
            Some(AppendFault::NotLeader(leader)) => Answer::NotLeader(leader),
            Some(AppendFault::NotReady) => Answer::NotReady,
        };
        ready(answer).boxed()
    }

    /// The servers of the cluster.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The connection that a request came by.
pub(crate) fn connection<T>(request: &Request<T>) -> Connection {
    request.extensions().get::<Connection>().cloned().unwrap_or_default()
}

/// The answers that say the same whatever was asked; the others are given back.
pub(crate) fn status_of(answer: Answer) -> Result<Result<Committed, Rejected>, Status> {
    match answer {
        Answer::Committed(committed) => Ok(Ok(committed)),
        Answer::Rejected(rejected) => Ok(Err(rejected)),
        Answer::TimedOut => Err(status::timed_out()),
        Answer::NotReady => Err(status::not_ready()),
        Answer::NotLeader(leader) => Err(status::not_leader(&leader)),
        Answer::Cut => Err(Status::new(Code::Unavailable, "the connection is cut")),
    }
}
