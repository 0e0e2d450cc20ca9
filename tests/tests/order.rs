//! What starts when: dependencies, priorities, cancellation, retries.

use serde_json::Value;
use torc_tests::Place;

#[test]
fn dependencies_by_name_regex_and_file_are_kept() {
    let place = Place::with(
        r#"
name: w
files: [{name: f, path: f.txt}, {name: g, path: g.txt}]
user_data: [{name: u, data: 1}]
jobs:
  - {name: last, command: echo last >> order, depends_on_regexes: ['^by_']}
  - {name: by_name, command: echo by_name >> order, depends_on: [first]}
  - {name: by_file, command: "cat f.txt >> order; touch g.txt", input_files: [f], output_files: [g]}
  - {name: by_file_regex, command: echo by_file_regex >> order, input_files_regexes: ['^g$']}
  - {name: by_data, command: echo by_data >> order, input_user_data: [u]}
  - {name: first, command: "echo first >> order; echo by_file > f.txt", output_files: [f],
     output_user_data: [u]}"#,
    );
    place.run(&[]).expect(0);
    let order = place.lines("order");
    let at = |name: &str| order.iter().position(|line| line == name).expect(name);
    assert_eq!(order.len(), 6);
    assert_eq!((at("first"), at("last")), (0, 5));
    assert!(at("by_file") < at("by_file_regex"));
    place.expect_jobs(
        "last completed\nby_name completed\nby_file completed\nby_file_regex completed\n\
         by_data completed\nfirst completed",
    );
}

#[test]
fn a_job_that_leaves_a_declared_file_out_failed() {
    let place = Place::with(
        r#"
name: w
files: [{name: f, path: f.txt}, {name: g, path: sub/g.txt}, {name: h, path: h.txt}]
jobs:
  - {name: a, command: touch f.txt, output_files: [f, g, h]}
  - {name: b, command: "true", input_files: [g]}"#,
    );
    let ended = place.run(&[]).expect(1);
    ended.says("a failed code 0 (did not write sub/g.txt, h.txt)");
    place.expect_jobs("a failed\nb canceled");
    let outcome = place.attempts("a")[0]["outcome"].clone();
    assert_eq!(
        outcome,
        serde_json::json!({"outcome": "files_missing", "files": ["sub/g.txt", "h.txt"]})
    );
}

#[test]
fn higher_priorities_start_first_then_the_order_of_the_file() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: low, command: echo low >> order, priority: -5}
  - {name: one, command: echo one >> order}
  - {name: two, command: echo two >> order}
  - {name: high, command: echo high >> order, priority: 3}"#,
    );
    place.run(&["--num-cpus", "1"]).expect(0);
    assert_eq!(place.lines("order"), ["high", "one", "two", "low"]);
}

fn order_with(sort_method: &str) -> Vec<String> {
    let place = Place::with(&format!(
        r#"
name: w
jobs_sort_method: {sort_method}
resource_requirements:
  - {{name: plain, runtime: PT5M, memory: 10m}}
  - {{name: long, runtime: PT30M, memory: 10m}}
  - {{name: fat, runtime: PT10M, memory: 100m}}
  - {{name: gpu, runtime: PT1M, memory: 1m, num_gpus: 1}}
jobs:
  - {{name: plain, command: echo plain >> order, resource_requirements: plain}}
  - {{name: fat, command: echo fat >> order, resource_requirements: fat}}
  - {{name: long, command: echo long >> order, resource_requirements: long}}
  - {{name: gpu, command: echo gpu >> order, resource_requirements: gpu}}"#
    ));
    place.run(&["--num-cpus", "1", "--num-gpus", "1"]).expect(0);
    place.lines("order")
}

#[test]
fn the_sort_method_decides_among_equal_priorities() {
    assert_eq!(order_with("gpus_runtime_memory"), ["gpu", "long", "fat", "plain"]);
    assert_eq!(order_with("gpus_memory_runtime"), ["gpu", "fat", "long", "plain"]);
    assert_eq!(order_with("none"), ["plain", "fat", "long", "gpu"]);
}

#[test]
fn not_more_jobs_run_at_once_than_allowed() {
    let place = Place::with(
        "name: w\njobs: [{name: 'n{i}', parameters: {i: '1:6'}, \
         command: 'echo + >> log; bash -c true; echo - >> log'}]",
    );
    place.run(&["--max-parallel-jobs", "1"]).expect(0);
    assert_eq!(place.read("log"), "+\n-\n".repeat(6));
}

