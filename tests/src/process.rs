//! A `torc` process from its start to its end, under a watchdog.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::PATIENCE;

/// What a `torc` process printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit code.
    ///
    /// # Panics
    /// With everything that was printed, when it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let signal = self.signal;
        assert_eq!(
            self.code,
            Some(code),
            "signal {signal:?}\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output, read as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{error}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
        })
    }

    /// Asserts that something was printed, on either stream.
    ///
    /// # Panics
    /// With everything that was printed, when it was not.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(found, "no `{text}` in\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that something was printed on neither stream.
    ///
    /// # Panics
    /// With everything that was printed, when it was.
    #[track_caller]
    pub fn does_not_say(&self, text: &str) -> &Self {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(!found, "`{text}` in\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A `torc` process that was started and not waited for. Killed when it is dropped, or when it has
/// not ended in time.
pub struct Started {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    printed: String,
    said: String,
    watchdog: Option<Watchdog>,
}

impl Started {
    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::start_for(command, PATIENCE)
    }

    /// Starts a command that may take so long.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start_for(mut command: Command, patience: Duration) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("torc starts");
        let stdout = child.stdout.take().map(BufReader::new).expect("its stdout is a pipe");
        let stderr = child.stderr.take().map(BufReader::new).expect("its stderr is a pipe");
        let watchdog = Some(Watchdog::over(pid_of(&child), patience));
        let (printed, said) = (String::new(), String::new());
        Self { child, stdout, stderr, printed, said, watchdog }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// Kills it without any chance to do something about it, and waits until it is gone.
    ///
    /// # Panics
    /// When it had already ended.
    #[track_caller]
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        let ended = self.wait();
        assert_eq!(ended.code, None, "it ended before it was killed: {ended:?}");
        ended
    }

    /// Waits until it has printed a line with this text on standard error, and returns the line.
    ///
    /// # Panics
    /// When it ends without having done so.
    #[track_caller]
    pub fn wait_until_it_says(&mut self, text: &str) -> String {
        find_line(&mut self.stderr, &mut self.said, text)
    }

    /// The same on standard output.
    ///
    /// # Panics
    /// When it ends without having done so.
    #[track_caller]
    pub fn wait_until_it_prints(&mut self, text: &str) -> String {
        find_line(&mut self.stdout, &mut self.printed, text)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With what it has printed, when it takes too long.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
        let (mut printed, mut said) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| stdout.read_to_end(&mut printed));
            stderr.read_to_end(&mut said)
        })
        .expect("its stderr is read");
        let status = self.child.wait().expect("it ends");
        self.printed.push_str(&String::from_utf8_lossy(&printed));
        self.said.push_str(&String::from_utf8_lossy(&said));
        let ended = Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.printed),
            stderr: std::mem::take(&mut self.said),
        };
        let had_to_bite = self.watchdog.take().is_some_and(Watchdog::call_off);
        assert!(!had_to_bite, "torc did not end and was killed: {ended:#?}");
        ended
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.watchdog.take().is_some() {
            // Whether it was still there does not matter.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

#[track_caller]
fn find_line(from: &mut impl BufRead, seen: &mut String, text: &str) -> String {
    loop {
        let mut line = String::new();
        let read = from.read_line(&mut line).expect("its output is read");
        seen.push_str(&line);
        assert!(read > 0, "it ended without `{text}`:\n{seen}");
        if line.contains(text) {
            return line;
        }
    }
}

/// Kills a process that has not ended in time.
struct Watchdog {
    off: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watchdog {
    fn over(pid: Pid, patience: Duration) -> Self {
        let (off, is_off) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let bites = is_off.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            bites && kill(pid, Signal::SIGKILL).is_ok()
        });
        Self { off, thread }
    }

    /// Whether it had to bite.
    fn call_off(self) -> bool {
        drop(self.off);
        self.thread.join().expect("the watchdog ends")
    }
}
