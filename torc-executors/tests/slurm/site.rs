//! An executor inside an allocation, and steps for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, NodeState, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode,
};
use torc_executors::slurm::{SlurmConfig, SlurmExecutor};

/// Where a test runs.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    /// On this many nodes.
    Main { nodes: u32 },
    /// On one node with two threads on each core.
    Threads,
}

/// A test inside an allocation.
pub(crate) struct Test {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) run: fn(),
    /// Where.
    pub(crate) place: Where,
    /// Further options of sbatch.
    pub(crate) poison: &'static [&'static str],
}

impl Test {
    /// A test on two nodes.
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, run, place: Where::Main { nodes: 2 }, poison: &[] }
    }
}

/// Longer than any test takes on a busy host; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// Runs a test to its end, or fails it after a while.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
    runtime.shutdown_background();
}

/// An executor and what it reports.
pub(crate) struct Site {
    pub(crate) executor: SlurmExecutor,
    /// The allocation's nodes.
    pub(crate) nodes: Vec<NodeInventory>,
    /// The nodes that were reported as changed, and why.
    pub(crate) changes: Vec<(String, NodeState, String)>,
    events: UnboundedReceiver<StepEvent>,
    folder: TempDir,
}

impl Site {
    /// An executor of this process's allocation.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// An executor with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut SlurmConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let mut config = SlurmConfig::new(AllocationId(3), folder.path().join("hosts"), env);
        change(&mut config);
        let (sender, events) = unbounded_channel();
        let emit = move |event| drop(sender.send(event));
        let executor = SlurmExecutor::start(config, Arc::new(emit)).await;
        let executor = executor.expect("an executor starts");
        let nodes = executor.inventory().await.expect("nodes");
        Self { executor, nodes, changes: Vec::new(), events, folder }
    }

    /// A path in the temporary folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// What a file in the temporary folder holds.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a readable file")
    }

    /// A step of one CPU on the first node that runs a shell script, with output in `out` and `err` of
    /// the temporary folder.
    pub(crate) fn step(&self, job: u32, script: &str) -> Step {
        Step {
            id: step_id(job),
            job_name: "test".into(),
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            working_dir: self.text_path("").trim_end_matches('/').into(),
            stdio: StdioPaths {
                stdout: Some(self.text_path("out").into()),
                stderr: Some(self.text_path("err").into()),
                delete_on_success: false,
            },
            nodes: vec![self.share(0, 1)],
            layout: RankLayout {
                ntasks_per_node: 1,
                cpus_per_node: 1,
                mpi: None,
                cpu_bind: Some("none".into()),
            },
            allocation: AllocationId(3),
            limits: StepLimits {
                memory: Some(256 << 20),
                runtime: None,
                termination_signal: 15,
                termination_lead: PATIENCE * 2,
            },
            expected_files: Vec::new(),
        }
    }

    /// Some CPUs and a quarter GiB of a node.
    pub(crate) fn share(&self, node: usize, cpus: u32) -> StepNode {
        StepNode {
            name: self.nodes[node].name.clone(),
            cores: (0..cpus).collect(),
            gpus: Box::default(),
            memory: 256 << 20,
        }
    }

    /// A step on all nodes, whole.
    pub(crate) fn gang(&self, job: u32, ranks: u32, script: &str) -> Step {
        let whole = |node: &NodeInventory| StepNode {
            name: node.name.clone(),
            cores: node.cores.clone(),
            gpus: node.gpus.clone(),
            memory: node.memory,
        };
        let mut step = self.step(job, script);
        step.nodes = self.nodes.iter().map(whole).collect();
        step.layout.ntasks_per_node = ranks;
        step.layout.cpus_per_node = 4;
        step
    }

    /// Launches a step.
    pub(crate) async fn launch(&self, step: Step) {
        self.executor.launch(step).await.expect("the executor takes a step");
    }

    /// The next report about a step.
    pub(crate) async fn event(&mut self) -> StepEvent {
        loop {
            match self.events.recv().await.expect("a report") {
                StepEvent::NodeChanged { allocation, node, state, reason, .. } => {
                    assert_eq!(allocation, AllocationId(3));
                    self.changes.push((node.into(), state, reason));
                }
                event => return event,
            }
        }
    }

    /// Waits until a step has started.
    pub(crate) async fn started(&mut self, job: u32) {
        match self.event().await {
            StepEvent::Started { step, .. } => assert_eq!(step, step_id(job)),
            event => panic!("{event:?} before the start of job {job}"),
        }
    }

    /// The end of the next step that ends.
    pub(crate) async fn end(&mut self) -> (StepId, Outcome) {
        loop {
            if let StepEvent::Ended { step, outcome, .. } = self.event().await {
                return (step, outcome);
            }
        }
    }

    /// Runs a step and returns how it ended.
    pub(crate) async fn outcome(&mut self, step: Step) -> Outcome {
        let id = step.id;
        self.launch(step).await;
        let (ended, outcome) = self.end().await;
        assert_eq!(ended, id);
        outcome
    }

    /// Waits until no step of torc's is left in the allocation.
    pub(crate) async fn all_gone(&self) {
        while !steps_left(self.executor.allocation().job()).is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The steps of torc's that a Slurm job has.
pub(crate) fn steps_left(job: &str) -> Vec<String> {
    let args = ["--noheader", "--steps", "--jobs", job, "--format", "%j"];
    let answer = Command::new("squeue").args(args).output().expect("squeue runs");
    let names = String::from_utf8(answer.stdout).expect("text");
    let ours = names.lines().map(str::trim).filter(|name| name.parse::<StepId>().is_ok());
    ours.map(str::to_owned).collect()
}

/// The step of a job.
pub(crate) fn step_id(job: u32) -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(job), run: RunId(1), attempt: AttemptId::FIRST }
}

/// Waits until a file exists, and says what it holds.
pub(crate) async fn appears(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
