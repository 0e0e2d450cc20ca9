//! Starts a keeper and waits until it takes orders.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::StartError;
use crate::keeper;
use crate::keeper::wire::{Inbox, Report};

/// How long a program may take to become a keeper. It takes milliseconds, but a file system may be
/// slow to read the program from.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);

/// This very program, even if its file was replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How a keeper is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// The environment of the keeper, which all jobs start from.
    pub(crate) env: &'a [(OsString, OsString)],
    /// The file mode creation mask of jobs; `None`: this process's.
    pub(crate) umask: Option<u32>,
    /// The program to start as the keeper; `None`: this program.
    pub(crate) keeper_program: Option<&'a Path>,
}

/// A keeper that takes orders.
#[derive(Debug)]
pub(super) struct Started {
    /// The connection, not blocking.
    pub(super) socket: UnixStream,
    /// Its process.
    pub(super) process: tokio::process::Child,
    /// Its process id.
    pub(super) pid: i32,
}

/// Starts a keeper. Blocks for some milliseconds.
///
/// # Errors
/// When the program cannot be started, does not become a keeper in time, or the keeper cannot work.
pub(super) fn start_keeper(setup: &Setup<'_>) -> Result<Started, StartError> {
    let program = setup.keeper_program.map_or_else(|| THIS_PROGRAM.into(), Path::to_owned);
    let failed = |source| StartError::Keeper { program: program.clone(), source };
    let (socket, theirs) = UnixStream::pair().map_err(failed)?;
    let mut process = command(&program, setup.env, theirs).spawn().map_err(failed)?;
    let pid = process.id().and_then(|id| i32::try_from(id).ok());
    if let Err(error) = await_ready(&socket, &program) {
        // It may have ended by itself; the runtime reaps it.
        let _ = process.start_kill();
        return Err(error);
    }
    let pid = pid.ok_or_else(|| failed(io::Error::other("it has no process id")))?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(Started { socket, process, pid })
}

fn command(
    program: &PathBuf,
    env: &[(OsString, OsString)],
    socket: UnixStream,
) -> tokio::process::Command {
    let mut command = Command::new(program);
    command
        .arg(keeper::ARGUMENT)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null());
    tokio::process::Command::from(command)
}

/// Reads the keeper's first words.
fn await_ready(socket: &UnixStream, program: &Path) -> Result<(), StartError> {
    let silent = |reason: String| StartError::NoKeeper { program: actual(program), reason };
    let deadline = Instant::now() + HANDSHAKE_TIME;
    let mut inbox = Inbox::default();
    let mut buffer = [0; 4096];
    loop {
        match inbox.next::<Report>() {
            Ok(Some(Report::Ready)) => return Ok(()),
            Ok(Some(Report::Failed(reason))) => return Err(StartError::KeeperFailed(reason)),
            Ok(Some(_)) => return Err(silent("it said something else first".to_owned())),
            Ok(None) => {}
            Err(error) => return Err(silent(error.to_string())),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let late = || silent(format!("no answer within {} s", HANDSHAKE_TIME.as_secs()));
        if left.is_zero() {
            return Err(late());
        }
        let mut stream = socket;
        match socket.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) => return Err(silent("it ended or closed its input".to_owned())),
            Ok(count) => inbox.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(silent(error.to_string())),
        }
    }
}

/// The program's file, for messages.
fn actual(program: &Path) -> PathBuf {
    std::fs::read_link(program).unwrap_or_else(|_| program.to_owned())
}
