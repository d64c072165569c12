//! What acceptance tests work with: a database of their own, and the binary over real sockets.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use access::{CustomerId, Grant, Scopes, Signer};
use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

/// The binary under test, built beside the tests.
pub(crate) fn storefold() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.ancestors().nth(2).unwrap().join("storefold");
    assert!(binary.exists(), "{} is not built: run the tests with ./test", binary.display());
    binary
}

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A database of a test's own, on the server that `DATABASE_URL` names. The log is in there too, or in a KurrentDB of the
/// test's own: all tests run with either.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    /// The KurrentDB that has the log.
    pub(crate) kurrentdb: Option<KurrentDb>,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let mut database = Self::create_with_its_log().await;
        if log_is_in_kurrentdb() {
            database.kurrentdb = Some(KurrentDb::beside(&database.pool).await);
        }
        database
    }

    /// A database with the log in it, in every run.
    pub(crate) async fn create_with_its_log() -> Self {
        #[expect(clippy::disallowed_methods, reason = "./test says where its Postgres is by the environment")]
        let server = std::env::var("DATABASE_URL").expect("DATABASE_URL names no Postgres: run the tests with ./test");
        let options: PgConnectOptions = server.parse().unwrap();
        let name = format!("shop_{}", Uuid::now_v7().simple());
        let mut admin = options.connect().await.unwrap();
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        let options = options.database(&name);
        let url = options.to_url_lossy().to_string();
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy_with(options);
        Self { url, pool, kurrentdb: None }
    }

    /// The answer of a query that gives one number. It may ask for `log.events`, wherever the log is.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        if let Some(kurrentdb) = self.kurrentdb.as_ref().filter(|_| sql.contains("log.events")) {
            kurrentdb.mirror(&self.pool).await;
        }
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// How many events the log has.
    pub(crate) async fn log_length(&self) -> i64 {
        self.number("select count(*) from log.events").await
    }

    /// How many events a log has whose table may not be there yet.
    pub(crate) async fn log_length_or_none(&self) -> i64 {
        match &self.kurrentdb {
            Some(kurrentdb) => kurrentdb.length() as i64,
            None => sqlx::query_scalar("select count(*) from log.events").fetch_one(&self.pool).await.unwrap_or(0),
        }
    }

    /// Has another program append an event that none of the shop's programs would, behind the last one of a stream.
    pub(crate) async fn append_nonsense(&self, stream: &str) -> Uuid {
        let id = Uuid::now_v7();
        if let Some(kurrentdb) = &self.kurrentdb {
            let event = kurrentdb_server::NewEvent {
                metadata: "{}".into(),
                ..kurrentdb_server::NewEvent::json(id, "Nonsense", "{}")
            };
            let (stream, expected) = (stream.to_owned(), kurrentdb_server::Expected::Any);
            kurrentdb.server.log().write(&kurrentdb_server::Write { stream, expected, events: vec![event] }).unwrap();
        } else {
            let append = "select log.append(true, array[$1], array[-2::bigint], array[1], array[1::bigint], array[$1],
                array[$2], array['Nonsense'], array['{}'::bytea], array['{}'::bytea])";
            sqlx::query(append).bind(stream).bind(id).execute(&self.pool).await.unwrap();
        }
        id
    }

    /// A command of the binary on this database.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(storefold());
        command
            .args(arguments)
            .env("DATABASE_URL", &self.url)
            .env("STOREFOLD_TOKEN_KEY", TOKEN_KEY)
            .env_remove("EVENT_STORE_URL")
            .env("STOREFOLD_LOG_FORMAT", "text");
        if let Some(kurrentdb) = &self.kurrentdb {
            command.env("EVENT_STORE_URL", kurrentdb.url());
        }
        // Whatever configuration lies where the tests are run is none of theirs.
        command.current_dir(std::env::temp_dir()).kill_on_drop(true);
        command
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Runs the binary to its end, which must be a good one. Answers its standard output.
    pub(crate) async fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{complaint}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Whether the log is in KurrentDB in this run.
