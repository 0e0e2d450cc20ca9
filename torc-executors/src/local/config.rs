//! What a Local executor is started with.

use std::ffi::OsString;
use std::path::PathBuf;

use torc_core::resources::NodeInventory;

/// What a Local executor is started with.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The environment that all jobs start from; a step's own comes on top.
    pub base_env: Vec<(OsString, OsString)>,
    /// The nodes that steps are launched on: this host, or the pretended nodes that it was cut into.
    /// A step may name further nodes; what happens there is its own business.
    pub nodes: Vec<NodeInventory>,
    /// A folder for hostfiles; made if it is missing. No other executor uses it.
    pub scratch_dir: PathBuf,
    /// Bind each job to the CPUs of its placement.
    pub pin: bool,
    /// End jobs that use more memory than they were given. Memory is measured either way.
    pub enforce_memory: bool,
    /// The file mode creation mask of jobs; `None`: this process's.
    pub umask: Option<u32>,
    /// The program to start as the keeper; `None`: this program. Its `main` must call
    /// [`run_if_asked`](crate::keeper::run_if_asked) first.
    pub keeper_program: Option<PathBuf>,
}

impl LocalConfig {
    /// Jobs that are not pinned, and ended when they use too much memory.
    pub fn new(
        nodes: Vec<NodeInventory>,
        scratch_dir: PathBuf,
        base_env: Vec<(OsString, OsString)>,
    ) -> Self {
        Self {
            base_env,
            nodes,
            scratch_dir,
            pin: false,
            enforce_memory: true,
            umask: None,
            keeper_program: None,
        }
    }
}
