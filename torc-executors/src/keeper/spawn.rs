//! Starts the main process of a step: opens its output files, finds its program, executes it in a
//! process group of its own.
//!
//! Nothing here may block: an output file that is a pipe without a reader is refused. The standard
//! library's `Command` is used without hooks, so that it starts processes by `posix_spawn`, whose
//! cost does not depend on the size of this process.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{AccessFlags, Pid, access};
use torc_core::traits::{LaunchStage, StdioPaths};

use super::wire::{Launch, Role};
use super::{mark, signals};

/// Where programs are looked for when the environment has no PATH (as `execvp(3)` does).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why a step could not be started.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What was being done.
    pub(super) stage: LaunchStage,
    /// Why it failed.
    pub(super) reason: String,
}

/// Starts processes.
#[derive(Debug)]
pub(super) struct Spawner {
    null: File,
    own_id: i32,
    own_mark: String,
    own_path: OsString,
    own_cpus: CpuSet,
    programs: HashMap<(String, Option<String>), PathBuf>,
}

impl Spawner {
    /// Starts processes with the environment and the CPUs that this process has now; `null` is
    /// `/dev/null`.
    ///
    /// # Errors
    /// When the operating system does not tell this process's CPUs.
    pub(super) fn new(null: File) -> io::Result<Self> {
        Ok(Self {
            null,
            own_id: Pid::this().as_raw(),
            own_mark: std::env::var(mark::VARIABLE).unwrap_or_default(),
            own_path: std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
            own_cpus: sched_getaffinity(Pid::from_raw(0))?,
            programs: HashMap::new(),
        })
    }

    /// Starts a step's main process.
    ///
    /// # Errors
    /// When it does not run: no process of the step exists then.
    pub(super) fn spawn(&mut self, launch: &Launch) -> Result<Child, Refusal> {
        let (stdout, stderr) = match launch.role {
            Role::Job => self.outputs(&launch.stdio, OFlag::O_TRUNC)?,
            Role::Errand => self.outputs(&launch.stdio, OFlag::empty())?,
            Role::Launcher => {
                // Only what cannot be opened is found here.
                let _made = self.outputs(&launch.stdio, OFlag::O_TRUNC)?;
                (self.null_copy()?, Stdio::piped())
            }
        };
        let stdin = self.null_copy()?;
        let program = self.program(launch)?;
        let mut command = Command::new(&program);
        command
            .arg0(&launch.argv[0])
            .args(&launch.argv[1..])
            .envs(&launch.env)
            .env(mark::VARIABLE, mark::compose(&self.own_mark, self.own_id, launch.key))
            .current_dir(&*launch.working_dir)
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        self.pin(&launch.cores)?;
        let spawned = signals::unblocked(|| command.spawn());
        let unpinned = self.unpin(&launch.cores);
        let mut child = spawned.and_then(|child| child).map_err(|error| {
            self.programs.clear();
            launch_refusal(launch, &program, &error)
        })?;
        if let Err(refusal) = unpinned {
            // Nobody would watch it.
            let _ = child.kill();
            let _ = child.wait();
            return Err(refusal);
        }
        Ok(child)
    }

    /// `flag`: whether what is in the files already is to go.
    fn outputs(&self, paths: &StdioPaths, flag: OFlag) -> Result<(Stdio, Stdio), Refusal> {
        let create = |path: &str| create(path, flag);
        let stdout = paths.stdout.as_deref().map(create).transpose()?;
        let stderr = match &stdout {
            Some(file) if paths.stderr == paths.stdout => {
                Some(file.try_clone().map_err(|error| output_refusal(&error))?)
            }
            _ => paths.stderr.as_deref().map(create).transpose()?,
        };
        let or_null = |file: Option<File>| file.map_or_else(|| self.null_copy(), |f| Ok(f.into()));
        Ok((or_null(stdout)?, or_null(stderr)?))
    }

    fn null_copy(&self) -> Result<Stdio, Refusal> {
        self.null.try_clone().map(Stdio::from).map_err(|error| output_refusal(&error))
    }

