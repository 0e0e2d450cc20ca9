//! Running a command of an action, or a recovery script, on this host, to its end.
//!
//! Knows processes and files, no workflow. A command is at least once: when this process dies, the next
//! one runs it again.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use torc_core::traits::StepSignal;

/// What there is to run.
#[derive(Clone, Debug)]
pub struct ActionProcess {
    /// For `bash -c`.
    pub text: String,
    /// What is set on top of the environment that it starts from.
    pub env: Vec<(String, String)>,
    /// The working folder.
    pub working_dir: String,
    /// The file that its output is appended to.
    pub output: String,
}

/// The shell's code for a command that cannot be executed.
const NOT_EXECUTED: i32 = 126;
const SIGNAL_CODE_BASE: i32 = 128;

impl ActionProcess {
    /// Runs it to its end, with its environment on top of this one alone. Of a name that comes twice the later counts.
    /// Returns its exit code, 128 + n after signal n, 126 when it could not be started; the reason is in the log then.
    pub(crate) async fn run_in(self, surroundings: Vec<(OsString, OsString)>) -> i32 {
        let (_, nobodys) = mpsc::unbounded_channel();
        self.run_until(surroundings, nobodys, Duration::ZERO).await
    }

    /// The same, unless it is to end before, as `wishes` tell: its process group is killed so long after it was asked.
    pub(crate) async fn run_until(
        self,
        surroundings: Vec<(OsString, OsString)>,
        wishes: mpsc::UnboundedReceiver<StepSignal>,
        lead: Duration,
    ) -> i32 {
        let mut bash = Command::new("bash");
        bash.env_clear().envs(surroundings);
        let started = self.start(bash);
        self.code(match started {
            Ok(child) => end_of(child, wishes, lead).await,
            Err(error) => Err(error),
        })
    }

    /// As [`Self::run_in`], with its environment on top of this process's, whatever that holds.
    pub(crate) async fn run_on_top(self) -> i32 {
        let started = self.start(Command::new("bash"));
        self.code(match started {
            Ok(mut child) => child.wait().await,
            Err(error) => Err(error),
        })
    }

    fn code(&self, ended: std::io::Result<ExitStatus>) -> i32 {
        match ended {
            Ok(status) => status
                .code()
                .unwrap_or_else(|| SIGNAL_CODE_BASE + status.signal().unwrap_or_default()),
            Err(error) => {
                tracing::error!(%error, output = self.output, "a command did not start");
                NOT_EXECUTED
            }
        }
    }

