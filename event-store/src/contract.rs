//! What every log has to do: one list of checks, run against each adapter.
//!
//! [`contract_suite!`](crate::contract_suite) makes a test of each. A check works in streams of its own, so that it can
//! also be held against a log that is in use.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use uuid::Uuid;

use crate::{
    Append, AppendError, Appended, Direction, EventStore, EventType, Expected, Filter, MAX_APPEND_BYTES, NewEvent,
    PastTheEnd, Position, RecordedEvent, StreamName, SubscriptionMessage,
};

/// A log under test.
pub type Store = Arc<dyn EventStore>;
/// What a check found: nothing, or what is wrong.
pub type Verdict = Result<(), Broken>;

/// A way in which a log breaks the contract.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// A check: its name, and how to run it.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it makes sure of, as an identifier.
    pub name: &'static str,
    /// Runs it against a log.
    pub run: fn(Store) -> Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

/// Declares the checks: the list of them, and a macro that makes a test of each.
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// Every check of the contract.
        pub const CHECKS: &[Check] = &[$(Check { name: stringify!($name), run: |store| Box::pin($name(store)) }),*];

        /// Makes a test of each check: `contract_suite!(open_a_store())`, where the expression is a future of an
        /// `Arc<dyn EventStore>`.
        #[macro_export]
        macro_rules! contract_suite {
            ($open:expr) => {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Err(broken) = $crate::contract::$name($open.await).await {
                        panic!("{broken}");
                    }
                })*
            };
        }
    };
}

checks! {
    an_appended_event_reads_back_as_it_was,
    revisions_start_at_zero_and_have_no_gap,
    each_expectation_holds_or_conflicts,
    an_expected_event_holds_or_conflicts,
    an_append_is_all_or_none,
    a_repeated_append_is_recognised,
    a_repeat_with_other_ids_conflicts,
    each_part_of_an_append_is_told_where_it_ends,
    an_append_past_the_limits_is_refused,
    a_stream_reads_in_pages_both_ways,
    a_missing_stream_is_empty,
    positions_follow_the_order_of_appends,
    the_whole_log_reads_in_pages,
    what_was_just_appended_is_what_the_log_has,
    a_filter_lets_through_what_it_names,
    a_reader_past_the_end_is_told,
    a_heavy_log_is_read_in_bounded_pages,
    rivals_for_one_revision_have_one_winner,
    concurrent_appends_leave_no_gap,
    appends_in_order_stand_in_order,
    a_conflict_does_not_harm_its_neighbours,
    a_subscription_catches_up_then_goes_live,
    a_reader_beside_writers_misses_nothing,
}

/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(Broken(format!($($why)+)));
        }
    };
}

/// What was appended reads back byte for byte, from the stream and from the whole log.
pub async fn an_appended_event_reads_back_as_it_was(store: Store) -> Verdict {
    let (stream, start) = (a_stream("contract"), store.head().await.map_err(broken)?);
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: kind("Contract/Ünïcode happened"),
        data: Bytes::from_static("{ \"spaces\" :  \"kept, £ and \\u0000 too\", \"n\": 9007199254740993 }".as_bytes()),
        metadata: Bytes::from_static(b"{\"schema\":1}"),
    };
    let appended = append(&store, &stream, Expected::NoStream, vec![event.clone()]).await?;
    let read = read(&store, &stream).await?;
    ensure!(read.len() == 1, "one event was appended, {} came back", read.len());
    for found in [
        &read[0],
        all_after(&store, start, &Filter::all())
            .await?
            .iter()
            .find(|e| e.id == event.id)
            .ok_or_else(|| Broken("not in the whole log".into()))?,
    ] {
        ensure!(found.stream == stream && found.revision == 0, "stands at {}@{}", found.stream, found.revision);
        ensure!(found.id == event.id && found.event_type == event.event_type, "other id or type: {found:?}");
        ensure!(found.data == event.data && found.metadata == event.metadata, "other bytes: {found:?}");
        ensure!(found.position == appended.position, "{} read, {} answered", found.position, appended.position);
    }
    Ok(())
}

