//! `torc disable` and `torc enable`, and `torc cancel`, during a run, after it, and between two torcs.

use torc_tests::{Fifo, Place, Started};

/// `holder` holds the only CPU until the gate `go` is opened; the others wait for that.
fn waiting() -> (Place, Started, Fifo) {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: holder, command: "echo > holds; read < go", priority: 1}
  - {name: first, command: echo first >> ran}
  - {name: second, command: echo second >> ran, depends_on: [first]}
  - {name: third, command: echo third >> ran, depends_on: [second]}
  - {name: minds, command: echo minds >> ran, depends_on: [first],
     cancel_on_blocking_job_failure: false}"#,
    );
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let run = place.start_run(&["--num-cpus", "1"]);
    holds.line();
    // It may be there a little before its start is known.
    while place.json(&["jobs", "--job", "holder"])[0]["status"] != "running" {}
    (place, run, holds)
}

#[test]
fn a_job_of_a_run_under_way_is_left_out_and_what_needs_it_is_canceled() {
    let (place, run, _holds) = waiting();
    let ended = place.torc(&["disable", "--job", "first"]).expect(0);
    ended.says("1 job disabled").says("2 jobs depending on that: canceled");
    ended.says("1 job depending on that: to run without it");
    place.expect_jobs(
        "holder running\nfirst disabled\nsecond canceled\nthird canceled\nminds ready",
    );
    place.torc(&["disable", "--job", "first"]).expect(0).says("no job disabled");
    place.open_gate("go", 1);
    run.wait().expect(1).says("2 canceled");
    assert_eq!(place.lines("ran"), ["minds"]);
}

#[test]
fn what_is_enabled_in_time_runs_with_all_that_depends_on_it() {
    let (place, run, _holds) = waiting();
    place.torc(&["disable", "--job", "first", "--job", "minds"]).expect(0).says("2 jobs disabled");
    let ended = place.torc(&["enable", "--job", "first"]).expect(0);
    ended.says("1 job enabled").says("2 jobs depending on that: waiting again");
    place.torc(&["enable", "--job", "first"]).expect(0).says("no job enabled");
    place.open_gate("go", 1);
    run.wait().expect(0).says("4 completed, 1 disabled");
    assert_eq!(place.lines("ran"), ["first", "second", "third"]);
}

#[test]
fn what_runs_or_is_unknown_is_not_left_out() {
    let (place, run, _holds) = waiting();
    let ended = place.torc(&["disable", "--job", "first", "--job", "holder"]).expect(2);
    ended.says("`holder` is running and cannot be disabled");
    place.torc(&["disable", "--job", "frst"]).expect(2).says("did you mean `first`?");
    place.torc(&["enable", "--job", "frst"]).expect(2).says("did you mean `first`?");
    place.torc(&["disable"]).expect(2).says("--job");
    place.expect_jobs("holder running\nfirst ready\nsecond blocked\nthird blocked\nminds blocked");
    place.open_gate("go", 1);
    run.wait().expect(0);
    place.torc(&["disable", "--job", "first"]).expect(2).says("`first` is completed");
}

#[test]
fn between_two_runs_a_job_is_left_out_of_the_next_one() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: bad, command: "echo bad >> ran; exit 1"}
  - {name: after, command: echo after >> ran, depends_on: [bad]}
  - {name: other, command: "echo other >> ran; test -e fixed"}"#,
    );
    place.run(&["--num-cpus", "1"]).expect(1);
    place.write("ran", "").write("fixed", "");
    let report = place.json(&["disable", "--job", "bad"]);
    assert_eq!(report, serde_json::json!({"disabled": 1, "canceled": 1, "run_without": 0}));
    place.restart().expect(1);
    assert_eq!(place.lines("ran"), ["other"]);
    place.torc(&["explain", "bad"]).expect(0).says("left out until `torc enable --job bad`");
    place.torc(&["explain", "after"]).expect(0).says("it depends on bad");
    place.expect_jobs("bad disabled\nafter canceled\nother completed");
    let report = place.json(&["enable", "--job", "bad"]);
    let expected = serde_json::json!({"enabled": 1, "put_back": 0, "waits_for_restart": true});
    assert_eq!(report, expected);
    place.expect_jobs("bad uninitialized\nafter canceled\nother completed");
    place.torc(&["explain", "bad"]).expect(0).says("`torc restart` begins it");
    place.restart().expect(1);
    assert_eq!(place.lines("ran"), ["other", "bad"]);
}

#[test]
fn a_job_of_an_interrupted_run_is_left_out_when_that_goes_on() {
    let (place, run, _holds) = waiting();
    run.kill();
    place
        .torc(&["disable", "--job", "holder"])
        .expect(2)
        .says("`holder` is")
        .says("cannot be disabled");
    place.torc(&["disable", "--job", "second"]).expect(0).says("1 job disabled");
    place.torc(&["enable", "--job", "second"]).expect(0).says("1 job depending on that");
    place.torc(&["disable", "--job", "third"]).expect(0);
    place.open_gate("go", 1);
    place.torc(&["restart", "--num-cpus", "1", "--memory-gb", "4"]).expect(0);
    place.expect_jobs(
        "holder completed\nfirst completed\nsecond completed\nthird disabled\nminds completed",
    );
}

#[test]
fn cancel_says_when_there_is_nothing_to_cancel() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    place.run(&[]).expect(0);
    place.torc(&["cancel"]).expect(0).says("nothing to cancel: no job of the workflow");
    place.torc(&["cancel", "--job", "a"]).expect(0).says("nothing to cancel: none of these jobs");
    place.torc(&["cancel", "--job", "aa"]).expect(2).says("did you mean `a`?");
    let report = place.json(&["cancel"]);
    assert_eq!(report, serde_json::json!({"canceled": 0, "signaled": 0}));
}

#[test]
fn cancel_of_named_jobs_ends_these_and_what_depends_on_them() {
    let (place, run, _holds) = waiting();
    let ended = place.torc(&["cancel", "1", "--job", "second", "--job", "holder"]).expect(0);
    ended.says("2 jobs canceled, 1 job asked to end");
    run.wait().expect(1);
    place.expect_jobs(
        "holder canceled\nfirst completed\nsecond canceled\nthird canceled\nminds completed",
    );
}
