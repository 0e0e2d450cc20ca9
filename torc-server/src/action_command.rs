//! Running a command of an action on this host, to its end.
//!
//! Knows processes and files, no workflow. A command is at least once: when this process dies, the next
//! one runs it again.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

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
        let mut bash = tokio::process::Command::new("bash");
        bash.env_clear().envs(surroundings);
        self.end_of(bash).await
    }

    /// As [`Self::run_in`], with its environment on top of this process's, whatever that holds.
    pub(crate) async fn run_on_top(self) -> i32 {
        self.end_of(tokio::process::Command::new("bash")).await
    }

    async fn end_of(self, bash: tokio::process::Command) -> i32 {
        match self.status(bash).await {
            Ok(status) => status
                .code()
                .unwrap_or_else(|| SIGNAL_CODE_BASE + status.signal().unwrap_or_default()),
            Err(error) => {
                tracing::error!(%error, output = self.output, "an action's command did not start");
                NOT_EXECUTED
            }
        }
    }

    async fn status(
        &self,
        mut bash: tokio::process::Command,
    ) -> std::io::Result<std::process::ExitStatus> {
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
            .status()
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

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
