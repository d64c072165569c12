//! Finds the Postgres programs of the machine, and says as whom to run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresError;

/// The oldest major version that is supported.
pub(super) const OLDEST: u32 = 14;

/// Where packages put the programs. A `*` stands for one path component, or for a part of one.
const PLACES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
];

/// The programs of one Postgres release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    bin_dir: PathBuf,
    major: u32,
}

impl Programs {
    /// The programs in a directory, if it has them.
    fn in_dir(bin_dir: PathBuf) -> Option<Self> {
        let complete = ["initdb", "pg_ctl", "postgres"].iter().all(|program| bin_dir.join(program).is_file());
        let version = complete.then(|| stdout(Command::new(bin_dir.join("postgres")).arg("--version")))??;
        Some(Self { major: major(&version)?, bin_dir })
    }

    /// Every release on the machine that is new enough, the newest first. A directory that is given is the only one
    /// searched.
    pub(super) fn find(bin_dir: Option<&Path>) -> Result<Vec<Self>, PostgresError> {
        let places = match bin_dir {
            Some(bin_dir) => vec![bin_dir.to_owned()],
            None => {
                let on_path = stdout(Command::new("pg_config").arg("--bindir")).map(PathBuf::from);
                on_path.into_iter().chain(PLACES.into_iter().flat_map(expand)).collect()
            }
        };
        let mut found: Vec<Self> = places.into_iter().filter_map(Self::in_dir).collect();
        // Stable, so that of two of one version the one on the path stays first.
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        let (fit, old): (Vec<_>, Vec<_>) = found.into_iter().partition(|programs| programs.major >= OLDEST);
        if fit.is_empty() {
            let found = match (old.first(), bin_dir) {
                (Some(old), _) => format!(" (version {} is in {})", old.major, old.bin_dir.display()),
                (None, Some(bin_dir)) => format!(" in {}", bin_dir.display()),
                (None, None) => String::new(),
            };
            return Err(PostgresError::NoPrograms { found });
        }
        Ok(fit)
    }

    pub(super) fn major(&self) -> u32 {
        self.major
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.bin_dir.join(program)
    }
}

/// A user of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Who runs this process.
    pub(super) fn current() -> Result<Self, PostgresError> {
        Self::look_up(None).ok_or(PostgresError::NoAccount)
    }

    /// The user that packages make for Postgres.
    pub(super) fn postgres() -> Result<Self, PostgresError> {
        Self::look_up(Some("postgres")).ok_or(PostgresError::NoAccount)
    }

    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Asks `id`, which knows every source of users that the machine has.
    fn look_up(name: Option<&str>) -> Option<Self> {
        let id = |flag: &str| stdout(Command::new("id").arg(flag).args(name))?.parse().ok();
        Some(Self { uid: id("-u")?, gid: id("-g")? })
    }
}

/// What a program prints, if it succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The directories that a pattern with at most one `*` stands for.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).map(|name| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(major("postgres (EnterpriseDB) 15"), None);
    }

    #[test]
    fn a_pattern_stands_for_the_directories_that_match() {
        let root = tempfile::tempdir().unwrap();
        for name in ["pgsql-15", "pgsql-16", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let pattern = format!("{}/pgsql-*/bin", root.path().display());
        let mut found = expand(&pattern);
        found.sort();
        assert_eq!(found, ["pgsql-15/bin", "pgsql-16/bin"].map(|end| root.path().join(end)));
    }

    #[test]
    fn a_directory_without_programs_is_an_error_that_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(empty.path())).unwrap_err().to_string();
        assert!(error.contains(&empty.path().display().to_string()), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }
}
