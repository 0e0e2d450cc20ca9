//! Running a command of an action on this host, to its end.
//!
//! Knows processes and files, no workflow. A command is at least once: when this process dies, the next
//! one runs it again.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// What there is to run.
#[derive(Clone, Debug)]
pub(crate) struct ActionProcess {
    /// For `bash -c`.
    pub(crate) text: String,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// The working folder.
    pub(crate) working_dir: String,
    /// The file that its output is appended to.
    pub(crate) output: String,
}

/// The shell's code for a command that cannot be executed.
const NOT_EXECUTED: i32 = 126;
const SIGNAL_CODE_BASE: i32 = 128;

impl ActionProcess {
    /// Runs it to its end. Returns its exit code, 128 + n after signal n, 126 when it could not be
    /// started; the reason is in the log then.
    pub(crate) async fn run(self) -> i32 {
        match self.status().await {
            Ok(status) => status
                .code()
                .unwrap_or_else(|| SIGNAL_CODE_BASE + status.signal().unwrap_or_default()),
            Err(error) => {
                tracing::error!(%error, output = self.output, "an action's command did not start");
                NOT_EXECUTED
            }
        }
    }

    async fn status(&self) -> std::io::Result<std::process::ExitStatus> {
        let mut options = OpenOptions::new();
        let output = options.append(true).create(true).mode(0o666).open(&self.output)?;
        tokio::process::Command::new("bash")
            .arg("-c")
            .arg(&self.text)
            .env_clear()
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
            assert_eq!(process.clone().run().await, code, "{text}");
            let elsewhere = ActionProcess { working_dir: "/nowhere".to_owned(), ..process };
            assert_eq!(elsewhere.run().await, NOT_EXECUTED);
        }
        assert_eq!(std::fs::read_to_string(output).unwrap(), "seen\n/\n");
    }
}
