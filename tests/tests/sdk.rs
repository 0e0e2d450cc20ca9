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
fn a_program_runs_a_spec_with_a_placer_of_its_own() {
    let place = Place::with(
        "name: w
execution_config: {placer: alone}
resource_requirements:
- {name: short, num_cpus: 1, memory: 200m, runtime: PT1M}
- {name: long, num_cpus: 1, memory: 200m, runtime: PT3H}
- {name: middle, num_cpus: 1, memory: 200m, runtime: PT2H}
jobs:
- {name: a, command: 'mkdir alone && echo a >> done && rmdir alone', resource_requirements: short}
- {name: b, command: 'mkdir alone && echo b >> done && rmdir alone', resource_requirements: long}
- {name: c, command: 'mkdir alone && echo c >> done && rmdir alone', resource_requirements: middle}",
    );
    run(&place, "own_placer").expect(0);
    assert_eq!(place.lines("done"), ["b", "c", "a"], "the longest first, and no two at once");
    let status = place.json(&["status"]);
    assert!(
        status["placer_replaced"].is_null(),
        "the program's placer decided to the end: {status}"
    );
}

const ON_A_POOL: &str = "name: w
schedulers: [{name: any, type: pool, walltime: '00:10:00'}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: any, scheduler_type: pool, num_allocations: 2}
jobs:
- {name: a, command: 'echo $TORC_ALLOCATION_HANDLE > a; until [ -s b ]; do sleep 0.02; done'}
- {name: b, command: 'echo $TORC_ALLOCATION_HANDLE > b; until [ -s a ]; do sleep 0.02; done'}
- {name: c, command: 'exit 0', depends_on: [a, b]}";

#[test]
fn a_program_runs_a_spec_in_allocations_of_its_own() {
    let place = Place::with(ON_A_POOL);
    run(&place, "own_scheduler").expect(0);
    // Each allocation has one CPU, so that two jobs that wait for each other were in different ones.
    assert_ne!(place.lines("a"), place.lines("b"));
    place.torc(&["status"]).expect(0).says("3 completed");
    let allocations = place.torc(&["allocations", "--format", "json"]).expect(0).json();
    let allocations = allocations.as_array().expect("a list");
    assert_eq!(allocations.len(), 2);
    for allocation in allocations {
        assert_eq!(allocation["scheduler_type"], "pool");
        assert_eq!(allocation["stage"], "ended", "{allocation}");
    }
}

#[test]
fn a_job_that_fails_in_an_allocation_is_known_to_the_program() {
    let place = Place::with(&ON_A_POOL.replace("'exit 0'", "'exit 3'"));
    run(&place, "own_scheduler").expect(1);
    assert_eq!(place.attempts("c")[0]["return_code"], 3);
}

#[test]
fn what_no_scheduler_of_the_program_gives_is_refused() {
    let place = Place::with(&ON_A_POOL.replace("pool", "pond"));
    run(&place, "own_scheduler").expect(1).says("no scheduler of type `pond`");
    let place = Place::with(&ON_A_POOL.replace("type: pool, w", "type: pool, nodes: 2, w"));
    run(&place, "own_scheduler").expect(1).says("write `nodes: 1`");
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
    for name in ["own_executor", "own_launcher", "own_placer", "own_scheduler"] {
        let path = checkout().join(format!("examples/sdk/{name}.rs"));
        let lines = std::fs::read_to_string(path).expect("it is there").lines().count();
        assert!(lines < 60, "{name} has {lines} lines");
    }
}
