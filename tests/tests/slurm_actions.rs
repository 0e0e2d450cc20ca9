//! Actions on a real Slurm: what they ask for exists once, and what they run is run.

use std::time::Duration;

use torc_tests::{Cluster, ClusterPlace, Ended, Random, text};

const STAGES: usize = 5;

/// A chain of jobs, each with an allocation of its own that an action asks for when it is ready, and
/// with commands on every trigger.
fn stages() -> String {
    let mut spec = "name: w
compute_node_wait_for_new_jobs_seconds: 1
resource_requirements: [{name: one, num_cpus: 8, memory: 1g, runtime: PT1M}]
jobs:
"
    .to_owned();
    for stage in 1..=STAGES {
        let after = if stage == 1 { String::new() } else { format!("j{}", stage - 1) };
        spec.push_str(&format!(
            "- {{name: j{stage}, command: 'echo j{stage} >> ran', resource_requirements: one, \
scheduler: s{stage}, depends_on: [{after}]}}\n"
        ));
    }
    spec.push_str("slurm_schedulers:\n");
    for stage in 1..=STAGES {
        spec.push_str(&format!(
            "- {{name: s{stage}, account: science, nodes: 1, walltime: '00:10:00'}}\n"
        ));
    }
    spec.push_str(
        "actions:
- {trigger_type: on_workflow_start, action_type: run_commands, commands: ['echo >> began']}
- {trigger_type: on_workflow_complete, action_type: run_commands, commands: ['echo >> ended']}
- {trigger_type: on_worker_start, action_type: run_commands, persistent: true, commands: ['echo >> came']}
- {trigger_type: on_worker_complete, action_type: run_commands, persistent: true, commands: ['echo >> left']}
",
    );
    for stage in 1..=STAGES {
        spec.push_str(&format!(
            "- {{trigger_type: on_jobs_ready, jobs: [j{stage}], action_type: schedule_nodes, \
scheduler: s{stage}}}
- {{trigger_type: on_jobs_complete, jobs: [j{stage}], action_type: run_commands, \
commands: ['echo {stage} >> one', 'echo {stage} >> two']}}\n"
        ));
    }
    spec
}

/// How many jobs Slurm has been given by this place, those that are over included.
fn given_to_slurm(cluster: &Cluster, place: &ClusterPlace<'_>) -> usize {
    let all = cluster.slurm("squeue", &["--states=all", "--noheader", "--format=%Z"]).expect(0);
    let here = place.place.path().to_str().expect("it is UTF-8");
    all.stdout.lines().filter(|folder| folder.trim() == here).count()
}

#[test]
fn a_server_killed_at_random_moments_asks_once_and_runs_every_command() {
    const KILLS: u64 = 12;
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&stages());
    place.submit();
    place.kill_server();
    let mut random = Random(20_261_124);
    for _ in 0..KILLS {
        let server = place.place.serve();
        // Within this time much is done: what has ended is taken note of, and the next is asked for.
        std::thread::park_timeout(Duration::from_millis(random.below(500)));
        server.kill();
    }
    let is_over = |place: &ClusterPlace<'_>| place.place.json(&["status"])["state"] == "ended";
    assert!(!is_over(&place), "the kills came too late to mean anything");
    let server = place.place.serve();
    place.until("the end of the workflow", || is_over(&place).then_some(()));
    place.until("the last commands", || {
        place.place.join("torc_output/ended").exists().then_some(())
    });
    let ran = place.place.lines("ran");
    assert_eq!(ran, (1..=STAGES).map(|stage| format!("j{stage}")).collect::<Vec<_>>());
    assert_eq!(place.allocations().len(), STAGES);
    assert_eq!(given_to_slurm(&cluster, &place), STAGES, "{}", place.server_log());
    // Commands run in the output directory.
    let said = |name: &str| place.place.lines(&format!("torc_output/{name}"));
    for name in ["one", "two"] {
        let mut said = said(name);
        said.dedup();
        let stages: Vec<_> = (1..=STAGES).map(|stage| stage.to_string()).collect();
        assert_eq!(said, stages, "in {name}: each at least once, in order");
    }
    for (name, least) in [("began", 1), ("came", STAGES), ("left", STAGES)] {
        assert!(said(name).len() >= least, "{name}");
    }
    place.place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

