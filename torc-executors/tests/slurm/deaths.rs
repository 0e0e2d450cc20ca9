//! What is left when something that watches dies, and when the allocation itself ends.

use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_core::traits::{NodeState, Outcome, StepEvent};

use crate::cluster::fail;
use crate::site::{Site, Test, Where, appears, run, step_id, steps_left};

pub(crate) const TESTS: &[Test] = &[
    Test::new("a_killed_srun_leaves_no_step", a_killed_srun_leaves_no_step),
    Test::new("a_killed_keeper_leaves_no_step", a_killed_keeper_leaves_no_step),
    Test::new("a_killed_worker_leaves_no_step", a_killed_worker_leaves_no_step),
    Test::new("an_orphan_of_an_earlier_worker_is_cleared", an_orphan_is_cleared),
    Test::new("the_end_of_the_allocation_is_no_failure", the_end_of_the_allocation),
    Test {
        place: Where::Main { nodes: 3 },
        ..Test::new("a_node_that_dies_takes_its_steps_only", a_node_that_dies)
    },
];

/// What this program is called with to run a step until it is killed, before a folder.
const VICTIM: &str = "__victim";

/// Processes of this host whose command line has these words.
fn processes(words: &[&str]) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("readable");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        words.iter().all(|word| line.contains(word))
    };
    ids.filter(has).collect()
}

/// The sruns of a step of this allocation.
fn sruns(site: &Site, job: u32) -> Vec<i32> {
    let name = format!("--job-name={}", step_id(job));
    let found = processes(&["srun", &name, &site.text_path("out")]);
    found.into_iter().filter(|&pid| is_srun(pid)).collect()
}

fn is_srun(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "srun")
}

/// An srun has a child that ends with it, and may be gone before it is its turn.
fn kill_all(pids: &[i32]) {
    let killed = pids.iter().map(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
    let killed: Vec<_> = killed.filter(|&killed| killed != Err(Errno::ESRCH)).collect();
    assert!(!killed.is_empty() && killed.iter().all(Result::is_ok), "{killed:?}");
}

fn a_killed_srun_leaves_no_step() {
    run(async {
        let mut site = Site::new().await;
        site.launch(site.step(1, "echo > ready; exec sleep 1000")).await;
        appears(&site.path("ready")).await;
        site.started(1).await;
        kill_all(&sruns(&site, 1));
        assert_eq!(site.end().await.1, Outcome::Lost);
        site.all_gone().await;
    });
}

fn a_killed_keeper_leaves_no_step() {
    run(async {
        let mut site = Site::new().await;
        site.launch(site.step(1, "echo > ready; exec sleep 1000")).await;
        appears(&site.path("ready")).await;
        site.started(1).await;
        let srun = sruns(&site, 1);
        let status = std::fs::read_to_string(format!("/proc/{}/stat", srun[0])).expect("runs");
        let (_, fields) = status.rsplit_once(')').expect("a name");
        let keeper: i32 =
            fields.split_whitespace().nth(1).expect("a parent").parse().expect("a number");
        kill_all(&[keeper]);
        assert_eq!(site.end().await.1, Outcome::Lost);
        site.all_gone().await;
    });
}

/// Runs a step until it is killed.
pub(crate) fn victim_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != VICTIM {
        return None;
    }
    let ready = arguments.next()?;
    run(async {
        let site = Site::new().await;
        site.launch(site.step(1, &format!("echo > {ready}; exec sleep 1000"))).await;
        std::future::pending::<()>().await;
    });
    None
}

/// A worker of its own with a step that runs.
async fn victim(site: &Site) -> std::process::Child {
    let program = std::env::current_exe().expect("this program");
    let ready = site.path("victim");
    let child = Command::new(program)
        .arg(VICTIM)
        .arg(&ready)
        .stdin(Stdio::null())
        .spawn()
        .expect("another worker starts");
    appears(&ready).await;
    child
}

fn a_killed_worker_leaves_no_step() {
    run(async {
        let site = Site::new().await;
        let mut child = victim(&site).await;
        assert_eq!(steps_left(site.executor.allocation().job()).len(), 1);
        child.kill().expect("is killed");
        child.wait().expect("is reaped");
        // Its keeper is still there, and ends the step.
        site.all_gone().await;
    });
}

fn an_orphan_is_cleared() {
    run(async {
        let site = Site::new().await;
        let mut child = victim(&site).await;
        let job = site.executor.allocation().job();
        // Everybody at once, as when a host runs out of memory.
        let name = format!("--job-name={}", step_id(1));
        let mut everybody: Vec<i32> = processes(&["srun", &name]);
        everybody.retain(|&pid| is_srun(pid) && belongs_to(pid, job));
        let parent = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
            let (_, fields) = stat.rsplit_once(')').expect("a name");
            fields.split_whitespace().nth(1).expect("a parent").parse::<i32>().expect("a number")
        };
        let keeper = parent(everybody[0]);
        let worker = i32::try_from(child.id()).expect("fits");
        everybody.splice(0..0, [worker, keeper]);
        // Stopped first, so that none can see another die.
        everybody.iter().for_each(|&pid| {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("is stopped");
        });
        kill_all(&everybody);
        child.wait().expect("is reaped");
        assert_eq!(steps_left(job).len(), 1, "a step does not end with its srun");
        let _next = Site::new().await;
        site.all_gone().await;
    });
}

