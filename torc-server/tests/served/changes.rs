//! Changes of a workflow of a server: jobs and values that come while it runs, and afterwards.

use std::collections::BTreeMap;

use torc_core::engine::JobStatus;
use torc_core::ids::JobId;
use torc_core::wire::{AddJobsAnswer, AddJobsRequest, RestartRequest, RunState, UserDataRequest};
use torc_server::access::{Access, AccessError};

use super::site::{Place, until};

const GROWING: &str = "name: w
dynamic_jobs: {max_iterations: 1}
user_data: [{name: u}]
slurm_schedulers: [{name: s, account: a}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}]
compute_node_wait_for_new_jobs_seconds: 0
jobs:
- {name: a, command: hold}
- {name: last, command: 'quick ${user_data.input.u}', depends_on_regexes: ['^b'], depends_on: [a]}";

async fn add(place: &Place, by: Option<JobId>, text: &str) -> AddJobsAnswer {
    let sources = BTreeMap::new();
    let request = AddJobsRequest { text: text.to_owned(), format: None, sources, by };
    Access::add_jobs(&place.state_dir(), None, &request).await.unwrap()
}

async fn set(place: &Place, name: &str, value: i32) -> Result<(), AccessError> {
    let request = UserDataRequest { name: name.to_owned(), value: value.into(), by: None };
    Access::set_user_data(&place.state_dir(), None, &request).await.map(drop)
}

fn added(answer: &AddJobsAnswer) -> usize {
    match answer {
        AddJobsAnswer::Added { report, .. } => report.added.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_added_and_set_is_there_after_the_server_was_killed() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(GROWING).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(1).await;
    let more = "jobs: [{name: b1, command: hold}, {name: b2, command: quick}]";
    assert_eq!(added(&add(&place, Some(JobId(1)), more).await), 2);
    set(&place, "u", 5).await.unwrap();
    let refused = set(&place, "v", 5).await.unwrap_err();
    assert!(refused.to_string().contains("no user data named `v`"), "{refused}");
    serving.kill();
    let serving = place.serve().await;
    assert_eq!(added(&add(&place, Some(JobId(1)), more).await), 0);
    worker.steps.let_go();
    worker.launched(3).await;
    assert_eq!(place.report().await.counts[&JobStatus::Blocked], 1, "it waits for what was added");
    // Before it is let go of it must be held.
    until(async || (!worker.steps.held.lock().unwrap().is_empty()).then_some(())).await;
    worker.steps.let_go();
    let report = place.ended().await;
    assert_eq!((report.state, report.jobs), (RunState::Ended, 4));
    worker.end().await;
    let access = Access::open(&place.state_dir()).await.unwrap();
    assert_eq!(access.user_data(None).await.unwrap()[0].value, 5);
    serving.stop().await;
}

#[tokio::test]
async fn a_workflow_that_is_over_is_changed_through_the_server_and_restarted() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&GROWING.replace("hold", "quick")).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    assert_eq!(place.ended().await.state, RunState::Ended);
    worker.end().await;
    place.cluster.end("1", torc_core::traits::AllocationEnd::Completed);
    set(&place, "u", 7).await.unwrap();
    assert_eq!(added(&add(&place, None, "jobs: [{name: b1, command: quick}]").await), 1);
    let report = place.report().await;
    assert_eq!((report.state, report.counts[&JobStatus::Uninitialized]), (RunState::Incomplete, 1));
    Access::restart_live(&place.state_dir(), None, &RestartRequest::default())
        .await
        .unwrap()
        .unwrap();
    place.requested(2).await;
    let worker = place.worker(2);
    worker.launched(1).await;
    assert_eq!(place.ended().await.state, RunState::Ended);
    worker.end().await;
    serving.stop().await;
}
