//! Histories of what may be asked of a log: made by chance, and made smaller when they show that something is wrong.

use bytes::Bytes;
use event_store::{Append, Direction, EventStore as _, EventType, Expected, Filter, MemoryEventStore, NewEvent};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use uuid::Uuid;

use crate::book::name;
use crate::dice::Dice;

/// The streams, each behind a tag that makes its category one of this history alone. One category starts like another.
const STREAMS: [&str; 4] = ["one-1", "one-2", "ones-1", "other-a-b"];
const CATEGORIES: [&str; 4] = ["one", "ones", "other", "none"];
const TYPES: [&str; 2] = ["Opened", "Shut"];
const PAYLOADS: [&str; 4] = ["{}", "{ \"spaces\" :  \"kept\" }", "{\"a\":1.0e0,\"a\":[ ]}", " \"£\\u0000\"\n"];
/// The limits and the lengths of histories.
const LIMITS: [usize; 5] = [1, 2, 3, 7, 1_000];
const LENGTHS: std::ops::Range<usize> = 10..30;

/// Something that is asked, as it is made by chance.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Append {
        stream: usize,
        aim: Aim,
        events: Vec<(usize, usize)>,
    },
    /// An earlier append once more, ids and all, perhaps with another expectation, or other events at its end.
    Repeat {
        which: Index,
        aim: Option<Aim>,
        tail: Tail,
    },
    ReadStream {
        stream: usize,
        from: Option<From>,
        direction: Direction,
        limit: usize,
    },
    ReadAll {
        after: Option<Index>,
        categories: Vec<usize>,
        types: Vec<usize>,
        limit: usize,
    },
    ReadPastTheEnd,
    Head,
}

/// What an append expects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// What holds: the stream is just as it is.
    Right,
    Other(Expected),
}

/// What becomes of the end of an append that is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tail {
    Same,
    /// The last event is another one.
    Other,
    Shorter,
    Longer,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    Revision(u64),
    Far,
    Farthest,
}

/// Something that is asked, so that every log can be asked the same.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append(Append),
    ReadStream {
        stream: usize,
        from: Option<u64>,
        direction: Direction,
        limit: usize,
    },
    /// All pages up to the head, after one of the positions that were told before.
    ReadAll {
        after: Option<Index>,
        filter: Filter,
        limit: usize,
    },
    ReadPastTheEnd,
    Head,
}

/// So many histories, which follow from the seed and the number.
pub(crate) fn histories(count: usize, number: u64) -> Vec<impl ValueTree<Value = Vec<Op>>> {
    let mut dice = Dice::new(number);
    let seed: Vec<u8> = (0..4).flat_map(|_| dice.roll().to_le_bytes()).collect();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let history = vec(op(), LENGTHS);
    (0..count).map(|_| history.new_tree(&mut runner).unwrap()).collect()
}

fn op() -> impl Strategy<Value = Op> {
    let limit = || select(&LIMITS[..]);
    let direction = select(&[Direction::Forwards, Direction::Backwards][..]);
    let from = prop_oneof![
        6 => (0..12_u64).prop_map(From::Revision),
        1 => Just(From::Far),
        1 => Just(From::Farthest),
    ];
    let events = prop_oneof![
        19 => vec((0..TYPES.len(), 0..PAYLOADS.len()), 1..4),
        1 => Just(Vec::new()),
    ];
    let tail =
        prop_oneof![4 => Just(Tail::Same), 1 => Just(Tail::Other), 1 => Just(Tail::Shorter), 1 => Just(Tail::Longer)];
    let names = |count: usize| prop_oneof![2 => Just(Vec::new()), 3 => vec(0..count, 1..3)];
    prop_oneof![
        10 => (0..STREAMS.len(), aim(), events).prop_map(|(stream, aim, events)| Op::Append { stream, aim, events }),
        5 => (any::<Index>(), proptest::option::of(aim()), tail)
            .prop_map(|(which, aim, tail)| Op::Repeat { which, aim, tail }),
        4 => (0..STREAMS.len(), proptest::option::of(from), direction, prop_oneof![1 => Just(0), 9 => limit()])
            .prop_map(|(stream, from, direction, limit)| Op::ReadStream { stream, from, direction, limit }),
        3 => (proptest::option::of(any::<Index>()), names(CATEGORIES.len()), names(TYPES.len()), limit())
            .prop_map(|(after, categories, types, limit)| Op::ReadAll { after, categories, types, limit }),
        1 => Just(Op::ReadPastTheEnd),
        1 => Just(Op::Head),
    ]
}

