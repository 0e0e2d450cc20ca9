//! Actions: when their moment has come, and how far their commands are.
//!
//! Owns which actions have fired in the current run. Does not know how nodes are asked for or how
//! commands are run. In one run, an action fires once, or once a worker; a replay fires none.

use std::collections::BTreeMap;

use crate::ids::{JobId, NodeId, WorkerId};
use crate::time::Timestamp;
use crate::traits::NodeState;
use crate::workflow::{Action, ActionKind, ExecutionMode, Trigger};

use super::{ActionCommand, AllocationBook, Effect, Engine, Event, JobStatus, Phase, Refused};

/// What became of one action in the current run.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionBook {
    /// Its firings, by the worker that they are for.
    firings: BTreeMap<Option<WorkerId>, Firing>,
    /// Of the jobs that it waits for, so many from the first on need not be looked at again.
    settled: usize,
}

/// One firing of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// When.
    pub at: Timestamp,
    /// Commands that have ended.
    pub commands_ended: u32,
    /// The code of a command that failed; no other follows it.
    pub failed: Option<i32>,
}

impl Engine {
    /// What the moment asks for: actions that fire now, with the requests for nodes that follow. Where nodes
    /// are simply there, who would ask for some is satisfied.
    /// The events are applied; the effects are to be done once the events are stored.
    pub fn fire_actions(&mut self, now: Timestamp) -> (Vec<Event>, Vec<Effect>) {
        let (mut events, mut effects) = (Vec::new(), Vec::new());
        let has_nodes = self.has_nodes_of_its_own();
        let workflow = self.workflow.clone();
        for (action, index) in workflow.header.actions.iter().zip(0u32..) {
            if !self.has_moments(action) {
                continue;
            }
            for worker in self.due(action, index) {
                let fired = Event::ActionFired { at: now, action: index, worker };
                let Ok(follows) = self.apply(&fired) else { continue };
                events.push(fired);
                effects.extend(follows);
                if !has_nodes {
                    self.request_nodes(action, index, now, &mut events);
                }
            }
        }
        (events, effects)
    }

    /// Whether nodes are simply there: nobody is asked for others then.
    fn has_nodes_of_its_own(&self) -> bool {
        let mut books = self.allocations.values();
        books.any(|book| book.request.is_none() && book.is_live() && book.is_reachable)
    }

