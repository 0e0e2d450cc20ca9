//! What a crew knows, and what follows from what happens. Pure.
//!
//! Owns: where each node's worker stands, and which steps it was given. Does not know: connections, Slurm, how it
//! is found out whose doing an end is. Invariants: each step that was taken over ends exactly once, and only when no process of it can be left; a
//! node that is gone stays gone; a gang one of whose nodes is gone ends as a job of that node does, unless its
//! command succeeds.
//!
//! A worker whose connection is lost ends what it runs: its lease is over. That this is done is known from the
//! scheduler, which tells when the worker's task or the node has ended, or from the time that has passed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use torc_core::ids::{AllocationId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{LaunchStage, NodeState, Outcome, Step, StepEvent, StepSignal, Usage};
use torc_core::wire::crew::ToNode;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

use super::doubts::{Doubts, Settled};
use super::paced::Paced;

/// How long a node's worker may take to come, from the start of all.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(180);
/// How long after the loss of its connection a worker may still run something: as long as it may take to
/// notice, and to end all it runs.
pub(super) const LEASE: Duration = Duration::from_secs(75);

/// Why a node is gone that was given back.
const GIVEN_BACK: &str = "it was given back";

/// Time between two attempts to give nodes back.
const BETWEEN_RETURNS: Duration = Duration::from_secs(3);
/// After so many in a row that failed it is left: the nodes go with the allocation.
const MOST_RETURNS: u32 = 10;

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
    /// Give the nodes back to the scheduler that are not [`Books::kept`]; to be answered by
    /// [`Books::given_back`].
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
    /// It has ended as it was told, and has reported all.
    Left,
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

/// Why a worker is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// It may be later.
    pub(super) may_ask_again: bool,
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

