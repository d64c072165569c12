//! The data directory: what one machine keeps to itself.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use uuid::Uuid;

/// The file with the key that signs cursors.
const CURSOR_KEY: &str = "cursor.key";
/// The file with the key that signs tokens.
const TOKEN_KEY: &str = "token.key";

/// Makes the data directory, closed to other users, if it is not there. Answers its absolute path.
///
/// # Errors
/// When it cannot be made or reached.
pub(crate) fn open(path: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.canonicalize()
}

/// The key that signs cursors, made once and kept: a cursor stays good across restarts. Several processes may ask at
/// once; all get the same.
///
/// # Errors
/// When the directory cannot be written, or the key cannot be read.
pub(crate) fn cursor_key(path: &Path) -> io::Result<SecretString> {
    // Two random UUIDs hold 244 random bits.
    let new = || Ok(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    made_once(path, CURSOR_KEY, new).map(|(_, key)| key)
}

/// The key that signs tokens where none is configured, as PEM, and where it lies. Made once and kept, as the one for cursors.
///
/// # Errors
/// When the directory cannot be written, or the key cannot be made or read.
pub(crate) fn token_key(path: &Path) -> io::Result<(PathBuf, SecretString)> {
    made_once(path, TOKEN_KEY, || access::Signer::new_pem().map_err(io::Error::other))
}

/// Whether there is a key for tokens yet.
pub(crate) fn has_token_key(path: &Path) -> bool {
    path.join(TOKEN_KEY).exists()
}

/// A file of the data directory that is made when it is first asked for, and the secret in it.
fn made_once(
    path: &Path,
    name: &str,
    make: impl FnOnce() -> io::Result<String>,
) -> io::Result<(PathBuf, SecretString)> {
    let directory = open(path)?;
    let file = directory.join(name);
    if !file.exists() {
        let secret = make()?;
        let new = directory.join(format!("{name}.{}", Uuid::new_v4().simple()));
        let written = write_private(&new, &secret).and_then(|()| fs::hard_link(&new, &file));
        fs::remove_file(&new)?;
        // A link is never half there, and the first one stays.
        written.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
    }
    let secret = fs::read_to_string(&file)?;
    Ok((file, secret.trim().to_owned().into()))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_cursor_key_is_made_once_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("shop/data");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| cursor_key(&data_dir).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key.expose_secret() == keys[0].expose_secret()));
        assert_eq!(keys[0].expose_secret().len(), 64);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data_dir), mode(&data_dir.join("cursor.key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn the_key_for_tokens_is_made_once_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let (file, key) = token_key(root.path()).unwrap();
        assert_eq!(token_key(root.path()).unwrap().1.expose_secret(), key.expose_secret());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let signer = access::Signer::of(key.expose_secret()).unwrap();
        assert!(format!("{:?}", signer.verifier().unwrap()).contains("EdDsa"));
    }
}
