//! How one step is brought to its end. Pure.
//!
//! First its termination signal, then SIGKILL after its lead, again and again until its srun has ended.
//! Signals go to the step by its number in Slurm. It is learnt from srun, which says so before it starts
//! the tasks; a signal before that could be lost. Where srun does not say a number, Slurm is asked by
//! name; a step that is not there has not been created, and its srun is asked to give up.

use std::time::{Duration, Instant};

use super::evidence::Evidence;
use crate::keeper::ending::Reason;

/// How long srun may take to say a number before Slurm is asked. It usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long tasks may take to start once their step has a number.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a question or a SIGKILL is repeated.
const AGAIN: Duration = Duration::from_secs(15);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Send the termination signal to the step of this number.
    Ask(u32),
    /// Send SIGKILL to the step of this number.
    Kill(u32),
    /// Ask Slurm for numbers.
    LookUp,
    /// Ask srun to end.
    Dismiss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is not known yet whom to signal.
    Unaddressed,
    /// It was asked to end.
    Asked,
    /// It was killed.
    Killed,
    /// Its srun was asked to end.
    Dismissed,
    /// Its keeper ends it.
    ByKeeper,
}

/// The stopping of a step.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    reason: Reason,
    stage: Stage,
    is_kill: bool,
    since: Instant,
    due: Instant,
    /// What Slurm said when it was asked by name.
    is_found: Option<bool>,
}

impl Stop {
    /// A step that is to end for this reason.
    pub(super) fn new(reason: Reason, now: Instant) -> Self {
        Self {
            reason,
            stage: Stage::Unaddressed,
            is_kill: false,
            since: now,
            due: now + PATIENCE,
            is_found: None,
        }
    }

    /// A step that its keeper ends.
    pub(super) fn by_keeper() -> Self {
        Self { stage: Stage::ByKeeper, ..Self::new(Reason::Cancelled, Instant::now()) }
    }

