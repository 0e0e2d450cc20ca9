//! Whole runs on a real database with an executor that only pretends: what was durable when, who
//! may own a state directory, and what a run that broke off leaves behind.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tempfile::TempDir;
use torc_core::engine::{Conclusion, Event, JobStatus};
use torc_core::ids::{AttemptId, JobId, StepId};
use torc_core::resources::{Inherited, NodeInventory};
use torc_core::spec::{Context, Sources, load};
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationState, Executor, ExecutorError, Outcome, Step,
    StepEvent, StepEvents, StepSignal, StepState, Usage,
};
use torc_core::wire::UserDataRequest;
use torc_core::workflow::Workflow;
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::inherited::WindUp;
use torc_server::session::{
    Inside, Launching, News, RunError, RunOptions, RunOutcome, Running, Session, Start,
};
use torc_server::state_dir::{Owner, StateDir};
use torc_server::store::{Origin, Store, StoreError};

/// What a pretended step does.
#[derive(Clone, Copy)]
enum Play {
    Exits(i32),
    Hangs,
    /// It is gone, and nobody knows how.
    Vanishes,
}

/// An executor whose steps do at once what the test says.
struct Pretender {
    events: Arc<dyn StepEvents>,
    plays: fn(&Step) -> Play,
    /// Called with each launch before anything comes of it.
    watch: Box<dyn Fn(&Step) + Send + Sync>,
}

#[async_trait]
impl Executor for Pretender {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(vec![node()])
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        (self.watch)(&step);
        let outcome = match (self.plays)(&step) {
            Play::Exits(code) => Outcome::Exited { code },
            Play::Vanishes => Outcome::Lost,
            Play::Hangs => return Ok(()),
        };
        self.events.emit(StepEvent::Started { step: step.id, at: now() });
        let (step, usage) = (step.id, Usage::default());
        self.events.emit(StepEvent::Ended { step, at: now(), outcome, usage });
        Ok(())
    }

    async fn signal(&self, step: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        let (outcome, usage) = (Outcome::Cancelled, Usage::default());
        self.events.emit(StepEvent::Ended { step, at: now(), outcome, usage });
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

fn workflow(spec: &str) -> Workflow {
    let context = Context { user: None, sources: &NoSources };
    load(spec.as_bytes(), None, &context).expect("the spec is valid").workflow
}

fn node() -> NodeInventory {
    NodeInventory {
        name: "n".into(),
        cores: [0, 1].into(),
        threads_per_core: 1,
        slots: None,
        memory: 1 << 30,
        gpus: [].into(),
    }
}

fn origin() -> Origin {
    Origin {
        submission_dir: "/".into(),
        spec_path: None,
        submitted_at: Timestamp(1),
        submitter: None,
    }
}

async fn begin(
    dir: &Path,
    spec: Option<&str>,
    plays: fn(&Step) -> Play,
    watch: impl Fn(&Step) + Send + Sync + 'static,
) -> Result<Running, RunError> {
    let options = options(None);
    let session = open(dir, spec).await?;
    session
        .begin(None, options, async |start: Start<'_>| {
            let watch = Box::new(watch);
            let executor = Arc::new(Pretender { events: start.events, plays, watch });
            Ok(Launching { executor, wind_up: None, release: None, on_node: None })
        })
        .await
}

async fn open(dir: &Path, spec: Option<&str>) -> Result<Session, RunError> {
    let mut session = Session::open(StateDir::at(dir).expect("a path")).await?;
    if let Some(spec) = spec {
        session.add(&workflow(spec), &origin()).await?;
    }
    Ok(session)
}

fn options(inside: Option<Inside>) -> RunOptions {
    RunOptions {
        nodes: vec![node()],
        labels: Vec::new(),
        scheduler: None,
        ends_at: None,
        max_parallel_jobs: None,
        inside,
    }
}

