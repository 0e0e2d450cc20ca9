//! Commands on this host that are no jobs: those of actions, and recovery scripts.
//!
//! They have a keeper of their own, so that none outlives this program however it ends. Knows no workflow.
//! Each is told to have ended exactly once; what it leaves behind, a service for instance, stays until this
//! program ends.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use torc_core::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::traits::{Outcome, StdioPaths, StepEvent, StepEvents, StepLimits, StepSignal};

use crate::keeper::wire::{Launch, Order, Role};
use crate::kept::{Custody, Entry, Hostfiles, Memory, Setup, StartError};

/// The shell's code for a command that cannot be executed.
const NOT_EXECUTED: i32 = 126;
const SIGNAL_CODE_BASE: i32 = 128;

/// A command.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Set on top of the environment that all of them start from.
    pub env: BTreeMap<String, String>,
    /// The working folder.
    pub working_dir: String,
    /// The file that its output is appended to.
    pub output: String,
    /// The time between being asked to end, by SIGTERM, and SIGKILL.
    pub lead: Duration,
}

/// A command that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrandId(StepId);

/// Runs commands. Dropping it ends whatever still runs; so does the end of this program, however it comes
/// about.
pub struct Errands {
    custody: Custody,
    waiting: Arc<Waiting>,
    last: AtomicU32,
}

/// Who waits for the ends.
#[derive(Default)]
struct Waiting(Mutex<HashMap<StepId, oneshot::Sender<i32>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, oneshot::Sender<i32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, id: StepId, code: i32) {
        // Nobody may wait any more.
        self.lock().remove(&id).map(|waiting| waiting.send(code));
    }
}

impl Errands {
    /// Starts their keeper, and a task on the current runtime. `env`: what all of them start from; `umask`: their
    /// file mode creation mask, or `None`: this process's.
    ///
    /// # Errors
    /// When it cannot be started, or there is no runtime.
    pub fn start(env: &[(OsString, OsString)], umask: Option<u32>) -> Result<Self, StartError> {
        let waiting = Arc::new(Waiting::default());
        let told = waiting.clone();
        let events: Arc<dyn StepEvents> = Arc::new(move |event| {
            if let StepEvent::Ended { step, outcome, .. } = event {
                told.tell(step, code(&outcome));
            }
        });
        let setup = Setup { env, umask, keeper_program: None };
        let custody = Custody::start(&setup, Hostfiles::none(), Arc::new(events))?;
        Ok(Self { custody, waiting, last: AtomicU32::new(0) })
    }

    /// Begins a command. What it returns besides tells its end: the exit code, 128 + n after signal n, 126
    /// when it could not be started; the reason is in the log then.
    pub fn begin(&self, errand: Errand) -> (ErrandId, oneshot::Receiver<i32>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // The keeper's books are by steps; these are nobody's.
        let (workflow, run) = (WorkflowId(0), RunId(0));
        let id = StepId { workflow, job: JobId(number), run, attempt: AttemptId(0) };
        let (told, ended) = oneshot::channel();
        self.waiting.lock().insert(id, told);
        if let Err(error) = self.launch(id, errand) {
            tracing::error!(error, "a command did not start");
            self.waiting.tell(id, NOT_EXECUTED);
        }
        (ErrandId(id), ended)
    }

    fn launch(&self, id: StepId, errand: Errand) -> Result<(), String> {
        let entry = self.custody.enter(id, Memory::Unmeasured, false);
        let Entry::New(key) = entry.map_err(|error| error.to_string())? else {
            return Err("it has been begun already".to_owned());
        };
        let Errand { argv, env, working_dir, output, lead } = errand;
        let output: Box<str> = output.into();
        let order = Order::Launch(Box::new(Launch {
            key,
            argv,
            env,
            working_dir: working_dir.into(),
            stdio: StdioPaths {
                stdout: Some(output.clone()),
                stderr: Some(output),
                delete_on_success: false,
            },
            limits: StepLimits {
                memory: None,
                runtime: None,
                termination_signal: Signal::SIGTERM as i32,
                termination_lead: lead,
            },
            expected_files: Vec::new(),
            cores: Vec::new(),
            role: Role::Errand,
        }));
        match self.custody.send(&order) {
            // If it is no longer in the books, its end was told.
            Err(reason) if self.custody.leave(key).is_some() => Err(reason),
            _ => Ok(()),
        }
    }

    /// Asks a command to end, or kills it. One that has ended is left alone.
    pub fn signal(&self, id: ErrandId, signal: StepSignal) {
        if let Some(key) = self.custody.key(id.0) {
            // An error means that the keeper is gone, and all commands with it.
            let _ = self.custody.send(&Order::Signal { key, signal });
        }
    }

    /// Kills whatever still runs, and returns when no process of any command and no keeper is left.
    pub async fn shutdown(&self) {
        self.custody.shutdown().await;
    }
}

fn code(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Exited { code } | Outcome::TimedOut { code: Some(code) } => *code,
        Outcome::Signaled { signal } => SIGNAL_CODE_BASE + signal,
        Outcome::Cancelled => SIGNAL_CODE_BASE + Signal::SIGTERM as i32,
        Outcome::LaunchFailed { reason, .. } => {
            tracing::error!(reason, "a command did not start");
            NOT_EXECUTED
        }
        // It went with its keeper, which was killed.
        _ => SIGNAL_CODE_BASE + Signal::SIGKILL as i32,
    }
}
