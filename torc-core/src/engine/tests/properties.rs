//! Whatever happens in whatever order: a replay equals the live state, the counts add up, nothing
//! recorded as completed runs again, and every job is accounted for.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use crate::addition::WrittenLinks;

use super::{Run, job, node, requirements, workflow};
use crate::diagnostics::Problem;
use crate::engine::{Attempt, Event, JobStatus, NotAdded};
use crate::ids::JobId;
use crate::resources::NodeInventory;
use crate::traits::Outcome;
use crate::workflow::Workflow;

#[derive(Clone, Debug)]
enum Move {
    Dispatch,
    Clear,
    Start(usize),
    /// In which place, after how much time, and how.
    End(usize, Duration, Outcome),
    Cancel(usize),
    CancelAll,
    Stop,
    Resume,
    Restart,
    PutBack,
    Disable(usize),
    Enable(usize),
    /// By which running job, if by one, with how many jobs, after which job.
    Add(Option<usize>, usize, usize),
}

fn moves() -> impl Strategy<Value = Move> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Exited { code: 0 }),
        2 => Just(Outcome::Exited { code: 1 }),
        2 => Just(Outcome::Exited { code: 42 }),
        1 => Just(Outcome::Lost),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::TimedOut { code: None }),
        1 => Just(Outcome::OutOfMemory { used: None }),
    ];
    // For jobs of a millisecond launches are cleared ahead of time.
    let time = prop_oneof![Just(Duration::from_millis(1)), Just(Duration::from_secs(1))];
    prop_oneof![
        6 => Just(Move::Dispatch),
        3 => Just(Move::Clear),
        3 => any::<usize>().prop_map(Move::Start),
        9 => (any::<usize>(), time, outcome).prop_map(|(which, time, how)| Move::End(which, time, how)),
        1 => any::<usize>().prop_map(Move::Cancel),
        1 => Just(Move::CancelAll),
        1 => Just(Move::Stop),
        2 => Just(Move::Resume),
        2 => Just(Move::Restart),
        1 => Just(Move::PutBack),
        2 => any::<usize>().prop_map(Move::Disable),
        2 => any::<usize>().prop_map(Move::Enable),
        2 => (prop::option::of(any::<usize>()), 1..4usize, any::<usize>())
            .prop_map(|(by, jobs, after)| Move::Add(by, jobs, after)),
    ]
}

/// Up to a dozen jobs; each may depend on earlier ones.
fn graphs() -> impl Strategy<Value = Workflow> {
    let of_job =
        (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0..3u32, any::<(bool, bool)>());
    prop::collection::vec(of_job, 1..12).prop_map(|jobs| {
        let mut made = workflow(&[]);
        made.header.requirements = vec![requirements(1, 1), requirements(2, 1), requirements(1, 2)];
        for (number, needs) in made.header.requirements.iter_mut().enumerate() {
            needs.name = format!("needs{number}").into();
        }
        for (index, (dependencies, needs, (cancels, retries))) in jobs.into_iter().enumerate() {
            let earlier: BTreeSet<JobId> = dependencies
                .iter()
                .filter(|_| index > 0)
                .map(|choice| JobId::from_index(choice.index(index)))
                .collect();
            let mut job = job(&format!("j{index}"), earlier);
            job.requirements = needs;
            job.cancel_on_blocking_job_failure = cancels;
            job.failure_handler = retries.then_some(0);
            made.jobs.push(job);
        }
        made.header.max_dynamic_iterations = Some(2);
        for index in (0..made.jobs.len()).step_by(3) {
            let mut links = WrittenLinks::default();
            links.regexes[0] = vec!["^n".into()];
            made.header.growth.written.push((JobId::from_index(index), links));
        }
        made
    })
}

/// Nodes of 2 and of 3 CPUs; some have slots, fewer or more than CPUs.
fn two_nodes() -> impl Strategy<Value = Vec<NodeInventory>> {
    let slots = || prop_oneof![2 => Just(None), 1 => (1u32..6).prop_map(NonZeroU32::new)];
    (slots(), slots()).prop_map(|(first, second)| {
        let of = |slots, node| NodeInventory { slots, ..node };
        vec![of(first, node("n1", 2)), of(second, node("n2", 3))]
    })
}

