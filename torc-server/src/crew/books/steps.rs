//! What happens to the steps that a crew was given.
//!
//! Does not know how a node came to be lost.

use std::time::Instant;

use torc_core::ids::StepId;
use torc_core::traits::{LaunchStage, Outcome, Step, StepEvent, StepSignal, Usage};
use torc_core::wire::crew::ToNode;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

use super::{Books, Effect, Entry, Now, Place, Settled, Stand};

impl Books {
    /// Takes a step over.
    pub(in crate::crew) fn launch(&mut self, step: Box<Step>, now: Now) -> Vec<Effect> {
        let id = step.id;
        if self.steps.contains_key(&id) {
            return Vec::new();
        }
        let places: Option<Vec<Place>> =
            step.nodes.iter().map(|node| self.place_of(&node.name)).collect();
        let Some(places) = places.filter(|places| !places.is_empty()) else {
            let names: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
            let reason = format!("the allocation has no such node: {}", names.join(", "));
            let outcome = Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
            return vec![ended(id, outcome, now)];
        };
        let first = places[0];
        let is_lost =
            |place: &Place| !matches!(self.nodes[*place].stand, Stand::Here(_) | Stand::Awaited(_));
        let outcome = if self.winding_up.is_some() {
            Some(Outcome::Cancelled)
        } else if places.iter().any(is_lost) {
            Some(Outcome::NodeFailed)
        } else {
            None
        };
        if let Some(outcome) = outcome {
            return vec![ended(id, outcome, now)];
        }
        let gang = (places.len() > 1).then(|| step.clone());
        let (order, waiting) = match self.nodes[first].stand {
            Stand::Here(_) => (Some(Effect::Say(first, ToNode::Launch(step))), None),
            _ => (None, Some(step)),
        };
        let entry = Entry { places, gang, waiting, is_asked: false, doom: None, clearing: None };
        self.steps.insert(id, entry);
        order.into_iter().collect()
    }

    /// Where a helper of a job would run on one of its nodes, and the job's step.
    ///
    /// # Errors
    /// When it cannot: why.
    pub(in crate::crew) fn helped(&self, id: StepId, node: &str) -> Result<(Place, Step), String> {
        let entry = self.steps.get(&id).filter(|entry| entry.waiting.is_none());
        let gang = entry.and_then(|entry| Some((entry, entry.gang.as_ref()?)));
        let (entry, step) =
            gang.ok_or_else(|| format!("{id} is no job on several nodes that runs"))?;
        let place = self.place_of(node).filter(|place| entry.places.contains(place));
        let place = place.ok_or_else(|| {
            let own: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
            format!("{node} is none of this job's nodes, which are {}", own.join(", "))
        })?;
        let is_here = matches!(self.nodes[place].stand, Stand::Here(_));
        if !is_here || entry.doom.is_some() || entry.clearing.is_some() {
            return Err(format!("{node}, or another node of this job, is lost"));
        }
        Ok((place, (**step).clone()))
    }

    /// Passes a signal on.
    pub(in crate::crew) fn signal(
        &mut self,
        id: StepId,
        signal: StepSignal,
        now: Now,
    ) -> Vec<Effect> {
        let Some(entry) = self.steps.get_mut(&id) else { return Vec::new() };
        entry.is_asked = true;
        if entry.waiting.is_some() {
            self.steps.remove(&id);
            return vec![ended(id, Outcome::Cancelled, now)];
        }
        vec![Effect::Say(entry.places[0], ToNode::Signal(id, signal))]
    }

    /// Steps whose ends are held, and which ran on a node that is lost, have ended for this cause.
    pub(super) fn let_go_of(&mut self, place: Place, cause: &Outcome) -> Vec<Effect> {
        let mut effects = Vec::new();
        for step in self.doubts.steps() {
            if self.steps.get(&step).is_some_and(|entry| entry.places.contains(&place)) {
                self.steps.remove(&step);
                effects.extend(self.doubts.let_go(step).map(|end| called(end, cause.clone())));
            }
        }
        effects
    }

