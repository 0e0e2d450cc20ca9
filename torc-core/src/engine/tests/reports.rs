//! What others are told of a workflow, its jobs and its allocations.

use std::collections::BTreeMap;
use std::time::Duration;

use super::allocations::{nodes_on, one_at_the_start, scheduler, with_actions};
use super::{Run, node, requirements, workflow};
use crate::engine::{Event, JobStatus, Sight, WaitCause};
use crate::ids::{AllocationId, AttemptId, JobId, NodeId};
use crate::resources::NodeInventory;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationState, NodeState, Outcome, PlannedStart, Usage};
use crate::wire::{
    AllocationReport, AllocationStage, AttemptReport, NodeReport, RunState, WorkflowReport,
};
use crate::workflow::{Requirements, Trigger, Workflow};

impl Run {
    fn report(&self) -> WorkflowReport {
        self.engine.workflow_report(self.now, true, &[])
    }

    /// The first job ends, having used so much.
    fn end_with(&mut self, cpu_ms: u64) {
        let job = JobId(1);
        let attempt = self.engine.latest_attempt(job).expect("it was launched").attempt;
        let (at, usage) = (self.now, Usage { cpu_ms, peak_memory: Some(7) });
        let outcome = Outcome::Signaled { signal: 9 };
        self.apply(Event::StepEnded { job, attempt, at, outcome, usage });
    }

    fn attempt(&self) -> AttemptReport {
        let latest = self.engine.latest_attempt(JobId(1)).expect("it was launched");
        self.engine.attempt_report(latest, self.now, "/out")
    }

    /// The first allocation, if the scheduler says this of it.
    pub(super) fn allocation(&self, observed: Option<AllocationState>) -> AllocationReport {
        let first = AllocationId(1);
        let observed = observed.map(|state| (first, state)).into_iter().collect();
        let held_back = BTreeMap::from([(first, "too many wait".to_owned())]);
        self.allocation_in(Sight {
            now: self.now,
            is_live: true,
            observed: &observed,
            held_back: &held_back,
            planned: &[],
        })
    }

    fn allocation_in(&self, sight: Sight<'_>) -> AllocationReport {
        self.engine.allocation_reports(sight).swap_remove(0)
    }
}

/// Jobs that all have these needs.
fn alike(names: &[&str], needs: Requirements) -> Workflow {
    let jobs: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[] as &[&str])).collect();
    let mut workflow = workflow(&jobs);
    workflow.header.requirements = vec![needs];
    workflow
}

#[test]
fn the_end_is_expected_when_the_rest_has_kept_every_cpu_busy() {
    let mut run = Run::begin(alike(&["a", "b", "c", "d"], requirements(1, 1)), vec![node("n", 2)]);
    let expected = |run: &Run| {
        let end = run.report().expected_end.expect("all runtimes are declared");
        end.since(run.now).as_secs_f64()
    };
    assert_eq!(expected(&run), 120.0, "4 jobs of 60 s on 2 CPUs");
    run.dispatch();
    run.later(10);
    assert_eq!(expected(&run), 110.0, "two have 10 s behind them");
    run.end("b", Outcome::Lost);
    assert_eq!(expected(&run), 114.5, "and one of them for nothing");
    run.later(9);
    run.exit("a", 0);
    assert_eq!(expected(&run), 31.5, "the first took 21 s, and so may the other three");
    run.dispatch();
    run.later(9);
    run.exit("b", 0);
    assert_eq!(expected(&run), 10.5, "two took 15.5 s each, and a third has run for 10 s");
    assert_eq!(run.engine.workflow_report(run.now, false, &[]).expected_end, None);
}

#[test]
fn a_gang_is_expected_to_take_all_that_it_asked_for() {
    let run = Run::begin(alike(&["gang"], requirements(3, 2)), vec![node("n1", 4), node("n2", 4)]);
    let end = run.report().expected_end.expect("its runtime is declared");
    assert_eq!(end.since(run.now), Duration::from_millis(60_000 * 6 / 8));
}

#[test]
fn no_end_is_expected_while_nothing_is_known_of_a_job() {
    let mut run = Run::begin(workflow(&[("a", &[]), ("b", &["a"])]), vec![node("n", 1)]);
    assert_eq!(run.report().expected_end, None);
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(run.report().expected_end, Some(run.now + Duration::from_secs(1)));
}

