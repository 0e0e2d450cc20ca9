//! Scenarios and properties of the engine, without a runtime and without a clock.

mod accounts;
mod actions;
mod allocations;
mod answers;
mod causes;
mod clearance;
mod deltas;
mod disabling;
mod faults;
mod growth;
mod guests;
mod idleness;
mod launch;
mod properties;
mod refusals;
mod reports;
mod scenarios;
mod scripts;
mod slots;
mod user_data;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::addition::Growth;

use super::{Effect, Engine, Event, JobStatus};
use crate::ids::{AttemptId, JobId, WorkflowId};
use crate::placer::{Policy, WholeNodePlacer};
use crate::resources::{MemoryRequest, NodeInventory};
use crate::time::Timestamp;
use crate::traits::{Outcome, Placer, Usage};
use crate::workflow::{
    ExecutionConfig, FailureHandler, FailureRule, Header, Job, Requirements, SortMethod, Workflow,
};

/// A workflow of one-CPU jobs, by name, with the jobs they depend on.
pub(super) fn workflow(jobs: &[(&str, &[&str])]) -> Workflow {
    let number = |name: &str| {
        let index = jobs.iter().position(|(known, _)| *known == name).expect("a job of the test");
        JobId::from_index(index)
    };
    let jobs = jobs
        .iter()
        .map(|(name, depends_on)| {
            let depends_on: BTreeSet<JobId> = depends_on.iter().map(|name| number(name)).collect();
            job(name, depends_on)
        })
        .collect();
    Workflow { header: header(), jobs }
}

pub(super) fn job(name: &str, depends_on: BTreeSet<JobId>) -> Job {
    Job {
        name: name.into(),
        command: "true".into(),
        invocation_script: None,
        env: None,
        priority: 0,
        requirements: 0,
        labels: None,
        failure_handler: None,
        scheduler: None,
        cancel_on_blocking_job_failure: true,
        depends_on: depends_on.into_iter().collect(),
        data: None,
        stdio: None,
    }
}

pub(super) fn requirements(cpus: u32, nodes: u32) -> Requirements {
    Requirements {
        cpus,
        nodes,
        memory: MemoryRequest::Bytes(1 << 20),
        runtime: Some(Duration::from_secs(60)),
        ..Requirements::reserved_default()
    }
}

fn header() -> Header {
    Header {
        name: "test".into(),
        user: None,
        description: None,
        project: None,
        metadata: None,
        env: indexmap::IndexMap::new(),
        sort_method: SortMethod::default(),
        requirements: vec![Requirements::reserved_default()],
        failure_handlers: vec![FailureHandler {
            name: "twice".into(),
            rules: vec![FailureRule {
                exit_codes: vec![42],
                match_all_exit_codes: false,
                recovery_script: None,
                max_retries: 2,
            }],
        }],
        schedulers: Vec::new(),
        actions: Vec::new(),
        files: Vec::new(),
        user_data: Vec::new(),
        execution: ExecutionConfig::default(),
        resource_monitor: None,
        use_pending_failed: false,
        max_dynamic_iterations: None,
        growth: Growth::default(),
        wait_for_new_jobs_seconds: 90,
        ignore_workflow_completion: false,
        wait_for_server_minutes: 20,
        plugins: Vec::new(),
        families: Vec::new(),
    }
}

pub(super) fn node(name: &str, cpus: u32) -> NodeInventory {
    NodeInventory {
        name: name.into(),
        cores: (0..cpus).collect(),
        threads_per_core: 1,
        slots: None,
        memory: 8 << 30,
        gpus: Box::new([]),
    }
}

pub(super) fn placer() -> Box<dyn Placer> {
    Box::new(WholeNodePlacer::new(SortMethod::default(), Policy::Pack))
}

/// An engine with its log: what a driver and a store would hold.
pub(super) struct Run {
    pub(super) engine: Engine,
    /// What was submitted: the engine's may have grown.
    pub(super) submitted: Arc<Workflow>,
    pub(super) log: Vec<Event>,
    pub(super) now: Timestamp,
}

