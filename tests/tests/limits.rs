//! Limits of time and memory, and who ends a job that exceeds them.

use torc_tests::Place;

#[test]
fn a_job_that_exceeds_its_enforced_runtime_is_terminated_with_code_152() {
    let place = Place::with(
        r#"
name: w
execution_config: {enforce_runtime: true}
resource_requirements: [{name: short, runtime: PT1S}]
jobs:
  - {name: long, command: exec sleep 600, resource_requirements: short}
  - {name: gentle, command: "trap 'echo bye; exit 0' TERM; sleep 600 & wait",
     resource_requirements: short}
  - {name: coded, command: "trap 'exit 9' TERM; sleep 600 & wait", resource_requirements: short}
  - {name: quick, command: "true", resource_requirements: short}"#,
    );
    place
        .run(&["--num-cpus", "4"])
        .expect(1)
        .says("its time was up")
        .says("long terminated code 152");
    place.expect_jobs("long terminated\ngentle completed\ncoded terminated\nquick completed");
    let timed_out = |job: &str| place.attempts(job)[0]["outcome"].clone();
    assert_eq!(timed_out("long")["outcome"], "timed_out");
    assert_eq!(timed_out("coded"), serde_json::json!({"outcome": "timed_out", "code": 9}));
    assert_eq!(place.attempts("coded")[0]["return_code"], 9);
    assert_eq!(place.output("wf1_j2_r1_a1.o"), "bye\n");
}

#[test]
fn runtime_is_only_a_promise_unless_it_is_enforced() {
    let place = Place::with(
        "name: w\nresource_requirements: [{name: short, runtime: PT1S}]\n\
         jobs: [{name: a, command: sleep 1.5, resource_requirements: short}]",
    );
    place.run(&[]).expect(0);
}

#[test]
fn at_the_time_limit_running_jobs_end_and_the_rest_is_left_for_a_restart() {
    let place = Place::with(
        r#"
name: w
execution_config: {timeout_exit_code: 99}
jobs:
  - {name: done, command: "true", priority: 2}
  - {name: handles_it, command: "trap 'exit 0' TERM; test -e again || { sleep 600 & wait; }"}
  - {name: does_not, command: "test -e again || exec sleep 600"}
  - {name: never_begun, command: "true"}"#,
    );
    let ended = place.run(&["--time-limit", "2s"]).expect(1);
    let why = "the time on the nodes there were was up before its turn";
    ended.says("ended early").says(&format!("never_begun: {why}")).says("`torc restart` goes on");
    place.torc(&["explain", "never_begun"]).expect(0).says(why).says("`torc restart` goes on");
    place.expect_jobs(
        "done completed\nhandles_it completed\ndoes_not terminated\nnever_begun ready",
    );
    assert_eq!(place.attempts("does_not")[0]["return_code"], 99);
    place.torc(&["status"]).expect(0).says("incomplete").says("`torc restart 1` goes on");
    place.write("again", "");
    place.restart().expect(0).says("run 2; 2 jobs completed before").says("4 completed");
    assert_eq!(place.attempts("handles_it").len(), 1, "what completed does not run again");
}

#[test]
fn a_job_that_ignores_its_termination_signal_is_killed_after_the_lead() {
    let place = Place::with(
        r#"
name: w
execution_config: {enforce_runtime: true, sigterm_lead_seconds: 1, termination_signal: SIGUSR1}
resource_requirements: [{name: short, runtime: PT1S}]
jobs:
  - name: a
    command: "trap 'echo asked' USR1; trap 'echo wrong' TERM; while true; do sleep 600 & wait; done"
    resource_requirements: short"#,
    );
    place.run(&[]).expect(1);
    place.expect_jobs("a terminated");
    let attempt = &place.attempts("a")[0];
    assert_eq!(attempt["return_code"], 152);
    assert!(attempt["wall_ms"].as_u64().unwrap() >= 2_000, "{attempt}");
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "asked\n");
}

#[test]
fn a_job_that_uses_too_much_memory_is_ended_with_code_137() {
    let place = Place::with(
        r#"
name: w
resource_requirements: [{name: small, memory: 100m}]
jobs:
  - name: greedy
    command: exec python3 -c 'import signal; kept = bytearray(300 << 20); signal.pause()'
    resource_requirements: small
  - name: by_its_children
    command: |
      for i in 1 2 3; do
        python3 -c 'import signal; kept = bytearray(60 << 20); signal.pause()' &
      done
      wait
    resource_requirements: small
  - {name: modest, command: "true", resource_requirements: small}
  - {name: next, command: "true", depends_on: [modest]}"#,
    );
    let ended = place.run(&[]).expect(1);
    ended.says("greedy failed code 137").says("of memory, more than it asked for");
    place.expect_jobs("greedy failed\nby_its_children failed\nmodest completed\nnext completed");
    let attempt = &place.attempts("greedy")[0];
    assert_eq!(attempt["outcome"]["outcome"], "out_of_memory");
    assert!(attempt["peak_memory"].as_u64().unwrap() > 100 << 20, "{attempt}");
}

#[test]
fn memory_is_only_measured_where_limits_are_off_and_shared_pages_count_once() {
    let place = Place::with(
        r#"
name: w
execution_config: {oom_exit_code: 55}
resource_requirements: [{name: small, memory: 150m}]
jobs:
  - name: forks
    command: |
      exec python3 -c '
      import os, time
      kept = bytearray(90 << 20)
      for _ in range(3):
          if os.fork() == 0:
              time.sleep(2.5)
              os._exit(0)
      for _ in range(3):
          os.wait()'
    resource_requirements: small"#,
    );
    place.run(&[]).expect(0);
    let off = Place::with(
        r#"
name: w
execution_config: {limit_resources: false}
resource_requirements: [{name: small, memory: 20m}]
jobs:
  - name: greedy
    command: exec python3 -c 'import time; kept = bytearray(90 << 20); time.sleep(2.2)'
    resource_requirements: small"#,
    );
    off.run(&[]).expect(0);
    assert!(off.attempts("greedy")[0]["peak_memory"].as_u64().unwrap() > 90 << 20);
}

#[test]
fn an_end_time_ends_a_run_as_a_time_limit_does() {
    let place = Place::with("name: w\njobs: [{name: a, command: exec sleep 600}]");
    let now = std::process::Command::new("date").args(["-u", "-d", "+3 sec", "+%FT%TZ"]).output();
    let soon = String::from_utf8(now.unwrap().stdout).unwrap();
    place.run(&["--end-time", soon.trim()]).expect(1).says("1 terminated");
    assert_eq!(place.attempts("a")[0]["return_code"], 152);
}
