//! Orders to a server as lines of text, for who runs it as a program.
//!
//! ```text
//! append cut-before-commit | cut-after-commit | timeout | not-ready | not-leader HOST:PORT
//!        | delay-commit WAIT | delay-answer WAIT    [TIMES]
//! read cut-after MESSAGES | slow TIME | delay WAIT | not-ready | not-leader HOST:PORT    [TIMES]
//! subscribe (end | fail | cut | silence | fall-behind) after EVENTS
//!        | slow TIME | not-ready | not-leader HOST:PORT    [TIMES]
//! interrupt end | fail | cut | silence | fall-behind
//! connect close [TIMES]
//! gate APPENDS | release | dismiss | clear | cut | freeze | thaw | stop | restart
//! ```
//!
//! A time is a number with `ms` or `s`; a wait is a time, or `held` until `release` or `dismiss`. Without a number of times it is once.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use crate::{AppendFault, Endpoint, Interruption, ReadFault, Server, SubscriptionFault, Wait};

/// What a server is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The next so many appends meet a fault.
    Append(AppendFault, usize),
    /// The next so many reads meet a fault.
    Read(ReadFault, usize),
    /// The next so many subscriptions meet a fault.
    Subscribe(SubscriptionFault, usize),
    /// The next so many connections are closed at once.
    Connect(usize),
    /// All open subscriptions are interrupted.
    Interrupt(Interruption),
    /// Appends are held, after so many more.
    Gate(usize),
    /// What is held goes on.
    Release,
    /// What is held comes to nothing.
    Dismiss,
    /// Faults that have not happened do not happen.
    Clear,
    /// All connections are cut.
    Cut,
    /// Nothing passes.
    Freeze,
    /// Everything passes again.
    Thaw,
    /// The server stops listening.
    Stop,
    /// The server listens again.
    Restart,
}

/// Why a line is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOrder {
    /// It ends too early.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word is another than could stand there.
    #[error("{0:?} is no {1}")]
    Unknown(String, &'static str),
}

impl Order {
    /// Has a server do it.
    ///
    /// # Errors
    /// When a server that is to listen again cannot.
    pub async fn carry_out(self, server: &Server) -> io::Result<()> {
        let faults = server.faults();
        match self {
            Self::Append(fault, times) => faults.next_appends(times, fault),
            Self::Read(fault, times) => faults.next_reads(times, fault),
            Self::Subscribe(fault, times) => faults.next_subscriptions(times, fault),
            Self::Connect(times) => faults.next_connections(times),
            Self::Interrupt(interruption) => faults.interrupt_subscriptions(interruption),
            Self::Gate(appends) => faults.shut_gate_after(appends),
            Self::Release => faults.release(),
            Self::Dismiss => faults.dismiss(),
            Self::Clear => faults.clear(),
            Self::Cut => server.cut_connections(),
            Self::Freeze => server.freeze(),
            Self::Thaw => server.thaw(),
            Self::Stop => server.stop().await,
            Self::Restart => server.restart().await?,
        }
        Ok(())
    }
}

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(line: &str) -> Result<Self, NoOrder> {
        let mut words = Words(line.split_whitespace());
        let order = match words.next("an order")? {
            "append" => Self::Append(words.append()?, words.times()?),
            "read" => Self::Read(words.read()?, words.times()?),
            "subscribe" => Self::Subscribe(words.subscribe()?, words.times()?),
            "connect" => match words.next("what becomes of it")? {
                "close" => Self::Connect(words.times()?),
                other => return Err(unknown(other, "fault of connections")),
            },
            "interrupt" => {
                let word = words.next("an interruption")?;
                Self::Interrupt(interruption(word).ok_or_else(|| unknown(word, "interruption"))?)
            }
            "gate" => Self::Gate(words.number()?.try_into().unwrap_or(usize::MAX)),
            "release" => Self::Release,
            "dismiss" => Self::Dismiss,
            "clear" => Self::Clear,
            "cut" => Self::Cut,
            "freeze" => Self::Freeze,
            "thaw" => Self::Thaw,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            other => return Err(unknown(other, "order")),
        };
        words.0.next().map_or(Ok(order), |more| Err(unknown(more, "end of an order")))
    }
}

