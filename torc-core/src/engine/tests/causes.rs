//! Why a job that is ready has not started, where the nodes there are do not tell it alone.

use std::time::Duration;

use super::allocations::{nodes_on, scheduler, with_actions};
use super::{Run, node, requirements};
use crate::engine::{Event, LeftOver, Moment, Named, NotAsked, Unstarted, WaitCause};
use crate::ids::{AllocationId, JobId};
use crate::traits::{AllocationEnd, NeverReason, NotNowReason};
use crate::workflow::{Trigger, Workflow};

/// Scheduler `cpu` is asked at the start for so many allocations of one node, `late` as an action says.
fn staged(jobs: &[(&str, &[&str])], allocations: u32, late: Option<Trigger>) -> Workflow {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, allocations);
    let late = late.map(|trigger| nodes_on(trigger, 1, 1));
    let mut workflow = with_actions(jobs, [Some(start), late].into_iter().flatten().collect());
    workflow.header.schedulers.push(scheduler("late", 1));
    workflow.header.requirements = vec![requirements(2, 1)];
    workflow
}

fn pinned(mut workflow: Workflow, pins: &[(usize, u32)]) -> Workflow {
    for (job, scheduler) in pins {
        workflow.jobs[*job].scheduler = Some(*scheduler);
    }
    workflow
}

fn begin(workflow: Workflow) -> Run {
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    run.later(1);
    run
}

fn numbers(jobs: &[u32]) -> Box<[JobId]> {
    jobs.iter().copied().map(JobId).collect()
}