/// Revisions count from 0 over several appends.
pub async fn revisions_start_at_zero_and_have_no_gap(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let first = append(&store, &stream, Expected::NoStream, events(3)).await?;
    let second = append(&store, &stream, Expected::Exact(2), events(2)).await?;
    ensure!((first.revision, second.revision) == (2, 4), "the last revisions are {first:?} and {second:?}");
    let revisions: Vec<_> = read(&store, &stream).await?.iter().map(|event| event.revision).collect();
    ensure!(revisions == [0, 1, 2, 3, 4], "the revisions are {revisions:?}");
    Ok(())
}

/// Every expectation, on a stream without events and on one with three.
pub async fn each_expectation_holds_or_conflicts(store: Store) -> Verdict {
    let cases = [
        (Expected::Any, true, true),
        (Expected::NoStream, true, false),
        (Expected::Exists, false, true),
        (Expected::Exact(0), false, false),
        (Expected::Exact(2), false, true),
        (Expected::Exact(3), false, false),
        (Expected::Exact(u64::MAX), false, false),
    ];
    for (expected, on_none, on_three) in cases {
        for (there, holds) in [(0, on_none), (3, on_three)] {
            let stream = a_stream("contract");
            if there > 0 {
                append(&store, &stream, Expected::NoStream, events(there)).await?;
            }
            let last = (there as u64).checked_sub(1);
            let answer = store.append(Append { stream: stream.clone(), expected, events: events(1) }).await;
            match answer {
                Ok(Appended { revision, .. }) if holds && revision == there as u64 => {}
                Err(AppendError::Conflict { stream: named, expected: told, actual }) if !holds => {
                    ensure!(
                        named == stream && told == expected && actual == last,
                        "{told:?} conflicts with {actual:?}"
                    );
                }
                other => return Err(Broken(format!("{expected:?} on {there} events: {other:?}"))),
            }
            let count = read(&store, &stream).await?.len();
            ensure!(count == there + usize::from(holds), "{expected:?} on {there} events left {count}");
        }
    }
    Ok(())
}

/// Either all events of an append are there, in order and side by side, or none.
pub async fn an_append_is_all_or_none(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let batch = events(50);
    append(&store, &stream, Expected::NoStream, batch.clone()).await?;
    let refused =
        store.append(Append { stream: stream.clone(), expected: Expected::Exact(7), events: events(50) }).await;
    ensure!(matches!(refused, Err(AppendError::Conflict { .. })), "a stale append gave {refused:?}");
    let ids: Vec<_> = read(&store, &stream).await?.iter().map(|event| event.id).collect();
    ensure!(ids.iter().eq(batch.iter().map(|event| &event.id)), "the stream holds other events than were appended");
    Ok(())
}

/// An append may name the event that it takes for the last one.
pub async fn an_expected_event_holds_or_conflicts(store: Store) -> Verdict {
    let (stream, opening, more) = (a_stream("contract"), events(3), events(2));
    append(&store, &stream, Expected::NoStream, opening.clone()).await?;
    let after = |place: usize| Expected::After { revision: place as u64, id: opening[place].id };
    let first = append(&store, &stream, after(2), more.clone()).await?;
    ensure!(first.revision == 4, "the last revision is {}", first.revision);
    let repeated = append(&store, &stream, after(2), more).await?;
    ensure!(repeated == first, "{repeated:?} answered to what was {first:?} before");
    for place in 0..3 {
        let append = Append { stream: stream.clone(), expected: after(place), events: events(1) };
        let answer = store.append(append).await;
        let is_conflict = matches!(answer, Err(AppendError::Conflict { actual: Some(4), .. }));
        ensure!(is_conflict, "after the event at {place}, of five: {answer:?}");
    }
    let nowhere = Append { stream: a_stream("contract"), expected: after(0), events: events(1) };
    let answer = store.append(nowhere).await;
    ensure!(matches!(answer, Err(AppendError::Conflict { actual: None, .. })), "where nothing is: {answer:?}");
    Ok(())
}

/// The same append again, ids and all, writes nothing and answers as the first time, also when more has come since.
pub async fn a_repeated_append_is_recognised(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let (opening, more) = (events(2), events(3));
    let first = append(&store, &stream, Expected::NoStream, opening.clone()).await?;
    let repeated = append(&store, &stream, Expected::NoStream, opening.clone()).await?;
    ensure!(repeated == first, "another answer at once");
    let second = append(&store, &stream, Expected::Exact(1), more.clone()).await?;
    append(&store, &stream, Expected::Exact(4), events(1)).await?;
    let repeated = append(&store, &stream, Expected::NoStream, opening).await?;
    ensure!(repeated == first, "another answer for the opening");
    let repeated = append(&store, &stream, Expected::Exact(1), more).await?;
    ensure!(repeated == second, "another answer in the middle");
    let count = read(&store, &stream).await?.len();
    ensure!(count == 6, "6 events were appended, some of them twice; {count} are there");
    Ok(())
}

