//! Mode direct on a real Slurm: a worker on each node, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::{Signal, kill};
use torc_tests::{
    Cluster, ClusterPlace, allocated, direct_spec as spec, nodes, number, outcome, processes, text,
};

/// Jobs of a whole node that wait until the file `go` is there.
const HELD: &str = "- {name: 'j{i}', command: 'echo $TORC_JOB_NAME >> ran; until test -e go; do sleep 0.1; done', \
                    resource_requirements: whole, parameters: {i: '1:4'}}";

/// The worker of a node of the only workflow.
fn node_worker(place: &ClusterPlace<'_>, node: &str) -> nix::unistd::Pid {
    let scratch = place.place.join("torc_output").join("scratch/crew_.*");
    let pattern = format!("node-worker .*--scratch {} ", scratch.display());
    let is_there = |pid: &nix::unistd::Pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let wanted = format!("SLURMD_NODENAME={node}");
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "torc"
            && environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
    };
    let found: Vec<_> = processes(&pattern).into_iter().filter(is_there).collect();
    // Its keeper is the same program.
    *found.iter().min().unwrap_or_else(|| panic!("no worker on {node}"))
}

/// The name, state and number of nodes of a Slurm job and each of its steps, once all of it is over: Slurm writes
/// down the end of the job last.
fn accounted(place: &ClusterPlace<'_>) -> Vec<[String; 3]> {
    let job = text(&place.allocations()[0], "handle").to_owned();
    place.until("the end of the job in the accounting", || {
        let steps = place.cluster.accounting(&job, "JobName,State,NNodes");
        let steps: Vec<[String; 3]> =
            steps.into_iter().map(|step| step.try_into().expect("three fields")).collect();
        steps.first().is_some_and(|[_, state, _]| state == "COMPLETED").then_some(steps)
    })
}

#[test]
fn ten_thousand_jobs_make_a_handful_of_steps() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        4,
        "jobs:
- {name: 'j{i:05d}', command: 'true', resource_requirements: one, parameters: {i: '1:10000'}}",
    ));
    place.submit_and_wait().expect(0).says("10000 completed");
    let steps = accounted(&place);
    let of_workers: Vec<_> = steps.iter().filter(|step| step[0] == "torc_workers").collect();
    assert_eq!(of_workers.len(), 1, "{steps:?}");
    assert_eq!(of_workers[0][2], "4", "{steps:?}");
    assert!(steps.len() <= 4, "the job, its batch step, and that of the workers: {steps:?}");
    let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
    for attempt in place.place.results() {
        *by_node.entry(nodes(&attempt)[0].to_owned()).or_default() += 1;
    }
    assert_eq!(by_node.len(), 4, "they do not crowd onto the first node: {by_node:?}");
}

#[test]
fn gangs_add_the_steps_that_they_start_themselves() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        4,
        "jobs:
- {name: 's{i:03d}', command: 'true', resource_requirements: one, parameters: {i: '1:300'}}
- {name: 'g{i}', command: 'srun printenv SLURMD_NODENAME', resource_requirements: ranks, parameters: {i: '1:6'}}",
    ));
    place.submit_and_wait().expect(0).says("306 completed");
    for attempt in place.place.results().iter().filter(|attempt| nodes(attempt).len() == 2) {
        let output = fs::read_to_string(text(attempt, "stdout")).expect("it has output");
        assert_eq!(output.lines().count(), 4, "{attempt}");
    }
    let steps = accounted(&place);
    let ended_well = steps.iter().all(|[_, state, _]| state == "COMPLETED");
    assert!(ended_well, "nothing of it was killed: {steps:?}");
    // The first is the job itself.
    let steps = steps.into_iter().skip(1).map(|[name, _, nodes]| [name, nodes]);
    let mut steps: Vec<[String; 2]> = steps.collect();
    steps.sort_unstable();
    let gangs = (301..=306).map(|job| [format!("torc_wf1_j{job}_r1_a1"), "2".to_owned()]);
    let own = [["batch", "1"], ["torc_workers", "4"]];
    let mut expected: Vec<_> =
        own.map(|step| step.map(str::to_owned)).into_iter().chain(gangs).collect();
    expected.sort_unstable();
    assert_eq!(steps, expected);
}

#[test]
fn jobs_are_packed_by_node_and_see_their_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        2,
        "jobs:
