//! What was acknowledged is there, once, however often the server goes down under load.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use event_store::kurrentdb::Timing;
use event_store::{Expected, KurrentEventStore};
use futures::future::join_all;

use crate::book::{Book, Word, append};
use crate::dice::{Dice, soon, times};
use crate::site::{Fault, Site, hasty};

/// How often servers go down or connections are cut, in all.
const DISTURBANCES: usize = 200;
/// In so many places at once.
const PLACES: usize = 4;
/// How patient the processes of a place are. The second tells that a network is frozen; the last gives up so soon that its appenders have to ask again themselves.
const PROCESSES: [fn() -> Timing; 3] = [hasty, unhurried, impatient];
/// Were it less, a busy machine would do nothing any more but make new connections.
const ANSWER: Duration = Duration::from_secs(1);
/// How many append in each process.
const WRITERS: usize = 4;
/// What goes wrong: mostly the server goes down or connections are cut.
const FAULTS: [Fault; 9] = [
    Fault::Restart,
    Fault::Away,
    Fault::CutBeforeCommit,
    Fault::CutAfterCommit,
    Fault::CutTwice,
    Fault::LateAnswer,
    Fault::LateCommit,
    Fault::Closed,
    Fault::Frozen,
];

#[tokio::test]
async fn what_was_acknowledged_is_there_once_whatever_goes_down() {
    let disturbed = soon(join_all((0..PLACES).map(disturb))).await;
    assert!(disturbed.into_iter().sum::<usize>() >= DISTURBANCES * times());
}

fn unhurried() -> Timing {
    Timing { answer: ANSWER, ..hasty() }
}

fn impatient() -> Timing {
    Timing { patience: Duration::from_millis(50), ..unhurried() }
}

/// Disturbs processes that append, and holds what they were told against the log. Says how often they were disturbed.
async fn disturb(place: usize) -> usize {
    let mut dice = Dice::new(place as u64);
    let (site, book, over) = (Site::open().await, Book::default(), Cell::new(false));
    let stores = join_all(PROCESSES.map(|timing| site.connect(timing()))).await;
    let writers = stores.iter().flat_map(|store| std::iter::repeat_n(store, WRITERS)).enumerate();
    let writers = join_all(writers.map(|(n, store)| append_until(&over, store, &book, n, place)));
    let disturber = async {
        let disturbances = (DISTURBANCES / PLACES) * times();
        for _ in 0..disturbances {
            site.log().reaches(site.log().records().len() + dice.below(30)).await;
            let fault = dice.pick(&FAULTS);
            site.tell(fault);
            site.go_wrong(fault, &stores[1]).await;
            // Something is written before what was held back goes on.
            site.log().reaches(site.log().records().len() + dice.below(3)).await;
            site.mend().await;
        }
        over.set(true);
        disturbances
    };
    let (_, disturbances) = futures::future::join(writers, disturber).await;
    site.mend().await;
    let (appends, written, _) = book.count();
    assert!(written > disturbances, "{written} of {appends} are known to be written");
    book.check(site.log());
    disturbances
}

/// Appends to streams of its own, to new ones, and to some that it shares with all others.
async fn append_until(over: &Cell<bool>, store: &KurrentEventStore, book: &Book, n: usize, place: usize) {
    let mut dice = Dice::new((place * 1_000 + n) as u64);
    let mut last: HashMap<String, Option<u64>> = HashMap::new();
    for round in 0.. {
        if over.get() {
            return;
        }
        let stream = match dice.below(4) {
            0 => format!("new-{n}-{round}"),
            1 => format!("shared-{}", dice.below(4)),
            _ => format!("own-{n}"),
        };
        let known = last.get(&stream).copied().flatten();
        let expected = match dice.below(8) {
            0 => Expected::Any,
            1 if known.is_some() => Expected::Exists,
            _ => Expected::last(known),
        };
        match book.append(store, append(&stream, expected, 1 + dice.below(3))).await {
            Word::Written(appended) => last.insert(stream, Some(appended.revision)),
            Word::Refused(actual) => last.insert(stream, actual),
            Word::Open => None,
        };
    }
}