#[tokio::test]
async fn jobs_on_other_hosts_of_an_allocation_reach_the_run_and_nobody_else_needs_a_port() {
    let handle = AllocationHandle("41".to_owned());
    let inside = || Inside {
        allocation: Inherited { handle: handle.clone(), has_slurm_steps: true },
        ends_at: None,
        observe: Box::new(|| Box::pin(async { AllocationState::Running { ends_at: None } })),
    };
    let two = vec![node(), NodeInventory { name: "m".into(), ..node() }];
    for (nodes, is_open) in [(two, true), (vec![node()], false)] {
        let dir = tempfile::tempdir().expect("a folder");
        let session = open(
            dir.path(),
            Some("name: w\nuser_data: [{name: u}]\njobs: [{name: a, command: c}]"),
        );
        let session = session.await.expect("a session");
        let options = RunOptions { nodes, ..options(Some(inside())) };
        let begun = session.begin(None, options, async |start: Start<'_>| {
            let plays = |_: &Step| Play::Hangs;
            let executor = Pretender { events: start.events, plays, watch: Box::new(|_| {}) };
            Ok(Launching {
                executor: Arc::new(executor),
                wind_up: None,
                release: None,
                on_node: None,
            })
        });
        let running = begun.await.expect("the run begins");
        let owner = Owner::read(dir.path()).expect("it says who it is");
        assert_eq!(owner.remote.is_some(), is_open);
        assert_eq!(dir.path().join("server.key.json").exists(), is_open);
        if is_open {
            // As it looks from another host.
            let elsewhere = Owner { host: "elsewhere".to_owned(), socket: "/none".into(), ..owner };
            let at = StateDir::at(dir.path()).expect("a path");
            at.announce(&elsewhere).expect("it is written");
            let request =
                UserDataRequest { name: "u".to_owned(), value: 5.into(), by: Some(JobId(1)) };
            let set = Access::set_user_data(&at, None, &request).await.expect("it is set");
            assert_eq!((set.value, set.set_by.as_deref()), (5.into(), Some("a")));
        }
        running.handle.kill();
        running.wait().await.expect("the run ends");
    }
}

/// Runs a workflow inside an allocation that stands like this whenever somebody asks. How it ended, and how
/// often its executor was told to come to its end.
async fn run_inside(
    dir: &Path,
    spec: &str,
    plays: fn(&Step) -> Play,
    state: AllocationState,
) -> (RunOutcome, u32) {
    let handle = AllocationHandle("41".to_owned());
    let inside = Inside {
        allocation: Inherited { handle, has_slurm_steps: true },
        ends_at: None,
        observe: Box::new(move || {
            let state = state.clone();
            Box::pin(async move { state })
        }),
    };
    let ended = Arc::new(AtomicU32::new(0));
    let ending = Arc::clone(&ended);
    let wind_up: WindUp = Arc::new(move || {
        ending.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    });
    let session = open(dir, Some(spec)).await.expect("a session");
    let begun = session.begin(None, options(Some(inside)), async |start: Start<'_>| {
        let executor = Pretender { events: start.events, plays, watch: Box::new(|_| {}) };
        Ok(Launching {
            executor: Arc::new(executor),
            wind_up: Some(wind_up),
            release: None,
            on_node: None,
        })
    });
    let running = begun.await.expect("the run begins");
    let outcome = running.wait().await.expect("the run ends");
    (outcome, ended.load(Ordering::Relaxed))
}

async fn run(dir: &Path, spec: Option<&str>, plays: fn(&Step) -> Play) -> RunOutcome {
    let running = begin(dir, spec, plays, |_| {}).await.expect("the run begins");
    running.wait().await.expect("the run ends")
}

/// What the database of a live run would have after a power cut at this very moment.
fn copy_of_database(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["torc.db", "torc.db-wal"] {
        if dir.join(file).exists() {
            std::fs::copy(dir.join(file), copy.path().join(file)).expect("the file is copied");
        }
    }
    copy
}

async fn events(dir: &Path) -> Vec<Event> {
    let mut store = Store::read(&StateDir::at(dir).expect("a path")).await.expect("it is readable");
    store.load(None).await.expect("it has a workflow").events
}

/// Whether these events, in order, allow this launch: its dispatch, or a clearance given when it was
/// the job's next.
fn allow_launch(events: &[Event], job: JobId, attempt: AttemptId) -> bool {
    let mut next = AttemptId::FIRST;
    for event in events {
        match event {
            Event::Dispatched { job: of, attempt: number, .. } if *of == job => {
                if *number == attempt {
                    return true;
                }
                next = AttemptId(number.0 + 1);
            }
            Event::LaunchesCleared { jobs, .. }
                if next == attempt
                    && jobs.iter().any(|(first, last)| (first.0..=last.0).contains(&job.0)) =>
            {
                return true;
            }
            _ => {}
        }
    }
    false
}

