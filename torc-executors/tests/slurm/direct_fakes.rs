//! The parts of direct mode with real processes, against a Slurm of shell scripts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode, StepSignal,
    StepState,
};
use torc_executors::direct::{Muster, MusterConfig, MusterEvent, NodeConfig, NodeExecutor};
use torc_executors::slurm::SlurmAllocation;

use crate::fakes::Fake;
use crate::site::{appears, run, step_id};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("jobs_that_start_no_steps_ask_slurm_nothing", jobs_without_steps),
    ("what_an_srun_left_is_gone_before_the_end_is_told", what_an_srun_left),
    ("a_gang_is_asked_about_in_any_case", a_gang_is_asked_about),
    ("an_unanswered_question_is_asked_again", an_unanswered_question),
    ("winding_up_waits_until_all_is_told", winding_up_waits),
    ("an_allocation_that_is_taken_away_holds_nothing_back", taken_away),
    ("jobs_are_bound_to_cpus_of_this_process", jobs_are_bound),
    ("a_muster_tells_what_srun_says", a_muster_tells),
    ("an_aborted_launch_can_be_tried_on_other_nodes", an_aborted_launch),
    ("the_end_of_a_muster_ends_its_sruns", the_end_of_a_muster),
];

/// Notes what it is called with. Leaves a step behind, as one that is killed does.
const SRUN: &str = r#"#!/bin/sh
echo "$*" >>"$FAKE/sruns"
for word in "$@"; do
    case $word in --job-name=*) name=${word#*=} ;; esac
done
printf 'StepId=7.5 UserId=0\n   State=RUNNING NodeList=n1\n   Tasks=1 Name=%s Network=(null)\n   SrunHost:Pid=x:1\n' \
    "$name" >"$FAKE/steps"
"#;

/// Says nothing useful while there is a file `trouble`, once for each line in it.
const SCONTROL: &str = r#"#!/bin/sh
echo "$*" >>"$FAKE/asked"
if [ -s "$FAKE/trouble" ]; then
    sed -i 1d "$FAKE/trouble"
    echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
cat "$FAKE/steps"
"#;

const SCANCEL: &str = r#"#!/bin/sh
echo "$*" >>"$FAKE/cancelled"
: >"$FAKE/steps"
"#;

fn fake() -> Fake {
    let fake = Fake::new();
    fake.program("srun", SRUN);
    fake.program("scontrol", SCONTROL);
    fake.program("scancel", SCANCEL);
    fake.write("steps", "");
    fake
}

fn base_env(fake: &Fake) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    env.retain(|(name, _)| !name.to_string_lossy().starts_with("SLURM"));
    let own: [(&str, OsString); 4] = [
        ("SLURM_JOB_ID", "7".into()),
        ("SLURM_JOB_NODELIST", "n[1-3]".into()),
        ("SLURMD_NODENAME", "n1".into()),
        ("FAKE", fake.path("").into()),
    ];
    env.extend(own.map(|(name, value)| (name.into(), value)));
    env
}

fn node(name: &str, cpus: u32) -> NodeInventory {
    NodeInventory {
        name: name.into(),
        cores: (0..cpus).collect(),
        threads_per_core: 1,
        memory: 1 << 30,
        gpus: Box::default(),
        slots: None,
    }
}

/// The executor of node n1.
struct Node {
    executor: NodeExecutor,
    events: UnboundedReceiver<StepEvent>,
    fake: Fake,
}

impl Node {
    fn new(cpus: u32) -> Self {
        let fake = fake();
        let config = NodeConfig {
            base_env: base_env(&fake),
            node: node("n1", cpus),
            crew_dir: fake.path("crew"),
            srun: fake.path("srun"),
            enforce_memory: true,
            umask: None,
            keeper_program: None,
        };
        let (sender, events) = unbounded_channel();
        let emit = move |event| drop(sender.send(event));
        let executor = NodeExecutor::start(config, Arc::new(emit)).expect("an executor starts");
        Self { executor, events, fake }
    }

