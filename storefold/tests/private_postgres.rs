//! The private Postgres, as processes of the binary share it: started, joined, outlived, killed, stopped.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};
use tempfile::TempDir;

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A process that runs `storefold postgres`.
struct Owner {
    process: Child,
    url: String,
}

impl Owner {
    /// Starts one, and waits until the database can be used.
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storefold"));
        command.arg("postgres").args(arguments).env("STOREFOLD_LOG_FILTER", "warn").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(!url.is_empty(), "it ended without a URL");
        Self { process, url: url.trim().to_owned() }
    }

    fn of(data_dir: &Path) -> Self {
        Self::start(&["--data-dir", data_dir.to_str().unwrap()])
    }

    /// Asks it to stop, and waits for it.
    fn stop(mut self) -> ExitStatus {
        self.leave()
    }

    fn leave(&mut self) -> ExitStatus {
        if let Some(status) = self.process.try_wait().unwrap() {
            return status;
        }
        signal("TERM", &self.process.id().to_string());
        self.process.wait().unwrap()
    }

    /// Ends it without a word.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn connect(&self) -> PgConnection {
        self.url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
    }
}

/// A test that fails leaves no server behind.
impl Drop for Owner {
    fn drop(&mut self) {
        self.leave();
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args(["-s", name, pid]).status().unwrap().success());
}

/// A data directory that the server's user can reach, and that does not exist yet.
fn a_data_dir() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let data_dir = root.path().join("shop");
    (root, data_dir)
}

/// The process id of the server, if it runs.
fn server(data_dir: &Path) -> Option<String> {
    let file = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    Some(file.lines().next()?.to_owned())
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let give_up = Instant::now() + DEADLINE;
    while !happened() {
        assert!(Instant::now() < give_up, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn it_is_durable_in_utf8_and_reached_over_its_socket_alone() {
    let (_root, data_dir) = a_data_dir();
    let owner = Owner::of(&data_dir);
    let settings = "select concat_ws(' ', current_user, current_database(), current_setting('server_encoding'),
                    current_setting('fsync'), current_setting('synchronous_commit'),
                    '[' || current_setting('listen_addresses') || ']', lower('É'))";
    let answer: String = sqlx::query_scalar(settings).fetch_one(&mut owner.connect().await).await.unwrap();
    assert_eq!(answer, "storefold storefold UTF8 on on [] é");
    let mode = data_dir.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o067, 0, "others may look into the data directory: {mode:o}");
    assert!(owner.stop().success());
    assert_eq!(server(&data_dir), None);
}

#[tokio::test]
async fn it_has_a_role_that_may_read_what_readers_see() {
    let (_root, data_dir) = a_data_dir();
    // The second time the role is there.
    for _ in 0..2 {
        let owner = Owner::of(&data_dir);
        owner
            .connect()
            .await
            .execute("create schema if not exists closed; create table if not exists closed.t ()")
            .await
            .unwrap();
        let reader = owner.url.replace("postgres://storefold@", "postgres://storefold_reader@");
        let mut reader = reader.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let user: String = sqlx::query_scalar("select current_user::text").fetch_one(&mut reader).await.unwrap();
        assert_eq!(user, "storefold_reader");
        let refused = reader.execute("select * from closed.t").await.unwrap_err();
        assert!(refused.to_string().contains("permission denied for schema closed"), "{refused}");
        assert!(owner.stop().success());
    }
}

#[test]
fn the_last_one_out_stops_it() {
    let (_root, data_dir) = a_data_dir();
    let (one, other) = (Owner::of(&data_dir), Owner::of(&data_dir));
    assert_eq!(one.url, other.url);
    let first = server(&data_dir);
    assert!(one.stop().success());
    assert_eq!((first.is_some(), server(&data_dir)), (true, first));
    assert!(other.stop().success());
    assert_eq!(server(&data_dir), None);
}

#[test]
fn those_who_start_it_at_once_share_it() {
    let (_root, data_dir) = a_data_dir();
    let owners: Vec<Owner> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| Owner::of(&data_dir))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let stops = owners.into_iter().map(|owner| std::thread::spawn(move || owner.stop()));
    for stop in stops.collect::<Vec<_>>() {
        assert!(stop.join().unwrap().success());
    }
    assert_eq!(server(&data_dir), None);
}

