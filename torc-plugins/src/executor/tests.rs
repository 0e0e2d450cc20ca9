//! That each method is forwarded, and that no step is lost or told of twice whatever a plugin does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, WorkflowId};
use torc_core::traits::{RankLayout, StdioPaths, StepEvent, StepLimits, StepNode};

use super::*;
use crate::shelf::{Found, Shelf};
use crate::tests::{example, folder};

const PATIENCE: Duration = Duration::from_secs(20);

fn clock() -> Timestamp {
    Timestamp(7)
}

/// An executor, what it tells, and the folder in which it notes what it was asked.
struct Site {
    executor: PluginExecutor,
    told: UnboundedReceiver<StepEvent>,
    folder: TempDir,
}

fn id(job: u32) -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(job), run: RunId(1), attempt: AttemptId::FIRST }
}

fn step(job: u32, script: &str) -> Step {
    Step {
        id: id(job),
        job_name: "a".into(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Default::default(),
        working_dir: "/".into(),
        stdio: StdioPaths::default(),
        allocation: AllocationId(1),
        nodes: vec![StepNode {
            name: "n1".into(),
            cores: [0].into(),
            gpus: Box::default(),
            memory: 1 << 20,
        }],
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

impl Site {
    fn open(plugin: &Plugin, folder: TempDir, fault: &str) -> Self {
        let (tell, told) = unbounded_channel();
        let events = Arc::new(move |event| drop(tell.send(event)));
        let settings = json!({ "fault": fault, "ask": folder.path() });
        let settings = settings.as_object().expect("an object");
        let executor = PluginExecutor::open(plugin, settings, events, clock).expect("it opens");
        Self { executor, told, folder }
    }

    /// The library that has this fault.
    fn faulty(fault: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::open(&example("faulty_executor"), folder, fault)
    }

    /// The program of the kit, with these lines at the beginning of its launch.
    fn program(at_launch: &str) -> Self {
        let (folder, trust) = folder();
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("kit/fixtures/here.py");
        let text = fs::read_to_string(text).expect("it is there");
        let launch = "def launch(request):\n";
        assert!(text.contains(launch), "it has a launch");
        let text = text.replace(launch, &format!("{launch}    {at_launch}\n"));
        let path = folder.path().join("torc-plugin-here");
        fs::write(&path, text.replace("FOLDER", &folder.path().display().to_string()))
            .expect("is written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("can be run");
        let shelf = Shelf::new(Vec::new(), trust, Default::default());
        let plugin = shelf.take(&Found { name: "here".to_owned(), path }).expect("it is a plugin");
        Self::open(&plugin, folder, "")
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default()
    }

    async fn next(&mut self) -> StepEvent {
        let next = tokio::time::timeout(PATIENCE, self.told.recv()).await;
        next.expect("it is told in time").expect("it can tell")
    }

    async fn next_end(&mut self) -> (u32, Outcome) {
        loop {
            if let StepEvent::Ended { step, outcome, .. } = self.next().await {
                return (step.job.0, outcome);
            }
        }
    }

    /// All that is told until it is closed.
    async fn rest(mut self) -> Vec<StepEvent> {
        self.executor.shutdown(Duration::from_secs(5));
        drop(self.executor);
        let mut rest = Vec::new();
        while let Some(event) = self.told.recv().await {
            rest.push(event);
        }
        rest
    }
}

fn done(code: i32) -> Outcome {
    Outcome::Exited { code }
}

#[tokio::test]
async fn the_inventory_is_the_plugins() {
    let site = Site::faulty("");
    let nodes = site.executor.inventory().await.expect("it has nodes");
    let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
    assert_eq!((names, nodes[0].cpus()), (vec!["n1", "n2"], 2));
    assert_eq!(site.asked(), "inventory\n");
}

#[tokio::test]
async fn a_launch_is_the_plugins_and_so_is_what_is_told() {
    let mut site = Site::faulty("");
    site.executor.launch(step(1, "exit 3")).await.expect("it is taken");
    assert!(matches!(site.next().await, StepEvent::Started { step, .. } if step == id(1)));
    assert_eq!(site.next_end().await, (1, done(3)));
    assert_eq!(site.asked(), "launch\n");
    assert_eq!(site.rest().await, []);
}

#[tokio::test]
async fn a_signal_is_the_plugins() {
    for (signal, trap) in [(StepSignal::Cancel, "trap 'exit 5' TERM;"), (StepSignal::Kill, "")] {
        let mut site = Site::faulty("");
        site.executor.launch(step(1, &format!("{trap} sleep 60 & wait"))).await.expect("taken");
        assert!(matches!(site.next().await, StepEvent::Started { .. }));
        site.executor.signal(id(1), signal).await.expect("it is taken");
        let (_, outcome) = site.next_end().await;
        assert_ne!(outcome, done(0), "it was ended by {signal:?}");
        assert_eq!(site.asked(), "launch\nsignal\n");
    }
}

#[tokio::test]
async fn to_reconcile_is_the_plugins() {
    let site = Site::faulty("all ended well");
    let states = site.executor.reconcile(&[id(1), id(2)]).await.expect("it knows");
    assert!(matches!(states[..], [StepState::Ended { .. }, StepState::Ended { .. }]), "{states:?}");
    assert_eq!(site.asked(), "reconcile\n");
    let error = Site::faulty("one state short").executor.reconcile(&[id(1), id(2)]).await;
    let error = error.expect_err("one is missing").to_string();
    assert!(error.ends_with("it was asked about 2 steps and told of 1"), "{error}");
}

#[tokio::test]
async fn what_ran_before_ends_once() {
    let site = Site::faulty("all run");
    let states = site.executor.reconcile(&[id(4)]).await.expect("it knows");
    assert_eq!(states, [StepState::Running]);
    let told = site.rest().await;
    assert!(
        matches!(told[..], [StepEvent::Ended { outcome: Outcome::Lost, .. }]),
        "it was closed: {told:?}"
    );
}

#[tokio::test]
async fn a_method_that_the_plugin_does_not_know_is_no_success() {
    let words =
        |method: &str| format!("plugin `faulty_executor`: {method}: it does not know this method");
    let site = |method: &str| Site::faulty(&format!("unsupported {method}"));
    let error = site("inventory").executor.inventory().await.expect_err("it has none");
    assert!(error.to_string().ends_with(&words("inventory")), "{error}");
    let error = site("reconcile").executor.reconcile(&[]).await.expect_err("it does not");
    assert!(error.to_string().ends_with(&words("reconcile")), "{error}");
    let error = site("signal").executor.signal(id(1), StepSignal::Kill).await.expect_err("no");
    assert!(error.to_string().ends_with(&words("signal")), "{error}");
    let mut site = site("launch");
    site.executor.launch(step(1, "true")).await.expect("others may be launched");
    let reason = words("launch");
    let failed = Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
    assert_eq!(site.next_end().await, (1, failed));
}

#[tokio::test]
async fn nodes_that_cannot_be_are_named() {
    for (fault, words) in [("no nodes", "it has no node"), ("a node twice", "one is called `n1`")] {
        let error = Site::faulty(fault).executor.inventory().await.expect_err("it cannot be");
        assert!(error.to_string().contains("plugin `faulty_executor`: inventory"), "{error}");
        assert!(error.to_string().ends_with(words), "{error}");
    }
}

#[tokio::test]
async fn an_end_is_told_once_and_of_steps_that_are_there() {
    for fault in ["ends twice", "starts after the end", "strange end", "odd events"] {
        let mut site = Site::faulty(fault);
        site.executor.launch(step(1, "exit 2")).await.expect("it is taken");
        assert!(matches!(site.next().await, StepEvent::Started { .. }), "{fault}");
        assert_eq!(site.next_end().await, (1, done(2)), "{fault}");
        assert_eq!(site.rest().await, [], "{fault}");
    }
}

#[tokio::test]
async fn what_is_told_after_the_close_is_left_alone() {
    let mut site = Site::faulty("tells after the close");
    site.executor.launch(step(1, "sleep 60")).await.expect("it is taken");
    assert!(matches!(site.next().await, StepEvent::Started { .. }));
    site.executor.shutdown(Duration::ZERO);
    let (job, outcome) = site.next_end().await;
    assert_eq!(job, 1);
    assert!(matches!(outcome, Outcome::Lost | Outcome::Cancelled), "{outcome:?}");
    let told = site.folder.path().join("told");
    tokio::time::timeout(PATIENCE, async {
        while !told.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it tells something");
    assert!(site.told.try_recv().is_err(), "nobody listens");
}

#[tokio::test]
async fn a_plugin_that_fails_at_each_launch_is_given_up_and_named() {
    for (fault, words) in [
        ("panics", "it panicked: a bug in a launch"),
        ("garbage", "launch: its answer cannot be understood: "),
        ("1 GB", "launch: its answer cannot be understood: it has 1073741824 bytes"),
    ] {
        let mut site = Site::faulty(fault);
        for job in 1..=3 {
            site.executor.launch(step(job, "true")).await.expect("it may have passed");
            assert_eq!(site.next_end().await, (job, Outcome::Lost), "{fault}");
        }
        let error = site.executor.launch(step(4, "true")).await.expect_err("it does not pass");
        let error = error.to_string();
        assert!(error.contains("plugin `faulty_executor` lost its steps 3 times"), "{error}");
        assert!(error.contains(words), "{error}");
        assert_eq!(site.rest().await, [], "{fault}");
    }
}

#[tokio::test]
async fn a_panic_costs_what_ran_and_the_next_call_opens_another() {
    let mut site = Site::faulty("panics once");
    site.executor.launch(step(1, "sleep 60")).await.expect("it is taken");
    assert!(matches!(site.next().await, StepEvent::Started { .. }));
    site.executor.launch(step(2, "true")).await.expect("the next may be taken");
    let mut ends = [site.next_end().await, site.next_end().await];
    ends.sort_by_key(|(job, _)| *job);
    assert!(ends.iter().all(|(_, outcome)| outcome.came_from_outside()), "{ends:?}");
    site.executor.launch(step(3, "exit 4")).await.expect("it is taken");
    assert_eq!(site.next_end().await, (3, done(4)));
    assert_eq!(site.rest().await, []);
}

#[tokio::test]
async fn a_library_that_hangs_in_a_launch_is_not_called_any_more() {
    let mut site = Site::faulty("hangs");
    site.executor.patience = Duration::from_millis(200);
    for _ in 0..2 {
        let error = site.executor.launch(step(1, "true")).await.expect_err("it hangs").to_string();
        assert!(
            error.contains("plugin `faulty_executor`: launch: it did not return within"),
            "{error}"
        );
    }
    site.executor.shutdown(Duration::from_secs(60));
    assert!(site.told.try_recv().is_err(), "what failed by a word is not told of");
}

#[tokio::test]
async fn a_library_that_gives_up_is_told_so() {
    let site = Site::faulty("gives up");
    let error = site.executor.launch(step(1, "true")).await.expect_err("it has").to_string();
    assert!(error.contains("plugin `faulty_executor`: launch: the licence has ended"), "{error}");
}

#[tokio::test]
async fn a_program_that_hangs_in_a_launch_is_ended_with_what_it_had() {
    let hang = "request['step']['id']['job'] == 2 and time.sleep(600)";
    let mut site = Site::program(hang);
    site.executor.launch(step(1, "sleep 60")).await.expect("it is taken");
    assert!(matches!(site.next().await, StepEvent::Started { .. }));
    site.executor.patience = Duration::from_secs(1);
    site.executor.launch(step(2, "true")).await.expect("the next may be taken");
    let mut ends = [site.next_end().await, site.next_end().await];
    ends.sort_by_key(|(job, _)| *job);
    assert_eq!(ends, [(1, Outcome::Lost), (2, Outcome::Lost)]);
    site.executor.patience = PATIENCE;
    site.executor.launch(step(3, "exit 4")).await.expect("it is taken");
    assert_eq!(site.next_end().await, (3, done(4)), "another was started");
}

#[tokio::test]
async fn a_program_that_ends_costs_what_it_had_once() {
    let crash = "request['step']['id']['job'] == 3 and os._exit(7)";
    let mut site = Site::program(crash);
    for job in [1, 2] {
        site.executor.launch(step(job, "sleep 60")).await.expect("it is taken");
    }
    site.executor.launch(step(3, "true")).await.expect("the next may be taken");
    let mut ends = Vec::new();
    for _ in 1..=3 {
        ends.push(site.next_end().await);
    }
    ends.sort_by_key(|(job, _)| *job);
    assert_eq!(ends, [1, 2, 3].map(|job| (job, Outcome::Lost)));
    site.executor.launch(step(4, "exit 4")).await.expect("it is taken");
    assert_eq!(site.next_end().await, (4, done(4)));
    assert_eq!(site.rest().await, []);
}

#[tokio::test]
async fn what_runs_comes_to_its_end_and_nothing_more_is_launched() {
    let mut site = Site::program("pass");
    site.executor
        .launch(step(1, "trap 'exit 0' TERM; echo; sleep 60 & wait"))
        .await
        .expect("taken");
    assert!(matches!(site.next().await, StepEvent::Started { .. }));
    site.executor.wind_up().await;
    let (job, outcome) = site.next_end().await;
    assert!(job == 1 && (outcome == done(0) || outcome == Outcome::Cancelled), "{outcome:?}");
    site.executor.launch(step(2, "true")).await.expect("it is refused by its end");
    assert_eq!(site.next_end().await, (2, Outcome::Cancelled));
}