#[expect(clippy::disallowed_methods, reason = "./test says by the environment which log is tested")]
fn log_is_in_kurrentdb() -> bool {
    match std::env::var("STOREFOLD_TEST_LOG").as_deref() {
        Ok("kurrentdb") => true,
        Ok("postgres") | Err(_) => false,
        Ok(other) => panic!("STOREFOLD_TEST_LOG = {other:?}; there are postgres and kurrentdb"),
    }
}

/// A KurrentDB of a test's own: a server of its protocol, on a thread of its own. Its events are mirrored to the table
/// `log.events` of the test's database, so that a test can ask for them as it would were the log in there.
pub(crate) struct KurrentDb {
    pub(crate) server: Arc<kurrentdb_server::Server>,
    /// How many events were mirrored.
    mirrored: tokio::sync::Mutex<usize>,
    /// Ends the server's thread when it is dropped.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl KurrentDb {
    /// One whose events can be asked for in a database.
    async fn beside(pool: &PgPool) -> Self {
        pool.execute(
            "create schema log;
            create table log.events (position bigint primary key, stream text, revision bigint, id uuid, type text,
                recorded_at timestamptz)",
        )
        .await
        .unwrap();
        Self::alone().await
    }

    /// One that is empty.
    pub(crate) async fn alone() -> Self {
        let (started, starts) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = kurrentdb_server::Server::start(kurrentdb_server::Settings::default()).await.unwrap();
                let _ = started.send(Arc::new(server));
                // Ends with an error when the sender is dropped.
                let _ = ended.await;
            });
        });
        Self { server: starts.await.unwrap(), mirrored: tokio::sync::Mutex::default(), _end: end }
    }

    /// What a client connects with.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// How many events it has.
    pub(crate) fn length(&self) -> usize {
        self.server.log().records().len()
    }

    async fn mirror(&self, pool: &PgPool) {
        let mut mirrored = self.mirrored.lock().await;
        let records = self.server.log().records_from(*mirrored);
        let (mut positions, mut streams, mut revisions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ids, mut types, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for record in &records {
            positions.push(i64::try_from(record.position.commit).unwrap());
            streams.push(record.stream.to_string());
            revisions.push(i64::try_from(record.revision).unwrap());
            ids.push(record.event.id);
            types.push(record.event.event_type.clone());
            times.push(DateTime::<Utc>::from(record.created));
        }
        let insert = "insert into log.events
            select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::timestamptz[])";
        let insert =
            sqlx::query(insert).bind(positions).bind(streams).bind(revisions).bind(ids).bind(types).bind(times);
        insert.execute(pool).await.unwrap();
        *mirrored += records.len();
    }
}

/// What the servers of tests verify tokens with, unless a test says otherwise.
const TOKEN_KEY: &str = r#"{"kty":"oct","kid":"tests","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;

/// A token for such a server.
pub(crate) fn token(subject: &str, scopes: Scopes, customer: Option<Uuid>) -> String {
    token_for(subject, scopes, customer, Duration::from_secs(24 * 60 * 60))
}

/// One that holds for so long.
pub(crate) fn token_for(subject: &str, scopes: Scopes, customer: Option<Uuid>, lifetime: Duration) -> String {
    let (issuer, audience) = ("storefold".into(), "storefold".into());
    let (subject, customer) = (subject.to_owned(), customer.map(CustomerId));
    let grant = Grant { issuer, audience, subject, scopes, customer, lifetime };
    Signer::of(TOKEN_KEY).unwrap().token(&grant).unwrap()
}

/// A client that sends this token with every request.
pub(crate) fn client(token: &str) -> Client {
    let authorization = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    Client::builder().default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)])).build().unwrap()
}

