//! A governor for each type of scheduler.
//!
//! Owns: which allocation is of which type. Does not know: what a type is. Invariant: what one type's schedulers
//! say, or leave unsaid, changes nothing of when those of another are asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Governor, Limits, News, Order, Who};
use crate::ids::WorkflowId;
use crate::time::Timestamp;

/// Decides what the schedulers of all types are asked. The limits hold for each type by itself.
#[derive(Debug, Default)]
pub struct Governors {
    limits: Limits,
    by_kind: BTreeMap<Arc<str>, Governor>,
    /// The types of the allocations that are wished for or had.
    kinds: HashMap<Who, Arc<str>>,
}

impl Governors {
    /// Asks each type as much as these limits allow.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The governor of an allocation that is of this type from now on.
    pub fn enter(&mut self, who: Who, kind: Arc<str>) -> &mut Governor {
        self.kinds.insert(who, kind.clone());
        let limits = self.limits;
        self.by_kind.entry(kind).or_insert_with(|| Governor::new(limits))
    }

    /// The governor of an allocation; `None`: nobody wishes for it any more.
    pub fn of(&mut self, who: Who) -> Option<&mut Governor> {
        self.by_kind.get_mut(self.kinds.get(&who)?)
    }

    /// The governor of a type, if anything was ever asked of it.
    pub fn of_kind(&mut self, kind: &str) -> Option<&mut Governor> {
        self.by_kind.get_mut(kind)
    }

    /// The type of an allocation's scheduler.
    pub fn kind(&self, who: Who) -> Option<&Arc<str>> {
        self.kinds.get(&who)
    }

    /// An allocation is gone, or is not wished for any more.
    pub fn forget(&mut self, who: Who) {
        self.kinds.remove(&who);
    }

    /// Something may have happened to any allocation: ask soon.
    pub fn nudge(&mut self, now: Timestamp) {
        self.by_kind.values_mut().for_each(|governor| governor.nudge(now));
    }

    /// A workflow begins anew: what failed before is forgotten.
    pub fn forgive(&mut self, workflow: WorkflowId) {
        self.by_kind.values_mut().for_each(|governor| governor.forgive(workflow));
    }

    /// What is to be asked of each type now. The answer to each order must be told.
    pub fn next(&mut self, now: Timestamp) -> (Vec<(Arc<str>, Order)>, Vec<News>) {
        let (mut orders, mut news) = (Vec::new(), Vec::new());
        for (kind, governor) in &mut self.by_kind {
            let (asked, told) = governor.next(now);
            orders.extend(asked.into_iter().map(|order| (kind.clone(), order)));
            news.extend(told);
        }
        (orders, news)
    }

    /// When there may be something to ask without anything else happening.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.by_kind.values().filter_map(Governor::wake_at).min()
    }
}
