//! Placers that lie: the ledger refuses what they choose, and nothing is oversubscribed.

use super::{Run, node, requirements, workflow};
use crate::engine::{Event, JobStatus, PlacementFault, Refused};
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{NodeInventory, NodeShare, Placement};
use crate::time::Timestamp;
use crate::traits::{Delta, NodeState, Placer, Plan, Snapshot, Start, Waiting};
use crate::workflow::Requirements;

/// Chooses what it was told to, whatever the state.
pub(super) struct Stubborn(pub(super) Vec<Start>);

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

pub(super) fn start(job: u32, shares: &[(u32, &[u16], u64)]) -> Start {
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

/// A job of 1 CPU, 2 GPUs and 1 MiB, and a gang of one CPU on each of two nodes; on three nodes of
/// two hardware threads a core, 4 CPUs, 8 GiB and 4 GPUs, of which the third takes nothing new.
fn check_gpus(starts: Vec<Start>, expected: Option<PlacementFault>) {
    let mut workflow = workflow(&[("a", &[]), ("b", &[]), ("gang", &[])]);
    let needs = |nodes, gpus| Requirements { gpus, ..requirements(1, nodes) };
    workflow.header.requirements = vec![needs(1, 2), needs(2, 1)];
    workflow.jobs[2].requirements = 1;
    let nodes = ["n1", "n2", "n3"].map(|name| NodeInventory {
        threads_per_core: 2,
        gpus: ["0".into(), "1".into(), "2".into(), "3".into()].into(),
        ..node(name, 4)
    });
    let mut run = Run::begin_with(workflow, nodes.into(), Box::new(Stubborn(starts.clone())));
    let (at, reason) = (run.now, String::new());
    run.apply(Event::NodeStateChanged { at, node: NodeId(2), state: NodeState::Draining, reason });
    let faults = run.engine.dispatch(run.now, usize::MAX).faults;
    let faults = faults.into_iter().map(|refused| match refused {
        Refused::Placement { fault, .. } => fault,
        other => panic!("{other:?}"),
    });
    assert_eq!(faults.collect::<Vec<_>>(), Vec::from_iter(expected), "{starts:?}");
}

/// A start on these nodes, each with so many of its first cores and with these GPUs.
fn with_gpus(job: u32, shares: &[(u32, u16, &[u16])]) -> Start {
    let mut start = start(job, &[]);
    start.placement.shares.extend(shares.iter().map(|(node, cores, gpus)| NodeShare {
        node: NodeId(*node),
        cores: (0..*cores).collect(),
        gpus: (*gpus).into(),
        memory: 1 << 20,
    }));
    start
}

#[test]
fn gpus_and_whole_cores_are_checked_like_all_the_rest() {
    use PlacementFault::{Oversubscribed, TooLittle, UnusableNode};
    let all: &[u16] = &[0, 1, 2, 3];
    let first = NodeId(0);
    check_gpus(vec![with_gpus(1, &[(0, 2, &[1, 3])])], None);
    check_gpus(vec![with_gpus(1, &[(0, 1, &[1, 3])])], Some(TooLittle(first)));
    check_gpus(vec![with_gpus(1, &[(0, 4, &[1, 3])])], Some(TooLittle(first)));
    check_gpus(vec![with_gpus(1, &[(0, 2, &[1])])], Some(TooLittle(first)));
    check_gpus(vec![with_gpus(1, &[(0, 2, &[0, 1, 2])])], Some(TooLittle(first)));
    check_gpus(vec![with_gpus(1, &[(0, 2, &[3, 4])])], Some(Oversubscribed(first)));
    check_gpus(vec![with_gpus(1, &[(2, 2, &[0, 1])])], Some(UnusableNode(NodeId(2))));
    let other_cores = |gpus| {
        let mut start = with_gpus(2, &[(0, 0, gpus)]);
        start.placement.shares[0].cores = [2, 3].into();
        start
    };
    let one = with_gpus(1, &[(0, 2, &[1, 2])]);
    check_gpus(vec![one.clone(), other_cores(&[0, 3])], None);
    check_gpus(vec![one, other_cores(&[2, 3])], Some(Oversubscribed(first)));
    check_gpus(vec![with_gpus(3, &[(0, 4, all), (1, 4, all)])], None);
    check_gpus(vec![with_gpus(3, &[(0, 4, &[0]), (1, 4, all)])], Some(TooLittle(first)));
    check_gpus(vec![with_gpus(3, &[(0, 2, all), (1, 4, all)])], Some(TooLittle(first)));
}

#[test]
fn a_job_gets_memory_up_to_the_last_byte_and_gives_it_back() {
    let mut made = workflow(&[("a", &[]), ("b", &[])]);
    made.header.requirements = vec![requirements(1, 1)];
    let starts = [(1, 0), (2, 1)].map(|(job, core)| start(job, &[(0, &[core], 8 << 30)]));
    let placer = Box::new(Stubborn(starts.into()));
    let mut run = Run::begin_with(made, vec![node("n", 2)], placer);
    let faults = |run: &mut Run| run.engine.dispatch(run.now, usize::MAX).faults.len();
    assert_eq!(faults(&mut run), 1, "nothing is left for the second");
    run.exit("a", 0);
    assert_eq!(faults(&mut run), 1, "the first does not wait any more, and the second starts");
    assert_eq!(run.status("b"), JobStatus::Pending);
}
