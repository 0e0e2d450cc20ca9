//! An executor of a check's own, its reports, and a folder for what steps leave.
//!
//! Owns: waiting, with an end to the patience. Does not know: what is checked.

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, Outcome, Step, StepEvent, StepEvents, StepNode, StepSignal, StepState,
};

use super::{ExecutorSite, OpenExecutor};
use crate::finding::{Finding, Verdict, broken, same};
use crate::steps::{step, step_id};

/// Between two looks at a file.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long nothing must happen before it counts as never happening; many times the pause of [`alive`].
const SILENCE: Duration = Duration::from_millis(700);

/// All reports so far.
#[derive(Default)]
pub(super) struct Log {
    events: Mutex<Vec<StepEvent>>,
    changed: Notify,
}

impl StepEvents for Log {
    fn emit(&self, event: StepEvent) {
        self.lock().push(event);
        self.changed.notify_waiters();
    }
}

/// The step that a report is about.
pub(super) fn subject(event: &StepEvent) -> Option<StepId> {
    match event {
        StepEvent::Started { step, .. } | StepEvent::Ended { step, .. } => Some(*step),
        StepEvent::NodeChanged { .. } => None,
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<StepEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reports about a step.
    pub(super) fn of(&self, step: StepId) -> Vec<StepEvent> {
        self.lock().iter().filter(|event| subject(event) == Some(step)).cloned().collect()
    }

    /// All that there are.
    pub(super) fn all(&self) -> Vec<StepEvent> {
        self.lock().clone()
    }

    async fn end_of(&self, step: StepId) -> Outcome {
        loop {
            let changed = self.changed.notified();
            let ended = self.of(step).into_iter().find_map(|event| match event {
                StepEvent::Ended { outcome, .. } => Some(outcome),
                _ => None,
            });
            match ended {
                Some(outcome) => return outcome,
                None => changed.await,
            }
        }
    }
}

/// An executor and all around it.
pub(super) struct Bench {
    opened: Box<dyn OpenExecutor>,
    is_closed: AtomicBool,
    pub(super) log: Arc<Log>,
    pub(super) nodes: Vec<NodeInventory>,
    folder: PathBuf,
    patience: Duration,
}

/// Opens an executor, has it looked at, and closes it.
pub(super) async fn with<F>(site: &ExecutorSite<'_>, name: &str, look: F) -> Verdict
where
    F: AsyncFnOnce(&Bench) -> Verdict,
{
    let folder = own_folder(&site.folder, name)?;
    let log = Arc::new(Log::default());
    let opening = site.executors.open(Arc::clone(&log) as Arc<dyn StepEvents>);
    let opened = within(site.patience, "an executor to be opened", opening).await?;
    let opened = opened.map_err(|words| broken("an executor", words))?;
    let is_closed = AtomicBool::new(false);
    let patience = site.patience;
    let mut bench = Bench { opened, is_closed, log, nodes: Vec::new(), folder, patience };
    let verdict = match bench.look_at_nodes().await {
        Ok(()) => look(&bench).await,
        Err(finding) => Err(finding),
    };
    if bench.is_closed.load(Ordering::Relaxed) {
        return verdict;
    }
    verdict.and(bench.close().await)
}

/// A folder that is new, so that nothing of another check is in it.
fn own_folder(folder: &Path, name: &str) -> Result<PathBuf, Finding> {
    let names =
        (1..).map(|count: u32| if count == 1 { name.into() } else { format!("{name}-{count}") });
    for name in names {
        let path = folder.join(name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(not_shown(&path, &error)),
        }
    }
    Err(Finding::NotShown(format!("{} is full of folders", folder.display())))
}

fn not_shown(path: &Path, error: &io::Error) -> Finding {
    Finding::NotShown(format!("{}: {error}", path.display()))
}

async fn within<T>(
    patience: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Finding> {
    let late = |_| broken(what, format!("nothing of it for {} s", patience.as_secs()));
    tokio::time::timeout(patience, work).await.map_err(late)
}

/// Long enough that what has not happened by then does not.
pub(super) async fn silence() {
    tokio::time::sleep(SILENCE).await;
}

impl Bench {
    fn executor(&self) -> &dyn Executor {
        self.opened.executor()
    }

    async fn look_at_nodes(&mut self) -> Verdict {
        let asked = within(self.patience, "an inventory", self.executor().inventory()).await?;
        self.nodes = asked.map_err(|error| broken("an inventory", error.to_string()))?;
        Ok(())
    }

    /// Closes the executor.
    pub(super) async fn close(&self) -> Verdict {
        self.is_closed.store(true, Ordering::Relaxed);
        within(self.patience, "the executor to close", self.opened.close()).await
    }

    /// A path in the check's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text.
    pub(super) fn text_path(&self, name: &str) -> Result<String, Finding> {
        let path = self.path(name);
        let text = path.to_str().map(|text| text.trim_end_matches('/').to_owned());
        text.ok_or_else(|| Finding::NotShown(format!("{} is not UTF-8", path.display())))
    }

    /// Makes a folder in it.
    pub(super) fn make_folder(&self, name: &str) -> Verdict {
        let path = self.path(name);
        fs::create_dir(&path).map_err(|error| not_shown(&path, &error))
    }

    /// Writes a file in it.
    pub(super) fn write(&self, name: &str, text: &str) -> Verdict {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| not_shown(&path, &error))
    }

    /// What a file in it holds; empty: it is not there.
    pub(super) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A step that runs a shell script in the check's folder, with output in `out` and `err`, each with its job's
    /// number.
    pub(super) fn script(&self, job: u32, script: &str) -> Result<Step, Finding> {
        let mut step = step(job, &["/bin/sh", "-c", script]);
        step.working_dir = self.text_path("")?.into();
        step.stdio.stdout = Some(self.text_path(&format!("out{job}"))?.into());
        step.stdio.stderr = Some(self.text_path(&format!("err{job}"))?.into());
        step.nodes = vec![self.share(job)?];
        Ok(step)
    }

    /// One core of a node, another for the next job, as a placer would give it.
    fn share(&self, job: u32) -> Result<StepNode, Finding> {
        let count = self.nodes.len().max(1);
        let turn = job.saturating_sub(1) as usize;
        let node = self.nodes.get(turn % count);
        let node = node.ok_or_else(|| broken("an inventory with nodes", "none"))?;
        let grain = node.threads_per_core.max(1) as usize;
        let cores: Vec<&[u32]> = node.cores.chunks(grain).collect();
        let own = cores.get((turn / count) % cores.len().max(1)).copied().unwrap_or_default();
        Ok(StepNode {
            name: node.name.clone(),
            cores: own.into(),
            gpus: Box::default(),
            memory: node.memory / cores.len().max(1) as u64,
        })
    }

    /// Hands a step over.
    pub(super) async fn launch(&self, step: Step) -> Verdict {
        let what = format!("{} to be taken over", step.id);
        let taken = within(self.patience, &what, self.executor().launch(step)).await?;
        taken.map_err(|error| broken(what, error.to_string()))
    }

    /// Signals the step of a job.
    pub(super) async fn signal(&self, job: u32, signal: StepSignal) -> Verdict {
        let what = format!("{signal:?} for {} to be taken", step_id(job));
        let taken = self.executor().signal(step_id(job), signal);
        let taken = within(self.patience, &what, taken).await?;
        taken.map_err(|error| broken(what, error.to_string()))
    }

    /// Asks after the steps of jobs.
    pub(super) async fn reconcile(&self, jobs: &[u32]) -> Result<Vec<StepState>, Finding> {
        let steps: Vec<StepId> = jobs.iter().map(|&job| step_id(job)).collect();
        let what = format!("an answer about {} steps", steps.len());
        let answer = within(self.patience, &what, self.executor().reconcile(&steps)).await?;
        answer.map_err(|error| broken(what, error.to_string()))
    }

    /// Waits for the end of the step of a job.
    pub(super) async fn end(&self, job: u32) -> Result<Outcome, Finding> {
        let what = format!("the end of {} to be told", step_id(job));
        within(self.patience, &what, self.log.end_of(step_id(job))).await
    }

    /// Runs a step to its end.
    pub(super) async fn run(&self, step: Step) -> Result<Outcome, Finding> {
        let job = step.id.job.0;
        self.launch(step).await?;
        self.end(job).await
    }

    /// Runs a script that must end like this.
    pub(super) async fn ends_as(&self, job: u32, script: &str, expected: &Outcome) -> Verdict {
        let outcome = self.run(self.script(job, script)?).await?;
        same(&format!("the end of `{script}`"), expected, &outcome)
    }

    /// Waits until the step of a job gives its first sign of life.
    pub(super) async fn lives(&self, job: u32) -> Verdict {
        let name = beat(job);
        let look = async {
            while !self.read(&name).ends_with('\n') {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        within(self.patience, &format!("the step to write its file {name}"), look).await
    }

    /// Broken if the step of one of these jobs still gives signs of life, in its file `beat`.
    pub(super) async fn are_still(&self, jobs: &[u32], when: &str) -> Verdict {
        let size = |job: &u32| fs::metadata(self.path(&beat(*job))).map(|file| file.len()).ok();
        let sizes = || jobs.iter().map(size).collect::<Vec<_>>();
        let before = sizes();
        silence().await;
        let expected = format!("no process of steps {when}, so no sign of life after these");
        same(&expected, &before, &sizes())
    }
}

/// The file in which the step of a job gives signs of life.
pub(super) fn beat(job: u32) -> String {
    format!("beat{job}")
}

/// A script that gives signs of life for ever, in short turns, so that a shell comes to its traps.
pub(super) fn forever(job: u32) -> String {
    format!("while :; do {}; done", alive(job))
}

/// One turn of it.
pub(super) fn alive(job: u32) -> String {
    format!("echo x >> beat{job}; sleep 0.05")
}
