//! Reports on their way to torc.
//!
//! An end is sent at once. A start waits a moment for company: most short jobs end within it, and
//! both then cost one write and one wake-up of torc. Reports carry their own times.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wire::{self, Report};

/// How long the report of a start may wait.
const START_DELAY: Duration = Duration::from_millis(5);

/// Reports that have not been sent yet.
#[derive(Debug, Default)]
pub(super) struct Reports {
    bytes: Vec<u8>,
    due: Option<Instant>,
}

impl Reports {
    /// Adds a report.
    pub(super) fn add(&mut self, report: &Report) {
        // A report is a few numbers and names that came in a message of the same size.
        if wire::append(&mut self.bytes, report).is_ok() {
            let now = Instant::now();
            let due =
                if matches!(report, Report::Started { .. }) { now + START_DELAY } else { now };
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// When they must be sent; `None` when there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they must be sent now.
    pub(super) fn are_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Sends all of them.
    ///
    /// # Errors
    /// When torc is gone.
    pub(super) fn flush(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        let sent = socket.write_all(&self.bytes);
        self.bytes.clear();
        self.due = None;
        sent
    }
}
