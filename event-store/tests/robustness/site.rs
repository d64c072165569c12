//! Where it happens: servers on one log, and what goes wrong at them.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_store::kurrentdb::Timing;
use event_store::{EventStore as _, KurrentEventStore};
use futures::future::{poll_immediate, select_all};
use kurrentdb_server::{AppendFault, Faults, Log, LogSettings, ReadFault, Server, Settings, Wait};
use tokio::net::TcpListener;

use crate::dice::Dice;

/// Something that goes wrong with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is cut before it is written.
    CutBeforeCommit,
    /// The connection is cut when it is written.
    CutAfterCommit,
    /// The same for it and the one that comes next: mostly the same append, sent again.
    CutTwice,
    /// It is written, and the server says that nobody knows.
    TimeOut,
    /// Another server leads.
    NotLeader,
    /// The server is not ready.
    NotReady,
    /// It is written, and the connection is cut while the answer is held back.
    LateAnswer,
    /// The connection is cut before it is written, and it is written all the same, after all that came between.
    LateCommit,
    /// It is written when the answer is not waited for any more. Wants a store that is [`restless`].
    Overdue,
    /// No copy of it is written before it is given up. Wants a store that is [`restless`].
    Unanswered,
    /// It is written, and the server restarts before it answers.
    Restart,
    /// The same, and the server is away until somebody knocks.
    Away,
    /// It is written, and the network loses everything from then on, until somebody notices. Wants a store that is
    /// [`restless`].
    Frozen,
    /// It is written, all connections are cut before it is answered, and the next one is closed as soon as it is made.
    Closed,
}

impl Fault {
    /// Those that a load of appends can meet, and goes on.
    pub(crate) const UNDER_LOAD: [Self; 12] = [
        Self::CutBeforeCommit,
        Self::CutAfterCommit,
        Self::CutTwice,
        Self::TimeOut,
        Self::NotLeader,
        Self::NotReady,
        Self::LateAnswer,
        Self::LateCommit,
        Self::Restart,
        Self::Away,
        Self::Frozen,
        Self::Closed,
    ];

    /// How patient a store is to be, so that the fault shows.
    pub(crate) fn timing(self) -> Timing {
        match self {
            Self::Overdue | Self::Frozen => restless(),
            Self::Unanswered => Timing { patience: Duration::from_millis(200), ..restless() },
            _ => hasty(),
        }
    }
}

/// As patient as a test can afford, and not so hasty that a busy machine is taken for a dead server.
pub(crate) fn hasty() -> Timing {
    Timing {
        answer: Duration::from_secs(20),
        patience: Duration::from_secs(60),
        pause: Duration::from_millis(10),
        poll: Duration::from_millis(200),
    }
}

/// So hasty that a busy machine may be taken for a dead server. It does not give up, however.
pub(crate) fn restless() -> Timing {
    Timing { answer: Duration::from_millis(250), ..hasty() }
}

/// Two servers on one log, of which the clients know the first. The log remembers no ids of appends that name no revision,
/// as any does after a while.
pub(crate) struct Site {
    servers: [Server; 2],
    /// Whether they were stopped and are not started again.
    down: AtomicBool,
}

impl Site {
    pub(crate) async fn open() -> Self {
        let log = Arc::new(Log::new(LogSettings { remembered_ids: 0, ..LogSettings::default() }));
        Self::on(log).await
    }

    /// A site whose log remembers the ids of appends that name no revision.
    pub(crate) async fn with_a_memory() -> Self {
        Self::on(Arc::default()).await
    }

    async fn on(log: Arc<Log>) -> Self {
        let servers = [
            Server::start_with(Settings::default(), log.clone()).await.unwrap(),
            Server::start_with(Settings::default(), log).await.unwrap(),
        ];
        Self { servers, down: AtomicBool::new(false) }
    }

    pub(crate) fn log(&self) -> &Log {
        self.servers[0].log()
    }

    pub(crate) async fn connect(&self, timing: Timing) -> Arc<KurrentEventStore> {
        // Left alone, a client reads all certificates of the machine twice when it is made, though it needs none: here once.
        let url = format!("{}&tlsCaFile=/dev/null", self.servers[0].url());
        loop {
            // A busy machine may need longer than a store waits that gives up soon.
            if let Ok(store) = KurrentEventStore::connect_with(&url, timing).await {
                return store;
            }
        }
    }

    pub(crate) fn cut(&self) {
        self.servers.iter().for_each(Server::cut_connections);
    }

    /// Waits for what comes while the next append meets the fault, and mends it. Says whether the fault was met.
    pub(crate) async fn meeting<T>(
        &self,
        fault: Fault,
        probe: &KurrentEventStore,
        what: impl Future<Output = T>,
    ) -> (T, bool) {
        self.tell(fault);
        let going_wrong = async {
            self.go_wrong(fault, probe).await;
            pending().await
        };
        let answer = tokio::select! {
            biased;
            answer = what => answer,
            () = going_wrong => unreachable!("it waits for ever"),
        };
        let met = self.is_met(fault).await;
        self.mend().await;
        (answer, met)
    }

