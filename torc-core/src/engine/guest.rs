//! A placer that is not torc's own, and when it is not asked any more.
//!
//! Owns: what counts against such a placer, and who follows it. Does not know: what it is, and how it is
//! asked. Invariants: whatever it does, no job starts where it may not, and none that could start is left
//! behind: torc's own placer takes its place, with what the engine's books say.

use std::collections::HashSet;
use std::fmt;

use super::{Engine, JobStatus, Refused};
use crate::ids::{JobId, NodeId};
use crate::placer::WholeNodePlacer;
use crate::time::Timestamp;
use crate::traits::{NotNowReason, Placer, Plan, Waiting};

/// Plans in a row with starts that are not possible, until the placer is not asked any more. A bug shows
/// itself in each of them; a single one may have come from a moment that it did not foresee. A plan of
/// nothing does not count.
const MOST_FAULTY_PLANS: u32 = 3;

/// A placer of somebody else's.
#[derive(Debug)]
pub(super) struct Guest {
    name: Box<str>,
    /// Those in a row, up to the last.
    faulty_plans: u32,
}

/// That somebody else's placer is not asked any more, and torc's own decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Dismissal {
    /// What the placer is called.
    pub placer: Box<str>,
    /// What it did.
    pub misconduct: Misconduct,
}

/// For what a placer is not asked any more.
#[derive(Clone, Debug, PartialEq)]
pub enum Misconduct {
    /// It cannot go on, in these words.
    Failed(String),
    /// It chose starts that are not possible, plan after plan; this is the last of them.
    Faulty(Refused),
    /// It starts nothing, although nothing runs and jobs could.
    Idle,
}

impl fmt::Display for Dismissal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { placer, misconduct } = self;
        write!(f, "plugin `{placer}` places no jobs any more, torc's own placer does: ")?;
        match misconduct {
            Misconduct::Failed(words) => f.write_str(words),
            Misconduct::Faulty(last) => write!(
                f,
                "{MOST_FAULTY_PLANS} plans of it in a row had starts that are not possible; the last: {last}"
            ),
            Misconduct::Idle => {
                f.write_str("it starts nothing, although nothing runs and jobs could start")
            }
        }
    }
}

impl Engine {
    /// Has somebody else's placer decide from now on. It is told all there is to know.
    pub fn entrust(&mut self, name: &str, placer: Box<dyn Placer>) {
        self.guest = Some(Guest { name: name.into(), faulty_plans: 0 });
        self.placer = placer;
        self.inform_placer_anew();
    }

    /// Why the placer that was chosen for this workflow does not decide any more, if so.
    pub fn dismissal(&self) -> Option<&Dismissal> {
        self.dismissal.as_ref()
    }

    /// Whether a placer decides that is not torc's own, so that a decision may take its time.
    pub fn has_guest_placer(&self) -> bool {
        self.guest.is_some()
    }

    pub(super) fn inform_placer_anew(&mut self) {
        self.deltas.clear();
        let snapshot = self.snapshot();
        self.placer.rebuild(&snapshot);
    }

    /// From now on torc's own placer decides, in place of the one of this name.
    pub fn dismiss_placer(&mut self, placer: &str, misconduct: Misconduct) {
        self.guest = None;
        self.placer = Box::new(WholeNodePlacer::of(&self.workflow.header));
        self.inform_placer_anew();
        self.dismissal = Some(Dismissal { placer: placer.into(), misconduct });
    }

    /// Lets the guest go, if there is one. Whether there was.
    pub(super) fn dismiss_guest(&mut self, misconduct: Misconduct) -> bool {
        let Some(guest) = self.guest.take() else { return false };
        self.dismiss_placer(&guest.name, misconduct);
        true
    }

    /// Takes note of how a plan went. Whether another is to be made now: what was refused goes on waiting,
    /// and perhaps nothing else would ever lead to another.
    pub(super) fn judge_plan(&mut self, last_fault: Option<Refused>, has_starts: bool) -> bool {
        let Some(guest) = &mut self.guest else { return false };
        let Some(fault) = last_fault else {
            if has_starts {
                guest.faulty_plans = 0;
            }
            return false;
        };
        guest.faulty_plans += 1;
        if guest.faulty_plans >= MOST_FAULTY_PLANS {
            self.dismiss_guest(Misconduct::Faulty(fault));
        }
        true
    }

    /// Lets a guest go that started nothing, where that would end the run with jobs that could have started.
    pub(super) fn dismiss_idle_guest(&mut self, now: Timestamp, limit: usize) -> bool {
        let would_end = self.guest.is_some()
            && self.running.is_empty()
            && self.counts.of(JobStatus::Ready) > 0
            && !self.may_get_nodes(|_| true);
        if !would_end {
            return false;
        }
        let mut own = WholeNodePlacer::of(&self.workflow.header);
        own.rebuild(&self.snapshot());
        !own.plan(now, limit).starts.is_empty() && self.dismiss_guest(Misconduct::Idle)
    }

    /// A plan without promises of jobs, and on nodes, that there are not.
    pub(super) fn without_nonsense(&self, mut plan: Plan) -> Plan {
        if self.guest.is_none() {
            return plan;
        }
        let is_known = |job: JobId| self.known(job).is_ok();
        let mut seen = HashSet::new();
        let mut is_free = |node: &NodeId| self.ledger.state(*node).is_some() && seen.insert(*node);
        plan.planned.retain(|planned| is_known(planned.job));
        plan.held.retain(|(job, _)| is_known(*job));
        plan.held.iter_mut().for_each(|(_, nodes)| nodes.retain(&mut is_free));
        plan
    }

    /// What the placer says of a waiting job; a guest that says nothing, or names a job that there is not,
    /// has it waiting for its turn.
    pub(super) fn ask_placer(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        let told = self.placer.explain(job, now);
        if self.guest.is_none() {
            return told;
        }
        let is_sense = |told: &Waiting| match told {
            Waiting::NotNow(NotNowReason::HeldForPlannedStart { job, .. }) => {
                self.known(*job).is_ok()
            }
            _ => true,
        };
        told.filter(is_sense).or(Some(Waiting::NotNow(NotNowReason::Queued)))
    }
}
