//! Crews whose workers are tasks of the test: the connections are real, the jobs are not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use torc_core::ids::{AttemptId, JobId, RunId, WorkflowId};
use torc_core::traits::{
    NodeState, Outcome, RankLayout, StdioPaths, StepEvent, StepLimits, StepNode, Usage,
};
use torc_core::wire::crew::HelperStart;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Runs jobs in name only: `true` ends at once, `false` fails, all others wait for a signal.
struct Pretended {
    tell: UnboundedSender<StepEvent>,
    help: UnboundedSender<StepId>,
    running: Mutex<Vec<StepId>>,
}

impl Pretended {
    fn end(&self, step: StepId, outcome: Outcome) {
        let event = StepEvent::Ended { step, at: now(), outcome, usage: Usage::default() };
        let _ = self.tell.send(event);
    }

    fn end_all(&self, outcome: &Outcome) {
        for step in std::mem::take(&mut *self.running.lock().unwrap()) {
            self.end(step, outcome.clone());
        }
    }
}

#[async_trait]
impl Executor for Pretended {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(Vec::new())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let _ = self.tell.send(StepEvent::Started { step: step.id, at: now() });
        match step.argv[0].as_str() {
            "true" => self.end(step.id, Outcome::Exited { code: 0 }),
            "false" => self.end(step.id, Outcome::Exited { code: 1 }),
            _ => self.running.lock().unwrap().push(step.id),
        }
        if step.id.attempt != AttemptId::FIRST {
            let _ = self.help.send(step.id);
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        let mut running = self.running.lock().unwrap();
        if let Some(place) = running.iter().position(|known| *known == step) {
            running.swap_remove(place);
            self.end(step, Outcome::Cancelled);
        }
        Ok(())
    }

    async fn reconcile(&self, _: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(Vec::new())
    }
}

/// A scheduler that says what it is told to say.
struct Told(Mutex<Standing>, Mutex<Vec<String>>);

#[async_trait]
impl Overseer for Told {
    async fn standing(&self) -> Standing {
        *self.0.lock().unwrap()
    }

    async fn clear(&self, _: &[Traces]) {}

    async fn keep_only(&self, nodes: &[String]) -> bool {
        self.1.lock().unwrap().push(nodes.join(","));
        true
    }

    async fn end_workers(&self) {}
}

/// A worker, how it is asked to end, and how long its keeper was told to go on.
struct Worker {
    running: Arc<Pretended>,
    /// Steps that are not attempts of jobs.
    helped: UnboundedReceiver<StepId>,
    task: JoinHandle<Result<NodeEnd, NodeError>>,
    stop: watch::Sender<bool>,
    leased: UnboundedReceiver<Duration>,
}

/// A crew of three nodes, and its workers.
struct Site {
    crew: Option<Crew>,
    scheduler: Arc<Told>,
    heard: UnboundedReceiver<StepEvent>,
    workers: Vec<Worker>,
    _folder: tempfile::TempDir,
}

fn inventory(name: &str) -> NodeInventory {
    NodeInventory {
        name: name.into(),
        cores: (0..4).collect(),
        threads_per_core: 1,
        slots: None,
        memory: 1 << 30,
        gpus: [].into(),
    }
}

impl Site {
    async fn new() -> Self {
        Self::with(&["n1", "n2", "n3"], false).await
    }

    /// A crew of three nodes, of which only these have workers. Whether only they know what there is.
    async fn with(come: &[&str], are_unseen: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes: Vec<_> = ["n1", "n2", "n3"].map(inventory).into();
        let post = Post::open(folder.path(), &nodes).unwrap();
        let access = post.file().to_path_buf();
        let scheduler = Arc::new(Told(Mutex::new(Standing::Lives), Mutex::default()));
        let workers = come.iter().map(|node| worker(&access, node)).collect();
        let (tell, heard) = unbounded_channel();
        let parts = CrewParts {
            allocation: AllocationId(1),
            nodes,
            are_unseen,
            post,
            overseer: scheduler.clone(),
        };
        let crew = Crew::start(parts, Arc::new(move |event| drop(tell.send(event))));
        Self { crew: Some(crew), scheduler, heard, workers, _folder: folder }
    }

    fn crew(&self) -> &Crew {
        self.crew.as_ref().unwrap()
    }

