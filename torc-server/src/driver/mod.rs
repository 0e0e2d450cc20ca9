//! The loop around one engine: it gathers what happened, lets the engine decide, makes the decision
//! durable, and only then performs it.
//!
//! [`Driver::decide`] is synchronous and does no I/O. Decisions go on while a commit is under way;
//! what they lead to gathers for the next one, so that commits group themselves under load. Only
//! jobs that an earlier commit cleared are launched at once.

mod commands;
mod commits;
mod idle_nodes;
mod inputs;
mod joining;
mod performance;
mod requests;
mod served;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use torc_core::diagnostics::nearest;
use torc_core::engine::{
    ActionCommand, Conclusion, Engine, Event, FailedLaunch, JobStatus, LaunchContext, Phase,
};
use torc_core::ids::{AllocationId, AttemptId, JobId, NodeId, StepId, WorkflowId};
use torc_core::time::Timestamp;
use torc_core::traits::{Executor, ExecutorError, NodeState, PlannedStart, StepEvent, StepSignal};
use torc_core::wire::{CancelReport, CancelRequest, RestartReport};

use crate::accountant::EndedStep;
use crate::change::Moment;
use crate::children::{Child, Children};
use crate::clock::now;
use crate::handle::{Acknowledgement, AnswerFn, Handle, Input, RequestError};
use crate::placers::may_block;
use crate::state_dir::Announcement;
use crate::store::StoreError;
use crate::store_task::{Commit, StoreTask};
use crate::worker::{OnNode, Release};
use crate::workers::WorkerLink;
use commits::{CommitState, CommitUnderWay};
use idle_nodes::IdleNodes;
use inputs::InputLook;
pub(crate) use served::{Served, Surroundings};

/// How long an event that nothing waits for may stay in memory. Short beside any job that a person
/// would miss, long beside a commit.
const FLUSH_AFTER: Duration = Duration::from_millis(10);
/// Inputs taken in before a decision.
const BATCH: usize = 1_024;
/// How long to wait before writing to a full disk again.
const RETRY_FULL_DISK: Duration = Duration::from_secs(1);

/// The run cannot go on. What is durable stays so; the run can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be launched any more.
    #[error("{0}; `torc restart` goes on from here")]
    Executor(#[from] ExecutorError),
    /// The disk is full, and somebody did not want to wait any longer.
    #[error("{0}; the run was stopped meanwhile, `torc restart` goes on from what is stored")]
    GaveUp(StoreError),
    /// The task that owns the database is gone.
    #[error("internal error: the store's task ended")]
    StoreTask,
}

pub(crate) struct Driver {
    engine: Engine,
    /// Taken back before the store is let go of: afterwards the next owner's would be in its place.
    announcement: Option<Announcement>,
    store: StoreTask,
    executor: Arc<dyn Executor>,
    context: LaunchContext,
    inbox: mpsc::UnboundedReceiver<Input>,
    /// Says that the disk is full, and that it no longer is.
    notices: mpsc::UnboundedSender<String>,
    /// Jobs at once.
    max_parallel_jobs: usize,
    planned: Vec<PlannedStart>,
    /// Applied, and not handed to the store yet.
    pending: Vec<Event>,
    /// What to do once these are durable.
    held: Held,
    /// When they are handed over even if nothing waits for them.
    flush_at: Option<Instant>,
    next_sequence: i64,
    commit: Option<CommitUnderWay>,
    /// Launches that are durably cleared. One that was dispatched before its clearance was durable
    /// stays here without effect: no later launch has its number.
    cleared: HashSet<(JobId, AttemptId)>,
    /// Nothing can be launched any more.
    failure: Option<ExecutorError>,
    conclusion: Option<Conclusion>,
    /// The server ends, and the run goes on without it.
    is_detached: bool,
    /// A server drives it, and gets nodes from schedulers; `None`: it has its nodes.
    served: Option<Served>,
    idle_nodes: IdleNodes,
    /// The way into this driver.
    handle: Handle,
    input_look: InputLook,
    /// What it runs on this host besides jobs.
    children: Children,
    /// How commands are run on a node, where this process leads the workers of nodes itself.
    on_node: Option<OnNode>,
}

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) engine: Engine,
    /// Applied to the engine, and not durable yet.
    pub(crate) pending: Vec<Event>,
    pub(crate) next_sequence: i64,
    pub(crate) store: StoreTask,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) context: LaunchContext,
    pub(crate) inbox: mpsc::UnboundedReceiver<Input>,
    /// The way to that.
    pub(crate) handle: Handle,
    pub(crate) notices: mpsc::UnboundedSender<String>,
    pub(crate) max_parallel_jobs: usize,
    pub(crate) served: Option<Served>,
    /// How the worker of a node is told to leave, where this process leads them itself.
    pub(crate) release: Option<Release>,
    /// How commands are run there.
    pub(crate) on_node: Option<OnNode>,
    pub(crate) children: Children,
    /// Told when its beginning is durable.
    pub(crate) begun: Option<oneshot::Sender<()>>,
    /// The word about who owns the store, where that is this driver alone.
    pub(crate) announcement: Option<Announcement>,
}

