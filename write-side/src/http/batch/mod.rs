//! Many commands in one request: a line each, answered by a line each, in their order.
//!
//! The answers are made as they are asked for: while nobody takes them, nothing more is read. So a batch may be of any
//! size, and takes no more room than what is under way of it.

mod lanes;
mod line;
mod lines;
mod pace;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use access::{Caller, Fault, Refusal};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, FuturesOrdered, StreamExt as _};
use serde::Serialize;
use tokio::sync::oneshot;

use super::permissions::{Operation, permit};
use super::places::Place;
use super::routes::{Sent, aggregate_of};
use super::{Api, Problem, headers};
use crate::execute::Answer;
use lanes::{Job, Lanes};
pub(super) use line::BatchLine;
use lines::{Lines, Next};
pub use pace::Meter;
use pace::{Early, Held, Pace, let_go};

/// How many lines of a batch are under way at a time.
pub(super) const IN_FLIGHT: usize = 256;
/// How many bytes of lines are under way at a time, as long as a line has no more.
const BYTES_IN_FLIGHT: usize = 8 << 20;
/// How many batches are under way at a time, so that what they hold is bounded.
pub(super) const BATCHES: usize = 64;
/// About how much is answered at once, in bytes.
const CHUNK: usize = 32 << 10;

/// The media type of lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What is answered to a line.
#[derive(Serialize)]
struct Told<'a> {
    /// The number of the line, from 1; blank ones count.
    line: u64,
    /// What the command would have been answered by itself.
    status: u16,
    #[serde(flatten)]
    told: Outcome<'a>,
}

/// The body of the answer, under the name of what it is. A problem has members of its own, which are not to be mixed with
/// those of the line.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<'a> {
    Answer(&'a Answer),
    Problem(serde_json::Value),
}

/// `POST /v1/commands`
pub(super) async fn commands(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let shared = headers::shared(&parts.headers)?;
    lines_of_json(&parts.headers)?;
    let place = Arc::new(api.batches.take(&caller).map_err(Problem::too_many_batches)?);
    let batch = Batch {
        lines: Lines::of(body, api.body_limit, api.patience.silence),
        pace: Pace::of(parts.extensions.get::<Meter>().cloned(), api.patience.silence),
        held: None,
        api,
        caller: Arc::new(caller),
        shared,
        lanes: Lanes::default(),
        running: FuturesOrdered::new(),
        bytes: 0,
        is_over: false,
        place,
    };
    let answers = stream::unfold(batch, |mut batch| async move {
        let chunk = batch.next().await?;
        Some((Ok::<_, Infallible>(chunk), batch))
    });
    let mut response = Response::new(Body::from_stream(answers));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that buffers would keep the answers to itself.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Wants the body to be lines of JSON by its headers.
fn lines_of_json(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &str| {
        let title = "The body is not lines of JSON by its headers";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-ndjson", title, detail)
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("a batch is not encoded; leave Content-Encoding out"));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let known = [NDJSON, "application/ndjson", "application/jsonl"];
    if known.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        Ok(())
    } else {
        Err(unsupported("a batch is sent as Content-Type: application/x-ndjson"))
    }
}

/// What became of a line, and how many bytes it had.
type Done = (u64, usize, Result<Answer, Problem>);

struct Batch {
    lines: Lines,
    pace: Pace,
    /// A line that has come before it may be carried out. No other is read meanwhile.
    held: Option<Held<Next>>,
    api: Arc<Api>,
    caller: Arc<Caller>,
    shared: headers::Shared,
    lanes: Lanes,
    /// What is under way, in the order of the lines.
    running: FuturesOrdered<BoxFuture<'static, Done>>,
    /// How many bytes the lines have that are under way.
    bytes: usize,
    /// Whether no more lines are read.
    is_over: bool,
    /// Shared with its commands: who hangs up does not make room while they are under way.
    place: Arc<Place>,
}