    async fn launch(&self, job: u32, program: &str, nodes: &[&str]) {
        self.crew().launch(step(job, program, nodes)).await.unwrap();
    }

    /// The next thing that is reported.
    async fn next(&mut self) -> StepEvent {
        timeout(LONG, self.heard.recv()).await.expect("something is reported").expect("is open")
    }

    /// How this step ends.
    async fn end_of(&mut self, job: u32) -> Outcome {
        loop {
            if let StepEvent::Ended { step, outcome, .. } = self.next().await
                && step == id(job)
            {
                return outcome;
            }
        }
    }

    async fn worker_ends(&mut self, place: usize) -> Result<NodeEnd, NodeError> {
        let worker = &mut self.workers[place].task;
        timeout(LONG, worker).await.expect("it ends").expect("it does not panic")
    }
}

fn worker(access: &std::path::Path, node: &str) -> Worker {
    let (tell, reports) = unbounded_channel();
    let (help, helped) = unbounded_channel();
    let executor = Arc::new(Pretended { tell, help, running: Mutex::default() });
    let running = Arc::clone(&executor);
    let (stop, stopped) = watch::channel(false);
    let (told, leased) = unbounded_channel();
    let winding = Arc::clone(&executor);
    let parts = NodeParts {
        access: Access::read(access).unwrap(),
        node: node.into(),
        has: Some(NodeInventory { cores: [7].into(), ..inventory(node) }),
        delay: Duration::ZERO,
        executor,
        reports,
        lease: Box::new(move |time| {
            let _ = told.send(time);
        }),
        surround: Box::new(|own| {
            let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
            std::env::vars_os().chain(own).collect()
        }),
        wind_up: Box::new(move |_| {
            winding.end_all(&Outcome::Cancelled);
            Box::pin(std::future::ready(()))
        }),
        stop: stopped,
    };
    Worker { task: tokio::spawn(work_on_node(parts)), stop, leased, running, helped }
}

pub(super) fn id(job: u32) -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(job), run: RunId(1), attempt: AttemptId::FIRST }
}

pub(super) fn step(job: u32, program: &str, nodes: &[&str]) -> Step {
    let node = |name: &&str| StepNode {
        name: (*name).into(),
        cores: [0].into(),
        gpus: [].into(),
        memory: 0,
    };
    Step {
        id: id(job),
        job_name: "a".into(),
        argv: vec![program.to_owned()],
        env: BTreeMap::new(),
        working_dir: "/".into(),
        stdio: StdioPaths::default(),
        allocation: AllocationId(1),
        nodes: nodes.iter().map(node).collect(),
        layout: RankLayout { ntasks_per_node: 1, cpus_per_node: 1, mpi: None, cpu_bind: None },
        limits: StepLimits {
            memory: None,
            runtime: None,
            termination_signal: 15,
            termination_lead: Duration::from_secs(1),
        },
        expected_files: Vec::new(),
    }
}

#[tokio::test]
async fn steps_run_on_their_nodes_and_their_ends_are_told() {
    let mut site = Site::new().await;
    // Long before the workers have come.
    site.launch(1, "true", &["n2"]).await;
    site.launch(2, "false", &["n3", "n1"]).await;
    site.launch(3, "wait", &["n1"]).await;
    let started = |job| move |event: &StepEvent| matches!(event, StepEvent::Started { step, .. } if *step == id(job));
    let mut events = Vec::new();
    while events.len() < 5 {
        events.push(site.next().await);
    }
    for job in 1..4 {
        assert!(events.iter().any(started(job)), "{events:?}");
    }
    let states = site.crew().reconcile(&[id(1), id(3)]).await.unwrap();
    assert_eq!(states, [StepState::Unknown, StepState::Running]);
    site.crew().signal(id(3), StepSignal::Cancel).await.unwrap();
    assert_eq!(site.end_of(3).await, Outcome::Cancelled);
}