    /// Whether the moment of an action may come where the run stands. Workers that are kept outlive their
    /// run, and have last commands all the same.
    fn has_moments(&self, action: &Action) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Ended { .. } => {
                self.workflow.header.ignore_workflow_completion
                    && matches!(action.trigger, Trigger::OnWorkerComplete)
                    && matches!(action.kind, ActionKind::RunCommands(_))
            }
            Phase::New | Phase::Stopping => false,
        }
    }

    /// Whether a job waits for no other any more.
    pub(super) fn has_become_ready(&self, job: JobId) -> bool {
        !matches!(self.status(job), JobStatus::Uninitialized | JobStatus::Blocked)
            || self.is_recovering(job)
    }

    fn request_nodes(
        &mut self,
        action: &Action,
        index: u32,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) {
        let ActionKind::ScheduleNodes { scheduler, num_allocations, .. } = action.kind else {
            return;
        };
        for _ in 0..num_allocations {
            let allocation = self.next_allocation();
            let wanted =
                Event::AllocationRequested { at: now, allocation, scheduler, action: Some(index) };
            if self.apply(&wanted).is_ok() {
                events.push(wanted);
            }
        }
    }

    /// The workers for which an action is to fire now; `None` among them stands for the workflow.
    fn due(&mut self, action: &Action, index: u32) -> Vec<Option<WorkerId>> {
        let has_fired = !self.actions[index as usize].firings.is_empty();
        let once = |is_due: bool| if is_due && !has_fired { vec![None] } else { Vec::new() };
        match &action.trigger {
            Trigger::OnWorkflowStart => once(true),
            Trigger::OnWorkflowComplete => once(self.counts.ended() as usize == self.jobs.len()),
            Trigger::OnJobsReady(jobs) => {
                once(self.all_settled(index, jobs, Self::has_become_ready))
            }
            Trigger::OnJobsComplete(jobs) => {
                once(self.all_settled(index, jobs, |engine, job| engine.status(job).has_ended()))
            }
            Trigger::OnWorkerStart => self.due_workers(action, index, |book, node| {
                book.is_live() && node.is_none_or(|node| self.ledger.is_good(node))
            }),
            Trigger::OnWorkerComplete => self.due_workers(action, index, |book, node| {
                let has_left = |node| {
                    self.ledger.is_leaving(node) || self.ledger.state(node) == Some(NodeState::Down)
                };
                // Where nodes are simply there, the next worker takes the place of one that died with torc.
                let has_ended = book.end.is_some() && book.request.is_some();
                has_ended || book.is_leaving || node.is_some_and(has_left)
            }),
        }
    }

    /// Whether a worker that is still there has commands to run when it leaves, so that the run is not
    /// over before it has.
    pub fn awaits_last_commands(&self) -> bool {
        let actions = self.workflow.header.actions.iter().zip(0u32..);
        let mut last = actions.filter(|(action, _)| {
            matches!(action.trigger, Trigger::OnWorkerComplete)
                && matches!(action.kind, ActionKind::RunCommands(_))
        });
        self.phase == Phase::Running
            && !self.keeps_workers()
            && last.any(|(action, index)| {
                !self.due_workers(action, index, |book, _| book.end.is_none()).is_empty()
            })
    }

    /// Whether workers stay until their allocations end, whatever becomes of the workflow, unless somebody
    /// wished that all of it ended. Nodes that are simply there are not let go of in any case.
    pub fn keeps_workers(&self) -> bool {
        let has_requested = self.allocations.values().any(|book| book.request.is_some());
        self.workflow.header.ignore_workflow_completion && has_requested && !self.is_called_off
    }

    /// A persistent action fires once for each worker that came in this run, another one for the
    /// first. One that was kept from an earlier run leaves in this one.
    fn due_workers(
        &self,
        action: &Action,
        index: u32,
        is_moment: impl Fn(&AllocationBook, Option<NodeId>) -> bool,
    ) -> Vec<Option<WorkerId>> {
        let firings = &self.actions[index as usize].firings;
        if !action.persistent && !firings.is_empty() {
            return Vec::new();
        }
        let began = self.run_started_at.unwrap_or_default();
        let is_kept = |book: &AllocationBook| {
            let is_end = matches!(action.trigger, Trigger::OnWorkerComplete);
            is_end
                && self.workflow.header.ignore_workflow_completion
                && book.end.as_ref().is_none_or(|end| end.at >= began)
        };
        let is_of_run =
            |book: &&AllocationBook| book.granted_at.is_some_and(|at| at >= began || is_kept(book));
        let due = self
            .allocations
            .values()
            .filter(is_of_run)
            .flat_map(|book| self.workers_of(book).map(move |worker| (book, worker)))
            .filter(|(book, worker)| is_moment(book, worker.node))
            .map(|(_, worker)| Some(worker))
            .filter(|worker| !firings.contains_key(worker));
        let most = if action.persistent { usize::MAX } else { 1 };
        due.take(most).collect()
    }

    /// The workers of an allocation: one of each node in mode direct, else one of all.
    pub(super) fn workers_of(&self, book: &AllocationBook) -> impl Iterator<Item = WorkerId> {
        let allocation = book.allocation.id;
        let is_by_node = self.workflow.header.execution.mode == ExecutionMode::Direct;
        let nodes = book.allocation.nodes.iter().filter(move |_| is_by_node);
        let of_nodes = nodes.map(move |(node, _)| WorkerId { allocation, node: Some(*node) });
        of_nodes.chain((!is_by_node).then_some(WorkerId { allocation, node: None }))
    }

    /// Whether all of these jobs have come so far. In one run, a job that has stays so.
    fn all_settled(
        &mut self,
        index: u32,
        jobs: &[JobId],
        is_settled: impl Fn(&Self, JobId) -> bool,
    ) -> bool {
        let from = self.actions[index as usize].settled;
        let more = jobs[from..].iter().take_while(|job| is_settled(self, **job)).count();
        let settled = from + more;
        self.actions[index as usize].settled = settled;
        settled == jobs.len()
    }

    pub(super) fn fire(
        &mut self,
        at: Timestamp,
        action: u32,
        worker: Option<WorkerId>,
    ) -> Result<Vec<Effect>, Refused> {
        let refused = self.wrong_phase();
        let has_moments = self
            .workflow
            .header
            .actions
            .get(action as usize)
            .is_some_and(|it| self.has_moments(it));
        let Some(book) = self.actions.get_mut(action as usize).filter(|_| has_moments) else {
            return Err(refused);
        };
        if book.firings.contains_key(&worker) {
            return Err(refused);
        }
        book.firings.insert(worker, Firing { at, commands_ended: 0, failed: None });
        Ok(self.next_command(action, worker).into_iter().map(Effect::RunCommand).collect())
    }

    pub(super) fn end_command(
        &mut self,
        ended: ActionCommand,
        code: i32,
    ) -> Result<Vec<Effect>, Refused> {
        let refused = self.wrong_phase();
        if self.next_command(ended.action, ended.worker) != Some(ended) {
            return Err(refused);
        }
        let firings = &mut self.actions[ended.action as usize].firings;
        if let Some(firing) = firings.get_mut(&ended.worker) {
            firing.commands_ended += 1;
            firing.failed = Some(code).filter(|code| *code != 0);
        }
        let next = self.next_command(ended.action, ended.worker);
        Ok(next.into_iter().map(Effect::RunCommand).collect())
    }

    /// The command that is to be run, or runs, for a firing.
    fn next_command(&self, action: u32, worker: Option<WorkerId>) -> Option<ActionCommand> {
        let firing = self.actions.get(action as usize)?.firings.get(&worker)?;
        let ActionKind::RunCommands(commands) = &self.workflow.header.actions[action as usize].kind
        else {
            return None;
        };
        let is_over = firing.failed.is_some() || firing.commands_ended as usize >= commands.len();
        (!is_over).then_some(ActionCommand { action, worker, command: firing.commands_ended })
    }

    /// The commands of actions that are to be run, or run. After a crash they are run again.
    pub fn commands_under_way(&self) -> impl Iterator<Item = ActionCommand> {
        let firings =
            self.actions.iter().zip(0u32..).flat_map(|(book, action)| {
                book.firings.keys().map(move |worker| (action, *worker))
            });
        firings.filter_map(|(action, worker)| self.next_command(action, worker))
    }

    /// The text of an action's command.
    pub fn command_text(&self, command: ActionCommand) -> Option<&str> {
        match &self.workflow.header.actions.get(command.action as usize)?.kind {
            ActionKind::RunCommands(commands) => {
                commands.get(command.command as usize).map(String::as_str)
            }
            ActionKind::ScheduleNodes { .. } => None,
        }
    }

    /// The firings of an action in the current run.
    pub fn firings(&self, action: u32) -> impl Iterator<Item = (Option<WorkerId>, Firing)> {
        let firings = self.actions.get(action as usize).into_iter().flat_map(|book| &book.firings);
        firings.map(|(worker, firing)| (*worker, *firing))
    }

    /// A run begins: every action may fire anew.
    pub(super) fn reset_actions(&mut self) {
        self.actions = vec![ActionBook::default(); self.workflow.header.actions.len()];
    }

    /// Jobs were put back: those that an action waits for are to be looked at again.
    pub(super) fn recount_actions(&mut self) {
        for book in &mut self.actions {
            book.settled = 0;
        }
    }
}
