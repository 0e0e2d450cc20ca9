//! `torc run` from a spec to an exit code: what it returns, prints and keeps.

use torc_tests::{Place, Started};

#[test]
fn a_run_whose_jobs_all_complete_exits_with_0_and_sums_up() {
    let place = Place::with(
        "name: three\njobs:\n  - {name: 'n{i}', command: 'echo {i}', parameters: {i: '1:3'}}",
    );
    let ended = place.run(&[]).expect(0);
    ended.says("workflow 1 `three` run 1 completed after").says("jobs:  3 completed");
    ended.says("% of the time of 2 CPUs was given to jobs").does_not_say("failed");
    ended.says(" % idle: ");
    assert!(ended.stdout.starts_with("workflow 1"), "the summary is a result: {}", ended.stdout);
    assert!(!ended.stderr.contains("completed"), "and not progress: {}", ended.stderr);
    assert_eq!(place.output("wf1_j2_r1_a1.o"), "2\n");
}

#[test]
fn a_run_with_a_failed_job_exits_with_1_and_shows_code_log_and_last_words() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: good, command: "true"}
  - {name: bad, command: "for i in $(seq 30); do echo line $i >&2; done; exit 7"}
  - {name: after, command: "true", depends_on: [bad]}"#,
    );
    let ended = place.run(&[]).expect(1);
    ended.says("1 completed, 1 failed, 1 canceled").says("bad failed code 7, attempt 1");
    let log = place.join("torc_output/job_stdio/job_wf1_j2_r1_a1.e");
    ended.says(&log.to_string_lossy()).says("| line 30").says("| line 23");
    ended.does_not_say("| line 22").says("`torc restart` runs what did not complete again");
    place.expect_jobs("good completed\nbad failed\nafter canceled");
}

#[test]
fn many_failures_are_shown_in_part_and_counted() {
    let place = Place::with(
        "name: w\njobs: [{name: 'n{i:02d}', command: exit 3, parameters: {i: '1:14'}}]",
    );
    let ended = place.run(&[]).expect(1);
    ended.says("n10 failed code 3").does_not_say("    n11 failed").says("and 4 more");
    let failed = place.torc(&["results", "--failed"]).expect(0);
    assert_eq!(failed.stdout.lines().filter(|line| line.contains("failed")).count(), 14);
}

#[test]
fn control_characters_of_a_job_do_not_reach_the_terminal() {
    let place = Place::with(
        r#"{"name": "w", "jobs": [{"name": "a", "command": "printf '\\033[2Jboo\\n' >&2; exit 1"}]}"#,
    );
    let ended = place.torc(&["--color", "never", "run", "w.yaml"]).expect(1);
    ended.says("[2Jboo").does_not_say("\u{1b}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    for args in [
        &["run"] as &[&str],
        &["run", "w.yaml", "--num-cpus", "0"],
        &["run", "w.yaml", "--resume", "--new"],
        &["run", "w.yaml", "--time-limit", "soon"],
        &["run", "w.yaml", "--end-time", "2001-01-01T00:00:00Z"],
        &["run", "w.yaml", "--nodes", "2", "--pin", "--num-cpus", "9999"],
        &["run", "w.yaml", "--resume"],
        &["--format", "yaml", "status"],
        &["status", "zero"],
        &["jobs", "--status", "done"],
        &["frobnicate"],
    ] {
        let ended = place.torc(args).expect(2);
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
    place.run(&[]).expect(0);
    place.torc(&["restart"]).expect(2).says("every job of workflow 1 has completed");
    place.torc(&["status", "7"]).expect(2).says("there is no workflow 7").says("it has 1");
    place.torc(&["logs", "aa"]).expect(2).says("did you mean `a`?");
    place.torc(&["results", "--job", "aa"]).expect(2).says("did you mean `a`?");
    place.torc(&["jobs", "--job", "aa"]).expect(2).says("did you mean `a`?");
    place.torc(&["cancel", "--job", "aa"]).expect(2).says("did you mean `a`?");
}

#[test]
fn an_invalid_spec_exits_with_3_and_nothing_is_begun() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true', depends_on: [b]}]");
    place.run(&[]).expect(3).says("w.yaml:2:48").says("there is no job named `b`");
    place.torc(&["validate", "w.yaml"]).expect(3);
    place.torc(&["run", "absent.yaml"]).expect(3).says("absent.yaml");
    assert!(!place.join("torc_output").exists());
}

