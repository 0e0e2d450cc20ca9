//! Workflows from submission to their end, and what is asked of the scheduler for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use torc_core::engine::JobStatus;
use torc_core::ids::WorkflowId;
use torc_core::spec::{Context, load};
use torc_core::traits::{AllocationEnd, AllocationHandle, AllocationRequest, Outcome};
use torc_core::wire::{AllocationStage, NamedJobs, RestartRequest, RunState};
use torc_server::access::{Access, AccessError};
use torc_server::serve::ServeEnd;
use torc_server::worker::WorkerEnd;

use crate::site::{
    NoSources, Place, TEN, THE_SECOND_CANNOT_WRITE, TWO_HELD, Worker, count, spec, until,
};

#[tokio::test]
async fn a_workflow_runs_from_submission_to_its_end() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TEN, 1)).await.unwrap();
    place.requested(1).await;
    let (_, request) = place.cluster.asked.lock().unwrap()[0].clone();
    assert_eq!(request.command[..2], ["/bin/torc", "worker"]);
    assert!(request.env.contains(&("MINE".into(), "yes".into())));
    let worker = place.worker(1);
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 10);
    assert!(matches!(worker.end().await, WorkerEnd::Left(_)));
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (place.stages().await == [AllocationStage::Ended]).then_some(())).await;
    assert_eq!(serving.stop().await, ServeEnd::Stopped);
}

#[tokio::test]
async fn allocations_that_are_of_no_use_are_not_asked_for() {
    let place = Place::new();
    let serving = place.serve().await;
    let jobs = "[{name: a, command: hold, resource_requirements: one}]";
    place.submit(&spec(jobs, 3)).await.unwrap();
    place.requested(3).await;
    let worker = place.worker(2);
    worker.launched(1).await;
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    until(async || {
        place.stages().await.iter().all(|stage| *stage == AllocationStage::Ended).then_some(())
    })
    .await;
    let ended = place.cluster.ended.lock().unwrap().clone();
    assert_eq!(ended.values().filter(|cause| **cause == AllocationEnd::Cancelled).count(), 2);
    serving.stop().await;
}

#[tokio::test]
async fn a_wish_that_nothing_can_come_of_keeps_no_run_alive() {
    let place = Place::new();
    let serving = place.serve().await;
    let two_stages = "name: w
slurm_schedulers: [{name: first, account: a}, {name: second, account: a}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: second}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}
jobs:
- {name: a, command: quick, scheduler: first}
- {name: b, command: quick, scheduler: second, depends_on: [a]}";
    place.submit(two_stages).await.unwrap();
    place.requested(1).await;
    place.cluster.end("1", AllocationEnd::Cancelled);
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(count(&report, JobStatus::Ready), 1);
    until(async || (place.stages().await == [AllocationStage::Ended; 2]).then_some(())).await;
    assert_eq!(place.cluster.requests(), 1);
    serving.stop().await;
}

/// Two allocations for a job of one scheduler, and between them one for a job of another.
const TWO_KINDS: &str = "name: w
slurm_schedulers: [{name: first, account: a}, {name: second, account: a}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: second}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}
compute_node_wait_for_new_jobs_seconds: 0
jobs:
- {name: a, command: hold, scheduler: first}
- {name: b, command: hold, scheduler: second}";

#[tokio::test]
async fn an_allocation_that_waits_and_that_nothing_left_could_use_is_given_back() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(TWO_KINDS).await.unwrap();
    place.requested(3).await;
    let first = place.worker(1);
    first.launched(1).await;
    let second = place.worker(2);
    second.launched(1).await;
    let ended = || place.cluster.ended.lock().unwrap().clone();
    assert!(ended().is_empty(), "what runs may have to run again");
    place.cluster.is_deaf.store(true, Ordering::Relaxed);
    first.steps.let_go();
    first.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (place.stages().await[2] == AllocationStage::Closing).then_some(())).await;
    serving.kill();
    place.cluster.is_deaf.store(false, Ordering::Relaxed);
    let serving = place.serve().await;
    until(async || (place.stages().await[2] == AllocationStage::Ended).then_some(())).await;
    assert_eq!(ended().get(&AllocationHandle("3".to_owned())), Some(&AllocationEnd::Cancelled));
    assert!(!ended().contains_key(&AllocationHandle("2".to_owned())), "it has a job");
    let access = Access::open(&place.state_dir()).await.unwrap();
    let reason = access.allocations(None).await.unwrap()[2].reason.clone();
    assert_eq!(reason, "no job that is left could run in it: so it was");
    second.steps.let_go();
    assert_eq!(place.ended().await.state, RunState::Ended);
    second.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    assert_eq!(place.cluster.requests(), 3, "nothing is asked for again");
    serving.stop().await;
}

