//! Runs one of Slurm's client programs to its end: arguments in, captured output out.
//!
//! Owns how programs are found, the deadline, and the bound on what they say. It knows no program's
//! options and reads no answer. A program never outlives the call: at the deadline, or when the caller
//! goes away, it is killed together with what it started.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::environment::{self, Environment};

mod error;

pub use error::CommandError;

/// How long a program may take. Slurm's own time-outs for one message are shorter (slurm.conf(5),
/// MessageTimeout), and clients repeat a message a few times.
const DEADLINE: Duration = Duration::from_secs(60);

/// The most that a program may say: far more than all jobs of a large cluster.
const LONGEST_ANSWER: usize = 256 << 20;

/// Of what goes wrong, the beginning is enough.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// Where Slurm's client programs are, and how they are run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder that has them; `None`: the PATH of `env`.
    pub folder: Option<PathBuf>,
    /// The environment that they start from: this process's. What changes their answers is left out.
    pub env: Environment,
    /// How long one may take.
    pub deadline: Duration,
    /// The most bytes that one may say.
    pub longest_answer: usize,
}

/// One run of a program.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Its name, without a folder.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub input: Vec<u8>,
    /// Its whole environment; `None`: the one for questions ([`environment::for_queries`]).
    pub env: Option<Environment>,
    /// Its working folder; `None`: this process's.
    pub folder: Option<PathBuf>,
}

impl Call {
    /// A program with these arguments, and no input.
    pub fn new(program: &'static str, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { program, args, ..Self::default() }
    }
}

/// What a program said. It exited with 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    program: &'static str,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error: warnings. What is no UTF-8 is replaced.
    pub stderr: String,
}

impl Answer {
    /// Its standard output as text.
    ///
    /// # Errors
    /// When it is no UTF-8.
    pub fn text(&self) -> Result<&str, CommandError> {
        std::str::from_utf8(&self.stdout)
            .map_err(|_| CommandError::NotUtf8 { program: self.program })
    }
}

impl Programs {
    /// The programs in the PATH of this environment, which is this process's.
    pub fn new(env: Environment) -> Self {
        Self { folder: None, env, deadline: DEADLINE, longest_answer: LONGEST_ANSWER }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it gave no answer, or exited with another code than 0.
    pub async fn run(&self, call: Call) -> Result<Answer, CommandError> {
        let (mut child, file) = self.spawn(&call)?;
        // Declared after the child, so that it is dropped before: the group is killed while its leader
        // has not been waited for, and its number can be nobody else's.
        let mut group = Group(child.id());
        let talk = self.converse(&mut child, &call);
        let (status, stdout, stderr) = match tokio::time::timeout(self.deadline, talk).await {
            Ok(talk) => talk.map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    CommandError::TooLong { program: call.program, limit: self.longest_answer }
                }
                _ => CommandError::Io { program: file, source: error },
            })?,
            Err(_) => {
                return Err(CommandError::TimedOut {
                    program: call.program,
                    deadline: self.deadline,
                });
            }
        };
        group.0 = None;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        judge(call.program, status, &stderr)?;
        Ok(Answer { program: call.program, stdout, stderr })
    }

    fn spawn(&self, call: &Call) -> Result<(Child, PathBuf), CommandError> {
        let file = self.find(call.program)?;
        if let Some(folder) = &call.folder {
            // Asked before, since the error of starting does not tell the folder from the program.
            check_folder(call.program, folder)?;
        }
        let env = call.env.clone().unwrap_or_else(|| environment::for_queries(&self.env));
        let mut command = Command::new(&file);
        command
            .args(&call.args)
            .env_clear()
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of its own, so that Ctrl-C at a terminal does not reach it, and wrappers can be killed.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &call.folder {
            command.current_dir(folder);
        }
        match command.spawn() {
            Ok(child) => Ok((child, file)),
            Err(source) => Err(CommandError::Io { program: file, source }),
        }
    }

    /// The file of a program.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, program: &'static str) -> Result<PathBuf, CommandError> {
        let path = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let path = path.unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let (folders, looked_in) = match &self.folder {
            Some(folder) => (vec![folder.clone()], folder.display().to_string()),
            None => (std::env::split_paths(&path).collect(), format!("PATH ({})", path.display())),
        };
        let found = folders.iter().map(|folder| folder.join(program)).find(|file| is_program(file));
        found.ok_or(CommandError::NotFound { program, looked_in })
    }

    async fn converse(
        &self,
        child: &mut Child,
        call: &Call,
    ) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            // A program that does not read all of its input says why itself.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&call.input).await;
            }
            Ok(())
        };
        let ((), stdout, stderr) =
            tokio::try_join!(feed, whole(stdout, self.longest_answer), beginning(stderr))?;
        Ok((child.wait().await?, stdout, stderr))
    }
}

fn check_folder(program: &'static str, folder: &Path) -> Result<(), CommandError> {
    let refuse = |source| CommandError::Folder { program, folder: folder.to_owned(), source };
    let meta = folder.metadata().map_err(refuse)?;
    if meta.is_dir() { Ok(()) } else { Err(refuse(io::ErrorKind::NotADirectory.into())) }
}

fn is_program(file: &Path) -> bool {
    const ANYBODY_MAY_EXECUTE: u32 = 0o111;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & ANYBODY_MAY_EXECUTE != 0)
}

async fn whole(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    let limit_and_one = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    pipe.take(limit_and_one).read_to_end(&mut bytes).await?;
    if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads to the end, since a full pipe would block the program, and keeps the beginning.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(bytes) };
    (&mut pipe).take(LONGEST_COMPLAINT as u64).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

fn judge(program: &'static str, status: ExitStatus, stderr: &str) -> Result<(), CommandError> {
    let stderr = stderr.to_owned();
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(CommandError::Failed { program, code, stderr }),
        (None, signal) => {
            Err(CommandError::Killed { program, signal: signal.unwrap_or_default(), stderr })
        }
    }
}

/// The process group of a program that has not been waited for; killed when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // It may be gone already.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests;