/// Five schedulers, each with allocations for one job, and each asked for on another trigger; the fifth when all
/// jobs have ended, so that no job is left for it.
const TRIGGERS: &str = "name: w
compute_node_wait_for_new_jobs_seconds: 1
resource_requirements: [{name: one, num_cpus: 8, memory: 1g, runtime: PT1M}]
slurm_defaults: {account: science}
slurm_schedulers:
- {name: at_start, walltime: '00:10:00'}
- {name: after_first, walltime: '00:10:00'}
- {name: at_worker, walltime: '00:10:00'}
- {name: after_worker, walltime: '00:10:00'}
- {name: at_end, walltime: '00:10:00'}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: at_start}
- {trigger_type: on_jobs_complete, jobs: [first], action_type: schedule_nodes, scheduler: after_first}
- {trigger_type: on_worker_start, action_type: schedule_nodes, scheduler: at_worker}
- {trigger_type: on_worker_complete, action_type: schedule_nodes, scheduler: after_worker}
- {trigger_type: on_workflow_complete, action_type: schedule_nodes, scheduler: at_end}
- trigger_type: on_jobs_ready
  job_name_regexes: ['^b[12]$']
  action_type: run_commands
  commands: ['echo $TORC_WORKFLOW_ID >> ready', 'false', 'echo too far >> ready']
- {trigger_type: on_workflow_complete, action_type: run_commands, commands: ['echo over >> over']}
jobs:
- {name: first, command: 'true', resource_requirements: one, scheduler: at_start}
- {name: b1, command: 'true', resource_requirements: one, scheduler: after_first, depends_on: [first]}
- {name: b2, command: 'true', resource_requirements: one, scheduler: at_worker, depends_on: [first]}
- {name: b3, command: 'true', resource_requirements: one, scheduler: after_worker, depends_on: [first]}";

#[test]
fn every_trigger_asks_for_nodes_once_and_runs_commands() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(TRIGGERS);
    place.submit_and_wait().expect(0).says("4 completed");
    place
        .until("the last commands", || place.place.join("torc_output/over").exists().then_some(()));
    let allocations = place.allocations();
    let mut asked: Vec<(&str, bool)> =
        allocations.iter().map(|one| (text(one, "scheduler"), one["handle"].is_string())).collect();
    asked.sort_unstable();
    let expected = [
        ("after_first", true),
        ("after_worker", true),
        ("at_end", false),
        ("at_start", true),
        ("at_worker", true),
    ];
    assert_eq!(asked, expected, "{allocations:?}\n{}", place.server_log());
    assert_eq!(given_to_slurm(&cluster, &place), 4, "nothing was left for the fifth");
    // A command that fails ends its action.
    assert_eq!(place.place.lines("torc_output/ready"), ["1"]);
    assert_eq!(place.place.lines("torc_output/over"), ["over"]);
}

