//! The executor of one node: jobs are processes of this host, under the Local executor's guarantees.
//!
//! It turns what Slurm granted into what this process can use, shows each job an allocation of its own
//! nodes, and lets no end be told while steps that the job itself started with srun are left.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, ExecutorError, Outcome, Step, StepEvent, StepEvents, StepSignal, StepState,
};

use super::devices::Devices;
use super::leftovers::{self, Ended, Gate, Held};
use super::notes::Notes;
use super::sruns::Sruns;
use super::surroundings::{self, Surroundings};
use super::traces::Traces;
use crate::kept::StartError;
use crate::local::{LocalConfig, LocalExecutor};
use crate::slurm::{SlurmAllocation, host_name, hostlist};

/// What the executor of a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The environment of this process, which is a task of a Slurm step on the node. Jobs start from it,
    /// without what is about that task; a step's own comes on top.
    pub base_env: Vec<(OsString, OsString)>,
    /// This node as Slurm granted it: the numbers and names that placements use.
    pub node: NodeInventory,
    /// The folder of the crew, on a file system that all its nodes share; made if it is missing.
    pub crew_dir: PathBuf,
    /// Slurm's srun. Its scontrol and scancel lie beside it.
    pub srun: PathBuf,
    /// End jobs that use more memory than they were given.
    pub enforce_memory: bool,
    /// The file mode creation mask of jobs; `None`: this process's.
    pub umask: Option<u32>,
    /// The program to start as the keeper of jobs; `None`: this program. Its `main` must call
    /// [`run_if_asked`](crate::keeper::run_if_asked) first.
    pub keeper_program: Option<PathBuf>,
}

/// Runs the jobs of one node of a Slurm allocation as processes of this host.
///
/// A step on several nodes has its command started here once; this is the first of them. Dropping the
/// executor kills whatever still runs; so does the end of this program, however it comes about.
pub struct NodeExecutor {
    local: LocalExecutor,
    node: NodeInventory,
    devices: Devices,
    surroundings: Surroundings,
    base_of_commands: Vec<(OsString, OsString)>,
    sruns: Sruns,
    reports: Arc<Reports>,
}

impl fmt::Debug for NodeExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeExecutor").field("node", &self.node.name).finish_non_exhaustive()
    }
}

impl NodeExecutor {
    /// Starts a keeper, and tasks on the current runtime that report to `events`.
    ///
    /// # Errors
    /// When the keeper or its surroundings cannot be set up, or there is no runtime.
    pub fn start(config: NodeConfig, events: Arc<dyn StepEvents>) -> Result<Self, StartError> {
        let NodeConfig { base_env, node, crew_dir, .. } = config;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(StartError::NoRuntime);
        }
        let (notes, scratch_dir) = (Notes::of(&crew_dir), crew_dir.join("nodes").join(&*node.name));
        fs::create_dir_all(&scratch_dir)
            .and_then(|()| notes.prepare())
            .and_then(|()| notes.place(&node.name, &host_name()))
            .map_err(|source| StartError::Scratch { path: scratch_dir.clone(), source })?;
        let sruns = Sruns::prepare(&scratch_dir, &config.srun, &notes)?;
        let devices = Devices::of(&node, &base_env);
        let base = surroundings::base(&base_env);
        let base_of_commands = surroundings::base_of_commands(&base_env);
        let surroundings = Surroundings::new(&base, members(&base_env), node.gpus.len());
        let folder = config.srun.parent().map(PathBuf::from);
        let leftovers = match SlurmAllocation::of(&base_env, folder) {
            Ok(allocation) => {
                Some(leftovers::start(allocation, notes.clone(), Arc::clone(&events)))
            }
            Err(error) => {
                tracing::warn!(%error, "steps that jobs leave behind are not looked for");
                None
            }
        };
        let reports = Arc::new(Reports { notes, events, leftovers, gangs: Mutex::default() });
        let local = LocalConfig {
            base_env: base,
            nodes: vec![devices.inventory(&node)],
            scratch_dir,
            pin: devices.can_pin(),
            enforce_memory: config.enforce_memory,
            umask: config.umask,
            keeper_program: config.keeper_program,
        };
        let local = LocalExecutor::start(local, Arc::clone(&reports) as Arc<dyn StepEvents>)?;
        Ok(Self { local, node, devices, surroundings, base_of_commands, sruns, reports })
    }

    /// The whole environment of a command of an action on this node, which sets this itself: as that of a job. Its
    /// sruns are kept to this node, too; what they leave behind is not looked for.
    pub fn surround(&self, own: Vec<(String, String)>) -> Vec<(OsString, OsString)> {
        let node = self.devices.inventory(&self.node);
        let own = self.surroundings.of_command(&node, own.into_iter().collect(), &self.sruns);
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.base_of_commands.iter().cloned().chain(own).collect()
    }

    /// Lets what runs come to an end of its own, and then shuts down. Steps are asked to end as by
    /// [`StepSignal::Cancel`]. When Slurm takes the allocation away (`is_taken`), what jobs have left in it is
    /// Slurm's matter, and holds no end back. Ends are reported as they come; nothing is launched any more.
    pub async fn wind_up(&self, is_taken: bool) {
        if is_taken {
            self.reports.leave_to_slurm();
        }
        self.local.wind_up().await;
        self.reports.all_told().await;
    }

    /// Kills whatever still runs, and returns when no process of any job and no keeper is left. Steps that
    /// were running end as [`Outcome::Cancelled`]; nothing is launched any more.
    pub async fn shutdown(&self) {
        self.local.shutdown().await;
        self.reports.all_told().await;
    }

    /// Has all that runs here ended, even while this program hangs, unless it is called again within that time.
    pub fn lease(&self, time: Duration) {
        self.local.lease(time);
    }

    /// The process id of the keeper, for messages and for tests.
    pub fn keeper_pid(&self) -> u32 {
        self.local.keeper_pid()
    }
}