const MANY: &str = "
name: many
failure_handlers: [{name: again, rules: [{match_all_exit_codes: true, max_retries: 1}]}]
jobs:
  - {name: 'j{i}', command: 'true', failure_handler: again, parameters: {i: '1:400'}}
  - {name: last, command: 'true', depends_on: [j400]}
";

#[tokio::test]
async fn nothing_is_launched_before_an_event_that_says_so_is_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let copies: Arc<Mutex<Vec<(StepId, TempDir)>>> = Arc::default();
    let (seen, path) = (copies.clone(), dir.path().to_owned());
    let plays = |step: &Step| {
        Play::Exits(i32::from(step.id.attempt.0 == 1 && step.id.job.0.is_multiple_of(3)))
    };
    let watch = move |step: &Step| {
        seen.lock().expect("no panic").push((step.id, copy_of_database(&path)));
    };
    let running = begin(dir.path(), Some(MANY), plays, watch).await.expect("the run begins");
    let outcome = running.wait().await.expect("the run ends");
    assert_eq!(outcome.conclusion, Conclusion::Complete);
    assert!(outcome.failed.is_empty());
    let copies = std::mem::take(&mut *copies.lock().expect("no panic"));
    assert_eq!(copies.len(), 401 + 133, "each once, and every third twice");
    let mut cleared = 0;
    for (step, copy) in copies {
        let durable = events(copy.path()).await;
        assert!(
            allow_launch(&durable, step.job, step.attempt),
            "{step} was launched before that was durable"
        );
        let dispatched =
            |event: &Event| matches!(event, Event::Dispatched { job, .. } if *job == step.job);
        cleared += u32::from(!durable.iter().any(dispatched));
    }
    assert!(cleared > 0, "jobs that short are cleared ahead");
}

#[tokio::test]
async fn where_steps_may_outlive_the_run_none_is_cleared_ahead() {
    let dir = tempfile::tempdir().expect("a folder");
    let living = AllocationState::Running { ends_at: None };
    let (outcome, ended) = run_inside(dir.path(), MANY, |_| Play::Exits(0), living).await;
    assert_eq!((outcome.conclusion, ended), (Conclusion::Complete, 0));
    let is_clearance = |event: &Event| matches!(event, Event::LaunchesCleared { .. });
    assert!(!events(dir.path()).await.iter().any(is_clearance));
}

#[tokio::test]
async fn the_end_of_its_allocation_interrupts_a_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = "
name: x
jobs:
  - {name: a, command: 'true'}
  - {name: b, command: 'true', depends_on: [a]}
  - {name: c, command: 'true', depends_on: [b]}
";
    let plays = |step: &Step| match step.id.job.0 {
        1 => Play::Exits(0),
        _ => Play::Vanishes,
    };
    let over =
        AllocationState::Ended { cause: AllocationEnd::Cancelled, reason: "gone".to_owned() };
    let (outcome, ended) = run_inside(dir.path(), spec, plays, over).await;
    assert_eq!((outcome.conclusion, ended), (Conclusion::Stopped, 1));
    let count = |status| outcome.report.counts.get(&status).copied().unwrap_or(0);
    assert_eq!((count(JobStatus::Completed), count(JobStatus::Ready)), (1, 1));
    let outcome = run(dir.path(), None, |_| Play::Exits(0)).await;
    assert_eq!(outcome.conclusion, Conclusion::Complete, "it goes on elsewhere");
    let launched = |event: &&Event| matches!(event, Event::Dispatched { .. });
    assert_eq!(events(dir.path()).await.iter().filter(launched).count(), 4, "b once more");
}

#[tokio::test]
async fn what_completed_before_a_break_never_runs_again_and_the_rest_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = "
name: x
jobs:
  - {name: done, command: 'true'}
  - {name: hangs, command: 'true', depends_on: [done]}
  - {name: after, command: 'true', depends_on: [hangs]}