#[tokio::test]
async fn it_outlives_a_killed_process_and_is_found_by_the_next() {
    let (_root, data_dir) = a_data_dir();
    let owner = Owner::of(&data_dir);
    owner.connect().await.execute("create table kept as select 7 as number").await.unwrap();
    let left_running = server(&data_dir);
    owner.kill();
    let next = Owner::of(&data_dir);
    assert_eq!((left_running.is_some(), server(&data_dir)), (true, left_running));
    let number: i32 = sqlx::query_scalar("select number from kept").fetch_one(&mut next.connect().await).await.unwrap();
    assert_eq!(number, 7);
    assert!(next.stop().success());
    assert_eq!(server(&data_dir), None);
}

#[tokio::test]
async fn a_killed_server_recovers_at_the_next_start() {
    let (_root, data_dir) = a_data_dir();
    let owner = Owner::of(&data_dir);
    owner.connect().await.execute("create table kept as select 7 as number").await.unwrap();
    signal("KILL", &server(&data_dir).unwrap());
    // The first one is still in: the server is started for both.
    let next = Owner::of(&data_dir);
    let number: i32 = sqlx::query_scalar("select number from kept").fetch_one(&mut next.connect().await).await.unwrap();
    assert_eq!(number, 7);
    assert!(next.stop().success());
    assert!(server(&data_dir).is_some());
    assert!(owner.stop().success());
    assert_eq!(server(&data_dir), None);
}

#[test]
fn a_pid_file_that_names_another_process_is_no_obstacle() {
    let ((_root, data_dir), (_elsewhere, other_dir)) = (a_data_dir(), a_data_dir());
    assert!(Owner::of(&data_dir).stop().success());
    let other = Owner::of(&other_dir);
    // After a crash of the machine the file is still there, and its number may be anybody's: here, another server's.
    let cluster = data_dir.join("postgres");
    let pid = server(&other_dir).unwrap();
    fs::write(cluster.join("postmaster.pid"), format!("{pid}\n{}\n0\n5432\n\n\n", cluster.display())).unwrap();
    let owner = Owner::of(&data_dir);
    assert_ne!(server(&data_dir), Some(pid));
    assert!(owner.stop().success());
    assert!(other.stop().success());
}

#[tokio::test]
async fn out_of_the_servers_reach_the_cluster_goes_elsewhere() {
    // Closed to all but its owner, as root's home is.
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let data_dir = root.path().join("shop");
    let owner = Owner::of(&data_dir);
    let place = "select current_setting('data_directory')";
    let place: String = sqlx::query_scalar(place).fetch_one(&mut owner.connect().await).await.unwrap();
    assert!(owner.stop().success());
    let as_root = data_dir.metadata().unwrap().uid() == 0;
    assert_eq!(Path::new(&place).starts_with(&data_dir), !as_root, "{place}");
    if as_root {
        // The next start finds it there.
        assert_eq!(Owner::of(&data_dir).leave().code(), Some(0));
        assert!(!data_dir.join("postgres").exists());
        fs::remove_dir_all(Path::new(&place).parent().unwrap()).unwrap();
    }
}

#[test]
fn a_cluster_that_was_half_made_is_made_again() {
    let (_root, data_dir) = a_data_dir();
    fs::create_dir_all(data_dir.join("postgres.unfinished/base")).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o711)).unwrap();
    let owner = Owner::of(&data_dir);
    assert!(!data_dir.join("postgres.unfinished").exists());
    assert!(owner.stop().success());
}

#[test]
fn a_cluster_of_another_release_is_refused_with_its_version() {
    let (_root, data_dir) = a_data_dir();
    assert!(Owner::of(&data_dir).stop().success());
    fs::write(data_dir.join("postgres/PG_VERSION"), "9\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_storefold"));
    let output = command.args(["postgres", "--data-dir"]).arg(&data_dir).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("was made by Postgres 9"), "{error}");
}

#[test]
fn a_throw_away_cluster_leaves_nothing_however_it_ends() {
    let directory = |owner: &Owner| PathBuf::from(owner.url.split_once("?host=").unwrap().1);
    let (stopped, killed) = (Owner::start(&["--throw-away"]), Owner::start(&["--throw-away"]));
    let directories = [directory(&stopped), directory(&killed)];
    assert!(directories.iter().all(|directory| directory.is_dir()));
    assert!(stopped.stop().success());
    assert!(!directories[0].exists());
    killed.kill();
    wait_until("the removal of the cluster", || !directories[1].exists());
}
