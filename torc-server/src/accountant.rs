//! What steps used, asked of the scheduler's accounting some time after they ended: one question for the
//! steps of all allocations, seldom, and off the path from one job to the next.
//!
//! Accounting lags, and some sites have none: what is not known after a few questions is let go, and
//! nothing waits for it. However many steps end, there is at least the interval between two questions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, SchedulerError, StepAccount};

/// Where the figures come from.
#[async_trait]
pub trait Accounting: Send + Sync {
    /// What is known by now of these steps. Those of which nothing is known are left out.
    ///
    /// # Errors
    /// When it could not be asked; [`SchedulerError::Refused`] when there is no accounting.
    async fn accounts(
        &self,
        question: &Question,
    ) -> Result<Vec<(StepId, StepAccount)>, SchedulerError>;
}

/// What the accounting is asked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The steps, by the allocation that they ran in.
    pub steps: BTreeMap<AllocationHandle, BTreeSet<StepId>>,
    /// When the first of them ended, by the clock of the host it ran on.
    pub since: Timestamp,
}

/// An accounting, and how often it may be asked.
pub struct Accounts {
    /// Where the figures come from.
    pub source: Arc<dyn Accounting>,
    /// The pause between two questions, at least.
    pub interval: Duration,
}

/// A step that ended in an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedStep {
    pub(crate) allocation: AllocationHandle,
    pub(crate) step: StepId,
    /// When, by the clock of the host it ran on.
    pub(crate) at: Timestamp,
}

/// How long the accounting is given before the first question about a step.
const LAG: Duration = Duration::from_secs(5);
/// Questions about a step. The pauses between them are one interval, two, four, eight.
const MOST_QUESTIONS: u32 = 5;
/// After as many questions in a row without an answer, the pauses grow no more.
const MOST_SILENCES: u32 = 4;
/// What an interval can be.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// The way to the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Accountant {
    inbox: mpsc::UnboundedSender<EndedStep>,
}

impl Accountant {
    /// Starts the task; figures go to `tell`.
    pub(crate) fn spawn<T, F>(accounts: Accounts, tell: T) -> Self
    where
        T: Fn(Vec<(StepId, StepAccount)>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (inbox, ended) = mpsc::unbounded_channel();
        tokio::spawn(serve(accounts, ended, tell));
        Self { inbox }
    }

    /// A step has ended.
    pub(crate) fn ended(&self, ended: EndedStep) {
        // The task is over where there is no accounting.
        let _ = self.inbox.send(ended);
    }
}

/// The steps that are to be asked about.
struct Books {
    interval: Duration,
    /// By the moment from which on each is asked about, with how often it has been.
    waiting: BTreeMap<Instant, Vec<(u32, EndedStep)>>,
    /// Nothing is asked before.
    ask_at: Instant,
    /// Questions in a row that had no answer.
    silences: u32,
}

impl Books {
    fn new(interval: Duration) -> Self {
        let interval = interval.clamp(INTERVALS.0, INTERVALS.1);
        Self { interval, waiting: BTreeMap::new(), ask_at: Instant::now(), silences: 0 }
    }

    fn lag(&self) -> Duration {
        LAG.min(self.interval)
    }

    /// Has a step asked about later, unless it has been often enough.
    fn enter(&mut self, asked: u32, ended: EndedStep) {
        let pause = match asked {
            0 => self.lag(),
            MOST_QUESTIONS.. => return,
            _ => self.interval * 2_u32.pow(asked - 1),
        };
        self.waiting.entry(Instant::now() + pause).or_default().push((asked, ended));
    }

    /// When something is to be asked.
    fn next(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|due| self.ask_at.max(*due))
    }

    /// The steps that are to be asked about now, and those that would be soon after.
    fn due(&mut self) -> Vec<(u32, EndedStep)> {
        let soon = self.lag() / 2;
        let later = self.waiting.split_off(&(Instant::now() + soon));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }

    /// Takes note of whether a question had an answer.
    fn asked(&mut self, has_answer: bool) {
        self.silences = if has_answer { 0 } else { (self.silences + 1).min(MOST_SILENCES) };
        self.ask_at = Instant::now() + self.interval * 2_u32.pow(self.silences);
    }
}

