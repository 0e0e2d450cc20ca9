//! What a crew knows, and what follows from what happens. Pure.
//!
//! Owns: where each node's worker stands, and which steps it was given. Does not know: connections, Slurm.
//! Invariants: each step that was taken over ends exactly once, and only when no process of it can be left; a
//! node that is gone stays gone; a gang one of whose nodes is gone ends as a job of that node does, unless its
//! command succeeds.
//!
//! A worker whose connection is lost ends what it runs: its lease is over. That this is done is known from the
//! scheduler, which tells when the worker's task or the node has ended, or from the time that has passed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use torc_core::ids::{AllocationId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{LaunchStage, NodeState, Outcome, Step, StepEvent, StepSignal, Usage};
use torc_core::wire::crew::ToNode;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

/// How long a node's worker may take to come, from the start of all.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(180);
/// How long after the loss of its connection a worker may still run something: as long as it may take to
/// notice, and to end all it runs.
pub(super) const LEASE: Duration = Duration::from_secs(75);

/// Why a node is gone that was given back.
const GIVEN_BACK: &str = "it was given back";

/// Time between two questions where the allocation stands.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(500);

/// A place in the list of nodes.
pub(super) type Place = usize;

/// The moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) at: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Say something to a node's worker.
    Say(Place, ToNode),
    /// Close the connection to a node's worker.
    Dismiss(Place),
    /// Report something.
    Emit(StepEvent),
    /// End what these jobs may have left in Slurm, whose workers are gone; to be answered by
    /// [`Books::cleared`].
    Clear(Vec<Traces>),
    /// Give the nodes back to the scheduler that are not [`Books::kept`].
    GiveBack,
    /// Ask where the allocation stands; to be answered by [`Books::stands`].
    AskStanding,
}

/// Where a node's worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    /// It has not come yet, and must by then.
    Awaited(Instant),
    /// It is connected. What the scheduler has said of its end, if it has.
    Here(Option<String>),
    /// Its connection is lost; it is over by then.
    Cut(Instant, String),
    /// It is over, for this reason.
    Gone(String),
}

#[derive(Clone, Debug)]
struct Node {
    name: Box<str>,
    stand: Stand,
    /// The scheduler's word on it.
    state: NodeState,
    /// Its worker was told to end, for the node is to be given back.
    is_released: bool,
    /// Its worker has ended, and is started again.
    comes_again: bool,
}

/// A step that was taken over.
#[derive(Clone, Debug)]
struct Entry {
    /// Its nodes; the first starts it.
    places: Vec<Place>,
    /// It waits for the worker of its first node.
    waiting: Option<Box<Step>>,
    /// Its end is not the job's own doing.
    is_asked: bool,
    /// Another node of it is gone: how it ends, whatever its command does.
    doom: Option<Outcome>,
    /// It has ended like this, and what it may have left is being ended.
    clearing: Option<Outcome>,
}

/// An end that may be the scheduler's doing.
#[derive(Clone, Debug)]
struct Doubt {
    event: StepEvent,
    step: StepId,
    since: Instant,
}

/// The books of a crew.
#[derive(Debug)]
pub(super) struct Books {
    allocation: AllocationId,
    nodes: Vec<Node>,
    steps: BTreeMap<StepId, Entry>,
    doubts: Vec<Doubt>,
    is_asking: bool,
    /// When the last question was asked.
    asked_at: Option<Instant>,
    /// When the next is to be.
    ask_at: Option<Instant>,
    /// Nothing is launched any more; whether because the scheduler takes the allocation away.
    winding_up: Option<bool>,
}

impl Books {
    /// Nodes whose workers are being started.
    pub(super) fn new(
        allocation: AllocationId,
        names: impl IntoIterator<Item = Box<str>>,
        now: Now,
    ) -> Self {
        let stand = Stand::Awaited(now.instant + COMES_WITHIN);
        let node = |name| Node {
            name,
            stand: stand.clone(),
            state: NodeState::Up,
            is_released: false,
            comes_again: false,
        };
        Self {
            allocation,
            nodes: names.into_iter().map(node).collect(),
            steps: BTreeMap::new(),
            doubts: Vec::new(),
            is_asking: false,
            asked_at: None,
            ask_at: None,
            winding_up: None,
        }
    }