/// What is to be done once the events that led to it are durable.
#[derive(Default)]
struct Held {
    /// Whoever waits for the beginning.
    begun: Option<oneshot::Sender<()>>,
    signals: Vec<(JobId, AttemptId, StepSignal)>,
    launches: Vec<Event>,
    cancels: Vec<(CancelReply, Result<CancelReport, RequestError>)>,
    restarts: Vec<(RestartReply, Result<RestartReport, RequestError>)>,
    /// Whoever wished for a change.
    answers: Vec<AnswerFn>,
    /// Launches that these events clear. Nothing waits for them.
    clearances: Vec<(JobId, AttemptId)>,
    /// Workers to be taken in.
    welcomes: Vec<(AllocationId, WorkerLink)>,
    /// Workers whose allocation has ended although they are there, and why that is known.
    dismissals: Vec<(WorkerLink, String)>,
    /// Steps that their workers are to end.
    strangers: Vec<(AllocationId, StepId)>,
    acknowledgements: Vec<Acknowledgement>,
    /// Steps that have ended, for the accounting to be asked about.
    accountable: Vec<EndedStep>,
    /// Commands of actions to be run.
    commands: Vec<ActionCommand>,
    /// Recovery scripts to be run.
    scripts: Vec<FailedLaunch>,
    /// Recovery scripts to be ended.
    ended_scripts: Vec<FailedLaunch>,
    /// Allocations to be asked for.
    wishes: Vec<AllocationId>,
    /// Allocations that are not wanted any more.
    cancellations: Vec<(WorkflowId, AllocationId)>,
    /// Wishes that are of no use now.
    withdrawals: Vec<AllocationId>,
    /// Workers to be told to leave.
    leaves: Vec<AllocationId>,
    /// Nodes whose workers are to leave.
    releases: Vec<(AllocationId, NodeId)>,
}

type RestartReply = oneshot::Sender<Result<RestartReport, RequestError>>;
type CancelReply = oneshot::Sender<Result<CancelReport, RequestError>>;

impl Held {
    fn is_empty(&self) -> bool {
        self.begun.is_none()
            && self.signals.is_empty()
            && self.launches.is_empty()
            && self.cancels.is_empty()
            && self.restarts.is_empty()
            && self.answers.is_empty()
            && self.welcomes.is_empty()
            && self.dismissals.is_empty()
            && self.strangers.is_empty()
            && self.acknowledgements.is_empty()
            && self.commands.is_empty()
            && self.scripts.is_empty()
            && self.ended_scripts.is_empty()
            && self.wishes.is_empty()
            && self.cancellations.is_empty()
            && self.withdrawals.is_empty()
            && self.leaves.is_empty()
            && self.releases.is_empty()
    }
}

/// What ended a wait.
enum Woken {
    Input,
    Time,
    Commit(Commit, Result<(), StoreError>),
    LossOfStore,
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Self {
        Self {
            engine: parts.engine,
            announcement: parts.announcement,
            store: parts.store,
            executor: parts.executor,
            context: parts.context,
            inbox: parts.inbox,
            notices: parts.notices,
            max_parallel_jobs: parts.max_parallel_jobs,
            planned: Vec::new(),
            pending: parts.pending,
            held: Held { begun: parts.begun, ..Held::default() },
            flush_at: Some(Instant::now()),
            next_sequence: parts.next_sequence,
            commit: None,
            cleared: HashSet::new(),
            failure: None,
            conclusion: None,
            is_detached: false,
            served: parts.served,
            idle_nodes: IdleNodes::new(parts.release),
            handle: parts.handle,
            input_look: InputLook::default(),
            children: parts.children,
            on_node: parts.on_node,
        }
    }

    /// Drives the run to where nothing more happens by itself, and closes the store if nobody else
    /// uses it.
    pub(crate) async fn drive(mut self) -> Result<(Engine, Conclusion), DriveError> {
        let ended = self.go_on().await;
        self.children.shutdown().await;
        Ok((self.engine, ended?))
    }

