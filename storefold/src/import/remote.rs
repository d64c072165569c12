//! Importing into a shop that is elsewhere: the commands go to it in a batch over HTTP (`POST /v1/commands`).
//!
//! A batch that breaks off is begun anew with what was not answered. Every command has its id, so that what was done all
//! the same is recognised.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_store::Position;
use futures::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::line::Step;

/// How long it may take to connect, and how long an answer may keep everybody waiting.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(120);
/// How often the read models are asked how far they are, and how long they may stand still.
const LOOK: Duration = Duration::from_millis(200);
const STILL: Duration = Duration::from_secs(30);
/// How many commands wait to be sent. The importer has no more under way than it was told to.
const WAITING: usize = 1_024;
/// How many lines go out at once.
const TOGETHER: usize = 64;
/// The longest line of an answer, in bytes.
const LONGEST: usize = 16 << 20;

/// A shop that is elsewhere.
pub(crate) struct Remote {
    client: Client,
    url: Url,
    graphql: Url,
    authorization: Option<HeaderValue>,
    /// Where commands go in while there is a batch.
    batch: Mutex<Option<mpsc::Sender<Waiting>>>,
}

/// What became of a command.
pub(super) enum Told {
    /// It is done, and the log has to be folded up to there to see it.
    Done(Option<Position>),
    /// It was refused.
    Fault(String),
    /// It was not done, or nobody knows; the same again may be.
    Later(String),
    /// There is no use in sending anything.
    Never(String),
}

/// A command on its way.
struct Waiting {
    line: Vec<u8>,
    told: oneshot::Sender<Told>,
}

/// A line of a batch; see docs/commands.md.
#[derive(Serialize)]
struct Line<'a> {
    stream: String,
    command: &'a str,
    data: &'a RawValue,
    command_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
}

/// What GraphQL answers.
#[derive(Deserialize)]
struct Answered {
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Data {
    projections: Vec<Projection>,
}

#[derive(Deserialize)]
struct Error {
    message: String,
}

/// How far a read model is.
#[derive(PartialEq, Deserialize)]
struct Projection {
    name: String,
    position: Option<Position>,
}

/// What is answered to a line.
#[derive(Deserialize)]
struct Answer {
    status: u16,
    answer: Option<Done>,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Done {
    position: Option<Position>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
}

impl Remote {
    /// The shop at this address.
    ///
    /// # Errors
    /// When it is no address.
    pub(crate) fn at(url: &str) -> anyhow::Result<Self> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.with_context(|| format!("--url {url:?} is no address such as http://127.0.0.1:8080"))?;
        let below = |path: &str| {
            let mut below = url.clone();
            below.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
            below
        };
        let client = Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).http1_only();
        let client = client.build().context("no HTTP client can be made")?;
        let (url, graphql) = (below("/v1/commands"), below("/graphql"));
        Ok(Self { client, url, graphql, authorization: None, batch: Mutex::default() })
    }

    /// Whether the shop is on this machine, so that what it signs with may be here too.
    pub(crate) fn is_here(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// With a token, to be shown with everything that is asked.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn with_token(self, token: &str) -> anyhow::Result<Self> {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value = value.context("it is no token")?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// With the token that a file has.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn with_token_in(self, path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("--token-file {} cannot be read", path.display()))?;
        self.with_token(&text).with_context(|| format!("--token-file {} has no token", path.display()))
    }

    /// Waits until every read model of the shop has folded what stands at `position`. Answers how long that took, in seconds,
    /// or why it was not waited for.
    pub(crate) async fn fold(&self, position: Option<Position>, progress: bool) -> Result<f64, String> {
        let Some(position) = position else { return Ok(0.0) };
        let bar = super::bar(None, progress);
        bar.enable_steady_tick(Duration::from_millis(100));
        let (start, mut seen, mut moved) = (Instant::now(), Vec::new(), Instant::now());
        let folded = loop {
            let behind: Vec<Projection> = match self.projections().await {
                Ok(all) => all.into_iter().filter(|model| model.position < Some(position)).collect(),
                Err(error) => break Err(error),
            };
            let Some(first) = behind.first() else { break Ok(start.elapsed().as_secs_f64()) };
            bar.set_message(format!("folding into {}", first.name));
            if behind != seen {
                (seen, moved) = (behind, Instant::now());
            } else if moved.elapsed() > STILL {
                let names: Vec<&str> = seen.iter().map(|model| model.name.as_str()).collect();
                break Err(format!("for {} s nothing came of {}", STILL.as_secs(), names.join(", ")));
            }
            tokio::time::sleep(LOOK).await;
        };
        bar.finish_and_clear();
        folded
    }

