//! Against a Slurm of shell scripts, which says what a real one says seldom.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use torc_core::traits::{Executor, LaunchStage, NodeState, Outcome, StepEvent};
use torc_executors::slurm::{AllocationError, SlurmConfig, SlurmExecutor, SlurmStartError};

use crate::site::{Site, run, step_id};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_slurm_that_does_not_fit_is_refused", a_slurm_that_does_not_fit_is_refused),
    ("a_step_runs", a_step_runs),
    ("an_unanswered_step_is_tried_again", an_unanswered_step_is_tried_again),
    ("a_zero_of_srun_is_no_success", a_zero_of_srun_is_no_success),
    ("the_last_steps_are_given_up_gracefully", the_last_steps_are_given_up_gracefully),
    ("a_node_that_cannot_be_reached_is_told_first", a_node_that_cannot_be_reached),
    ("a_preempted_allocation_is_no_failure", a_preempted_allocation_is_no_failure),
    ("an_allocation_that_ends_loses_no_nodes", an_allocation_that_ends_loses_no_nodes),
    ("an_extended_allocation_extends_its_steps", an_extended_allocation),
];

/// Runs the task here, and says what srun says. A file `trouble` is sourced before anything starts.
const SRUN: &str = r#"#!/bin/bash
[ "$1" = --version ] && exec cat "$FAKE/version"
while [ "$1" != /bin/sh ]; do
    case $1 in
    --output=*) out=${1#*=} ;;
    --error=*) err=${1#*=} ;;
    --time=*) time=${1#*=} ;;
    esac
    shift
done
[ -e "$FAKE/trouble" ] && . "$FAKE/trouble"
exec 9>"$FAKE/lock"
flock 9
number=$(cat "$FAKE/number")
echo $((number + 1)) >"$FAKE/number"
exec 9>&-
echo "srun: launching StepId=7.$number on host n1, 1 tasks: 0" >&2
echo "srun: launch/slurm: _task_start: Node n1, 1 tasks started" >&2
[ "$out" = none ] && out=/dev/null
[ "$err" = none ] && err=/dev/null
FAKE_TIME=$time "$@" </dev/null >>"$out" 2>>"$err"
code=$?
printf 'srun: _task_finish: Received task exit notification for 1 task of StepId=7.%d (status=0x%04x).\n' $number $((code << 8)) >&2
exit $code
"#;

const SCONTROL: &str = r#"#!/bin/bash
echo "$*" >>"$FAKE/asked"
[ -e "$FAKE/deadly" ] && rm "$FAKE/deadly" && kill -TERM $$
case "$1 $2" in
"show job") cat "$FAKE/job" ;;
"show node") cat "$FAKE/nodes" ;;
"show config") cat "$FAKE/config" ;;
*) exit 0 ;;
esac
"#;

const JOB: &str = "JobId=7 JobName=fake
   JobState=RUNNING Reason=None Dependency=(null)
   StartTime=1000 EndTime=@END@ Deadline=N/A
   PreemptEligibleTime=1000 PreemptTime=None
   NodeList=n[1-2]
     Nodes=n[1-2] CPU_IDs=0-3 Mem=4096 GRES=
";

const NODES: &str = "NodeName=n1 CoresPerSocket=4
   CPUAlloc=4 CPUTot=4
   RealMemory=4096 Sockets=1
   State=ALLOCATED ThreadsPerCore=1

NodeName=n2 CoresPerSocket=4
   CPUAlloc=4 CPUTot=4
   RealMemory=4096 Sockets=1
   State=ALLOCATED ThreadsPerCore=1
";

/// A folder with programs and what they answer.
pub(crate) struct Fake(TempDir);