/// A stale append is not taken for a repeat because some of its ids are there.
pub async fn a_repeat_with_other_ids_conflicts(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let opening = events(2);
    append(&store, &stream, Expected::NoStream, opening.clone()).await?;
    let partly = vec![opening[0].clone(), events(1).remove(0)];
    let longer = [opening.clone(), events(1)].concat();
    for (what, events) in [("other", events(2)), ("partly the same", partly), ("more", longer)] {
        let answer = store.append(Append { stream: stream.clone(), expected: Expected::NoStream, events }).await;
        ensure!(matches!(answer, Err(AppendError::Conflict { .. })), "{what} events gave {answer:?}");
    }
    ensure!(read(&store, &stream).await?.len() == 2, "a conflict wrote something");
    Ok(())
}

/// Events of several commands in one append: each part is told where it ends, also when all of it was there before, in one
/// append or in several. The beginning of it alone is recognised, any other part alone is not.
pub async fn each_part_of_an_append_is_told_where_it_ends(store: Store) -> Verdict {
    for at_once in [true, false] {
        let (stream, parts) = (a_stream("contract"), [1, 3, 2]);
        let whole = events(6);
        let append_whole = || Append { stream: stream.clone(), expected: Expected::NoStream, events: whole.clone() };
        if at_once {
            let first = store.append_together(append_whole(), &parts).await.map_err(broken)?;
            ensure!(first.len() == 3, "{} answers to 3 parts", first.len());
        } else {
            append(&store, &stream, Expected::NoStream, whole[..1].to_vec()).await?;
            // Others stand between them in the log.
            append(&store, &a_stream("contract"), Expected::NoStream, events(2)).await?;
            append(&store, &stream, Expected::Exact(0), whole[1..4].to_vec()).await?;
            append(&store, &a_stream("contract"), Expected::NoStream, events(2)).await?;
            append(&store, &stream, Expected::Exact(3), whole[4..].to_vec()).await?;
        }
        let there = read(&store, &stream).await?;
        let ends = [0, 3, 5].map(|end: usize| there.get(end).map(|event| (event.revision, event.position)));
        let repeated = store.append_together(append_whole(), &parts).await.map_err(broken)?;
        let told: Vec<_> = repeated.iter().map(|end| Some((end.revision, end.position))).collect();
        ensure!(told == ends, "they end at {ends:?}, and {told:?} was told");
        let beginning = append(&store, &stream, Expected::NoStream, whole[..1].to_vec()).await?;
        ensure!(Some((beginning.revision, beginning.position)) == ends[0], "another answer for the beginning");
        let middle = Append { stream: stream.clone(), expected: Expected::NoStream, events: whole[1..4].to_vec() };
        let answer = store.append(middle).await;
        ensure!(matches!(answer, Err(AppendError::Conflict { .. })), "the middle alone gave {answer:?}");
        ensure!(read(&store, &stream).await?.len() == 6, "a repeat wrote something");
    }
    Ok(())
}

/// No event, or too many bytes: refused before anything is written.
pub async fn an_append_past_the_limits_is_refused(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let mut large = events(2);
    large[1].data = Bytes::from(format!("\"{}\"", "x".repeat(MAX_APPEND_BYTES)));
    for events in [Vec::new(), large] {
        let answer = store.append(Append { stream: stream.clone(), expected: Expected::Any, events }).await;
        ensure!(matches!(answer, Err(AppendError::Limit { .. })), "past the limits: {answer:?}");
    }
    ensure!(read(&store, &stream).await?.is_empty(), "a refused append wrote something");
    let mut fits = events(1);
    fits[0].data = Bytes::from(format!("\"{}\"", "x".repeat(MAX_APPEND_BYTES - 200)));
    append(&store, &stream, Expected::Any, fits).await.map(drop)
}