    fn step(&self, job: u32, nodes: &[&str], cores: &[u32], script: &str) -> Step {
        let share = |name: &&str| StepNode {
            name: (*name).into(),
            cores: cores.into(),
            gpus: Box::default(),
            memory: 0,
        };
        Step {
            id: step_id(job),
            job_name: "test".into(),
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            working_dir: self.fake.path("").to_str().expect("text").into(),
            stdio: StdioPaths::default(),
            allocation: AllocationId(3),
            nodes: nodes.iter().map(share).collect(),
            layout: RankLayout { ntasks_per_node: 1, cpus_per_node: 1, mpi: None, cpu_bind: None },
            limits: StepLimits {
                memory: None,
                runtime: None,
                termination_signal: 15,
                termination_lead: Duration::from_secs(600),
            },
            expected_files: Vec::new(),
        }
    }

    async fn end(&mut self) -> (StepId, Outcome) {
        loop {
            let event = self.events.recv().await.expect("a report");
            if let StepEvent::Ended { step, outcome, .. } = event {
                return (step, outcome);
            }
        }
    }

    async fn succeed(&mut self, step: Step) {
        let id = step.id;
        self.executor.launch(step).await.expect("is taken");
        assert_eq!(self.end().await, (id, Outcome::Exited { code: 0 }));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.fake.path(name)).unwrap_or_default()
    }
}

fn jobs_without_steps() {
    run(async {
        let mut node = Node::new(1);
        for job in 1..20 {
            let step = node.step(job, &["n1"], &[0], "exit 0");
            node.executor.launch(step).await.expect("is taken");
        }
        for _ in 1..20 {
            assert_eq!(node.end().await.1, Outcome::Exited { code: 0 });
        }
        assert_eq!((node.read("asked"), node.read("cancelled")), (String::new(), String::new()));
    });
}

fn what_an_srun_left() {
    run(async {
        let mut node = Node::new(1);
        let step = node.step(1, &["n1"], &[0], "srun -n1 'a b'");
        node.succeed(step).await;
        assert_eq!(
            node.read("sruns"),
            "--overlap --job-name=torc_wf1_j1_r1_a1 --exclude=n[2-3] -n1 a b\n"
        );
        assert_eq!(
            (node.read("cancelled"), node.read("steps")),
            ("--signal=9 7.5\n".into(), String::new())
        );
        // Somebody else's step is left alone.
        let step = node.step(2, &["n1"], &[0], "srun --job-name=other x");
        node.succeed(step).await;
        assert_eq!(node.read("cancelled"), "--signal=9 7.5\n");
        assert!(node.read("steps").contains("Name=other"));
    });
}

fn a_gang_is_asked_about() {
    run(async {
        let mut node = Node::new(1);
        let step =
            node.step(1, &["n1", "n2"], &[0], "echo $SLURM_JOB_NODELIST $TORC_SRUN_OTHERS > seen");
        node.succeed(step).await;
        assert_eq!(node.read("seen"), "n[1-2] n3\n");
        assert_eq!(node.read("asked"), "show step 7\n");
        let step = node.step(2, &["n1", "n2"], &[0], "no-such-program");
        let step = Step { argv: vec!["no-such-program".into()], ..step };
        node.executor.launch(step).await.expect("is taken");
        assert!(matches!(node.end().await.1, Outcome::LaunchFailed { .. }));
        assert_eq!(node.read("asked"), "show step 7\n", "nothing of it ever ran");
    });
}

fn an_unanswered_question() {
    run(async {
        let mut node = Node::new(1);
        node.fake.write("trouble", "once\ntwice\n");
        let step = node.step(1, &["n1"], &[0], "srun x");
        node.succeed(step).await;
        assert_eq!(node.read("cancelled"), "--signal=9 7.5\n");
        assert!(node.read("asked").lines().count() >= 3, "{}", node.read("asked"));
    });
}

