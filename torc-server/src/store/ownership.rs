//! Who may write a state directory: one process at a time, which holds a lock on a file for that.
//!
//! SQLite's own lock cannot tell a process that owns the database from one that reads it for a moment.
//! This one can: whoever reads only asks for it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use torc_executors::file_lock;

use super::StoreError;
use crate::state_dir::{Owner, StateDir};

/// For as long as it is kept, no other process can own the state directory.
#[derive(Debug)]
pub(super) struct Ownership {
    _file: File,
}

impl Ownership {
    /// Takes a state directory, which exists.
    ///
    /// # Errors
    /// When another has it, or its file cannot be made or locked.
    pub(super) fn take(dir: &StateDir) -> Result<Self, StoreError> {
        let path = dir.owner_lock();
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(super::OWNER_ONLY)
            .open(&path);
        let file = opened.map_err(|error| StoreError::NotWritable {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        match file_lock::take(&file) {
            Ok(true) => Ok(Self { _file: file }),
            Ok(false) => Err(in_use(dir)),
            Err(errno) => Err(not_locked(path, errno)),
        }
    }

    /// Looks whether nobody has a state directory.
    ///
    /// # Errors
    /// When somebody has it, or that cannot be found out.
    pub(super) fn check_free(dir: &StateDir) -> Result<(), StoreError> {
        let path = dir.owner_lock();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(StoreError::NotOpened { path, reason: error.to_string() });
            }
        };
        match file_lock::is_free(&file) {
            Ok(true) => Ok(()),
            Ok(false) => Err(in_use(dir)),
            Err(errno) => Err(not_locked(path, errno)),
        }
    }
}

fn in_use(dir: &StateDir) -> StoreError {
    StoreError::InUse { path: dir.database(), owner: Owner::read(dir.path()) }
}

fn not_locked(path: PathBuf, errno: Errno) -> StoreError {
    StoreError::NotOpened { path, reason: format!("it cannot be locked: {}", errno.desc()) }
}