/// Appends in order stand in the whole log as they were given, whatever their streams; behind one that fails there is none.
pub async fn appends_in_order_stand_in_order(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let (one, other, third) = (a_stream("contract"), a_stream("contract"), a_stream("contract"));
    let next =
        |stream: &StreamName, expected, count| Append { stream: stream.clone(), expected, events: events(count) };
    let appends = vec![
        next(&one, Expected::NoStream, 2),
        next(&other, Expected::NoStream, 1),
        next(&one, Expected::Exact(1), 1),
        next(&one, Expected::Exact(2), 3),
        next(&other, Expected::Exact(0), 2),
    ];
    let ids: Vec<_> = appends.iter().flat_map(|append| &append.events).map(|event| event.id).collect();
    let appended = store.append_in_order(appends).await.map_err(broken)?;
    let revisions: Vec<_> = appended.iter().map(|appended| appended.revision).collect();
    ensure!(revisions == [1, 0, 2, 5, 2], "the last revisions are {revisions:?}");
    ensure!(appended.is_sorted_by(|a, b| a.position < b.position), "the positions are out of order: {appended:?}");
    let found = all_after(&store, start, &Filter::all()).await?;
    let ours: Vec<_> = found.iter().filter(|event| ids.contains(&event.id)).collect();
    ensure!(ours.iter().map(|event| event.id).eq(ids), "the log has them in another order");
    ensure!(ours.last().map(|event| event.position) == appended.last().map(|last| last.position), "another position");

    let torn = vec![
        next(&one, Expected::Exact(5), 1),
        next(&third, Expected::Exact(7), 1),
        next(&other, Expected::Exact(2), 1),
    ];
    match store.append_in_order(torn).await {
        Err(AppendError::Conflict { stream, actual: None, .. }) if stream == third => {}
        answer => return Err(Broken(format!("the second of three appends is a conflict: {answer:?}"))),
    }
    ensure!(read(&store, &other).await?.len() == 3, "an append behind one that failed was written");
    ensure!(read(&store, &third).await?.is_empty(), "an append that failed was written");
    Ok(())
}

/// Pages of a stream cover it exactly, in both directions and from any revision.
pub async fn a_stream_reads_in_pages_both_ways(store: Store) -> Verdict {
    let stream = a_stream("contract");
    append(&store, &stream, Expected::NoStream, events(10)).await?;
    let page = async |from, direction, limit| {
        let page = store.read_stream(&stream, from, direction, limit).await.map_err(broken)?;
        Ok::<_, Broken>((page.events.iter().map(|event| event.revision).collect::<Vec<_>>(), page.end))
    };
    let cases = [
        (None, Direction::Forwards, 4, vec![0, 1, 2, 3], false),
        (Some(4), Direction::Forwards, 6, vec![4, 5, 6, 7, 8, 9], true),
        (Some(8), Direction::Forwards, 9, vec![8, 9], true),
        (Some(10), Direction::Forwards, 9, vec![], true),
        (Some(u64::MAX), Direction::Forwards, 9, vec![], true),
        (None, Direction::Backwards, 3, vec![9, 8, 7], false),
        (Some(2), Direction::Backwards, 3, vec![2, 1, 0], true),
        (Some(99), Direction::Backwards, 1, vec![9], false),
    ];
    for (from, direction, limit, revisions, end) in cases {
        let found = page(from, direction, limit).await?;
        ensure!(found == (revisions.clone(), end), "{direction:?} from {from:?}, {limit}: {found:?}");
    }
    Ok(())
}

/// A stream of which nothing was ever appended reads as empty.
pub async fn a_missing_stream_is_empty(store: Store) -> Verdict {
    for direction in [Direction::Forwards, Direction::Backwards] {
        let page = store.read_stream(&a_stream("contract"), None, direction, 5).await.map_err(broken)?;
        ensure!(page.events.is_empty() && page.end, "{direction:?}: {page:?}");
    }
    Ok(())
}

/// One append after another: the later one has the higher position, and the head is at least there.
pub async fn positions_follow_the_order_of_appends(store: Store) -> Verdict {
    let mut last = None;
    for _ in 0..20 {
        let appended = append(&store, &a_stream("contract"), Expected::NoStream, events(2)).await?;
        ensure!(Some(appended.position) > last, "{} came after {last:?}", appended.position);
        last = Some(appended.position);
        let head = store.head().await.map_err(broken)?;
        ensure!(head >= last, "the head is {head:?} after an append at {last:?}");
    }
    Ok(())
}

