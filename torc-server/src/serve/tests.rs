//! When a server has nothing to do, who hears of it, and what becomes of a workflow whose driver broke.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::JobStatus;
use torc_core::governor::Limits as GovernorLimits;
use torc_core::spec::{Context, load};
use torc_core::wire::SubmitRequest;

use super::runs::Runs;
use super::*;
use crate::driver::tests::{NoSources, Silent};
use crate::handle::RequestError;
use crate::schedulers::tests::only;

fn runs(store: StoreTask, dir: &Path) -> Arc<Runs> {
    let schedulers = only("slurm", Arc::new(Silent));
    Runs::new(RunsParts {
        store,
        allocator: Allocator::spawn(schedulers.clone(), GovernorLimits::default(), dir.into()),
        schedulers,
        placers: Placers::none(),
        dir: StateDir::at(dir).expect("a path"),
        program: "torc".to_owned(),
        instance: "mine".to_owned(),
    })
}

#[tokio::test(start_paused = true)]
async fn what_changes_before_somebody_waits_for_it_is_noticed() {
    let runs = runs(StoreTask::pretended(|| Ok(())), Path::new("/"));
    assert!(runs.is_idle());
    let changed = runs.changed();
    let busy = runs.busy();
    assert!(!runs.is_idle(), "a submission is being taken in");
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, changed).await.expect("it is noticed");
    let changed = runs.changed();
    drop(busy);
    tokio::time::timeout(hour, changed).await.expect("it is noticed");
    assert!(runs.is_idle());
}

#[tokio::test]
async fn a_workflow_whose_driver_panics_gets_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = StateDir::at(folder.path()).expect("a path");
    let store = Store::own(&dir).await.expect("it is made");
    let output_dir = dir.path().to_string_lossy().into_owned();
    let runs = runs(StoreTask::spawn(store, output_dir.clone()), folder.path());
    let context = Context { user: None, sources: &NoSources };
    let spec = "{name: w, jobs: [{name: a, command: x}], slurm_schedulers: [{name: s, account: a, nodes: 1}],
        actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}]}";
    let request = SubmitRequest {
        workflow: load(spec.as_bytes(), None, &context).expect("is valid").workflow,
        submission_dir: output_dir,
        spec_path: None,
        env: Vec::new(),
        umask: 0o022,
    };
    let id = runs.submit(request).await.expect("it is taken");
    let handle = runs.handle(id).expect("it is driven");
    let broken = handle.look(None, |_| panic!("on purpose")).await;
    assert!(matches!(broken, Err(RequestError::Over)));
    let again = loop {
        let changed = runs.changed();
        if let Some(handle) = runs.handle(id)
            && let Ok(report) = handle.workflow(None).await
        {
            break report;
        }
        assert!(!runs.is_idle());
        changed.await;
    };
    assert_eq!(again.counts[&JobStatus::Ready], 1);
}
