//! The seam between an executor and the program that starts ranks: srun, mpirun, a site's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::traits::executor::Step;

/// Writes a launch down: placement and ranks in; argv, environment and files out. Pure: the same step gives the same
/// plan, and nothing is looked at but the arguments.
///
/// Who calls it is the executor that it is given to (`torc_executors::launched`), once for each launch, on the node
/// where that starts, maybe from several threads at once. After the plan was made its files are written, and
/// [`LaunchPlan::argv`] is executed in the step's working folder, with its output files, its limits and its
/// environment, on top of which comes the plan's. The process that it starts is the step: its exit code is the step's,
/// signals go to it and all of its descendants, and when it ends the step has ended.
///
/// What is started on *other* nodes is the launcher's program's business: the executor neither sees nor ends it.
///
/// ```
/// use torc_core::traits::{LaunchPlan, Launcher, LauncherError, Step};
///
/// struct Flux;
///
/// impl Launcher for Flux {
///     fn name(&self) -> &str {
///         "flux"
///     }
///     fn plan(&self, step: &Step, _folder: &str) -> Result<LaunchPlan, LauncherError> {
///         let ranks = step.layout.ntasks_per_node as usize * step.nodes.len();
///         let words = ["flux", "run", "-N", &step.nodes.len().to_string(), "-n", &ranks.to_string()];
///         let argv = words.into_iter().map(str::to_owned).chain(step.argv.iter().cloned());
///         Ok(LaunchPlan { argv: argv.collect(), ..LaunchPlan::default() })
///     }
/// }
/// ```
///
/// One that only puts words before the command needs no code: see [`crate::launch_template`].
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

/// A launcher cannot express a step. The step ends as
/// [`Outcome::LaunchFailed`](crate::traits::Outcome::LaunchFailed) in the stage `Prepare`, with these words.
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