    /// The steps that have not ended.
    pub(super) fn steps(&self) -> impl Iterator<Item = StepId> {
        self.steps.keys().copied()
    }

    /// Whether all has been done that was to be: nothing more is launched, and no worker has anything to tell.
    pub(super) fn is_done(&self) -> bool {
        let has_more = |node: &Node| matches!(node.stand, Stand::Here(_));
        self.winding_up.is_some() && self.steps.is_empty() && !self.nodes.iter().any(has_more)
    }

    /// A node's place.
    pub(super) fn place_of(&self, name: &str) -> Option<Place> {
        self.nodes.iter().position(|node| &*node.name == name)
    }

    /// Whether a node's worker is still waited for.
    pub(super) fn may_come(&self, place: Place) -> bool {
        matches!(self.nodes[place].stand, Stand::Awaited(_))
    }

    /// Takes a step over.
    pub(super) fn launch(&mut self, step: Box<Step>, now: Now) -> Vec<Effect> {
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
            |place: &Place| matches!(self.nodes[*place].stand, Stand::Gone(_) | Stand::Cut(..));
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
        let (order, waiting) = match self.nodes[first].stand {
            Stand::Here(_) => (Some(Effect::Say(first, ToNode::Launch(step))), None),
            _ => (None, Some(step)),
        };
        let entry = Entry { places, waiting, is_asked: false, doom: None, clearing: None };
        self.steps.insert(id, entry);
        order.into_iter().collect()
    }

    /// Passes a signal on.
    pub(super) fn signal(&mut self, id: StepId, signal: StepSignal, now: Now) -> Vec<Effect> {
        let Some(entry) = self.steps.get_mut(&id) else { return Vec::new() };
        entry.is_asked = true;
        if entry.waiting.is_some() {
            self.steps.remove(&id);
            return vec![ended(id, Outcome::Cancelled, now)];
        }
        vec![Effect::Say(entry.places[0], ToNode::Signal(id, signal))]
    }

    /// A node's worker has come. Its place, and what it is told; or why it is not taken in.
    pub(super) fn join(&mut self, name: &str) -> Result<(Place, Vec<Effect>), String> {
        let place =
            self.place_of(name).ok_or_else(|| format!("the allocation has no node {name}"))?;
        match &self.nodes[place].stand {
            Stand::Awaited(_) => {}
            Stand::Here(_) => return Err(format!("{name} has a worker already")),
            Stand::Cut(_, reason) | Stand::Gone(reason) => {
                return Err(format!("{name} is not used any more: {reason}"));
            }
        }
        self.nodes[place].stand = Stand::Here(None);
        let mut effects = vec![Effect::Say(place, ToNode::Welcome)];
        for entry in self.steps.values_mut().filter(|entry| entry.places[0] == place) {
            effects
                .extend(entry.waiting.take().map(|step| Effect::Say(place, ToNode::Launch(step))));
        }
        if let Some(is_taken) = self.winding_up {
            effects.push(Effect::Say(place, ToNode::WindUp { is_taken }));
        }
        Ok((place, effects))
    }

    /// The connection to a node's worker has ended.
    pub(super) fn leave(&mut self, place: Place, words: &str, now: Now) -> Vec<Effect> {
        let Stand::Here(said) = &self.nodes[place].stand else { return Vec::new() };
        if self.nodes[place].comes_again {
            return self.await_again(place, now);
        }
        if self.nodes[place].is_released {
            let mut effects = self.lose(place, (GIVEN_BACK.to_owned(), Outcome::Lost), now);
            effects.push(Effect::GiveBack);
            return effects;
        }
        match said.clone() {
            Some(why) => self.lose(place, (why, Outcome::Lost), now),
            // It was told to end, and has reported all.
            None if self.winding_up.is_some() && !self.is_used(place) => {
                self.nodes[place].stand = Stand::Gone("as told".to_owned());
                Vec::new()
            }
            None => {
                let why = format!("its worker is gone: {words}");
                self.nodes[place].stand = Stand::Cut(now.instant + LEASE, why.clone());
                vec![self.tell(place, NodeState::Down, &why, now)]
            }
        }
    }