- {name: 'j{i}', command: 'echo $SLURMD_NODENAME $SLURM_JOB_NODELIST ${SLURM_STEP_ID-none} ${SLURM_PROCID-none}; \
sleep 0.2', resource_requirements: five, parameters: {i: '1:8'}}",
    ));
    place.submit_and_wait().expect(0).says("8 completed");
    let mut by_node: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for attempt in place.place.results() {
        let node = nodes(&attempt)[0];
        let output = fs::read_to_string(text(&attempt, "stdout")).expect("it has output");
        assert_eq!(output.trim(), format!("{node} {node} none none"), "{attempt}");
        let span = (number(&attempt, "dispatched_at"), number(&attempt, "ended_at"));
        by_node.entry(node.to_owned()).or_default().push(span);
    }
    assert_eq!(by_node.len(), 2);
    for (node, mut spans) in by_node {
        spans.sort_unstable();
        let overlap = spans.windows(2).find(|pair| pair[1].0 < pair[0].1);
        assert_eq!(overlap, None, "5 and 5 of 8 CPUs do not fit {node} at once");
    }
}

#[test]
fn jobs_end_as_they_do_anywhere_else() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = spec(
        1,
        "- {name: small, num_cpus: 1, memory: 100m, runtime: PT2S}
jobs:
- {name: fails, command: 'exit 7', resource_requirements: one}
- {name: killed, command: 'kill -9 $$', resource_requirements: one}
- {name: slow, command: 'sleep 600', resource_requirements: small}
- {name: hungry, command: 'python3 -c \"import time; b = bytearray(300 << 20); time.sleep(600)\"', \
resource_requirements: one}
- {name: asks, command: 'srun hostname; srun -n1 printenv SLURM_STEP_NODELIST', resource_requirements: one}",
    );
    let place =
        cluster.place(&jobs.replace("mode: direct,", "mode: direct, enforce_runtime: true,"));
    place.submit_and_wait().expect(1).says("1 completed");
    let end = |job: &str| {
        let attempt = place.place.attempts(job).pop().expect("it ran");
        (outcome(&attempt).to_owned(), attempt["return_code"].as_i64())
    };
    assert_eq!(end("fails"), ("exited".to_owned(), Some(7)));
    assert_eq!(end("killed"), ("signaled".to_owned(), Some(137)));
    assert_eq!(end("slow"), ("timed_out".to_owned(), Some(152)));
    assert_eq!(end("hungry"), ("out_of_memory".to_owned(), Some(137)));
    assert_eq!(end("asks"), ("exited".to_owned(), Some(0)));
}

#[test]
fn a_worker_that_is_killed_costs_its_nodes_jobs_and_nothing_else() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(4, &format!("jobs:\n{HELD}")));
    let waiting = place.start_and_wait();
    place.until_running(4);
    let victim = place.place.attempts("j2")[0].clone();
    let node = nodes(&victim)[0];
    kill(node_worker(&place, node), Signal::SIGKILL).expect("it is there");
    place.until("the end of its job", || {
        let attempts = place.place.attempts("j2");
        attempts.iter().any(|attempt| outcome(attempt) == "lost").then_some(())
    });
    place.place.torc(&["nodes", "1"]).expect(0).says(node).says("its worker");
    place.place.write("go", "");
    waiting.wait().expect(0).says("4 completed");
    let attempts = place.place.results();
    assert_eq!(attempts.len(), 5, "one was lost, and ran again");
    let again = &place.place.attempts("j2")[1];
    assert_ne!(nodes(again)[0], node, "the node is not used any more");
}

#[test]
fn a_node_that_fails_costs_its_jobs_and_its_gang_and_nothing_else() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "jobs:
- {name: 'j{i}', command: 'until test -e go; do sleep 0.1; done', resource_requirements: whole, \
parameters: {i: '1:2'}}
- {name: wide, command: 'until test -e go; do sleep 0.1; done', resource_requirements: wide, priority: 1}";
    let place = cluster.place(&spec(4, jobs));
    let waiting = place.start_and_wait();
    place.until_running(3);
    let wide = place.place.attempts("wide")[0].clone();
    // Not the first node of the allocation: losing that ends it.
    let victim = nodes(&wide)[1];
    let _dead = cluster.fail_node(victim, true);
    place.until("the end of the gang", || {
        let attempts = place.place.attempts("wide");
        attempts.iter().any(|attempt| outcome(attempt) == "node_failed").then_some(())
    });
    place.place.write("go", "");
    waiting.wait().expect(0).says("3 completed");
    assert_eq!(place.place.results().len(), 4, "the others went on");
}

