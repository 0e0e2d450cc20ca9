//! What happens to the nodes of a crew, and to their workers.
//!
//! Does not know what a step is; what ran on a node that is lost is the other half's to end.

use std::time::Duration;

use torc_core::traits::{NodeState, Outcome};
use torc_core::wire::crew::ToNode;
use torc_core::wire::link::Parting;

use super::{Books, COMES_WITHIN, Effect, LEASE, Now, Place, Refusal, Stand};

/// Why a node is gone that was given back.
const GIVEN_BACK: &str = "it was given back";
/// Why one is that was not.
const NO_MORE_USE: &str = "its worker has left: nothing more could run there";

/// Time between two attempts to give nodes back.
pub(super) const BETWEEN_RETURNS: Duration = Duration::from_secs(3);
/// After so many in a row that failed it is left: the nodes go with the allocation.
pub(super) const MOST_RETURNS: u32 = 10;

impl Books {
    /// A node's worker has come. Its place, and what it is told; or why it is not taken in.
    pub(in crate::crew) fn join(&mut self, name: &str) -> Result<(Place, Vec<Effect>), Refusal> {
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
        if self.winding_up.is_some() || self.nodes[place].parting.is_some() {
            effects.push(Effect::Say(place, ToNode::WindUp));
        }
        Ok((place, effects))
    }

    /// The connection to a node's worker has ended.
    pub(in crate::crew) fn leave(&mut self, place: Place, words: &str, now: Now) -> Vec<Effect> {
        let Stand::Here(said) = &self.nodes[place].stand else { return Vec::new() };
        if let Some(parting) = self.nodes[place].parting {
            return self.part_from(place, parting, now);
        }
        if self.nodes[place].comes_again {
            return self.await_again(place, now);
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
                // It may be started again.
                let mut effects = vec![self.tell(place, NodeState::Draining, &why, now)];
                effects.extend(self.let_go_of(place, &Outcome::Lost));
                effects
            }
        }
    }

    /// The scheduler says that the workers of these nodes have ended. What they said before is still to be
    /// heard.
    pub(in crate::crew) fn workers_ended(
        &mut self,
        names: &[String],
        words: &str,
        now: Now,
    ) -> Vec<Effect> {
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
    pub(in crate::crew) fn nodes_failed(
        &mut self,
        names: &[String],
        words: &str,
        now: Now,
    ) -> Vec<Effect> {
        let places: Vec<Place> = names.iter().filter_map(|name| self.place_of(name)).collect();
        let why = || (words.to_owned(), Outcome::NodeFailed);
        places.into_iter().flat_map(|place| self.lose(place, why(), now)).collect()
    }

    /// The scheduler's word on a node that has not failed.
    pub(in crate::crew) fn node_is(
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
    pub(super) fn lose(
        &mut self,
        place: Place,
        (why, cause): (String, Outcome),
        now: Now,
    ) -> Vec<Effect> {
        let stand = std::mem::replace(&mut self.nodes[place].stand, Stand::Gone(why.clone()));
        let mut effects = match stand {
            over @ (Stand::Gone(_) | Stand::Left) => {
                self.nodes[place].stand = over;
                return Vec::new();
            }
            Stand::Cut(..) | Stand::Awaited(_) => {
                vec![self.tell(place, NodeState::Down, &why, now)]
            }
            Stand::Here(_) => {
                vec![self.tell(place, NodeState::Down, &why, now), Effect::Dismiss(place)]
            }
        };
        effects.extend(self.end_steps_on(place, &cause, now));
        effects
    }

    /// The workers of these nodes have ended, since not all could be started, and are started again.
    pub(in crate::crew) fn start_again(&mut self, names: &[String], now: Now) -> Vec<Effect> {
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

    pub(super) fn await_again(&mut self, place: Place, now: Now) -> Vec<Effect> {
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

    /// A node's worker is to end before the others. The first node is kept, and one on which something runs.
    pub(in crate::crew) fn release(
        &mut self,
        name: &str,
        parting: Parting,
        now: Now,
    ) -> Vec<Effect> {
        let Some(place) = self.place_of(name).filter(|place| *place > 0) else { return Vec::new() };
        let is_used = self.steps.values().any(|entry| entry.places.contains(&place));
        let node = &mut self.nodes[place];
        match node.stand {
            _ if is_used || self.winding_up.is_some() => Vec::new(),
            Stand::Here(_) if node.parting.is_none() => {
                node.parting = Some(parting);
                vec![Effect::Say(place, ToNode::WindUp)]
            }
            Stand::Awaited(_) if parting == Parting::GoesBack => {
                self.part_from(place, parting, now)
            }
            Stand::Awaited(_) => {
                node.parting = Some(parting);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn part_from(&mut self, place: Place, parting: Parting, now: Now) -> Vec<Effect> {
        let why = match parting {
            Parting::GoesBack => GIVEN_BACK,
            Parting::Stays => NO_MORE_USE,
        };
        let mut effects = self.lose(place, (why.to_owned(), Outcome::Lost), now);
        if parting == Parting::GoesBack {
            effects.extend(self.returns.want(now.instant).then_some(Effect::GiveBack));
        }
        effects
    }

    /// Nodes were given back, or could not be.
    pub(in crate::crew) fn given_back(&mut self, is_done: bool, now: Now) -> Vec<Effect> {
        self.returns.end();
        self.failed_returns = if is_done { 0 } else { self.failed_returns + 1 };
        let tries_again = !is_done && self.failed_returns < MOST_RETURNS;
        let begins = tries_again && self.returns.want(now.instant);
        begins.then_some(Effect::GiveBack).into_iter().collect()
    }

    /// The names of the nodes that are kept when one is given back: the first, and those that are used.
    pub(in crate::crew) fn kept(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let kept =
            nodes.filter(|(place, node)| *place == 0 || !matches!(node.stand, Stand::Gone(_)));
        kept.map(|(_, node)| node.name.to_string()).collect()
    }
}