impl Batch {
    /// The next answers that are there, and at least one; `None` when all are given.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let room = self.running.len() < IN_FLIGHT && self.bytes < BYTES_IN_FLIGHT;
            tokio::select! {
                biased;
                Some(done) = self.running.next() => return Some(self.told(done)),
                () = self.api.stopped(), if !self.is_over => self.give_up(Problem::stopping()),
                line = let_go(&mut self.held), if self.held.is_some() => self.begin(line),
                line = self.lines.next(), if room && !self.is_over && self.held.is_none() => self.begin(Held::new(line)),
                else => return None,
            }
        }
    }

    /// The lines of an answer, and of those behind it that are there.
    fn told(&mut self, done: Done) -> Bytes {
        let (mut text, mut next) = (Vec::new(), Some(done));
        while let Some((line, bytes, outcome)) = next {
            self.bytes -= bytes;
            let (status, told) = match &outcome {
                Ok(answer) => (answer.status(), Outcome::Answer(answer)),
                Err(problem) => (problem.status(), Outcome::Problem(problem.body())),
            };
            // What it is made of has a JSON form: texts and numbers under names.
            if let Err(error) = serde_json::to_writer(&mut text, &Told { line, status: status.as_u16(), told }) {
                tracing::error!(%error, "an answer could not be written");
            }
            text.push(b'\n');
            next = match text.len() < CHUNK {
                true => self.running.next().now_or_never().flatten(),
                false => None,
            };
        }
        text.into()
    }

    /// Carries a line out, unless it came too soon. The first one is counted with the request.
    fn begin(&mut self, came: Held<Next>) {
        let is_line = matches!(came.what(), Next::Line(_) | Next::TooLong);
        match if is_line { self.pace.admit(came) } else { Ok(came.now()) } {
            Ok(next) => self.carry_out(next),
            Err(Early::Wait(held)) => self.held = Some(held),
            Err(Early::TooLong(wait)) => self.end(self.lines.number(), Problem::too_many_requests(wait)),
        }
    }

    fn carry_out(&mut self, next: Next) {
        match next {
            Next::Line(line) => {
                let (number, bytes) = (self.lines.number(), line.len());
                self.bytes += bytes;
                match self.start(&line) {
                    Ok(answer) => {
                        let answer =
                            async move { (number, bytes, answer.await.unwrap_or_else(|_| Err(Problem::cut_off()))) };
                        self.running.push_back(answer.boxed());
                    }
                    Err(problem) => self.running.push_back(std::future::ready((number, bytes, Err(problem))).boxed()),
                }
            }
            Next::TooLong => {
                let problem = Problem::too_large(self.api.body_limit);
                self.running.push_back(std::future::ready((self.lines.number(), 0, Err(problem))).boxed());
            }
            Next::End => self.is_over = true,
            Next::CutOff(error) => {
                let detail = format!("the body could not be read to its end: {error}");
                self.give_up(Problem::bad_request("body-cut-off", detail));
            }
            Next::Silence(patience) => self.give_up(Problem::too_slow(patience)),
        }
    }

    /// Reads no more lines. One that was held back is as good as not read.
    fn give_up(&mut self, problem: Problem) {
        let first = if self.held.take().is_some() { self.lines.number() } else { self.lines.number() + 1 };
        self.end(first, problem);
    }

    /// Goes no further, and says from which line on.
    fn end(&mut self, first: u64, problem: Problem) {
        self.is_over = true;
        self.running.push_back(std::future::ready((first, 0, Err(problem))).boxed());
    }

    /// Has the command of a line carried out, if it is one and the caller may send it.
    fn start(&self, line: &[u8]) -> Result<oneshot::Receiver<Result<Answer, Problem>>, Problem> {
        // A batch may outlive its token.
        if self.caller.until.is_some_and(|until| until <= SystemTime::now()) {
            return Err(Refusal::Invalid(Fault::Expired).into());
        }
        let line = BatchLine::read(line)?;
        let (category, id) = line.aggregate()?;
        let aggregate = aggregate_of(&self.api, category)?;
        permit(&self.api.registry, &self.caller, aggregate, Operation::Command(&line.command))?;
        let stream = aggregate.stream(id)?;
        let envelope = line.envelope(&self.caller, &self.shared, &stream)?;
        // What belongs to whom follows from what was done before.
        let alone = self.caller.customer.is_some() || aggregate.looks_up(&line.command);
        let command_id = envelope.command_id;
        let sent =
            Sent { category: category.to_owned(), id: id.to_owned(), command: line.command.clone(), body: line.body() };
        let (api, caller) = (self.api.clone(), self.caller.clone());
        let (tell, told) = oneshot::channel();
        let place = self.place.clone();
        let work = async move {
            // Who hung up does not need the answer.
            let _ = tell.send(sent.carried_out(&api, &caller, &envelope).await);
            drop(place);
        };
        self.lanes.send(&stream, Job { command_id, alone, work: work.boxed() });
        Ok(told)
    }
}
