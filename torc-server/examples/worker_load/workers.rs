//! Many of torc's workers in one process. Their steps are pretended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationHandle, Executor, ExecutorError, Outcome, Step, StepEvent, StepSignal, StepState,
    Usage,
};
use torc_server::clock::now;
use torc_server::state_dir::StateDir;
use torc_server::worker::{WorkerEnd, WorkerParts, work};

use crate::{Failure, PATIENCE, open_many_files, parse, say};

/// The step that all others wait for.
const GATE: &str = "gate";

/// `DIR WORKERS JOB_MS`: works until the server says that nothing is left.
///
/// Opens the gate when it reads a line, and prints when that was; at the end, how long workers waited.
pub(crate) fn main(args: &[String]) -> Result<(), Failure> {
    let (dir, workers): (PathBuf, u32) = (parse(args, 0)?, parse(args, 1)?);
    let job = Duration::from_millis(parse(args, 2)?);
    open_many_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gate = Arc::new(Notify::new());
        let ends_at = now() + Duration::from_secs(36_000);
        let mut all = JoinSet::new();
        let mut desks: Vec<Arc<Desk>> = Vec::new();
        // Keeps the wish to stop sayable; nobody says it.
        let (_stop, stopped) = watch::channel(false);
        for number in 1..=workers {
            let (reports, taken) = mpsc::unbounded_channel();
            let desk = Arc::new(Desk { reports, clocks: Mutex::default() });
            desks.push(desk.clone());
            let steps = Arc::new(Steps { job, gate: gate.clone(), desk });
            let parts = parts((&dir, number), (steps, taken), stopped.clone(), Some(ends_at))?;
            all.spawn(work(parts));
        }
        let opening = gate.clone();
        std::thread::spawn(move || {
            if std::io::stdin().read_line(&mut String::new()).is_ok_and(|size| size > 0) {
                say(&now().0.to_string());
                opening.notify_one();
            }
        });
        while let Some(ended) = all.join_next().await {
            match ended?? {
                WorkerEnd::Left(_) => {}
                WorkerEnd::Stopped => return Err("a worker was stopped".into()),
            }
        }
        let all = desks.iter().flat_map(|desk| std::mem::take(&mut desk.clocks().waits));
        say(&words(all.collect())?);
        Ok(())
    })
}

fn parts(
    (dir, number): (&Path, u32),
    (steps, reports): (Arc<Steps>, mpsc::UnboundedReceiver<StepEvent>),
    stop: watch::Receiver<bool>,
    ends_at: Option<Timestamp>,
) -> Result<WorkerParts, Failure> {
    let node = NodeInventory {
        name: format!("node{number:04}").into(),
        cores: [0, 1].into(),
        threads_per_core: 1,
        slots: None,
        memory: 1 << 30,
        gpus: [].into(),
    };
    Ok(WorkerParts {
        dir: StateDir::at(dir)?,
        workflow: WorkflowId(1),
        allocation: AllocationId(number),
        handle: AllocationHandle(number.to_string()),
        nodes: vec![node],
        began_at: None,
        ends_at,
        executor: steps,
        reports,
        on_node: None,
        release: None,
        tell_end: None,
        wind_up: Box::new(|| Box::pin(std::future::ready(()))),
        ask_end: Box::new(move || Box::pin(async move { Ok(ends_at) })),
        stop,
        patience: PATIENCE,
    })
}

/// The median and the 99th percentile, in milliseconds.
fn words(mut waits: Vec<Duration>) -> Result<String, Failure> {
    if waits.is_empty() {
        return Err("no worker had a second step".into());
    }
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    Ok(format!("{} {}", at(50), at(99)))
}

/// Steps that end by themselves.
struct Steps {
    /// On average.
    job: Duration,
    gate: Arc<Notify>,
    desk: Arc<Desk>,
}

/// Where a worker's steps are reported, and timed.
struct Desk {
    reports: mpsc::UnboundedSender<StepEvent>,
    clocks: Mutex<Clocks>,
}

#[derive(Default)]
struct Clocks {
    /// When the last step on each CPU ended.
    ends: BTreeMap<u32, Instant>,
    /// From each end to the next launch on the same CPU.
    waits: Vec<Duration>,
}

impl Desk {
    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, (step, core): (StepId, u32)) {
        let mut clocks = self.clocks();
        if let Some(ended) = clocks.ends.remove(&core) {
            clocks.waits.push(ended.elapsed());
        }
        drop(clocks);
        let _ = self.reports.send(StepEvent::Started { step, at: now() });
    }

    fn end(&self, (step, core): (StepId, u32)) {
        self.clocks().ends.insert(core, Instant::now());
        let usage = Usage { cpu_ms: 1, peak_memory: None };
        let outcome = Outcome::Exited { code: 0 };
        let _ = self.reports.send(StepEvent::Ended { step, at: now(), outcome, usage });
    }
}

/// Between half and one and a half times the mean, so that steps do not end in step.
fn duration(mean: Duration, step: StepId) -> Duration {
    const PARTS: u32 = 1_000;
    // Knuth's multiplicative hash.
    let part = (step.job.0.wrapping_mul(2_654_435_761) >> 16) % PARTS;
    mean / 2 + mean * part / PARTS
}

#[async_trait]
impl Executor for Steps {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(Vec::new())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let core = step.nodes.first().and_then(|node| node.cores.first()).copied();
        let held = (step.id, core.unwrap_or(0));
        self.desk.start(held);
        let (desk, gate) = (self.desk.clone(), self.gate.clone());
        if &*step.job_name == GATE {
            tokio::spawn(async move {
                gate.notified().await;
                desk.end(held);
            });
        } else if self.job.is_zero() {
            desk.end(held);
        } else {
            let time = duration(self.job, step.id);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                desk.end(held);
            });
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        Err(ExecutorError::Gone(format!("nobody wished {step} ended")))
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}
