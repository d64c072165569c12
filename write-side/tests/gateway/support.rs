//! What the tests work with: a database of their own, a sandbox gateway on a port that is free, and one that says what
//! the test has it say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::Utc;
use domain::ids::{CardToken, Line, PaymentId};
use domain::money::Money;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;
use write_side::gateway::http::{Config, HttpGateway};
use write_side::gateway::{Attempt, Capture, Refund};
use write_side::sandbox::{self, Ledger, Movement};

pub(crate) const SECRET: &str = "sk_sandbox_for_tests";

/// A database of a test's own, on the server that `DATABASE_URL` names.
pub(crate) async fn database() -> PgPool {
    #[expect(clippy::disallowed_methods, reason = "./test says where its Postgres is by the environment")]
    let server = std::env::var("DATABASE_URL").expect("DATABASE_URL names no Postgres: run the tests with ./test");
    let options: PgConnectOptions = server.parse().unwrap();
    let name = format!("gateway_{}", Uuid::now_v7().simple());
    let mut admin = options.connect().await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options.database(&name));
    // All connections stand from the start, so that what happens at once does happen at once.
    let all = futures::future::join_all((0..CONNECTIONS).map(|_| pool.acquire())).await;
    assert!(all.iter().all(Result::is_ok));
    pool
}

/// How many connections a test has to its database.
const CONNECTIONS: u32 = 4;

/// A server on a port that is free. Stopped when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server was sent: `POST /payments key`, without the payment's id.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, request: &Request) {
        let path = request.uri().path().trim_start_matches(sandbox_mount());
        let id = path.split('/').nth(2).unwrap_or_default();
        let path = if id.is_empty() { path.to_owned() } else { path.replace(id, "ID") };
        self.0.lock().unwrap().push(format!("{} {path}", request.method()));
    }

    /// What was heard since this was last asked.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn sandbox_mount() -> &'static str {
    "/sandbox/gateway"
}

/// A sandbox gateway that listens.
pub(crate) struct Sandbox {
    pub(crate) ledger: Ledger,
    pub(crate) pool: PgPool,
    /// Where it is mounted.
    pub(crate) url: String,
    pub(crate) heard: Heard,
    _server: Server,
}

impl Sandbox {
    /// A sandbox with a ledger of its own. Answers about `tok_slow` never come in time.
    pub(crate) async fn start() -> Self {
        let pool = database().await;
        sandbox::migrate(&pool).await.unwrap();
        Self::start_on(pool).await
    }

    /// A sandbox on a ledger that is there, as after a restart.
    pub(crate) async fn start_on(pool: PgPool) -> Self {
        let ledger = Ledger::new(pool.clone()).slow_by(Duration::from_secs(600));
        let heard = Heard::default();
        let router = Router::new().nest(sandbox_mount(), sandbox::router(ledger.clone(), SecretString::from(SECRET)));
        let noted =
            from_fn_with_state(heard.clone(), async |State(heard): State<Heard>, request: Request, next: Next| {
                heard.note(&request);
                next.run(request).await
            });
        let server = Server::start(router.layer(noted)).await;
        Self { ledger, pool, url: format!("{}{}", server.url, sandbox_mount()), heard, _server: server }
    }

    /// A client of it.
    pub(crate) fn gateway(&self) -> HttpGateway {
        HttpGateway::new(config(&self.url)).unwrap()
    }

    /// What moved for a payment: `hold 1000`.
    pub(crate) async fn moved(&self, payment: PaymentId) -> Vec<String> {
        let movements = self.ledger.movements_of(payment).await.unwrap();
        movements.iter().map(|Movement { kind, minor, .. }| format!("{kind} {minor}")).collect()
    }
}

/// A configuration that loses its patience soon, and its hope late.
pub(crate) fn config(url: &str) -> Config {
    Config {
        timeout: Duration::from_secs(2),
        deadline: Duration::from_secs(20),
        attempts: 6,
        pauses: (Duration::from_millis(1), Duration::from_millis(5)),
        ..Config::new(url, SecretString::from(SECRET))
    }
}

/// What a scripted gateway does with a request.
pub(crate) enum Act {
    /// Answers with JSON.
    Say(u16, Value),
    /// Answers with a header more.
    SayWith(u16, &'static str, &'static str, Value),
    /// Cuts the connection instead of an answer.
    Cut,
    /// Never answers.
    Hang,
}

type Script = Arc<Mutex<(VecDeque<Act>, fn() -> Act)>>;

/// A gateway that says what the test has it say.
pub(crate) struct Scripted {
    pub(crate) url: String,
    pub(crate) heard: Heard,
    script: Script,
    _server: Server,
}

