//! Where an export goes: standard output, or files that take their names only when all of them are whole.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::NamedTempFile;

/// What an export has to be told to be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Standard output.
    Standard,
    /// A file a table, in the order of the tables.
    Files(Vec<PathBuf>),
}

impl Target {
    /// Where these tables go. Checked before anything is read.
    ///
    /// # Errors
    /// What has to be said otherwise.
    pub(super) fn of(output: Option<&Path>, tables: &[&str], ending: &str, force: bool) -> anyhow::Result<Self> {
        let Some(output) = output else {
            ensure!(
                tables.len() == 1,
                "there are several tables, {}: name one with --table, or a directory with --output",
                tables.join(", ")
            );
            return Ok(Self::Standard);
        };
        let is_directory = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
        let files = match (is_directory, tables.len()) {
            (true, _) => {
                ensure!(output.is_dir(), "there is no directory {}: make it first", output.display());
                tables.iter().map(|table| output.join(format!("{table}.{ending}"))).collect()
            }
            (false, 1) => {
                ensure!(
                    directory_of(output).is_dir(),
                    "there is no directory {}: make it first",
                    directory_of(output).display()
                );
                vec![output.to_owned()]
            }
            (false, _) => bail!(
                "there are several tables, {}, and {} is no directory: name one that is there, or one table with --table",
                tables.join(", "),
                output.display()
            ),
        };
        for file in &files {
            match fs::metadata(file) {
                Ok(found) if !found.is_file() => {
                    bail!("{} is no file: leave --output out to write to standard output", file.display())
                }
                Ok(_) => {
                    ensure!(force, "{} is there already: name another file, or replace it with --force", file.display())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot look at {}", file.display())),
            }
        }
        Ok(Self::Files(files))
    }

    /// Opens what the table of this number goes to.
    ///
    /// # Errors
    /// When no file can be made there.
    pub(super) fn open(&self, table: usize) -> anyhow::Result<Output> {
        let file = match self {
            Self::Standard => return Ok(Output::Standard(io::stdout())),
            Self::Files(files) => files.get(table).context("there is no file for a table")?,
        };
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".part")
            // As any new file: what others may do with it is for the umask to say.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory_of(&path))
            .with_context(|| format!("cannot write beside {}", path.display()))?;
        Ok(Output::File { temporary, path })
    }
}

/// What an export is written to. A file that is not kept is gone when this is dropped.
pub(super) enum Output {
    /// Standard output.
    Standard(io::Stdout),
    /// A file that has no name of its own yet.
    File { temporary: NamedTempFile, path: PathBuf },
}

impl Output {
    /// Gives a file that is whole its name.
    ///
    /// # Errors
    /// When it cannot be written to the disk, or the name is taken and `force` is not given.
    pub(super) fn keep(self, force: bool) -> anyhow::Result<()> {
        let Self::File { temporary, path } = self else { return Ok(()) };
        temporary.as_file().sync_all().with_context(|| format!("cannot write {}", path.display()))?;
        let kept = if force { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
        kept.map(drop).map_err(|error| error.error).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File { temporary, .. } => temporary.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File { temporary, .. } => temporary.flush(),
        }
    }
}

/// The directory that a file is in.
fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[&str] = &["orders"];
    const TWO: &[&str] = &["orders", "order_lines"];

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_table_goes_to_standard_output_or_a_file_and_several_to_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let of = |output: Option<&Path>, tables: &[&str]| Target::of(output, tables, "ndjson", false).unwrap();
        assert_eq!(of(None, ONE), Target::Standard);
        assert_eq!(of(Some(&at("o.txt")), ONE), Target::Files(vec![at("o.txt")]));
        assert_eq!(of(Some(Path::new("o.txt")), ONE), Target::Files(vec!["o.txt".into()]));
        for directory in [folder.path().to_owned(), at("")] {
            assert_eq!(of(Some(&directory), ONE), Target::Files(vec![at("orders.ndjson")]));
            let both = vec![at("orders.ndjson"), at("order_lines.ndjson")];
            assert_eq!(of(Some(&directory), TWO), Target::Files(both));
        }
    }

    #[test]
    fn what_cannot_be_written_to_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("orders.ndjson"), "old").unwrap();
        for (output, tables, told) in [
            (None, TWO, "orders, order_lines: name one with --table"),
            (Some(at("none/")), ONE, "none/: make it first"),
            (Some(at("none/o.ndjson")), ONE, "none: make it first"),
            (Some(at("o.ndjson")), TWO, "no directory: name one"),
            (Some(at("orders.ndjson")), ONE, "replace it with --force"),
            (Some(folder.path().to_owned()), TWO, "replace it with --force"),
            (Some("/dev/null".into()), ONE, "is no file"),
        ] {
            let error = Target::of(output.as_deref(), tables, "ndjson", false).unwrap_err().to_string();
            assert!(error.contains(told), "{output:?}: {error}");
        }
        assert!(Target::of(Some(folder.path()), TWO, "ndjson", true).is_ok());
        assert!(Target::of(Some(Path::new("/dev/null")), ONE, "ndjson", true).is_err());
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.ndjson");
        let write = |force: bool, text: &str| {
            let mut output = Target::of(Some(&path), ONE, "ndjson", force).unwrap().open(0).unwrap();
            output.write_all(text.as_bytes()).unwrap();
            output
        };
        let first = write(false, "one");
        assert!(!path.exists());
        drop(first);
        assert_eq!(files(folder.path()), [""; 0]);

        // Two at a time: who is whole first has the name.
        let (first, second) = (write(false, "one"), write(false, "two"));
        first.keep(false).unwrap();
        assert!(second.keep(false).is_err());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(folder.path()).len()), ("one", 1));
        write(true, "three").keep(true).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(folder.path()).len()), ("three", 1));
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut output = Target::of(Some(&link), ONE, "ndjson", true).unwrap().open(0).unwrap();
        output.write_all(b"new").unwrap();
        output.keep(true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
