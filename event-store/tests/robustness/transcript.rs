//! What a log answered to a history, said so that it can be compared with what another one answered.
//!
//! Compared are: what became of each append (the revision and the position of its last event, the conflict with what was
//! expected and what is there, the limit with its figures); pages of streams with all that an event has, and whether they
//! are the end; the whole log from any position, as what all pages up to the head bring together, and where the last one
//! ends; where the head is, and that a reader past it is told. At the end, every stream and the whole log.
//!
//! Positions differ from log to log: each is replaced by the place of its event among those of the history. Not compared
//! are the times of events, and how many pages there are: a log that filters for itself fills a page with what passes.
//!
//! An append that names no revision is a new append whenever it is made: no log knows it again by its ids.

use event_store::{
    AppendError, Direction, EventStore, Expected, Filter, NewEvent, PastTheEnd, Position, ReadError, RecordedEvent,
    StreamName,
};

use crate::history::{Step, streams};

/// An event as a reader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<P> {
    stream: StreamName,
    revision: u64,
    position: P,
    event: NewEvent,
}

/// An answer, with positions of the kind `P`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<P> {
    Appended { revision: u64, position: P },
    Conflict { stream: StreamName, expected: Expected, actual: Option<u64> },
    Limit { events: usize, bytes: usize },
    Stream { events: Vec<Found<P>>, end: bool },
    All { events: Vec<Found<P>>, read_to: Option<P> },
    PastTheEnd { head: Option<P> },
    Head(Option<P>),
    Failed(String),
}

/// Where a position is among those of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the history.
    Before,
    /// At the event with this number.
    At(usize),
    /// At none of its events.
    Nowhere,
}

pub(crate) type Transcript = Vec<Answer<Place>>;

/// Asks a log, and writes down what it answers. Nobody else uses the log.
pub(crate) async fn perform(log: &dyn EventStore, steps: &[Step], tag: &str) -> Transcript {
    let start = log.head().await.unwrap();
    let streams = streams(tag);
    let (mut answers, mut told) = (Vec::new(), Vec::new());
    for step in steps {
        let answer = match step {
            Step::Append(append) => match log.append(append.clone()).await {
                Ok(appended) => Answer::Appended { revision: appended.revision, position: appended.position },
                Err(AppendError::Conflict { stream, expected, actual }) => {
                    Answer::Conflict { stream, expected, actual }
                }
                Err(AppendError::Limit { events, bytes }) => Answer::Limit { events, bytes },
                Err(error) => Answer::Failed(format!("{error:?}")),
            },
            Step::ReadStream { stream, from, direction, limit } => {
                let page = log.read_stream(&streams[*stream], *from, *direction, *limit).await;
                page.map_or_else(failed, |page| Answer::Stream { events: all_found(page.events), end: page.end })
            }
            Step::ReadAll { after, filter, limit } => {
                let after = after.filter(|_| !told.is_empty()).map(|index| *index.get(&told));
                read_all(log, after.or(start), filter, *limit).await
            }
            Step::ReadPastTheEnd => {
                let head = log.head().await.unwrap().unwrap_or(Position::at(0));
                let beyond = Position { commit: head.commit + (1 << 40), prepare: head.prepare + (1 << 40) };
                read_all(log, Some(beyond), &Filter::all(), 1).await
            }
            Step::Head => log.head().await.map_or_else(failed, Answer::Head),
        };
        match &answer {
            Answer::Appended { position, .. } => told.push(*position),
            Answer::Stream { events, .. } | Answer::All { events, .. } => {
                told.extend(events.iter().map(|found| found.position));
            }
            _ => {}
        }
        answers.push(answer);
    }
    for stream in &streams {
        let page = log.read_stream(stream, None, Direction::Forwards, 10_000).await;
        answers.push(page.map_or_else(failed, |page| Answer::Stream { events: all_found(page.events), end: page.end }));
    }
    let whole = read_all(log, start, &Filter::all(), 50).await;
    let positions = match &whole {
        Answer::All { events, .. } => events.iter().map(|found| found.position).collect(),
        _ => Vec::new(),
    };
    answers.push(whole);
    answers.into_iter().map(|answer| placed(answer, start, &positions)).collect()
}

/// Reads all pages up to the head.
async fn read_all(
    log: &dyn EventStore,
    mut after: Option<Position>,
    filter: &Filter,
    limit: usize,
) -> Answer<Position> {
    let mut events: Vec<Found<Position>> = Vec::new();
    loop {
        let page = match log.read_all(after, filter, limit).await {
            Ok(page) => page,
            Err(error) => return failed(error),
        };
        if page.events.len() > limit {
            return Answer::Failed(format!("a page of {limit} has {} events", page.events.len()));
        }
        if page.read_to < after || page.events.last().is_some_and(|last| Some(last.position) > page.read_to) {
            return Answer::Failed(format!("a page after {after:?} goes to {:?}", page.read_to));
        }
        if page.read_to == after && !page.at_head {
            return Answer::Failed(format!("a page after {after:?} leads nowhere"));
        }
        events.extend(all_found(page.events));
        after = page.read_to;
        if page.at_head {
            return Answer::All { events, read_to: after };
        }
    }
}

fn failed(error: ReadError) -> Answer<Position> {
    match error.0.downcast_ref::<PastTheEnd>() {
        Some(past) => Answer::PastTheEnd { head: past.head },
        None => Answer::Failed(format!("{error:?}")),
    }
}

fn all_found(events: Vec<RecordedEvent>) -> Vec<Found<Position>> {
    let found = |event| {
        let RecordedEvent { stream, revision, position, id, event_type, data, metadata, .. } = event;
        Found { stream, revision, position, event: NewEvent { id, event_type, data, metadata } }
    };
    events.into_iter().map(found).collect()
}

fn placed(answer: Answer<Position>, start: Option<Position>, positions: &[Position]) -> Answer<Place> {
    let place = |position: Position| {
        let at = positions.iter().position(|known| *known == position);
        at.map_or(if Some(position) == start { Place::Before } else { Place::Nowhere }, Place::At)
    };
    // To be before the first event of an empty log is to be before the history.
    let end = |position: Option<Position>| Some(position.map_or(Place::Before, place));
    let all = |events: Vec<Found<Position>>| {
        let one =
            |Found { stream, revision, position, event }| Found { stream, revision, position: place(position), event };
        events.into_iter().map(one).collect()
    };
    match answer {
        Answer::Appended { revision, position } => Answer::Appended { revision, position: place(position) },
        Answer::Conflict { stream, expected, actual } => Answer::Conflict { stream, expected, actual },
        Answer::Limit { events, bytes } => Answer::Limit { events, bytes },
        Answer::Stream { events, end } => Answer::Stream { events: all(events), end },
        Answer::All { events, read_to } => Answer::All { events: all(events), read_to: end(read_to) },
        Answer::PastTheEnd { head } => Answer::PastTheEnd { head: end(head) },
        Answer::Head(head) => Answer::Head(end(head)),
        Answer::Failed(error) => Answer::Failed(error),
    }
}

/// The first answer in which two logs differ, if there is one.
pub(crate) fn difference(steps: &[Step], one: &Transcript, other: &Transcript) -> Option<String> {
    let (n, (one, other)) = one.iter().zip(other).enumerate().find(|(_, (one, other))| one != other)?;
    let asked = steps.get(n).map_or("what is there at the end".to_owned(), |step| format!("{step:?}"));
    Some(format!("step {n}, {asked}:\n  {one:?}\n  {other:?}"))
}