async fn serve<T, F>(
    Accounts { source, interval }: Accounts,
    mut ended: mpsc::UnboundedReceiver<EndedStep>,
    tell: T,
) where
    T: Fn(Vec<(StepId, StepAccount)>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut books = Books::new(interval);
    loop {
        let next = books.next();
        let time = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            step = ended.recv() => match step {
                Some(step) => books.enter(0, step),
                None => return,
            },
            () = time => match ask(&*source, &mut books).await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => tell(found).await,
                Err(error) => {
                    tracing::info!(%error, "there is no accounting; results lack its figures");
                    return;
                }
            },
        }
    }
}

/// Asks about the steps that are due, and has those asked about again that nothing is known of.
///
/// # Errors
/// When there is no accounting.
async fn ask(
    source: &dyn Accounting,
    books: &mut Books,
) -> Result<Vec<(StepId, StepAccount)>, SchedulerError> {
    let due = books.due();
    let Some(question) = question(&due) else { return Ok(Vec::new()) };
    let answer = source.accounts(&question).await;
    books.asked(answer.is_ok());
    let found = match answer {
        Ok(found) => found,
        Err(error @ SchedulerError::Refused(_)) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "the accounting did not answer; it is asked again later");
            Vec::new()
        }
    };
    let known: BTreeSet<StepId> = found.iter().map(|(step, _)| *step).collect();
    let missing = due.into_iter().filter(|(_, ended)| !known.contains(&ended.step));
    missing.for_each(|(asked, ended)| books.enter(asked + 1, ended));
    Ok(found)
}

