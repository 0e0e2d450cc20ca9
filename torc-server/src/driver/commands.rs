//! What runs besides jobs: actions, whose moments come, and recovery scripts, before their jobs are ready
//! again.
//!
//! Decides synchronously; what follows is held until it is durable. A command or a script that ends badly
//! while the run is being stopped was ended for that: it has not ended, and runs again when the run goes on.

use torc_core::engine::{ActionCommand, Effect, Event, FailedLaunch, Phase};
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::wire::RestartReport;

use super::Driver;
use crate::children::Child;
use crate::handle::RequestError;

impl Driver {
    /// The moment of an action may have come.
    pub(super) fn act(&mut self, now: Timestamp) {
        let (events, effects) = self.engine.fire_actions(now);
        if !events.is_empty() {
            self.pending.extend(events);
            self.disturb_all();
        }
        self.hold_effects(effects);
    }

    /// The scripts of jobs that are to be tried again come first.
    pub(super) fn recover(&mut self, now: Timestamp) {
        let (events, effects) = self.engine.begin_recoveries(now);
        self.pending.extend(events);
        self.hold_effects(effects);
    }

    pub(super) fn hold_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Signal { job, attempt, signal } => {
                    self.held.signals.push((job, attempt, signal));
                }
                Effect::RunCommand(command) => self.held.commands.push(command),
                Effect::RunRecovery(failed) => self.held.scripts.push(failed),
                Effect::EndRecovery(failed) => self.held.ended_scripts.push(failed),
            }
        }
    }

    /// A command or a script has ended.
    pub(super) fn take_end(&mut self, child: Child, code: i32, at: Timestamp) {
        self.children.ended(child);
        if self.engine.phase() == Phase::Stopping && code != 0 {
            return;
        }
        if code != 0 {
            self.tell_of_failure(child, code);
        }
        match child {
            Child::Command(ActionCommand { action, worker, command }) => {
                self.apply(Event::ActionCommandEnded { at, action, worker, command, code });
                // Its allocation may be given back now.
                worker.into_iter().for_each(|worker| self.disturb(worker.allocation));
            }
            Child::Script(FailedLaunch { job, attempt }) => {
                self.apply(Event::RecoveryEnded { at, job, attempt, code });
            }
        }
    }

    /// A person is told of a command or a script that failed, and where it says why.
    fn tell_of_failure(&self, child: Child, code: i32) {
        let (what, output) = match child {
            Child::Command(command) => {
                if !self.engine.commands_under_way().any(|one| one == command) {
                    return;
                }
                let (number, action) = (command.command + 1, command.action + 1);
                let what = format!("command {number} of action {action}");
                (what, self.action_output(command))
            }
            Child::Script(failed) => {
                let script = self.engine.recovery_script(failed, &self.context);
                // It may have been called off.
                let Some(script) = script else { return };
                let name = &self.engine.workflow().jobs[failed.job.index()].name;
                (format!("the recovery script of `{name}`"), script.output)
            }
        };
        // Nobody may listen.
        let _ =
            self.notices.send(format!("{what} ended with code {code}; its output is in {output}"));
    }

    /// Nothing is left to do on nodes that are simply there, but the last commands of their workers, whose
    /// moment this is.
    pub(super) fn part_from_nodes(&mut self, now: Timestamp) {
        if self.served.is_some() {
            return;
        }
        let live = self.engine.allocation_books().filter(|book| book.is_live() && !book.is_leaving);
        let live: Vec<AllocationId> = live.map(|book| book.allocation.id).collect();
        for allocation in live {
            self.apply(Event::AllocationLeaving { at: now, allocation });
        }
        self.act(now);
    }

    /// Whether nothing starts any more, since the last commands run on nodes that are simply there.
    pub(super) fn has_parted(&self) -> bool {
        self.served.is_none()
            && self.engine.allocation_books().any(|book| book.is_live() && book.is_leaving)
    }

    /// Whether workers are there that outlive the run.
    pub(super) fn has_kept_workers(&self) -> bool {
        let mut books = self.engine.allocation_books();
        self.engine.keeps_workers() && books.any(|book| book.is_live() && !book.is_leaving)
    }

    /// Begins the next run, on the workers that outlived the last one and what else its actions ask for.
    pub(super) fn run_again(&mut self, now: Timestamp) -> Result<RestartReport, RequestError> {
        let jobs = self.engine.unfinished_jobs();
        if jobs.is_empty() {
            return Err(RequestError::nothing_left(self.engine.id()));
        }
        let put_back = jobs.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        self.apply(self.engine.next_run(now, jobs));
        self.conclusion = None;
        self.disturb_all();
        if let Some(served) = &self.served {
            served.around.allocator.forgive(self.engine.id());
        }
        Ok(RestartReport { put_back, is_new_run: true })
    }
}
