//! One cluster on disk, and its server: made, started and stopped with Postgres's own programs. Everything here blocks.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::programs::{Account, Programs};
use super::settings::{self, Basis};
use super::{PostgresError, RECOVERED, failed};

/// Where sockets go: a socket's path has at most 107 bytes, and a data directory's may be longer.
const SOCKETS: &str = "/tmp";
/// Where the cluster goes when root's data directory is out of the server's reach.
const STATE: &str = "/var/lib/storefold";
/// Its settings, within the cluster.
const SETTINGS: &str = "storefold.conf";
/// What the server says before it opens its own log, within the cluster.
const START_LOG: &str = "start.log";
/// How long the last of a killed server may hold on to its shared memory.
const LET_GO: Duration = Duration::from_secs(10);
/// How long an orderly stop may take before it becomes a crash, in seconds.
const STOP: &str = "60";
/// How much of a log goes into an error, in lines.
const TAIL: usize = 15;

#[cfg(target_os = "macos")]
const CHARACTERS: &str = "UTF-8";
#[cfg(not(target_os = "macos"))]
const CHARACTERS: &str = "C.UTF-8";

/// A cluster and how to run it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    programs: Programs,
    /// Who owns the files and runs the server. It is never root.
    account: Account,
    /// Whether the account is another than this process's, which then is root.
    foreign: bool,
    directory: PathBuf,
    socket_dir: PathBuf,
    durable: bool,
}

