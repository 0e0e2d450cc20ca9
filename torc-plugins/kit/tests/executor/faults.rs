//! The Local executor with a fault each: just the checks that are for it find it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvent, StepEvents, StepSignal,
    StepState, Usage,
};
use torc_executors::local::LocalExecutor;
use torc_plugin_kit::{Candidate, Check, Executors, Interface, OpenExecutor, Verdict, checks_of};

use crate::found::{assert_broken, verdict};
use crate::own::Own;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("ends_that_are_wrong_are_found", ends),
    ("ends_of_what_was_stopped_that_are_wrong_are_found", stopped),
    ("surroundings_that_are_wrong_are_found", surroundings),
    ("reports_that_are_wrong_are_found", reports),
    ("what_is_left_behind_is_found", leftovers),
    ("an_executor_that_does_not_open_is_found", unopened),
];

/// What is wrong with an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    DoesNotOpen,
    HasTwins,
    MasksCodes,
    TellsSignalsAsCodes,
    RunsElsewhere,
    RunsWithoutOutput,
    RunsNothingForNoProgram,
    ForgetsExpectedFiles,
    DropsEmptyWords,
    ForgetsEnvironment,
    IgnoresFolder,
    SwapsOutput,
    ParesOutput,
    KeepsOutput,
    TearsGangsApart,
    LosesAMany,
    EndsTwice,
    StartsTwice,
    StartsAfterTheEnd,
    StartsWhatFailed,
    AnswersBackwards,
    ForgetsWhatRuns,
    StopsAtTheFirstFailure,
    TellsCancelledAsSignaled,
    LosesACancelOfTheNew,
    RefusesTheSecondCancel,
    TellsOfTheUnknown,
    FailsForTheUnknown,
    HasLittlePatience,
    NeverKills,
    TellsTimeAsCancelled,
    AsksBeforeItKills,
    HasNoClock,
    KnowsOnlyTerm,
    LeavesADaemon,
    LeavesAtTheClose,
    TellsNothingAtTheClose,
}

struct Faulty {
    own: Own,
    fault: Fault,
}

struct Open {
    inner: Arc<LocalExecutor>,
    fault: Fault,
    events: Arc<Twist>,
    /// Steps that were signalled, and how often.
    signalled: Mutex<BTreeMap<StepId, u32>>,
    folders: Mutex<BTreeMap<StepId, PathBuf>>,
}

/// Passes reports on, not as they are.
struct Twist {
    fault: Fault,
    out: Arc<dyn StepEvents>,
    is_closed: Mutex<bool>,
}

fn ended(event: &StepEvent, outcome: Outcome) -> StepEvent {
    match event.clone() {
        StepEvent::Ended { step, at, usage, .. } => StepEvent::Ended { step, at, outcome, usage },
        other => other,
    }
}

impl Twist {
    /// What is told in place of an outcome.
    fn outcome(&self, outcome: &Outcome) -> Option<Outcome> {
        Some(match (self.fault, outcome) {
            (Fault::MasksCodes, Outcome::Exited { code: 128.. }) => Outcome::Exited { code: 1 },
            (Fault::TellsSignalsAsCodes, Outcome::Signaled { signal }) => {
                Outcome::Exited { code: 128 + signal }
            }
            (Fault::RunsNothingForNoProgram, Outcome::LaunchFailed { stage, .. })
                if *stage == LaunchStage::Execute =>
            {
                Outcome::Exited { code: 1 }
            }
            (Fault::TellsCancelledAsSignaled, Outcome::Cancelled) => {
                Outcome::Signaled { signal: 15 }
            }
            (Fault::TellsTimeAsCancelled, Outcome::TimedOut { code: None }) => Outcome::Cancelled,
            _ => return None,
        })
    }
}

impl StepEvents for Twist {
    fn emit(&self, event: StepEvent) {
        let StepEvent::Ended { step, at, outcome, .. } = &event else {
            if self.fault == Fault::StartsTwice {
                self.out.emit(event.clone());
            }
            return self.out.emit(event);
        };
        let started = StepEvent::Started { step: *step, at: *at };
        match self.fault {
            Fault::TellsNothingAtTheClose if *self.is_closed.lock().expect("whole") => return,
            Fault::LosesAMany if step.job.0 > 90 => return,
            Fault::EndsTwice => self.out.emit(event.clone()),
            Fault::StartsWhatFailed if matches!(outcome, Outcome::LaunchFailed { .. }) => {
                self.out.emit(started.clone());
            }
            _ => {}
        }
        let event = self.outcome(outcome).map_or(event.clone(), |other| ended(&event, other));
        self.out.emit(event);
        if self.fault == Fault::StartsAfterTheEnd {
            self.out.emit(started);
        }
    }
}