#[test]
fn a_run_takes_the_time_in_which_somebody_drove_it() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    let began = run.now;
    run.dispatch();
    run.later(5);
    run.apply(Event::StepStarted { job: JobId(1), attempt: AttemptId::FIRST, at: run.now });
    run.later(100);
    assert_eq!(run.report().wall_ms, 105_000);
    assert_eq!(run.engine.workflow_report(run.now, false, &[]).wall_ms, 5_000, "all that is known");
    run.apply(Event::RunResumed { at: run.now });
    assert_eq!(run.report().wall_ms, 5_000, "a pause is not counted");
    run.later(2);
    run.end_with(1_500);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    let ended = run.now;
    run.later(50);
    let report = run.report();
    assert_eq!((report.started_at, report.ended_at), (Some(began), Some(ended)));
    assert_eq!((report.wall_ms, report.used_cpu_ms), (7_000, 1_500));
    run.start();
    let report = run.report();
    assert_eq!((report.wall_ms, report.used_cpu_ms), (0, 0), "another run");
}

#[test]
fn a_run_is_driven_or_interrupted_or_over() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![]);
    let states = |run: &Run| {
        [true, false].map(|is_live| run.engine.workflow_report(run.now, is_live, &[]).state)
    };
    assert_eq!(states(&run), [RunState::Running, RunState::Interrupted]);
    run.apply(Event::StopRequested { at: run.now });
    assert_eq!(states(&run), [RunState::Stopping, RunState::Interrupted]);
    run.apply(Event::RunResumed { at: run.now });
    run.apply(Event::RunEnded { at: run.now, complete: false });
    assert_eq!(states(&run), [RunState::Incomplete; 2]);
    run.apply(Event::RunResumed { at: run.now });
    run.apply(Event::CancelRequested { at: run.now, jobs: None });
    run.apply(Event::RunEnded { at: run.now, complete: true });
    assert_eq!(states(&run), [RunState::Ended; 2]);
}

