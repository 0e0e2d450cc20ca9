//! Files that nobody but their user may have had a hand in: made so, and read only if they still are.
//!
//! Knows nothing of what they hold. What is checked is the open file, not its name, so nobody can
//! exchange one for another in between.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Longest file that is read, in bytes; ours are a few kilobytes.
const LONGEST: u64 = 1 << 20;
/// Mode bits of others who may read or write.
pub(crate) const BY_OTHERS: u32 = 0o077;
/// Mode bits of others who may write.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A file cannot be used, or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// A symbolic link stands in its place.
    #[error("{0} is a symbolic link, which torc does not follow to its secrets; remove it")]
    Link(PathBuf),
    /// Something else stands in its place.
    #[error("{0} is not a plain file; move it away")]
    NotAFile(PathBuf),
    /// Another user made it.
    #[error(
        "{path} belongs to user {owner}, not to you (user {user}); use a state directory of yours"
    )]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Its user's number.
        owner: u32,
        /// Our user's number.
        user: u32,
    },
    /// Others can read or write it.
    #[error(
        "other users can read or write {path} (mode {mode:04o}); if nobody has, `chmod 600` makes it safe again, else remove it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is far longer than anything that torc writes.
    #[error("{0} is not what torc wrote: it is too long; move it away")]
    TooLong(PathBuf),
    /// The operating system says no.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
}

/// What matters about an open file.
#[derive(Clone, Copy)]
struct Facts {
    is_file: bool,
    owner: u32,
    mode: u32,
}

/// Whether a file with these facts may be believed by this user; `forbidden` are mode bits.
fn check(path: &Path, facts: Facts, user: u32, forbidden: u32) -> Result<(), PrivateFileError> {
    let path = path.to_path_buf();
    let Facts { is_file, owner, mode } = facts;
    if !is_file {
        return Err(PrivateFileError::NotAFile(path));
    }
    if owner != user {
        return Err(PrivateFileError::OtherOwner { path, owner, user });
    }
    if mode & forbidden != 0 {
        return Err(PrivateFileError::Exposed { path, mode: mode & 0o7777 });
    }
    Ok(())
}

/// What a file holds; `None`: there is none.
///
/// # Errors
/// When it is not a plain file of this user's, others have one of the `forbidden` permissions, or it
/// cannot be read.
pub(crate) fn read(path: &Path, forbidden: u32) -> Result<Option<Vec<u8>>, PrivateFileError> {
    let failed = |source| PrivateFileError::Io { path: path.to_path_buf(), source };
    // A pipe in its place must not hold us up.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            return Err(PrivateFileError::Link(path.to_path_buf()));
        }
        // What open(2) says of a socket.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
            return Err(PrivateFileError::NotAFile(path.to_path_buf()));
        }
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(failed)?;
    let facts = Facts { is_file: found.is_file(), owner: found.uid(), mode: found.mode() };
    check(path, facts, nix::unistd::geteuid().as_raw(), forbidden)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(PrivateFileError::TooLong(path.to_path_buf()));
    }
    Ok(Some(bytes))
}

/// Makes a file with mode 0600 that has all of these bytes or does not exist. `false`: there is one
/// already, which stays as it is.
///
/// # Errors
/// When it cannot be written; nothing is left behind then.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<bool, PrivateFileError> {
    let failed = |source| PrivateFileError::Io { path: path.to_path_buf(), source };
    let mut suffix = [0; 8];
    let no_randomness = |error: getrandom::Error| std::io::Error::other(error.to_string());
    getrandom::fill(&mut suffix).map_err(|error| failed(no_randomness(error)))?;
    let draft = path.with_extension(format!("new.{:016x}", u64::from_ne_bytes(suffix)));
    let outcome = write_new(&draft, bytes).and_then(|()| put_in_place(&draft, path));
    let _ = std::fs::remove_file(&draft);
    outcome.map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the draft its name unless that is taken.
fn put_in_place(draft: &Path, path: &Path) -> std::io::Result<bool> {
    match std::fs::hard_link(draft, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        // A file system without links. One process at a time owns a state directory.
        Err(error) if path.symlink_metadata().is_err() && lacks_links(&error) => {
            std::fs::rename(draft, path)?;
        }
        Err(error) => return Err(error),
    }
    // The name, too, must survive a power cut; some file systems cannot say so of folders.
    if let Some(folder) = path.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(true)
}

fn lacks_links(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_file_of_ones_own_is_believed() {
        #[track_caller]
        fn check(facts: (bool, u32, u32), forbidden: u32, expected: &str) {
            let (is_file, owner, mode) = facts;
            let facts = Facts { is_file, owner, mode };
            let verdict = super::check(Path::new("f"), facts, 1000, forbidden);
            let verdict = verdict.map_or_else(|error| error.to_string(), |()| "fine".to_owned());
            assert!(verdict.contains(expected), "{verdict}");
        }
        check((true, 1000, 0o100_600), BY_OTHERS, "fine");
        check((true, 1000, 0o100_400), BY_OTHERS, "fine");
        check((true, 1000, 0o100_644), WRITABLE_BY_OTHERS, "fine");
        check((true, 1000, 0o100_644), BY_OTHERS, "f (mode 0644)");
        check((true, 1000, 0o100_620), WRITABLE_BY_OTHERS, "chmod 600");
        check((true, 1000, 0o100_602), WRITABLE_BY_OTHERS, "(mode 0602)");
        check((true, 0, 0o100_600), BY_OTHERS, "belongs to user 0, not to you (user 1000)");
        check((false, 1000, 0o040_700), BY_OTHERS, "not a plain file");
    }

    #[test]
    fn a_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.json");
        assert!(read(&path, BY_OTHERS).expect("absence is no error").is_none());
        assert!(create(&path, b"one").expect("is made"));
        assert!(!create(&path, b"two").expect("is left alone"));
        assert_eq!(read(&path, BY_OTHERS).expect("is read").as_deref(), Some(&b"one"[..]));
        let mode = path.metadata().expect("exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "no draft is left");
    }

    #[test]
    fn what_stands_in_its_place_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        create(&at("real"), b"x").expect("is made");
        std::os::unix::fs::symlink(at("real"), at("link")).expect("is linked");
        assert!(matches!(read(&at("link"), 0), Err(PrivateFileError::Link(_))));
        assert!(!create(&at("link"), b"y").expect("a link is not written through"));
        std::fs::create_dir(at("folder")).expect("is made");
        assert!(matches!(read(&at("folder"), 0), Err(PrivateFileError::NotAFile(_))));
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&at("pipe"), mode).expect("is made");
        assert!(matches!(read(&at("pipe"), 0), Err(PrivateFileError::NotAFile(_))));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("is made");
        assert!(matches!(read(&at("socket"), 0), Err(PrivateFileError::NotAFile(_))));
        std::fs::write(at("long"), vec![0; 2 << 20]).expect("is written");
        assert!(matches!(read(&at("long"), 0), Err(PrivateFileError::TooLong(_))));
    }
}
