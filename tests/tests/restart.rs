//! `torc restart`: which jobs run again and why, what `--dry-run` says of it, and what a crash leaves.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use torc_tests::{Fifo, Place, Started};

const CHAIN: &str = r#"
name: w
resource_requirements: [{name: r, memory: 2m}]
jobs:
  - {name: a, command: echo a >> ran, resource_requirements: r}
  - {name: b, command: echo b >> ran, depends_on: [a]}
  - {name: c, command: echo c >> ran}"#;

/// A workflow that has completed on one CPU.
fn ran(spec: &str) -> Place {
    let place = Place::with(spec);
    place.run(&["--num-cpus", "1"]).expect(0);
    place.write("ran", "");
    place
}

fn plan(place: &Place, options: &[&str]) -> Value {
    place.json(&[&["restart", "--dry-run"], options].concat())
}

/// The jobs of a plan with their reasons, as JSON has them.
fn reasons(plan: &Value) -> Vec<(&str, &Value)> {
    let jobs = plan["jobs"].as_array().expect("a list").iter();
    jobs.map(|job| (job["name"].as_str().expect("a name"), &job["reasons"])).collect()
}

#[test]
fn a_spec_that_has_changed_runs_what_it_changes_and_what_depends_on_it() {
    let place = ran(CHAIN);
    place.write("same.yaml", CHAIN);
    place.torc(&["restart", "--spec", "same.yaml"]).expect(2).says("nothing to restart");
    place.write("new.yaml", CHAIN.replace("2m", "4m").replace("echo c", "echo C"));
    let options = ["--spec", "new.yaml"];
    let said = place.torc(&["restart", "--dry-run", "--spec", "new.yaml"]).expect(0);
    said.says("requirements changed: memory 2m → 4m").says("command changed");
    said.says("runs after a, which runs again")
        .says("workflow 1, run 2 would begin: 3 jobs to run");
    let planned = plan(&place, &options);
    assert_eq!((&planned["run"], &planned["goes_on"]), (&json!(2), &json!(false)));
    let changes = json!([{"field": "memory", "from": "2m", "to": "4m"}]);
    assert_eq!(
        reasons(&planned),
        [
            ("a", &json!([{"why": "requirements_changed", "changes": changes}])),
            ("b", &json!([{"why": "after", "job": "a"}])),
            ("c", &json!([{"why": "command_changed"}])),
        ]
    );
    place.torc(&["status"]).expect(0).says("run 1: ended");
    assert_eq!(place.lines("ran"), [""; 0], "nothing was started");

    let args = ["restart", "--spec", "new.yaml", "--num-cpus", "1", "--memory-gb", "4"];
    place.torc(&args).expect(0).says("3 jobs that had completed run again");
    assert_eq!(place.lines("ran"), ["C", "a", "b"]);
    assert_eq!(plan(&place, &options)["jobs"], json!([]), "that is what is stored now");
    place.torc(&["restart"]).expect(2).says("nothing to restart");
    assert_eq!(reasons(&plan(&place, &["--spec", "same.yaml"])).len(), 3);
}

#[test]
fn all_runs_everything_again_and_an_environment_is_named() {
    let place = ran(CHAIN);
    place.write("new.yaml", format!("{CHAIN}\nenv: {{GREETING: hello}}"));
    let said = place.torc(&["restart", "--dry-run", "--spec", "new.yaml"]).expect(0);
    said.says("env changed: GREETING");
    place.torc(&["restart", "--dry-run", "--all"]).expect(0).says("--all");
    place.torc(&["restart", "--all", "--num-cpus", "1"]).expect(0);
    assert_eq!(place.lines("ran"), ["c", "a", "b"]);
    let attempts = place.attempts("a");
    assert_eq!((&attempts[1]["run"], &attempts[1]["attempt"]), (&json!(2), &json!(1)));
    assert_eq!(attempts[1]["step"], "wf1_j1_r2_a1");
}

