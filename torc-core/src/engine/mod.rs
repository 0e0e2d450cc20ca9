//! The engine: the pure state machine of one workflow.
//!
//! It owns what every job's status is, which attempts there were, who holds which node, and what
//! follows from an event. It does not know where events come from, how steps are launched, or which
//! jobs a placer prefers. Two rules hold it together: its state is a function of the events applied
//! to it, in order, so that a replay equals the live state; and a job's status changes only in
//! [`transition`].

mod accounts;
mod actions;
mod allocation_report;
mod allocations;
mod apply;
mod attempts;
mod classes;
mod clearance;
mod disabling;
mod dispatch;
mod event;
mod expiries;
mod explain;
mod graph;
mod growth;
mod guest;
mod idleness;
mod inputs;
mod launch;
mod ledger;
mod outlook;
mod recovery;
mod report;
mod revision;
mod scripts;
mod status;
#[cfg(test)]
mod tests;
mod unfired;
mod user_data;
mod verdict;
mod wait_cause;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use actions::Firing;
pub use allocation_report::{NOTHING_LEFT, Sight};
pub use allocations::{AllocationBook, EndBook, RequestBook};
pub use apply::Refused;
pub use attempts::{Attempt, AttemptEnd};
pub use disabling::{Follows, Immovable};
pub use dispatch::{Conclusion, Dispatch};
pub use event::{ActionCommand, Effect, Event, FailedLaunch};
pub use explain::Causes;
pub(crate) use graph::Dependents;
pub use growth::{Added, NotAdded, Written};
pub use guest::{Dismissal, Misconduct};
pub use inputs::SeenInputs;
pub use launch::{LaunchContext, stdio_paths};
pub use ledger::PlacementFault;
pub use outlook::Future;
pub(crate) use recovery::ranges_of;
pub use scripts::RecoveryScript;
pub use status::{Change, IllegalChange, JobStatus, transition};
pub use user_data::{DEEPEST_VALUE, LARGEST_VALUE, NotSet};
pub use verdict::return_code;
pub use wait_cause::{LeftOver, Moment, Named, NotAsked, Unstarted, WaitCause};

use crate::ids::{AllocationId, AttemptId, ClassId, JobId, NodeId, RunId, WorkflowId};
use crate::resources::{Placement, Request};
use crate::time::Timestamp;
use crate::traits::{Delta, NodeState, Placer, RunningStep, Snapshot, WaitingJob};
use crate::workflow::Workflow;

/// One workflow's state machine.
pub struct Engine {
    id: WorkflowId,
    workflow: Arc<Workflow>,
    dependents: Dependents,
    classes: classes::Classes,
    /// At the index of the class's number.
    paces: Vec<clearance::ClassPace>,
    /// Classes of which a job has ended since launches were last cleared.
    changed_paces: Vec<ClassId>,
    /// How many jobs of each class wait, at the index of the class's number.
    waiting: Vec<WaitingCount>,
    /// At the index of the action.
    actions: Vec<actions::ActionBook>,
    jobs: Vec<JobState>,
    counts: StatusCounts,
    phase: Phase,
    run: Option<RunId>,
    run_started_at: Option<Timestamp>,
    run_ended_at: Option<Timestamp>,
    /// How long nobody drove the current run.
    paused: Duration,
    /// The latest time that anything is known of.
    last_event_at: Timestamp,
    idleness: idleness::Idleness,
    allocations: BTreeMap<AllocationId, AllocationBook>,
    expiries: expiries::Expiries,
    /// The names of all nodes there ever were, at the index of their number.
    node_names: Vec<Box<str>>,
    running: BTreeMap<JobId, Placement>,
    scripts: scripts::Scripts,
    /// Somebody wished that all of the current run ended.
    is_called_off: bool,
    attempts: Vec<Attempt>,
    /// The last that was seen of the input files of each job that completed.
    inputs: BTreeMap<JobId, SeenInputs>,
    user_data: user_data::SetValues,
    ledger: ledger::Ledger,
    placer: Box<dyn Placer>,
    /// Whose placer that is; `None`: torc's own.
    guest: Option<guest::Guest>,
    dismissal: Option<Dismissal>,
    /// What the placer has not been told yet.
    deltas: Vec<Delta>,
}

/// Where a workflow's current run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No run has begun.
    New,
    /// Jobs are started as they become ready.
    Running,
    /// Nothing more starts; what runs is ending. The run goes on later.
    Stopping,
    /// The run is over. `complete`: every job has ended.
    Ended {
        /// Every job has ended.
        complete: bool,
    },
}