#[tokio::test]
async fn a_scheduler_that_refuses_is_given_up_and_the_run_ends() {
    let place = Place::new();
    *place.cluster.refusals.lock().unwrap() = 99;
    let serving = place.serve().await;
    place.submit(&spec(TEN, 9)).await.unwrap();
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(
        *place.cluster.refusals.lock().unwrap(),
        96,
        "after three refusals none is asked for"
    );
    let access = Access::open(&place.state_dir()).await.unwrap();
    let allocations = access.allocations(None).await.unwrap();
    assert!(allocations[0].reason.contains("no such account"), "{}", allocations[0].reason);
    assert!(allocations[8].reason.contains("came to nothing"), "{}", allocations[8].reason);
    serving.stop().await;
}

/// A workflow with a scheduler of each of the accounts `full` and `a`, that asks for an allocation of each.
fn two_accounts(rest: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: first, account: full}}, {{name: second, account: a}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}}
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: second}}
{rest}"
    )
}

#[tokio::test]
async fn who_is_not_served_for_the_moment_holds_up_nobody_and_comes_when_there_is_room() {
    let place = Place::new();
    place.cluster.full.lock().unwrap().insert("full".to_owned());
    let serving = place.serve().await;
    let accounts = || -> Vec<String> {
        let asked = place.cluster.asked.lock().unwrap();
        let account =
            |request: &AllocationRequest| request.settings["account"].as_str().unwrap().to_owned();
        asked.iter().map(|(_, request)| account(request)).collect()
    };
    place
        .submit(&two_accounts(
            "jobs:
- {name: a, command: hold, scheduler: first}
- {name: b, command: hold, scheduler: second}",
        ))
        .await
        .unwrap();
    place.requested(1).await;
    place.submit(&spec(TEN, 1)).await.unwrap();
    place.requested(2).await;
    assert_eq!(accounts(), ["a", "a"], "another scheduler, and another workflow");
    let access = Access::open(&place.state_dir()).await.unwrap();
    let waiting = access.allocations(Some(WorkflowId(1))).await.unwrap().swap_remove(0);
    assert_eq!(waiting.stage, AllocationStage::Requested);
    assert!(waiting.reason.contains("AssocMaxSubmitJobLimit"), "{}", waiting.reason);
    place.cluster.full.lock().unwrap().clear();
    place.cluster.end("2", AllocationEnd::Cancelled);
    place.requested(3).await;
    assert_eq!(accounts()[2], "full");
    serving.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_not_asked_for_once_nothing_is_left_for_it() {
    let place = Place::new();
    place.cluster.full.lock().unwrap().insert("full".to_owned());
    let serving = place.serve().await;
    place
        .submit(&two_accounts(
            "compute_node_wait_for_new_jobs_seconds: 0
jobs: [{name: a, command: quick}]",
        ))
        .await
        .unwrap();
    place.requested(1).await;
    let worker = Worker::start(place.dir.path(), 2, "1");
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 1);
    worker.end().await;
    place.cluster.full.lock().unwrap().clear();
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (place.stages().await == [AllocationStage::Ended; 2]).then_some(())).await;
    assert_eq!(place.cluster.requests(), 1);
    serving.stop().await;
}

#[tokio::test]
async fn what_can_never_run_is_refused_with_numbers_and_nothing_is_stored() {
    let place = Place::new();
    let serving = place.serve().await;
    let wide = spec("[{name: a, command: x, resource_requirements: big}]", 1)
        .replace("resource_requirements: [", "resource_requirements: [{name: big, num_cpus: 3}, ");
    let refused = place.submit(&wide).await.unwrap_err();
    let AccessError::NeverRuns(words) = &refused else { panic!("{refused}") };
    assert!(words.contains("needs 3 CPUs per node; the largest node has 2"), "{words}");
    let no_nodes = "name: w\njobs: [{name: a, command: x}]";
    let refused = place.submit(no_nodes).await.unwrap_err().to_string();
    assert!(refused.contains("no action of this workflow asks for nodes"), "{refused}");
    assert!(Access::open(&place.state_dir()).await.unwrap().workflow(None).await.is_err());
    serving.stop().await;
}

