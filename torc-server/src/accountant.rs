//! What steps used, asked of the scheduler's accounting some time after they ended, in batches, and off
//! the path from one job to the next.
//!
//! Accounting lags, and some sites have none: what is not known after a while is let go, and nothing
//! waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use torc_core::ids::StepId;
use torc_core::traits::{AllocationHandle, SchedulerError, Usage};

/// Where the figures come from.
#[async_trait]
pub trait Accounting: Send + Sync {
    /// What these steps of an allocation used, as far as it is known yet.
    ///
    /// # Errors
    /// When it could not be asked; [`SchedulerError::Refused`] when there is no accounting.
    async fn usage(
        &self,
        allocation: &AllocationHandle,
        steps: &[StepId],
    ) -> Result<Vec<(StepId, Usage)>, SchedulerError>;
}

/// The pauses before each question about a step.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// Steps in one question.
const BATCH: usize = 1_000;

/// The way to the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Accountant {
    inbox: mpsc::UnboundedSender<(AllocationHandle, StepId)>,
}

impl Accountant {
    /// Starts the task; figures go to `tell`.
    pub(crate) fn spawn<T, F>(accounting: Arc<dyn Accounting>, tell: T) -> Self
    where
        T: Fn(Vec<(StepId, Usage)>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (inbox, ended) = mpsc::unbounded_channel();
        tokio::spawn(serve(accounting, ended, tell));
        Self { inbox }
    }

    /// A step of an allocation has ended.
    pub(crate) fn ended(&self, allocation: AllocationHandle, step: StepId) {
        let _ = self.inbox.send((allocation, step));
    }
}

/// The steps that are asked about together.
#[derive(Default)]
struct Books {
    /// By when they are asked about next: how often they were, and in which allocation they ran.
    due: BTreeMap<Instant, BTreeMap<(usize, AllocationHandle), BTreeSet<StepId>>>,
}

impl Books {
    fn enter(&mut self, asked: usize, allocation: AllocationHandle, steps: BTreeSet<StepId>) {
        let Some(pause) = PAUSES.get(asked) else { return };
        let at = Instant::now() + *pause;
        // What ends soon after is asked about with it.
        let slot = match self.due.range(..=at).next_back() {
            Some((slot, _)) if *slot + *pause / 2 >= at && *slot > Instant::now() => *slot,
            _ => at,
        };
        let due = self.due.entry(slot).or_default();
        due.entry((asked, allocation)).or_default().extend(steps);
    }
}

async fn serve<T, F>(
    accounting: Arc<dyn Accounting>,
    mut ended: mpsc::UnboundedReceiver<(AllocationHandle, StepId)>,
    tell: T,
) where
    T: Fn(Vec<(StepId, Usage)>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut books = Books::default();
    loop {
        let next = books.due.keys().next().copied();
        let time = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            step = ended.recv() => match step {
                Some((allocation, step)) => books.enter(0, allocation, BTreeSet::from([step])),
                None => return,
            },
            () = time => {
                let Some((_, due)) = books.due.pop_first() else { continue };
                for ((asked, allocation), steps) in due {
                    match ask(&*accounting, &allocation, steps, &tell).await {
                        Ok(missing) => books.enter(asked + 1, allocation, missing),
                        Err(error) => {
                            tracing::info!(%error, "there is no accounting; results lack its figures");
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Asks about steps, and tells what is known; what is not is returned.
async fn ask<T, F>(
    accounting: &dyn Accounting,
    allocation: &AllocationHandle,
    mut missing: BTreeSet<StepId>,
    tell: &T,
) -> Result<BTreeSet<StepId>, SchedulerError>
where
    T: Fn(Vec<(StepId, Usage)>) -> F,
    F: Future<Output = ()>,
{
    let all: Vec<StepId> = missing.iter().copied().collect();
    for steps in all.chunks(BATCH) {
        match accounting.usage(allocation, steps).await {
            Ok(found) => {
                for (step, _) in &found {
                    missing.remove(step);
                }
                if !found.is_empty() {
                    tell(found).await;
                }
            }
            Err(error @ SchedulerError::Refused(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, "accounting did not answer; asked again later"),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use torc_core::ids::{AttemptId, JobId, RunId, WorkflowId};

    use super::*;

    fn step(job: u32) -> StepId {
        let (workflow, run, attempt) = (WorkflowId(1), RunId(1), AttemptId::FIRST);
        StepId { workflow, job: JobId(job), run, attempt }
    }

    /// Knows the steps with even numbers at once, the others from the third question on.
    #[derive(Default)]
    struct Late(Mutex<Vec<Vec<StepId>>>);

    #[async_trait]
    impl Accounting for Late {
        async fn usage(
            &self,
            _: &AllocationHandle,
            steps: &[StepId],
        ) -> Result<Vec<(StepId, Usage)>, SchedulerError> {
            let mut asked = self.0.lock().unwrap();
            asked.push(steps.to_vec());
            let round = asked.len();
            if round == 2 {
                return Err(SchedulerError::Unavailable("busy".to_owned()));
            }
            let known = steps.iter().filter(|step| step.job.0 % 2 == 0 || round > 2);
            Ok(known.map(|step| (*step, Usage { cpu_ms: 7, peak_memory: Some(9) })).collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn figures_that_come_late_are_asked_for_again_in_batches() {
        let accounting = Arc::new(Late::default());
        let (found_in, mut found) = mpsc::unbounded_channel();
        let accountant = Accountant::spawn(accounting.clone(), move |figures| {
            let found_in = found_in.clone();
            async move {
                for (step, _) in figures {
                    let _ = found_in.send(step);
                }
            }
        });
        for job in 1..=4 {
            accountant.ended(AllocationHandle("17".to_owned()), step(job));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(found.recv().await.expect("all are found").job.0);
        }
        assert_eq!(seen, [2, 4, 1, 3]);
        let asked = accounting.0.lock().unwrap().clone();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[0].len(), 4, "one question for all of them");
        assert_eq!(asked[2], [step(1), step(3)]);
    }

    struct NoneAtAll;

    #[async_trait]
    impl Accounting for NoneAtAll {
        async fn usage(
            &self,
            _: &AllocationHandle,
            _: &[StepId],
        ) -> Result<Vec<(StepId, Usage)>, SchedulerError> {
            Err(SchedulerError::Refused("Slurm accounting storage is disabled".to_owned()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_none_nothing_more_is_asked() {
        let accountant = Accountant::spawn(Arc::new(NoneAtAll), |_| async {});
        accountant.ended(AllocationHandle("17".to_owned()), step(1));
        accountant.inbox.closed().await;
    }
}