/// Pages of any size cover the log exactly, in order; an empty tail is at the head.
pub async fn the_whole_log_reads_in_pages(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let mut ids = Vec::new();
    for count in 1..8 {
        let batch = events(count);
        ids.extend(batch.iter().map(|event| event.id));
        append(&store, &a_stream("contract"), Expected::NoStream, batch).await?;
    }
    for limit in [1, 3, 28, 1_000] {
        let (mut after, mut found) = (start, Vec::new());
        loop {
            let page = store.read_all(after, &Filter::all(), limit).await.map_err(broken)?;
            found.extend(page.events.iter().map(|event| (event.position, event.id)));
            ensure!(page.read_to >= after, "reading went back from {after:?} to {:?}", page.read_to);
            after = page.read_to;
            if page.at_head {
                break;
            }
        }
        ensure!(found.is_sorted_by(|a, b| a.0 < b.0), "pages of {limit} are out of order");
        let ours: Vec<_> = found.iter().map(|(_, id)| *id).filter(|id| ids.contains(id)).collect();
        ensure!(ours == ids, "pages of {limit}: {} of {} events, or in another order", ours.len(), ids.len());
    }
    Ok(())
}

/// What a log tells of its own appends from memory is what is there: the same events, none left out, whoever else appends.
pub async fn what_was_just_appended_is_what_the_log_has(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    for count in 1..8 {
        let (new, known) = (a_stream("contract"), a_stream("contract"));
        append(&store, &new, Expected::NoStream, events(count)).await?;
        append(&store, &known, Expected::Any, events(1)).await?;
        append(&store, &known, Expected::Exact(0), events(count)).await?;
    }
    let log = all_after(&store, start, &Filter::all()).await?;
    let starts = std::iter::once(start).chain(log.iter().map(|event| Some(event.position)));
    for (place, after) in starts.enumerate() {
        for limit in [1, 5, 1_000] {
            let told = store.just_appended(after, limit);
            ensure!(told.len() <= limit, "{} events, though at most {limit} were asked for", told.len());
            ensure!(log[place..].starts_with(&told), "after {after:?} it tells {told:?}, and not what is there");
        }
    }
    Ok(())
}

/// Categories and types each let through what they name; what does not pass still moves the checkpoint.
pub async fn a_filter_lets_through_what_it_names(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let (one, other) = (a_category(), a_category());
    let happened = |name: &str| vec![NewEvent { event_type: kind(name), ..events(1).remove(0) }];
    append(&store, &named(&one, "a"), Expected::NoStream, happened("Opened")).await?;
    append(&store, &named(&other, "a"), Expected::NoStream, happened("Opened")).await?;
    append(&store, &named(&one, "b-c-d"), Expected::NoStream, happened("Shut")).await?;
    let end = append(&store, &a_stream("contract"), Expected::NoStream, events(1)).await?;
    let cases = [
        (Filter::categories([&one]), 2),
        (Filter::categories([&one, &other]), 3),
        (Filter { categories: vec![one.clone(), other.clone()], types: vec!["Opened".into()] }, 2),
        (Filter { categories: vec![one.clone()], types: vec!["Shut".into()] }, 1),
        (Filter::categories([format!("{one}x")]), 0),
    ];
    for (filter, count) in cases {
        let found = all_after(&store, start, &filter).await?;
        ensure!(found.len() == count, "{filter:?} let {} of {count} through", found.len());
        let page = store.read_all(start, &filter, 10_000).await.map_err(broken)?;
        ensure!(page.read_to >= Some(end.position), "{filter:?} read only to {:?}", page.read_to);
    }
    Ok(())
}

/// A reader whose position the log does not have is told so, and not kept waiting for it.
pub async fn a_reader_past_the_end_is_told(store: Store) -> Verdict {
    let appended = append(&store, &a_stream("contract"), Expected::NoStream, events(1)).await?;
    let beyond =
        Position { commit: appended.position.commit + (1 << 40), prepare: appended.position.prepare + (1 << 40) };
    let read = store.read_all(Some(beyond), &Filter::all(), 10).await;
    let told =
        matches!(&read, Err(error) if error.0.downcast_ref::<PastTheEnd>().is_some_and(|past| past.after == beyond));
    ensure!(told, "past the end: {read:?}");
    Ok(())
}

