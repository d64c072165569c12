//! `Read`, when it ends: a number of events of a stream or of the whole log. When it does not, it is a subscription.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::message::{self, Records};
use super::subscribe::{self, Subject};
use crate::connection::Connection;
use crate::faults::ReadFault;
use crate::filter::Filter;
use crate::log::{Direction, InvalidPosition, Origin, Position, StreamRead};
use crate::node::Node;
use crate::protocol::event_store::client::streams::read_req::Options;
use crate::protocol::event_store::client::streams::read_req::options::all_options::AllOption;
use crate::protocol::event_store::client::streams::read_req::options::filter_options::Window;
use crate::protocol::event_store::client::streams::read_req::options::stream_options::RevisionOption;
use crate::protocol::event_store::client::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, FilterOptions, ReadDirection, StreamOption, StreamOptions, UuidOption,
};
use crate::protocol::event_store::client::streams::read_resp::{Content, StreamNotFound};
use crate::protocol::event_store::client::streams::{ReadReq, ReadResp};
use crate::{log, status};

type Responses = BoxStream<'static, Result<ReadResp, Status>>;

/// What a client wants to read.
struct Request {
    subject: StreamOption,
    direction: Direction,
    filter: Option<(Filter, FilterOptions)>,
    ids: UuidOption,
    /// Whether the client understands what a read of a stream says besides its events.
    says_ends: bool,
}

pub(crate) async fn read(
    node: &Arc<Node>,
    connection: Connection,
    deadline: Option<Instant>,
    request: ReadReq,
) -> Result<Responses, Status> {
    let (request, count) = parse(request.options.ok_or_else(status::handler_threw)?)?;
    let Some(count) = count else {
        let Request { subject, filter, ids, .. } = request;
        let subject = match subject {
            StreamOption::Stream(options) => {
                let (stream, from) = stream(options)?;
                Subject::Stream { stream, from }
            }
            StreamOption::All(options) => Subject::All { from: position(&options), filter },
        };
        return subscribe::subscribe(node.clone(), connection, subject, ids);
    };
    let fault = node.faults.read();
    match &fault {
        Some(ReadFault::NotLeader(leader)) => return Err(status::not_leader(leader)),
        Some(ReadFault::NotReady) => return Err(status::not_ready()),
        Some(ReadFault::Delay(wait)) => {
            node.faults.wait(*wait).await;
        }
        Some(ReadFault::CutAfter(_) | ReadFault::Slow(_)) | None => {}
    }
    let responses = responses(&node.log, request, count)?;
    let responses = match fault {
        Some(ReadFault::CutAfter(sent)) => cut_after(responses, sent, connection),
        Some(ReadFault::Slow(each)) => slow(responses, each),
        _ => responses,
    };
    Ok(match deadline {
        Some(deadline) => until(responses, deadline),
        None => responses,
    })
}

/// When the client stops waiting, as its `grpc-timeout` says: a number and the first letter of a unit.
pub(crate) fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let timeout = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

/// Takes a request apart. Without a count it is a subscription.
fn parse(options: Options) -> Result<(Request, Option<u64>), Status> {
    let direction =
        if options.read_direction() == ReadDirection::Backwards { Direction::Backwards } else { Direction::Forwards };
    let ids = options.uuid_option.ok_or_else(|| Status::invalid_argument("'uuidOption' is a required argument"))?;
    let subject = options.stream_option.ok_or_else(invalid_combination)?;
    let filter = match (options.filter_option.ok_or_else(invalid_combination)?, &subject) {
        (FilterOption::NoFilter(()), _) => None,
        (FilterOption::Filter(options), StreamOption::All(_)) => {
            if options.window.is_none() {
                return Err(Status::invalid_argument("'None' is not a valid window"));
            }
            let filter = Filter::parse(&options).map_err(|error| Status::invalid_argument(error.to_string()))?;
            Some((filter, options))
        }
        (FilterOption::Filter(_), StreamOption::Stream(_)) => return Err(invalid_combination()),
    };
    let count = match options.count_option.ok_or_else(invalid_combination)? {
        CountOption::Count(0) => return Err(Status::unknown("Unexpected ReadResult: Error")),
        CountOption::Count(count) => Some(count),
        CountOption::Subscription(_) if direction == Direction::Backwards => return Err(invalid_combination()),
        CountOption::Subscription(_) => None,
    };
    let says_ends = options.control_option.is_some_and(|control| control.compatibility >= 1);
    Ok((Request { subject, direction, filter, ids, says_ends }, count))
}