fn aim() -> impl Strategy<Value = Aim> {
    prop_oneof![
        6 => Just(Aim::Right),
        2 => Just(Aim::Other(Expected::Any)),
        2 => Just(Aim::Other(Expected::NoStream)),
        2 => Just(Aim::Other(Expected::Exists)),
        4 => (0..10_u64).prop_map(|revision| Aim::Other(Expected::Exact(revision))),
        1 => select(&[u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1][..])
            .prop_map(|revision| Aim::Other(Expected::Exact(revision))),
    ]
}

/// The names of the history's streams.
pub(crate) fn streams(tag: &str) -> Vec<event_store::StreamName> {
    STREAMS.iter().map(|stream| name(&format!("{tag}{stream}"))).collect()
}

/// A history, made definite: ids are given, and what an append expects is filled in as a log in memory has it.
pub(crate) async fn script(history: &[Op], tag: &str) -> Vec<Step> {
    let (log, mut appends) = (MemoryEventStore::new(), Vec::<Append>::new());
    let mut steps = Vec::new();
    for op in history {
        let (mut append, aim) = match op.clone() {
            Op::Append { stream, aim, events } => {
                let events = events.into_iter().map(|(name, payload)| event(name, payload)).collect();
                let stream = streams(tag)[stream].clone();
                (Append { stream, expected: Expected::Any, events }, Some(aim))
            }
            Op::Repeat { which, aim, tail } => {
                let Some(append) = (!appends.is_empty()).then(|| which.get(&appends)) else { continue };
                let mut append = append.clone();
                if matches!(tail, Tail::Other | Tail::Shorter) {
                    append.events.pop();
                }
                if matches!(tail, Tail::Other | Tail::Longer) {
                    append.events.push(event(0, 0));
                }
                (append, aim)
            }
            Op::ReadStream { stream, from, direction, limit } => {
                let from = from.map(|from| match from {
                    From::Revision(revision) => revision,
                    From::Far => i64::MAX as u64,
                    From::Farthest => u64::MAX,
                });
                steps.push(Step::ReadStream { stream, from, direction, limit });
                continue;
            }
            Op::ReadAll { after, categories, types, limit } => {
                let categories = categories.into_iter().map(|n| format!("{tag}{}", CATEGORIES[n])).collect();
                let types = types.into_iter().map(|n| TYPES[n].to_owned()).collect();
                steps.push(Step::ReadAll { after, filter: Filter { categories, types }, limit });
                continue;
            }
            Op::ReadPastTheEnd => {
                steps.push(Step::ReadPastTheEnd);
                continue;
            }
            Op::Head => {
                steps.push(Step::Head);
                continue;
            }
        };
        match aim {
            Some(Aim::Other(expected)) => append.expected = expected,
            Some(Aim::Right) => {
                let last = log.read_stream(&append.stream, None, Direction::Backwards, 1).await.unwrap();
                append.expected = Expected::last(last.events.first().map(|event| event.revision));
            }
            None => {}
        }
        let _ = log.append(append.clone()).await;
        appends.push(append.clone());
        steps.push(Step::Append(append));
    }
    steps
}

fn event(name: usize, payload: usize) -> NewEvent {
    let event_type = EventType::new(TYPES[name]).unwrap();
    let data = Bytes::from_static(PAYLOADS[payload].as_bytes());
    NewEvent { id: Uuid::now_v7(), event_type, data, metadata: Bytes::from_static(b"{\"schema\":1}") }
}
