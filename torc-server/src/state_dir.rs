//! The state directory: where torc keeps its database, the output of jobs, and the note that tells
//! who owns it now.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use torc_core::wire::PROTOCOL;

use crate::clock::now;
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

    /// Where jobs' output goes.
    pub fn job_stdio(&self) -> PathBuf {
        self.path.join("job_stdio")
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

    /// Takes that word back.
    pub fn withdraw(&self) {
        let _ = std::fs::remove_file(Self::access_file(&self.path));
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
}

impl Owner {
    /// This process, listening on a socket of its own in this folder.
    pub fn this_process(folder: &Path) -> Self {
        let host = nix::unistd::gethostname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned());
        let pid = std::process::id();
        let began = now().0;
        let instance = format!("{host}-{pid}-{began}");
        let socket = folder.join(format!("{pid}-{began}.sock"));
        Self { protocol: PROTOCOL, pid, host, socket, instance }
    }

    /// What was left in this state directory; `None` when nothing was, or nothing of sense.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let text = std::fs::read(StateDir::access_file(state_dir)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another torc (process {} on {})", self.pid, self.host)
    }
}
