//! Programs that embed torc: the examples of examples/sdk, run as real processes.

use std::process::Command;

use torc_tests::{Place, Started, checkout, torc};

/// Runs an example in a place. What it printed is to hold this.
#[track_caller]
fn run(place: &Place, name: &str) -> torc_tests::Ended {
    let program = torc().parent().expect("it is built somewhere").join("examples").join(name);
    assert!(
        program.exists(),
        "{} is built by cargo build -p torc-server --examples",
        program.display()
    );
    let mut command = Command::new(program);
    place.prepare(&mut command);
    command.args(["w.yaml", "torc_output"]);
    Started::start(command).wait()
}

const SPEC: &str = "name: w
jobs:
- {name: a, command: 'echo $TORC_JOB_NAME >> done; nice'}
- {name: background, command: 'echo $TORC_JOB_NAME >> done; nice', depends_on: [a]}";

#[test]
fn a_program_runs_a_spec_with_an_executor_of_its_own() {
    let place = Place::with(SPEC);
    run(&place, "own_executor").expect(0);
    assert_eq!(place.lines("done"), ["a", "background"]);
    place.torc(&["status"]).expect(0).says("2 completed");
}

#[test]
fn a_program_runs_a_spec_with_a_launcher_of_its_own() {
    let place = Place::with(SPEC);
    run(&place, "own_launcher").expect(0);
    let niceness = |job: u32| {
        let printed = place.output(&format!("wf1_j{job}_r1_a1.o"));
        printed.trim().parse::<i32>().expect("a number")
    };
    // 19 is the most there is.
    assert_eq!(niceness(2), (niceness(1) + 7).min(19));
}

#[test]
fn a_job_that_fails_is_known_to_the_program() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'exit 3'}]");
    run(&place, "own_executor").expect(1).says("some jobs failed");
    assert_eq!(place.attempts("a")[0]["return_code"], 3);
}

#[test]
fn what_is_wrong_with_a_spec_is_told_with_its_place() {
    let place = Place::with("name: w\njobs:\n- {name: a, comand: x}");
    run(&place, "own_executor").expect(1).says("w.yaml:3:13: ");
    assert!(!place.join("torc_output/torc.db").exists(), "nothing was stored");
}

#[test]
fn they_are_short() {
    for name in ["own_executor", "own_launcher"] {
        let path = checkout().join(format!("examples/sdk/{name}.rs"));
        let lines = std::fs::read_to_string(path).expect("it is there").lines().count();
        assert!(lines < 60, "{name} has {lines} lines");
    }
}
