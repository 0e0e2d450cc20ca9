//! The sources of allocations of a server, by the type that specs call them by.
//!
//! Owns which have been opened. Does not know what they are: whoever starts the server says how one is
//! opened. Invariants: a type is opened when it is first needed, and then stays; one that does not open is
//! tried again by the next who needs it, and holds up no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use torc_core::traits::{Scheduler, SchedulerError};

/// Opens the scheduler of a type. Called where it may block. Its error says what is wrong, and names the
/// type.
pub type OpenScheduler = dyn Fn(&str) -> Result<Arc<dyn Scheduler>, String> + Send + Sync;

/// The schedulers of a server.
pub struct Schedulers {
    opened: Mutex<BTreeMap<String, Arc<dyn Scheduler>>>,
    open: Arc<OpenScheduler>,
}

impl Schedulers {
    /// Those that are built in, by their types; all others are opened.
    pub fn new(built_in: BTreeMap<String, Arc<dyn Scheduler>>, open: Arc<OpenScheduler>) -> Self {
        Self { opened: Mutex::new(built_in), open }
    }

    /// The scheduler of a type.
    ///
    /// # Errors
    /// When there is none, or it does not open; with the words of whoever tried.
    pub async fn of(&self, kind: &str) -> Result<Arc<dyn Scheduler>, String> {
        if let Some(scheduler) = self.known(kind) {
            return Ok(scheduler);
        }
        let (open, wanted) = (self.open.clone(), kind.to_owned());
        let opened = tokio::task::spawn_blocking(move || open(&wanted)).await;
        let scheduler = opened.map_err(|error| format!("type `{kind}`: {error}"))??;
        // Somebody else may have opened it meanwhile: all are to have the same.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(opened.entry(kind.to_owned()).or_insert(scheduler).clone())
    }

    fn known(&self, kind: &str) -> Option<Arc<dyn Scheduler>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get(kind).cloned()
    }

    /// The same for one that opened before: that it does not now may pass.
    pub(crate) async fn ask(&self, kind: &str) -> Result<Arc<dyn Scheduler>, SchedulerError> {
        self.of(kind).await.map_err(SchedulerError::Unavailable)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use async_trait::async_trait;
    use torc_core::traits::{AllocationHandle, AllocationRequest, AllocationState, Shapes};

    use super::*;

    /// These schedulers only.
    pub(crate) fn only(kind: &str, scheduler: Arc<dyn Scheduler>) -> Arc<Schedulers> {
        let built_in = BTreeMap::from([(kind.to_owned(), scheduler)]);
        Arc::new(Schedulers::new(built_in, Arc::new(|kind| Err(format!("no plugin `{kind}`")))))
    }

    /// Has nothing.
    struct Idle;

    #[async_trait]
    impl Scheduler for Idle {
        async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
            Ok(Shapes::Unknown)
        }

        async fn submit(
            &self,
            _: &AllocationRequest,
            _: &str,
        ) -> Result<AllocationHandle, SchedulerError> {
            Err(SchedulerError::Unavailable("asleep".to_owned()))
        }

        async fn find(&self, _: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
            Ok(None)
        }

        async fn observe(
            &self,
            allocations: &[AllocationHandle],
        ) -> Result<Vec<AllocationState>, SchedulerError> {
            Ok(vec![AllocationState::Unknown; allocations.len()])
        }

        async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
            Ok(())
        }
    }

    fn opens(kind: &str) -> Result<Arc<dyn Scheduler>, String> {
        match kind {
            "good" => Ok(Arc::new(Idle)),
            other => Err(format!("there is no plugin `{other}`")),
        }
    }

    #[tokio::test]
    async fn a_type_is_opened_once_and_one_that_cannot_be_is_named() {
        let schedulers = Schedulers::new(BTreeMap::new(), Arc::new(opens));
        let (first, second) = (schedulers.of("good").await, schedulers.of("good").await);
        assert!(Arc::ptr_eq(&first.expect("opens"), &second.expect("is there")));
        let error = schedulers.of("pbs").await.err();
        assert_eq!(error.as_deref(), Some("there is no plugin `pbs`"));
    }
}