fn named(names: &[&str]) -> Named {
    let count = u32::try_from(names.len()).unwrap();
    Named { count, first: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn not_asked(moment: Moment, jobs: &[&str], missing: &[&str]) -> Option<WaitCause> {
    let (jobs, missing) = (named(jobs), named(missing));
    Some(WaitCause::NotAsked(NotAsked { scheduler: "late".to_owned(), moment, jobs, missing }))
}

fn refused(times: u32, reason: &str) -> Option<WaitCause> {
    let (scheduler, reason) = ("cpu".to_owned(), reason.to_owned());
    Some(WaitCause::LeftOver(LeftOver::Refused { scheduler, times, reason }))
}

fn ended(allocations: u32, last: AllocationEnd) -> Option<WaitCause> {
    let (scheduler, last) = (Some("cpu".to_owned()), Some(last));
    Some(WaitCause::LeftOver(LeftOver::Ended { scheduler, allocations, last }))
}

const NODES: Option<WaitCause> = Some(WaitCause::NotNow(NotNowReason::NoAllocation));

impl Run {
    fn refuse(&mut self, allocation: u32, reason: &str) {
        self.later(1);
        let (allocation, cause) = (AllocationId(allocation), AllocationEnd::Failed);
        let reason = reason.to_owned();
        self.apply(Event::AllocationEnded { at: self.now, allocation, cause, reason });
    }

    /// The run is over, and torc gives back what is left of it.
    fn conclude(&mut self) {
        self.apply(Event::RunEnded { at: self.now, complete: false });
        self.later(1);
    }

    /// What is told of a job: by the engine that ran, and by one that the log leads to.
    #[track_caller]
    fn cause(&mut self, name: &str) -> Option<WaitCause> {
        self.dispatch();
        let live = self.engine.waiting(self.job(name), self.now);
        assert_eq!(
            self.replayed().waiting(self.job(name), self.now),
            live,
            "the store says the same"
        );
        live
    }
}

#[test]
fn the_last_refusal_is_told_also_once_the_run_is_over() {
    let mut run = begin(staged(&[("a", &[])], 5, None));
    assert_eq!(run.cause("a"), NODES, "they are asked for");
    let bad = "sbatch: Invalid account";
    for allocation in [1, 2, 3] {
        run.refuse(allocation, bad);
    }
    assert_eq!(run.cause("a"), NODES, "two may still come");
    for allocation in [4, 5] {
        run.refuse(allocation, &format!("the last 3 came to nothing; the last one: {bad}"));
    }
    assert_eq!(run.cause("a"), refused(5, bad), "in the words of the one that failed");
    run.conclude();
    assert_eq!(run.cause("a"), refused(5, bad));
    let why = refused(5, bad).unwrap();
    let expected = [Unstarted { job: "a".to_owned(), count: 1, why }];
    assert_eq!(run.engine.unstarted(run.now), expected);
    run.start();
    run.act();
    assert_eq!(run.cause("a"), NODES, "what was before is forgotten");
}

#[test]
fn a_request_that_was_taken_and_ended_before_its_worker_came_came_to_nothing() {
    let mut run = begin(staged(&[("a", &[])], 1, None));
    run.submit(1);
    run.refuse(1, "cancelled by 0");
    let (scheduler, reason) = ("cpu".to_owned(), "cancelled by 0".to_owned());
    let nothing = LeftOver::CameToNothing { scheduler, times: 1, reason };
    assert_eq!(run.cause("a"), Some(WaitCause::LeftOver(nothing)));
}

#[test]
fn a_refusal_before_nodes_came_after_all_is_not_why() {
    let mut run = begin(staged(&[("a", &[])], 2, None));
    run.refuse(1, "not now");
    run.later(1);
    run.grant(2, 2);
    run.end_allocation(2, AllocationEnd::Preempted);
    assert_eq!(run.cause("a"), ended(1, AllocationEnd::Preempted));
    run.conclude();
    assert_eq!(run.cause("a"), ended(1, AllocationEnd::Preempted));
}

#[test]
fn what_torc_itself_withdrew_was_not_refused() {
    let mut run = begin(staged(&[("a", &[])], 1, None));
    run.conclude();
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    run.refuse(1, "nothing was left to run in it");
    assert_eq!(run.cause("a"), Some(WaitCause::LeftOver(LeftOver::NoNodes)));
}

#[test]
fn nodes_that_were_too_small_are_told_with_numbers_after_they_are_gone() {
    let mut run = begin(staged(&[("a", &[])], 1, None));
    run.grant(1, 1);
    let small = Some(WaitCause::Never(NeverReason::Cpus { needs: 2, largest: 1 }));
    assert_eq!(run.cause("a"), small);
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(run.cause("a"), small);
    run.conclude();
    assert_eq!(run.cause("a"), small);
}

#[test]
fn a_time_that_was_too_short_from_the_beginning_is_told_with_its_numbers() {
    let mut workflow = staged(&[("a", &[])], 1, None);
    workflow.header.requirements[0].runtime = Some(Duration::from_secs(3600));
    let mut run = begin(workflow);
    run.grant(1, 2);
    let ends_at = Some(run.now + Duration::from_secs(60));
    let allocation = AllocationId(1);
    run.apply(Event::AllocationEndMoved { at: run.now, allocation, ends_at });
    run.later(60);
    run.end_allocation(1, AllocationEnd::TimedOut);
    run.conclude();
    let reason = NeverReason::Walltime { runtime_ms: 3_600_000, longest_ms: 60_000 };
    assert_eq!(run.cause("a"), Some(WaitCause::Never(reason)));
}

#[test]
fn allocations_that_end_before_its_turn_are_told() {
    let mut run = begin(staged(&[("a", &[]), ("b", &[])], 2, None));
    run.grant(1, 2);
    assert_eq!(run.dispatch(), ["a"]);
    assert!(matches!(run.cause("b"), Some(WaitCause::NotNow(NotNowReason::NotEnoughFree { .. }))));
    run.exit("a", 0);
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(run.cause("b"), NODES, "another may come");
    run.grant(2, 2);
    run.later(3600);
    run.end_allocation(2, AllocationEnd::TimedOut);
    assert_eq!(run.cause("b"), ended(2, AllocationEnd::TimedOut));
    assert_eq!(run.cause("a"), None, "it has ended");
}

#[test]
fn nodes_that_come_are_waited_for_although_those_there_are_are_too_small() {
    let mut run = begin(staged(&[("a", &[])], 2, None));
    run.grant(1, 1);
    assert_eq!(run.cause("a"), NODES);
}

#[test]
fn an_action_that_has_not_fired_is_told_with_what_it_waits_for() {
    let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &["a"])];
    let check = |trigger: Trigger, expected: Option<WaitCause>| {
        let mut run =
            begin(pinned(staged(jobs, 1, Some(trigger.clone())), &[(0, 0), (1, 1), (2, 0)]));
        assert_eq!(run.cause("b"), expected, "before there are nodes");
        assert_eq!(run.cause("a"), NODES, "those of another");
        run.grant(1, 2);
        run.dispatch();
        assert_eq!(run.cause("b"), expected, "while there are nodes of another");
        run.exit("a", 1);
        run.end_allocation(1, AllocationEnd::Completed);
        run.conclude();
        run.cause("b")
    };
    let ready = Trigger::OnJobsReady(numbers(&[2, 3]));
    let waits = not_asked(Moment::OnJobsReady, &["b", "c"], &["c"]);
    let over = check(ready, waits);
    assert_eq!(
        over,
        not_asked(Moment::OnJobsReady, &["b", "c"], &[]),
        "c was canceled: it would fire"
    );
    let complete = Trigger::OnJobsComplete(numbers(&[1, 3]));
    let waits = not_asked(Moment::OnJobsComplete, &["a", "c"], &["a", "c"]);
    check(complete, waits);
    let whole = not_asked(Moment::OnWorkflowComplete, &[], &[]);
    assert_eq!(check(Trigger::OnWorkflowComplete, whole.clone()), whole);
    let leaves = not_asked(Moment::OnWorkerComplete, &[], &[]);
    check(Trigger::OnWorkerComplete, leaves);
}

