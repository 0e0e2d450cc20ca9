//! Looking at a run and steering it from a second terminal, and looking at it afterwards.

use nix::sys::signal::Signal;
use torc_tests::{Fifo, Place, Started};

/// A workflow that waits: `holder` holds one of two CPUs until the gate `go` is opened.
fn waiting() -> (Place, Started, Fifo) {
    let place = Place::with(
        r#"
name: waiting
jobs:
  - {name: holder, command: "echo begun; echo > holds; read < go; echo done", priority: 1}
  - {name: quick, command: "echo quick >&2; exit 3"}
  - {name: after, command: "true", depends_on: [holder]}
  - {name: later, command: "true", depends_on: [after]}"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let mut run = place.start_run(&[]);
    run.wait_until_it_says("job quick failed with code 3");
    holds.line();
    (place, run, holds)
}

#[test]
fn status_jobs_and_results_answer_while_a_run_runs_and_afterwards() {
    let (place, run, _holds) = waiting();
    let status = place.torc(&["status"]).expect(0);
    status.says("workflow 1 `waiting`, run 1: running").says("running: holder").says("1/2");
    status.says("2 blocked").says("3 jobs left");
    place.expect_jobs("holder running\nquick failed\nafter blocked\nlater blocked");
    let results = place.torc(&["results"]).expect(0);
    results.says("wf1_j1_r1_a1").says("wf1_j2_r1_a1").says("running").says("failed");
    assert_eq!(place.torc(&["jobs", "--status", "blocked"]).expect(0).stdout.lines().count(), 3);
    place.torc(&["status", "2"]).expect(2).says("there is no workflow 2");
    place.open_gate("go", 1);
    run.wait().expect(1).says("3 completed, 1 failed");
    place.torc(&["status"]).expect(0).says("run 1: ended").says("0 jobs left");
    place.expect_jobs("holder completed\nquick failed\nafter completed\nlater completed");
    assert!(!place.join("torc_output/server.json").exists(), "the note is taken back");
}

#[test]
fn logs_show_what_a_job_has_printed_so_far() {
    let (place, run, _holds) = waiting();
    assert_eq!(place.torc(&["logs", "holder"]).expect(0).stdout, "begun\n");
    assert_eq!(place.torc(&["logs", "quick"]).expect(0).stdout, "quick\n");
    place.torc(&["logs", "after"]).expect(2).says("has not started yet; -f waits for it");
    place.torc(&["logs", "holdr"]).expect(2).says("did you mean `holder`?");
    place.torc(&["logs", "holder", "--attempt", "wf1_j1_r1_a2"]).expect(2).says("torc results");
    place.open_gate("go", 1);
    run.wait().expect(1);
    let named = place.torc(&["logs", "holder", "--attempt", "wf1_j1_r1_a1"]).expect(0);
    assert_eq!(named.stdout, "begun\ndone\n");
}

#[test]
fn logs_that_follow_end_when_the_job_ends() {
    let (place, run, _holds) = waiting();
    let mut follower = place.start(&["logs", "holder", "-f"]);
    follower.wait_until_it_prints("begun");
    let early = place.start(&["logs", "later", "-f"]);
    place.open_gate("go", 1);
    assert_eq!(follower.wait().expect(0).stdout, "begun\ndone\n");
    early.wait().expect(0);
    run.wait().expect(1);
}

#[test]
fn logs_that_follow_a_job_that_will_never_start_end_too() {
    let (place, run, _holds) = waiting();
    let follower = place.start(&["logs", "later", "--follow"]);
    place.torc(&["cancel"]).expect(0);
    run.wait().expect(1);
    follower.wait().expect(2).says("`later`");
}

#[test]
fn cancel_ends_the_whole_workflow() {
    let (place, run, _holds) = waiting();
    place.torc(&["cancel"]).expect(0).says("2 jobs canceled, 1 job asked to end");
    run.wait().expect(1).says("1 failed, 3 canceled");
    place.expect_jobs("holder canceled\nquick failed\nafter canceled\nlater canceled");
    assert_eq!(place.attempts("holder")[0]["outcome"]["outcome"], "cancelled");
    place.torc(&["cancel"]).expect(0).says("nothing to cancel");
}

#[test]
fn cancel_of_one_job_cancels_what_depends_on_it() {
    let (place, run, _holds) = waiting();
    place.torc(&["cancel", "--job", "aftr"]).expect(2).says("did you mean `after`?");
    place.torc(&["cancel", "--job", "after"]).expect(0).says("2 jobs canceled, 0 jobs asked");
    place.expect_jobs("holder running\nquick failed\nafter canceled\nlater canceled");
    place.open_gate("go", 1);
    run.wait().expect(1).says("1 completed, 1 failed, 2 canceled");
}

#[test]
fn a_canceled_job_that_exits_with_0_completed() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: \"trap 'exit 0' TERM; echo > holds; \
         while true; do sleep 600 & wait; done\"}]",
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    place.torc(&["cancel", "--job", "a"]).expect(0).says("0 jobs canceled, 1 job asked to end");
    run.wait().expect(0);
    place.expect_jobs("a completed");
}