    /// Why it is to end: the first reason stays.
    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    /// It is not to be given any more time.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.is_kill = true;
        if self.stage == Stage::Asked {
            self.due = now;
        }
    }

    /// Slurm was asked for its number, and knows it or not.
    pub(super) fn looked_up(&mut self, is_found: bool) {
        self.is_found = Some(is_found);
    }

    /// When to go on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Unaddressed | Stage::Asked | Stage::Killed => Some(self.due),
            // The keeper has a deadline of its own for those.
            Stage::Dismissed | Stage::ByKeeper => None,
        }
    }

    /// What to do now, if anything, for a step that says this and whose lead is `lead`.
    pub(super) fn next(
        &mut self,
        evidence: &Evidence,
        lead: Duration,
        now: Instant,
    ) -> Option<Act> {
        match (self.stage, evidence.number) {
            (Stage::ByKeeper, _) => None,
            (Stage::Unaddressed, Some(number)) => self.address(number, evidence, lead, now),
            (Stage::Unaddressed, None) => self.find(evidence, now),
            // It created its step after all.
            (Stage::Dismissed, Some(number)) => Some(self.kill(number, now)),
            (Stage::Asked | Stage::Killed, Some(number)) if self.due <= now => {
                Some(self.kill(number, now))
            }
            _ => None,
        }
    }

    fn address(
        &mut self,
        number: u32,
        evidence: &Evidence,
        lead: Duration,
        now: Instant,
    ) -> Option<Act> {
        let is_ready = evidence.has_started() || self.is_found == Some(true);
        if !is_ready && now < self.since + START_PATIENCE {
            self.due = self.since + START_PATIENCE;
            return None;
        }
        if self.is_kill || !is_ready {
            return Some(self.kill(number, now));
        }
        self.stage = Stage::Asked;
        self.due = now.checked_add(lead).unwrap_or(now);
        Some(Act::Ask(number))
    }

    fn find(&mut self, evidence: &Evidence, now: Instant) -> Option<Act> {
        if evidence.is_waiting || self.is_found == Some(false) {
            self.stage = Stage::Dismissed;
            return Some(Act::Dismiss);
        }
        (self.due <= now).then(|| {
            self.due = now + AGAIN;
            Act::LookUp
        })
    }

    fn kill(&mut self, number: u32, now: Instant) -> Act {
        self.stage = Stage::Killed;
        self.due = now + AGAIN;
        Act::Kill(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Duration = Duration::from_secs(30);
    const CREATED: &str = "srun: launching StepId=4.7 on host n1, 1 tasks: 0";
    const STARTED: &str = "srun: x: Node n1, 1 tasks started";
    const WAITING: &str = "srun: Job 4 step creation temporarily disabled, retrying (busy)";

    /// A step that is to be stopped at second 0.
    struct Case {
        stop: Stop,
        evidence: Evidence,
        zero: Instant,
    }

    impl Case {
        fn new(said: &[&str]) -> Self {
            let zero = Instant::now();
            let mut case = Self {
                stop: Stop::new(Reason::Cancelled, zero),
                evidence: Evidence::default(),
                zero,
            };
            said.iter().for_each(|line| case.evidence.read(line));
            case
        }

        fn at(&self, second: u64) -> Instant {
            self.zero + Duration::from_secs(second)
        }

        #[track_caller]
        fn check(&mut self, second: u64, expected: Option<Act>, due: Option<u64>) {
            let now = self.at(second);
            assert_eq!(self.stop.next(&self.evidence, LEAD, now), expected);
            assert_eq!(self.stop.deadline(), due.map(|second| self.at(second)));
        }
    }

    #[test]
    fn a_step_that_runs_is_asked_and_then_killed() {
        let mut case = Case::new(&[CREATED, STARTED]);
        case.check(0, Some(Act::Ask(7)), Some(30));
        case.check(29, None, Some(30));
        case.check(30, Some(Act::Kill(7)), Some(45));
        case.check(31, None, Some(45));
        case.check(45, Some(Act::Kill(7)), Some(60));
        assert_eq!(case.stop.reason(), Reason::Cancelled);
    }

    #[test]
    fn a_kill_comes_at_once() {
        let mut case = Case::new(&[CREATED, STARTED]);
        case.stop.hurry(case.zero);
        case.check(0, Some(Act::Kill(7)), Some(15));
        let mut case = Case::new(&[CREATED, STARTED]);
        case.check(0, Some(Act::Ask(7)), Some(30));
        case.stop.hurry(case.at(3));
        case.check(3, Some(Act::Kill(7)), Some(18));
    }

    #[test]
    fn a_step_without_tasks_yet_is_waited_for() {
        let mut case = Case::new(&[CREATED]);
        case.check(0, None, Some(10));
        case.evidence.read(STARTED);
        case.check(1, Some(Act::Ask(7)), Some(31));
        let mut case = Case::new(&[CREATED]);
        case.check(0, None, Some(10));
        case.check(10, Some(Act::Kill(7)), Some(25));
    }

    #[test]
    fn a_step_without_a_number_is_asked_for() {
        let mut case = Case::new(&[]);
        case.check(0, None, Some(2));
        case.check(2, Some(Act::LookUp), Some(17));
        case.check(3, None, Some(17));
        // No answer: once more.
        case.check(17, Some(Act::LookUp), Some(32));
        case.evidence.number = Some(9);
        case.stop.looked_up(true);
        case.check(18, Some(Act::Ask(9)), Some(48));
    }

    #[test]
    fn an_srun_without_a_step_is_dismissed_once() {
        let mut case = Case::new(&[]);
        case.check(2, Some(Act::LookUp), Some(17));
        case.stop.looked_up(false);
        case.check(3, Some(Act::Dismiss), None);
        case.check(99, None, None);
        let mut case = Case::new(&[WAITING]);
        case.check(0, Some(Act::Dismiss), None);
        // It was faster.
        case.evidence.read(CREATED);
        case.check(1, Some(Act::Kill(7)), Some(16));
    }

    #[test]
    fn a_keeper_needs_no_help() {
        let mut case = Case::new(&[CREATED, STARTED]);
        case.stop = Stop::by_keeper();
        case.check(99, None, None);
    }
}