#[test]
fn once_an_action_has_fired_its_nodes_are_waited_for() {
    let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &["a"])];
    let late = Some(Trigger::OnJobsReady(numbers(&[2, 3])));
    let mut run = begin(pinned(staged(jobs, 1, late), &[(0, 0), (1, 1), (2, 0)]));
    run.grant(1, 2);
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(run.act().0, ["action 1", "allocation 2 of scheduler 1"]);
    assert_eq!(run.cause("b"), NODES);
}

#[test]
fn an_action_for_each_worker_is_told_while_there_is_one_that_it_has_not_fired_for() {
    let cause = |persistent: bool| {
        let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &[])];
        let mut workflow =
            pinned(staged(jobs, 2, Some(Trigger::OnWorkerComplete)), &[(0, 0), (1, 1)]);
        let late = workflow.header.actions.last_mut().expect("it asks for the nodes of b");
        late.persistent = persistent;
        let mut run = begin(workflow);
        run.grant(1, 1);
        run.grant(2, 1);
        run.end_allocation(1, AllocationEnd::Completed);
        assert_eq!(run.act().0, ["action 1 for 1", "allocation 3 of scheduler 1"]);
        // Too small for it.
        run.grant(3, 1);
        run.end_allocation(3, AllocationEnd::Completed);
        run.cause("b")
    };
    assert_eq!(cause(true), not_asked(Moment::OnWorkerComplete, &[], &[]));
    assert_ne!(cause(false), cause(true), "it fires no more");
}

#[test]
fn few_of_many_jobs_are_named() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut jobs: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["z"][..])).collect();
    jobs.push(("z", &[]));
    jobs.push(("pinned", &[]));
    let late = Trigger::OnJobsReady(numbers(&[1, 2, 3, 4, 5, 6]));
    let mut run = begin(pinned(staged(&jobs, 1, Some(late)), &[(7, 1)]));
    let Some(WaitCause::NotAsked(told)) = run.cause("pinned") else {
        panic!("it is not asked for")
    };
    assert_eq!(told.jobs, Named { count: 6, first: named(&names[..4]).first });
    assert_eq!(told.missing, told.jobs);
}

#[test]
fn an_action_that_waits_for_the_job_itself_is_told_last() {
    let late = Some(Trigger::OnJobsComplete(numbers(&[1])));
    let mut run = begin(staged(&[("a", &[])], 1, late.clone()));
    run.refuse(1, "no");
    assert_eq!(run.cause("a"), refused(1, "no"));
    let mut run = begin(staged(&[("a", &[])], 1, late.clone()));
    run.grant(1, 1);
    let small = Some(WaitCause::Never(NeverReason::Cpus { needs: 2, largest: 1 }));
    assert_eq!(run.cause("a"), small);
    let mut run = begin(pinned(staged(&[("a", &[])], 1, late), &[(0, 1)]));
    assert_eq!(run.cause("a"), not_asked(Moment::OnJobsComplete, &["a"], &["a"]));
}

#[test]
fn an_action_of_a_scheduler_that_cannot_serve_the_job_is_not_its_business() {
    let late = Some(Trigger::OnJobsReady(numbers(&[2])));
    let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];
    let mut workflow = staged(jobs, 1, late);
    workflow.header.requirements[0].runtime = Some(Duration::from_secs(4000));
    let mut run = begin(workflow);
    run.refuse(1, "no");
    assert_eq!(
        run.cause("a"),
        Some(WaitCause::NotNow(NotNowReason::NoAllocation)),
        "it would not fit an hour anywhere"
    );
}

#[test]
fn where_nodes_are_simply_there_no_action_matters() {
    let late = Some(Trigger::OnJobsComplete(numbers(&[1])));
    let workflow = pinned(staged(&[("a", &[]), ("b", &[])], 1, late), &[(1, 1)]);
    let mut run = Run::begin(workflow, vec![node("here", 2)]);
    assert_eq!(run.dispatch(), ["a"]);
    assert!(matches!(run.cause("b"), Some(WaitCause::NotNow(NotNowReason::NotEnoughFree { .. }))));
    run.exit("a", 0);
    let ends_at = Some(run.now);
    run.apply(Event::AllocationEndMoved { at: run.now, allocation: AllocationId(1), ends_at });
    run.dispatch();
    run.conclude();
    let over = LeftOver::Ended { scheduler: None, allocations: 1, last: None };
    assert_eq!(run.cause("b"), Some(WaitCause::LeftOver(over)));
}
