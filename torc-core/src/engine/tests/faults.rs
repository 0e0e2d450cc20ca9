//! Placers that lie: the ledger refuses what they choose, and nothing is oversubscribed.

use super::{Run, node, requirements, workflow};
use crate::engine::{PlacementFault, Refused};
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{NodeShare, Placement};
use crate::time::Timestamp;
use crate::traits::{Delta, Placer, Plan, Snapshot, Start, Waiting};

/// Chooses what it was told to, whatever the state.
struct Stubborn(Vec<Start>);

impl Placer for Stubborn {
    fn apply(&mut self, _: &[Delta]) {}

    fn plan(&mut self, _: Timestamp, _: usize) -> Plan {
        Plan { starts: self.0.clone(), ..Plan::default() }
    }

    fn explain(&self, _: JobId, _: Timestamp) -> Option<Waiting> {
        None
    }

    fn rebuild(&mut self, _: &Snapshot) {}
}

fn start(job: u32, shares: &[(u32, &[u16], u64)]) -> Start {
    let shares = shares
        .iter()
        .map(|(node, cores, memory)| NodeShare {
            node: NodeId(*node),
            cores: (*cores).into(),
            gpus: Box::new([]),
            memory: *memory,
        })
        .collect();
    Start { job: JobId(job), placement: Placement { allocation: AllocationId(1), shares } }
}

const MEMORY: u64 = 4 << 30;

/// Two jobs of 2 CPUs and 4 GiB and one gang of two nodes, on two nodes of 4 CPUs and 8 GiB.
fn check(starts: Vec<Start>, expected: &[Option<PlacementFault>]) {
    let mut workflow = workflow(&[("a", &[]), ("b", &[]), ("gang", &[])]);
    let mut two = requirements(2, 1);
    two.memory = crate::resources::MemoryRequest::Bytes(MEMORY);
    workflow.header.requirements = vec![two, requirements(1, 2)];
    workflow.jobs[2].requirements = 1;
    let nodes = vec![node("n1", 4), node("n2", 4)];
    let mut run = Run::begin_with(workflow, nodes, Box::new(Stubborn(starts.clone())));
    let dispatch = run.engine.dispatch(run.now, usize::MAX);
    let faults: Vec<PlacementFault> = dispatch
        .faults
        .into_iter()
        .map(|refused| match refused {
            Refused::Placement { fault, .. } => fault,
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted: Vec<PlacementFault> = expected.iter().flatten().cloned().collect();
    assert_eq!(faults, wanted, "{starts:?}");
    assert_eq!(dispatch.started.len(), expected.len() - wanted.len(), "{starts:?}");
}

#[test]
fn what_is_right_is_accepted() {
    check(
        vec![start(1, &[(0, &[0, 1], MEMORY)]), start(2, &[(0, &[2, 3], MEMORY)])],
        &[None, None],
    );
    check(vec![start(3, &[(0, &[0, 1, 2, 3], 1 << 20), (1, &[0, 1, 2, 3], 1 << 20)])], &[None]);
}

#[test]
fn what_is_wrong_is_refused() {
    use PlacementFault::{NodeCount, NotReady, Oversubscribed, TooLittle, UnusableNode};
    let cases: [(Start, PlacementFault); 9] = [
        (start(1, &[(0, &[0], MEMORY)]), TooLittle(NodeId(0))),
        (start(1, &[(0, &[0, 1], MEMORY - 1)]), TooLittle(NodeId(0))),
        (start(1, &[(0, &[0, 0], MEMORY)]), Oversubscribed(NodeId(0))),
        (start(1, &[(0, &[3, 4], MEMORY)]), Oversubscribed(NodeId(0))),
        (start(1, &[(0, &[0, 1], MEMORY * 3)]), Oversubscribed(NodeId(0))),
        (start(1, &[(7, &[0, 1], MEMORY)]), UnusableNode(NodeId(7))),
        (start(1, &[]), NodeCount { wanted: 1, given: 0 }),
        (start(3, &[(0, &[0, 1, 2, 3], 1 << 20), (1, &[0], 1 << 20)]), TooLittle(NodeId(1))),
        (
            start(3, &[(0, &[0, 1, 2, 3], 1 << 20), (0, &[0, 1, 2, 3], 1 << 20)]),
            UnusableNode(NodeId(0)),
        ),
    ];
    for (start, fault) in cases {
        check(vec![start], &[Some(fault)]);
    }
    let first = start(1, &[(0, &[0, 1], MEMORY)]);
    check(vec![first.clone(), first.clone()], &[None, Some(NotReady)]);
    let same_cores = start(2, &[(0, &[1, 2], MEMORY)]);
    check(vec![first.clone(), same_cores], &[None, Some(Oversubscribed(NodeId(0)))]);
    let gang = start(3, &[(0, &[0, 1, 2, 3], 1 << 20), (1, &[0, 1, 2, 3], 1 << 20)]);
    check(vec![first, gang], &[None, Some(Oversubscribed(NodeId(0)))]);
}
