//! Walltimes that move while an allocation runs, and what comes at their end, on a real Slurm.

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, now, number, text};

/// From SIGTERM to SIGKILL, and from there to the end of the allocation, in seconds.
const LEAD: u64 = 5;
const HEADROOM: u64 = 10;
/// How far a moment that Slurm names in whole seconds, or a signal's, may be off.
const TOLERANCE_MS: u64 = 2_000;

/// One allocation of one node for 20 minutes, with these jobs.
fn spec(mode: &str, jobs: &str) -> String {
    let signal = match mode {
        "direct" => format!("sigterm_lead_seconds: {LEAD}"),
        _ => format!("srun_termination_signal: TERM@{LEAD}"),
    };
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: 1, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
execution_config: {{mode: {mode}, {signal}, sigkill_headroom_seconds: {HEADROOM}}}
resource_requirements:
- {{name: one, num_cpus: 1, memory: 100m, runtime: PT30S}}
- {{name: long, num_cpus: 1, memory: 100m, runtime: PT5M}}
jobs:
{jobs}"
    )
}

/// The same with this job alone.
fn alone(mode: &str, command: &str) -> String {
    spec(mode, &format!("- {{name: j, command: '{command}', resource_requirements: one}}"))
}

/// A job's command that goes on until the file `go` is there, and notes that it is asked to end.
const GOES_ON: &str = "trap \"echo > asked\" TERM; until test -e go; do sleep 0.1; done";

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
    let place = cluster.place(&alone("slurm", GOES_ON));
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

/// A job's command that notes when it is asked to end, and that it is still there.
const STAYS: &str = "trap \"date +%s%3N > asked\" TERM; while :; do date +%s%3N > now && mv now alive; sleep 0.1; done";

/// What stayed was asked to end in time, was killed later, and is terminated.
#[track_caller]
fn check_terminated(place: &ClusterPlace<'_>, ends_at: u64) {
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
}

/// A worker that works is there when its time is up: what runs is asked, then killed, and is terminated.
#[track_caller]
fn bring_end_near(mode: &str) {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone(mode, STAYS));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 8;
    let moved = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let ends_at = number(&moved, "ends_at");
    place.until_allocation("nothing starts any more", |one| one["stage"] == "closing");
    submitted.wait().expect(1).says("1 terminated");
    check_terminated(&place, ends_at);
    let over = place.until_allocation("its end", |one| one["stage"] == "ended");
    assert_eq!(over["cause"], "completed", "Slurm did not have to end it: {over}");
}

#[test]
fn at_the_end_of_an_allocation_what_runs_is_asked_and_then_killed() {
    bring_end_near("slurm");
}

#[test]
fn in_mode_direct_what_runs_at_the_end_is_asked_and_then_killed() {
    bring_end_near("direct");
}

#[test]
fn in_mode_direct_what_runs_is_asked_to_end_without_a_server_too() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone("direct", STAYS).replace("00:20:00", "00:01:00"));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_at = number(&place.allocations()[0], "ends_at");
    place.kill_server();
    submitted.wait();
    let journal = place.place.join("torc_output/journal/wf1_al1.jsonl");
    place.until("an end in the journal", || {
        std::fs::read_to_string(&journal).ok().filter(|text| text.lines().count() == 1)
    });
    let _server = place.place.serve();
    place.until_over();
    check_terminated(&place, ends_at);
}

/// Waits until the moment has passed at which what ran had to be asked to end, unless the end has moved.
#[track_caller]
fn let_pass(place: &ClusterPlace<'_>, stop_at: u64) {
    assert!(now() < stop_at, "it was seen too late to mean anything");
    place.until("the moment that had been its end", || {
        (now() > stop_at + TOLERANCE_MS).then_some(())
    });
    assert!(!place.place.join("asked").exists());
}

#[test]
fn in_mode_direct_what_is_too_long_starts_when_the_end_moves_away() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        "direct",
        &format!(
            "- {{name: j, command: '{GOES_ON}', resource_requirements: one}}
- {{name: gate, command: 'until test -e open; do sleep 0.1; done', resource_requirements: one}}
- {{name: long, command: 'true', resource_requirements: long, depends_on: [gate]}}"
        ),
    ));
    let submitted = place.start_and_wait();
    place.until_running(2);
    let ends_in = LEAD + HEADROOM + 10;
    let near = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let stop_at = number(&near, "ends_at") - 1_000 * (LEAD + HEADROOM);
    place.place.write("open", "");
    place.until_counted(1, 1);
    place.place.torc(&["explain", "long"]).expect(0).says("the longest time left is");
    update(&cluster, &place, "TimeLimit=30");
    place.until_counted(1, 2);
    let_pass(&place, stop_at);
    place.place.write("go", "");
    submitted.wait().expect(0).says("3 completed");
}

/// Both the server and the allocation's worker look at it seldom, and each would ask what runs to end.
#[track_caller]
fn move_end_away_late(mode: &str) {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone(mode, GOES_ON).replace("00:20:00", "00:01:00"));
    place.place.set_env([("TORC_SLURM_LONGEST_POLL".to_owned(), "60s".to_owned())]);
    let submitted = place.start_and_wait();
    place.until_running(1);
    let stop_at = number(&place.allocations()[0], "ends_at") - 1_000 * (LEAD + HEADROOM);
    // Both have looked half a minute after the beginning.
    place.until("the last moments", || (now() > stop_at - 12_000).then_some(()));
    update(&cluster, &place, "TimeLimit=20");
    let_pass(&place, stop_at);
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
}

#[test]
fn an_end_that_moves_away_at_the_last_moment_ends_nothing() {
    move_end_away_late("slurm");
}

#[test]
fn in_mode_direct_an_end_that_moves_away_at_the_last_moment_ends_nothing() {
    move_end_away_late("direct");
}

#[test]
fn an_end_that_moves_away_before_it_comes_ends_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone("slurm", GOES_ON));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 6;
    let near = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let far = update(&cluster, &place, "EndTime=now+1200");
    let stop_at = number(&near, "ends_at") - 1_000 * (LEAD + HEADROOM);
    assert_eq!(far["stage"], "active");
    let_pass(&place, stop_at);
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
}

/// Slurm gives back the time that it took: the end that was told before passes and means nothing.
#[test]
fn a_suspended_allocation_does_not_come_to_its_end() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&alone("slurm", GOES_ON));
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ends_in = LEAD + HEADROOM + 8;
    let near = update(&cluster, &place, &format!("EndTime=now+{ends_in}"));
    let stop_at = number(&near, "ends_at") - 1_000 * (LEAD + HEADROOM);
    let job = text(&near, "handle");
    cluster.slurm("scontrol", &["suspend", job]).expect(0);
    place.until_allocation("its suspension", |one| one["observed"]["state"] == "suspended");
    let_pass(&place, stop_at);
    assert_eq!(place.allocations()[0]["stage"], "active");
    cluster.slurm("scontrol", &["resume", job]).expect(0);
    let more = [&format!("JobId={job}"), "EndTime=now+1200"];
    cluster.slurm("scontrol", &[&["update"], &more[..]].concat()).expect(0);
    place.until_allocation("its return", |one| one["observed"]["state"] == "running");
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
    assert!(!place.place.join("asked").exists());
}