/// Events that are large together come in several pages, whatever the limit, and none is missing.
pub async fn a_heavy_log_is_read_in_bounded_pages(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let (category, stream) = (a_category(), "1");
    let mut ids = Vec::new();
    for revision in 0..40_u64 {
        let mut event = events(1);
        event[0].data = Bytes::from(format!("\"{}\"", "x".repeat(900_000)));
        ids.push(event[0].id);
        append(&store, &named(&category, stream), Expected::last(revision.checked_sub(1)), event).await?;
    }
    let found = all_after(&store, start, &Filter::categories([&category])).await?;
    ensure!(found.iter().map(|event| event.id).eq(ids.iter().copied()), "{} of 40 events came back", found.len());
    let (mut from, mut read) = (0, 0);
    loop {
        let page = store.read_stream(&named(&category, stream), Some(from), Direction::Forwards, 1_000).await;
        let page = page.map_err(broken)?;
        read += page.events.len();
        match page.events.last() {
            Some(last) if !page.end => from = last.revision + 1,
            _ => break,
        }
    }
    ensure!(read == 40, "{read} of 40 events came back from the stream");
    Ok(())
}

/// Of many that append at the same revision one succeeds, and every other one is told so.
pub async fn rivals_for_one_revision_have_one_winner(store: Store) -> Verdict {
    let stream = a_stream("contract");
    for round in 0..10_u64 {
        let expected = Expected::last(round.checked_sub(1));
        let rivals = (0..16).map(|_| store.append(Append { stream: stream.clone(), expected, events: events(1) }));
        let answers = futures::future::join_all(rivals).await;
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        let told = answers
            .iter()
            .filter(|answer| matches!(answer, Err(AppendError::Conflict { actual, .. }) if *actual == Some(round)))
            .count();
        ensure!((won, told) == (1, 15), "round {round}: {won} won, {told} were told: {answers:?}");
    }
    ensure!(read(&store, &stream).await?.len() == 10, "ten rounds, one event each");
    Ok(())
}

/// Writers to one stream that read, append and try again leave contiguous revisions and every acknowledged event.
pub async fn concurrent_appends_leave_no_gap(store: Store) -> Verdict {
    let stream = a_stream("contract");
    let writer = |_| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            while acknowledged.len() < 10 {
                let last = store.read_stream(&stream, None, Direction::Backwards, 1).await.map_err(broken)?;
                let expected = Expected::last(last.events.first().map(|event| event.revision));
                let event = events(1);
                let id = event[0].id;
                match store.append(Append { stream: stream.clone(), expected, events: event }).await {
                    Ok(appended) => acknowledged.push((appended.revision, id)),
                    Err(AppendError::Conflict { .. }) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            Ok(acknowledged)
        })
    };
    let mut acknowledged = Vec::new();
    for writer in futures::future::join_all((0..8).map(writer)).await {
        acknowledged.extend(writer.map_err(broken)??);
    }
    acknowledged.sort_unstable();
    let there: Vec<_> = read(&store, &stream).await?.iter().map(|event| (event.revision, event.id)).collect();
    ensure!(there == acknowledged, "80 were acknowledged; the stream holds {} or others", there.len());
    Ok(())
}

/// Appends that arrive together with one that conflicts are written all the same.
pub async fn a_conflict_does_not_harm_its_neighbours(store: Store) -> Verdict {
    let taken = a_stream("contract");
    append(&store, &taken, Expected::NoStream, events(1)).await?;
    let attempts = (0..64).map(|n| {
        let stream = if n % 2 == 0 { taken.clone() } else { a_stream("contract") };
        store.append(Append { stream, expected: Expected::NoStream, events: events(1) })
    });
    for (n, answer) in futures::future::join_all(attempts).await.into_iter().enumerate() {
        let right = if n % 2 == 0 { matches!(answer, Err(AppendError::Conflict { .. })) } else { answer.is_ok() };
        ensure!(right, "append {n} gave {answer:?}");
    }
    Ok(())
}

