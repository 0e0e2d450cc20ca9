//! What follows from an event.

use std::time::Duration;

use crate::ids::{AllocationId, AttemptId, JobId, RunId, StepId};
use crate::resources::Placement;
use crate::time::Timestamp;
use crate::traits::{Delta, Outcome, StepAccount, StepSignal, Usage, WaitingJob};
use crate::workflow::DanglingReference;

use super::attempts::{Attempt, AttemptEnd};
use super::status::{Change, IllegalChange, JobStatus, transition};
use super::user_data::SetValue;
use super::verdict::{Situation, attempt_status, verdict};
use super::{
    ActionCommand, Effect, EndBook, Engine, Event, FailedLaunch, Phase, PlacementFault, RequestBook,
};

/// An event that does not follow from those before it. It was not applied and must not be stored.
/// From a worker, it is a report that came twice or too late.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The job has no such launch that is still open.
    #[error("job {job} has no open attempt {attempt}")]
    StaleAttempt {
        /// The job.
        job: JobId,
        /// The attempt that was reported about.
        attempt: AttemptId,
    },
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// Jobs to be added do not fit the workflow.
    #[error("the jobs to be added do not fit the workflow")]
    Unfit,
    /// There is no such user data.
    #[error("there is no user data with the index {0}")]
    UnknownUserData(u32),
    /// There is no such allocation, or it has ended, or its number is taken.
    #[error("allocation {0} is not open")]
    WrongAllocation(AllocationId),
    /// The run's number does not follow, or this cannot happen at this point of a run.
    #[error("this cannot happen in run {run:?} while it is {phase:?}")]
    WrongPhase {
        /// The current run.
        run: Option<RunId>,
        /// Where it stands.
        phase: Phase,
    },
    /// A job was to be placed where it cannot be.
    #[error("job {job} cannot be placed: {fault}")]
    Placement {
        /// The job.
        job: JobId,
        /// Why not.
        fault: PlacementFault,
    },
    /// A job was to change in a way that its status does not allow.
    #[error("job {job}: {source}")]
    Illegal {
        /// The job.
        job: JobId,
        /// Why not.
        source: IllegalChange,
    },
    /// There is no such file.
    #[error("there is no file with index {0}")]
    UnknownFile(u32),
    /// A definition leads nowhere.
    #[error(transparent)]
    Dangling(#[from] DanglingReference),
}