fn winding_up_waits() {
    run(async {
        let mut node = Node::new(1);
        node.fake.write("trouble", "once\n");
        let step = node.step(
            1,
            &["n1"],
            &[0],
            "srun x; echo > ready; trap 'exit 0' TERM; sleep 1000 & wait",
        );
        node.executor.launch(step).await.expect("is taken");
        appears(&node.fake.path("ready")).await;
        let states = node.executor.reconcile(&[step_id(1), step_id(2)]).await.expect("is known");
        assert_eq!(states, [StepState::Running, StepState::Unknown]);
        node.executor.wind_up(false).await;
        assert_eq!(node.read("steps"), "");
        let mut last = None;
        while let Ok(event) = node.events.try_recv() {
            last = Some(event);
        }
        let told =
            matches!(&last, Some(StepEvent::Ended { outcome: Outcome::Exited { code: 0 }, .. }));
        assert!(told, "{last:?}");
        node.executor.signal(step_id(1), StepSignal::Kill).await.expect_err("it is gone");
    });
}

fn taken_away() {
    run(async {
        let mut node = Node::new(1);
        node.fake.program("scontrol", "#!/bin/sh\necho > \"$FAKE/asked\"; exec sleep 1000\n");
        node.fake.program("scancel", "#!/bin/sh\nexec sleep 1000\n");
        for (job, script) in [(1, "srun x"), (2, "srun x; echo > ready; sleep 1000")] {
            let step = node.step(job, &["n1"], &[0], script);
            node.executor.launch(step).await.expect("is taken");
        }
        // One is being asked about, the other runs.
        appears(&node.fake.path("asked")).await;
        appears(&node.fake.path("ready")).await;
        let running = node.executor.wind_up(true);
        let killing = async {
            node.executor.signal(step_id(2), StepSignal::Kill).await.expect("is taken");
        };
        tokio::join!(running, killing);
        let mut ends = [node.end().await, node.end().await];
        ends.sort_by_key(|(step, _)| *step);
        let expected =
            [(step_id(1), Outcome::Exited { code: 0 }), (step_id(2), Outcome::Cancelled)];
        assert_eq!(ends, expected);
        assert_eq!(node.read("asked"), "\n");
    });
}

/// The CPUs that this process may use.
fn own_cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("is known");
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect()
}

fn jobs_are_bound() {
    run(async {
        let count = u32::try_from(own_cpus().len()).expect("fits");
        let script = "grep Cpus_allowed_list /proc/self/status | cut -f2 > seen";
        let mut seen: Vec<usize> = Vec::new();
        let mut node = Node::new(count);
        for core in 0..count {
            let step = node.step(core + 1, &["n1"], &[core], script);
            node.succeed(step).await;
            seen.push(node.read("seen").trim().parse().expect("one CPU"));
        }
        seen.sort_unstable();
        assert_eq!(seen, own_cpus(), "each is somebody's");
        let inventory = node.executor.inventory().await.expect("is known");
        assert_eq!(inventory, [self::node("n1", count)]);
        // Where counts differ, nobody is bound.
        let mut node = Node::new(count + 1);
        let step = node.step(1, &["n1"], &[0], "nproc > seen");
        node.succeed(step).await;
        assert_eq!(node.read("seen"), format!("{count}\n"));
    });
}

/// A muster on n1, n2 and the larger n3.
async fn muster(fake: &Fake, srun: &str) -> (Muster, UnboundedReceiver<MusterEvent>) {
    let srun = format!("#!/bin/bash\n[ \"$1\" = --version ] && exec echo slurm 22.05.8\n{srun}");
    fake.program("srun", &srun);
    let env = base_env(fake);
    let config = MusterConfig {
        allocation: SlurmAllocation::of(&env, Some(fake.path(""))).expect("is inside"),
        nodes: vec![node("n1", 4), node("n2", 4), node("n3", 8)],
        command: vec!["worker".to_owned(), "a b".to_owned()],
        srun_mpi: None,
        base_env: env,
        scratch_dir: fake.path("muster"),
        umask: None,
        keeper_program: None,
    };
    let (sender, told) = unbounded_channel();
    (Muster::start(config, sender).await.expect("starts"), told)
}

