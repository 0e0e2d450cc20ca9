//! The checks of placers: torc's own keeps all of them, and each finds the fault that it is for.

#[path = "found/all.rs"]
mod all;
mod found;

use std::cell::Cell;
use std::time::Duration;

use all::{assert_keeps, verdicts};
use found::assert_broken;
use torc_core::ids::JobId;
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::resources::{Allocation, Request};
use torc_core::time::Timestamp;
use torc_core::traits::{Delta, NeverReason, Placer, Plan, Snapshot, Waiting};
use torc_core::workflow::SortMethod;
use torc_plugin_kit::{Candidate, PlacerSite};

const SORTS: [SortMethod; 3] =
    [SortMethod::GpusRuntimeMemory, SortMethod::GpusMemoryRuntime, SortMethod::None];

#[test]
fn the_placer_that_packs_keeps_every_rule() {
    for sort in SORTS {
        let make = || Ok(Box::new(WholeNodePlacer::new(sort, Policy::Pack)) as _);
        let site = PlacerSite { cases: 60, ..PlacerSite::new(&make) };
        assert_keeps(Candidate::Placer(&site), &[]);
    }
}

#[test]
fn the_placer_that_spreads_keeps_every_other_rule() {
    for sort in SORTS {
        let make = || Ok(Box::new(WholeNodePlacer::new(sort, Policy::Spread)) as _);
        let site = PlacerSite { cases: 60, keeps_nodes_whole: false, ..PlacerSite::new(&make) };
        assert_keeps(Candidate::Placer(&site), &["placer.nodes_are_kept_whole"]);
    }
}

/// What is wrong with a placer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    TakesCoresAgain,
    StartsTwice,
    PassesTheLimit,
    StartsOneAtATime,
    LeavesANodeOut,
    TakesPartOfANode,
    GivesMemoryAway,
    DoesNotSeeStates,
    ExpectsMoreTime,
    IgnoresSchedulers,
    PutsTheWideLast,
    NamesWhoRuns,
    KnowsNoCause,
    GivesUp,
    ForgetsWhatRuns,
    IsOneOfTwo,
    Spreads,
}

/// torc's own placer, with a fault.
struct Faulty {
    inner: WholeNodePlacer,
    fault: Fault,
}

impl Faulty {
    fn twist_end(&self, ends_at: &mut Option<Timestamp>) {
        if let (Fault::ExpectsMoreTime, Some(end)) = (self.fault, ends_at) {
            *end = *end + Duration::from_secs(7200);
        }
    }

    fn twist_allocation(&self, allocation: &mut Allocation) {
        self.twist_end(&mut allocation.ends_at);
        if matches!(self.fault, Fault::IgnoresSchedulers) {
            allocation.scheduler = None;
        }
    }

    fn twist_request(&self, request: &mut Request) {
        let is_wide = request.nodes > 1 || request.cpus > 3;
        if matches!(self.fault, Fault::PutsTheWideLast) && is_wide {
            request.priority -= 10;
        }
    }

    /// What the placer behind this one is told.
    fn twisted(&self, delta: &Delta) -> Option<Delta> {
        let mut delta = delta.clone();
        match &mut delta {
            Delta::NodeStateChanged { .. } if matches!(self.fault, Fault::DoesNotSeeStates) => {
                return None;
            }
            Delta::AllocationAdded(allocation) => self.twist_allocation(allocation),
            Delta::AllocationEndMoved { ends_at, .. } => self.twist_end(ends_at),
            Delta::ClassAdded { request, .. } => self.twist_request(request),
            _ => {}
        }
        Some(delta)
    }

    fn twist(&self, plan: &mut Plan) {
        for start in &mut plan.starts {
            let shares = &mut start.placement.shares;
            let is_gang = shares.len() > 1;
            for share in shares.iter_mut() {
                match self.fault {
                    Fault::TakesCoresAgain if !is_gang => {
                        share.cores = (0..).take(share.cores.len()).collect();
                    }
                    Fault::GivesMemoryAway if !is_gang => share.memory += 1,
                    Fault::TakesPartOfANode if is_gang => {
                        share.cores = share.cores.iter().copied().skip(1).collect();
                    }
                    _ => {}
                }
            }
            if matches!(self.fault, Fault::LeavesANodeOut) && is_gang {
                shares.pop();
            }
        }
    }
}

