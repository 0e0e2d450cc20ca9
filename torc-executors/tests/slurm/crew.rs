//! Node workers of a kind, for tests: a [`Muster`] starts this program on each node of the allocation,
//! where it does with a [`NodeExecutor`] what it is told over a connection.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode, StepSignal,
};
use torc_executors::direct::{Muster, MusterConfig, MusterEvent, NodeConfig, NodeExecutor};
use torc_executors::slurm::SlurmAllocation;

use crate::site::{PATIENCE, step_id};

/// What this program is called with as a node worker, before a port of this host and a folder.
const NODE: &str = "__node";

/// What a node worker is told, one line each.
#[derive(Serialize, Deserialize)]
enum Order {
    Begin(NodeInventory),
    Launch(Box<Step>),
    Signal(StepId, StepSignal),
    WindUp,
}

/// What it tells, one line each.
#[derive(Serialize, Deserialize)]
enum Word {
    Here { node: String, pid: i32 },
    Step(StepEvent),
}

/// Is a node worker if this process was started for that.
pub(crate) fn node_worker_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != NODE {
        return None;
    }
    let (port, folder) = (arguments.next()?, arguments.next()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work(port.parse().expect("a port"), &folder));
    Some(ExitCode::SUCCESS)
}

async fn work(port: u16, folder: &str) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("is awaited");
    let (reader, mut writer) = stream.into_split();
    let node = std::env::var("SLURMD_NODENAME").expect("is a task of Slurm's");
    let pid = i32::try_from(std::process::id()).expect("fits");
    say(&mut writer, &Word::Here { node: node.clone(), pid }).await;
    let (sender, mut events) = unbounded_channel();
    let mut orders = BufReader::new(reader).lines();
    let Some(Order::Begin(inventory)) = next(&mut orders).await else { return };
    let base_env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let config = NodeConfig {
        base_env,
        node: inventory,
        crew_dir: folder.into(),
        srun: "/usr/bin/srun".into(),
        enforce_memory: true,
        umask: None,
        keeper_program: None,
    };
    let executor = NodeExecutor::start(config, Arc::new(move |event| drop(sender.send(event))));
    let executor = executor.expect("an executor starts");
    loop {
        tokio::select! {
            Some(event) = events.recv() => say(&mut writer, &Word::Step(event)).await,
            order = next(&mut orders) => match order {
                Some(Order::Launch(step)) => executor.launch(*step).await.expect("is taken"),
                Some(Order::Signal(step, signal)) => executor.signal(step, signal).await.expect("is taken"),
                Some(Order::WindUp) => break,
                Some(Order::Begin(_)) | None => return,
            }
        }
    }
    executor.wind_up(false).await;
    while let Ok(event) = events.try_recv() {
        say(&mut writer, &Word::Step(event)).await;
    }
}

type Lines = tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>;

async fn next<T: for<'a> Deserialize<'a>>(lines: &mut Lines) -> Option<T> {
    let line = lines.next_line().await.ok()??;
    Some(serde_json::from_str(&line).expect("is understood"))
}

async fn say(writer: &mut OwnedWriteHalf, word: &impl Serialize) {
    try_say(writer, word).await.expect("is heard");
}

async fn try_say(writer: &mut OwnedWriteHalf, word: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_string(word).expect("can be written down");
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}

/// The node workers of this process's allocation.
pub(crate) struct Crew {
    pub(crate) muster: Muster,
    pub(crate) told: UnboundedReceiver<MusterEvent>,
    /// The allocation's nodes.
    pub(crate) nodes: Vec<NodeInventory>,
    pub(crate) allocation: SlurmAllocation,
    /// The process ids of the workers, by node.
    pub(crate) pids: HashMap<String, i32>,
    listener: TcpListener,
    writers: HashMap<String, OwnedWriteHalf>,
    words: UnboundedSender<StepEvent>,
    events: UnboundedReceiver<StepEvent>,
    folder: TempDir,
}

impl Crew {
    /// Workers on all nodes, once they are all there.
    pub(crate) async fn new() -> Self {
        let mut crew = Self::start().await;
        let count = crew.nodes.len();
        crew.gather(count).await;
        crew
    }