#[test]
fn two_cpus_run_two_jobs_at_once_and_not_three() {
    // Each job waits until another one is there, so that one at a time would never end.
    let place = Place::with(
        "name: w\njobs: [{name: 'n{i}', parameters: {i: '1:4'}, \
         command: 'if (( {i} % 2 )); then echo {i} > meet; else read x < meet; fi'}]",
    );
    place.gate("meet");
    place.run(&[]).expect(0);
    let attempts = place.results();
    let times = |attempt: &Value, which: &str| attempt[which].as_u64().expect("a time");
    for attempt in &attempts {
        let at = times(attempt, "dispatched_at");
        let beside = attempts
            .iter()
            .filter(|other| times(other, "dispatched_at") < at && at < times(other, "ended_at"));
        assert!(beside.count() < 2, "{attempts:#?}");
    }
}

#[test]
fn a_failure_cancels_what_depends_on_it_to_every_depth() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: bad, command: exit 1}
  - {name: d1, command: touch d1, depends_on: [bad]}
  - {name: d2, command: touch d2, depends_on: [d1, good]}
  - {name: d3, command: touch d3, depends_on: [d2]}
  - {name: stubborn, command: touch stubborn, depends_on: [d3, good],
     cancel_on_blocking_job_failure: false}
  - {name: after_stubborn, command: touch after_stubborn, depends_on: [stubborn]}
  - {name: good, command: "true"}"#,
    );
    place.run(&[]).expect(1).says("3 completed, 1 failed, 3 canceled");
    place.expect_jobs(
        "bad failed\nd1 canceled\nd2 canceled\nd3 canceled\nstubborn completed\n\
         after_stubborn completed\ngood completed",
    );
    assert!(place.join("stubborn").exists() && !place.join("d1").exists());
    assert_eq!(place.results().len(), 4, "what was canceled had no attempt");
}

#[test]
fn failed_jobs_are_tried_again_by_exit_code_and_every_attempt_is_kept() {
    let place = Place::with(
        r#"
name: w
failure_handlers:
  - name: h
    rules:
      - {match_all_exit_codes: true, max_retries: 1}
      - {exit_codes: [42, 143], max_retries: 3}
jobs:
  - {name: recovers, command: "test $TORC_ATTEMPT_ID = 3 || exit 42", failure_handler: h}
  - {name: other_code, command: exit 5, failure_handler: h}
  - {name: signal, command: "test $TORC_ATTEMPT_ID = 4 || kill -TERM $$", failure_handler: h}
  - {name: hopeless, command: exit 42, failure_handler: h}
  - {name: no_handler, command: exit 42}
  - {name: after, command: "true", depends_on: [recovers]}"#,
    );
    place.run(&[]).expect(1).says("3 completed, 3 failed");
    place.expect_jobs(
        "recovers completed\nother_code failed\nsignal completed\nhopeless failed\n\
         no_handler failed\nafter completed",
    );
    let codes = |job: &str| -> Vec<String> {
        let attempts = place.attempts(job);
        attempts.iter().map(|attempt| attempt["return_code"].to_string()).collect()
    };
    assert_eq!(codes("recovers"), ["42", "42", "0"]);
    assert_eq!(codes("other_code"), ["5", "5"]);
    assert_eq!(codes("signal"), ["143", "143", "143", "0"]);
    assert_eq!(codes("hopeless"), ["42"; 4]);
    assert_eq!(codes("no_handler"), ["42"]);
    assert_eq!(place.attempts("signal")[0]["outcome"]["outcome"], "signaled");
    assert_eq!(place.attempts("signal")[0]["outcome"]["signal"], 15);
    for (attempt, number) in place.attempts("recovers").iter().zip(1..) {
        assert_eq!(attempt["attempt"], number);
        assert_eq!(attempt["step"], format!("wf1_j1_r1_a{number}"));
    }
    assert!(place.output_files().contains(&"job_wf1_j1_r1_a2.o".to_owned()));
}

#[test]
fn labels_decide_where_a_job_runs() {
    let spec = r#"
name: w
jobs:
  - {name: labelled, command: "true", labels: [big, fast]}
  - {name: plain, command: "true"}"#;
    Place::with(spec).run(&[]).expect(4).says("`labelled`").says("label");
    let place = Place::with("name: w\njobs: [{name: a, command: 'true', labels: [big, fast]}]");
    place.run(&["--label", "big"]).expect(4);
    place.run(&["--label", "fast", "--label", "big", "--label", "more"]).expect(0);
    Place::with(spec).run(&["--label", "fast", "--label", "big"]).expect(4).says("`plain`");
}
