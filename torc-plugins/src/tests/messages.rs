//! What torc says and what the authors of plugins read, and the reverse, are the same JSON.

use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use torc_core::ids::{AllocationId, AttemptId, ClassId, JobId, NodeId, RunId, StepId, WorkflowId};
use torc_core::resources::{
    Allocation, MemoryRequest, NodeInventory, NodeShare, Placement, Request,
};
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationRequest, AllocationState, Delta, LaunchPlan,
    LaunchStage, NodeShape, NodeState, Outcome, Plan, PlannedStart, RankLayout, RunningStep,
    Shapes, Snapshot, Start, StdioPaths, Step, StepEvent, StepLimits, StepNode, StepSignal,
    StepState, Usage, Waiting, WaitingJob,
};
use torc_plugin::messages;

/// Each of these goes through the other side's type and comes back as it was; nothing is lost on the way.
#[track_caller]
fn same<Theirs, Ours>(samples: impl IntoIterator<Item = Ours>)
where
    Theirs: Serialize + DeserializeOwned,
    Ours: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for ours in samples {
        let said = serde_json::to_value(&ours).expect("it is said");
        let heard: Theirs = serde_json::from_value(said.clone())
            .unwrap_or_else(|error| panic!("{said} is understood: {error}"));
        let answered = serde_json::to_value(&heard).expect("it is said");
        assert_eq!(answered, said, "nothing is left out or added");
        let back: Ours = serde_json::from_value(answered).expect("it is understood");
        assert_eq!(back, ours);
        if let serde_json::Value::Object(mut object) = said {
            object.insert("of a version to come".to_owned(), json!([1]));
            // A name with data is an enum's, which has no room for more.
            if object.len() > 2 {
                let more = serde_json::from_value::<Theirs>(object.clone().into());
                assert!(more.is_ok(), "what is not known is ignored: {object:?}");
                assert!(serde_json::from_value::<Ours>(object.into()).is_ok());
            }
        }
    }
}

/// Samples of an enum, with all of its variants: one that is added to it does not compile here, or is missed.
macro_rules! all {
    ($samples:expr, $($variant:pat),+ $(,)?) => {{
        let samples = $samples;
        $(assert!(samples.iter().any(|one| matches!(one, $variant)), "{}", stringify!($variant));)+
        let _ = samples.first().map(|one| match one { $($variant => ()),+ });
        samples
    }};
}

fn request() -> Request {
    Request {
        priority: -7,
        scheduler: Some("cpu".into()),
        labels: [Box::from("big"), Box::from("fast")].into(),
        cpus: 3,
        memory: MemoryRequest::Bytes(1 << 40),
        gpus: 2,
        nodes: 4,
        ntasks_per_node: 5,
        runtime: Some(Duration::from_millis(61_001)),
    }
}

fn inventory() -> NodeInventory {
    NodeInventory {
        name: "n1".into(),
        cores: [0, 2, 70_000].into(),
        threads_per_core: 2,
        memory: u64::MAX,
        gpus: ["GPU-7".into()].into(),
        slots: std::num::NonZeroU32::new(9),
    }
}

/// What a run was started in is nobody's business but torc's, so that is not part of the message.
fn allocation() -> Allocation {
    Allocation {
        id: AllocationId(3),
        scheduler: Some("cpu".into()),
        labels: [Box::from("big")].into(),
        ends_at: Some(Timestamp(u64::MAX)),
        nodes: vec![(NodeId(7), inventory())],
        inherited: None,
    }
}

fn placement() -> Placement {
    let (cores, gpus) = ([1, 65_535].into(), [0].into());
    let share = NodeShare { node: NodeId(7), cores, gpus, memory: 5 };
    Placement { allocation: AllocationId(3), shares: vec![share] }
}

fn id() -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(2), run: RunId(3), attempt: AttemptId(4) }
}

fn node_states() -> [NodeState; 3] {
    all!(
        [NodeState::Up, NodeState::Draining, NodeState::Down],
        NodeState::Up,
        NodeState::Draining,
        NodeState::Down
    )
}

