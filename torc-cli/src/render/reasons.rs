//! What a job waits for on the nodes there are, in words with numbers.

use torc_core::ids::JobId;
use torc_core::time::Timestamp;
use torc_core::traits::{NodeFree, NotNowReason};

use super::{bytes, local_time};

/// What a job waits for that can start later, in a few words.
pub(super) fn not_now(reason: &NotNowReason, name: impl Fn(JobId) -> String) -> String {
    match reason {
        NotNowReason::NoAllocation => "nodes".to_owned(),
        NotNowReason::Queued => "its turn".to_owned(),
        NotNowReason::NotEnoughFree {
            needs_cpus,
            needs_memory,
            needs_gpus,
            free,
            unusable,
            expected_at,
        } => {
            let needs = Amount { cpus: *needs_cpus, memory: *needs_memory, gpus: *needs_gpus };
            room(needs, free, *unusable, *expected_at)
        }
        NotNowReason::WaitsForIdleNodes { needs, idle, unusable, planned_at } => {
            let planned = planned_at
                .map_or_else(String::new, |at| format!("; planned for {}", local_time(at)));
            format!("{needs} idle nodes ({idle} now{}{planned})", lost(*unusable))
        }
        NotNowReason::TooManySteps { most, expected_at } => {
            let next = expected_at
                .map_or_else(String::new, |at| format!("; next expected at {}", local_time(at)));
            format!(
                "the end of another job: {most} run in its allocation, as many as may \
                 (max_parallel_steps){next}"
            )
        }
        NotNowReason::HeldForPlannedStart { job, until } => {
            let until = match *until {
                Timestamp(u64::MAX) => "it starts".to_owned(),
                until => local_time(until),
            };
            format!("nodes held for {} until {until}", name(*job))
        }
    }
}

/// What a job needs on a node.
#[derive(Clone, Copy)]
struct Amount {
    cpus: u32,
    memory: u64,
    gpus: u32,
}

impl Amount {
    /// Where a node has slots, CPUs and memory are not counted.
    fn lacks_cpus(self, node: &NodeFree) -> bool {
        node.slots.is_none() && node.cpus < self.cpus
    }

    fn lacks_memory(self, node: &NodeFree) -> bool {
        node.slots.is_none() && node.memory < self.memory
    }

    fn lacks_gpus(self, node: &NodeFree) -> bool {
        node.gpus < self.gpus
    }

    /// Of the needs what some node lacks.
    fn wanted(self, free: &[NodeFree]) -> String {
        let mut counted = Vec::new();
        if free.iter().any(|node| self.lacks_cpus(node)) || free.is_empty() {
            counted.push(plural(self.cpus, "CPU"));
        }
        if free.iter().any(|node| self.lacks_memory(node)) {
            counted.push(format!("{} of memory", bytes(self.memory)));
        }
        let slot = free.iter().any(is_full).then(|| "1 slot of max_parallel_jobs".to_owned());
        let counted = Some(counted.join(" and ")).filter(|words| !words.is_empty());
        let place: Vec<String> = counted.into_iter().chain(slot).collect();
        let gpus = free.iter().any(|node| self.lacks_gpus(node));
        let gpus = gpus.then(|| plural(self.gpus, "GPU"));
        let place = Some(place.join(" or ")).filter(|words| !words.is_empty());
        place.into_iter().chain(gpus).collect::<Vec<_>>().join(" and ")
    }

    /// Of what a node has what is too little.
    fn found(self, node: &NodeFree) -> String {
        let mut has = Vec::new();
        if self.lacks_cpus(node) {
            has.push(plural(node.cpus, "CPU"));
        }
        if self.lacks_memory(node) {
            has.push(format!("{} of memory", bytes(node.memory)));
        }
        if let Some(slots) = node.slots.filter(|_| is_full(node)) {
            has.push(format!("0 of {}", plural(slots.all, "slot")));
        }
        if self.lacks_gpus(node) {
            has.push(plural(node.gpus, "GPU"));
        }
        format!("{} has {} free", node.node, has.join(" and "))
    }
}

fn is_full(node: &NodeFree) -> bool {
    node.slots.is_some_and(|slots| slots.used >= slots.all)
}

/// "5 CPUs (node1 has 3 CPUs free, node2 has 2 CPUs free)": of each node what it lacks, and of the needs
/// what some node lacks.
fn room(needs: Amount, free: &[NodeFree], unusable: u32, at: Option<Timestamp>) -> String {
    let mut places: Vec<String> = free.iter().map(|node| needs.found(node)).collect();
    if free.is_empty() {
        places.push("no node takes new work".to_owned());
    }
    let expected = at.map_or_else(String::new, |at| format!("; expected at {}", local_time(at)));
    format!("{} ({}{}{expected})", needs.wanted(free), places.join(", "), lost(unusable))
}

/// Nodes that would be of use if they took anything.
pub(super) fn lost(unusable: u32) -> String {
    match unusable {
        0 => String::new(),
        1 => "; 1 more has failed or takes nothing new".to_owned(),
        more => format!("; {more} more have failed or take nothing new"),
    }
}

pub(super) fn plural(count: u32, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[cfg(test)]
mod tests {
    use torc_core::resources::Slots;

    use super::*;

    fn node(name: &str, cpus: u32, gib: u64, gpus: u32) -> NodeFree {
        NodeFree { node: name.into(), cpus, memory: gib << 30, gpus, slots: None }
    }

    #[test]
    fn what_a_node_lacks_is_what_is_named() {
        let needs = Amount { cpus: 5, memory: 4 << 30, gpus: 1 };
        let check = |free: &[NodeFree], unusable, expected: &str| {
            assert_eq!(room(needs, free, unusable, None), expected);
        };
        check(
            &[node("a", 3, 8, 1), node("b", 1, 4, 2)],
            0,
            "5 CPUs (a has 3 CPUs free, b has 1 CPU free)",
        );
        check(
            &[node("a", 8, 2, 1)],
            1,
            "4.0 GiB of memory (a has 2.0 GiB of memory free; 1 more has failed or takes nothing new)",
        );
        check(
            &[node("a", 8, 2, 0), node("b", 4, 8, 1)],
            0,
            "5 CPUs and 4.0 GiB of memory and 1 GPU (a has 2.0 GiB of memory and 0 GPUs free, b has 4 CPUs free)",
        );
        let slotted = |name: &str, used, gpus| {
            let slots = Some(Slots { all: 4, used });
            NodeFree { slots, ..node(name, 1, 1, gpus) }
        };
        check(
            &[slotted("a", 4, 1), slotted("b", 4, 1)],
            0,
            "1 slot of max_parallel_jobs (a has 0 of 4 slots free, b has 0 of 4 slots free)",
        );
        check(
            &[slotted("a", 4, 0), slotted("b", 3, 0)],
            0,
            "1 slot of max_parallel_jobs and 1 GPU (a has 0 of 4 slots and 0 GPUs free, b has 0 GPUs free)",
        );
        check(
            &[slotted("a", 4, 1), node("b", 3, 2, 1)],
            0,
            "5 CPUs and 4.0 GiB of memory or 1 slot of max_parallel_jobs (a has 0 of 4 slots free, b has 3 CPUs and 2.0 GiB of memory free)",
        );
        check(&[], 2, "5 CPUs (no node takes new work; 2 more have failed or take nothing new)");
    }
}
