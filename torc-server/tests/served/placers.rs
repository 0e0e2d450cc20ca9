//! Placers that are not torc's own, where a server drives.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use torc_core::engine::JobStatus;
use torc_core::ids::JobId;
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::time::Timestamp;
use torc_core::traits::{Delta, Placer, Plan, Snapshot, Waiting};
use torc_core::wire::RestartRequest;
use torc_core::workflow::SortMethod;
use torc_server::access::{Access, AccessError};
use torc_server::placers::Placers;

use crate::site::{Place, TEN, TWO_HELD, count, spec};

/// Decides as torc's own until it has made so many plans.
struct Site {
    placer: WholeNodePlacer,
    plans: Arc<AtomicUsize>,
    most: usize,
}

impl Placer for Site {
    fn apply(&mut self, deltas: &[Delta]) {
        self.placer.apply(deltas);
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        if self.plans.fetch_add(1, Ordering::Relaxed) >= self.most {
            return Plan { failure: Some("plan: it is tired".to_owned()), ..Plan::default() };
        }
        self.placer.plan(now, limit)
    }

    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        self.placer.explain(job, now)
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        self.placer.rebuild(snapshot);
    }
}

/// A place whose servers have the placer `site`, how often it has planned, and what it was opened with.
fn place(most: usize) -> (Place, Arc<AtomicUsize>, Arc<Mutex<Vec<Value>>>) {
    let (plans, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (counter, noted) = (plans.clone(), opened.clone());
    let placers = Placers::new(move |name, settings| {
        noted.lock().unwrap().push(Value::Object(settings.clone()));
        if name != "site" {
            return Err(format!("there is no plugin `{name}`"));
        }
        let placer = WholeNodePlacer::new(SortMethod::None, Policy::Pack);
        Ok(Box::new(Site { placer, plans: counter.clone(), most }))
    });
    (Place { placers, ..Place::new() }, plans, opened)
}

fn placed_by(placer: &str, jobs: &str) -> String {
    let rest = spec(jobs, 1);
    format!(
        "{rest}\nexecution_config: {{placer: {placer}}}\nplugins: [{{name: {placer}, queue: 7}}]"
    )
}

#[tokio::test]
async fn a_placer_decides_for_its_workflow_with_its_settings() {
    let (place, plans, opened) = place(usize::MAX);
    let serving = place.serve().await;
    place.submit(&placed_by("site", TEN)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let report = place.ended().await;
    assert_eq!((count(&report, JobStatus::Completed), report.placer_replaced), (10, None));
    assert!(plans.load(Ordering::Relaxed) > 2);
    let opened = opened.lock().unwrap().clone();
    assert_eq!(opened, vec![serde_json::json!({"queue": 7}); 2], "tried, and then used");
    worker.end().await;
    serving.stop().await;
}

#[tokio::test]
async fn a_placer_that_fails_is_replaced_and_the_report_says_so() {
    let (place, _, _) = place(3);
    let serving = place.serve().await;
    place.submit(&placed_by("site", TWO_HELD)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    // Each question is followed by a decision.
    let replaced = crate::site::until(async || place.report().await.placer_replaced).await;
    let words = "plugin `site` places no jobs any more, torc's own placer does: plan: it is tired";
    assert_eq!(replaced, words);
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    serving.stop().await;
}

#[tokio::test]
async fn a_workflow_whose_placer_is_not_there_is_refused_and_not_stored() {
    let (mut place, plans, _) = place(usize::MAX);
    let serving = place.serve().await;
    match place.submit(&placed_by("other", TEN)).await {
        Err(AccessError::Lacking(words)) => {
            assert!(words.contains("`other`, which is none of torc's own (`pack`, `spread`)"));
            assert!(words.ends_with("there is no plugin `other`"), "{words}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Access::open(&place.state_dir()).await.unwrap().workflow(None).await.is_err());

    place.submit(&placed_by("site", "[{name: a, command: fail}]")).await.unwrap();
    place.requested(1).await;
    Access::open(&place.state_dir())
        .await
        .unwrap()
        .cancel(None, &Default::default())
        .await
        .unwrap();
    place.ended().await;
    serving.stop().await;
    place.placers = Placers::none();
    let serving = place.serve().await;
    let restarted =
        Access::restart_live(&place.state_dir(), None, &RestartRequest::default()).await;
    assert!(matches!(restarted, Err(AccessError::Lacking(_))), "{restarted:?}");
    assert!(plans.load(Ordering::Relaxed) > 0);
    serving.stop().await;
}

#[tokio::test]
async fn what_is_under_way_goes_on_without_its_placer() {
    let (mut place, _, _) = place(usize::MAX);
    let serving = place.serve().await;
    let jobs =
        "[{name: 'h{i}', command: hold, resource_requirements: one, parameters: {i: '1:3'}}]";
    place.submit(&placed_by("site", jobs)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    place.placers = Placers::none();
    let serving = place.serve().await;
    let replaced = place.report().await.placer_replaced.expect("it is said");
    assert!(replaced.starts_with("plugin `site` places no jobs any more"), "{replaced}");
    worker.steps.let_go();
    worker.launched(3).await;
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 3);
    worker.end().await;
    serving.stop().await;
}