    /// How far the read models of the shop are.
    async fn projections(&self) -> Result<Vec<Projection>, String> {
        let query = serde_json::json!({ "query": "{ projections { name position } }" });
        let mut request = self.client.post(self.graphql.clone()).json(&query);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|error| chain(&error))?;
        let status = response.status();
        let nothing = || format!("no read model can be asked at this address: {status}");
        let answered: Answered = response.json().await.map_err(|_| nothing())?;
        match (answered.data, answered.errors.first()) {
            (Some(Data { projections }), _) => Ok(projections),
            (None, Some(error)) => Err(error.message.clone()),
            (None, None) => Err(nothing()),
        }
    }

    /// Has a command carried out. `source` is what led to it.
    pub(super) async fn execute(&self, step: &Step, source: Uuid) -> Told {
        let data = std::str::from_utf8(&step.body).ok().and_then(|body| serde_json::from_str(body).ok());
        let Some(data) = data else { return Told::Fault("its data is no JSON".to_owned()) };
        let line = Line {
            stream: format!("{}-{}", step.category, step.id),
            command: step.command,
            data,
            command_id: step.command_id,
            correlation_id: source,
            causation_id: source,
        };
        let mut line = match serde_json::to_vec(&line) {
            Ok(line) => line,
            Err(error) => return Told::Fault(error.to_string()),
        };
        line.push(b'\n');
        let (told, is_told) = oneshot::channel();
        let broken = || Told::Later("the connection broke before the answer was there".to_owned());
        if self.batch().send(Waiting { line, told }).await.is_err() {
            return broken();
        }
        is_told.await.unwrap_or_else(|_| broken())
    }

    /// Where commands go in; a batch is begun where there is none.
    fn batch(&self) -> mpsc::Sender<Waiting> {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = batch.as_ref().filter(|open| !open.is_closed()) {
            return open.clone();
        }
        let (send, waiting) = mpsc::channel(WAITING);
        *batch = Some(send.clone());
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        tokio::spawn(run(request, waiting));
        send
    }
}

/// Those whose commands were sent, in the order of their lines.
type Sent = Arc<Mutex<VecDeque<oneshot::Sender<Told>>>>;

/// Sends what comes in and tells what becomes of it. Whoever is not told when it ends is to send again.
async fn run(request: reqwest::RequestBuilder, waiting: mpsc::Receiver<Waiting>) {
    let sent = Sent::default();
    let lines = futures::stream::unfold((waiting, sent.clone()), |(mut waiting, sent)| async move {
        let mut next = Vec::with_capacity(TOGETHER);
        if waiting.recv_many(&mut next, TOGETHER).await == 0 {
            return None;
        }
        let mut text = Vec::new();
        let mut queue = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for Waiting { line, told } in next {
            text.extend(line);
            queue.push_back(told);
        }
        drop(queue);
        Some((Ok::<_, Infallible>(text), (waiting, sent)))
    });
    let tell = |told| {
        let next = sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        // Who stopped waiting need not be told.
        next.map(|next| next.send(told).is_ok())
    };
    let last = match request.body(reqwest::Body::wrap_stream(lines)).send().await {
        Ok(response) if response.status().is_success() => answers(response, &tell).await,
        Ok(response) => refused(response).await,
        Err(error) => Told::Later(chain(&error)),
    };
    // What ends a batch is told to everybody whose command it had; more may have been taken in meanwhile, and are told
    // that it broke.
    let all = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
    for told in all {
        let last = match &last {
            Told::Never(why) => Told::Never(why.clone()),
            Told::Later(why) | Told::Fault(why) => Told::Later(why.clone()),
            Told::Done(_) => Told::Later("the batch ended".to_owned()),
        };
        let _ = told.send(last);
    }
}

/// Tells what is answered, line by line. Answers what those are to be told who get no answer.
async fn answers(response: Response, tell: &impl Fn(Told) -> Option<bool>) -> Told {
    let (mut chunks, mut text) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Told::Later(chain(&error)),
        };
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(part);
            if text.len() > LONGEST {
                return Told::Never("what answers at this address is no shop: a line of it has no end".to_owned());
            }
            if text.last() != Some(&b'\n') {
                continue;
            }
            match serde_json::from_slice::<Answer>(&text) {
                Ok(answer) => drop(tell(answer.told())),
                Err(error) => return Told::Never(format!("what answers at this address is no shop: {error}")),
            }
            text.clear();
        }
    }
    Told::Later("the batch ended before the answer was there".to_owned())
}

impl Answer {
    fn told(self) -> Told {
        let Self { status, answer, problem } = self;
        if let Some(Done { position }) = answer {
            return Told::Done(position);
        }
        let Problem { kind, detail } =
            problem.unwrap_or(Problem { kind: String::new(), detail: "it says nothing".to_owned() });
        match status {
            // The token has expired.
            401 => Told::Never(detail),
            408 | 409 | 429 | 503 => Told::Later(detail),
            _ if kind == "/problems/body-cut-off" => Told::Later(detail),
            _ => Told::Fault(detail),
        }
    }
}

/// What those are told whose batch was refused as a whole.
async fn refused(response: Response) -> Told {
    let status = response.status();
    let problem = response.json::<Problem>().await.map(|problem| problem.detail);
    let told = format!("{status}: {}", problem.unwrap_or_else(|_| "no shop answers so".to_owned()));
    match status.as_u16() {
        401 => Told::Never(format!("{told}; name a file with a token by --token-file, see storefold token --help")),
        408 | 429 | 500.. => Told::Later(told),
        _ => Told::Never(told),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