#[async_trait]
impl Executors for Faulty {
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String> {
        if self.fault == Fault::DoesNotOpen {
            return Err("no licence".to_owned());
        }
        let twist = Arc::new(Twist { fault: self.fault, out: events, is_closed: Mutex::default() });
        let inner = self.own.start_local(Arc::clone(&twist) as Arc<dyn StepEvents>)?;
        let (inner, signalled, folders) = (Arc::new(inner), Mutex::default(), Mutex::default());
        Ok(Box::new(Open { inner, fault: self.fault, events: twist, signalled, folders }))
    }
}

#[async_trait]
impl OpenExecutor for Open {
    fn executor(&self) -> &dyn Executor {
        self
    }

    async fn close(&self) {
        *self.events.is_closed.lock().expect("whole") = true;
        if self.fault == Fault::LeavesAtTheClose {
            // They end with this program.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        self.inner.shutdown().await;
    }
}

impl Open {
    fn twist(&self, step: &mut Step) {
        let is_missing = |path: &str| path.contains("no such folder");
        match self.fault {
            Fault::RunsElsewhere if is_missing(&step.working_dir) => step.working_dir = "/".into(),
            Fault::RunsWithoutOutput => {
                for path in [&mut step.stdio.stdout, &mut step.stdio.stderr] {
                    *path = path.take().filter(|path| !is_missing(path));
                }
            }
            Fault::StopsAtTheFirstFailure if step.argv.len() > 2 => {
                step.argv[1] = "-ec".to_owned();
            }
            Fault::LeavesADaemon => leave_a_daemon(step),
            Fault::ForgetsExpectedFiles => step.expected_files.clear(),
            Fault::DropsEmptyWords => step.argv.retain(|word| !word.is_empty()),
            Fault::ForgetsEnvironment => step.env.clear(),
            Fault::IgnoresFolder if step.working_dir.ends_with("name") => {
                step.working_dir = step.working_dir.rsplit_once('/').expect("absolute").0.into();
            }
            Fault::SwapsOutput
                if step.argv.get(2).is_some_and(|script| script.contains("again")) =>
            {
                std::mem::swap(&mut step.stdio.stdout, &mut step.stdio.stderr);
            }
            Fault::ParesOutput if step.stdio.stdout == step.stdio.stderr => {
                step.stdio.stderr = None;
            }
            Fault::KeepsOutput => step.stdio.delete_on_success = false,
            Fault::TearsGangsApart if step.nodes.len() > 1 => step.argv = vec!["true".to_owned()],
            Fault::HasLittlePatience => step.limits.termination_lead = Duration::from_millis(1500),
            Fault::NeverKills => step.limits.termination_lead = Duration::from_secs(600),
            Fault::HasNoClock => step.limits.runtime = None,
            Fault::KnowsOnlyTerm => step.limits.termination_signal = 15,
            _ => {}
        }
    }

    fn end(&self, step: StepId, outcome: Outcome) {
        let (at, usage) = (Timestamp(1), Usage::default());
        self.events.out.emit(StepEvent::Ended { step, at, outcome, usage });
    }

    /// The signal that is passed on in place of one; an error or nothing in place of it.
    fn twisted(
        &self,
        step: StepId,
        signal: StepSignal,
    ) -> Result<Option<StepSignal>, ExecutorError> {
        let count = {
            let mut signalled = self.signalled.lock().expect("whole");
            let count = signalled.entry(step).or_default();
            *count += 1;
            *count
        };
        let is_unknown = step.job.0 == 77;
        let folder = self.folders.lock().expect("whole").get(&step).cloned();
        let lives = folder.is_some_and(|folder| folder.join(format!("beat{}", step.job)).exists());
        match self.fault {
            Fault::LosesACancelOfTheNew if !lives => return Ok(None),
            Fault::TellsOfTheUnknown if is_unknown => self.end(step, Outcome::Cancelled),
            Fault::FailsForTheUnknown if is_unknown => {
                return Err(ExecutorError::Gone(format!("there is no step {step}")));
            }
            Fault::RefusesTheSecondCancel if count > 1 && signal == StepSignal::Cancel => {
                return Err(ExecutorError::Gone("it was asked already".to_owned()));
            }
            Fault::AsksBeforeItKills if signal == StepSignal::Kill => {
                return Ok(Some(StepSignal::Cancel));
            }
            _ => {}
        }
        Ok(Some(signal))
    }
}

#[async_trait]
impl Executor for Open {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        let mut nodes = self.inner.inventory().await?;
        if self.fault == Fault::HasTwins {
            let twin = nodes[0].clone();
            nodes.push(twin);
        }
        Ok(nodes)
    }

    async fn launch(&self, mut step: Step) -> Result<(), ExecutorError> {
        self.twist(&mut step);
        self.folders.lock().expect("whole").insert(step.id, PathBuf::from(&*step.working_dir));
        self.inner.launch(step).await
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        match self.twisted(step, signal)? {
            Some(signal) => self.inner.signal(step, signal).await,
            None => Ok(()),
        }
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        let mut states = self.inner.reconcile(steps).await?;
        match self.fault {
            Fault::AnswersBackwards => states.sort_by_key(|state| *state == StepState::Unknown),
            Fault::ForgetsWhatRuns => states.fill(StepState::Unknown),
            _ => {}
        }
        Ok(states)
    }
}

