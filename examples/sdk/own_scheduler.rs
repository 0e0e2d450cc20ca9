//! Runs a spec with a scheduler of its own, whose allocations are child processes with one CPU each. The spec has
//! `schedulers: [{name: any, type: pool}]`, and actions that ask it for nodes. `own_scheduler SPEC STATE_DIR`

use std::{collections::BTreeMap, process::Child, process::ExitCode, sync::Arc, sync::Mutex};
use torc_core::traits::*;
use torc_server::embed::{self, CPUS_VARIABLE, Embedded};

/// The workers. An allocation is called by the key that it was asked for with.
#[derive(Default)]
struct Pool(Mutex<BTreeMap<AllocationHandle, Child>>);
type Answer<T> = Result<T, SchedulerError>;
impl Pool {
    fn state(&self, allocation: &AllocationHandle) -> AllocationState {
        let cause = AllocationEnd::Unknown;
        match self.0.lock().expect("sound").get_mut(allocation).map(Child::try_wait) {
            Some(Ok(Some(end))) => AllocationState::Ended { cause, reason: end.to_string() },
            Some(_) => AllocationState::Running { ends_at: None },
            None => AllocationState::Unknown,
        }
    }
}

#[async_trait::async_trait]
impl Scheduler for Pool {
    async fn shapes(&self, _: &AllocationRequest) -> Answer<Shapes> {
        Ok(Shapes::Unknown)
    }
    async fn submit(&self, asked: &AllocationRequest, key: &str) -> Answer<AllocationHandle> {
        let earlier = asked.after.as_ref();
        if earlier.is_some_and(|one| matches!(self.state(one), AllocationState::Running { .. })) {
            return Err(SchedulerError::NotNow("another has to end first".to_owned()));
        }
        let handle = AllocationHandle(key.to_owned());
        let worker = embed::worker_command(asked, &handle)?.env(CPUS_VARIABLE, "1").spawn()?;
        self.0.lock().expect("sound").insert(handle.clone(), worker);
        Ok(handle)
    }
    async fn find(&self, key: &str) -> Answer<Option<AllocationHandle>> {
        let handle = AllocationHandle(key.to_owned());
        Ok(self.0.lock().expect("sound").contains_key(&handle).then_some(handle))
    }
    async fn observe(&self, asked: &[AllocationHandle]) -> Answer<Vec<AllocationState>> {
        Ok(asked.iter().map(|allocation| self.state(allocation)).collect())
    }
    async fn cancel(&self, allocation: &AllocationHandle) -> Answer<()> {
        Ok(self.0.lock().expect("sound").get_mut(allocation).map_or(Ok(()), Child::kill)?)
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(ended) = embed::run_if_asked() {
        return Ok(ended?);
    }
    let words: Vec<String> = std::env::args().collect();
    let torc = Embedded::open(words[1].as_ref(), words[2].as_ref())?;
    let torc = torc.with_scheduler("pool", Arc::new(Pool::default()));
    let ended = tokio::runtime::Runtime::new()?.block_on(torc.run_in_allocations())?;
    Ok(if ended.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