#[test]
fn watching_ends_with_the_run_and_draws_nothing_on_what_is_no_terminal() {
    let (place, run, _holds) = waiting();
    let mut watch = place.start(&["status", "--watch"]);
    watch.wait_until_it_prints("run 1: running");
    watch.wait_until_it_prints("run 1: running");
    place.open_gate("go", 1);
    let watched = watch.wait().expect(0);
    watched.says("run 1: ended").does_not_say("\u{1b}");
    run.wait().expect(1);
}

#[test]
fn another_run_in_the_same_state_directory_is_refused_and_disturbs_nothing() {
    let (place, run, _holds) = waiting();
    place.write("other.yaml", "name: other\njobs: [{name: a, command: touch other}]");
    let refused = place.torc(&["run", "other.yaml"]).expect(5);
    refused.says("torc.db is in use by another torc (process").says("--output-dir");
    refused.says(&run.pid().to_string());
    place.torc(&["--output-dir", "elsewhere", "run", "other.yaml"]).expect(0);
    place.expect_jobs("holder running\nquick failed\nafter blocked\nlater blocked");
    place.open_gate("go", 1);
    run.wait().expect(1).says("3 completed, 1 failed");
    assert_eq!(place.json(&["status"])["id"], 1);
}

#[test]
fn an_interrupted_workflow_can_be_looked_at_and_canceled() {
    let (place, run, _holds) = waiting();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    place.torc(&["status"]).expect(0).says("interrupted").says("`torc restart 1` goes on");
    place.expect_jobs("holder ready\nquick failed\nafter blocked\nlater blocked");
    place.torc(&["cancel"]).expect(0).says("3 jobs canceled, 0 jobs asked to end");
    place.expect_jobs("holder canceled\nquick failed\nafter canceled\nlater canceled");
    place.torc(&["status"]).expect(0).says("run 1: ended");
}

#[test]
fn a_state_directory_without_anything_in_it_is_said_so() {
    let place = Place::new();
    for command in ["status", "jobs", "results", "cancel", "restart"] {
        place.torc(&[command]).expect(5).says("torc_output");
    }
    place.torc(&["logs", "a"]).expect(5).says("torc_output");
    assert!(!place.join("torc_output").exists(), "asking makes nothing");
}

#[test]
fn following_a_log_goes_on_with_the_next_attempt() {
    let spec = r#"
name: w
failure_handlers: [{name: again, rules: [{exit_codes: [7], max_retries: 1}]}]
jobs:
  - name: a
    failure_handler: again
    command: "echo attempt $TORC_ATTEMPT_ID; echo > holds; read < go; test $TORC_ATTEMPT_ID = 2 || exit 7"
"#;
    let place = Place::with(spec);
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    let mut follower = place.start(&["logs", "a", "-f"]);
    follower.wait_until_it_prints("attempt 1");
    place.open_gate("go", 1);
    holds.line();
    follower.wait_until_it_prints("attempt 2");
    place.open_gate("go", 1);
    follower.wait().expect(0).says("wf1_j1_r1_a1 ended; wf1_j1_r1_a2 follows");
    run.wait().expect(0);
}

#[test]
fn a_failed_job_is_put_back_into_the_run_under_way() {
    let spec = r#"
name: w
jobs:
  - {name: long, command: "echo > holds; read < go"}
  - {name: bad, command: "test -e mended || { echo > failed; exit 1; }"}
  - {name: after, command: echo after >> ran, depends_on: [bad]}
"#;
    let place = Place::with(spec);
    let mut holds = place.fifo("holds");
    place.gate("go");
    let mut run = place.start_run(&[]);
    holds.line();
    run.wait_until_it_says("job bad failed");
    place.write("mended", "");
    place.torc(&["restart", "7"]).expect(2).says("workflow 1 runs here");
    let restart = place.json(&["restart"]);
    assert_eq!(restart, serde_json::json!({"put_back": 2, "is_new_run": false}));
    place.open_gate("go", 1);
    run.wait().expect(0).says("3 completed");
    assert_eq!(place.lines("ran"), ["after"]);
    assert_eq!(place.attempts("bad").len(), 2);
}