#[tokio::test]
async fn a_crew_that_winds_up_has_told_all_and_its_workers_have_left() {
    let mut site = Site::new().await;
    site.launch(1, "wait", &["n1"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    let file = site._folder.path().join("crew.json");
    assert!(file.exists());
    timeout(LONG, site.crew().wind_up()).await.expect("it ends");
    assert_eq!(site.end_of(1).await, Outcome::Cancelled);
    assert_eq!(site.worker_ends(0).await.unwrap(), NodeEnd::Left);
    assert!(!file.exists(), "nobody can come in any more");
    let error = site.crew().launch(step(2, "true", &["n1"])).await.expect_err("it has ended");
    assert!(matches!(error, ExecutorError::Gone(_)), "{error}");
}

#[tokio::test]
async fn workers_of_a_crew_that_is_dropped_are_told_to_end() {
    let mut site = Site::new().await;
    site.launch(1, "wait", &["n1"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    site.crew = None;
    assert_eq!(site.end_of(1).await, Outcome::Cancelled);
    assert_eq!(site.worker_ends(0).await.unwrap(), NodeEnd::Left);
}

#[tokio::test]
async fn when_slurm_ends_a_worker_its_jobs_are_lost_and_the_others_go_on() {
    let mut site = Site::new().await;
    site.launch(1, "wait", &["n1"]).await;
    site.launch(2, "wait", &["n2", "n1"]).await;
    site.launch(3, "wait", &["n3"]).await;
    let mut started = 0;
    while started < 3 {
        started += u32::from(matches!(site.next().await, StepEvent::Started { .. }));
    }
    let words = "task 0: Killed".to_owned();
    site.workers[0].task.abort();
    site.crew().hear(News::WorkersEnded { nodes: vec!["n1".to_owned()], words });
    let StepEvent::NodeChanged { node, state: NodeState::Down, reason, .. } = site.next().await
    else {
        panic!("the node is told first");
    };
    assert_eq!(&*node, "n1");
    assert!(reason.starts_with("its worker"), "{reason}");
    assert_eq!(site.end_of(1).await, Outcome::Lost);
    assert_eq!(site.end_of(2).await, Outcome::Lost, "a gang ends with one of its nodes");
    site.crew().signal(id(3), StepSignal::Cancel).await.unwrap();
    assert_eq!(site.end_of(3).await, Outcome::Cancelled);
}

#[tokio::test]
async fn a_job_that_slurm_ended_is_not_said_to_have_failed() {
    let mut site = Site::new().await;
    *site.scheduler.0.lock().unwrap() = Standing::Preempted;
    site.launch(1, "false", &["n1"]).await;
    assert_eq!(site.end_of(1).await, Outcome::Preempted);
    *site.scheduler.0.lock().unwrap() = Standing::Lives;
    site.launch(2, "false", &["n1"]).await;
    assert_eq!(site.end_of(2).await, Outcome::Exited { code: 1 });
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_says_what_became_of_its_jobs() {
    let mut site = Site::new().await;
    site.launch(1, "wait", &["n2"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    *site.scheduler.0.lock().unwrap() = Standing::Ended;
    site.workers[1].stop.send(true).unwrap();
    assert_eq!(site.end_of(1).await, Outcome::Lost);
    assert_eq!(site.worker_ends(1).await.unwrap(), NodeEnd::Stopped);
}

#[tokio::test]
async fn jobs_are_asked_to_end_when_the_time_is_up() {
    let mut site = Site::new().await;
    site.launch(1, "wait", &["n2"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    site.crew().hear(News::TimeIsUpAt(Some(now())));
    assert_eq!(site.end_of(1).await, Outcome::Cancelled, "as the pretended executor calls it");
}

#[tokio::test]
async fn where_only_the_workers_know_what_there_is_they_are_waited_for() {
    let cores = async |site: &Site| {
        let nodes = timeout(LONG, site.crew().inventory()).await.expect("it is told").unwrap();
        nodes.iter().map(|node| node.cores.len()).collect::<Vec<_>>()
    };
    let told = Site::with(&[], false).await;
    assert_eq!(cores(&told).await, [4, 4, 4], "the scheduler has told it");
    let site = Site::with(&["n1", "n3"], true).await;
    let words = "it exited with code 1".to_owned();
    site.crew().hear(News::WorkersEnded { nodes: vec!["n2".to_owned()], words });
    assert_eq!(cores(&site).await, [1, 4, 1], "what is lost is shown as it was granted");
}

/// A job's command on another of its nodes.
fn helper(job: u32, node: &str, text: &str) -> HelperStart {
    let env = BTreeMap::new();
    HelperStart {
        step: id(job),
        node: node.into(),
        text: text.into(),
        env,
        working_dir: "/".into(),
    }
}

/// The number of the helper that has been started.
async fn started(site: &mut Site, launches: usize) {
    let place = &mut site.workers[launches].helped;
    timeout(LONG, place.recv()).await.expect("it is launched").expect("is open");
}

#[tokio::test]
async fn a_job_starts_commands_on_its_other_nodes_and_ends_after_them() {
    let mut site = Site::new().await;
    let file = site_file(&site._folder);
    let access = || Access::read(&file).unwrap();
    site.launch(1, "wait", &["n1", "n2"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    let refused = |node: &'static str, job| {
        let access = access();
        async move {
            start_on_node(&access, helper(job, node, "x"), |_, _| ()).await.unwrap_err().to_string()
        }
    };
    assert_eq!(refused("n3", 1).await, "n3 is none of this job's nodes, which are n1, n2");
    assert!(refused("n2", 9).await.ends_with("is no job on several nodes that runs"));
    let reached = access();
    let asked = tokio::spawn(async move {
        start_on_node(&reached, helper(1, "n2", "x"), |_, _| ()).await.expect("it is started")
    });
    started(&mut site, 1).await;
    site.crew().signal(id(1), StepSignal::Cancel).await.unwrap();
    assert_eq!(site.end_of(1).await, Outcome::Cancelled);
    assert_eq!(
        timeout(LONG, asked).await.expect("it is told").unwrap(),
        255,
        "it was killed before"
    );
}

#[tokio::test]
async fn a_command_ends_with_whoever_asked_for_it() {
    let mut site = Site::new().await;
    let access = Access::read(&site_file(&site._folder)).unwrap();
    site.launch(1, "wait", &["n1", "n2"]).await;
    while !matches!(site.next().await, StepEvent::Started { .. }) {}
    let asked = tokio::spawn(async move {
        start_on_node(&access, helper(1, "n2", "x"), |_, _| ()).await.map(drop)
    });
    started(&mut site, 1).await;
    asked.abort();
    let running = Arc::clone(&site.workers[1].running);
    timeout(LONG, async {
        while !running.running.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is killed");
    let states = site.crew().reconcile(&[id(1)]).await.unwrap();
    assert_eq!(states, [StepState::Running], "the job goes on");
}

fn site_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("crew.json")
}

#[tokio::test]
async fn a_worker_that_is_started_again_comes_in_once_the_first_is_gone() {
    let mut site = Site::new().await;
    site.launch(1, "true", &["n1"]).await;
    assert_eq!(site.end_of(1).await, Outcome::Exited { code: 0 });
    site.crew().hear(News::StartedAgain { nodes: vec!["n1".to_owned()] });
    let access = site._folder.path().join("crew.json");
    let mut second = worker(&access, "n1");
    // It may have been sent away before, and have asked again.
    site.workers[0].task.abort();
    let leased = timeout(LONG, second.leased.recv()).await.expect("it is taken in");
    assert_eq!(leased, Some(Duration::from_secs(45)));
    site.launch(2, "true", &["n1"]).await;
    assert_eq!(site.end_of(2).await, Outcome::Exited { code: 0 });
    let words = "Killed".to_owned();
    site.crew().hear(News::WorkersEnded { nodes: vec!["n1".to_owned()], words });
    second.task.abort();
    let gone =
        |event: &StepEvent| matches!(event, StepEvent::NodeChanged { state: NodeState::Down, .. });
    while !gone(&site.next().await) {}
    let third = worker(&access, "n1").task;
    let error = timeout(LONG, third).await.expect("it ends").unwrap().expect_err("is refused");
    let NodeError::Refused(reason) = error else { panic!("{error}") };
    assert!(reason.starts_with("n1 is not used any more: its worker"), "{reason}");
}

#[tokio::test]
async fn a_node_that_is_released_is_given_back_once_its_worker_has_ended() {
    let mut site = Site::new().await;
    site.launch(1, "true", &["n2"]).await;
    assert_eq!(site.end_of(1).await, Outcome::Exited { code: 0 });
    site.crew().release("n2", Parting::GoesBack);
    let StepEvent::NodeChanged { node, state: NodeState::Down, reason, .. } = site.next().await
    else {
        panic!("it is told");
    };
    assert_eq!((&*node, &*reason), ("n2", "it was given back"));
    assert_eq!(site.worker_ends(1).await.unwrap(), NodeEnd::Left);
    site.launch(2, "true", &["n3"]).await;
    assert_eq!(site.end_of(2).await, Outcome::Exited { code: 0 });
    timeout(LONG, site.crew().wind_up()).await.expect("it ends");
    assert_eq!(*site.scheduler.1.lock().unwrap(), ["n1,n3"]);
}

#[test]
fn what_a_worker_has_to_know_is_told_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crew.json");
    let read = || Access::read(&file).map(drop).map_err(|error| error.to_string());
    let missing = read().expect_err("is not there");
    assert!(missing.starts_with("there is no ") && missing.contains("has ended"), "{missing}");
    std::fs::write(&file, "{}").unwrap();
    let exposed = read().expect_err("others can read it");
    assert!(exposed.contains("other users can read"), "{exposed}");
    std::fs::remove_file(&file).unwrap();
    crate::private_file::create(&file, b"{}").unwrap();
    let damaged = read().expect_err("makes no sense");
    assert!(damaged.ends_with("is damaged at line 1, column 2"), "{damaged}");
}

#[tokio::test]
async fn a_node_is_told_what_it_was_granted() {
    let folder = tempfile::tempdir().unwrap();
    let post = Post::open(folder.path(), &[inventory("n1")]).unwrap();
    let again = Post::open(folder.path(), &[inventory("n2")]).unwrap();
    assert_eq!(post.file(), again.file(), "what an earlier one left is replaced");
    let access = Access::read(again.file()).unwrap();
    assert_eq!(access.node("n2").unwrap(), &inventory("n2"));
    let error = access.node("n1").expect_err("it is another's").to_string();
    assert_eq!(error, "the allocation has no node n1");
}

fn echo(folder: &std::path::Path, text: &str) -> ActionProcess {
    ActionProcess {
        text: text.to_owned(),
        env: vec![("X".to_owned(), "seen".to_owned())],
        working_dir: "/".to_owned(),
        output: folder.join("log").to_string_lossy().into_owned(),
    }
}

#[tokio::test]
async fn a_command_runs_anew_when_its_worker_is_started_again() {
    let mut site = Site::new().await;
    let folder = site._folder.path().to_path_buf();
    let access = folder.join("crew.json");
    let crew = site.crew.take().unwrap();
    let fifth = echo(&folder, "test -e begun && exit 5; touch begun; sleep 600");
    let fifth = ActionProcess { working_dir: folder.to_string_lossy().into_owned(), ..fifth };
    let (code, _second) = tokio::join!(crew.run_on("n1", fifth), async {
        while !folder.join("begun").exists() {
            tokio::task::yield_now().await;
        }
        crew.hear(News::StartedAgain { nodes: vec!["n1".to_owned()] });
        site.workers[0].task.abort();
        worker(&access, "n1")
    });
    assert_eq!(code, Some(5));
}

#[tokio::test]
async fn commands_run_on_the_nodes_they_are_for() {
    let mut site = Site::new().await;
    let folder = site._folder.path().to_path_buf();
    // Its worker may not have come yet.
    let code = site.crew().run_on("n2", echo(&folder, "echo $X; exit 3")).await;
    assert_eq!(code, Some(3));
    assert_eq!(std::fs::read_to_string(folder.join("log")).unwrap(), "seen\n");
    assert_eq!(
        site.crew().run_on("n9", echo(&folder, "true")).await,
        None,
        "there is no such node"
    );
    let long = echo(&folder, "touch begun; sleep 600");
    let long = ActionProcess { working_dir: folder.to_string_lossy().into_owned(), ..long };
    let crew = site.crew.take().unwrap();
    let (code, ()) = tokio::join!(crew.run_on("n1", long), async {
        while !folder.join("begun").exists() {
            tokio::task::yield_now().await;
        }
        site.workers[0].task.abort();
        let words = "Killed".to_owned();
        crew.hear(News::WorkersEnded { nodes: vec!["n1".to_owned()], words });
    });
    assert_eq!(code, None, "it went with its worker");
    assert_eq!(crew.run_on("n1", echo(&folder, "true")).await, None);
    timeout(LONG, crew.wind_up()).await.expect("it ends");
    assert_eq!(crew.run_on("n2", echo(&folder, "true")).await, None);
}