";
    let hangs = |step: &Step| if step.id.job.0 == 2 { Play::Hangs } else { Play::Exits(0) };
    let launched = Arc::new(tokio::sync::Notify::new());
    let notify = launched.clone();
    let watch = move |step: &Step| {
        if step.id.job.0 == 2 {
            notify.notify_one();
        }
    };
    let _running = begin(dir.path(), Some(spec), hangs, watch).await.expect("the run begins");
    launched.notified().await;
    // A power cut: all that is left is what was on disk.
    let survivor = copy_of_database(dir.path());
    let again = begin(survivor.path(), None, |_| Play::Exits(0), |_| {}).await.expect("it goes on");
    assert!(again.begun.is_resumed);
    assert_eq!((again.begun.completed, again.begun.lost), (1, 1));
    let outcome = again.wait().await.expect("the run ends");
    assert_eq!(outcome.conclusion, Conclusion::Complete);
    let access =
        Access::open(&StateDir::at(survivor.path()).expect("a path")).await.expect("it opens");
    let attempts = access.attempts(None).await.expect("it is readable");
    let story: Vec<(&str, u32, Option<&Outcome>)> = attempts
        .iter()
        .map(|attempt| (attempt.job.as_str(), attempt.attempt.0, attempt.outcome.as_ref()))
        .collect();
    let good = Some(&Outcome::Exited { code: 0 });
    assert_eq!(
        story,
        [
            ("done", 1, good),
            ("hangs", 1, Some(&Outcome::Lost)),
            ("hangs", 2, good),
            ("after", 1, good)
        ]
    );
}

#[tokio::test]
async fn cleared_jobs_get_a_lost_attempt_after_a_break_and_run_under_another_number() {
    let dir = tempfile::tempdir().expect("a folder");
    // The first jobs are quick, so that more are cleared; then every launch hangs.
    let plays = |step: &Step| if step.id.job.0 < 60 { Play::Exits(0) } else { Play::Hangs };
    let survivor: Arc<Mutex<Option<TempDir>>> = Arc::default();
    let (first_copy, path) = (survivor.clone(), dir.path().to_owned());
    let hung = Arc::new(tokio::sync::Notify::new());
    let notify = hung.clone();
    let watch = move |step: &Step| {
        if step.id.job.0 >= 60 {
            first_copy.lock().expect("no panic").get_or_insert_with(|| copy_of_database(&path));
            notify.notify_one();
        }
    };
    let _running = begin(dir.path(), Some(MANY), plays, watch).await.expect("the run begins");
    hung.notified().await;
    let survivor = survivor.lock().expect("no panic").take().expect("a copy was made");
    let again = begin(survivor.path(), None, |_| Play::Exits(0), |_| {}).await.expect("it goes on");
    assert!(again.begun.lost > 0, "something was cleared");
    let lost = again.begun.lost as usize;
    again.wait().await.expect("the run ends");
    let access =
        Access::open(&StateDir::at(survivor.path()).expect("a path")).await.expect("it opens");
    let attempts = access.attempts(None).await.expect("it is readable");
    let is_lost = |outcome: &Option<Outcome>| *outcome == Some(Outcome::Lost);
    assert_eq!(attempts.iter().filter(|attempt| is_lost(&attempt.outcome)).count(), lost);
    let mut names: Vec<&str> = attempts.iter().map(|attempt| attempt.step.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "no launch has the name of another");
    let report = access.workflow(None).await.expect("it is readable");
    assert_eq!(report.counts.values().sum::<u32>(), 401);
    assert_eq!(report.counts[&JobStatus::Completed], 401);
}

