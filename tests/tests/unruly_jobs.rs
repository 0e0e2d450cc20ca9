//! Jobs that misbehave: close their output, become daemons, are deaf, or print without end.

use torc_tests::Place;

#[test]
fn a_job_that_closes_its_output_runs_to_its_end() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'exec 0<&- 1>&- 2>&-; touch closed; bash -c true; exit 6'}]",
    );
    place.run(&[]).expect(1).says("a failed code 6");
    assert!(place.join("closed").exists());
}

#[test]
fn a_daemon_that_a_job_leaves_behind_is_gone_when_the_job_has_ended() {
    let place = Place::with(
        r#"
name: w
jobs:
  - name: a
    command: |
      exec 9> holds
      python3 -c '
      import os, time
      if os.fork() == 0:
          os.setsid()
          if os.fork() == 0:
              os.write(9, b"daemon\n")
              time.sleep(600)
          os._exit(0)
      os.wait()'
      sleep 600 &
      nohup setsid sleep 600 > /dev/null 2>&1 &
  - {name: b, command: "true", depends_on: [a]}"#,
    );
    let holds = place.fifo("holds");
    let run = place.start_run(&[]);
    // Everybody who had it open is gone, while torc may still run.
    holds.rest();
    run.wait().expect(0);
}

#[test]
fn a_job_that_ignores_sigterm_is_canceled_all_the_same() {
    let place = Place::with(
        r#"
name: w
execution_config: {sigterm_lead_seconds: 1}
jobs: [{name: a, command: "trap '' TERM; echo > holds; while true; do sleep 600; done"}]"#,
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    place.torc(&["cancel"]).expect(0).says("1 job asked to end");
    run.wait().expect(1).says("1 canceled");
}

#[test]
fn a_job_that_stops_itself_is_ended_too() {
    let place = Place::with(
        "name: w\nexecution_config: {sigterm_lead_seconds: 1}\n\
         jobs: [{name: a, command: 'echo > holds; kill -STOP $$; sleep 600'}]",
    );
    let mut holds = place.fifo("holds");
    let run = place.start_run(&[]);
    holds.line();
    place.torc(&["cancel"]).expect(0);
    run.wait().expect(1).says("1 canceled");
}

#[test]
fn a_job_that_prints_a_gigabyte_costs_torc_nothing() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'head -c 1000000000 /dev/zero; echo end >&2; \
         echo > holds; read < go', stdio: {mode: separate, delete_on_success: true}}]",
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    let printed =
        std::fs::metadata(place.join("torc_output/job_stdio/job_wf1_j1_r1_a1.o")).unwrap();
    assert_eq!(printed.len(), 1_000_000_000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 100 << 10, "torc used {peak_kib} KiB");
    place.open_gate("go", 1);
    run.wait().expect(0);
}

#[test]
fn the_last_words_of_a_job_that_printed_much_are_shown() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'head -c 20000000 /dev/zero >&2; echo >&2; echo last words >&2; exit 1'}]",
    );
    let ended = place.run(&[]).expect(1);
    ended.says("last words");
    assert!(ended.stdout.len() < 5_000, "{}", ended.stdout.len());
}

#[test]
fn a_job_that_kills_torcs_keeper_does_not_make_torc_hang() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'test -e again || kill -9 $PPID; sleep 600 & test -e again || wait'}]",
    );
    place.run(&[]).expect(5).says("`torc restart` goes on");
    place.write("again", "");
    place.restart().expect(0);
}