/// A job that fails with 42 until `fixed` is there, on an allocation of one node.
fn failing(header: &str) -> String {
    format!(
        "name: w
{header}
slurm_defaults: {{account: science}}
slurm_schedulers: [{{name: s, walltime: '00:10:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}]
resource_requirements: [{{name: one, num_cpus: 1, memory: 100m, runtime: PT1M}}]
failure_handlers:
- name: h
  rules: [{{exit_codes: [42], recovery_script: 'hostname > host; echo $$ >> scripts; until [ -e go ]; do sleep 0.1; done; touch fixed'}}]
jobs:
- {{name: a, command: 'echo tried >> tried; test -e fixed || exit $(cat code)', resource_requirements: one, failure_handler: h}}"
    )
}

#[test]
fn a_recovery_script_runs_on_the_servers_host_and_again_after_its_server_was_killed() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&failing("compute_node_wait_for_new_jobs_seconds: 1"));
    place.place.write("code", "42");
    place.submit();
    let scripts = |least: usize| {
        let path = place.place.join("scripts");
        place.until("the script", || {
            let said = std::fs::read_to_string(&path).ok()?;
            let pids: Vec<String> = said.lines().map(str::to_owned).collect();
            (pids.len() >= least).then_some(pids)
        })
    };
    let first = scripts(1).remove(0);
    place.place.torc(&["explain", "a"]).expect(0).says("its recovery script has ended");
    place.kill_server();
    place.until("the end of the script with its server", || {
        (!std::path::Path::new(&format!("/proc/{first}/exe")).exists()).then_some(())
    });
    let server = place.place.serve();
    scripts(2);
    place.place.write("go", "");
    place.until("the end of the workflow", || {
        (place.place.json(&["status"])["state"] == "ended").then_some(())
    });
    assert_eq!(place.place.json(&["status"])["counts"]["completed"], 1, "{}", place.server_log());
    assert_eq!(place.place.lines("tried").len(), 2);
    let here = nix::unistd::gethostname().expect("it has a name");
    assert_eq!(place.place.lines("host"), [here.to_string_lossy()]);
    assert_eq!(place.allocations().len(), 1, "its node was kept for it meanwhile");
    place.place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

#[test]
fn workers_that_are_kept_take_what_is_restarted_and_go_when_all_is_cancelled() {
    let Some(cluster) = Cluster::acquire() else { return };
    let header = "compute_node_ignore_workflow_completion: true
compute_node_wait_for_new_jobs_seconds: 1";
    let last = "\n- {trigger_type: on_worker_complete, action_type: run_commands, commands: ['echo left >> left']}";
    let spec = failing(header)
        .replace("actions: [{", "actions:\n- {")
        .replace("scheduler: s}]", &format!("scheduler: s}}{last}"));
    let place = cluster.place(&spec);
    place.place.write("code", "1");
    place.submit_and_wait().expect(1).says("1 failed");
    let queued = || cluster.slurm("squeue", &["--noheader", "--format=%T"]).stdout;
    let stage = || text(&place.allocations()[0], "stage").to_owned();
    // Longer than a worker without it would stay.
    std::thread::park_timeout(Duration::from_secs(5));
    assert_eq!((stage().as_str(), queued().trim()), ("active", "RUNNING"));
    assert!(!place.place.join("torc_output/left").exists());
    // A server that takes it up finds it as it was.
    place.kill_server();
    let server = place.place.serve();
    place.until("the worker", || (stage() == "active").then_some(()));
    place.place.write("fixed", "");
    place.place.torc(&["restart"]).expect(0).says("run");
    place.until("the end of the second run", || {
        let status = place.place.json(&["status"]);
        (status["counts"]["completed"] == 1 && status["state"] == "ended").then_some(())
    });
    assert_eq!(given_to_slurm(&cluster, &place), 1, "{}", place.server_log());
    assert_eq!((stage().as_str(), queued().trim()), ("active", "RUNNING"));
    place.place.torc(&["restart"]).expect(2).says("there is nothing to restart");
    place.place.torc(&["cancel"]).expect(0);
    cluster.until_empty();
    place
        .until("the last commands", || place.place.join("torc_output/left").exists().then_some(()));
    place.until("the end of the allocation", || (stage() == "ended").then_some(()));
    assert_eq!(place.place.lines("torc_output/left"), ["left"]);
    place.place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

/// The QOS `fast`, of which a user may have one job at a time, and one that is held.
struct Limited<'c> {
    cluster: &'c Cluster,
    holder: String,
}

impl<'c> Limited<'c> {
    fn set_up(cluster: &'c Cluster) -> Self {
        Self::set(cluster, "1").expect(0);
        let job = ["--qos=fast", "--account=science", "--hold", "--parsable", "--wrap=true"];
        let holder = cluster.slurm("sbatch", &job).stdout.trim().to_owned();
        Self { cluster, holder }
    }

    fn set(cluster: &Cluster, limit: &str) -> Ended {
        let limit = format!("MaxSubmitJobsPerUser={limit}");
        cluster.slurm("sacctmgr", &["--immediate", "modify", "qos", "fast", "set", &limit])
    }

    fn make_room(&self) {
        self.cluster.slurm("scancel", &[&self.holder]).expect(0);
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        // Others have this cluster, too. A job without a number is none.
        let _ = self.cluster.slurm("scancel", &["--quiet", &self.holder]);
        let _ = Self::set(self.cluster, "-1");
    }
}

#[test]
fn a_scheduler_at_its_limit_holds_up_no_other_and_gets_its_turn_later() {
    let Some(cluster) = Cluster::acquire() else { return };
    let limited = Limited::set_up(&cluster);
    let place = cluster.place(
        "name: w
slurm_defaults: {account: science}
slurm_schedulers:
- {name: limited, qos: fast, walltime: '00:10:00'}
- {name: free, walltime: '00:10:00'}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: limited}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: free}
jobs:
- {name: a, command: 'true', scheduler: limited}
- {name: b, command: 'true', scheduler: free}",
    );
    place.submit();
    place.until("the job that nothing holds up", || {
        (place.place.json(&["status"])["counts"]["completed"] == 1).then_some(())
    });
    let first = &place.allocations()[0];
    assert_eq!((text(first, "scheduler"), text(first, "stage")), ("limited", "requested"));
    assert!(text(first, "reason").contains("QOSMaxSubmitJobPerUserLimit"), "{first:#}");
    limited.make_room();
    place.until("the end of the workflow", || {
        (place.place.json(&["status"])["state"] == "ended").then_some(())
    });
    assert_eq!(place.place.json(&["status"])["counts"]["completed"], 2);
    assert_eq!(given_to_slurm(&cluster, &place), 2, "each was asked for once");
}