    /// Whatever ran on a node is over, and has ended for this cause.
    pub(super) fn end_steps_on(&mut self, place: Place, cause: &Outcome, now: Now) -> Vec<Effect> {
        let mut effects = self.let_go_of(place, cause);
        let (mut over, mut to_clear) = (Vec::new(), Vec::new());
        for (&id, entry) in &mut self.steps {
            let is_open = entry.places.contains(&place) && entry.clearing.is_none();
            match (is_open, entry.places.as_slice(), &entry.waiting) {
                (false, ..) => {}
                (true, _, Some(_)) => over.push((id, Outcome::NodeFailed)),
                // Nothing can be left on the only node, which is dead.
                (true, [_], None) if *cause == Outcome::NodeFailed => {
                    over.push((id, cause.clone()));
                }
                (true, [first, ..], None) if *first == place => {
                    entry.clearing = Some(cause.clone());
                    let names = entry.places.iter().map(|at| self.nodes[*at].name.to_string());
                    let is_gang = entry.places.len() > 1;
                    let whole_nodes = names.filter(|_| is_gang).collect();
                    to_clear.push(Traces { step: id, whole_nodes, sruns: Vec::new() });
                }
                (true, ..) => {
                    entry.doom = Some(cause.clone());
                    let kill = ToNode::Signal(id, StepSignal::Kill);
                    effects.push(Effect::Say(entry.places[0], kill));
                }
            }
        }
        for (id, outcome) in over {
            self.steps.remove(&id);
            effects.push(ended(id, outcome, now));
        }
        if !to_clear.is_empty() {
            effects.push(Effect::Clear(to_clear));
        }
        effects
    }

    /// Whether a worker has a step whose end it has not reported.
    pub(super) fn is_used(&self, place: Place) -> bool {
        let mut open = self.steps.iter().filter(|(step, _)| !self.doubts.holds(**step));
        open.any(|(_, entry)| entry.places[0] == place)
    }

    /// Nothing is left of these steps on any node.
    pub(in crate::crew) fn cleared(&mut self, steps: &[StepId], now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for step in steps {
            let outcome = self.steps.remove(step).and_then(|entry| entry.clearing);
            effects.extend(outcome.map(|outcome| ended(*step, outcome, now)));
        }
        effects
    }

    /// A node's worker reports something.
    pub(in crate::crew) fn report(
        &mut self,
        place: Place,
        event: StepEvent,
        now: Now,
    ) -> Vec<Effect> {
        let (StepEvent::Started { step, .. } | StepEvent::Ended { step, .. }) = event else {
            return Vec::new();
        };
        let Some(entry) = self.steps.get(&step) else { return Vec::new() };
        if entry.places[0] != place || entry.clearing.is_some() {
            return Vec::new();
        }
        let StepEvent::Ended { at, outcome, usage, .. } = event else {
            return vec![Effect::Emit(event)];
        };
        let end = StepEvent::Ended { step, at, outcome, usage };
        // Ranks on a node whose worker is lost may have gone with it, and the others with them.
        let is_lost = |at: &Place| matches!(self.nodes[*at].stand, Stand::Cut(..) | Stand::Gone(_));
        let has_lost = entry.places.iter().any(is_lost);
        let doom = entry.doom.clone().or(has_lost.then_some(Outcome::Lost));
        if let Some(doom) = doom.filter(|_| !is_success(&end)) {
            self.steps.remove(&step);
            return vec![called(end, doom)];
        }
        let is_doubtful = may_be_the_schedulers_doing(entry, &end)
            // Its worker was asked to end, and not by us.
            || has_strayed(entry, &end) && self.winding_up.is_none();
        match self.winding_up {
            _ if !is_doubtful => self.settle((step, end, Standing::Lives)),
            Some(true) => self.settle((step, end, Standing::Ended)),
            _ => self.doubt(step, end, now),
        }
    }