#[tokio::test]
async fn one_process_owns_a_directory_and_others_look_through_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = StateDir::at(dir.path()).expect("a path");
    let spec = "{name: x, jobs: [{name: a, command: x}, {name: b, command: x, depends_on: [a]}]}";
    let running = begin(dir.path(), Some(spec), |_| Play::Hangs, |_| {}).await.expect("it begins");
    let refused = Session::open(state.clone()).await.err().expect("it is in use");
    assert!(matches!(refused, StoreError::InUse { owner: Some(_), .. }), "{refused}");
    let access = Access::open(&state).await.expect("the owner answers");
    assert!(matches!(access, Access::Live(..)));
    let seen = access.workflow(None).await.expect("it answers");
    assert_eq!(seen, running.handle.workflow(None).await.expect("it runs").clone_times(&seen));
    let unknown = access.jobs(Some(torc_core::ids::WorkflowId(9))).await.expect_err("none");
    assert!(unknown.to_string().contains("there is no workflow 9"), "{unknown}");
    let request = torc_core::wire::CancelRequest { jobs: Some(vec!["aa".into()]) };
    let refused = access.cancel(None, &request).await.expect_err("there is no such job");
    assert!(refused.to_string().contains("did you mean `a`?"), "{refused}");
    let access = Access::open(&state).await.expect("the owner answers");
    let report = access.cancel(None, &Default::default()).await.expect("it answers");
    assert_eq!((report.canceled, report.signaled), (1, 1));
    let outcome = running.wait().await.expect("the run ends");
    assert_eq!(outcome.report.counts[&JobStatus::Canceled], 2);
    assert!(matches!(Access::open(&state).await, Ok(Access::Stored(..))));
}

/// The parts of a report that move with the clock are taken from another.
trait CloneTimes {
    fn clone_times(self, other: &Self) -> Self;
}

impl CloneTimes for torc_core::wire::WorkflowReport {
    fn clone_times(self, other: &Self) -> Self {
        Self {
            wall_ms: other.wall_ms,
            held_cpu_ms: other.held_cpu_ms,
            idle_cpu_ms: other.idle_cpu_ms,
            available_cpu_ms: other.available_cpu_ms,
            expected_end: other.expected_end,
            ..self
        }
    }
}

#[tokio::test]
async fn a_finished_workflow_has_nothing_to_restart_and_a_failed_one_has() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = "{name: x, jobs: [{name: a, command: x}, {name: b, command: x}]}";
    let fails = |step: &Step| Play::Exits(i32::from(step.id.job.0 == 2));
    run(dir.path(), Some(spec), fails).await;
    let outcome = run(dir.path(), None, |_| Play::Exits(0)).await;
    assert_eq!(outcome.report.run, Some(torc_core::ids::RunId(2)));
    assert_eq!(outcome.report.counts[&JobStatus::Completed], 2);
    let refused = begin(dir.path(), None, |_| Play::Exits(0), |_| {}).await.err();
    assert!(matches!(refused, Some(RunError::NothingLeft(_))));
}

#[tokio::test]
async fn garbage_in_place_of_a_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("torc.db");
    let garbage = "this is no database, but it is long enough to be looked at as one".repeat(100);
    std::fs::write(&path, &garbage).expect("it is written");
    let state = StateDir::at(dir.path()).expect("a path");
    for refused in [Session::open(state.clone()).await.err(), Store::read(&state).await.err()] {
        let refused = refused.expect("it is refused");
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), garbage);
}

#[tokio::test]
async fn a_log_that_does_not_follow_is_damage_not_a_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = StateDir::at(dir.path()).expect("a path");
    let mut store = Store::own(&state).await.expect("it is created");
    let id = store
        .add_workflow(&workflow("{name: x, jobs: [{name: a, command: x}]}"), &origin())
        .await
        .expect("it is written");
    let (at, usage) = (Timestamp(1), Usage::default());
    let orphan = Event::StepEnded {
        job: JobId(1),
        attempt: AttemptId(1),
        at,
        outcome: Outcome::Exited { code: 0 },
        usage,
    };
    store.append(id, 0, &[orphan]).await.expect("it is written");
    store.close().await.expect("it closes");
    let access = Access::open(&state).await.expect("it opens");
    let refused = access.workflow(None).await.expect_err("it makes no sense");
    assert!(refused.to_string().contains("is damaged"), "{refused}");
}

#[tokio::test]
async fn the_next_owners_word_is_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let dir = StateDir::at(folder.path()).expect("a path");
    let spec = "{name: w, jobs: [{name: a, command: x}]}";
    let mut running =
        begin(folder.path(), Some(spec), |_| Play::Exits(0), |_| {}).await.expect("it begins");
    while running.next().await != News::Ended {}
    assert!(Owner::read(dir.path()).is_none(), "whoever lets go of the store says so before");
    let next = Owner { instance: "next".to_owned(), ..Owner::this_process(folder.path()) };
    dir.announce(&next).expect("is written");
    running.wait().await.expect("it ended well");
    assert_eq!(Owner::read(dir.path()), Some(next));
}