impl Placer for Faulty {
    fn apply(&mut self, deltas: &[Delta]) {
        let twisted: Vec<Delta> = deltas.iter().filter_map(|delta| self.twisted(delta)).collect();
        self.inner.apply(&twisted);
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        let limit = match self.fault {
            Fault::PassesTheLimit => limit.saturating_add(1),
            Fault::StartsOneAtATime => limit.min(1),
            _ => limit,
        };
        let mut plan = self.inner.plan(now, limit);
        self.twist(&mut plan);
        if matches!(self.fault, Fault::StartsTwice) && plan.starts.len() < limit {
            let again = plan.starts.first().cloned();
            plan.starts.extend(again);
        }
        if let (Fault::NamesWhoRuns, Some(planned)) = (self.fault, plan.planned.first_mut()) {
            planned.nodes.pop();
        }
        plan
    }

    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        match self.fault {
            Fault::KnowsNoCause => None,
            Fault::GivesUp => {
                self.inner.explain(job, now).map(|_| Waiting::Never(NeverReason::Together))
            }
            _ => self.inner.explain(job, now),
        }
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        let mut snapshot = snapshot.clone();
        if matches!(self.fault, Fault::ForgetsWhatRuns) {
            snapshot.running.clear();
        }
        if matches!(self.fault, Fault::DoesNotSeeStates) {
            snapshot.node_states.clear();
        }
        snapshot.allocations.iter_mut().for_each(|one| self.twist_allocation(one));
        snapshot.classes.iter_mut().for_each(|one| self.twist_request(one));
        self.inner.rebuild(&snapshot);
    }
}

fn check(fault: Fault, expected: &[&str]) {
    let count = Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        let spreads = match fault {
            Fault::IsOneOfTwo => count.get() % 2 == 0,
            Fault::Spreads => true,
            _ => false,
        };
        let policy = if spreads { Policy::Spread } else { Policy::Pack };
        let inner = WholeNodePlacer::new(SortMethod::None, policy);
        Ok(Box::new(Faulty { inner, fault }) as _)
    };
    let site = PlacerSite { cases: 40, ..PlacerSite::new(&make) };
    assert_broken(&format!("{fault:?}"), &verdicts(Candidate::Placer(&site)), expected);
}

#[test]
fn room_that_is_not_there_is_found() {
    check(Fault::TakesCoresAgain, &["placer.no_oversubscription"]);
    check(Fault::GivesMemoryAway, &["placer.placements_are_well_formed"]);
    let of_states = ["placer.only_nodes_that_are_up", "placer.promises_are_sound"];
    check(Fault::DoesNotSeeStates, &of_states);
    check(Fault::ExpectsMoreTime, &["placer.walltime_is_kept", "placer.never_is_never"]);
    check(Fault::IgnoresSchedulers, &["placer.only_where_it_fits", "placer.never_is_never"]);
}

#[test]
fn gangs_that_are_not_whole_are_found() {
    check(Fault::LeavesANodeOut, &["placer.gangs_get_whole_idle_nodes"]);
    check(Fault::TakesPartOfANode, &["placer.gangs_get_whole_idle_nodes"]);
}

#[test]
fn decisions_that_are_none_are_found() {
    check(Fault::StartsTwice, &["placer.starts_who_waits"]);
    check(Fault::PassesTheLimit, &["placer.limit_is_kept"]);
    check(Fault::NamesWhoRuns, &["placer.promises_are_sound"]);
}

#[test]
fn who_waits_in_vain_is_found() {
    check(Fault::StartsOneAtATime, &["placer.nobody_waits_who_may_start"]);
    check(Fault::PutsTheWideLast, &["placer.wide_jobs_do_not_starve"]);
    check(Fault::KnowsNoCause, &["placer.every_wait_has_a_cause"]);
    check(Fault::GivesUp, &["placer.never_is_never"]);
}

#[test]
fn what_differs_where_it_should_not_is_found() {
    check(Fault::ForgetsWhatRuns, &["placer.rebuilt_as_told"]);
    let of_two =
        ["placer.same_input_same_plan", "placer.rebuilt_as_told", "placer.nodes_are_kept_whole"];
    check(Fault::IsOneOfTwo, &of_two);
    check(Fault::Spreads, &["placer.nodes_are_kept_whole"]);
}

#[test]
fn a_placer_that_cannot_be_made_is_found_by_every_check() {
    let make = || Err("it does not open".to_owned());
    let site = PlacerSite { cases: 1, ..PlacerSite::new(&make) };
    for (name, verdict) in verdicts(Candidate::Placer(&site)) {
        let words = verdict.expect_err(name).to_string();
        assert_eq!(words, "expected a placer; saw it does not open (case 0 of seed 1)", "{name}");
    }
}