    /// The file to execute: `argv[0]` itself when it is a path (relative to the working folder), else
    /// the first of that name in the step's PATH.
    fn program(&mut self, launch: &Launch) -> Result<PathBuf, Refusal> {
        let Some(name) = launch.argv.first().filter(|name| !name.is_empty()) else {
            let reason = "there is no program to execute: the argument vector is empty".to_owned();
            return Err(Refusal { stage: LaunchStage::Prepare, reason });
        };
        if name.contains('/') {
            return Ok(Path::new(&*launch.working_dir).join(name));
        }
        let path = launch.env.get("PATH");
        let key = (name.clone(), path.cloned());
        if let Some(found) = self.programs.get(&key) {
            return Ok(found.clone());
        }
        let folders: &OsStr = path.map_or(&self.own_path, OsStr::new);
        let found = std::env::split_paths(folders)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
            .ok_or_else(|| {
                let path = folders.to_string_lossy();
                let reason = format!("no program `{name}` is in any folder of PATH ({path})");
                Refusal { stage: LaunchStage::Execute, reason }
            })?;
        self.programs.insert(key, found.clone());
        Ok(found)
    }

    /// Binds this process to the step's CPUs, for the step's main process to inherit.
    fn pin(&self, cores: &[u32]) -> Result<(), Refusal> {
        if cores.is_empty() {
            return Ok(());
        }
        let mut set = CpuSet::new();
        let bound = cores
            .iter()
            .try_for_each(|&core| set.set(core as usize))
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
        bound.map_err(|error| Refusal {
            stage: LaunchStage::Prepare,
            reason: format!("cannot bind the job to CPUs {cores:?}: {error}"),
        })
    }

    fn unpin(&self, cores: &[u32]) -> Result<(), Refusal> {
        if cores.is_empty() {
            return Ok(());
        }
        sched_setaffinity(Pid::from_raw(0), &self.own_cpus).map_err(|error| Refusal {
            stage: LaunchStage::Prepare,
            reason: format!("cannot return from the job's CPUs: {error}"),
        })
    }
}

/// Creates an output file, or opens the one that is there, with this flag. Everything is appended, so that
/// two streams into one file do not overwrite each other.
fn create(path: &str, flag: OFlag) -> Result<File, Refusal> {
    let flags = flag | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| Refusal {
        stage: LaunchStage::Output,
        reason: format!("cannot open the output file {path}: {error}"),
    })?;
    // Only the opening must not block; what the job writes may.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(|error| Refusal {
        stage: LaunchStage::Output,
        reason: format!("cannot prepare the output file {path}: {error}"),
    })?;
    Ok(file)
}

fn output_refusal(error: &io::Error) -> Refusal {
    let reason = format!("cannot copy a file descriptor for the job's input or output: {error}");
    Refusal { stage: LaunchStage::Output, reason }
}

/// Says what an error of the spawn as a whole was about, which the error itself does not.
fn launch_refusal(launch: &Launch, program: &Path, error: &io::Error) -> Refusal {
    let folder = Path::new(&*launch.working_dir);
    let entered = fs::metadata(folder).map_err(|error| error.to_string()).and_then(|found| {
        match access(folder, AccessFlags::X_OK) {
            _ if !found.is_dir() => Err("it is not a folder".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(()) => Ok(()),
        }
    });
    if let Err(reason) = entered {
        let reason = format!("cannot enter the working folder {}: {reason}", folder.display());
        return Refusal { stage: LaunchStage::WorkingDir, reason };
    }
    let program = program.display();
    let code = error.raw_os_error().map(nix::errno::Errno::from_raw);
    let hint = match code {
        Some(nix::errno::Errno::E2BIG) => {
            "; the command and its environment are longer than the kernel takes (128 KiB for one \
             argument): put the command into a script file, or its data into an input file"
        }
        Some(nix::errno::Errno::EAGAIN) => {
            "; the limit on processes is reached (ulimit -u, or the pids limit of the cgroup)"
        }
        Some(nix::errno::Errno::ENOEXEC) => "; a script needs a first line like #!/bin/sh",
        _ => "",
    };
    Refusal {
        stage: LaunchStage::Execute,
        reason: format!("cannot execute {program}: {error}{hint}"),
    }
}