fn play(run: &mut Run, step: Move) {
    let running: Vec<(JobId, _)> = run.engine.running().collect();
    let chosen = |which: usize| running.get(which % running.len().max(1)).copied();
    let at = run.now;
    match step {
        Move::Dispatch => drop(run.dispatch()),
        Move::Clear => {
            let event = run.engine.clear_ahead(at);
            run.log.extend(event);
        }
        Move::Start(which) => {
            if let Some((job, number)) = chosen(which) {
                run.offer(Event::StepStarted { job, attempt: number, at });
            }
        }
        Move::End(which, time, outcome) => {
            if let Some((job, _)) = chosen(which) {
                let name = run.name(job);
                run.end_after(time, &name, outcome);
            }
        }
        Move::Cancel(which) => {
            let job = JobId::from_index(which % run.engine.workflow().jobs.len());
            run.offer(Event::CancelRequested { at, jobs: Some(vec![job]) });
        }
        Move::CancelAll => run.offer(Event::CancelRequested { at, jobs: None }),
        Move::Stop => run.offer(Event::StopRequested { at }),
        Move::Resume => run.offer(Event::RunResumed { at }),
        Move::PutBack => {
            let jobs = run.engine.jobs_to_put_back();
            run.offer(Event::JobsPutBack { at, jobs });
        }
        Move::Disable(which) => {
            let job = JobId::from_index(which % run.engine.workflow().jobs.len());
            if let Ok(Some(event)) = run.engine.disabling(at, &[job]) {
                run.apply(event);
            }
        }
        Move::Enable(which) => {
            let job = JobId::from_index(which % run.engine.workflow().jobs.len());
            for event in run.engine.enabling(at, &[job]).unwrap_or_default() {
                run.apply(event);
            }
        }
        Move::Add(by, jobs, after) => {
            let by = by.and_then(chosen).map(|(job, _)| job);
            let known = run.engine.workflow().jobs.len();
            let after = run.name(JobId::from_index(after % known));
            let text = format!(
                "jobs: [{{name: 'n{known}_{{i}}', command: c, depends_on: [{after}], \
                 resource_requirements: new{jobs}, parameters: {{i: '1:{jobs}'}}}}]\n\
                 resource_requirements: [{{name: new{jobs}, num_cpus: {jobs}}}]"
            );
            // All that may be wrong with it is that it comes too late or waits for itself.
            if let Err(NotAdded::Rejected(rejected)) = run.add(&text, by) {
                let is_cycle = |one: &Problem| one.code == "spec::cycle";
                assert!(rejected.problems.iter().all(is_cycle), "{rejected:?}");
            }
        }
        Move::Restart => {
            let jobs = run.engine.workflow().jobs.len();
            let complete = run.engine.counts().ended() as usize == jobs;
            run.offer(Event::RunEnded { at, complete });
            let again = run.engine.unfinished_jobs();
            let next = run.engine.next_run(at, again);
            run.offer(next);
        }
    }
}

fn check(run: &Run) {
    let engine = &run.engine;
    let jobs: Vec<JobId> = (0..engine.workflow().jobs.len()).map(JobId::from_index).collect();
    let with = |status| jobs.iter().filter(|job| engine.status(**job) == status).count();
    for status in JobStatus::ALL {
        assert_eq!(with(status), engine.counts().of(status) as usize, "{status}");
    }
    let holding = with(JobStatus::Pending) + with(JobStatus::Running);
    assert_eq!(engine.running().len(), holding);
    for job in &jobs {
        let dependencies = &engine.workflow().jobs[job.index()].depends_on;
        let all_ended = dependencies.iter().all(|job| engine.status(*job).has_ended());
        match engine.status(*job) {
            JobStatus::Blocked => assert!(!all_ended, "{job} is blocked by nothing"),
            JobStatus::Ready | JobStatus::Pending | JobStatus::Running => {
                assert!(all_ended, "{job} started before its dependencies ended");
            }
            _ => {}
        }
    }
}

/// All CPU time of the run is held or has a cause, and no other time does.
fn check_time(run: &Run) {
    let engine = &run.engine;
    let report = engine.workflow_report(run.now, true, &[]);
    let until = report.ended_at.unwrap_or(run.now).0;
    let held_ms = |attempt: &Attempt| {
        let end = attempt.end.as_ref().map_or(until, |end| end.at.0);
        (end - attempt.dispatched_at.0) * u64::from(attempt.cpus)
    };
    let of_run = engine.attempts().iter().filter(|attempt| Some(attempt.run) == engine.run());
    assert_eq!(report.held_cpu_ms, of_run.map(held_ms).sum::<u64>());
    let began = report.started_at.expect("it has begun").0;
    assert_eq!(report.held_cpu_ms + report.idle_cpu_ms.sum(), 5 * (until - began));
}

fn check_replay(run: &Run) {
    let (live, again) = (&run.engine, run.replayed());
    assert_eq!(live.attempts(), again.attempts());
    assert_eq!(live.snapshot(), again.snapshot());
    assert_eq!(
        (live.phase(), live.run(), live.counts()),
        (again.phase(), again.run(), again.counts())
    );
    assert_eq!(live.workflow_report(run.now, true, &[]), again.workflow_report(run.now, true, &[]));
}

/// Nothing that completed runs again but in a later run, and there only downstream of something
/// that did not.
fn check_history(run: &Run) {
    let mut completed = BTreeSet::new();
    for attempt in run.engine.attempts() {
        let end = attempt.end.as_ref().map(|end| end.status);
        assert!(!completed.contains(&(attempt.job, attempt.run)), "{attempt:?}");
        if end == Some(JobStatus::Completed) {
            completed.insert((attempt.job, attempt.run));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_state_is_always_consistent_and_replays(
        graph in graphs(),
        nodes in two_nodes(),
        steps in prop::collection::vec(moves(), 0..80),
    ) {
        let mut run = Run::begin(graph, nodes);
        for step in steps {
            play(&mut run, step);
            check(&run);
            check_time(&run);
        }
        check_replay(&run);
        check_history(&run);
    }

    #[test]
    fn every_workflow_comes_to_an_end(
        graph in graphs(),
        nodes in two_nodes(),
        codes in prop::collection::vec(0..3i32, 64),
    ) {
        let mut run = Run::begin(graph, nodes);
        let mut codes = codes.into_iter().cycle();
        loop {
            run.dispatch();
            let Some((job, _)) = run.engine.running().next() else { break };
            let name = run.name(job);
            run.exit(&name, codes.next().unwrap_or(0));
        }
        prop_assert_eq!(run.engine.counts().ended() as usize, run.engine.workflow().jobs.len());
    }
}