impl Cluster {
    /// The cluster of a data directory, which must be absolute.
    pub(super) fn of(data_dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        let programs = Programs::find(bin_dir)?;
        let current = Account::current()?;
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, data_dir.as_os_str().as_encoded_bytes()).simple();
        let (near, far) = (data_dir.join("postgres"), Path::new(STATE).join(id.to_string()).join("postgres"));
        let existing = [&near, &far].into_iter().find(|directory| is_cluster(directory, current)).cloned();
        let account = match &existing {
            Some(directory) => owner(directory, current)?,
            None if current.is_root() => Account::postgres()?,
            None => current,
        };
        let programs = match &existing {
            Some(directory) => of_version(programs, directory)?,
            None => newest(programs)?,
        };
        let socket_dir = Path::new(SOCKETS).join(format!("storefold-{id}"));
        let foreign = account != current;
        let cluster = Self { programs, account, foreign, directory: near, socket_dir, durable: true };
        match existing {
            Some(directory) => Ok(Self { directory, ..cluster }),
            None if cluster.let_in(data_dir)? => Ok(cluster),
            None => {
                tracing::info!(
                    data_dir = %data_dir.display(), cluster = %far.display(),
                    "the user that runs Postgres cannot reach the data directory; its cluster goes elsewhere"
                );
                Ok(Self { directory: far, ..cluster })
            }
        }
    }

    /// A cluster that nobody else knows of, below a new directory.
    pub(super) fn throw_away(bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        let programs = newest(Programs::find(bin_dir)?)?;
        let current = Account::current()?;
        let account = if current.is_root() { Account::postgres()? } else { current };
        let socket_dir = Path::new(SOCKETS).join(format!("storefold-{}", Uuid::new_v4().simple()));
        let directory = socket_dir.join("postgres");
        let cluster = Self { programs, account, foreign: account != current, directory, socket_dir, durable: false };
        cluster.private_dir(&cluster.socket_dir)?;
        Ok(cluster)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Brings the server up, if it is not. It may still be recovering when this returns.
    pub(super) fn start(&self) -> Result<(), PostgresError> {
        self.initialise()?;
        self.private_dir(&self.socket_dir)?;
        if self.listens() || self.comes_up()? {
            return Ok(());
        }
        self.configure()?;
        let give_up = Instant::now() + LET_GO;
        loop {
            // What it says from here on; the start before may have left something.
            drop(fs::remove_file(self.directory.join(START_LOG)));
            let (log, patience) = (self.directory.join(START_LOG), RECOVERED.as_secs().to_string());
            let output = self.output(self.pg_ctl("start").arg("-w").args(["-t", &patience]).arg("-l").arg(log))?;
            if output.status.success() {
                return Ok(());
            }
            let log = self.log_tail();
            // The processes of a server that was killed see it, and go, one by one.
            if !log.contains("is still in use") || Instant::now() >= give_up {
                return Err(PostgresError::NotStarted { cluster: self.directory.clone(), log });
            }
            pause();
        }
    }

    /// Stops the server, if it runs: in order, or else at once.
    pub(super) fn stop(&self) -> Result<(), PostgresError> {
        if self.runs()? {
            self.end()?;
        }
        // Only to be tidy: the next start makes it again.
        drop(fs::remove_dir(&self.socket_dir));
        Ok(())
    }

    fn end(&self) -> Result<(), PostgresError> {
        let stop = |mode: &str| self.output(self.pg_ctl("stop").args(["-w", "-t", STOP, "-m", mode]));
        if stop("fast")?.status.success() || !self.runs()? {
            return Ok(());
        }
        tracing::warn!(cluster = %self.directory.display(), "Postgres does not stop; ending it, it recovers at the next start");
        succeeded("pg_ctl stop", stop("immediate")?)
    }

    /// What stops the server and deletes the cluster when this process is done with it or is gone.
    pub(super) fn undertaker(&self) -> Result<Undertaker, PostgresError> {
        // Its input ends when this process does.
        const SCRIPT: &str = r#"cat; "$1" stop --pgdata "$2" --silent --mode immediate; rm -rf -- "$3""#;
        let program = PathBuf::from("/bin/sh");
        let mut command = self.command(&program);
        command.arg("-c").arg(SCRIPT).arg("storefold");
        command.arg(self.programs.path("pg_ctl")).arg(&self.directory).arg(&self.socket_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|source| PostgresError::Program { program, source })?;
        Ok(Undertaker { child })
    }

    /// The last lines that the server wrote.
    pub(super) fn log_tail(&self) -> String {
        let dated = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        };
        let logs = fs::read_dir(self.directory.join("log")).into_iter().flatten().filter_map(dated);
        let files = [Some(self.directory.join(START_LOG)), logs.max().map(|(_, path)| path)];
        let text: Vec<String> = files.iter().flatten().filter_map(|path| fs::read_to_string(path).ok()).collect();
        let mut lines: Vec<&str> = text.iter().flat_map(|text| text.lines().rev().take(TAIL)).collect();
        lines.truncate(TAIL);
        lines.reverse();
        lines.join("\n")
    }

    /// Makes the cluster, if there is none. It gets its name when it is whole.
    fn initialise(&self) -> Result<(), PostgresError> {
        if self.directory.join("PG_VERSION").exists() {
            return Ok(());
        }
        let unfinished = self.directory.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
        }
        tracing::info!(cluster = %self.directory.display(), version = self.programs.major(), "making a Postgres cluster");
        self.private_dir(&unfinished)?;
        let program = self.programs.path("initdb");
        let mut initdb = self.command(&program);
        initdb.arg("--pgdata").arg(&unfinished).args(["--username", super::NAME, "--auth", "trust"]);
        // Text sorts by code point, the same on every machine, and upper and lower case are known beyond ASCII.
        initdb.args(["--encoding", "UTF8", "--locale", "C", "--lc-ctype", CHARACTERS]);
        if !self.durable {
            initdb.arg("--no-sync");
        }
        succeeded("initdb", self.output(&mut initdb)?)?;
        let main = unfinished.join("postgresql.conf");
        let mut file = File::options().append(true).open(&main).map_err(failed("open", &main))?;
        writeln!(file, "\ninclude_if_exists = '{SETTINGS}'").map_err(failed("write", &main))?;
        fs::rename(&unfinished, &self.directory).map_err(failed("make", &self.directory))
    }

    /// Writes the settings. What this release of the server does not take is left out.
    fn configure(&self) -> Result<(), PostgresError> {
        let basis = Basis {
            socket_dir: &self.socket_dir,
            durable: self.durable,
            memory: settings::memory(),
            wal_lz4: self.takes("wal_compression", "lz4"),
            toast_lz4: self.takes("default_toast_compression", "lz4"),
        };
        // Written beside the cluster and moved in: its owner cannot make root write through a link.
        let new = self.directory.with_extension("conf");
        drop(fs::remove_file(&new));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&new);
        file.and_then(|mut file| file.write_all(basis.render().as_bytes())).map_err(failed("write", &new))?;
        self.give(&new)?;
        let path = self.directory.join(SETTINGS);
        fs::rename(&new, &path).map_err(failed("write", &path))
    }

    /// Whether the server knows a setting and the value.
    fn takes(&self, setting: &str, value: &str) -> bool {
        let mut command = self.command(&self.programs.path("postgres"));
        command.arg("-D").arg(&self.directory).args(["-C", setting, "-c", &format!("{setting}={value}")]);
        self.output(&mut command).is_ok_and(|output| output.status.success())
    }

    /// Whether a server answers on the socket, ready or not.
    fn listens(&self) -> bool {
        UnixStream::connect(self.socket_dir.join(format!(".s.PGSQL.{}", settings::PORT))).is_ok()
    }

    /// Whether the process in `postmaster.pid` is there.
    fn runs(&self) -> Result<bool, PostgresError> {
        Ok(self.output(&mut self.pg_ctl("status"))?.status.success())
    }

    /// Deals with a `postmaster.pid` that would keep the server from starting. Answers whether it names a server that
    /// can be reached after all.
    fn comes_up(&self) -> Result<bool, PostgresError> {
        if !self.runs()? {
            return Ok(false);
        }
        let file = self.directory.join("postmaster.pid");
        // After a reboot the number may be another process's. A server works in its cluster's directory.
        let pid = fs::read_to_string(&file).ok().and_then(|text| text.lines().next()?.trim().parse::<u32>().ok());
        let works_in = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok());
        if works_in.zip(self.directory.canonicalize().ok()).is_some_and(|(place, ours)| place != ours) {
            tracing::warn!(file = %file.display(), "the process in this file is not this cluster's server; removing it");
            fs::remove_file(&file).map_err(failed("remove", &file))?;
            return Ok(false);
        }
        // One that was just started opens its socket soon. One whose socket was deleted never does.
        let give_up = Instant::now() + LET_GO;
        while !self.listens() {
            if !self.runs()? {
                return Ok(false);
            }
            if Instant::now() >= give_up {
                return self.end().map(|()| false);
            }
            pause();
        }
        Ok(true)
    }

    /// Lets the server's user through the data directory. Answers whether it can be reached.
    fn let_in(&self, data_dir: &Path) -> Result<bool, PostgresError> {
        if !self.foreign || self.reaches(data_dir) {
            return Ok(true);
        }
        let metadata = data_dir.metadata().map_err(failed("read", data_dir))?;
        let parent = data_dir.parent().unwrap_or(data_dir);
        // Only where the group could do nothing before, so that none loses what it had.
        if metadata.uid() != 0 || metadata.mode() & 0o070 != 0 || !self.reaches(parent) {
            return Ok(false);
        }
        chown(data_dir, None, Some(self.account.gid)).map_err(failed("let Postgres into", data_dir))?;
        let mode = Permissions::from_mode(metadata.mode() & 0o7777 | 0o010);
        fs::set_permissions(data_dir, mode).map_err(failed("let Postgres into", data_dir))?;
        Ok(self.reaches(data_dir))
    }

    /// Whether the server's user may enter a directory: it tries.
    fn reaches(&self, directory: &Path) -> bool {
        let mut command = self.command(&self.programs.path("postgres"));
        self.output(command.arg("--version").current_dir(directory)).is_ok()
    }

    /// Makes a directory for the server's user alone, if there is none, or sees that it is.
    fn private_dir(&self, path: &Path) -> Result<(), PostgresError> {
        if let Some(parent) = path.parent() {
            // Everybody may pass, nobody may look.
            fs::DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(failed("make", parent))?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = path.symlink_metadata().map_err(failed("read", path))?;
                if metadata.uid() != self.account.uid {
                    Err(PostgresError::Foreign { path: path.to_owned(), owner: metadata.uid() })
                } else if !metadata.is_dir() || metadata.mode() & 0o077 != 0 {
                    Err(PostgresError::Open { path: path.to_owned() })
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(failed("make", path)(error)),
        }
    }

    /// Makes the server's user the owner.
    fn give(&self, path: &Path) -> Result<(), PostgresError> {
        if !self.foreign {
            return Ok(());
        }
        chown(path, Some(self.account.uid), Some(self.account.gid)).map_err(failed("give Postgres", path))
    }

    fn pg_ctl(&self, verb: &str) -> Command {
        let mut command = self.command(&self.programs.path("pg_ctl"));
        command.arg(verb).arg("--pgdata").arg(&self.directory);
        command
    }

    /// A program, as the server's user, that knows nothing of this process's environment: `PGDATA`, `PGPORT` and their
    /// like are somebody else's. In a group of its own, so that Ctrl-C reaches us and not the server.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if self.foreign {
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }

    fn output(&self, command: &mut Command) -> Result<Output, PostgresError> {
        let output = command.output();
        output.map_err(|source| PostgresError::Program { program: command.get_program().into(), source })
    }
}