impl Fake {
    pub(crate) fn new() -> Self {
        let fake = Self(tempfile::tempdir().expect("a temporary folder"));
        fake.program("srun", SRUN);
        fake.program("scontrol", SCONTROL);
        fake.program("squeue", "#!/bin/bash\n");
        fake.program("scancel", "#!/bin/bash\n");
        fake.write("version", "slurm 22.05.8\n");
        fake.write("config", "MaxStepCount            = 40000\n");
        fake.write("number", "0\n");
        fake.write("nodes", NODES);
        fake.ends_in(3600);
        fake
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), mode).expect("is made a program");
    }

    /// The allocation ends in so many seconds.
    fn ends_in(&self, seconds: u64) {
        let end = torc_executors::clock::now().0 / 1000 + seconds;
        self.write("job", &JOB.replace("@END@", &end.to_string()));
    }

    fn configure(&self, config: &mut SlurmConfig) {
        config.base_env = std::env::vars_os().collect();
        config.base_env.retain(|(name, _)| !name.to_string_lossy().starts_with("SLURM"));
        let own = [("SLURM_JOB_ID", OsString::from("7")), ("FAKE", self.0.path().into())];
        config.base_env.extend(own.map(|(name, value)| (name.into(), value)));
        config.programs = Some(self.0.path().to_owned());
    }

    async fn site(&self) -> Site {
        Site::with(|config| self.configure(config)).await
    }

    /// Why an executor does not start.
    async fn refusal(&self, change: impl FnOnce(&mut SlurmConfig)) -> SlurmStartError {
        let mut config = SlurmConfig::new(step_allocation(), self.path("hosts"), Vec::new());
        self.configure(&mut config);
        change(&mut config);
        SlurmExecutor::start(config, Arc::new(|_| {})).await.expect_err("is refused")
    }
}

fn step_allocation() -> torc_core::ids::AllocationId {
    torc_core::ids::AllocationId(3)
}

fn a_slurm_that_does_not_fit_is_refused() {
    run(async {
        let fake = Fake::new();
        let outside = |config: &mut SlurmConfig| {
            config.base_env.retain(|(name, _)| name != "SLURM_JOB_ID");
        };
        let error = fake.refusal(outside).await;
        assert!(
            matches!(error, SlurmStartError::Allocation(AllocationError::NotInside)),
            "{error}"
        );
        let het = |config: &mut SlurmConfig| {
            config.base_env.push(("SLURM_HET_SIZE".into(), "2".into()));
        };
        let error = fake.refusal(het).await;
        assert!(error.to_string().contains("heterogeneous"), "{error}");
        fake.write("version", "slurm 21.08.8\n");
        let error = fake.refusal(|_| {}).await;
        assert!(error.to_string().contains("21.08.8"), "{error}");
        let missing = |config: &mut SlurmConfig| config.programs = Some("/no/such/folder".into());
        let error = fake.refusal(missing).await;
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
        fake.write("version", "slurm 25.11.0\n");
        fake.write("job", "JobState=RUNNING\nNodeList=n1\n");
        let error = fake.refusal(|_| {}).await;
        assert!(error.to_string().contains("CPU_IDs"), "{error}");
    });
}

fn a_step_runs() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let named: Vec<(&str, u32)> =
            site.nodes.iter().map(|node| (&*node.name, node.cpus())).collect();
        assert_eq!(named, [("n1", 4), ("n2", 4)]);
        let step = site.step(1, "echo $FAKE_TIME; exit 3");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 3 });
        // An hour less a minute, rounded up.
        assert_eq!(site.read("out"), "59\n");
    });
}

fn an_unanswered_step_is_tried_again() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let words =
            "Unable to create step for job 7: Unable to contact slurm controller (connect failure)";
        let trouble = format!("rm $FAKE/trouble; echo 'srun: error: {words}' >&2; exit 1\n");
        fake.write("trouble", &trouble);
        site.launch(site.step(1, "echo ran")).await;
        site.started(1).await;
        assert_eq!(site.end().await.1, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "ran\n");
    });
}

fn a_zero_of_srun_is_no_success() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        fake.write("trouble", "echo 'srun: error: it is Monday' >&2; exit 0\n");
        let outcome = site.outcome(site.step(1, "true")).await;
        let Outcome::LaunchFailed { stage: LaunchStage::Execute, reason } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("it is Monday"), "{reason}");
    });
}