impl Scripted {
    /// A gateway that does these things in turn, and `otherwise` when they are used up.
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>, otherwise: fn() -> Act) -> Self {
        let heard = Heard::default();
        let script: Script = Arc::new(Mutex::new((acts.into_iter().collect(), otherwise)));
        let router = Router::new().fallback(play).with_state((heard.clone(), script.clone()));
        let server = Server::start(router).await;
        Self { url: server.url.clone(), heard, script, _server: server }
    }

    /// What it does from now on.
    pub(crate) fn say_henceforth(&self, otherwise: fn() -> Act) {
        self.script.lock().unwrap().1 = otherwise;
    }

    pub(crate) fn gateway(&self, change: impl FnOnce(&mut Config)) -> HttpGateway {
        let mut config = config(&self.url);
        change(&mut config);
        HttpGateway::new(config).unwrap()
    }
}

async fn play(State((heard, script)): State<(Heard, Script)>, request: Request) -> Response {
    heard.note(&request);
    let act = {
        let mut script = script.lock().unwrap();
        script.0.pop_front().unwrap_or_else(script.1)
    };
    match act {
        Act::Say(status, body) => (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response(),
        Act::SayWith(status, name, value, body) => {
            let headers: HeaderMap = [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
            (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
        }
        Act::Cut => Body::from_stream(futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) }))
            .into_response(),
        Act::Hang => std::future::pending().await,
    }
}

/// A problem of a kind.
pub(crate) fn problem(status: u16, kind: &str) -> Act {
    Act::Say(status, json!({ "type": format!("/problems/{kind}"), "detail": "so it is" }))
}

/// The payment that tests with a scripted gateway are about.
pub(crate) const PAYMENT: PaymentId = PaymentId(Uuid::from_u128(0x0190_f3c4_7a51_7bd4_9f2e_6d1c_8a40_b5e2));

/// That payment, authorised for 1000 GBP minor.
pub(crate) fn authorised() -> Value {
    let amount = json!({ "minor": 1000, "currency": "GBP" });
    json!({ "id": PAYMENT, "status": "authorised", "amount": amount, "reference": "ref-1" })
}

pub(crate) fn payment() -> PaymentId {
    PaymentId(Uuid::now_v7())
}

pub(crate) fn gbp(minor: i64) -> Money {
    Money { minor: minor.try_into().unwrap(), currency: "GBP".parse().unwrap() }
}

pub(crate) fn card(token: &str) -> CardToken {
    token.parse().unwrap()
}

pub(crate) fn line(text: &str) -> Line {
    text.parse().unwrap()
}

/// A decision of this moment to ask for something.
pub(crate) fn attempt() -> Attempt {
    Attempt { id: Uuid::now_v7(), asked_at: Utc::now() }
}

pub(crate) fn refused_capture(reason: &str) -> Capture {
    Capture::Refused { reason: line(reason) }
}

pub(crate) fn refused_refund(reason: &str) -> Refund {
    Refund::Refused { reason: line(reason) }
}

/// The gate of a gateway that holds every request up until it is let go.
#[derive(Clone)]
pub(crate) struct Gate(Arc<GateState>);

struct GateState {
    /// How many requests are there, and the most that ever were.
    there: watch::Sender<(usize, usize)>,
    open: Semaphore,
}

impl Gate {
    /// Waits until so many requests are there at once.
    pub(crate) async fn arrived(&self, count: usize) {
        self.0.there.subscribe().wait_for(|(now, _)| *now >= count).await.unwrap();
    }

    /// Lets so many requests go.
    pub(crate) fn open(&self, count: usize) {
        self.0.open.add_permits(count);
    }

    /// The most requests that were ever there at once.
    pub(crate) fn most(&self) -> usize {
        self.0.there.borrow().1
    }
}

/// Counts a request until it is answered or given up.
struct There<'a>(&'a GateState);

impl<'a> There<'a> {
    fn new(gate: &'a GateState) -> Self {
        gate.there.send_modify(|(now, most)| {
            *now += 1;
            *most = (*most).max(*now);
        });
        Self(gate)
    }
}

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.there.send_modify(|(now, _)| *now -= 1);
    }
}

/// A gateway that holds every request up at the gate, and then fails with this status or authorises.
pub(crate) async fn holding(status: Option<u16>) -> (Scripted, Gate) {
    let gate = Gate(Arc::new(GateState { there: watch::Sender::new((0, 0)), open: Semaphore::new(0) }));
    let heard = Heard::default();
    let handler = async move |State((heard, gate)): State<(Heard, Gate)>, request: Request| {
        heard.note(&request);
        let _there = There::new(&gate.0);
        gate.0.open.acquire().await.unwrap().forget();
        let status = status.unwrap_or(201);
        (StatusCode::from_u16(status).unwrap(), authorised().to_string())
    };
    let router = Router::new().fallback(handler).with_state((heard.clone(), gate.clone()));
    let server = Server::start(router).await;
    let script: Script = Arc::new(Mutex::new((VecDeque::new(), || Act::Hang)));
    (Scripted { url: server.url.clone(), heard, script, _server: server }, gate)
}
