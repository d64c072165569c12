//! Queries from a replica: a standby that Postgres itself keeps, paused, in its primary's way, and gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::support::{Database, Server, status_and_json, until_so};

/// A primary and its standby, in a directory that is removed with them.
struct Pair {
    directory: tempfile::TempDir,
    programs: PathBuf,
    /// Set while it runs.
    running: Vec<&'static str>,
}

impl Pair {
    fn start() -> Self {
        let programs = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs = programs.map(|version| version.path().join("bin"));
        let configured = Command::new("pg_config").arg("--bindir").output().ok();
        let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        let programs = configured.into_iter().chain(programs).find(|bin| bin.join("initdb").exists());
        let directory = tempfile::tempdir().unwrap();
        let pair =
            Self { directory, programs: programs.expect("Postgres's programs are missing"), running: Vec::new() };
        pair.started()
    }

    fn started(mut self) -> Self {
        if is_root() {
            // They refuse to run as root.
            assert!(Command::new("chown").arg("postgres").arg(self.directory.path()).status().unwrap().success());
        }
        let root = self.directory.path().to_owned();
        let path = |name: &str| root.join(name).display().to_string();
        self.run("initdb", &["-D", &path("primary"), "-U", "storefold", "-A", "trust", "-N"]);
        let settings = "wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\nfsync = off\nlisten_addresses = ''\n\
             max_standby_streaming_delay = 0\nwal_receiver_status_interval = 1s\n";
        self.run("sh", &["-c", &format!("printf %s \"{settings}\" >> {}/postgresql.conf", path("primary"))]);
        self.up("primary");
        self.run(
            "pg_basebackup",
            &["-h", &root.display().to_string(), "-U", "storefold", "-D", &path("standby"), "-R", "-c", "fast"],
        );
        self.up("standby");
        self
    }

    fn up(&mut self, name: &'static str) {
        let (root, port) = (self.directory.path().display(), port(name));
        let (directory, options) = (format!("{root}/{name}"), format!("-k {root} -p {port}"));
        self.run("pg_ctl", &["-D", &directory, "-w", "-o", &options, "-l", &format!("{directory}/log"), "start"]);
        self.running.push(name);
    }

    fn down(&mut self, name: &'static str) {
        let directory = self.directory.path().join(name).display().to_string();
        self.run("pg_ctl", &["-D", &directory, "-w", "-m", "immediate", "stop"]);
        self.running.retain(|running| *running != name);
    }

    /// Runs a program of Postgres as a user whom it accepts.
    fn run(&self, program: &str, arguments: &[&str]) {
        let path = if program == "sh" { Path::new(program).to_owned() } else { self.programs.join(program) };
        let mut command = Command::new(if is_root() { Path::new("runuser") } else { &path });
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(&path);
        }
        // The server would keep a pipe open that it inherits.
        let output = command.args(arguments).current_dir(self.directory.path()).stdout(std::process::Stdio::null());
        assert!(output.status().unwrap().success(), "{program} {arguments:?}");
    }

    fn options(&self, name: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new().socket(self.directory.path()).port(port(name));
        options.username("storefold").database("postgres")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        while let Some(name) = self.running.last().copied() {
            self.down(name);
        }
    }
}

