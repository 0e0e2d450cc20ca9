//! Ctrl-C: once gently, twice at once; and going on afterwards.

use nix::sys::signal::Signal;
use torc_tests::Place;

const SPEC: &str = r#"
name: w
jobs:
  - {name: done, command: echo done >> ran, priority: 2}
  - {name: under_way, command: "echo under_way >> ran; trap 'echo asked >> ran; exit 0' USR1;
     trap 'echo asked >> ran; exit 5' TERM; test -e again || { echo > holds; read < go; }", depends_on: [done]}
  - {name: after, command: echo after >> ran, depends_on: [under_way]}
"#;

#[test]
fn one_ctrl_c_ends_jobs_gently_and_a_restart_goes_on() {
    let place = Place::with(SPEC);
    let mut holds = place.fifo("holds");
    place.gate("go");
    let mut run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait_until_it_says("ending the running jobs gently; Ctrl-C again kills them");
    run.wait().expect(130).says("was interrupted").says("`torc restart` goes on from here");
    place.expect_jobs("done completed\nunder_way ready\nafter blocked");
    assert_eq!(place.lines("ran"), ["done", "under_way", "asked"]);
    assert_eq!(place.json(&["status"])["state"], "interrupted");
    assert_eq!(place.attempts("under_way")[0]["outcome"]["outcome"], "cancelled");

    place.write("again", "");
    let again = place.restart().expect(0);
    again.says("run 1: goes on where it was interrupted; 1 job completed before");
    assert_eq!(place.lines("ran"), ["done", "under_way", "asked", "under_way", "after"]);
    let attempts = place.attempts("under_way");
    assert_eq!(attempts.len(), 2);
    assert_eq!((&attempts[1]["run"], &attempts[1]["attempt"]), (&1.into(), &2.into()));
}

#[test]
fn sigterm_and_sighup_do_the_same() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let place = Place::with(SPEC);
        let mut holds = place.fifo("holds");
        place.gate("go");
        let run = place.start_run(&[]);
        holds.line();
        run.signal(signal);
        run.wait().expect(130);
        place.expect_jobs("done completed\nunder_way ready\nafter blocked");
    }
}

#[test]
fn a_job_that_completes_when_asked_to_end_has_completed() {
    let place = Place::with(&format!("{SPEC}execution_config: {{termination_signal: SIGUSR1}}"));
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    place.expect_jobs("done completed\nunder_way completed\nafter ready");
    place.restart().expect(0).says("2 jobs completed before");
    assert_eq!(place.lines("ran"), ["done", "under_way", "asked", "after"]);
}

#[test]
fn a_second_ctrl_c_kills_jobs_at_once_with_all_that_they_started() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: deaf, command: "trap '' TERM INT; exec 9> holds; echo > holds; sleep 600 & setsid sleep 600 & read < go"}"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let mut run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait_until_it_says("gently");
    run.signal(Signal::SIGINT);
    run.wait_until_it_says("killing the running jobs");
    run.wait().expect(130);
    holds.rest();
    place.expect_jobs("deaf ready");
}

#[test]
fn a_job_that_ignores_sigterm_is_killed_after_the_lead() {
    let place = Place::with(
        r#"
name: w
execution_config: {sigterm_lead_seconds: 1}
jobs:
  - {name: deaf, command: "trap '' TERM; exec 9> holds; echo > holds; while true; do sleep 600; done"}"#,
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    holds.rest();
}

#[test]
fn ctrl_c_spends_no_retry() {
    let place = Place::with(
        r#"
name: w
failure_handlers: [{name: h, rules: [{match_all_exit_codes: true, max_retries: 1}]}]
jobs:
  - {name: a, failure_handler: h,
     command: "if [ $TORC_ATTEMPT_ID = 1 ]; then echo > holds; sleep 600; fi; exit 4"}"#,
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    place.restart().expect(1);
    let attempts = place.attempts("a");
    let codes: Vec<_> = attempts.iter().map(|attempt| attempt["return_code"].as_i64()).collect();
    assert_eq!(codes, [None, Some(4), Some(4)]);
}

#[test]
fn the_same_run_again_says_how_to_resume_and_starts_anew() {
    let place = Place::with(SPEC);
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);

    place.write("again", "").write("ran", "");
    let anew = place.run(&[]).expect(0);
    anew.says(
        "Workflow 1 of this spec was interrupted. Starting anew, since --resume was not given",
    );
    anew.says("`torc restart 1` goes on with it");
    anew.says("workflow 2 `w` run 1 completed");
    assert_eq!(place.lines("ran"), ["done", "under_way", "after"]);
    place.write("ran", "");
    place.torc(&["restart", "1"]).expect(0).says("workflow 1 `w` run 1 completed");
    assert_eq!(place.lines("ran"), ["under_way", "after"]);
}

#[test]
fn resume_goes_on_and_new_starts_anew() {
    let place = Place::with(SPEC);
    for option in ["--resume", "--new"] {
        let _ = std::fs::remove_file(place.join("holds"));
        let _ = std::fs::remove_file(place.join("again"));
        let mut holds = place.fifo("holds");
        place.write("ran", "");
        let _ = std::fs::remove_file(place.join("go"));
        place.gate("go");
        let run = place.start_run(&["--new"]);
        holds.line();
        run.signal(Signal::SIGINT);
        run.wait().expect(130);
        place.write("again", "").write("ran", "");
        place.run(&[option]).expect(0).does_not_say("restart");
        let again: &[&str] = match option {
            "--resume" => &["under_way", "after"],
            _ => &["done", "under_way", "after"],
        };
        assert_eq!(place.lines("ran"), again);
    }
    place.run(&["--resume"]).expect(2).says("no interrupted run of this very spec");
    let changed = SPEC.replace("echo after", "echo later");
    place.write("w.yaml", changed);
    place.run(&["--resume"]).expect(2);
}