fn question(due: &[(u32, EndedStep)]) -> Option<Question> {
    let since = due.iter().map(|(_, ended)| ended.at).min()?;
    let mut steps: BTreeMap<AllocationHandle, BTreeSet<StepId>> = BTreeMap::new();
    for (_, EndedStep { allocation, step, .. }) in due {
        steps.entry(allocation.clone()).or_default().insert(*step);
    }
    Some(Question { steps, since })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use torc_core::ids::{AttemptId, JobId, RunId, WorkflowId};
    use torc_core::traits::Usage;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn step(job: u32) -> StepId {
        let (workflow, run, attempt) = (WorkflowId(1), RunId(1), AttemptId::FIRST);
        StepId { workflow, job: JobId(job), run, attempt }
    }

    fn ended(allocation: &str, job: u32) -> EndedStep {
        let allocation = AllocationHandle(allocation.to_owned());
        EndedStep { allocation, step: step(job), at: Timestamp(u64::from(job) * 1_000) }
    }

    /// Knows nothing, or does not answer, until the question with this number; then all of it.
    struct Scripted {
        knows_from: usize,
        answers_from: usize,
        asked: Mutex<Vec<(Instant, Question)>>,
    }

    impl Scripted {
        fn new(knows_from: usize, answers_from: usize) -> Arc<Self> {
            Arc::new(Self { knows_from, answers_from, asked: Mutex::default() })
        }

        /// When it was asked, in seconds since then, and for how many steps.
        fn asked_since(&self, then: Instant) -> Vec<(u64, usize)> {
            let asked = self.asked.lock().unwrap();
            let count = |question: &Question| question.steps.values().map(BTreeSet::len).sum();
            asked.iter().map(|(at, question)| ((*at - then).as_secs(), count(question))).collect()
        }
    }

    #[async_trait]
    impl Accounting for Scripted {
        async fn accounts(
            &self,
            question: &Question,
        ) -> Result<Vec<(StepId, StepAccount)>, SchedulerError> {
            let mut asked = self.asked.lock().unwrap();
            asked.push((Instant::now(), question.clone()));
            if asked.len() < self.answers_from {
                return Err(SchedulerError::Unavailable("busy".to_owned()));
            }
            let steps =
                question.steps.values().flatten().filter(|_| asked.len() >= self.knows_from);
            let usage = Usage { cpu_ms: 7, peak_memory: Some(9) };
            let account = StepAccount { usage, state: Some("COMPLETED".into()) };
            Ok(steps.map(|step| (*step, account.clone())).collect())
        }
    }

    fn spawn(source: Arc<dyn Accounting>) -> (Accountant, mpsc::UnboundedReceiver<u32>) {
        let (found_in, found) = mpsc::unbounded_channel();
        let accounts = Accounts { source, interval: INTERVAL };
        let accountant = Accountant::spawn(accounts, move |figures| {
            for (step, _) in figures {
                let _ = found_in.send(step.job.0);
            }
            async {}
        });
        (accountant, found)
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_question_for_all_allocations() {
        let source = Scripted::new(1, 1);
        let (accountant, mut found) = spawn(source.clone());
        for (allocation, job) in [("18", 2), ("17", 5), ("18", 3)] {
            accountant.ended(ended(allocation, job));
        }
        for expected in [5, 2, 3] {
            assert_eq!(found.recv().await, Some(expected));
        }
        let asked = source.asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        let words =
            asked[0].1.steps.iter().map(|(allocation, steps)| (allocation.0.as_str(), steps.len()));
        assert_eq!(words.collect::<Vec<_>>(), [("17", 1), ("18", 2)]);
        assert_eq!(asked[0].1.since, Timestamp(2_000), "the first end");
    }

    #[tokio::test(start_paused = true)]
    async fn steady_work_costs_one_question_an_interval() {
        let source = Scripted::new(1, 1);
        let (accountant, mut found) = spawn(source.clone());
        let begin = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        for job in 1..=300 {
            ticks.tick().await;
            accountant.ended(ended("17", job));
        }
        for _ in 1..=300 {
            found.recv().await.expect("every step is accounted for");
        }
        let times: Vec<u64> = source.asked_since(begin).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [5, 65, 125, 185, 245, 305]);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_that_come_late_are_asked_for_again() {
        let source = Scripted::new(3, 1);
        let (accountant, mut found) = spawn(source.clone());
        let begin = Instant::now();
        accountant.ended(ended("17", 1));
        assert_eq!(found.recv().await, Some(1));
        assert_eq!(source.asked_since(begin), [(5, 1), (65, 1), (185, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_that_do_not_come_are_given_up() {
        let source = Scripted::new(usize::MAX, 1);
        let (accountant, mut found) = spawn(source.clone());
        let begin = Instant::now();
        accountant.ended(ended("17", 1));
        tokio::time::sleep(INTERVAL * 1_000).await;
        let times: Vec<u64> = source.asked_since(begin).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [5, 65, 185, 425, 905]);
        drop(accountant);
        assert_eq!(found.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_more_seldom() {
        let source = Scripted::new(1, 4);
        let (accountant, mut found) = spawn(source.clone());
        let begin = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        for job in 1..=100 {
            ticks.tick().await;
            accountant.ended(ended("17", job));
        }
        for _ in 1..=100 {
            found.recv().await.expect("silence loses nothing");
        }
        let times: Vec<u64> = source.asked_since(begin).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times[..5], [5, 125, 365, 845, 905]);
    }

    struct NoneAtAll;

    #[async_trait]
    impl Accounting for NoneAtAll {
        async fn accounts(
            &self,
            _: &Question,
        ) -> Result<Vec<(StepId, StepAccount)>, SchedulerError> {
            Err(SchedulerError::Refused("Slurm accounting storage is disabled".to_owned()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_none_nothing_more_is_asked() {
        let (accountant, _) = spawn(Arc::new(NoneAtAll));
        accountant.ended(ended("17", 1));
        accountant.inbox.closed().await;
    }
}
