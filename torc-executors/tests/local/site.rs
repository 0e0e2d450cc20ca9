//! An executor in a temporary folder, steps for it, and pipes to learn about processes.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode, Usage,
};
use torc_executors::local::{LocalConfig, LocalExecutor};

/// A test: its name and what it does.
pub(crate) type Test = (&'static str, fn());

/// Longer than any test takes on a busy host; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs a test to its end, or fails it after a while.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
    runtime.shutdown_background();
}

/// An executor and what it reports.
pub(crate) struct Site {
    pub(crate) executor: Arc<LocalExecutor>,
    events: UnboundedReceiver<StepEvent>,
    folder: TempDir,
}

/// The name of this host for the executor.
pub(crate) const HOST: &str = "here";

/// A node of this name with these CPUs.
pub(crate) fn node(name: &str, cores: &[u32]) -> NodeInventory {
    NodeInventory {
        name: name.into(),
        cores: cores.into(),
        threads_per_core: 1,
        slots: None,
        memory: 1 << 30,
        gpus: Box::default(),
    }
}

impl Site {
    /// An executor of one node.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// An executor with a changed configuration.
    pub(crate) fn with(change: impl FnOnce(&mut LocalConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let env = std::env::vars_os().collect();
        let mut config = LocalConfig::new(vec![node(HOST, &[0])], folder.path().join("hosts"), env);
        change(&mut config);
        let (sender, events) = unbounded_channel();
        let emit = move |event| drop(sender.send(event));
        let executor = LocalExecutor::start(config, Arc::new(emit)).expect("an executor starts");
        Self { executor: Arc::new(executor), events, folder }
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

    /// A step that runs a shell script, with output in `out` and `err` of the temporary folder.
    pub(crate) fn step(&self, job: u32, script: &str) -> Step {
        Step {
            id: step_id(job),
            job_name: "test".into(),
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            working_dir: self.text_path("").into(),
            stdio: StdioPaths {
                stdout: Some(self.text_path("out").into()),
                stderr: Some(self.text_path("err").into()),
                delete_on_success: false,
            },
            nodes: vec![step_node(HOST, &[0])],
            layout: RankLayout { ntasks_per_node: 1, cpus_per_node: 1, mpi: None, cpu_bind: None },
            allocation: AllocationId(1),
            limits: StepLimits {
                memory: None,
                runtime: None,
                termination_signal: 15,
                termination_lead: PATIENCE * 2,
            },
            expected_files: Vec::new(),
        }
    }

    /// Launches a step.
    pub(crate) async fn launch(&self, step: Step) {
        self.executor.launch(step).await.expect("the executor takes a step");
    }

    /// The next report.
    pub(crate) async fn event(&mut self) -> StepEvent {
        self.events.recv().await.expect("a report")
    }

    /// The end of the next step that ends.
    pub(crate) async fn end(&mut self) -> (StepId, Outcome, Usage) {
        loop {
            if let StepEvent::Ended { step, outcome, usage, .. } = self.event().await {
                return (step, outcome, usage);
            }
        }
    }

    /// Runs a step and returns how it ended.
    pub(crate) async fn outcome(&mut self, step: Step) -> Outcome {
        let id = step.id;
        self.launch(step).await;
        let (ended, outcome, _) = self.end().await;
        assert_eq!(ended, id);
        outcome
    }

    /// Makes a named pipe.
    pub(crate) fn pipe(&self, name: &str) -> Pipe {
        Pipe::make(self.path(name))
    }
}

/// The step of a job.
pub(crate) fn step_id(job: u32) -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(job), run: RunId(1), attempt: AttemptId::FIRST }
}

/// A node of a step.
pub(crate) fn step_node(name: &str, cores: &[u32]) -> StepNode {
    StepNode { name: name.into(), cores: cores.into(), gpus: Box::default(), memory: 0 }
}

/// A named pipe that processes write to and hold open.
pub(crate) struct Pipe {
    path: PathBuf,
}

impl Pipe {
    /// Makes it.
    pub(crate) fn make(path: PathBuf) -> Self {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&path, mode).expect("a named pipe");
        Self { path }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for reading, which waits for a writer, and reads the first `count` lines.
    pub(crate) async fn lines(&self, count: usize) -> Reader {
        let path = self.path.clone();
        blocking(move || {
            let file = std::fs::File::open(path).expect("the pipe opens");
            let mut reader = Reader { file: BufReader::new(file) };
            for _ in 0..count {
                assert!(!reader.line().is_empty(), "a writer ended early");
            }
            reader
        })
        .await
    }

    /// Opens it for writing, which waits for a reader, and writes.
    pub(crate) async fn write(&self, text: &'static str) {
        let path = self.path.clone();
        blocking(move || std::fs::write(path, text).expect("the pipe takes it")).await;
    }
}

/// The reading end of a pipe with at least one writer so far.
pub(crate) struct Reader {
    file: BufReader<std::fs::File>,
}

impl Reader {
    /// The next line; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.file.read_line(&mut line).expect("readable");
        line
    }

    /// Waits until no process holds the pipe.
    pub(crate) async fn all_gone(self) {
        blocking(move || self.wait_until_all_gone()).await;
    }

    /// The same, while this thread does nothing else.
    pub(crate) fn wait_until_all_gone(mut self) {
        let mut rest = Vec::new();
        self.file.read_to_end(&mut rest).expect("readable");
    }

    /// Fails unless no process holds the pipe now.
    pub(crate) fn assert_all_gone(mut self) {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let file = self.file.get_ref();
        fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag is set");
        let mut rest = Vec::new();
        // Would block while there is a writer.
        self.file.read_to_end(&mut rest).expect("no process is left");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