/// The nodes of the allocation, as its environment lists them.
fn members(env: &[(OsString, OsString)]) -> Vec<String> {
    let list = env.iter().find(|(name, _)| name == "SLURM_JOB_NODELIST");
    let list = list.and_then(|(_, value)| value.to_str()).unwrap_or_default();
    hostlist::expand(list, hostlist::MOST_NODES).unwrap_or_default()
}

#[async_trait]
impl Executor for NodeExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(vec![self.node.clone()])
    }

    async fn launch(&self, mut step: Step) -> Result<(), ExecutorError> {
        let id = step.id;
        if self.reports.holds(id) {
            tracing::warn!(step = %id, "a step that is ending was launched again; ignored");
            return Ok(());
        }
        for share in step.nodes.iter_mut().filter(|share| share.name == self.node.name) {
            self.devices.translate(share);
        }
        self.surroundings.add_to(&mut step, &self.sruns);
        self.reports.expect(&step);
        self.local.launch(step).await
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.local.signal(step, signal).await
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        let mut states = self.local.reconcile(steps).await?;
        for (state, &step) in states.iter_mut().zip(steps) {
            if self.reports.holds(step) {
                *state = StepState::Running;
            }
        }
        Ok(states)
    }
}

/// Passes reports on, except for ends of jobs that may have left something.
struct Reports {
    notes: Notes,
    events: Arc<dyn StepEvents>,
    /// `None`: nobody can be asked.
    leftovers: Option<(Gate, Arc<Held>)>,
    /// The nodes of gangs that run.
    gangs: Mutex<HashMap<StepId, Vec<String>>>,
}

impl Reports {
    fn gangs(&self) -> MutexGuard<'_, HashMap<StepId, Vec<String>>> {
        self.gangs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the end of a step is being held back.
    fn holds(&self, step: StepId) -> bool {
        self.leftovers.as_ref().is_some_and(|(_, held)| held.contains(step))
    }

    /// A step is about to be launched.
    fn expect(&self, step: &Step) {
        if step.nodes.len() > 1 {
            let names = step.nodes.iter().map(|node| node.name.to_string()).collect();
            self.gangs().insert(step.id, names);
        }
    }

    fn leave_to_slurm(&self) {
        if let Some((_, held)) = &self.leftovers {
            held.leave_to_slurm();
        }
    }

    async fn all_told(&self) {
        if let Some((_, held)) = &self.leftovers {
            held.none_left().await;
        }
    }

    /// The end as one that may have left something; otherwise the event as it was.
    fn suspect(&self, event: StepEvent) -> Result<Ended, StepEvent> {
        let StepEvent::Ended { step, outcome, .. } = &event else { return Err(event) };
        let step = *step;
        let whole_nodes = self.gangs().remove(&step);
        if matches!(outcome, Outcome::LaunchFailed { .. }) {
            return Err(event);
        }
        let sruns = self.notes.called_by(step);
        if sruns.is_none() && whole_nodes.is_none() {
            return Err(event);
        }
        self.notes.forget(step);
        let (whole_nodes, sruns) = (whole_nodes.unwrap_or_default(), sruns.unwrap_or_default());
        Ok(Ended { traces: Traces { step, whole_nodes, sruns }, event })
    }
}

impl StepEvents for Reports {
    fn emit(&self, event: StepEvent) {
        match (self.suspect(event), &self.leftovers) {
            (Ok(ended), Some((gate, held))) if !held.is_left_to_slurm() => gate.take(ended),
            (Ok(Ended { event, .. }) | Err(event), _) => self.events.emit(event),
        }
    }
}