impl Engine {
    /// Takes note of an event and says what is to be done about it, once it is stored.
    ///
    /// # Errors
    /// When the event does not follow from those before it; then nothing has changed.
    pub fn apply(&mut self, event: &Event) -> Result<Vec<Effect>, Refused> {
        let mut effects = Vec::new();
        match event {
            Event::RunStarted { run, at, reset } => self.start_run(*run, *at, reset)?,
            Event::Redefined { revision, .. } => self.redefine(revision)?,
            Event::InputsSeen { job, run, attempt, files, .. } => {
                self.see_inputs((*job, *run, *attempt), files)?;
            }
            Event::RunResumed { at } => self.resume_run(*at)?,
            Event::JobsPutBack { jobs, .. } => self.put_back(jobs)?,
            Event::JobsDisabled { jobs, .. } => self.leave_out(jobs)?,
            Event::JobsEnabled { jobs, .. } => self.take_in(jobs)?,
            Event::AllocationGranted { at, began_at, allocation } => {
                self.add_allocation(*at, allocation)?;
                self.note_start_up(*at, *began_at, allocation);
            }
            Event::AllocationExpired { at, allocation } => {
                effects = self.expire_allocation(*at, *allocation)?;
            }
            Event::AllocationRequested { .. }
            | Event::AllocationSubmitted { .. }
            | Event::AllocationEndMoved { .. }
            | Event::AllocationReachable { .. }
            | Event::AllocationSuspended { .. }
            | Event::AllocationLeaving { .. }
            | Event::AllocationEnded { .. } => self.apply_to_allocation(event)?,
            Event::ActionFired { at, action, worker } => {
                effects = self.fire(*at, *action, *worker)?;
            }
            Event::ActionCommandEnded { action, worker, command, code, .. } => {
                let ended = ActionCommand { action: *action, worker: *worker, command: *command };
                effects = self.end_command(ended, *code)?;
            }
            Event::RecoveryBegan { at, job, attempt } => {
                effects =
                    self.begin_recovery(*at, FailedLaunch { job: *job, attempt: *attempt })?;
            }
            Event::RecoveryEnded { job, attempt, code, .. } => {
                self.end_recovery(FailedLaunch { job: *job, attempt: *attempt }, *code)?;
            }
            Event::NodeStateChanged { at, node, state, reason } => {
                self.set_node_state(*at, *node, *state, reason);
            }
            Event::NodeLeaving { at, node } => self.leave_node(*at, *node),
            Event::NodesHeld { at, held } => self.idleness.hold(self.moment(*at), held),
            Event::LaunchesCleared { jobs, .. } => self.clear(jobs)?,
            Event::Dispatched { job, attempt, at, placement } => {
                self.check_dispatch(*job, *attempt, placement)?;
                self.book_dispatch(*job, *at, placement)?;
            }
            Event::StepStarted { job, attempt, at } => self.start_step(*job, *attempt, *at)?,
            Event::StepEnded { job, attempt, at, outcome, usage } => {
                self.end_step(*job, *attempt, AttemptReport { at: *at, outcome, usage: *usage })?;
            }
            Event::StepAccounted { job, run, attempt, usage, state, .. } => {
                let (workflow, job, run, attempt) = (self.id, *job, *run, *attempt);
                let account = StepAccount { usage: *usage, state: state.clone() };
                self.account(StepId { workflow, job, run, attempt }, &account)?;
            }
            Event::UserDataSet { at, item, value, by } => {
                self.keep_user_data(*item, SetValue::new(value, *at, *by))?;
                return Ok(effects);
            }
            Event::JobsAdded { addition, .. } => self.grow(addition)?,
            Event::CancelRequested { jobs, .. } => effects = self.cancel(jobs.as_deref())?,
            Event::StopRequested { at } => effects = self.stop(*at)?,
            Event::RunEnded { at, complete } => self.end_run(*at, *complete)?,
        }
        self.last_event_at = self.moment(event.at());
        self.idleness.settle(self.last_event_at, self.classes.requests(), &self.waiting);
        Ok(effects)
    }

