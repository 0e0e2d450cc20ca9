//! The engine's state as others see it. The same for a live workflow and one read from the store.

use std::collections::BTreeMap;

use crate::ids::{JobId, NodeId, StepId};
use crate::resources::{Allocation, NodeInventory, Request};
use crate::time::Timestamp;
use crate::traits::PlannedStart;
use crate::wire::{
    AttemptReport, HeldNode, JobReport, NodeReport, PlannedReport, RunState, WorkflowReport,
};

use super::attempts::Attempt;
use super::explain::Causes;
use super::launch::stdio_paths;
use super::status::JobStatus;
use super::verdict::return_code;
use super::{Engine, Phase};

/// What is there for jobs, counted in CPUs; in slots where every node has them.
struct Capacity {
    places: u64,
    nodes: u64,
    are_slots: bool,
}

impl Capacity {
    fn of<'a>(allocations: impl Iterator<Item = &'a Allocation>) -> Self {
        let nodes: Vec<_> =
            allocations.flat_map(|one| &one.nodes).map(|(_, inventory)| inventory).collect();
        let are_slots = nodes.iter().all(|node| node.slots.is_some());
        let places = |node: &&NodeInventory| if are_slots { node.places() } else { node.cpus() };
        Self {
            places: nodes.iter().map(places).map(u64::from).sum(),
            nodes: nodes.len() as u64,
            are_slots,
        }
    }

    fn taken_by(&self, request: &Request) -> u64 {
        let nodes = u64::from(request.nodes);
        match (self.are_slots, request.is_gang()) {
            (false, _) => u64::from(request.cpus) * nodes,
            (true, false) => 1,
            (true, true) => (nodes * self.places / self.nodes.max(1)).max(1),
        }
    }
}

impl Engine {
    /// The workflow as a whole. `is_live`: a process runs it now.
    pub fn workflow_report(
        &self,
        now: Timestamp,
        is_live: bool,
        planned: &[PlannedStart],
    ) -> WorkflowReport {
        let header = &self.workflow.header;
        let until = self.known_until(now, is_live);
        let of_run = self.attempts.iter().filter(|attempt| Some(attempt.run) == self.run);
        let time = self.idleness.until(until);
        let counts: BTreeMap<JobStatus, u32> =
            JobStatus::ALL.iter().map(|status| (*status, self.counts.of(*status))).collect();
        WorkflowReport {
            id: self.id,
            name: header.name.clone(),
            run: self.run,
            state: self.run_state(is_live),
            jobs: counts.values().sum(),
            counts,
            started_at: self.run_started_at,
            ended_at: self.run_ended_at,
            wall_ms: self.wall_ms(until),
            held_cpu_ms: time.held,
            idle_cpu_ms: time.idle,
            available_cpu_ms: time.sum(),
            used_cpu_ms: of_run
                .filter_map(|attempt| attempt.end.as_ref())
                .map(|end| end.usage.cpu_ms)
                .sum(),
            expected_end: if is_live { self.expected_end(now) } else { None },
            running: if is_live { self.longest_running() } else { Vec::new() },
            nodes: self.node_reports(),
            planned: planned.iter().map(|planned| self.planned_report(planned)).collect(),
            placer_replaced: self.dismissal.as_ref().map(ToString::to_string),
        }
    }

    /// Up to when the state of the current run is known.
    fn known_until(&self, now: Timestamp, is_live: bool) -> Timestamp {
        self.run_ended_at.unwrap_or(if is_live { now } else { self.last_event_at })
    }

    /// How long the current run has been driven.
    fn wall_ms(&self, until: Timestamp) -> u64 {
        let Some(start) = self.run_started_at else { return 0 };
        let driven = until.since(start).saturating_sub(self.paused);
        u64::try_from(driven.as_millis()).unwrap_or(u64::MAX)
    }

    fn run_state(&self, is_live: bool) -> RunState {
        match self.phase {
            Phase::New => RunState::New,
            Phase::Running if is_live => RunState::Running,
            Phase::Stopping if is_live => RunState::Stopping,
            Phase::Running | Phase::Stopping => RunState::Interrupted,
            Phase::Ended { complete: false } => RunState::Incomplete,
            Phase::Ended { complete: true } => RunState::Ended,
        }
    }

    /// When the remaining jobs will be done, if those of each class take as long as the ended ones
    /// did (or declared), and every CPU, or slot, is kept busy. `None` while nothing is known of that, or
    /// of nodes.
    fn expected_end(&self, now: Timestamp) -> Option<Timestamp> {
        let there = Capacity::of(self.live_allocations());
        if there.places == 0 {
            return None;
        }
        let mut seen = vec![(0u64, 0u64); self.classes.requests().len()];
        for attempt in &self.attempts {
            let Some(end) = &attempt.end else { continue };
            if end.outcome.came_from_outside() {
                continue;
            }
            let (count, total_ms) = &mut seen[self.classes.of_job(attempt.job).0 as usize];
            *count += 1;
            *total_ms += end.at.0.saturating_sub(attempt.dispatched_at.0);
        }
        let mut left_ms = 0;
        for job in (0..self.jobs.len()).map(JobId::from_index) {
            if self.status(job).has_ended() {
                continue;
            }
            let class = self.classes.of_job(job);
            let request = self.classes.request(class);
            let declared = request.runtime.and_then(|time| u64::try_from(time.as_millis()).ok());
            let duration = match seen[class.0 as usize] {
                (0, _) => declared?,
                (count, total_ms) => total_ms / count,
            };
            let done = self.running.get(&job).and_then(|_| self.latest_attempt(job));
            let done = done.map_or(0, |attempt| now.0.saturating_sub(attempt.dispatched_at.0));
            left_ms += duration.saturating_sub(done).saturating_mul(there.taken_by(request));
        }
        Some(Timestamp(now.0.saturating_add(left_ms / there.places)))
    }