/// The books of a crew.
#[derive(Debug)]
pub(super) struct Books {
    allocation: AllocationId,
    nodes: Vec<Node>,
    places: HashMap<Box<str>, Place>,
    steps: BTreeMap<StepId, Entry>,
    doubts: Doubts,
    returns: Paced,
    /// Attempts to give nodes back that failed, in a row.
    failed_returns: u32,
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
        let nodes: Vec<Node> = names.into_iter().map(node).collect();
        let places = nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place));
        Self {
            allocation,
            places: places.collect(),
            nodes,
            steps: BTreeMap::new(),
            doubts: Doubts::new(),
            returns: Paced::every(BETWEEN_RETURNS),
            failed_returns: 0,
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
        self.places.get(name).copied()
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
    pub(super) fn join(&mut self, name: &str) -> Result<(Place, Vec<Effect>), Refusal> {
        let for_good = |reason| Refusal { reason, may_ask_again: false };
        let place = self.place_of(name);
        let place = place.ok_or_else(|| for_good(format!("the allocation has no node {name}")))?;
        match &self.nodes[place].stand {
            Stand::Awaited(_) => {}
            // Its end may not have been noticed.
            Stand::Here(_) => {
                let reason = format!("{name} has a worker already");
                return Err(Refusal { reason, may_ask_again: true });
            }
            Stand::Cut(_, reason) | Stand::Gone(reason) => {
                return Err(for_good(format!("{name} is not used any more: {reason}")));
            }
            Stand::Left => return Err(for_good("nothing more is launched".to_owned())),
        }
        self.nodes[place].stand = Stand::Here(None);
        let mut effects = vec![Effect::Say(place, ToNode::Welcome)];
        for entry in self.steps.values_mut().filter(|entry| entry.places[0] == place) {
            effects
                .extend(entry.waiting.take().map(|step| Effect::Say(place, ToNode::Launch(step))));
        }
        if self.winding_up.is_some() {
            effects.push(Effect::Say(place, ToNode::WindUp));
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
            return self.give_back(place, now);
        }
        match said.clone() {
            Some(why) => self.lose(place, (why, Outcome::Lost), now),
            // It was told to end, and has reported all.
            None if self.winding_up.is_some() && !self.is_used(place) => {
                self.nodes[place].stand = Stand::Left;
                let held = self.doubts.steps().into_iter();
                let heard = held.flat_map(|step| self.heard(place, step));
                heard.collect()
            }
            None => {
                let why = format!("its worker is gone: {words}");
                self.nodes[place].stand = Stand::Cut(now.instant + LEASE, why.clone());
                let mut effects = vec![self.tell(place, NodeState::Down, &why, now)];
                effects.extend(self.let_go_of(place, &Outcome::Lost));
                effects
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
                Stand::Gone(_) | Stand::Left => {}
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
            over @ (Stand::Gone(_) | Stand::Left) => {
                self.nodes[place].stand = over;
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

    /// Steps whose ends are held, and which ran on a node that is lost, have ended for this cause.
    fn let_go_of(&mut self, place: Place, cause: &Outcome) -> Vec<Effect> {
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
    fn end_steps_on(&mut self, place: Place, cause: &Outcome, now: Now) -> Vec<Effect> {
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
                Stand::Gone(_) | Stand::Left => {}
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
            _ if is_used || self.winding_up.is_some() => Vec::new(),
            Stand::Here(_) if !node.is_released => {
                node.is_released = true;
                vec![Effect::Say(place, ToNode::WindUp)]
            }
            Stand::Awaited(_) => self.give_back(place, now),
            _ => Vec::new(),
        }
    }

    fn give_back(&mut self, place: Place, now: Now) -> Vec<Effect> {
        let mut effects = self.lose(place, (GIVEN_BACK.to_owned(), Outcome::Lost), now);
        effects.extend(self.returns.want(now.instant).then_some(Effect::GiveBack));
        effects
    }

    /// Nodes were given back, or could not be.
    pub(super) fn given_back(&mut self, is_done: bool, now: Now) -> Vec<Effect> {
        self.returns.end();
        self.failed_returns = if is_done { 0 } else { self.failed_returns + 1 };
        let tries_again = !is_done && self.failed_returns < MOST_RETURNS;
        let begins = tries_again && self.returns.want(now.instant);
        begins.then_some(Effect::GiveBack).into_iter().collect()
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

    fn doubt(&mut self, step: StepId, end: StepEvent, now: Now) -> Vec<Effect> {
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
    pub(super) fn heard(&mut self, place: Place, step: StepId) -> Vec<Effect> {
        let settled = self.doubts.heard(step, place);
        settled.map(|settled| self.settle(settled)).unwrap_or_default()
    }

    /// Where the allocation stood, when that was asked for at `asked`.
    pub(super) fn stands(&mut self, standing: Standing, asked: Instant) -> Vec<Effect> {
        let settled = self.doubts.answered(standing, asked);
        settled.into_iter().flat_map(|settled| self.settle(settled)).collect()
    }

    /// Reports the end of a step, as what it is called where the allocation stands like this.
    fn settle(&mut self, (step, end, standing): Settled) -> Vec<Effect> {
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

    /// Nothing is launched any more, and what runs is asked to end. When the scheduler takes the allocation away
    /// (`is_taken`), only success is a job's own doing.
    pub(super) fn wind_up(&mut self, is_taken: bool, now: Now) -> Vec<Effect> {
        if let Some(known) = &mut self.winding_up {
            *known |= is_taken;
            return if is_taken { self.settle_all(Standing::Ended) } else { Vec::new() };
        }
        self.winding_up = Some(is_taken);
        let mut effects = self.end_waiting(now);
        if is_taken {
            effects.extend(self.settle_all(Standing::Ended));
        }
        for (place, node) in self.nodes.iter().enumerate() {
            if matches!(node.stand, Stand::Here(_)) {
                effects.push(Effect::Say(place, ToNode::WindUp));
            }
        }
        effects
    }

    fn settle_all(&mut self, standing: Standing) -> Vec<Effect> {
        let held = self.doubts.steps().into_iter();
        let settled = held.filter_map(|step| Some((step, self.doubts.let_go(step)?, standing)));
        let settled: Vec<Settled> = settled.collect();
        settled.into_iter().flat_map(|settled| self.settle(settled)).collect()
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
            Stand::Here(_) | Stand::Gone(_) | Stand::Left => None,
        });
        due.chain(self.doubts.deadline()).chain(self.returns.deadline()).min()
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
        effects.extend(self.doubts.ask_if_due(now.instant).then_some(Effect::AskStanding));
        effects.extend(self.returns.begin_if_due(now.instant).then_some(Effect::GiveBack));
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

fn ended(step: StepId, outcome: Outcome, now: Now) -> Effect {
    Effect::Emit(StepEvent::Ended { step, at: now.at, outcome, usage: Usage::default() })
}

#[cfg(test)]
mod tests;
