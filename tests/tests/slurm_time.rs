//! Walltimes that move while an allocation runs, and what comes at their end, on a real Slurm.

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, now, number, text};

/// From SIGTERM to SIGKILL, and from there to the end of the allocation, in seconds.
const LEAD: u64 = 5;
const HEADROOM: u64 = 10;
/// How far a moment that Slurm names in whole seconds, or a signal's, may be off.
const TOLERANCE_MS: u64 = 2_000;

/// One allocation of one node for 20 minutes, with this job alone.
fn alone(command: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: 1, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
execution_config: {{srun_termination_signal: TERM@{LEAD}, sigkill_headroom_seconds: {HEADROOM}}}
resource_requirements: [{{name: one, num_cpus: 1, memory: 100m, runtime: PT1M}}]
jobs:
- {{name: j, command: '{command}', resource_requirements: one}}"
    )
}

#[track_caller]
fn check_near(found: u64, expected: u64, what: &str) {
    let off = found.abs_diff(expected);
    assert!(off <= TOLERANCE_MS, "{what}: {found} is {off} ms from {expected}");
}

/// Moves the end of the first allocation, and returns what torc says of it once it has heard.
fn update(cluster: &Cluster, place: &ClusterPlace<'_>, what: &str) -> Value {
    let before = place.allocations()[0].clone();
    let job = format!("JobId={}", text(&before, "handle"));
    cluster.slurm("scontrol", &["update", &job, what]).expect(0);
    place.until_allocation("another end", |one| one["ends_at"] != before["ends_at"])
}

#[test]
fn a_moved_end_is_seen() {
    const MINUTE: u64 = 60_000;
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone("until test -e go; do sleep 0.1; done"));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let first = number(&place.allocations()[0], "ends_at");
    let longer = update(&cluster, &place, "TimeLimit=50");
    check_near(number(&longer, "ends_at"), first + 30 * MINUTE, "half an hour more");
    place.place.torc(&["allocations"]).expect(0).says("  49 min ");
    let asked_at = now();
    let shorter = update(&cluster, &place, "EndTime=now+600");
    check_near(number(&shorter, "ends_at"), asked_at + 10 * MINUTE, "ten minutes from then");
    place.place.torc(&["allocations"]).expect(0).says("  9 min ");
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
}

/// A worker that works is there when its time is up: what runs is asked, then killed, and is terminated.
#[test]
fn at_the_end_of_an_allocation_what_runs_is_asked_and_then_killed() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone(
        "trap \"date +%s%3N > asked\" TERM; while :; do date +%s%3N > now && mv now alive; sleep 0.1; done",
    ));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 8;
    let moved = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let ends_at = number(&moved, "ends_at");
    place.until_allocation("nothing starts any more", |one| one["stage"] == "closing");
    submitted.wait().expect(1).says("1 terminated");
    let moment = |file: &str| place.place.read(file).trim().parse::<u64>().expect("a moment");
    check_near(moment("asked"), ends_at - 1_000 * (LEAD + HEADROOM), "SIGTERM");
    check_near(moment("alive"), moment("asked") + 1_000 * LEAD, "SIGKILL");
    let attempt = &place.place.attempts("j")[0];
    assert_eq!(
        (text(attempt, "status"), attempt["return_code"].as_i64()),
        ("terminated", Some(152)),
        "{attempt}"
    );
    assert_eq!(attempt["outcome"]["outcome"], "timed_out", "{attempt}");
    let over = place.until_allocation("its end", |one| one["stage"] == "ended");
    assert_eq!(over["cause"], "completed", "Slurm did not have to end it: {over}");
}

#[test]
fn an_end_that_moves_away_before_it_comes_ends_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place =
        cluster.place(&alone("trap \"echo > asked\" TERM; until test -e go; do sleep 0.1; done"));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 6;
    let near = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let far = update(&cluster, &place, "EndTime=now+1200");
    let stop_at = number(&near, "ends_at") - 1_000 * (LEAD + HEADROOM);
    assert!(now() < stop_at, "it was seen too late to mean anything");
    assert_eq!(far["stage"], "active");
    place.until("the moment that had been its end", || {
        (now() > stop_at + TOLERANCE_MS).then_some(())
    });
    assert!(!place.place.join("asked").exists());
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
}

/// Slurm gives back the time that it took: the end that was told before passes and means nothing.
#[test]
fn a_suspended_allocation_does_not_come_to_its_end() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place =
        cluster.place(&alone("trap \"echo > asked\" TERM; until test -e go; do sleep 0.1; done"));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 8;
    let near = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let stop_at = number(&near, "ends_at") - 1_000 * (LEAD + HEADROOM);
    let job = text(&near, "handle");
    cluster.slurm("scontrol", &["suspend", job]).expect(0);
    place.until_allocation("its suspension", |one| one["observed"]["state"] == "suspended");
    assert!(now() < stop_at, "it was seen too late to mean anything");
    place.until("the moment that had been its end", || {
        (now() > stop_at + TOLERANCE_MS).then_some(())
    });
    assert_eq!(place.allocations()[0]["stage"], "active");
    cluster.slurm("scontrol", &["resume", job]).expect(0);
    let more = [&format!("JobId={job}"), "EndTime=now+1200"];
    cluster.slurm("scontrol", &[&["update"], &more[..]].concat()).expect(0);
    place.until_allocation("its return", |one| one["observed"]["state"] == "running");
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
    assert!(!place.place.join("asked").exists());
}