fn responses(log: &log::Log, request: Request, count: u64) -> Result<Responses, Status> {
    let Request { subject, direction, filter, ids, says_ends } = request;
    match subject {
        StreamOption::All(options) => {
            let filter = filter.map(|(filter, _)| filter);
            let records = log
                .read_all(position(&options), direction, filter.as_ref(), count)
                .map_err(|InvalidPosition| status::invalid_position())?;
            Ok(events(records, ids, true))
        }
        StreamOption::Stream(options) => {
            let (name, from) = stream(options)?;
            match log.read_stream(&name, from, direction, count) {
                StreamRead::Deleted => Err(status::stream_deleted(&name)),
                StreamRead::NotFound => {
                    let stream_identifier = Some(message::identifier(&name));
                    Ok(one(Content::StreamNotFound(StreamNotFound { stream_identifier })))
                }
                StreamRead::Events { events: records, first, last } => {
                    let events = events(records, ids, !log.settings().commit_records);
                    let first = first.filter(|_| says_ends).map(Content::FirstStreamPosition);
                    let last = says_ends.then_some(Content::LastStreamPosition(last));
                    let said =
                        |content: Option<Content>| stream::iter(content.map(|content| Ok(message::content(content))));
                    Ok(said(first).chain(events).chain(said(last)).boxed())
                }
            }
        }
    }
}

fn events(records: Records, ids: UuidOption, positions: bool) -> Responses {
    stream::iter(records).map(move |record| Ok(message::read_event(&record, &ids, positions))).boxed()
}

fn one(content: Content) -> Responses {
    stream::iter([Ok(message::content(content))]).boxed()
}

fn cut_after(responses: Responses, sent: u64, connection: Connection) -> Responses {
    let sent = usize::try_from(sent).unwrap_or(usize::MAX);
    let cut = stream::once(async move {
        // What was sent gets a chance to leave.
        tokio::task::yield_now().await;
        connection.cut();
        Err(Status::unavailable("the connection is cut"))
    });
    responses.take(sent).chain(cut).boxed()
}

fn slow(responses: Responses, each: Duration) -> Responses {
    responses
        .then(move |response| async move {
            tokio::time::sleep(each).await;
            response
        })
        .boxed()
}

/// Ends with an error when the deadline comes first.
fn until(responses: Responses, deadline: Instant) -> Responses {
    stream::unfold(Some(responses), move |responses| async move {
        let mut responses = responses?;
        match tokio::time::timeout_at(deadline, responses.next()).await {
            Ok(response) => response.map(|response| (response, Some(responses))),
            Err(_) => Some((Err(Status::deadline_exceeded("Deadline Exceeded")), None)),
        }
    })
    .boxed()
}

/// A stream's name and where to start in it.
fn stream(options: StreamOptions) -> Result<(String, Origin<u64>), Status> {
    let from = match options.revision_option {
        Some(RevisionOption::Revision(u64::MAX) | RevisionOption::End(())) => Origin::End,
        Some(RevisionOption::Revision(revision)) => Origin::At(revision),
        Some(RevisionOption::Start(())) | None => Origin::Start,
    };
    Ok((message::stream_name(options.stream_identifier)?, from))
}

fn position(options: &AllOptions) -> Origin<Position> {
    match &options.all_option {
        Some(AllOption::Position(position)) if position.commit_position == u64::MAX => Origin::End,
        Some(AllOption::Position(position)) => {
            Origin::At(Position { commit: position.commit_position, prepare: position.prepare_position })
        }
        Some(AllOption::End(())) => Origin::End,
        Some(AllOption::Start(())) | None => Origin::Start,
    }
}

/// How many records a filtered subscription looks at before it says how far it is.
pub(crate) fn checkpoint_interval(options: &FilterOptions) -> Result<u64, Status> {
    let window = match options.window {
        Some(Window::Max(max)) => u64::from(max),
        Some(Window::Count(())) | None => log::PAGE,
    };
    match window.saturating_mul(u64::from(options.checkpoint_interval_multiplier)) {
        0 => Err(status::handler_threw()),
        interval => Ok(interval),
    }
}

fn invalid_combination() -> Status {
    Status::invalid_argument("The combination of stream, count, direction and filter is invalid.")
}
