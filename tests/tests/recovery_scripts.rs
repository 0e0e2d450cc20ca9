//! Recovery scripts: what runs before a job that failed is tried again.

use nix::sys::signal::Signal;
use torc_tests::Place;

/// A job that fails with 42 unless `fixed` is there, with this recovery script.
fn with_script(script: &str) -> Place {
    Place::with(&format!(
        "name: w
failure_handlers:
- name: h
  rules: [{{exit_codes: [42], recovery_script: \"{script}\", max_retries: 2}}]
jobs:
- {{name: a, command: 'echo tried >> tried; test -e fixed || exit 42', failure_handler: h}}
- {{name: b, command: 'true', depends_on: [a]}}
"
    ))
}

#[test]
fn a_script_runs_to_its_end_before_its_job_is_tried_again() {
    let place = with_script(
        "echo $TORC_WORKFLOW_ID $TORC_JOB_ID $TORC_JOB_NAME $TORC_ATTEMPT_ID $TORC_RETURN_CODE \
         $TORC_OUTPUT_DIR; pwd >&2; wc -l < tried; touch fixed",
    );
    place.run(&[]).expect(0).says("2 completed").does_not_say("recovery_script");
    let here = place.path().canonicalize().unwrap();
    let here = here.display();
    assert_eq!(
        place.output("wf1_j1_r1_a1.recovery.log"),
        format!("1 1 a 1 42 {here}/torc_output\n{here}\n1\n")
    );
    assert_eq!(place.attempts("a").len(), 2, "every attempt's result is kept");
    assert_eq!(place.lines("tried").len(), 2);
    place.torc(&["delete", "1", "--yes"]).expect(0);
    assert_eq!(place.output_files(), [""; 0]);
}

#[test]
fn a_job_whose_script_fails_has_failed() {
    let place = with_script("exit 9");
    let ended = place.run(&[]).expect(1);
    ended.says("a failed code 42, attempt 1");
    ended.says("the recovery script of `a` ended with code 9; its output is in ");
    place.expect_jobs("a failed\nb canceled");
    assert_eq!(place.lines("tried").len(), 1);
    // The retries are counted as ever.
    let place = with_script("true");
    place.run(&[]).expect(1).says("attempt 3");
    assert_eq!(place.lines("tried").len(), 3);
}

#[test]
fn what_a_job_waits_for_is_told_and_it_holds_no_node() {
    let place = with_script("echo > runs; read < gate; touch fixed");
    place.gate("gate");
    let mut runs = place.fifo_for_many("runs");
    let started = place.start_run(&["--num-cpus", "1"]);
    runs.line();
    place.torc(&["explain", "a"]).expect(0).says("job `a` is blocked").says(
        "it is tried again once its recovery script has ended, which is under way since attempt 1 failed",
    );
    place.torc(&["jobs"]).expect(0).says("its recovery script (attempt 1)");
    assert_eq!(place.json(&["jobs"])[0]["waiting"]["waiting"], "recovering");
    place.torc(&["nodes"]).expect(0).says("0/1");
    place.open_gate("gate", 1);
    started.wait().expect(0);
}

#[test]
fn a_script_dies_with_torc_and_runs_again() {
    let place = with_script("echo script >> scripts; echo $$ > runs; read < gate; touch fixed");
    place.gate("gate");
    let mut runs = place.fifo_for_many("runs");
    let started = place.start_run(&[]);
    let script = runs.line();
    started.kill();
    gone(&script);
    let started = place.start(&["restart"]);
    runs.line();
    assert_eq!(place.lines("tried").len(), 1, "the job waits for it");
    place.open_gate("gate", 1);
    started.wait().expect(0);
    assert_eq!(place.lines("scripts").len(), 2);
    assert_eq!(place.attempts("a").len(), 2);
}

#[test]
fn ctrl_c_ends_a_script_and_does_not_count_as_its_failure() {
    let place = with_script("echo $$ > runs; read < gate; touch fixed");
    place.gate("gate");
    let mut runs = place.fifo_for_many("runs");
    let started = place.start_run(&[]);
    let script = runs.line();
    started.signal(Signal::SIGINT);
    started.wait().expect(130);
    gone(&script);
    let started = place.start(&["restart"]);
    runs.line();
    place.open_gate("gate", 1);
    started.wait().expect(0);
}

#[test]
fn a_script_ends_when_its_job_is_cancelled() {
    let place = with_script("echo $$ > runs; read < gate");
    place.gate("gate");
    let mut runs = place.fifo_for_many("runs");
    let started = place.start_run(&[]);
    let script = runs.line();
    place.torc(&["cancel", "--job", "a"]).expect(0);
    started.wait().expect(1).says("2 canceled");
    gone(&script);
}

#[test]
fn eight_scripts_run_at_once_and_the_others_have_their_turn() {
    const JOBS: usize = 12;
    let place = Place::with(&format!(
        "name: w
failure_handlers: [{{name: h, rules: [{{match_all_exit_codes: true, recovery_script: 'echo > runs; read < gate; touch fixed$TORC_JOB_ID'}}]}}]
jobs: [{{name: 'a{{i}}', command: 'test -e fixed{{i}}', parameters: {{i: '1:{JOBS}'}}, failure_handler: h}}]"
    ));
    place.gate("gate");
    let mut runs = place.fifo_for_many("runs");
    let started = place.start_run(&[]);
    for _ in 0..8 {
        runs.line();
    }
    let waiting = || {
        let jobs = place.json(&["jobs"]);
        let of = |job: &&serde_json::Value| job["waiting"]["waiting"] == "recovering";
        jobs.as_array().unwrap().iter().filter(of).count()
    };
    let until = std::time::Instant::now() + torc_tests::PATIENCE;
    while waiting() < JOBS {
        assert!(std::time::Instant::now() < until, "not all have failed");
    }
    for _ in 8..JOBS {
        place.open_gate("gate", 1);
        // A turn comes with an end.
        runs.line();
    }
    place.open_gate("gate", 8);
    started.wait().expect(0).says("12 completed");
}

/// Waits until a process is gone that was killed by the end of its keeper.
#[track_caller]
fn gone(pid: &str) {
    let path = format!("/proc/{}", pid.trim());
    let until = std::time::Instant::now() + torc_tests::PATIENCE;
    while std::path::Path::new(&path).exists() {
        assert!(std::time::Instant::now() < until, "process {pid} is still there");
        std::thread::yield_now();
    }
}
