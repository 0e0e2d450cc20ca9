//! What happens around a worker, whether it is connected or not: reports of its executor, ends of
//! commands, the answer to when its allocation ends, the wish that it end.
//!
//! Decides nothing. Invariant: waiting for one of them never keeps another from being seen, however
//! long Slurm takes for an answer.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use torc_core::engine::ActionCommand;
use torc_core::time::Timestamp;
use torc_core::traits::StepEvent;

use super::AskEnd;
use crate::stop::asked_to_end;

/// How often the end of the allocation is asked for: it can be extended.
const ASK_END_EVERY: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, PartialEq)]
pub(super) enum Happening {
    /// The executor reports this.
    Reported(StepEvent),
    /// A command of an action ended with this code; `None`: the worker of its node is lost.
    CommandEnded(ActionCommand, Option<i32>),
    /// The allocation ends then; `None`: it does not end.
    EndKnown(Option<Timestamp>),
    /// Somebody asks this process to end. Happens once.
    AskedToEnd,
}

/// Where all of it comes from.
pub(super) struct Happenings {
    reports: mpsc::UnboundedReceiver<StepEvent>,
    command_ends: mpsc::UnboundedReceiver<(ActionCommand, Option<i32>)>,
    stop: watch::Receiver<bool>,
    was_asked_to_end: bool,
    ask_end: AskEnd,
    asks: Interval,
    /// The question that has no answer yet.
    asking: JoinSet<Result<Option<Timestamp>, ()>>,
}

impl Happenings {
    /// Must be called within a runtime.
    pub(super) fn new(
        reports: mpsc::UnboundedReceiver<StepEvent>,
        command_ends: mpsc::UnboundedReceiver<(ActionCommand, Option<i32>)>,
        stop: watch::Receiver<bool>,
        ask_end: AskEnd,
    ) -> Self {
        let mut asks = interval_at(Instant::now() + ASK_END_EVERY, ASK_END_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asking = JoinSet::new();
        let was_asked_to_end = false;
        Self { reports, command_ends, stop, was_asked_to_end, ask_end, asks, asking }
    }

    /// What happens next. Cancel safe.
    pub(super) async fn next(&mut self) -> Happening {
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => return Happening::Reported(report),
                Some((command, code)) = self.command_ends.recv() => {
                    return Happening::CommandEnded(command, code);
                }
                Some(answer) = self.asking.join_next() => {
                    if let Ok(Ok(ends_at)) = answer {
                        return Happening::EndKnown(ends_at);
                    }
                }
                _ = self.asks.tick(), if self.asking.is_empty() => {
                    self.asking.spawn((self.ask_end)());
                }
                () = asked_to_end(&mut self.stop), if !self.was_asked_to_end => {
                    self.was_asked_to_end = true;
                    return Happening::AskedToEnd;
                }
            }
        }
    }

    /// The reports that came before now and were not seen; there are no others afterwards.
    pub(super) fn last_reports(&mut self) -> impl Iterator<Item = StepEvent> {
        self.reports.close();
        std::iter::from_fn(|| self.reports.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::timeout;
    use torc_core::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};

    /// More than a question may take.
    const LONG: Duration = Duration::from_secs(600);

    fn started() -> StepEvent {
        let (workflow, job) = (WorkflowId(1), JobId(1));
        let step = StepId { workflow, job, run: RunId(1), attempt: AttemptId::FIRST };
        StepEvent::Started { step, at: Timestamp(7) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slurm_that_does_not_answer_keeps_nothing_from_being_seen() {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let ask_end: AskEnd = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        });
        let (reports_in, reports) = mpsc::unbounded_channel();
        let (commands, command_ends) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let mut happenings = Happenings::new(reports, command_ends, stopped, ask_end);
        timeout(LONG, happenings.next()).await.expect_err("nothing happens");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "it is asked one question at a time");
        reports_in.send(started()).unwrap();
        let seen = timeout(LONG, happenings.next()).await.expect("it is seen");
        assert_eq!(seen, Happening::Reported(started()));
        let command = ActionCommand { action: 0, worker: None, command: 0 };
        commands.send((command, Some(3))).unwrap();
        let seen = timeout(LONG, happenings.next()).await.expect("it is seen");
        assert_eq!(seen, Happening::CommandEnded(command, Some(3)));
        stop.send(true).unwrap();
        let seen = timeout(LONG, happenings.next()).await.expect("it is seen");
        assert_eq!(seen, Happening::AskedToEnd);
        timeout(LONG, happenings.next()).await.expect_err("it was said once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_asked_for_again_and_a_failed_answer_is_none() {
        let asked = AtomicU32::new(0);
        let ask_end: AskEnd = Box::new(move || {
            let count = asked.fetch_add(1, Ordering::Relaxed);
            let answer = if count == 0 { Err(()) } else { Ok(Some(Timestamp(u64::from(count)))) };
            Box::pin(std::future::ready(answer))
        });
        let (_reports_in, reports) = mpsc::unbounded_channel();
        let (_commands, command_ends) = mpsc::unbounded_channel();
        let (_stop, stopped) = watch::channel(false);
        let mut happenings = Happenings::new(reports, command_ends, stopped, ask_end);
        for count in 1..3 {
            let seen = timeout(LONG, happenings.next()).await.expect("it is answered");
            assert_eq!(seen, Happening::EndKnown(Some(Timestamp(count))));
        }
    }
}
