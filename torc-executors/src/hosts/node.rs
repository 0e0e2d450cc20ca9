//! The executor of one host: jobs are processes of it, under the Local executor's guarantees.
//!
//! A job on several hosts is started once, on the first of them, and led to the others by what it finds in its
//! environment; what it starts there are steps of their own to the executors of those hosts.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvent, StepEvents, StepSignal,
    StepState, Usage,
};

use super::surroundings::{HOST, Kind, RANKS_OF, Surroundings};
use crate::clock::now;
use crate::kept::StartError;
use crate::local::{LocalConfig, LocalExecutor};

/// What the executor of a host is started with.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The environment that jobs start from; a step's own comes on top.
    pub base_env: Vec<(OsString, OsString)>,
    /// This host as it was granted.
    pub host: NodeInventory,
    /// The folder of the crew, on a file system that all its hosts share.
    pub crew_dir: PathBuf,
    /// What a job calls like rsh, to start something on another of its hosts. Its path is text.
    pub agent: PathBuf,
}

/// Runs the jobs of one host of an allocation.
///
/// Dropping it kills whatever still runs; so does the end of this program, however it comes about.
pub struct HostExecutor {
    local: LocalExecutor,
    host: NodeInventory,
    base_env: Vec<(OsString, OsString)>,
    surroundings: Surroundings,
    files: Files,
    events: Arc<dyn StepEvents>,
}

impl fmt::Debug for HostExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostExecutor").field("host", &self.host.name).finish_non_exhaustive()
    }
}

impl HostExecutor {
    /// Starts a keeper, and tasks on the current runtime that report to `events`.
    ///
    /// # Errors
    /// When the keeper or its surroundings cannot be set up, or there is no runtime.
    pub fn start(config: HostConfig, events: Arc<dyn StepEvents>) -> Result<Self, StartError> {
        let HostConfig { base_env, host, crew_dir, agent } = config;
        let scratch = crew_dir.join("nodes").join(&*host.name);
        let files = Files { folder: scratch.join("mpi"), shared: Mutex::default() };
        fs::create_dir_all(&files.folder)
            .map_err(|source| StartError::Scratch { path: scratch.clone(), source })?;
        let agent = agent.into_os_string().into_string();
        let agent = agent.map_err(|path| StartError::ScratchName(path.into()))?;
        let surroundings = Surroundings::new(&base_env, agent);
        let local = LocalConfig::new(vec![host.clone()], scratch, base_env.clone());
        let local = LocalExecutor::start(local, Arc::clone(&events))?;
        Ok(Self { local, host, base_env, surroundings, files, events })
    }

    /// The whole environment of a command of an action on this host, which sets this itself.
    pub fn surround(&self, own: Vec<(String, String)>) -> Vec<(OsString, OsString)> {
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.base_env.iter().cloned().chain(own).collect()
    }

    /// Lets what runs come to an end of its own, and then shuts down. Steps are asked to end as by
    /// [`StepSignal::Cancel`]. Ends are reported as they come; nothing is launched any more.
    pub async fn wind_up(&self) {
        self.local.wind_up().await;
    }

    /// Kills whatever still runs, and returns when no process of any job and no keeper is left. Steps that
    /// were running end as [`Outcome::Cancelled`]; nothing is launched any more.
    pub async fn shutdown(&self) {
        self.local.shutdown().await;
    }

    /// Has all that runs here ended, even while this program hangs, unless it is called again within that time.
    pub fn lease(&self, time: Duration) {
        self.local.lease(time);
    }
}

#[async_trait]
impl Executor for HostExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(vec![self.host.clone()])
    }

    async fn launch(&self, mut step: Step) -> Result<(), ExecutorError> {
        // What a job starts on another host brings along what the job was told.
        let is_helper = step.env.contains_key(RANKS_OF);
        match if is_helper { Ok(None) } else { self.files.of(&step).map(Some) } {
            Ok(stem) => {
                stem.into_iter().for_each(|stem| self.surroundings.add_to(&mut step, &stem))
            }
            Err(error) => {
                let reason = format!("cannot write the files that name its hosts: {error}");
                let outcome = Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
                let (step, usage) = (step.id, Usage::default());
                self.events.emit(StepEvent::Ended { step, at: now(), outcome, usage });
                return Ok(());
            }
        }
        step.env.insert(HOST.to_owned(), self.host.name.to_string());
        self.local.launch(step).await
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.local.signal(step, signal).await
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        self.local.reconcile(steps).await
    }
}

/// The files that name the hosts of jobs. They go with the crew's folder.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// Those of jobs on this host alone, by how many CPUs they have; each is written once.
    shared: Mutex<HashMap<usize, String>>,
}

impl Files {
    /// The files of a step: all of their names but the end.
    fn of(&self, step: &Step) -> io::Result<String> {
        let [node] = step.nodes.as_slice() else {
            return self.write(&step.id.to_string(), step);
        };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stem) = shared.get(&node.cores.len()) {
            return Ok(stem.clone());
        }
        let stem = self.write(&format!("cpus{}", node.cores.len()), step)?;
        shared.insert(node.cores.len(), stem.clone());
        Ok(stem)
    }

    fn write(&self, name: &str, step: &Step) -> io::Result<String> {
        let stem = self.folder.join(name).into_os_string().into_string();
        let stem = stem.map_err(|_| io::Error::other("the folder's name is no text"))?;
        for kind in Kind::ALL {
            fs::write(kind.path(&stem), kind.text(step))?;
        }
        Ok(stem)
    }
}
