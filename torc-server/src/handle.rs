//! The way into a running driver: questions about the workflow, and wishes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use torc_core::engine::{ActionCommand, Engine, Event, FailedLaunch};
use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationHandle, AllocationState, NodeShape, StepAccount, StepEvent, StepEvents,
};
use torc_core::wire::link::{Hello, ToWorker};
use torc_core::wire::{AttemptReport, CancelReport, CancelRequest, RestartReport, WorkflowReport};

use crate::change::{Change, Moment};
use crate::placers::PlacerError;
use crate::store::StoreError;
use crate::view::View;
use crate::workers::WorkerLink;

/// What a driver takes in.
pub(crate) enum Input {
    /// An executor's report.
    Step(StepEvent, Option<Acknowledgement>),
    /// Something about a worker.
    Worker(WorkerInput),
    /// Something about an allocation.
    Allocation(AllocationId, AllocationInput),
    /// A command of an action ended with this code.
    CommandEnded(ActionCommand, i32),
    /// The recovery script of a launch ended with this code.
    ScriptEnded(FailedLaunch, i32),
    /// What the scheduler's accounting says of steps that have ended.
    Accounted(Vec<(StepId, StepAccount)>),
    /// What is known of the nodes of its schedulers.
    Shapes(KnownShapes),
    /// A question: the workflow asked about, and what to do with the look at it or with the reason
    /// why there is none.
    Look(Option<WorkflowId>, LookFn),
    /// A wish to end jobs.
    Cancel(CancelRequest, oneshot::Sender<Result<CancelReport, RequestError>>),
    /// What the input files of a job that completed are like.
    InputsSeen(Event),
    /// A wish to run again what did not complete, and whether no more than that.
    PutBack(bool, oneshot::Sender<Result<RestartReport, RequestError>>),
    /// A wish to change the workflow.
    Change(ChangeFn),
    /// A wish to stop here and go on later.
    Stop,
    /// The same where others see to it that what runs is asked to end.
    StopUnasked,
    /// A wish to do so without waiting for jobs to end gently.
    Kill,
    /// The server ends; what runs elsewhere goes on, and the next server takes it up.
    Detach,
}

/// The kinds of nodes that schedulers have, by the index of each. One of which nothing is known is missing.
pub(crate) type KnownShapes = BTreeMap<u32, Vec<NodeShape>>;

/// Who wants to know that the end of a step is durable.
#[derive(Clone)]
pub(crate) struct Acknowledgement {
    pub(crate) link: WorkerLink,
    pub(crate) step: StepId,
}

impl Acknowledgement {
    /// Tells workers that these ends are durable.
    pub(crate) fn send_all(all: Vec<Self>) {
        let mut by_link: BTreeMap<u64, (WorkerLink, Vec<StepId>)> = BTreeMap::new();
        for one in all {
            by_link.entry(one.link.id).or_insert((one.link, Vec::new())).1.push(one.step);
        }
        for (link, steps) in by_link.into_values() {
            link.send(ToWorker::Acknowledged(steps));
        }
    }
}

/// Something about a worker, or about the allocation of a run that is its own worker.
pub(crate) enum WorkerInput {
    /// It has connected.
    Joined(Box<Hello>, WorkerLink),
    /// Its allocation ends at another time.
    EndMoved(AllocationId, Option<Timestamp>),
    /// Nothing in its allocation is given time to run, or is again.
    Suspended(AllocationId, bool),
    /// A connection, by its number, is gone.
    Left(AllocationId, u64),
}

/// Something about an allocation.
pub(crate) enum AllocationInput {
    /// The scheduler has taken the request.
    Submitted(AllocationHandle),
    /// The scheduler never will.
    Refused(String),
    /// Why the request waits.
    HeldBack(String),
    /// Nobody was asked for it, and nobody will be.
    Withdrawn,
    /// Where the scheduler's allocation of this name stands. When it is over: the ends that its worker's
    /// journal holds.
    Observed(AllocationHandle, AllocationState, Vec<StepEvent>),
}

/// Changes a workflow: the events, applied, and whom to answer once they are durable.
pub(crate) type ChangeFn = Box<dyn FnOnce(&mut Engine, Moment) -> (Vec<Event>, AnswerFn) + Send>;
/// Answers somebody.
pub(crate) type AnswerFn = Box<dyn FnOnce() + Send>;

pub(crate) type LookFn = Box<dyn FnOnce(Result<&View<'_>, RequestError>) + Send>;

/// A question or wish was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The run is over and its driver gone.
    #[error("the run is over")]
    Over,
    /// There is no such job.
    #[error("there is no job `{name}`{hint}", hint = hint(.nearest.as_deref()))]
    UnknownJob {
        /// As asked for.
        name: String,
        /// A job with a similar name.
        nearest: Option<String>,
    },
    /// Only the workflow that runs can be changed while one runs.
    #[error("workflow {running} runs here; wait for its end before changing another one{}",
        .asked.map_or_else(String::new, |asked| format!(" ({asked})")))]
    OtherWorkflow {
        /// Asked for.
        asked: Option<WorkflowId>,
        /// The one that runs.
        running: WorkflowId,
    },
    /// The workflow asked about could not be read.
    #[error("{0}")]
    Store(String),
    /// It makes no sense as things stand.
    #[error("{0}")]
    Refused(String),
    /// Jobs can never run there.
    #[error("{0}")]
    NeverRuns(String),
    /// Something that the workflow names cannot be had.
    #[error("{0}")]
    Lacking(String),
    /// The placer that the workflow names cannot be had.
    #[error(transparent)]
    Placer(#[from] PlacerError),
}

