//! What a run has to run on: this host, or the allocation that it is in, and what launches its steps there.
//!
//! Owns what follows from that, and from the scheduler of the spec that the nodes stand for, for the end of
//! the run and for how many jobs run at once. Pure.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::{Engine, LaunchContext};
use torc_core::ids::AllocationId;
use torc_core::resources::{Allocation, Inherited, NodeInventory};
use torc_core::time::Timestamp;
use torc_core::traits::{Executor, StepEvents};
use torc_core::workflow::{ExecutionConfig, Header, USUAL_PARALLEL_STEPS};

use crate::inherited::{self, Observe, WindUp};
use crate::worker::{OnNode, Release};

/// The nodes to run on, and how.
pub struct RunOptions {
    /// This host, the nodes it pretends to be, or those of the allocation that it is in.
    pub nodes: Vec<NodeInventory>,
    /// The labels of this worker, besides those of its scheduler.
    pub labels: Vec<Box<str>>,
    /// The scheduler of the spec that the nodes stand for; `None`: any of them.
    pub scheduler: Option<Box<str>>,
    /// When the run's time is up.
    pub ends_at: Option<Timestamp>,
    /// Jobs at once.
    pub max_parallel_jobs: Option<u32>,
    /// The scheduler's allocation that the nodes are, if they are one.
    pub inside: Option<Inside>,
}

impl RunOptions {
    /// All of these nodes, for as long as it takes.
    pub fn on(nodes: Vec<NodeInventory>) -> Self {
        Self {
            nodes,
            labels: Vec::new(),
            scheduler: None,
            ends_at: None,
            max_parallel_jobs: None,
            inside: None,
        }
    }
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

/// The nodes cannot stand for a scheduler of the spec.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// It has none of this name.
    #[error("the spec has no scheduler `{name}`; it has {}", quoted(.known))]
    Unknown {
        /// The name.
        name: Box<str>,
        /// Those that it has.
        known: Vec<Box<str>>,
    },
    /// Allocations of it are not all alike.
    #[error(
        "the actions that ask for scheduler `{name}` differ in `max_parallel_jobs` ({}), and the nodes of \
         one run have one number; make it the same in all of them",
        quoted(.slots)
    )]
    Differing {
        /// Its name.
        name: Box<str>,
        /// What the actions say.
        slots: Vec<Box<str>>,
    },
}