    fn longest_running(&self) -> Vec<String> {
        const SHOWN: usize = 10;
        let mut running: Vec<u32> =
            self.running.keys().map(|job| self.jobs[job.index()].latest_attempt).collect();
        running.sort_unstable();
        running
            .iter()
            .take(SHOWN)
            .filter_map(|attempt| self.attempts.get(attempt.checked_sub(1)? as usize))
            .map(|attempt| self.workflow.jobs[attempt.job.index()].name.to_string())
            .collect()
    }

    fn planned_report(&self, planned: &PlannedStart) -> PlannedReport {
        let since = |node: &NodeId| {
            let hold = self.idleness.hold_of(*node).filter(|hold| hold.job == planned.job)?;
            Some(HeldNode { name: self.node_name(*node).to_owned(), since: hold.since })
        };
        PlannedReport {
            job_id: planned.job,
            job: self.workflow.jobs[planned.job.index()].name.to_string(),
            at: (planned.at != Timestamp(u64::MAX)).then_some(planned.at),
            nodes: planned.nodes.iter().map(|node| self.node_name(*node).to_owned()).collect(),
            held: planned.nodes.iter().filter_map(since).collect(),
        }
    }

    fn node_reports(&self) -> Vec<NodeReport> {
        self.live_allocations()
            .flat_map(|allocation| &allocation.nodes)
            .map(|(node, inventory)| NodeReport {
                name: inventory.name.to_string(),
                cpus: inventory.cpus(),
                cpus_used: self.ledger.cpus_used(*node),
                slots: self.ledger.slots(*node),
                memory: inventory.memory,
                gpus: inventory.gpu_count(),
                jobs: self.ledger.steps_on(*node),
            })
            .collect()
    }

    /// One job. `causes` are this engine's, and say what time it is. `output_dir` is where torc keeps its
    /// files.
    pub fn job_report(&self, job: JobId, causes: &mut Causes<'_>, output_dir: &str) -> JobReport {
        let definition = &self.workflow.jobs[job.index()];
        let request = self.classes.request(self.classes.of_job(job));
        let latest = self.latest_attempt(job);
        JobReport {
            id: job,
            name: definition.name.to_string(),
            family: self.workflow.header.family_of(job).map(|family| family.name.to_string()),
            status: self.status(job),
            priority: request.priority,
            cpus: request.cpus,
            gpus: request.gpus,
            nodes: request.nodes,
            depends_on: definition.depends_on.to_vec(),
            scheduler: request.scheduler.as_deref().map(str::to_owned),
            labels: request.labels.iter().map(ToString::to_string).collect(),
            latest: latest.map(|attempt| self.attempt_report(attempt, causes.now, output_dir)),
            waiting: causes.of(job),
        }
    }

    /// One attempt. `output_dir` is where torc keeps its files.
    pub fn attempt_report(
        &self,
        attempt: &Attempt,
        now: Timestamp,
        output_dir: &str,
    ) -> AttemptReport {
        let definition = &self.workflow.jobs[attempt.job.index()];
        let step = StepId {
            workflow: self.id,
            job: attempt.job,
            run: attempt.run,
            attempt: attempt.attempt,
        };
        let files = stdio_paths(step, self.stdio(definition), output_dir);
        let end = attempt.end.as_ref();
        let began = attempt.started_at.unwrap_or(attempt.dispatched_at);
        AttemptReport {
            step: step.to_string(),
            job_id: attempt.job,
            job: definition.name.to_string(),
            run: attempt.run,
            attempt: attempt.attempt,
            status: match (end, attempt.started_at) {
                (Some(end), _) => end.status,
                (None, Some(_)) => JobStatus::Running,
                (None, None) => JobStatus::Pending,
            },
            outcome: end.map(|end| end.outcome.clone()),
            return_code: end
                .and_then(|end| return_code(&end.outcome, &self.workflow.header.execution)),
            nodes: attempt.nodes.iter().map(|node| self.node_name(*node).to_owned()).collect(),
            cpus: attempt.cpus,
            dispatched_at: attempt.dispatched_at,
            started_at: attempt.started_at,
            ended_at: end.map(|end| end.at),
            wall_ms: end.map_or(now, |end| end.at).0.saturating_sub(began.0),
            cpu_ms: end.map(|end| end.usage.cpu_ms),
            peak_memory: end.and_then(|end| end.usage.peak_memory),
            scheduler_state: end.and_then(|end| end.scheduler_state.clone()).map(String::from),
            stdout: files.stdout.map(String::from),
            stderr: files.stderr.map(String::from),
        }
    }
}
