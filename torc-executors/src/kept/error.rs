//! Why a keeper of jobs, or what it needs, may not start.

use std::io;
use std::path::PathBuf;

use torc_core::traits::ExecutorError;

/// An executor that keeps its processes by a keeper cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Files for jobs cannot be written.
    #[error(
        "cannot prepare the folder {path} for hostfiles: {source}; choose a folder that can be written"
    )]
    Scratch {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Environment variables hold text, so the name of the folder must be text, too.
    #[error("the folder {0} cannot be used for hostfiles: its name is not valid UTF-8")]
    ScratchName(PathBuf),
    /// Jobs were to be pinned to CPUs that this process must not use or that do not exist.
    #[error(
        "cannot pin jobs on node {node}: CPU {core} does not exist here or is not this process's to use; do not pin, or do not pretend more CPUs than there are"
    )]
    VirtualCpu {
        /// The node.
        node: Box<str>,
        /// The operating system's id of the CPU.
        core: u32,
    },
    /// The keeper process could not be started or talked to.
    #[error("cannot start the keeper of jobs ({program}): {source}")]
    Keeper {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program was started, but it did not act as a keeper.
    #[error(
        "{program} did not become the keeper of jobs ({reason}): its main function must call torc_executors::keeper::run_if_asked before anything else"
    )]
    NoKeeper {
        /// The program.
        program: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// The keeper found something that it cannot work with.
    #[error("the keeper of jobs cannot work here: {0}")]
    KeeperFailed(String),
    /// There is no runtime to run on.
    #[error("the executor must be started inside a tokio runtime with I/O and time enabled")]
    NoRuntime,
}

impl From<StartError> for ExecutorError {
    fn from(error: StartError) -> Self {
        Self::NotStarted(error.to_string())
    }
}
