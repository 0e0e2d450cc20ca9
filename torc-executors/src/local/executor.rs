//! The executor itself: turns steps into orders for the keeper.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvents, StepSignal, StepState,
};

use super::config::LocalConfig;
use super::environment;
use crate::clock::now;
use crate::keeper::wire::{Launch, Order, Role, StepKey};
use crate::kept::{Custody, Entry, Hostfiles, Memory, Setup, StartError, add_nodes};

/// Runs steps as processes of this host.
///
/// A step on several nodes has its command started once; all its nodes that this executor has are
/// this host. Dropping the executor kills whatever still runs; so does the end of this program,
/// however it comes about.
pub struct LocalExecutor {
    custody: Custody,
    nodes: Vec<NodeInventory>,
    pin: bool,
    enforce_memory: bool,
}

impl fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeper = self.custody.keeper;
        f.debug_struct("LocalExecutor").field("keeper", &keeper).finish_non_exhaustive()
    }
}

impl LocalExecutor {
    /// Starts a keeper, and a task on the current runtime that reports to `events`.
    ///
    /// This process becomes a subreaper: processes that lose their parent below it become its
    /// children, so that it can end the jobs of a keeper that was killed.
    ///
    /// # Errors
    /// When the keeper or its surroundings cannot be set up, or there is no runtime.
    pub fn start(config: LocalConfig, events: Arc<dyn StepEvents>) -> Result<Self, StartError> {
        if config.pin {
            check_cores(&config.nodes)?;
        }
        let hostfiles = Hostfiles::prepare(config.scratch_dir.clone(), &config.nodes)?;
        let setup = Setup {
            env: &config.base_env,
            umask: config.umask,
            keeper_program: config.keeper_program.as_deref(),
        };
        let custody = Custody::start(&setup, hostfiles, Arc::new(events))?;
        let (nodes, pin, enforce_memory) = (config.nodes, config.pin, config.enforce_memory);
        Ok(Self { custody, nodes, pin, enforce_memory })
    }

    /// Lets what runs come to an end of its own, and then shuts down. Steps are asked to end as by
    /// [`StepSignal::Cancel`]. Ends are reported as they come; a step that is launched now ends as
    /// [`Outcome::Cancelled`] at once.
    pub async fn wind_up(&self) {
        for key in self.custody.wind_up() {
            // An error means that the keeper is gone, and all jobs with it.
            let _ = self.custody.send(&Order::Signal { key, signal: StepSignal::Cancel });
        }
        self.custody.emptied().await;
        self.custody.shutdown().await;
    }

    /// Kills whatever still runs, and returns when no process of any job and no keeper is left.
    /// Steps that were running end as [`Outcome::Cancelled`]; nothing is launched any more.
    pub async fn shutdown(&self) {
        self.custody.shutdown().await;
    }

    /// Has all that runs ended, even while this program hangs, unless it is called again within that time. Never
    /// called: what runs ends with this program.
    pub fn lease(&self, time: Duration) {
        // An error means that the keeper is gone, and all jobs with it.
        let _ = self.custody.send(&Order::Lease(time));
    }

    /// The process id of the keeper, for messages and for tests.
    pub fn keeper_pid(&self) -> u32 {
        self.custody.keeper.unsigned_abs()
    }

    /// Bytes that a step may use on this host: its limit is per node.
    fn memory_limit(&self, step: &Step) -> Option<u64> {
        let limit = step.limits.memory.filter(|_| self.enforce_memory)?;
        let here = step.nodes.iter().filter(|node| self.custody.hostfiles.is_here(&node.name));
        Some(limit.saturating_mul(here.count().max(1) as u64))
    }

    fn order(&self, step: Step, key: StepKey, hostfile: &str) -> Order {
        let here = |name: &str| self.custody.hostfiles.is_here(name);
        let cores = if self.pin { environment::cores(&step, here) } else { Vec::new() };
        let mut env = step.env;
        add_nodes(&mut env, &step.nodes, hostfile);
        environment::add_gpus(&mut env, &step.nodes, here);
        Order::Launch(Box::new(Launch {
            key,
            argv: step.argv,
            env,
            working_dir: step.working_dir,
            stdio: step.stdio,
            limits: step.limits,
            expected_files: step.expected_files,
            cores,
            role: Role::Job,
        }))
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(self.nodes.clone())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        self.custody.check()?;
        let id = step.id;
        if self.custody.key(id).is_some() {
            tracing::warn!(step = %id, "a step that runs was launched again; ignored");
            return Ok(());
        }
        let hostfile = match self.custody.hostfiles.of(&step) {
            Ok(path) => path,
            Err(error) => {
                let reason = format!("cannot write the hostfile: {error}");
                let outcome = Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
                self.custody.refuse(id, now(), outcome);
                return Ok(());
            }
        };
        let memory = Memory::Measured(self.memory_limit(&step));
        let has_own = step.nodes.len() != 1 || !self.custody.hostfiles.is_here(&step.nodes[0].name);
        let key = match self.custody.enter(id, memory, has_own)? {
            Entry::New(key) => key,
            Entry::Known => return Ok(()),
            Entry::TooLate => {
                if has_own {
                    self.custody.hostfiles.remove(id);
                }
                self.custody.refuse(id, now(), Outcome::Cancelled);
                return Ok(());
            }
        };
        let sent = self.custody.send(&self.order(step, key, &hostfile));
        match sent {
            // If the step is no longer in the books, its end was reported.
            Err(reason) if self.custody.leave(key).is_some() => Err(ExecutorError::Gone(reason)),
            _ => Ok(()),
        }
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.custody.check()?;
        match self.custody.key(step) {
            Some(key) => {
                self.custody.send(&Order::Signal { key, signal }).map_err(ExecutorError::Gone)
            }
            None => Ok(()),
        }
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        // Ends are reported and then forgotten; processes do not survive an earlier executor.
        let state = |&step: &StepId| match self.custody.key(step) {
            Some(_) => StepState::Running,
            None => StepState::Unknown,
        };
        Ok(steps.iter().map(state).collect())
    }
}

/// Refuses to pin to CPUs that this process may not use.
fn check_cores(nodes: &[NodeInventory]) -> Result<(), StartError> {
    let usable: HashSet<u32> = match sched_getaffinity(Pid::from_raw(0)) {
        Ok(set) => (0..nix::sched::CpuSet::count())
            .filter(|&core| set.is_set(core).unwrap_or(false))
            .filter_map(|core| u32::try_from(core).ok())
            .collect(),
        Err(error) => return Err(StartError::KeeperFailed(format!("no CPU affinity: {error}"))),
    };
    for node in nodes {
        if let Some(&core) = node.cores.iter().find(|core| !usable.contains(core)) {
            return Err(StartError::VirtualCpu { node: node.name.clone(), core });
        }
    }
    Ok(())
}