    fn apply_to_allocation(&mut self, event: &Event) -> Result<(), Refused> {
        match event {
            Event::AllocationRequested { at, allocation, scheduler, action } => {
                let (at, scheduler, action) = (*at, *scheduler, *action);
                let request = RequestBook { at, scheduler, action, handle: None };
                self.request_allocation(*allocation, request)
            }
            Event::AllocationSubmitted { allocation, handle, .. } => {
                self.submit_allocation(*allocation, handle)
            }
            Event::AllocationEndMoved { at, allocation, ends_at } => {
                self.move_end(*allocation, *ends_at, *at)
            }
            Event::AllocationSuspended { at, allocation, suspended } => {
                self.set_suspended(*at, *allocation, *suspended)
            }
            Event::AllocationReachable { at, allocation, reachable } => {
                self.set_reachable(*at, *allocation, *reachable)
            }
            Event::AllocationLeaving { at, allocation } => self.leave_allocation(*at, *allocation),
            Event::AllocationEnded { at, allocation, cause, reason } => {
                let end = EndBook { at: *at, cause: *cause, reason: reason.clone() };
                self.end_allocation(*allocation, end)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn wrong_phase(&self) -> Refused {
        Refused::WrongPhase { run: self.run, phase: self.phase }
    }

    pub(super) fn known(&self, job: JobId) -> Result<JobId, Refused> {
        let known = (1..=self.jobs.len()).contains(&(job.0 as usize));
        if known { Ok(job) } else { Err(Refused::UnknownJob(job)) }
    }

    fn start_run(
        &mut self,
        run: RunId,
        at: Timestamp,
        reset: &[(JobId, JobId)],
    ) -> Result<(), Refused> {
        let follows = run.0 == self.run.map_or(1, |run| run.0 + 1);
        if !follows || !self.running.is_empty() || self.phase == Phase::Running {
            return Err(self.wrong_phase());
        }
        let jobs = self.resettable(reset)?;
        self.run = Some(run);
        self.phase = Phase::Running;
        self.run_started_at = Some(at);
        self.paused = Duration::ZERO;
        self.run_ended_at = None;
        self.idleness.begin(self.moment(at));
        self.reset_actions();
        self.scripts.clear();
        self.is_called_off = false;
        for job in &jobs {
            self.jobs[job.index()].launches = 0;
        }
        self.forget_ephemeral(&jobs, true);
        self.reset(&jobs)
    }

    fn put_back(&mut self, ranges: &[(JobId, JobId)]) -> Result<(), Refused> {
        if !self.can_resume() {
            return Err(self.wrong_phase());
        }
        let jobs = self.resettable(ranges)?;
        self.recount_actions();
        self.forget_ephemeral(&jobs, false);
        self.reset(&jobs)
    }

    /// The jobs of these ranges, all of which can begin anew.
    fn resettable(&self, ranges: &[(JobId, JobId)]) -> Result<Vec<JobId>, Refused> {
        self.changeable(ranges, Change::Reset)
    }

    /// The jobs of these ranges, each of which can change in this way as it stands.
    pub(super) fn changeable(
        &self,
        ranges: &[(JobId, JobId)],
        change: Change,
    ) -> Result<Vec<JobId>, Refused> {
        for bound in ranges.iter().flat_map(|(first, last)| [first, last]) {
            self.known(*bound)?;
        }
        let jobs = ranges.iter().flat_map(|(first, last)| first.0..=last.0).map(JobId);
        jobs.map(|job| match transition(self.status(job), change) {
            Ok(_) => Ok(job),
            Err(source) => Err(Refused::Illegal { job, source }),
        })
        .collect()
    }

    pub(super) fn reset(&mut self, jobs: &[JobId]) -> Result<(), Refused> {
        for job in jobs {
            self.change(*job, Change::Reset)?;
            let state = &mut self.jobs[job.index()];
            state.cancel_requested = false;
            state.retries = 0;
        }
        self.settle_reset(jobs)
    }

    /// Each of these jobs was reset to blocked: those that wait for nothing are ready, and those
    /// whose dependency ended badly without being reset are canceled.
    pub(super) fn settle_reset(&mut self, jobs: &[JobId]) -> Result<(), Refused> {
        let workflow = self.workflow.clone();
        let depends_on = |job: JobId| workflow.jobs[job.index()].depends_on.iter().copied();
        let is_blocked = |engine: &Self, job| engine.status(job) == JobStatus::Blocked;
        // All are counted before any is settled: what is canceled is counted off at those after it.
        for &job in jobs {
            if !is_blocked(self, job) {
                continue;
            }
            let open = depends_on(job).filter(|other| !self.status(*other).has_ended()).count();
            self.jobs[job.index()].waits_for = u32::try_from(open).unwrap_or(u32::MAX);
        }
        for &job in jobs {
            if !is_blocked(self, job) {
                continue;
            }
            let fails = workflow.jobs[job.index()].cancel_on_blocking_job_failure
                && depends_on(job).any(|other| {
                    let status = self.status(other);
                    status.has_ended() && status != JobStatus::Completed
                });
            if fails {
                self.change(job, Change::Canceled)?;
                self.settle_dependents(job)?;
            } else if self.jobs[job.index()].waits_for == 0 {
                self.change(job, Change::Unblocked)?;
            }
        }
        Ok(())
    }

    fn resume_run(&mut self, at: Timestamp) -> Result<(), Refused> {
        if !self.can_resume() {
            return Err(self.wrong_phase());
        }
        self.lose_cleared(self.last_event_at);
        self.paused += at.since(self.last_event_at);
        self.idleness.resume(self.last_event_at, self.moment(at));
        self.phase = Phase::Running;
        self.run_ended_at = None;
        Ok(())
    }

    /// Whether this launch may be booked.
    pub(super) fn check_dispatch(
        &self,
        job: JobId,
        attempt: AttemptId,
        placement: &Placement,
    ) -> Result<(), Refused> {
        let state = &self.jobs[self.known(job)?.index()];
        let refused = |fault| Err(Refused::Placement { job, fault });
        if state.status != JobStatus::Ready || self.phase != Phase::Running {
            return refused(PlacementFault::NotReady);
        }
        if attempt.0 != state.launches + 1 {
            return Err(Refused::StaleAttempt { job, attempt });
        }
        let request = self.classes.request(self.classes.of_job(job));
        let serves = self
            .allocations
            .get(&placement.allocation)
            .is_some_and(|book| book.is_live() && book.allocation.serves(request));
        if !serves {
            return refused(PlacementFault::WrongAllocation(placement.allocation));
        }
        self.ledger.check(request, placement).or_else(refused)
    }

    fn book_dispatch(
        &mut self,
        job: JobId,
        at: Timestamp,
        placement: &Placement,
    ) -> Result<(), Refused> {
        let run = self.run.ok_or_else(|| self.wrong_phase())?;
        self.change(job, Change::Placed)?;
        self.ledger.take(job, placement);
        self.idleness.take(self.moment(at), placement, &self.ledger);
        self.paces[self.classes.of_job(job).0 as usize].note_start();
        let state = &mut self.jobs[job.index()];
        state.launches += 1;
        let cpus = placement.shares.iter().map(|share| self.ledger.cpus_of(share)).sum();
        let name = (job, run, AttemptId(state.launches));
        self.attempts.push(Attempt::new(name, at, placement, cpus));
        state.latest_attempt = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.running.insert(job, placement.clone());
        Ok(())
    }

    fn open_attempt(&self, job: JobId, attempt: AttemptId) -> Result<usize, Refused> {
        let state = &self.jobs[self.known(job)?.index()];
        if state.status.holds_nodes() && state.launches == attempt.0 {
            Ok(state.latest_attempt as usize - 1)
        } else {
            Err(Refused::StaleAttempt { job, attempt })
        }
    }

    fn start_step(&mut self, job: JobId, attempt: AttemptId, at: Timestamp) -> Result<(), Refused> {
        let index = self.open_attempt(job, attempt)?;
        self.change(job, Change::Started)?;
        self.attempts[index].started_at = Some(at);
        Ok(())
    }

    fn end_step(
        &mut self,
        job: JobId,
        attempt: AttemptId,
        report: AttemptReport<'_>,
    ) -> Result<(), Refused> {
        let index = self.open_attempt(job, attempt)?;
        let workflow = self.workflow.clone();
        let state = &self.jobs[job.index()];
        let handler = workflow.jobs[job.index()].failure_handler;
        let situation = Situation {
            handler: handler.map(|handler| &workflow.header.failure_handlers[handler as usize]),
            retries: state.retries,
            cancel_requested: state.cancel_requested,
        };
        let verdict = verdict(report.outcome, &workflow.header.execution, &situation);
        self.attempts[index].end = Some(AttemptEnd {
            at: report.at,
            outcome: report.outcome.clone(),
            status: attempt_status(report.outcome),
            usage: report.usage,
            scheduler_state: None,
        });
        if let Some(placement) = self.running.remove(&job) {
            self.ledger.release(&placement);
            self.idleness.give_back(self.moment(report.at), &placement, &self.ledger);
        }
        let held = report.at.since(self.attempts[index].dispatched_at);
        let is_typical = !report.outcome.came_from_outside();
        let class = self.classes.of_job(job);
        self.paces[class.0 as usize].note_end(is_typical.then_some(held));
        self.changed_paces.push(class);
        self.deltas.push(Delta::StepEnded(job));
        if verdict.spends_retry {
            self.jobs[job.index()].retries += 1;
        }
        self.change(job, verdict.change)?;
        if verdict.spends_retry {
            self.want_recovery(job);
        }
        self.settle_dependents(job)
    }

    fn cancel(&mut self, jobs: Option<&[JobId]>) -> Result<Vec<Effect>, Refused> {
        let chosen: Vec<JobId> = match jobs {
            Some(jobs) => jobs.iter().map(|job| self.known(*job)).collect::<Result<_, _>>()?,
            None => (0..self.jobs.len()).map(JobId::from_index).collect(),
        };
        self.is_called_off |= jobs.is_none();
        let mut effects = Vec::new();
        for job in chosen {
            match self.status(job) {
                JobStatus::Blocked | JobStatus::Ready => {
                    effects.extend(self.call_off_recovery(job).map(Effect::EndRecovery));
                    self.change(job, Change::Canceled)?;
                    self.settle_dependents(job)?;
                }
                JobStatus::Pending | JobStatus::Running => {
                    self.jobs[job.index()].cancel_requested = true;
                    effects.push(self.signal(job, StepSignal::Cancel));
                }
                _ => {}
            }
        }
        Ok(effects)
    }

    fn stop(&mut self, at: Timestamp) -> Result<Vec<Effect>, Refused> {
        if self.phase != Phase::Running {
            return Err(self.wrong_phase());
        }
        self.phase = Phase::Stopping;
        self.idleness.stop(self.moment(at));
        self.end_all_clearances();
        Ok(self.running.keys().map(|job| self.signal(*job, StepSignal::Cancel)).collect())
    }

    fn end_run(&mut self, at: Timestamp, complete: bool) -> Result<(), Refused> {
        let all_ended = self.counts.ended() as usize == self.jobs.len();
        if !self.running.is_empty() || self.phase != Phase::Running || complete != all_ended {
            return Err(self.wrong_phase());
        }
        self.phase = Phase::Ended { complete };
        self.end_all_clearances();
        self.run_ended_at = Some(at);
        self.idleness.end(self.moment(at));
        Ok(())
    }

    pub(super) fn signal(&self, job: JobId, signal: StepSignal) -> Effect {
        Effect::Signal { job, attempt: AttemptId(self.jobs[job.index()].launches), signal }
    }

    /// Frees, or cancels, all that waited for this job to end, to every depth. Does nothing while
    /// it has not ended.
    pub(super) fn settle_dependents(&mut self, job: JobId) -> Result<(), Refused> {
        let workflow = self.workflow.clone();
        let mut ended = vec![job];
        while let Some(job) = ended.pop() {
            let status = self.status(job);
            if !status.has_ended() {
                continue;
            }
            for position in 0..self.dependents.get(job).len() {
                let dependent = self.dependents.get(job)[position];
                if self.status(dependent) != JobStatus::Blocked || self.is_recovering(dependent) {
                    continue;
                }
                let cancels = workflow.jobs[dependent.index()].cancel_on_blocking_job_failure;
                if status != JobStatus::Completed && cancels {
                    self.change(dependent, Change::Canceled)?;
                    ended.push(dependent);
                } else {
                    let waits_for = &mut self.jobs[dependent.index()].waits_for;
                    *waits_for = waits_for.saturating_sub(1);
                    if *waits_for == 0 {
                        self.change(dependent, Change::Unblocked)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The only place where a job's status changes. Keeps the counts, and what the placer has to
    /// know about who waits.
    pub(super) fn change(&mut self, job: JobId, change: Change) -> Result<(), Refused> {
        let from = self.status(job);
        let to = transition(from, change).map_err(|source| Refused::Illegal { job, source })?;
        self.jobs[job.index()].status = to;
        self.counts.shift(from, to);
        let class = self.classes.of_job(job);
        let waiting = &mut self.waiting[class.0 as usize];
        if let Some(count) = waiting.of(from) {
            *count -= 1;
        }
        if let Some(count) = waiting.of(to) {
            *count += 1;
        }
        self.idleness.note(class, *waiting);
        if from == JobStatus::Ready {
            self.end_clearance(job);
            self.scripts.forget(job);
        }
        if from == JobStatus::Ready && to != JobStatus::Pending {
            self.deltas.push(Delta::JobWithdrawn(job));
        }
        if to == JobStatus::Ready {
            self.rewind_clearances(job);
            self.deltas.push(Delta::JobReady(WaitingJob { job, class }));
        }
        Ok(())
    }
}

/// What was reported about the end of an attempt.
struct AttemptReport<'a> {
    at: Timestamp,
    outcome: &'a Outcome,
    usage: Usage,
}