    async fn go_on(&mut self) -> Result<Conclusion, DriveError> {
        let mut inputs = Vec::new();
        self.take_up();
        loop {
            let launches = self.decide(&mut inputs, now());
            self.launch(launches).await;
            self.begin_commit();
            if self.is_detached && self.is_waiting() {
                // What cannot be written now is what the next server starts without.
                return Err(self.give_up());
            }
            if self.commit.is_none() && self.pending.is_empty() {
                if let Some(failure) = self.failure.take() {
                    self.let_go_of_store().await?;
                    return Err(failure.into());
                }
                if self.is_detached {
                    return Ok(Conclusion::Stopped);
                }
                if let Some(conclusion) = self.conclusion
                    && self.has_let_go()
                    && !self.is_looking()
                {
                    if self.served.is_none() {
                        self.let_go_of_store().await?;
                    }
                    return Ok(conclusion);
                }
            }
            match self.wait(&mut inputs).await {
                Woken::Input if self.is_given_up(&inputs) => return Err(self.give_up()),
                Woken::Input => {}
                Woken::Time => self.retry_commit(),
                Woken::Commit(commit, result) => self.end_commit(commit, result).await?,
                Woken::LossOfStore => return Err(DriveError::StoreTask),
            }
        }
    }

    /// Whoever takes the state directory over finds none of this run's processes.
    async fn let_go_of_store(&mut self) -> Result<(), StoreError> {
        self.children.shutdown().await;
        drop(self.announcement.take());
        self.store.close().await
    }

    /// Waits for something to happen.
    async fn wait(&mut self, inputs: &mut Vec<Input>) -> Woken {
        let minded = self.mind_at().into_iter().chain(self.mind_nodes_at());
        let decide_at = self.engine.next_expiry().into_iter().chain(minded).min();
        let looks_until = self.looks_until();
        let (writing, retry_at) = match self.commit.as_mut().map(|commit| &mut commit.state) {
            Some(CommitState::Writing(done)) => (Some(done), None),
            Some(CommitState::Waiting { until, .. }) => (None, Some(*until)),
            None => (None, None),
        };
        let flush_at = self.flush_at.filter(|_| writing.is_none() && retry_at.is_none());
        let decide_at = decide_at.map(|at| Instant::now() + at.since(now()));
        let wake_at = [flush_at, retry_at, decide_at, looks_until].into_iter().flatten().min();
        let time = async {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let commit = async {
            match writing {
                Some(done) => done.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = commit => match done {
                Ok((commit, result)) => Woken::Commit(commit, result),
                Err(_) => Woken::LossOfStore,
            },
            // The executor's way in keeps the channel open.
            _ = self.inbox.recv_many(inputs, BATCH) => Woken::Input,
            () = time => Woken::Time,
        }
    }

    /// All that follows from these inputs and from the time: what may be launched at once is
    /// returned, everything else is held until it is durable.
    fn decide(&mut self, inputs: &mut Vec<Input>, now: Timestamp) -> Vec<Event> {
        for input in inputs.drain(..) {
            match input {
                Input::Step(report, None) => self.take_report(report),
                Input::Step(report, Some(wanted)) => self.take_step(report, Some(&wanted.link)),
                Input::Worker(input) => self.take_worker(input, now),
                Input::Allocation(allocation, input) => {
                    self.take_allocation(allocation, input, now);
                }
                Input::CommandEnded(ended, code) => self.take_end(Child::Command(ended), code, now),
                Input::ScriptEnded(ended, code) => self.take_end(Child::Script(ended), code, now),
                Input::Accounted(figures) => self.account(figures, now),
                Input::Shapes(shapes) => self.take_shapes(shapes),
                Input::Look(id, look) if self.engine.has_guest_placer() => {
                    may_block(|| self.look(id, look));
                }
                Input::Look(id, look) => self.look(id, look),
                Input::Cancel(request, reply) => {
                    let report = self.cancel(&request, now);
                    self.held.cancels.push((reply, report));
                }
                Input::InputsSeen(seen) => self.take_inputs(seen),
                Input::PutBack(is_plain, reply) => {
                    let report = self.put_back(is_plain, now);
                    self.held.restarts.push((reply, report));
                }
                Input::Change(make) => {
                    let (events, answer) = make(&mut self.engine, Moment { now, is_driven: true });
                    self.forget_clearances(&events);
                    self.pending.extend(events);
                    self.held.answers.push(answer);
                }
                Input::Detach => {
                    self.is_detached = true;
                    self.flush_at = Some(Instant::now());
                }
                Input::Stop => {
                    self.apply(Event::StopRequested { at: now });
                    self.children.stop(StepSignal::Cancel);
                }
                Input::StopUnasked => {
                    self.record(Event::StopRequested { at: now });
                    self.children.stop(StepSignal::Cancel);
                }
                Input::Kill => {
                    self.apply(Event::StopRequested { at: now });
                    self.children.stop(StepSignal::Kill);
                    let running = self.engine.running();
                    let kill = |(job, attempt)| (job, attempt, StepSignal::Kill);
                    self.held.signals.extend(running.map(kill));
                }
            }
        }
        let expired: Vec<_> = self.engine.expiring(now).collect();
        for allocation in expired {
            self.apply(Event::AllocationExpired { at: now, allocation });
        }
        self.recover(now);
        self.act(now);
        let launches = self.dispatch(now);
        self.conclude(now);
        self.mind_allocations(now);
        self.mind_nodes(now);
        if !self.pending.is_empty() && self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + FLUSH_AFTER);
        }
        launches
    }