#[test]
fn a_server_that_is_killed_costs_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(2, &format!("jobs:\n{HELD}")));
    let waiting = place.start_and_wait();
    place.until_running(2);
    place.kill_server();
    place.place.write("go", "");
    waiting.wait();
    let _server = place.place.serve();
    place.until_over();
    let attempts = place.place.results();
    assert_eq!(attempts.len(), 4, "each ran once: {attempts:?}");
    assert_eq!(place.place.lines("ran").len(), 4);
}

#[test]
fn an_allocation_that_is_cancelled_gives_its_jobs_back() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "jobs:
- {name: well, command: 'trap \"sleep 1; echo well >> ran; exit 0\" TERM; touch ready1; \
while :; do sleep 0.1; done', resource_requirements: one}
- {name: ill, command: 'trap \"exit 3\" TERM; touch ready2; while :; do sleep 0.1; done', \
resource_requirements: one}";
    let place = cluster.place(&spec(2, jobs));
    let waiting = place.start_and_wait();
    let are_ready = || place.place.join("ready1").exists() && place.place.join("ready2").exists();
    place.until("the start of both", || are_ready().then_some(()));
    cluster.slurm("scancel", &[text(&place.allocations()[0], "handle")]).expect(0);
    waiting.wait().expect(1).says("1 completed").says("1 ready");
    let attempts = place.place.results();
    let mut ends: Vec<(&str, &str)> = attempts
        .iter()
        .map(|attempt| (attempt["job"].as_str().unwrap_or_default(), outcome(attempt)))
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, [("ill", "lost"), ("well", "exited")]);
    assert_eq!(place.place.lines("ran"), ["well"], "it ran once");
}

#[test]
fn a_gang_beside_small_jobs_starts_its_ranks_on_its_own_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        4,
        "jobs:
- {name: wide, command: 'srun printenv SLURMD_NODENAME | sort; cat $TORC_HOSTFILE; echo $SLURM_NTASKS', \
resource_requirements: ranks, priority: 1}
- {name: 's{i}', command: 'sleep 0.2', resource_requirements: one, parameters: {i: '1:40'}}",
    ));
    place.submit_and_wait().expect(0).says("41 completed");
    let wide = &place.place.attempts("wide")[0];
    let [first, second] = nodes(wide)[..] else { panic!("two nodes: {wide}") };
    let output = fs::read_to_string(text(wide, "stdout")).expect("it has output");
    let expected = [first, first, second, second, first, second, "4"];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn so_many_jobs_run_at_once_on_a_node_whatever_they_need() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = spec(
        2,
        "- {name: large, num_cpus: 8, memory: 100g, runtime: PT1M}
jobs:
- {name: 'j{i}', command: 'sleep 0.5', resource_requirements: large, parameters: {i: '1:16'}}",
    );
    let place =
        cluster.place(&jobs.replace("per_node: true", "per_node: true, max_parallel_jobs: 4"));
    place.submit_and_wait().expect(0).says("16 completed");
    let mut by_node: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for attempt in place.place.results() {
        let span = (number(&attempt, "started_at"), number(&attempt, "ended_at"));
        by_node.entry(nodes(&attempt)[0].to_owned()).or_default().push(span);
    }
    assert_eq!(by_node.len(), 2);
    for spans in by_node.values() {
        let at =
            |moment: u64| spans.iter().filter(|(from, to)| (*from..*to).contains(&moment)).count();
        assert_eq!(spans.iter().map(|(from, _)| at(*from)).max(), Some(4), "{spans:?}");
    }
}

#[test]
fn commands_for_workers_run_on_each_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = spec(2, &format!("jobs:\n{HELD}")).replace(
        "actions: [",
        "actions: [{trigger_type: on_worker_start, action_type: run_commands, persistent: true, \
         commands: ['echo begins on $SLURMD_NODENAME']}, {trigger_type: on_worker_complete, \
         action_type: run_commands, persistent: true, commands: ['echo leaves $SLURMD_NODENAME']}, ",
    );
    let place = cluster.place(&jobs);
    place.place.write("go", "");
    place.submit_and_wait().expect(0).says("4 completed");
    let allocation = &place.allocations()[0];
    for node in allocation["nodes"].as_array().expect("a list") {
        let name = node["name"].as_str().expect("a name");
        let output = |action: u32| {
            place
                .place
                .read(&format!("torc_output/job_stdio/action_wf1_r1_x{action}_al1_{name}.log"))
        };
        assert_eq!(output(1), format!("begins on {name}\n"));
        assert_eq!(output(2), format!("leaves {name}\n"));
    }
}