#[test]
fn of_placers() {
    same::<messages::NodeState, _>(node_states());
    same::<messages::Request, _>([
        request(),
        Request { scheduler: None, memory: MemoryRequest::ShareOfCpus, runtime: None, ..request() },
    ]);
    same::<messages::Allocation, _>([
        allocation(),
        Allocation { scheduler: None, ends_at: None, ..allocation() },
    ]);
    same::<messages::Placement, _>([placement()]);
    let waiting = WaitingJob { job: JobId(1), class: ClassId(2) };
    let (class, request, ends_at) = (ClassId(9), request(), Some(Timestamp(5)));
    let deltas = vec![
        Delta::ClassAdded { class, request: request.clone() },
        Delta::JobReady(waiting),
        Delta::JobWithdrawn(JobId(1)),
        Delta::StepEnded(JobId(1)),
        Delta::AllocationAdded(allocation()),
        Delta::AllocationEndMoved { allocation: AllocationId(3), ends_at },
        Delta::AllocationRemoved(AllocationId(3)),
        Delta::NodeStateChanged { node: NodeId(7), state: NodeState::Down },
    ];
    same::<messages::Delta, _>(all!(
        deltas,
        Delta::ClassAdded { .. },
        Delta::JobReady(_),
        Delta::JobWithdrawn(_),
        Delta::StepEnded(_),
        Delta::AllocationAdded(_),
        Delta::AllocationEndMoved { .. },
        Delta::AllocationRemoved(_),
        Delta::NodeStateChanged { .. },
    ));
    let (job, started_at) = (JobId(4), Timestamp(77));
    same::<messages::Snapshot, _>([Snapshot {
        classes: vec![request],
        allocations: vec![allocation()],
        node_states: node_states().map(|state| (NodeId(7), state)).into(),
        running: vec![RunningStep { job, class, placement: placement(), started_at }],
        waiting: vec![waiting],
    }]);
    same::<messages::Plan, _>([Plan {
        starts: vec![Start { job, placement: placement() }],
        planned: vec![PlannedStart { job, at: Timestamp(u64::MAX), nodes: vec![NodeId(7)] }],
        held: vec![(job, vec![NodeId(7)])],
        failure: None,
    }]);
    let (until, told) = (Timestamp(5), torc_core::traits::NotNowReason::Queued);
    let held = torc_core::traits::NotNowReason::HeldForPlannedStart { job, until };
    same::<messages::Waiting, _>([held, told].map(Waiting::NotNow));
    let missing: Plan = serde_json::from_value(json!({})).expect("a plan of nothing");
    assert_eq!(missing, Plan::default());
}

#[test]
fn of_launchers() {
    let node = StepNode {
        name: "n1".into(),
        cores: [0, 70_000].into(),
        gpus: ["GPU-7".into()].into(),
        memory: 1 << 40,
    };
    let stdio = StdioPaths {
        stdout: Some("/o".into()),
        stderr: Some("/e".into()),
        delete_on_success: true,
    };
    let limits = StepLimits {
        memory: Some(1 << 40),
        runtime: Some(Duration::from_millis(90_001)),
        termination_signal: 10,
        termination_lead: Duration::from_secs(30),
    };
    let layout = RankLayout {
        ntasks_per_node: 2,
        cpus_per_node: 8,
        mpi: Some("pmix".into()),
        cpu_bind: Some("cores".into()),
    };
    let full = Step {
        id: id(),
        job_name: "j\n".into(),
        argv: vec!["bash".to_owned(), "a b\"$\n".to_owned()],
        env: [("A".to_owned(), "\u{1f30d}=".to_owned())].into(),
        working_dir: "/here".into(),
        stdio,
        allocation: AllocationId(3),
        nodes: vec![node],
        layout,
        limits,
        expected_files: vec!["out".into()],
    };
    let bare = Step {
        stdio: StdioPaths::default(),
        layout: RankLayout { mpi: None, cpu_bind: None, ..full.layout.clone() },
        limits: StepLimits { memory: None, runtime: None, ..full.limits.clone() },
        ..full.clone()
    };
    same::<messages::Step, _>([full, bare]);
    same::<messages::LaunchPlan, _>([LaunchPlan {
        argv: vec!["flux".to_owned(), "run".to_owned()],
        env: [("A".to_owned(), "b".to_owned())].into(),
        files: vec![("hosts".to_owned(), "n1\n".to_owned())],
    }]);
}

fn outcomes() -> Vec<Outcome> {
    let stages = all!(
        [LaunchStage::Prepare, LaunchStage::Output, LaunchStage::WorkingDir, LaunchStage::Execute],
        LaunchStage::Prepare,
        LaunchStage::Output,
        LaunchStage::WorkingDir,
        LaunchStage::Execute
    );
    let failed = stages.map(|stage| Outcome::LaunchFailed { stage, reason: "why".to_owned() });
    let others = [
        Outcome::Exited { code: 255 },
        Outcome::Signaled { signal: 11 },
        Outcome::FilesMissing { files: vec!["a".into()] },
        Outcome::TimedOut { code: Some(1) },
        Outcome::TimedOut { code: None },
        Outcome::OutOfMemory { used: Some(1 << 40) },
        Outcome::OutOfMemory { used: None },
        Outcome::NodeFailed,
        Outcome::Preempted,
        Outcome::Cancelled,
        Outcome::Lost,
    ];
    let samples: Vec<Outcome> = failed.into_iter().chain(others).collect();
    all!(
        samples,
        Outcome::Exited { .. },
        Outcome::Signaled { .. },
        Outcome::FilesMissing { .. },
        Outcome::LaunchFailed { .. },
        Outcome::TimedOut { .. },
        Outcome::OutOfMemory { .. },
        Outcome::NodeFailed,
        Outcome::Preempted,
        Outcome::Cancelled,
        Outcome::Lost,
    )
}