/// What the step leaves in the background runs for a while where its executor does not see it.
fn leave_a_daemon(step: &Step) {
    let script = step.argv.get(2).and_then(|script| script.split_once(") &"));
    if let Some((daemon, _)) = script {
        let script = format!("{daemon})");
        let mut command = std::process::Command::new("timeout");
        command.args(["--signal=KILL", "5", "sh", "-c", &script]).current_dir(&*step.working_dir);
        std::thread::spawn(move || command.status().expect("timeout can be run"));
    }
}

/// All checks at once, each in a thread of its own: much of their time they wait.
fn check(fault: Fault, expected: &[&str]) {
    let faulty = Faulty { own: Own::local(), fault };
    let mut site = faulty.own.site(&faulty);
    // Some faults are only seen by waiting for what does not come.
    site.patience = Duration::from_secs(10);
    let site = &site;
    let found = std::thread::scope(|scope| {
        let run = |check: &'static Check| {
            (check.name, scope.spawn(move || verdict(check, Candidate::Executor(site))))
        };
        let threads: Vec<_> = checks_of(Interface::Executor).map(run).collect();
        let join = |(name, thread): (_, std::thread::ScopedJoinHandle<'_, Verdict>)| {
            (name, thread.join().expect("a check does not panic"))
        };
        threads.into_iter().map(join).collect()
    });
    assert_broken(&format!("{fault:?}"), &found, expected);
}

fn ends() {
    check(Fault::None, &[]);
    check(Fault::HasTwins, &["executor.inventory"]);
    check(Fault::StopsAtTheFirstFailure, &["executor.success"]);
    check(Fault::MasksCodes, &["executor.exit_codes"]);
    check(Fault::TellsSignalsAsCodes, &["executor.ended_by_a_signal"]);
    check(Fault::RunsNothingForNoProgram, &["executor.missing_program"]);
    check(Fault::RunsElsewhere, &["executor.missing_working_folder"]);
    check(Fault::RunsWithoutOutput, &["executor.output_that_cannot_be_opened"]);
    check(Fault::ForgetsExpectedFiles, &["executor.expected_files"]);
}

fn surroundings() {
    check(Fault::DropsEmptyWords, &["executor.argv_arrives_whole"]);
    check(Fault::ForgetsEnvironment, &["executor.environment"]);
    check(Fault::IgnoresFolder, &["executor.working_folder"]);
    check(Fault::SwapsOutput, &["executor.output_files"]);
    check(Fault::ParesOutput, &["executor.shared_output_file"]);
    check(Fault::KeepsOutput, &["executor.output_is_deleted_on_success"]);
    check(Fault::TearsGangsApart, &["executor.gang"]);
}

fn reports() {
    check(Fault::LosesAMany, &["executor.many_at_once"]);
    for fault in
        [Fault::EndsTwice, Fault::StartsTwice, Fault::StartsAfterTheEnd, Fault::StartsWhatFailed]
    {
        check(fault, &["executor.events_in_order"]);
    }
    check(Fault::AnswersBackwards, &["executor.reconcile"]);
    check(Fault::ForgetsWhatRuns, &["executor.reconcile"]);
}

fn stopped() {
    let of_cancelled = [
        "executor.cancel_at_once",
        "executor.cancel_running",
        "executor.cancel_twice",
        "executor.grace_ends",
        "executor.kill",
    ];
    check(Fault::TellsCancelledAsSignaled, &of_cancelled);
    check(Fault::LosesACancelOfTheNew, &["executor.cancel_at_once"]);
    check(Fault::RefusesTheSecondCancel, &["executor.cancel_twice"]);
    check(Fault::TellsOfTheUnknown, &["executor.signal_to_the_unknown"]);
    check(Fault::FailsForTheUnknown, &["executor.signal_to_the_unknown"]);
    check(Fault::HasLittlePatience, &["executor.grace_is_given"]);
    check(Fault::NeverKills, &["executor.cancel_twice", "executor.grace_ends"]);
    let of_time = ["executor.grace_ends", "executor.own_time_limit", "executor.time_up"];
    check(Fault::TellsTimeAsCancelled, &of_time);
    check(Fault::AsksBeforeItKills, &["executor.kill"]);
    check(Fault::HasNoClock, &["executor.own_time_limit"]);
    check(Fault::KnowsOnlyTerm, &["executor.termination_signal"]);
}

fn leftovers() {
    check(Fault::LeavesADaemon, &["executor.nothing_left_behind"]);
    check(Fault::LeavesAtTheClose, &["executor.close_with_work_in_flight"]);
    check(Fault::TellsNothingAtTheClose, &["executor.close_with_work_in_flight"]);
}

fn unopened() {
    let all: Vec<&str> = checks_of(Interface::Executor).map(|check| check.name).collect();
    check(Fault::DoesNotOpen, &all);
}
