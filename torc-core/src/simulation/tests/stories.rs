//! Small workloads.

use std::time::Duration;

use super::super::swf::{self, TraceJob};
use super::super::{Machine, Replay, WorkloadJob, figures, replay};
use crate::placer::Policy;
use crate::resources::MemoryRequest;
use crate::workflow::SortMethod;

/// Lines of a log from: number, submission, runtime, processors, requested time.
fn log(jobs: &[[i64; 5]]) -> String {
    let line = |[number, submitted, runtime, processors, requested]: &[i64; 5]| {
        format!(
            "{number} {submitted} -1 {runtime} {processors} -1 -1 {processors} {requested} -1 1 1 1 1 1 1 -1 -1\n"
        )
    };
    jobs.iter().map(line).collect()
}

fn run(machine: Machine, jobs: &[[i64; 5]]) -> (Replay, Vec<WorkloadJob>) {
    let trace = swf::parse(&log(jobs)).expect("a log");
    let workload = machine.workload(&trace, false);
    let allocation = machine.allocation();
    (replay(&workload, &allocation, SortMethod::None, Policy::Pack), workload)
}

/// By job: its start and its nodes.
fn schedule(replay: &Replay) -> Vec<String> {
    let of = |at: &Option<super::super::Scheduled>| match at {
        None => "never".to_owned(),
        Some(at) => {
            let nodes: Vec<String> =
                at.shares.iter().map(|share| share.node.0.to_string()).collect();
            format!("{} on {}", at.started.0 / 1000, nodes.join(" "))
        }
    };
    replay.jobs.iter().map(of).collect()
}

const TWO_OF_FOUR: Machine = Machine { nodes: 2, cores: 4, memory: None };

#[test]
fn a_log_is_read() {
    let text = "; MaxNodes: 128\n;MaxProcs:\t256 processors\n;  Note: nothing\n\n\
        2 10 5 100.0 16 -1 -1 8 3600 2048 1 1 1 1 1 1 -1 -1\n\
        1 10 5 7 4 -1 -1 -1 -1 -1 0 1 1 1 1 1 -1 -1\n\
        3 11 -1 -1 -1 -1 -1 8 60 -1 5 1 1 1 1 1 -1 -1\n\
        4 12 0 9 8 -1 -1 8 60 -1 2 1 1 1 1 1 -1 -1\n";
    let trace = swf::parse(text).expect("a log");
    assert_eq!((trace.max_nodes, trace.max_procs, trace.left_out), (Some(128), Some(256), 2));
    let submitted = Duration::from_secs(10);
    let first = TraceJob {
        number: 1,
        submitted,
        runtime: Duration::from_secs(7),
        requested: None,
        processors: 4,
        memory: None,
    };
    let second = TraceJob {
        number: 2,
        submitted,
        runtime: Duration::from_secs(100),
        requested: Some(Duration::from_secs(3600)),
        processors: 8,
        memory: Some(2 << 20),
    };
    assert_eq!(trace.jobs, [first, second]);
}

#[test]
fn what_is_no_log_is_said_with_its_line() {
    let check = |text: &str, expected: &str| {
        assert_eq!(swf::parse(text).expect_err("no log").to_string(), expected);
    };
    check("; x\n1 2 3", "line 2: 3 fields; a job has 18 in the Standard Workload Format");
    let line = log(&[[1, 0, 5, 1, 5]]);
    check(
        &line.replacen(" 5 ", " five ", 1),
        "line 1: field 4 is `five`; a whole number belongs there",
    );
    check(
        &line.replacen(" 5 ", " 99999999999999999999 ", 1),
        "line 1: field 4 is `99999999999999999999`; a whole number belongs there",
    );
    check(
        "; only comments",
        "line 1: no job in this file ran; a log in the Standard Workload Format has a line of 18 numbers for each",
    );
}

#[test]
fn processors_become_gangs_of_whole_nodes_or_jobs_on_one() {
    let text = log(&[[1, 0, 9, 4, 9], [2, 0, 9, 5, 9]]).replace(" 9 -1 1 ", " 9 1024 1 ");
    let trace = swf::parse(&text).expect("a log");
    let machine = Machine { memory: Some(1 << 30), ..TWO_OF_FOUR };
    let workload = machine.workload(&trace, false);
    let of = |index: usize| {
        let request = &workload[index].request;
        (request.nodes, request.cpus, request.memory)
    };
    assert_eq!(of(0), (1, 4, MemoryRequest::Bytes(4 << 20)));
    assert_eq!(of(1), (2, 4, MemoryRequest::Bytes(3 << 20)), "the fullest of its nodes has 3");
}

#[test]
fn a_short_job_goes_first_if_it_delays_no_promise() {
    // The gang is promised the end of the first job; only what is over by then goes before it.
    let (replay, _) = run(
        TWO_OF_FOUR,
        &[
            [1, 0, 100, 4, 100],
            [2, 1, 50, 8, 50],
            [3, 2, 90, 4, 90],
            [4, 3, 97, 4, 97],
            [5, 4, 9, 9, 9],
        ],
    );
    let expected = ["0 on 0", "100 on 0 1", "2 on 1", "150 on 0", "never"];
    assert_eq!(schedule(&replay), expected);
    let promised = replay.jobs[1].as_ref().and_then(|at| at.promised);
    assert_eq!(promised.map(|at| at.0), Some(100_000));
    let idle = &replay.idle;
    // The second node until the third job comes, and between its end and the gang; then beside the last.
    assert_eq!((idle.no_ready_job, idle.held), (4 * 1_000, 4 * (1_000 + 8_000)));
    assert_eq!((idle.tail, idle.sum()), (4 * 97_000, 4 * (1_000 + 9_000 + 97_000)));
}

#[test]
fn a_job_that_overruns_makes_the_promise_late_and_it_is_counted() {
    let jobs = [[1, 0, 300, 8, 100], [2, 1, 50, 8, 50], [3, 2, 20, 1, 20]];
    let (replay, workload) = run(TWO_OF_FOUR, &jobs);
    assert_eq!(schedule(&replay), ["0 on 0 1", "300 on 0 1", "350 on 0"]);
    let allocation = TWO_OF_FOUR.allocation();
    let processors = jobs.iter().map(|job| u64::try_from(job[3]).expect("positive"));
    let found = figures(&replay, &workload, &allocation, processors);
    assert_eq!((found.jobs, found.never, found.promised, found.late), (3, 0, 2, 1));
    assert_eq!(found.makespan_s, 370.0);
    assert_eq!(found.wait_s.max, 348.0);
    assert_eq!(found.wait_s.mean, (299.0 + 348.0) / 3.0);
    assert_eq!(found.slowdown.median, (299.0 + 50.0) / 50.0);
    let all = 370.0 * 8.0;
    assert_eq!(found.asked, (300.0 * 8.0 + 50.0 * 8.0 + 20.0) / all);
    assert_eq!(found.asked, found.held, "gangs of whole nodes");
    let idle = (8 - 1) * 20_000;
    assert_eq!((found.idle.tail, found.idle.sum()), (idle, idle));
}