/// The words of a line that were not read yet.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &'static str) -> Result<&'a str, NoOrder> {
        self.0.next().ok_or(NoOrder::Missing(what))
    }

    fn append(&mut self) -> Result<AppendFault, NoOrder> {
        Ok(match self.next("a fault")? {
            "cut-before-commit" => AppendFault::CutBeforeCommit,
            "cut-after-commit" => AppendFault::CutAfterCommit,
            "timeout" => AppendFault::TimeOut,
            "delay-commit" => AppendFault::DelayCommit(self.wait()?),
            "delay-answer" => AppendFault::DelayAnswer(self.wait()?),
            "not-leader" => AppendFault::NotLeader(self.endpoint()?),
            "not-ready" => AppendFault::NotReady,
            other => return Err(unknown(other, "fault of appends")),
        })
    }

    fn read(&mut self) -> Result<ReadFault, NoOrder> {
        Ok(match self.next("a fault")? {
            "cut-after" => ReadFault::CutAfter(self.number()?),
            "slow" => ReadFault::Slow(self.time()?),
            "delay" => ReadFault::Delay(self.wait()?),
            "not-leader" => ReadFault::NotLeader(self.endpoint()?),
            "not-ready" => ReadFault::NotReady,
            other => return Err(unknown(other, "fault of reads")),
        })
    }

    fn subscribe(&mut self) -> Result<SubscriptionFault, NoOrder> {
        let word = self.next("a fault")?;
        if let Some(interruption) = interruption(word) {
            let after = self.next("after")?;
            if after != "after" {
                return Err(unknown(after, "`after`"));
            }
            return Ok(SubscriptionFault::After(self.number()?, interruption));
        }
        Ok(match word {
            "slow" => SubscriptionFault::Slow(self.time()?),
            "not-leader" => SubscriptionFault::NotLeader(self.endpoint()?),
            "not-ready" => SubscriptionFault::NotReady,
            other => return Err(unknown(other, "fault of subscriptions")),
        })
    }

    fn times(&mut self) -> Result<usize, NoOrder> {
        self.0.next().map_or(Ok(1), |word| word.parse().map_err(|_| unknown(word, "number of times")))
    }

    fn number(&mut self) -> Result<u64, NoOrder> {
        let word = self.next("a number")?;
        word.parse().map_err(|_| unknown(word, "number"))
    }

    fn wait(&mut self) -> Result<Wait, NoOrder> {
        let word = self.next("a wait")?;
        if word == "held" { Ok(Wait::Release) } else { time(word).map(Wait::For) }
    }

    fn time(&mut self) -> Result<Duration, NoOrder> {
        time(self.next("a time")?)
    }

    fn endpoint(&mut self) -> Result<Endpoint, NoOrder> {
        let word = self.next("an endpoint")?;
        let endpoint = word
            .rsplit_once(':')
            .and_then(|(host, port)| Some(Endpoint { host: host.to_owned(), port: port.parse().ok()? }));
        endpoint.ok_or_else(|| unknown(word, "endpoint"))
    }
}

fn time(word: &str) -> Result<Duration, NoOrder> {
    let number = |number: &str| number.parse().ok();
    let time = match (word.strip_suffix("ms"), word.strip_suffix('s')) {
        (Some(millis), _) => number(millis).map(Duration::from_millis),
        (None, Some(seconds)) => number(seconds).map(Duration::from_secs),
        (None, None) => None,
    };
    time.ok_or_else(|| unknown(word, "time"))
}

fn interruption(word: &str) -> Option<Interruption> {
    Some(match word {
        "end" => Interruption::End,
        "fail" => Interruption::Fail,
        "cut" => Interruption::Cut,
        "silence" => Interruption::Silence,
        "fall-behind" => Interruption::FallBehind,
        _ => return None,
    })
}

fn unknown(word: &str, what: &'static str) -> NoOrder {
    NoOrder::Unknown(word.to_owned(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(line: &str, order: Order) {
        assert_eq!(line.parse(), Ok(order), "{line}");
    }

    #[test]
    fn orders_are_read() {
        let leader = Endpoint { host: "10.0.0.7".to_owned(), port: 2113 };
        says("append cut-after-commit", Order::Append(AppendFault::CutAfterCommit, 1));
        says(
            "append delay-answer 1500ms 3",
            Order::Append(AppendFault::DelayAnswer(Wait::For(Duration::from_millis(1500))), 3),
        );
        says("append delay-commit held", Order::Append(AppendFault::DelayCommit(Wait::Release), 1));
        says("append not-leader 10.0.0.7:2113 2", Order::Append(AppendFault::NotLeader(leader), 2));
        says("read slow 2s", Order::Read(ReadFault::Slow(Duration::from_secs(2)), 1));
        says("read cut-after 5 2", Order::Read(ReadFault::CutAfter(5), 2));
        says("subscribe silence after 4", Order::Subscribe(SubscriptionFault::After(4, Interruption::Silence), 1));
        says("  interrupt  fall-behind ", Order::Interrupt(Interruption::FallBehind));
        says("connect close 2", Order::Connect(2));
        says("restart", Order::Restart);
    }

    #[test]
    fn other_lines_are_not() {
        let refused = |line: &str| line.parse::<Order>().unwrap_err().to_string();
        assert_eq!(refused(""), "an order is missing");
        assert_eq!(refused("append"), "a fault is missing");
        assert_eq!(refused("append explode"), "\"explode\" is no fault of appends");
        assert_eq!(refused("append not-ready twice"), "\"twice\" is no number of times");
        assert_eq!(refused("append not-leader nowhere"), "\"nowhere\" is no endpoint");
        assert_eq!(refused("read slow 3"), "\"3\" is no time");
        assert_eq!(refused("subscribe end 3"), "\"3\" is no `after`");
        assert_eq!(refused("restart now"), "\"now\" is no end of an order");
    }
}