/// They share a directory for their sockets.
fn port(name: &str) -> u16 {
    if name == "primary" { 5432 } else { 5433 }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// A shop on the primary, of which queries go to the standby.
async fn shop(pair: &Pair) -> (Database, Server, PgPool) {
    let url = |name: &str| pair.options(name).to_url_lossy().to_string();
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy_with(pair.options("primary"));
    let database = Database { url: url("primary"), pool, kurrentdb: None };
    let roles = ["--roles", "write,project,read"];
    let server = Server::start_as(&database, &roles, &[("READ_DATABASE_URL", &url("standby"))]).await;
    let standby = PgPoolOptions::new().max_connections(2).connect_with(pair.options("standby")).await.unwrap();
    (database, server, standby)
}

const QUERY: &str = "{ products { nodes { sku onHand } } }";

/// Asks with these headers. Answers all that came back.
async fn ask(server: &Server, headers: &[(&str, &str)]) -> Value {
    let mut request = server.client.post(format!("{}/graphql", server.url)).json(&json!({ "query": QUERY }));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    status_and_json(request.send().await.unwrap()).await.1
}

async fn receive(server: &Server) -> String {
    let done = server.done("/v1/stock/LAMP/receive", json!({ "quantity": 1 })).await;
    done["position"].as_str().unwrap().to_owned()
}

fn on_hand(answer: &Value) -> &Value {
    &answer["data"]["products"]["nodes"][0]["onHand"]
}

#[tokio::test]
async fn a_replica_answers_as_far_as_it_has_come() {
    let pair = Pair::start();
    let (database, server, standby) = shop(&pair).await;
    let first = receive(&server).await;
    let answer = ask(&server, &[("Storefold-After", &first), ("Storefold-Wait", "30000")]).await;
    assert_eq!((on_hand(&answer), &answer["extensions"]["asOf"]["position"]), (&json!(1), &json!(first)), "{answer}");

    standby.execute("select pg_wal_replay_pause()").await.unwrap();
    let paused = async || {
        let state: String =
            sqlx::query_scalar("select pg_get_wal_replay_pause_state()").fetch_one(&standby).await.unwrap();
        state == "paused"
    };
    until_so(paused).await;
    let second = receive(&server).await;
    let folded = async || {
        let sql = "select commit_position from control.generations where name = 'products' and state = 'live'";
        let position: i64 = sqlx::query_scalar(sql).fetch_one(&database.pool).await.unwrap();
        second.split('/').next() == Some(position.to_string().as_str())
    };
    until_so(folded).await;
    // The primary has it. The replica does not, and says as of when it is.
    let answer = ask(&server, &[]).await;
    assert_eq!((on_hand(&answer), &answer["extensions"]["asOf"]["position"]), (&json!(1), &json!(first)), "{answer}");
    let answer = ask(&server, &[("Storefold-After", &second), ("Storefold-Wait", "100")]).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "STALE", "{answer}");
    let answer =
        ask(&server, &[("Storefold-After", &second), ("Storefold-Wait", "100"), ("Storefold-Stale", "allow")]).await;
    assert_eq!(on_hand(&answer), 1, "{answer}");

    let headers = [("Storefold-After", second.as_str()), ("Storefold-Wait", "30000")];
    let resume = async { standby.execute("select pg_wal_replay_resume()").await.unwrap() };
    let (answer, _) = tokio::join!(ask(&server, &headers), resume);
    assert_eq!((on_hand(&answer), &answer["extensions"]["asOf"]["position"]), (&json!(2), &json!(second)), "{answer}");
}

#[tokio::test]
async fn a_query_that_is_in_the_way_of_the_primary_is_asked_again() {
    const LOCK: i64 = 42;
    let pair = Pair::start();
    let (database, server, standby) = shop(&pair).await;
    let position = receive(&server).await;
    // Whoever reads the products waits until nobody holds the lock, on the standby as on the primary.
    let gate = "do $$ declare it text; begin
        select pg_get_viewdef('read.products'::regclass) into it;
        execute 'create or replace view read.products as select * from (' || rtrim(it, ';') || ') as products
                 where (select pg_advisory_xact_lock_shared(42) is not null)'; end $$";
    sqlx::raw_sql(gate).execute(&database.pool).await.unwrap();
    let fresh = [("Storefold-After", position.as_str()), ("Storefold-Wait", "30000")];
    assert_eq!(on_hand(&ask(&server, &fresh).await), 1);
    let gated = async || {
        let sql = "select pg_get_viewdef('read.products'::regclass) like '%advisory%'";
        sqlx::query_scalar(sql).fetch_one(&standby).await.unwrap()
    };
    until_so(gated).await;

    let mut holder = pair.options("standby").connect().await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(LOCK).execute(&mut holder).await.unwrap();
    let intervene = async {
        let waits = async || {
            let sql = "select exists (select from pg_locks where locktype = 'advisory' and not granted)";
            sqlx::query_scalar::<_, bool>(sql).fetch_one(&standby).await.unwrap()
        };
        until_so(waits).await;
        // The standby has to follow, and the query has the table.
        let table: String = sqlx::query_scalar(
            "select format('%I.products', schema_name) from control.generations where name = 'products' and state = 'live'",
        )
        .fetch_one(&database.pool)
        .await
        .unwrap();
        let mut primary: PgConnection = pair.options("primary").connect().await.unwrap();
        let mut transaction = primary.begin().await.unwrap();
        let lock = format!("lock table {table} in access exclusive mode");
        transaction.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        transaction.commit().await.unwrap();
        let cancelled = async || {
            let sql = "select confl_lock > 0 from pg_stat_database_conflicts where datname = current_database()";
            sqlx::query_scalar::<_, bool>(sql).fetch_one(&standby).await.unwrap()
        };
        until_so(cancelled).await;
        holder.close().await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&server, &[]), intervene);
    assert_eq!((on_hand(&answer), answer.get("errors")), (&json!(1), None), "{answer}");
}

#[tokio::test]
async fn while_the_replica_is_gone_the_database_answers() {
    let mut pair = Pair::start();
    let (_database, server, standby) = shop(&pair).await;
    let first = receive(&server).await;
    let headers = |position| [("Storefold-After", position), ("Storefold-Wait", "30000")];
    assert_eq!(on_hand(&ask(&server, &headers(&first)).await), 1);
    standby.close().await;
    pair.down("standby");
    let second = receive(&server).await;
    let answer = ask(&server, &headers(&second)).await;
    assert_eq!((on_hand(&answer), &answer["extensions"]["asOf"]["position"]), (&json!(2), &json!(second)), "{answer}");
}