/// What was there comes first, then a word that it is caught up, then what happens next.
pub async fn a_subscription_catches_up_then_goes_live(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let category = a_category();
    append(&store, &named(&category, "1"), Expected::NoStream, events(5)).await?;
    let mut subscription = store.clone().subscribe_all(start, Filter::categories([&category]));
    let (mut seen, mut caught_up_after) = (0, None);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while seen < 8 {
        let next = tokio::time::timeout_at(deadline, subscription.next()).await;
        let next = next.map_err(|_| Broken(format!("only {seen} of 8 events within 20 s")))?;
        match next.ok_or_else(|| Broken("the subscription ended".into()))?.map_err(broken)? {
            SubscriptionMessage::Event(_) => seen += 1,
            SubscriptionMessage::Checkpoint(_) => {}
            SubscriptionMessage::CaughtUp => {
                ensure!(caught_up_after.is_none(), "caught up twice");
                caught_up_after = Some(seen);
                append(&store, &named(&category, "2"), Expected::NoStream, events(3)).await?;
            }
        }
    }
    ensure!(caught_up_after == Some(5), "caught up after {caught_up_after:?} of 5 events");
    Ok(())
}

/// A reader that only trusts "after my position" sees every event of writers that run beside it, in order.
pub async fn a_reader_beside_writers_misses_nothing(store: Store) -> Verdict {
    let start = store.head().await.map_err(broken)?;
    let category = a_category();
    let writer = |n| {
        let (store, category) = (store.clone(), category.clone());
        tokio::spawn(async move {
            for m in 0..25 {
                append(&store, &named(&category, &format!("{n}-{m}")), Expected::NoStream, events(1 + m % 3)).await?;
            }
            Ok::<_, Broken>(())
        })
    };
    let writers: Vec<_> = (0..8).map(writer).collect();
    let wanted: usize = 8 * (0..25).map(|m| 1 + m % 3).sum::<usize>();
    let mut subscription = store.clone().subscribe_all(start, Filter::categories([&category]));
    let (mut seen, mut last) = (0, start);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while seen < wanted {
        let next = tokio::time::timeout_at(deadline, subscription.next()).await;
        let next = next.map_err(|_| Broken(format!("only {seen} of {wanted} events within a minute")))?;
        if let Some(SubscriptionMessage::Event(event)) = next.transpose().map_err(broken)? {
            ensure!(Some(event.position) > last, "{} came after {last:?}", event.position);
            last = Some(event.position);
            seen += 1;
        }
    }
    for writer in writers {
        writer.await.map_err(broken)??;
    }
    Ok(())
}

fn broken(error: impl std::error::Error) -> Broken {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Broken(text)
}

async fn append(
    store: &Store,
    stream: &StreamName,
    expected: Expected,
    events: Vec<NewEvent>,
) -> Result<Appended, Broken> {
    store.append(Append { stream: stream.clone(), expected, events }).await.map_err(broken)
}

async fn read(store: &Store, stream: &StreamName) -> Result<Vec<RecordedEvent>, Broken> {
    Ok(store.read_stream(stream, None, Direction::Forwards, 100_000).await.map_err(broken)?.events)
}

async fn all_after(store: &Store, mut after: Option<Position>, filter: &Filter) -> Result<Vec<RecordedEvent>, Broken> {
    let mut found = Vec::new();
    loop {
        let page = store.read_all(after, filter, 1_000).await.map_err(broken)?;
        found.extend(page.events);
        after = page.read_to;
        if page.at_head {
            return Ok(found);
        }
    }
}

fn events(count: usize) -> Vec<NewEvent> {
    let event = |n| NewEvent {
        id: Uuid::now_v7(),
        event_type: kind("ContractHappened"),
        data: Bytes::from(format!("{{\"n\":{n}}}")),
        metadata: Bytes::from_static(b"{}"),
    };
    (0..count).map(event).collect()
}

#[expect(clippy::expect_used, reason = "the names in here are constants")]
fn kind(name: &str) -> EventType {
    EventType::new(name.to_owned()).expect("a valid event type")
}

#[expect(clippy::expect_used, reason = "the names in here are made of a word and a UUID")]
fn named(category: &str, id: &str) -> StreamName {
    StreamName::new(format!("{category}-{id}")).expect("a valid stream name")
}

fn a_stream(category: &str) -> StreamName {
    named(category, &Uuid::now_v7().to_string())
}

/// A category that nobody else uses.
fn a_category() -> String {
    format!("contract{}", Uuid::now_v7().simple())
}
