//! Servers, workers and allocations that are gone for a while or for good: nothing is lost, and nothing runs
//! twice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::HeaderMap;
use torc_core::engine::JobStatus;
use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::traits::{AllocationEnd, AllocationHandle, NodeState, Outcome};
use torc_core::wire::link::{Hello, ToServer, ToWorker};
use torc_core::wire::{AllocationStage, PROTOCOL, RestartRequest, RunState};
use torc_server::access::Access;
use torc_server::link::channel::{Channel, Ended, Settings};
use torc_server::link::client::Client;
use torc_server::state_dir::Owner;
use torc_server::worker::WorkerEnd;

use crate::site::{PATIENCE, Place, THE_SECOND_CANNOT_WRITE, TWO_HELD, Worker, count, spec, until};

#[tokio::test]
async fn a_killed_server_takes_its_worker_back_and_nothing_runs_twice() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    serving.kill();
    // One ends while nobody is there.
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    let serving = place.serve().await;
    until(async || {
        let report = place.report().await;
        (count(&report, JobStatus::Completed) == 1 && count(&report, JobStatus::Running) == 1)
            .then_some(())
    })
    .await;
    worker.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    assert_eq!(worker.steps.launched.lock().unwrap().len(), 2, "nothing ran twice");
    assert_eq!(place.cluster.requests(), 1, "nothing was asked for twice");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn what_both_had_known_is_in_the_journal() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 2)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    serving.kill();
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    let journal = place.dir.path().join("journal/wf1_al1.jsonl");
    until(async || std::fs::read(&journal).is_ok_and(|text| !text.is_empty()).then_some(())).await;
    worker.task.abort();
    place.cluster.end("1", AllocationEnd::NodeFailed);
    let serving = place.serve().await;
    // The other one goes to the other allocation, and no retry is spent.
    place.requested(2).await;
    let second = place.worker(2);
    let again = second.launched(1).await;
    assert_eq!((again[0].job, again[0].attempt.0), (launched[1].job, 2));
    second.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    // The accounting may tell more of the one that was lost.
    let is_asked = |step: StepId| {
        let asked = place.ledger.asked.lock().unwrap();
        asked.iter().any(|question| question.steps.values().any(|steps| steps.contains(&step)))
    };
    until(async || is_asked(launched[1]).then_some(())).await;
    second.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_cleanly_leaves_what_runs_alone() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    let stored = place.report().await;
    assert_eq!(stored.state, RunState::Interrupted);
    let serving = place.serve().await;
    until(async || (place.stages().await == [AllocationStage::Active]).then_some(())).await;
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_gone_is_unreachable_until_the_scheduler_says_it_ended() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.task.abort();
    until(async || (place.stages().await == [AllocationStage::Unreachable]).then_some(())).await;
    let report = place.report().await;
    assert_eq!(count(&report, JobStatus::Running), 2, "unreachable is not lost");
    place.cluster.end("1", AllocationEnd::Failed);
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(count(&report, JobStatus::Ready), 2, "the jobs are back in the queue");
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_whose_allocation_is_called_ended_is_told_so() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    place.cluster.end("1", AllocationEnd::Failed);
    let told = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap().unwrap_err();
    assert!(told.contains("allocation 1 is over: so it was"), "{told}");
    assert_eq!(count(&place.ended().await, JobStatus::Ready), 2, "they can run elsewhere");
    serving.stop().await;
}

#[tokio::test]
async fn an_allocation_that_only_its_worker_tells_of_is_followed_to_its_end() {
    let place = Place::new();
    place.cluster.is_unheard.store(true, Ordering::Relaxed);
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.task.abort();
    place.cluster.end("1", AllocationEnd::NodeFailed);
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Ready), 2, "the jobs are back in the queue");
    assert_eq!(place.stages().await, [AllocationStage::Ended]);
    serving.stop().await;
}

#[tokio::test]
async fn a_strange_worker_is_refused() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    let other_handle = Worker::start(place.dir.path(), 1, "99");
    let refused = other_handle.task.await.unwrap().unwrap_err();
    assert!(refused.contains("allocation 1 is 1, not 99"), "{refused}");
    let no_such = place.worker(7).task.await.unwrap().unwrap_err();
    assert!(no_such.contains("allocation 7 is over"), "{no_such}");
    assert_eq!(place.stages().await, [AllocationStage::Active]);
    worker.stop.send(true).unwrap();
    assert_eq!(worker.end().await, WorkerEnd::Stopped);
    serving.stop().await;
}

/// The first report of an end cannot be written, nor anything else before the run has been resumed.
const WRITES_FAIL_ONCE: &str = "CREATE TRIGGER broken BEFORE INSERT ON log
    WHEN NEW.events LIKE '%_e_:_x_%' AND NOT EXISTS
        (SELECT 1 FROM log WHERE events LIKE '%run_resumed%')
    BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";

