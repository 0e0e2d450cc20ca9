//! The seam between an executor and the program that starts ranks: srun, mpirun, a site's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::traits::executor::Step;

/// Writes a launch down: placement and ranks in; argv, environment and files out. Pure.
pub trait Launcher: Send + Sync {
    /// The name it is called by in a spec.
    fn name(&self) -> &str;

    /// How this step is started. `folder`: where the plan's files will lie, absolute.
    ///
    /// # Errors
    /// When this launcher cannot express the step; the step ends as a failed launch.
    fn plan(&self, step: &Step, folder: &str) -> Result<LaunchPlan, LauncherError>;
}

/// How the ranks of a step lie on its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankLayout {
    /// Ranks on each node, at least 1. A job on one node has one, whatever it says.
    pub ntasks_per_node: u32,
    /// CPUs that the ranks on one node share: what the job asked for, at least 1. A gang's nodes may
    /// have more.
    pub cpus_per_node: u32,
    /// How ranks find each other: the value of `srun --mpi=`.
    pub mpi: Option<Box<str>>,
    /// How ranks are bound to CPUs: the value of `srun --cpu-bind=`; `None`: as the site has it.
    pub cpu_bind: Option<Box<str>>,
}

/// What to execute for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Set on top of the step's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files to write before the start, in the folder that is the step's own: name and content.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}

/// A launcher cannot express a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LauncherError {
    /// It starts single-node steps only, for instance.
    #[error("launcher `{launcher}` cannot start this step: {reason}")]
    Unsupported {
        /// Its name.
        launcher: String,
        /// Why.
        reason: String,
    },
}