#[tokio::test]
async fn what_settings_leave_too_little_for_is_refused_with_numbers() {
    let place = Place::new();
    let serving = place.serve().await;
    let refused = async |settings: &str, words: [&str; 2]| {
        let jobs = "[{name: a, command: x, resource_requirements: two}]";
        let two = "resource_requirements: [{name: two, num_cpus: 2, memory: 2m, runtime: PT1M}, ";
        let spec = spec(jobs, 1)
            .replace("resource_requirements: [", two)
            .replace("walltime: '01:00:00'", settings);
        let refused = place.submit(&spec).await.unwrap_err();
        let AccessError::NeverRuns(told) = &refused else { panic!("{refused}") };
        assert!(words.iter().all(|words| told.contains(words)), "{told}");
    };
    refused("mem: 1M", ["GiB per node", "no more than 1m of memory on each node (`mem`)"]).await;
    refused("extra: -c1", ["needs 2 CPUs per node; the largest node has 1", "shares its nodes"])
        .await;
    let margin = "its walltime is 180 s, and jobs are asked to end 180 s before the end";
    refused("walltime: '00:03:00'", ["no time is left", margin]).await;
    assert_eq!(place.cluster.requests(), 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_submission_is_taken_in_though_nobody_waits_for_it_any_more() {
    let place = Place::new();
    let serving = place.serve().await;
    let late = place.cluster.shapes.0.lock().await;
    let text = spec(TEN, 1);
    let waits_in_vain = async {
        until(async || (place.cluster.shapes.1.load(Ordering::Relaxed) > 0).then_some(())).await;
    };
    tokio::select! {
        submitted = place.submit(&text) => panic!("{submitted:?}"),
        () = waits_in_vain => {}
    }
    drop(late);
    place.requested(1).await;
    let worker = place.worker(1);
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 10);
    assert_eq!(place.cluster.shapes.1.load(Ordering::Relaxed), 1, "it is asked once");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn what_was_stored_and_not_begun_begins_with_the_next_server() {
    let place = Place::new();
    place.serve().await.stop().await;
    place.change_database(THE_SECOND_CANNOT_WRITE).await;
    let serving = place.serve().await;
    let not_begun = place.submit(&spec(TEN, 1)).await.unwrap_err();
    assert!(not_begun.to_string().contains("workflow 1 was taken"), "{not_begun}");
    serving.kill();
    let serving = place.serve().await;
    place.requested(1).await;
    let worker = place.worker(1);
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 10);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_restart_that_waits_for_allocations_holds_nobody_up() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    for step in worker.launched(2).await {
        worker.steps.end(step, Outcome::Exited { code: 1 });
    }
    place.ended().await;
    worker.end().await;
    let dir = place.state_dir();
    let text = spec(TEN, 1);
    let plain = RestartRequest::default();
    let mut restarted = std::pin::pin!(Access::restart_live(&dir, Some(WorkflowId(1)), &plain));
    tokio::select! {
        early = &mut restarted => panic!("its allocation has not ended: {early:?}"),
        second = place.submit(&text) => assert_eq!(second.unwrap(), WorkflowId(2)),
    }
    place.cluster.end("1", AllocationEnd::Completed);
    let report = restarted.await.unwrap().unwrap();
    assert_eq!((report.put_back, report.is_new_run), (2, true));
    serving.stop().await;
}

#[tokio::test]
async fn a_spec_that_has_changed_is_run_anew_also_by_the_next_server() {
    let place = Place::new();
    let serving = place.serve().await;
    let one = "[{name: a, command: quick, resource_requirements: one},
        {name: b, command: quick, resource_requirements: one}]";
    let id = place.submit(&spec(one, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let asks = |text: &str, all: bool| RestartRequest {
        spec: Some(load(spec(text, 1).as_bytes(), None, &context()).unwrap().workflow),
        all,
    };
    let dir = place.state_dir();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    let other = one.replacen("quick", "hold", 1);
    let restart = async |request: RestartRequest| {
        Access::restart_live(&dir, Some(id), &request).await.map(Option::unwrap)
    };
    let nothing = restart(asks(one, false)).await.unwrap_err().to_string();
    assert!(nothing.contains("nothing to restart"), "{nothing}");
    let large = restart(asks(&other.replace("resource_requirements: one", "labels: [x]"), false));
    assert!(matches!(large.await, Err(AccessError::NeverRuns(_))));
    let report = restart(asks(&other, false)).await.unwrap();
    assert_eq!((report.put_back, report.is_new_run), (1, true));
    let refused = restart(asks(&other, true)).await.unwrap_err().to_string();
    assert!(refused.contains("is under way"), "{refused}");
    place.requested(2).await;
    serving.kill();

    let serving = place.serve().await;
    let worker = place.worker(2);
    let held = worker.launched(1).await;
    assert_eq!(held[0].to_string(), "wf1_j1_r2_a1");
    worker.steps.end(held[0], Outcome::Exited { code: 0 });
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    let plan = Access::open(&dir).await.unwrap().plan_restart(None, asks(&other, false)).await;
    assert_eq!(plan.unwrap().jobs, []);
    worker.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn jobs_are_left_out_and_taken_in_again_by_a_server() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let named = |name: &str| NamedJobs { jobs: vec![name.to_owned()] };
    let dir = place.state_dir();
    let report = Access::disable(&dir, None, named("h2")).await.unwrap();
    assert_eq!((report.disabled, report.canceled), (1, 0));
    let unknown = Access::disable(&dir, None, named("h3")).await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no job `h3`");
    let worker = place.worker(1);
    let held = worker.launched(1).await;
    let runs = Access::disable(&dir, None, named("h1")).await.unwrap_err().to_string();
    assert!(runs.contains("cannot be disabled"), "{runs}");
    worker.steps.end(held[0], Outcome::Exited { code: 0 });
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 1);
    assert_eq!(count(&report, JobStatus::Disabled), 1);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    let plain = RestartRequest::default();
    let nothing = Access::restart_live(&dir, None, &plain).await.unwrap_err().to_string();
    assert!(nothing.contains("nothing to restart"), "{nothing}");
    let report = Access::enable(&dir, None, named("h2")).await.unwrap();
    assert_eq!((report.enabled, report.waits_for_restart), (1, true));
    let report = Access::restart_live(&dir, None, &plain).await.unwrap().unwrap();
    assert_eq!((report.put_back, report.is_new_run), (1, true));
    place.requested(2).await;
    let worker = place.worker(2);
    let held = worker.launched(1).await;
    assert_eq!(held[0].to_string(), "wf1_j2_r2_a1");
    worker.steps.end(held[0], Outcome::Exited { code: 0 });
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    serving.stop().await;
}

fn context() -> Context<'static> {
    Context { user: None, sources: &NoSources }
}

