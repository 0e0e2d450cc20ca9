//! A run on allocations that a program's own scheduler gives: a server in this process, for one workflow.
//!
//! Owns: how long that server serves. Does not know: what a scheduler is, or who the workers are. Invariant: what
//! the workers at hand could not serve is refused before anything is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::Conclusion;
use torc_core::governor::Limits;
use torc_core::traits::Scheduler;
use torc_core::wire::{RunState, SubmitRequest};
use torc_core::workflow::{Header, LauncherSetting};

use super::{EmbedError, Embedded};
use crate::schedulers::Schedulers;
use crate::serve::{Runs, ServeOptions, Server};
use crate::session::RunOutcome;
use crate::submitter;
use crate::view::View;

/// How long a program's own scheduler is left alone between two questions, while something changes and while nothing
/// does: it answers faster than the controller of a cluster.
const USUAL_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Where allocations come from, and what works in them.
pub(super) struct Sources {
    pub(super) schedulers: BTreeMap<String, Arc<dyn Scheduler>>,
    /// `None`: this very program.
    pub(super) worker: Option<PathBuf>,
    pub(super) limits: Limits,
}

impl Default for Sources {
    fn default() -> Self {
        let (shortest_interval, longest_interval) = USUAL_INTERVALS;
        let limits = Limits { shortest_interval, longest_interval, ..Limits::default() };
        Self { schedulers: BTreeMap::new(), worker: None, limits }
    }
}

impl Embedded {
    /// With a scheduler of one's own, for the schedulers of the spec that are of this type. A spec has them in its
    /// list `schedulers`, and asks them for nodes by actions of type `schedule_nodes`.
    #[must_use]
    pub fn with_scheduler(mut self, kind: &str, scheduler: Arc<dyn Scheduler>) -> Self {
        self.sources.schedulers.insert(kind.to_owned(), scheduler);
        self
    }

    /// With another program as the worker of allocations: `torc`, by its absolute path on their nodes. Without this
    /// it is the program that calls, which has to begin with [`run_if_asked`](super::run_if_asked) then.
    #[must_use]
    pub fn with_worker(mut self, program: PathBuf) -> Self {
        self.sources.worker = Some(program);
        self
    }

    /// With other limits to how often the schedulers are asked. Without this: at most 20 allocations at once that have
    /// not begun, 200 ms between two requests, and 1 s, or 10 s while nothing changes, between two looks at them.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.sources.limits = limits;
        self
    }

    /// Runs it to its end on the allocations that its actions ask of the schedulers of
    /// [`with_scheduler`](Self::with_scheduler), and waits until all of them have ended.
    ///
    /// Meanwhile this process is the server of the state directory, as `torc serve` would be: workers connect to a TCP
    /// port of it, and `torc status` and the other commands see it. Where it ends before the run does, what runs in
    /// allocations goes on; the next server of the state directory, `torc serve` or a program like this one, takes it
    /// back.
    ///
    /// # Errors
    /// When the workflow cannot be run so, when a part of torc fails, or when another process owns the state directory.
    /// What completed is stored.
    pub async fn run_in_allocations(self) -> Result<RunOutcome, EmbedError> {
        let Self { workflow, origin, dir, placers, sources } = self;
        let Sources { schedulers, worker, limits } = sources;
        if worker.is_none() {
            check_own_worker(&workflow.header)?;
        }
        let program = match worker {
            Some(program) => program,
            None => std::env::current_exe().map_err(|source| EmbedError::Unreadable {
                path: "/proc/self/exe".into(),
                source,
            })?,
        };
        let no_other =
            |kind: &str| Err(format!("the program brings no scheduler of type `{kind}`"));
        let server = Server::start(ServeOptions {
            dir,
            schedulers: Arc::new(Schedulers::new(schedulers, Arc::new(no_other))),
            accounts: None,
            placers,
            limits,
            program,
            port: 0,
            idle_exit: None,
        })
        .await?;
        let env = submitter::environment();
        let request = SubmitRequest {
            workflow: Arc::unwrap_or_clone(workflow),
            submission_dir: origin.submission_dir,
            spec_path: origin.spec_path,
            env,
            umask: submitter::umask(),
        };
        let (runs, mut outcome) = (server.runs(), None);
        let running = async { outcome = Some(run(&runs, request).await) };
        server.serve(running).await?;
        // Somebody may have told the server to end: `torc serve --stop`.
        outcome.unwrap_or(Err(EmbedError::Stopped))
    }
}

async fn run(runs: &Arc<Runs>, request: SubmitRequest) -> Result<RunOutcome, EmbedError> {
    let not_taken = |error: &dyn std::fmt::Display| EmbedError::NotTaken(error.to_string());
    let id = runs.submit(request).await.map_err(|error| not_taken(&error))?;
    runs.ended(id).await;
    let seen = runs.look(Some(id), outcome).await;
    seen.map_err(|error| not_taken(&error))
}

fn outcome(view: &View<'_>) -> RunOutcome {
    let conclusion = match view.workflow().state {
        RunState::Ended => Conclusion::Complete,
        RunState::Interrupted => Conclusion::Stopped,
        _ => Conclusion::Stuck,
    };
    RunOutcome::seen(view, conclusion)
}

/// What the worker of an embedding program cannot do, a spec must not ask for.
fn check_own_worker(header: &Header) -> Result<(), EmbedError> {
    if let Some(LauncherSetting::Plugin(name)) = &header.execution.launcher {
        let words =
            format!("the launcher `{name}` is a plugin, which this program's workers do not open");
        return Err(EmbedError::NotTaken(words));
    }
    if let Some(name) = header.execution.executor_plugin() {
        let words =
            format!("the executor `{name}` is a plugin, which this program's workers do not open");
        return Err(EmbedError::NotTaken(words));
    }
    let is_large = |scheduler: &&torc_core::workflow::SchedulerSettings| scheduler.nodes() > 1;
    match header.schedulers.iter().find(is_large) {
        None => Ok(()),
        Some(scheduler) => Err(EmbedError::NotTaken(format!(
            "allocations of scheduler `{}` have {} nodes, and this program's workers use one each; write `nodes: 1`, \
             and ask for more allocations with `num_allocations`",
            scheduler.name,
            scheduler.nodes()
        ))),
    }
}