#[test]
fn the_ten_that_run_longest_are_named() {
    let names: Vec<String> = (1..13).map(|number| format!("j{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = Run::begin(alike(&names, requirements(1, 1)), vec![node("n", 12)]);
    run.dispatch();
    run.end("j2", Outcome::Lost);
    run.dispatch();
    let expected = ["j1", "j3", "j4", "j5", "j6", "j7", "j8", "j9", "j10", "j11"];
    assert_eq!(run.report().running, expected);
    assert_eq!(run.engine.workflow_report(run.now, false, &[]).running, [""; 0]);
}

#[test]
fn nodes_are_shown_with_what_is_in_use() {
    let needs = Requirements { gpus: 2, ..requirements(2, 1) };
    let gpus = ["0".into(), "1".into(), "2".into()];
    let first = NodeInventory { gpus: gpus.into(), ..node("n1", 4) };
    let mut run = Run::begin(alike(&["a"], needs), vec![first, node("n2", 1)]);
    run.dispatch();
    let shown = |name: &str, [cpus, cpus_used, gpus, jobs]: [u32; 4]| {
        let name = name.to_owned();
        NodeReport { name, cpus, cpus_used, slots: None, memory: 8 << 30, gpus, jobs }
    };
    assert_eq!(run.report().nodes, [shown("n1", [4, 2, 3, 1]), shown("n2", [1, 0, 0, 0])]);
    let node = run.allocation(None).nodes.swap_remove(0);
    assert_eq!((node.name.as_str(), node.state, node.reason), ("n1", NodeState::Up, None));
    assert_eq!([node.cpus, node.cpus_used, node.gpus, node.gpus_used], [4, 2, 3, 2]);
    assert_eq!((node.memory, node.memory_used), (8 << 30, 1 << 20));
    let job = &node.jobs[0];
    assert_eq!((job.job.as_str(), job.cpus, job.memory, job.gpus), ("a", 2, 1 << 20, 2));
    assert_eq!((job.since, job.expected_end), (run.now, Some(run.now + Duration::from_secs(60))));
}

#[test]
fn a_planned_start_is_told_with_its_time_if_there_is_one() {
    let mut run = Run::begin(alike(&["a", "b"], requirements(2, 1)), vec![node("n", 2)]);
    run.dispatch();
    let (job, nodes) = (JobId(2), vec![NodeId(0)]);
    let held = vec![(job, nodes.clone())];
    run.apply(Event::NodesHeld { at: run.now, held });
    for (at, told) in [(Timestamp(9_000), Some(Timestamp(9_000))), (Timestamp(u64::MAX), None)] {
        let planned = [PlannedStart { job, at, nodes: nodes.clone() }];
        let report = run.engine.workflow_report(run.now, true, &planned).planned.swap_remove(0);
        assert_eq!((report.job_id, report.job.as_str(), report.at), (job, "b", told));
        assert_eq!(report.nodes, ["n"]);
        assert_eq!((report.held[0].name.as_str(), report.held[0].since), ("n", run.now));
        let (observed, held_back) = (BTreeMap::new(), BTreeMap::new());
        let sight = Sight {
            now: run.now,
            is_live: true,
            observed: &observed,
            held_back: &held_back,
            planned: &planned,
        };
        let node = run.allocation_in(sight).nodes.swap_remove(0);
        assert_eq!((node.held_for.as_deref(), node.held_until), (Some("b"), told));
        assert_eq!(node.held_since, Some(run.now));
    }
    let planned = [PlannedStart { job: JobId(1), at: run.now, nodes }];
    let report = run.engine.workflow_report(run.now, true, &planned).planned.swap_remove(0);
    assert_eq!(report.held, [], "it is held for another");
}

#[test]
fn an_attempt_is_pending_until_its_first_process_runs() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    run.dispatch();
    let dispatched = run.now;
    run.later(2);
    let pending = run.attempt();
    assert_eq!((pending.status, pending.wall_ms), (JobStatus::Pending, 2_000));
    assert_eq!((pending.step.as_str(), pending.job.as_str()), ("wf1_j1_r1_a1", "a"));
    assert_eq!((pending.nodes.as_slice(), pending.cpus), (&["n".to_owned()][..], 1));
    assert_eq!(pending.stdout.as_deref(), Some("/out/job_stdio/job_wf1_j1_r1_a1.o"));
    assert_eq!(pending.stderr.as_deref(), Some("/out/job_stdio/job_wf1_j1_r1_a1.e"));
    run.apply(Event::StepStarted { job: JobId(1), attempt: AttemptId::FIRST, at: run.now });
    let started = run.now;
    run.later(3);
    let running = run.attempt();
    assert_eq!((running.status, running.wall_ms), (JobStatus::Running, 3_000));
    assert_eq!((running.outcome, running.return_code, running.cpu_ms), (None, None, None));
    run.end_with(1_500);
    run.later(9);
    let ended = run.attempt();
    assert_eq!((ended.status, ended.wall_ms), (JobStatus::Failed, 3_000));
    assert_eq!(
        (ended.return_code, ended.cpu_ms, ended.peak_memory),
        (Some(137), Some(1_500), Some(7))
    );
    assert_eq!((ended.dispatched_at, ended.started_at), (dispatched, Some(started)));
}

#[test]
fn why_a_job_waits_is_told_of_those_that_are_ready() {
    let mut workflow = workflow(&[("a", &[]), ("huge", &[]), ("b", &["a"])]);
    workflow.header.requirements.push(requirements(64, 1));
    workflow.jobs[1].requirements = 1;
    workflow.jobs[1].priority = -3;
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    run.dispatch();
    let mut causes = run.engine.causes(run.now);
    let [a, huge, b] = [1, 2, 3].map(|job| run.engine.job_report(JobId(job), &mut causes, "/out"));
    assert!(matches!(huge.waiting, Some(WaitCause::Never(_))));
    assert_eq!((a.waiting, b.waiting), (None, None));
    assert_eq!((huge.cpus, huge.nodes, huge.priority, huge.latest), (64, 1, -3, None));
    assert_eq!(a.latest.map(|attempt| attempt.step).as_deref(), Some("wf1_j1_r1_a1"));
    assert_eq!((b.depends_on.as_slice(), b.status), (&[JobId(1)][..], JobStatus::Blocked));
}

#[test]
fn an_allocation_goes_from_wish_to_end() {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    let mut workflow = with_actions(&[("a", &[])], vec![start]);
    workflow.header.schedulers = vec![scheduler("cpu", 3)];
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    let wished = run.now;
    let told = |run: &Run| {
        let report = run.allocation(None);
        (report.stage, report.reason, report.num_nodes)
    };
    let because = "too many wait".to_owned();
    assert_eq!(told(&run), (AllocationStage::Requested, because.clone(), 3));
    run.submit(1);
    assert_eq!(told(&run).0, AllocationStage::Submitted);
    run.later(5);
    run.grant(1, 1);
    let granted = run.now;
    assert_eq!(told(&run), (AllocationStage::Active, because, 1), "it was given less");
    let reach = |reachable| Event::AllocationReachable {
        at: granted,
        allocation: AllocationId(1),
        reachable,
    };
    run.apply(reach(false));
    assert_eq!(told(&run).0, AllocationStage::Unreachable);
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    assert_eq!(told(&run).0, AllocationStage::Closing);
    run.later(5);
    run.end_allocation(1, AllocationEnd::Completed);
    let report = run.allocation(None);
    assert_eq!((report.stage, report.reason.as_str()), (AllocationStage::Ended, ""));
    assert_eq!((report.scheduler.as_deref(), report.handle.as_deref()), (Some("cpu"), Some("101")));
    assert_eq!((report.requested_at, report.granted_at), (Some(wished), Some(granted)));
    assert_eq!(report.ends_at, Some(granted + Duration::from_secs(3600)));
    assert_eq!((report.ended_at, report.cause), (Some(run.now), Some(AllocationEnd::Completed)));
    assert_eq!(report.nodes, []);
}

#[test]
fn an_allocation_that_leaves_before_it_has_nodes_is_closing() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    assert_eq!(run.allocation(None).stage, AllocationStage::Closing);
}

