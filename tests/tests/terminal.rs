//! What is different on a terminal: the bar, the question, and what is drawn anew.

use std::process::Command;

use nix::sys::signal::Signal;
use torc_tests::{Ended, Place, Started, torc};

/// Runs `torc` on a terminal of its own, with these keys typed. All it prints is on standard output.
#[track_caller]
fn on_a_terminal(place: &Place, args: &[&str], typed: &str) -> Ended {
    const SCRIPT: &str = "import os, pty, sys; \
        sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    place.write("typed", typed);
    let mut command = Command::new("python3");
    place.prepare(&mut command);
    command.args(["-c", SCRIPT]).arg(torc()).args(args).env("TERM", "xterm").env_remove("NO_COLOR");
    command.stdin(std::fs::File::open(place.join("typed")).expect("it was written"));
    Started::start(command).wait()
}

const SPEC: &str = r#"
name: w
jobs:
  - {name: done, command: echo done >> ran}
  - {name: waits, command: "test -e again || { echo > holds; read < go; }", depends_on: [done]}"#;

fn interrupted() -> Place {
    let place = Place::with(SPEC);
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    run.signal(Signal::SIGINT);
    run.wait().expect(130);
    place.write("again", "").write("ran", "");
    place
}

#[test]
fn whether_to_go_on_with_an_interrupted_run_is_asked() {
    let place = interrupted();
    let ended = on_a_terminal(&place, &["run", "w.yaml"], "\n").expect(0);
    ended.says("Workflow 1 of this spec was interrupted. Go on with it? [Y/n]").says("workflow 1");
    assert!(place.read("ran").is_empty());
}

#[test]
fn no_as_the_answer_starts_anew() {
    let place = interrupted();
    on_a_terminal(&place, &["run", "w.yaml"], "n\n").expect(0).says("[Y/n]").says("workflow 2");
    assert_eq!(place.lines("ran"), ["done"]);
}

#[test]
fn a_bar_is_drawn_and_taken_away() {
    let place =
        Place::with("name: w\njobs: [{name: 'n{i}', command: sleep 0.3, parameters: {i: '1:6'}}]");
    let args = ["run", "w.yaml", "--num-cpus", "2"];
    let ended = on_a_terminal(&place, &args, "").expect(0);
    ended.says("\u{1b}[").says("2/6").says("2 running").says("6 completed");
    place.run(&[]).expect(0).does_not_say("\u{1b}");
}

#[test]
fn colour_is_used_on_a_terminal_and_where_it_is_wished() {
    let place = Place::with("name: w\njobs: [{name: a, command: exit 1}]");
    place.run(&[]).expect(1).does_not_say("\u{1b}");
    let red = "\u{1b}[31mfailed";
    on_a_terminal(&place, &["jobs"], "").expect(0).says(red);
    on_a_terminal(&place, &["--color", "never", "jobs"], "").expect(0).does_not_say("\u{1b}[31m");
    place.torc(&["--color", "always", "jobs"]).expect(0).says(red);
    place.torc(&["jobs"]).expect(0).does_not_say("\u{1b}");
}