#[test]
fn all_missing_input_files_are_listed_at_once_with_exit_code_4() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: first, command: touch started, output_files: [made]}
  - {name: a, command: "true", input_files: [one, here, made]}
  - {name: b, command: "true", input_files: [two]}
files:
  - {name: one, path: one.txt}
  - {name: two, path: sub/two.txt}
  - {name: here, path: w.yaml}
  - {name: made, path: made.txt}"#,
    );
    let ended = place.run(&[]).expect(4);
    ended.says("one.txt").says("sub/two.txt").does_not_say("made.txt").does_not_say("w.yaml\n");
    assert!(!place.join("started").exists(), "nothing was launched");
}

#[test]
fn a_job_too_large_for_any_node_exits_with_4_and_the_numbers() {
    let place = Place::with(
        r#"
name: w
resource_requirements:
  - {name: wide, num_cpus: 6}
  - {name: fat, memory: 64g}
  - {name: many, num_nodes: 3}
jobs:
  - {name: small, command: touch started}
  - {name: "wide{i}", command: "true", resource_requirements: wide, parameters: {i: "1:2"}}
  - {name: fat, command: "true", resource_requirements: fat}
  - {name: gang, command: "true", resource_requirements: many}"#,
    );
    let ended = place.run(&[]).expect(4);
    ended.says("4 jobs can never run here").says("`wide1` and 1 like it").says("`fat`");
    ended.says("`gang`");
    for line in ended.stderr.lines().filter(|line| line.starts_with("  `")) {
        let numbers = match line {
            wide if wide.contains("wide1") => ["6", "2"],
            fat if fat.contains("fat") => ["64", "4"],
            _ => ["3", "1"],
        };
        let reason = line.split_once("`: ").or(line.split_once("it: ")).expect("a reason").1;
        assert!(numbers.iter().all(|number| reason.contains(number)), "{line}");
    }
    assert!(!place.join("started").exists(), "nothing was launched");
    place.run(&["--nodes", "2"]).expect(4).says("`gang`").says("2");
}

#[test]
fn a_job_longer_than_the_time_that_is_left_exits_with_4() {
    let place = Place::with(
        "name: w\nresource_requirements: [{name: long, runtime: PT2H}]\n\
         jobs: [{name: a, command: 'true', resource_requirements: long}]",
    );
    place.run(&["--time-limit", "1h"]).expect(4).says("`a`").says("time");
    place.run(&["--time-limit", "3h"]).expect(0);
}

#[test]
fn a_spec_is_read_from_standard_input() {
    let place = Place::new();
    for (name, text) in [
        ("yaml", "name: w\njobs: [{name: a, command: echo yaml > said}]"),
        ("json", r#"{"name": "w", "jobs": [{"name": "a", "command": "echo json > said"}]}"#),
    ] {
        place.write("spec", text);
        let mut command = place.command(&["run", "-"]);
        command.stdin(std::fs::File::open(place.join("spec")).unwrap());
        Started::start(command).wait().expect(0);
        assert_eq!(place.read("said").trim(), name);
    }
    place.write("spec", "name: w\njobs: [{name: a}]");
    let mut command = place.command(&["run", "-"]);
    command.stdin(std::fs::File::open(place.join("spec")).unwrap());
    Started::start(command).wait().expect(3).says("standard input:2:");
}

#[test]
fn a_json_spec_runs_as_a_yaml_one_does() {
    let place = Place::new();
    let spec = serde_json::json!({
        "name": "w",
        "parameters": {"i": "1:2"},
        "jobs": [
            {"name": "p{i}", "command": "echo {i} > p{i}", "use_parameters": ["i"]},
            {"name": "sum", "command": "cat p1 p2 > sum", "depends_on_regexes": ["^p\\d"]},
        ],
    });
    place.write("w.json", spec.to_string());
    place.torc(&["run", "w.json"]).expect(0).says("3 completed");
    assert_eq!(place.read("sum"), "1\n2\n");
}

#[test]
fn what_is_not_run_here_is_said() {
    let place = Place::with(
        r#"
name: w
jobs: [{name: a, command: "true"}]
slurm_schedulers: [{name: s, account: x}]
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}
resource_monitor: {sample_interval_seconds: 1}"#,
    );
    let ended = place.run(&[]).expect(0);
    ended.says("resource_monitor").says("spec::not-run-here").says("w.yaml:7:");
    ended.says("this machine stands for every scheduler");
}

