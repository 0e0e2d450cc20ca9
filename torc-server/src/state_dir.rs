//! The state directory: where torc keeps its database, the output of jobs, and the note that tells
//! who owns it now.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use torc_core::wire::PROTOCOL;

use crate::clock::now;
use crate::link::remote::Remote;
use crate::private_file::{self, PrivateFileError, WRITABLE_BY_OTHERS};
use crate::store::StoreError;

/// A state directory. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The state directory at this path, which is made absolute.
    ///
    /// # Errors
    /// When the current directory is gone, or the name is not UTF-8, which SQLite and the
    /// environment of jobs need.
    pub fn at(path: &Path) -> std::io::Result<Self> {
        let path = std::path::absolute(path)?;
        if path.to_str().is_none() {
            let reason = "its name is not valid UTF-8";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        Ok(Self { path })
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path.join("torc.db")
    }

    /// The file that whoever owns the database holds a lock on. It stays where it is, empty.
    pub fn owner_lock(&self) -> PathBuf {
        self.path.join("owner.lock")
    }

    /// Where jobs' output goes.
    pub fn job_stdio(&self) -> PathBuf {
        self.path.join("job_stdio")
    }

    /// What a server in the background says about itself.
    pub fn server_log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    /// The name by which a scheduler knows the batch job that was last submitted to run in this directory.
    pub fn batch_run(&self) -> PathBuf {
        self.path.join("batch_run")
    }

    /// Where executors keep hostfiles and the like; emptied by nobody but them.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Makes the folders that jobs' output and executors' files go to.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn make_folders(&self) -> Result<(), StoreError> {
        for folder in [self.job_stdio(), self.scratch()] {
            std::fs::create_dir_all(&folder).map_err(|error| StoreError::NotWritable {
                path: folder,
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn access_file(path: &Path) -> PathBuf {
        path.join("server.json")
    }

    /// Leaves word about who owns this directory, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce(&self, owner: &Owner) -> std::io::Result<()> {
        let target = Self::access_file(&self.path);
        let draft = self.path.join("server.json.new");
        let _ = std::fs::remove_file(&draft);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(owner)?)?;
        std::fs::rename(draft, target)
    }

    /// Takes an owner's word back, by its instance. To be done before the database is let go of: another
    /// owner's word stays.
    pub fn withdraw(&self, instance: &str) {
        if Owner::read(&self.path).is_some_and(|owner| owner.instance == instance) {
            let _ = std::fs::remove_file(Self::access_file(&self.path));
        }
    }
}

/// The word about who owns a state directory, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) dir: StateDir,
    pub(crate) instance: String,
}

impl Announcement {
    /// That of an owner.
    pub(crate) fn of(dir: &StateDir, owner: &Owner) -> Self {
        Self { dir: dir.clone(), instance: owner.instance.clone() }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.dir.withdraw(&self.instance);
    }
}

/// Who owns a state directory. Not proof: the database's lock is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The protocol it speaks.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// The Unix socket that it listens on.
    pub socket: PathBuf,
    /// A name that no other run has: whoever answers on the socket must know it.
    pub instance: String,
    /// How it is reached from other hosts; `None`: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Box<Remote>>,
}

/// What was left in a state directory about its owner is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Others had a hand in it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It makes no sense. What it holds is not repeated: a token may be in it.
    #[error(
        "{path} is damaged: line {line}, column {column} is unreadable; remove it and start the server again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
}

/// The name of this host.
pub(crate) fn this_host() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl Owner {
    /// This process, listening on a socket of its own in this folder.
    pub fn this_process(folder: &Path) -> Self {
        let host = this_host();
        let pid = std::process::id();
        let began = now().0;
        let instance = format!("{host}-{pid}-{began}");
        let socket = folder.join(format!("{pid}-{began}.sock"));
        Self { protocol: PROTOCOL, pid, host, socket, instance, remote: None }
    }

    /// What was left in this state directory; `None` when nothing was.
    ///
    /// # Errors
    /// When it is not this user's file, others can write it, or it makes no sense.
    pub fn find(state_dir: &Path) -> Result<Option<Self>, OwnerError> {
        let path = StateDir::access_file(state_dir);
        let Some(text) = private_file::read(&path, WRITABLE_BY_OTHERS)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| OwnerError::Damaged {
            path,
            line: error.line(),
            column: error.column(),
        })
    }

    /// As [`Self::find`]; `None` also for what is not to be believed.
    pub fn read(state_dir: &Path) -> Option<Self> {
        Self::find(state_dir).unwrap_or_else(|error| {
            tracing::debug!(%error, "who owns this state directory is not known");
            None
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another torc (process {} on {})", self.pid, self.host)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::link::identity::Identity;

    fn owner(identity: &Identity) -> Owner {
        let remote = Remote {
            addresses: vec!["10.0.0.1:4000".to_owned()],
            pin: identity.pin(),
            token: identity.token().clone(),
        };
        Owner { remote: Some(Box::new(remote)), ..Owner::this_process(Path::new("/run")) }
    }

    #[test]
    fn what_is_announced_is_found_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = StateDir::at(folder.path()).expect("a path");
        assert!(Owner::find(dir.path()).expect("nothing is no error").is_none());
        let identity = Identity::generate().expect("is made");
        for owner in [owner(&identity), Owner::this_process(Path::new("/run"))] {
            dir.announce(&owner).expect("is written");
            assert_eq!(Owner::find(dir.path()).expect("is believed"), Some(owner));
            let file = StateDir::access_file(dir.path());
            assert_eq!(file.metadata().expect("exists").permissions().mode() & 0o7777, 0o600);
        }
        let theirs = owner(&identity);
        dir.announce(&Owner { instance: "another".to_owned(), ..theirs }).expect("is written");
        dir.withdraw("mine");
        assert!(Owner::read(dir.path()).is_some(), "another's word stays");
        dir.withdraw("another");
        assert!(Owner::read(dir.path()).is_none());
    }

    #[test]
    fn a_token_does_not_show() {
        let identity = Identity::generate().expect("is made");
        let shown = format!("{:?} {}", owner(&identity), owner(&identity));
        assert!(!shown.contains(identity.token().reveal()), "{shown}");
    }

    #[test]
    fn what_others_may_have_written_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = StateDir::at(folder.path()).expect("a path");
        dir.announce(&Owner::this_process(Path::new("/run"))).expect("is written");
        let file = StateDir::access_file(dir.path());
        let permissions = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(&file, permissions).expect("is changed");
        let error = Owner::find(dir.path()).expect_err("is refused");
        assert!(matches!(error, OwnerError::File(PrivateFileError::Exposed { .. })), "{error}");
        assert!(Owner::read(dir.path()).is_none());
        std::fs::remove_file(&file).expect("is removed");
        std::fs::write(&file, "{\"token\": c0ffee}").expect("is written");
        let error = Owner::find(dir.path()).expect_err("is damaged").to_string();
        assert!(error.contains("line 1, column 11") && !error.contains("c0ffee"), "{error}");
    }
}
