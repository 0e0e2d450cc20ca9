//! What a server needs of its surroundings, tried out.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::link::{addresses, listener};
use crate::state_dir::StateDir;
use crate::store::{Store, StoreError};

/// A state directory is not fit for a database.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemError {
    /// A file cannot be made there.
    #[error("cannot write below {path}: {source}")]
    NotWritable {
        /// The folder.
        path: std::path::PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// A database does not work there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two processes could own one database.
    #[error("locks have no effect on this file system: two could own one database")]
    NoLocks,
}

/// Tries whether a database can live in a state directory: it is made, owned, refused to a second
/// owner, and removed again. What the file system is called.
///
/// # Errors
/// When it cannot.
pub async fn check_file_system(dir: &StateDir) -> Result<String, FileSystemError> {
    let failed = |source| FileSystemError::NotWritable { path: dir.path().to_path_buf(), source };
    let existed = dir.path().exists();
    let trial = dir.path().join(format!("doctor-{}", std::process::id()));
    std::fs::create_dir_all(&trial).map_err(failed)?;
    let outcome = try_database(&trial).await;
    let name = file_system_name(&trial);
    let _ = std::fs::remove_dir_all(&trial);
    if !existed {
        // Only if nothing else is in it.
        let _ = std::fs::remove_dir(dir.path());
    }
    outcome.map(|()| name)
}

async fn try_database(folder: &std::path::Path) -> Result<(), FileSystemError> {
    let failed = |source| FileSystemError::NotWritable { path: folder.to_path_buf(), source };
    let trial = StateDir::at(folder).map_err(failed)?;
    let first = Store::own(&trial).await?;
    let outcome = match Store::own(&trial).await {
        Err(StoreError::InUse { .. }) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(FileSystemError::NoLocks),
    };
    first.close().await?;
    outcome
}

/// Names of statfs(2) that matter here; others go by their number.
fn file_system_name(path: &std::path::Path) -> String {
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

/// A port that a compute node is to connect to.
pub struct Probe {
    listener: TcpListener,
    address: SocketAddr,
}

impl Probe {
    /// Listens on a port that is free.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open() -> std::io::Result<Self> {
        let listener = listener::bind(0)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it can be reached, as far as this host knows, each `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        addresses::candidates(self.address)
    }

    /// Waits for somebody to connect, and says from where.
    pub async fn wait(&self, patience: Duration) -> Option<String> {
        let accepted = tokio::time::timeout(patience, self.listener.accept()).await.ok()?.ok()?;
        Some(accepted.1.ip().to_string())
    }
}
