//! Ends of jobs that may not be their own doing, held until that is known. Pure.
//!
//! A job fails as well when the scheduler takes the allocation away, or when a node is lost on which ranks of its own
//! ran; both may be noticed later than that end. So the scheduler is asked where the allocation stands, and the
//! workers of a gang's other nodes have to show that they are there.
//!
//! Owns: which ends are held, and what each waits for. Does not know: what follows from an answer. Invariant: an
//! end is let go once, and only when both are known, or either of them tells that it was not the job's doing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use torc_core::ids::StepId;
use torc_core::traits::StepEvent;
use torc_executors::slurm::Standing;

use super::books::Place;
use super::paced::Paced;

/// Time between two questions where the allocation stands: many jobs that fail share one.
pub(super) const BETWEEN_QUESTIONS: Duration = Duration::from_millis(500);

/// An end that is let go, and where the allocation stood.
pub(super) type Settled = (StepId, StepEvent, Standing);

#[derive(Debug)]
struct Doubt {
    end: StepEvent,
    since: Instant,
    /// Workers that have not shown since that they are there.
    unheard: Vec<Place>,
    /// Where the allocation stood afterwards.
    standing: Option<Standing>,
}

/// The ends that are held.
#[derive(Debug)]
pub(super) struct Doubts {
    held: BTreeMap<StepId, Doubt>,
    questions: Paced,
}

impl Doubts {
    /// None.
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), questions: Paced::every(BETWEEN_QUESTIONS) }
    }

    /// Holds an end, until these workers have been heard, too. Whether to ask the scheduler now.
    pub(super) fn hold(
        &mut self,
        step: StepId,
        end: StepEvent,
        unheard: Vec<Place>,
        now: Instant,
    ) -> bool {
        self.held.insert(step, Doubt { end, since: now, unheard, standing: None });
        self.questions.want(now)
    }

    /// A worker has shown that it is there, for the sake of this step.
    pub(super) fn heard(&mut self, step: StepId, place: Place) -> Option<Settled> {
        self.held.get_mut(&step)?.unheard.retain(|unheard| *unheard != place);
        self.settle(step)
    }

    /// Where the allocation stood, when that was asked for at `asked`.
    pub(super) fn answered(&mut self, standing: Standing, asked: Instant) -> Vec<Settled> {
        self.questions.end();
        let known = self.held.iter_mut().filter(|(_, doubt)| doubt.since <= asked);
        let known = known.map(|(step, doubt)| {
            doubt.standing = Some(standing);
            *step
        });
        known.collect::<Vec<_>>().into_iter().filter_map(|step| self.settle(step)).collect()
    }

    fn settle(&mut self, step: StepId) -> Option<Settled> {
        let doubt = self.held.get(&step)?;
        let standing = doubt.standing?;
        if standing == Standing::Lives && !doubt.unheard.is_empty() {
            return None;
        }
        Some((step, self.let_go(step)?, standing))
    }

    /// What is known of a step by other means decides: its end is not held any more.
    pub(super) fn let_go(&mut self, step: StepId) -> Option<StepEvent> {
        self.held.remove(&step).map(|doubt| doubt.end)
    }

    /// Whether the end of a step is held.
    pub(super) fn holds(&self, step: StepId) -> bool {
        self.held.contains_key(&step)
    }

    /// All that are held.
    pub(super) fn steps(&self) -> Vec<StepId> {
        self.held.keys().copied().collect()
    }

    /// When the scheduler is to be asked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.questions.deadline()
    }

    /// Whether to ask now, since it is due.
    pub(super) fn ask_if_due(&mut self, now: Instant) -> bool {
        self.questions.begin_if_due(now)
    }
}
