//! An append whose answer is lost is written once, or, where that cannot be known, at most once.

use event_store::Expected;
use futures::future::join_all;

use crate::book::{Book, Word, append, insist};
use crate::dice::{Dice, soon, times};
use crate::site::{Fault, Site};

/// So many appends meet each fault, a quarter of them with each expectation.
const APPENDS: usize = 200;
/// In so many places at once.
const PLACES: usize = 8;

#[derive(Debug, Clone, Copy)]
enum Kind {
    NoStream,
    Exact,
    Any,
    Exists,
}

const KINDS: [Kind; 4] = [Kind::NoStream, Kind::Exact, Kind::Any, Kind::Exists];

impl Kind {
    /// Where the append with this number goes: to a new stream, or to the one that is there.
    fn stream(self, n: usize) -> String {
        if matches!(self, Self::NoStream) { format!("lost-{n}") } else { "lost-0".to_owned() }
    }

    fn expected(self, last: Option<u64>) -> Expected {
        match self {
            Self::NoStream => Expected::NoStream,
            Self::Exact => Expected::last(last),
            Self::Any => Expected::Any,
            Self::Exists => Expected::Exists,
        }
    }
}

/// Has appends of each kind meet the fault, each alone; see [`Book::append`].
async fn each_meets(fault: Fault) {
    let places = (0..PLACES).map(|place| one_after_another(fault, KINDS[place % KINDS.len()], place));
    soon(join_all(places)).await;
}

/// Whatever it met, each append is written in the end, for it is asked for until there is an answer.
async fn one_after_another(fault: Fault, kind: Kind, place: usize) {
    let (mut dice, book) = (Dice::new(place as u64), Book::default());
    // Only a log that has forgotten the ids shows that they are not relied upon.
    let site = if dice.below(4) == 0 { Site::with_a_memory().await } else { Site::open().await };
    let store = site.connect(fault.timing()).await;
    let mut last = None;
    if !matches!(kind, Kind::NoStream) {
        let Word::Written(appended) = book.append(&*store, append("lost-0", Expected::NoStream, 2)).await else {
            panic!("it stands alone")
        };
        last = Some(appended.revision);
    }
    for n in 1..=(APPENDS / PLACES) * times() {
        let asked = append(&kind.stream(n), kind.expected(last), 1 + dice.below(3));
        let (word, met) = site.meeting(fault, &store, book.append(&*store, asked.clone())).await;
        assert!(met, "{asked:?} did not meet {fault:?}");
        let Word::Written(appended) = word else { panic!("{asked:?} met {fault:?} and was told {word:?}") };
        last = Some(appended.revision);
    }
    book.check(site.log());
}

macro_rules! each_meets {
    ($($name:ident: $fault:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            each_meets(Fault::$fault).await;
        })*
    };
}

each_meets! {
    an_append_that_is_cut_off_before_it_is_written: CutBeforeCommit,
    an_append_that_is_cut_off_when_it_is_written: CutAfterCommit,
    an_append_that_is_cut_off_twice: CutTwice,
    an_append_that_took_too_long: TimeOut,
    an_append_that_finds_another_leader: NotLeader,
    an_append_that_finds_the_server_not_ready: NotReady,
    an_append_that_is_answered_too_late: LateAnswer,
    an_append_that_is_written_late: LateCommit,
    an_append_that_is_written_when_nobody_waits: Overdue,
    an_append_over_a_restart: Restart,
    an_append_to_a_server_that_goes_away: Away,
    an_append_into_a_frozen_network: Frozen,
    an_append_whose_next_connection_is_closed: Closed,
}

#[tokio::test]
async fn an_append_that_is_never_answered_may_be_written() {
    soon(join_all((0..PLACES).map(give_up))).await;
}

/// It is given up before any copy of it is written. Then all of them are.
async fn give_up(place: usize) {
    let (mut dice, book, kind) = (Dice::new(place as u64), Book::default(), KINDS[place % KINDS.len()]);
    let site = Site::open().await;
    let store = site.connect(Fault::Unanswered.timing()).await;
    let opening = append("lost-0", Expected::NoStream, 1);
    let Word::Written(opened) = book.append(&*store, opening).await else { panic!("it stands alone") };
    let (mut last, mut given_up) = (Some(opened.revision), 0);
    for n in 1.. {
        let asked = append(&kind.stream(n), kind.expected(last), 1 + dice.below(3));
        let before = site.log().records().len();
        let (word, met) = site.meeting(Fault::Unanswered, &store, book.append_once(&*store, asked.clone())).await;
        // On a busy machine it may have been given up before it was sent. Then it is not there.
        if let Word::Refused(_) = word {
            assert_eq!(site.log().records().len(), before, "{asked:?} was said not to be written");
        }
        if met && matches!(word, Word::Open) {
            given_up += 1;
            site.log().reaches(before + asked.events.len()).await;
            // The appender may ask again. One that named no revision would be another append.
            if matches!(kind, Kind::NoStream | Kind::Exact) {
                let again = insist(&*store, &asked).await;
                let Word::Written(again) = again else { panic!("{asked:?} was asked for again and told {again:?}") };
                assert_eq!(again.revision, site.log().records().last().unwrap().revision);
            }
        }
        assert!(!matches!(word, Word::Written(_)), "{asked:?} was not to be answered: {word:?}");
        if !matches!(kind, Kind::NoStream) {
            last = site.log().records().last().map(|record| record.revision);
        }
        if given_up == (APPENDS / PLACES) * times() {
            break;
        }
    }
    book.check(site.log());
}
