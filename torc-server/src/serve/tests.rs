//! When a server has nothing to do, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use torc_core::governor::Limits as GovernorLimits;

use super::*;
use crate::driver::tests::Silent;

#[tokio::test(start_paused = true)]
async fn what_changes_before_somebody_waits_for_it_is_noticed() {
    let scheduler = Arc::new(Silent);
    let runs = Runs::new(RunsParts {
        store: StoreTask::pretended(|| Ok(())),
        allocator: Allocator::spawn(scheduler.clone(), GovernorLimits::default(), "/".into()),
        scheduler,
        dir: StateDir::at("/".as_ref()).expect("a path"),
        program: "torc".to_owned(),
        instance: "mine".to_owned(),
    });
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
