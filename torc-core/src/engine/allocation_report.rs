//! Allocations as others see them.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{NodeInventory, NodeShare};
use crate::time::Timestamp;
use crate::traits::{AllocationState, PlannedStart};
use crate::wire::{AllocatedNodeReport, AllocationReport, AllocationStage, JobOnNode};

use super::{AllocationBook, Engine};

/// What is known of allocations beside the engine's own books.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The moment.
    pub now: Timestamp,
    /// Whether a process runs the workflow now.
    pub is_live: bool,
    /// What the scheduler said last.
    pub observed: &'a BTreeMap<AllocationId, AllocationState>,
    /// Why requests have not been submitted.
    pub held_back: &'a BTreeMap<AllocationId, String>,
    /// The promises that hold.
    pub planned: &'a [PlannedStart],
}

/// Why an allocation without nodes is given back.
pub const NOTHING_LEFT: &str = "no job that is left could run in it";

type Holders = HashMap<NodeId, Vec<(JobId, NodeShare)>>;

impl Engine {
    /// All allocations there ever were, in the order of their numbers.
    pub fn allocation_reports(&self, sight: Sight<'_>) -> Vec<AllocationReport> {
        let mut holders: Holders = HashMap::new();
        for (job, placement) in &self.running {
            for share in &placement.shares {
                holders.entry(share.node).or_default().push((*job, share.clone()));
            }
        }
        self.allocations
            .values()
            .map(|book| self.allocation_report(book, &holders, sight))
            .collect()
    }

    fn allocation_report(
        &self,
        book: &AllocationBook,
        holders: &Holders,
        sight: Sight<'_>,
    ) -> AllocationReport {
        let id = book.allocation.id;
        let request = book.request.as_ref();
        let settings = request
            .and_then(|request| self.workflow.header.schedulers.get(request.scheduler as usize));
        let asked = settings.map_or(0, |settings| settings.nodes());
        let granted = u32::try_from(book.allocation.nodes.len()).unwrap_or(u32::MAX);
        let observed = sight.observed.get(&id).cloned();
        // Nodes that were simply there are those of the process that ran the workflow.
        let gone_at = (request.is_none() && book.end.is_none() && !sight.is_live)
            .then(|| self.run_ended_at.unwrap_or(self.last_event_at));
        AllocationReport {
            workflow: self.id,
            id,
            scheduler: book.allocation.scheduler.as_deref().map(str::to_owned),
            scheduler_type: settings.map(|settings| settings.kind.clone()),
            labels: book.allocation.labels.iter().map(ToString::to_string).collect(),
            handle: book.handle().map(ToString::to_string),
            stage: if gone_at.is_some() { AllocationStage::Ended } else { stage(book) },
            reason: reason(book, observed.as_ref(), sight.held_back.get(&id)),
            observed,
            num_nodes: if book.granted_at.is_some() { granted } else { asked },
            requested_at: request.map(|request| request.at),
            granted_at: book.granted_at,
            ends_at: book.allocation.ends_at,
            ended_at: book.end.as_ref().map(|end| end.at).or(gone_at),
            cause: book.end.as_ref().map(|end| end.cause),
            nodes: if book.is_live() && gone_at.is_none() {
                let nodes = book.allocation.nodes.iter();
                nodes.map(|(id, has)| self.node_on_show(*id, has, holders, sight)).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn node_on_show(
        &self,
        node: NodeId,
        has: &NodeInventory,
        holders: &Holders,
        sight: Sight<'_>,
    ) -> AllocatedNodeReport {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let hold = self.idleness.hold_of(node);
        let planned = |job: JobId| sight.planned.iter().find(|planned| planned.job == job);
        let held = hold.and_then(|hold| planned(hold.job));
        let here = holders.get(&node).into_iter().flatten();
        let job_name = |job: JobId| self.workflow.jobs[job.index()].name.to_string();
        AllocatedNodeReport {
            name: has.name.to_string(),
            state: self.ledger.state(node).unwrap_or(crate::traits::NodeState::Down),
            reason: self.ledger.reason(node).map(str::to_owned),
            cpus: has.cpus(),
            cpus_used: self.ledger.cpus_used(node),
            slots: self.ledger.slots(node),
            memory: has.memory,
            memory_used: self.ledger.memory_used(node),
            gpus: has.gpu_count(),
            gpus_used: count(self.ledger.gpus_used(node)),
            jobs: here
                .map(|(job, share)| {
                    let latest = self.latest_attempt(*job);
                    let since = latest.map_or_else(Default::default, |one| one.dispatched_at);
                    let runtime = self.classes.request(self.classes.of_job(*job)).runtime;
                    JobOnNode {
                        job: job_name(*job),
                        cpus: has.cpus_of(&share.cores),
                        memory: share.memory,
                        gpus: count(share.gpus.len()),
                        since,
                        expected_end: runtime.map(|runtime| since + runtime),
                    }
                })
                .collect(),
            held_for: held.map(|planned| job_name(planned.job)),
            held_since: hold.map(|hold| hold.since),
            idle: self.idleness.cause(node, sight.now),
            held_until: held.map(|planned| planned.at).filter(|at| *at != Timestamp(u64::MAX)),
        }
    }
}

fn stage(book: &AllocationBook) -> AllocationStage {
    if book.end.is_some() {
        AllocationStage::Ended
    } else if book.closed_at.is_some() || book.is_leaving {
        AllocationStage::Closing
    } else if book.is_live() && book.is_reachable {
        AllocationStage::Active
    } else if book.is_live() {
        AllocationStage::Unreachable
    } else if book.handle().is_some() {
        AllocationStage::Submitted
    } else {
        AllocationStage::Requested
    }
}

fn reason(
    book: &AllocationBook,
    observed: Option<&AllocationState>,
    held_back: Option<&String>,
) -> String {
    if let Some(end) = &book.end {
        return end.reason.clone();
    }
    if book.is_leaving && !book.is_live() {
        return format!("{NOTHING_LEFT}; it is being cancelled");
    }
    match observed {
        Some(AllocationState::Pending { reason, .. }) if !book.is_live() => reason.clone(),
        Some(AllocationState::Configuring) => "its nodes are being made ready".to_owned(),
        Some(AllocationState::Suspended) => "suspended by the scheduler".to_owned(),
        Some(AllocationState::Headless) => {
            "its first node failed; it is being cancelled".to_owned()
        }
        Some(AllocationState::Completing) => "ending".to_owned(),
        Some(AllocationState::Unclear { words }) => {
            format!("in a state that torc does not know: {words}")
        }
        Some(AllocationState::Running { .. }) if !book.is_live() => {
            "its worker has not connected yet".to_owned()
        }
        _ => held_back.cloned().unwrap_or_default(),
    }
}