/// A running server. Killed when it is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    /// Of somebody who may do everything.
    pub(crate) client: Client,
    _data_dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server on a port that is free, and waits until it listens.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts a server with these further arguments.
    pub(crate) async fn start_with(database: &Database, arguments: &[&str]) -> Self {
        Self::start_as(database, arguments, &[]).await
    }

    /// Starts a server that leaves orders alone: what happens to them, the test does by hand.
    pub(crate) async fn start_by_hand(database: &Database) -> Self {
        Self::start_with(database, &["--roles", "write,project,read"]).await
    }

    /// Starts a server with these further arguments and settings.
    pub(crate) async fn start_as(database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let mut command = database.command(&["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
        command.envs(settings.iter().copied());
        command.args(arguments).arg("--data-dir").arg(data_dir.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let first = first.expect("the server did not say within a minute that it listens").unwrap();
        let first = first.expect("the server ended before it listened; its log says why");
        let url = first.strip_prefix("Storefold listens on ").expect("the first line says where").to_owned();
        // What else it prints is read over, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, url, client: client(&token("tests", Scopes::ALL, None)), _data_dir: data_dir }
    }

    /// What the server keeps to itself.
    pub(crate) fn data_dir(&self) -> &Path {
        self._data_dir.path()
    }

    /// A command, not sent yet.
    pub(crate) fn command(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).json(body)
    }

    /// Sends a command that must be done. Answers what came back.
    pub(crate) async fn done(&self, path: &str, body: Value) -> Value {
        let (status, answer) = status_and_json(self.command(path, &body).send().await.unwrap()).await;
        assert!(status < 300, "{path} {body}: {status} {answer}");
        answer
    }

    /// Reads an address.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// Asks GraphQL, after a position where one is given. The answer must have no errors.
    pub(crate) async fn query(&self, query: &str, variables: Value, after: Option<&str>) -> Value {
        let mut request = self.client.post(format!("{}/graphql", self.url));
        if let Some(after) = after {
            request = request.header("Storefold-After", after).header("Storefold-Wait", "30000");
        }
        let (status, answer) =
            status_and_json(request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap())
                .await;
        assert!(status == 200 && answer.get("errors").is_none(), "{query}: {status} {answer:#}");
        answer["data"].clone()
    }

    /// How much memory the server has resident, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends the only server of a shop as a crash would, and lets the next one lead at once. How long a lease outlives its
    /// holder is for another test.
    pub(crate) async fn kill_alone(self, database: &Database) {
        self.kill().await;
        for leases in ["process.leases", "control.leases"] {
            let delete = AssertSqlSafe(format!("delete from {leases}"));
            sqlx::query(delete).execute(&database.pool).await.unwrap();
        }
    }

    /// Ends the server as a crash would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().unwrap().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(killed.success());
        self.child.wait().await.unwrap()
    }
}

/// Looks again and again, a little apart, until there is what is looked for. That it comes at all is for the runner's time
/// limit to see to.
pub(crate) async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(15));
    loop {
        looks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
}

/// Looks again and again until something is so.
pub(crate) async fn until_so(look: impl AsyncFn() -> bool) {
    until(async || look().await.then_some(())).await;
}

/// The status and the JSON of an answer.
pub(crate) async fn status_and_json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, json)
}

/// Every row of a table of a read model as one hash, whatever the order in which they lie.
pub(crate) async fn canonical_hash(database: &Database, view: &str) -> String {
    let sql = format!(
        "select coalesce(md5(string_agg(t::text, e'\\n' order by t::text collate \"C\")), 'none') from read.{view} t"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&database.pool).await.unwrap()
}

/// Numbers that look random and are the same every time: Knuth's MMIX generator.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// How much longer than usual some tests run: what `./soak` says.
pub(crate) mod soak {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    fn said<T: std::str::FromStr>(name: &str, usual: T) -> T {
        std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(usual)
    }

    /// How many times as much is done.
    pub(crate) fn times() -> usize {
        said("STOREFOLD_SOAK_TIMES", 1)
    }

    /// What the dice start from.
    pub(crate) fn seed() -> u64 {
        said("STOREFOLD_SOAK_SEED", 7)
    }
}
