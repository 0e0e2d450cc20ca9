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

/// Runs `torc` on a terminal that goes away as soon as a job holds; prints how torc ended.
const HANG_UP: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
open('holds').read()
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn a_terminal_that_goes_away_ends_the_run_gently() {
    let command =
        "trap 'echo gently > how; exit 1' TERM; echo > holds; while :; do read < go; done";
    let place = Place::with(&format!("name: w\njobs: [{{name: a, command: \"{command}\"}}]"));
    let _holds = place.fifo("holds");
    place.gate("go");
    let mut python = Command::new("python3");
    place.prepare(&mut python);
    python.args(["-c", HANG_UP]).arg(torc()).args(["run", "w.yaml"]);
    let ended = Started::start(python).wait().expect(0);
    assert_eq!(ended.stdout.trim(), "130");
    assert_eq!(place.read("how").trim(), "gently");
    place.torc(&["status"]).expect(0).says("interrupted");
}

#[test]
fn nohup_lets_a_run_go_on_without_its_terminal() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'echo > holds; read < go'}]");
    let mut holds = place.fifo("holds");
    place.gate("go");
    let mut nohup = Command::new("nohup");
    place.prepare(&mut nohup);
    nohup.arg(torc()).args(["run", "w.yaml"]);
    let run = Started::start(nohup);
    holds.line();
    run.signal(Signal::SIGHUP);
    place.open_gate("go", 1);
    run.wait().expect(0).says("1 completed");
}

#[test]
fn a_full_standard_output_loses_the_summary_and_nothing_else() {
    let place = Place::with("name: w\njobs: [{name: a, command: echo a > ran}]");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut run = place.command(&["run", "w.yaml"]);
    run.stderr(full());
    assert_eq!(run.status().expect("it runs").code(), Some(0));
    assert_eq!(place.read("ran").trim(), "a");
    let mut status = place.command(&["status"]);
    status.stdout(full());
    let ended = status.stderr(std::process::Stdio::piped()).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(5), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
}