    /// The scheduler says that the workers of these nodes have ended. What they said before is still to be
    /// heard.
    pub(super) fn workers_ended(&mut self, names: &[String], words: &str, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for place in names.iter().filter_map(|name| self.place_of(name)).collect::<Vec<_>>() {
            let why = format!("its worker has ended: {words}");
            match &mut self.nodes[place].stand {
                Stand::Here(said) => *said = said.take().or(Some(why)),
                Stand::Awaited(_) | Stand::Cut(..) => {
                    effects.extend(self.lose(place, (why, Outcome::Lost), now));
                }
                Stand::Gone(_) => {}
            }
        }
        effects
    }

    /// The scheduler says that these nodes have failed, or left the allocation.
    pub(super) fn nodes_failed(&mut self, names: &[String], words: &str, now: Now) -> Vec<Effect> {
        let places: Vec<Place> = names.iter().filter_map(|name| self.place_of(name)).collect();
        let why = || (words.to_owned(), Outcome::NodeFailed);
        places.into_iter().flat_map(|place| self.lose(place, why(), now)).collect()
    }

    /// The scheduler's word on a node that has not failed.
    pub(super) fn node_is(
        &mut self,
        name: &str,
        state: NodeState,
        words: &str,
        now: Now,
    ) -> Vec<Effect> {
        let Some(place) = self.place_of(name) else { return Vec::new() };
        if state == NodeState::Down {
            return self.lose(place, (words.to_owned(), Outcome::NodeFailed), now);
        }
        let is_good = matches!(self.nodes[place].stand, Stand::Awaited(_) | Stand::Here(_));
        if !is_good || self.nodes[place].state == state {
            return Vec::new();
        }
        self.nodes[place].state = state;
        vec![self.tell(place, state, words, now)]
    }

    /// A node's worker is over, and with it all that ran there. Why, and how the steps there end.
    fn lose(&mut self, place: Place, (why, cause): (String, Outcome), now: Now) -> Vec<Effect> {
        let stand = std::mem::replace(&mut self.nodes[place].stand, Stand::Gone(why.clone()));
        let mut effects = match stand {
            Stand::Gone(reason) => {
                self.nodes[place].stand = Stand::Gone(reason);
                return Vec::new();
            }
            Stand::Cut(..) => Vec::new(),
            Stand::Awaited(_) => vec![self.tell(place, NodeState::Down, &why, now)],
            Stand::Here(_) => {
                vec![self.tell(place, NodeState::Down, &why, now), Effect::Dismiss(place)]
            }
        };
        effects.extend(self.end_steps_on(place, &cause, now));
        effects
    }

