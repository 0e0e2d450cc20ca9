//! Starts a node worker on each node of an allocation, and tells what becomes of them.
//!
//! The sruns that start them are children of a keeper, so that none outlives this program. What srun
//! says about tasks is passed on as it comes; what a node worker itself says goes into the log. It knows
//! nothing of what node workers do.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use torc_core::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{LaunchStage, Outcome, StepEvent, StepSignal};

use super::evidence::{self, Said};
use super::outer::{self, Outer};
use crate::keeper::wire::Order;
use crate::kept::{Audience, Custody, Entry, Hostfiles, Memory, Setup, StartError};
use crate::slurm::{SlurmAllocation, SlurmStartError, sights};

/// Time between SIGTERM and SIGKILL for an srun. It waits for its tasks for two seconds longer than
/// KillWait, which is 30 s by default (slurm.conf(5)).
const LEAD: Duration = Duration::from_secs(40);

/// How long workers that have nothing more to do may take to end, and their srun with them. Slurm's accounting calls
/// a step that is killed meanwhile cancelled.
const PEACE: Duration = Duration::from_secs(5);

/// Of what an srun complains about, the last few lines are kept.
const COMPLAINTS_KEPT: usize = 3;

/// What the node workers of an allocation are started with.
#[derive(Clone, Debug)]
pub struct MusterConfig {
    /// The allocation that this process runs in.
    pub allocation: SlurmAllocation,
    /// The nodes that get a worker, and what was granted there.
    pub nodes: Vec<NodeInventory>,
    /// The node worker: a program and its arguments.
    pub command: Vec<String>,
    /// How tasks would find each other: the value of `srun --mpi=`; `None`: they do not.
    pub srun_mpi: Option<String>,
    /// The environment of this process, which the node workers inherit. What srun would take for options is
    /// left out.
    pub base_env: Vec<(OsString, OsString)>,
    /// A folder that no executor uses; made if it is missing.
    pub scratch_dir: PathBuf,
    /// The file mode creation mask of node workers; `None`: this process's.
    pub umask: Option<u32>,
    /// The program to start as the keeper of sruns; `None`: this program. Its `main` must call
    /// [`run_if_asked`](crate::keeper::run_if_asked) first.
    pub keeper_program: Option<PathBuf>,
}

/// What becomes of node workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MusterEvent {
    /// The workers on these nodes have ended. Their keepers see that, and kill what is left of their jobs at
    /// once; steps of Slurm's that these jobs started are left ([`end_steps_of`](super::end_steps_of)).
    TaskEnded {
        /// The nodes.
        nodes: Vec<String>,
        /// How, in srun's words.
        words: String,
    },
    /// These nodes have failed, or could not be reached to start a worker there.
    NodesFailed {
        /// The nodes.
        nodes: Vec<String>,
        /// Why, in srun's words.
        words: String,
    },
    /// An srun has ended, and with it whatever it had started: the last that it tells of its nodes.
    Ended {
        /// All nodes of that srun.
        nodes: Vec<String>,
        /// How, and its last complaints.
        words: String,
        /// The nodes on which it had not started a worker, unless it ended as it should.
        unstarted: Vec<String>,
        /// It could not start all of its workers, as when a node cannot be reached, and ended those that it
        /// had started. They can be started again ([`Muster::start_on`]), as [`Restarts`](super::Restarts) decides.
        is_aborted: bool,
    },
}

/// The node workers of an allocation.
///
/// Dropping it ends them all; so does the end of this program, however it comes about.
pub struct Muster {
    custody: Custody,
    outer: Outer,
    hub: Arc<Hub>,
}

impl fmt::Debug for Muster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeper = self.custody.keeper;
        f.debug_struct("Muster").field("keeper", &keeper).finish_non_exhaustive()
    }
}

impl Muster {
    /// Starts a keeper and the sruns, and a task on the current runtime that tells. The end of each srun is
    /// told once; nobody need listen.
    ///
    /// # Errors
    /// When Slurm here is none that torc can work with, or the keeper cannot be started or is gone at once.
    pub async fn start(
        config: MusterConfig,
        told: UnboundedSender<MusterEvent>,
    ) -> Result<Self, SlurmStartError> {
        let dialect = config.allocation.dialect().await?;
        let srun = config.allocation.programs().find("srun")?.into_os_string().into_string();
        let srun = srun.map_err(|path| SlurmStartError::SrunPath(path.into()))?;
        let outer = Outer { srun, dialect, mpi: config.srun_mpi, command: config.command };
        let hostfiles = Hostfiles::prepare(config.scratch_dir, &[])?;
        let env = sights::base(&config.base_env);
        let setup = Setup {
            env: &env,
            umask: config.umask,
            keeper_program: config.keeper_program.as_deref(),
        };
        let hub = Arc::new(Hub { voices: Mutex::default(), told });
        let custody = Custody::start(&setup, hostfiles, Arc::clone(&hub) as Arc<dyn Audience>)?;
        let muster = Self { custody, outer, hub };
        muster.start_on(&config.nodes)?;
        Ok(muster)
    }

    /// Starts workers on nodes where none is, as on those of an srun that has ended.
    ///
    /// # Errors
    /// When the keeper is gone. Once [`Muster::end`] was called nothing is started, which is no error.
    pub fn start_on(&self, nodes: &[NodeInventory]) -> Result<(), StartError> {
        for kind in outer::kinds(nodes) {
            let argv = self.outer.argv(&kind);
            let id = self.hub.add(Voice::new(kind.nodes, self.hub.told.clone()));
            let entry = self.custody.enter(id, Memory::Unmeasured, false);
            let entry = entry.map_err(|error| StartError::KeeperFailed(error.to_string()))?;
            // Its name is new, so it is only refused when all is to end.
            let Entry::New(key) = entry else { return Ok(()) };
            self.custody
                .send(&Order::of_launcher(key, argv, LEAD))
                .map_err(StartError::KeeperFailed)?;
        }
        Ok(())
    }

