//! Placers of others that fail, lie or do nothing: the run comes to its end all the same, and one of them
//! that does not mend its ways is replaced, once, with a word about it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::faults::start;
use super::{Run, node, placer, requirements, workflow};
use crate::engine::{Conclusion, Dispatch, JobStatus};
use crate::ids::{ClassId, JobId, NodeId};
use crate::time::Timestamp;
use crate::traits::{
    Delta, NeverReason, NotNowReason, Placer, Plan, PlannedStart, Snapshot, Start, Waiting,
    WaitingJob,
};

/// What a placer was told, and its next plans; after the last, each is empty.
#[derive(Default)]
struct Script {
    plans: VecDeque<Plan>,
    told: Vec<Delta>,
    rebuilt: Vec<Snapshot>,
    limits: Vec<usize>,
    waiting: Option<Waiting>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Placer for Scripted {
    fn apply(&mut self, deltas: &[Delta]) {
        self.0.lock().unwrap().told.extend_from_slice(deltas);
    }

    fn plan(&mut self, _: Timestamp, limit: usize) -> Plan {
        let mut script = self.0.lock().unwrap();
        script.limits.push(limit);
        script.plans.pop_front().unwrap_or_default()
    }

    fn explain(&self, _: JobId, _: Timestamp) -> Option<Waiting> {
        self.0.lock().unwrap().waiting.clone()
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        self.0.lock().unwrap().rebuilt.push(snapshot.clone());
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const MEMORY: u64 = 2 << 30;

/// Four jobs of one CPU, and a node of two CPUs and 8 GiB, in the hands of a placer that does as it is told.
fn begin(plans: impl IntoIterator<Item = Plan>) -> (Run, Scripted) {
    let mut made = workflow(&NAMES.map(|name| (name, &[] as &[&str])));
    made.header.requirements = vec![requirements(1, 1)];
    let mut run = Run::begin_with(made, vec![node("n", 2)], placer());
    let scripted = Scripted::default();
    scripted.0.lock().unwrap().plans.extend(plans);
    run.engine.entrust("site", Box::new(scripted.clone()));
    (run, scripted)
}

fn on(job: u32, core: u16) -> Start {
    start(job, &[(0, &[core], MEMORY * 2)])
}

fn starts(starts: impl IntoIterator<Item = Start>) -> Plan {
    Plan { starts: starts.into_iter().collect(), ..Plan::default() }
}

fn dispatch(run: &mut Run, limit: usize) -> Dispatch {
    let dispatch = run.engine.dispatch(run.now, limit);
    run.log.extend(dispatch.started.iter().cloned());
    run.log.extend(dispatch.held.clone());
    dispatch
}

fn words(dispatch: &Dispatch) -> Option<String> {
    dispatch.dismissed.as_ref().map(ToString::to_string)
}

/// Ends what runs until nothing does: the run is complete, and each job ran once.
fn finish(run: &mut Run) {
    loop {
        let next = run.engine.running().next();
        let Some((job, _)) = next else { break };
        let name = run.name(job);
        run.exit(&name, 0);
        let dispatch = dispatch(run, usize::MAX);
        assert_eq!(dispatch.dismissed, None, "it is said once");
    }
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    assert_eq!(run.engine.attempts().len(), NAMES.len(), "each job ran once");
    assert_eq!(run.engine.snapshot(), run.replayed().snapshot());
}

#[test]
fn a_placer_is_told_all_there_is_when_it_takes_over() {
    let (mut run, site) = begin([starts([on(1, 0)])]);
    let rebuilt = site.0.lock().unwrap().rebuilt.clone();
    assert_eq!(rebuilt, [run.engine.snapshot()]);
    assert_eq!(dispatch(&mut run, 1).started.len(), 1);
    assert_eq!(site.0.lock().unwrap().told, [], "nothing is told twice");
    assert_eq!(site.0.lock().unwrap().limits, [1]);
    assert!(run.engine.has_guest_placer());
}

#[test]
fn a_placer_that_fails_is_replaced_at_once() {
    let failed = Plan { failure: Some("plan: it panicked".to_owned()), ..Plan::default() };
    let (mut run, site) = begin([starts([on(1, 0)]), failed]);
    assert_eq!(dispatch(&mut run, usize::MAX).started.len(), 1);
    let second = dispatch(&mut run, usize::MAX);
    assert_eq!(second.started.len(), 1, "torc's own knows what the first core is used for");
    let said = "plugin `site` places no jobs any more, torc's own placer does: plan: it panicked";
    assert_eq!(words(&second).as_deref(), Some(said));
    assert_eq!(run.engine.dismissal(), second.dismissed.as_ref());
    finish(&mut run);
    assert_eq!(site.0.lock().unwrap().limits.len(), 2, "it is not asked again");
}

/// The plan, three times, is refused, with this fault; then torc's own placer fills the node.
#[track_caller]
fn check_lie(plan: &Plan, limit: usize, given_back: &[u32], expected: &str) {
    let (mut run, site) = begin([plan.clone(), plan.clone(), plan.clone()]);
    let dispatch = dispatch(&mut run, limit);
    let last = dispatch.faults.last().expect("it was refused").to_string();
    assert_eq!(last, expected);
    let said = words(&dispatch).expect("it is replaced");
    assert!(said.contains("plugin `site`") && said.contains(expected), "{said}");
    assert!(dispatch.started.len() <= limit.min(2), "the node has two CPUs");
    assert_eq!(site.0.lock().unwrap().limits.len(), 3, "it had three chances");
    let told = site.0.lock().unwrap().told.clone();
    let is_given_back = |job| told.contains(&Delta::StepEnded(JobId(job)));
    let found: Vec<u32> = (0..10).filter(|job| is_given_back(*job)).collect();
    assert_eq!(found, given_back, "what was not started, and nothing else");
    finish(&mut run);
}

#[test]
fn no_lie_starts_a_job_where_it_may_not_or_is_told_for_ever() {
    let all = usize::MAX;
    let taken = |job| format!("job {job} cannot be placed: node 0 does not have that free");
    let not_ready = "job 1 cannot be placed: it is not ready";
    check_lie(&starts([on(1, 2)]), all, &[1], &taken(1));
    check_lie(&starts([on(1, 0), on(2, 0)]), all, &[2], &taken(2));
    check_lie(&starts([on(9, 0)]), all, &[9], "there is no job 9");
    check_lie(&starts([on(0, 0)]), all, &[0], "there is no job 0");
    check_lie(&starts([on(1, 0), on(1, 1)]), all, &[], not_ready);
    let too_many = "job 2 cannot be placed: no more jobs may start now";
    check_lie(&starts([on(1, 0), on(2, 1)]), 1, &[2], too_many);
}

#[test]
fn what_is_refused_waits_again_for_the_same_placer() {
    let (mut run, site) = begin([starts([on(1, 7)]), starts([on(1, 0)])]);
    let first = dispatch(&mut run, usize::MAX);
    assert_eq!((first.started.len(), first.faults.len()), (1, 1), "it is asked again at once");
    assert_eq!(first.dismissed, None);
    let again = Delta::JobReady(WaitingJob { job: JobId(1), class: ClassId(0) });
    assert_eq!(site.0.lock().unwrap().told, [Delta::StepEnded(JobId(1)), again]);
}

#[test]
fn faults_are_counted_in_a_row() {
    let (lie, empty) = (starts([on(9, 0)]), Plan::default());
    let truth = |job| starts([on(job, 0)]);
    let two_lies = [lie.clone(), lie.clone()];
    let plans = [truth(1)].into_iter().chain(two_lies.clone()).chain([empty.clone()]);
    let plans = plans.chain([truth(2)]).chain(two_lies).chain([empty, lie]);
    let (mut run, _) = begin(plans);
    dispatch(&mut run, usize::MAX);
    assert_eq!(dispatch(&mut run, usize::MAX).faults.len(), 2);
    run.exit("a", 0);
    assert_eq!(dispatch(&mut run, usize::MAX).started.len(), 1, "that clears it");
    let fourth = dispatch(&mut run, usize::MAX);
    assert_eq!((fourth.faults.len(), fourth.dismissed), (2, None));
    assert!(dispatch(&mut run, usize::MAX).dismissed.is_some(), "a plan of nothing does not");
}

#[test]
fn a_placer_that_starts_nothing_is_replaced_where_the_run_would_end() {
    let (mut run, _) = begin([starts([on(1, 0)])]);
    dispatch(&mut run, usize::MAX);
    let second = dispatch(&mut run, usize::MAX);
    assert_eq!((second.started.len(), second.dismissed), (0, None), "a job runs, so it may wait");
    run.exit("a", 0);
    let third = dispatch(&mut run, usize::MAX);
    assert_eq!(third.started.len(), 2);
    assert!(words(&third).is_some_and(|said| said.contains("it starts nothing")));
    finish(&mut run);

    let mut made = workflow(&[("wide", &[])]);
    made.header.requirements = vec![requirements(3, 1)];
    let mut run = Run::begin_with(made, vec![node("n", 2)], placer());
    run.engine.entrust("site", Box::new(Scripted::default()));
    assert_eq!(run.engine.dispatch(run.now, usize::MAX), Dispatch::default());
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stuck), "torc's own would not either");
    assert_eq!(run.status("wide"), JobStatus::Ready);
}

#[test]
fn promises_of_what_there_is_not_are_left_out() {
    let promise = |job| PlannedStart { job: JobId(job), at: Timestamp(7), nodes: vec![NodeId(4)] };
    let held = [(9, vec![0]), (2, vec![0, 5]), (3, vec![0])];
    let held = held.map(|(job, nodes)| (JobId(job), nodes.into_iter().map(NodeId).collect()));
    let plan = Plan {
        planned: vec![promise(0), promise(2), promise(5)],
        held: held.into(),
        ..starts([on(1, 0)])
    };
    let (mut run, site) = begin([plan.clone(), plan]);
    let first = dispatch(&mut run, usize::MAX);
    assert_eq!(first.planned, [promise(2)]);
    assert!(first.held.is_some());
    let report = run.engine.workflow_report(run.now, true, &first.planned);
    assert_eq!(report.planned[0].job, "b");
    site.0.lock().unwrap().plans[0].starts.clear();
    assert_eq!(dispatch(&mut run, usize::MAX).held, None, "the same is held");
    assert_eq!(run.engine.snapshot(), run.replayed().snapshot());
}

#[test]
fn a_waiting_job_always_has_a_cause() {
    let (run, site) = begin([]);
    let told = |waiting| {
        site.0.lock().unwrap().waiting = waiting;
        run.engine.ask_placer(JobId(1), run.now)
    };
    let queued = Some(Waiting::NotNow(NotNowReason::Queued));
    let held_for = |job| {
        let (job, until) = (JobId(job), Timestamp(5));
        Some(Waiting::NotNow(NotNowReason::HeldForPlannedStart { job, until }))
    };
    assert_eq!(told(None), queued);
    assert_eq!(told(held_for(77)), queued);
    assert_eq!(told(held_for(2)), held_for(2));
    let never = Some(Waiting::Never(NeverReason::Together));
    assert_eq!(told(never.clone()), never);
}
