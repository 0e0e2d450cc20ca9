//! Who may write a state directory: one process at a time, which holds a lock on a file for that.
//!
//! SQLite's own lock cannot tell a process that owns the database from one that reads it for a moment.
//! This one can: whoever reads only asks for it. It is an open file description lock (fcntl(2),
//! F_OFD_SETLK): the kernel gives it back when the process dies, it holds between parts of one process,
//! too, and network file systems treat it as they do SQLite's.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

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
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Self { _file: file }),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(in_use(dir)),
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
        let mut found = whole_file();
        match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)) {
            Ok(_) if i32::from(found.l_type) == F_UNLCK => Ok(()),
            Ok(_) => Err(in_use(dir)),
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

fn whole_file() -> flock {
    let narrow =
        |value| i16::try_from(value).expect("the kernel's constants fit its own structure");
    flock { l_type: narrow(F_WRLCK), l_whence: narrow(SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}