/// Four jobs that hold a node each until `go_` with their name is there, or `go`. Each worker that leaves writes
/// down its node.
fn until_told(release_idle_nodes: bool) -> String {
    let mode = format!("mode: direct, release_idle_nodes: {release_idle_nodes},");
    spec(4, &format!("jobs:\n{HELD}"))
        .replace("mode: direct,", &mode)
        .replace("new_jobs_seconds: 5", "new_jobs_seconds: 1")
        .replace("until test -e go;", "until test -e go || test -e go_$TORC_JOB_NAME;")
        .replace(
            "actions: [",
            "actions: [{trigger_type: on_worker_complete, action_type: run_commands, persistent: true, \
             commands: ['echo $SLURMD_NODENAME >> left']}, ",
        )
}

/// The jobs with the nodes that they run on, but for the one on this node.
fn others(place: &ClusterPlace<'_>, first: &str) -> Vec<(&'static str, String)> {
    let node_of = |job: &str| nodes(&place.place.attempts(job)[0])[0].to_owned();
    let all = ["j1", "j2", "j3", "j4"].map(|job| (job, node_of(job)));
    all.into_iter().filter(|(_, node)| node != first).collect()
}

#[test]
fn idle_nodes_are_given_back_one_by_one_after_their_last_commands() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&until_told(true));
    let waiting = place.start_and_wait();
    place.until_running(4);
    let allocation = place.allocations()[0].clone();
    let handle = text(&allocation, "handle").to_owned();
    let first = allocated(&allocation)[0];
    let until_nodes = |count: usize| {
        place.until(&format!("{count} nodes in Slurm's books"), || {
            (nodes_held(&cluster, &handle) == count.to_string()).then_some(())
        });
    };
    let mut left = Vec::new();
    for ((job, node), kept) in others(&place, first).into_iter().zip([3, 2, 1]) {
        place.place.write(&format!("go_{job}"), "");
        until_nodes(kept);
        left.push(node);
        assert_eq!(place.place.lines("torc_output/left"), left, "before it was given back");
    }
    place.place.torc(&["nodes", "1"]).expect(0).says("it was given back");
    place.place.write("go", "");
    waiting.wait().expect(0).says("4 completed");
    assert_eq!(place.place.results().len(), 4, "each ran once");
    left.push(first.to_owned());
    assert_eq!(place.place.lines("torc_output/left"), left, "once for each");
}

/// How many nodes Slurm says that an allocation has.
fn nodes_held(cluster: &Cluster, handle: &str) -> String {
    let shown = cluster.slurm("squeue", &["--noheader", "--format=%D", "--jobs", handle]);
    shown.stdout.trim().to_owned()
}

#[test]
fn the_workers_of_idle_nodes_leave_but_for_one_in_reserve() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&until_told(false));
    let waiting = place.start_and_wait();
    place.until_running(4);
    let allocation = place.allocations()[0].clone();
    let first = allocated(&allocation)[0];
    let mut left = Vec::new();
    let others = others(&place, first);
    for (job, node) in &others[..2] {
        place.place.write(&format!("go_{job}"), "");
        place.until("the end of a worker", || {
            let shown = place.place.torc(&["nodes", "1"]).expect(0).stdout;
            let is_gone =
                |line: &str| line.contains(&**node) && line.contains("its worker has left");
            shown.lines().any(is_gone).then_some(())
        });
        left.push(node.clone());
        assert_eq!(place.place.lines("torc_output/left"), left, "after its last commands");
    }
    place.place.write(&format!("go_{}", others[2].0), "");
    place.until("the end of the third job", || {
        place.place.torc(&["status"]).stdout.contains("3 completed").then_some(())
    });
    assert_eq!(nodes_held(&cluster, text(&allocation, "handle")), "4", "none was given back");
    place.place.write("go", "");
    waiting.wait().expect(0).says("4 completed");
    let last = place.place.lines("torc_output/left").split_off(2);
    let expected: BTreeSet<_> = [first, &*others[2].1].into();
    assert_eq!(last.iter().map(|node| &**node).collect::<BTreeSet<_>>(), expected);
}
