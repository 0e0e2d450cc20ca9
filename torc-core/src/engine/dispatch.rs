//! What starts now, and whether the run is over.

use crate::ids::{AttemptId, JobId, NodeId};
use crate::time::Timestamp;
use crate::traits::{Delta, PlannedStart, WaitingJob};

use super::{AllocationBook, Engine, Event, JobStatus, Phase, Refused};

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
}

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
        self.placer.apply(&self.deltas);
        self.deltas.clear();
        if self.phase != Phase::Running {
            return Dispatch::default();
        }
        let plan = self.placer.plan(now, limit);
        let mut dispatch = Dispatch { planned: plan.planned, ..Dispatch::default() };
        for start in plan.starts {
            let job = start.job;
            let launches = self.known(job).map_or(0, |job| self.jobs[job.index()].launches);
            let event = Event::Dispatched {
                job,
                attempt: AttemptId(launches + 1),
                at: now,
                placement: start.placement,
            };
            match self.apply(&event) {
                Ok(_) => dispatch.started.push(event),
                Err(fault) => {
                    self.give_back(job);
                    dispatch.faults.push(fault);
                }
            }
        }
        dispatch.held = self.hold(now, plan.held);
        dispatch
    }

    /// Takes note of the nodes that promises keep from others.
    fn hold(&mut self, at: Timestamp, held: Vec<(JobId, Vec<NodeId>)>) -> Option<Event> {
        if self.idleness.holds(&held) {
            return None;
        }
        let event = Event::NodesHeld { at, held };
        self.apply(&event).ok()?;
        Some(event)
    }

    /// The placer booked a start that is not made.
    fn give_back(&mut self, job: JobId) {
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
        if !self.running.is_empty() || self.commands_under_way().next().is_some() {
            return None;
        }
        match self.phase {
            Phase::Stopping => Some(Conclusion::Stopped),
            Phase::Running if self.counts.ended() as usize == self.jobs.len() => {
                Some(Conclusion::Complete)
            }
            Phase::Running if self.may_get_nodes(may_come) => None,
            Phase::Running => Some(Conclusion::Stuck),
            Phase::New | Phase::Ended { .. } => None,
        }
    }
}