    pub(super) fn doubt(&mut self, step: StepId, end: StepEvent, now: Now) -> Vec<Effect> {
        let others = self.steps.get(&step).map_or(&[][..], |entry| &entry.places[1..]);
        let is_here = |place: &&Place| matches!(self.nodes[**place].stand, Stand::Here(_));
        let unheard: Vec<Place> = others.iter().filter(is_here).copied().collect();
        let probe = |&place: &Place| Effect::Say(place, ToNode::Probe(step));
        let mut effects: Vec<Effect> = unheard.iter().map(probe).collect();
        let asks = self.doubts.hold(step, end, unheard, now.instant);
        effects.extend(asks.then_some(Effect::AskStanding));
        effects
    }

    /// A node's worker is there, as it was asked to show for the sake of a step.
    pub(in crate::crew) fn heard(&mut self, place: Place, step: StepId) -> Vec<Effect> {
        let settled = self.doubts.heard(step, place);
        settled.map(|settled| self.settle(settled)).unwrap_or_default()
    }

    /// Where the allocation stood, when that was asked for at `asked`.
    pub(in crate::crew) fn stands(&mut self, standing: Standing, asked: Instant) -> Vec<Effect> {
        let settled = self.doubts.answered(standing, asked);
        settled.into_iter().flat_map(|settled| self.settle(settled)).collect()
    }

    /// Reports the end of a step, as what it is called where the allocation stands like this.
    pub(super) fn settle(&mut self, (step, end, standing): Settled) -> Vec<Effect> {
        let Some(entry) = self.steps.remove(&step) else { return Vec::new() };
        vec![match standing {
            Standing::Lives if self.winding_up.is_none() && has_strayed(&entry, &end) => {
                called(end, Outcome::Lost)
            }
            Standing::Lives => Effect::Emit(end),
            Standing::Preempted => called(end, Outcome::Preempted),
            Standing::Ended => called(end, Outcome::Lost),
        }]
    }

    pub(super) fn settle_all(&mut self, standing: Standing) -> Vec<Effect> {
        let held = self.doubts.steps().into_iter();
        let settled = held.filter_map(|step| Some((step, self.doubts.let_go(step)?, standing)));
        let settled: Vec<Settled> = settled.collect();
        settled.into_iter().flat_map(|settled| self.settle(settled)).collect()
    }

    pub(super) fn end_waiting(&mut self, now: Now) -> Vec<Effect> {
        let waiting = self.steps.iter().filter(|(_, entry)| entry.waiting.is_some());
        let waiting: Vec<StepId> = waiting.map(|(&id, _)| id).collect();
        let ends = waiting.into_iter().map(|id| {
            self.steps.remove(&id);
            ended(id, Outcome::Cancelled, now)
        });
        ends.collect()
    }
}

/// The scheduler asks the processes of a job themselves to end, when it takes an allocation away.
fn may_be_the_schedulers_doing(entry: &Entry, end: &StepEvent) -> bool {
    let is_of_such = matches!(
        end,
        StepEvent::Ended { outcome: Outcome::Exited { .. } | Outcome::Signaled { .. }, .. }
    );
    is_of_such && !is_success(end) && !entry.is_asked
}

fn is_success(end: &StepEvent) -> bool {
    matches!(end, StepEvent::Ended { outcome: Outcome::Exited { code: 0 }, .. })
}

/// Whether a step was ended although nobody wished so.
fn has_strayed(entry: &Entry, end: &StepEvent) -> bool {
    !entry.is_asked && matches!(end, StepEvent::Ended { outcome: Outcome::Cancelled, .. })
}

/// Reports an end as one for this cause.
fn called(end: StepEvent, cause: Outcome) -> Effect {
    Effect::Emit(match end {
        StepEvent::Ended { step, at, usage, .. } => {
            StepEvent::Ended { step, at, outcome: cause, usage }
        }
        other => other,
    })
}

pub(super) fn ended(step: StepId, outcome: Outcome, now: Now) -> Effect {
    Effect::Emit(StepEvent::Ended { step, at: now.at, outcome, usage: Usage::default() })
}