    /// Starts what may start now; what may also be launched now is returned.
    fn dispatch(&mut self, now: Timestamp) -> Vec<Event> {
        if self.failure.is_some() {
            return Vec::new();
        }
        let running = self.engine.running().len();
        let limit = self.max_parallel_jobs.saturating_sub(running);
        let dispatch = match self.engine.has_guest_placer() {
            true => may_block(|| self.engine.dispatch(now, limit)),
            false => self.engine.dispatch(now, limit),
        };
        if let Some(fault) = dispatch.faults.last() {
            let faults = dispatch.faults.len();
            tracing::error!(faults, last = %fault, "the placer chose starts that are not possible");
        }
        if let Some(dismissed) = dispatch.dismissed {
            // Nobody may listen.
            let _ = self.notices.send(dismissed.to_string());
        }
        self.planned = dispatch.planned;
        self.pending.extend(dispatch.started.iter().cloned());
        self.pending.extend(dispatch.held);
        let (now_launched, held): (Vec<Event>, Vec<Event>) =
            dispatch.started.into_iter().partition(|event| match event {
                Event::Dispatched { job, attempt, .. } => self.cleared.remove(&(*job, *attempt)),
                _ => false,
            });
        self.held.launches.extend(held);
        if self.is_alone_with_its_steps()
            && let Some(event) = self.engine.clear_ahead(now)
        {
            self.held.clearances.extend(clearances(&self.engine, &event));
            self.pending.push(event);
        }
        now_launched
    }

    /// Whether no step outlives this process. A worker goes on when its server dies, and what runs on other
    /// nodes may be there a little longer than the run that launched it: nobody could say then which of the
    /// cleared launches had taken place.
    fn is_alone_with_its_steps(&self) -> bool {
        self.served.is_none()
            && self.engine.live_allocations().all(|allocation| allocation.inherited.is_none())
    }

    /// Cleared jobs that wait for others again are launched as all others are: that they were cleared is taken back
    /// with these events.
    fn forget_clearances(&mut self, events: &[Event]) {
        let has_relinked = |event: &Event| match event {
            Event::JobsAdded { addition, .. } => !addition.relinked.is_empty(),
            _ => false,
        };
        if !events.iter().any(has_relinked) {
            return;
        }
        let cleared: HashSet<JobId> = self.engine.cleared_jobs().into_iter().collect();
        self.cleared.retain(|(job, _)| cleared.contains(job));
        self.held.clearances.retain(|(job, _)| cleared.contains(job));
        if let Some(commit) = &mut self.commit {
            commit.held.clearances.retain(|(job, _)| cleared.contains(job));
        }
    }

    fn conclude(&mut self, now: Timestamp) {
        if self.conclusion.is_some() {
            return;
        }
        let conclusion = self.engine.conclusion_given(|wish| self.may_come(wish));
        if conclusion.is_some() {
            self.disturb_all();
        }
        if self.engine.awaits_last_commands() {
            if conclusion.is_some() {
                self.part_from_nodes(now);
            }
            return;
        }
        if conclusion == Some(Conclusion::Stopped) && !self.children.is_empty() {
            return;
        }
        self.conclusion = conclusion;
        match self.conclusion {
            Some(Conclusion::Complete) => self.apply(Event::RunEnded { at: now, complete: true }),
            Some(Conclusion::Stuck) => self.apply(Event::RunEnded { at: now, complete: false }),
            Some(Conclusion::Stopped) | None => {}
        }
    }

