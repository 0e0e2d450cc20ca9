//! Locks on files, by which a process shows for as long as it lives that something is its own.
//!
//! They are open file description locks (fcntl(2), F_OFD_SETLK): the kernel gives them back when the process dies,
//! they hold between parts of one process, too, and network file systems treat them as they do SQLite's.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

/// Locks a file that is open for writing, until it is closed. False when somebody else has it.
///
/// # Errors
/// When it cannot be locked.
pub fn take(file: &File) -> Result<bool, Errno> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether nobody has a file.
///
/// # Errors
/// When that cannot be found out.
pub fn is_free(file: &File) -> Result<bool, Errno> {
    let mut found = whole_file();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) == F_UNLCK)
}

fn whole_file() -> flock {
    let narrow =
        |value| i16::try_from(value).expect("the kernel's constants fit its own structure");
    flock { l_type: narrow(F_WRLCK), l_whence: narrow(SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}