fn the_last_steps_are_given_up_gracefully() {
    run(async {
        let fake = Fake::new();
        fake.write("config", "MaxStepCount            = 20\n");
        let mut site = fake.site().await;
        for job in 1..=18 {
            assert_eq!(site.outcome(site.step(job, "true")).await, Outcome::Exited { code: 0 });
        }
        let draining = |site: &Site| {
            let is_told = |change: &&(String, NodeState, String)| {
                change.1 == NodeState::Draining && change.2.contains("MaxStepCount")
            };
            site.changes.iter().filter(is_told).count()
        };
        assert_eq!(draining(&site), 2, "{:?}", site.changes);
        // One that was on its way: it goes back to where it came from.
        assert_eq!(site.outcome(site.step(19, "true")).await, Outcome::Cancelled);
    });
}

fn a_node_that_cannot_be_reached() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let words =
            "Task launch for StepId=7.0 failed on node n2: Communication connection failure";
        fake.write("trouble", &format!("echo 'srun: error: {words}' >&2; exit 233\n"));
        let mut step = site.step(1, "true");
        step.nodes = vec![site.share(1, 1)];
        site.launch(step).await;
        let StepEvent::Ended { outcome, .. } = site.event().await else { panic!("it started") };
        assert_eq!(outcome, Outcome::NodeFailed);
        let changes: Vec<_> =
            site.changes.iter().map(|(node, state, _)| (node.as_str(), *state)).collect();
        assert_eq!(changes, [("n2", NodeState::Down)]);
        // Slurm does not know it yet, and its word does not count for a while.
        std::fs::remove_file(fake.path("trouble")).expect("removed");
        assert_eq!(site.outcome(site.step(2, "true")).await, Outcome::Exited { code: 0 });
        assert_eq!(site.changes.len(), 1);
    });
}

fn a_preempted_allocation_is_no_failure() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let job = std::fs::read_to_string(fake.path("job")).expect("is there");
        fake.write("job", &job.replace("PreemptTime=None", "PreemptTime=2000"));
        assert_eq!(site.outcome(site.step(1, "exit 4")).await, Outcome::Preempted);
        assert_eq!(site.outcome(site.step(2, "exit 0")).await, Outcome::Exited { code: 0 });
        // Slurm asks whoever asks to end, too.
        fake.write("deadly", "");
        assert_eq!(site.outcome(site.step(3, "exit 143")).await, Outcome::Preempted);
        assert!(!fake.path("deadly").exists(), "a question was ended");
    });
}

fn an_allocation_that_ends_loses_no_nodes() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let job = std::fs::read_to_string(fake.path("job")).expect("is there");
        let ending = job.replace("=RUNNING", "=COMPLETING").replace("=n[1-2]\n", "=n2\n");
        assert!(ending.contains("   NodeList=n2\n"));
        fake.write("job", &ending);
        assert_eq!(site.outcome(site.step(1, "exit 143")).await, Outcome::Lost);
        assert_eq!(site.changes, []);
    });
}

fn an_extended_allocation() {
    run(async {
        let fake = Fake::new();
        let mut site = fake.site().await;
        let wait = "until [ -e go ]; do sleep 0.1; done";
        site.launch(site.step(1, wait)).await;
        site.started(1).await;
        fake.ends_in(7200);
        // Trouble with a node makes the executor look; otherwise it looks seldom.
        let words =
            "Task launch for StepId=7.9 failed on node n2: Communication connection failure";
        fake.write("trouble", &format!("echo 'srun: error: {words}' >&2; exit 233\n"));
        assert_eq!(site.outcome(site.step(2, "true")).await, Outcome::NodeFailed);
        let asked = || std::fs::read_to_string(fake.path("asked")).expect("something was asked");
        while !asked().contains("update StepId=7.0 TimeLimit=119") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        std::fs::write(site.path("go"), "").expect("written");
        assert_eq!(site.end().await, (step_id(1), Outcome::Exited { code: 0 }));
        let end = site.executor.allocation().observe_end().await.expect("an answer");
        assert!(end > site.executor.ends_at());
        assert_eq!(site.executor.inventory().await.expect("nodes").len(), 2);
    });
}
