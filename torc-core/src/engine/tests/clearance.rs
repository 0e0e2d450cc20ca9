//! Very short jobs, the launches of which are cleared ahead of time.

use std::time::Duration;

use super::{Run, node, requirements, workflow};
use crate::engine::{Event, JobStatus, Refused};
use crate::ids::{AttemptId, JobId};
use crate::traits::Outcome;

impl Run {
    /// Ends a job 10 ms later: it is one of five that are launched in the time looked ahead.
    fn end_soon(&mut self, name: &str) {
        self.end_after(Duration::from_millis(10), name, Outcome::Exited { code: 0 });
    }

    /// What is cleared now, as inclusive ranges.
    fn clear(&mut self) -> Vec<(u32, u32)> {
        let Some(event) = self.engine.clear_ahead(self.now) else { return Vec::new() };
        let Event::LaunchesCleared { jobs, .. } = event.clone() else { panic!("{event:?}") };
        self.log.push(event);
        jobs.into_iter().map(|(first, last)| (first.0, last.0)).collect()
    }

    fn cleared(&self) -> Vec<u32> {
        let cleared = self.engine.cleared_jobs();
        assert_eq!(self.replayed().cleared_jobs(), cleared);
        cleared.into_iter().map(|job| job.0).collect()
    }
}

/// Jobs `j1` and so on, on a node where two run at once.
fn jobs(count: usize) -> Run {
    jobs_on(count, 2)
}

fn jobs_on(count: usize, cpus: u32) -> Run {
    let names: Vec<String> = (1..=count).map(|number| format!("j{number}")).collect();
    let jobs: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[] as _)).collect();
    Run::begin(workflow(&jobs), vec![node("n", cpus)])
}

#[test]
fn jobs_are_cleared_once_one_like_them_was_short_and_again_when_half_are_gone() {
    let mut run = jobs_on(30, 1);
    run.dispatch();
    assert_eq!(run.clear(), [], "nobody knows how long they take");
    run.end_soon("j1");
    assert_eq!(run.dispatch(), ["j2"]);
    assert_eq!(run.clear(), [(3, 7)], "five follow in the time looked ahead");
    assert_eq!(run.clear(), [], "nothing has ended since");
    for (ends, starts) in [("j2", "j3"), ("j3", "j4")] {
        run.end_soon(ends);
        assert_eq!(run.dispatch(), [starts]);
        assert_eq!(run.clear(), [], "more than half are left");
    }
    assert_eq!(run.cleared(), [5, 6, 7]);
    run.end_soon("j4");
    run.dispatch();
    assert_eq!(run.clear(), [(8, 10)]);
    assert_eq!(run.cleared(), [6, 7, 8, 9, 10]);
}

#[test]
fn long_jobs_and_gangs_are_never_cleared() {
    let mut run = jobs(5);
    run.dispatch();
    run.end_after(Duration::from_millis(51), "j1", Outcome::Exited { code: 0 });
    run.dispatch();
    assert_eq!(run.clear(), []);
    let mut gangs = workflow(&[("a", &[]), ("b", &[]), ("c", &[])]);
    gangs.header.requirements = vec![requirements(1, 2)];
    let mut run = Run::begin(gangs, vec![node("n1", 1), node("n2", 1)]);
    run.dispatch();
    run.end_soon("a");
    run.dispatch();
    assert_eq!(run.clear(), []);
}

#[test]
fn what_a_cause_outside_the_job_ended_says_nothing_about_others() {
    let mut run = jobs(5);
    run.dispatch();
    run.end_after(Duration::from_millis(1), "j1", Outcome::Lost);
    run.dispatch();
    assert_eq!(run.clear(), []);
}

#[test]
fn only_what_is_ready_is_cleared_and_only_once() {
    let mut run = jobs(4);
    run.dispatch();
    let mut refused = |job: u32| {
        let event = Event::LaunchesCleared { at: run.now, jobs: vec![(JobId(job), JobId(job))] };
        run.engine.apply(&event).err()
    };
    let attempt = AttemptId::FIRST;
    assert_eq!(refused(3), None);
    assert_eq!(refused(3), Some(Refused::StaleAttempt { job: JobId(3), attempt }), "it is");
    let attempt = AttemptId(2);
    assert_eq!(refused(1), Some(Refused::StaleAttempt { job: JobId(1), attempt }), "it runs");
    assert_eq!(refused(9), Some(Refused::UnknownJob(JobId(9))));
}

