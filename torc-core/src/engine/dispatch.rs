//! What starts now, and whether the run is over.

use crate::ids::{AttemptId, JobId, NodeId};
use crate::time::Timestamp;
use crate::traits::{Delta, PlannedStart, Start, WaitingJob};

use super::{
    AllocationBook, Dismissal, Engine, Event, JobStatus, Misconduct, Phase, PlacementFault, Refused,
};

/// What a decision led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dispatch {
    /// One [`Event::Dispatched`] a job that starts, already applied. They are launched once they
    /// are stored.
    pub started: Vec<Event>,
    /// [`Event::NodesHeld`], already applied, if other nodes are held now than before.
    pub held: Option<Event>,
    /// The promises that now hold.
    pub planned: Vec<PlannedStart>,
    /// Starts that the placer chose and the ledger refused. Always an error in the placer; the jobs
    /// go on waiting.
    pub faults: Vec<Refused>,
    /// Somebody else's placer was found wanting, and torc's own decided in its place.
    pub dismissed: Option<Dismissal>,
}

/// Nodes that are kept from others, by the job that they are kept for.
type Held = Vec<(JobId, Vec<NodeId>)>;

/// Why nothing more happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Every job has ended.
    Complete,
    /// Nothing runs, and what waits cannot start on the nodes there are.
    Stuck,
    /// Nothing runs any more and nothing starts, since somebody wished so.
    Stopped,
}

impl Engine {
    /// Starts what may start now, at most `limit` jobs.
    pub fn dispatch(&mut self, now: Timestamp, limit: usize) -> Dispatch {
        self.inform_placer();
        if self.phase != Phase::Running {
            return Dispatch::default();
        }
        let has_guest = self.has_guest_placer();
        let mut dispatch = Dispatch::default();
        let held = loop {
            let (held, is_to_go_on) = self.decide(&mut dispatch, now, limit);
            if !is_to_go_on && !self.dismiss_idle_guest(now, limit) {
                break held;
            }
            self.inform_placer();
        };
        dispatch.held = self.hold(now, held);
        if has_guest && !self.has_guest_placer() {
            dispatch.dismissed = self.dismissal.clone();
        }
        dispatch
    }

    fn inform_placer(&mut self) {
        self.placer.apply(&self.deltas);
        self.deltas.clear();
    }

    /// Makes the starts of one plan. What it holds, and whether another is to be made at once.
    fn decide(&mut self, dispatch: &mut Dispatch, now: Timestamp, limit: usize) -> (Held, bool) {
        let mut plan = self.placer.plan(now, limit.saturating_sub(dispatch.started.len()));
        if let Some(words) = plan.failure.take()
            && self.dismiss_guest(Misconduct::Failed(words))
        {
            return (Vec::new(), true);
        }
        let plan = self.without_nonsense(plan);
        let (faults_before, has_starts) = (dispatch.faults.len(), !plan.starts.is_empty());
        for start in plan.starts {
            let job = start.job;
            let is_within_limit = dispatch.started.len() < limit;
            match self.start(start, now, is_within_limit) {
                Ok(event) => dispatch.started.push(event),
                Err(fault) => {
                    self.give_back(job);
                    dispatch.faults.push(fault);
                }
            }
        }
        dispatch.planned = plan.planned;
        let last_fault = dispatch.faults[faults_before..].last().cloned();
        (plan.held, self.judge_plan(last_fault, has_starts))
    }

    fn start(
        &mut self,
        start: Start,
        at: Timestamp,
        is_within_limit: bool,
    ) -> Result<Event, Refused> {
        let Start { job, placement } = start;
        let launches = self.jobs[self.known(job)?.index()].launches;
        if !is_within_limit {
            return Err(Refused::Placement { job, fault: PlacementFault::OverLimit });
        }
        let event = Event::Dispatched { job, attempt: AttemptId(launches + 1), at, placement };
        self.apply(&event)?;
        Ok(event)
    }

    /// Takes note of the nodes that promises keep from others.
    fn hold(&mut self, at: Timestamp, held: Held) -> Option<Event> {
        if self.idleness.holds(&held) {
            return None;
        }
        let event = Event::NodesHeld { at, held };
        self.apply(&event).ok()?;
        Some(event)
    }

    /// The placer booked a start that is not made. What a job holds that was started before is not free: of
    /// that nothing is said.
    fn give_back(&mut self, job: JobId) {
        if self.running.contains_key(&job) {
            return;
        }
        self.deltas.push(Delta::StepEnded(job));
        if self.known(job).is_ok_and(|job| self.status(job) == JobStatus::Ready) {
            let class = self.classes.of_job(job);
            self.deltas.push(Delta::JobReady(WaitingJob { job, class }));
        }
    }

    /// Whether nothing more happens by itself. To be asked after [`Self::dispatch`].
    pub fn conclusion(&self) -> Option<Conclusion> {
        self.conclusion_given(|_| true)
    }

    /// The same where not every wish for an allocation will be handed over. `may_come`: whether one that
    /// is not submitted yet will be, as things stand.
    pub fn conclusion_given(
        &self,
        may_come: impl Fn(&AllocationBook) -> bool,
    ) -> Option<Conclusion> {
        if !self.running.is_empty() {
            return None;
        }
        match self.phase {
            // What else was under way is begun again when the run goes on.
            Phase::Stopping => Some(Conclusion::Stopped),
            _ if self.commands_under_way().next().is_some() || !self.scripts.is_empty() => None,
            Phase::Running if self.counts.ended() as usize == self.jobs.len() => {
                Some(Conclusion::Complete)
            }
            Phase::Running if self.may_get_nodes(may_come) => None,
            Phase::Running => Some(Conclusion::Stuck),
            Phase::New | Phase::Ended { .. } => None,
        }
    }
}
