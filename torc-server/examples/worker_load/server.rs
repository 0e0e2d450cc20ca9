//! The server, over a scheduler that grants at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use torc_core::governor::Limits;
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, NodeShape, Scheduler, SchedulerError,
    Shapes,
};
use torc_server::placers::Placers;
use torc_server::schedulers::Schedulers;
use torc_server::serve::{ServeOptions, Server};
use torc_server::state_dir::StateDir;

use crate::{Failure, parse, say};

/// `DIR WORKERS`: serves until it is told to end or killed.
pub(crate) fn main(args: &[String]) -> Result<(), Failure> {
    let (dir, workers): (PathBuf, usize) = (parse(args, 0)?, parse(args, 1)?);
    let limits = Limits { max_pending: workers, submit_pause: Duration::ZERO, ..Limits::default() };
    let grants: Arc<dyn Scheduler> = Arc::new(Grants);
    let built_in = BTreeMap::from([("slurm".to_owned(), grants)]);
    let options = ServeOptions {
        dir: StateDir::at(&dir)?,
        schedulers: Arc::new(Schedulers::new(built_in, Arc::new(|kind| Err(kind.to_owned())))),
        accounts: None,
        placers: Placers::none(),
        limits,
        program: PathBuf::from("/bin/torc"),
        port: 0,
        idle_exit: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(options).await?;
        say("ready");
        server.serve(std::future::pending()).await?;
        Ok(())
    })
}

/// A scheduler whose allocations run at once, each under torc's own number for it.
struct Grants;

#[async_trait]
impl Scheduler for Grants {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        Ok(Shapes::Known(vec![NodeShape {
            cpus: 2,
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: 0,
            count: 1,
        }]))
    }

    async fn submit(
        &self,
        request: &AllocationRequest,
        _: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        let mut words = request.command.iter().skip_while(|word| *word != "--allocation");
        let number = words.nth(1).ok_or(SchedulerError::Refused("which?".to_owned()))?;
        Ok(AllocationHandle(number.clone()))
    }

    async fn find(&self, _: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        Ok(None)
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        Ok(allocations.iter().map(|_| AllocationState::Running { ends_at: None }).collect())
    }

    async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
        Ok(())
    }
}