impl Run {
    pub(super) fn later(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Begins the first run of a workflow on these nodes.
    pub(super) fn begin(workflow: Workflow, nodes: Vec<NodeInventory>) -> Self {
        Self::begin_with(workflow, nodes, placer())
    }

    pub(super) fn begin_with(
        workflow: Workflow,
        nodes: Vec<NodeInventory>,
        placer: Box<dyn Placer>,
    ) -> Self {
        let submitted = Arc::new(workflow);
        let engine = Engine::new(WorkflowId(1), submitted.clone(), placer);
        let mut run = Self { engine, submitted, log: Vec::new(), now: Timestamp(1_000) };
        run.start();
        let allocation = run.engine.number_allocation(nodes, Arc::from([]), None);
        run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
        run
    }

    /// Begins the first run of a workflow that has to ask for nodes.
    pub(super) fn begin_without_nodes(workflow: Workflow) -> Self {
        let submitted = Arc::new(workflow);
        let engine = Engine::new(WorkflowId(1), submitted.clone(), placer());
        let mut run = Self { engine, submitted, log: Vec::new(), now: Timestamp(1_000_000) };
        run.start();
        run
    }

    /// Begins the next run.
    pub(super) fn start(&mut self) {
        let jobs = self.engine.unfinished_jobs();
        self.apply(self.engine.next_run(self.now, jobs));
    }

    /// Fires the actions whose moment has come, and says what happened.
    pub(super) fn act(&mut self) -> (Vec<String>, Vec<Effect>) {
        let (events, effects) = self.engine.fire_actions(self.now);
        let words = events.iter().map(|event| match event {
            Event::ActionFired { action, worker: None, .. } => format!("action {action}"),
            Event::ActionFired { action, worker: Some(worker), .. } => {
                let node = worker.node.map_or_else(String::new, |node| format!(" on node {node}"));
                format!("action {action} for {}{node}", worker.allocation)
            }
            Event::AllocationRequested { allocation, scheduler, .. } => {
                format!("allocation {allocation} of scheduler {scheduler}")
            }
            other => panic!("{other:?}"),
        });
        let words = words.collect();
        self.log.extend(events);
        (words, effects)
    }

    pub(super) fn apply(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.engine.apply(&event).expect("the event follows");
        self.log.push(event);
        effects
    }

    /// Applies an event if it follows; otherwise nothing has happened.
    pub(super) fn offer(&mut self, event: Event) {
        if self.engine.apply(&event).is_ok() {
            self.log.push(event);
        }
    }

    /// Starts what may start now; the names of the jobs.
    pub(super) fn dispatch(&mut self) -> Vec<String> {
        let dispatch = self.engine.dispatch(self.now, usize::MAX);
        assert_eq!(dispatch.faults, []);
        let names = dispatch.started.iter().map(|event| match event {
            Event::Dispatched { job, .. } => self.name(*job),
            other => panic!("{other:?}"),
        });
        let names = names.collect();
        self.log.extend(dispatch.started);
        self.log.extend(dispatch.held);
        names
    }

    pub(super) fn name(&self, job: JobId) -> String {
        self.engine.workflow().jobs[job.index()].name.to_string()
    }

    pub(super) fn job(&self, name: &str) -> JobId {
        let jobs = &self.engine.workflow().jobs;
        JobId::from_index(jobs.iter().position(|job| &*job.name == name).expect("a job"))
    }

    pub(super) fn end(&mut self, name: &str, outcome: Outcome) {
        self.end_after(Duration::from_secs(1), name, outcome);
    }

    /// A job ends after so much more time.
    pub(super) fn end_after(&mut self, time: Duration, name: &str, outcome: Outcome) {
        let job = self.job(name);
        let attempt = self.engine.latest_attempt(job).map_or(AttemptId::FIRST, |last| last.attempt);
        self.now = self.now + time;
        let (at, usage) = (self.now, Usage::default());
        self.apply(Event::StepEnded { job, attempt, at, outcome, usage });
    }

    pub(super) fn exit(&mut self, name: &str, code: i32) {
        self.end(name, Outcome::Exited { code });
    }

    /// The statuses of all jobs, as words.
    pub(super) fn statuses(&self) -> String {
        let jobs = &self.engine.workflow().jobs;
        let word = |(index, job): (usize, &Job)| {
            format!("{}={}", job.name, self.engine.status(JobId::from_index(index)))
        };
        jobs.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn status(&self, name: &str) -> JobStatus {
        self.engine.status(self.job(name))
    }

    /// The engine that the log leads to, after a journey through JSON as the store makes it.
    pub(super) fn replayed(&self) -> Engine {
        let text = serde_json::to_string(&self.log).expect("events serialize");
        let events: Vec<Event> = serde_json::from_str(&text).expect("events read back");
        Engine::replay(WorkflowId(1), self.submitted.clone(), placer(), events)
            .expect("the log replays")
    }
}