#[test]
fn a_clearance_ends_with_the_wish_that_the_job_should_not_start() {
    let mut run = jobs(6);
    run.dispatch();
    run.end_soon("j1");
    run.dispatch();
    assert_eq!(run.clear(), [(4, 6)]);
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(5)]) });
    assert_eq!(run.cleared(), [4, 6]);
    run.apply(Event::StopRequested { at: run.now });
    assert_eq!(run.cleared(), [0; 0]);
    assert_eq!(run.clear(), [], "nothing starts any more");
}

#[test]
fn a_run_that_ends_leaves_nothing_cleared() {
    let mut run = jobs(4);
    run.dispatch();
    run.end_soon("j1");
    assert_eq!(run.clear(), [(3, 4)]);
    run.end_soon("j2");
    run.apply(Event::RunEnded { at: run.now, complete: false });
    assert_eq!(run.cleared(), [0; 0]);
}

#[test]
fn after_a_crash_what_was_cleared_may_have_been_launched_and_runs_under_another_number() {
    let mut run = jobs(6);
    run.dispatch();
    run.end_soon("j1");
    run.dispatch();
    assert_eq!(run.clear(), [(4, 6)]);
    let crash = run.now;
    run.now = run.now + Duration::from_secs(60);
    run.apply(Event::RunResumed { at: run.now });
    assert_eq!(run.cleared(), [0; 0]);
    let lost = run.engine.latest_attempt(JobId(4)).expect("it may have been launched").clone();
    let end = lost.end.expect("nobody knows of it");
    assert_eq!((lost.attempt, lost.nodes.len(), lost.cpus), (AttemptId::FIRST, 0, 0));
    assert_eq!((lost.dispatched_at, end.at), (crash, crash));
    assert_eq!((end.outcome, end.status), (Outcome::Lost, JobStatus::Failed));
    run.end_soon("j2");
    assert_eq!(run.dispatch(), ["j4"]);
    let latest = run.engine.latest_attempt(JobId(4)).expect("it was launched");
    assert_eq!(latest.attempt, AttemptId(2));
}

#[test]
fn a_job_that_is_ready_again_is_the_next_to_be_cleared() {
    let mut run = jobs(30);
    for first in (1..12).step_by(2) {
        run.dispatch();
        if first == 3 {
            assert_eq!(run.clear(), [(5, 14)], "each of two is followed by five");
        }
        if first == 7 {
            assert_eq!(run.clear(), [], "six are left");
        }
        if first < 11 {
            run.end_soon(&format!("j{first}"));
            let next = format!("j{}", first + 1);
            run.end_after(Duration::ZERO, &next, Outcome::Exited { code: 0 });
        }
    }
    run.end_after(Duration::ZERO, "j12", Outcome::Lost);
    assert_eq!(run.clear(), [(12, 12), (15, 16)], "one runs, and two are cleared for it");
}

#[test]
fn each_class_is_cleared_for_itself() {
    let names =
        ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"];
    let mut both = workflow(&names.map(|name| (name, &[] as &[&str])));
    let places = [1, 2].map(|cpus| Some([Box::from(format!("{cpus}"))].into()));
    for (job, name) in both.jobs.iter_mut().zip(names) {
        let class = usize::from(name.starts_with('b'));
        job.labels = places[class].clone();
    }
    let mut run = Run::begin(both, vec![]);
    for label in ["1", "2"] {
        let labels = [Box::from(label)].into();
        let allocation = run.engine.number_allocation(vec![node(label, 1)], labels, None);
        run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    }
    assert_eq!(run.dispatch(), ["a1", "b1"]);
    run.end_soon("a1");
    run.end_after(Duration::ZERO, "b1", Outcome::Exited { code: 0 });
    assert_eq!(run.dispatch(), ["a2", "b2"]);
    assert_eq!(run.clear(), [(3, 7), (10, 14)]);
}

#[test]
fn of_many_jobs_so_many_are_looked_at_that_a_decision_is_quick() {
    let mut run = jobs(1_110);
    run.dispatch();
    run.end_soon("j1");
    let gone = (3..=1_090).map(JobId).collect();
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(gone) });
    assert_eq!(run.dispatch(), ["j1091"]);
    assert_eq!(run.clear(), [], "more than a thousand were canceled");
    run.end_soon("j2");
    assert_eq!(run.dispatch(), ["j1092"]);
    assert_eq!(run.clear(), [(1_093, 1_100)], "two run, and each is followed by four");
    run.apply(Event::StopRequested { at: run.now });
    run.apply(Event::RunResumed { at: run.now });
    run.end_after(Duration::ZERO, "j1091", Outcome::Lost);
    assert_eq!(run.clear(), [(1_091, 1_091), (1_093, 1_095)], "those first that come first");
}
