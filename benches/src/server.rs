//! The programs that are measured, started for the run and stopped after it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr as _;
use std::sync::LazyLock;
use std::time::Duration;

use access::{Grant, Scopes, Signer};
use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::cpu;

/// What the servers verify tokens with.
const TOKEN_KEY: &str = r#"{"kty":"oct","kid":"benches","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;

/// A token for everything, which goes with every request that is measured.
pub(crate) static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let (issuer, audience, subject) = ("storefold".into(), "storefold".into(), "benches".into());
    let (scopes, lifetime) = (Scopes::ALL, Duration::from_secs(24 * 60 * 60));
    let grant = Grant { issuer, audience, subject, scopes, customer: None, lifetime };
    // Without one, every request is refused, and nothing is measured.
    Signer::of(TOKEN_KEY).and_then(|signer| signer.token(&grant)).unwrap_or_default()
});

/// Files of Postgres's own log, which are kept: three gigabytes, and a run of minutes writes two and a half.
const KEPT_LOG: [&str; 4] = [
    "alter system set min_wal_size = '3GB'",
    "select pg_reload_conf()",
    "do $$ begin
        for file in 1 .. 192 loop
            perform pg_logical_emit_message(false, 'benches', '');
            perform pg_switch_wal();
        end loop;
    end $$",
    "checkpoint",
];

/// A private Postgres with the settings of a shop: `fsync` and `synchronous_commit` are on.
pub(crate) struct Postgres {
    child: Child,
    storefold: PathBuf,
    pub(crate) options: PgConnectOptions,
    url: String,
    /// The server's own process.
    postmaster: u32,
    _data_dir: tempfile::TempDir,
}

impl Postgres {
    pub(crate) async fn start(storefold: &Path) -> anyhow::Result<Self> {
        let storefold = storefold.canonicalize().with_context(|| format!("{} is not built", storefold.display()))?;
        let data_dir = tempfile::Builder::new().prefix("storefold-bench").tempdir()?;
        let mut command = Command::new(&storefold);
        command.args(["postgres", "--log", "warn", "--data-dir"]).arg(data_dir.path());
        let (child, url) = first_line(command).await?;
        let options = PgConnectOptions::from_str(&url)?;
        let mut connection = options.connect().await?;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let sql = AssertSqlSafe(format!("select current_setting('{setting}')"));
            let value: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
            anyhow::ensure!(value == "on", "{setting} is {value}");
        }
        // A server that has run for a while writes over old files of its log. A new one makes each of them first, and stops for
        // that: it would be measured who of the two stops more often.
        for statement in KEPT_LOG {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        // A backend's parent is the server's own process.
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        let status = std::fs::read_to_string(format!("/proc/{backend}/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
        let postmaster = parent.trim().parse()?;
        Ok(Self { child, storefold, options, url, postmaster, _data_dir: data_dir })
    }

    /// A fresh database, and a pool on it. There is no other then: the server would vacuum and analyze what one measurement has
    /// left while the next takes times.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<(PgConnectOptions, PgPool)> {
        let mut admin = self.options.connect().await?;
        let others =
            "select quote_ident(datname) from pg_database where not datistemplate and datname <> current_database()";
        let others: Vec<String> = sqlx::query_scalar(others).fetch_all(&mut admin).await?;
        for other in others {
            admin.execute(AssertSqlSafe(format!("drop database {other} with (force)"))).await?;
        }
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await?;
        let options = self.options.clone().database(name);
        let pool = PgPoolOptions::new().max_connections(16).connect_with(options.clone()).await?;
        Ok((options, pool))
    }

    /// The CPU microseconds of the server so far.
    pub(crate) fn cpu(&self) -> u64 {
        cpu::of_tree(self.postmaster)
    }

    /// Where the server has its files.
    pub(crate) fn data_dir(&self) -> &Path {
        self._data_dir.path()
    }

    /// Where the server is, for programs of Postgres: host and user.
    pub(crate) fn host_and_user(&self) -> anyhow::Result<(String, String)> {
        let host = self.options.get_socket().map(|socket| socket.display().to_string());
        Ok((host.context("the private Postgres has a socket")?, self.options.get_username().to_owned()))
    }

    /// Starts `storefold serve` with these flags on a database. Answers the process and its address.
    pub(crate) async fn serve(&self, options: &PgConnectOptions, flags: &[&str]) -> anyhow::Result<(Child, String)> {
        let mut command = Command::new(&self.storefold);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]).args(flags);
        command.env("STOREFOLD_TOKEN_KEY", TOKEN_KEY);
        command.env("DATABASE_URL", options.to_url_lossy().to_string()).current_dir(self._data_dir.path());
        let (child, line) = first_line(command).await?;
        let address = line.rsplit_once("http://").map(|(_, address)| address.to_owned());
        Ok((child, address.with_context(|| format!("the server said {line:?}"))?))
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        stop(&mut self.child).await.with_context(|| format!("the Postgres at {} did not stop", self.url))
    }
}

/// How long the machine rests before times are taken.
const REST: Duration = Duration::from_secs(3);

/// Waits until what was written before is on the disk, and then a while: the kernel would write it while somebody else's times are
/// taken, and a virtual machine that was busy is held up by its host for a time. Who of the two meets that is chance.
pub(crate) async fn settle() -> anyhow::Result<()> {
    let status = Command::new("sync").status().await?;
    anyhow::ensure!(status.success(), "sync ended with {status}");
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Asks a process to stop, and waits until it has.
pub(crate) async fn stop(child: &mut Child) -> anyhow::Result<()> {
    let pid = child.id().context("the process has ended already")?;
    Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Starts a program, and waits for the first line that it says. Control-C in a terminal does not reach it: it is stopped by who
/// started it, in order.
pub(crate) async fn first_line(mut command: Command) -> anyhow::Result<(Child, String)> {
    let mut child = command.stdout(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = lines.next_line().await?.context("the program ended before it said anything")?;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, line))
}
