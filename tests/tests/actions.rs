//! Actions under `torc run`: their commands run here, in order, and none outlives torc.

use nix::sys::signal::Signal;
use torc_tests::{Ended, Place, Random};

/// Two jobs after each other, the first of which waits at the gate `go`, and these actions.
fn with_actions(actions: &str) -> Place {
    let place = Place::with(&format!(
        "name: w
actions:
{actions}
jobs:
- {{name: a, command: 'read < go; echo a >> torc_output/said'}}
- {{name: b, command: 'echo b >> torc_output/said; exit 3', depends_on: [a]}}
"
    ));
    place.gate("go");
    place
}

fn commands(trigger: &str, commands: &str) -> String {
    format!("- {{trigger_type: {trigger}, action_type: run_commands, commands: [{commands}]}}\n")
}

/// Runs it to its end.
fn run(place: &Place, options: &[&str]) -> Ended {
    place.open_gate("go", 1);
    place.run(options)
}

#[test]
fn each_trigger_has_its_moment() {
    let say = |trigger: &str, word: &str| commands(trigger, &format!("'echo {word} >> said'"));
    let place = with_actions(
        &[
            say("on_workflow_start", "start"),
            say("on_jobs_ready, jobs: [b]", "b-ready"),
            say("on_jobs_complete, job_name_regexes: ['^[ab]$']", "both-ended"),
            say("on_worker_start", "worker-start"),
            say("on_worker_complete", "worker-complete"),
            say("on_workflow_complete", "complete"),
        ]
        .concat(),
    );
    run(&place, &[]).expect(1).does_not_say("actions of type").does_not_say("note:");
    let said = place.lines("torc_output/said");
    let at = |word: &str| {
        let mut found = said.iter().enumerate().filter(|(_, said)| *said == word);
        let (at, _) = found.next().unwrap_or_else(|| panic!("{word} in {said:?}"));
        assert!(found.next().is_none(), "{word} once in {said:?}");
        at
    };
    assert_eq!(said.len(), 8, "{said:?}");
    assert!(at("a") < at("b-ready") && at("b") < at("both-ended") && at("b") < at("complete"));
    assert_eq!(at("worker-complete"), 7, "when all else is done: {said:?}");
    assert!(at("start") < 8 && at("worker-start") < 8);
    place.torc(&["delete", "1", "--yes"]).expect(0);
    assert_eq!(place.output_files(), [""; 0]);
}

#[test]
fn commands_run_in_order_in_the_output_directory_until_one_fails() {
    let place = with_actions(
        "- trigger_type: on_workflow_start
  action_type: run_commands
  commands: ['pwd; echo W=$TORC_WORKFLOW_ID R=$TORC_RUN_ID', 'test $TORC_OUTPUT_DIR = $PWD',
    'echo to-stderr >&2; exit 7', 'echo not this']",
    );
    let ended = run(&place, &[]).expect(1);
    ended.says("command 3 of action 1 ended with code 7; its output is in ").says("_x1.log");
    let log = place.read("torc_output/job_stdio/action_wf1_r1_x1.log");
    let dir = place.join("torc_output").canonicalize().unwrap();
    assert_eq!(log, format!("{}\nW=1 R=1\nto-stderr\n", dir.display()));
}