/// How many jobs have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts([u32; JobStatus::ALL.len()]);

impl StatusCounts {
    /// Jobs with this status.
    pub fn of(&self, status: JobStatus) -> u32 {
        self.0[status as usize]
    }

    /// Jobs that have ended.
    pub fn ended(&self) -> u32 {
        JobStatus::ALL
            .iter()
            .filter(|status| status.has_ended())
            .map(|status| self.of(*status))
            .sum()
    }

    fn shift(&mut self, from: JobStatus, to: JobStatus) {
        self.0[from as usize] -= 1;
        self.0[to as usize] += 1;
    }
}

/// Jobs of a class that have neither begun nor ended.
#[derive(Clone, Copy, Debug, Default)]
struct WaitingCount {
    /// They wait for nodes.
    ready: u32,
    /// They wait for other jobs, or for a run.
    blocked: u32,
}

impl WaitingCount {
    fn of(&mut self, status: JobStatus) -> Option<&mut u32> {
        match status {
            JobStatus::Ready => Some(&mut self.ready),
            JobStatus::Uninitialized | JobStatus::Blocked => Some(&mut self.blocked),
            _ => None,
        }
    }
}

/// What changes about a job while it runs. Small: there are a hundred thousand of them.
#[derive(Clone, Copy, Debug, Default)]
struct JobState {
    status: JobStatus,
    cancel_requested: bool,
    /// Its next launch need not wait for its dispatch to be stored.
    is_cleared: bool,
    /// The spec does not have it any more.
    is_removed: bool,
    /// Launches in this run so far.
    launches: u32,
    /// Retries that failure handlers were granted in this run.
    retries: u32,
    /// Jobs it depends on that have not ended. Meaningful while blocked.
    waits_for: u32,
    /// One more than the index of its latest attempt, over all runs; 0: none.
    latest_attempt: u32,
}

impl Engine {
    /// A workflow that no run has begun of.
    pub fn new(id: WorkflowId, workflow: Arc<Workflow>, placer: Box<dyn Placer>) -> Self {
        let classes = classes::Classes::of(&workflow);
        let deltas = classes
            .requests()
            .iter()
            .zip(0..)
            .map(|(request, class)| Delta::ClassAdded {
                class: ClassId(class),
                request: request.clone(),
            })
            .collect();
        let mut counts = StatusCounts::default();
        counts.0[JobStatus::Uninitialized as usize] =
            u32::try_from(workflow.jobs.len()).unwrap_or(u32::MAX);
        let waiting: Vec<WaitingCount> =
            classes.sizes().map(|blocked| WaitingCount { ready: 0, blocked }).collect();
        Self {
            id,
            dependents: Dependents::of(&workflow.jobs),
            jobs: vec![JobState::default(); workflow.jobs.len()],
            actions: vec![actions::ActionBook::default(); workflow.header.actions.len()],
            workflow,
            idleness: idleness::Idleness::new(&waiting),
            waiting,
            paces: vec![clearance::ClassPace::default(); classes.requests().len()],
            changed_paces: Vec::new(),
            classes,
            counts,
            phase: Phase::New,
            run: None,
            run_started_at: None,
            run_ended_at: None,
            paused: Duration::ZERO,
            last_event_at: Timestamp::default(),
            allocations: BTreeMap::new(),
            expiries: expiries::Expiries::default(),
            node_names: Vec::new(),
            running: BTreeMap::new(),
            scripts: scripts::Scripts::default(),
            is_called_off: false,
            attempts: Vec::new(),
            inputs: BTreeMap::new(),
            user_data: user_data::SetValues::new(),
            ledger: ledger::Ledger::default(),
            placer,
            guest: None,
            dismissal: None,
            deltas,
        }
    }

    /// The state that these events lead to. Nothing is decided and nothing is to be done: all that
    /// followed from the events is among them.
    ///
    /// # Errors
    /// When an event does not follow from those before it: the stored log is damaged.
    pub fn replay(
        id: WorkflowId,
        workflow: Arc<Workflow>,
        placer: Box<dyn Placer>,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Self, Refused> {
        let mut engine = Self::new(id, workflow, placer);
        for event in events {
            engine.apply(&event)?;
            engine.deltas.clear();
            engine.changed_paces.clear();
        }
        engine.inform_placer_anew();
        Ok(engine)
    }

    /// The workflow's number.
    pub fn id(&self) -> WorkflowId {
        self.id
    }

    /// The workflow.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// Where the current run stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The current or last run.
    pub fn run(&self) -> Option<RunId> {
        self.run
    }

    /// When the current or last run began.
    pub fn run_started_at(&self) -> Option<Timestamp> {
        self.run_started_at
    }

    /// The latest time that anything is known of: what ended unseen ended after it.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_event_at
    }