#[test]
fn the_state_directory_is_where_the_option_or_the_environment_says() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    place.run(&["--output-dir", "by/option"]).expect(0);
    assert!(place.join("by/option/torc.db").exists());
    let mut command = place.command(&["run", "w.yaml"]);
    command.env("TORC_OUTPUT_DIR", "by_environment");
    Started::start(command).wait().expect(0);
    assert!(place.join("by_environment/torc.db").exists());
    assert!(!place.join("torc_output").exists());
}

#[test]
fn several_workflows_live_in_one_state_directory() {
    let place = Place::with("name: first\njobs: [{name: a, command: echo one}]");
    place.run(&[]).expect(0);
    place.write("w.yaml", "name: second\njobs: [{name: a, command: echo two; exit 1}]");
    place.run(&[]).expect(1).says("workflow 2 `second`");
    place.torc(&["status"]).expect(0).says("workflow 2 `second`");
    place.torc(&["status", "1"]).expect(0).says("workflow 1 `first`");
    assert_eq!(place.torc(&["logs", "a", "--workflow", "1"]).expect(0).stdout, "one\n");
    assert_eq!(place.torc(&["logs", "a"]).expect(0).stdout, "two\n");
    place.torc(&["restart", "1"]).expect(2);
    place.torc(&["restart"]).expect(1).says("workflow 2 `second` run 2");
}

#[test]
fn a_restart_runs_what_did_not_complete_and_what_depends_on_it() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: good, command: echo good >> ran}
  - {name: bad, command: "echo bad >> ran; test -e fixed"}
  - {name: after, command: echo after >> ran, depends_on: [bad, good]}
  - {name: anyway, command: echo anyway >> ran, depends_on: [bad],
     cancel_on_blocking_job_failure: false}"#,
    );
    place.run(&["--num-cpus", "1"]).expect(1);
    assert_eq!(place.lines("ran"), ["good", "bad", "anyway"]);
    place.write("fixed", "").write("ran", "");
    place.restart().expect(0).says("run 2").says("1 job completed before").says("4 completed");
    let mut ran = place.lines("ran");
    ran.sort();
    assert_eq!(ran, ["after", "anyway", "bad"]);
    assert_eq!(place.attempts("bad").len(), 2, "the results of both runs are kept");
    assert_eq!(place.attempts("bad")[1]["run"], 2);
    assert_eq!(place.attempts("bad")[1]["attempt"], 1);
}

#[test]
fn validate_reports_the_size_and_runs_nothing() {
    let place = Place::with(
        r#"
name: w
resource_requirements: [{name: g, num_nodes: 2}]
files: [{name: f, path: f}]
user_data: [{name: u, data: 1}]
jobs:
  - {name: a, command: touch ran, output_files: [f]}
  - {name: b, command: "true", input_files: [f], resource_requirements: g}"#,
    );
    let ended = place.torc(&["validate", "w.yaml"]).expect(0);
    ended.says("w.yaml is valid: workflow `w` with 2 jobs, 1 dependency, 1 file");
    ended.says("1 user data item, 1 multi-node job");
    assert!(!place.join("ran").exists() && !place.join("torc_output").exists());
}