    /// Workers on all nodes, which have just been started.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let allocation = SlurmAllocation::of(&env, None).expect("is inside");
        let job = allocation.observe().await.expect("Slurm answers");
        let nodes = allocation.inventory(&job).await.expect("Slurm answers");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("is bound").port().to_string();
        let program =
            std::env::current_exe().expect("has a path").to_str().expect("text").to_owned();
        let scratch = folder.path().to_str().expect("text").to_owned();
        let config = MusterConfig {
            allocation: allocation.clone(),
            nodes: nodes.clone(),
            command: vec![program, NODE.to_owned(), port, scratch],
            srun_mpi: None,
            base_env: env,
            scratch_dir: folder.path().join("muster"),
            umask: None,
            keeper_program: None,
        };
        let (sender, told) = unbounded_channel();
        let muster = Muster::start(config, sender).await.expect("a muster starts");
        let (words, events) = unbounded_channel();
        let (pids, writers) = (HashMap::new(), HashMap::new());
        Self { muster, told, nodes, allocation, pids, listener, writers, words, events, folder }
    }

    /// Waits for so many workers.
    pub(crate) async fn gather(&mut self, count: usize) {
        for _ in 0..count {
            let (stream, _) = self.listener.accept().await.expect("a connection");
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            let Some(Word::Here { node, pid }) = next(&mut lines).await else { panic!("no name") };
            let known = self.nodes.iter().find(|known| *known.name == *node).expect("is ours");
            // A worker that has been ended since does not hear it.
            let _ = try_say(&mut writer, &Order::Begin(known.clone())).await;
            self.pids.insert(node.clone(), pid);
            self.writers.insert(node, writer);
            let words = self.words.clone();
            tokio::spawn(async move {
                while let Some(Word::Step(event)) = next(&mut lines).await {
                    let _ = words.send(event);
                }
            });
        }
    }

    async fn order(&mut self, node: &str, order: &Order) {
        say(self.writers.get_mut(node).expect("a worker"), order).await;
    }

    /// Launches a step on the first of its nodes.
    pub(crate) async fn launch(&mut self, step: Step) {
        let node = step.nodes[0].name.clone();
        self.order(&node, &Order::Launch(Box::new(step))).await;
    }

    /// Signals a step.
    pub(crate) async fn signal(&mut self, node: &str, job: u32, signal: StepSignal) {
        self.order(node, &Order::Signal(step_id(job), signal)).await;
    }

    /// Has the worker of a node wind up and end.
    pub(crate) async fn dismiss(&mut self, node: &str) {
        self.order(node, &Order::WindUp).await;
    }

    /// The end of the next step that ends.
    pub(crate) async fn end(&mut self) -> (StepId, Outcome) {
        loop {
            let event = self.events.recv().await.expect("a report");
            if let StepEvent::Ended { step, outcome, .. } = event {
                return (step, outcome);
            }
        }
    }

    /// Runs a step, and returns what it wrote to standard output.
    pub(crate) async fn output(&mut self, step: Step) -> String {
        let (id, files) = (step.id, step.stdio.clone());
        self.launch(step).await;
        let (ended, outcome) = self.end().await;
        let read = |path: Option<Box<str>>| {
            std::fs::read_to_string(&*path.expect("a file")).expect("is there")
        };
        let (out, err) = (read(files.stdout), read(files.stderr));
        assert_eq!((ended, outcome), (id, Outcome::Exited { code: 0 }), "{out}{err}");
        out
    }

    /// What the muster tells next.
    pub(crate) async fn told(&mut self) -> MusterEvent {
        self.told.recv().await.expect("something is told")
    }

    /// A path in the temporary folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }

    /// A step on these nodes, counted from 0: a few CPUs of one, or several whole ones with two ranks on
    /// each.
    pub(crate) fn step(&self, job: u32, nodes: &[usize], script: &str) -> Step {
        let share = |&index: &usize| {
            let node = &self.nodes[index];
            let is_whole = nodes.len() > 1;
            StepNode {
                name: node.name.clone(),
                cores: if is_whole { node.cores.clone() } else { [2, 3].into() },
                gpus: if is_whole { node.gpus.clone() } else { Box::default() },
                memory: 1 << 30,
            }
        };
        Step {
            id: step_id(job),
            job_name: "test".into(),
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            working_dir: self.path("").trim_end_matches('/').into(),
            stdio: StdioPaths {
                stdout: Some(self.path(&format!("out{job}")).into()),
                stderr: Some(self.path(&format!("err{job}")).into()),
                delete_on_success: false,
            },
            nodes: nodes.iter().map(share).collect(),
            layout: RankLayout {
                ntasks_per_node: 2,
                cpus_per_node: if nodes.len() > 1 { 4 } else { 2 },
                mpi: None,
                cpu_bind: None,
            },
            allocation: AllocationId(3),
            limits: StepLimits {
                memory: None,
                runtime: None,
                termination_signal: 15,
                termination_lead: PATIENCE * 2,
            },
            expected_files: Vec::new(),
        }
    }

    /// The names of the allocation's steps, but for the batch script's.
    pub(crate) fn steps(&self) -> Vec<String> {
        let args = ["--noheader", "--steps", "--jobs", self.allocation.job(), "--format", "%j"];
        let answer = std::process::Command::new("squeue").args(args).output().expect("squeue runs");
        let names = String::from_utf8(answer.stdout).expect("text");
        let named = names.lines().map(str::trim).filter(|name| !["batch", "extern"].contains(name));
        named.map(str::to_owned).collect()
    }
}