/// Sees a throw-away cluster off.
#[derive(Debug)]
pub(super) struct Undertaker {
    child: Child,
}

impl Undertaker {
    /// Returns when the server is stopped and its files are gone.
    pub(super) fn release(mut self) -> Result<(), PostgresError> {
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        ended.map(drop).map_err(|source| PostgresError::Program { program: "/bin/sh".into(), source })
    }
}

/// Whether there is a cluster in a directory. Of another user's only the directory is seen.
fn is_cluster(directory: &Path, current: Account) -> bool {
    directory.join("PG_VERSION").exists()
        || directory.metadata().is_ok_and(|found| !current.is_root() && found.uid() != current.uid)
}

/// Who runs an existing cluster: its owner, which only root can become.
fn owner(directory: &Path, current: Account) -> Result<Account, PostgresError> {
    let metadata = directory.metadata().map_err(failed("read", directory))?;
    if !current.is_root() && metadata.uid() != current.uid {
        return Err(PostgresError::Foreign { path: directory.to_owned(), owner: metadata.uid() });
    }
    Ok(Account { uid: metadata.uid(), gid: metadata.gid() })
}

fn newest(programs: Vec<Programs>) -> Result<Programs, PostgresError> {
    programs.into_iter().next().ok_or(PostgresError::NoPrograms { found: String::new() })
}

/// The programs of the release that made a cluster: no other can run it.
fn of_version(programs: Vec<Programs>, directory: &Path) -> Result<Programs, PostgresError> {
    let file = directory.join("PG_VERSION");
    let version = fs::read_to_string(&file).map_err(failed("read", &file))?;
    let made_by = version.trim().parse().unwrap_or_default();
    let found: Vec<String> = programs.iter().map(|programs| programs.major().to_string()).collect();
    programs.into_iter().find(|programs| programs.major() == made_by).ok_or_else(|| PostgresError::OtherVersion {
        cluster: directory.to_owned(),
        made_by,
        found: found.join(", "),
    })
}

/// The output of a program that failed, as an error.
fn succeeded(program: &str, output: Output) -> Result<(), PostgresError> {
    if output.status.success() {
        return Ok(());
    }
    let output = [output.stdout, output.stderr].concat();
    Err(PostgresError::Failed {
        program: program.to_owned(),
        output: String::from_utf8_lossy(&output).trim().to_owned(),
    })
}

#[expect(clippy::disallowed_methods, reason = "it runs on a thread that may block")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