#[tokio::test]
async fn a_write_that_fails_costs_no_step() {
    let place = Place::new();
    place.serve().await.stop().await;
    place.change_database(WRITES_FAIL_ONCE).await;
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    until(async || {
        let report = place.report().await;
        (count(&report, JobStatus::Completed) == 1 && count(&report, JobStatus::Running) == 1)
            .then_some(())
    })
    .await;
    worker.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    assert_eq!(worker.steps.launched.lock().unwrap().len(), 2, "nothing ran twice");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_go_on_sends_no_worker_away() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    place.change_database(THE_SECOND_CANNOT_WRITE).await;
    let serving = place.serve().await;
    let late = worker.steps.clone();
    let stranger = place.worker(7);
    let refused = stranger.task.await.unwrap().unwrap_err();
    assert!(refused.contains("allocation 7 is over"), "{refused}");
    let restarted = Access::restart_live(&place.state_dir(), None, &RestartRequest::default())
        .await
        .unwrap_err();
    assert!(restarted.to_string().contains("could not be recorded"), "{restarted}");
    assert!(!worker.task.is_finished());
    serving.stop().await;
    let serving = place.serve().await;
    until(async || (place.stages().await == [AllocationStage::Active]).then_some(())).await;
    late.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_stale_server_does_not_end_a_worker_that_has_served_a_newer_one() {
    let place = Place::new();
    let serving = place.serve().await;
    let owner = Owner::find(place.dir.path()).unwrap().unwrap();
    let client = Client::connect(&owner.remote.unwrap()).await.unwrap();
    let settings = Settings::default();
    let socket = client.websocket("/v1/worker", HeaderMap::new(), &settings).await.unwrap();
    let mut channel: Channel<ToWorker, ToServer> = Channel::over(socket, settings);
    let hello = Hello {
        protocol: PROTOCOL,
        version: String::new(),
        host: String::new(),
        workflow: WorkflowId(1),
        allocation: AllocationId(1),
        handle: AllocationHandle("1".to_owned()),
        generation: 99,
        nodes: Vec::new(),
        node_states: Vec::new(),
        began_at: None,
        ends_at: None,
        running: Vec::new(),
        ended: Vec::new(),
    };
    channel.sender.send(&ToServer::Hello(Box::new(hello))).unwrap();
    let Err(Ended::Closed { reason }) = channel.receiver.next().await else {
        panic!("it is neither taken in nor refused");
    };
    assert_eq!(reason, "the worker has served generation 99, this server is only 1");
    serving.stop().await;
}

/// A workflow whose worker first runs a command that waits for the file `go`, and then another.
fn with_slow_command() -> String {
    spec("[{name: a, command: hold, resource_requirements: one}]", 1).replace(
        "compute_node",
        "- {trigger_type: on_worker_start, action_type: run_commands,
   commands: ['echo began >> said; until test -e go; do sleep 0.01; done; echo ended >> said',
              'echo next >> said']}
compute_node",
    )
}

impl Place {
    async fn said(&self, words: &str) {
        let file = self.dir.path().join("said");
        until(async || {
            std::fs::read_to_string(&file).is_ok_and(|said| said == words).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_command_that_ends_while_nobody_is_there_does_not_run_again() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&with_slow_command()).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(1).await;
    place.said("began\n").await;
    serving.kill();
    std::fs::write(place.dir.path().join("go"), "").unwrap();
    place.said("began\nended\n").await;
    let serving = place.serve().await;
    place.said("began\nended\nnext\n").await;
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.said("began\nended\nnext\n").await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_whose_last_command_ends_while_nobody_is_there_gives_up() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&with_slow_command()).await.unwrap();
    place.requested(1).await;
    let worker = Worker::start_for(Duration::ZERO, place.dir.path(), 1, "1");
    worker.launched(1).await;
    place.said("began\n").await;
    serving.kill();
    worker.steps.let_go();
    std::fs::write(place.dir.path().join("go"), "").unwrap();
    let ended = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap();
    let error = ended.unwrap_err();
    assert!(error.contains("no server could be reached"), "{error}");
}

#[tokio::test]
async fn nodes_are_what_they_became_while_nobody_was_there() {
    let place = Place::new();
    let mut serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.steps.change_node(1, NodeState::Down);
    let is = async |state| {
        until(async || {
            let access = Access::open(&place.state_dir()).await.unwrap();
            let first = access.allocations(None).await.unwrap().remove(0);
            let is_so = first.stage == AllocationStage::Active && first.nodes[0].state == state;
            is_so.then_some(())
        })
        .await;
    };
    is(NodeState::Down).await;
    for state in [NodeState::Up, NodeState::Draining, NodeState::Up] {
        serving.kill();
        worker.steps.change_node(1, state);
        serving = place.serve().await;
        is(state).await;
    }
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}