#[tokio::test]
async fn a_scheduler_that_hangs_holds_up_no_server() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 2)).await.unwrap();
    place.requested(2).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    let late = place.cluster.shapes.0.lock().await;
    let serving = place.serve().await;
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    drop(late);
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn figures_come_after_the_end_and_over_a_restart_of_the_server() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TEN, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    place.ended().await;
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (!place.ledger.asked.lock().unwrap().is_empty()).then_some(())).await;
    serving.kill();
    place.ledger.asked.lock().unwrap().clear();
    place.ledger.is_open.store(true, Ordering::Relaxed);
    let serving = place.serve().await;
    let attempts = until(async || {
        let access = Access::open(&place.state_dir()).await.unwrap();
        let attempts = access.attempts(None).await.unwrap();
        attempts.iter().all(|attempt| attempt.scheduler_state.is_some()).then_some(attempts)
    })
    .await;
    assert_eq!(attempts.len(), 10);
    for attempt in attempts {
        assert_eq!(attempt.scheduler_state.as_deref(), Some("COMPLETED"));
        assert_eq!((attempt.cpu_ms, attempt.peak_memory), (Some(70), Some(9)));
    }
    let asked = place.ledger.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "one question for all");
    assert_eq!(asked[0].steps[&AllocationHandle("1".to_owned())].len(), 10);
    serving.stop().await;
}

#[tokio::test]
async fn an_idle_server_ends_by_itself() {
    let place = Place::new();
    let serving = place.serve_for(Some(Duration::from_millis(50))).await;
    assert_eq!(serving.wait().await, ServeEnd::Idle);
    assert!(!place.dir.path().join("server.json").exists());
}

#[tokio::test]
async fn commands_of_actions_run_with_the_submitters_environment() {
    let place = Place::new();
    let serving = place.serve().await;
    let with_commands = spec(TEN, 1).replace(
        "compute_node",
        "- {trigger_type: on_workflow_start, action_type: run_commands,
   commands: ['echo $MINE $TORC_WORKFLOW_ID > said', 'exit 7', 'echo never > said']}
- {trigger_type: on_workflow_complete, action_type: run_commands, commands: ['echo done >> said']}
- {trigger_type: on_worker_start, action_type: run_commands, commands: ['echo worker > worked']}
- {trigger_type: on_worker_complete, action_type: run_commands, persistent: true,
   commands: ['sleep 0.2', 'echo left >> worked']}
compute_node",
    );
    place.submit(&with_commands).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    place.ended().await;
    let read = |name: &str| std::fs::read_to_string(place.dir.path().join(name)).unwrap();
    assert_eq!(read("said"), "yes 1\ndone\n");
    assert_eq!(read("worked"), "worker\nleft\n");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}