    /// Whatever ran on a node is over, and has ended for this cause.
    fn end_steps_on(&mut self, place: Place, cause: &Outcome, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
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

    fn is_used(&self, place: Place) -> bool {
        self.steps.values().any(|entry| entry.places[0] == place)
    }

    /// The workers of these nodes have ended, since not all could be started, and are started again.
    pub(super) fn start_again(&mut self, names: &[String], now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for place in names.iter().filter_map(|name| self.place_of(name)).collect::<Vec<_>>() {
            match self.nodes[place].stand {
                // What it said before is still to be heard.
                Stand::Here(_) => self.nodes[place].comes_again = true,
                Stand::Awaited(_) => {
                    self.nodes[place].stand = Stand::Awaited(now.instant + COMES_WITHIN);
                }
                Stand::Cut(..) => effects.extend(self.await_again(place, now)),
                Stand::Gone(_) => {}
            }
        }
        effects
    }

    fn await_again(&mut self, place: Place, now: Now) -> Vec<Effect> {
        let mut effects = self.end_steps_on(place, &Outcome::Lost, now);
        let node = &mut self.nodes[place];
        let was_told = matches!(node.stand, Stand::Cut(..));
        node.stand = Stand::Awaited(now.instant + COMES_WITHIN);
        node.comes_again = false;
        let state = node.state;
        if was_told {
            effects.push(self.tell(place, state, "its worker is started again", now));
        }
        effects
    }

    /// A node is to be given back: its worker ends. The first node is kept, and one on which something runs.
    pub(super) fn release(&mut self, name: &str, now: Now) -> Vec<Effect> {
        let Some(place) = self.place_of(name).filter(|place| *place > 0) else { return Vec::new() };
        let is_used = self.steps.values().any(|entry| entry.places.contains(&place));
        let node = &mut self.nodes[place];
        match node.stand {
            Stand::Here(_) if !is_used && !node.is_released => {
                node.is_released = true;
                vec![Effect::Say(place, ToNode::WindUp { is_taken: false })]
            }
            Stand::Awaited(_) if !is_used => {
                let mut effects = self.lose(place, (GIVEN_BACK.to_owned(), Outcome::Lost), now);
                effects.push(Effect::GiveBack);
                effects
            }
            _ => Vec::new(),
        }
    }

    /// The names of the nodes that are kept when one is given back: the first, and those that are used.
    pub(super) fn kept(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let kept =
            nodes.filter(|(place, node)| *place == 0 || !matches!(node.stand, Stand::Gone(_)));
        kept.map(|(_, node)| node.name.to_string()).collect()
    }

    /// Nothing is left of these steps on any node.
    pub(super) fn cleared(&mut self, steps: &[StepId], now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for step in steps {
            let outcome = self.steps.remove(step).and_then(|entry| entry.clearing);
            effects.extend(outcome.map(|outcome| ended(*step, outcome, now)));
        }
        effects
    }

    /// A node's worker reports something.
    pub(super) fn report(&mut self, place: Place, event: StepEvent, now: Now) -> Vec<Effect> {
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
        // Ranks on a node whose worker is lost may have gone with it, and the others with them.
        let has_lost = entry
            .places
            .iter()
            .any(|at| matches!(self.nodes[*at].stand, Stand::Cut(..) | Stand::Gone(_)));
        let doom = entry.doom.clone().or(has_lost.then_some(Outcome::Lost));
        if let Some(doom) = doom.filter(|_| outcome != Outcome::Exited { code: 0 }) {
            self.steps.remove(&step);
            return vec![Effect::Emit(StepEvent::Ended { step, at, outcome: doom, usage })];
        }
        let is_doubtful = !entry.is_asked && may_be_the_schedulers_doing(&outcome)
            // Its worker was asked to end, and not by us.
            || is_stray(entry, &outcome) && self.winding_up.is_none();
        let event = StepEvent::Ended { step, at, outcome, usage };
        match self.winding_up {
            Some(true) if is_doubtful => self.settle(step, event, Standing::Ended),
            _ if !is_doubtful => self.settle(step, event, Standing::Lives),
            _ => {
                self.doubts.push(Doubt { event, step, since: now.instant });
                self.ask(now.instant)
            }
        }
    }

    /// Asks, unless a question is under way or has just been: many jobs that fail share one.
    fn ask(&mut self, now: Instant) -> Vec<Effect> {
        let may_at = self.asked_at.map_or(now, |at| at + BETWEEN_QUESTIONS);
        if self.is_asking || may_at > now {
            self.ask_at = Some(may_at);
            return Vec::new();
        }
        (self.is_asking, self.asked_at, self.ask_at) = (true, Some(now), None);
        vec![Effect::AskStanding]
    }

    /// Where the allocation stood, when that was asked for at `asked`.
    pub(super) fn stands(&mut self, standing: Standing, asked: Instant) -> Vec<Effect> {
        self.is_asking = false;
        let doubts = std::mem::take(&mut self.doubts);
        let (known, open): (Vec<_>, Vec<_>) =
            doubts.into_iter().partition(|doubt| doubt.since <= asked);
        self.doubts = open;
        let mut effects = Vec::new();
        for doubt in known {
            effects.extend(self.settle(doubt.step, doubt.event, standing));
        }
        if !self.doubts.is_empty() {
            let next = self.asked_at.map_or(asked, |at| at + BETWEEN_QUESTIONS);
            self.ask_at = Some(next);
        }
        effects
    }

    /// Reports the end of a step, as what it is called where the allocation stands like this.
    fn settle(&mut self, step: StepId, event: StepEvent, standing: Standing) -> Vec<Effect> {
        let Some(entry) = self.steps.remove(&step) else { return Vec::new() };
        let outside = match standing {
            Standing::Lives if self.winding_up.is_none() && has_strayed(&entry, &event) => {
                Some(Outcome::Lost)
            }
            Standing::Lives => None,
            Standing::Preempted => Some(Outcome::Preempted),
            Standing::Ended => Some(Outcome::Lost),
        };
        vec![Effect::Emit(match (event, outside) {
            (StepEvent::Ended { step, at, usage, .. }, Some(outcome)) => {
                StepEvent::Ended { step, at, outcome, usage }
            }
            (event, _) => event,
        })]
    }

    /// Nothing is launched any more, and what runs is asked to end. When the scheduler takes the allocation away
    /// (`is_taken`), only success is a job's own doing.
    pub(super) fn wind_up(&mut self, is_taken: bool, now: Now) -> Vec<Effect> {
        if let Some(known) = &mut self.winding_up {
            *known |= is_taken;
            return if is_taken { self.stands(Standing::Ended, now.instant) } else { Vec::new() };
        }
        self.winding_up = Some(is_taken);
        let mut effects = self.end_waiting(now);
        if is_taken {
            effects.extend(self.stands(Standing::Ended, now.instant));
        }
        for (place, node) in self.nodes.iter().enumerate() {
            if matches!(node.stand, Stand::Here(_)) {
                effects.push(Effect::Say(place, ToNode::WindUp { is_taken }));
            }
        }
        effects
    }

    fn end_waiting(&mut self, now: Now) -> Vec<Effect> {
        let waiting = self.steps.iter().filter(|(_, entry)| entry.waiting.is_some());
        let waiting: Vec<StepId> = waiting.map(|(&id, _)| id).collect();
        let ends = waiting.into_iter().map(|id| {
            self.steps.remove(&id);
            ended(id, Outcome::Cancelled, now)
        });
        ends.collect()
    }

    /// The earliest time at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.nodes.iter().filter_map(|node| match node.stand {
            Stand::Awaited(until) | Stand::Cut(until, _) => Some(until),
            Stand::Here(_) | Stand::Gone(_) => None,
        });
        due.chain(self.ask_at.filter(|_| !self.is_asking)).min()
    }

    /// This process was given no time for so long, and the workers perhaps none either: all have that much longer.
    pub(super) fn give_time(&mut self, more: Duration) {
        for node in &mut self.nodes {
            if let Stand::Awaited(until) | Stand::Cut(until, _) = &mut node.stand {
                *until += more;
            }
        }
    }

    /// Does what is due.
    pub(super) fn mind_deadlines(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ask_at.is_some_and(|at| at <= now.instant) {
            effects.extend(self.ask(now.instant));
        }
        for place in 0..self.nodes.len() {
            let why = match &self.nodes[place].stand {
                Stand::Awaited(until) if *until <= now.instant => {
                    format!("its worker did not come within {} s", COMES_WITHIN.as_secs())
                }
                Stand::Cut(until, why) if *until <= now.instant => why.clone(),
                _ => continue,
            };
            effects.extend(self.lose(place, (why, Outcome::Lost), now));
        }
        effects
    }

    fn tell(&self, place: Place, state: NodeState, reason: &str, now: Now) -> Effect {
        Effect::Emit(StepEvent::NodeChanged {
            allocation: self.allocation,
            node: self.nodes[place].name.clone(),
            at: now.at,
            state,
            reason: reason.to_owned(),
        })
    }
}

/// The scheduler asks the processes of a job themselves to end, when it takes an allocation away.
fn may_be_the_schedulers_doing(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Exited { code } => *code != 0,
        Outcome::Signaled { .. } => true,
        _ => false,
    }
}

/// Whether a step was ended although nobody wished so.
fn is_stray(entry: &Entry, outcome: &Outcome) -> bool {
    !entry.is_asked && *outcome == Outcome::Cancelled
}

fn has_strayed(entry: &Entry, event: &StepEvent) -> bool {
    matches!(event, StepEvent::Ended { outcome, .. } if is_stray(entry, outcome))
}

fn ended(step: StepId, outcome: Outcome, now: Now) -> Effect {
    Effect::Emit(StepEvent::Ended { step, at: now.at, outcome, usage: Usage::default() })
}

#[cfg(test)]
mod tests;