    /// The number that the next launch of a job will have.
    pub fn next_attempt(&self, job: JobId) -> AttemptId {
        AttemptId(self.jobs[job.index()].launches + 1)
    }

    /// How many jobs have each status.
    pub fn counts(&self) -> &StatusCounts {
        &self.counts
    }

    /// A job's status.
    pub fn status(&self, job: JobId) -> JobStatus {
        self.jobs[job.index()].status
    }

    /// All launches of all runs, in the order of their dispatch.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The latest launch of a job over all runs.
    pub fn latest_attempt(&self, job: JobId) -> Option<&Attempt> {
        let index = self.jobs[job.index()].latest_attempt.checked_sub(1)?;
        self.attempts.get(index as usize)
    }

    /// The launches that hold nodes now, by job.
    pub fn running(&self) -> impl ExactSizeIterator<Item = (JobId, AttemptId)> {
        self.running.keys().map(|job| (*job, AttemptId(self.jobs[job.index()].launches)))
    }

    /// The name of a node, also of one that is gone.
    pub fn node_name(&self, node: NodeId) -> &str {
        self.node_names.get(node.0 as usize).map_or("?", |name| name)
    }

    /// The state of a node of an allocation that has not ended.
    pub fn node_state(&self, node: NodeId) -> Option<NodeState> {
        self.ledger.state(node)
    }

    /// The node of this name in an allocation that has not ended.
    pub fn find_node(&self, allocation: AllocationId, name: &str) -> Option<NodeId> {
        let book = self.allocations.get(&allocation).filter(|book| book.is_live())?;
        let nodes = &book.allocation.nodes;
        nodes.iter().find(|(_, node)| &*node.name == name).map(|(id, _)| *id)
    }

    /// The nodes of an allocation that has not ended, by name, and whether they may be given new work.
    pub fn nodes_in(
        &self,
        allocation: AllocationId,
    ) -> impl Iterator<Item = (NodeId, &str, NodeState)> {
        let book = self.allocations.get(&allocation).filter(|book| book.is_live());
        let nodes = book.into_iter().flat_map(|book| &book.allocation.nodes);
        nodes.filter_map(|(id, node)| Some((*id, &*node.name, self.ledger.state(*id)?)))
    }

    /// What a job asks for.
    pub fn request_of(&self, job: JobId) -> &Request {
        self.classes.request(self.classes.of_job(job))
    }

    /// The classes of jobs that are alike for placement, each with the first of its jobs that have
    /// neither completed nor are left out, and how many of these there are.
    pub fn unfinished_classes(&self) -> impl Iterator<Item = (&Request, JobId, usize)> {
        let requests = self.classes.requests();
        let mut found: Vec<Option<(JobId, usize)>> = vec![None; requests.len()];
        let is_unfinished = |status| !matches!(status, JobStatus::Completed | JobStatus::Disabled);
        for job in self.jobs_with(is_unfinished) {
            found[self.classes.of_job(job).0 as usize].get_or_insert((job, 0)).1 += 1;
        }
        requests.iter().zip(found).filter_map(|(request, found)| {
            let (job, count) = found?;
            Some((request, job, count))
        })
    }

    /// The jobs that failed or were terminated.
    pub fn failed_jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs_with(|status| matches!(status, JobStatus::Failed | JobStatus::Terminated))
    }

    fn jobs_with(&self, wanted: impl Fn(JobStatus) -> bool) -> impl Iterator<Item = JobId> {
        let jobs = self.jobs.iter().zip(0..);
        jobs.filter(move |(job, _)| wanted(job.status)).map(|(_, index)| JobId::from_index(index))
    }

    /// All that a placer needs to know to go on from here.
    pub fn snapshot(&self) -> Snapshot {
        let started_at = |job: JobId| {
            self.latest_attempt(job).map_or(Timestamp::default(), |attempt| attempt.dispatched_at)
        };
        Snapshot {
            classes: self.classes.requests().to_vec(),
            allocations: self.effective_allocations(),
            node_states: self.ledger.states(),
            running: self
                .running
                .iter()
                .map(|(job, placement)| RunningStep {
                    job: *job,
                    class: self.classes.of_job(*job),
                    placement: placement.clone(),
                    started_at: started_at(*job),
                })
                .collect(),
            waiting: self
                .jobs_with(|status| status == JobStatus::Ready)
                .map(|job| WaitingJob { job, class: self.classes.of_job(job) })
                .collect(),
        }
    }
}
