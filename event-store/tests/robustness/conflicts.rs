//! Of those who append at the same place one wins, and all others are told so, whatever goes wrong meanwhile.

use std::cell::Cell;

use event_store::{Expected, KurrentEventStore};
use futures::future::{join, join_all};

use crate::book::{Book, Word, append};
use crate::dice::{Dice, soon, times};
use crate::site::{Fault, Site};

/// How many append to the one stream.
const WRITERS: usize = 32;
/// In so many processes.
const PROCESSES: usize = 4;
/// So many appends are decided under each fault, taken or refused. There are twelve faults: more than 10,000 in all.
const APPENDS: usize = 850;
/// How often each fault happens meanwhile, at the least.
const TIMES: usize = 10;

async fn all_append_to_one_stream(fault: Fault) {
    let (site, book, over) = (Site::open().await, Book::default(), Cell::new(false));
    let stores = join_all((0..PROCESSES).map(|_| site.connect(fault.timing()))).await;
    let writers = join_all((0..WRITERS).map(|n| compete_until(&over, &stores[n % PROCESSES], &book, n)));
    let mut dice = Dice::new(0);
    let disturber = async {
        let mut disturbed = 0;
        while disturbed < TIMES * times() || book.count().0 < APPENDS * times() {
            site.log().reaches(site.log().records().len() + 1 + dice.below(20)).await;
            site.tell(fault);
            site.go_wrong(fault, &stores[0]).await;
            site.log().reaches(site.log().records().len() + dice.below(3)).await;
            site.mend().await;
            disturbed += 1;
        }
        over.set(true);
    };
    soon(join(writers, disturber)).await;
    site.mend().await;
    let (appends, written, open) = book.count();
    assert!(written > TIMES && written + open < appends, "{written} of {appends} were written, {open} may be");
    book.check(site.log());
}

/// Appends where it takes the end of the stream to be, and mostly is too late.
async fn compete_until(over: &Cell<bool>, store: &KurrentEventStore, book: &Book, n: usize) {
    let (mut dice, mut last) = (Dice::new(n as u64), None);
    while !over.get() {
        let expected = match dice.below(16) {
            0 => Expected::Any,
            1 if last.is_some() => Expected::Exists,
            _ => Expected::last(last),
        };
        match book.append(store, append("contended-1", expected, 1 + dice.below(2))).await {
            Word::Written(appended) => last = Some(appended.revision),
            Word::Refused(actual) => last = actual,
            Word::Open => {}
        }
    }
}

macro_rules! all_append_to_one_stream {
    ($($name:ident: $fault:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            all_append_to_one_stream(Fault::$fault).await;
        })*

        #[test]
        fn no_fault_is_left_out() {
            assert_eq!([$(Fault::$fault),*], Fault::UNDER_LOAD);
        }
    };
}

all_append_to_one_stream! {
    rivals_are_cut_off_before_one_has_won: CutBeforeCommit,
    rivals_are_cut_off_when_one_has_won: CutAfterCommit,
    rivals_are_cut_off_twice: CutTwice,
    rivals_are_told_that_it_took_too_long: TimeOut,
    rivals_find_another_leader: NotLeader,
    rivals_find_the_server_not_ready: NotReady,
    rivals_are_answered_too_late: LateAnswer,
    rivals_come_before_what_is_written_late: LateCommit,
    rivals_meet_a_restart: Restart,
    rivals_meet_a_server_that_goes_away: Away,
    rivals_meet_a_frozen_network: Frozen,
    rivals_find_their_next_connection_closed: Closed,
}
