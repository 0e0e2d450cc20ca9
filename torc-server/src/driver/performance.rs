//! Doing what was decided: launches, signals, answers.

use tokio::time::Instant;
use torc_core::engine::Event;
use torc_core::ids::{AttemptId, JobId, WorkflowId};
use torc_core::traits::{ExecutorError, StepSignal};
use torc_core::wire::link::ToWorker;

use super::{Driver, Held};
use crate::children::Child;
use crate::clock::now;
use crate::handle::{Acknowledgement, LookFn, RequestError};
use crate::view::{NOTHING_HELD_BACK, NOTHING_OBSERVED, View};

impl Driver {
    pub(super) async fn perform(&mut self, held: Held) {
        self.welcome(held.welcomes);
        for (link, reason) in held.dismissals {
            link.send(ToWorker::Refused { reason });
        }
        self.end_strangers(&held.strangers);
        self.launch(held.launches).await;
        for (job, attempt, signal) in held.signals {
            self.signal(job, attempt, signal).await;
        }
        // Whoever asked may have gone away meanwhile.
        let _ = held.begun.map(|begun| begun.send(()));
        for (reply, report) in held.cancels {
            let _ = reply.send(report);
        }
        for (reply, report) in held.restarts {
            let _ = reply.send(report);
        }
        held.answers.into_iter().for_each(|answer| answer());
        Acknowledgement::send_all(held.acknowledgements);
        for command in held.commands {
            self.run_command(command);
        }
        for failed in held.scripts {
            self.run_script(failed);
        }
        for failed in held.ended_scripts {
            self.children.end(Child::Script(failed));
        }
        for allocation in held.wishes {
            self.wish(allocation);
        }
        for (allocation, node) in held.releases {
            self.release_node(allocation, node);
        }
        let Some(served) = &self.served else { return };
        if let Some(accountant) = &served.around.accountant {
            held.accountable.into_iter().for_each(|ended| accountant.ended(ended));
        }
        for allocation in held.withdrawals {
            served.around.allocator.withdraw((self.engine.id(), allocation));
        }
        for who in held.cancellations {
            served.around.allocator.cancel(who);
        }
        for allocation in held.leaves {
            if let Some(link) = served.around.workers.get(allocation) {
                link.send(ToWorker::Leave { reason: "nothing is left to run here".to_owned() });
            }
        }
    }

    pub(super) async fn launch(&mut self, dispatched: Vec<Event>) {
        for event in dispatched {
            let Event::Dispatched { job, attempt, placement, .. } = event else { continue };
            let launched = match self.engine.step(job, attempt, &placement, &self.context) {
                Some(step) => self.executor.launch(step).await,
                None => {
                    tracing::error!(%job, "its nodes went away between decision and launch");
                    Ok(())
                }
            };
            self.note(launched);
        }
    }

    /// Of a server's many workers, only the one that has the step is told. A step that has ended
    /// meanwhile is nobody's.
    async fn signal(&mut self, job: JobId, attempt: AttemptId, signal: StepSignal) {
        let step = self.engine.step_id(job, attempt);
        let Some(served) = &self.served else {
            let signaled = self.executor.signal(step, signal).await;
            return self.note(signaled);
        };
        let holder = self.engine.allocation_of(job);
        if let Some(link) = holder.and_then(|allocation| served.around.workers.get(allocation)) {
            link.send(ToWorker::Signal(step, signal));
        }
    }

    /// An executor that is gone ends the run, once all that is known is stored.
    fn note(&mut self, result: Result<(), ExecutorError>) {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
            self.flush_at = Some(Instant::now());
        }
    }

    pub(super) fn look(&self, id: Option<WorkflowId>, look: LookFn) {
        match id.filter(|id| *id != self.engine.id()) {
            None => look(Ok(&View {
                engine: &self.engine,
                planned: &self.planned,
                now: now(),
                is_live: true,
                output_dir: &self.context.output_dir,
                submission_dir: &self.context.submission_dir,
                observed: self.served.as_ref().map_or(&NOTHING_OBSERVED, |served| &served.observed),
                held_back: self
                    .served
                    .as_ref()
                    .map_or(&NOTHING_HELD_BACK, |served| &served.held_back),
            })),
            Some(id) => {
                let store = self.store.clone();
                tokio::spawn(async move {
                    match store.load(Some(id)).await {
                        Some(Ok(stored)) => look(Ok(&stored.view(now()))),
                        Some(Err(error)) => look(Err(error.into())),
                        None => look(Err(RequestError::Over)),
                    }
                });
            }
        }
    }
}
