//! torc is killed without warning: nothing survives it, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use torc_tests::{Place, Random};

#[test]
fn no_process_of_any_job_survives_torc() {
    // Each of these holds the fifo open; its end is seen when the last of them is gone.
    let place = Place::with(
        r#"
name: w
jobs:
  - name: family
    command: |
      trap '' TERM INT HUP
      exec 9> holds
      sleep 600 &
      setsid sleep 600 &
      (setsid bash -c 'trap "" TERM HUP; (setsid sleep 600 &) ; sleep 600' &)
      python3 -c '
      import os, time
      if os.fork() == 0:
          os.setsid()
          if os.fork() == 0:
              os.environ.clear()
              os.write(9, b"daemon\n")
              time.sleep(600)
          os._exit(0)'
      read < go"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    assert_eq!(holds.line(), "daemon");
    run.kill();
    holds.rest();
}

#[test]
fn after_a_crash_what_completed_stays_and_what_ran_is_lost_and_runs_again() {
    let place = Place::with(
        r#"
name: w
failure_handlers: [{name: h, rules: [{match_all_exit_codes: true, max_retries: 0}]}]
jobs:
  - {name: done, command: echo done >> ran}
  - {name: under_way, failure_handler: h, depends_on: [done],
     command: "echo under_way >> ran; [ $TORC_ATTEMPT_ID = 3 ] || { echo > holds; sleep 600; }"}
  - {name: after, command: echo after >> ran, depends_on: [under_way]}"#,
    );
    let mut holds = place.fifo_for_many("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    let status = place.torc(&["status"]).expect(0);
    status.says("interrupted").says("`torc restart 1` goes on from here");
    place.torc(&["results"]).expect(0);

    let mut again = place.start(&["restart", "--num-cpus", "2"]);
    again.wait_until_it_says("1 job completed before; 1 job lost with the last torc, run again");
    holds.line();
    again.kill();
    place.restart().expect(0).says("3 completed");

    assert_eq!(place.lines("ran"), ["done", "under_way", "under_way", "under_way", "after"]);
    let attempts = place.attempts("under_way");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| &attempt["outcome"]["outcome"]).collect();
    assert_eq!(outcomes, ["lost", "lost", "exited"]);
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt["attempt"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    assert!(attempts.iter().all(|attempt| attempt["run"] == 1), "a crash does not end a run");
}

#[test]
fn the_same_run_after_a_crash_can_resume() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: done, command: echo done >> ran}
  - {name: under_way, command: "test -e again || { echo > holds; sleep 600; }", depends_on: [done]}"#,
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    place.write("again", "");
    place.run(&["--resume"]).expect(0).says("goes on where it was interrupted");
    assert_eq!(place.lines("ran"), ["done"]);
}

#[test]
fn the_note_of_a_dead_torc_confuses_nobody() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'echo > holds; sleep 600'}]");
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    assert!(place.join("torc_output/server.json").exists());
    place.torc(&["status"]).expect(0).says("interrupted");
    place.write("torc_output/server.json", "{\"pid\": 1");
    place.torc(&["status"]).expect(0).says("interrupted");
    place.torc(&["cancel"]).expect(0).says("1 job canceled, 0 jobs asked to end");
    place.torc(&["status"]).expect(0);
}

fn completed(results: &[Value]) -> BTreeSet<String> {
    let done = results.iter().filter(|attempt| attempt["status"] == "completed");
    done.map(|attempt| attempt["job"].as_str().expect("a name").to_owned()).collect()
}

fn launches(place: &Place) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in place.lines("ran") {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[test]
fn killed_at_random_moments_a_workflow_still_completes_and_repeats_nothing() {
    const KILLS: usize = 5;
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: "first{i:03d}", parameters: {i: "1:150"},
     command: "echo $TORC_JOB_NAME >> ran; echo > progress; sleep 0.0{i:03d}"}
  - {name: "second{i:03d}", parameters: {i: "1:150"}, depends_on: ["first{i:03d}"],
     command: "echo $TORC_JOB_NAME >> ran; echo > progress"}"#,
    );
    let mut progress = place.fifo_for_many("progress");
    let mut random = Random(20_261_122);
    let mut args = vec!["run", "w.yaml", "--num-cpus", "2", "--memory-gb", "4"];
    let mut done_before = BTreeSet::new();
    let mut launched_before = BTreeMap::new();
    for _ in 0..KILLS {
        let run = place.start(&args);
        for _ in 0..=random.below(50) {
            progress.line();
        }
        run.kill();
        check_nothing_repeated(&place, &done_before, &launched_before);
        done_before = completed(&place.results());
        launched_before = launches(&place);
        args = vec!["restart", "--num-cpus", "2", "--memory-gb", "4"];
    }
    assert!(done_before.len() < 300, "the kills came too late to mean anything");
    let mut run = place.start(&args);
    run.wait_until_it_says("goes on where it was interrupted");
    run.wait().expect(0).says("300 completed");
    check_nothing_repeated(&place, &done_before, &launched_before);
    let results = place.results();
    assert_eq!(completed(&results).len(), 300);
    check_attempts(&results);
    assert!(results.iter().any(|attempt| attempt["outcome"]["outcome"] == "lost"));
    let launches = launches(&place);
    assert_eq!(launches.len(), 300, "every job ran");
}

/// What was recorded as completed when torc was killed did not run again since.
#[track_caller]
fn check_nothing_repeated(
    place: &Place,
    done_before: &BTreeSet<String>,
    launched_before: &BTreeMap<String, usize>,
) {
    let launched = launches(place);
    for name in done_before {
        assert_eq!(launched.get(name), launched_before.get(name), "{name} completed and ran again");
    }
}

/// Attempts of a job are numbered from 1, and the only completed one is the last.
#[track_caller]
fn check_attempts(results: &[Value]) {
    let mut by_job: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for attempt in results {
        by_job.entry(attempt["job"].as_str().expect("a name")).or_default().push(attempt);
    }
    for (job, attempts) in by_job {
        for (attempt, number) in attempts.iter().zip(1..) {
            assert_eq!(attempt["attempt"], number, "{job}");
            let is_last = number == attempts.len();
            let expected = if is_last { "exited" } else { "lost" };
            assert_eq!(attempt["outcome"]["outcome"], expected, "{attempt}");
            assert_eq!(attempt["status"] == "completed", is_last, "{attempt}");
        }
    }
}
