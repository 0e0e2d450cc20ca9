//! An executor that gives each job a world of its own on this host: processes that see no others, and folders, /tmp
//! unless it is told otherwise, that begin empty and go with the job.
//!
//! To begin an executor with: [`Enclosed`] is the plugin, `step` what it knows of one step, `inside` what happens in
//! the new processes. Owns: which steps there are. Invariants: of each step that was taken over one end is told, when
//! no process of it is left; when torc dies, however it does, the jobs die with it.
#![expect(unsafe_code, reason = "a new process may do little until it is another program")]

mod inside;
mod step;

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, gethostname};
use torc_plugin::messages::{Node, Signal, Step, StepId, StepState};
use torc_plugin::{Executor, Failure, Host, Settings, torc_plugin};

use step::{Enclosure, Launched, Reason};

/// How long the kernel may take to end what was killed: a process that waits for a file system takes its time.
const KILLED_WITHIN: Duration = Duration::from_secs(60);

/// The plugin.
struct Enclosed {
    host: Host,
    private: Arc<[CString]>,
    steps: Arc<Steps>,
}

/// The steps that run.
#[derive(Default)]
pub(crate) struct Steps {
    running: Mutex<HashMap<StepId, Arc<Launched>>>,
    fewer: Condvar,
}

impl Steps {
    fn running(&self) -> MutexGuard<'_, HashMap<StepId, Arc<Launched>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a step that has ended.
    pub(crate) fn remove(&self, step: StepId) {
        self.running().remove(&step);
        self.fewer.notify_all();
    }

    fn stop_all(&self, reason: Reason) {
        for step in self.running().values() {
            step.stop(reason);
        }
    }

    /// Waits until none is left, for so long.
    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut running = self.running();
        while !running.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.fewer.wait_timeout(running, left);
            running = waited.map_or_else(|error| error.into_inner().0, |(running, _)| running);
        }
    }
}

impl Executor for Enclosed {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        let private = match settings.get("private") {
            None => vec![folder("/tmp")?],
            Some(folders) => {
                let folders =
                    folders.as_array().map(|folders| folders.iter().map(|one| one.as_str()));
                let folders: Option<Vec<_>> = folders.and_then(Iterator::collect);
                let folders = folders.ok_or_else(|| {
                    Failure::Invalid("`private` is to be a list of folders".to_owned())
                })?;
                folders.into_iter().map(folder).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { host, private: private.into(), steps: Arc::default() })
    }

    fn inventory(&mut self) -> Result<Vec<Node>, Failure> {
        let unknown = |what: &str| Failure::Fatal(format!("{what} of this host is not known"));
        // Slurm's name for it, where it is one of Slurm's nodes.
        let name = std::env::var("SLURMD_NODENAME").ok();
        let name = name.or_else(|| gethostname().ok()?.into_string().ok());
        let usable = sched_getaffinity(Pid::from_raw(0)).map_err(|_| unknown("the affinity"))?;
        let is_usable = |core: &usize| usable.is_set(*core).unwrap_or(false);
        let cores = (0..CpuSet::count()).filter(is_usable).filter_map(|core| core.try_into().ok());
        Ok(vec![Node {
            name: name.ok_or_else(|| unknown("the name"))?,
            cores: cores.collect(),
            threads_per_core: 1,
            memory: memory().ok_or_else(|| unknown("the memory"))?,
            gpus: Vec::new(),
            slots: None,
        }])
    }

    fn launch(&mut self, step: Step) -> Result<(), Failure> {
        let (id, private) = (step.id, Arc::clone(&self.private));
        // Held until it is in, so that its end finds it there.
        let mut running = self.steps.running();
        let enclosure = Enclosure::prepare(&step, private).map_err(Failure::Invalid)?;
        let steps = Arc::clone(&self.steps);
        let launched = enclosure.launch(step, self.host, steps).map_err(Failure::Invalid)?;
        running.insert(id, launched);
        Ok(())
    }

    fn signal(&mut self, step: StepId, signal: Signal) -> Result<(), Failure> {
        if let Some(step) = self.steps.running().get(&step) {
            step.stop(match signal {
                Signal::Cancel => Reason::Cancelled,
                Signal::TimeUp => Reason::TimeUp,
                Signal::Kill => Reason::Killed,
            });
        }
        Ok(())
    }

    fn reconcile(&mut self, steps: &[StepId]) -> Result<Vec<StepState>, Failure> {
        let running = self.steps.running();
        let state = |step: &StepId| match running.contains_key(step) {
            true => StepState::Running,
            // Its end was told, or it was another torc's and died with it.
            false => StepState::Unknown,
        };
        Ok(steps.iter().map(state).collect())
    }

    fn close(self, grace: Duration) {
        self.steps.stop_all(Reason::Cancelled);
        self.steps.wait(grace);
        self.steps.stop_all(Reason::Killed);
        self.steps.wait(KILLED_WITHIN);
    }
}

/// A folder that each job has to itself.
fn folder(path: &str) -> Result<CString, Failure> {
    let is_good = Path::new(path).is_absolute() && path != "/" && Path::new(path).is_dir();
    let text = CString::new(path).ok().filter(|_| is_good);
    text.ok_or_else(|| Failure::Invalid(format!("`private`: {path} is no folder of this host")))
}

/// Bytes of memory that the host has, as the kernel tells it in KiB.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

torc_plugin! {
    name: "enclosed",
    version: "0.1.0",
    info: r#"{"description": "runs each job in processes and a /tmp of its own, on this host", "schema": {"type": "object",
        "properties": {"private": {"type": "array", "items": {"type": "string"}}}, "additionalProperties": false}}"#,
    interfaces: { executor: Enclosed }
}