    /// Applies an event and keeps what must become durable. An event that is refused is a report
    /// that comes twice or too late, or a wish that no longer means anything: it leaves no trace.
    fn apply(&mut self, event: Event) {
        match self.engine.apply(&event) {
            Ok(effects) => {
                self.hold_effects(effects);
                if let Event::StepEnded { job, .. } = &event {
                    self.look_at_inputs(*job);
                }
                self.pending.push(event);
            }
            Err(refused) => tracing::debug!(%refused, "an event came too late"),
        }
    }

    /// The same for an event whose effects are others' to bring about.
    fn record(&mut self, event: Event) {
        match self.engine.apply(&event) {
            Ok(_) => self.pending.push(event),
            Err(refused) => tracing::debug!(%refused, "an event came too late"),
        }
    }

    fn take_report(&mut self, report: StepEvent) {
        let (step, event) = match report {
            StepEvent::Started { step, at } => {
                (step, Event::StepStarted { job: step.job, attempt: step.attempt, at })
            }
            StepEvent::Ended { step, at, outcome, usage } => {
                let (job, attempt) = (step.job, step.attempt);
                (step, Event::StepEnded { job, attempt, at, outcome, usage })
            }
            StepEvent::NodeChanged { allocation, node, at, state, reason } => {
                tracing::info!(%node, ?state, reason, "a node changed");
                if let Some(node) = self.engine.find_node(allocation, &node) {
                    let is_down =
                        |engine: &Engine| engine.node_state(node) == Some(NodeState::Down);
                    let was_down = is_down(&self.engine);
                    self.apply(Event::NodeStateChanged { at, node, state, reason });
                    if is_down(&self.engine) && !was_down {
                        self.take_over_commands_on(node);
                    }
                }
                return;
            }
        };
        if step == self.engine.step_id(step.job, step.attempt) {
            self.apply(event);
        }
    }

    /// Commands of a worker that is lost with its node are run again, here.
    fn take_over_commands_on(&mut self, node: NodeId) {
        let is_there = |one: &ActionCommand| one.worker.is_some_and(|of| of.node == Some(node));
        let lost: Vec<_> = self.engine.commands_under_way().filter(is_there).collect();
        self.held.commands.extend(lost);
    }

    fn cancel(
        &mut self,
        request: &CancelRequest,
        now: Timestamp,
    ) -> Result<CancelReport, RequestError> {
        let jobs = match &request.jobs {
            None => None,
            Some(names) => Some(find_jobs(&self.engine, names)?),
        };
        let canceled_before = self.engine.counts().of(JobStatus::Canceled);
        let signals_before = self.held.signals.len();
        self.apply(Event::CancelRequested { at: now, jobs });
        let canceled = self.engine.counts().of(JobStatus::Canceled);
        let signaled = self.held.signals.len() - signals_before;
        Ok(CancelReport {
            canceled: canceled.saturating_sub(canceled_before),
            signaled: u32::try_from(signaled).unwrap_or(u32::MAX),
        })
    }

    fn put_back(&mut self, is_plain: bool, now: Timestamp) -> Result<RestartReport, RequestError> {
        if matches!(self.engine.phase(), Phase::Ended { .. }) && self.has_kept_workers() {
            return self.run_again(now);
        }
        if self.engine.phase() != Phase::Running || self.has_parted() {
            return Err(RequestError::Over);
        }
        if !is_plain {
            return Err(RequestError::under_way(self.engine.id()));
        }
        let jobs = self.engine.jobs_to_put_back();
        let put_back = jobs.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        if put_back > 0 {
            self.apply(Event::JobsPutBack { at: now, jobs });
        }
        Ok(RestartReport { put_back, is_new_run: false })
    }
}

/// The launches that an event clears.
fn clearances(engine: &Engine, event: &Event) -> Vec<(JobId, AttemptId)> {
    let Event::LaunchesCleared { jobs, .. } = event else { return Vec::new() };
    let each = jobs.iter().flat_map(|(first, last)| first.0..=last.0).map(JobId);
    each.map(|job| (job, engine.next_attempt(job))).collect()
}

/// The jobs with these names.
pub(crate) fn find_jobs(engine: &Engine, names: &[String]) -> Result<Vec<JobId>, RequestError> {
    let jobs = &engine.workflow().jobs;
    let numbers: HashMap<&str, JobId> = jobs
        .iter()
        .enumerate()
        .map(|(index, job)| (&*job.name, JobId::from_index(index)))
        .collect();
    let find = |name: &String| {
        numbers.get(name.as_str()).copied().ok_or_else(|| RequestError::UnknownJob {
            name: name.clone(),
            nearest: nearest(name, jobs.iter().map(|job| &*job.name)).map(str::to_owned),
        })
    };
    names.iter().map(find).collect()
}
