//! What the end-to-end tests share: a folder of their own, the real `torc` in it, and ways to wait
//! for things to happen without sleeping.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A folder with a torc of its own: nothing is shared with other tests or the user's files.
pub struct Place {
    dir: TempDir,
}

/// What a `torc` process printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ended {
    /// Asserts the exit code.
    ///
    /// # Panics
    /// With everything that was printed, when it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output, read as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
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
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A new empty folder.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.join(name), content).expect("the file is written");
        self
    }

    /// Reads a file of the folder.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A `torc` command in this folder, with two CPUs whatever the machine has.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(torc());
        command
            .args(args)
            .current_dir(self.path())
            .env_remove("TORC_OUTPUT_DIR")
            .env_remove("TORC_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs `torc` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn torc(&self, args: &[&str]) -> Ended {
        self.command(args).output().expect("torc starts").into()
    }

    /// Runs a spec on two CPUs.
    pub fn run(&self, spec: &str) -> Ended {
        self.torc(&["run", spec, "--num-cpus", "2", "--memory-gb", "4"])
    }

    /// Starts `torc` and leaves it running.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, args: &[&str]) -> Started {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("torc starts");
        let stderr = child.stderr.take().map(BufReader::new).expect("its stderr is a pipe");
        Started { child, stderr, said: String::new() }
    }

    /// Makes a fifo in the folder: reading it waits until somebody writes.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        path
    }

    /// Waits for a job to write a line into a fifo, and returns the line.
    ///
    /// # Panics
    /// When the fifo cannot be read.
    pub fn wait_for(&self, fifo: &str) -> String {
        fs::read_to_string(self.join(fifo)).expect("the fifo is read").trim().to_owned()
    }
}

/// A `torc` process that was started and not waited for.
pub struct Started {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// Waits until it has printed a line with this text on standard error.
    ///
    /// # Panics
    /// When it ends without having done so.
    #[track_caller]
    pub fn wait_until_it_says(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("its stderr is read");
            self.said.push_str(&line);
            assert!(read > 0, "it ended without `{text}`:\n{}", self.said);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(mut self) -> Ended {
        let mut stdout = self.child.stdout.take().expect("its stdout is a pipe");
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        self.stderr.read_to_string(&mut self.said).expect("its stderr is read");
        let status = self.child.wait().expect("it ends");
        let stdout = out.join().expect("the reader ends").expect("its stdout is read");
        Ended { code: status.code(), stdout, stderr: std::mem::take(&mut self.said) }
    }
}

/// The `torc` of the same build as these tests; built when it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn torc() -> &'static Path {
    static TORC: OnceLock<PathBuf> = OnceLock::new();
    TORC.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
        let torc = profile.join("torc");
        if !torc.exists() {
            let built = Command::new(env!("CARGO")).args(["build", "-p", "torc-cli"]).status();
            assert!(built.is_ok_and(|status| status.success()), "torc cannot be built");
        }
        torc
    })
}