    /// Tells the servers what the next append is to meet.
    pub(crate) fn tell(&self, fault: Fault) {
        let next =
            |times, fault: &AppendFault| self.faults().for_each(|faults| faults.next_appends(times, fault.clone()));
        match fault {
            Fault::CutBeforeCommit => next(1, &AppendFault::CutBeforeCommit),
            Fault::CutAfterCommit => next(1, &AppendFault::CutAfterCommit),
            Fault::CutTwice => next(2, &AppendFault::CutAfterCommit),
            Fault::TimeOut => next(1, &AppendFault::TimeOut),
            Fault::NotReady => next(1, &AppendFault::NotReady),
            Fault::LateCommit | Fault::Overdue => next(1, &AppendFault::DelayCommit(Wait::Release)),
            Fault::Unanswered => next(1_000, &AppendFault::DelayCommit(Wait::Release)),
            Fault::LateAnswer | Fault::Restart | Fault::Away | Fault::Frozen | Fault::Closed => {
                next(1, &AppendFault::DelayAnswer(Wait::Release));
            }
            Fault::NotLeader => {
                let [one, other] = &self.servers;
                one.faults().next_appends(1, AppendFault::NotLeader(other.endpoint()));
                other.faults().next_appends(1, AppendFault::NotLeader(one.endpoint()));
            }
        }
    }

    /// Does what is to be done while an append meets the fault that was told. Returns when it has gone wrong.
    pub(crate) async fn go_wrong(&self, fault: Fault, probe: &KurrentEventStore) {
        match fault {
            Fault::LateAnswer | Fault::LateCommit => {
                self.holds().await;
                self.cut();
            }
            Fault::Closed => {
                self.holds().await;
                self.servers[0].faults().next_connections(1);
                self.cut();
                // Whoever comes first meets it.
                self.spent().await;
            }
            Fault::Restart => {
                self.holds().await;
                self.restart().await;
            }
            Fault::Away => {
                self.holds().await;
                self.down.store(true, Relaxed);
                for server in &self.servers {
                    server.stop().await;
                }
                let door = TcpListener::bind(self.servers[0].address()).await.unwrap();
                let _ = door.accept().await.unwrap();
                drop(door);
                self.restart().await;
            }
            Fault::Frozen => {
                self.holds().await;
                self.servers.iter().for_each(Server::freeze);
                self.faults().for_each(Faults::release);
                while probe.head().await.is_ok() {}
                self.servers.iter().for_each(Server::thaw);
            }
            Fault::Overdue | Fault::Unanswered => self.holds().await,
            Fault::CutBeforeCommit
            | Fault::CutAfterCommit
            | Fault::CutTwice
            | Fault::TimeOut
            | Fault::NotLeader
            | Fault::NotReady => self.spent().await,
        }
    }

    /// What was told has happened or does not happen any more; what was held back happens now.
    pub(crate) async fn mend(&self) {
        // The append may have been given up before they came back.
        if self.down.load(Relaxed) {
            self.restart().await;
        }
        for server in &self.servers {
            server.faults().clear();
            server.faults().release();
            server.thaw();
        }
        settle().await;
    }

    /// Takes back what was told and has not happened. What is held back stays so.
    pub(crate) fn forget(&self) {
        self.faults().for_each(Faults::clear);
    }

    /// Makes the next reads go wrong.
    pub(crate) fn tell_readers(&self, dice: &mut Dice) {
        let [one, other] = &self.servers;
        let fault = match dice.below(4) {
            0 => ReadFault::CutAfter(0),
            1 => ReadFault::CutAfter(1),
            2 => ReadFault::NotReady,
            _ => ReadFault::NotLeader(other.endpoint()),
        };
        one.faults().next_reads(1 + dice.below(2), fault);
    }

    async fn restart(&self) {
        self.down.store(true, Relaxed);
        for server in &self.servers {
            server.restart().await.unwrap();
        }
        self.down.store(false, Relaxed);
    }

    /// Returns when one of the servers holds a request back.
    pub(crate) async fn holds(&self) {
        select_all(self.faults().map(|faults| Box::pin(faults.holds(1)))).await;
    }

    /// Returns when one of the servers has nothing more to go wrong.
    pub(crate) async fn spent(&self) {
        select_all(self.faults().map(|faults| Box::pin(faults.spent()))).await;
    }

    async fn is_met(&self, fault: Fault) -> bool {
        match fault {
            // More is told than is needed.
            Fault::Unanswered => poll_immediate(self.holds()).await.is_some(),
            _ => poll_immediate(self.spent()).await.is_some(),
        }
    }

    fn faults(&self) -> impl Iterator<Item = &Faults> {
        self.servers.iter().map(Server::faults)
    }
}

/// What is ready to run has run: for a runtime of one thread.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