#[test]
fn new_jobs_run_and_those_that_are_gone_are_left_out_and_keep_their_numbers() {
    let place = ran(CHAIN);
    place.write(
        "new.yaml",
        r#"
name: w
resource_requirements: [{name: r, memory: 2m}]
jobs:
  - {name: more, command: echo more >> ran, depends_on: [c]}
  - {name: c, command: echo c >> ran}
  - {name: a, command: echo a >> ran, resource_requirements: r}"#,
    );
    let said = place.torc(&["restart", "--dry-run", "--spec", "new.yaml"]).expect(0);
    said.says("never ran").says("1 job not in the spec any more, to be disabled: b");
    place.torc(&["restart", "--spec", "new.yaml", "--num-cpus", "1"]).expect(0);
    assert_eq!(place.lines("ran"), ["more"]);
    place.expect_jobs("a completed\nb disabled\nc completed\nmore completed");
    let moved = place.torc(&["export"]).expect(0).stdout;
    let other = Place::new();
    other.write("moved.json", &moved);
    other.torc(&["import", "moved.json"]).expect(0);
    other.expect_jobs("a completed\nb disabled\nc completed\nmore completed");
    let said = place.torc(&["enable", "--job", "b"]);
    said.expect(2).says("`b`").says("--spec");
    place.torc(&["restart", "--spec", "w.yaml", "--num-cpus", "1"]).expect(0);
    place.expect_jobs("a completed\nb completed\nc completed\nmore disabled");
    assert_eq!(place.lines("ran"), ["more", "b"]);
}

const FILES: &str = r#"
name: w
files: [{name: in, path: in.txt}, {name: mid, path: mid.txt}]
jobs:
  - {name: make, command: "echo make >> ran; cp in.txt mid.txt", input_files: [in], output_files: [mid]}
  - {name: use, command: "echo use >> ran; cat mid.txt", input_files: [mid]}
  - {name: apart, command: echo apart >> ran}"#;

fn ran_with_files() -> Place {
    let place = Place::with(FILES);
    place.write("in.txt", "first");
    place.run(&["--num-cpus", "1"]).expect(0);
    place.write("ran", "");
    place
}

#[test]
fn an_input_of_other_content_runs_its_job_again_and_one_of_the_same_does_not() {
    let place = ran_with_files();
    place.write("in.txt", "first");
    place.restart().expect(2).says("nothing to restart");
    place.write("in.txt", "other");
    let said = place.torc(&["restart", "--dry-run"]).expect(0);
    said.says("input in.txt changed").says("1 job completed and kept");
    place.restart().expect(0);
    assert_eq!(place.lines("ran"), ["make", "use"]);
    assert_eq!(place.torc(&["logs", "use"]).expect(0).stdout, "other");
    place.restart().expect(2).says("nothing to restart");
}

#[test]
fn an_output_that_has_vanished_is_made_again() {
    let place = ran_with_files();
    std::fs::remove_file(place.join("mid.txt")).expect("it is there");
    place.torc(&["restart", "--dry-run"]).expect(0).says("output mid.txt is gone");
    place.restart().expect(0);
    assert_eq!(place.lines("ran"), ["make", "use"]);
}

#[test]
fn input_data_of_another_value_is_a_reason() {
    let with = |value: u32| {
        format!(
            "name: w\nuser_data: [{{name: u, data: {value}}}]\n\
             jobs: [{{name: a, command: echo a >> ran, input_user_data: [u]}}]"
        )
    };
    let place = ran(&with(1));
    place.write("new.yaml", with(2));
    let planned = plan(&place, &["--spec", "new.yaml"]);
    let expected = json!([{"why": "user_data_changed", "name": "u"}]);
    assert_eq!(reasons(&planned), [("a", &expected)]);
}

#[test]
fn into_a_run_under_way_only_what_did_not_complete_is_put_back() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: holder, command: "echo > holds; read < go", priority: 1}
  - {name: bad, command: "echo bad >> ran; test -e fixed"}
  - {name: after, command: echo after >> ran, depends_on: [bad]}"#,
    );
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let mut run = place.start_run(&[]);
    holds.line();
    run.wait_until_it_says("job bad failed");
    for refused in [&["restart", "--all"], &["restart", "--spec=w.yaml"]] {
        place.torc(refused).expect(2).says("a run of workflow 1 is under way");
        let dry = [&refused[..], &["--dry-run"]].concat();
        place.torc(&dry).expect(2).says("a run of workflow 1 is under way");
    }
    let planned = plan(&place, &[]);
    assert_eq!((&planned["run"], &planned["goes_on"]), (&json!(1), &json!(true)));
    let expected = [("bad", &json!([{"why": "failed"}])), ("after", &json!([{"why": "canceled"}]))];
    assert_eq!(reasons(&planned), expected);
    place.write("fixed", "");
    place.torc(&["restart"]).expect(0).says("2 jobs put back");
    place.open_gate("go", 1);
    run.wait().expect(0);
}

