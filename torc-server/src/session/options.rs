//! What a run has to run on: this host, or the allocation that it is in, and what launches its steps there.
//!
//! Owns what follows from that for the end of the run and for how many jobs run at once. Pure.

use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::{Engine, LaunchContext};
use torc_core::ids::AllocationId;
use torc_core::resources::{Allocation, Inherited, NodeInventory};
use torc_core::time::Timestamp;
use torc_core::traits::{Executor, StepEvents};
use torc_core::workflow::{ExecutionConfig, USUAL_PARALLEL_STEPS};

use crate::inherited::{self, Observe, WindUp};

/// The nodes to run on, and how.
pub struct RunOptions {
    /// This host, the nodes it pretends to be, or those of the allocation that it is in.
    pub nodes: Vec<NodeInventory>,
    /// The labels of this worker. Sorted, without repeats.
    pub labels: Arc<[Box<str>]>,
    /// When the run's time is up.
    pub ends_at: Option<Timestamp>,
    /// Jobs at once.
    pub max_parallel_jobs: Option<u32>,
    /// The scheduler's allocation that the nodes are, if they are one.
    pub inside: Option<Inside>,
}

/// The allocation of a scheduler that a run is inside.
pub struct Inside {
    /// Which.
    pub allocation: Inherited,
    /// When it ends, as far as that is known; `None`: it does not.
    pub ends_at: Option<Timestamp>,
    /// Asks where it stands.
    pub observe: Observe,
}

impl RunOptions {
    /// The nodes, as an engine will know them.
    pub(super) fn allocation(&self, engine: &Engine) -> Allocation {
        let (nodes, labels) = (self.nodes.clone(), Arc::clone(&self.labels));
        let execution = &engine.workflow().header.execution;
        let mut allocation = engine.number_allocation(nodes, labels, self.ends_at(execution));
        allocation.inherited = self.inside.as_ref().map(|inside| inside.allocation.clone());
        allocation
    }

    /// When the nodes are there no longer.
    fn ends_at(&self, execution: &ExecutionConfig) -> Option<Timestamp> {
        match &self.inside {
            None => self.ends_at,
            Some(inside) => inherited::earlier(inside.ends_at, self.limit(execution)),
        }
    }

    /// The end of an allocation by which the run's own time is up in it: what runs there is asked to end some
    /// time before.
    pub(super) fn limit(&self, execution: &ExecutionConfig) -> Option<Timestamp> {
        self.ends_at.map(|ends_at| ends_at + self.margin(execution))
    }

    pub(super) fn margin(&self, execution: &ExecutionConfig) -> Duration {
        execution.stop_margin(self.has_slurm_steps())
    }

    pub(super) fn most_at_once(&self, execution: &ExecutionConfig) -> usize {
        let usual = self.has_slurm_steps().then_some(USUAL_PARALLEL_STEPS);
        let caps = [self.max_parallel_jobs, execution.max_parallel_steps.or(usual)];
        caps.into_iter().flatten().min().map_or(usize::MAX, |cap| cap as usize)
    }

    fn has_slurm_steps(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.allocation.has_slurm_steps)
    }
}

/// What an executor for a run is made from.
pub struct Start<'a> {
    /// What a launch needs to know of the world.
    pub context: &'a LaunchContext,
    /// The engine's number of the nodes that steps are launched on.
    pub allocation: AllocationId,
    /// How steps are to be executed.
    pub execution: &'a ExecutionConfig,
    /// Where its reports go.
    pub events: Arc<dyn StepEvents>,
}

/// What launches the steps of a run.
pub struct Launching {
    /// The executor.
    pub executor: Arc<dyn Executor>,
    /// How it comes to its end; `None`: each step is asked to end, and that is all.
    pub wind_up: Option<WindUp>,
}

#[cfg(test)]
mod tests {
    use torc_core::traits::{AllocationHandle, AllocationState};

    use super::*;

    /// A run inside an allocation of Slurm's that ends then.
    fn inside(has_slurm_steps: bool, ends_at: Option<Timestamp>) -> Option<Inside> {
        let handle = AllocationHandle("41".to_owned());
        let observe: Observe = Box::new(|| Box::pin(async { AllocationState::Unknown }));
        let allocation = Inherited { handle, has_slurm_steps };
        Some(Inside { allocation, ends_at, observe })
    }

    fn options(ends_at: Option<Timestamp>, inside: Option<Inside>) -> RunOptions {
        let labels = Arc::from([]);
        RunOptions { nodes: Vec::new(), labels, ends_at, max_parallel_jobs: None, inside }
    }

    fn at(seconds: u64) -> Option<Timestamp> {
        Some(Timestamp(1_000 * seconds))
    }

    #[test]
    fn a_run_inside_an_allocation_ends_with_it_or_before() {
        let check = |own, inside, expected| {
            let found = options(own, inside).ends_at(&ExecutionConfig::default());
            assert_eq!(found, expected, "{own:?}");
        };
        check(None, None, None);
        check(at(1_000), None, at(1_000));
        check(None, inside(true, None), None);
        check(None, inside(true, at(5_000)), at(5_000));
        check(at(1_000), inside(true, at(5_000)), at(1_180));
        check(at(1_000), inside(false, at(5_000)), at(1_090));
        check(at(1_000), inside(true, None), at(1_180));
        check(at(4_900), inside(true, at(5_000)), at(5_000));
    }

    #[test]
    fn srun_is_spared_where_it_starts_the_steps() {
        let check = |of_command: Option<u32>, of_spec: Option<u32>, inside, expected| {
            let mut options = options(None, inside);
            options.max_parallel_jobs = of_command;
            let execution =
                ExecutionConfig { max_parallel_steps: of_spec, ..ExecutionConfig::default() };
            assert_eq!(options.most_at_once(&execution), expected);
        };
        check(None, None, None, usize::MAX);
        check(None, None, inside(false, None), usize::MAX);
        check(None, None, inside(true, None), 100);
        check(None, Some(300), inside(true, None), 300);
        check(Some(200), None, inside(true, None), 100);
        check(Some(20), Some(300), inside(true, None), 20);
        check(Some(20), Some(3), None, 3);
    }
}