fn belongs_to(pid: i32, job: &str) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let wanted = format!("SLURM_JOB_ID={job}");
    environ.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
}

/// In an allocation of its own, which it cancels.
fn the_end_of_the_allocation() {
    run(async {
        let granted = Command::new("salloc")
            .args(["--no-shell", "--nodes=1", "--partition=threads", "--time=10", "--no-kill"])
            .args(["--exclusive", "--mem=0", "--job-name=test-to-be-cancelled"])
            .env_remove("SLURM_JOB_ID")
            .output()
            .expect("salloc runs");
        let said = String::from_utf8_lossy(&granted.stderr).into_owned();
        let id = said.lines().find_map(|line| line.split_once("Granted job allocation "));
        let (_, id) = id.unwrap_or_else(|| panic!("no allocation: {said}"));
        let id = id.trim().to_owned();
        let mut site = Site::with(|config| {
            config.base_env.retain(|(name, _)| !name.to_string_lossy().starts_with("SLURM_JOB"));
            config.base_env.push(("SLURM_JOB_ID".into(), id.as_str().into()));
        })
        .await;
        // One lets the signal end it, one makes a failure of it, one succeeds nevertheless.
        for (job, script) in [
            (1, "exec sleep 1000"),
            (2, "trap 'exit 9' TERM; sleep 1000 & wait"),
            (3, "trap 'exit 0' TERM; sleep 1000 & wait"),
        ] {
            let mut step = site.step(job, &format!("echo > ready{job}; {script}"));
            step.nodes = vec![site.share(0, 2)];
            site.launch(step).await;
        }
        for job in 1..=3 {
            appears(&site.path(&format!("ready{job}"))).await;
        }
        let cancelled = Command::new("scancel").arg(&id).status().expect("scancel runs");
        assert!(cancelled.success());
        let mut ends = Vec::new();
        while ends.len() < 3 {
            if let StepEvent::Ended { step, outcome, .. } = site.event().await {
                ends.push((step.job.0, outcome));
            }
        }
        ends.sort_by_key(|(job, _)| *job);
        assert_eq!(ends[0], (1, Outcome::Lost));
        assert_eq!(ends[1], (2, Outcome::Lost));
        assert!(matches!(ends[2], (3, Outcome::Exited { code: 0 } | Outcome::Lost)), "{ends:?}");
        assert!(site.changes.iter().all(|(_, state, _)| *state != NodeState::Up));
    });
}

fn a_node_that_dies() {
    run(async {
        let mut site = Site::new().await;
        // The first node is the batch script's, and survives.
        let doomed = site.nodes[2].name.to_string();
        site.launch(site.step(1, "echo > ready1; until [ -e go ]; do sleep 0.1; done")).await;
        let mut gang = site.gang(2, 1, "echo > ready2$SLURM_PROCID; exec sleep 1000");
        gang.nodes.remove(0);
        gang.layout.cpus_per_node = 6;
        site.launch(gang).await;
        for file in ["ready1", "ready20", "ready21"] {
            appears(&site.path(file)).await;
        }
        fail(&doomed).await;
        // Slurm does not know it yet: srun cannot reach the node, or finds it gone.
        let mut step = site.step(3, "true");
        step.nodes = vec![site.share(2, 1)];
        site.launch(step).await;
        let mut ends = [site.end().await, site.end().await];
        ends.sort_by_key(|(id, _)| id.job);
        assert_eq!(ends, [2, 3].map(|job| (step_id(job), Outcome::NodeFailed)));
        let told: Vec<_> =
            site.changes.iter().map(|(node, state, _)| (node.as_str(), *state)).collect();
        assert_eq!(told, [(doomed.as_str(), NodeState::Down)], "{:?}", site.changes);
        // Now it does; and what runs elsewhere goes on.
        let mut step = site.step(4, "true");
        step.nodes = vec![site.share(2, 1)];
        assert_eq!(site.outcome(step).await, Outcome::NodeFailed);
        let sight = "echo $CUDA_VISIBLE_DEVICES $SLURM_CPUS_PER_TASK $SLURM_CPUS_ON_NODE > sight";
        let mut step = site.step(5, sight);
        step.nodes = vec![site.share(1, 8)];
        step.nodes[0].gpus = Box::new(["1".into()]);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("sight"), "1 8 8\n");
        std::fs::write(site.path("go"), "").expect("written");
        assert_eq!(site.end().await, (step_id(1), Outcome::Exited { code: 0 }));
    });
}