/// A workflow whose run was killed while `second` ran, after `first` had completed.
fn killed() -> (Place, Fifo) {
    let place = Place::with(
        r#"
name: w
files: [{name: in, path: in.txt}]
jobs:
  - {name: first, command: "echo first >> ran", input_files: [in]}
  - {name: second, command: "echo second >> ran; echo > holds; read < go", depends_on: [first]}"#,
    );
    place.write("in.txt", "first");
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    place.open_gate("go", 1);
    place.write("ran", "");
    (place, holds)
}

#[test]
fn an_interrupted_run_goes_on_or_is_over_when_what_completed_is_to_run_again() {
    let (place, _holds) = killed();
    let said = place.torc(&["restart", "--dry-run"]).expect(0);
    said.says("has not ended").says("workflow 1, run 1 would go on: 1 job to run");
    let planned = plan(&place, &["--all"]);
    assert_eq!((&planned["run"], &planned["goes_on"]), (&json!(2), &json!(false)));
    place.torc(&["restart", "--all", "--num-cpus", "1"]).expect(0).says("run 2");
    assert_eq!(place.lines("ran"), ["first", "second"]);
    assert_eq!(place.attempts("second")[0]["outcome"]["outcome"], "lost");

    let (place, _holds) = killed();
    place.restart().expect(0).says("goes on where it was interrupted");
    assert_eq!(place.lines("ran"), ["second"]);
}

#[test]
fn a_changed_input_of_what_completed_ends_an_interrupted_run() {
    let (place, _holds) = killed();
    place.write("in.txt", "other");
    place.torc(&["restart", "--dry-run"]).expect(0).says("input in.txt changed");
    place.restart().expect(0).says("run 2");
    assert_eq!(place.lines("ran"), ["first", "second"]);
}

#[test]
fn a_stopped_run_with_a_changed_spec_begins_anew() {
    let place = Place::with(
        "name: w\njobs:\n  - {name: a, command: 'echo a >> ran'}\n  \
         - {name: b, command: 'echo > holds; sleep 600', depends_on: [a]}",
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    place.write("new.yaml", place.read("w.yaml").replace("echo > holds; sleep 600", "true"));
    let planned = plan(&place, &["--spec", "new.yaml"]);
    assert_eq!((&planned["run"], &planned["kept"]), (&json!(2), &json!(1)));
    place.torc(&["restart", "--spec", "new.yaml", "--num-cpus", "1"]).expect(0);
    assert_eq!(place.lines("ran"), ["a"]);
}

#[test]
fn a_crash_in_the_middle_of_a_restart_leaves_the_new_definition_with_its_run_or_neither() {
    let place = ran(CHAIN);
    let new = CHAIN.replace("echo a >> ran", "echo new >> ran; echo > holds; read < go");
    place.write("new.yaml", new);
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let restart = || -> Started {
        place.start(&["restart", "--spec", "new.yaml", "--num-cpus", "1", "--memory-gb", "4"])
    };
    // Wherever it is killed before anything of it is stored, the workflow is as it was.
    for _ in 0..3 {
        let early = restart();
        early.signal(Signal::SIGKILL);
        early.wait();
        let run = place.json(&["status"])["run"].clone();
        let planned = plan(&place, &["--spec", "new.yaml"]);
        let is_defined_anew = planned["goes_on"] == json!(true);
        assert_eq!(is_defined_anew, run == json!(2), "{run} {planned}");
    }
    let late = restart();
    holds.line();
    late.kill();
    assert_eq!(place.json(&["status"])["run"], json!(2));
    let planned = plan(&place, &["--spec", "new.yaml"]);
    assert_eq!(planned["goes_on"], json!(true), "the new definition is stored: {planned}");
    place.open_gate("go", 1);
    place.restart().expect(0).says("goes on where it was interrupted");
    let ran = place.lines("ran");
    assert_eq!(ran.iter().filter(|line| *line == "b").count(), 1, "{ran:?}");
    assert_eq!(ran.iter().filter(|line| *line == "c").count(), 0, "{ran:?}");
}

#[test]
fn what_can_never_run_as_it_is_defined_now_leaves_the_workflow_as_it_was() {
    let place = ran(CHAIN);
    place.write("new.yaml", CHAIN.replace("2m", "999g"));
    place.torc(&["restart", "--spec", "new.yaml", "--num-cpus", "1"]).expect(4).says("`a`");
    place.write("new.yaml", "name: w\njobs: [{name: a}]");
    place.torc(&["restart", "--spec", "new.yaml"]).expect(3).says("new.yaml:2:");
    place.torc(&["restart"]).expect(2).says("nothing to restart");
    place.torc(&["status"]).expect(0).says("run 1: ended");
}