#[test]
fn nodes_are_there_already() {
    let place = Place::with(
        "name: w
slurm_schedulers: [{name: s, account: a}]
schedulers: [{name: l, type: local}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, num_allocations: 3}
- {trigger_type: on_jobs_complete, jobs: [a], action_type: schedule_nodes, scheduler: l, scheduler_type: local}
jobs: [{name: a, command: 'true', scheduler: s}, {name: b, command: 'true', scheduler: l, depends_on: [a]}]",
    );
    let ended = place.run(&[]).expect(0);
    ended.says("stands for every scheduler of the spec; nothing is submitted").says("2 completed");
    assert_eq!(place.json(&["allocations", "--all"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn each_worker_may_run_what_is_persistent() {
    let spec = |mode: &str| {
        format!(
            "name: w
execution_config: {{mode: {mode}}}
actions:
- {{trigger_type: on_worker_start, action_type: run_commands, persistent: true, commands: ['echo >> each']}}
- {{trigger_type: on_worker_complete, action_type: run_commands, persistent: true, commands: ['echo >> left']}}
- {{trigger_type: on_worker_start, action_type: run_commands, commands: ['echo >> one']}}
jobs: [{{name: a, command: 'true'}}]"
        )
    };
    for (mode, workers) in [("auto", 1), ("direct", 2)] {
        let place = Place::with(&spec(mode));
        place.run(&["--nodes", "2", "--num-cpus", "1"]).expect(0);
        let times = |file: &str| place.lines(&format!("torc_output/{file}")).len();
        assert_eq!((times("each"), times("left"), times("one")), (workers, workers, 1), "{mode}");
    }
}

#[test]
fn a_command_dies_with_torc_and_runs_again_and_those_before_it_do_not() {
    let place = with_actions(&commands(
        "on_workflow_complete",
        "'echo one >> said', 'echo two >> said; echo $$ > ../pid; read < ../gate; echo on >> said', \
         'echo three >> said'",
    ));
    place.gate("gate");
    place.open_gate("go", 1);
    let mut pid = place.fifo_for_many("pid");
    let started = place.start_run(&[]);
    let command: i32 = pid.line().trim().parse().unwrap();
    started.kill();
    gone(command);
    place.torc(&["status"]).expect(0).says("interrupted");
    place.open_gate("gate", 1);
    let started = place.start(&["restart"]);
    pid.line();
    started.wait().expect(1);
    let said = place.lines("torc_output/said");
    assert_eq!(said, ["a", "b", "one", "two", "two", "on", "three"]);
}

#[test]
fn ctrl_c_ends_a_command_which_runs_again_when_the_run_goes_on() {
    for kills in [1, 2] {
        // With two of them nobody asks gently.
        let ignores = if kills == 2 { "trap '' TERM; " } else { "" };
        let place = with_actions(&commands(
            "on_workflow_start",
            &format!(
                "\"{ignores}echo run >> began; echo $$ > ../pid; until [ -e ../enough ]; do read -t 1 < ../gate; done\", 'echo then >> then'"
            ),
        ));
        place.gate("gate");
        place.open_gate("go", 1);
        let mut pid = place.fifo_for_many("pid");
        let mut started = place.start_run(&[]);
        let command: i32 = pid.line().trim().parse().unwrap();
        started.signal(Signal::SIGINT);
        if kills == 2 {
            started.wait_until_it_says("ending the running jobs gently");
            started.signal(Signal::SIGINT);
        }
        started.wait().expect(130);
        gone(command);
        assert!(!place.join("torc_output/then").exists());
        place.write("enough", "");
        place.open_gate("go", 1);
        let started = place.start(&["restart"]);
        pid.line();
        started.wait().expect(1);
        assert_eq!(place.lines("torc_output/began"), ["run", "run"]);
        assert_eq!(place.lines("torc_output/then"), ["then"]);
    }
}

#[test]
fn what_a_command_leaves_behind_stays_until_the_run_ends() {
    let place = with_actions(&commands(
        "on_workflow_start",
        "'sleep 1000 & echo $! > service', 'echo started > ../started'",
    ));
    let mut begun = place.fifo("started");
    let started = place.start_run(&[]);
    begun.line();
    let service: i32 = place.read("torc_output/service").trim().parse().unwrap();
    assert!(is_there(service), "a later command does not end it");
    place.open_gate("go", 1);
    started.wait().expect(1);
    gone(service);
}

#[test]
fn a_run_waits_for_commands_at_its_end_and_takes_nothing_new_meanwhile() {
    let place = with_actions(&commands("on_worker_complete", "'echo > ../last; read < ../gate'"));
    place.gate("gate");
    place.open_gate("go", 1);
    let mut last = place.fifo("last");
    let started = place.start_run(&[]);
    last.line();
    place.torc(&["status"]).expect(0).says("running");
    let refused = place.torc(&["restart"]);
    assert_ne!(refused.code, Some(0));
    refused.says("the run is over");
    place.open_gate("gate", 1);
    started.wait().expect(1);
}

/// A chain of jobs that fail once and are repaired, and actions at each of their ends.
fn chain(jobs: usize) -> String {
    let mut spec = "name: w
failure_handlers:
- name: h
  rules: [{exit_codes: [42], max_retries: 1, recovery_script: 'echo r$TORC_JOB_ID >> all; touch fixed$TORC_JOB_ID; echo > progress'}]
actions:
- {trigger_type: on_workflow_start, action_type: run_commands, commands: ['echo begin >> ../once; echo > ../progress', 'echo begun >> ../once']}
- {trigger_type: on_workflow_complete, action_type: run_commands, commands: ['echo end >> ../once']}
"
    .to_owned();
    for job in 1..=jobs {
        spec += &commands(
            &format!("on_jobs_complete, jobs: [j{job}]"),
            &format!(
                "'echo {job} >> ../one; echo > ../progress', 'echo {job} >> ../two; echo > ../progress'"
            ),
        );
    }
    spec += "jobs:\n";
    for job in 1..=jobs {
        let after = if job == 1 { String::new() } else { format!("j{}", job - 1) };
        spec += &format!(
            "- {{name: j{job}, depends_on: [{after}], failure_handler: h, command: 'echo > progress; test -e fixed{job} || exit 42; echo j{job} >> all'}}\n"
        );
    }
    spec
}

#[test]
fn killed_at_random_moments_a_run_does_all_of_it_in_order() {
    const JOBS: usize = 12;
    let place = Place::with(&chain(JOBS));
    let mut progress = place.fifo_for_many("progress");
    let mut random = Random(20_261_201);
    let mut args = vec!["run", "w.yaml"];
    for _ in 0..6 {
        let run = place.start(&args);
        for _ in 0..=random.below(7) {
            progress.line();
        }
        run.kill();
        args = vec!["restart"];
    }
    place.torc(&["status"]).expect(0).says("interrupted");
    place.start(&args).wait().expect(0).says("12 completed");
    let said = |name: &str| {
        let mut said = place.lines(name);
        said.dedup();
        said
    };
    let numbers: Vec<String> = (1..=JOBS).map(|job| job.to_string()).collect();
    assert_eq!(said("once"), ["begin", "begun", "end"]);
    for name in ["one", "two"] {
        let mut found = place.lines(name);
        found.sort_by_key(|job| job.parse::<usize>().expect("a number"));
        found.dedup();
        assert_eq!(found, numbers, "in {name}: each at least once");
    }
    let each: Vec<String> =
        (1..=JOBS).flat_map(|job| [format!("r{job}"), format!("j{job}")]).collect();
    assert_eq!(said("all"), each, "each job after its script");
}

fn is_there(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until a process is gone that was killed by the end of its keeper.
#[track_caller]
fn gone(pid: i32) {
    let until = std::time::Instant::now() + torc_tests::PATIENCE;
    while is_there(pid) {
        assert!(std::time::Instant::now() < until, "process {pid} outlives torc");
        std::thread::yield_now();
    }
}
