//! What torc and its keeper say to each other: frames of a 32-bit little-endian length and JSON.
//!
//! Knows no process and no socket. Both ends are always the same program file, so there is no
//! versioning. A step is called by a number that torc chose; it is never used twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use torc_core::time::Timestamp;
use torc_core::traits::{Outcome, StdioPaths, StepLimits, StepSignal};

/// A step's number between torc and this keeper.
pub(crate) type StepKey = u64;

/// Longest frame that is accepted, in bytes: far above what the kernel takes as arguments, so that
/// an oversized command is refused by `execve`, with its reason, and not here.
const LONGEST_FRAME: usize = 1 << 30;

/// What torc tells the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The file mode creation mask of all jobs.
    Umask(u32),
    /// End everything, as if torc were gone, unless this comes again within that time.
    Lease(Duration),
    /// Start a step.
    Launch(Box<Launch>),
    /// Signal a step.
    Signal {
        /// The step.
        key: StepKey,
        /// What to do to it.
        signal: StepSignal,
    },
    /// End a step that uses more memory than it was given.
    OverMemory {
        /// The step.
        key: StepKey,
        /// Bytes it uses.
        used: u64,
    },
}

impl Order {
    /// To start what starts a worker elsewhere. `lead`: from being asked to end to being killed.
    pub(crate) fn of_launcher(key: StepKey, argv: Vec<String>, lead: Duration) -> Self {
        Self::Launch(Box::new(Launch {
            key,
            argv,
            env: BTreeMap::new(),
            working_dir: "/".into(),
            stdio: StdioPaths::default(),
            limits: StepLimits {
                memory: None,
                runtime: None,
                termination_signal: Signal::SIGTERM as i32,
                termination_lead: lead,
            },
            expected_files: Vec::new(),
            cores: Vec::new(),
            role: Role::Launcher,
        }))
    }
}

/// A step as the keeper needs it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Its number.
    pub(crate) key: StepKey,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Set on top of the keeper's own environment.
    pub(crate) env: BTreeMap<String, String>,
    /// The working folder.
    pub(crate) working_dir: Arc<str>,
    /// Where output goes.
    pub(crate) stdio: StdioPaths,
    /// What it is held to; memory is torc's business.
    pub(crate) limits: StepLimits,
    /// Files that must exist after exit code 0.
    pub(crate) expected_files: Vec<Arc<str>>,
    /// The CPUs it is pinned to; empty: not pinned.
    pub(crate) cores: Vec<u32>,
    /// What its main process is.
    pub(crate) role: Role,
}

/// What the main process of a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The job itself.
    Job,
    /// A program that runs the job elsewhere, like srun. The job's output files are made for it, but
    /// are its own to open; what it says on standard error is passed on to torc. It must end the job
    /// when it is asked to end, and so it gets some time for that when torc is gone.
    Launcher,
    /// A command that is no job's. Its output comes after what is in its files already; what it leaves
    /// behind stays until the keeper ends.
    Errand,
}

/// What the keeper tells torc.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The keeper takes orders. Always the first report.
    Ready,
    /// The keeper cannot work, and ends.
    Failed(String),
    /// A step's main process runs.
    Started {
        /// The step.
        key: StepKey,
        /// When.
        at: Timestamp,
        /// Its main process, which leads its process group.
        pid: i32,
    },
    /// A launcher said something on standard error.
    Said {
        /// The step.
        key: StepKey,
        /// When it was heard.
        at: Timestamp,
        /// Whole lines, without their ends. What is no UTF-8 is replaced.
        lines: Vec<String>,
    },
    /// A step ended, and no process of it is left.
    Ended {
        /// The step.
        key: StepKey,
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
        /// Processor time of all its processes, in milliseconds.
        cpu_ms: u64,
    },
}

/// The other end sent what is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message of {0} bytes, which is more than any message has")]
    TooLong(usize),
    #[error("an unreadable message: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Appends one message to `bytes`.
///
/// # Errors
/// When the message cannot be written down or is too long; `bytes` is as before then.
pub(crate) fn append(bytes: &mut Vec<u8>, message: &impl Serialize) -> Result<(), WireError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    if let Err(error) = serde_json::to_writer(&mut *bytes, message) {
        bytes.truncate(start);
        return Err(error.into());
    }
    let length = bytes.len() - start - 4;
    match u32::try_from(length) {
        Ok(number) if length <= LONGEST_FRAME => {
            bytes[start..start + 4].copy_from_slice(&number.to_le_bytes());
            Ok(())
        }
        _ => {
            bytes.truncate(start);
            Err(WireError::TooLong(length))
        }
    }
}

/// Received bytes, cut into messages.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Adds received bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..self.taken);
        }
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message, if there is one.
    ///
    /// # Errors
    /// When the bytes are no message; the connection is of no use any more then.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let rest = &self.bytes[self.taken..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > LONGEST_FRAME {
            return Err(WireError::TooLong(length));
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let mut bytes = Vec::new();
        for key in 0..3 {
            let order = Order::Signal { key, signal: StepSignal::Kill };
            append(&mut bytes, &order).expect("is written");
        }
        for piece in 1..bytes.len() {
            let mut inbox = Inbox::default();
            let mut keys = Vec::new();
            for part in bytes.chunks(piece) {
                inbox.extend(part);
                while let Some(order) = inbox.next::<Order>().expect("is readable") {
                    let Order::Signal { key, .. } = order else { panic!("{order:?}") };
                    keys.push(key);
                }
            }
            assert_eq!(keys, [0, 1, 2], "pieces of {piece}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut inbox = Inbox::default();
        inbox.extend(&u32::MAX.to_le_bytes());
        assert!(matches!(inbox.next::<Order>(), Err(WireError::TooLong(_))));
        let mut inbox = Inbox::default();
        inbox.extend(b"\x02\0\0\0{]");
        assert!(matches!(inbox.next::<Order>(), Err(WireError::Unreadable(_))));
    }
}