fn quoted(words: &[Box<str>]) -> String {
    match words {
        [] => "none".to_owned(),
        words => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Single-node jobs at once on each node that stands for a scheduler, where a worker on each runs them. Where
/// none is named and the actions differ, as many as fit.
///
/// # Errors
/// When the actions that ask for it differ.
pub(crate) fn slots(
    header: &Header,
    scheduler: Option<&str>,
) -> Result<Option<NonZeroU32>, StandInError> {
    let mut found = header.slots_in_place_of(scheduler);
    match (found.len(), scheduler) {
        (1, _) => Ok(found.pop_first().flatten()),
        (0, _) | (_, None) => Ok(None),
        (_, Some(name)) => {
            let say =
                |slots: Option<NonZeroU32>| slots.map_or("none".into(), |n| n.to_string().into());
            let slots = found.into_iter().map(say).collect();
            Err(StandInError::Differing { name: name.into(), slots })
        }
    }
}

impl RunOptions {
    /// The nodes, as an engine will know them.
    ///
    /// # Errors
    /// When they cannot stand for the scheduler that they should stand for.
    pub(super) fn allocation(&self, engine: &Engine) -> Result<Allocation, StandInError> {
        let header = &engine.workflow().header;
        let labels = self.labels(header)?;
        let mut nodes = self.nodes.clone();
        if self.has_crew() {
            let slots = slots(header, self.scheduler.as_deref())?;
            nodes.iter_mut().for_each(|node| node.slots = slots);
        }
        let mut allocation =
            engine.number_allocation(nodes, labels, self.ends_at(&header.execution));
        allocation.inherited = self.inside.as_ref().map(|inside| inside.allocation.clone());
        Ok(allocation)
    }

    /// Sorted, without repeats.
    fn labels(&self, header: &Header) -> Result<Arc<[Box<str>]>, StandInError> {
        let mut labels = self.labels.clone();
        if let Some(name) = &self.scheduler {
            let found = header.schedulers.iter().find(|known| *known.name == **name);
            let scheduler = found.ok_or_else(|| {
                let known = header.schedulers.iter().map(|known| Box::from(&*known.name)).collect();
                StandInError::Unknown { name: name.clone(), known }
            })?;
            labels.extend(scheduler.labels().iter().cloned());
        }
        labels.sort_unstable();
        labels.dedup();
        Ok(labels.into())
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

    /// Whether a worker on each node runs its jobs.
    fn has_crew(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| !inside.allocation.has_slurm_steps)
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
    /// A folder for its own files, in the state directory.
    pub scratch: PathBuf,
}

/// What launches the steps of a run.
pub struct Launching {
    /// The executor.
    pub executor: Arc<dyn Executor>,
    /// How it comes to its end; `None`: each step is asked to end, and that is all.
    pub wind_up: Option<WindUp>,
    /// How the worker of a node is ended before the others; `None`: nodes have no workers of their own.
    pub release: Option<Release>,
    /// How commands of actions are run on a node; `None`: nodes have no workers of their own.
    pub on_node: Option<OnNode>,
}

impl Launching {
    /// By an executor, whose steps are asked to end one by one.
    pub fn by(executor: Arc<dyn Executor>) -> Self {
        Self { executor, wind_up: None, release: None, on_node: None }
    }
}

#[cfg(test)]
mod tests {
    use torc_core::ids::WorkflowId;
    use torc_core::spec::{Context, Sources, load};
    use torc_core::traits::{AllocationHandle, AllocationState};

    use super::*;
    use crate::stored::placer_for;

    /// A run inside an allocation of Slurm's that ends then.
    fn inside(has_slurm_steps: bool, ends_at: Option<Timestamp>) -> Option<Inside> {
        let handle = AllocationHandle("41".to_owned());
        let observe: Observe = Box::new(|| Box::pin(async { AllocationState::Unknown }));
        let allocation = Inherited { handle, has_slurm_steps };
        Some(Inside { allocation, ends_at, observe })
    }

    fn options(ends_at: Option<Timestamp>, inside: Option<Inside>) -> RunOptions {
        RunOptions {
            nodes: Vec::new(),
            labels: Vec::new(),
            scheduler: None,
            ends_at,
            max_parallel_jobs: None,
            inside,
        }
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

    struct NoSources;

    impl Sources for NoSources {
        fn read(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("there are none".to_owned())
        }
    }

    /// A run of a workflow in mode direct with these actions, of which each asks a scheduler for nodes that
    /// take so many jobs at once.
    fn engine(actions: &[(&str, Option<u32>)]) -> Engine {
        let actions: Vec<String> = actions
            .iter()
            .map(|(scheduler, most)| {
                let most = most.map_or(String::new(), |n| format!(", max_parallel_jobs: {n}"));
                format!(
                    "- {{trigger_type: on_workflow_start, action_type: schedule_nodes, \
                     scheduler: {scheduler}{most}}}\n"
                )
            })
            .collect();
        let spec = format!(
            "name: w
execution_config: {{mode: direct}}
slurm_schedulers:
- {{name: cpu, account: a, labels: [thin, fast]}}
- {{name: gpu, account: a, labels: [big]}}
- {{name: spare, account: a}}
actions:
{}jobs: [{{name: j, command: 'true'}}]",
            actions.concat()
        );
        let context = Context { user: None, sources: &NoSources };
        let workflow = load(spec.as_bytes(), None, &context).expect("it is valid").workflow;
        let placer = placer_for(&workflow);
        Engine::new(WorkflowId(1), Arc::new(workflow), placer)
    }

    fn node() -> NodeInventory {
        NodeInventory {
            name: "n".into(),
            cores: [0, 1].into(),
            threads_per_core: 1,
            slots: None,
            memory: 1,
            gpus: [].into(),
        }
    }

    #[test]
    fn nodes_take_as_many_jobs_as_the_actions_say_that_they_stand_for() {
        #[track_caller]
        fn check(
            actions: &[(&str, Option<u32>)],
            of: Option<&str>,
            expected: Result<Option<u32>, &str>,
        ) {
            let mut options = options(None, inside(false, None));
            options.nodes = vec![node()];
            options.scheduler = of.map(Box::from);
            let found = options.allocation(&engine(actions)).map(|allocation| {
                let (_, node) = &allocation.nodes[0];
                node.slots.map(u32::from)
            });
            match (found, expected) {
                (Err(found), Err(expected)) => assert_eq!(found.to_string(), expected),
                (found, expected) => assert_eq!(found.ok(), expected.ok(), "{actions:?} {of:?}"),
            }
        }
        let (four, free) = (Some(4), None);
        check(&[("cpu", free)], None, Ok(None));
        check(&[("cpu", four)], None, Ok(four));
        check(&[("cpu", four), ("gpu", four)], None, Ok(four));
        check(&[("cpu", four), ("gpu", free)], None, Ok(None));
        check(&[("cpu", four), ("gpu", free)], Some("cpu"), Ok(four));
        check(&[("cpu", four), ("gpu", free)], Some("gpu"), Ok(None));
        check(&[("cpu", four)], Some("spare"), Ok(None));
        let differ = "the actions that ask for scheduler `cpu` differ in `max_parallel_jobs` (`none`, `4`), \
                      and the nodes of one run have one number; make it the same in all of them";
        check(&[("cpu", four), ("cpu", free)], Some("cpu"), Err(differ));
        let unknown = "the spec has no scheduler `cpus`; it has `cpu`, `gpu`, `spare`";
        check(&[("cpu", four)], Some("cpus"), Err(unknown));
    }

    #[test]
    fn only_workers_on_each_node_count_jobs() {
        for inside in [None, inside(true, None)] {
            let mut options = options(None, inside);
            options.nodes = vec![node()];
            let engine = engine(&[("cpu", Some(4))]);
            let allocation = options.allocation(&engine).expect("it is any of them");
            assert_eq!(allocation.nodes[0].1.slots, None);
        }
    }

    #[test]
    fn nodes_have_the_labels_of_the_scheduler_that_they_stand_for() {
        let mut options = options(None, None);
        options.labels = ["own", "fast"].map(Box::from).into();
        let engine = engine(&[("cpu", None)]);
        let labels = |options: &RunOptions| {
            let allocation = options.allocation(&engine).expect("it is known");
            allocation.labels.join(" ")
        };
        assert_eq!(labels(&options), "fast own");
        options.scheduler = Some("cpu".into());
        assert_eq!(labels(&options), "fast own thin");
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