    fn start(&self, mut bash: Command) -> std::io::Result<Child> {
        let mut options = OpenOptions::new();
        let output = options.append(true).create(true).mode(0o666).open(&self.output)?;
        bash.arg("-c")
            .arg(&self.text)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.working_dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits for the end of a process that leads its group, and has that end when it is wished.
async fn end_of(
    mut child: Child,
    mut wishes: mpsc::UnboundedReceiver<StepSignal>,
    lead: Duration,
) -> std::io::Result<ExitStatus> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    // Errors: it is gone, or another user's. Its number is its own until it is reaped, here.
    let signal = |signal| {
        let _ = group.map(|group| killpg(group, signal));
    };
    let mut kill_at = None;
    loop {
        let late = async {
            match kill_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = child.wait() => return ended,
            Some(wish) = wishes.recv() => match wish {
                StepSignal::Kill => signal(Signal::SIGKILL),
                StepSignal::Cancel | StepSignal::TimeUp => {
                    signal(Signal::SIGTERM);
                    kill_at.get_or_insert(Instant::now() + lead);
                }
            },
            () = late => {
                kill_at = None;
                signal(Signal::SIGKILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[tokio::test]
    async fn it_ends_when_that_is_wished_and_is_killed_if_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("log");
        let run = |text: &str, signal| {
            let path = std::env::var("PATH").unwrap();
            let process = ActionProcess {
                text: format!("trap 'echo asked' TERM; {text}"),
                env: vec![("PATH".to_owned(), path)],
                working_dir: "/".to_owned(),
                output: output.to_string_lossy().into_owned(),
            };
            let (wish, wishes) = mpsc::unbounded_channel();
            let output = output.clone();
            let wish = async move {
                while !std::fs::read_to_string(&output).is_ok_and(|said| said.contains("runs")) {
                    tokio::task::yield_now().await;
                }
                wish.send(signal).unwrap();
                // What is not listened to any more is no wish.
                std::future::pending::<()>().await;
            };
            async move {
                tokio::select! {
                    code = process.run_until(Vec::new(), wishes, Duration::from_millis(1)) => code,
                    () = wish => unreachable!(),
                }
            }
        };
        let hangs = "echo runs; while :; do sleep 1000; done";
        assert_eq!(run(hangs, StepSignal::Cancel).await, 137);
        assert_eq!(run(hangs, StepSignal::Kill).await, 137);
        std::fs::remove_file(&output).unwrap();
        let ends = "trap 'exit 7' TERM; echo runs; sleep 1000 & wait";
        assert_eq!(run(ends, StepSignal::Cancel).await, 7);
    }

    #[tokio::test]
    async fn the_code_is_the_commands_own() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("log").to_string_lossy().into_owned();
        for (text, code) in [("echo $X; pwd >&2", 0), ("exit 3", 3), ("kill -9 $$", 137)] {
            let process = ActionProcess {
                text: text.to_owned(),
                env: vec![
                    ("PATH".to_owned(), std::env::var("PATH").unwrap()),
                    ("X".to_owned(), "seen".to_owned()),
                ],
                working_dir: "/".to_owned(),
                output: output.clone(),
            };
            assert_eq!(process.clone().run_in(Vec::new()).await, code, "{text}");
            let elsewhere = ActionProcess { working_dir: "/nowhere".to_owned(), ..process };
            assert_eq!(elsewhere.run_in(Vec::new()).await, NOT_EXECUTED);
        }
        assert_eq!(std::fs::read_to_string(output).unwrap(), "seen\n/\n");
    }

    #[tokio::test]
    async fn surroundings_take_the_place_of_this_processes() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("log");
        let process = ActionProcess {
            text: "echo $X $Y ${CARGO_PKG_NAME-none}".to_owned(),
            env: vec![("X".to_owned(), "own".to_owned())],
            working_dir: "/".to_owned(),
            output: output.to_string_lossy().into_owned(),
        };
        let path = std::env::var_os("PATH").unwrap();
        let around = [("PATH", path), ("X", "a".into()), ("Y", "b".into()), ("Y", "c".into())];
        let around = around.map(|(name, value)| (name.into(), value)).to_vec();
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "or nothing is shown");
        assert_eq!(process.run_in(around).await, 0);
        assert_eq!(std::fs::read_to_string(output).unwrap(), "own c none\n");
    }

    /// In a process of its own, whose environment has what is no text.
    #[tokio::test]
    async fn what_the_environment_holds_does_no_harm() {
        const NAME: &str = "action_command::tests::what_the_environment_holds_does_no_harm";
        let Some(mine) = std::env::var_os("TORC_TEST_NO_TEXT") else {
            let no_text = std::ffi::OsStr::from_bytes(b"\xff");
            let again = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME])
                .env("TORC_TEST_NO_TEXT", no_text)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&again.stdout).into_owned();
            assert!(again.status.success() && said.contains("1 passed"), "{said}");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("log");
        let process = ActionProcess {
            text: "echo $TORC_TEST_NO_TEXT$X".to_owned(),
            env: vec![("X".to_owned(), "seen".to_owned())],
            working_dir: "/".to_owned(),
            output: output.to_string_lossy().into_owned(),
        };
        assert_eq!(process.run_on_top().await, 0);
        assert_eq!(std::fs::read(output).unwrap(), [mine.as_bytes(), b"seen\n"].concat());
    }
}
