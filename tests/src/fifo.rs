//! Named pipes between a test and the jobs of its workflow.
//!
//! They are how a test waits for a job, and how a job waits for a test: opening and reading them
//! blocks in a shell, so that nobody has to sleep.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::PATIENCE;

/// The reading end of a fifo.
pub struct Fifo {
    file: File,
    unread: Vec<u8>,
    is_at_end: bool,
}

impl Fifo {
    /// Opens it for reading. Does not wait for a writer.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { file, unread: Vec::new(), is_at_end: false }
    }

    /// The same, for several writers one after another: when one is gone, that is not the end.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn open_for_many(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(O_NONBLOCK).open(path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { file, unread: Vec::new(), is_at_end: false }
    }

    /// The next line that somebody writes, without its end; the rest at the end.
    ///
    /// # Panics
    /// When nobody writes one for too long, or all writers are gone.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(!self.is_at_end, "all writers are gone, and none has written a line");
            self.fill(deadline);
        }
    }

    /// Waits until every process that had it open for writing has closed it, and returns what they
    /// wrote.
    ///
    /// # Panics
    /// When one keeps it open for too long.
    #[track_caller]
    pub fn rest(mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_at_end {
            self.fill(deadline);
        }
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// Reads what there is, after waiting for it. Without any writer so far there is nothing yet, and
    /// that is not the end.
    #[track_caller]
    fn fill(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).expect("a minute is short enough");
        let mut watched = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(0) => panic!("nobody wrote into the fifo for too long"),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("the fifo cannot be waited for: {error}"),
        }
        let mut buffer = [0; 4096];
        match self.file.read(&mut buffer) {
            Ok(0) => self.is_at_end = true,
            Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("the fifo cannot be read: {error}"),
        }
    }
}
