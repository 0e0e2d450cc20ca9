//! What is to be known of the allocation that this process is in, before steps are launched there.
//!
//! Asks, and changes nothing in the allocation: whoever only wants to know what there is may ask, too, while
//! another executor works there.

use std::ffi::OsString;
use std::path::PathBuf;

use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;

use super::allocation::SlurmAllocation;
use super::executor::SlurmStartError;
use super::version::Dialect;

/// An allocation with all that an executor starts from.
#[derive(Clone, Debug)]
pub struct SlurmSurvey {
    pub(super) allocation: SlurmAllocation,
    pub(super) dialect: Dialect,
    /// The program.
    pub(super) srun: String,
    pub(super) most_steps: u32,
    /// Slurm's books of cores are of no use there.
    pub(super) shares_nodes_whole: bool,
    nodes: Vec<NodeInventory>,
    began_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
}

impl SlurmSurvey {
    /// Looks at the allocation that an environment tells of. `programs`: the folder that has Slurm's
    /// programs; `None`: they are in the environment's PATH.
    ///
    /// # Errors
    /// When it tells of none, or of one that torc cannot work in, or when Slurm cannot be asked now.
    pub async fn of(
        env: &[(OsString, OsString)],
        programs: Option<PathBuf>,
    ) -> Result<Self, SlurmStartError> {
        let allocation = SlurmAllocation::of(env, programs)?;
        let dialect = allocation.dialect().await?;
        let job = allocation.observe_usable().await?;
        let nodes = allocation.inventory(&job).await?;
        let most_steps = allocation.most_steps().await?;
        let srun = allocation.programs().find("srun")?.into_os_string().into_string();
        let srun = srun.map_err(|path| SlurmStartError::SrunPath(path.into()))?;
        // A step around this process may hold the cores of its nodes, and what Slurm gives to others there
        // would have to wait for its end.
        let shares_nodes_whole = allocation.has_lost_nodes(&job) || allocation.is_inside_step();
        let (began_at, ends_at) = (job.began_at, job.ends_at);
        Ok(Self {
            allocation,
            dialect,
            srun,
            most_steps,
            shares_nodes_whole,
            nodes,
            began_at,
            ends_at,
        })
    }

    /// The allocation, to ask about.
    pub fn allocation(&self) -> &SlurmAllocation {
        &self.allocation
    }

    /// Its nodes, with what was granted there.
    pub fn nodes(&self) -> &[NodeInventory] {
        &self.nodes
    }

    /// When it began, as Slurm counts.
    pub fn began_at(&self) -> Option<Timestamp> {
        self.began_at
    }

    /// When it was to end as this was asked; `None`: it does not end. It may have been extended since: see
    /// [`SlurmAllocation::observe_end`].
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }
}
