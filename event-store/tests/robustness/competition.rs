//! Two appends for one place, of which one is late: there are never two winners, and who was refused stays refused.

use event_store::Expected;
use futures::future::{join, join_all};

use crate::book::{Book, Word, append};
use crate::dice::{Dice, soon, times};
use crate::site::{Fault, Site, hasty};

/// How often each order of things is gone through.
const ROUNDS: usize = 200;
/// In so many places at once.
const PLACES: usize = 8;

/// When the late copy is written.
#[derive(Debug, Clone, Copy)]
enum Late {
    /// When the rival has been answered.
    After,
    /// While the rival's append is under way.
    Beside,
    /// Before the rival's append, and perhaps while its own is sent again.
    Before,
}

#[tokio::test]
async fn of_two_appends_for_one_place_one_wins_though_a_copy_is_late() {
    soon(join_all((0..PLACES).map(compete))).await;
}

async fn compete(place: usize) {
    let (mut dice, book) = (Dice::new(place as u64), Book::default());
    let site = Site::open().await;
    let (one, other) = (site.connect(hasty()).await, site.connect(hasty()).await);
    let mut last = None;
    for n in 0..(ROUNDS / PLACES) * times() {
        let late = dice.pick(&[Late::After, Late::Beside, Late::Before]);
        // Every fourth is for a stream that is not there yet.
        let stream = if n % 4 == 0 { format!("race-{n}") } else { "race-0".to_owned() };
        let expected = if n % 4 == 0 { Expected::NoStream } else { Expected::last(last) };
        site.tell(Fault::LateCommit);
        let first = book.append(&*one, append(&stream, expected, 1 + dice.below(2)));
        let rival = async {
            site.holds().await;
            // The fault is told to both servers, and one has met it.
            let rival = book.append(&*other, append(&stream, expected, 1 + dice.below(2)));
            match late {
                Late::After => {
                    site.forget();
                    let word = rival.await;
                    site.cut();
                    word
                }
                Late::Beside => {
                    site.cut();
                    site.forget();
                    join(rival, site.mend()).await.0
                }
                Late::Before => {
                    site.cut();
                    site.mend().await;
                    rival.await
                }
            }
        };
        let words = join(first, rival).await;
        site.mend().await;
        let ((Word::Written(won), Word::Refused(actual)) | (Word::Refused(actual), Word::Written(won))) = &words else {
            panic!("{late:?}: one of two was to win: {words:?}")
        };
        assert_eq!(*actual, Some(won.revision), "{late:?}");
        if n % 4 != 0 || n == 0 {
            last = Some(won.revision);
        }
    }
    book.check(site.log());
}

/// An append comes before its place is there, and a copy of it stays behind. "Nothing was written" would be too much said:
/// the copy is written when the stream has grown.
#[tokio::test]
async fn an_append_that_came_too_early_is_not_said_to_be_refused() {
    soon(join_all((0..PLACES).map(come_too_early))).await;
}

async fn come_too_early(place: usize) {
    let (mut dice, book) = (Dice::new(place as u64), Book::default());
    let site = Site::open().await;
    let (one, other) = (site.connect(hasty()).await, site.connect(hasty()).await);
    let Word::Written(opened) = book.append(&*other, append("early-1", Expected::NoStream, 1)).await else {
        panic!("it stands alone")
    };
    let mut last = opened.revision;
    let mut landed = 0;
    for _ in 0..(ROUNDS / PLACES) * times() {
        let ahead = 1 + dice.below(3) as u64;
        let early = append("early-1", Expected::Exact(last + ahead), 1 + dice.below(2));
        site.tell(Fault::LateCommit);
        let cut = async {
            site.holds().await;
            site.cut();
        };
        let (word, ()) = join(book.append_once(&*one, early.clone()), cut).await;
        assert!(matches!(word, Word::Open), "{early:?}: {word:?}");
        site.forget();
        // The stream grows up to there, or not, or further.
        let growth = dice.below(5) as u64;
        for _ in 0..growth {
            let Word::Written(grown) = book.append(&*other, append("early-1", Expected::Exact(last), 1)).await else {
                panic!("nobody competes")
            };
            last = grown.revision;
        }
        site.mend().await;
        if growth == ahead {
            landed += 1;
            last += early.events.len() as u64;
        }
    }
    assert!(landed > 0, "no copy came at the right moment");
    book.check(site.log());
}
