//! Starting a server in the background, and finding the one that runs.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::access::{Access, AccessError};
use crate::state_dir::{Owner, StateDir};

/// How long a server has to say that it can be reached: its file system may be slow.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// Bytes read of its first words.
const LONGEST_WORDS: u64 = 64 * 1024;

/// The first words of a server that was started in the background, on its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstWords {
    /// It can be reached.
    Ready,
    /// It could not begin, for this reason.
    Failed(String),
}

/// There is no server, and none could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Whoever owns the state directory cannot be asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A run of `torc run` owns it.
    #[error(
        "{0} runs a workflow without a server and owns the state directory; wait for its end, or choose another --output-dir"
    )]
    InUse(Box<Owner>),
    /// Its folder or log cannot be made.
    #[error("cannot write {path}: {source}; choose another --output-dir or make it writable")]
    Log {
        /// The log, or its folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start {program}: {source}")]
    Program {
        /// The program.
        program: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// It was started, and could not begin.
    #[error("the server could not begin: {0}")]
    Failed(String),
    /// It was started, and said nothing.
    #[error("the server did not begin within {} s; its log is {}", BEGIN_WITHIN.as_secs(), .0.display())]
    Silent(PathBuf),
}

/// Makes sure that a server serves a state directory: the one that does, or a new one, this `program`
/// in the background, with these `options` of `torc serve`. Whether it was started now.
///
/// # Errors
/// When somebody else owns the directory, or no server can be started.
pub async fn ensure_running(
    dir: &StateDir,
    program: &Path,
    options: &[String],
) -> Result<bool, StartError> {
    match Access::live_owner(dir).await? {
        Some(owner) if owner.remote.is_some() => return Ok(false),
        Some(owner) => return Err(StartError::InUse(Box::new(owner))),
        None => {}
    }
    let log_path = dir.server_log();
    let log = open_log(dir, &log_path)
        .map_err(|source| StartError::Log { path: log_path.clone(), source })?;
    let mut child = tokio::process::Command::new(program)
        .arg("serve")
        .arg("--detached")
        .arg("--output-dir")
        .arg(dir.path())
        .args(options)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|source| StartError::Program { program: program.to_path_buf(), source })?;
    let words = first_words(&mut child).await.ok_or(StartError::Silent(log_path))?;
    match words {
        FirstWords::Ready => Ok(true),
        // Two may be started at once: the other one serves, too.
        FirstWords::Failed(reason) => match Access::live_owner(dir).await {
            Ok(Some(owner)) if owner.remote.is_some() => Ok(false),
            _ => Err(StartError::Failed(reason)),
        },
    }
}

fn open_log(dir: &StateDir, path: &Path) -> io::Result<std::fs::File> {
    std::fs::create_dir_all(dir.path())?;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

async fn first_words(child: &mut tokio::process::Child) -> Option<FirstWords> {
    let output = child.stdout.take()?;
    let mut text = Vec::new();
    let mut limited = output.take(LONGEST_WORDS);
    let read = limited.read_to_end(&mut text);
    tokio::time::timeout(BEGIN_WITHIN, read).await.ok()?.ok()?;
    serde_json::from_slice(&text).ok()
}