impl RequestError {
    /// There is nothing that a new run could do.
    pub(crate) fn nothing_left(id: WorkflowId) -> Self {
        Self::Refused(format!(
            "every job of workflow {id} has completed or is left out; there is nothing to restart"
        ))
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl RequestError {
    /// More is wished of a restart than can be done in the run that is under way.
    pub(crate) fn under_way(id: WorkflowId) -> Self {
        Self::Refused(format!(
            "a run of workflow {id} is under way: only what did not complete can be put back into it; for \
             --all and --spec wait for its end, or `torc cancel {id}`"
        ))
    }
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// The way into a running driver. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::UnboundedSender<Input>,
}

impl Handle {
    /// One of a driver to be, with what it is told.
    pub(crate) fn of_driver() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (inbox, outbox) = mpsc::unbounded_channel();
        (Self { inbox }, outbox)
    }

    /// The executor's way in.
    pub(crate) fn step_events(&self) -> Arc<dyn StepEvents> {
        let inbox = self.inbox.clone();
        // A report to a driver that is gone is of no use to anybody.
        Arc::new(move |event| drop(inbox.send(Input::Step(event, None))))
    }

    /// Returns when the driver is gone.
    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    /// Tells the driver something. To one that is gone it is of no use.
    pub(crate) fn tell(&self, input: Input) {
        let _ = self.inbox.send(input);
    }

    /// The workflow as a whole; the one that runs when none is named.
    ///
    /// # Errors
    /// When the run is over or the workflow cannot be read.
    pub async fn workflow(&self, id: Option<WorkflowId>) -> Result<WorkflowReport, RequestError> {
        self.look(id, |view| view.workflow()).await
    }

    /// Its attempts from a position on.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn attempts(
        &self,
        id: Option<WorkflowId>,
        since: usize,
    ) -> Result<Vec<AttemptReport>, RequestError> {
        self.look(id, move |view| view.attempts(since, None)).await
    }

    pub(crate) async fn look<T: Send + 'static>(
        &self,
        id: Option<WorkflowId>,
        answer: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (reply, answered) = oneshot::channel();
        // Whoever asked may have gone away meanwhile.
        let look: LookFn = Box::new(move |view| drop(reply.send(view.map(answer))));
        self.inbox.send(Input::Look(id, look)).map_err(|_| RequestError::Over)?;
        answered.await.map_err(|_| RequestError::Over)?
    }

    /// Ends jobs, once that wish is durable.
    ///
    /// # Errors
    /// When the run is over or a job is unknown; nothing is ended then.
    pub async fn cancel(&self, request: CancelRequest) -> Result<CancelReport, RequestError> {
        let (reply, answered) = oneshot::channel();
        self.inbox.send(Input::Cancel(request, reply)).map_err(|_| RequestError::Over)?;
        answered.await.map_err(|_| RequestError::Over)?
    }

    /// Puts the jobs that did not complete back into the run, once that wish is durable. `is_plain`: no more
    /// than that is wished.
    ///
    /// # Errors
    /// When the run is over, or more is wished than can be done while it is not.
    pub async fn put_back(&self, is_plain: bool) -> Result<RestartReport, RequestError> {
        let (reply, answered) = oneshot::channel();
        self.inbox.send(Input::PutBack(is_plain, reply)).map_err(|_| RequestError::Over)?;
        answered.await.map_err(|_| RequestError::Over)?
    }

    /// Changes the workflow; the answer comes once that is durable.
    pub(crate) async fn change<C: Change>(&self, change: C) -> Result<C::Report, RequestError> {
        let (reply, answered) = oneshot::channel();
        let make: ChangeFn = Box::new(move |engine, at| {
            let (report, events) = match change.make(engine, at) {
                Ok((report, events)) => (Ok(report), events),
                Err(refused) => (Err(refused), Vec::new()),
            };
            // Whoever asked may have gone away meanwhile.
            (events, Box::new(move || drop(reply.send(report))))
        });
        self.inbox.send(Input::Change(make)).map_err(|_| RequestError::Over)?;
        answered.await.map_err(|_| RequestError::Over)?
    }

    /// Stops the run gently, to go on later. The driver ends once all steps have.
    pub fn stop(&self) {
        let _ = self.inbox.send(Input::Stop);
    }

    /// Has the driver end once all that is known is durable; what runs in allocations goes on.
    pub(crate) fn detach(&self) {
        let _ = self.inbox.send(Input::Detach);
    }

    /// Stops the run at once.
    pub fn kill(&self) {
        let _ = self.inbox.send(Input::Kill);
    }
}