#[test]
fn of_executors() {
    same::<messages::NodeState, _>(node_states());
    same::<messages::Node, _>([inventory()]);
    same::<messages::Outcome, _>(outcomes());
    let signals = [StepSignal::Cancel, StepSignal::TimeUp, StepSignal::Kill];
    same::<messages::Signal, _>(all!(
        signals,
        StepSignal::Cancel,
        StepSignal::TimeUp,
        StepSignal::Kill
    ));
    let usage = Usage { cpu_ms: 7, peak_memory: Some(1 << 40) };
    same::<messages::Usage, _>([usage, Usage::default()]);
    let at = Timestamp(99);
    let ended = |outcome| StepEvent::Ended { step: id(), at, outcome, usage };
    let changed = |state| {
        let (allocation, node, reason) = (AllocationId(3), "n1".into(), "why".to_owned());
        StepEvent::NodeChanged { allocation, node, at, state, reason }
    };
    let mut events: Vec<StepEvent> = outcomes().into_iter().map(ended).collect();
    events.extend(node_states().map(changed));
    events.push(StepEvent::Started { step: id(), at });
    same::<messages::Event, _>(all!(
        events,
        StepEvent::Started { .. },
        StepEvent::Ended { .. },
        StepEvent::NodeChanged { .. },
    ));
    let ended = |outcome| StepState::Ended { at, outcome, usage };
    let mut states: Vec<StepState> = outcomes().into_iter().map(ended).collect();
    states.extend([StepState::Running, StepState::Unknown]);
    same::<messages::StepState, _>(all!(
        states,
        StepState::Running,
        StepState::Ended { .. },
        StepState::Unknown
    ));
}

fn allocation_ends() -> [AllocationEnd; 8] {
    use AllocationEnd::{
        Cancelled, Completed, Failed, NodeFailed, OutOfMemory, Preempted, TimedOut, Unknown,
    };
    all!(
        [Completed, Failed, Cancelled, TimedOut, NodeFailed, Preempted, OutOfMemory, Unknown],
        Completed,
        Failed,
        Cancelled,
        TimedOut,
        NodeFailed,
        Preempted,
        OutOfMemory,
        Unknown
    )
}

#[test]
fn of_schedulers() {
    let full = AllocationRequest {
        name: "torc".to_owned(),
        nodes: 2,
        walltime: Some(Duration::from_millis(3_600_001)),
        settings: json!({"queue": "x", "more": [1]}),
        command: vec!["/bin/torc".to_owned()],
        working_dir: "/here".to_owned(),
        output: "/log".to_owned(),
        env: vec![
            ("A".into(), "b".into()),
            ("LATIN".into(), std::ffi::OsString::from_vec(b"caf\xe9".to_vec()).into()),
        ],
        umask: Some(0o022),
        after: Some(AllocationHandle("41".to_owned())),
    };
    let bare = AllocationRequest { walltime: None, umask: None, after: None, ..full.clone() };
    same::<messages::AllocationRequest, _>([full, bare]);
    same::<String, _>([AllocationHandle("41.pbs".to_owned())]);
    let shape = NodeShape { cpus: 4, threads_per_core: 2, memory: 1 << 40, gpus: 1, count: 7 };
    same::<messages::Shapes, _>(all!(
        [Shapes::Known(vec![shape]), Shapes::Unknown],
        Shapes::Known(_),
        Shapes::Unknown
    ));
    let (reason, words) = ("why".to_owned(), "?".to_owned());
    let time = Some(Timestamp(5));
    let end = |cause| AllocationState::Ended { cause, reason: "why".to_owned() };
    let mut states: Vec<AllocationState> = allocation_ends().map(end).into();
    states.extend([
        AllocationState::Pending { reason: reason.clone(), expected_start: time },
        AllocationState::Pending { reason, expected_start: None },
        AllocationState::Configuring,
        AllocationState::Running { ends_at: time },
        AllocationState::Running { ends_at: None },
        AllocationState::Suspended,
        AllocationState::Headless,
        AllocationState::Completing,
        AllocationState::Unclear { words },
        AllocationState::Unknown,
    ]);
    same::<messages::AllocationState, _>(all!(
        states,
        AllocationState::Pending { .. },
        AllocationState::Configuring,
        AllocationState::Running { .. },
        AllocationState::Suspended,
        AllocationState::Headless,
        AllocationState::Completing,
        AllocationState::Ended { .. },
        AllocationState::Unclear { .. },
        AllocationState::Unknown,
    ));
}