#[test]
fn why_an_allocation_waits_is_what_the_scheduler_said_last() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.submit(1);
    let pending = AllocationState::Pending { reason: "Priority".to_owned(), expected_start: None };
    let running = AllocationState::Running { ends_at: None };
    let check = |run: &Run, state: &AllocationState, expected: &str| {
        let report = run.allocation(Some(state.clone()));
        assert_eq!((report.reason.as_str(), report.observed.as_ref()), (expected, Some(state)));
    };
    let held_back = "too many wait";
    check(&run, &pending, "Priority");
    check(&run, &running, "its worker has not connected yet");
    run.grant(1, 1);
    check(&run, &pending, held_back);
    check(&run, &running, held_back);
    check(&run, &AllocationState::Configuring, "its nodes are being made ready");
    check(&run, &AllocationState::Suspended, "suspended by the scheduler");
    check(&run, &AllocationState::Headless, "its first node failed; it is being cancelled");
    check(&run, &AllocationState::Completing, "ending");
    let unclear = AllocationState::Unclear { words: "MOVED".to_owned() };
    check(&run, &unclear, "in a state that torc does not know: MOVED");
    let (at, allocation) = (run.now, AllocationId(1));
    let (cause, reason) = (AllocationEnd::NodeFailed, "n1 failed".to_owned());
    run.apply(Event::AllocationEnded { at, allocation, cause, reason });
    check(&run, &AllocationState::Completing, "n1 failed");
}

#[test]
fn nodes_that_were_simply_there_go_with_the_process_that_ran_the_workflow() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("here", 1)]);
    let began = run.now;
    let (observed, held_back) = (BTreeMap::new(), BTreeMap::new());
    let told = |run: &Run, is_live| {
        let sight = Sight {
            now: run.now,
            is_live,
            observed: &observed,
            held_back: &held_back,
            planned: &[],
        };
        let report = run.allocation_in(sight);
        (report.stage, report.ended_at, report.nodes.len())
    };
    run.later(10);
    assert_eq!(told(&run, true), (AllocationStage::Active, None, 1));
    assert_eq!(told(&run, false), (AllocationStage::Ended, Some(began), 0));
    run.apply(Event::RunEnded { at: run.now, complete: false });
    let ended = run.now;
    run.later(10);
    assert_eq!(told(&run, false), (AllocationStage::Ended, Some(ended), 0));
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(told(&run, false), (AllocationStage::Ended, Some(run.now), 0));
    let mut asked_for = one_at_the_start(&[("a", &[])]);
    asked_for.grant(1, 1);
    assert_eq!(told(&asked_for, false), (AllocationStage::Active, None, 1), "Slurm has it");
}