async fn next(told: &mut UnboundedReceiver<MusterEvent>) -> MusterEvent {
    told.recv().await.expect("something is told")
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

fn a_muster_tells() {
    run(async {
        let fake = fake();
        let srun = r#"case "$*" in
*--nodelist=n3*) exit 1 ;;
esac
printf '%s\n' "${@: -2}" ${SLURM_JOB_ID-none} ${SLURM_NTASKS-none} >"$FAKE/seen"
echo "srun: launching StepId=7.0 on host n1, 1 tasks: 0" >&2
echo "srun: launch/slurm: _task_start: Node n1, 1 tasks started" >&2
echo "0: srun: error: n2: task 1: Killed" >&2
echo "srun: error: n2: task 1: Exited with exit code 3" >&2
echo "srun: error: Node failure on n1" >&2
echo "srun: error: Timed out waiting for job step to complete" >&2
exit 3
"#;
        let (muster, mut told) = muster(&fake, srun).await;
        let mut events = Vec::new();
        while events.len() < 4 {
            events.push(next(&mut told).await);
        }
        let (of_n3, rest): (Vec<MusterEvent>, Vec<MusterEvent>) = events.into_iter().partition(
            |event| matches!(event, MusterEvent::Ended { nodes, .. } if *nodes == ["n3"]),
        );
        let words = "srun exited with code 1".to_owned();
        let (nodes, unstarted) = (names(&["n3"]), names(&["n3"]));
        let expected = MusterEvent::Ended { nodes, words, unstarted, is_aborted: false };
        assert_eq!(of_n3, [expected]);
        let expected = [
            MusterEvent::TaskEnded { nodes: names(&["n2"]), words: "Exited with exit code 3".into() },
            MusterEvent::NodesFailed { nodes: names(&["n1"]), words: "Node failure on n1".into() },
            MusterEvent::Ended {
                nodes: names(&["n1", "n2"]),
                words: "srun exited with code 3: Node failure on n1; Timed out waiting for job step to complete"
                    .into(),
                unstarted: Vec::new(),
                is_aborted: false,
            },
        ];
        assert_eq!(rest, expected);
        let seen = std::fs::read_to_string(fake.path("seen")).expect("is there");
        assert_eq!(seen, "worker\na b\n7\nnone\n");
        muster.end().await;
        muster.start_on(&[node("n1", 4)]).expect_err("it has ended");
    });
}

fn an_aborted_launch() {
    run(async {
        let fake = fake();
        let srun = r#"case "$*" in
*--nodelist=n3*) exec sleep 1000 ;;
*n[[]1-2]*)
    echo "srun: error: Task launch for StepId=7.0 failed on node n2: Communication connection failure" >&2
    echo "srun: error: Application launch failed: Communication connection failure" >&2
    exit 1 ;;
esac
echo "srun: launch/slurm: _task_finish: n1: task 0: Completed" >&2
"#;
        let (muster, mut told) = muster(&fake, srun).await;
        let words = "Communication connection failure".to_owned();
        assert_eq!(
            next(&mut told).await,
            MusterEvent::NodesFailed { nodes: names(&["n2"]), words }
        );
        let event = next(&mut told).await;
        let MusterEvent::Ended { unstarted, is_aborted: true, .. } = &event else {
            panic!("{event:?}");
        };
        assert_eq!(*unstarted, names(&["n1", "n2"]));
        muster.start_on(&[node("n1", 4)]).expect("is started");
        let words = "Completed".to_owned();
        assert_eq!(next(&mut told).await, MusterEvent::TaskEnded { nodes: names(&["n1"]), words });
        let words = "srun exited with code 0".to_owned();
        let (nodes, unstarted) = (names(&["n1"]), Vec::new());
        let ended = MusterEvent::Ended { nodes, words, unstarted, is_aborted: false };
        assert_eq!(next(&mut told).await, ended);
    });
}

fn the_end_of_a_muster() {
    run(async {
        let fake = fake();
        let srun = "trap 'exit 0' TERM; echo > \"$FAKE/up\"; sleep 1000 & wait\n";
        let (muster, mut told) = muster(&fake, srun).await;
        appears(&fake.path("up")).await;
        muster.end().await;
        let mut ended = 0;
        while let Ok(event) = told.try_recv() {
            assert!(matches!(event, MusterEvent::Ended { is_aborted: false, .. }), "{event:?}");
            ended += 1;
        }
        assert_eq!(ended, 2);
    });
}
