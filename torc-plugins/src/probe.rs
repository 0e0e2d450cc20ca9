//! A question to another process of torc, since a plugin that crashes or hangs takes the process along that it is
//! loaded into.
//!
//! Owns: that process, from its start to its end ([`ask`]), and its side of it ([`Reply`]). Does not know: what is
//! asked. Invariants: whoever asks waits no longer than it said, and a moment; no process that was started for a
//! question is left; nothing that a plugin prints is taken for the answer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An answer is not longer, in bytes.
const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;
/// How much of what it says besides is kept.
const WORDS_KEPT: usize = 200;
/// What takes time once it is dead.
const A_MOMENT: Duration = Duration::from_secs(1);

/// A question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No process could be started for it.
    #[error("its probe could not be started: {0}")]
    NotStarted(String),
    /// The process ended without one.
    #[error("its probe {how}{}", words(.said))]
    Ended {
        /// How it ended.
        how: String,
        /// The last line that it wrote to standard error.
        said: String,
    },
    /// There was none in time.
    #[error("it said nothing within {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// It cannot be understood.
    #[error("what its probe says cannot be understood: {0}")]
    Garbled(String),
}

fn words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

/// Starts a program that answers with a line of JSON, by [`Reply`], and waits for the answer for so long. Then the
/// program is killed, with all that it started.
///
/// # Errors
/// When it does not answer.
pub fn ask<T: DeserializeOwned>(
    program: &Path,
    args: &[impl AsRef<OsStr>],
    within: Duration,
) -> Result<T, ProbeError> {
    let spawned = Command::new(program)
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| ProbeError::NotStarted(error.to_string()))?;
    let answers = child.stdout.take().map(|stdout| read(stdout, first_line));
    let words = child.stderr.take().map(|stderr| read(stderr, last_line));
    let answer = answers.map_or(Ok(Vec::new()), |answers| answers.recv_timeout(within));
    let status = end(&mut child);
    match answer {
        Err(RecvTimeoutError::Timeout) => Err(ProbeError::Silent(within)),
        Ok(answer) if !answer.is_empty() => {
            serde_json::from_slice(&answer).map_err(|error| ProbeError::Garbled(error.to_string()))
        }
        _ => {
            let said = words.and_then(|words| words.recv_timeout(A_MOMENT).ok());
            let said = said.unwrap_or_default();
            let said = String::from_utf8_lossy(&said).trim().replace(char::is_control, "?");
            Err(ProbeError::Ended { how: how(status), said })
        }
    }
}

/// Reads in a thread of its own, since nobody knows whether there is an end.
fn read<R: Read + Send + 'static>(from: R, take: fn(R) -> Vec<u8>) -> Receiver<Vec<u8>> {
    let (tell, heard) = mpsc::sync_channel(1);
    // Whoever asked may have gone; without a thread nothing is heard.
    let _ = std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || drop(tell.send(take(from))));
    heard
}

fn first_line(from: impl Read) -> Vec<u8> {
    let mut line = Vec::new();
    // What cannot be read is no answer.
    let _ = BufReader::new(from.take(LONGEST_ANSWER)).read_until(b'\n', &mut line);
    line
}

fn last_line(from: impl Read) -> Vec<u8> {
    let (mut from, mut kept) = (BufReader::new(from), Vec::new());
    loop {
        let mut line = Vec::new();
        match from.by_ref().take(LONGEST_ANSWER).read_until(b'\n', &mut line) {
            Ok(1..) if line.trim_ascii().is_empty() => {}
            Ok(1..) => kept = line,
            _ => break,
        }
    }
    kept.truncate(WORDS_KEPT);
    kept
}

/// Ends it and all that it started. One that ended before has ended as it did.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Nothing may be left to be killed.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    child.wait()
}

fn how(status: io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("cannot be asked how it ended: {error}"),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code} and without an answer"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended, and nobody knows how".to_owned(),
        },
    }
}

/// The side of the process that is asked.
#[derive(Debug)]
pub struct Reply(File);

impl Reply {
    /// Takes standard output for the answer: what a plugin prints goes to standard error from now on. The process is
    /// ended by a signal a little after so long, should nobody wait for it any more.
    ///
    /// # Errors
    /// When standard output cannot be taken.
    pub fn within(limit: Duration) -> io::Result<Self> {
        let kept = io::stdout().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdout(io::stderr())?;
        let seconds = limit.as_secs().saturating_add(5);
        nix::unistd::alarm::set(u32::try_from(seconds).unwrap_or(u32::MAX));
        Ok(Self(kept.into()))
    }

    /// Gives the answer.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn give(mut self, answer: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_sh(script: &str, within: Duration) -> Result<Vec<u32>, ProbeError> {
        ask(Path::new("/bin/sh"), &["-c", script], within)
    }

    #[test]
    fn an_answer_is_the_first_line_whatever_follows() {
        let long = Duration::from_secs(20);
        assert_eq!(ask_sh("echo '[1, 2]'; echo more; exec sleep 1000", long), Ok(vec![1, 2]));
        let Err(ProbeError::Garbled(_)) = ask_sh("echo no", long) else { panic!("it is no JSON") };
    }

    #[test]
    fn how_a_process_ended_is_told() {
        let words = |script: &str| {
            let asked = ask_sh(script, Duration::from_secs(20));
            asked.expect_err("there is no answer").to_string()
        };
        assert_eq!(words("kill -6 $$"), "its probe was ended by signal 6");
        assert_eq!(
            words("echo first >&2; printf 'no luck\\n\\n' >&2; exit 3"),
            "its probe ended with exit code 3 and without an answer (no luck)"
        );
        let Err(error) = ask::<u32>(Path::new("/none"), &[""], A_MOMENT) else {
            panic!("is there")
        };
        assert!(error.to_string().starts_with("its probe could not be started: "), "{error}");
    }

    #[test]
    fn a_process_that_is_silent_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let script = format!("sleep 1000 > {} & exec sleep 1000", fifo.display());
        let fifo = std::thread::spawn(move || std::fs::read(fifo));
        let short = Duration::from_millis(2500);
        assert_eq!(ask_sh(&script, short), Err(ProbeError::Silent(short)));
        assert_eq!(ProbeError::Silent(short).to_string(), "it said nothing within 2.5 s");
        // The pipe has an end once nobody can write to it any more.
        assert_eq!(fifo.join().expect("it is read").expect("it is read"), b"");
    }
}
