//! What a driver asks of others: allocations of the allocator, commands of workers or of this host. Performs
//! what was decided.

use torc_core::engine::{ActionCommand, FailedLaunch, Phase, RecoveryScript};
use torc_core::ids::{AllocationId, WorkerId};
use torc_core::traits::NodeState;
use torc_core::wire::link::ToWorker;

use super::Driver;
use crate::action_command::ActionProcess;
use crate::allocation_request::{self, Asking, Names};
use crate::allocator::Wish;
use crate::children::Child;
use crate::workers::WorkerLink;

impl Driver {
    /// From now on these connections are their workers', unless something else has happened since they
    /// were taken in.
    pub(super) fn welcome(&self, welcomes: Vec<(AllocationId, WorkerLink)>) {
        let Some(served) = &self.served else { return };
        for (allocation, link) in welcomes {
            if served.connections.get(&allocation) != Some(&link.id) {
                link.sender.close("it is of no use any more; to be tried again");
                continue;
            }
            link.send(ToWorker::Welcome { generation: served.around.generation });
            served.around.workers.register(allocation, link);
        }
    }

    /// Runs a command of an action: on the node of the worker that it is for, or here.
    pub(super) fn run_command(&mut self, command: ActionCommand) {
        let Some(text) = self.engine.command_text(command) else { return };
        if self.engine.phase() == Phase::Stopping {
            return;
        }
        let is_there = |worker: &WorkerId| {
            let book = self.engine.allocation_book(worker.allocation);
            let is_down = |node| self.engine.node_state(node) == Some(NodeState::Down);
            book.is_some_and(|book| book.is_live()) && !worker.node.is_some_and(is_down)
        };
        let worker = command.worker.filter(is_there);
        let process = self.action_process(command, text.to_owned());
        let node = worker.and_then(|worker| worker.node);
        match (worker, &self.served) {
            (Some(worker), Some(served)) => {
                // One that is away is told when it connects again.
                let Some(link) = served.around.workers.get(worker.allocation) else { return };
                let node = node.map(|node| self.engine.node_name(node).into());
                let ActionProcess { text, env, working_dir, output } = process;
                link.send(ToWorker::RunCommand { command, text, output, env, working_dir, node });
            }
            _ => match (node, &self.on_node) {
                (Some(node), Some(on_node)) => {
                    let end = on_node(self.engine.node_name(node), process);
                    self.children.await_end(Child::Command(command), end);
                }
                _ => self.children.begin(Child::Command(command), process),
            },
        }
    }

    /// Runs the recovery script of a launch, here.
    pub(super) fn run_script(&mut self, failed: FailedLaunch) {
        // It may have been called off meanwhile.
        let Some(script) = self.engine.recovery_script(failed, &self.context) else { return };
        let RecoveryScript { text, env, working_dir, output } = script;
        let process = ActionProcess { text, env, working_dir, output };
        self.children.begin(Child::Script(failed), process);
    }

    /// A command of an action with what it sees beyond the submitter's environment.
    fn action_process(&self, command: ActionCommand, text: String) -> ActionProcess {
        let id = self.engine.id();
        let run = self.engine.run().map_or(1, |run| run.0);
        let output_dir = &self.context.output_dir;
        let own = [
            ("TORC_WORKFLOW_ID", id.to_string()),
            ("TORC_RUN_ID", run.to_string()),
            ("TORC_OUTPUT_DIR", output_dir.to_string()),
            ("TORC_WORKFLOW_SUBMISSION_DIR", self.context.submission_dir.to_string()),
        ];
        let shared = self.engine.workflow().header.env.iter();
        let env = shared
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .chain(own.map(|(name, value)| (name.to_owned(), value)))
            .collect();
        ActionProcess {
            text,
            env,
            working_dir: output_dir.to_string(),
            output: self.action_output(command),
        }
    }

    /// Where the output of a command goes, and that of the others of its firing.
    pub(super) fn action_output(&self, command: ActionCommand) -> String {
        let id = self.engine.id();
        let run = self.engine.run().map_or(1, |run| run.0);
        let worker = command.worker.map_or_else(String::new, |worker| {
            let node = worker.node.map(|node| format!("_{}", self.engine.node_name(node)));
            format!("_al{}{}", worker.allocation, node.unwrap_or_default())
        });
        let (output_dir, action) = (&self.context.output_dir, command.action + 1);
        format!("{output_dir}/job_stdio/action_wf{id}_r{run}_x{action}{worker}.log")
    }

    /// Hands a wish for an allocation to the allocator.
    pub(super) fn wish(&self, allocation: AllocationId) {
        let Some(served) = &self.served else { return };
        let Some(book) = self.engine.allocation_book(allocation) else { return };
        let (Some(request), true) = (&book.request, book.is_unsubmitted()) else { return };
        let id = self.engine.id();
        let settings = &self.engine.workflow().header.schedulers[request.scheduler as usize];
        let before = self.engine.allocation_books().rev().find(|other| {
            other.allocation.id < allocation
                && other.is_open_request()
                && other.request.as_ref().is_some_and(|of| of.scheduler == request.scheduler)
        });
        let asking = Asking {
            workflow: self.engine.workflow(),
            program: &served.around.program,
            output_dir: &self.context.output_dir,
            submission_dir: &self.context.submission_dir,
            submitter: &served.around.submitter,
        };
        let names = Names { workflow: &id, allocation: &allocation };
        let after =
            before.filter(|_| settings.is_serialized()).and_then(|before| before.handle().cloned());
        served.around.allocator.want(Wish {
            who: (id, allocation),
            scheduler: settings.name.clone(),
            kind: settings.kind.as_str().into(),
            request: asking.request(settings, names, after),
            key: allocation_request::key(&served.around.store_key, names),
            in_doubt: request.at < served.began_at,
            driver: served.around.handle.clone(),
        });
    }
}