    /// Ends the node workers, and returns when no srun is left. Those that do not end by themselves, as workers do that
    /// have nothing more to do, are killed rather than asked: Slurm gives the tasks of an srun that is asked to end
    /// no time.
    pub async fn end(&self) {
        let keys = self.custody.wind_up();
        if tokio::time::timeout(PEACE, self.custody.emptied()).await.is_ok() {
            return self.custody.shutdown().await;
        }
        for key in keys {
            // An error means that the keeper is gone, and the sruns with it.
            let _ = self.custody.send(&Order::Signal { key, signal: StepSignal::Cancel });
        }
        self.custody.emptied().await;
        self.custody.shutdown().await;
    }

    /// The process id of the keeper, for messages and for tests.
    pub fn keeper_pid(&self) -> u32 {
        self.custody.keeper.unsigned_abs()
    }
}

/// Passes on what the sruns say. The keeper knows the srun at a place by its number, counted from 1.
struct Hub {
    voices: Mutex<Vec<Arc<Voice>>>,
    told: UnboundedSender<MusterEvent>,
}

impl Hub {
    fn voices(&self) -> MutexGuard<'_, Vec<Arc<Voice>>> {
        self.voices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, voice: Voice) -> StepId {
        let mut voices = self.voices();
        voices.push(Arc::new(voice));
        let job = JobId(u32::try_from(voices.len()).unwrap_or(u32::MAX));
        StepId { workflow: WorkflowId(1), job, run: RunId(1), attempt: AttemptId::FIRST }
    }

    fn voice(&self, step: StepId) -> Option<Arc<Voice>> {
        let place = usize::try_from(step.job.0).ok()?.checked_sub(1)?;
        self.voices().get(place).cloned()
    }
}

impl Audience for Hub {
    fn emit(&self, event: StepEvent) {
        if let StepEvent::Ended { step, outcome, .. } = event
            && let Some(voice) = self.voice(step)
        {
            voice.end(&outcome);
        }
    }

    fn hear(&self, step: StepId, _at: Timestamp, lines: Vec<String>) {
        if let Some(voice) = self.voice(step) {
            lines.iter().for_each(|line| voice.hear(line));
        }
    }
}

/// One srun.
struct Voice {
    nodes: Vec<String>,
    members: BTreeSet<String>,
    heard: Mutex<Heard>,
    told: UnboundedSender<MusterEvent>,
}

/// What an srun has said.
#[derive(Debug, Default)]
struct Heard {
    /// Nodes on which it has started a worker.
    started: BTreeSet<String>,
    last_complaints: VecDeque<String>,
    is_launch_failed: bool,
}

impl Voice {
    fn new(nodes: Vec<String>, told: UnboundedSender<MusterEvent>) -> Self {
        let members = nodes.iter().cloned().collect();
        Self { nodes, members, heard: Mutex::default(), told }
    }

    fn hear(&self, line: &str) {
        let event = match evidence::read(line, &self.members) {
            None => return tracing::debug!(line, "srun of the node workers"),
            Some(Said::Task { number, words }) => {
                let node = self.nodes.get(number).map_or("?", String::as_str);
                return tracing::info!(node, "{words}");
            }
            Some(Said::Complaint(words)) => {
                tracing::warn!(words, "srun of the node workers complains");
                return self.note(words);
            }
            Some(Said::Started { nodes }) => return self.heard().started.extend(nodes),
            Some(Said::Ended { nodes, words }) => {
                self.heard().started.extend(nodes.iter().cloned());
                MusterEvent::TaskEnded { nodes, words }
            }
            Some(Said::Failed { nodes, words }) => {
                self.note(words.clone());
                MusterEvent::NodesFailed { nodes, words }
            }
        };
        // Nobody need listen.
        let _ = self.told.send(event);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, words: String) {
        let mut heard = self.heard();
        heard.is_launch_failed |= evidence::is_about_launch(&words);
        if heard.last_complaints.len() == COMPLAINTS_KEPT {
            heard.last_complaints.pop_front();
        }
        heard.last_complaints.push_back(words);
    }

    fn end(&self, outcome: &Outcome) {
        let heard = self.heard();
        let mut words = in_words(outcome);
        if !heard.last_complaints.is_empty() {
            let last: Vec<&str> = heard.last_complaints.iter().map(String::as_str).collect();
            words = format!("{words}: {}", last.join("; "));
        }
        // A release may say in other words that a worker has started.
        let is_regular = matches!(outcome, Outcome::Exited { code: 0 } | Outcome::Cancelled);
        let is_unstarted = |node: &&String| !is_regular && !heard.started.contains(*node);
        let _ = self.told.send(MusterEvent::Ended {
            nodes: self.nodes.clone(),
            words,
            unstarted: self.nodes.iter().filter(is_unstarted).cloned().collect(),
            is_aborted: heard.is_launch_failed,
        });
    }
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("srun exited with code {code}"),
        Outcome::Signaled { signal } => format!("srun was ended by signal {signal}"),
        Outcome::LaunchFailed { stage: LaunchStage::Execute, reason } => reason.clone(),
        Outcome::LaunchFailed { reason, .. } => format!("srun was not started: {reason}"),
        Outcome::Cancelled => "srun was asked to end".to_owned(),
        _ => "srun is gone".to_owned(),
    }
}
