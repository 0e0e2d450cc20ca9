//! Whether a database can live in a state directory: one is made there, owned, and asked for by another
//! process.
//!
//! The other one has to be a process of its own: within one process SQLite knows its owners itself, and
//! never comes to ask the file system.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state_dir::StateDir;
use crate::store::{Store, StoreError};

/// How long another process may take to be refused: far more than SQLite waits for a lock.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// A state directory is not fit for a database.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemError {
    /// A file cannot be made there.
    #[error("cannot write below {path}: {source}")]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// A database does not work there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two processes could own one database.
    #[error("locks have no effect on this file system: two could own one database")]
    NoLocks,
    /// Another process was not refused as it should.
    #[error("locks do not work on this file system as they must: {0}")]
    OddLocks(String),
    /// No other process could be had to ask.
    #[error("locks could not be tried out: {program}: {reason}")]
    NotTried {
        /// The program that should have asked.
        program: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// What came of taking over a database that another process owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondOwner {
    /// It was refused, as it must be.
    Refused,
    /// Now there are two owners.
    Owned,
    /// Something else went wrong, in these words.
    Failed(String),
}

/// Takes the database of a state directory over, as a server would, and lets it go.
pub async fn second_owner(dir: &StateDir) -> SecondOwner {
    match Store::own(dir).await {
        Err(StoreError::InUse { .. }) => SecondOwner::Refused,
        Err(error) => SecondOwner::Failed(error.to_string()),
        Ok(store) => {
            // Whatever becomes of it now, there were two.
            let _ = store.close().await;
            SecondOwner::Owned
        }
    }
}

/// A state directory within a state directory, with a database that is owned. It is removed when this is
/// dropped, and so is the outer one, if it was not there and nothing else is in it.
pub struct Trial {
    store: Option<Store>,
    dir: StateDir,
    _folders: Folders,
}

struct Folders {
    trial: PathBuf,
    made: Option<PathBuf>,
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.trial);
        if let Some(made) = &self.made {
            let _ = std::fs::remove_dir(made);
        }
    }
}

/// What this host leaves for others to see.
const FROM_HOST: &str = "from-host";
/// What a node leaves.
const FROM_NODE: &str = "from-node";

impl Trial {
    /// Makes a database and owns it.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn begin(dir: &StateDir) -> Result<Self, FileSystemError> {
        let failed =
            |source| FileSystemError::NotWritable { path: dir.path().to_path_buf(), source };
        let made = (!dir.path().exists()).then(|| dir.path().to_path_buf());
        let trial = dir.path().join(format!("doctor-{}", std::process::id()));
        let folders = Folders { trial: trial.clone(), made };
        std::fs::create_dir_all(&trial).map_err(failed)?;
        std::fs::write(trial.join(FROM_HOST), "").map_err(failed)?;
        let trial = StateDir::at(&trial).map_err(failed)?;
        let store = Some(Store::own(&trial).await?);
        Ok(Self { store, dir: trial, _folders: folders })
    }

    /// Whether another process on this host is refused: this `program` is started for that, which is to
    /// print what [`second_owner`] says.
    ///
    /// # Errors
    /// When it is not refused, or that cannot be found out.
    pub async fn refuses_a_second(&self, program: &Path) -> Result<(), FileSystemError> {
        let not_tried =
            |reason| FileSystemError::NotTried { program: program.to_path_buf(), reason };
        match ask(program, self.dir.path()).await.map_err(not_tried)? {
            SecondOwner::Refused => Ok(()),
            SecondOwner::Owned => Err(FileSystemError::NoLocks),
            SecondOwner::Failed(reason) => Err(FileSystemError::OddLocks(reason)),
        }
    }

    /// Its folder, absolute.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What the file system is called.
    pub fn file_system(&self) -> String {
        name_of_file_system(self.path())
    }

    /// Whether what a node wrote here is seen.
    pub fn shows_what_a_node_wrote(&self) -> bool {
        self.path().join(FROM_NODE).exists()
    }

    /// Lets the database go, and removes everything.
    pub async fn end(mut self) {
        if let Some(store) = self.store.take() {
            // Nobody needs what is in it.
            let _ = store.close().await;
        }
    }
}

/// Reads and writes in the folder of a trial on another host.
pub(super) fn visit(folder: &Path) -> Result<(), super::FolderSight> {
    use super::FolderSight;
    std::fs::metadata(folder.join(FROM_HOST))
        .map_err(|error| FolderSight::Missing(error.to_string()))?;
    std::fs::write(folder.join(FROM_NODE), "")
        .map_err(|error| FolderSight::NotWritable(error.to_string()))
}

/// Has another process ask for the database.
async fn ask(program: &Path, folder: &Path) -> Result<SecondOwner, String> {
    let child = tokio::process::Command::new(program)
        .args(["doctor", "second-owner", "--output-dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(REFUSED_WITHIN, child)
        .await
        .map_err(|_| format!("no answer within {} s", REFUSED_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("it ended with {} and without an answer", output.status))
}

/// Names of statfs(2) that matter here; others go by their number.
fn name_of_file_system(path: &Path) -> String {
    const NAMES: [(i64, &str); 9] = [
        (0xef53, "ext4"),
        (0x5846_5342, "XFS"),
        (0x9123_683e, "Btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x6969, "NFS"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x7944_7630, "overlayfs"),
        (0x1983_0326, "BeeGFS"),
    ];
    let Ok(found) = nix::sys::statfs::statfs(path) else { return "unknown".to_owned() };
    let number = found.filesystem_type().0;
    let known = NAMES.iter().find(|(known, _)| i128::from(*known) == i128::from(number));
    known.map_or_else(|| format!("file system {number:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that prints this, whatever it is asked.
    fn program(folder: &Path, answer: &str) -> PathBuf {
        let path = folder.join("program");
        std::fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_file_system_that_lets_a_second_owner_in_is_not_fit() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(&temp.path().join("state")).unwrap();
        let trial = Trial::begin(&dir).await.unwrap();
        for (answer, expected) in [
            ("\"owned\"", "two could own one database"),
            ("{\"failed\": \"no locks\"}", "as they must: no locks"),
            ("nothing", "without an answer"),
        ] {
            let refused = trial.refuses_a_second(&program(temp.path(), answer)).await;
            let words = refused.unwrap_err().to_string();
            assert!(words.contains(expected), "{words}");
        }
        trial.refuses_a_second(&program(temp.path(), "\"refused\"")).await.unwrap();
        trial.end().await;
        assert!(!dir.path().exists(), "nothing is left");
    }

    #[tokio::test]
    async fn a_database_that_nobody_owns_can_be_owned() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(temp.path()).unwrap();
        assert_eq!(second_owner(&dir).await, SecondOwner::Owned);
        let trial = Trial::begin(&dir).await.unwrap();
        assert_eq!(visit(trial.path()), Ok(()));
        assert!(trial.shows_what_a_node_wrote());
        trial.end().await;
        assert!(dir.database().exists(), "what was there stays");
        assert!(matches!(visit(temp.path()), Err(super::super::FolderSight::Missing(_))));
    }
}
