//! Why a client program gave no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error(
        "cannot find `{program}` in {looked_in}: load Slurm the way this site does (often `module load slurm`), or install its client programs (Debian: slurm-client), or configure the folder that has them"
    )]
    NotFound {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        looked_in: String,
    },
    /// The folder that it was to start in cannot be entered.
    #[error(
        "cannot start `{program}` in the folder {folder}: {source}; make the folder, or submit from another"
    )]
    Folder {
        /// Its name.
        program: &'static str,
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be started, or its pipes failed.
    #[error("cannot run {program}: {source}")]
    Io {
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time, and was killed. What it was asked for may have happened.
    #[error("`{program}` did not answer within {} s, and was killed; the Slurm controller may be overloaded or away", deadline.as_secs())]
    TimedOut {
        /// Its name.
        program: &'static str,
        /// How long it had.
        deadline: Duration,
    },
    /// It exited with another code than 0.
    #[error("`{program}` failed with code {code}: {}", stderr.trim())]
    Failed {
        /// Its name.
        program: &'static str,
        /// The code.
        code: i32,
        /// Its words on standard error.
        stderr: String,
    },
    /// A signal ended it.
    #[error("`{program}` was ended by signal {signal}: {}", stderr.trim())]
    Killed {
        /// Its name.
        program: &'static str,
        /// The signal's number.
        signal: i32,
        /// Its words on standard error.
        stderr: String,
    },
    /// Its answer is no text.
    #[error("what `{program}` answered is not UTF-8")]
    NotUtf8 {
        /// Its name.
        program: &'static str,
    },
    /// It says more than was allowed, and was killed.
    #[error("`{program}` answered with more than {limit} bytes, and was killed")]
    TooLong {
        /// Its name.
        program: &'static str,
        /// What was allowed.
        limit: usize,
    },
}

impl CommandError {
    /// What the program itself said on standard error, if it came to that.
    pub fn stderr(&self) -> Option<&str> {
        match self {
            Self::Failed { stderr, .. } | Self::Killed { stderr, .. } => Some(stderr),
            _ => None,
        }
    }
}
